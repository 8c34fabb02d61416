"""A made-up state that signs passports."""
import hashlib
import os
import subprocess

from harness import run
from served import tlv

EXTENSIONS = {"csca": "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n",
              "signer": "keyUsage=critical,digitalSignature\n"}


class Country:
    """A CSCA with its document signers, below a directory."""

    def __init__(self, directory):
        self.dir = directory
        os.mkdir(directory)
        self.make("csca", "csca")
        self.make("signer", "signer", "-CA", self.path("csca.pem"), "-CAkey", self.path("csca.key"), "-CAcreateserial")

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *args):
        done = run("openssl", *args)
        assert done.returncode == 0, done.stderr

    def make(self, name, kind, *issuer):
        with open(self.path("extensions"), "w", encoding="ascii") as file:
            file.write(EXTENSIONS[kind])
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".key"))
        self.openssl("req", "-new", "-key", self.path(name + ".key"), "-subj", "/C=UT/CN=" + name, "-out", self.path(name + ".csr"))
        self.openssl("x509", "-req", "-in", self.path(name + ".csr"), "-days", "30", "-extfile", self.path("extensions"),
                     "-out", self.path(name + ".pem"), *(issuer or ("-signkey", self.path(name + ".key"))))

    def sign(self, data_group, signer="signer"):
        """The EF.SOD of a chip with this DG2."""
        hashes = tlv("30", b"\x02\x01\x02", tlv("04", hashlib.sha256(data_group).digest()))
        lds = tlv("30", b"\x02\x01\x00", tlv("30", bytes.fromhex("0609608648016503040201")), tlv("30", hashes))
        done = subprocess.run(
            ["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256", "-econtent_type",
             "2.23.136.1.1.1", "-signer", self.path(signer + ".pem"), "-inkey", self.path(signer + ".key")],
            input=lds, stdout=subprocess.PIPE, check=True)
        return tlv("77", done.stdout)

    def list_revoked(self, *names):
        """crl.pem, with these signers in it."""
        with open(self.path("ca.cnf"), "w", encoding="utf-8") as file:
            file.write("[ca]\ndefault_ca=this\n[this]\ndatabase=%s\ndefault_md=sha256\ndefault_crl_days=30\n" % self.path("index"))
        open(self.path("index"), "a", encoding="ascii").close()
        ca = ("ca", "-config", self.path("ca.cnf"), "-cert", self.path("csca.pem"), "-keyfile", self.path("csca.key"))
        for name in names:
            self.openssl(*ca, "-revoke", self.path(name + ".pem"))
        self.openssl(*ca, "-gencrl", "-out", self.path("crl.new"))
        os.rename(self.path("crl.new"), self.path("crl.pem"))
