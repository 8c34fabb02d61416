#!/usr/bin/python3
"""The daemon as a process: its start, its signals, what it tells systemd, what it leaves."""
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACK = os.path.join(ROOT, "build/packs/faceplugin-0.0.1")
WAIT = 60

POLICY = """version: {version}
deployment: example
purposes:
  - name: {purpose}
    legal_basis: test
    classes: [admin]
    operations: [admin]
    galleries: ["*"]
    priority: bulk
"""


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=WAIT, **options)


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
            raise AssertionError("the daemon did not start: " + self.log())
        with open(self.port_file, encoding="utf-8") as file:
            self.port = int(file.read())

    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

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


class DaemonTest(unittest.TestCase):
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
        self.write("policy.yaml", POLICY.format(version="one", purpose="old"))
        self.write("biomatchd.yaml", self.configuration())

    def configuration(self, more=""):
        return ("server:\n  listen: 127.0.0.1:0\n  drain: 5s\nstore:\n  path: store\n  map_size: 64MiB\n"
                "face:\n  pack: %s\n  program: %s/biomatch-face\n  workers: 1\n%s" % (PACK, BUILD, more))

    def start(self, **options):
        daemon = Daemon(self, **options)
        self.addCleanup(lambda: daemon.process.poll() is None and (daemon.process.kill(), daemon.process.wait()))
        return daemon

    def ask(self, daemon, *command):
        """The exit status of `biomatch`, as the admin."""
        return run(BUILD + "/biomatch", *command, "--target=127.0.0.1:%d" % daemon.port,
                   "--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/admin.pem"),
                   "--key=" + self.path("pki/admin.key")).returncode

    def check(self):
        done = run(BUILD + "/biomatchd", "--check-config", "--config", self.path("biomatchd.yaml"))
        return done.returncode, done.stderr

    def refused(self, *parts):
        status, text = self.check()
        self.assertEqual(status, 78, text)
        self.assertEqual(text.count("\n"), 1, text)
        for part in parts:
            self.assertIn(part, text)

    def test_check_config(self):
        self.assertEqual(self.check(), (0, ""))
        self.assertEqual(os.listdir(self.path("store")), [])
        self.write("biomatchd.yaml", self.configuration("log:\n  colour: red\n"))
        self.refused("biomatchd.yaml:12: ", "colour")
        self.write("biomatchd.yaml", self.configuration("match:\n  kernel: abacus\n"))
        self.refused("match.kernel", "abacus")
        self.write("biomatchd.yaml", self.configuration())
        self.write("policy.yaml", POLICY.format(version="1", purpose="p").replace("bulk", "urgent"))
        self.refused("policy.yaml:9: ", "priority")
        self.write("policy.yaml", POLICY.format(version="1", purpose="p"))
        os.chmod(self.path("store.key"), 0o644)
        self.refused("store.key", "owner")
        os.chmod(self.path("store.key"), 0o600)
        shutil.copy(self.path("pki/ca.key"), self.path("pki/server.key"))
        self.refused()
        self.write("pki/server.key", "not a key\n")
        self.refused()

    def test_wrong_options(self):
        self.assertEqual(run(BUILD + "/biomatchd", "--no-such-option").returncode, 64)
        self.assertEqual(run(BUILD + "/biomatchd", "argument").returncode, 64)
        self.assertEqual(run(BUILD + "/biomatchd", "--config", "/nonexistent.yaml").returncode, 78)
        self.assertRegex(run(BUILD + "/biomatchd", "--version").stdout, r"^biomatchd \d+\.\d+\.\d+")

    def test_life(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            daemon = self.start()
            self.assertEqual(self.ask(daemon, "health"), 0)
            self.assertEqual(daemon.stop(how), 0, daemon.log())
            self.assertFalse(os.path.exists(daemon.port_file))
            self.assertEqual(sorted(os.listdir(self.path("store"))), ["data.mdb", "lock.mdb"])
            self.assertEqual(os.stat(self.path("store/data.mdb")).st_mode & 0o077, 0)

    def test_store_is_locked(self):
        self.start()
        done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"))
        self.assertEqual(done.returncode, 75, done.stderr)

    def test_address_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            text = self.configuration().replace("127.0.0.1:0", "127.0.0.1:%d" % taken.getsockname()[1])
            self.write("biomatchd.yaml", text)
            done = run(BUILD + "/biomatchd", "--config", self.path("biomatchd.yaml"))
        self.assertEqual(done.returncode, 69, done.stderr)

    def test_reload(self):
        daemon = self.start()
        self.assertEqual(self.ask(daemon, "gallery", "list", "--purpose=old"), 0)
        self.write("policy.yaml", "version: two\nnonsense\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.events("policy_refused"), "the refusal of a bad policy")
        self.assertEqual(self.ask(daemon, "gallery", "list", "--purpose=old"), 0)
        self.write("policy.yaml", POLICY.format(version="three", purpose="new"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.events("policy_taken"), "the new policy")
        self.assertEqual(self.ask(daemon, "gallery", "list", "--purpose=new"), 0)
        self.assertEqual(self.ask(daemon, "gallery", "list", "--purpose=old"), 4)
        self.assertEqual(daemon.stop(), 0)

    def test_reload_of_certificates(self):
        daemon = self.start()
        shutil.copy(self.path("pki/server.pem"), self.path("kept.pem"))
        self.write("pki/server.pem", "no certificate\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.events("certificates_refused"), "the refusal of a bad certificate")
        self.assertEqual(self.ask(daemon, "health"), 0)
        shutil.copy(self.path("kept.pem"), self.path("pki/server.pem"))
        # Another CA for clients: the one certificate there is no longer counts.
        self.cert("ca", self.path("pki/other"))
        shutil.copy(self.path("pki/ca.pem"), self.path("ours.pem"))
        shutil.copy(self.path("pki/other.pem"), self.path("pki/ca.pem"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.events("certificates_taken"), "the new certificates")
        shutil.copy(self.path("ours.pem"), self.path("pki/ca.pem"))
        self.assertNotEqual(self.ask(daemon, "health"), 0)

    def test_notifies_systemd(self):
        path = self.path("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(WAIT)
            daemon = self.start(environment={"NOTIFY_SOCKET": path})
            self.assertRegex(notify.recv(4096).decode(), r"^READY=1\nSTATUS=serving on port %d" % daemon.port)
            self.assertEqual(notify.recv(4096), b"WATCHDOG=1")
            daemon.process.send_signal(signal.SIGHUP)
            seen = []
            while not seen or seen[-1] != "READY=1":
                seen.append(notify.recv(4096).decode())
            self.assertRegex(seen[-2], r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
            daemon.process.terminate()
            while seen[-1] != "STOPPING=1":
                seen.append(notify.recv(4096).decode())
            self.assertEqual(daemon.process.wait(WAIT), 0)

    def test_socket_activation(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def pass_socket():
                os.dup2(listener.fileno(), 3)

            daemon = self.start(prefix=("/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "-"),
                                preexec_fn=pass_socket, close_fds=False)
            self.assertEqual(daemon.port, listener.getsockname()[1])
            self.assertEqual(self.ask(daemon, "health"), 0)
            self.assertEqual(daemon.stop(), 0)

    def test_worker_inherits_nothing(self):
        with open(self.path("leak"), "w", encoding="utf-8") as leak:
            os.set_inheritable(leak.fileno(), True)
            daemon = self.start(close_fds=False)
            workers = daemon.workers()
            self.assertEqual(len(workers), 1)
            for worker in workers:
                for fd in os.listdir("/proc/%d/fd" % worker):
                    to = os.readlink("/proc/%d/fd/%s" % (worker, fd))
                    self.assertFalse(to.startswith(self.dir) and not to.endswith("/log"), to)
                with open("/proc/%d/net/tcp" % worker, encoding="utf-8") as file:
                    listening = {line.split()[9] for line in file.readlines()[1:] if line.split()[3] == "0A"}
                sockets = {re.sub(r"\D", "", os.readlink("/proc/%d/fd/%s" % (worker, fd)))
                           for fd in os.listdir("/proc/%d/fd" % worker)}
                self.assertFalse(listening & sockets)
            self.assertEqual(daemon.stop(), 0)
            wait_for(lambda: not any(os.path.exists("/proc/%d" % worker) for worker in workers), "the workers' end")

    def test_process_is_confined(self):
        daemon = self.start()
        with open("/proc/%d/limits" % daemon.process.pid, encoding="utf-8") as file:
            limits = file.read()
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.assertRegex(limits, r"Max open files +%d +%d " % (hard, hard))
        with open("/proc/%d/status" % daemon.process.pid, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"Umask:\s+0077")
        with open("/proc/%d/maps" % daemon.process.pid, encoding="utf-8") as file:
            maps = file.read()
        self.assertNotIn("opencv", maps)
        self.assertIsNone(re.search(r"libstdc\+\+|libc\+\+", maps) if "asan" not in maps else None)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
