#!/usr/bin/python3 -B
"""What may no longer be kept is erased by the daemon itself, and the audit log says so."""
import time
import unittest

from harness import BUILD, run, wait_for
from messages import admin, audit, common, enrolment
from served import ADMIN, ENROLMENT, POLICY, Served, picture

PURPOSE = POLICY[POLICY.index("  - name: gate"):POLICY.index("  - name: office")]


class RetentionTest(Served):
    policy = POLICY + PURPOSE.replace("name: gate", "name: visit").replace("raw_scores: true", "retention: 2s")

    def visit(self, subject):
        return self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="visit", request_id=subject, gallery="people", subject_id=subject,
            reference=picture(self.ada[0])), enrolment.EnrolResponse)

    def encounters(self):
        return self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(
            purpose="office", name="people"), admin.GetGalleryResponse).gallery.encounters

    def entries(self):
        page = self.office.call(ADMIN + "ExportAudit", admin.ExportAuditRequest(
            purpose="office"), admin.ExportAuditResponse).entries
        return [audit.AuditEntry.FromString(entry) for entry in page]

    def reason(self, subject):
        return self.lane.verify(subject, picture(self.ada[1])).reason

    def test_erased_in_time(self):
        began = time.time()
        for n in range(10):
            self.assertEqual(self.visit("visitor-%d" % n).outcome, enrolment.ENROL_OUTCOME_CREATED)
        self.lane.enrol("resident", picture(self.ada[0]))
        wait_for(lambda: self.encounters() == 1, "the erasure")
        self.assertGreater(time.time() - began, 2)
        # Whose photograph is gone is told from who never came.
        self.assertEqual(self.reason("visitor-9"), common.REASON_REFERENCE_EXPIRED)
        self.assertEqual(self.reason("passer-by"), common.REASON_NO_REFERENCE)
        self.assertEqual(self.reason("resident"), common.REASON_UNSPECIFIED)
        entries = [entry for entry in self.entries() if entry.operation == "retention"]
        self.assertEqual([(e.outcome, list(e.reasons), list(e.galleries), e.erased, e.endpoint) for e in entries],
                         [("DONE", ["REFERENCE_EXPIRED"], ["people"], 1, "")] * 10)
        named = {entry.encounter for entry in self.entries() if entry.operation.endswith("/Enrol")}
        self.assertTrue({entry.encounter for entry in entries} < named)
        # A new visit begins as if there had been none.
        again = self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="gate", request_id="again", gallery="people", subject_id="visitor-9",
            reference=picture(self.ada[0])), enrolment.EnrolResponse)
        self.assertEqual(again.outcome, enrolment.ENROL_OUTCOME_CREATED)
        self.assertEqual(self.reason("visitor-9"), common.REASON_UNSPECIFIED)
        self.daemon.stop()
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
