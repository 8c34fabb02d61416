#!/usr/bin/python3 -B
"""A leader and its warm standby, both real: following under load and kills, promotion, and what becomes of the old leader."""
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

import grpc

from examples import ADA, python_program
from harness import BUILD, ROOT, WAIT, Daemon, run, wait_for
from messages import admin, common, enrolment, health
from served import ADMIN, ENROLMENT, POLICY, Client, Served, read, refused, told

MAX_AGE = 2
FOLLOW_POLICY = POLICY + """  - name: standby
    legal_basis: test
    classes: [standby]
    operations: [follow]
    priority: bulk
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Site:
    """Where one of the two daemons lives: a directory inside the case's place."""

    def __init__(self, case, name, port, more):
        self.case, self.name, self.port, self.daemon = case, name, port, None
        self.dir = case.path(name)
        os.makedirs(self.path("store"))
        for file in ("store.key", "policy.yaml"):
            shutil.copy(case.path(file), self.path(file))
        case.cert("audit", self.path("audit"))
        os.symlink(case.path("pki"), self.path("pki"))
        self.configure(more)

    def path(self, name):
        return os.path.join(self.dir, name)

    def configure(self, more):
        text = self.case.configuration(more).replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:%d" % self.port, 1)
        with open(self.path("biomatchd.yaml"), "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        if os.path.exists(self.path("port")):
            os.unlink(self.path("port"))
        self.daemon = Daemon(self)
        daemon = self.daemon
        self.case.addCleanup(lambda: daemon.process.poll() is None and (daemon.process.kill(), daemon.process.wait()))
        self.lane, self.office = Client(self.case, self.port, "lane"), Client(self.case, self.port, "admin")
        return self

    def kill(self):
        self.daemon.stop(signal.SIGKILL)

    def biomatchd(self, *arguments):
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"), *arguments)
        self.case.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def ask(self, *command):
        return run(BUILD + "/biomatch", *command, "--purpose=office", "--target=127.0.0.1:%d" % self.port,
                   "--ca=" + self.case.path("pki/ca.pem"), "--cert=" + self.case.path("pki/admin.pem"),
                   "--key=" + self.case.path("pki/admin.key"))

    def role(self):
        metrics = self.daemon.metrics()
        return [r for r in ("leader", "standby", "superseded") if metrics['biomatch_role{role="%s"}' % r]][0]

    def serving(self, service):
        return self.lane.call("/grpc.health.v1.Health/Check", health.HealthCheckRequest(service=service),
                              health.HealthCheckResponse).status == 1


class StandbyTest(Served):
    policy = FOLLOW_POLICY

    def follow(self, leader):
        return ("follow:\n  leader: localhost:%d\n  certificate: pki/standby.pem\n  private_key: pki/standby.key\n  ca: pki/ca.pem\n"
                "  purpose: standby\n  max_age: %ds\n" % (leader.port, MAX_AGE))

    def setUp(self):
        super().setUp()
        templates = [common.Probe(template=self.lane.extract(data)) for data in (self.ada[0], *self.strangers[:2])]
        self.templates = templates
        self.daemon.stop()
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/standby"), "biomatch://example/hall/standby/1")
        for command in (["genpkey", "-algorithm", "X25519", "-out", self.path("backup.key")],
                        ["pkey", "-in", self.path("backup.key"), "-pubout", "-out", self.path("backup.pub")]):
            self.assertEqual(run("openssl", *command).returncode, 0)
        self.a = Site(self, "a", free_port(), self.more()).start()
        self.create(self.a, "people")
        self.enrol(self.a, "first")
        self.b = Site(self, "b", free_port(), self.follow(self.a))
        self.copy(self.a, self.b)
        self.b.start()

    def more(self):
        return ""

    def copy(self, source, to):
        """As docs/standby.md says: a backup of the leader, beside it, and its restoration."""
        name = self.path("copy-" + to.name)
        source.biomatchd("--backup=" + name, "--key=" + self.path("backup.pub"))
        to.biomatchd("--restore=" + name, "--key=" + self.path("backup.key"))

    @staticmethod
    def create(site, name):
        site.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id=name, name=name), admin.CreateGalleryResponse)

    def template(self, subject):
        return self.templates[sum(subject.encode()) % len(self.templates)]

    def enrol(self, site, subject, request_id=None):
        return site.lane.enrol(subject, self.template(subject), request_id=request_id)

    @staticmethod
    def delete(site, subject, request_id):
        return site.lane.call(ENROLMENT + "DeleteSubject", enrolment.DeleteSubjectRequest(
            purpose="gate", request_id=request_id, gallery="people", subject_id=subject), enrolment.DeleteSubjectResponse)

    def holds(self, site, subject):
        reply = site.lane.verify(subject, self.template(subject))
        if reply.reason == common.REASON_NO_REFERENCE:
            return False
        self.assertAlmostEqual(reply.raw.score, 1, 4)
        return True

    def in_step(self):
        def same():
            a, b = self.a.daemon.metrics(), self.b.daemon.metrics()
            return a["biomatch_changes_total"] == b["biomatch_changes_total"] and not b["biomatch_standby_lag_changes"] \
                and b["biomatch_standby_lag_seconds"] < MAX_AGE
        wait_for(same, "the standby to be in step: " + self.b.daemon.log()[-2000:])

    def promote(self, site):
        done = site.ask("standby", "promote")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("in epoch", done.stdout)

    def test_follows_and_refuses(self):
        self.in_step()
        self.enrol(self.a, "ada")
        self.in_step()
        self.assertTrue(self.holds(self.b, "ada"))
        self.assertTrue(self.holds(self.b, "first"))
        with self.assertRaises(grpc.RpcError) as caught:
            self.enrol(self.b, "other")
        self.assertEqual((caught.exception.code(), told(caught.exception)[0]),
                         (grpc.StatusCode.FAILED_PRECONDITION, "FOLLOWS_ANOTHER"))
        self.assertIn("localhost:%d" % self.a.port, caught.exception.details())
        self.assertEqual((self.a.role(), self.b.role()), ("leader", "standby"))
        self.assertEqual([self.b.serving(s) for s in ("", "biomatch.v1.MatchingService", "biomatch.v1.EnrolmentService")],
                         [True, True, False])
        self.assertEqual(self.a.daemon.metrics()["biomatch_followers"], 1)
        # Deleted there is deleted here.
        self.delete(self.a, "ada", "delete")
        self.in_step()
        self.assertFalse(self.holds(self.b, "ada"))

    def test_reads_have_an_age(self):
        self.in_step()
        self.assertEqual(self.a.daemon.stop(), 0)
        wait_for(lambda: not self.b.serving("biomatch.v1.MatchingService"), "the standby to be stale")
        refused(self, grpc.StatusCode.UNAVAILABLE, "STANDBY_STALE", "", self.b.lane.verify, "first", self.template("first"))
        status, page = self.b.daemon.page("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("STANDBY_STALE", page)
        self.assertGreater(self.b.daemon.metrics()["biomatch_standby_lag_seconds"], MAX_AGE)
        self.a.start()
        self.in_step()
        self.assertTrue(self.holds(self.b, "first"))

    def load(self, state, seed, failed):
        """Enrols and deletes until told to stop; a request that failed is sent again under its id."""
        chooser, mine, n = random.Random(seed), {}, 0
        try:
            while not state["stop"].is_set() or state["open"].get(seed):
                if not state["open"].get(seed):
                    n += 1
                    there = [s for s in mine if mine[s]]
                    gone = there and chooser.random() < 0.4
                    subject = chooser.choice(there) if gone else "s%d-%d" % (seed, n)
                    state["open"][seed] = (subject, gone, "r%d-%d" % (seed, n))
                subject, gone, request_id = state["open"][seed]
                try:
                    if gone:
                        self.delete(self.a, subject, request_id)
                    else:
                        self.enrol(self.a, subject, request_id)
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        raise
                    time.sleep(0.05)  # the leader is dead or starts; what counts is that the request is repeated
                    continue
                mine[subject] = not gone
                state["open"][seed] = None
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)
        with state["lock"]:
            state["acknowledged"].update(mine)

    def run_load(self, during):
        state = {"stop": threading.Event(), "open": {}, "lock": threading.Lock(), "acknowledged": {}}
        failed = []
        threads = [threading.Thread(target=self.load, args=(state, seed, failed)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            during()
        finally:
            state["stop"].set()
            for thread in threads:
                thread.join(WAIT)
        self.assertEqual(failed, [])
        return state["acknowledged"]

    def audit_holds(self, site):
        export = site.path("export-%d" % time.monotonic_ns())
        done = site.ask("audit", "export", export)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run(BUILD + "/biomatch", "audit", "verify", export, "--public-key=" + site.path("audit.pem"),
                   "--public-key=" + self.a.path("audit.pem"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_killed_under_load_then_promoted(self):
        def kills():
            chooser = random.Random(1)
            for cycle in range(6):
                time.sleep(chooser.uniform(0.2, 0.8))  # the moment, not a condition
                site = self.b if cycle % 2 else self.a
                site.kill()
                site.start()
        acknowledged = self.run_load(kills)
        self.assertGreater(len(acknowledged), 20)
        self.in_step()
        self.a.kill()
        self.promote(self.b)
        self.assertEqual(self.b.role(), "leader")
        self.assertEqual({s for s in acknowledged if self.holds(self.b, s)}, {s for s in acknowledged if acknowledged[s]})
        self.enrol(self.b, "after")
        self.assertTrue(self.holds(self.b, "after"))
        self.audit_holds(self.b)
        # A restart does not make it follow again.
        self.assertEqual(self.b.daemon.stop(), 0)
        self.b.start()
        self.assertEqual(self.b.role(), "leader")
        self.enrol(self.b, "later")
        self.b.biomatchd("--fsck")
        self.a.biomatchd("--fsck")
        print("%d subjects enrolled under 6 kills, %d of them deleted, all as acknowledged on the promoted standby"
              % (len(acknowledged), len(acknowledged) - sum(acknowledged.values())))

    def test_old_leader_is_fenced(self):
        """It comes back as if nothing had happened, and takes no more writes once the new leader has reached it."""
        self.in_step()
        self.a.kill()
        self.promote(self.b)
        self.enrol(self.b, "ours")
        self.a.start()
        wait_for(lambda: self.a.role() == "superseded", "the old leader to be told")
        self.assertEqual(told(self.fails(self.enrol, self.a, "theirs")), ("SUPERSEDED", ""))
        self.assertEqual(told(self.fails(self.a.lane.verify, "first", self.template("first"))), ("SUPERSEDED", ""))
        self.a.kill()
        # Still so after a restart, whoever else is there.
        self.b.kill()
        self.a.start()
        self.assertEqual(self.a.role(), "superseded")
        self.a.kill()
        # It lost nothing and has nothing of its own: it follows as it is.
        self.b.start()
        self.a.configure(self.follow(self.b))
        self.a.start()
        wait_for(lambda: self.a.daemon.metrics()["biomatch_standby_lag_seconds"] < MAX_AGE, "the old leader to follow")
        self.assertTrue(self.holds(self.a, "ours"))
        self.assertEqual(self.a.role(), "standby")

    def test_an_endpoint_finds_who_serves(self):
        """The program of docs/examples: its enrolments go to the leader, and to the next one without its being restarted."""
        os.mkdir(self.path("stubs"))
        program = python_program(self.path("stubs"))

        def travel(first, second, subject):
            return subprocess.Popen(
                [*program, "localhost:%d,localhost:%d" % (first.port, second.port), self.path("pki/ca.pem"), self.path("pki/lane"),
                 "gate", "people", subject, *ADA], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": self.path("stubs")})

        def checks():
            return self.b.daemon.metrics().get('biomatch_rpcs_total{method="Check",status="OK",class="lane"}', 0)

        def ends_well(process):
            out = process.communicate(timeout=WAIT)[0]
            self.assertEqual(process.returncode, 0, out)
            self.assertIn("verified MATCH", out)
        ends_well(travel(self.a, self.b, "one"))
        self.in_step()
        self.a.kill()
        before = checks()
        process = travel(self.a, self.b, "two")
        wait_for(lambda: checks() > before or process.poll() is not None, "the endpoint to ask the standby")
        self.promote(self.b)
        ends_well(process)
        self.assertTrue(self.b.lane.verify("one", self.templates[0]).raw.score > 0.9)
        self.assertTrue(self.b.lane.verify("two", self.templates[0]).raw.score > 0.9)

    def fails(self, function, *arguments):
        with self.assertRaises(grpc.RpcError) as caught:
            function(*arguments)
        return caught.exception

    def test_writes_of_two_leaders_are_not_mixed(self):
        self.in_step()
        self.b.kill()
        self.enrol(self.a, "lost")
        self.a.kill()
        self.b.start()
        self.promote(self.b)
        self.enrol(self.b, "ours")
        self.a.configure(self.follow(self.b))
        self.a.start()
        wait_for(lambda: '"reason":"CHANGES_DIVERGED"' in self.a.daemon.log(), "the old leader to be refused")
        self.assertEqual(told(self.fails(self.a.lane.verify, "first", self.template("first")))[0], "STANDBY_STALE")
        self.assertFalse(self.holds(self.b, "lost"))
        # A new copy mends it.
        self.assertEqual(self.a.daemon.stop(), 0)
        shutil.rmtree(self.a.path("store"))
        os.mkdir(self.a.path("store"))
        self.copy(self.b, self.a)
        self.a.start()
        wait_for(lambda: self.a.daemon.metrics()["biomatch_standby_lag_seconds"] < MAX_AGE, "the old leader to follow")
        self.assertEqual([self.holds(self.a, s) for s in ("first", "ours", "lost")], [True, True, False])
        self.assertEqual(self.a.role(), "standby")


class StreamTest(StandbyTest):
    """The stream itself, asked as a standby asks it."""

    entries = 8

    def more(self):
        return "changes:\n  entries: %d\n" % self.entries

    def stream(self, name="standby", purpose="standby", **request):
        client = Client(self, self.a.port, name)
        return client.channel.unary_stream(
            ADMIN + "StreamChanges", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=admin.StreamChangesResponse.FromString)(
                admin.StreamChangesRequest(purpose=purpose, **request), timeout=WAIT)

    def first(self, **request):
        """The changes of the first message, and where the log ends."""
        stream = self.stream(**request)
        message = next(stream)
        stream.cancel()
        return list(message.changes), message.head

    def test_stream(self):
        self.in_step()
        for n in range(6):
            self.enrol(self.a, "s%d" % n)
        changes, head = self.first(first=1)
        self.assertEqual([c.place.sequence for c in changes], list(range(1, 9)))
        self.assertEqual(changes[-1].place, head)
        self.assertEqual([c.place.sequence for c in self.first(first=5)[0]], [5, 6, 7, 8])
        self.assertEqual(self.first(after=changes[5].place)[0], changes[6:])
        self.assertEqual(self.first(first=9)[0], [])
        # Sealed, and gone with its subject.
        self.assertNotIn(b"people", b"".join(c.sealed for c in changes))
        self.delete(self.a, "s1", "delete")
        changes, _ = self.first()
        self.assertEqual([c.place.sequence for c in changes if not c.sealed], [4])
        self.assertEqual([c.place.sequence for c in changes], list(range(2, 10)))
        # What was pruned, never was, or is not of this log.
        odd = admin.ChangePlace(sequence=5, epoch=1, hash=bytes(32))
        late = admin.ChangePlace(sequence=99, epoch=1, hash=bytes(32))
        for reason, status, request in (("CHANGES_PRUNED", grpc.StatusCode.OUT_OF_RANGE, {"first": 1}),
                                        ("CHANGES_DIVERGED", grpc.StatusCode.FAILED_PRECONDITION, {"first": 11}),
                                        ("CHANGES_DIVERGED", grpc.StatusCode.FAILED_PRECONDITION, {"after": odd}),
                                        ("CHANGES_DIVERGED", grpc.StatusCode.FAILED_PRECONDITION, {"after": late}),
                                        ("PURPOSE_DENIED", grpc.StatusCode.PERMISSION_DENIED, {"name": "admin"}),
                                        ("PURPOSE_DENIED", grpc.StatusCode.PERMISSION_DENIED, {"name": "admin", "purpose": "office"})):
            error = self.fails(next, self.stream(**request))
            self.assertEqual((told(error)[0], error.code()), (reason, status))
        self.assertEqual(self.a.role(), "leader")

    def test_stream_ends_with_the_daemon(self):
        self.in_step()
        streams = [self.stream(first=1) for _ in range(3)]
        for stream in streams:
            next(stream)
        began = time.monotonic()
        self.assertEqual(self.a.daemon.stop(), 0)
        self.assertLess(time.monotonic() - began, 4)
        for stream in streams:
            self.assertEqual(told(self.fails(list, stream)), ("SHUTTING_DOWN", ""))

    def test_second_message_ends_a_stream(self):
        """It is not opened twice, which its list would not survive."""
        place = health.HealthCheckRequest()
        asked = admin.StreamChangesRequest(purpose="standby", first=1)
        client = Client(self, self.a.port, "standby")
        for path, request in (("/grpc.health.v1.Health/Watch", place), (ADMIN + "StreamChanges", asked)):
            stream = client.channel.stream_stream(path, request_serializer=lambda m: m.SerializeToString())(
                iter([request, request, request]), timeout=WAIT)
            self.assertEqual(self.fails(list, stream).code(), grpc.StatusCode.CANCELLED)
        self.in_step()
        self.assertTrue(self.a.serving(""))

    def test_streams_are_limited_and_end_when_left(self):
        streams = [self.stream(first=1) for _ in range(15)]
        for stream in streams:
            next(stream)
        wait_for(lambda: self.a.daemon.metrics()["biomatch_followers"] == 16, "16 streams")
        self.assertEqual(told(self.fails(next, self.stream(first=1)))[0], "OVERLOADED")
        for stream in streams:
            stream.cancel()
        wait_for(lambda: self.a.daemon.metrics()["biomatch_followers"] == 1, "the standby alone")

    # Once is enough.
    test_follows_and_refuses = test_reads_have_an_age = test_killed_under_load_then_promoted = None
    test_old_leader_is_fenced = test_writes_of_two_leaders_are_not_mixed = test_an_endpoint_finds_who_serves = None


class SlowTest(StreamTest):
    """Those who ask and do not read."""

    entries = 100000
    changes, streams = 1500, 8

    def fill(self):
        def enrol(seed):
            client = Client(self, self.a.port, "lane")
            for n in range(self.changes // 10):
                client.enrol("s%d-%d" % (seed, n), self.templates[0])
        threads = [threading.Thread(target=enrol, args=(seed,)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)

    def narrow_channel(self):
        """One that takes 64 KiB ahead of its reader."""
        channel = grpc.secure_channel("localhost:%d" % self.a.port, grpc.ssl_channel_credentials(
            *(read(self.path("pki/" + name)) for name in ("ca.pem", "standby.key", "standby.pem"))), options=[
                ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536), ("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def test_slow_readers_hold_no_more_than_a_message(self):
        self.fill()
        self.in_step()
        whole = self.changes * 2500  # bytes of the log, about
        channels = [self.narrow_channel() for _ in range(self.streams)]
        streams = [channel.unary_stream(ADMIN + "StreamChanges", request_serializer=lambda m: m.SerializeToString())(
            admin.StreamChangesRequest(purpose="standby", first=1), timeout=WAIT) for channel in channels]
        wait_for(lambda: self.a.daemon.metrics()["biomatch_followers"] == self.streams + 1, "the streams")
        most = 0
        for _ in range(20):
            most = max(most, self.a.daemon.metrics()["biomatch_message_bytes_held"])
            self.enrol(self.a, "more", "m%d" % _)
        self.assertGreater(most, self.streams * 0.5e6)
        self.assertLess(most, self.streams * 1.2e6)
        self.assertGreater(whole * self.streams, 3 * most)
        # Once they read they get all of it, in order.
        got = []
        for message in streams[0]:
            got += [c.place.sequence for c in admin.StreamChangesResponse.FromString(message).changes]
            if len(got) >= self.changes + 22:
                break
        self.assertEqual(got, list(range(1, len(got) + 1)))
        print("%d readers that do not read hold %.1f MB of %.1f MB" % (self.streams, most / 1e6, whole * self.streams / 1e6))

    test_stream = test_stream_ends_with_the_daemon = test_second_message_ends_a_stream = None
    test_streams_are_limited_and_end_when_left = None


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
