#!/usr/bin/python3 -B
"""A certificate that is taken back is out, while its owner is connected, without a signal to the daemon."""
import os
import signal
import time
import unittest

import grpc

from harness import BUILD, ROOT, run, wait_for
from revocable import Revocable
from served import Client, Served, told

# What the daemon promises, in seconds.
PROMISED = 60


class RevocationTest(Revocable, Served):
    def setUp(self):
        super().setUp()
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/stolen"), "biomatch://example/hall/lane/2")
        self.stolen = Client(self, self.daemon.port, "stolen")

    def is_in(self, client):
        try:
            client.verify("nobody", None, timeout=10)
        except grpc.RpcError as error:
            # The call got as far as its fields, or nowhere.
            return told(error)[0] == "FIELD_MISSING"
        return True

    def test_revoked_while_connected(self):
        self.assertTrue(self.is_in(self.stolen))
        watch = self.stolen.channel.unary_stream("/grpc.health.v1.Health/Watch", response_deserializer=None,
                                                 request_serializer=lambda m: m)(b"")
        next(watch)
        self.revoke("stolen")
        began = time.monotonic()
        self.publish()
        with self.assertRaises(grpc.RpcError):  # the open stream ends
            for _ in watch:
                pass
        self.assertFalse(self.is_in(self.stolen))
        self.assertLess(time.monotonic() - began, PROMISED)
        self.assertTrue(self.is_in(self.lane))
        self.assertEqual(self.daemon.events("peer_no_longer_trusted"), 1)
        self.assertEqual(self.daemon.metrics()["biomatch_connections_revoked_total"], 1)

    def test_broken_list(self):
        self.revoke("stolen")
        self.publish()
        wait_for(lambda: not self.is_in(self.stolen), "the revocation")
        with open(self.path("pki/crl.pem"), encoding="utf-8") as file:
            whole = file.read()
        self.write("pki/crl.pem", whole[:len(whole) // 2])
        wait_for(lambda: self.daemon.events("certificates_refused"), "the refusal of a broken list")
        self.assertEqual(self.daemon.metrics()['biomatch_reload_refused{what="certificates"}'], 1)
        self.assertFalse(self.is_in(self.stolen))
        self.assertTrue(self.is_in(self.lane))
        checked = run(BUILD + "/biomatchd", "--check-config", "--config", self.path("biomatchd.yaml"))
        self.assertEqual(checked.returncode, 78)
        self.assertIn("crl.pem: no whole revocation list", checked.stderr)
        self.publish()
        wait_for(lambda: not self.daemon.metrics()['biomatch_reload_refused{what="certificates"}'], "the whole list")
        self.assertFalse(self.is_in(self.stolen))
        os.unlink(self.path("pki/crl.pem"))
        wait_for(lambda: self.daemon.events("certificates_refused") == 2, "the refusal of a missing list")
        self.assertFalse(self.is_in(self.stolen))
        self.assertTrue(self.is_in(self.lane))

    def test_list_out_of_date(self):
        self.revoke("stolen")
        self.publish("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")
        wait_for(lambda: not self.is_in(self.stolen), "the revocation")
        self.assertTrue(self.is_in(self.lane))
        self.assertLess(self.daemon.metrics()["biomatch_crl_next_update_seconds"], time.time())

    def test_signal_takes_it_too(self):
        self.revoke("stolen")
        self.publish()
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not self.is_in(self.stolen), "the revocation")
        self.assertTrue(self.is_in(self.lane))


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
