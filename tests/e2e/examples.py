"""What the tests of docs/examples share: the same program in each language, and the same lines expected of it."""
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from harness import BUILD, ROOT, WAIT, run, wait_for
from messages import admin, enrolment
from served import ADMIN, ENROLMENT, GROUP, PEOPLE

EXAMPLES = os.path.join(ROOT, "docs/examples")
PROTO = os.path.join(ROOT, "proto")
ADA = [os.path.join(PEOPLE, "ada", name) for name in ("01.jpg", "02.jpg")]
STRANGER = os.path.join(PEOPLE, "bea/01.jpg")
RECEIPT = r" \d+:[0-9a-f]{64}"


class Cutter:
    """A relay that holds back what the service answers once a client has sent more than so much, and cuts when told to."""

    def __init__(self, port, most):
        self.port, self.most, self.cut = port, most, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "localhost:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server, sent = socket.create_connection(("127.0.0.1", self.port)), []
                threading.Thread(target=self.relay, args=(client, server, sent.append), daemon=True).start()
                threading.Thread(target=self.relay, args=(server, client, lambda _: self.hold(sum(sent))),  # pylint: disable=W0640
                                 daemon=True).start()

    def hold(self, sent):
        if sent > self.most and not self.cut.is_set():
            self.cut.wait(WAIT)
            raise OSError("cut")

    @staticmethod
    def relay(source, sink, seen):
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                seen(len(data))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


class Language:
    """The tests of one language, to be mixed into Served; make() makes the program in a folder and gives its command."""

    environment = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.mkdtemp(prefix="biomatch-example-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.command = cls.make(cls.folder)

    def start_example(self, subject, captures, *, targets=None, purpose="gate", reference=ADA[0]):
        return subprocess.Popen(
            [*self.command, targets or "localhost:%d" % self.daemon.port, self.path("pki/ca.pem"), self.path("pki/lane"),
             purpose, "people", subject, reference, *captures], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, **self.environment})

    def expect(self, status, lines, process):
        out, err = process.communicate(timeout=WAIT)
        self.assertEqual(process.returncode, status, out + err)
        self.assertRegex(out, "\\A%s\\Z" % "".join(line + "\n" for line in lines), err)
        return out, err

    def encounters(self, subject):
        return self.lane.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="gate", gallery="people", subject_id=subject), enrolment.GetSubjectResponse).encounters

    def test_decisions(self):
        """MATCH after another picture was asked for, NO_MATCH, and a case for the officer; all of them proven."""
        created = "enrolled CREATED" + RECEIPT
        crowd = "verified REFER SEVERAL_FACES" + RECEIPT + "\none person at a time"
        out = self.expect(0, [created, crowd, "verified MATCH" + RECEIPT], self.start_example("ada", [GROUP, ADA[1]]))[0]
        out += self.expect(2, [created, "verified NO_MATCH" + RECEIPT], self.start_example("b", [STRANGER]))[0]
        out += self.expect(3, [created, crowd, "an officer decides"], self.start_example("c", [GROUP]))[0]
        refused = "enrolled REFER SEVERAL_FACES" + RECEIPT
        out += self.expect(3, [refused, "verified REFER NO_REFERENCE" + RECEIPT, "an officer decides"],
                           self.start_example("d", [ADA[1], ADA[1]], reference=GROUP))[0]
        self.assertEqual(len(self.encounters("ada")), 1)
        self.receipts(re.findall(RECEIPT, out))

    def receipts(self, found):
        done = run(BUILD + "/biomatch", "audit", "export", self.path("audit.log"), "--purpose=office",
                   "--target=127.0.0.1:%d" % self.daemon.port, "--ca=" + self.path("pki/ca.pem"),
                   "--cert=" + self.path("pki/admin.pem"), "--key=" + self.path("pki/admin.key"))
        self.assertEqual(done.returncode, 0, done.stderr)
        for receipt in found:
            done = run(BUILD + "/biomatch", "audit", "prove", self.path("audit.log"), receipt.strip(),
                       "--public-key=" + self.path("audit.pem"))
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_faults_are_no_decisions(self):
        lost = self.start_example("ada", [ADA[1]], targets="localhost:1")
        err = self.expect(4, [], self.start_example("ada", [ADA[1]], purpose="spying"))[1]
        self.assertIn("fault PERMISSION_DENIED PURPOSE_UNKNOWN purpose ", err)
        err = self.expect(4, [], self.start_example("s" * 129, [ADA[1]]))[1]
        self.assertIn("fault INVALID_ARGUMENT INVALID_ARGUMENT subject_id ", err)
        self.assertIn("fault UNAVAILABLE - - ", self.expect(4, [], lost)[1])

    def test_second_address(self):
        """A leader that cannot be reached is passed over."""
        targets = "localhost:1,localhost:%d" % self.daemon.port
        self.expect(0, ["enrolled CREATED" + RECEIPT, "verified MATCH" + RECEIPT],
                    self.start_example("ada", [ADA[1]], targets=targets))

    def test_answer_is_lost(self):
        """The service enrols, and the connection breaks before it can say so: one encounter, and its first receipt."""
        cutter = Cutter(self.daemon.port, os.path.getsize(ADA[0]))
        self.addCleanup(cutter.listener.close)
        process = self.start_example("ada", [ADA[1]], targets=cutter.address)
        wait_for(lambda: self.held() == 1 or process.poll() is not None, "the enrolment")
        cutter.cut.set()
        out = self.expect(0, ["enrolled CREATED" + RECEIPT, "verified MATCH" + RECEIPT], process)[0]
        self.assertEqual(len(self.encounters("ada")), 1)
        self.receipts(re.findall(RECEIPT, out))

    def held(self):
        return self.office.call(ADMIN + "GetGallery", admin.GetGalleryRequest(purpose="office", name="people"),
                                admin.GetGalleryResponse).gallery.encounters


def need(**files):
    """Ends the test as skipped where something is missing: the package of each file."""
    missing = [package.replace("_", "-") for package, file in files.items() if not os.path.exists(file)]
    if missing:
        print("not installed: " + " ".join(missing))
        sys.exit(77)


def made(*command, **options):
    done = run(*command, **options)
    if done.returncode:
        raise AssertionError("%s: %s" % (" ".join(command), done.stdout + done.stderr))


def protos(*folders):
    """The .proto files below these folders of proto/, as protoc is given them."""
    return sorted(os.path.relpath(os.path.join(PROTO, folder, name), PROTO) for folder in folders
                  for name in os.listdir(os.path.join(PROTO, folder)) if name.endswith(".proto"))


def python_program(folder):
    """The command of the example in Python, with what it imports made in a folder, to be its PYTHONPATH."""
    made("protoc", "-I", PROTO, "-I", "/usr/include", "--python_out=" + folder, *protos("biomatch/v1", "google/rpc"))
    made("protoc", "-I", os.path.join(PROTO, "grpc"), "--python_out=" + folder, "health/v1/health.proto")
    return [sys.executable, os.path.join(EXAMPLES, "python/traveller.py")]
