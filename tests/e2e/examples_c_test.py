#!/usr/bin/python3 -B
"""The example in C against the real daemon, with the client library of this build."""
import os
import unittest

from examples import EXAMPLES, Language, made
from harness import BUILD, ROOT
from served import Served

SANITIZED = {"asan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}


class C(Language, Served):
    @classmethod
    def make(cls, folder):
        archives = [os.path.join(BUILD, "lib/lib%s.a" % module) for module in ("client", "wire", "base")]
        made("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I", ROOT + "/include", "-isystem", ROOT + "/build/gen",
             EXAMPLES + "/c/traveller.c", "-o", folder + "/traveller", *SANITIZED.get(os.path.basename(BUILD), ()), *archives,
             "-lprotobuf-c", "-lnghttp2", "-lssl", "-lcrypto", "-lxxhash", "-lsystemd", "-pthread")
        return [folder + "/traveller"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
