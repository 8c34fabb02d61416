#!/usr/bin/python3 -B
"""Labelled people through the real daemon: every pair of the deepface set, and the LFW pairs, where they are there.

The data is looked for in BIOMATCH_DATA, by default shared/data beside the repository.
"""
import csv
import os
import re
import sys
import threading
import unittest

import grpc

from harness import PACK, ROOT, WAIT
from messages import common, matching
from served import MATCHING, POLICY, Client, Served, read

DATA = os.environ.get("BIOMATCH_DATA", os.path.join(ROOT, "../shared/data"))
DEEPFACE = os.path.join(DATA, "faces/deepface")
LFW = os.path.join(DATA, "faces/lfw_dev")
with open(os.path.join(PACK, "manifest.yaml"), encoding="utf-8") as _manifest:
    MANIFEST = _manifest.read()
# Pairs of LFW compared: enough for a rate at 1e-2, few enough for a test.
LFW_PAIRS = int(os.environ.get("BIOMATCH_LFW_PAIRS", "700"))


class AccuracyTest(Served):
    # The rate of the shipped policy.
    policy = POLICY.replace("target_fmr: 0.001", "target_fmr: 0.0001")

    def templates(self, paths):
        """The template of every picture; None where it gave none."""
        out, lock, left = {}, threading.Lock(), sorted(set(paths))

        def work(client):
            while True:
                with lock:
                    if not left:
                        return
                    path = left.pop()
                try:
                    found = client.extract(read(path))
                except grpc.RpcError as error:
                    found = None
                    print("%s: %s" % (os.path.basename(path), error.details()))
                with lock:
                    out[path] = found
        threads = [threading.Thread(target=work, args=(Client(self, self.daemon.port, "lane"),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return out

    def compare(self, one, two):
        return self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=common.Probe(template=one), reference=common.Probe(template=two)),
            matching.CompareResponse, WAIT)

    def test_deepface_pairs(self):
        with open(os.path.join(DEEPFACE, "master.csv"), encoding="utf-8") as file:
            pairs = [(os.path.join(DEEPFACE, row["file_x"]), os.path.join(DEEPFACE, row["file_y"]),
                      row["Decision"].strip() in ("Yes", "True", "1")) for row in csv.DictReader(file)]
        self.assertGreaterEqual(len(pairs), 300)
        templates = self.templates(path for pair in pairs for path in pair[:2])
        self.assertEqual([path for path, template in templates.items() if template is None], [])
        wrong = []
        for one, two, same in pairs:
            answer = self.compare(templates[one], templates[two])
            if answer.decision != (common.DECISION_MATCH if same else common.DECISION_NO_MATCH):
                wrong.append((os.path.basename(one), os.path.basename(two), same, answer.raw.score))
        self.assertEqual(wrong, [])

    def test_lfw_pairs(self):
        with open(os.path.join(DATA, "faces/lfw_dev_pairs.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        step = max(1, len(rows) // LFW_PAIRS)
        pairs = []
        for row in rows[::step]:
            one, two, same = [row[name] for name in list(row)[:3]]
            pairs.append((os.path.join(LFW, one), os.path.join(LFW, two), same.lower() in ("1", "yes", "true", "same")))
        templates = self.templates(path for pair in pairs for path in pair[:2])
        mates, strangers = [], []
        for one, two, same in pairs:
            if templates[one] and templates[two]:
                (mates if same else strangers).append(self.compare(templates[one], templates[two]).raw.score)
        found = sum(t is not None for t in templates.values()) / len(templates)
        # The calibration's score for a false match rate of 1e-3.
        threshold = next(float(score) for fmr, score in re.findall(r"fmr: (\S+), score: (\S+?)}", MANIFEST)
                         if float(fmr) == 1e-3)
        accepted = sum(score >= threshold for score in mates) / len(mates)
        taken_in = sum(score >= threshold for score in strangers) / len(strangers)
        print("LFW at the threshold for FMR 1e-3: %d mates %.2f %% accepted, %d strangers %.2f %% accepted, "
              "%.1f %% of pictures gave a template" % (len(mates), 100 * accepted, len(strangers), 100 * taken_in,
                                                      100 * found))
        self.assertGreater(found, 0.93)
        self.assertGreater(accepted, 0.975)
        self.assertLess(taken_in, 0.01)


if __name__ == "__main__":
    if not os.path.isdir(DEEPFACE):
        print("no labelled faces in " + DATA)
        sys.exit(77)
    unittest.main(verbosity=2)
