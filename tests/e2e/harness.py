"""What the end-to-end tests share: a place with certificates and keys, and a real daemon in it."""
import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACK = os.path.join(ROOT, "build/packs/faceplugin-0.0.1")
WAIT = 60
os.environ["PATH"] += ":" + os.path.join(ROOT, "build/prometheus/usr/bin")  # where scripts/setup unpacks it


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=WAIT, **options)


def help_of(program, *command):
    # The C library's argp leaks a byte for every program that has no options of its own.
    done = run(os.path.join(BUILD, program), *command, "--help", env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition, what):
    """Waits until condition() is true, and gives what it gave."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain for " + what)


class Daemon:
    """A running daemon; ended by stop()."""

    def __init__(self, place, *, environment=None, prefix=(), **options):
        self.port_file = place.path("port")
        self.log_path = place.path("log")
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*prefix, BUILD + "/biomatchd", "--config", place.path("biomatchd.yaml"), "--port-file", self.port_file],
                stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, **(environment or {})}, **options)
        wait_for(lambda: os.path.exists(self.port_file) or self.process.poll() is not None, "the daemon's start")
        if self.process.poll() is not None:
            raise AssertionError("the daemon did not start, status %d: %s" % (self.process.returncode, self.log()))
        with open(self.port_file, encoding="utf-8") as file:
            self.port = int(file.read())

    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def page(self, path):
        """The status and the body of a page of the operators' port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ops_port(), timeout=WAIT)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    def ops_port(self):
        return int(re.search(r'"ops_port":"?(\d+)', self.log()).group(1))

    def metrics(self):
        """The samples of /metrics, by name with labels."""
        lines = self.page("/metrics")[1].splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def events(self, name):
        return self.log().count('"event":"%s"' % name)

    def workers(self):
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % entry, encoding="utf-8") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                if entry.isdigit() and int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry))
        return found

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(WAIT)


class Place(unittest.TestCase):
    """A directory with all that a daemon needs; a test case of its own place."""

    policy = ""

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def cert(self, *arguments):
        done = run(BUILD + "/biomatch", "cert", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="biomatch-daemon-")
        self.addCleanup(shutil.rmtree, self.dir)
        os.mkdir(self.path("pki"))
        os.mkdir(self.path("store"))
        self.cert("ca", self.path("pki/ca"))
        self.cert("server", self.path("pki/ca"), self.path("pki/server"), "localhost", "127.0.0.1")
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/admin"), "biomatch://example/test/admin/1")
        self.cert("key", self.path("store.key"))
        self.cert("audit", self.path("audit"))
        self.write("policy.yaml", self.policy)
        self.write("biomatchd.yaml", self.configuration())

    def configuration(self, more=""):
        return ("server:\n  listen: 127.0.0.1:0\n  drain: 5s\n  wait: 1m\nops:\n  listen: 127.0.0.1:0\nstore:\n  path: store\n  map_size: 64MiB\n"
                "face:\n  pack: %s\n  program: %s/biomatch-face\n  workers: 1\n%s" % (PACK, BUILD, more))

    def start(self, **options):
        daemon = Daemon(self, **options)
        self.addCleanup(lambda: daemon.process.poll() is None and (daemon.process.kill(), daemon.process.wait()))
        return daemon

    def ask(self, daemon, *command):
        """The exit status of `biomatch`, as the admin."""
        return self.ask_for(daemon, *command).returncode

    def ask_for(self, daemon, *command):
        return run(BUILD + "/biomatch", *command, "--target=127.0.0.1:%d" % daemon.port,
                   "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/admin.pem"),
                   "--key=" + self.path("pki/admin.key"))
