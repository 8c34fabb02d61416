#!/usr/bin/python3 -B
"""biomatch calibrate: on the sample photographs, and on drawn templates whose rates are counted here."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from harness import BUILD, PACK, ROOT, run

PEOPLE = os.path.join(ROOT, "build/samples/people")
MODEL = "faceplugin/0.0.1"
DIM = 512


class CalibrateTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="biomatch-calibrate-")
        self.addCleanup(scratch.cleanup)
        self.dir = scratch.name
        self.pack = self.path("pack")
        shutil.copytree(PACK, self.pack)

    def path(self, name):
        return os.path.join(self.dir, name)

    def calibrate(self, *args):
        # fontconfig, below cairo, keeps what it has read.
        with open(self.path("leaks"), "w", encoding="ascii") as file:
            print("leak:libfontconfig", file=file)
        return run(BUILD + "/biomatch", "calibrate", *args, env={
            **os.environ, "LSAN_OPTIONS": "print_suppressions=0:suppressions=" + self.path("leaks")})

    def refused(self, text, *args):
        done = self.calibrate(*args)
        self.assertEqual(done.returncode, 6, done.stdout + done.stderr)
        self.assertIn(text, done.stderr)
        return done

    def draw(self, people, pictures):
        """Unit templates around one of each person, and a file of them."""
        rng = np.random.default_rng(7)
        base = np.repeat(rng.normal(size=(people, DIM)), pictures, axis=0)
        rows = base + rng.normal(scale=1.2, size=base.shape)
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        owners = np.repeat(np.arange(people), pictures)
        with open(self.path("drawn"), "w", encoding="ascii") as file:
            print(json.dumps({"model": MODEL, "dimension": DIM}), file=file)
            for owner, row in zip(owners, rows):
                print(json.dumps({"label": "p%d" % owner, "reason": "OK", "template": [float(x) for x in row]}), file=file)
            print(json.dumps({"label": "p0", "reason": "NO_FACE"}), file=file)
        return owners, rows

    def points(self):
        with open(self.path("pack/manifest.yaml"), encoding="utf-8") as file:
            found = re.findall(r"\{fmr: (\S+), score: (\S+)\} # FMR (\S+) .*FNMR (\S+) ", file.read())
        return [[float(x) for x in point] for point in found]

    def test_drawn_templates(self):
        owners, rows = self.draw(60, 3)
        done = self.calibrate(self.pack, "-", "--templates", self.path("drawn"), "--output", self.path("out"), "--write",
                              "--id", "drawn-1", "--source", "drawn, not of faces")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("failure to acquire: 1 of 181 pictures", done.stdout)
        self.assertRegex(done.stdout, r"NO_FACE +1\n")
        scores = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
        same = (owners[:, None] == owners[None, :])[np.triu_indices(len(rows), 1)]
        self.assertIn("%d mate pairs, %d non-mate pairs" % (same.sum(), (~same).sum()), done.stdout)
        points = self.points()
        self.assertEqual([point[0] for point in points], [0.1, 0.05, 0.02, 0.01, 0.005, 0.002])
        for target, score, fmr, fnmr in points:
            self.assertAlmostEqual(fmr, (scores[~same] >= score).mean(), delta=0.005 * fmr)
            self.assertAlmostEqual(fnmr, (scores[same] < score).mean(), delta=1e-4)
            self.assertLessEqual(fmr, target)
        for name in ("det.svg", "det.png", "calibration.yaml"):
            self.assertGreater(os.path.getsize(self.path("out/" + name)), 400)
        # The daemon's own reader takes the manifest, and another run replaces what it wrote.
        again = self.calibrate(self.pack, "-", "--templates", self.path("drawn"), "--write", "--id", "drawn-2", "--source", "x")
        self.assertEqual(again.returncode, 0, again.stderr)
        with open(self.path("pack/manifest.yaml"), encoding="utf-8") as file:
            manifest = file.read()
        self.assertEqual(manifest.count("\ncalibration:"), 1)
        self.assertIn("id: drawn-2", manifest)
        self.assertEqual(self.points(), points)

    def test_photographs(self):
        """Ten photographs are looked at by the real worker, and are too few; their templates are kept."""
        kept = self.path("templates")
        self.refused("too few for any rate", self.pack, PEOPLE, "--templates", kept)
        with open(kept, encoding="utf-8") as file:
            first, *lines = [json.loads(line) for line in file]
        self.assertEqual(first, {"model": MODEL, "dimension": DIM})
        self.assertEqual([line["label"] for line in lines].count("ada"), 2)
        ada = [np.array(line["template"]) for line in lines if line["label"] == "ada"]
        self.assertGreater(ada[0] @ ada[1], 0.6)
        again = self.refused("too few for any rate", self.pack, "-", "--templates", kept)
        self.assertIn("0 of 10 pictures", again.stdout)

    def test_refusals(self):
        self.draw(3, 2)
        with open(self.path("drawn"), encoding="ascii") as file:
            lines = file.readlines()

        def refuse(text, *content):
            with open(self.path("bad"), "w", encoding="ascii") as file:
                file.writelines(content)
            self.refused(text, self.pack, "-", "--templates", self.path("bad"))
        refuse("empty")
        refuse("line 1: not JSON", "label,template\n")
        refuse("no templates of " + MODEL, '{"model": "other/1", "dimension": 512}\n', *lines[1:])
        refuse("line 2: not a template of 512", lines[0], '{"label": "x", "reason": "OK", "template": [1, 2]}\n')
        refuse("line 2: not a template of 512", lines[0], '{"label": "x"}\n')
        refuse("line 3: not JSON", *lines[:2], lines[2][:100])
        refuse("two pictures of a person", *lines[:2])
        refuse("empty", lines[0])
        self.refused("no picture", self.pack, self.dir + "/pack/model")
        self.refused("cannot be read", self.pack, self.path("nowhere"))
        self.refused("nowhere: No such", self.path("nowhere"), PEOPLE)
        self.assertEqual(self.calibrate(self.pack).returncode, 2)
        self.assertEqual(self.calibrate(self.pack, PEOPLE, "--write").returncode, 2)
        os.mkdir(self.path("people"))
        self.refused("no picture", self.pack, self.path("people"))
        with open(self.path("people/x_1.jpg"), "wb") as file:
            file.write(b"no picture")
        done = self.refused("two pictures of a person", self.pack, self.path("people"))
        self.assertIn("IMAGE_FORMAT", done.stdout)

    def test_attacks(self):
        """What the shares are of; photographs made small are no attacks, and stand for none."""
        for kind, scale in (("half", "1/2"), ("quarter", "1/4")):
            os.makedirs(self.path("attacks/" + kind))
            for name in ("ada", "bea", "elsa"):
                pixels = subprocess.run(["djpeg", "-scale", scale, PEOPLE + "/%s/01.jpg" % name], check=True,
                                        stdout=subprocess.PIPE).stdout
                with open(self.path("attacks/%s/%s.jpg" % (kind, name)), "wb") as file:
                    file.write(subprocess.run(["cjpeg"], check=True, input=pixels, stdout=subprocess.PIPE).stdout)
        done = self.calibrate("--pad", self.pack, PEOPLE, self.path("attacks"))
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [re.findall(r"(\d+\.\d+)", line) for line in done.stdout.splitlines() if line.startswith("| 0.")]
        self.assertEqual([row[0] for row in rows], ["0.%d" % i for i in range(1, 10)])
        values = np.array([[float(x) for x in row] for row in rows])
        # Threshold; BPCER, and the APCER of each kind, with their intervals; the highest APCER.
        self.assertTrue((np.diff(values[:, 1]) >= 0).all())
        for column in (4, 7):
            self.assertTrue((np.diff(values[:, column]) <= 0).all())
            self.assertTrue(np.isin(np.round(values[:, column] * 3 / 100, 3), [0, 1, 2, 3]).all())
        self.assertTrue((values[:, 10] == values[:, (4, 7)].max(axis=1)).all())
        self.assertIn("bona fide: 10 judged, 0 without a face", done.stdout)
        self.assertIn("half: 3 judged", done.stdout)
        self.refused("no directory for each kind", "--pad", self.pack, PEOPLE, PEOPLE + "/ada")


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(argv=sys.argv[:1], verbosity=2)
