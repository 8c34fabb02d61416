#!/usr/bin/python3 -B
"""The example in C++ against the real daemon, with Debian's gRPC."""
import concurrent.futures
import glob
import os
import re
import unittest

from examples import EXAMPLES, PROTO, Language, made, need, protos
from harness import run
from served import Served

PLUGIN = "/usr/bin/grpc_cpp_plugin"


class Cpp(Language, Served):
    @classmethod
    def make(cls, folder):
        flags = run("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").stdout.split()
        made("protoc", "-I", PROTO, "-I", "/usr/include", "--cpp_out=" + folder, "--grpc_out=" + folder,
             "--plugin=protoc-gen-grpc=" + PLUGIN, *protos("biomatch/v1", "google/rpc", "grpc/health/v1"))
        needed = re.compile(r"/(common|enrolment_service|matching_service|status|error_details|health)\.(grpc\.)?pb\.cc$")
        sources = [EXAMPLES + "/cpp/traveller.cc", *filter(needed.search, glob.glob(folder + "/**/*.cc", recursive=True))]
        objects = [os.path.join(folder, "%d.o" % i) for i in range(len(sources))]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda source, made_of: made("c++", "-std=c++17", "-Wall", "-Wextra", "-I", folder, "-c", source,
                                                       "-o", made_of), sources, objects))
        made("c++", "-o", folder + "/traveller", *objects, *flags)
        return [folder + "/traveller"]


if __name__ == "__main__":
    need(protobuf_compiler_grpc=PLUGIN, **{"libgrpc++_dev": "/usr/include/grpcpp/grpcpp.h"})
    unittest.main(verbosity=2)
