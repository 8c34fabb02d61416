#!/usr/bin/python3 -B
"""Labelled people through the real daemon: every pair of the deepface set, and the LFW pairs, where they are there.

The data is looked for in BIOMATCH_DATA, by default shared/data beside the repository.
"""
import csv
import os
import random
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
# Pairs of strangers compared: enough for a rate of 1e-3.
STRANGERS = 20000


class AccuracyTest(Served):
    # The rate of the shipped policy.
    policy = POLICY.replace("target_fmr: 0.001", "target_fmr: 0.0001")

    def spread(self, items, function):
        """function(client, item) of every item, over a few connections; in the items' order."""
        items, out = list(items), {}
        left = iter(range(len(items)))
        lock = threading.Lock()

        def work(client):
            while True:
                with lock:
                    i = next(left, None)
                if i is None:
                    return
                out[i] = function(client, items[i])
        threads = [threading.Thread(target=work, args=(Client(self, self.daemon.port, "lane"),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [out[i] for i in range(len(items))]

    def templates(self, paths):
        """The template of every picture; None where it gave none."""
        def extract(client, path):
            try:
                return client.extract(read(path))
            except grpc.RpcError as error:
                print("%s: %s" % (os.path.basename(path), error.details()))
                return None
        paths = sorted(set(paths))
        return dict(zip(paths, self.spread(paths, extract)))

    def compared(self, pairs):
        """The answer for every pair of templates."""
        return self.spread(pairs, lambda client, pair: client.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=common.Probe(template=pair[0]), reference=common.Probe(template=pair[1])),
            matching.CompareResponse, WAIT))

    def test_deepface_pairs(self):
        with open(os.path.join(DEEPFACE, "master.csv"), encoding="utf-8") as file:
            pairs = [(os.path.join(DEEPFACE, row["file_x"]), os.path.join(DEEPFACE, row["file_y"]),
                      row["Decision"].strip() in ("Yes", "True", "1")) for row in csv.DictReader(file)]
        self.assertGreaterEqual(len(pairs), 300)
        templates = self.templates(path for pair in pairs for path in pair[:2])
        self.assertEqual([path for path, template in templates.items() if template is None], [])
        answers = self.compared((templates[one], templates[two]) for one, two, _ in pairs)
        wrong = [(os.path.basename(one), os.path.basename(two), same, answer.raw.score)
                 for (one, two, same), answer in zip(pairs, answers)
                 if answer.decision != (common.DECISION_MATCH if same else common.DECISION_NO_MATCH)]
        self.assertEqual(wrong, [])

    def test_lfw_pairs(self):
        with open(os.path.join(DATA, "faces/lfw_dev_pairs.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        pairs = [(os.path.join(LFW, row["file_a"]), os.path.join(LFW, row["file_b"]))
                 for row in rows if row["same"] == "1"]
        templates = self.templates(path for pair in pairs for path in pair)
        kept = [path for path, template in templates.items() if template is not None]
        # Any two pictures of different people are strangers: far more of them than the labelled ones.
        chance, strangers = random.Random(1), []
        while len(strangers) < STRANGERS:
            one, two = chance.sample(kept, 2)
            if os.path.dirname(one) != os.path.dirname(two):
                strangers.append((templates[one], templates[two]))
        mates = [(templates[one], templates[two]) for one, two in pairs if templates[one] and templates[two]]
        mates, strangers = (sorted(a.raw.score for a in self.compared(some)) for some in (mates, strangers))
        found = len(kept) / len(templates)
        # The score that one stranger in a thousand exceeds here, and the one for which the pack's calibration says so.
        here = strangers[-(STRANGERS // 1000) - 1]
        threshold = next(float(score) for fmr, score in re.findall(r"fmr: (\S+), score: (\S+?)}", MANIFEST)
                         if float(fmr) == 1e-3)
        accepted = sum(score > here for score in mates) / len(mates)
        taken_in = sum(score >= threshold for score in strangers) / STRANGERS
        print("LFW: %.2f %% of %d mates accepted at a false accept rate of 1e-3 over %d strangers (score %.3f); the "
              "calibration's %.3f accepts %.2f %% of strangers; %.1f %% of pictures gave a template" % (
                  100 * accepted, len(mates), STRANGERS, here, threshold, 100 * taken_in, 100 * found))
        self.assertGreater(found, 0.93)
        self.assertGreater(accepted, 0.98)
        self.assertLess(taken_in, 0.003)


if __name__ == "__main__":
    if not os.path.isdir(DEEPFACE):
        print("no labelled faces in " + DATA)
        sys.exit(77)
    unittest.main(verbosity=2)
