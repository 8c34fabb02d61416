#!/usr/bin/python3 -B
"""The example in C#, as far as it goes without .NET: its syntax, by Mono's compiler, and what it uses of the messages, held
against what protoc generates."""
import glob
import os
import re
import shutil
import tempfile
import unittest
import xml.etree.ElementTree

from examples import EXAMPLES, PROTO, made, protos
from served import read

FOLDER = os.path.join(EXAMPLES, "csharp")
SOURCE = os.path.join(FOLDER, "Traveller.cs")


def members(generated):
    """The properties of every class and the values of every enum that protoc has made."""
    found, name = {}, ""
    for line in generated.splitlines():
        if declared := re.match(r"\s+public (?:sealed partial class|enum) (\w+)", line):
            name = declared.group(1)
        elif member := re.match(r"\s+public \S+ (\w+) \{|\s+\[pbr::OriginalName\(.*\)\] (\w+) = ", line):
            found.setdefault(name, set()).add(member.group(1) or member.group(2))
    return found


class CSharp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="biomatch-example-")
        cls.addClassCleanup(shutil.rmtree, folder)
        made("protoc", "-I", PROTO, "-I", "/usr/include", "--csharp_out=" + folder,
             *protos("biomatch/v1", "google/rpc", "grpc/health/v1"))
        cls.known = members("".join(read(path).decode() for path in glob.glob(folder + "/*.cs")))
        cls.text = re.sub(r"//.*|\"[^\"\n]*\"", "", read(SOURCE).decode())

    @unittest.skipUnless(shutil.which("mcs"), "mono-mcs is not installed")
    def test_syntax(self):
        made("mcs", "--parse", SOURCE)

    def test_fields_that_are_set_exist(self):
        text, checked = self.text, set()
        while part := re.search(r"new (\w+)\s*\{([^{}]*)\}", text):  # the innermost first
            name, body = part.groups()
            if name in self.known:
                checked.add(name)
                self.assertLessEqual(set(re.findall(r"(\w+) = ", body)), self.known[name], name)
            text = text.replace(part.group(0), "made")
        self.assertLessEqual({"EnrolRequest", "VerifyRequest", "Encounter", "Probe", "Image", "HealthCheckRequest"}, checked)

    def test_fields_and_values_that_are_read_exist(self):
        read_of_answers = set(re.findall(r"\banswer\.(\w+)", self.text))
        self.assertLessEqual(read_of_answers, self.known["EnrolResponse"] | self.known["VerifyResponse"])
        self.assertLessEqual(set(re.findall(r"\breceipt\.(\w+)", self.text)), self.known["Receipt"])
        for enum in ("Reason", "Decision"):
            used = set(re.findall(r"(?<![\w.])%s\.([A-Z]\w+)" % enum, self.text))
            self.assertTrue(used)
            self.assertLessEqual(used, self.known[enum], enum)

    def test_project_finds_the_protos(self):
        item = xml.etree.ElementTree.parse(FOLDER + "/traveller.csproj").find(".//Protobuf")
        named = {os.path.relpath(path, PROTO) for pattern in item.get("Include").split(";")
                 for path in glob.glob(os.path.join(FOLDER, pattern.replace("\\", "/")))}
        self.assertEqual(named, set(protos("biomatch/v1", "google/rpc", "grpc/health/v1")))
        self.assertTrue(os.path.samefile(os.path.join(FOLDER, item.get("ProtoRoot").replace("\\", "/")), PROTO))


if __name__ == "__main__":
    unittest.main(verbosity=2)
