"""A place whose authority publishes a revocation list that the daemon reads."""
import os

from harness import Place, run

CA = """[ca]
default_ca = ours
[ours]
database = {dir}/index
default_md = sha256
default_crl_days = {days}
certificate = {dir}/pki/ca.pem
private_key = {dir}/pki/ca.key
"""


class Revocable(Place):
    def configuration(self, more=""):
        return super().configuration(more).replace("server:\n", "server:\n  crl: pki/crl.pem\n")

    def openssl(self, *arguments):
        done = run("openssl", "ca", "-config", self.path("ca.cnf"), *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)

    def publish(self, *times):
        """The CA's list as it is now, put in place at once."""
        self.openssl("-gencrl", "-out", self.path("pki/crl.new"), *times)
        os.rename(self.path("pki/crl.new"), self.path("pki/crl.pem"))

    def cert(self, *arguments):
        super().cert(*arguments)
        if arguments[0] == "ca":
            self.write("ca.cnf", CA.format(dir=self.dir, days=1))
            self.write("index", "")
            self.publish()

    def revoke(self, name):
        self.openssl("-revoke", self.path("pki/%s.pem" % name))
