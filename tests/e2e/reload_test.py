#!/usr/bin/python3 -B
"""Policy, server certificate, revocation list and log level change under running calls, over and over, and no call fails."""
import os
import ssl
import socket
import threading
import unittest

import grpc

from harness import WAIT, wait_for
from messages import common
from revocable import Revocable
from served import Client, Served

ROTATIONS = int(os.environ.get("RELOADS", "20"))
# Growth that is the allocator's and not a leak's.
SLACK_KIB = 8 << 10


class ReloadTest(Served, Revocable):
    def rotate(self, n):
        """A new one of everything, each put in place at once."""
        self.write("policy.new", self.policy.replace("version: test", "version: v%d" % n))
        os.rename(self.path("policy.new"), self.path("policy.yaml"))
        self.cert("server", self.path("pki/ca"), self.path("pki/next"), "localhost", "127.0.0.1")
        for kind in ("key", "pem"):
            os.rename(self.path("pki/next." + kind), self.path("pki/server." + kind))
        self.write("config.new", self.configuration("log:\n  level: %s\n" % ("debug" if n % 2 else "info")))
        os.rename(self.path("config.new"), self.path("biomatchd.yaml"))
        self.publish()
        self.daemon.process.send_signal(1)
        wait_for(lambda: '"version":"v%d"' % n in self.daemon.log(), "policy %d" % n)
        wait_for(lambda: self.served() == self.serial("pki/server.pem"), "certificate %d" % n)

    def serial(self, name):
        with open(self.path(name), encoding="ascii") as file:
            return ssl.PEM_cert_to_DER_cert(file.read())

    def served(self):
        """The certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=self.path("pki/ca.pem"))
        context.load_cert_chain(self.path("pki/lane.pem"), self.path("pki/lane.key"))
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", self.daemon.port), WAIT) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                return tls.getpeercert(True)

    def verify_until(self, over, asked, failures, fresh):
        """With one connection, or a fresh one for each call."""
        client = Client(self, self.daemon.port, "lane")
        while not over.is_set():
            try:
                if fresh:
                    client.channel.close()
                    client = Client(self, self.daemon.port, "lane")
                client.verify("ada", self.probe)
                asked[fresh] += 1
            except grpc.RpcError as error:
                failures.append(error)
        client.channel.close()

    def held(self):
        pid = self.daemon.process.pid
        with open("/proc/%d/status" % pid, encoding="ascii") as file:
            memory = next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
        return memory, len(os.listdir("/proc/%d/fd" % pid))

    def test_rotations(self):
        self.probe = common.Probe(template=self.lane.extract(self.ada[0]))
        self.lane.enrol("ada", self.probe)
        over, asked, failures = threading.Event(), [0, 0], []
        threads = [threading.Thread(target=self.verify_until, args=(over, asked, failures, fresh)) for fresh in (0, 0, 1)]
        for thread in threads:
            thread.start()
        try:
            warm = min(10, ROTATIONS // 2)
            for n in range(1, warm + 1):
                self.rotate(n)
            memory, descriptors = self.held()
            for n in range(warm + 1, ROTATIONS + 1):
                self.rotate(n)
            after = self.held()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(asked), ROTATIONS)
        self.assertLess(after[0], memory + SLACK_KIB)
        self.assertLessEqual(abs(after[1] - descriptors), 3, "descriptors beside those of calls under way")
        for event in ("policy_refused", "certificates_refused", "configuration_refused"):
            self.assertEqual(self.daemon.events(event), 0)
        print("%d rotations under %d calls on open and %d on fresh connections, none failed; memory %+d KiB, descriptors %+d"
              % (ROTATIONS, asked[0], asked[1], after[0] - memory, after[1] - descriptors))


if __name__ == "__main__":
    unittest.main(verbosity=2)
