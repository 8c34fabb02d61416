#!/usr/bin/python3 -B
"""The examples in Python and JavaScript against the real daemon, and what the guide names against the protos."""
import glob
import os
import re
import shutil
import sys
import unittest

from examples import EXAMPLES, PROTO, Language, python_program
from harness import ROOT, run
from messages import common
from served import Served, read

MODULES = os.path.join(ROOT, "build/node/node_modules")


class Python(Language, Served):
    @classmethod
    def make(cls, folder):
        cls.environment = {"PYTHONPATH": folder}
        return python_program(folder)

    def receipts(self, found):
        super().receipts(found)
        program = os.path.join(EXAMPLES, "python/receipt.py")
        for receipt, status in ((found[0], 0), (found[0][:-4] + "beef", 1), ("9" + found[0].strip(), 1)):
            done = run(sys.executable, program, self.path("audit.log"), receipt.strip(), env={**os.environ, **self.environment})
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)


@unittest.skipUnless(os.path.isdir(MODULES), "build/node is missing")
class JavaScript(Language, Served):
    environment = {"PROTOS": PROTO}

    @classmethod
    def make(cls, folder):
        os.symlink(MODULES, os.path.join(folder, "node_modules"))
        return ["node", shutil.copy(os.path.join(EXAMPLES, "javascript/traveller.mjs"), folder)]


class Guide(unittest.TestCase):
    def test_every_reason_has_its_row(self):
        text = read(os.path.join(ROOT, "docs/integrate.md")).decode()
        reasons = {name[7:] for name in vars(common) if name.startswith("REASON_")} - {"UNSPECIFIED"}
        self.assertLess(10, len(reasons))
        self.assertEqual([name for name in sorted(reasons) if name not in text], [])

    def test_methods_that_the_documents_name_exist(self):
        protos = "".join(read(path).decode() for path in glob.glob(PROTO + "/biomatch/v1/*.proto"))
        methods = {(name, method) for name, body in re.findall(r"service (\w+) \{(.*?)\n\}", protos, re.S)
                   for method in re.findall(r"rpc (\w+)\(", body)}
        named = {pair for path in glob.glob(ROOT + "/docs/*.md")
                 for pair in re.findall(r"\b([A-Z]\w+Service)[./]([A-Z]\w+)", read(path).decode())}
        self.assertLess(10, len(named))
        self.assertEqual(named - methods, set())


if __name__ == "__main__":
    unittest.main(verbosity=2)
