#!/usr/bin/python3 -B
"""The live page in Chromium: what it shows of a daemon at work, wide and on a phone, light and dark."""
import concurrent.futures
import json
import os
import shutil
import threading
import unittest

import grpc

from harness import BUILD, ROOT, run
from served import Client, Served, picture

TOLD = BUILD + "/page"


@unittest.skipUnless(shutil.which("chromium"), "Debian's package chromium is not installed")
class PageTest(Served):
    def work(self):
        """Enrolments, decisions of each kind, refusals, from two sites."""
        for number, data in enumerate([self.ada[0], *self.strangers]):
            self.lane.enrol("subject-%d" % number, picture(data))
        for data in (self.ada[1], self.ada[0], self.strangers[0]):
            self.lane.verify("subject-0", picture(data))
        self.lane.verify("nobody", picture(self.ada[1]))
        self.lane.identify(picture(self.ada[1]))
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/kiosk"), "biomatch://example/airport/kiosk/7")
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/harbour"), "biomatch://example/harbour/lane/2")
        self.lane.channel.close()

    def keep_working(self, ended):
        """One lane verifies and a kiosk is refused until the event."""
        harbour, kiosk = (Client(self, self.daemon.port, name) for name in ("harbour", "kiosk"))
        while not ended.is_set():
            harbour.verify("subject-0", picture(self.ada[1]))
            with self.assertRaises(grpc.RpcError):
                kiosk.identify(picture(self.ada[1]))

    def looks(self):
        os.makedirs(TOLD, exist_ok=True)
        ended = threading.Event()
        with concurrent.futures.ThreadPoolExecutor() as threads:
            work = threads.submit(self.keep_working, ended)
            try:
                done = run("node", os.path.join(ROOT, "tests/e2e/page.mjs"),
                           "http://127.0.0.1:%d/" % self.daemon.ops_port(), TOLD)
            finally:
                ended.set()
            work.result()
        self.assertEqual(done.returncode, 0, done.stderr)
        return {look["name"]: look for look in json.loads(done.stdout)}

    def test_page(self):
        self.work()
        looks = self.looks()
        self.assertEqual(len(looks), 4)
        for name, look in looks.items():
            with self.subTest(name):
                # The script that the test itself puts in is the only thing that the policy refuses.
                self.assertEqual(look["injected"], False)
                self.assertEqual(look["violations"], [])
                self.assertEqual([line for line in look["complaints"] if "Content Security Policy" not in line], [])
                self.assertEqual(look["elsewhere"], [])
                self.assertEqual(look["overflow"], 0)
                self.assertEqual(look["cut"], [])
                self.assertEqual(look["canvases"], 2)
                self.figures(look)
        self.assertNotEqual(looks["wide-light"]["ground"], looks["wide-dark"]["ground"])
        for name in looks:
            self.assertGreater(os.path.getsize("%s/%s.png" % (TOLD, name)), 10000)

    def figures(self, look):
        estate = {(site, kind): rest for site, kind, *rest in look["estate"]}
        # State, connections, last call, calls a minute, answered, refused, failed.
        self.assertEqual(estate["airport", "kiosk"][:2], ["refusing", "1"])
        self.assertEqual([estate["airport", "kiosk"][i] for i in (4, 6)], ["0", "0"])
        self.assertGreater(int(estate["airport", "kiosk"][5].replace(",", "")), 0)
        self.assertEqual(estate["harbour", "lane"][:2], ["connected", "1"])
        self.assertEqual(estate["hall", "lane"][:2], ["away", "0"])
        self.assertEqual(estate["hall", "lane"][4:], [str(len(self.strangers) + 6), "0", "0"])
        decisions = {(method, decision): n for method, decision, _, n, _ in look["decisions"]}
        self.assertGreater(int(decisions["Verify", "MATCH"].replace(",", "")), 2)
        self.assertEqual(decisions["Verify", "NO_MATCH"], "1")
        self.assertEqual(decisions["Verify", "REFER"], "1")
        reasons = {reason: [kind, n] for reason, kind, _, n in look["reasons"]}
        self.assertEqual(reasons["NO_REFERENCE"], ["referral", "1"])
        self.assertEqual(reasons["PURPOSE_DENIED"][0], "error")
        self.assertEqual([row[:2] for row in look["fmr"]], [["hall", "lane"], ["harbour", "lane"]])
        people = str(len(self.strangers) + 1)
        self.assertEqual(look["galleries"], [["people", people, people, "0", people]])
        self.assertEqual([row[0] for row in look["workers"]], ["face", "read", "scan"])
        self.assertRegex(look["stored"], "№ [1-9]")

    def test_files(self):
        for path, kind in (("/", "<!doctype html>"), ("/page.css", ":root"), ("/page.js", "'use strict'"), ("/uplot.js", "uPlot"),
                           ("/uplot.txt", "Leon Sorokin")):
            status, body = self.daemon.page(path)
            self.assertEqual(status, 200, path)
            self.assertIn(kind, body)


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
