#!/usr/bin/python3 -B
"""The manual pages tell of every command and option that the programs' own help does, and of no other."""
import os
import re
import unittest

from harness import ROOT, help_of

# Every program has them.
COMMON = {"usage", "version"}


def manual(name):
    with open(os.path.join(ROOT, "docs/man", name), encoding="utf-8") as file:
        return file.read()


def options(text):
    return set(re.findall(r"^ +(?:-., )?--([a-z0-9-]+)", text, re.M))


class ManualTest(unittest.TestCase):
    def test_commands(self):
        page = manual("biomatch.1")
        commands = set(re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  +\S", help_of("biomatch"), re.M))
        self.assertEqual(set(re.findall(r"^\.It Cm ([a-z-]+(?: [a-z][a-z-]*)?)", page, re.M)), commands)
        # What a command takes, by the number of names: "subject show GALLERY SUBJECT".
        for command in sorted(commands):
            for line in re.findall(r"(?:Usage:|or:) +biomatch %s \[OPTION\.\.\.\](.*)" % command, help_of("biomatch", *command.split())):
                wanted = [name.lower() for name in re.findall(r"[A-Z_]+", line)]
                described = [re.findall(r"[a-z_]+", " ".join(part.replace("Ar", "").replace("Op", "").replace("Ns", "").split()))
                             for part in re.findall(r"^\.It Cm %s(?: --[a-z]+)?((?: Ar| Op|$).*)" % command, page, re.M)]
                self.assertIn(wanted, described, command)

    def test_options(self):
        page = manual("biomatch.1")
        described = set(re.findall(r"Fl -([a-z0-9-]+)", page))
        offered = set()
        for command in re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  +\S", help_of("biomatch"), re.M):
            offered |= options(help_of("biomatch", *command.split()))
        self.assertEqual(offered - described - COMMON, set())
        self.assertEqual(described - offered - COMMON, set())

    def test_daemon(self):
        page = manual("biomatchd.8").replace("\\-", "-")
        described = set(re.findall(r"--([a-z0-9-]+)", page[page.index(".SH OPTIONS"):page.index(".SH SIGNALS")]))
        self.assertEqual(described - COMMON - {"help"}, options(help_of("biomatchd")) - COMMON - {"help"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
