#!/usr/bin/python3 -B
"""Subjects with several references: which of them Verify takes, best or fused, and how strictly it then compares."""
import math
import unittest

from messages import common, enrolment, matching
from served import ENROLMENT, GROUP, MATCHING, POLICY, Served, picture, read


def purpose(name, options):
    return """  - name: %s
    legal_basis: test
    classes: [lane]
    operations: [verify]
    galleries: [people]
    target_fmr: 0.001
    raw_scores: true
    priority: lane
""" % name + "".join("    %s\n" % option for option in options)


class ReferencesTest(Served):
    policy = POLICY + purpose("newest", ["max_references: 1"]) + purpose("three", ["max_references: 3"]) + purpose(
        "fused", ["references: fused"]) + purpose("document", ["reference_types: [document]"])

    def setUp(self):
        super().setUp()
        self.one, self.two = (common.Probe(template=self.lane.extract(data)) for data in self.ada)
        self.stranger = common.Probe(template=self.lane.extract(self.strangers[0]))

    def keep(self, reference, kind, year):
        encounter = enrolment.Encounter(encounter_id=str(year), encounter_type=kind)
        encounter.captured_at.seconds = (year - 1970) * 31557600
        answer = self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="gate", request_id="%s-%d" % (kind, year), gallery="people", subject_id="ada", reference=reference,
            encounter=encounter), enrolment.EnrolResponse)
        self.assertEqual(answer.outcome, enrolment.ENROL_OUTCOME_CREATED)

    def verify(self, probe, under):
        return self.lane.call(MATCHING + "Verify", matching.VerifyRequest(
            purpose=under, gallery="people", subject_id="ada", probe=probe), matching.VerifyResponse)

    def alike(self, probe, reference):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=probe, reference=reference), matching.CompareResponse).raw.score

    def test_newest_of_several(self):
        self.keep(self.two, "visit", 2021)
        self.keep(self.stranger, "visit", 2026)
        self.keep(self.one, "visit", 2016)
        newest = self.verify(self.two, "newest")
        self.assertEqual((newest.decision, newest.encounter_id, newest.basis.compared, newest.basis.attempts),
                         (common.DECISION_NO_MATCH, "2026", 1, 1))
        three = self.verify(self.two, "three")
        self.assertEqual((three.decision, three.encounter_id, three.basis.compared, three.basis.attempts),
                         (common.DECISION_MATCH, "2021", 3, 3))
        # Three chances for a stranger: each is held to a third of the rate.
        self.assertEqual(three.basis.target_rate, newest.basis.target_rate)
        self.assertGreater(three.raw.threshold, newest.raw.threshold)
        self.assertLessEqual(three.raw.score, 1 + 1e-5)

    def test_threshold_follows_what_was_compared(self):
        self.keep(self.one, "visit", 2020)
        alone = self.verify(self.two, "three")
        self.assertEqual((alone.basis.compared, alone.basis.attempts), (1, 1))
        self.assertEqual(alone.raw.threshold, self.verify(self.two, "newest").raw.threshold)

    def test_fused(self):
        """Of unit references a and b with a.b = c and a probe b, b.(a + b)/|a + b| = sqrt((1 + c)/2)."""
        self.keep(self.one, "visit", 2020)
        self.keep(self.two, "visit", 2021)
        alike = self.alike(self.one, self.two)
        answer = self.verify(self.two, "fused")
        self.assertAlmostEqual(answer.raw.score, math.sqrt((1 + alike) / 2), places=4)
        self.assertEqual((answer.decision, answer.encounter_id, answer.basis.compared, answer.basis.attempts),
                         (common.DECISION_MATCH, "2021", 2, 2))
        best = self.verify(self.two, "three")
        self.assertAlmostEqual(best.raw.score, 1, places=4)
        self.assertEqual(self.verify(self.stranger, "fused").decision, common.DECISION_NO_MATCH)

    def test_types(self):
        self.keep(self.one, "visit", 2026)
        absent = self.verify(self.two, "document")
        self.assertEqual((absent.decision, absent.reason), (common.DECISION_REFER, common.REASON_NO_REFERENCE))
        self.keep(self.two, "document", 2019)
        found = self.verify(self.one, "document")
        self.assertEqual((found.decision, found.encounter_id, found.basis.compared),
                         (common.DECISION_MATCH, "2019", 1))
        self.assertEqual(self.verify(self.one, "three").encounter_id, "2026")

    def test_nothing_is_compared_where_nobody_is_seen(self):
        self.keep(self.one, "visit", 2026)
        group = self.verify(picture(read(GROUP)), "fused")
        self.assertEqual((group.reason, group.basis.compared), (common.REASON_SEVERAL_FACES, 0))


if __name__ == "__main__":
    unittest.main(verbosity=2)
