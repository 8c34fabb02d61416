#!/usr/bin/python3 -B
"""kill -9 at random moments under load: nothing acknowledged is lost, and what was not can be asked again."""
import os
import random
import signal
import threading
import time
import unittest

import grpc

from harness import BUILD, ROOT, run
from messages import admin
from served import ADMIN, Client, Served

CYCLES, THREADS = 50, 4


class KillTest(Served):
    def setUp(self):
        super().setUp()
        self.lock = threading.Lock()
        self.present, self.open_requests = {"people"}, {}
        self.number = 0

    def next_request(self, chooser):
        """A creation of a new name, or the deletion of one that is there and that nobody else has in hand."""
        with self.lock:
            self.number += 1
            mine = sorted(self.present - {"people"} - {name for _, name in self.open_requests.values()})
            delete = mine and chooser.random() < 0.4
            name = chooser.choice(mine) if delete else "g%d" % self.number
            request_id = "r%d" % self.number
            self.open_requests[request_id] = (bool(delete), name)
        return request_id

    def send(self, client, request_id):
        """Asks; an answer is what counts from then on."""
        delete, name = self.open_requests[request_id]
        kind = "DeleteGallery" if delete else "CreateGallery"
        client.call(ADMIN + kind, getattr(admin, kind + "Request")(
            purpose="office", request_id=request_id, name=name), getattr(admin, kind + "Response"))
        with self.lock:
            del self.open_requests[request_id]
            (self.present.discard if delete else self.present.add)(name)

    def load(self, client, seed, failed):
        chooser = random.Random(seed)
        try:
            while True:
                self.send(client, self.next_request(chooser))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                failed.append(error)

    def names(self):
        found, after = set(), ""
        while True:
            page = self.office.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(
                purpose="office", page_token=after), admin.ListGalleriesResponse)
            found.update(gallery.name for gallery in page.galleries)
            after = page.next_page_token
            if not after:
                return found

    def kill_under_load(self, cycle):
        clients = [Client(self, self.daemon.port, "admin") for _ in range(THREADS)]
        failed = []
        threads = [threading.Thread(target=self.load, args=(client, cycle * THREADS + i, failed))
                   for i, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(cycle).uniform(0.01, 0.25))  # the moment, not a condition
        self.daemon.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        for client in clients:
            client.channel.close()
        self.assertEqual(failed, [])

    def test_kill(self):
        """Each request in flight was done whole or not at all, and the same request again makes it done."""
        for cycle in range(CYCLES):
            self.kill_under_load(cycle)
            os.unlink(self.daemon.port_file)
            self.daemon = self.start()
            self.office = Client(self, self.daemon.port, "admin")
            unsure = {name for _, name in self.open_requests.values()}
            self.assertEqual(self.names() - unsure, self.present - unsure, "cycle %d" % cycle)
            for request_id in list(self.open_requests):
                self.send(self.office, request_id)
            self.assertEqual(self.names(), self.present, "cycle %d" % cycle)
        self.assertEqual(self.daemon.stop(), 0)
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        print("%d kills, %d writes done, none lost" % (CYCLES, self.number))


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
