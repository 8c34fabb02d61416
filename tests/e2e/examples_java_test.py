#!/usr/bin/python3 -B
"""The example in Java against the real daemon, with the libraries of Debian."""
import glob
import os
import shutil
import unittest

from examples import EXAMPLES, PROTO, Language, made, need, protos
from served import Served

PLUGIN, JARS = "/usr/bin/grpc_java_plugin", "/usr/share/java"
JNI = "/usr/lib/%s-linux-gnu/jni/libnetty-tcnative.so" % os.uname().machine


class Java(Language, Served):
    @classmethod
    def make(cls, folder):
        made("protoc", "-I", PROTO, "-I", "/usr/include", "--java_out=" + folder, "--grpc-java_out=" + folder,
             "--plugin=protoc-gen-grpc-java=" + PLUGIN, *protos("biomatch/v1", "google/rpc", "grpc/health/v1"))
        made("javac", "-d", folder, "-cp", JARS + "/*", *glob.glob(folder + "/**/*.java", recursive=True),
             os.path.join(EXAMPLES, "java/Traveller.java"))
        # Debian's netty has no ALPN by the JDK, and looks for its OpenSSL under another name than Debian's.
        shutil.copy(JNI, os.path.join(folder, "libnetty_tcnative.so"))
        return ["java", "-Djava.library.path=" + folder, "-cp", folder + ":" + JARS + "/*", "Traveller"]


if __name__ == "__main__":
    need(default_jdk_headless="/usr/bin/javac", protobuf_compiler_grpc_java_plugin=PLUGIN,
         libgrpc_java=JARS + "/grpc-netty.jar", libnetty_java=JARS + "/netty-codec-http2.jar",
         libnetty_tcnative_java=JNI, libprotobuf_java=JARS + "/protobuf.jar", libperfmark_java=JARS + "/perfmark-api.jar",
         libgeronimo_annotation_1_3_spec_java=JARS + "/geronimo-annotation-1.3-spec.jar")
    unittest.main(verbosity=2)
