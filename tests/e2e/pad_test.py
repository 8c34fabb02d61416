#!/usr/bin/python3 -B
"""Liveness where a purpose asks for it: what passes, what is referred, what is rejected, and that nothing slips by."""
import os
import unittest

import grpc

from harness import PACK, run, BUILD
from messages import analysis, audit, common, enrolment, matching
from served import ANALYSIS, ENROLMENT, MATCHING, PEOPLE, POLICY, Served, picture, read

FAILED, DENIED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED
PURPOSE = POLICY[POLICY.index("  - name: gate"):POLICY.index("  - name: office")]


def purpose(name, pad, threshold, raw="true"):
    """The gate's rights under another name, with liveness."""
    return PURPOSE.replace("name: gate", "name: " + name).replace("raw_scores: true", "raw_scores: %s\n    pad: %s\n"
                                                                  "    pad_threshold: %s" % (raw, pad, threshold))


class PadTest(Served):
    """The model takes ada's first picture for live (0.97), and june's for presented (0.05)."""

    policy = (POLICY + purpose("refers", "refer", 0.5) + purpose("rejects", "reject", 0.5, "false")
              + purpose("lenient", "refer", 0.01))

    def setUp(self):
        super().setUp()
        self.live, self.shown = self.ada[0], read(os.path.join(PEOPLE, "june/01.jpg"))
        for subject, data in (("ada", self.ada[1]), ("june", self.shown)):
            self.assertEqual(self.lane.enrol(subject, picture(data)).outcome, enrolment.ENROL_OUTCOME_CREATED)

    def verify(self, name, subject, data):
        return self.lane.verify(subject, picture(data), purpose=name)

    def compare(self, name, probe, reference):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose=name, probe=picture(probe), reference=picture(reference)), matching.CompareResponse)

    def identify(self, name, data):
        return self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose=name, galleries=["people"], probe=picture(data)), matching.IdentifyResponse)

    def enrol(self, name, data):
        return self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose=name, request_id=name, gallery="people", subject_id="new-" + name, reference=picture(data)),
            enrolment.EnrolResponse)

    def analyse(self, name, data):
        return self.lane.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
            purpose=name, image=common.Image(data=data)), analysis.AnalyseResponse)

    def extract(self, name, data):
        return self.lane.call(ANALYSIS + "Extract", analysis.ExtractRequest(
            purpose=name, image=common.Image(data=data)), analysis.ExtractResponse)

    def suspects(self, answer):
        self.assertEqual((answer.decision, answer.reason),
                         (common.DECISION_REFER, common.REASON_PRESENTATION_ATTACK))
        self.assertFalse(answer.probe.liveness.live)
        self.assertFalse(answer.HasField("raw") if hasattr(answer, "raw") else answer.candidates)

    def test_live(self):
        for name in ("refers", "rejects", "lenient"):
            answer = self.verify(name, "ada", self.live)
            self.assertEqual(answer.decision, common.DECISION_MATCH)
            self.assertTrue(answer.probe.liveness.live)
            self.assertGreater(answer.times.liveness_us, 0)
        raw = self.verify("refers", "ada", self.live).probe.liveness.raw
        self.assertGreater(raw.score, 0.9)
        self.assertEqual(raw.threshold, 0.5)
        # A caller without the right to scores learns no more than yes or no.
        self.assertFalse(self.verify("rejects", "ada", self.live).probe.liveness.HasField("raw"))
        off = self.verify("gate", "june", self.shown)
        self.assertEqual((off.decision, off.probe.HasField("liveness"), off.times.liveness_us),
                         (common.DECISION_MATCH, False, 0))

    def test_threshold(self):
        answer = self.verify("lenient", "june", self.shown)
        self.assertEqual(answer.decision, common.DECISION_MATCH)
        self.assertTrue(0.01 < answer.probe.liveness.raw.score < 0.5)

    def test_refer(self):
        self.suspects(self.verify("refers", "june", self.shown))
        self.suspects(self.compare("refers", self.shown, self.live))
        self.suspects(self.identify("refers", self.shown))
        # What a capture is compared with may well be a photograph.
        other = self.compare("refers", self.live, self.shown)
        self.assertEqual(other.decision, common.DECISION_NO_MATCH)
        self.assertFalse(other.reference.HasField("liveness"))
        answer = self.enrol("refers", self.shown)
        self.assertEqual((answer.outcome, answer.reason),
                         (enrolment.ENROL_OUTCOME_REFER, common.REASON_PRESENTATION_ATTACK))
        self.assertEqual(self.lane.verify("new-refers", picture(self.live)).reason, common.REASON_NO_REFERENCE)
        seen = self.analyse("refers", self.shown)
        self.assertEqual((seen.usable, seen.reason), (False, common.REASON_PRESENTATION_ATTACK))
        self.assertTrue(self.analyse("refers", self.live).report.liveness.live)
        self.refused(FAILED, "PRESENTATION_ATTACK", "image", self.extract, "refers", self.shown)
        samples = self.daemon.metrics()
        self.assertEqual(samples['biomatch_decisions_total{method="Verify",decision="REFER",'
                                 'reason="PRESENTATION_ATTACK",class="lane"}'], 1)

    def test_reject(self):
        for call, *arguments in ((self.verify, "june", self.shown), (self.compare, self.shown, self.live),
                                 (self.identify, self.shown)):
            self.refused(FAILED, "PRESENTATION_ATTACK", "probe", call, "rejects", *arguments)
        self.refused(FAILED, "PRESENTATION_ATTACK", "reference", self.enrol, "rejects", self.shown)
        self.assertEqual(self.lane.verify("new-rejects", picture(self.live)).reason, common.REASON_NO_REFERENCE)
        # Analyse decides nothing: it says what it saw.
        self.assertEqual(self.analyse("rejects", self.shown).reason, common.REASON_PRESENTATION_ATTACK)

    def test_template_shows_no_life(self):
        template = common.Probe(template=self.extract("gate", self.shown).template)
        self.assertEqual(self.lane.verify("june", template).decision, common.DECISION_MATCH)
        for name in ("refers", "rejects", "lenient"):
            self.refused(DENIED, "PURPOSE_DENIED", "probe", self.lane.verify, "june", template, purpose=name)

    def test_audit(self):
        self.verify("refers", "ada", self.live)
        self.verify("refers", "june", self.shown)
        self.refused(FAILED, "PRESENTATION_ATTACK", "probe", self.verify, "rejects", "june", self.shown)
        done = run(BUILD + "/biomatch", "audit", "export", self.path("export"), "--purpose=office",
                   "--target=127.0.0.1:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                   "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        entries = [audit.AuditEntry.FromString(packed)
                   for packed in audit.AuditExport.FromString(read(self.path("export"))).entries]
        told = [(e.outcome, list(e.reasons), e.liveness.score > 0.5, e.liveness.threshold)
                for e in entries if e.HasField("liveness")]
        self.assertEqual(told, [("MATCH", [], True, 0.5), ("REFER", ["PRESENTATION_ATTACK"], False, 0.5),
                                ("REFUSED", ["PRESENTATION_ATTACK"], False, 0.5)])


class PackWithoutLivenessTest(Served):
    """A purpose that asks what the pack cannot tell is refused when the policy is read."""

    def configuration(self, more=""):
        pack = self.path("pack")
        if not os.path.exists(pack):
            os.mkdir(pack)
            os.symlink(os.path.join(PACK, "model"), os.path.join(pack, "model"))
            text = read(os.path.join(PACK, "manifest.yaml")).decode()
            at = text.index("liveness:")
            self.write("pack/manifest.yaml", text[:at] + text[text.index("\n\n", at):])
        return super().configuration(more).replace(PACK, pack)

    def test_refused(self):
        self.assertEqual(self.daemon.stop(), 0)
        self.write("policy.yaml", POLICY + purpose("refers", "refer", 0.5))
        done = run(BUILD + "/biomatchd", "--check-config", "--config", self.path("biomatchd.yaml"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cannot tell who is live", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
