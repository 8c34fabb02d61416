#!/usr/bin/python3 -B
"""The audit log: what calls leave there, and that what was replied can be proven without the service."""
import hashlib
import json
import os
import resource
import signal
import unittest

import grpc

from harness import BUILD, run, wait_for
from messages import admin, analysis, audit, common, enrolment, matching
from served import ADMIN, ENROLMENT, GROUP, MATCHING, Client, Served, picture, read


def text_of(receipt):
    return "%d:%s" % (receipt.sequence, receipt.hash.hex())


class Audited(Served):
    def biomatch(self, *command):
        return run(BUILD + "/biomatch", "audit", *command)

    def export(self, *options, daemon=None, name="export"):
        path = self.path(name)
        done = self.biomatch("export", path, "--purpose=office", *options, *self.connection(daemon or self.daemon))
        self.assertEqual(done.returncode, 0, done.stderr)
        return path

    def connection(self, daemon):
        return ("--target=127.0.0.1:%d" % daemon.port, "--ca=" + self.path("pki/ca.pem"),
                "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))

    def offline(self, command, *arguments):
        return self.biomatch(command, *arguments, "--public-key=" + self.path("audit.pem"))

    def entries(self, path):
        """The entries of an export; the chain is checked here as docs/audit.md tells, without our code."""
        found = audit.AuditExport.FromString(read(path))
        self.assertEqual(found.format, "biomatch-audit-1")
        self.assertEqual(found.head, found.entries[-1])
        entries, before = [], None
        for number, packed in enumerate(found.entries, 1):
            entry = audit.AuditEntry.FromString(packed)
            self.assertEqual((entry.sequence, len(entry.previous)), (number, 32))
            if before:
                self.assertEqual(entry.previous, before)
            before = hashlib.sha256(packed).digest()
            entries.append((entry, before))
        self.check_signature(found.head)
        return entries

    def check_signature(self, packed):
        for name, data in (("text", packed[:-67]), ("signature", packed[-64:])):
            with open(self.path(name), "wb") as file:
                file.write(data)
        done = run("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", self.path("audit.pem"), "-rawin", "-in",
                   self.path("text"), "-sigfile", self.path("signature"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class AuditTest(Audited):
    def test_every_reply_can_be_proven(self):
        self.lane.enrol("ada", picture(self.ada[0]), "e1", encounter_id="first")
        replies = {
            "MatchingService/Verify": self.lane.verify("ada", picture(self.ada[1])),
            "MatchingService/Compare": self.lane.call(MATCHING + "Compare", matching.CompareRequest(
                purpose="gate", probe=picture(self.ada[0]), reference=picture(read(GROUP))), matching.CompareResponse),
            "MatchingService/Identify": self.lane.identify(picture(self.ada[1])),
            "EnrolmentService/Enrol": self.lane.enrol("eve", picture(self.ada[1]), "e2", unique=True),
            "EnrolmentService/GetSubject": self.lane.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
                purpose="gate", gallery="people", subject_id="ada"), enrolment.GetSubjectResponse),
            "AnalysisService/Extract": self.lane.call("/biomatch.v1.AnalysisService/Extract", analysis.ExtractRequest(
                purpose="gate", image=common.Image(data=self.ada[0])), analysis.ExtractResponse),
            "EnrolmentService/DeleteSubject": self.lane.call(
                ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
                    purpose="gate", request_id="d", gallery="people", subject_id="ada"),
                enrolment.DeleteSubjectResponse),
            "AdminService/ListGalleries": self.office.call(
                ADMIN + "ListGalleries", admin.ListGalleriesRequest(purpose="office"), admin.ListGalleriesResponse),
        }
        path = self.export()
        logged = {entry.operation: (entry, digest) for entry, digest in self.entries(path)}
        for name, reply in replies.items():
            entry, digest = logged["biomatch.v1." + name]
            self.assertEqual((reply.receipt.sequence, reply.receipt.hash), (entry.sequence, digest), name)
            self.assertEqual(self.offline("prove", path, text_of(reply.receipt)).returncode, 0, name)
        self.facts({name.rsplit("/", 1)[-1]: entry for name, (entry, _) in logged.items()}, replies)
        forged = replies["MatchingService/Verify"].receipt
        forged.sequence += 1
        self.assertEqual(self.offline("prove", path, text_of(forged)).returncode, 1)

    def facts(self, logged, replies):
        """What the entries say of the calls."""
        verify, verified = logged["Verify"], replies["MatchingService/Verify"]
        self.assertEqual((verify.endpoint, verify.purpose, verify.outcome, list(verify.galleries), verify.policy_version),
                         ("biomatch://example/hall/lane/1", "gate", "MATCH", ["people"], "test"))
        self.assertEqual(list(verify.inputs), [hashlib.sha256(self.ada[1]).digest()])
        self.assertEqual((verify.model, verify.calibration_id, verify.target_rate, verify.compared),
                         (verified.basis.model, verified.basis.calibration_id, 0.001, 1))
        self.assertEqual((verify.scores[0].score, verify.threshold), (verified.raw.score, verified.raw.threshold))
        self.assertLess(abs(verify.time.seconds - os.stat(self.path("export")).st_mtime), 120)
        compare = logged["Compare"]
        self.assertEqual((compare.outcome, list(compare.reasons), len(compare.inputs)), ("REFER", ["SEVERAL_FACES"], 2))
        ada = verify.subject
        self.assertEqual(len(ada), 32)
        self.assertEqual([s.subject for s in logged["Identify"].scores], [ada])
        self.assertEqual((logged["Enrol"].outcome, [s.subject for s in logged["Enrol"].scores]), ("DUPLICATE", [ada]))
        self.assertNotEqual(logged["Enrol"].subject, ada)
        gone = logged["DeleteSubject"]
        self.assertEqual((gone.outcome, gone.subject, gone.erased), ("DONE", ada, 1))
        for name in (b"ada", b"eve"):
            self.assertNotIn(name, read(self.path("export")))

    def test_denials(self):
        for status, reason, call in (("PERMISSION_DENIED", "PURPOSE_DENIED", lambda: self.office.verify("x", None)),
                                     ("PERMISSION_DENIED", "PURPOSE_UNKNOWN",
                                      lambda: self.lane.verify("x", None, purpose="spying"))):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assertEqual(caught.exception.code().name, status)
            denial = self.entries(self.export(name=reason))[-2][0]
            self.assertEqual((denial.outcome, list(denial.reasons)), ("DENIED", [reason]))
        self.assertEqual((denial.endpoint, denial.purpose, denial.operation),
                         ("biomatch://example/hall/lane/1", "spying", "biomatch.v1.MatchingService/Verify"))

    def test_refusals(self):
        """Who asks for somebody who is not there learns something, and leaves a trace; a mistake leaves none."""
        missing = grpc.StatusCode.NOT_FOUND
        get = enrolment.GetSubjectRequest(purpose="gate", gallery="people", subject_id="nobody")
        self.refused(missing, "NO_REFERENCE", "", self.lane.call, ENROLMENT + "GetSubject", get,
                     enrolment.GetSubjectResponse)
        drop = enrolment.DeleteSubjectRequest(purpose="gate", gallery="people", subject_id="nobody", request_id="d")
        for _ in range(2):
            self.refused(missing, "NO_REFERENCE", "", self.lane.call, ENROLMENT + "DeleteSubject", drop,
                         enrolment.DeleteSubjectResponse)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_MISSING", "probe", self.lane.verify, "nobody", None)
        self.refused(missing, "GALLERY_UNKNOWN", "gallery", self.lane.verify, "nobody", picture(self.ada[0]),
                     gallery="others")
        traces = [(e.operation.rsplit("/", 1)[1], list(e.reasons), len(e.subject)) for e, _ in
                  self.entries(self.export()) if e.outcome == "REFUSED"]
        self.assertEqual(traces, [("GetSubject", ["NO_REFERENCE"], 32), ("DeleteSubject", ["NO_REFERENCE"], 32),
                                  ("DeleteSubject", ["NO_REFERENCE"], 32), ("Verify", ["GALLERY_UNKNOWN"], 32)])
        # What was refused was not remembered under the request id.
        self.lane.enrol("nobody", picture(self.ada[0]))
        done = self.lane.call(ENROLMENT + "DeleteSubject", drop, enrolment.DeleteSubjectResponse)
        self.assertEqual(done.encounters_deleted, 1)

    def test_damage_and_restart(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        early = self.export(name="early")
        first = self.lane.verify("ada", picture(self.ada[1])).receipt
        self.assertEqual(self.daemon.stop(signal.SIGKILL), -signal.SIGKILL)
        os.remove(self.daemon.port_file)
        daemon = self.start()
        second = Client(self, daemon.port, "lane").verify("ada", picture(self.ada[1])).receipt
        self.assertEqual(second.sequence, first.sequence + 1)
        whole = self.export(daemon=daemon, name="whole")
        for receipt in (first, second):
            self.assertEqual(self.offline("prove", whole, text_of(receipt)).returncode, 0)
        head = json.loads(self.offline("verify", early, "--json").stdout)["head"]
        self.assertEqual(self.offline("prove", whole, head).returncode, 0)
        rest = self.export("--first=3", daemon=daemon, name="rest")
        self.assertEqual(self.offline("verify", rest, "--first=3").returncode, 0)
        self.assertEqual(self.offline("verify", rest).returncode, 1)
        data = read(whole)
        with open(self.path("bad"), "wb") as file:
            file.write(data[:200] + bytes([data[200] ^ 1]) + data[201:])
        told = self.offline("verify", self.path("bad"))
        self.assertEqual((told.returncode, told.stdout), (1, ""))
        self.assertIn("AUDIT_BROKEN", told.stderr)
        self.cert("audit", self.path("other"))
        self.assertEqual(self.biomatch("verify", whole, "--public-key=" + self.path("other.pem")).returncode, 1)
        shown = self.biomatch("show", whole)
        self.assertEqual(len(shown.stdout.splitlines()), len(self.entries(whole)))
        one = json.loads(self.biomatch("show", whole, str(first.sequence)).stdout)
        self.assertEqual((one["outcome"], one["sequence"]), ("MATCH", first.sequence))

    def test_pruning(self):
        """What was exported may go; the rest is proven to follow it."""
        def prune(head):
            return self.biomatch("prune", head, "--purpose=office", *self.connection(self.daemon))
        known = self.lane.enrol("ada", picture(self.ada[0])).receipt
        old = self.export(name="old")
        head = json.loads(self.offline("verify", old, "--json").stdout)["head"]
        for forged in (text_of(known), head[:-1] + ("0" if head[-1] != "0" else "1")):
            refused = prune(forged)
            self.assertEqual(refused.returncode, 4)
            self.assertIn("[checkpoint] (INVALID_ARGUMENT", refused.stderr)
        self.assertEqual(prune(head).returncode, 0)
        kept = self.export(name="kept")
        first = head.split(":")[0]
        self.assertEqual(self.offline("prove", kept, head, "--first=" + first).returncode, 0)
        self.assertEqual(self.offline("verify", kept).returncode, 1)
        self.assertEqual(self.offline("prove", old, text_of(known)).returncode, 0)
        entries = [audit.AuditEntry.FromString(e) for e in audit.AuditExport.FromString(read(kept)).entries]
        self.assertEqual(entries[0].sequence, int(first))
        pruned = [e for e in entries if e.operation == "biomatch.v1.AdminService/PruneAudit"]
        self.assertEqual([(e.endpoint, e.erased) for e in pruned], [("biomatch://example/test/admin/1", int(first) - 1)])
        self.assertEqual(self.daemon.stop(), 0)
        checked = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_a_repetition_has_the_first_receipt(self):
        first = self.lane.enrol("ada", picture(self.ada[0]), "once")
        self.assertEqual(self.lane.enrol("ada", picture(self.ada[0]), "once"), first)
        # The requests of these two methods look alike; they are not one write.
        made = self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id="both", name="others"), admin.CreateGalleryResponse)
        self.assertEqual(made.gallery.name, "others")
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", "", self.office.call,
                     ADMIN + "DeleteGallery", admin.DeleteGalleryRequest(
                         purpose="office", request_id="both", name="others"), admin.DeleteGalleryResponse)


class FailingDisk(Audited):
    """No entry, no answer: the daemon's disk takes nothing from one moment on."""

    def start(self, **options):
        # Python ignores SIGXFSZ; the daemon inherits that, and sees EFBIG instead.
        return super().start(restore_signals=False, **options)

    def limit(self, size):
        resource.prlimit(self.daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def test_decisions_are_refused(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        known = self.lane.verify("ada", picture(self.ada[1])).receipt
        self.limit(0)
        gone = grpc.StatusCode.UNAVAILABLE
        self.refused(gone, "STORE_IO", "", self.lane.verify, "ada", picture(self.ada[1]))
        self.limit(resource.RLIM_INFINITY)
        # The disk is back, and nobody knows what it holds: no decision until a restart.
        for _ in range(2):
            self.refused(gone, "STORE_READ_ONLY", "", self.lane.verify, "ada", picture(self.ada[1]))
        self.refused(gone, "STORE_READ_ONLY", "", self.lane.identify, picture(self.ada[1]))
        self.refused(gone, "STORE_READ_ONLY", "", self.lane.verify, "ada", None, purpose="spying")
        self.refused(gone, "STORE_READ_ONLY", "", self.lane.enrol, "eve", picture(self.ada[1]))
        wait_for(lambda: self.ask(self.daemon, "health") == 4, "NOT_SERVING")
        self.assertEqual(self.daemon.stop(), 0)
        daemon = self.start()
        path = self.export(daemon=daemon)
        self.assertEqual(self.offline("prove", path, text_of(known)).returncode, 0)
        self.assertEqual([e.sequence for e, _ in self.entries(path) if e.outcome == "MATCH"], [known.sequence])


class Checkpoints(Audited):
    def configuration(self, more=""):
        return super().configuration("audit:\n  checkpoint: 1s\n")

    def test_the_log_is_signed_without_being_asked(self):
        wait_for(lambda: self.daemon.events("audit_checkpoint"), "a checkpoint")
        hash_of = [json.loads(line)["hash"] for line in self.daemon.log().splitlines()
                   if json.loads(line)["event"] == "audit_checkpoint"][0]
        found = audit.AuditExport.FromString(read(self.export()))
        signed = [hashlib.sha256(packed).hexdigest() for packed in found.entries
                  if audit.AuditEntry.FromString(packed).operation == "checkpoint"]
        self.assertIn(hash_of, signed)


if __name__ == "__main__":
    unittest.main()
