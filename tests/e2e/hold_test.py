#!/usr/bin/python3 -B
"""Legal holds: nothing of a held subject is erased, by nobody and no clock, until the last hold is released."""
import json
import time
import unittest

import grpc

from harness import BUILD, run, wait_for
from messages import admin, audit, common, enrolment
from served import ADMIN, ENROLMENT, POLICY, Served

PURPOSE = POLICY[POLICY.index("  - name: gate"):POLICY.index("  - name: office")]
HOLDS = """  - name: court
    legal_basis: test
    classes: [admin]
    operations: [hold, read]
    galleries: [people]
    priority: bulk
"""
HELD = grpc.StatusCode.FAILED_PRECONDITION


class HoldTest(Served):
    policy = POLICY + HOLDS + PURPOSE.replace("name: gate", "name: visit").replace(
        "raw_scores: true", "retention: 3s\n    supersede: true")

    def setUp(self):
        super().setUp()
        self.probe = common.Probe(template=self.lane.extract(self.ada[0]))
        self.cli("gallery", "list", purpose="office")

    def cli(self, *command, purpose="court"):
        done = run(BUILD + "/biomatch", *command, "--json", "--purpose=" + purpose, "--target=127.0.0.1:%d" % self.daemon.port,
                   "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))
        return done.returncode, json.loads(done.stdout)

    def visit(self, subject, request_id):
        return self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="visit", request_id=request_id, gallery="people", subject_id=subject, reference=self.probe,
            encounter=enrolment.Encounter(encounter_id=request_id)), enrolment.EnrolResponse)

    def delete(self, subject, encounter=None):
        if encounter:
            return self.lane.call(ENROLMENT + "DeleteEncounter", enrolment.DeleteEncounterRequest(
                purpose="gate", request_id="d-" + subject + encounter, gallery="people", subject_id=subject,
                encounter_id=encounter), enrolment.DeleteEncounterResponse)
        return self.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id="d-%s-%f" % (subject, time.time()), gallery="people", subject_id=subject),
            enrolment.DeleteSubjectResponse)

    def place(self, subject, matter, request_id="hold"):
        return self.office.call(ADMIN + "PlaceLegalHold", admin.PlaceLegalHoldRequest(
            purpose="court", request_id=request_id, gallery="people", subject_id=subject, matter=matter),
            admin.PlaceLegalHoldResponse)

    def release(self, subject, matter, request_id="release"):
        return self.office.call(ADMIN + "ReleaseLegalHold", admin.ReleaseLegalHoldRequest(
            purpose="court", request_id=request_id, gallery="people", subject_id=subject, matter=matter),
            admin.ReleaseLegalHoldResponse)

    def gallery(self):
        return self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(
            purpose="office", name="people"), admin.GetGalleryResponse).gallery

    def entries(self):
        page = self.office.call(ADMIN + "ExportAudit", admin.ExportAuditRequest(
            purpose="office"), admin.ExportAuditResponse).entries
        return [audit.AuditEntry.FromString(entry) for entry in page]

    def test_nobody_deletes(self):
        self.lane.enrol("ada", self.probe, encounter_id="first")
        placed = self.place("ada", "HCAL 1/2026")
        self.assertEqual(placed.holds, 1)
        # The same request again is the same answer; the same matter under another is refused.
        self.assertEqual(self.place("ada", "HCAL 1/2026"), placed)
        self.refused(grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", "matter", self.place, "ada", "HCAL 1/2026", "other")
        self.assertEqual(self.place("ada", "HCAL 2/2026", "second").holds, 2)
        for what in ((), ("first",)):
            self.refused(HELD, "LEGAL_HOLD", "", self.delete, "ada", *what)
        self.assertEqual(self.lane.verify("ada", self.probe).decision, common.DECISION_MATCH)
        self.assertEqual(self.gallery().held_subjects, 1)
        status, held = self.cli("subject", "holds", "people", "ada")
        self.assertEqual((status, [hold["matter"] for hold in held["holds"]]), (0, ["HCAL 1/2026", "HCAL 2/2026"]))
        self.assertTrue(self.cli("subject", "show", "people", "ada")[1]["legal_hold"])
        # It outlives the daemon.
        self.daemon.stop()
        self.daemon = self.restart()
        status, left = self.cli("subject", "release", "people", "ada", "HCAL 1/2026")
        self.assertEqual((status, left["holds"]), (0, 1))
        self.refused(HELD, "LEGAL_HOLD", "", self.delete, "ada")
        self.refused(grpc.StatusCode.NOT_FOUND, "HOLD_UNKNOWN", "", self.release, "ada", "HCAL 1/2026")
        self.assertEqual(self.release("ada", "HCAL 2/2026", "last").holds, 0)
        self.assertEqual(self.delete("ada").encounters_deleted, 1)
        self.refused(grpc.StatusCode.NOT_FOUND, "NO_REFERENCE", "", self.place, "ada", "HCAL 3/2026", "late")
        self.check_log()

    def restart(self):
        daemon = self.start()
        for client, name in (("lane", "lane"), ("office", "admin")):
            setattr(self, client, type(self.lane)(self, daemon.port, name))
        return daemon

    def check_log(self):
        # A request that was answered before leaves no further entry.
        told = [(entry.operation.rsplit("/", 1)[1], entry.outcome) for entry in self.entries() if "Hold" in entry.operation]
        self.assertEqual(told, [("PlaceLegalHold", "DONE"), ("PlaceLegalHold", "REFUSED"), ("PlaceLegalHold", "DONE"),
                                ("ListLegalHolds", "DONE"), ("ReleaseLegalHold", "DONE"), ("ReleaseLegalHold", "REFUSED"),
                                ("ReleaseLegalHold", "DONE"), ("PlaceLegalHold", "REFUSED")])
        self.assertNotIn(b"HCAL", b"".join(entry.SerializeToString() for entry in self.entries()))

    def test_no_clock_erases(self):
        self.visit("ada", "one")
        self.visit("bob", "only")
        self.place("ada", "order")
        again = self.visit("ada", "two")
        self.assertEqual((again.outcome, again.superseded), (enrolment.ENROL_OUTCOME_CREATED, 0))
        wait_for(lambda: self.gallery().subjects == 1, "the erasure of bob")
        self.lane.enrol("eve", self.probe)
        # What has expired is not used, held or not; what expires later than bob's has, too, by now or soon.
        wait_for(lambda: self.lane.verify("ada", self.probe).reason == common.REASON_REFERENCE_EXPIRED, "the expiry")
        self.assertEqual(self.gallery().encounters, 3)
        self.release("ada", "order")
        wait_for(lambda: self.gallery().encounters == 1, "the erasure that was due")
        self.assertEqual(self.lane.verify("ada", self.probe).reason, common.REASON_REFERENCE_EXPIRED)
        self.daemon.stop()
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_right_of_its_own(self):
        self.lane.enrol("ada", self.probe)
        for purpose in ("office", "gate"):
            self.refused(grpc.StatusCode.PERMISSION_DENIED, "PURPOSE_DENIED", "", self.office.call, ADMIN + "PlaceLegalHold",
                         admin.PlaceLegalHoldRequest(purpose=purpose, request_id="x", gallery="people", subject_id="ada",
                                                     matter="m"), admin.PlaceLegalHoldResponse)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_MISSING", "matter", self.place, "ada", "")
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "matter", self.place, "ada", "m" * 129)


if __name__ == "__main__":
    unittest.main(verbosity=2)
