"""Servers for the client's test: `server.py DIRECTORY BEHAVIOUR`.

Makes a CA and certificates in DIRECTORY where there are none, listens on a free
port of 127.0.0.1, prints the port and serves until standard input closes.

"grpc" is a stock gRPC server; every other behaviour is a bare HTTP/2 peer that
does one thing no good server does, or does at the worst moment.
"""
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
OK_HEADERS = b"\x88"


def openssl(*args):
    subprocess.run(("openssl",) + args, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_certificates(d):
    def key_and_request(name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{d}/{name}.key", "-subj", f"/CN={name}", "-days", "2")

    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", *key_and_request(ca), "-out", f"{d}/{ca}.pem")
    for name, ca, san in (
            ("server", "ca", "DNS:localhost,IP:127.0.0.1"),
            ("client", "ca", "URI:biomatch://test/site/kiosk/1"),
            ("stranger", "other-ca", "URI:biomatch://test/site/kiosk/2")):
        openssl("req", "-x509", *key_and_request(name), "-out", f"{d}/{name}.pem",
                "-CA", f"{d}/{ca}.pem", "-CAkey", f"{d}/{ca}.key",
                "-addext", f"subjectAltName={san}",
                "-addext", "basicConstraints=critical,CA:FALSE")


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def string_field(number, text):
    data = text.encode()
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def serve_grpc(d):
    os.environ["GRPC_VERBOSITY"] = "NONE"
    import grpc
    from concurrent import futures

    def echo(request, context):
        return request

    def fail(request, context):
        details = request.split(b"STATUS:", 1)[1]
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "50% of 張 is wrong")

    def slow(request, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(20)
        return b""

    def facts(request, context):
        who = context.auth_context()["x509_subject_alternative_name"][0].decode()
        return string_field(1, str(int(context.time_remaining() * 1000))) + string_field(2, who)

    def large(size):
        return lambda request, context: b"\xfa\x01" + varint(size) + bytes(size)

    def varint(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])

    methods = {
        "/test/Echo": echo, "/test/Fail": fail, "/test/Slow": slow, "/test/Facts": facts,
        "/test/Large": large(3 << 20), "/test/TooLarge": large(5 << 20),
        "/test/Junk": lambda request, context: b"\xff\xff\xff",
    }

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            behaviour = methods.get(details.method)
            return grpc.unary_unary_rpc_method_handler(behaviour) if behaviour else None

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Handler(),), options=(
        ("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)))
    credentials = grpc.ssl_server_credentials(
        ((read_file(f"{d}/server.key"), read_file(f"{d}/server.pem")),),
        read_file(f"{d}/ca.pem"), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return port, server


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
        struct.pack(">I", stream) + payload


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def message(data, compressed=0):
    return struct.pack(">BI", compressed, len(data)) + data


def answer(stream, body=message(b""), trailers=literal(b"grpc-status", b"0")):
    return (frame(HEADERS, END_HEADERS, stream, OK_HEADERS) + frame(DATA, 0, stream, body) +
            frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))


class Peer:
    """One connection of a bare HTTP/2 peer."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""

    def take(self, n):
        while len(self.buffer) < n:
            data = self.connection.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def next_frame(self):
        head = self.take(9)
        length = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:], "big"), self.take(length)

    def send(self, data):
        self.connection.sendall(data)

    def greet(self):
        self.take(24)
        self.send(frame(SETTINGS, 0, 0))

    def request(self, whole=True):
        """Reads up to a request's headers or end, and gives its stream."""
        while True:
            kind, flags, stream, _ = self.next_frame()
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if stream and (flags & END_STREAM if whole else kind == HEADERS):
                return stream


def go_away_first(peer, nth):
    stream = peer.request()
    if nth == 0:
        peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
        peer.request()
    peer.send(answer(stream))
    peer.request()


def refuse(times):
    def behave(peer, nth):
        for _ in range(times):
            peer.send(frame(RST_STREAM, 0, peer.request(), struct.pack(">I", 7)))
        peer.send(answer(peer.request()))
        peer.request()
    return behave


def one_each(peer, nth):
    """Answers, says goodbye and hangs up, as an idle server would."""
    stream = peer.request()
    peer.send(answer(stream) + frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
    peer.connection.shutdown(socket.SHUT_WR)
    while peer.connection.recv(65536):
        pass


def early(peer, nth):
    """Refuses before the upload is done, and opens no window for the rest of it."""
    stream = peer.request(whole=False)
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream,
                    OK_HEADERS + literal(b"grpc-status", b"8")))
    while peer.next_frame()[0] != RST_STREAM:
        pass
    peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 65535)))
    peer.send(answer(peer.request()))
    peer.request()


def reply_with(make):
    def behave(peer, nth):
        peer.send(make(peer.request()))
        peer.request()
    return behave


def drop(peer, nth):
    peer.request()


def only_headers(block):
    return reply_with(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, block))


BEHAVIOURS = {
    "goaway": go_away_first,
    "refuse-once": refuse(1),
    "refuse-always": refuse(1000),
    "one-each": one_each,
    "early": early,
    "drop": drop,
    "http-503": only_headers(b"\x08\x03503"),
    "no-status": only_headers(OK_HEADERS),
    "bad-status": only_headers(OK_HEADERS + literal(b"grpc-status", b"1x")),
    "high-status": only_headers(OK_HEADERS + literal(b"grpc-status", b"99")),
    "bad-details": only_headers(OK_HEADERS + literal(b"grpc-status", b"5") +
                                literal(b"grpc-message", b"gone%2") +
                                literal(b"grpc-status-details-bin", b"!!!!")),
    "no-message": only_headers(OK_HEADERS + literal(b"grpc-status", b"0")),
    "two-messages": reply_with(lambda s: answer(s, message(b"") + message(b""))),
    "short-message": reply_with(lambda s: answer(s, message(b"abc")[:-1])),
    "compressed": reply_with(lambda s: answer(s, message(b"", 1))),
    "garbage": reply_with(lambda s: b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20),
    "no-h2": drop,
}


def serve_bare(d, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{d}/server.pem", f"{d}/server.key")
    context.load_verify_locations(f"{d}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if name != "no-h2":
        context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))

    def one(raw, nth):
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                peer = Peer(connection)
                peer.greet()
                BEHAVIOURS[name](peer, nth)
        except (OSError, EOFError):
            pass

    def accept():
        nth = 0
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=one, args=(raw, nth), daemon=True).start()
            nth += 1

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1], listener


def main():
    directory, behaviour = sys.argv[1:]
    if not os.path.exists(f"{directory}/stranger.pem"):
        make_certificates(directory)
    serve = serve_grpc if behaviour == "grpc" else lambda d: serve_bare(d, behaviour)
    port, _held = serve(directory)
    print(port, flush=True)
    sys.stdin.read()
    os._exit(0)


main()
