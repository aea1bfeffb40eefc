"""Certificates for tests: a CA of their own, and what it issues, made by the openssl command."""
import pathlib
import ssl
import subprocess


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=60)


class Authority:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.ca = self.folder / "ca.crt"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30,
                "-subj", "/CN=Test CA", "-keyout", self.folder / "ca.key", "-out", self.ca)

    def issue(self, name="server", days=30, names="DNS:localhost,IP:127.0.0.1"):
        """Paths of a certificate, the CA's behind it, and of its key."""
        f = self.folder
        certificate, key = f / f"{name}.crt", f / f"{name}.key"
        extensions = f / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", f / f"{name}.csr")
        openssl("x509", "-req", "-in", f / f"{name}.csr", "-CA", self.ca, "-CAkey", f / "ca.key", "-CAcreateserial",
                "-days", days, "-extfile", extensions, "-out", certificate)
        certificate.write_text(certificate.read_text() + self.ca.read_text())
        key.chmod(0o600)
        return certificate, key

    def trusting(self):
        """What a client needs that trusts this CA alone."""
        return ssl.create_default_context(cafile=self.ca)
