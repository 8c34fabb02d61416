"""Starts a daemon for a test in another language: prints how to reach it as JSON, ends with standard input."""
import json
import sys
import unittest

from served import GROUP, PEOPLE, Served


class Running(Served):
    def runTest(self):
        print(json.dumps({"target": "localhost:%d" % self.daemon.port, "pki": self.path("pki"),
                          "people": PEOPLE, "group": GROUP}), flush=True)
        sys.stdin.read()
        self.assertEqual(self.daemon.stop(), 0)


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stderr).run(Running())
    sys.exit(0 if result.wasSuccessful() else 1)
