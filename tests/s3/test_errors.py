"""The error for each failed response."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._http.error_documents import server_time
from partwise.backends._http.http1 import Response
from partwise.backends.s3.errors import ERRORS, RequestFacts, error_for, is_checksum_required, parse_error
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    ObjectExists,
    PartRejected,
    PreconditionFailed,
    ServerFailed,
    Throttled,
    UploadNotFound,
    UploadUnusable,
)

PLAIN = RequestFacts()
COMPLETE = RequestFacts(is_complete=True)

#: The error table of S3: code, status, error class, whether it is retryable.
TABLE = [
    ("NoSuchUpload", 404, UploadNotFound, False),
    ("InvalidPart", 400, PartRejected, False),
    ("InvalidPartOrder", 400, PartRejected, False),
    ("EntityTooSmall", 400, PartRejected, False),
    ("EntityTooLarge", 400, BackendError, False),
    ("BadDigest", 400, IntegrityError, True),
    ("InvalidDigest", 400, IntegrityError, True),
    ("XAmzContentSHA256Mismatch", 400, IntegrityError, True),
    ("XAmzContentChecksumMismatch", 400, IntegrityError, True),
    ("IncompleteBody", 400, ConnectionFailed, True),
    ("RequestTimeout", 400, ConnectionFailed, True),
    ("NoSuchBucket", 404, BucketNotFound, False),
    ("NoSuchKey", 404, BackendError, False),
    ("AccessDenied", 403, AccessDenied, False),
    ("SignatureDoesNotMatch", 403, AccessDenied, False),
    ("InvalidAccessKeyId", 403, AccessDenied, False),
    ("AllAccessDisabled", 403, AccessDenied, False),
    ("KMS.DisabledException", 400, AccessDenied, False),
    ("AuthorizationHeaderMalformed", 400, AccessDenied, False),
    ("PermanentRedirect", 301, AccessDenied, False),
    ("ExpiredToken", 400, CredentialsExpired, True),
    ("InvalidToken", 400, CredentialsExpired, True),
    ("TokenRefreshRequired", 400, CredentialsExpired, True),
    ("RequestTimeTooSkewed", 403, ClockSkewed, True),
    ("InternalError", 500, ServerFailed, True),
    ("ServiceUnavailable", 503, ServerFailed, True),
    ("OperationAborted", 409, ServerFailed, True),
    ("SlowDown", 503, Throttled, True),
    ("SlowDownRead", 503, Throttled, True),
    ("SlowDownWrite", 503, Throttled, True),
    ("ThrottlingException", 400, Throttled, True),
    ("KMS.ThrottlingException", 400, Throttled, True),
    ("PreconditionFailed", 412, ObjectExists, False),
    ("ConditionalRequestConflict", 409, ServerFailed, True),
    ("InvalidRequest", 400, BackendError, False),
    ("InvalidArgument", 400, BackendError, False),
    ("NotImplemented", 501, BackendError, False),
    ("MalformedXML", 400, BackendError, False),
    (None, 403, AccessDenied, False),
    (None, 404, BackendError, False),
    (None, 407, ConnectionFailed, False),
    (None, 429, Throttled, True),
    (None, 502, ServerFailed, True),
    (None, 401, AccessDenied, True),
]


def response(kit, status, code=None, message="Something.", headers=None, **more):
    body = b"" if code is None else kit.error_document(code, message, **more).encode()
    return Response(status, {"x-amz-request-id": "REQ0", **(headers or {})}, body)


def translated(failed, request=PLAIN, secrets=()):
    details = parse_error(failed, secrets)
    return error_for(failed, "part 3 of 'k'", details, request)


@pytest.mark.parametrize(("code", "status", "kind", "retryable"), TABLE)
def test_a_code_has_its_class(kit, code, status, kind, retryable):
    error = translated(response(kit, status, code))

    assert type(error) is kind
    assert error.retryable is retryable
    assert (error.code, error.status) == (code, status)
    assert str(error).startswith("part 3 of 'k': ")


def test_every_code_of_the_table_is_tested():
    first = {"ExpiredTokenException", "ChecksumMismatch", "KMS.NotFoundException", "KMS.InvalidStateException"}
    more = {"AccountProblem", "NotSignedUp", "InvalidSecurity", "UnauthorizedAccess", "Throttling", "TooManyRequests"}
    others = {"RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled"}  # of services behind S3
    assert set(ERRORS) - {code for code, *_ in TABLE} == first | more | others


@pytest.mark.parametrize(
    ("status", "code", "request_facts", "kind"),
    [
        (412, "PreconditionFailed", RequestFacts(), ObjectExists),
        (412, None, RequestFacts(is_complete=True), ObjectExists),
        (412, "PreconditionFailed", RequestFacts(is_complete=True, if_match=True), PreconditionFailed),
        (404, "NoSuchKey", RequestFacts(is_complete=True, if_match=True), PreconditionFailed),
        (404, "NoSuchKey", RequestFacts(is_complete=True), BackendError),
        (409, "ConditionalRequestConflict", RequestFacts(is_complete=True), UploadUnusable),
        (409, "ConditionalRequestConflict", RequestFacts(if_match=True), ServerFailed),
    ],
)
def test_a_failed_condition_means_what_the_request_asked(kit, status, code, request_facts, kind):
    assert type(translated(response(kit, status, code), request_facts)) is kind


def test_an_object_that_storage_made_wrong_is_not_made_again(kit):
    error = translated(response(kit, 400, "BadDigest"), COMPLETE)

    assert isinstance(error, IntegrityError)
    assert not error.retryable
    assert "no object was stored" in str(error)


def test_a_wrong_size_of_the_object_is_that_of_its_parts(kit):
    said = "The provided 'x-amz-mp-object-size' header value 5 does not match what was computed: 6"

    assert isinstance(translated(response(kit, 400, "InvalidRequest", said), COMPLETE), PartRejected)
    assert type(translated(response(kit, 400, "InvalidRequest", said))) is BackendError


@pytest.mark.parametrize(
    ("code", "kind"), [("InternalError", ServerFailed), ("Odd", ServerFailed), ("SlowDown", Throttled)]
)
def test_an_error_in_a_success_is_that_of_its_code(kit, code, kind):
    assert type(translated(response(kit, 200, code), COMPLETE)) is kind


def test_a_bare_503_to_head_is_throttling():
    assert type(translated(Response(503, {}, b""), RequestFacts(is_head=True))) is Throttled
    assert type(translated(Response(503, {}, b""))) is ServerFailed


@pytest.mark.parametrize(
    ("status", "code", "headers", "more"),
    [
        (400, "AuthorizationHeaderMalformed", {}, {"Region": "eu-west-1"}),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}, {"Endpoint": "b.s3-eu-west-1.amazonaws.com"}),
        (301, None, {"x-amz-bucket-region": "eu-west-1"}, {}),
        (400, None, {"x-amz-bucket-region": "eu-west-1"}, {}),
    ],
)
def test_the_hint_names_the_right_region(kit, status, code, headers, more):
    error = translated(response(kit, status, code, headers=headers, **more))

    assert error.hint == "Pass region='eu-west-1'"
    assert not error.retryable


def test_a_region_that_is_none_is_not_in_a_hint(kit):
    failed = response(kit, 400, "AuthorizationHeaderMalformed", Region="{evil}")

    assert "evil" not in translated(failed).hint


def test_a_redirect_without_a_region_names_its_target(kit):
    error = translated(response(kit, 307, "TemporaryRedirect", Endpoint="b.s3.example.com"))

    assert "redirected (b.s3.example.com)" in str(error)
    assert "{region}" not in str(error)


def test_a_header_that_a_storage_does_not_have_suggests_a_dialect(kit):
    assert "dialect=" in translated(response(kit, 501, "NotImplemented")).hint


@pytest.mark.parametrize(
    ("message", "is_named"),
    [
        ("The object was stored using a form of Server Side Encryption. The correct parameters must be provided", True),
        ("Requests must include the same customer key.", True),
        ("The specified copy source is not supported.", False),
    ],
)
def test_a_request_without_the_key_of_the_object_suggests_it(kit, message, is_named):
    hint = translated(response(kit, 400, "InvalidRequest", message)).hint_template
    assert ("{sse_customer_key}" in hint) == is_named


def test_what_s3_says_is_kept(kit):
    error = translated(response(kit, 403, "AccessDenied", "No way", Resource="/b/k"))

    assert error.request_id == "REQ1"
    assert error.details == {"Resource": "/b/k", "host_id": "HOST1"}
    assert "AccessDenied: No way. (HTTP 403, request REQ1)" in str(error)


def test_the_request_id_of_a_header_is_used_where_there_is_no_document():
    error = translated(Response(403, {"x-amz-request-id": "REQ9"}, b""))

    assert error.request_id == "REQ9"


def test_throttling_has_the_wait_that_was_asked_for(kit):
    assert translated(response(kit, 503, "SlowDown", headers={"retry-after": "7"})).retry_after == 7
    assert translated(response(kit, 503, "SlowDown", headers={"retry-after": "999999"})).retry_after == 3600


def test_secrets_are_masked(kit):
    failed = response(kit, 403, "SignatureDoesNotMatch", "sent hunter2secret", StringToSign="x hunter2secret y")
    error = translated(failed, secrets=("hunter2secret",))

    assert "hunter2secret" not in f"{error}{error.details}"


@pytest.mark.parametrize(
    ("code", "message", "required"),
    [
        ("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests", True),
        ("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: crc32, actual: null", True),
        ("InvalidArgument", 'Invalid arguments provided: (checksum missing, want "CRC64NVME", got "")', True),
        ("InvalidRequest", "Missing required header", False),
        ("AccessDenied", "checksum missing", False),
    ],
)
def test_a_request_that_needs_a_checksum_is_recognised(kit, code, message, required):
    escaped = message.replace('"', "&quot;")
    assert is_checksum_required(parse_error(response(kit, 400, code, escaped))) is required


def test_the_time_of_the_server_is_that_of_the_document_or_of_the_header(kit):
    date = {"date": "Sun, 09 Mar 2025 08:07:06 GMT"}
    stated = response(kit, 403, "RequestTimeTooSkewed", headers=date, ServerTime="2025-03-09T09:07:06Z")
    assert server_time(stated, parse_error(stated)) == kit.NOW + 3600
    bare = response(kit, 403, "RequestTimeTooSkewed", headers=date, ServerTime="soon")
    assert server_time(bare, parse_error(bare)) == kit.NOW
    assert server_time(Response(403, {}, b""), parse_error(Response(403, {}, b""))) is None


@given(st.integers(100, 599), st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_response_is_an_error_that_can_be_pickled(status, data, is_complete, if_match):
    request = RequestFacts(is_complete=is_complete, if_match=if_match)
    error = translated(Response(status, {}, b"<Error><Code>" + data + b"</Code></Error>"), request)

    assert isinstance(error, BackendError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
