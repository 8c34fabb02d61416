"""A daemon with endpoints, a policy and an empty gallery, as most end-to-end tests want it."""
import glob
import os
import struct
import zlib

import grpc

from harness import ROOT, WAIT, Place
from messages import admin, analysis, common, enrolment, matching, rpc_status

PEOPLE = os.path.join(ROOT, "build/samples/people")
GROUP = os.path.join(ROOT, "build/samples/group.jpg")
MATCHING, ENROLMENT = "/biomatch.v1.MatchingService/", "/biomatch.v1.EnrolmentService/"
ANALYSIS, ADMIN = "/biomatch.v1.AnalysisService/", "/biomatch.v1.AdminService/"

POLICY = """version: test
deployment: example
purposes:
  - name: gate
    legal_basis: test
    classes: [lane]
    operations: [verify, compare, identify, enrol, read, delete, analyse, extract]
    galleries: [people, others]
    target_fmr: 0.001
    target_fpir: 0.1
    gallery_size: 100
    max_candidates: 5
    raw_scores: true
    priority: lane
  - name: office
    legal_basis: test
    classes: [admin]
    operations: [admin, audit]
    galleries: ["*"]
    priority: bulk
"""


def read(path):
    with open(path, "rb") as file:
        return file.read()


def png(width, height):
    """A valid PNG of one grey, small whatever its size."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    pack, row = zlib.compressobj(9), bytes(1 + width)
    body = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def tlv(tag, *values):
    """An element of BER-TLV."""
    value = b"".join(values)
    return bytes.fromhex(tag) + b"\x84" + struct.pack(">I", len(value)) + value


def dg2(data, block=False):
    """A passport's face data group: ISO/IEC 39794-5 with block, else ISO/IEC 19794-5:2005."""
    if block:
        shape = tlv("a0", tlv("a0", tlv("80", data), bytes.fromhex("a105a003800102")))
        record = tlv("7f2e", tlv("a1", tlv("65", bytes.fromhex("a007800103810207e3"),
                                           tlv("a1", tlv("30", b"\x80\x01\x00", tlv("a1", shape))))))
    else:
        face = struct.pack(">IH26x", len(data) + 32, 0) + data
        record = tlv("5f2e", b"FAC\x00010\x00", struct.pack(">IH", len(face) + 14, 1), face)
    return tlv("75", tlv("7f61", b"\x02\x01\x01", tlv("7f60", bytes.fromhex("a10381010287020101"), record)))


def picture(data):
    return common.Probe(image=common.Image(data=data))


def told(error):
    """The stable reason and the field of a failed call."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    if details is None:
        return None, None
    status = rpc_status.parse(details)
    return status.reason, status.field


def refused(case, status, reason, field, function, *arguments, **named):
    """Asserts that a call fails with this status, reason and field, and says what to do."""
    with case.assertRaises(grpc.RpcError) as caught:
        function(*arguments, **named)
    case.assertEqual(caught.exception.code(), status, caught.exception.details())
    case.assertEqual(told(caught.exception), (reason, field))
    case.assertTrue(caught.exception.details())


class Client:
    """One endpoint's connection."""

    def __init__(self, place, port, name, ca="ca"):
        self.channel = grpc.secure_channel("localhost:%d" % port, grpc.ssl_channel_credentials(
            read(place.path("pki/ca.pem")), read(place.path("pki/%s.key" % name)),
            read(place.path("pki/%s.pem" % name))), options=[("grpc.max_send_message_length", 32 << 20)])
        place.addCleanup(self.channel.close)

    def method(self, path, reply):
        return self.channel.unary_unary(path, request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=reply.FromString)

    def call(self, path, request, reply, timeout=WAIT):
        return self.method(path, reply)(request, timeout=timeout)

    def verify(self, subject, probe, timeout=WAIT, gallery="people", purpose="gate"):
        return self.call(MATCHING + "Verify", matching.VerifyRequest(
            purpose=purpose, gallery=gallery, subject_id=subject, probe=probe), matching.VerifyResponse, timeout)

    def enrol(self, subject, probe, request_id=None, unique=False, **encounter):
        return self.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose="gate", request_id=request_id or subject, gallery="people", subject_id=subject, reference=probe,
            refuse_duplicates=unique, encounter=enrolment.Encounter(**encounter)), enrolment.EnrolResponse)

    def identify(self, probe, **more):
        return self.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose="gate", galleries=["people"], probe=probe, **more), matching.IdentifyResponse)

    def extract(self, data):
        return self.call(ANALYSIS + "Extract", analysis.ExtractRequest(
            purpose="gate", image=common.Image(data=data)), analysis.ExtractResponse).template


class Served(Place):
    """A case with a running daemon, two endpoints and the sample photographs."""

    policy = POLICY

    def configuration(self, more=""):
        return super().configuration(more).replace("workers: 1", "workers: 2").replace("64MiB", "1GiB")

    def setUp(self):
        super().setUp()
        self.cert("endpoint", self.path("pki/ca"), self.path("pki/lane"), "biomatch://example/hall/lane/1")
        self.daemon = self.start()
        self.lane = Client(self, self.daemon.port, "lane")
        self.office = Client(self, self.daemon.port, "admin")
        self.office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
            purpose="office", request_id="people", name="people"), admin.CreateGalleryResponse)
        self.ada = [read(os.path.join(PEOPLE, "ada", name)) for name in ("01.jpg", "02.jpg")]
        self.strangers = [read(path) for path in sorted(glob.glob(PEOPLE + "/*/01.jpg")) if "/ada/" not in path]

    refused = refused
