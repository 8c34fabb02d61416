#!/usr/bin/python3 -B
"""The daemon as a process: its start, its signals, what it tells systemd, what it leaves."""
import json
import os
import re
import resource
import shutil
import signal
import socket
import unittest

from harness import BUILD, ROOT, WAIT, Place, run, wait_for

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


class DaemonTest(Place):
    policy = POLICY.format(version="one", purpose="old")

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
        text = self.configuration("log:\n  colour: red\n")
        self.write("biomatchd.yaml", text)
        self.refused("biomatchd.yaml:%d: " % text.count("\n"), "colour")
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
            self.assertEqual(sorted(os.listdir(self.path("store"))), ["daemon.lock", "data.mdb", "lock.mdb"])
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

    def test_reload_by_call(self):
        daemon = self.start()

        def reload(purpose):
            done = self.ask_for(daemon, "reload", "--json", "--purpose=" + purpose)
            return done.returncode, json.loads(done.stdout)
        status, answer = reload("old")
        self.assertEqual((status, [(part["part"], part["taken"]) for part in answer["parts"]]), (0, [
            (part, True) for part in ("keys", "configuration", "policy", "certificates", "documents")]), answer)
        self.write("policy.yaml", "version: two\nnonsense\n")
        shutil.copy(self.path("pki/server.pem"), self.path("kept.pem"))
        self.write("pki/server.pem", "no certificate\n")
        status, answer = reload("old")
        told = {part["part"]: part.get("message", "") for part in answer["parts"] if not part["taken"]}
        self.assertEqual((status, set(told)), (4, {"policy", "certificates"}), answer)
        self.assertIn("policy.yaml:3", told["policy"])
        self.assertIn("server.pem", told["certificates"])
        shutil.copy(self.path("kept.pem"), self.path("pki/server.pem"))
        self.write("policy.yaml", POLICY.format(version="three", purpose="new"))
        self.assertEqual(reload("old")[0], 0)
        # It holds for the next call on.
        self.assertEqual((reload("new")[0], reload("old")[0]), (0, 4))
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
            script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&%d' % listener.fileno()
            daemon = self.start(prefix=("/bin/sh", "-c", script, "-"), pass_fds=(listener.fileno(),))
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
