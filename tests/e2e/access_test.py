#!/usr/bin/python3 -B
"""What is held of a subject, on the command line: approved by one, exported by another, read by the recipient alone."""
import json
import os
import unittest

from harness import BUILD, ROOT, run
from messages import common
from served import Served, read


class AccessTest(Served):
    def setUp(self):
        super().setUp()
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/second"), "biomatch://example/test/admin/2")
        for name in ("subject", "other"):
            self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out", self.path(name + ".key")).returncode, 0)
            self.assertEqual(run("openssl", "pkey", "-in", self.path(name + ".key"), "-pubout", "-out",
                                 self.path(name + ".pem")).returncode, 0)
        probe = common.Probe(template=self.lane.extract(self.ada[0]))
        self.lane.enrol("ada-lovelace", probe, encounter_id="first", site="hall")
        self.lane.verify("ada-lovelace", probe)
        self.lane.identify(probe)

    def subject(self, who, *command):
        return run(BUILD + "/biomatch", "subject", *command, "--purpose=office", "--target=127.0.0.1:%d" % self.daemon.port,
                   "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/%s.pem" % who),
                   "--key=" + self.path("pki/%s.key" % who))

    def export(self, who, name):
        return self.subject(who, "export", "people", "ada-lovelace", self.path("subject.pem"), self.path(name))

    def test_export(self):
        done = self.export("second", "early")
        self.assertIn("APPROVAL_MISSING", done.stderr)
        done = self.subject("admin", "approve-export", "people", "ada-lovelace", self.path("subject.pem"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("APPROVAL_OWN", self.export("admin", "own").stderr)
        done = self.export("second", "export")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("early", "own"):
            self.assertFalse(os.path.exists(self.path(name)))
        self.assertNotIn(b"ada-lovelace", read(self.path("export")))
        self.check_content()
        done = run(BUILD + "/biomatch", "subject", "read-export", self.path("export"), self.path("other.key"))
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")

    def check_content(self):
        done = run(BUILD + "/biomatch", "subject", "read-export", self.path("export"), self.path("subject.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        held = json.loads(done.stdout)
        self.assertEqual((held["format"], held["subject_id"]), ("biomatch-subject-1", "ada-lovelace"))
        self.assertEqual((held["approved_by"], held["exported_by"]),
                         ("biomatch://example/test/admin/1", "biomatch://example/test/admin/2"))
        self.assertEqual([(e["encounter_id"], e["site"]) for e in held["encounters"]], [("first", "hall")])
        told = [(e["operation"].rsplit("/", 1)[1], e["outcome"]) for e in held["audit_entries"]]
        self.assertEqual(told, [("Enrol", "CREATED"), ("Verify", "MATCH"), ("Identify", "MATCH"), ("ExportSubject", "REFUSED"),
                                ("ApproveSubjectExport", "DONE"), ("ExportSubject", "REFUSED")])


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
