#!/usr/bin/python3 -B
"""The README's examples, run as they stand but for the names of files and places."""
import glob
import os
import re
import sys
import unittest

from harness import ROOT, run
from served import PEOPLE, Served, picture, read

MODULES = os.path.join(ROOT, "build/node/node_modules")


class ReadmeTest(Served):
    def example(self, language, name):
        text = read(os.path.join(ROOT, "README.md")).decode()
        code = re.search("```%s\n(.*?)```" % language, text, re.S).group(1)
        for theirs, ours in (("biomatch.example:8443", "localhost:%d" % self.daemon.port), ("border-departure", "gate"),
                             ("arrivals", "people"), ("ca.pem", self.path("pki/ca.pem")),
                             ("lane.key", self.path("pki/lane.key")), ("lane.pem", self.path("pki/lane.pem")),
                             ("live.jpg", os.path.join(PEOPLE, "ada/02.jpg"))):
            self.assertIn(theirs, code)
            code = code.replace(theirs, ours)
        self.write(name, code)
        return self.path(name)

    def answers(self, *command, **environment):
        self.lane.enrol("K1234567", picture(self.ada[0]))
        done = run(*command, cwd=ROOT, env={**os.environ, **environment})
        self.assertEqual((done.returncode, done.stdout), (0, "DECISION_MATCH REASON_UNSPECIFIED\n"), done.stderr)

    def test_python(self):
        protos = glob.glob(ROOT + "/proto/biomatch/v1/*.proto")
        done = run("protoc", "-I", ROOT + "/proto", "-I", "/usr/include", "--python_out=" + self.dir, *protos)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.answers(sys.executable, self.example("python", "example.py"))

    @unittest.skipUnless(os.path.isdir(MODULES), "build/node is missing")
    def test_javascript(self):
        self.answers("node", self.example("js", "example.cjs"), NODE_PATH=MODULES)


if __name__ == "__main__":
    unittest.main(verbosity=2)
