"""Certificates for the tests of TLS."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture(scope="session")
def make_certificate():
    """A function that creates a certificate for a name, such as ``IP:127.0.0.1``, and returns its file and its key."""

    def make(directory, name: str):
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=partwise test"]
        command += ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    return make


@pytest.fixture(scope="session")
def certificate(make_certificate, tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
