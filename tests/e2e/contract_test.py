#!/usr/bin/python3 -B
"""What callers may rely on beyond the main job: lifetimes, limits, repeats, overload, reloads, losses."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

import grpc

from harness import BUILD, WAIT, run, wait_for
from messages import admin, analysis, common, enrolment, health, matching, rpc_status
from served import ADMIN, ENROLMENT, GROUP, MATCHING, PEOPLE, POLICY, Client, Served, picture, png, read, told

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
MISSING = (common.DECISION_REFER, common.REASON_NO_REFERENCE)

# Another purpose over the same galleries, for callers that may see no scores.
MORE = """  - name: turnstile
    legal_basis: test
    classes: [lane]
    operations: [verify, identify]
    galleries: [people]
    target_fmr: 0.001
    target_fpir: 0.1
    gallery_size: 100
    max_candidates: 2
    priority: lane
"""


def sealed(template):
    return common.Probe(template=template)


class Contract(Served):
    policy = POLICY + MORE

    def tearDown(self):
        """Whatever was done: the daemon ends well, and its log is JSON that names nobody."""
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        for line in self.daemon.log().splitlines():
            self.assertIn("event", json.loads(line))
        self.assertNotIn("subject-", self.daemon.log())

    def subject(self, name, client=None):
        return (client or self.lane).call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="gate", gallery="people", subject_id=name), enrolment.GetSubjectResponse)

    def drop(self, name, encounter, request_id):
        return self.lane.call(ENROLMENT + "DeleteEncounter", enrolment.DeleteEncounterRequest(
            purpose="gate", request_id=request_id, gallery="people", subject_id=name, encounter_id=encounter),
            enrolment.DeleteEncounterResponse)

    def decision(self, name, probe):
        answer = self.lane.verify(name, probe)
        return answer.decision, answer.reason

    def rows(self):
        shown = self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(purpose="office", name="people"),
                                 admin.GetGalleryResponse).gallery
        return shown.subjects, shown.encounters


class References(Contract):
    """What becomes of what is kept."""

    def setUp(self):
        super().setUp()
        self.one, self.two = (sealed(self.lane.extract(data)) for data in self.ada)
        self.stranger = sealed(self.lane.extract(self.strangers[0]))

    def test_expiry(self):
        soon = enrolment.Encounter()
        soon.expires_at.FromMilliseconds(int(time.time() * 1000) + 1500)
        self.lane.enrol("subject-a", self.one, "r1", expires_at=soon.expires_at, encounter_id="old")
        self.assertEqual(self.decision("subject-a", self.two)[0], common.DECISION_MATCH)
        wait_for(lambda: self.decision("subject-a", self.two) == (common.DECISION_REFER, common.REASON_REFERENCE_EXPIRED),
                 "the reference's expiry")
        self.assertEqual(self.lane.identify(self.two).decision, common.DECISION_NO_MATCH)
        self.assertEqual([e.encounter_id for e in self.subject("subject-a").encounters], ["old"])
        self.refused(INVALID, "INVALID_ARGUMENT", "encounter.expires_at", self.lane.enrol, "subject-a", self.one, "r2",
                     expires_at=soon.expires_at)
        # An expired reference is no duplicate.
        self.assertEqual(self.lane.enrol("subject-b", self.one, "r3", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_CREATED)
        self.lane.enrol("subject-a", self.one, "r4", encounter_id="new")
        answer = self.lane.verify("subject-a", self.two)
        self.assertEqual((answer.decision, answer.encounter_id), (common.DECISION_MATCH, "new"))
        self.assertEqual(answer.basis.compared, 1)

    def test_encounters(self):
        self.lane.enrol("subject-a", self.stranger, "r1", encounter_id="first", encounter_type="arrival", site="north")
        self.lane.enrol("subject-a", self.one, "r2", encounter_id="second")
        answer = self.lane.verify("subject-a", self.two)
        self.assertEqual((answer.decision, answer.encounter_id, answer.basis.compared),
                         (common.DECISION_MATCH, "second", 2))
        held = self.subject("subject-a").encounters
        self.assertEqual([(e.encounter_id, e.encounter_type, e.site) for e in held],
                         [("first", "arrival", "north"), ("second", "", "")])
        self.assertTrue(all(abs(e.enrolled_at.seconds - time.time()) < WAIT and e.model for e in held))
        self.refused(grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", "", self.lane.enrol, "subject-a", self.one,
                     "r3", encounter_id="second")
        self.refused(NOT_FOUND, "ENCOUNTER_UNKNOWN", "", self.drop, "subject-a", "third", "d0")
        self.assertEqual(self.drop("subject-a", "second", "d1").encounters_left, 1)
        self.assertEqual(self.decision("subject-a", self.two)[0], common.DECISION_NO_MATCH)
        self.assertEqual(self.drop("subject-a", "first", "d2").encounters_left, 0)
        self.assertEqual(self.decision("subject-a", self.two), MISSING)
        self.refused(NOT_FOUND, "NO_REFERENCE", "", self.subject, "subject-a")
        self.assertEqual(self.rows(), (0, 0))

    def test_repeats_change_nothing(self):
        crowd = picture(read(GROUP))
        refer = self.lane.enrol("subject-a", crowd, "r1")
        self.assertEqual((refer.outcome, refer.reason),
                         (enrolment.ENROL_OUTCOME_REFER, common.REASON_SEVERAL_FACES))
        self.assertEqual(self.lane.enrol("subject-a", crowd, "r1"), refer)
        created = self.lane.enrol("subject-a", self.one, "r2")
        duplicate = self.lane.enrol("subject-b", self.two, "r3", unique=True)
        self.assertEqual(duplicate.outcome, enrolment.ENROL_OUTCOME_DUPLICATE)
        # The first answer stands although the second would be another now.
        self.assertEqual(self.lane.enrol("subject-a", self.one, "r2"), created)
        self.assertEqual(self.lane.enrol("subject-b", self.two, "r3", unique=True), duplicate)
        self.assertEqual(self.rows(), (1, 1))
        self.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id="d1", gallery="people", subject_id="subject-a"),
            enrolment.DeleteSubjectResponse)
        # Both told of who is erased now; neither is told again, nor done.
        for subject, face, request, unique in (("subject-b", self.two, "r3", True), ("subject-a", self.one, "r2", False)):
            self.refused(grpc.StatusCode.FAILED_PRECONDITION, "ANSWER_ERASED", "", self.lane.enrol, subject, face, request, unique)
        self.assertEqual(self.lane.enrol("subject-a", crowd, "r1"), refer)
        self.assertEqual(self.rows(), (0, 0))

    def test_request_ids_belong_to_their_endpoint(self):
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/lane2"), "biomatch://example/hall/lane/2")
        self.lane.enrol("subject-a", self.one, "same")
        Client(self, self.daemon.port, "lane2").enrol("subject-b", self.stranger, "same")
        self.assertEqual(self.rows(), (2, 2))

    def test_repeats_at_the_same_moment(self):
        enrol = self.lane.method(ENROLMENT + "Enrol", enrolment.EnrolResponse)
        request = enrolment.EnrolRequest(purpose="gate", request_id="r1", gallery="people", subject_id="subject-a",
                                         reference=self.one)
        calls = [enrol.future(request, timeout=WAIT) for _ in range(16)]
        self.assertEqual(len({call.result().encounter_id for call in calls}), 1)
        self.assertEqual(self.rows(), (1, 1))

    def test_template_of_another_store(self):
        self.assertEqual(self.daemon.stop(), 0)
        shutil.rmtree(self.path("store"))
        os.mkdir(self.path("store"))
        os.remove(self.path("store.key"))
        self.cert("key", self.path("store.key"))
        self.daemon = self.start()
        lane = Client(self, self.daemon.port, "lane")
        self.refused(INVALID, "TEMPLATE_INVALID", "probe", lane.verify, "subject-a", self.one)


class Answers(Contract):
    """What is told, to whom, and how."""

    def test_limits_of_fields(self):
        probe = sealed(self.lane.extract(self.ada[0]))
        for field, call in (
                ("subject_id", lambda: self.lane.verify("s" * 129, probe)),
                ("request_id", lambda: self.lane.enrol("s", probe, "r" * 65)),
                ("encounter.encounter_type", lambda: self.lane.enrol("s", probe, encounter_type="t" * 33)),
                ("max_candidates", lambda: self.lane.identify(probe, max_candidates=6)),
                ("filter.sites", lambda: self.lane.identify(
                    probe, filter=matching.IdentifyFilter(sites=["north"] * 257))),
                ("galleries", lambda: self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
                    purpose="gate", galleries=["people", "people"], probe=probe), matching.IdentifyResponse))):
            self.refused(INVALID, "INVALID_ARGUMENT", field, call)
        for field, call in (("subject_id", lambda: self.lane.verify("", probe)),
                            ("galleries", lambda: self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
                                purpose="gate", probe=probe), matching.IdentifyResponse))):
            self.refused(INVALID, "FIELD_MISSING", field, call)
        self.assertEqual(self.lane.verify("s" * 128, probe).reason, common.REASON_NO_REFERENCE)

    def test_scores_are_a_right(self):
        self.lane.enrol("subject-a", picture(self.ada[0]), "r1")
        mate = self.lane.verify("subject-a", picture(self.ada[1]), purpose="turnstile")
        self.assertFalse(mate.HasField("raw"))
        self.assertIn(mate.band, (common.SCORE_BAND_ABOVE, common.SCORE_BAND_MATE))
        other = self.lane.verify("subject-a", picture(self.strangers[0]), purpose="turnstile")
        self.assertIn(other.band, (common.SCORE_BAND_STRANGER, common.SCORE_BAND_BELOW))
        found = self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose="turnstile", galleries=["people"], probe=picture(self.ada[1])), matching.IdentifyResponse)
        self.assertEqual([(c.subject_id, c.HasField("raw")) for c in found.candidates], [("subject-a", False)])
        self.assertTrue(mate.basis.calibration_id and mate.basis.model)
        self.assertAlmostEqual(mate.basis.target_rate, 0.001)

    def test_analyse(self):
        def analyse(data):
            return self.lane.call("/biomatch.v1.AnalysisService/Analyse", analysis.AnalyseRequest(
                purpose="gate", image=common.Image(data=data)), analysis.AnalyseResponse)
        good = analyse(self.ada[0])
        face = good.report.faces[0]
        self.assertTrue(good.usable)
        self.assertEqual((good.reason, good.report.width > 0, len(good.report.faces)), (0, True, 1))
        left, right = face.landmarks[0], face.landmarks[1]
        self.assertAlmostEqual(face.inter_eye_distance, ((left.x - right.x) ** 2 + (left.y - right.y) ** 2) ** .5, 2)
        self.assertTrue(face.box.x < left.x < right.x < face.box.x + face.box.width)
        self.assertGreater(good.times.embed_us + good.times.detect_us, 0)
        crowd = analyse(read(GROUP))
        self.assertEqual((crowd.usable, crowd.reason), (False, common.REASON_SEVERAL_FACES))
        sizes = [f.box.width * f.box.height for f in crowd.report.faces]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertGreater(len(sizes), 1)
        nobody = analyse(png(400, 300))
        self.assertEqual((nobody.usable, nobody.reason, len(nobody.report.faces)), (False, common.REASON_NO_FACE, 0))

    def test_several_galleries(self):
        self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id="others", name="others"), admin.CreateGalleryResponse)
        mine, theirs = (sealed(self.lane.extract(data)) for data in self.ada)
        for gallery, probe in (("people", theirs), ("others", mine)):
            self.lane.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
                purpose="gate", request_id=gallery, gallery=gallery, subject_id="subject-a", reference=probe),
                enrolment.EnrolResponse)
        found = self.lane.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose="gate", galleries=["people", "others"], probe=mine), matching.IdentifyResponse)
        self.assertEqual([c.gallery for c in found.candidates], ["others", "people"])
        self.assertAlmostEqual(found.candidates[0].raw.score, 1, 4)
        self.assertEqual(found.basis.compared, 2)

    def test_bytes_that_are_no_message(self):
        verify = self.lane.channel.unary_unary(MATCHING + "Verify")
        deep = b""  # field 4 in field 4 in field 4
        for _ in range(10000):
            deep = b"\x22" + varint(len(deep)) + deep
        malformed, large = (INVALID, "MESSAGE_MALFORMED"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        for data, expected in ((b"\xff\xff\xff", malformed), (b"\x0a\x02\xc3\x28", malformed),
                               (b"\x0a\x03a\0b", malformed), (b"\x22\x05\x0a", malformed),
                               (b"\x0a\xff\xff\xff\x7fx", malformed), (b"\x22\0" * 100000, large),
                               (deep, (INVALID, "FIELD_MISSING"))):
            with self.assertRaises(grpc.RpcError) as caught:
                verify(data, timeout=WAIT)
            self.assertEqual((caught.exception.code(), told(caught.exception)[0]), expected, data[:10])

    def test_message_beyond_the_limit(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.lane.verify("subject-a", picture(bytes(22 << 20)))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(self.lane.verify("subject-a", picture(self.ada[0])).reason, common.REASON_NO_REFERENCE)

    def test_endpoints_that_are_not_ours(self):
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/elsewhere"), "biomatch://other/hall/lane/1")
        # Signed by the same CA, for something else altogether.
        self.write("pki/extensions", "subjectAltName=DNS:lane.example\nextendedKeyUsage=clientAuth\n")
        for command in ("req -new -newkey ed25519 -nodes -subj /CN=odd -keyout pki/odd.key -out pki/odd.csr",
                        "x509 -req -in pki/odd.csr -CA pki/ca.pem -CAkey pki/ca.key -days 1 -extfile pki/extensions "
                        "-out pki/odd.pem"):
            done = run("openssl", *command.split(), cwd=self.dir)
            self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("elsewhere", "odd"):
            with self.assertRaises(grpc.RpcError) as caught:
                Client(self, self.daemon.port, name).verify("subject-a", picture(self.ada[0]))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED, caught.exception)
            self.assertEqual(told(caught.exception)[0], "PEER_IDENTITY")

    def test_traceparent_is_logged(self):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        with self.assertRaises(grpc.RpcError):
            verify(matching.VerifyRequest(purpose="spying", gallery="people", subject_id="subject-a",
                                          probe=picture(self.ada[0])), timeout=WAIT, metadata=[("traceparent", trace)])
        self.assertIn(trace, self.daemon.log())

    def test_health(self):
        check = self.lane.method("/grpc.health.v1.Health/Check", health.HealthCheckResponse)
        for service in ("", "biomatch.v1.MatchingService", "biomatch.v1.EnrolmentService",
                        "biomatch.v1.AnalysisService", "biomatch.v1.AdminService"):
            self.assertEqual(check(health.HealthCheckRequest(service=service), timeout=WAIT).status,
                             health.HealthCheckResponse.SERVING)
        self.refused(NOT_FOUND, "SERVICE_UNKNOWN", "service", check, health.HealthCheckRequest(service="no.such"),
                     timeout=WAIT)
        watch = self.lane.channel.unary_stream("/grpc.health.v1.Health/Watch",
                                               request_serializer=lambda m: m.SerializeToString(),
                                               response_deserializer=health.HealthCheckResponse.FromString)
        states = watch(health.HealthCheckRequest(service="no.such"), timeout=WAIT)
        self.assertEqual(next(states).status, health.HealthCheckResponse.SERVICE_UNKNOWN)
        states.cancel()


class Busy(Contract):
    """A case that asks for faces, many at a time."""

    def setUp(self):
        super().setUp()
        self.verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        self.request = matching.VerifyRequest(purpose="gate", gallery="people", subject_id="subject-a",
                                              probe=picture(self.ada[0]))


    @contextlib.contextmanager
    def stopped(self, workers):
        """Face workers that do nothing for a while."""
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)


class Hanging(Busy):
    """Workers that stop."""

    def configuration(self, more=""):
        return super().configuration(more).replace("face:\n", "face:\n  run: 1s\n")

    def test_worker_that_hangs(self):
        self.lane.verify("subject-a", picture(self.ada[0]))
        victim = self.daemon.workers()[0]
        with self.stopped([victim]):
            calls = [self.verify.future(self.request, timeout=WAIT) for _ in range(2)]
            errors = [call.exception() for call in calls]
        self.assertEqual(sorted(error is None for error in errors), [False, True])
        error = next(error for error in errors if error)
        self.assertEqual((error.code(), told(error)[0]), (grpc.StatusCode.UNAVAILABLE, "FACE_WORKER_TIMEOUT"))
        wait_for(lambda: len(self.daemon.workers()) == 2 and victim not in self.daemon.workers(), "a new worker")
        self.assertEqual(self.lane.verify("subject-a", picture(self.ada[0])).reason, common.REASON_NO_REFERENCE)


class Strain(Busy):
    """Overload, losses and changes while calls are open."""

    def configuration(self, more=""):
        text = super().configuration(more).replace("server:\n", "server:\n  queue: 4\n")
        return text.replace("face:\n", "face:\n  run: 1m\n")

    def patient(self):
        """Repeats a call until it is answered, and gives the reasons for which it was not."""
        reasons = set()

        def answered():
            try:
                return self.lane.verify("subject-a", picture(self.ada[0])).reason == common.REASON_NO_REFERENCE
            except grpc.RpcError as error:
                reasons.add(told(error)[0])
                return False
        wait_for(answered, "an answer")
        return reasons

    def test_overload(self):
        workers = self.daemon.workers()
        with self.stopped(workers):
            calls = [self.verify.future(self.request, timeout=WAIT) for _ in range(20)]
            # Four may wait, and two more once a worker's thread holds them; the others are turned away at once.
            wait_for(lambda: sum(call.done() for call in calls) >= 14, "the refusals")
        for call in calls:
            error = call.exception()
            if error is None:
                self.assertEqual(call.result().reason, common.REASON_NO_REFERENCE)
                continue
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            status = rpc_status.parse(dict(error.trailing_metadata())["grpc-status-details-bin"])
            self.assertEqual(status.reason, "OVERLOADED")
            self.assertGreater(status.retry, 0)
        self.assertIn(sum(call.exception() is None for call in calls), (4, 5, 6))
        self.assertEqual(sorted(self.daemon.workers()), sorted(workers))

    def test_deadline_in_the_queue(self):
        workers = self.daemon.workers()
        with self.stopped(workers):
            for call in [self.verify.future(self.request, timeout=0.5) for _ in range(4)]:
                self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        # What nobody waits for any more is dropped, and the workers are kept.
        self.assertTrue(self.patient() <= {"OVERLOADED"})
        self.assertEqual(sorted(self.daemon.workers()), sorted(workers))

    def test_idle_workers_are_replaced(self):
        for worker in self.daemon.workers():
            os.kill(worker, signal.SIGKILL)
        self.assertTrue(self.patient() <= {"FACE_WORKER_LOST"})
        wait_for(lambda: len(self.daemon.workers()) == 2, "new workers")

    def test_reload_under_load(self):
        probe, failures, asked, over = sealed(self.lane.extract(self.ada[0])), [], [0], threading.Event()

        def ask():
            client = Client(self, self.daemon.port, "lane")
            while not over.is_set():
                try:
                    client.verify("subject-a", probe)
                    asked[0] += 1
                except grpc.RpcError as error:
                    failures.append(error)
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for i in range(1, 11):
                bad = i % 3 == 0
                self.write("policy.yaml", "nonsense: [" if bad else self.policy.replace("version: test", "version: v%d" % i))
                taken, refused, before = self.daemon.events("policy_taken"), self.daemon.events("policy_refused"), asked[0]
                self.daemon.process.send_signal(signal.SIGHUP)
                wait_for(lambda: (self.daemon.events("policy_refused") > refused if bad else  # pylint: disable=W0640
                                  self.daemon.events("policy_taken") > taken), "the reload")  # pylint: disable=W0640
                wait_for(lambda: asked[0] > before + 3, "calls after the reload")  # pylint: disable=W0640
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])

    def test_clients_that_vanish(self):
        """Clients killed in the middle of a call leave nothing behind."""
        def descriptors():
            return len(os.listdir("/proc/%d/fd" % self.daemon.process.pid))
        workers = self.daemon.workers()
        self.lane.verify("subject-a", picture(self.ada[0]))
        before = descriptors()
        with self.stopped(workers):
            clients = [subprocess.Popen([
                BUILD + "/biomatch", "verify", "people", "subject-a", PEOPLE + "/ada/01.jpg", "--purpose=gate",
                "--target=localhost:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                "--cert=" + self.path("pki/lane.pem"), "--key=" + self.path("pki/lane.key")]) for _ in range(4)]
            wait_for(lambda: descriptors() == before + 4, "the clients' connections")
            for client in clients:
                client.kill()
                client.wait()
            wait_for(lambda: descriptors() == before, "the connections' end")
        self.assertTrue(self.patient() <= {"OVERLOADED"})
        self.assertEqual(sorted(self.daemon.workers()), sorted(workers))


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


if __name__ == "__main__":
    unittest.main(verbosity=2)
