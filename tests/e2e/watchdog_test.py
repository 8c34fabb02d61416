#!/usr/bin/python3 -B
"""Threads that hang: health says which, the watchdog hears nothing more, and nothing acknowledged is lost."""
import contextlib
import json
import os
import signal
import socket
import unittest

import grpc

from harness import BUILD, ROOT, run, wait_for
from messages import admin, common, matching
from served import ADMIN, MATCHING, Client, Served, picture

SILENCE = 2.5  # seconds; the watchdog is told each second


class Watched(Served):
    """A daemon under the shim that notifies a socket as it does systemd's."""

    shim = {}

    def start(self, **options):
        if not os.path.exists(self.path("notify")):
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.notify.bind(self.path("notify"))
            self.addCleanup(self.notify.close)
        return super().start(environment={
            "NOTIFY_SOCKET": self.path("notify"), "LD_PRELOAD": os.path.abspath(BUILD + "/tests/crash/shim.so"),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
            **{name: self.path(value) if name != "SHIM_FAIL" else value for name, value in self.shim.items()}}, **options)

    def watchdog_told(self, seconds):
        """Whether it is, in that time from now on."""
        self.notify.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notify.recv(4096)
        self.notify.settimeout(seconds)
        try:
            while b"WATCHDOG=1" not in self.notify.recv(4096):
                pass
        except TimeoutError:
            return False
        return True

    def ready(self):
        status, body = self.daemon.page("/readyz")
        answer = json.loads(body)
        self.assertEqual((status, answer["ready"]), (503, False) if answer["reasons"] else (200, True))
        return sorted(answer["reasons"])

    def check_hanging(self, reasons):
        """Readiness says these and no others, each is logged, and the watchdog is told nothing."""
        wait_for(lambda: self.ready() == sorted(reasons), "the daemon to say " + " ".join(reasons))
        wait_for(lambda: self.hanging() == len(reasons), "the log to say so")
        self.assertFalse(self.watchdog_told(SILENCE))

    def hanging(self):
        return self.daemon.events("part_hangs") - self.daemon.events("part_moves")


class ThreadsTest(Watched):
    shim = {"SHIM_HANG": "hang"}

    def hang(self, *lines):
        self.write("hang.new", "".join(line + "\n" for line in lines))
        os.rename(self.path("hang.new"), self.path("hang"))

    def let_go(self):
        os.unlink(self.path("hang"))
        wait_for(lambda: self.ready() == [] and self.hanging() == 0, "all to move again")
        self.assertTrue(self.watchdog_told(10))
        self.assertEqual(self.ask(self.daemon, "health"), 0)

    def test_threads(self):
        self.assertTrue(self.watchdog_told(10))
        self.lane.enrol("ada", picture(self.ada[0]))
        template = self.lane.extract(self.ada[1])
        self.hang("begin:scan", "wait:face", "wait:changes")
        # The search begins, and then hangs past its deadline.
        with self.assertRaises(grpc.RpcError) as caught:
            self.identify_in(1, template)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.check_hanging(["CHANGES_STALLED", "FACE_STALLED", "SCAN_STALLED"])
        self.assertEqual(self.ask(self.daemon, "health"), 4)
        late = self.daemon.metrics()
        self.assertGreaterEqual(late['biomatch_late_seconds{part="scan"}'], 5)
        self.assertEqual(late['biomatch_late_seconds{part="read"}'], 0)
        self.let_go()
        self.hang("turn:net", "wait:read", "wait:scan", "wait:writer")
        self.check_hanging(["NETWORK_STALLED", "READ_STALLED", "SCAN_STALLED", "WRITER_STALLED"])
        self.let_go()
        self.assertEqual(self.identify_in(30, template).candidates[0].subject_id, "ada")

    def identify_in(self, seconds, template):
        return self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose="gate", galleries=["people"], probe=common.Probe(template=template)), matching.IdentifyResponse, seconds)


class DiskTest(Watched):
    shim = {"SHIM_FAIL": "fdatasync:HANG", "SHIM_WHEN": "fault"}

    def create(self, name):
        """Asks for a gallery; the call under way."""
        return self.office.method(ADMIN + "CreateGallery", admin.CreateGalleryResponse).future(
            admin.CreateGalleryRequest(purpose="office", request_id=name, name=name), timeout=120)

    def test_disk(self):
        kept = {"people", *("kept-%d" % i for i in range(20))}
        for name in sorted(kept - {"people"}):
            self.create(name).result()
        self.assertEqual(self.ready(), [])
        self.write("fault", "")
        pending = {name: self.create(name) for name in ("open-%d" % i for i in range(8))}
        self.check_hanging(["WRITER_STALLED"])
        self.assertEqual(self.ask(self.daemon, "health"), 4)
        self.assertFalse(any(call.done() for call in pending.values()), "acknowledged, and not on disk")
        self.daemon.stop(signal.SIGKILL)
        for call in pending.values():
            self.assertEqual(call.exception().code(), grpc.StatusCode.UNAVAILABLE)
        os.unlink(self.path("fault"))
        os.unlink(self.daemon.port_file)
        self.daemon = self.start()
        self.office = Client(self, self.daemon.port, "admin")
        names = {gallery.name for gallery in self.office.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(
            purpose="office"), admin.ListGalleriesResponse).galleries}
        self.assertEqual(names - set(pending), kept)
        for name in pending:
            self.create(name).result()
        self.assertEqual(self.ready(), [])
        self.assertEqual(self.daemon.stop(), 0)
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
