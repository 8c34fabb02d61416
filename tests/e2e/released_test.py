#!/usr/bin/python3 -B
"""What operators built on the last release is still there: metrics, commands and options, configuration and policy.

tests/released holds what that release had; docs/compatibility.md promises that it stays. With --write it is made anew, which
belongs to a release (make released).
"""
import os
import re
import shutil
import sys
import unittest

import grpc

from harness import BUILD, PACK, ROOT, help_of, run
from served import Served, picture

RELEASED = os.path.join(ROOT, "tests/released")
FILES = ("biomatchd.yaml", "policy.yaml", "hongkong.yaml")
WRITE = "--write" in sys.argv and not sys.argv.remove("--write")


def metrics(text):
    """A line for each family: name, type and labels, where a sample shows them."""
    labels = {}
    for name, shown in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.M):
        found = set(re.findall(r'(\w+)="', shown)) - {"le"}
        labels.setdefault(re.sub(r"_(bucket|sum|count)$", "", name), set()).update(found)
    return {"metric %s %s %s" % (name, kind, ",".join(sorted(labels[name])))
            for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M) if name in labels}


def commands():
    """A line for each command of `biomatch` and for each of its options."""
    found = set()
    for name in re.findall(r"^  ([a-z]+(?: [a-z][a-z-]*)?)  ", help_of("biomatch"), re.M):
        found.add("command " + name)
        found |= {"option %s %s" % (name, option)
                  for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", help_of("biomatch", *name.split()), re.M)}
    return found


class Released(Served):
    def interface(self):
        """What is there now, after calls that leave something in most of the metrics."""
        self.lane.enrol("ada", picture(self.ada[0]))
        self.lane.verify("ada", picture(self.ada[1]))
        self.lane.identify(picture(self.ada[1]))
        with self.assertRaises(grpc.RpcError):
            self.lane.verify("ada", picture(b"no picture"))
        return metrics(self.daemon.page("/metrics")[1]) | commands()

    def test_metrics_commands_and_options(self):
        found = self.interface()
        path = os.path.join(RELEASED, "interface.txt")
        if WRITE:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in sorted(found))
        with open(path, encoding="utf-8") as file:
            promised = set(file.read().splitlines())
        self.assertLess(200, len(promised))
        self.assertEqual(promised - found, set(), "promised by the last release, and gone: docs/compatibility.md")

    def test_configuration_and_policies(self):
        for name in FILES:
            if WRITE:
                shutil.copy(os.path.join(ROOT, "config", name), RELEASED)
            with open(os.path.join(RELEASED, name), encoding="utf-8") as file:
                text = file.read()
            if name == "biomatchd.yaml":
                for theirs, ours in (("/var/lib/biomatchd", "store"), ("/usr/local/share/biomatch/packs/faceplugin-0.0.1", PACK),
                                     ("/usr/local/libexec/biomatch-face", BUILD + "/biomatch-face")):
                    self.assertIn(theirs, text)
                    text = text.replace(theirs, ours)
            self.write("biomatchd.yaml" if name == "biomatchd.yaml" else "policy.yaml", text)
            done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--check-config")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
