"""Whatever bytes arrive, the server responds or closes the connection; it never fails."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from partwise.server import OSSServer, S3Server, ServerSettings
from partwise.server.connection import ClientConnection
from partwise.server.errors import ServiceError
from partwise.server.xml import parse_deletion, parse_part_list


class Wire:
    """A socket whose peer has sent everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.sent = b""
        self.closed = False

    def recv(self, size: int) -> bytes:
        received, self._data = self._data[:size], self._data[size:]
        return received

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setsockopt(self, *_: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Fuzzed:
    """A server without a socket: bytes in, bytes out. It allows anonymous requests, so that they get far."""

    def __init__(self, server_class: type[OSSServer | S3Server]) -> None:
        self.directory = Path(tempfile.mkdtemp())
        (self.directory / "outside").write_bytes(b"outside")
        served = self.directory / "served"
        (served / "examplebucket").mkdir(parents=True)
        (served / "examplebucket" / "key").write_bytes(b"0123456789")
        self.server = server_class(directory=served, settings=ServerSettings(allow_anonymous=True))
        self.failures: list[str] = []

    def __call__(self, data: bytes) -> bytes:
        """Return the response."""
        service = self.server._service
        self.failures = []
        wire: Any = Wire(data)
        ClientConnection(wire, service.respond, service.refuse, 60.0).serve()
        assert wire.closed
        assert self.failures == []
        assert not wire.sent or wire.sent.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 500" not in wire.sent
        assert (self.directory / "outside").read_bytes() == b"outside"
        assert {path.name for path in self.directory.iterdir()} == {"outside", "served"}
        sent: bytes = wire.sent
        return sent


@pytest.fixture(scope="module", params=[OSSServer, S3Server])
def fuzzed(request: pytest.FixtureRequest) -> Iterator[Fuzzed]:
    server = Fuzzed(request.param)

    class Failures(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            server.failures.append(self.format(record))

    handler = Failures()
    logging.getLogger("partwise.server").addHandler(handler)
    yield server
    logging.getLogger("partwise.server").removeHandler(handler)
    server.server.stop()
    shutil.rmtree(server.directory)


_HEADER_NAMES = """
    range if-match if-none-match if-modified-since if-unmodified-since content-type content-md5 content-encoding expect
    authorization origin x-oss-date x-oss-security-token x-oss-content-sha256 x-oss-callback x-oss-callback-var
    x-oss-hash-crc64ecma x-oss-traffic-limit x-oss-tagging x-oss-meta-a x-oss-complete-all x-oss-forbid-overwrite
    x-oss-object-acl x-oss-storage-class x-oss-range-behavior x-oss-server-side-encryption x-oss-copy-source
    x-amz-date x-amz-security-token x-amz-content-sha256 x-amz-decoded-content-length x-amz-trailer x-amz-tagging
    x-amz-checksum-crc32 x-amz-checksum-sha256 x-amz-checksum-algorithm x-amz-checksum-type x-amz-checksum-mode
    x-amz-meta-a x-amz-acl x-amz-storage-class x-amz-server-side-encryption x-amz-mp-object-size x-amz-copy-source
    x-amz-server-side-encryption-customer-algorithm x-amz-server-side-encryption-customer-key
    x-amz-object-lock-mode x-amz-object-lock-retain-until-date x-amz-expected-bucket-owner x-amz-request-payer
    transfer-encoding content-length connection upgrade cookie date
"""
_PARAMETER_NAMES = """
    uploads uploadId partNumber part-number-marker max-parts max-keys max-uploads key-marker upload-id-marker marker
    prefix delimiter encoding-type list-type continuation-token start-after acl location bucketInfo objectMeta
    response-content-type response-expires callback callback-var x-oss-process x-oss-traffic-limit sequential
    OSSAccessKeyId Signature Expires x-oss-signature x-oss-signature-version x-oss-credential x-oss-expires x-oss-date
    security-token delete tagging versioning object-lock fetch-owner
    X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders X-Amz-Signature
"""
_ODD_PATHS = """
    / /examplebucket /examplebucket/ /examplebucket/key /examplebucket/new/key /examplebucket/../outside
    /examplebucket/%2e%2e/%2e%2e/outside /../outside /%2e%2e/outside /examplebucket%2f..%2foutside
    /examplebucket//etc/passwd /examplebucket/%2fetc%2fpasswd /examplebucket/a%00b /examplebucket/key/below
    /examplebucket/.partwise/x /examplebucket/%5c..%5coutside /examplebucket/%ff * http://localhost/examplebucket
    /./examplebucket/key /EXAMPLEBUCKET/key /examplebucket/./key /./x
"""
_XML = """
    <CompleteMultipartUpload> </CompleteMultipartUpload> <Part> </Part> <PartNumber> </PartNumber> <ETag> </ETag> 1 a
    <Delete> </Delete> <Object> </Object> <Key> </Key>
    <a:b> &lt; &x; <!DOCTYPE <!-- --> <![CDATA[ ]]> " é <?xml
"""

_HOSTS = ["localhost", "127.0.0.1:1", "examplebucket.localhost", "example.com", "[::1]", "[", "served/a.localhost"]

_NUMBERS = ["0", "1", "-1", "+1", "1_0", "9" * 20, "9" * 4400, "\uff11", "1.5", "nan", "", "1e9"]
_TEXTS = st.one_of(
    st.sampled_from([*_NUMBERS, "bytes=0-3", "bytes=-", "bytes=" + "9" * 4400 + "-", "yes", "true", "url", "KMS"]),
    st.sampled_from(["Mon, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 9999 23:59:59 -2359", "Thu, 32 Foo 1970"]),
    st.sampled_from([base64.b64encode(t).decode() for t in (b"[" * 3000, b'{"callbackUrl":"\\ud800"}', b"{}", b"1")]),
    st.sampled_from(["OSS4-HMAC-SHA256 Credential=a/b/c/oss/aliyun_v4_request,Signature=1", "OSS a:b", "null", "*"]),
    st.sampled_from(["AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request,SignedHeaders=host,Signature=1", "CRC32"]),
    st.sampled_from(["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "UNSIGNED-PAYLOAD"]),
    st.sampled_from(["x-amz-checksum-crc32", "AES256", "aws:kms", "COMPOSITE", "FULL_OBJECT", "ENABLED", "AAAA-1"]),
    st.text(max_size=8),
)
_HEADERS = st.sampled_from(_HEADER_NAMES.split())
_PARAMETERS = st.sampled_from(_PARAMETER_NAMES.split())
_PATHS = st.one_of(
    st.sampled_from(_ODD_PATHS.split()),
    st.text(max_size=6).map(lambda text: "/examplebucket/" + _quoted(text)),
)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Generate a request that is approximately valid."""
    method = draw(st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "CONNECT"]))
    query = draw(st.lists(st.tuples(_PARAMETERS, _TEXTS), max_size=3))
    target = draw(_PATHS) + ("?" + "&".join(f"{name}={_quoted(value)}" for name, value in query) if query else "")
    host = draw(st.sampled_from(_HOSTS))
    headers = draw(st.lists(st.tuples(_HEADERS, _TEXTS), max_size=3))
    body = draw(st.one_of(st.just(b""), st.binary(max_size=20), st.just(b"5\r\nhello\r\n0\r\n\r\n")))
    if draw(st.booleans()):
        headers.append(("content-length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + body


def _get(target: str = "/examplebucket/key", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


_CALLBACK = base64.b64encode(json.dumps({"callbackUrl": "http://127.0.0.1:1", "callbackBody": "\ud800"}).encode())


@given(data=st.lists(requests(), min_size=1, max_size=2).map(b"".join))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(_get(Range="bytes=" + "9" * 4400 + "-"))
@example(_get(Range="bytes=-" + "9" * 4400, x_oss_range_behavior="standard"))
@example(_get("/examplebucket/key?response-content-type=a%0D%0Ax-injected:%201"))
@example(_get("/examplebucket?prefix=%FF&encoding-type=url"))
@example(_get("/examplebucket?prefix=%ED%A0%80&encoding-type=url"))
@example(_get(Content_Length="9" * 4400))
@example(_get(Content_Length="-1"))
@example(_get(If_Modified_Since="Mon, 01 Jan 0001 00:00:00 -0000"))
@example(_get(If_Modified_Since="Fri, 31 Dec 9999 23:59:59 -2359"))
@example(_get(If_Modified_Since="Fri, 31 Dec 9999 23:59:59 -9999"))
@example(_get(Authorization="OSS a:b", Date="Mon, 01 Jan 0001 00:00:00 -0000"))
@example(_get("/examplebucket/key?uploadId=" + "A" * 5000))
@example(_get("/examplebucket/key?uploadId=..%2f..%2foutside"))
@example(_get("/examplebucket/" + "a" * 300))
@example(_get("/examplebucket/" + "a/" * 500 + "b"))
@example(b"PUT /examplebucket/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 20 + b"\r\n\r\n")
@example(b"PUT /examplebucket/k HTTP/1.1\r\nHost: localhost\r\nx-oss-callback: " + _CALLBACK + b"\r\n\r\n")
def test_no_generated_request_is_an_internal_error(fuzzed: Fuzzed, data: bytes) -> None:
    fuzzed(data)


@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"\xff" * 70_000)
def test_no_random_bytes_are_an_internal_error(fuzzed: Fuzzed, data: bytes) -> None:
    fuzzed(data)
    fuzzed(b"GET / HTTP/1.1\r\n" + data)
    fuzzed(b"PUT /examplebucket/key2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + data)


_PIECES = st.sampled_from(_XML.split())
_PARTS = st.builds("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>".format, _TEXTS, _TEXTS)
_WHOLE_PARTS = st.integers(1, 10_000).map("<Part><PartNumber>{}</PartNumber><ETag>a</ETag></Part>".format)


def _document(content: list[str]) -> bytes:
    return f"<CompleteMultipartUpload>{''.join(content)}</CompleteMultipartUpload>".encode(errors="replace")


@given(
    body=st.one_of(
        st.binary(max_size=50),
        st.lists(_PIECES, max_size=20).map(lambda pieces: "".join(pieces).encode()),
        st.lists(_WHOLE_PARTS | _PIECES | _PARTS, max_size=3).map(_document),
    )
)
@example(_document(["<Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>"]))
@settings(max_examples=100, deadline=None)
@example(b'<?xml version="1.0" encoding="nonsense"?><a/>')
@example(b'<?xml version="1.0" encoding="utf-7"?><a/>')
@example("<!DOCTYPE a [<!ENTITY b 'c'>]><Delete><Object><Key>&b;</Key></Object></Delete>".encode("utf-16"))
def test_no_generated_document_is_an_internal_error(body: bytes) -> None:
    for parse in (parse_part_list, lambda body: parse_deletion(body)[0]):
        try:
            found = parse(body)
        except ServiceError as error:
            assert error.code == "MalformedXML"  # noqa: PT017 -- most are none, and some are
        else:
            assert found
