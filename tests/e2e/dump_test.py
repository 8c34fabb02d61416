#!/usr/bin/python3 -B
"""A store that is dumped and loaded under another key answers as before; the format is read here as docs/dump.md says it."""
import hashlib
import os
import shutil
import struct
import unittest

from harness import BUILD, run
from messages import admin, common, dump, enrolment, matching
from served import ADMIN, ENROLMENT, MATCHING, POLICY, Client, Served

HOLDS = """  - name: court
    legal_basis: test
    classes: [admin]
    operations: [hold, read]
    galleries: [people]
    priority: bulk
"""


def unseal(sealed, private_key):
    """The envelope, by another implementation than the daemon's."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    magic, ephemeral, rest = sealed[:18], sealed[18:50], sealed[50:]
    assert magic == b"biomatch-backup-1\n"
    key = serialization.load_pem_private_key(private_key, None)
    own = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    secret = HKDF(hashes.SHA256(), 32, ephemeral + own, b"biomatch backup v1").derive(
        key.exchange(X25519PublicKey.from_public_bytes(ephemeral)))
    chunks = [rest[at:at + 65552] for at in range(0, len(rest), 65552)]
    return b"".join(AESGCM(secret).decrypt(b"\0\0\0" + struct.pack(">QB", n, n + 1 == len(chunks)), chunk, None)
                    for n, chunk in enumerate(chunks))


def records(stream):
    """Every record with the place where its length stands."""
    at = 0
    while at < len(stream):
        size = struct.unpack(">I", stream[at:at + 4])[0]
        yield at, dump.DumpRecord.FromString(stream[at + 4:at + 4 + size])
        at += 4 + size
    assert at == len(stream)


def framed(record):
    packed = record.SerializeToString()
    return struct.pack(">I", len(packed)) + packed


class DumpTest(Served):
    policy = POLICY + HOLDS

    def setUp(self):
        super().setUp()
        for name in ("archive", "other"):
            self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out", self.path(name + ".key")).returncode, 0)
            self.assertEqual(run("openssl", "pkey", "-in", self.path(name + ".key"), "-pubout", "-out",
                                 self.path(name + ".pub")).returncode, 0)
        self.probes = [common.Probe(template=self.lane.extract(data)) for data in self.ada + self.strangers]
        one, two, *others = self.probes
        self.lane.enrol("ada", one, encounter_id="first", encounter_type="visit", site="hall")
        self.lane.enrol("ada", two, "again", encounter_id="second")
        for n, probe in enumerate(others):
            self.lane.enrol("stranger-%d" % n, probe)
        self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id="others", name="others"), admin.CreateGalleryResponse)
        self.office.call(ADMIN + "PlaceLegalHold", admin.PlaceLegalHoldRequest(
            purpose="court", request_id="hold", gallery="people", subject_id="ada", matter="case 1"), admin.PlaceLegalHoldResponse)

    def biomatchd(self, *arguments):
        return run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), *arguments)

    def good(self, *arguments):
        done = self.biomatchd(*arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def bad(self, status, text, *arguments):
        done = self.biomatchd(*arguments)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(os.listdir(self.path("store")), [])

    def dump(self, name="dump"):
        return self.good("--dump=" + self.path(name), "--key=" + self.path("archive.pub"))

    def load(self, name="dump"):
        return "--load=" + self.path(name), "--key=" + self.path("archive.key")

    def empty_store(self):
        shutil.rmtree(self.path("store"))
        os.mkdir(self.path("store"), 0o700)

    def answers(self):
        """What a client sees of the store."""
        found = [self.lane.identify(probe) for probe in self.probes]
        held = [self.lane.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="gate", gallery="people", subject_id=subject), enrolment.GetSubjectResponse) for subject in ("ada", "stranger-0")]
        verified = [self.lane.call(MATCHING + "Verify", matching.VerifyRequest(
            purpose="gate", gallery="people", subject_id="ada", probe=probe), matching.VerifyResponse) for probe in self.probes]
        return ([[(c.subject_id, c.encounter_id, round(c.raw.score, 4)) for c in f.candidates] for f in found],
                [(h.subject_id, [e.SerializeToString() for e in h.encounters], h.legal_hold) for h in held],
                [(v.decision, v.encounter_id, round(v.raw.score, 4)) for v in verified])

    def test_load_under_another_key(self):
        before = self.answers()
        told = self.dump()
        self.assertIn("dump of 2 galleries, %d subjects, %d encounters" % (len(self.probes) - 1, len(self.probes)), told)
        self.assertEqual(os.stat(self.path("dump")).st_mode & 0o777, 0o600)
        self.assertEqual(self.daemon.stop(), 0)
        self.empty_store()
        os.unlink(self.path("store.key"))
        self.cert("key", self.path("store.key"))
        self.assertIn("loaded and checked, 2 galleries", self.good(*self.load()))
        self.assertEqual(os.listdir(self.path("store")), ["data.mdb"])
        # Templates that were handed out are sealed under the key that is gone.
        self.daemon = self.start()
        self.lane, self.office = (Client(self, self.daemon.port, name) for name in ("lane", "admin"))
        self.probes = [common.Probe(template=self.lane.extract(data)) for data in self.ada + self.strangers]
        self.assertEqual(self.answers(), before)
        holds = self.office.call(ADMIN + "ListLegalHolds", admin.ListLegalHoldsRequest(
            purpose="court", gallery="people", subject_id="ada"), admin.ListLegalHoldsResponse).holds
        self.assertEqual([hold.matter for hold in holds], ["case 1"])
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIn("good", self.good("--fsck"))

    def test_documented_format(self):
        self.dump()
        with open(self.path("dump"), "rb") as file:
            sealed = file.read()
        for secret in (b"ada", b"case 1", b"people"):
            self.assertNotIn(secret, sealed)
        with open(self.path("archive.key"), "rb") as key:
            stream = unseal(sealed, key.read())
        found = list(records(stream))
        kinds = [record.WhichOneof("kind") for _, record in found]
        self.assertEqual((kinds[0], kinds[-1]), ("header", "end"))
        self.assertEqual(found[0][1].header.format, "biomatch-dump-1")
        self.assertEqual([record.gallery.name for _, record in found if record.HasField("gallery")], ["others", "people"])
        subjects = {record.subject.subject_id: record.subject for _, record in found if record.HasField("subject")}
        ada = subjects["ada"]
        self.assertEqual([(e.facts.encounter_id, e.facts.encounter_type, e.facts.site) for e in ada.encounters],
                         [("first", "visit", "hall"), ("second", "", "")])
        self.assertEqual([hold.matter for hold in ada.holds], ["case 1"])
        # Templates of unit length, whose products are the scores.
        one, two = (struct.unpack("<512f", encounter.template) for encounter in ada.encounters)
        self.assertAlmostEqual(sum(x * x for x in one), 1, places=5)
        alike = self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=self.probes[0], reference=self.probes[1]), matching.CompareResponse).raw.score
        self.assertAlmostEqual(sum(x * y for x, y in zip(one, two)), alike, places=5)
        at, end = found[-1]
        self.assertEqual((end.end.galleries, end.end.subjects, end.end.encounters), (2, len(subjects), len(self.probes)))
        self.assertEqual(end.end.sha256, hashlib.sha256(stream[:at]).digest())

    def test_refused(self):
        self.dump()
        done = self.biomatchd(*self.load())
        self.assertEqual((done.returncode, "File exists" in done.stderr), (74, True), done.stderr)
        self.assertEqual(self.daemon.stop(), 0)
        with open(self.path("dump"), "rb") as file:
            sealed = file.read()
        with open(self.path("archive.key"), "rb") as key:
            stream = unseal(sealed, key.read())
        self.empty_store()
        self.bad(74, "sealed to another key", "--load=" + self.path("dump"), "--key=" + self.path("other.key"))
        self.bad(78, "no X25519 private key", "--load=" + self.path("dump"), "--key=" + self.path("archive.pub"))
        self.bad(64, "--key", "--load=" + self.path("dump"))
        for n, damaged in enumerate((sealed[:-1], sealed[:3000], sealed[:4000] + bytes([sealed[4000] ^ 1]) + sealed[4001:], b"")):
            self.keep("damaged-%d" % n, damaged)
            self.bad(74, "damaged, not whole, or sealed to another key", *self.load("damaged-%d" % n))
        parts = [stream[at:following] for (at, _), (following, _) in zip(records(stream), list(records(stream))[1:] + [(len(stream), 0)])]
        last = list(records(stream))[-1][1]
        for n, wrong in enumerate((
                b"".join(parts[1:]), b"".join(parts[:-1]), b"".join(parts[:3] + parts[4:]), b"".join(parts) + parts[1],
                parts[0] + parts[3] + b"".join(parts[1:]), b"".join(parts[:4]) + parts[3] + b"".join(parts[4:]),
                b"\x00\x30\x00\x01" + bytes(3 << 20), b"", stream.replace(b"biomatch-dump-1", b"biomatch-dump-2"),
                self.reckoned(parts[:3] + [self.without_template(parts[3])] + parts[4:-1], last),
                self.reckoned(parts[:3] + [self.of_length_two(parts[3])] + parts[4:-1], last))):
            self.seal("wrong-%d" % n, wrong)
            self.bad(74, "the dump is damaged", *self.load("wrong-%d" % n))
        other = dump.DumpRecord.FromString(parts[1][4:])
        other.gallery.model_digest = bytes(32)
        self.seal("model", self.reckoned([parts[0], framed(other)] + parts[2:-1], last))
        done = self.biomatchd(*self.load("model"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("another model", done.stderr)
        self.assertEqual(os.listdir(self.path("store")), [])
        self.good(*self.load())

    def keep(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)

    def seal(self, name, stream):
        """What an owner of the public key could make: the envelope again, with Python's cryptography."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        with open(self.path("archive.pub"), "rb") as file:
            to = serialization.load_pem_public_key(file.read())
        raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        one = X25519PrivateKey.generate()
        ephemeral = one.public_key().public_bytes(*raw)
        secret = HKDF(hashes.SHA256(), 32, ephemeral + to.public_bytes(*raw), b"biomatch backup v1").derive(one.exchange(to))
        chunks = [stream[at:at + 65536] for at in range(0, len(stream) + 1, 65536)]
        self.keep(name, b"biomatch-backup-1\n" + ephemeral + b"".join(
            AESGCM(secret).encrypt(b"\0\0\0" + struct.pack(">QB", n, n + 1 == len(chunks)), chunk, None)
            for n, chunk in enumerate(chunks)))

    def reckoned(self, parts, last):
        """With an end that agrees with what comes before it."""
        before = b"".join(parts)
        end = dump.DumpRecord.FromString(last.SerializeToString())
        end.end.sha256 = hashlib.sha256(before).digest()
        return before + framed(end)

    def changed(self, part, template):
        record = dump.DumpRecord.FromString(part[4:])
        record.subject.encounters[0].template = template(record.subject.encounters[0].template)
        return framed(record)

    def without_template(self, part):
        return self.changed(part, lambda template: template[4:])

    def of_length_two(self, part):
        return self.changed(part, lambda template: struct.pack("<512f", *(2 * x for x in struct.unpack("<512f", template))))


if __name__ == "__main__":
    unittest.main(verbosity=2)
