#!/usr/bin/python3 -B
"""
Allocations that fail: at the start, in each call, on the operators' port and on a reload.

The daemon runs under tests/crash/alloc.so. Each place that allocates, in the daemon or in a library under it, fails
once; and everything fails for a while. Whatever is answered then must be true, and the same call again succeeds.
MEMORY_SHARE is the share of places that take part, one in so many.
"""
import contextlib
import mmap
import os
import random
import re
import signal
import struct
import unittest

import grpc

from country import Country
from harness import BUILD, ROOT, run, wait_for
from messages import admin, analysis, common, enrolment, health, matching
from served import ADMIN, ANALYSIS, ENROLMENT, MATCHING, POLICY, Client, Served, dg2, picture, read, told

SHARE = int(os.environ.get("MEMORY_SHARE", "60"))
# What may be said of a call that found no memory: never a decision, or that something is not there or not allowed.
HONEST = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
WORKS, ONCE, OUTAGE = 0, 1, 2


class Refused(Exception):
    """By something that has no gRPC status."""


class Allocator:
    """What tests/crash/alloc.h describes."""

    PLACES = 65536
    SIZE = 32 + 8 * PLACES

    def __init__(self, path):
        with open(path, "w+b") as file:
            file.truncate(self.SIZE)
            self.map = mmap.mmap(file.fileno(), self.SIZE)

    def set(self, mode, after=0):
        struct.pack_into("<IIQQQ", self.map, 0, WORKS, SHARE, after, 0, 0)
        struct.pack_into("<I", self.map, 0, mode)

    def stop(self):
        struct.pack_into("<I", self.map, 0, WORKS)

    @property
    def failed(self):
        """Allocations that failed since set()."""
        return struct.unpack_from("<Q", self.map, 24)[0]


@unittest.skipIf(re.search("asan|tsan", BUILD), "a sanitizer is an allocator of its own")
class MemoryTest(Served):
    allocator = None

    def start(self, **options):
        if self.allocator is None:
            self.allocator = Allocator(self.path("allocator"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("port"))
        return super().start(environment={
            "LD_PRELOAD": os.path.abspath(BUILD + "/tests/crash/alloc.so"),
            "ALLOC_CONTROL": self.path("allocator"), "ALLOC_TRACE": self.path("trace")}, **options)

    @contextlib.contextmanager
    def failing(self, mode, after=0):
        self.allocator.set(mode, after)
        try:
            yield
        finally:
            self.allocator.stop()

    def callers(self):
        """Of the last allocation that failed."""
        with open(self.path("trace"), encoding="utf-8") as file:
            return file.read().rsplit("allocation", 1)[1]

    def end(self):
        """The daemon ends in order, and what it leaves is whole."""
        self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), "--fsck")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class StartTest(MemoryTest):
    def try_start(self, mode, after=0):
        """True when the daemon served; otherwise it must have ended by itself and have said why."""
        with self.failing(mode, after):
            try:
                self.daemon = self.start()
            except AssertionError as error:
                self.judge_end(str(error))
                return False
        self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        return True

    def judge_end(self, text):
        """The reason was told; or OpenSSL, which cannot set itself up without memory, ended the process by a fault."""
        if re.search("status [1-9][0-9]*: (.*\n)*biomatchd: .", text):
            return
        self.assertRegex(text, "status -(6|11):")
        self.assertIn("CRYPTO_THREAD_run_once", self.callers(), text)
        self.faults += 1

    def test_start(self):
        """The daemon starts, or ends with a status and a line that says why; and the next time it starts."""
        self.assertEqual(self.daemon.stop(), 0)
        self.faults, results, more = 0, [], True
        while more:
            results.append(self.try_start(ONCE))
            more = self.allocator.failed > 0
        self.assertTrue(results.pop())
        for after in random.Random(1).sample(range(20000), max(2, 200 // SHARE)):
            results.append(self.try_start(OUTAGE, after))
        self.assertTrue(self.try_start(WORKS))
        print("%d starts short of memory: %d served, %d refused, %d of them by a fault in OpenSSL's set-up" % (
            len(results), sum(results), results.count(False), self.faults))


class CallsTest(MemoryTest):
    """Each call is made while something fails, and again while nothing does."""

    policy = POLICY.replace("operations: [verify,", "operations: [verify, verify_document,") + """  - name: registration
    legal_basis: test
    classes: [lane]
    operations: [enrol, image]
    galleries: [people]
    keep_image: true
    priority: kiosk
"""

    def configuration(self, more=""):
        return super().configuration(more) + "documents:\n  csca: country/csca.pem\n"

    def start(self, **options):
        if not os.path.exists(self.path("country")):
            self.country = Country(self.path("country"))
        return super().start(**options)

    def setUp(self):
        super().setUp()
        self.chip = dg2(self.ada[1])
        self.sod = self.country.sign(self.chip)
        self.template = common.Probe(template=self.lane.extract(self.ada[0]))
        self.lane.enrol("ada", self.template)
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/second"), "biomatch://example/test/admin/2")
        self.assertEqual(run("openssl", "genpkey", "-algorithm", "X25519", "-out", self.path("key")).returncode, 0)
        self.assertEqual(run("openssl", "pkey", "-in", self.path("key"), "-pubout", "-out", self.path("key.pub")).returncode, 0)
        self.recipient = read(self.path("key.pub"))
        self.made = self.refused_calls = self.restarts = 0

    def verify(self, probe):
        def ask(client, _):
            self.assertEqual(client.verify("ada", probe).decision, common.DECISION_MATCH)
        return ask

    def compare(self, client, _):
        self.assertEqual(client.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=self.template, reference=self.template), matching.CompareResponse).decision,
            common.DECISION_MATCH)

    def verify_document(self, client, _):
        answer = client.call(MATCHING + "VerifyDocument", matching.VerifyDocumentRequest(
            purpose="gate", probe=self.template, dg2=self.chip, sod=self.sod), matching.VerifyDocumentResponse)
        self.assertTrue(answer.document.authentic, answer.document)
        self.assertEqual(answer.face.decision, common.DECISION_MATCH)

    def identify(self, client, _):
        self.assertEqual([c.subject_id for c in client.identify(self.template).candidates], ["ada"])

    def analyse(self, client, _):
        self.assertTrue(client.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
            purpose="gate", image=common.Image(data=self.ada[0])), analysis.AnalyseResponse).usable)

    def extract(self, client, _):
        self.assertTrue(client.extract(self.ada[0]).data)

    def encounters(self, name, wanted):
        def ask(client, n):
            self.assertEqual([e.encounter_id for e in client.call(
                ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
                    purpose="gate", gallery="people", subject_id=name % n),
                enrolment.GetSubjectResponse).encounters], wanted)
        return ask

    def enrol(self, encounter):
        def ask(client, n):
            self.assertEqual(client.enrol("s%d" % n, self.template, "%s%d" % (encounter, n),
                                          encounter_id=encounter).encounter_id, encounter)
        return ask

    def keep(self, client, n):
        self.assertTrue(client.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="registration", request_id="keep%d" % n, gallery="people", subject_id="s%d" % n,
            reference=picture(self.ada[1]), encounter=enrolment.Encounter(encounter_id="two")), enrolment.EnrolResponse).image_kept)

    def image(self, client, n):
        self.assertEqual(client.call(ENROLMENT + "GetImage", enrolment.GetImageRequest(
            purpose="registration", gallery="people", subject_id="s%d" % n, encounter_id="two"),
            enrolment.GetImageResponse).data, self.ada[1])

    def less(self, client, n):
        self.assertEqual(client.call(ENROLMENT + "DeleteEncounter", enrolment.DeleteEncounterRequest(
            purpose="gate", request_id="less%d" % n, gallery="people", subject_id="s%d" % n, encounter_id="one"),
            enrolment.DeleteEncounterResponse).encounters_left, 1)

    def gone(self, client, n):
        self.assertEqual(client.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id="gone%d" % n, gallery="people", subject_id="s%d" % n),
            enrolment.DeleteSubjectResponse).encounters_deleted, 1)

    def galleries(self, extra):
        def ask(client, n):
            self.assertEqual([g.name for g in client.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(
                purpose="office"), admin.ListGalleriesResponse).galleries], ["g%d" % n] * extra + ["people"])
        return ask

    def gallery(self, verb):
        def ask(client, n):
            request = {"purpose": "office", "name": "g%d" % n}
            if verb != "Get":
                request["request_id"] = "%s%d" % (verb, n)
            client.call(ADMIN + verb + "Gallery", getattr(admin, verb + "GalleryRequest")(**request),
                        getattr(admin, verb + "GalleryResponse"))
        return ask

    def checkpoint(self, client, n):
        self.head = client.call(ADMIN + "CreateAuditCheckpoint", admin.CreateAuditCheckpointRequest(
            purpose="office", request_id="checkpoint%d" % n), admin.CreateAuditCheckpointResponse)
        self.assertTrue(self.head.checkpoint)

    def entries(self, client, _):
        self.assertTrue(client.call(ADMIN + "ExportAudit", admin.ExportAuditRequest(
            purpose="office", page_size=3), admin.ExportAuditResponse).entries)

    def approve(self, client, n):
        self.assertTrue(client.call(ADMIN + "ApproveSubjectExport", admin.ApproveSubjectExportRequest(
            purpose="office", request_id="approve%d" % n, gallery="people", subject_id="ada",
            recipient_key=self.recipient), admin.ApproveSubjectExportResponse).HasField("expires_at"))

    def export(self, client, _):
        self.assertTrue(client.call(ADMIN + "ExportSubject", admin.ExportSubjectRequest(
            purpose="office", gallery="people", subject_id="ada", recipient_key=self.recipient),
            admin.ExportSubjectResponse).sealed)

    def health(self, client, _):
        self.assertEqual(client.call("/grpc.health.v1.Health/Check", health.HealthCheckRequest(),
                                     health.HealthCheckResponse).status, 1, "SERVING")

    def reload(self, _client, _):
        def events():
            return [sum(self.daemon.events("%s_%s" % (what, how)) for how in ("taken", "not_taken", "refused"))
                    for what in ("policy", "certificates")]
        before = events()
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: all(now > then for now, then in zip(events(), before)), "the reload's outcome")

    def steps(self):
        """In the order in which they follow from one another, with who asks."""
        for ask in (self.health, self.verify(self.template), self.compare, self.identify, self.verify(picture(self.ada[1])),
                    self.verify_document, self.extract, self.analyse, self.enrol("one"), self.encounters("s%d", ["one"]), self.keep,
                    self.image, self.less, self.encounters("s%d", ["two"]), self.gone):
            yield "lane", ask
        for ask in (self.gallery("Create"), self.gallery("Get"), self.galleries(1), self.gallery("Delete"),
                    self.galleries(0), self.checkpoint, self.entries, self.reload):
            yield "admin", ask
        yield "admin", self.approve
        yield "second", self.export

    def honest(self, client, ask, n):
        """True when it was answered; what is answered is true, and a refusal says that there was no memory."""
        try:
            ask(client, n)
            return True
        except Refused:
            pass
        except grpc.RpcError as error:
            lost = error.details() == "Stream removed"  # grpcio's way to say that the connection was closed
            self.assertTrue(lost or error.code() in HONEST, "%s: %s, allocation%s" % (
                ask.__qualname__, error, self.callers()))
            if told(error)[0] == "STORE_READ_ONLY":
                self.restart()
        self.assertIsNone(self.daemon.process.poll(), self.daemon.log())
        self.refused_calls += 1
        return False

    def restart(self):
        self.restarts += 1
        self.end()
        self.daemon = self.start()

    def ask_again(self, name, ask, n):
        """With memory the same call succeeds, after one restart where a commit had failed."""
        for _ in range(3):
            client = Client(self, self.daemon.port, name)
            answered = self.honest(client, ask, n)
            client.channel.close()
            if answered:
                return
        self.fail("%s is refused although there is memory" % ask.__qualname__)

    def go_through(self, n, mode, after=0):
        """All steps in turn; gives how many allocations failed."""
        failed = 0
        for name, ask in self.steps():
            client = Client(self, self.daemon.port, name)
            with self.failing(mode, after):
                answered = self.honest(client, ask, n)
            client.channel.close()
            self.made += 1
            failed += self.allocator.failed
            if not answered:
                self.ask_again(name, ask, n)
        return failed

    def test_calls(self):
        rounds = 1
        while self.go_through(rounds, ONCE):
            rounds += 1
        for after in random.Random(1).sample(range(400), max(2, 100 // SHARE)):
            rounds += 1
            self.go_through(rounds, OUTAGE, after)
        self.end()
        print("%d calls in %d rounds, %d refused, %d restarts" % (self.made, rounds, self.refused_calls, self.restarts))


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
