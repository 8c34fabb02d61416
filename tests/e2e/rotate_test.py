#!/usr/bin/python3 -B
"""A gallery moves to another key while it is used, through kills, and answers as before."""
import concurrent.futures
import itertools
import os
import random
import signal
import threading
import unittest

import grpc

from harness import BUILD, ROOT, run, wait_for
from messages import admin, common, enrolment
from served import ADMIN, ENROLMENT, Client, Served

SUBJECTS, ENCOUNTERS = 60, 50
# Of a template that was turned from one rotation into another, in float32.
SAME = 2e-6


class RotateTest(Served):
    def setUp(self):
        super().setUp()
        pictures = [self.ada[0], *self.strangers]
        self.templates = [common.Probe(template=self.lane.extract(picture)) for picture in pictures]
        self.probe = common.Probe(template=self.lane.extract(self.ada[1]))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(self.enrol, itertools.product(range(SUBJECTS), range(ENCOUNTERS))))
        self.before = [self.score(self.lane, i) for i in range(SUBJECTS)]

    def enrol(self, which):
        subject, encounter = which
        self.lane.enrol("s%d" % subject, self.templates[subject % len(self.templates)], "%d-%d" % which,
                        encounter_id="e%d" % encounter)

    def score(self, client, subject):
        return client.verify("s%d" % subject, self.probe).raw.score

    def connected(self):
        return ("--purpose=office", "--target=127.0.0.1:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))

    def rotate(self):
        return run(BUILD + "/biomatch", "key", "rotate", "people", *self.connected())

    def gallery(self):
        return self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(
            purpose="office", name="people"), admin.GetGalleryResponse).gallery

    def add_key(self):
        events = self.daemon.events("keys_taken")
        done = run(BUILD + "/biomatch", "key", "add", self.path("store.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.daemon.events("keys_taken") > events, "the new key")

    def load(self, seed, stop, wrong):
        """Verifies until told to stop; a decision may be missing, but never another one. Comes and goes, too."""
        chooser, client, n = random.Random(seed), Client(self, self.daemon.port, "lane"), 0
        while not stop.is_set():
            subject = chooser.randrange(SUBJECTS)
            try:
                if abs(self.score(client, subject) - self.before[subject]) > SAME:
                    wrong.append(subject)
                name, n = "x%d-%d" % (seed, n), n + 1
                client.enrol(name, self.probe)
                if abs(client.verify(name, self.probe).raw.score - 1) > SAME:
                    wrong.append(name)
                client.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
                    purpose="gate", request_id=name + "-gone", gallery="people", subject_id=name),
                    enrolment.DeleteSubjectResponse)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    wrong.append(error)
                return

    def kill(self):
        self.daemon.stop(signal.SIGKILL)
        os.unlink(self.daemon.port_file)
        self.daemon = self.start()
        self.office, self.lane = Client(self, self.daemon.port, "admin"), Client(self, self.daemon.port, "lane")

    def under_load(self, work):
        stop, wrong = threading.Event(), []
        threads = [threading.Thread(target=self.load, args=(seed, stop, wrong)) for seed in range(self.seed, self.seed + 3)]
        self.seed += 3
        for thread in threads:
            thread.start()
        try:
            return work()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    seed = 0

    def kill_in_the_middle(self):
        """Kills the daemon when it is further than before; gives what was left to do then."""
        left = self.gallery().references_to_reencode
        now = wait_for(lambda: [n for n in [self.gallery().references_to_reencode] if n < left or not n], "progress")[0]
        self.kill()
        return now

    def test_rotate(self):
        done = self.rotate()
        self.assertIn("KEY_NEWEST", done.stdout + done.stderr)
        self.add_key()
        done = self.rotate()
        self.assertEqual(done.returncode, 0, done.stderr)
        kills, left = 0, self.gallery().references_to_reencode
        self.assertEqual(self.gallery().key_generation, 2)
        while left:
            left = self.under_load(self.kill_in_the_middle)
            kills += left > 0
            self.assertEqual(self.gallery().key_generation, 2)
            for subject in range(0, SUBJECTS, 7):
                self.assertAlmostEqual(self.score(self.lane, subject), self.before[subject], delta=SAME)
        self.assertGreater(kills, 0)
        for subject, score in enumerate(self.before):
            self.assertAlmostEqual(self.score(self.lane, subject), score, delta=SAME)
        self.assertEqual(self.daemon.metrics()["biomatch_references_to_reencode"], 0)
        self.assertIn("KEY_NEWEST", self.rotate().stderr)
        self.check_log_and_store()
        print("%d references moved, killed %d times on the way" % (SUBJECTS * ENCOUNTERS, kills))

    def check_log_and_store(self):
        export = self.path("export")
        self.assertEqual(run(BUILD + "/biomatch", "audit", "export", export, *self.connected()).returncode, 0)
        shown = run(BUILD + "/biomatch", "audit", "show", export).stdout
        self.assertIn("RotateGallery", shown)
        self.assertEqual(self.daemon.stop(), 0)
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_lost_key(self):
        """A daemon whose key file lost the generation that a gallery is under does not start."""
        self.add_key()
        self.assertEqual(self.rotate().returncode, 0)
        self.assertEqual(self.daemon.stop(), 0)
        with open(self.path("store.key"), "r+b") as file:
            file.truncate(32)
        with self.assertRaisesRegex(AssertionError, "another key"):
            self.start()


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
