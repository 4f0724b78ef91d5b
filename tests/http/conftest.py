"""Certificates for the tests of TLS."""

from __future__ import annotations

import pytest
from shared import scripted


@pytest.fixture(scope="session")
def make_certificate():
    """A function that creates a certificate for a name, such as ``IP:127.0.0.1``, and returns its file and its key."""
    return scripted.make_certificate


@pytest.fixture(scope="session")
def certificate(make_certificate, tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
