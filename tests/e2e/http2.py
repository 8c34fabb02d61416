"""HTTP/2 by hand: a TLS socket, and frames as an attacker would make them."""
import socket
import ssl
import struct
import time

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEALTH = "/grpc.health.v1.Health/Check"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(key, value):
    return struct.pack(">HI", key, value)


def literal(name, value):
    """A header field that leaves no trace in the tables; at most 126 bytes each."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(path=HEALTH, *more):
    fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", path.encode()), (b":authority", b"localhost"),
              (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
    return b"".join(literal(*field) for field in fields)


def message(data=b"", flag=0, length=None):
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


def context(ca, cert=None, key=None):
    tls = ssl.create_default_context(cafile=ca)
    tls.set_alpn_protocols(["h2"])
    if cert:
        tls.load_cert_chain(cert, key)
    return tls


class Peer:
    """One connection. What it may not send any more is dropped: the daemon has hung up."""

    def __init__(self, port, tls, settings=b"", receive_buffer=None):
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", port))
        self.socket = tls.wrap_socket(raw, server_hostname="localhost")
        self.decoder, self.rest = hpack.Decoder(), b""
        self.goaway = None
        self.send(PREFACE + frame(SETTINGS, payload=settings))

    def close(self):
        self.socket.close()

    def send(self, data):
        """False when the daemon does not take it."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def frames(self, limit):
        """Every frame (kind, flags, stream, payload) until the daemon closes or the time is up."""
        end = time.monotonic() + limit
        while True:
            while len(self.rest) >= 9:
                length = int.from_bytes(self.rest[:3], "big")
                if len(self.rest) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.rest[3:9])
                payload, self.rest = self.rest[9:9 + length], self.rest[9 + length:]
                yield kind, flags, stream, payload
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                return
            except OSError:
                data = b""
            if not data:
                yield None, 0, 0, b""
                return
            self.rest += data

    def gone(self, limit=5):
        """True when the daemon has closed by then; goaway is its error code if it gave one."""
        for kind, _, _, payload in self.frames(limit):
            if kind is None:
                return True
            if kind == GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
        return False

    def status(self, stream, limit=5):
        """How a stream ends: its grpc-status, "reset", "http 415", "gone", or None while it does not."""
        status = None
        for kind, flags, at, payload in self.frames(limit):
            if kind is None:
                return "gone"
            if kind == HEADERS:
                fields = dict(self.decoder.decode(payload))
                if at == stream and fields.get(":status", "200") != "200":
                    status = "http " + fields[":status"]
                elif at == stream:
                    status = fields.get("grpc-status", status)
            elif kind == GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
            if at == stream and kind == RST_STREAM:
                return status or "reset"
            if at == stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                return status
        return None
