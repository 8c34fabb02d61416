#!/usr/bin/python3 -B
"""How ordinary photographs are judged: of each component of quality, how many fall below 25 and below 50.

Usage: quality.py BUILD_DIR PICTURES

Takes a thousand pictures below PICTURES, always the same, and asks a daemon of this
build to analyse each. What nobody was asked to mend should seldom fall.
"""

import glob
import os
import random
import sys

PICTURES = os.path.abspath(sys.argv.pop()) if len(sys.argv) == 3 else sys.exit(__doc__)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import unittest  # noqa: E402

from messages import analysis, common  # noqa: E402
from served import ANALYSIS, Served, read  # noqa: E402


class Measure(Served):
    def test(self):
        paths = sorted(glob.glob(PICTURES + "/*/*.jpg"))
        values = {}
        for path in random.Random(1).sample(paths, 1000):
            answer = self.lane.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
                purpose="gate", image=common.Image(data=read(path))), analysis.AnalyseResponse)
            for quality in answer.quality:
                values.setdefault(quality.component, []).append(quality.value)
        print("\n| component | pictures | below 25 | below 50 |\n|---|--:|--:|--:|")
        for component, found in sorted(values.items()):
            low, middling = (100 * sum(value < least for value in found) / len(found) for least in (25, 50))
            print("| %s | %d | %.1f %% | %.1f %% |" % (self.name(component), len(found), low, middling))

    def name(self, number):
        return next(name[18:].lower() for name, value in vars(common).items()
                    if name.startswith("QUALITY_COMPONENT_") and value == number)


if __name__ == "__main__":
    unittest.main(verbosity=0)
