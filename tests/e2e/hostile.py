"""A daemon under attack: an honest client that must notice nothing, and what an attack may cost."""
import contextlib
import os
import re
import threading
import time

import grpc

from http2 import HEALTH, Peer, context
from harness import BUILD, wait_for
from messages import health
from served import Served

# What one hostile connection may cost: memory in bytes, time of a core in seconds (5 % of 5 s), and its life.
MEMORY, CPU, LIFE = 8 << 20, 0.25, 5
SANITIZED = "release" not in BUILD
# grpc-status
OK, INTERNAL, EXHAUSTED, UNIMPLEMENTED, LATE = "0", "13", "8", "12", "4"
TIMES = "  handshake: 1s\n  idle: 4s\n  request: 1s\n  stall: 1s\n"


class Hostile(Served):
    """An honest client calls all the while; it must never fail."""

    limits = TIMES

    def configuration(self, more=""):
        return super().configuration(more).replace("server:\n", "server:\n" + self.limits)

    def setUp(self):
        super().setUp()
        self.check()
        self.stopping, self.failures, self.calls = threading.Event(), [], 0
        honest = threading.Thread(target=self.be_honest)
        honest.start()
        self.addCleanup(honest.join)
        self.addCleanup(self.stopping.set)

    def tearDown(self):
        wait_for(lambda: self.calls or self.failures, "an honest call")
        self.stopping.set()
        self.check()
        self.assertEqual(self.failures, [])
        self.assertEqual(self.daemon.stop(), 0, self.daemon.log())

    def check(self):
        reply = self.lane.call(HEALTH, health.HealthCheckRequest(), health.HealthCheckResponse, timeout=10)
        self.assertEqual(reply.status, 1)

    def be_honest(self):
        while not self.stopping.wait(0.02):
            try:
                self.check()
                self.calls += 1
            except (grpc.RpcError, AssertionError) as error:
                self.failures.append(repr(error))

    def tls(self, name="lane"):
        return context(self.path("pki/ca.pem"), self.path("pki/%s.pem" % name), self.path("pki/%s.key" % name))

    def peer(self, **options):
        peer = Peer(self.daemon.port, self.tls(), **options)
        self.addCleanup(peer.close)
        return peer

    def resident(self):
        with open("/proc/%d/status" % self.daemon.process.pid, encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) << 10

    def busy(self):
        with open("/proc/%d/stat" % self.daemon.process.pid, encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def cheap(self, connections=1):
        """What happens inside costs the daemon no more than so many hostile connections may."""
        memory, time_used, started = self.resident(), self.busy(), time.monotonic()
        yield
        if not SANITIZED:
            self.assertLess(self.resident() - memory, connections * MEMORY)
            share = CPU * max(connections, (time.monotonic() - started) / LIFE)
            self.assertLess(self.busy() - time_used, share + 0.1)
