#!/usr/bin/python3 -B
"""Scores between match and no match are referred, wherever two faces are compared."""
import os
import unittest

from harness import BUILD, run
from messages import common, matching
from served import MATCHING, PEOPLE, POLICY, Served, picture, read

PURPOSE = POLICY[POLICY.index("  - name: gate"):POLICY.index("  - name: office")]
# Two strangers who are more alike than one pair in fifty.
FAY, GWEN, HANA = (os.path.join(PEOPLE, name, "01.jpg") for name in ("fay", "gwen", "hana"))


class ReferTest(Served):
    policy = POLICY + PURPOSE.replace("name: gate", "name: attended").replace(
        "target_fmr: 0.001", "target_fmr: 0.0001\n    refer_fmr: 0.05")

    def compare(self, probe, reference, purpose="attended"):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose=purpose, probe=picture(read(probe)), reference=picture(read(reference))), matching.CompareResponse)

    def cli(self, *command):
        return run(BUILD + "/biomatch", *command, "--purpose=attended", "--target=127.0.0.1:%d" % self.daemon.port,
                   "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/lane.pem"), "--key=" + self.path("pki/lane.key"))

    def test_compare(self):
        near, far = self.compare(GWEN, FAY), self.compare(HANA, FAY)
        self.assertEqual((near.decision, near.reason, near.reason_is_reference),
                         (common.DECISION_REFER, common.REASON_UNCERTAIN, False))
        self.assertEqual((near.basis.target_rate, near.basis.refer_rate), (0.0001, 0.05))
        self.assertTrue(0.0001 < near.raw.fmr < 0.05, near.raw)
        self.assertEqual((far.decision, far.reason), (common.DECISION_NO_MATCH, common.REASON_UNSPECIFIED))
        # Where no officer stands by, there is no such zone.
        self.assertEqual(self.compare(GWEN, FAY, "gate").decision, common.DECISION_NO_MATCH)

    def test_verify(self):
        self.lane.enrol("fay", picture(read(FAY)))
        for probe, decision, reason in ((FAY, common.DECISION_MATCH, common.REASON_UNSPECIFIED),
                                        (GWEN, common.DECISION_REFER, common.REASON_UNCERTAIN),
                                        (HANA, common.DECISION_NO_MATCH, common.REASON_UNSPECIFIED)):
            answer = self.lane.verify("fay", picture(read(probe)), purpose="attended")
            self.assertEqual((answer.decision, answer.reason), (decision, reason))
        done = self.cli("verify", "people", "fay", GWEN)
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertIn("UNCERTAIN", done.stdout)
        self.assertRegex(done.stdout, r"refers up to +FMR 0\.05")


if __name__ == "__main__":
    unittest.main(verbosity=2)
