"""The service's messages in Python, made from the .proto files of the repository."""
import os
import subprocess

from harness import ROOT

_OUT = os.path.join(ROOT, "build/gen/python")
_PROTO = os.path.join(ROOT, "proto")
_FILES = ["biomatch/v1/common.proto", "biomatch/v1/matching_service.proto", "biomatch/v1/enrolment_service.proto",
          "biomatch/v1/analysis_service.proto", "biomatch/v1/admin_service.proto", "grpc/health/v1/health.proto",
          "grpc/reflection/v1/reflection.proto", "google/rpc/status.proto", "google/rpc/error_details.proto",
          "biomatch/v1/audit.proto", "biomatch/v1/dump.proto"]
os.makedirs(_OUT, exist_ok=True)
subprocess.run(["protoc", "-I", _PROTO, "-I", "/usr/include", "--descriptor_set_out=" + _OUT + "/all.pb",
                "--include_imports", *_FILES], check=True)

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402

_pool = descriptor_pool.DescriptorPool()
with open(_OUT + "/all.pb", "rb") as _file:
    for _proto in descriptor_pb2.FileDescriptorSet.FromString(_file.read()).file:
        _pool.Add(_proto)


class _Module:
    """The messages and enum values of one .proto file as attributes."""

    def __init__(self, name):
        file = _pool.FindFileByName(name)
        factory = message_factory.MessageFactory(_pool)
        for message in file.message_types_by_name.values():
            setattr(self, message.name, factory.GetPrototype(message))
        for enum in file.enum_types_by_name.values():
            for value in enum.values:
                setattr(self, value.name, value.number)


common, matching, enrolment, analysis, admin, health = (_Module(name) for name in _FILES[:6])
audit = _Module(_FILES[9])
dump = _Module(_FILES[10])


class _Status:
    """google.rpc.Status with the details that the service sends."""

    reflection = _Module(_FILES[6])
    _status, _details = _Module(_FILES[7]), _Module(_FILES[8])

    def __init__(self, reason, field, retry):
        self.reason, self.field, self.retry = reason, field, retry

    @classmethod
    def parse(cls, data):
        reason, field, retry = "", "", 0
        for detail in cls._status.Status.FromString(data).details:
            kind = detail.type_url.rsplit(".", 1)[1]
            message = getattr(cls._details, kind).FromString(detail.value)
            if kind == "ErrorInfo":
                reason = message.reason
            elif kind == "BadRequest":
                field = message.field_violations[0].field
            elif kind == "RetryInfo":
                retry = message.retry_delay.seconds + message.retry_delay.nanos / 1e9
        return cls(reason, field, retry)


rpc_status = _Status
