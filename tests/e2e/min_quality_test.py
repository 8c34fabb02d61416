#!/usr/bin/python3 -B
"""What a purpose asks of a picture: named components with minima, and answers that say what to mend."""
import unittest

import grpc

from messages import analysis, common, enrolment, matching
from served import ANALYSIS, ENROLMENT, MATCHING, POLICY, Served, picture

FAILED, DENIED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED
PURPOSE = POLICY[POLICY.index("  - name: gate"):POLICY.index("  - name: office")]


class MinQualityTest(Served):
    """ada's first picture is tilted by 45 degrees (POSE_ROLL 51), her second by 13 (95)."""

    policy = POLICY + PURPOSE.replace("name: gate", "name: strict").replace(
        "raw_scores: true", "max_frames: 2\n    min_quality: {pose_roll: 90, sharpness: 30, inter_eye_distance: 92}")

    def verify(self, data):
        return self.lane.verify("ada", picture(data), purpose="strict")

    def short(self, answer):
        """The components below their minimum, as told."""
        return [check.component for check in answer.checks if check.value < check.minimum]

    def falls_short(self, report):
        """Tilted most of all, then a little far away (87); sharp enough."""
        self.assertEqual([c.component for c in report.checks],
                         [common.QUALITY_COMPONENT_POSE_ROLL, common.QUALITY_COMPONENT_INTER_EYE_DISTANCE,
                          common.QUALITY_COMPONENT_SHARPNESS])
        self.assertEqual([c.minimum for c in report.checks], [90, 92, 30])
        self.assertEqual(self.short(report), [c.component for c in report.checks[:2]])

    def test_probes(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        good = self.verify(self.ada[1])
        self.assertEqual((good.decision, self.short(good.probe), len(good.probe.checks)), (common.DECISION_MATCH, [], 3))
        self.assertGreater(good.times.quality_us, 0)
        bad = self.verify(self.ada[0])
        self.assertEqual((bad.decision, bad.reason), (common.DECISION_REFER, common.REASON_LOW_QUALITY))
        self.assertEqual(bad.band, common.SCORE_BAND_UNSPECIFIED)
        self.falls_short(bad.probe)
        found = self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose="strict", galleries=["people"], probe=picture(self.ada[0])), matching.IdentifyResponse)
        self.assertEqual((found.decision, found.reason, len(found.candidates)),
                         (common.DECISION_REFER, common.REASON_LOW_QUALITY, 0))
        # A purpose that asks nothing pays nothing.
        free = self.lane.verify("ada", picture(self.ada[0]))
        self.assertEqual((free.decision, len(free.probe.checks), free.times.quality_us), (common.DECISION_MATCH, 0, 0))

    def test_compare_holds_the_capture_to_it(self):
        def compare(probe, reference):
            return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
                purpose="strict", probe=picture(probe), reference=picture(reference)), matching.CompareResponse)
        self.assertEqual(compare(self.ada[1], self.ada[0]).decision, common.DECISION_MATCH)
        bad = compare(self.ada[0], self.ada[1])
        self.assertEqual((bad.reason, bad.reason_is_reference), (common.REASON_LOW_QUALITY, False))
        self.assertEqual(len(bad.reference.checks), 0)

    def test_enrolment(self):
        def enrol(subject, data):
            return self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
                purpose="strict", request_id=subject, gallery="people", subject_id=subject,
                reference=picture(data)), enrolment.EnrolResponse)
        bad = enrol("tilted", self.ada[0])
        self.assertEqual((bad.outcome, bad.reason), (enrolment.ENROL_OUTCOME_REFER, common.REASON_LOW_QUALITY))
        self.falls_short(bad.probe)
        self.assertEqual(self.lane.verify("tilted", picture(self.ada[0])).reason, common.REASON_NO_REFERENCE)
        self.assertEqual(enrol("upright", self.ada[1]).outcome, enrolment.ENROL_OUTCOME_CREATED)

    def test_analysis(self):
        def ask(method, request, reply, data):
            return self.lane.call(ANALYSIS + method, request(purpose="strict", image=common.Image(data=data)), reply)
        seen = ask("Analyse", analysis.AnalyseRequest, analysis.AnalyseResponse, self.ada[0])
        self.assertEqual((seen.usable, seen.reason), (False, common.REASON_LOW_QUALITY))
        self.falls_short(seen.report)
        self.assertTrue(ask("Analyse", analysis.AnalyseRequest, analysis.AnalyseResponse, self.ada[1]).usable)
        extract = ("Extract", analysis.ExtractRequest, analysis.ExtractResponse)
        self.refused(FAILED, "LOW_QUALITY", "image", ask, *extract, self.ada[0])
        with self.assertRaises(grpc.RpcError) as caught:
            ask(*extract, self.ada[0])
        self.assertIn("POSE_ROLL falls short of 90", caught.exception.details())
        ask(*extract, self.ada[1])

    def test_frames(self):
        """A tilted frame is left out; only where no other is good does it decide."""
        def frames(*pictures):
            return common.Probe(frames=common.Frames(
                frames=[common.Frame(image=common.Image(data=data)) for data in pictures]))
        self.lane.enrol("ada", picture(self.ada[1]))
        good = self.lane.verify("ada", frames(self.ada[0], self.ada[1]), purpose="strict")
        self.assertEqual(good.decision, common.DECISION_MATCH)
        self.assertEqual([f.reason for f in good.probe.frames],
                         [common.REASON_LOW_QUALITY, common.REASON_UNSPECIFIED])
        bad = self.lane.verify("ada", frames(self.ada[0], self.ada[0]), purpose="strict")
        self.assertEqual((bad.decision, bad.reason), (common.DECISION_REFER, common.REASON_LOW_QUALITY))
        self.falls_short(bad.probe)

    def test_a_template_shows_no_quality(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        template = common.Probe(template=self.lane.extract(self.ada[0]))
        self.refused(DENIED, "PURPOSE_DENIED", "probe", self.lane.verify, "ada", template, purpose="strict")


if __name__ == "__main__":
    unittest.main(verbosity=2)
