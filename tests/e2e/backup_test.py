#!/usr/bin/python3 -B
"""Backups of a store in use, what is made of them, and what fsck says of good and bad stores."""
import os
import shutil
import threading
import unittest

from harness import BUILD, ROOT, run
from messages import admin
from served import ADMIN, Served, picture


class BackupTest(Served):
    def setUp(self):
        super().setUp()
        for name in ("backup", "other"):
            self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out",
                                 self.path(name + ".key")).returncode, 0)
            self.assertEqual(run("openssl", "pkey", "-in", self.path(name + ".key"), "-pubout", "-out",
                                 self.path(name + ".pub")).returncode, 0)

    def biomatchd(self, *arguments):
        return run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), *arguments)

    def good(self, *arguments):
        done = self.biomatchd(*arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def bad(self, status, text, *arguments):
        done = self.biomatchd(*arguments)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertIn(text, done.stderr)

    def create(self, name):
        self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id=name, name=name), admin.CreateGalleryResponse)

    def galleries(self):
        """How many galleries the restored store of the place has, asked of a daemon on it."""
        daemon = self.start()
        found = run(BUILD + "/biomatch", "gallery", "list", "--purpose=office", "--target=127.0.0.1:%d" % daemon.port,
                    "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/admin.pem"),
                    "--key=" + self.path("pki/admin.key"))
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(found.returncode, 0, found.stderr)
        return found.stdout

    def backup(self, name):
        return self.good("--backup=" + self.path(name), "--key=" + self.path("backup.pub"))

    def timer_runs(self, key="backup.pub"):
        """What the timer's unit runs, with the installed paths in the place."""
        with open(os.path.join(ROOT, "systemd/biomatchd-backup.service"), encoding="utf-8") as unit:
            command = next(line for line in unit if line.startswith("ExecStart=")).strip().partition("=")[2]
        for installed, here in (("/usr/local/libexec", os.path.dirname(self.path("libexec/x"))),
                                ("/var/lib/biomatchd-backup", self.path("backups")),
                                ("/etc/biomatchd/backup.pub", self.path(key)), (" 14", " 2")):
            self.assertIn(installed, command)
            command = command.replace(installed, here)
        return run(*command.split(), "--config", self.path("biomatchd.yaml"))

    def test_timer(self):
        for name in ("libexec", "sbin", "backups"):
            os.mkdir(self.path(name), 0o700)
        shutil.copy(os.path.join(ROOT, "systemd/biomatchd-backup"), self.path("libexec"))
        os.symlink(os.path.abspath(BUILD + "/biomatchd"), self.path("sbin/biomatchd"))
        made = []
        for n in range(3):
            self.create("g%d" % n)
            done = self.timer_runs()
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            made += sorted(set(os.listdir(self.path("backups"))) - set(made))
            self.assertEqual(sorted(os.listdir(self.path("backups"))), made[-2:])
        # What fails, or was killed, leaves nothing of its own and takes nothing away.
        with open(self.path("backups/unfinished"), "w", encoding="utf-8"):
            pass
        self.assertNotEqual(self.timer_runs("backup.key").returncode, 0)
        self.assertNotEqual(self.timer_runs("missing").returncode, 0)
        self.assertEqual(sorted(os.listdir(self.path("backups"))), made[-2:])
        self.assertEqual(self.daemon.stop(), 0)
        shutil.rmtree(self.path("store"))
        os.mkdir(self.path("store"), 0o700)
        self.good("--restore=" + self.path("backups/" + made[-1]), "--key=" + self.path("backup.key"))
        self.assertIn("g2", self.galleries())

    def test_backup_beside_writes(self):
        """Every backup taken in the middle of writes is a store as it was at one moment."""
        ended, failed = threading.Event(), []

        def write():
            try:
                for n in range(10000):
                    if ended.is_set():
                        return
                    self.create("g%d" % n)
            except Exception as error:  # pylint: disable=broad-except
                failed.append(error)

        self.assertEqual(self.lane.enrol("ada", picture(self.ada[0])).outcome, 1)
        self.create("before")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for n in range(3):
                self.backup("backup-%d" % n)
                self.good("--fsck")
        finally:
            ended.set()
            writer.join()
        self.assertEqual(failed, [])
        self.assertEqual(self.daemon.stop(), 0)
        with open(self.path("backup-2"), "rb") as file:
            sealed = file.read()
        self.assertNotIn(b"before", sealed)
        self.assertEqual(os.stat(self.path("backup-2")).st_mode & 0o777, 0o600)
        for n in range(3):
            shutil.rmtree(self.path("store"))
            os.mkdir(self.path("store"), 0o700)
            self.good("--restore=" + self.path("backup-%d" % n), "--key=" + self.path("backup.key"))
            self.assertEqual(os.listdir(self.path("store")), ["data.mdb"])
            self.good("--fsck")
            found = self.galleries()
            self.assertIn("before", found)
            self.assertIn("people", found)

    def test_refusals(self):
        public, private = "--key=" + self.path("backup.pub"), "--key=" + self.path("backup.key")
        file = self.path("backup")
        self.backup("backup")
        self.bad(74, "File exists", "--backup=" + file, public)
        self.bad(78, "no X25519 public key", "--backup=" + self.path("new"), private)
        self.bad(74, "No such file", "--backup=" + self.path("new"), "--key=" + self.path("missing"))
        self.assertFalse(os.path.exists(self.path("new")))
        self.bad(74, "File exists", "--restore=" + file, private)
        self.bad(64, "--key", "--backup=" + file)
        self.bad(64, "one thing", "--backup=" + file, "--fsck", public)
        self.assertEqual(self.daemon.stop(), 0)
        shutil.rmtree(self.path("store"))
        self.bad(78, "store.path", "--fsck")
        os.mkdir(self.path("store"), 0o700)
        self.bad(74, "sealed to another key", "--restore=" + file, "--key=" + self.path("other.key"))
        self.bad(78, "no X25519 private key", "--restore=" + file, public)
        with open(file, "rb") as sealed:
            data = sealed.read()
        for damaged in (data[:-1], data[:70], data[:4096] + bytes([data[4096] ^ 1]) + data[4097:], b""):
            with open(self.path("damaged"), "wb") as out:
                out.write(damaged)
            self.bad(74, "the backup is damaged", "--restore=" + self.path("damaged"), private)
        os.rename(self.path("store.key"), self.path("kept.key"))
        self.cert("key", self.path("store.key"))
        self.bad(78, "another key", "--restore=" + file, private)
        os.rename(self.path("kept.key"), self.path("store.key"))
        self.assertEqual(os.listdir(self.path("store")), [])
        self.good("--restore=" + file, private)

    def test_fsck_judges_signatures(self):
        """A checkpoint that no trusted key has signed is a fault where keys are named; an old key may be named beside the new."""
        self.office.call(ADMIN + "CreateAuditCheckpoint", admin.CreateAuditCheckpointRequest(
            purpose="office", request_id="signed"), admin.CreateAuditCheckpointResponse)
        self.assertEqual(self.daemon.stop(), 0)
        self.cert("audit", self.path("stranger"))
        ours, stranger = ("--public-key=" + self.path(name + ".pem") for name in ("audit", "stranger"))
        self.assertIn("signatures judged", self.good("--fsck", ours))
        self.good("--fsck", stranger, ours)
        done = self.biomatchd("--fsck", stranger)
        self.assertEqual(done.returncode, 74, done.stdout + done.stderr)
        self.assertIn("no trusted key has signed", done.stdout)
        self.bad(64, "for --fsck", ours)
        done = self.biomatchd("--fsck", "--public-key=" + self.path("backup.pub"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Ed25519", done.stderr)

    def test_fsck_finds_damage(self):
        """A flipped bit in a template, a subject or an audit entry is told."""
        self.assertEqual(self.lane.enrol("ada", picture(self.ada[0]), site="a-site-to-be-damaged").outcome, 1)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIn("good", self.good("--fsck"))
        path = self.path("store/data.mdb")
        with open(path, "rb") as file:
            data = file.read()
        for mark, fault in ((b"a-site-to-be-damaged", "subject record"), (b"AdminService/CreateGallery", "audit log")):
            self.assertIn(mark, data)
            with open(path, "wb") as file:
                file.write(data.replace(mark, mark[:-1] + b"X"))
            done = self.biomatchd("--fsck")
            self.assertEqual(done.returncode, 74, done.stdout + done.stderr)
            self.assertIn(fault, done.stdout)
            self.bad(74, "checksum", "--backup=" + self.path("new"), "--key=" + self.path("backup.pub"))
            self.assertFalse(os.path.exists(self.path("new")))


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
