#!/usr/bin/python3 -B
"""A disk that fails under the daemon: what it says, what it keeps, what it still does."""
import os
import signal
import unittest

import grpc

from harness import BUILD, ROOT, run, wait_for
from messages import admin
from served import ADMIN, Client, Served, told


class FaultsTest(Served):
    """Every start of the daemon is under the shim, which fails a call while the file "fault" is there."""

    fails = "fdatasync:EIO"

    def start(self, **options):
        return super().start(environment={
            "LD_PRELOAD": os.path.abspath(BUILD + "/tests/crash/shim.so"),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
            "SHIM_FAIL": self.fails, "SHIM_WHEN": self.path("fault")}, **options)

    def create(self, name):
        self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id=name, name=name), admin.CreateGalleryResponse)

    def names(self):
        return sorted(g.name for g in self.office.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(
            purpose="office"), admin.ListGalleriesResponse).galleries)

    def restart(self):
        self.daemon.stop(signal.SIGTERM)
        self.daemon = self.start()
        self.office = Client(self, self.daemon.port, "admin")

    def fail_once(self, status, reason):
        """One write fails with this reason; after it nothing is written, acknowledged or tried again."""
        self.create("kept")
        self.assertEqual(self.ask(self.daemon, "health"), 0)
        self.write("fault", "")
        self.refused(status, reason, "", self.create, "lost")
        os.unlink(self.path("fault"))
        for name in ("lost", "later", "kept"):
            self.refused(grpc.StatusCode.UNAVAILABLE, "STORE_READ_ONLY", "", self.create, name)
        self.assertEqual(self.ask(self.daemon, "health"), 4, "a store that cannot be written is not healthy")
        self.assertEqual(self.daemon.events("store_read_only"), 1)
        self.restart()
        self.assertEqual(self.ask(self.daemon, "health"), 0)
        self.assertIn("kept", self.names())
        self.create("later")
        self.assertIn("later", self.names())

    def test_fault(self):
        self.fail_once(grpc.StatusCode.UNAVAILABLE, "STORE_IO")


class FailedWriteTest(FaultsTest):
    fails = "pwrite:EIO"


class QuotaTest(FaultsTest):
    fails = "pwrite:EDQUOT"

    def test_fault(self):
        self.fail_once(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")


class DiskFullTest(FaultsTest):
    """The store is on a small file system of its own, which fills up."""

    fails = "none"

    def start(self, **options):
        if not os.path.ismount(self.path("store")):
            mounted = run("mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", self.path("store"))
            if mounted.returncode:
                self.skipTest("a file system cannot be mounted here: " + mounted.stderr.strip())
            self.addCleanup(run, "umount", self.path("store"))
        return super().start(**options)

    def test_fault(self):
        self.create("kept")
        with open(self.path("store/ballast"), "wb", buffering=0) as ballast:
            with self.assertRaises(OSError):
                while True:
                    ballast.write(bytes(4096))
        for n in range(1000):
            try:
                self.create("g%d" % n)
            except grpc.RpcError as error:
                self.assertEqual(told(error), ("STORE_FULL", ""))
                break
        else:
            self.fail("the disk is full and takes everything")
        self.refused(grpc.StatusCode.UNAVAILABLE, "STORE_READ_ONLY", "", self.create, "more")
        self.assertEqual(self.ask(self.daemon, "health"), 4)
        os.unlink(self.path("store/ballast"))
        self.restart()
        self.assertEqual(self.names(), sorted(["kept", "people"] + ["g%d" % i for i in range(n)]))
        self.create("g%d" % n)


class MapTest(FaultsTest):
    fails = "none"

    def test_fault(self):
        """No fault: the map grows while calls go on."""
        self.write("biomatchd.yaml", self.configuration().replace("1GiB", "2GiB"))
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.daemon.events("map_size_taken"), "the larger map")
        self.assertIn('"bytes":"2147483648"', self.daemon.log())
        self.create("after")
        self.write("biomatchd.yaml", "nonsense: 1\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.daemon.events("configuration_refused"), "the refusal")
        self.assertIn("after", self.names())


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
