#!/usr/bin/python3 -B
"""VerifyDocument: passports of a made-up state, signed with OpenSSL, and what a forger would try."""
import json
import os
import unittest

import grpc

from country import Country
from harness import BUILD, run, wait_for
from messages import common, matching
from served import MATCHING, PEOPLE, POLICY, Served, dg2, picture


class PassportTest(Served):
    policy = POLICY.replace("operations: [verify, compare,", "operations: [verify, compare, verify_document,")

    def configuration(self, more=""):
        return super().configuration(more) + "documents:\n  csca: country/csca.pem\n  crl: country/crl.pem\n"

    def setUp(self):
        self.country = None
        super().setUp()

    def start(self, **options):
        if not self.country:
            self.country = Country(self.path("country"))
            self.country.list_revoked()
        return super().start(**options)

    def ask(self, chip, sod, probe=None):
        return self.lane.call(MATCHING + "VerifyDocument", matching.VerifyDocumentRequest(
            purpose="gate", probe=picture(probe or self.ada[0]), dg2=chip, sod=sod), matching.VerifyDocumentResponse)

    def found(self, finding, chip, sod):
        answer = self.ask(chip, sod)
        self.assertFalse(answer.document.authentic)
        self.assertEqual(answer.document.finding, getattr(matching, "DOCUMENT_FINDING_" + finding))
        self.assertGreater(answer.receipt.sequence, 0)
        return answer

    def test_two_verdicts(self):
        for block in (False, True):
            chip = dg2(self.ada[1], block)
            sod = self.country.sign(chip)
            answer = self.ask(chip, sod)
            self.assertEqual((answer.document.authentic, answer.document.finding, answer.document.country), (True, 0, "UT"))
            self.assertEqual(answer.face.decision, common.DECISION_MATCH)
            self.assertEqual(answer.face.basis.compared, 1)
            self.assertEqual(self.ask(chip, sod, self.strangers[0]).face.decision, common.DECISION_NO_MATCH)
            self.assertTrue(self.ask(chip, sod, self.strangers[0]).document.authentic)
            # Another's picture under this signature: the face matches, and the document is none.
            forged = dg2(self.strangers[0], block)
            answer = self.found("DIGEST", forged, sod)
            self.assertEqual(answer.face.decision, common.DECISION_NO_MATCH)
            self.assertEqual(self.ask(forged, sod, self.strangers[0]).face.decision, common.DECISION_MATCH)
            changed = bytearray(chip)
            changed[-2000] ^= 1
            self.found("DIGEST", bytes(changed), sod)

    def test_signers(self):
        chip = dg2(self.ada[1])
        other = Country(self.path("other"))
        self.assertEqual(self.found("SIGNER_UNKNOWN", chip, other.sign(chip)).document.country, "")
        self.country.make("second", "signer", "-CA", self.country.path("csca.pem"), "-CAkey", self.country.path("csca.key"))
        sod = self.country.sign(chip, "second")
        self.assertTrue(self.ask(chip, sod).document.authentic)
        # Its CSCA revokes it, and the daemon is not asked to look; the other signer's passports stay good.
        self.country.list_revoked("second")
        wait_for(lambda: self.ask(chip, sod).document.finding == matching.DOCUMENT_FINDING_SIGNER_REVOKED, "the revocation")
        self.assertTrue(self.ask(chip, self.country.sign(chip)).document.authentic)
        # A file that is none is refused, and what was read before stays.
        with open(self.country.path("csca.pem"), "w", encoding="ascii") as file:
            file.write("no certificate\n")
        wait_for(lambda: self.daemon.events("documents_refused"), "the refusal")
        self.assertTrue(self.ask(chip, self.country.sign(chip)).document.authentic)
        self.assertIn('biomatch_reload_refused{what="documents"} 1', self.daemon.page("/metrics")[1])

    def test_malformed(self):
        chip = dg2(self.ada[1])
        sod = self.country.sign(chip)
        for cut in (sod[:-1], sod + b"\0", sod[4:], b"\x77\x00", b"\x77\x80" + sod[4:], os.urandom(2000)):
            self.found("MALFORMED", chip, cut)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_MISSING", "sod", self.ask, chip, b"")
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_MISSING", "dg2", self.ask, b"", sod)
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", "sod", self.ask, chip, bytes(65537))
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_FACE", "dg2", self.ask, chip[:-1], sod)

    def test_audit_and_command_line(self):
        chip = dg2(self.ada[1])
        for name, data in (("dg2", chip), ("sod", self.country.sign(chip)), ("forged", self.country.sign(chip[:-1] + b"\0"))):
            with open(self.path(name), "wb") as file:
                file.write(data)
        common_options = ("--purpose=gate", "--target=localhost:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                          "--cert=" + self.path("pki/lane.pem"), "--key=" + self.path("pki/lane.key"))
        for status, sod, probe, document in ((0, "sod", "ada/01.jpg", "AUTHENTIC"), (1, "sod", "bea/01.jpg", "AUTHENTIC"),
                                             (1, "forged", "ada/01.jpg", "DIGEST")):
            done = run(BUILD + "/biomatch", "verify-document", self.path("dg2"), self.path(sod), os.path.join(PEOPLE, probe),
                       *common_options)
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            self.assertRegex(done.stdout, "document +" + document)
        done = run(BUILD + "/biomatch", "verify-document", self.path("dg2"), self.path("sod"), os.path.join(PEOPLE, "ada/01.jpg"),
                   "--json", *common_options)
        self.assertTrue(json.loads(done.stdout)["document"]["authentic"])
        export = self.path("export")
        done = run(BUILD + "/biomatch", "audit", "export", export, "--purpose=office", *common_options[1:3],
                   "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        shown = run(BUILD + "/biomatch", "audit", "show", export, "--json").stdout
        entries = json.loads("[" + shown.replace("}\n{", "},{") + "]")
        entries = [entry for entry in entries if entry.get("operation", "").endswith("/VerifyDocument")]
        self.assertEqual([(entry["document"], entry["outcome"]) for entry in entries],
                         [("AUTHENTIC", "MATCH"), ("AUTHENTIC", "NO_MATCH"), ("DIGEST", "MATCH"), ("AUTHENTIC", "MATCH")])
        self.assertTrue(all(len(entry["inputs"]) == 3 for entry in entries))


class NoTrustTest(Served):
    policy = PassportTest.policy

    def test_nothing_configured(self):
        chip = dg2(self.ada[1])
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "CSCA_MISSING", "", self.lane.call, MATCHING + "VerifyDocument",
                     matching.VerifyDocumentRequest(purpose="gate", probe=picture(self.ada[0]), dg2=chip, sod=b"\x77\x00"),
                     matching.VerifyDocumentResponse)


if __name__ == "__main__":
    unittest.main(verbosity=2)
