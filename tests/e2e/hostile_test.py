#!/usr/bin/python3 -B
"""Peers with a good certificate that mean harm: each is gone in time, costs little, and nobody else notices."""
import contextlib
import os
import socket
import time
import unittest

import attacks
from http2 import (CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HEALTH, PING, PRIORITY, RST_STREAM, SETTINGS,
                   WINDOW_UPDATE, frame, literal, message, request, setting)
from harness import ROOT, wait_for
from hostile import EXHAUSTED, INTERNAL, LATE, LIFE, OK, TIMES, UNIMPLEMENTED, Hostile
from messages import common, matching

ENHANCE_YOUR_CALM = 11  # RFC 9113, section 7


class Floods(Hostile):
    """Frames that are cheap to send and do no work for anybody."""

    def flood(self, attack, *arguments):
        peer = self.peer()
        started = time.monotonic()
        with self.cheap():
            attack(peer, *arguments)
            self.assertTrue(peer.gone())
        self.assertLess(time.monotonic() - started, LIFE)
        return peer

    def test_frames(self):
        for name in attacks.CHEAP:
            with self.subTest(name):
                self.flood(attacks.cheap_frames, name)

    def test_rapid_reset(self):
        self.flood(attacks.rapid_reset)

    def test_header_bombs(self):
        self.assertEqual(self.flood(attacks.header_bombs).goaway, ENHANCE_YOUR_CALM)

    def test_headers_too_large(self):
        peer = self.peer()
        many = request(HEALTH, *[(b"x-%d" % i, b"y") for i in range(200)])
        large = request(HEALTH, *[(b"x-large", b"y" * 120)] * 120)
        for stream, block in ((1, many), (3, large[:16000])):
            peer.send(frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, message()))
            self.assertEqual(peer.status(stream), EXHAUSTED)
        peer.send(frame(HEADERS, END_HEADERS, 5, request()) + frame(DATA, END_STREAM, 5, message()))
        self.assertEqual(peer.status(5), OK, "the connection goes on")


class Framing(Hostile):
    """Frames and messages that are not what they should be."""

    limits = "  idle: 30s\n"

    def test_frames(self):
        good = request()
        cases = [
            frame(SETTINGS, payload=bytes(5)), frame(SETTINGS, 1, 0, bytes(6)), frame(SETTINGS, 0, 1),
            frame(SETTINGS, payload=setting(2, 2)), frame(SETTINGS, payload=setting(4, 1 << 31)),
            frame(SETTINGS, payload=setting(5, 1)), frame(PING, 0, 0, bytes(7)), frame(PING, 0, 1, bytes(8)),
            frame(WINDOW_UPDATE, 0, 0, bytes(4)), frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
            frame(WINDOW_UPDATE, 0, 0, bytes(3)), frame(RST_STREAM, 0, 0, bytes(4)), frame(RST_STREAM, 0, 7, bytes(4)),
            frame(RST_STREAM, 0, 1, bytes(3)), frame(HEADERS, END_HEADERS, 0, good), frame(HEADERS, END_HEADERS, 2, good),
            frame(HEADERS, END_HEADERS | 8, 1, b"\xff" + good[:100]), frame(HEADERS, END_HEADERS, 1, b"\x80"),
            frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\x0f"), frame(HEADERS, END_HEADERS, 1, b"\xfe"),
            frame(HEADERS, END_HEADERS, 1, b"\0\x81\xff\x81\xff"), frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\xff\x7f"),
            frame(DATA, 0, 0, b"x"), frame(DATA, 0, 9, b"x"), frame(DATA, 8, 1, b"\xff"), frame(CONTINUATION, 4, 1, good),
            frame(HEADERS, 0, 1, good) + frame(PING, 0, 0, bytes(8)), frame(HEADERS, 0, 1, good) + frame(CONTINUATION, 4, 3),
            frame(5, 4, 1, b"\0\0\0\2" + good), frame(GOAWAY, 0, 1, bytes(8)), frame(PRIORITY, 0, 0, bytes(5)),
            frame(PRIORITY, 0, 1, bytes(4)), b"\0\x40\x01\0\0\0\0\0\0" + bytes(16385), b"\xff\xff\xff" + bytes(6),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(1000), b"\xff" * 1000,
        ]
        for i, case in enumerate(cases):
            with self.subTest(case=i, bytes=case[:24]):
                peer = self.peer()
                peer.send(case)
                self.assertIn(peer.status(1), ("gone", "reset"))

    def test_requests(self):
        """Streams that are wrong end; their connection does not."""
        def fields(**changed):
            values = {":method": "POST", ":scheme": "https", ":path": attacks.VERIFY, ":authority": "a",
                      "content-type": "application/grpc", **changed}
            return b"".join(literal(k.encode(), v.encode()) for k, v in values.items() if v is not None)
        cases = [
            (fields(**{":method": "GET"}), "http 405"), (fields(**{"content-type": "text/html"}), "http 415"),
            (fields(**{"content-type": None}), "http 415"), (fields(**{":path": "/x"}), UNIMPLEMENTED),
            (fields(**{":path": "/" + "a" * 120}), UNIMPLEMENTED), (fields(**{"grpc-timeout": "1"}), INTERNAL),
            (fields(**{"grpc-timeout": "999999999S"}), INTERNAL), (fields(**{"grpc-timeout": "-1S"}), INTERNAL),
            (fields(**{"grpc-encoding": "gzip"}), UNIMPLEMENTED), (fields(**{"grpc-timeout": "0n"}), LATE),
            (fields(**{":path": None}), "reset"), (fields(**{":method": None}), "reset"), (fields(**{"Upper": "x"}), "reset"),
            (fields(**{"connection": "close"}), "reset"), (fields(**{":status": "200"}), "reset"),
            (fields(**{"a\nb": "x"}), "reset"), (fields(**{"te": "gzip"}), "reset"),
            (fields() + literal(b":path", b"/again"), "reset"),
        ]
        peer = self.peer()
        for i, (block, expected) in enumerate(cases):
            stream = 2 * i + 1
            with self.subTest(case=i, expected=expected):
                peer.send(frame(HEADERS, END_HEADERS, stream, block))
                self.assertEqual(peer.status(stream), expected)

    @staticmethod
    def bodies():
        """Bodies of a call with one message, and the statuses that they may end with."""
        probe = matching.VerifyRequest(purpose="gate", gallery="people", subject_id="s",
                                       probe=common.Probe(template=common.Template(model="m", data=b"t" * 200))).SerializeToString()
        for flag in (2, 3, 7, 64, 127, 128, 255):
            for n in (0, 1, 5, len(probe)):
                yield message(probe[:n], flag=flag), {INTERNAL}
        for n in (0, 1, 5, len(probe)):
            yield message(probe[:n], flag=1), {UNIMPLEMENTED}
        for length in (22 << 20, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
            for n in (0, 100):
                yield message(probe[:n], length=length), {EXHAUSTED}
        for cut in range(1, 5 + len(probe), 7):
            yield message(probe)[:cut], {INTERNAL}
        yield b"", {"3"}
        for extra in (b"\0", message(b""), message(probe), message(probe, flag=9), b"\0\0\0\0\x09x"):
            yield message(probe) + extra, {"3", INTERNAL}
        deep = b""
        for _ in range(40):
            deep = b"\x22" + bytes([len(deep)]) + deep
        wrong = [b"\x0a", b"\x0a\x7f", b"\x0a\x01\xff", b"\x0a\x01\0", b"\x0a\x03\xed\xa0\x80", b"\x0a\x02\xc0\x80", b"\0",
                 b"\x0b", b"\x0c", b"\x0e", b"\x0f", b"\x08\1", b"\x0d\0\0\0\0", b"\x09" + bytes(8), b"\x20\1",
                 b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 20,
                 b"\x98\x06" + b"\xff" * 11, b"\xa2\x06\x7f", b"\x98\x06\1" * 20000, deep, b"\x22\x02\x0a\x7f"]
        for body in wrong:
            yield message(body), {"3", EXHAUSTED}
        for at in range(len(probe) // 4):
            yield message(probe[:at] + bytes([probe[at] ^ 0x80]) + probe[at + 1:]), None

    def test_messages(self):
        """Every body, whole and in pieces, on one connection, which goes on."""
        peer, stream, seen = self.peer(), 1, 0
        for body, expected in self.bodies():
            for piece in (min(len(body), 16384) or 1, 3 if len(body) < 300 else 1000, 7):
                if piece == 7 and len(body) > 300:
                    continue
                parts = [body[i:i + piece] for i in range(0, len(body), piece)] or [b""]
                peer.send(frame(HEADERS, END_HEADERS, stream, request(attacks.VERIFY)) + b"".join(
                    frame(DATA, END_STREAM if i == len(parts) - 1 else 0, stream, part) for i, part in enumerate(parts)))
                status = peer.status(stream)
                with self.subTest(body=body[:40], piece=piece):
                    self.assertNotIn(status, (None, "gone", "reset", OK))
                    if expected:
                        self.assertIn(status, expected)
                stream, seen = stream + 2, seen + 1
        self.assertGreaterEqual(seen, 300)
        peer.send(frame(HEADERS, END_HEADERS, stream, request()) + frame(DATA, END_STREAM, stream, message()))
        self.assertEqual(peer.status(stream), OK)


class Slow(Hostile):
    """Peers that take their time."""

    limits = TIMES + "  max_message: 1MiB\n  max_connection_bytes: 2MiB\n"

    def test_handshake(self):
        for dribble in (False, True):
            with self.subTest(dribble=dribble), socket.create_connection(("127.0.0.1", self.daemon.port)) as raw:
                started = time.monotonic()
                raw.settimeout(0.1)
                hello = iter(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600))
                closed = False
                while not closed and time.monotonic() - started < LIFE:
                    with contextlib.suppress(socket.timeout):
                        try:
                            if dribble:
                                raw.sendall(bytes([next(hello)]))
                            closed = raw.recv(1) == b""
                        except ConnectionError:
                            closed = True
                self.assertTrue(closed)

    def test_headers_that_do_not_end(self):
        peer = self.peer()
        peer.send(frame(HEADERS, 0, 1, request()))
        self.assertTrue(peer.gone())

    def test_stream_without_a_message(self):
        peer = self.peer()
        peer.send(frame(HEADERS, END_HEADERS, 1, request(attacks.VERIFY)))
        self.assertEqual(peer.status(1), LATE)

    def test_upload(self):
        peer = self.peer()
        peer.send(frame(HEADERS, END_HEADERS, 1, request(attacks.VERIFY)) + frame(DATA, 0, 1, message(b"", length=1 << 20)))
        with self.cheap():
            for _ in range(8):
                peer.send(frame(DATA, 0, 1, b"x"))
                time.sleep(0.2)
            self.assertEqual(peer.status(1), LATE)

    def test_idle_connection(self):
        peer = self.peer()
        self.assertTrue(peer.gone(LIFE + 2))
        self.assertEqual(peer.goaway, 0)

    def test_closed_window(self):
        """An answer that the client has no window for is dropped."""
        peer = self.peer(settings=setting(4, 0))
        with self.cheap():
            peer.send(frame(HEADERS, END_HEADERS, 1, request()) + frame(DATA, END_STREAM, 1, message()))
            self.assertEqual(peer.status(1), "reset")

    def ask_and_never_read(self):
        attacks.ask_and_never_read(self.peer(**attacks.NEVER_READS))

        def over():
            metrics = self.daemon.metrics()
            return metrics["biomatch_connections"] <= 2 and not metrics["biomatch_message_bytes_held"]
        wait_for(over, "the end of who does not read, with all that was held for them")

    def test_socket_that_is_not_read(self):
        self.ask_and_never_read()
        with self.cheap():
            for _ in range(2):
                self.ask_and_never_read()

if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
