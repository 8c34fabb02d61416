#!/usr/bin/python3 -B
"""The face data group of a passport chip, wherever a picture is taken."""
import json
import os
import unittest

import grpc

from harness import BUILD, run
from messages import analysis, common, enrolment, matching
from served import ANALYSIS, MATCHING, PEOPLE, Served, dg2, picture

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class DocumentsTest(Served):
    """Each record format through each RPC that takes a picture."""

    def compare(self, probe, reference):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=picture(probe), reference=picture(reference)), matching.CompareResponse)

    def test_every_call(self):
        for block in (False, True):
            chip, other = dg2(self.ada[1], block), dg2(self.strangers[0], block)
            name = "block" if block else "record"
            self.assertEqual(self.lane.enrol(name, picture(chip)).outcome, enrolment.ENROL_OUTCOME_CREATED)
            self.assertEqual(self.lane.verify(name, picture(self.ada[0])).decision, common.DECISION_MATCH)
            self.assertEqual(self.lane.verify(name, picture(chip)).decision, common.DECISION_MATCH)
            self.assertEqual(self.lane.verify(name, picture(other)).decision, common.DECISION_NO_MATCH)
            self.assertEqual(self.compare(self.ada[0], chip).decision, common.DECISION_MATCH)
            self.assertEqual(self.compare(self.ada[0], other).decision, common.DECISION_NO_MATCH)
            self.assertIn(name, [c.subject_id for c in self.lane.identify(picture(chip)).candidates])
            self.assertEqual(self.lane.verify(name, common.Probe(template=self.lane.extract(chip))).decision,
                             common.DECISION_MATCH)
            seen = self.lane.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
                purpose="gate", image=common.Image(data=chip)), analysis.AnalyseResponse)
            self.assertTrue(seen.usable)

    def test_same_as_the_picture(self):
        raw = [self.compare(self.ada[0], reference).raw.score
               for reference in (self.ada[1], dg2(self.ada[1]), dg2(self.ada[1], True))]
        self.assertEqual(len(set(raw)), 1, raw)

    def test_refused(self):
        for block in (False, True):
            chip = dg2(self.ada[1], block)
            for reason, data in (("DOCUMENT_FACE", chip[:-1]), ("DOCUMENT_FACE", chip + b"\0"),
                                 ("DOCUMENT_FACE", b"\x75\x80" + chip[6:] + b"\0\0"),
                                 ("IMAGE_FORMAT", dg2(chip, block)), ("IMAGE_FORMAT", dg2(b"no picture", block)),
                                 ("IMAGE_TRUNCATED", dg2(self.ada[1][:5000], block))):
                self.refused(INVALID, reason, "reference", self.compare, self.ada[0], data)
        self.assertEqual(self.compare(self.ada[0], dg2(self.ada[1])).decision, common.DECISION_MATCH)

    def test_command_line(self):
        chip = dg2(self.ada[1])
        for status, name, data in ((0, "chip.dg2", chip), (4, "cut.dg2", chip[:-1])):
            with open(self.path(name), "wb") as file:
                file.write(data)
            done = run(BUILD + "/biomatch", "compare", os.path.join(PEOPLE, "ada/01.jpg"), self.path(name), "--json",
                       "--purpose=gate", "--target=localhost:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                       "--cert=" + self.path("pki/lane.pem"), "--key=" + self.path("pki/lane.key"))
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            if status:
                self.assertIn("DOCUMENT_FACE", done.stdout + done.stderr)
            else:
                self.assertEqual(json.loads(done.stdout)["decision"], "DECISION_MATCH")


if __name__ == "__main__":
    unittest.main(verbosity=2)
