#!/usr/bin/python3 -B
"""The example in C against the real daemon, with the client library as it is installed."""
import os
import subprocess
import unittest

from examples import EXAMPLES, Language, made
from harness import BUILD, ROOT
from served import Served

SANITIZED = {"asan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}


class C(Language, Served):
    @classmethod
    def make(cls, folder):
        root = folder + "/root"
        made("make", "-s", "-C", ROOT, "B=" + BUILD, "install-dev", "DESTDIR=" + root, "PREFIX=/usr")
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "biomatch"], env=dict(
            os.environ, PKG_CONFIG_PATH=root + "/usr/lib/pkgconfig", PKG_CONFIG_ALLOW_SYSTEM_CFLAGS="1",
            PKG_CONFIG_ALLOW_SYSTEM_LIBS="1"), stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        # Its own paths are those of the place that it is installed to.
        flags = [flag[:2] + root + flag[2:] if "biomatch-1" in flag or flag == "-L/usr/lib" else flag for flag in flags]
        made("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", EXAMPLES + "/c/traveller.c", "-o", folder + "/traveller",
             *SANITIZED.get(os.path.basename(BUILD), ()), *flags)
        return [folder + "/traveller"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
