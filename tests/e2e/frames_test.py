#!/usr/bin/python3 -B
"""Probes of several frames: what is fused, what is left out, what is refused, and how strictly it is compared."""
import math
import os
import unittest

import grpc

from harness import WAIT
from messages import common, enrolment, matching
from served import GROUP, MATCHING, PEOPLE, POLICY, Served, picture, png, read

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FRAMES = POLICY.replace("    raw_scores: true\n", "    raw_scores: true\n    max_frames: 4\n") + """  - name: live
    legal_basis: test
    classes: [lane]
    operations: [verify]
    galleries: [people]
    target_fmr: 0.001
    max_frames: 2
    pad: refer
    pad_threshold: 0.5
    priority: lane
  - name: single
    legal_basis: test
    classes: [lane]
    operations: [verify]
    galleries: [people]
    target_fmr: 0.001
    priority: lane
"""


def frames(*kinds):
    """A probe of pictures, which are bytes, and templates."""
    return common.Probe(frames=common.Frames(frames=[
        common.Frame(image=common.Image(data=kind)) if isinstance(kind, bytes) else common.Frame(template=kind)
        for kind in kinds]))


def told(answer):
    return [(frame.reason, bool(frame.weight)) for frame in answer.probe.frames]


class FramesTest(Served):
    policy = FRAMES

    def setUp(self):
        super().setUp()
        self.one, self.two = (self.lane.extract(data) for data in self.ada)
        self.stranger = self.lane.extract(self.strangers[0])
        self.lane.enrol("ada", common.Probe(template=self.one))

    def compare(self, probe, reference):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=probe, reference=reference), matching.CompareResponse, WAIT)

    def test_fused(self):
        """Templates weigh alike: of unit vectors a and b with a.b = c, a.(a + b)/|a + b| = sqrt((1 + c)/2)."""
        alike = self.compare(common.Probe(template=self.one), common.Probe(template=self.two)).raw.score
        answer = self.lane.verify("ada", frames(self.one, self.two))
        self.assertEqual(answer.decision, common.DECISION_MATCH)
        self.assertAlmostEqual(answer.raw.score, math.sqrt((1 + alike) / 2), places=5)
        self.assertEqual([frame.weight for frame in answer.probe.frames], [50, 50])
        self.lane.enrol("both", frames(self.one, self.two))
        self.assertAlmostEqual(self.lane.verify("both", common.Probe(template=self.two)).raw.score,
                               math.sqrt((1 + alike) / 2), places=5)

    def test_weighted_by_quality(self):
        answer = self.lane.verify("ada", frames(self.ada[0], self.two))
        weight = answer.probe.frames[0].weight
        alike = self.compare(common.Probe(template=self.one), common.Probe(template=self.two)).raw.score
        self.assertNotEqual(weight, 50, "the picture's quality is its weight")
        self.assertAlmostEqual(
            answer.raw.score,
            (weight + 50 * alike) / math.sqrt(weight ** 2 + 50 ** 2 + 2 * weight * 50 * alike), places=4)
        self.assertGreater(answer.times.quality_us, 0)

    def test_left_out(self):
        """A frame without a face changes no score, but it was an attempt."""
        alone = self.lane.verify("ada", picture(self.ada[1]))
        answer = self.lane.verify("ada", frames(png(200, 200), self.ada[1]))
        self.assertEqual(answer.decision, common.DECISION_MATCH)
        self.assertEqual(told(answer), [(common.REASON_NO_FACE, False), (common.REASON_UNSPECIFIED, True)])
        self.assertAlmostEqual(answer.raw.score, alone.raw.score, places=5)
        self.assertEqual((alone.basis.attempts, answer.basis.attempts), (1, 2))
        self.assertGreater(answer.raw.threshold, alone.raw.threshold)
        self.assertEqual(len(answer.probe.faces), 1, "the report is of the frame that was used")
        answer = self.lane.verify("ada", frames(png(200, 200), png(210, 200)))
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, common.REASON_NO_FACE))

    def test_referred(self):
        """What is wrong with the scene is wrong with the probe, however good the other frames are."""
        answer = self.lane.verify("ada", frames(self.one, self.stranger))
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, common.REASON_FRAMES_DIFFER))
        answer = self.lane.verify("ada", frames(self.ada[0], read(GROUP), png(200, 200)))
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, common.REASON_SEVERAL_FACES))
        self.assertEqual([reason for reason, _ in told(answer)],
                         [common.REASON_UNSPECIFIED, common.REASON_SEVERAL_FACES, common.REASON_NO_FACE])
        answer = self.lane.enrol("mixed", frames(self.one, self.stranger))
        self.assertEqual((answer.outcome, answer.reason),
                         (enrolment.ENROL_OUTCOME_REFER, common.REASON_FRAMES_DIFFER))

    def test_presented(self):
        """One frame that looks presented is not made up for by one that looks live."""
        shown = read(os.path.join(PEOPLE, "june/01.jpg"))
        for probe in (frames(self.ada[0], shown), frames(shown, self.ada[0])):
            answer = self.lane.verify("ada", probe, purpose="live")
            self.assertEqual((answer.decision, answer.reason),
                             (common.DECISION_REFER, common.REASON_PRESENTATION_ATTACK))
            self.assertFalse(answer.probe.liveness.live)
        answer = self.lane.verify("ada", frames(self.ada[0], self.ada[0]), purpose="live")
        self.assertEqual((answer.decision, answer.probe.liveness.live), (common.DECISION_MATCH, True))

    def test_refused(self):
        verify = self.lane.verify
        self.refused(INVALID, "TOO_MANY_FRAMES", "probe", verify, "ada", frames(*[self.one] * 5))
        self.refused(INVALID, "TOO_MANY_FRAMES", "probe", verify, "ada", frames(self.one, self.one), purpose="single")
        self.refused(INVALID, "FIELD_MISSING", "probe", verify, "ada", frames())
        self.refused(INVALID, "IMAGE_TRUNCATED", "probe.frames.frames[1]", verify, "ada",
                     frames(self.ada[0], self.ada[1][:2000]))
        self.refused(INVALID, "FIELD_MISSING", "probe.frames.frames[1]", verify, "ada", common.Probe(
            frames=common.Frames(frames=[common.Frame(template=self.one), common.Frame()])))
        self.refused(INVALID, "TEMPLATE_INVALID", "probe.frames.frames[0]", verify, "ada", frames(common.Template(
            model=self.one.model, data=self.one.data[:-1] + bytes([self.one.data[-1] ^ 1]))))
        large = self.ada[0] + bytes((6 << 20) - len(self.ada[0]))
        self.refused(INVALID, "IMAGE_TOO_LARGE", "probe.frames.frames[1]", verify, "ada", frames(large, large))

    def test_strictness(self):
        """Attempts of both sides multiply; a search counts them with the references."""
        thresholds = [self.lane.verify("ada", frames(*[self.one] * n)).raw.threshold for n in range(1, 5)]
        self.assertEqual(thresholds, sorted(set(thresholds)))
        answer = self.compare(frames(self.one, self.two), frames(self.one, self.one))
        self.assertEqual((answer.decision, answer.basis.attempts), (common.DECISION_MATCH, 4))
        self.assertEqual(answer.raw.threshold, thresholds[3])
        found = self.lane.identify(frames(self.one, self.two))
        self.assertEqual(([c.subject_id for c in found.candidates], found.basis.attempts), (["ada"], 2))
        self.assertGreater(found.candidates[0].raw.threshold,
                           self.lane.identify(frames(self.one)).candidates[0].raw.threshold)


if __name__ == "__main__":
    unittest.main(verbosity=2)
