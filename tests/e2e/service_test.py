#!/usr/bin/python3 -B
"""The service as Debian's grpcio sees it: real faces, real refusals, real losses."""
import glob
import os
import signal
import ssl
import socket
import subprocess
import threading
import unittest

import grpc

from harness import BUILD, WAIT, run, wait_for
from messages import admin, analysis, common, enrolment, health, matching, rpc_status
from served import ADMIN, ANALYSIS, ENROLMENT, GROUP, MATCHING, PEOPLE, Client, Served, picture, png, read, told


class ServiceTest(Served):
    def test_main_job(self):
        for i, data in enumerate([self.ada[0]] + self.strangers):
            self.assertEqual(self.lane.enrol("person-%d" % i, picture(data)).outcome, enrolment.ENROL_OUTCOME_CREATED)
        answer = self.lane.verify("person-0", picture(self.ada[1]))
        self.assertEqual(answer.decision, common.DECISION_MATCH)
        self.assertGreater(answer.raw.score, answer.raw.threshold)
        self.assertEqual(len(answer.probe.faces[0].landmarks), 5)
        for i in range(1, len(self.strangers) + 1):
            self.assertEqual(self.lane.verify("person-%d" % i, picture(self.ada[1])).decision,
                             common.DECISION_NO_MATCH)
        found = self.lane.identify(picture(self.ada[1]))
        self.assertEqual([c.subject_id for c in found.candidates], ["person-0"])
        self.assertEqual(found.basis.compared, len(self.strangers) + 1)
        compared = self.lane.call(MATCHING + "Compare", matching.CompareRequest(
            purpose="gate", probe=picture(self.ada[0]), reference=picture(self.ada[1])), matching.CompareResponse)
        self.assertEqual(compared.decision, common.DECISION_MATCH)
        again = self.lane.enrol("someone-else", picture(self.ada[1]), unique=True)
        self.assertEqual(again.outcome, enrolment.ENROL_OUTCOME_DUPLICATE)
        self.assertEqual([c.subject_id for c in again.candidates], ["person-0"])
        referred = self.lane.verify("person-0", picture(read(GROUP)))
        self.assertEqual((referred.decision, referred.reason),
                         (common.DECISION_REFER, common.REASON_SEVERAL_FACES))
        template = self.lane.extract(self.ada[1])
        self.assertEqual(self.lane.verify("person-0", common.Probe(template=template)).decision,
                         common.DECISION_MATCH)
        self.assertNotIn("person-", self.daemon.log())

    def test_filters_and_expiry(self):
        template = common.Probe(template=self.lane.extract(self.ada[0]))
        self.lane.enrol("a", template, encounter_type="arrival", site="north")
        self.lane.enrol("b", template, encounter_type="registration", site="south")
        probe = common.Probe(template=self.lane.extract(self.ada[1]))
        self.assertEqual({c.subject_id for c in self.lane.identify(probe).candidates}, {"a", "b"})
        self.assertEqual(len(self.lane.identify(probe, max_candidates=1).candidates), 1)
        for wanted, only in (("b", {"sites": ["south"]}), ("a", {"encounter_types": ["arrival"]}),
                             ("b", {"subject_ids": ["b", "c"]})):
            found = self.lane.identify(probe, filter=matching.IdentifyFilter(**only))
            self.assertEqual([c.subject_id for c in found.candidates], [wanted])
        late = matching.IdentifyFilter()
        late.captured_from.GetCurrentTime()
        late.captured_from.seconds += 3600
        self.assertEqual(self.lane.identify(probe, filter=late).decision, common.DECISION_NO_MATCH)

    def analyse(self, data):
        return self.lane.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
            purpose="gate", image=common.Image(data=data)), analysis.AnalyseResponse)

    def test_quality(self):
        answer = self.analyse(self.ada[0])
        values = {q.component: q.value for q in answer.quality}
        self.assertTrue(answer.usable)
        self.assertEqual(len(values), len(answer.quality))
        self.assertEqual([q.value for q in answer.quality], sorted(values.values()))
        self.assertLessEqual(max(values.values()), 100)
        self.assertLess(values[common.QUALITY_COMPONENT_POSE_ROLL], 70)
        self.assertGreater(answer.pose.roll, 30)
        self.assertGreater(values[common.QUALITY_COMPONENT_UNDER_EXPOSURE], 90)
        self.assertEqual(values[common.QUALITY_COMPONENT_OVERALL],
                         values[common.QUALITY_COMPONENT_POSE_ROLL])
        self.assertGreater(answer.times.quality_us, 0)
        empty = self.analyse(png(400, 300))
        self.assertEqual((empty.usable, empty.reason, len(empty.quality), empty.HasField("pose")),
                         (False, common.REASON_NO_FACE, 0, False))
        self.lane.enrol("ada", picture(self.ada[0]))
        self.assertEqual(self.lane.verify("ada", picture(self.ada[1])).times.quality_us, 0)

    def test_hostile_pictures(self):
        before = sorted(self.daemon.workers())
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        self.lane.enrol("ada", picture(self.ada[0]))
        for reason, data in (("IMAGE_TRUNCATED", self.ada[0][:len(self.ada[0]) // 2]),
                             ("IMAGE_TOO_LARGE", png(20000, 20000)), ("IMAGE_FORMAT", b"This is no picture.\n" * 50),
                             ("IMAGE_TOO_SMALL", png(8, 8)), ("IMAGE_TRUNCATED", png(400, 300)[:120]),
                             ("IMAGE_TOO_LARGE", self.ada[0] + bytes(10 << 20)), ("FIELD_MISSING", b"")):
            self.refused(invalid, reason, "probe", self.lane.verify, "ada", picture(data))
        answer = self.lane.verify("ada", picture(png(400, 300)))
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, common.REASON_NO_FACE))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "NO_FACE", "image", self.lane.extract, png(400, 300))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "SEVERAL_FACES", "image", self.lane.extract, read(GROUP))
        self.assertEqual(self.lane.verify("ada", picture(self.ada[1])).decision, common.DECISION_MATCH)
        self.assertEqual(sorted(self.daemon.workers()), before)

    def test_refusals(self):
        denied, missing = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT
        probe = common.Probe(template=self.lane.extract(self.ada[0]))
        self.refused(denied, "PURPOSE_UNKNOWN", "purpose", self.lane.verify, "x", probe, purpose="spying")
        self.refused(denied, "PURPOSE_DENIED", "", self.office.verify, "x", probe)
        self.refused(denied, "PURPOSE_DENIED", "", self.lane.verify, "x", probe, gallery="secret")
        self.refused(grpc.StatusCode.NOT_FOUND, "GALLERY_UNKNOWN", "gallery", self.lane.verify, "x", probe,
                     gallery="others")
        self.refused(missing, "FIELD_MISSING", "probe", self.lane.verify, "x", None)
        damaged = common.Probe(template=common.Template(model=probe.template.model,
                                                        data=probe.template.data[:-1] + b"\0"))
        self.refused(missing, "TEMPLATE_INVALID", "probe", self.lane.verify, "x", damaged)
        damaged.template.model = "other/1"
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "TEMPLATE_MODEL", "probe", self.lane.verify, "x", damaged)
        with self.assertRaises(grpc.RpcError) as caught:
            self.lane.call(MATCHING + "Vanish", matching.VerifyRequest(), matching.VerifyResponse)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_requests_are_remembered_across_restarts(self):
        probe = common.Probe(template=self.lane.extract(self.ada[0]))
        first = self.lane.enrol("ada", probe, "once")
        self.assertEqual(self.lane.enrol("ada", probe, "once"), first)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", "", self.lane.enrol, "eve", probe, "once")
        self.assertEqual(self.daemon.stop(), 0)
        daemon = self.start()
        lane = Client(self, daemon.port, "lane")
        self.assertEqual(lane.enrol("ada", probe, "once"), first)
        subject = lane.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="gate", gallery="people", subject_id="ada"), enrolment.GetSubjectResponse)
        self.assertEqual([e.encounter_id for e in subject.encounters], [first.encounter_id])
        gone = lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id="gone", gallery="people", subject_id="ada"), enrolment.DeleteSubjectResponse)
        self.assertEqual(gone.encounters_deleted, 1)
        answer = lane.verify("ada", probe)
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, common.REASON_NO_REFERENCE))

    def test_answers_go_with_whom_they_tell_of(self):
        """A late repetition does not bring back who was erased, nor tell of them."""
        ada, other = (picture(data) for data in (self.ada[0], self.strangers[0]))
        told = self.lane.enrol("ada", ada, "first")
        self.lane.enrol("bob", other, "second")
        taken = self.lane.enrol("eve", ada, "third", unique=True)
        self.assertEqual([c.subject_id for c in taken.candidates], ["ada"])
        self.assertEqual(self.lane.enrol("ada", ada, "first"), told)
        self.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id="gone", gallery="people", subject_id="ada"), enrolment.DeleteSubjectResponse)
        for subject, request, unique in (("ada", "first", False), ("eve", "third", True)):
            self.refused(grpc.StatusCode.FAILED_PRECONDITION, "ANSWER_ERASED", "", self.lane.enrol, subject, ada, request, unique)
        self.assertEqual(self.lane.enrol("bob", other, "second").outcome, enrolment.ENROL_OUTCOME_CREATED)
        self.assertEqual(list(self.lane.identify(ada).candidates), [])
        self.assertEqual(self.lane.enrol("eve", ada, "fourth", unique=True).outcome, enrolment.ENROL_OUTCOME_CREATED)

    def test_galleries(self):
        def make(name):
            return self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
                purpose="office", request_id="make-" + name, name=name), admin.CreateGalleryResponse)
        def drop(name, request_id):
            return self.office.call(ADMIN + "DeleteGallery", admin.DeleteGalleryRequest(
                purpose="office", request_id=request_id, name=name), admin.DeleteGalleryResponse)
        for name in ("a", "b", "c"):
            self.assertEqual(make(name).gallery.name, name)
        names, token = [], ""
        while True:
            page = self.office.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(
                purpose="office", page_size=2, page_token=token), admin.ListGalleriesResponse)
            names += [g.name for g in page.galleries]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(names, ["a", "b", "c", "people"])
        self.lane.enrol("ada", picture(self.ada[0]))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "GALLERY_NOT_EMPTY", "", drop, "people", "d1")
        drop("b", "d2")
        self.refused(grpc.StatusCode.NOT_FOUND, "GALLERY_UNKNOWN", "", drop, "b", "d3")
        shown = self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(purpose="office", name="people"),
                                 admin.GetGalleryResponse).gallery
        self.assertEqual((shown.subjects, shown.encounters, shown.tail_rows), (1, 1, 1))

    def test_simultaneous_duplicates(self):
        probe = common.Probe(template=self.lane.extract(self.ada[0]))
        for cycle in range(5):
            enrol = self.lane.method(ENROLMENT + "Enrol", enrolment.EnrolResponse)
            calls = [enrol.future(enrolment.EnrolRequest(
                purpose="gate", request_id="%d-%d" % (cycle, i), gallery="people", subject_id="%d-%d" % (cycle, i),
                reference=probe, refuse_duplicates=True), timeout=WAIT) for i in range(8)]
            outcomes = [call.result().outcome for call in calls]
            self.assertEqual(outcomes.count(enrolment.ENROL_OUTCOME_CREATED), 1)
            self.assertEqual(outcomes.count(enrolment.ENROL_OUTCOME_DUPLICATE), 7)
            self.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
                purpose="gate", request_id="drop-%d" % cycle, gallery="people",
                subject_id="%d-%d" % (cycle, outcomes.index(enrolment.ENROL_OUTCOME_CREATED))),
                enrolment.DeleteSubjectResponse)

    def test_deadline_and_cancellation(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.lane.verify("x", picture(self.ada[0]), timeout=0.001)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        request = matching.VerifyRequest(purpose="gate", gallery="people", subject_id="x", probe=picture(self.ada[0]))
        calls = [verify.future(request, timeout=WAIT) for _ in range(20)]
        for call in calls[::2]:
            call.cancel()
        for call in calls[1::2]:
            self.assertEqual(call.result().reason, common.REASON_NO_REFERENCE)
        self.assertTrue(all(call.cancelled() for call in calls[::2]))

    def test_many_at_once(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        calls = [verify.future(matching.VerifyRequest(
            purpose="gate", gallery="people", subject_id="ada", probe=picture(data)), timeout=WAIT)
            for data in (self.ada[1], self.strangers[0]) * 16]
        decisions = [call.result().decision for call in calls]
        self.assertEqual(decisions, [common.DECISION_MATCH, common.DECISION_NO_MATCH] * 16)

    def test_lost_worker_costs_one_call(self):
        verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        request = matching.VerifyRequest(purpose="gate", gallery="people", subject_id="x", probe=picture(self.ada[0]))
        victim = self.daemon.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        calls = [verify.future(request, timeout=WAIT) for _ in range(8)]
        # The other worker serves all but the one that the stopped worker holds.
        wait_for(lambda: sum(call.done() for call in calls) == 7, "the other worker")
        os.kill(victim, signal.SIGKILL)
        held = [call for call in calls if call.exception() is not None]
        self.assertEqual(len(held), 1)
        self.assertEqual(held[0].code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(told(held[0].exception())[0], "FACE_WORKER_LOST")
        self.assertEqual(self.lane.verify("x", picture(self.ada[0])).reason, common.REASON_NO_REFERENCE)
        wait_for(lambda: len(self.daemon.workers()) == 2 and victim not in self.daemon.workers(), "a new worker")

    def test_killed_daemon_keeps_what_it_acknowledged(self):
        probe = common.Probe(template=self.lane.extract(self.ada[0]))
        daemon, lane, kept = self.daemon, self.lane, []
        for cycle in range(3):
            acknowledged, lock = [], threading.Lock()

            def enrol_on(worker, client, done, guard, round_=cycle):
                for i in range(10000):
                    name = "%d-%d-%d" % (round_, worker, i)
                    try:
                        client.enrol(name, probe)
                    except grpc.RpcError:
                        return
                    with guard:
                        done.append(name)
            threads = [threading.Thread(target=enrol_on, args=(w, lane, acknowledged, lock)) for w in range(4)]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(acknowledged) > 40, "enrolments")
            daemon.process.kill()
            daemon.process.wait()
            for thread in threads:
                thread.join()
            kept += acknowledged
            os.remove(daemon.port_file)  # what a killed daemon leaves behind
            daemon = self.start()
            lane = Client(self, daemon.port, "lane")
            for name in kept:
                self.assertEqual(lane.verify(name, probe).decision, common.DECISION_MATCH, name)
        self.assertEqual(daemon.stop(), 0)

    def test_drain_finishes_calls(self):
        verify = self.lane.method(MATCHING + "Verify", matching.VerifyResponse)
        request = matching.VerifyRequest(purpose="gate", gallery="people", subject_id="x", probe=picture(self.ada[0]))
        self.lane.verify("x", picture(self.ada[0]))
        watch = self.lane.channel.unary_stream("/grpc.health.v1.Health/Watch",
                                               request_serializer=lambda m: m.SerializeToString(),
                                               response_deserializer=health.HealthCheckResponse.FromString)
        states = watch(health.HealthCheckRequest(), timeout=WAIT)
        self.assertEqual(next(states).status, health.HealthCheckResponse.SERVING)
        stopped = self.daemon.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        calls = [verify.future(request, timeout=WAIT) for _ in range(4)]
        wait_for(lambda: sum(call.done() for call in calls) == 3, "the other worker")
        self.daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(states).status, health.HealthCheckResponse.NOT_SERVING)
        os.kill(stopped, signal.SIGCONT)
        self.assertEqual([call.result().reason for call in calls], [common.REASON_NO_REFERENCE] * 4)
        self.assertEqual(self.daemon.process.wait(WAIT), 0)

    def test_tls(self):
        def hello(**options):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.path("pki/ca.pem"))
            context.set_alpn_protocols(["h2"])
            if "maximum" in options:
                context.maximum_version = options["maximum"]
            if "certificate" in options:
                name = self.path("pki/" + options["certificate"])
                context.load_cert_chain(name + ".pem", name + ".key")
            with socket.create_connection(("127.0.0.1", self.daemon.port), WAIT) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as tls:
                    return tls.recv(1)
        self.cert("ca", self.path("pki/other"))
        self.cert("endpoint", self.path("pki/other"), self.path("pki/foreign"), "biomatch://example/hall/lane/1")
        self.assertTrue(hello(certificate="lane"))
        for options in ({}, {"certificate": "foreign"},
                        {"certificate": "lane", "maximum": ssl.TLSVersion.TLSv1_2}):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                hello(**options)

    def test_reflection(self):
        for version in ("v1", "v1alpha"):
            done = self.lane.channel.stream_stream(
                "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version,
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=rpc_status.reflection.ServerReflectionResponse.FromString)
            question = rpc_status.reflection.ServerReflectionRequest
            answers = list(done(iter([question(list_services="*"),
                                      question(file_containing_symbol="biomatch.v1.VerifyRequest")]), timeout=WAIT))
            self.assertIn("biomatch.v1.MatchingService",
                          [s.name for s in answers[0].list_services_response.service])
            self.assertTrue(answers[1].file_descriptor_response.file_descriptor_proto[0])

    def test_links_no_decoder(self):
        libraries = subprocess.run(["ldd", BUILD + "/biomatchd"], check=True, capture_output=True, text=True).stdout
        for unwanted in ("opencv", "stdc++", "jpeg", "png", "openjp2"):
            # A sanitizer's own library is C++.
            if unwanted != "stdc++" or "san.so" not in libraries:
                self.assertNotIn(unwanted, libraries)

    def test_command_line(self):
        base = [BUILD + "/biomatch"]
        more = ["--target=localhost:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                "--cert=" + self.path("pki/lane.pem"), "--key=" + self.path("pki/lane.key")]
        one, two = (os.path.join(PEOPLE, "ada", name) for name in ("01.jpg", "02.jpg"))
        self.write("text.jpg", "no picture")
        for status, command in ((0, ["enrol", "people", "ada", one]), (0, ["verify", "people", "ada", two]),
                                (1, ["verify", "people", "ada", sorted(glob.glob(PEOPLE + "/*/01.jpg"))[1]]),
                                (3, ["verify", "people", "ada", GROUP]), (0, ["compare", one, two]),
                                (0, ["identify", "people", two]), (0, ["analyse", one]),
                                (4, ["verify", "people", "ada", self.path("text.jpg")]),
                                (0, ["subject", "show", "people", "ada"]),
                                (0, ["subject", "delete", "people", "ada"])):
            done = run(*base, *command, *more, "--purpose=gate")
            self.assertEqual(done.returncode, status, (command, done.stdout, done.stderr))
        done = run(*base, "health", *more)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
