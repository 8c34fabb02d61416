#!/usr/bin/python3 -B
"""What the operators' port tells of a daemon at work."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import grpc

from harness import BUILD, ROOT, wait_for
from served import Client, Served, picture

WORK = '{method="%s",status="%s",class="lane"}'


class OpsTest(Served):
    def setUp(self):
        super().setUp()
        self.began = time.time()

    def test_counts(self):
        self.lane.enrol("ada-subject", picture(self.ada[0]))
        self.lane.enrol("ada-subject", picture(self.ada[0]))  # again, under the same request id
        self.lane.verify("ada-subject", picture(self.ada[1]))
        self.lane.verify("ada-subject", picture(self.strangers[0]))
        self.lane.verify("nobody-subject", picture(self.ada[0]))
        self.lane.identify(picture(self.ada[1]))
        with self.assertRaises(grpc.RpcError):
            self.lane.verify("ada-subject", picture(self.ada[0]), gallery="arrivals")
        text = self.daemon.page("/metrics")[1]
        found = self.daemon.metrics()
        for name, value in {
                "biomatch_rpcs_total" + WORK % ("Enrol", "OK"): 2,
                "biomatch_rpcs_total" + WORK % ("Verify", "OK"): 3,
                "biomatch_rpcs_total" + WORK % ("Verify", "PERMISSION_DENIED"): 1,
                'biomatch_errors_total{reason="PURPOSE_DENIED"}': 1,
                'biomatch_decisions_total{method="Verify",decision="MATCH",reason="NONE",class="lane"}': 1,
                'biomatch_decisions_total{method="Verify",decision="NO_MATCH",reason="NONE",class="lane"}': 1,
                'biomatch_decisions_total{method="Verify",decision="REFER",reason="NO_REFERENCE",class="lane"}': 1,
                'biomatch_decisions_total{method="Identify",decision="MATCH",reason="NONE",class="lane"}': 1,
                'biomatch_decisions_total{method="Enrol",decision="CREATED",reason="NONE",class="lane"}': 1,
                'biomatch_rpc_seconds_count{method="Verify"}': 4,
                'biomatch_estate_calls_total{site="hall",class="lane",status="OK"}': 6,
                'biomatch_estate_calls_total{site="hall",class="lane",status="PERMISSION_DENIED"}': 1,
                'biomatch_estate_connections{site="hall",class="lane"}': 1,
                'biomatch_estate_connections{site="test",class="admin"}': 1,
                'biomatch_stage_seconds_count{stage="embed"}': 6,
                'biomatch_gallery_references{gallery="people"}': 1,
                'biomatch_gallery_tail_rows{gallery="people"}': 1,
                "biomatch_writer_repeats_total": 1,
                "biomatch_store_read_only": 0,
                "biomatch_audit_entries_total": 7,  # the gallery, one enrolment, three verifications, a search, a denial
                'biomatch_pool_threads{pool="face"}': 2,
                "biomatch_face_workers_down": 0}.items():
            self.assertEqual(found.get(name), value, name + "\n" + text)
        bands = {name: value for name, value in found.items() if name.startswith("biomatch_score_bands_total")}
        self.assertEqual(sum(bands.values()), 2, bands)
        for stage in ("queue", "decode", "detect", "embed", "scan", "commit"):
            self.assertGreater(found['biomatch_stage_seconds_sum{stage="%s"}' % stage], 0)
        self.assertGreater(found["biomatch_tls_handshakes_total"], 0)
        last = found['biomatch_estate_last_call_seconds{site="hall",class="lane"}']
        self.assertTrue(self.began - 1 < last < time.time() + 1, last)
        self.lane.channel.close()
        wait_for(lambda: self.daemon.metrics()['biomatch_estate_connections{site="hall",class="lane"}'] == 0, "the lane to leave")
        self.assertGreater(found['biomatch_certificate_expiry_seconds{certificate="server"}'], time.time())
        self.assertGreater(found['biomatch_certificate_expiry_seconds{certificate="client_ca"}'], time.time())
        self.assertIn('model="faceplugin/0.0.1"', next(name for name in found if name.startswith("biomatch_build_info")))
        for secret in ("ada-subject", "nobody-subject", "example/hall"):
            self.assertNotIn(secret, text)

    def test_live_false_match_rate(self):
        people = [self.ada[0], *self.strangers]
        for number, data in enumerate(people):
            self.lane.enrol("subject-%d" % number, picture(data))
        others = min(len(people) - 1, 8)
        for number in range(3):
            self.lane.verify("subject-0", picture(self.ada[1]))
        self.lane.verify("nobody", picture(self.ada[1]))  # was compared with nobody
        found = self.daemon.metrics()
        labels = '{class="lane",site="hall"'
        # Drawn at random, twice as often as wanted: some may not be met.
        self.assertGreater(found["biomatch_live_fmr_trials_total" + labels + "}"], 3 * others / 2)
        self.assertLessEqual(found["biomatch_live_fmr_trials_total" + labels + "}"], 3 * others)
        self.assertEqual(found["biomatch_live_fmr_hits_total" + labels + "}"], 0)
        self.assertAlmostEqual(found["biomatch_live_fmr_expected_total" + labels + "}"],
                               0.001 * found["biomatch_live_fmr_trials_total" + labels + "}"])
        self.assertEqual(found["biomatch_live_fmr" + labels + ',bound="lower"}'], 0)
        # Enrolled again under another name, she is found by chance: what the rate is there to show.
        for number in range(20):
            self.lane.enrol("double-%d" % number, picture(self.ada[0]))
        self.lane.verify("subject-0", picture(self.ada[1]))
        found = self.daemon.metrics()
        self.assertGreater(found["biomatch_live_fmr_hits_total" + labels + "}"], 0)
        self.assertGreater(found["biomatch_live_fmr" + labels + ',bound="lower"}'], 0.001)

    def test_health_and_readiness(self):
        self.assertEqual(self.daemon.page("/healthz")[0], 200)
        status, body = self.daemon.page("/readyz")
        self.assertEqual((status, json.loads(body)), (200, {"ready": True, "reasons": []}))
        self.assertEqual(self.daemon.page("/other")[0], 404)

    def test_not_ready_without_workers(self):
        program = self.path("worker")
        shutil.copy(BUILD + "/biomatch-face", program)
        self.assertEqual(self.daemon.stop(), 0)
        self.write("biomatchd.yaml", self.configuration().replace(BUILD + "/biomatch-face", program))
        daemon = self.start()
        os.unlink(program)  # no worker can be started any more
        for worker in daemon.workers():
            os.kill(worker, signal.SIGKILL)
        lane = Client(self, daemon.port, "lane")
        for _ in range(4):
            with self.assertRaises(grpc.RpcError):
                lane.verify("x", picture(self.ada[0]), timeout=5)
        wait_for(lambda: daemon.page("/readyz")[0] == 503, "the daemon to be unready")
        self.assertEqual(json.loads(daemon.page("/readyz")[1]), {"ready": False, "reasons": ["NO_FACE_WORKER"]})
        self.assertEqual(daemon.page("/healthz")[0], 200)
        self.assertEqual(daemon.metrics()["biomatch_face_workers_down"], 2)

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed (Debian's package prometheus)")
    def test_promtool(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        self.lane.verify("ada", picture(self.ada[1]))
        done = subprocess.run(["promtool", "check", "metrics"], input=self.daemon.page("/metrics")[1], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
