#!/usr/bin/python3 -B
"""Pictures that a purpose keeps: handed out under their own right alone, and gone with what they were enrolled with."""
import json
import os
import shutil
import unittest

import grpc

from harness import BUILD, ROOT, run
from messages import admin, audit, common, enrolment
from served import ADMIN, ENROLMENT, POLICY, Served, picture, png, read

PURPOSES = """  - name: registration
    legal_basis: test
    classes: [lane]
    operations: [enrol, read, delete]
    galleries: [people]
    target_fpir: 0.1
    gallery_size: 100
    max_candidates: 5
    max_frames: 3
    keep_image: true
    supersede: true
    priority: kiosk
  - name: review
    legal_basis: test
    classes: [admin]
    operations: [image]
    galleries: [people]
    priority: bulk
"""
LARGEST = 2 << 20


class ImageTest(Served):
    policy = POLICY + PURPOSES

    def setUp(self):
        super().setUp()
        # A JPEG ends with its marker; what follows is kept, too, and makes it known.
        self.picture = self.ada[0] + b"as it came, to the last byte"

    def register(self, subject, probe, encounter, purpose="registration", **more):
        return self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose=purpose, request_id=subject + encounter, gallery="people", subject_id=subject, reference=probe,
            encounter=enrolment.Encounter(encounter_id=encounter, **more)), enrolment.EnrolResponse)

    def image(self, subject, encounter, purpose="review", client=None):
        return (client or self.office).call(ENROLMENT + "GetImage", enrolment.GetImageRequest(
            purpose=purpose, gallery="people", subject_id=subject, encounter_id=encounter), enrolment.GetImageResponse)

    def shown(self, subject):
        held = self.lane.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="registration", gallery="people", subject_id=subject), enrolment.GetSubjectResponse)
        return [(e.encounter_id, e.has_image) for e in held.encounters]

    def delete(self, subject):
        self.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="registration", request_id="gone-" + subject, gallery="people", subject_id=subject),
            enrolment.DeleteSubjectResponse)

    def not_kept(self, reason, *where):
        self.refused(grpc.StatusCode.NOT_FOUND, reason, "", self.image, *where)

    def fsck(self):
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_kept_where_the_purpose_says_so(self):
        kept = self.register("ada", picture(self.picture), "first")
        self.assertTrue(kept.image_kept)
        self.assertFalse(self.register("bob", picture(self.strangers[0]), "first", purpose="gate").image_kept)
        self.assertEqual((self.shown("ada"), self.shown("bob")), ([("first", True)], [("first", False)]))
        told = self.image("ada", "first")
        self.assertEqual(told.data, self.picture)
        self.not_kept("IMAGE_NOT_KEPT", "bob", "first")
        self.not_kept("ENCOUNTER_UNKNOWN", "ada", "second")
        self.not_kept("NO_REFERENCE", "eve", "first")
        # A right of its own, and a trace of its own.
        self.refused(grpc.StatusCode.PERMISSION_DENIED, "PURPOSE_DENIED", "", self.image, "ada", "first", "registration", self.lane)
        self.refused(grpc.StatusCode.PERMISSION_DENIED, "PURPOSE_DENIED", "", self.image, "ada", "first", "review", self.lane)
        entries = [audit.AuditEntry.FromString(entry) for entry in self.office.call(
            ADMIN + "ExportAudit", admin.ExportAuditRequest(purpose="office"), admin.ExportAuditResponse).entries]
        entry = entries[told.receipt.sequence - 1]
        self.assertEqual((entry.operation, entry.outcome, entry.purpose), ((ENROLMENT + "GetImage")[1:], "DONE", "review"))
        self.assertTrue(entry.subject)
        # A repeated request keeps nothing twice, and the daemon that comes back has it.
        self.assertEqual(self.register("ada", picture(self.picture), "first"), kept)
        self.assertNotIn(b"to the last byte", read(self.path("store/data.mdb")))
        self.assertEqual(self.daemon.stop(), 0)
        self.fsck()
        self.daemon = self.start()
        done = run(BUILD + "/biomatch", "subject", "image", "people", "ada", "first", self.path("out.jpg"), "--purpose=review",
                   "--target=127.0.0.1:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                   "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((read(self.path("out.jpg")), os.stat(self.path("out.jpg")).st_mode & 0o777), (self.picture, 0o600))

    def test_only_pictures_of_a_size(self):
        template = common.Probe(template=self.lane.extract(self.ada[0]))
        self.refused(grpc.StatusCode.PERMISSION_DENIED, "PURPOSE_DENIED", "reference", self.register, "ada", template, "1")
        for size, subject in ((LARGEST, "most"), (LARGEST + 1, "more")):
            probe = picture(self.ada[0] + bytes(size - len(self.ada[0])))
            if size > LARGEST:
                self.refused(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE", "reference", self.register, subject, probe, "1")
                continue
            self.register(subject, probe, "1")
            self.assertEqual(self.image(subject, "1").data, probe.image.data)
        # What cannot serve as a reference is not kept either.
        self.assertEqual(self.register("eve", picture(png(300, 300)), "1").outcome, enrolment.ENROL_OUTCOME_REFER)
        self.not_kept("NO_REFERENCE", "eve", "1")

    def test_the_best_frame(self):
        frames = [common.Frame(image=common.Image(data=data)) for data in (png(64, 64), self.ada[1], self.ada[0])]
        told = self.register("ada", common.Probe(frames=common.Frames(frames=frames)), "1")
        weights = [frame.weight for frame in told.probe.frames]
        best = weights.index(max(weights))
        self.assertEqual((told.image_kept, weights[0]), (True, 0))
        self.assertEqual(self.image("ada", "1").data, frames[best].image.data)

    def test_gone_with_its_encounter(self):
        self.register("ada", picture(self.ada[0]), "1", encounter_type="visit")
        self.assertEqual(self.register("ada", picture(self.ada[1]), "2", encounter_type="visit").superseded, 1)
        self.assertEqual(self.shown("ada"), [("2", True)])
        self.not_kept("ENCOUNTER_UNKNOWN", "ada", "1")
        self.delete("ada")
        self.not_kept("NO_REFERENCE", "ada", "2")
        self.assertEqual(self.daemon.stop(), 0)
        self.fsck()

    def test_in_what_a_subject_is_told(self):
        large = [self.ada[0] + bytes([n]) * (LARGEST - 1000 - len(self.ada[0])) for n in range(3)]
        for n, data in enumerate(large):
            self.register("ada", picture(data), "%d" % n, encounter_type="%d" % n)
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/second"), "biomatch://example/test/admin/2")
        self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out", self.path("own.key")).returncode, 0)
        self.assertEqual(run("openssl", "pkey", "-in", self.path("own.key"), "-pubout", "-out", self.path("own.pem")).returncode, 0)
        for who, command in (("admin", "approve-export"), ("second", "export")):
            done = run(BUILD + "/biomatch", "subject", command, "people", "ada", self.path("own.pem"),
                       *([self.path("export")] if command == "export" else []), "--purpose=office",
                       "--target=127.0.0.1:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                       "--cert=" + self.path("pki/%s.pem" % who), "--key=" + self.path("pki/%s.key" % who))
            self.assertEqual(done.returncode, 0, done.stderr)
        parts = [json.loads(run(BUILD + "/biomatch", "subject", "read-export", self.path(name), self.path("own.key")).stdout)
                 for name in ("export", "export.2", "export.3")]
        self.assertFalse(os.path.exists(self.path("export.4")))
        self.assertEqual([[i["encounter_id"] for i in part["images"]] for part in parts], [["0"], ["1"], ["2"]])
        self.assertEqual([bool(part["audit_entries"]) for part in parts], [False, False, True])

    def test_dumped_and_loaded(self):
        self.register("ada", picture(self.picture), "1", encounter_type="a")
        self.register("ada", picture(self.ada[1]), "2", encounter_type="b")
        self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out", self.path("a.key")).returncode, 0)
        self.assertEqual(run("openssl", "pkey", "-in", self.path("a.key"), "-pubout", "-out", self.path("a.pub")).returncode, 0)
        self.assertEqual(self.daemon.stop(), 0)
        self.tool("--dump=" + self.path("dump"), "--key=" + self.path("a.pub"))
        shutil.rmtree(self.path("store"))
        os.mkdir(self.path("store"), 0o700)
        os.unlink(self.path("store.key"))
        self.cert("key", self.path("store.key"))
        self.assertIn("2 pictures", self.tool("--load=" + self.path("dump"), "--key=" + self.path("a.key")))
        self.daemon = self.start()
        self.office = type(self.office)(self, self.daemon.port, "admin")
        self.assertEqual([self.image("ada", n).data for n in ("1", "2")], [self.picture, self.ada[1]])
        self.assertEqual(self.daemon.stop(), 0)
        self.fsck()

    def tool(self, *arguments):
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
