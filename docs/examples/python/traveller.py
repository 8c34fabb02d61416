#!/usr/bin/env python3
"""An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.

    traveller.py TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...

TARGETS    addresses separated by commas, the leader's first
CA         the CAs that sign the service's certificates, PEM
ENDPOINT   ENDPOINT.pem and ENDPOINT.key are this endpoint's certificate and its key
REFERENCE  the picture to enrol
CAPTURE    what the camera gives: the next one is taken where the service asks for another picture

Exits with 0 for a match, 2 for none, 3 where an officer decides. Every other status means that nothing was decided: 1 is
what a crash gives, and must not be taken for an answer.
"""
import random
import sys
import time
import uuid

import grpc
from biomatch.v1.common_pb2 import DECISION_MATCH, DECISION_NO_MATCH, DECISION_REFER, Decision, Image, Probe, Reason
from biomatch.v1.enrolment_service_pb2 import Encounter, EnrolOutcome, EnrolRequest, EnrolResponse
from biomatch.v1.matching_service_pb2 import VerifyRequest, VerifyResponse
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

ENROL = "/biomatch.v1.EnrolmentService/Enrol"
VERIFY = "/biomatch.v1.MatchingService/Verify"
HEALTH = "/grpc.health.v1.Health/Check"

ONE_TRY = 5  # seconds until a try is given up
ALL_TRIES = 15  # seconds until the call is
OPTIONS = [
    ("grpc.enable_retries", 0),  # Service.call knows better
    ("grpc.keepalive_time_ms", 20000),  # finds a dead connection before the next traveller does
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]

# What the person before the camera can mend. Every other reason is for an officer.
RETAKE = {
    "NO_FACE": "look into the camera",
    "SEVERAL_FACES": "one person at a time",
    "FACE_TOO_SMALL": "come closer",
    "FACE_INCOMPLETE": "stand in the middle",
    "LOW_QUALITY": "hold still, face the camera, mind the light",
    "FRAMES_DIFFER": "one person at a time",
}


class Fault(Exception):
    """Nothing was decided. Never to be taken for NO_MATCH: the gate stays shut and an officer comes."""

    def __init__(self, error):
        super().__init__(error.details())
        self.code, self.reason, self.field, self.wait = error.code(), "", "", 0.0
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self.read(Status.FromString(value))

    def read(self, status):
        info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(retry):
                self.wait = retry.retry_delay.ToMilliseconds() / 1000
            elif detail.Unpack(bad):
                self.field = bad.field_violations[0].field

    def is_passing(self):
        """Whether the same request may be answered a moment later, or at another address."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.reason in ("", "OVERLOADED", "OUT_OF_MEMORY")
        return (self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                or self.reason == "FOLLOWS_ANOTHER")


class Service:
    """The service at one of several addresses, with this endpoint's certificate."""

    def __init__(self, targets, ca, endpoint):
        credentials = grpc.ssl_channel_credentials(read(ca), read(endpoint + ".key"), read(endpoint + ".pem"))
        self.channels = [grpc.secure_channel(target, credentials, OPTIONS) for target in targets.split(",")]
        self.chosen = {}  # a channel for each of the service's gRPC services

    def close(self):
        for channel in self.channels:
            channel.close()

    def call(self, path, request, response):
        """Calls until there is an answer. The request has to bear repetition: a write its request_id."""
        end, pause = time.monotonic() + ALL_TRIES, 0.2
        while True:
            try:
                return self.once(path, request, response, min(ONE_TRY, end - time.monotonic()))
            except Fault as fault:
                pause = min(pause * 2, 5) if fault.wait == 0 else max(pause, fault.wait)
                wait = pause * random.uniform(1, 1.5)  # so that a hall full of kiosks does not come back as one
                if not fault.is_passing() or time.monotonic() + wait > end:
                    raise
                time.sleep(wait)

    def once(self, path, request, response, timeout):
        name = path.split("/")[1]
        try:
            if name not in self.chosen:
                self.chosen[name] = self.serving(name)
            return unary(self.chosen[name], path, request, response, timeout)
        except grpc.RpcError as error:
            self.chosen.pop(name, None)
            raise Fault(error) from error

    def serving(self, name):
        """The first address whose health says that it serves: for enrolments, that is the leader."""
        for channel in self.channels:
            try:
                health = unary(channel, HEALTH, HealthCheckRequest(service=name), HealthCheckResponse, 1)
                if health.status == HealthCheckResponse.SERVING:
                    return channel
            except grpc.RpcError:
                continue
        return self.channels[0]  # whose own error then says what is wrong


def unary(channel, path, request, response, timeout):
    method = channel.unary_unary(path, request_serializer=type(request).SerializeToString,
                                 response_deserializer=response.FromString)
    return method(request, timeout=timeout)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def picture(path):
    return Probe(image=Image(data=read(path)))


def receipt(answer):
    """The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it with the case."""
    if answer.receipt.sequence == 0 or len(answer.receipt.hash) != 32:
        raise ValueError("an answer without a receipt")
    return "%d:%s" % (answer.receipt.sequence, answer.receipt.hash.hex())


def name_of(reason):
    """The name of a reason; the number of one that is newer than this program, which is for an officer, too."""
    return Reason.Name(reason).removeprefix("REASON_") if reason in Reason.values() else str(reason)


def enrol(service, purpose, gallery, subject, path):
    # Made before the first try and kept through all of them: a repeat returns the first answer. A standby that took the
    # lead in between does not know it, but finds the encounter of this name there.
    request_id = str(uuid.uuid4())
    request = EnrolRequest(purpose=purpose, request_id=request_id, gallery=gallery, subject_id=subject,
                           encounter=Encounter(encounter_id=request_id), reference=picture(path))
    try:
        answer = service.call(ENROL, request, EnrolResponse)
    except Fault as fault:
        if fault.reason != "ALREADY_EXISTS":
            raise
        print("enrolled before")
        return
    outcome = EnrolOutcome.Name(answer.outcome).removeprefix("ENROL_OUTCOME_")
    reason = name_of(answer.reason) + " " if answer.reason else ""
    print("enrolled", outcome, reason + receipt(answer))


def verify(service, purpose, gallery, subject, captures):
    """The exit status of the first decision that is not a request for another picture."""
    for path in captures:
        request = VerifyRequest(purpose=purpose, gallery=gallery, subject_id=subject, probe=picture(path))
        answer = service.call(VERIFY, request, VerifyResponse)
        decision = Decision.Name(answer.decision).removeprefix("DECISION_")
        if answer.decision != DECISION_REFER:
            print("verified", decision, receipt(answer))
            return {DECISION_MATCH: 0, DECISION_NO_MATCH: 2}[answer.decision]
        reason = name_of(answer.reason)
        print("verified", decision, reason, receipt(answer))
        if reason not in RETAKE:
            break
        print(RETAKE[reason])
    print("an officer decides")
    return 3


def main(targets, ca, endpoint, purpose, gallery, subject, reference, *captures):
    service = Service(targets, ca, endpoint)
    try:
        enrol(service, purpose, gallery, subject, reference)
        return verify(service, purpose, gallery, subject, captures)
    except Fault as fault:
        print("fault", fault.code.name, fault.reason or "-", fault.field or "-", fault, file=sys.stderr)
        return 4
    finally:
        service.close()


if __name__ == "__main__":
    if len(sys.argv) < 9:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    sys.exit(main(*sys.argv[1:]))
