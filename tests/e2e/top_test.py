#!/usr/bin/python3 -B
"""`biomatch top` in a terminal beside a daemon at work."""
import contextlib
import fcntl
import http.server
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time
import unittest

import grpc

from harness import BUILD, ROOT, WAIT, run
from served import Client, Served, picture


class Terminal:
    """A program in a terminal of 80 columns, and all that it wrote."""

    def __init__(self, case, *command):
        self.controller, device = pty.openpty()
        case.addCleanup(os.close, self.controller)
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(command, stdin=device, stdout=device, stderr=device,
                                        env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True)
        case.addCleanup(lambda: self.process.poll() is None and (self.process.kill(), self.process.wait()))
        os.close(device)
        self.raw = ""

    def text(self):
        """What was written, each way of moving the cursor being a space."""
        return re.sub(r"\s+", " ", re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|\([B0]|[=>78])", " ", self.raw))

    def read(self):
        if select.select([self.controller], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # the program has ended
                self.raw += os.read(self.controller, 65536).decode(errors="replace")

    def wait_for(self, pattern):
        end = time.monotonic() + WAIT
        while not re.search(pattern, self.text()):
            if time.monotonic() > end:
                raise AssertionError("waited in vain for %s in: %s" % (pattern, self.text()))
            self.read()

    def press(self, key):
        os.write(self.controller, key.encode())

    def end(self):
        while self.process.poll() is None:
            self.read()
        self.read()
        return self.process.returncode


class TopTest(Served):
    def top(self, port):
        return Terminal(self, BUILD + "/biomatch", "top", "127.0.0.1:%d" % port)

    def test_shows_the_estate(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        self.lane.verify("ada", picture(self.ada[1]))
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/kiosk"), "biomatch://example/airport/kiosk/7")
        kiosk = Client(self, self.daemon.port, "kiosk")
        terminal = self.top(self.daemon.ops_port())
        terminal.wait_for(r"hall lane connected 1 .*test admin connected 1 ")
        self.assertRegex(terminal.text(), r"busy face 0 of 2 .* MATCH 1 NO_MATCH 0 REFER 0 references 1 audit log 3")
        with self.assertRaises(grpc.RpcError):
            kiosk.verify("ada", picture(self.ada[1]))
        terminal.press(" ")
        terminal.wait_for(r"airport kiosk refusing 1 ")
        terminal.press("q")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("\x1b[?1049l", terminal.raw)  # the terminal is as it was

    def test_the_daemon_ends(self):
        terminal = self.top(self.daemon.ops_port())
        terminal.wait_for("test admin connected")
        self.assertEqual(self.daemon.stop(), 0)
        terminal.press(" ")
        terminal.wait_for("no answer: ")
        terminal.press("q")
        self.assertEqual(terminal.end(), 0)

    def test_refuses(self):
        self.assertEqual(self.daemon.stop(), 0)
        gone = self.top(self.daemon.ops_port())
        self.assertEqual(gone.end(), 5, gone.text())
        bad = Terminal(self, BUILD + "/biomatch", "top", "nonsense")
        self.assertEqual(bad.end(), 2)
        self.assertIn("host:port", bad.text())
        self.assertEqual(run(BUILD + "/biomatch", "top").returncode, 2)  # no terminal

    def test_another_server(self):
        """Nothing but a page of metrics is taken for one."""
        for body, status in ((b"biomatch_connections 1\n", 404), (b"<p>hello</p>\n", 200), (b"", 200), (b"a{ b} } 1 x\n\0{", 200)):
            class Answer(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_):
                    pass
            with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                terminal = self.top(server.server_port)
                self.assertEqual(terminal.end(), 5, terminal.text())
                self.assertIn("no operators' port", terminal.text())
                server.shutdown()


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
