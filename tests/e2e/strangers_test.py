#!/usr/bin/python3 -B
"""Crowds, strangers and their pictures: who has no place here gets none, and takes nobody else's."""
import contextlib
import glob
import os
import re
import socket
import ssl
import time
import unittest

import grpc

from http2 import DATA, END_HEADERS, END_STREAM, HEADERS, HEALTH, Peer, context, frame, message, request
from harness import ROOT, run, wait_for
from attacks import VERIFY
from hostile import EXHAUSTED, LATE, LIFE, SANITIZED, TIMES, Hostile
from messages import analysis, common, health
from served import ANALYSIS, Client, read, told


class Crowds(Hostile):
    """Many at once."""

    limits = TIMES.replace("handshake: 1s", "handshake: 2s") + "  max_connections: 40\n"

    def test_strangers_do_not_lock_out(self):
        """Those without a certificate hold half the places at most, and not for long."""
        with contextlib.ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(socket.create_connection(("127.0.0.1", self.daemon.port)))
            self.check()
            late = Client(self, self.daemon.port, "admin")
            reply = late.call(HEALTH, health.HealthCheckRequest(), health.HealthCheckResponse, timeout=20)
            self.assertEqual(reply.status, 1)

    def test_failed_handshakes_do_not_flood_the_log(self):
        before = self.daemon.metrics()["biomatch_tls_handshake_failures_total"]
        for _ in range(300):
            self.fail_a_handshake()
        self.assertEqual(self.daemon.metrics()["biomatch_tls_handshake_failures_total"], before + 300)
        self.assertLess(self.daemon.events("handshake_failed"), 250)
        wait_for(lambda: self.fail_a_handshake() or re.search(r'"unlogged":"[1-9]', self.daemon.log()),
                 "the number of lines not written")

    def fail_a_handshake(self):
        with socket.create_connection(("127.0.0.1", self.daemon.port)) as raw, contextlib.suppress(OSError):
            raw.sendall(b"nonsense, not a ClientHello")
            raw.settimeout(LIFE)
            while raw.recv(100):
                pass


class Uploads(Hostile):
    limits = ("  max_message: 1MiB\n  max_connection_bytes: 2MiB\n  max_total_bytes: 8MiB\n  request: 3s\n")

    def test_total_memory(self):
        """Half-sent messages of many connections share one cap."""
        peers = [self.peer() for _ in range(30)]
        with self.cheap(4):
            for peer in peers:
                for stream in (1, 3):
                    peer.send(frame(HEADERS, END_HEADERS, stream, request(VERIFY)) + frame(
                        DATA, 0, stream, message(b"", length=1000000)))
                    for _ in range(4):
                        peer.send(frame(DATA, 0, stream, bytes(16384)))
            statuses = {peer.status(1) for peer in peers}
        self.assertLessEqual(statuses, {EXHAUSTED, LATE})


class Descriptors(Hostile):
    limits = TIMES

    def start(self, **options):
        return super().start(prefix=("prlimit", "--nofile=64"), **options)

    def test_out_of_descriptors(self):
        with contextlib.ExitStack() as crowd, self.cheap():
            for _ in range(80):
                crowd.enter_context(socket.create_connection(("127.0.0.1", self.daemon.port)))
            wait_for(lambda: self.daemon.events("out_of_descriptors"), "the last descriptor")
            time_used, started = self.busy(), time.monotonic()
            self.check()
            wait_for(lambda: time.monotonic() - started > 1, "a second")
            self.assertLess(self.busy() - time_used, 0.3 if not SANITIZED else 3)
        late = Client(self, self.daemon.port, "admin")
        late.call(HEALTH, health.HealthCheckRequest(), health.HealthCheckResponse, timeout=20)


class Strangers(Hostile):
    """TLS peers that are not who they should be."""

    def make(self, name, extensions, ca="pki/ca", days="1", start=None):
        self.write(name + ".ext", extensions)
        for command in (("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
                         "-keyout", self.path("pki/%s.key" % name), "-out", self.path(name + ".csr")),
                        ("x509", "-req", "-in", self.path(name + ".csr"), "-days", days,
                         "-CA", self.path(ca + ".pem"), "-CAkey", self.path(ca + ".key"), "-CAcreateserial",
                         "-extfile", self.path(name + ".ext"), "-out", self.path("pki/%s.pem" % name))):
            done = run(*(("faketime", start) if start else ()), "openssl", *command)
            self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, tls):
        """No call of theirs is ever answered."""
        started = time.monotonic()
        try:
            peer = Peer(self.daemon.port, tls)
        except (OSError, ssl.SSLError):
            return
        with contextlib.closing(peer):
            peer.send(frame(HEADERS, END_HEADERS, 1, request()) + frame(DATA, END_STREAM, 1, message()))
            self.assertEqual(peer.status(1), "gone")
        self.assertLess(time.monotonic() - started, LIFE)

    def test_certificates(self):
        uri = "subjectAltName=URI:biomatch://example/hall/lane/7\n"
        client = uri + "extendedKeyUsage=clientAuth\n"
        self.cert("ca", self.path("pki/other"))
        self.make("foreign", client, ca="pki/other")
        self.make("expired", client, start="2020-01-01 00:00:00")
        self.make("early", client, start="+30 days")
        self.make("server_only", uri + "extendedKeyUsage=serverAuth\n")
        self.make("leaf", client + "basicConstraints=critical,CA:FALSE\n")
        self.make("below_leaf", client, ca="pki/leaf")
        for name in ("foreign", "expired", "early", "server_only", "below_leaf"):
            with self.subTest(name):
                self.refused(self.tls(name))
        with self.subTest("none"):
            self.refused(context(self.path("pki/ca.pem")))

    def test_protocols(self):
        old = self.tls()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        other = self.tls()
        other.set_alpn_protocols(["http/1.1"])
        for name, tls in (("TLS 1.2", old), ("http/1.1", other)):
            with self.subTest(name):
                self.refused(tls)

    def test_no_tls(self):
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(70000),
                     b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x80\x2e\x01\x00\x02", b"\x15\x03\x03\x00\x02\x02\x28"):
            with self.subTest(junk[:12]), socket.create_connection(("127.0.0.1", self.daemon.port)) as raw:
                raw.settimeout(LIFE)
                with contextlib.suppress(ConnectionError):
                    raw.sendall(junk)
                    while raw.recv(1000):
                        pass

    def test_names(self):
        """A good certificate that names no endpoint of ours may connect, and do nothing."""
        names = {"nameless": "DNS:x", "two": "URI:biomatch://example/hall/lane/1,URI:biomatch://example/hall/lane/2",
                 "elsewhere": "URI:biomatch://other/hall/lane/1", "longer": "URI:biomatch://example/hall/lane/1/2",
                 "space": "URI:biomatch://example/hall/la ne/1"}
        for name, value in names.items():
            self.make(name, "subjectAltName=%s\nextendedKeyUsage=clientAuth\n" % value)
            with self.subTest(name), self.assertRaises(grpc.RpcError) as caught:
                Client(self, self.daemon.port, name).verify("s", common.Probe(template=common.Template(data=b"t")))
            self.assertIn(caught.exception.code(),
                          (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED))


class Pictures(Hostile):
    """Every picture that the fuzzers ever found worth keeping, and some that lie in other ways."""

    limits = ""

    def test_pictures(self):
        files = [read(path) for kind in ("jpeg", "png", "jp2")
                 for path in sorted(glob.glob(ROOT + "/tests/fuzz/corpus/%s/*" % kind))]
        ada = self.ada[0]
        files += [ada[:n] for n in range(1, len(ada), len(ada) // 20)]
        files += [ada + b"PK\x03\x04" + bytes(1000), b"GIF89a" + ada, b"%PDF-1.4\n" + ada, ada[:2] + b"\xff\xe1\xff\xff" + ada[2:]]
        for i, data in enumerate(files):
            with self.subTest(i):
                try:
                    reply = self.lane.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
                        purpose="gate", image=common.Image(data=data)), analysis.AnalyseResponse)
                    self.assertTrue(reply.usable or reply.reason)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
                    self.assertTrue(told(error)[0].startswith("IMAGE_"), told(error))
        self.assertEqual(self.daemon.events("face_worker_lost"), 0)

if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
