"""The requests that the backend sends, and what it makes of the responses."""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from partwise.backends._http import client
from partwise.backends._http.http1 import Response
from partwise.backends.s3 import DIALECTS, Credentials, S3Backend, S3Options, responses
from partwise.checksums import CRC32C, CRC64_NVME
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PreconditionFailed,
    ServerFailed,
    SourceUnreadable,
    UnsupportedOption,
    UploadNotFound,
    UploadUnusable,
)
from partwise.model import KIB, MIB, ObjectOptions, PartLimits, UploadedPart
from partwise.protocols import SupportsCutting, SupportsPipelining, SupportsRequestOptions

NO_OPTIONS = ObjectOptions()
KEY = base64.b64encode(bytes(range(32))).decode()
EMPTY = hashlib.sha256(b"").hexdigest()


def nvme(data: bytes) -> str:
    return CRC64_NVME.to_base64(CRC64_NVME.compute(data))


def part_of(number: int, data: bytes, checksum: int | None = None) -> UploadedPart:
    return UploadedPart(number, len(data), f"etag{number}", CRC64_NVME.compute(data) if checksum is None else checksum)


def test_it_supports_the_optional_protocols(s3):
    assert isinstance(s3, SupportsPipelining)
    assert isinstance(s3, SupportsCutting)
    assert isinstance(s3, SupportsRequestOptions)


# --- initiate --------------------------------------------------------------------------------------------------------


def test_an_upload_has_the_checksum_of_the_whole_object(server, s3, kit):
    server.reply(kit.initiated("a+/=b"))

    assert s3.initiate_upload("a b", ObjectOptions(content_type="text/plain")) == "a+/=b"

    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/examplebucket/a%20b?uploads")
    assert request.service_headers("x-amz-") == {
        "x-amz-checksum-algorithm": "CRC64NVME",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert request.header("Content-Type") == "text/plain"
    assert request.header("x-amz-content-sha256") == EMPTY


@pytest.mark.parametrize("dialect", ["b2", "ceph", "gcs"])
def test_a_storage_without_checksums_is_not_asked_for_one(server, connect, kit, dialect):
    server.reply(kit.initiated())
    connect(dialect=dialect).initiate_upload("k", NO_OPTIONS)

    assert server.requests[0].service_headers("x-amz-") == {}


def test_an_object_that_exists_is_noticed_before_anything_is_sent(server, s3, kit):
    server.reply(kit.response(ETag='"x"'))

    with pytest.raises(ObjectExists, match="the object exists, and overwriting was forbidden"):
        s3.initiate_upload("k", ObjectOptions(forbid_overwrite=True))
    assert [request.method for request in server.requests] == ["HEAD"]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_object_that_is_not_shown_is_looked_up_once(server, s3, kit, status):
    """Who may write need not be able to read, and S3 checks the condition when the upload is completed."""
    server.reply(kit.response(status), kit.initiated())

    assert s3.initiate_upload("k", ObjectOptions(forbid_overwrite=True)) == "UPLOADID"
    assert [request.method for request in server.requests] == ["HEAD", "POST"]
    assert server.requests[-1].header("If-None-Match") is None


@pytest.mark.parametrize(
    "case",
    [
        (404, "NoSuchBucket", BucketNotFound, False),
        (403, "AccessDenied", AccessDenied, False),
        (400, "ExpiredToken", CredentialsExpired, False),  # these credentials are fixed
        (403, "RequestTimeTooSkewed", ClockSkewed, True),
    ],
)
def test_why_an_upload_with_a_condition_is_refused_says_the_second_request(server, connect, kit, case):
    status, code, kind, retryable = case
    server.reply(kit.response(status), kit.error(status, code, ServerTime="2025-03-09T08:07:06Z"))

    with pytest.raises(kind) as caught:
        connect(clock=lambda: kit.NOW - 3600).initiate_upload("k", ObjectOptions(forbid_overwrite=True))
    assert caught.value.retryable is retryable
    assert [request.method for request in server.requests] == ["HEAD", "POST"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failure_of_the_look_at_the_object_is_that_of_the_attempt(server, s3, kit, status):
    server.reply(kit.response(status))

    with pytest.raises(BackendError) as caught:
        s3.initiate_upload("k", ObjectOptions(forbid_overwrite=True))
    assert caught.value.retryable
    assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["", "x" * 1025])
def test_an_impossible_key_is_refused_before_anything_is_sent(server, s3, key):
    with pytest.raises(InvalidKey):
        s3.initiate_upload(key, NO_OPTIONS)
    assert server.requests == []


def test_an_option_of_another_storage_is_refused(server, connect):
    with pytest.raises(UnsupportedOption, match="acl"):
        connect(dialect="r2").initiate_upload("k", ObjectOptions(acl="private"))
    assert server.requests == []


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_part_is_read_once_and_verified_by_the_checksum_of_the_storage(server, s3, body):
    data = body(b"x" * 10_000)

    part = s3.upload_part("k", "u/1", 7, data)

    assert part == UploadedPart(7, 10_000, hashlib.md5(data.data).hexdigest(), CRC64_NVME.compute(data.data))
    assert data.readings == [True]
    request = server.requests[0]
    assert (request.method, request.target) == ("PUT", "/examplebucket/k?partNumber=7&uploadId=u%2F1")
    assert request.service_headers("x-amz-") == {}
    assert request.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"


def test_a_part_that_arrived_damaged_is_an_integrity_error(server, s3, kit, body):
    server.reply(kit.response(ETag='"x"', x_amz_checksum_crc64nvme=nvme(b"other")))

    with pytest.raises(IntegrityError, match="S3 stored bytes with the crc64nvme") as caught:
        s3.upload_part("k", "u", 1, body(b"data"))
    assert caught.value.retryable
    assert caught.value.request_id == "67CD4A3A00000001"


def test_a_storage_that_reports_no_checksum_is_believed(server, s3, kit, body):
    server.reply(kit.response(ETag='"x"'))

    assert s3.upload_part("k", "u", 1, body(b"data")).checksum is None


@pytest.mark.parametrize("value", ["AAAA", "not base64", nvme(b"x") + "x"])
def test_an_invalid_checksum_is_an_invalid_response(server, s3, kit, body, value):
    server.reply(kit.response(ETag='"x"', x_amz_checksum_crc64nvme=value))

    with pytest.raises(ServerFailed, match="its checksum is not a crc64nvme"):
        s3.upload_part("k", "u", 1, body(b"data"))


def test_a_body_that_is_signed_is_read_before_without_counting(server, connect, body):
    data = body(b"x" * 10_000)

    connect(sign_payload=True).upload_part("k", "u", 1, data)

    assert data.readings == [False, True]
    assert server.requests[0].header("x-amz-content-sha256") == hashlib.sha256(data.data).hexdigest()


def test_over_plain_http_bodies_are_signed_unless_they_stay_on_this_machine():
    given = {"credentials": Credentials("id", "secret")}
    assert S3Backend("b1b", endpoint="http://minio.example.com", **given)._signs_payload
    assert not S3Backend("b1b", endpoint="https://minio.example.com", **given)._signs_payload
    assert not S3Backend("b1b", endpoint="http://localhost:9000", **given)._signs_payload
    assert not S3Backend("b1b", endpoint="http://[::1]:9000", **given)._signs_payload
    assert S3Backend("b1b", endpoint="http://minio.localhost:9000", **given)._signs_payload, "the resolver decides"
    assert S3Backend("b1b", endpoint="http://localhost:9000", proxy="http://10.0.0.1:3128", **given)._signs_payload


REQUIRED = [
    ("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests"),
    ("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: crc64nvme, actual: null"),
    ("InvalidArgument", "checksum missing, want CRC64NVME"),
]


@pytest.mark.parametrize("said", REQUIRED)
def test_a_bucket_that_demands_checksums_gets_them_from_then_on(server, s3, kit, body, said):
    server.reply(kit.error(400, *said))
    handle = s3.with_request_options(S3Options(request_payer="requester"))

    with pytest.raises(BackendError) as caught:
        s3.upload_part("k", "u", 1, body(b"one"))
    assert caught.value.retryable
    again, other = body(b"one"), body(b"two")
    s3.upload_part("k", "u", 1, again)
    handle.upload_part("k", "u", 2, other)

    assert [request.header("x-amz-checksum-crc64nvme") for request in server.requests] == [
        None,
        nvme(b"one"),
        nvme(b"two"),
    ]
    assert again.readings == [False, True]


def test_a_bucket_that_demands_checksums_in_spite_of_one_is_not_asked_again(server, connect, kit, body):
    server.reply(kit.error(400, *REQUIRED[0]))

    with pytest.raises(BackendError) as caught:
        connect(dialect="minio").upload_part("k", "u", 1, body(b"one"))
    assert not caught.value.retryable


def test_where_no_algorithm_is_known_a_digest_is_sent(server, connect, kit, body):
    server.reply(kit.error(400, *REQUIRED[0]), kit.response(ETag='"x"'))
    backend = connect(dialect="ceph")

    with pytest.raises(BackendError):
        backend.upload_part("k", "u", 1, body(b"one"))
    backend.upload_part("k", "u", 1, body(b"one"))

    assert server.requests[1].header("Content-MD5") == base64.b64encode(hashlib.md5(b"one").digest()).decode()


def test_parts_of_a_locked_object_have_checksums_at_once(server, s3, kit, body):
    server.reply(kit.initiated())
    upload_id = s3.initiate_upload("k", S3Options(object_lock_legal_hold=True))

    s3.upload_part("k", upload_id, 1, body(b"one"))

    assert server.requests[1].header("x-amz-checksum-crc64nvme") == nvme(b"one")


def test_the_checksum_of_google_is_in_another_header(server, connect, kit, body):
    checksum = CRC32C.compute(b"data")
    both = f"crc32c={CRC32C.to_base64(checksum)},md5=AAAA=="
    server.reply(kit.response(ETag='"x"', x_goog_hash=both), kit.response(ETag='"x"', x_goog_hash="crc32c=AAAAAA=="))
    backend = connect(dialect="gcs")

    assert backend.upload_part("k", "u", 1, body(b"data", algorithm=CRC32C)).checksum == checksum
    with pytest.raises(IntegrityError):
        backend.upload_part("k", "u", 1, body(b"data", algorithm=CRC32C))


@pytest.mark.parametrize(("number", "size"), [(0, 1), (10_001, 1), (1, 2 * KIB)])
def test_a_part_beyond_the_limits_is_refused(server, connect, body, number, size):
    dialect = evolve(DIALECTS["aws"], limits=PartLimits(max_part_size=KIB))
    with pytest.raises(InvalidInput):
        connect(dialect=dialect).upload_part("k", "u", number, body(b"x" * size))
    assert server.requests == []


def test_a_failing_source_is_not_translated(server, connect, body):
    for settings in ({}, {"sign_payload": True}):
        failing = body(b"x" * 10_000, fails_after=4096, failure=SourceUnreadable("gone"))
        with pytest.raises(SourceUnreadable, match="gone"):
            connect(**settings).upload_part("k", "u", 1, failing)
        assert failing.closed


def test_a_body_of_another_length_is_not_stored(server, s3, body):
    with pytest.raises(IntegrityError, match="instead of 5"):
        s3.upload_part("k", "u", 1, body(b"four", claimed=5))
    assert not any(request.whole for request in server.requests)


def test_a_part_can_be_cut(server, s3, body):
    started, proceed = threading.Event(), threading.Event()

    def wait(_, __):
        started.set()
        proceed.wait(10)

    server.reply(wait)
    data = body(b"x")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(s3.upload_part, "k", "u", 1, data)
        started.wait(10)
        s3.cut_part(data, "enough of it")
        with pytest.raises(ConnectionFailed, match="enough of it"):
            sending.result(10)
    proceed.set()


# --- lists -----------------------------------------------------------------------------------------------------------


def parts_page(*parts: tuple[int, bytes], next_marker: int | None = None) -> str:
    texts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;etag{number}&quot;</ETag><Size>{len(data)}</Size>"
        f"<ChecksumCRC64NVME>{nvme(data)}</ChecksumCRC64NVME></Part>"
        for number, data in parts
    )
    end = "false" if next_marker is None else f"true</IsTruncated><NextPartNumberMarker>{next_marker}"
    end += "</IsTruncated>" if next_marker is None else "</NextPartNumberMarker>"
    return f"<ListPartsResult><ChecksumType>FULL_OBJECT</ChecksumType><IsTruncated>{end}{texts}</ListPartsResult>"


def test_parts_are_listed_page_by_page_with_their_checksums(server, connect, kit):
    server.reply(
        kit.response(body=parts_page((1, b"one"), (2, b"two"), next_marker=2)), kit.response(body=parts_page((5, b"x")))
    )

    listed = list(connect(page_size=2).list_parts("k", "u"))

    assert listed == [part_of(1, b"one"), part_of(2, b"two"), part_of(5, b"x")]
    assert [request.query for request in server.requests] == [
        {"uploadId": "u", "max-parts": "2"},
        {"uploadId": "u", "max-parts": "2", "part-number-marker": "2"},
    ]


def test_a_composite_checksum_is_not_that_of_the_bytes(server, s3, kit):
    page = parts_page((1, b"one")).replace("=</ChecksumCRC64NVME>", "=-3</ChecksumCRC64NVME>")
    server.reply(kit.response(body=page))

    assert [part.checksum for part in s3.list_parts("k", "u")] == [None]


def uploads_page(*uploads: tuple[str, str], more: str = "", encoding: str = "url") -> str:
    texts = "".join(
        f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId><Initiated>2025-03-09T08:07:06.000Z</Initiated>"
        "<Initiator><ID>i</ID></Initiator><Owner><ID>o</ID></Owner></Upload>"
        for key, upload_id in uploads
    )
    truncated = "true" if more else "false"
    return (
        f"<ListMultipartUploadsResult><EncodingType>{encoding}</EncodingType><IsTruncated>{truncated}</IsTruncated>"
        f"{more}{texts}</ListMultipartUploadsResult>"
    )


def test_uploads_are_listed_in_the_order_of_s3_and_their_keys_decoded(server, connect, kit):
    """By key, then by time: upload ids have no order."""
    more = "<NextKeyMarker>a+b%2B%00</NextKeyMarker><NextUploadIdMarker>Z</NextUploadIdMarker>"
    again = "<NextKeyMarker>a+b%2B%00</NextKeyMarker><NextUploadIdMarker>A</NextUploadIdMarker>"
    server.reply(
        kit.response(body=uploads_page(("a+b%2B%00", "Z"), more=more)),
        kit.response(body=uploads_page(("a+b%2B%00", "A"), more=again)),
        kit.response(body=uploads_page(("%C3%BC", "B"))),
    )

    listed = [(upload.key, upload.upload_id) for upload in connect(page_size=1).list_uploads("a b")]

    assert listed == [("a b+\x00", "Z"), ("a b+\x00", "A"), ("ü", "B")]
    assert server.requests[1].query == {
        "uploads": "",
        "max-uploads": "1",
        "encoding-type": "url",
        "prefix": "a b",
        "key-marker": "a b+\x00",
        "upload-id-marker": "Z",
    }


def test_a_list_that_does_not_advance_is_refused(server, connect, kit):
    more = "<NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>Z</NextUploadIdMarker>"
    page = kit.response(body=uploads_page(("a", "Z"), more=more))
    server.reply(page, page)

    with pytest.raises(BackendError, match="does not advance"):
        list(connect(page_size=1).list_uploads())


def test_aborting_what_does_not_exist_is_fine(server, s3, kit):
    server.reply(kit.response(204), kit.error(404, "NoSuchUpload"))
    s3.abort_upload("k", "u")
    s3.abort_upload("k", "u")

    assert [(request.method, request.query) for request in server.requests] == [("DELETE", {"uploadId": "u"})] * 2


# --- complete --------------------------------------------------------------------------------------------------------


def test_the_checksum_and_size_of_the_object_are_sent_with_the_parts(server, s3, kit):
    whole = CRC64_NVME.compute(b"onetwo")
    server.reply(kit.response(body=kit.completed(ChecksumCRC64NVME=nvme(b"onetwo"), ChecksumType="FULL_OBJECT")))

    stored = s3.complete_upload("k", "u", [part_of(1, b"one"), part_of(3, b"two")], NO_OPTIONS)

    assert (stored.key, stored.size, stored.etag, stored.checksum) == ("k", 6, "abc-1", whole)
    assert stored.request_id == "67CD4A3A00000001"
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/examplebucket/k?uploadId=u")
    assert request.service_headers("x-amz-") == {
        "x-amz-checksum-crc64nvme": CRC64_NVME.to_base64(whole),
        "x-amz-checksum-type": "FULL_OBJECT",
        "x-amz-mp-object-size": "6",
    }
    assert request.body == (
        b'<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"etag1"</ETag></Part>'
        b'<Part><PartNumber>3</PartNumber><ETag>"etag3"</ETag></Part></CompleteMultipartUpload>'
    )
    assert request.header("x-amz-content-sha256") == hashlib.sha256(request.body).hexdigest()


def test_without_all_checksums_only_the_size_is_sent(server, s3, kit):
    server.reply(kit.response(body=kit.completed()))

    stored = s3.complete_upload("k", "u", [part_of(1, b"one"), UploadedPart(2, 3, "etag2")], NO_OPTIONS)

    assert server.requests[0].service_headers("x-amz-") == {"x-amz-mp-object-size": "6"}
    assert stored.checksum is None


@pytest.mark.parametrize("dialect", ["gcs", "b2"])
def test_a_storage_that_takes_no_checksums_gets_none(server, connect, kit, dialect):
    server.reply(kit.response(body=kit.completed()))
    connect(dialect=dialect).complete_upload("k", "u", [UploadedPart(1, 3, "etag1", 7)], NO_OPTIONS)

    assert server.requests[0].service_headers("x-amz-") == {}


@pytest.mark.parametrize("option", ["forbid_overwrite", "if_match"])
def test_conditions_are_sent_with_the_request_that_creates_the_object(server, s3, kit, body, option):
    header, value, sent = {"forbid_overwrite": ("If-None-Match", True, "*"), "if_match": ("If-Match", "e", '"e"')}[
        option
    ]
    options = ObjectOptions(**{option: value})
    server.reply(kit.response(body=kit.completed()))
    s3.complete_upload("k", "u", [part_of(1, b"one")], options)
    s3.put_object("k", body(b"one"), options)

    assert [request.header(header) for request in server.requests] == [sent] * 2


@pytest.mark.parametrize(
    "case",
    [
        (412, "PreconditionFailed", {"forbid_overwrite": True}, ObjectExists),
        (412, "PreconditionFailed", {"if_match": "e"}, PreconditionFailed),
        (404, "NoSuchKey", {"if_match": "e"}, PreconditionFailed),
        (409, "ConditionalRequestConflict", {"forbid_overwrite": True}, UploadUnusable),
        (409, "ConditionalRequestConflict", {"if_match": "e"}, UploadUnusable),
        (404, "NoSuchUpload", {}, UploadNotFound),
        (400, "BadDigest", {}, IntegrityError),
        (400, "EntityTooSmall", {}, PartRejected),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_why_an_object_was_not_created(server, s3, kit, case, late):
    """The error may be in a response that began as a success."""
    status, code, options, kind = case
    server.reply(kit.response(body=f"\n \n{kit.error_document(code)}") if late else kit.error(status, code))

    with pytest.raises(kind) as caught:
        s3.complete_upload("k", "u", [part_of(1, b"one")], ObjectOptions(**options))
    assert type(caught.value) is kind
    assert not caught.value.retryable


def test_a_conflict_while_an_object_is_stored_in_one_piece_is_transient(server, s3, kit, body):
    server.reply(kit.error(409, "ConditionalRequestConflict"))

    with pytest.raises(ServerFailed) as caught:
        s3.put_object("k", body(b"x"), ObjectOptions(forbid_overwrite=True))
    assert caught.value.retryable


def test_white_space_keeps_a_long_complete_alive(server, connect, kit, monkeypatch):
    """Each pause is below the read timeout, and all of them together are above the usual limit."""
    monkeypatch.setattr(client, "_READ_TIMEOUTS_PER_RESPONSE", 2)
    backend = connect(read_timeout=0.4)

    def slowly(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        document = kit.completed().encode()
        for chunk in [b'<?xml version="1.0" encoding="UTF-8"?>\n', *[b" "] * 4, document]:
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            time.sleep(0.2)
        return b"0\r\n\r\n"

    server.reply(slowly)
    assert backend.complete_upload("k", "u", [part_of(1, b"one")], NO_OPTIONS).etag == "abc-1"


def test_a_complete_that_falls_silent_times_out(server, connect):
    def silent(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n")
        connection.recv(1)  # until the client gives up

    server.reply(silent)
    with pytest.raises(ConnectionFailed):
        connect(read_timeout=0.3).complete_upload("k", "u", [part_of(1, b"one")], NO_OPTIONS)


@pytest.mark.parametrize("document", ["", "  \n ", "<CompleteMultipartUploadResult/>", "<Other/>", "<Complete"])
def test_a_complete_whose_document_is_missing_is_an_invalid_response(server, s3, kit, document):
    server.reply(kit.response(body=document))

    with pytest.raises(ServerFailed, match="invalid response") as caught:
        s3.complete_upload("k", "u", [part_of(1, b"one")], NO_OPTIONS)
    assert caught.value.retryable


def test_an_upload_without_parts_is_not_completed(server, s3):
    with pytest.raises(PartRejected):
        s3.complete_upload("k", "u", [], NO_OPTIONS)
    assert server.requests == []


# --- objects ---------------------------------------------------------------------------------------------------------


def test_an_object_goes_with_its_checksum(server, s3, body):
    data = body(b"content")

    stored = s3.put_object("a.txt", data, ObjectOptions(metadata={"X": "y"}))

    assert (stored.size, stored.checksum) == (7, CRC64_NVME.compute(b"content"))
    assert data.readings == [False, True]
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("PUT", "/examplebucket/a.txt", b"content")
    assert request.service_headers("x-amz-") == {"x-amz-checksum-crc64nvme": nvme(b"content"), "x-amz-meta-x": "y"}
    assert request.header("Content-Type") == "text/plain"


def test_an_empty_object(server, s3, body):
    assert s3.put_object("k", body(b""), NO_OPTIONS).size == 0
    assert server.requests[0].header("x-amz-content-sha256") == EMPTY


def test_an_object_is_described(server, s3, kit):
    described = {"x_amz_checksum_crc64nvme": nvme(b"x"), "x_amz_checksum_type": "FULL_OBJECT", "x_amz_meta_a": "b"}
    server.reply(kit.response(ETag='"e-2"', Content_Length="0", x_amz_version_id="V1", **described))

    found = s3.head_object("k")

    assert (found.etag, found.checksum, found.version_id, found.metadata) == (
        "e-2",
        CRC64_NVME.compute(b"x"),
        "V1",
        {"a": "b"},
    )
    assert server.requests[0].header("x-amz-checksum-mode") == "ENABLED"


def test_the_composite_checksum_of_an_object_is_left_out(server, s3, kit):
    server.reply(kit.response(ETag='"e"', x_amz_checksum_crc64nvme=nvme(b"x"), x_amz_checksum_type="COMPOSITE"))
    assert s3.head_object("k").checksum is None


@pytest.mark.parametrize(
    "case",
    [
        (404, "NoSuchBucket", BucketNotFound),
        (403, "AccessDenied", AccessDenied),
        (400, "ExpiredToken", CredentialsExpired),
        (403, "RequestTimeTooSkewed", ClockSkewed),
    ],
)
def test_why_an_object_can_not_be_described_is_asked_by_another_request(server, s3, kit, case):
    status, code, kind = case
    server.reply(kit.response(status), kit.error(status, code))

    with pytest.raises(kind):
        s3.head_object("k")
    assert [(request.method, request.header("Range")) for request in server.requests] == [
        ("HEAD", None),
        ("GET", "bytes=0-0"),
    ]


def test_a_missing_object_is_none(server, s3, kit):
    server.reply(kit.response(404), kit.error(404, "NoSuchKey"))
    assert s3.head_object("k") is None


def test_a_refusal_whose_reason_is_gone_is_raised(server, s3, kit):
    server.reply(kit.response(403), kit.response(206, b"x"))
    with pytest.raises(AccessDenied):
        s3.head_object("k")


# --- request options and secrets -------------------------------------------------------------------------------------


def test_options_of_requests_go_with_every_request(server, s3, kit, body):
    options = S3Options(request_payer="requester", expected_bucket_owner="123456789012")
    backend = s3.with_request_options(options)
    server.reply(
        kit.initiated(),
        kit.stored,
        kit.response(body=parts_page()),
        kit.response(body=kit.completed()),
        kit.response(204),
        kit.response(body=uploads_page()),
        kit.response(ETag='"e"'),
    )
    backend.initiate_upload("k", NO_OPTIONS)
    backend.upload_part("k", "u", 1, body(b"x"))
    list(backend.list_parts("k", "u"))
    backend.complete_upload("k", "u", [part_of(1, b"x")], NO_OPTIONS)
    backend.abort_upload("k", "u")
    list(backend.list_uploads())
    backend.head_object("k")
    backend.put_object("k", body(b"x"), NO_OPTIONS)

    payers = [request.header("x-amz-request-payer") for request in server.requests]
    assert payers == ["requester"] * 8
    assert {request.header("x-amz-expected-bucket-owner") for request in server.requests} == {"123456789012"}


def test_the_key_of_the_customer_goes_with_what_touches_the_object(server, s3, kit, body):
    backend = s3.with_request_options(S3Options(sse_customer_key=KEY))
    server.reply(kit.stored, kit.response(body=parts_page()), kit.response(204), kit.response(ETag='"e"'))
    backend.upload_part("k", "u", 1, body(b"x"))
    list(backend.list_parts("k", "u"))
    backend.abort_upload("k", "u")
    backend.head_object("k")

    sent = [request.header("x-amz-server-side-encryption-customer-key") for request in server.requests]
    assert sent == [KEY, KEY, None, KEY]
    assert server.requests[0].header("x-amz-server-side-encryption-customer-algorithm") == "AES256"


@pytest.mark.parametrize("endpoint", ["http://minio.example.com", "http://minio.localhost:9000"])
def test_the_key_of_the_customer_is_not_sent_unencrypted(endpoint):
    options = S3Options(sse_customer_key=KEY)
    backend = S3Backend("b1b", endpoint=endpoint, credentials=Credentials("id", "secret"))
    for call in (lambda: backend.with_request_options(options), lambda: backend.initiate_upload("k", options)):
        with pytest.raises(InvalidInput, match="unencrypted") as caught:
            call()
        assert KEY not in str(caught.value)


def test_what_a_server_repeats_of_secrets_is_masked(server, connect, kit, body, caplog):
    caplog.set_level(logging.DEBUG)
    token = "session/token+example=="
    backend = connect(credentials=Credentials("AKIDTEST", "testsecret0000EXAMPLE", token))
    backend = backend.with_request_options(S3Options(sse_customer_key=KEY))

    def echo(received, _):
        everything = " ".join(value for _, value in received.headers)
        return kit.error(403, "SignatureDoesNotMatch", everything.replace("&", ""), Echo=everything)

    server.reply(echo)
    with pytest.raises(AccessDenied) as caught:
        backend.upload_part("k", "u", 1, body(b"x"))
    signature = server.requests[0].header("Authorization").rpartition("=")[2]
    shown = f"{caught.value} {caught.value.details} {caplog.text} {backend!r} {backend.location}"
    for secret in (token, KEY, signature, "testsecret0000EXAMPLE"):
        assert secret not in shown


def test_a_wrong_clock_is_corrected_by_that_of_s3(server, connect, kit, body):
    server.reply(kit.error(403, "RequestTimeTooSkewed", ServerTime="2025-03-09T08:07:06Z"))
    backend = connect(clock=lambda: kit.NOW - 3600)

    with pytest.raises(ClockSkewed) as caught:
        backend.upload_part("k", "u", 1, body(b"x"))
    assert caught.value.retryable
    backend.upload_part("k", "u", 1, body(b"x"))

    assert [request.header("x-amz-date") for request in server.requests] == ["20250309T070706Z", "20250309T080706Z"]


def test_expired_credentials_are_renewed(server, connect, kit, body):
    keys = iter([Credentials("first", "secret1", "old"), Credentials("second", "secret2", "new")])
    server.reply(kit.error(400, "ExpiredToken"))
    backend = connect(credentials=lambda: next(keys))

    with pytest.raises(CredentialsExpired) as caught:
        backend.upload_part("k", "u", 1, body(b"x"))
    assert caught.value.retryable
    backend.upload_part("k", "u", 1, body(b"x"))

    assert [request.header("x-amz-security-token") for request in server.requests] == ["old", "new"]


def test_a_request_to_another_host_is_not_repeated_there(server, s3, kit):
    server.reply(kit.error(307, "TemporaryRedirect", headers={"Location": "http://other.example.com/"}))

    with pytest.raises(BackendError, match="redirected"):
        s3.list_parts("k", "u")


def test_over_tls_bodies_are_not_signed(kit, body, tmp_path):
    certificate, key = kit.make_certificate(tmp_path, "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server, data = kit.ScriptedServer(context), body(b"x" * 100_000)
    settings = {"credentials": Credentials("id", "secret"), "ca_bundle": str(certificate)}
    with S3Backend("examplebucket", endpoint=server.endpoint, **settings) as backend:
        assert backend.upload_part("k", "u", 1, data).checksum == CRC64_NVME.compute(data.data)
        backend.with_request_options(S3Options(sse_customer_key=KEY)).upload_part("k", "u", 2, body(b"y"))
    server.close()

    assert data.readings == [True]
    assert {request.header("x-amz-content-sha256") for request in server.requests} == {"UNSIGNED-PAYLOAD"}


@pytest.mark.parametrize(
    ("etag", "request_id", "is_plain"),
    [
        ('"0123456789abcdef0123456789abcdef"', "67CD4A3A00000001", True),
        ('"0123456789abcdef0123456789abcdef"', "0", True),
        ('"0123456789abcdef0123456789abcdef"', "wJalrXUtnFEMIK7M", False),
        ('"0123456789abcdef0123456789abcdef-1"', "67CD4A3A00000001", False),
        ("", "67CD4A3A00000001", False),
    ],
)
def test_only_usual_responses_to_parts_are_not_searched_for_secrets(etag, request_id, is_plain):
    response = Response(200, {"etag": etag, "x-amz-request-id": request_id}, b"")

    assert responses.READER.is_plain(response) is is_plain
    assert not responses.READER.is_plain(evolve(response, status=403))


# --- handles ---------------------------------------------------------------------------------------------------------


def test_a_backend_can_be_pickled(server, body):
    backend = S3Backend(
        "examplebucket", endpoint=server.endpoint, dialect="minio", credentials=Credentials("id", "secret")
    ).with_request_options(S3Options(sse_customer_key=KEY))

    copy = pickle.loads(pickle.dumps(backend))
    copy.upload_part("k", "u", 1, body(b"x"))

    assert (copy.location, copy.dialect) == (backend.location, backend.dialect)
    assert server.requests[0].header("x-amz-server-side-encryption-customer-key") == KEY
    copy.close()
    backend.close()


def test_a_closed_backend_says_so(s3):
    s3.close()
    s3.close()
    with pytest.raises(BackendClosed):
        s3.head_object("k")
    assert "closed" in repr(s3)


@pytest.mark.parametrize(
    "settings",
    [
        {"dual_stack": "yes"},
        {"accelerate": 1},
        {"sign_payload": "no"},
        {"page_size": 0},
        {"page_size": 1001},
        {"read_timeout": 0},
        {"connect_timeout": "1"},
        {"max_connections": 0},
        {"credentials": 5},
        {"dialect": "s3"},
        {"proxy": 5},
        {"user_agent": "a\nb"},
    ],
)
def test_an_invalid_setting_is_refused(settings):
    with pytest.raises(InvalidInput):
        S3Backend("examplebucket", **{"credentials": Credentials("id", "secret"), **settings})


def test_the_limits_and_capabilities_are_those_of_the_dialect(connect):
    backend = connect(dialect="r2")
    assert backend.limits.min_part_size == 5 * MIB
    assert backend.capabilities.equal_part_sizes
