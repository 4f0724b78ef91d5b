"""Signatures, framing, objects, lists and addresses of the S3 server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from attrs import evolve
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.checksums import CRC32, CRC64_NVME
from partwise.errors import AccessDenied, BackendError, ServerFailed, SourceChanged, Throttled
from partwise.model import MIB, PartLimits
from partwise.server import AccessKey, Fail, S3Server, ServerFault, ServerSettings, ServiceError
from partwise.server.messages import ServerRequest
from partwise.server.s3.addressing import parse_target
from partwise.server.s3.errors import error_for
from partwise.server.s3.server import default_settings

posix_time = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process can't be changed")

# --- signatures ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=st.text(min_size=1, max_size=40), value=st.text("abc =&+%/é", max_size=20), signed_body=st.booleans())
def test_a_request_with_any_key_that_botocore_signs_is_accepted(client, key, value, signed_body):
    if not key.isprintable() or key in (".", "..") or "/./" in f"/{key}/" or "/../" in f"/{key}/":
        return  # urllib and http.client normalise some of these before they are sent
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    reply = client("PUT", key, {"x-id": value}, b"data", {"x-amz-meta-a": "  b   c "}, signed_body=signed_body)

    assert reply.status == 200, reply.body
    assert client("GET", key).body == b"data"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"secret": "wrong"}, 403, "SignatureDoesNotMatch"),
        ({"region": "eu-west-1"}, 400, "AuthorizationHeaderMalformed"),
        ({"token": "token"}, 400, "InvalidToken"),
    ],
)
def test_a_wrong_signature_is_refused(client: Any, change: dict[str, str], status: int, code: str) -> None:
    reply = evolve(client, **change)("GET", "key")

    assert (reply.status, reply.code) == (status, code)


def test_an_unknown_key_and_no_signature_are_refused(server: S3Server, client: Any) -> None:
    request = client.signed("GET", "key", {}, b"", {}, signed_body=False)
    text = request.headers["Authorization"]
    request.headers.replace_header("Authorization", text.replace(server.access_key_id, "AKIDOTHER"))
    unknown = client.send(request, b"")
    del request.headers["Authorization"]

    assert (unknown.status, unknown.code) == (403, "InvalidAccessKeyId")
    assert client.send(request, b"").code == "AccessDenied"


@pytest.mark.parametrize(
    "text",
    [
        "AWS4-HMAC-SHA1 Credential=a/b/c/s3/aws4_request,SignedHeaders=host,Signature=x",
        "AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request,Signature=x",
        "AWS4-HMAC-SHA256 Unknown=1",
        "Basic abc",
        "AWS4-HMAC-SHA256",
    ],
)
def test_a_malformed_authorization_is_refused(client: Any, text: str) -> None:
    request = client.signed("GET", "key", {}, b"", {}, signed_body=False)
    request.headers.replace_header("Authorization", text)

    assert client.send(request, b"").status == 400


def test_a_header_that_is_not_signed_is_refused(client: Any) -> None:
    request = client.signed("PUT", "key", {}, b"x", {}, signed_body=False)
    request.headers["x-amz-acl"] = "public-read"
    reply = client.send(request, b"x")

    assert (reply.code, reply.text("HeadersNotSigned")) == ("AccessDenied", "x-amz-acl")


@posix_time
@pytest.mark.parametrize("zone", ["UTC", "UTC-8"])
def test_a_request_may_be_signed_with_its_date_header(client: Any, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """The server may be in any time zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        reply = client("PUT", "key", body=b"data", headers={"Date": formatdate()})
    finally:
        monkeypatch.undo()
        time.tzset()

    assert reply.status == 200, reply.body


@pytest.mark.parametrize(
    ("header", "change"), [("Date", lambda _: "yesterday"), ("X-Amz-Date", lambda date: f"{date[:8]}Tnoon")]
)
def test_a_date_that_is_not_one_is_refused(client: Any, header: str, change: Callable[[str], str]) -> None:
    given = {"Date": formatdate()} if header == "Date" else {}
    request = client.signed("GET", "key", {}, b"", given, signed_body=False)
    request.headers.replace_header(header, change(request.headers[header]))
    reply = client.send(request, b"")

    assert (reply.status, "valid Date or x-amz-date header" in (reply.text("Message") or "")) == (403, True)


def test_a_date_that_is_out_of_range_in_utc_is_skewed(client: Any) -> None:
    request = client.signed("GET", "key", {}, b"", {"Date": formatdate()}, signed_body=False)
    request.headers.replace_header("Date", "Fri, 31 Dec 9999 23:59:59 -1200")

    assert client.send(request, b"").code == "AuthorizationHeaderMalformed"  # its scope is of another day


def test_a_request_with_two_signatures_and_one_without_its_digest_are_refused(client: Any) -> None:
    request = client.signed("GET", "key", {}, b"", {}, signed_body=False)
    url, request.url = request.url, f"{request.url}?X-Amz-Signature=0"
    twice = client.send(request, b"")
    request.url = url
    del request.headers["X-Amz-Content-SHA256"]
    without = client.send(request, b"")

    assert (twice.code, without.code) == ("InvalidArgument", "MissingSecurityHeader")


def test_a_server_for_anyone_accepts_requests_without_a_signature(server: S3Server, client: Any) -> None:
    server.settings = evolve(server.settings, allow_anonymous=True)
    request = client.signed("PUT", "key", {}, b"data", {}, signed_body=False)
    del request.headers["Authorization"]
    assert client.send(request, b"data").status == 200
    assert client("GET", "key").body == b"data"
    request.headers.replace_header("X-Amz-Content-SHA256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    request.headers["x-amz-decoded-content-length"] = "5"
    body = b"5;chunk-signature=0\r\nhello\r\n0;chunk-signature=0\r\n\r\n"
    assert client.send(request, body).status == 200
    assert client("GET", "key").body == b"hello"


def test_a_clock_that_is_off_is_refused(server: S3Server, client: Any) -> None:
    server.settings = evolve(server.settings, clock_offset=1000)

    assert client("GET", "key").code == "RequestTimeTooSkewed"
    server.settings = evolve(server.settings, clock_offset=800)
    assert client("GET", "key").code == "NoSuchKey"


def test_temporary_keys_need_their_token_until_they_expire(client_of: Any) -> None:
    key = AccessKey("ASIATEMPORARY", "secret", "token", expiration=time.time() + 3600)
    with S3Server(settings=evolve(default_settings(), access_keys=[key])) as server:
        client = client_of(server, token="token")
        assert client("PUT", "key", body=b"x").status == 200
        assert evolve(client, token=None)("GET", "key").code == "InvalidToken"
        assert evolve(client, token="other")("GET", "key").code == "InvalidToken"
        server.settings = evolve(server.settings, access_keys=[evolve(key, expiration=time.time() - 1)])
        assert client("GET", "key").code == "ExpiredToken"


@pytest.mark.parametrize(("part", "other"), [(0, "20200101"), (2, "sts"), (3, "aws5_request")])
def test_a_scope_of_another_day_or_service_is_refused(client: Any, part: int, other: str) -> None:
    request = client.signed("GET", "key", {}, b"", {}, signed_body=False)
    text = request.headers["Authorization"]
    scope = text.partition("/")[2].partition(",")[0].split("/")
    changed = [*scope[:part], other, *scope[part + 1 :]]
    request.headers.replace_header("Authorization", text.replace("/".join(scope), "/".join(changed)))

    assert client.send(request, b"").code == "AuthorizationHeaderMalformed"


def presigned(server: S3Server, expires: int = 100, key: str = "key") -> AWSRequest:
    request = AWSRequest(method="GET", url=f"{server.endpoint}/examplebucket/{key}", headers={})
    credentials = Credentials(server.access_key_id, server.access_key_secret)
    S3SigV4QueryAuth(credentials, "s3", server.region, expires=expires).add_auth(request)
    return request


def test_a_presigned_url_with_zeros_before_its_time_is_not_valid_for_longer(server: S3Server, client: Any) -> None:
    request = presigned(server, expires="0000000019999999")

    assert client.send(request, b"").code == "AuthorizationQueryParametersError"


def test_a_presigned_url_is_valid_until_it_expires(server: S3Server, client: Any) -> None:
    client("PUT", "key", body=b"data")
    request = presigned(server)
    assert client.send(request, b"").body == b"data"
    server.settings = evolve(server.settings, clock_offset=200)
    assert client.send(request, b"").code == "AccessDenied"
    server.settings = evolve(server.settings, clock_offset=0)
    request.url = request.url.replace("/key", "/other")
    assert client.send(request, b"").code == "SignatureDoesNotMatch"
    assert client.send(presigned(server, expires=700_000), b"").code == "AuthorizationQueryParametersError"
    request = presigned(server)
    request.url = request.url.replace("X-Amz-Expires=100", "X-Amz-Expires=")
    assert client.send(request, b"").code == "AuthorizationQueryParametersError"
    server.settings = evolve(server.settings, clock_offset=-1000)
    early = client.send(presigned(server), b"")
    assert (early.code, early.text("Message")) == ("AccessDenied", "Request is not valid yet")


def test_a_signed_body_must_have_its_digest(client: Any) -> None:
    request = client.signed("PUT", "key", {}, b"right", {}, signed_body=True)

    assert client.send(request, b"wrong").code == "XAmzContentSHA256Mismatch"
    assert client("HEAD", "key").status == 404


# --- bodies in chunks ------------------------------------------------------------------------------------------------


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\n" + trailer + b"\r\n"


def unsigned_trailer(client: Any, body: bytes, length: int, trailer: str = "x-amz-checksum-crc32"):
    headers = {
        "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(length),
        "x-amz-trailer": trailer,
        "content-encoding": "aws-chunked,gzip",
    }
    return client("PUT", "key", body=body, headers=headers)


def test_a_body_in_chunks_is_verified_by_its_trailer(client: Any) -> None:
    checksum = CRC32.to_base64(CRC32.compute(b"hello world")).encode()
    body = chunked([b"hello ", b"world"], b"x-amz-checksum-crc32:" + checksum + b"\r\n")

    assert unsigned_trailer(client, body, 11).status == 200
    got = client("GET", "key")
    assert (got.body, got.headers["Content-Encoding"]) == (b"hello world", "gzip")
    wrong = chunked([b"hello ", b"WORLD"], b"x-amz-checksum-crc32:" + checksum + b"\r\n")
    assert unsigned_trailer(client, wrong, 11).code == "BadDigest"
    assert unsigned_trailer(client, chunked([b"hello world"]), 11).status == 400, "the trailer is missing"
    without_last_line = body.removesuffix(b"\r\n")
    assert unsigned_trailer(client, without_last_line, 11).status == 200
    assert unsigned_trailer(client, body, 11, trailer="x-amz-checksum-crc7").code == "InvalidRequest"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-Amz-Content-SHA256": "STREAMING-AWS4-ECDSA", "x-amz-decoded-content-length": "5"}, "InvalidArgument"),
        ({"X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "MissingContentLength"),
    ],
)
def test_a_body_in_chunks_needs_a_known_framing_and_its_length(client: Any, headers: dict[str, str], code: str) -> None:
    assert client("PUT", "key", body=chunked([b"hello"]), headers=headers).code == code
    assert client("HEAD", "key").status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5\r\nhel",
        b"x\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"ffffffff\r\n",
        b"5\r\nhello\r\n",
        b"z" * 9000,
    ],
    ids=range(7),
)
def test_a_malformed_body_in_chunks_is_refused(client: Any, body: bytes) -> None:
    assert unsigned_trailer(client, body, 5).status == 400
    assert client("HEAD", "key").status == 404


@pytest.mark.parametrize("begin", [b"x\r\n", b"5\r\nhello\r\n0\r\n\r\n"], ids=["no size", "the end"])
def test_the_rest_of_a_body_in_chunks_is_read_although_it_is_refused(client: Any, begin: bytes) -> None:
    """Else the client, which is still sending, sees a reset instead of the response."""
    reply = unsigned_trailer(client, begin + bytes(32 * MIB), 5)
    assert reply.status == 400
    assert client.server.requests[-1].body_length > 32 * MIB


@pytest.mark.parametrize("name", ["x-amz-a{}", "x-amz-a", "x-amz-trailer-signature"])
def test_the_number_of_trailers_is_limited(client: Any, name: str) -> None:
    checksum = f"x-amz-checksum-crc32:{CRC32.to_base64(CRC32.compute(b'hello'))}\r\n"

    def send(number: int) -> Any:
        trailers = checksum + "".join(f"{name.format(index)}:1\r\n" for index in range(number - 1))
        return unsigned_trailer(client, chunked([b"hello"], trailers.encode()), 5)

    assert send(16).status == 200
    assert send(17).code == "InvalidRequest"


def signed_chunks(client: Any, pieces: list[bytes], *, forge: bool = False, trailer: str = "", sent: str = "") -> int:
    """
    Send chunks that are signed one by one, by a signer of this test.

    A trailer is signed, too; `sent` is what is sent in its place.
    """
    server = client.server
    length = sum(map(len, pieces))
    headers = {
        "X-Amz-Content-SHA256": f"STREAMING-AWS4-HMAC-SHA256-PAYLOAD{'-TRAILER' if trailer else ''}",
        "x-amz-decoded-content-length": str(length),
        **({"x-amz-trailer": trailer.partition(":")[0]} if trailer else {}),
    }
    request = client.signed("PUT", "key", {}, b"", headers, signed_body=False)
    date = request.headers["X-Amz-Date"]
    scope = f"{date[:8]}/{server.region}/s3/aws4_request"
    key = f"AWS4{server.access_key_secret}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = request.headers["Authorization"].rpartition("Signature=")[2]
    empty, body = hashlib.sha256(b"").hexdigest(), b""
    for piece in [*pieces, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{signature}\n{empty}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        data = piece[::-1] if forge else piece
        body += b"%x;chunk-signature=%b\r\n%b\r\n" % (len(piece), signature.encode(), data)
    if trailer:
        digest = hashlib.sha256(f"{trailer}\n".encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{date}\n{scope}\n{signature}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        lines = f"{sent or trailer}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
        body = body.removesuffix(b"\r\n") + lines.encode()
    return client.send(request, body).status


def test_chunks_with_signatures_are_verified_one_by_one(client: Any) -> None:
    assert signed_chunks(client, [b"a" * 9000, b"bc"]) == 200
    assert client("GET", "key").body == b"a" * 9000 + b"bc"
    assert signed_chunks(client, [b"abc"], forge=True) == 403


def test_a_signed_trailer_is_verified(client: Any) -> None:
    right, other = (f"x-amz-checksum-crc32:{CRC32.to_base64(CRC32.compute(data))}" for data in (b"abcd", b"other"))

    assert signed_chunks(client, [b"ab", b"cd"], trailer=right) == 200
    assert client("GET", "key").body == b"abcd"
    assert signed_chunks(client, [b"other"], trailer=right, sent=other) == 403
    assert signed_chunks(client, [b"abcd"], trailer=other) == 400


# --- objects ---------------------------------------------------------------------------------------------------------


def test_an_object_keeps_what_it_was_stored_with(client: Any) -> None:
    headers = {
        "Content-Type": "text/plain",
        "Cache-Control": "no-cache",
        "Content-Disposition": "attachment",
        "Content-Language": "en",
        "Expires": "Thu, 01 Jan 2032 00:00:00 GMT",
        "x-amz-meta-name": "a value",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-tagging": "a=1&b=%20",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-id",
        "x-amz-website-redirect-location": "/other",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2032-01-01T00:00:00Z",
    }
    assert client("PUT", "key", body=b"data", headers=headers).status == 200
    shown = client("HEAD", "key").headers

    for name in headers.keys() - {"x-amz-tagging"}:
        assert shown[name] == headers[name], name
    assert shown["x-amz-tagging-count"] == "2"
    assert client("GET", "key", {"tagging": ""}).texts("TagSet/Tag/Value") == ["1", " "]


def customer_key(key: str, md5: str = "") -> dict[str, str]:
    """Return the headers of a key of the customer; by default with the MD5 of the key."""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    name = "x-amz-server-side-encryption-customer"
    digest = md5 or base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    return {f"{name}-algorithm": "AES256", f"{name}-key": key, f"{name}-key-MD5": digest}


def test_an_object_with_a_key_of_the_customer_is_read_only_with_it(client: Any) -> None:
    own, other = (customer_key(base64.b64encode(byte * 32).decode()) for byte in (b"k", b"o"))
    assert client("PUT", "key", body=b"data", headers=own).status == 200

    assert client("GET", "key", headers=own).body == b"data"
    assert [client("GET", "key", headers=headers).status for headers in ({}, other)] == [400, 400]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-storage-class": "IA"},
        {"x-amz-acl": "default"},
        {"x-amz-server-side-encryption": "SM4"},
        {"x-amz-server-side-encryption-aws-kms-key-id": "key"},
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "tomorrow"},
        {"x-amz-object-lock-legal-hold": "yes"},
        {"x-amz-tagging": "&".join(f"t{n}=v" for n in range(11))},
        {"x-amz-tagging": "=value"},
        {"x-amz-meta-long": "x" * 3000},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        customer_key("not base64"),
        customer_key(base64.b64encode(b"k" * 31).decode()),
        customer_key(base64.b64encode(b"k" * 32).decode(), md5="not the MD5 of it"),
        {"x-amz-request-payer": "me"},
        {"x-amz-checksum-crc32": "not base64"},
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
        {"content-md5": "not the MD5 of it"},
    ],
    ids=repr,
)
def test_a_header_with_a_wrong_value_is_refused(client: Any, headers: dict[str, str]) -> None:
    assert client("PUT", "key", body=b"data", headers=headers).status == 400
    assert client("HEAD", "key").status == 404


def test_the_acl_of_an_object_is_that_of_its_owner_and_the_canned_one(client: Any) -> None:
    client("PUT", "private", body=b"data")
    client("PUT", "public", body=b"data", headers={"x-amz-acl": "public-read"})

    for key, canned in (("private", "private"), ("public", "public-read")):
        reply = client("GET", key, {"acl": ""})
        assert reply.text("Owner/ID") == reply.text("AccessControlList/Grant/Grantee/ID") == "123456789012"
        assert reply.text("AccessControlList/Grant/Permission") == "FULL_CONTROL"
        assert reply.text("AccessControlList/Canned") == canned
    assert client("GET", "other", {"acl": ""}).code == "NoSuchKey"


def test_a_body_above_the_limits_of_the_storage_is_refused(client_of: Any) -> None:
    limits = PartLimits(max_part_size=10, max_put_size=20, max_object_size=20)
    with S3Server({"examplebucket": MemoryBackend(limits=limits)}) as server:
        client = client_of(server)
        upload_id = client.create()
        assert client("PUT", "key", body=b"x" * 20).status == client.part(upload_id, 1, b"x" * 10).status == 200
        for reply, size in (
            (client("PUT", "key", body=b"x" * 21), "21"),
            (client.part(upload_id, 1, b"x" * 11), "11"),
        ):
            assert (reply.code, reply.text("ProposedSize")) == ("EntityTooLarge", size)


def test_another_owner_of_the_bucket_is_refused(client: Any) -> None:
    assert client("PUT", "key", body=b"x", headers={"x-amz-expected-bucket-owner": "000000000000"}).status == 403
    assert client("PUT", "key", body=b"x", headers={"x-amz-expected-bucket-owner": "123456789012"}).status == 200


def test_ranges_and_conditions_of_a_reading(client: Any) -> None:
    etag = client("PUT", "key", body=b"0123456789").headers["ETag"]

    assert client("GET", "key", headers={"Range": "bytes=2-4"}).body == b"234"
    assert client("GET", "key", headers={"Range": "bytes=-3"}).body == b"789"
    assert client("GET", "key", headers={"Range": "bytes=20-"}).status == 416
    assert client("GET", "key", headers={"Range": "bytes=4-2"}).status == 200
    assert client("GET", "key", headers={"If-None-Match": etag}).status == 304
    assert client("GET", "key", headers={"If-Match": '"other"'}).status == 412
    assert client("GET", "key", headers={"If-Modified-Since": "today"}).status == 200
    assert client("GET", "key", headers={"If-Unmodified-Since": "today"}).status == 200


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_objects_are_listed_page_by_page(client: Any, version: str, page: int) -> None:
    keys = ["a", "b c", "d/1", "d/2", "e+&"]
    for key in keys:
        client("PUT", key, body=b"x")
    found: list[str] = []
    query = {"encoding-type": "url", "max-keys": str(page)} | ({"list-type": "2"} if version == "2" else {})
    while True:
        reply = client("GET", "", query)
        found += reply.texts("Contents/Key")
        if reply.text("IsTruncated") == "false":
            break
        assert len(found) < len(keys)
        if version == "2":
            query["continuation-token"] = reply.text("NextContinuationToken") or ""
        else:
            query["marker"] = unquote_plus(found[-1])

    assert found == ["a", "b+c", "d/1", "d/2", "e%2B%26"]


@pytest.mark.parametrize("name", ["max-keys", "max-uploads", "max-parts"])
@pytest.mark.parametrize(
    ("limit", "shown"),
    [("1000", "1000"), ("1001", "1000"), ("2147483647", "1000"), ("2147483648", None), ("1e3", None), ("-1", None)],
)
def test_a_page_has_at_most_1000_entries_whatever_its_limit(
    client: Any, name: str, limit: str, shown: str | None
) -> None:
    queries = {"max-keys": {}, "max-uploads": {"uploads": ""}, "max-parts": {"uploadId": client.create()}}
    reply = client("GET", "key" if name == "max-parts" else "", {**queries[name], name: limit})
    assert reply.status == (400 if shown is None else 200)
    assert shown is None or reply.text("".join(word.title() for word in name.split("-"))) == shown


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_page_of_no_objects_is_empty_and_the_last(client: Any, version: str) -> None:
    client("PUT", "key", body=b"x")
    reply = client("GET", "", {"max-keys": "0"} | ({"list-type": "2"} if version == "2" else {}))

    assert (reply.status, reply.text("MaxKeys"), reply.text("IsTruncated")) == (200, "0", "false")
    assert reply.texts("Contents/Key") == []


def test_pages_of_no_parts_and_of_no_uploads_are_empty_and_the_last(client: Any) -> None:
    upload_id = client.create()
    client.part(upload_id, 1, b"x")
    parts = client("GET", "key", {"uploadId": upload_id, "max-parts": "0"})
    uploads = client("GET", "", {"uploads": "", "max-uploads": "0"})

    assert (parts.text("IsTruncated"), parts.texts("Part/PartNumber")) == ("false", [])
    assert (uploads.text("IsTruncated"), uploads.texts("Upload/Key")) == ("false", [])


def test_common_prefixes_are_listed(client: Any) -> None:
    for key in ("a", "d/1", "d/2"):
        client("PUT", key, body=b"x")
    reply = client("GET", "", {"list-type": "2", "delimiter": "/"})

    assert (reply.texts("Contents/Key"), reply.texts("CommonPrefixes/Prefix")) == (["a"], ["d/"])


def test_objects_are_deleted_one_by_one_and_together(client: Any) -> None:
    for key in ("a", "b", "c"):
        client("PUT", key, body=b"x")
    assert client("DELETE", "a").status == client("DELETE", "a").status == 204
    body = b"<Delete><Object><Key>b</Key></Object><Object><Key>c</Key></Object></Delete>"
    assert client("POST", "", {"delete": ""}, body).texts("Deleted/Key") == ["b", "c"]
    assert client("GET", "", {"list-type": "2"}).text("KeyCount") == "0"
    declared = "<!DOCTYPE a [<!ENTITY b 'c'>]><Delete><Object><Key>&b;</Key></Object></Delete>"
    nested = b"<Delete>" + b"<Object>" * 8 + b"<Key>c</Key>" + b"</Object>" * 8 + b"</Delete>"
    for wrong in (b"", b"<Delete/>", declared.encode(), declared.encode("utf-16"), nested, b"<"):
        assert client("POST", "", {"delete": ""}, wrong).code == "MalformedXML"


@pytest.mark.parametrize("quiet", ["", "<Quiet>false</Quiet>", "<Quiet>true</Quiet>", "<Quiet> 1 </Quiet>"])
def test_an_object_that_cannot_be_deleted_does_not_keep_the_others(client_of: Any, tmp_path: Path, quiet: str) -> None:
    keys = ("a", "../b", "c")
    for key in ("a", "c"):
        (tmp_path / key).touch()
    with closing(LocalBackend(tmp_path)) as backend, S3Server({"examplebucket": backend}) as server:
        objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
        reply = client_of(server)("POST", "", {"delete": ""}, f"<Delete>{quiet}{objects}</Delete>".encode())

    assert (reply.status, reply.texts("Error/Key"), reply.texts("Error/Code")) == (200, ["../b"], ["InvalidURI"])
    assert reply.text("Error/Message")
    assert reply.texts("Deleted/Key") == (["a", "c"] if "true" not in quiet and "1" not in quiet else [])
    assert not any(tmp_path.glob("[a-z]"))


def test_a_deletion_that_is_neither_quiet_nor_not_is_refused(client: Any) -> None:
    body = b"<Delete><Object><Key>a</Key></Object><Quiet>perhaps</Quiet></Delete>"
    assert client("POST", "", {"delete": ""}, body).code == "MalformedXML"


def test_a_request_deletes_at_most_1000_objects(client: Any) -> None:
    def delete(number: int) -> Any:
        objects = "".join(f"<Object><Key>{index}</Key></Object>" for index in range(number))
        return client("POST", "", {"delete": ""}, f"<Delete>{objects}</Delete>".encode())

    assert len(delete(1000).texts("Deleted/Key")) == 1000
    assert delete(1001).code == "MalformedXML"


# --- buckets and addresses -------------------------------------------------------------------------------------------


def test_buckets_can_be_created_and_found(client: Any) -> None:
    other = evolve(client, bucket="other.bucket")

    assert other("HEAD").status == 404
    assert client("HEAD").headers["x-amz-bucket-region"] == client.server.region
    assert evolve(client, bucket="other-bucket")("PUT").status == 200
    assert evolve(client, bucket="other-bucket")("PUT").code == "BucketAlreadyOwnedByYou"
    assert evolve(client, bucket="other-bucket")("GET", "", {"location": ""}).status == 200
    assert evolve(client, bucket="other-bucket")("GET", "", {"versioning": ""}).status == 200
    assert evolve(client, bucket="")("GET").texts("Buckets/Bucket/Name") == ["examplebucket", "other-bucket"]


def test_a_bucket_that_demands_digests_has_an_object_lock(server: S3Server, client: Any) -> None:
    assert client("GET", "", {"object-lock": ""}).code == "ObjectLockConfigurationNotFoundError"
    server.settings = evolve(server.settings, require_digests=True)
    assert client("GET", "", {"object-lock": ""}).text("ObjectLockEnabled") == "Enabled"


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("examplebucket.localhost", "examplebucket"),
        ("examplebucket.example.com", "examplebucket"),
        ("examplebucket.s3.example.com", "examplebucket"),
        ("s3.example.com", ""),
    ],
)
def test_the_bucket_is_what_stands_before_the_endpoint_in_the_host_name(host: str, bucket: str) -> None:
    settings = ServerSettings(region="us-east-1", hosts=["s3.example.com"])
    target = parse_target(ServerRequest.parsed("GET", "/a/b", [("host", host)]), settings)

    assert (target.bucket, target.key) == ((bucket, "a/b") if bucket else ("a", "b"))


def test_a_bucket_whose_name_has_dots_is_addressed_by_the_path_only(client_of: Any) -> None:
    with S3Server({"my.dots": MemoryBackend()}) as server:
        client = evolve(client_of(server), bucket="my.dots")
        assert client("PUT", "a", body=b"x").status == 200
        reply = client("GET", "a", headers={"Host": "my.dots.localhost"})
    assert (reply.status, reply.code) == (403, "AccessDenied")
    assert "my.dots.localhost" in (reply.text("Message") or "")


def test_a_path_that_names_no_object_is_refused(server: S3Server, client: Any) -> None:
    request = client.signed("GET", "key", {}, b"", {}, signed_body=False)
    request.url = f"{server.endpoint}/examplebucket/%FF"
    assert client.send(request, b"").code == "InvalidURI"
    with pytest.raises(ServiceError) as caught:
        parse_target(ServerRequest.parsed("OPTIONS", "*", []), server.settings)
    assert caught.value.code == "InvalidURI"


@pytest.mark.parametrize("host", ["examplebucket.localhost", "examplebucket.s3.localhost", "my.dots.s3.localhost"])
def test_the_bucket_may_be_in_the_host_name(client_of: Any, host: str) -> None:
    bucket = host.removesuffix(".s3.localhost").removesuffix(".localhost")
    given = ServerSettings(region="us-east-1", hosts=["s3.localhost"], path_style_hosts=["my.dots.s3.localhost"][:0])
    backend = MemoryBackend()
    with S3Server({bucket: backend}, settings=evolve(given, cnames={host: bucket})) as server:
        client = client_of(server, bucket="")
        request = client.signed("PUT", "", {}, b"x", {"Host": host}, signed_body=False)
        del request.headers["Authorization"]
        request.url = f"{server.endpoint}/a%20key"
        auth = S3SigV4Auth(Credentials(server.access_key_id, server.access_key_secret), "s3", server.region)
        auth.payload = lambda request: "UNSIGNED-PAYLOAD"
        auth.add_auth(request)
        reply = client.send(request, b"x")

        assert (reply.status, backend.read("a key")) == (200, b"x"), reply.body


@pytest.mark.parametrize("query", [{"policy": ""}, {"versionId": "1"}, {"torrent": ""}, {"acl": ""}])
def test_what_the_server_does_not_have_is_refused_and_stores_nothing(client: Any, query: dict[str, str]) -> None:
    assert client("PUT", "key", query, b"x").status == 501
    assert client("HEAD", "key").status == 404
    copy = client("PUT", "key", body=b"", headers={"x-amz-copy-source": "/examplebucket/other"})
    assert copy.status == 501


def test_a_key_that_is_too_long_is_refused(client: Any) -> None:
    assert client("PUT", "k" * 1023, body=b"x").status == 200
    assert client("PUT", "k" * 1025, body=b"x").code == "KeyTooLongError"


def test_a_refused_head_has_no_body(server: S3Server, client: Any) -> None:
    server.plan(ServerFault("HeadObject", Fail("SlowDown", retry_after=3)))
    reply = client("HEAD", "key")

    assert (reply.status, reply.headers["Retry-After"], reply.body) == (503, "3", b"")


def test_the_default_checksum_of_an_object_is_that_of_s3(client: Any) -> None:
    client("PUT", "key", body=b"data")
    shown = client("HEAD", "key", headers={"x-amz-checksum-mode": "enabled"}).headers

    assert shown["x-amz-checksum-crc64nvme"] == CRC64_NVME.to_base64(CRC64_NVME.compute(b"data"))


def test_a_range_of_an_object_comes_without_the_checksum_of_the_object(client: Any) -> None:
    client("PUT", "key", body=b"0123456789")
    mode = {"x-amz-checksum-mode": "ENABLED"}
    whole, part = client("GET", "key", headers=mode), client("GET", "key", headers={**mode, "Range": "bytes=2-4"})

    assert (part.status, part.body) == (206, b"234")
    assert ("x-amz-checksum-type" in whole.headers, "x-amz-checksum-type" in part.headers) == (True, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerFailed("busy"), "InternalError"),
        (BackendError("no"), "InvalidRequest"),
        (SourceChanged("changed"), "InternalError"),
        (Throttled("slow"), "SlowDown"),
        (AccessDenied("no", code="InvalidAccessKeyId"), "InvalidAccessKeyId"),
        (AccessDenied("no", code="ACodeOfAnotherService"), "AccessDenied"),
    ],
    ids=repr,
)
def test_an_error_of_the_storage_behind_the_server_has_a_code_of_s3(error: Exception, code: str) -> None:
    assert error_for(error).code == code
