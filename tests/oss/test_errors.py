"""The error for each failed response."""

from __future__ import annotations

import base64
import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partwise.backends._http import error_documents
from partwise.backends._http.error_documents import response_date, server_time
from partwise.backends._http.http1 import Response
from partwise.backends._http.redaction import redact
from partwise.backends.oss.errors import (
    ERRORS,
    ErrorDetails,
    callback_error_for,
    error_for,
    parse_error,
    retry_after,
)
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    CallbackError,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    ObjectExists,
    PartRejected,
    ServerFailed,
    Throttled,
    UploadNotFound,
)
from partwise.model import StoredObject

#: The error table of OSS: code, status, error class, whether it is retryable.
TABLE = [
    ("NoSuchUpload", 404, UploadNotFound, False),
    ("InvalidPart", 400, PartRejected, False),
    ("InvalidPartOrder", 400, PartRejected, False),
    ("EntityTooSmall", 400, PartRejected, False),
    ("EntityTooLarge", 400, BackendError, False),
    ("PartNotSequential", 400, BackendError, False),
    ("PartAlreadyExist", 409, BackendError, False),
    ("InvalidDigest", 400, IntegrityError, True),
    ("InvalidCRC64", 400, IntegrityError, True),
    ("IncompleteBody", 400, ConnectionFailed, True),
    ("RequestTimeout", 400, ConnectionFailed, True),
    ("BadRequest", 400, ServerFailed, True),
    ("MalformedXML", 400, BackendError, False),
    ("InvalidRequest", 400, BackendError, False),
    ("NotImplemented", 400, BackendError, False),
    ("NotImplemented", 501, BackendError, False),
    ("MissingArgument", 400, BackendError, False),
    ("InvalidArgument", 400, BackendError, False),
    ("InvalidBucketName", 400, BackendError, False),
    ("InvalidObjectName", 400, BackendError, False),
    ("InvalidEncryptionAlgorithmError", 400, BackendError, False),
    ("KmsServiceNotEnabled", 403, AccessDenied, False),
    ("AccessDenied", 403, AccessDenied, False),
    ("SignatureDoesNotMatch", 403, AccessDenied, False),
    ("InvalidAccessKeyId", 403, AccessDenied, False),
    ("SecurityTokenExpired", 403, CredentialsExpired, True),
    ("InvalidSecurityToken", 403, CredentialsExpired, True),
    ("AccessKeyIdAndSecurityTokenNotMatch", 403, CredentialsExpired, True),
    ("RequestTimeTooSkewed", 403, ClockSkewed, True),
    ("UserDisable", 403, AccessDenied, False),
    ("BucketDisable", 403, AccessDenied, False),
    ("TransferAccelerationDisabled", 403, AccessDenied, False),
    ("SecondLevelDomainForbidden", 403, AccessDenied, False),
    ("NonStandardHostForbidden", 403, AccessDenied, False),
    ("PermanentRedirect", 403, AccessDenied, False),
    ("KmsInDebt", 403, AccessDenied, False),
    ("SomethingNew", 403, AccessDenied, False),
    ("NoSuchBucket", 404, BucketNotFound, False),
    ("NoSuchKey", 404, BackendError, False),
    ("FileAlreadyExists", 409, ObjectExists, False),
    ("FileImmutable", 409, BackendError, False),
    ("PreconditionFailed", 412, BackendError, False),
    ("NotModified", 304, BackendError, False),
    ("MissingContentLength", 411, BackendError, False),
    (None, 401, AccessDenied, True),
    (None, 408, ConnectionFailed, True),
    (None, 429, Throttled, True),
    (None, 404, BackendError, False),
    (None, 403, AccessDenied, False),
    (None, 500, ServerFailed, True),
    (None, 502, ServerFailed, True),
    (None, 503, ServerFailed, True),
    (None, 504, ServerFailed, True),
    (None, 307, BackendError, False),
    ("InternalError", 500, ServerFailed, True),
    ("ServiceUnavailable", 503, ServerFailed, True),
    ("TotalQpsLimitExceeded", 503, Throttled, True),
    ("QpsLimitExceeded", 503, Throttled, True),
    ("MetaOperationQpsLimitExceeded", 503, Throttled, True),
    ("ActiveRequestLimitExceeded", 503, Throttled, True),
    ("UploadTrafficRateLimitExceeded", 503, Throttled, True),
    ("DownloadTrafficRateLimitExceeded", 503, Throttled, True),
    ("CallbackFailed", 203, CallbackError, False),
]

OPERATION = "part 3 of 'a/b' in oss://examplebucket@host"


def document(code: str | None = "X", message: str = "Words.", **elements: str) -> bytes:
    contents = {"Code": code, "Message": message, "RequestId": "REQ", "HostId": "HOST", "EC": "0001-1", **elements}
    text = "".join(f"<{name}>{value}</{name}>" for name, value in contents.items() if value is not None)
    return f"<Error>{text}</Error>".encode()


def make_response(status: int = 400, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def error_of(response: Response, secrets: tuple[str, ...] = ()) -> BackendError:
    return error_for(response, OPERATION, parse_error(response, secrets))


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_mapped_code_is_in_the_table():
    assert set(ERRORS) <= {code for code, *_ in TABLE}


@pytest.mark.parametrize(("code", "status", "kind", "retryable"), TABLE)
def test_a_code_has_its_error_class(code, status, kind, retryable):
    error = error_of(make_response(status, document(code) if code else b""))
    assert (kind, retryable) == (type(error), error.retryable)
    assert (code, status) == (error.code, error.status)


@pytest.mark.parametrize(("code", "status", "kind", "retryable"), TABLE)
def test_an_error_survives_pickling(code, status, kind, retryable):
    error = error_of(make_response(status, document(code, Bucket="b")))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(error), error.args, vars(error)) == (type(copy), copy.args, vars(copy))


def test_the_error_keeps_what_oss_reports():
    error = error_of(make_response(400, document("InvalidArgument", ArgumentName="PartNumber", ArgumentValue="0")))
    assert error.request_id == "REQ"
    assert error.details == {"ArgumentName": "PartNumber", "ArgumentValue": "0", "host_id": "HOST", "ec": "0001-1"}
    assert error.message == f"{OPERATION}: InvalidArgument: Words. (HTTP 400, request REQ)"


def test_headers_replace_missing_elements_of_older_documents():
    response = make_response(404, b"<Error><Code>NoSuchUpload</Code></Error>", x_oss_request_id="R", x_oss_ec="E")
    assert (error_of(response).request_id, error_of(response).details) == ("R", {"ec": "E"})


def test_an_element_can_t_pose_as_the_host_or_the_finer_code():
    forged = b"<Error><Code>X</Code><HostId>HOST</HostId><EC>E</EC><host_id>other</host_id><ec>other</ec></Error>"
    assert error_of(make_response(400, forged)).details == {"host_id": "HOST", "ec": "E"}


# --- responses without a document ------------------------------------------------------------------------------------


def test_the_response_to_a_head_has_its_document_in_a_header():
    text = base64.b64encode(document("NoSuchBucket")).decode()
    error = error_of(make_response(404, x_oss_err=text))
    assert (BucketNotFound, "Words.") == (type(error), error.message.split(": ")[2].split(" (")[0])


@pytest.mark.parametrize("text", ["!!!", "x", base64.b64encode(b"nonsense").decode()])
def test_without_a_valid_document_the_status_decides(text):
    error = error_of(make_response(404, x_oss_err=text))
    assert (BackendError, None) == (type(error), error.code)


def test_the_beginning_of_a_gateways_page_is_shown():
    page = b"<!DOCTYPE html>\n<html>" + b"x" * 5000 + b"\x1b[31m"
    error = error_of(make_response(502, page))
    assert (ServerFailed, None) == (type(error), error.code)
    assert "<!DOCTYPE html> <html>xxx" in error.message
    assert len(error.message) < 400
    assert error.message.isprintable()


def test_the_code_is_found_in_a_truncated_document():
    error = error_of(make_response(404, document("NoSuchUpload")[:40]))
    assert (UploadNotFound, "NoSuchUpload") == (type(error), error.code)


@pytest.mark.parametrize(("before", "found"), [(4000, True), (4096, False)])
def test_a_code_is_searched_only_at_the_beginning_of_other_bodies(before, found):
    error = error_of(make_response(404, b"x" * before + b"<Code>NoSuchUpload</Code>"))
    assert (type(error) is UploadNotFound) is found


def test_long_texts_are_truncated():
    error = error_of(make_response(400, document("C" * 1000, "m" * 100_000, Endpoint="e" * 100_000)))
    assert (len(error.code), len(error.details["Endpoint"])) == (100, 4000)
    assert len(error.message) < 5000


def test_an_empty_response_is_described_by_its_status():
    assert error_of(make_response(400)).message == f"{OPERATION}: no error message. (HTTP 400)"


# --- hints -----------------------------------------------------------------------------------------------------------


def test_the_error_for_a_wrong_endpoint_contains_the_right_one():
    error = error_of(make_response(403, document("AccessDenied", Endpoint="oss-cn-beijing.aliyuncs.com")))
    assert "the endpoint of the bucket is oss-cn-beijing.aliyuncs.com" in error.message
    assert error.hint_template == "Pass the bucket's own {endpoint}"


@pytest.mark.parametrize("where", [{"location": "https://other.example.com/"}, {}])
def test_a_redirect_is_an_error_and_not_followed(where):
    error = error_of(make_response(307, **where))
    assert "not sent to another host" in error.message
    assert where.get("location", "no target given") in error.message
    assert "{endpoint}" in error.hint_template


def test_a_redirect_with_a_document_contains_the_endpoint():
    error = error_of(make_response(301, document("PermanentRedirect", Endpoint="oss-cn-beijing.aliyuncs.com")))
    assert (AccessDenied, True) == (type(error), "oss-cn-beijing.aliyuncs.com" in error.message)


def test_if_v1_is_refused_the_hint_names_v4():
    error = error_of(make_response(403, document("AccessDenied", EC="0002-00000080")))
    assert error.hint == "Pass signature_version='v4'"


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"])
def test_the_error_for_rejected_parts_says_what_is_kept(code):
    assert error_of(make_response(400, document(code))).message.endswith("the upload and its parts are kept")


def test_a_failed_callback_says_that_the_object_is_stored():
    result = StoredObject("a/b", 3, "ETAG")
    response = make_response(203, document("CallbackFailed"))
    error = callback_error_for(response, OPERATION, parse_error(response), result)
    assert (result, False, "CallbackFailed") == (error.result, error.retryable, error.code)
    assert error.message.endswith("the object is stored")


# --- how long to wait ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "9" * 50}, 3600.0),
        ({"x_oss_qos_delay_time": "1500"}, 1.5),
        ({"x_oss_qos_delay_time": "x"}, None),
        ({"x_oss_qos_delay_time": "1500", "retry_after": "1"}, 1.5),
        ({"x_oss_qos_delay_time": "500", "retry_after": "1"}, 1.0),
        ({"retry_after": "Sun, 09 Mar 2025 08:07:36 GMT", "date": "Sun, 09 Mar 2025 08:07:06 GMT"}, 30.0),
        ({"retry_after": "Sun, 09 Mar 2025 08:07:00 GMT", "date": "Sun, 09 Mar 2025 08:07:06 GMT"}, 0.0),
        ({"retry_after": "Sun, 09 Mar 2025 08:07:36 GMT"}, None),
    ],
)
def test_the_wait_that_a_response_asks_for(headers, seconds):
    assert seconds == retry_after(make_response(503, **headers))


@pytest.mark.parametrize("headers", [{"retry_after": "2"}, {"x_oss_qos_delay_time": "2000"}])
def test_a_503_with_a_wait_is_throttling(headers):
    error = error_of(make_response(503, document("ServiceUnavailable"), **headers))
    assert (Throttled, 2.0) == (type(error), error.retry_after)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "9" * 4400},
        {"x_oss_qos_delay_time": "9" * 4400},
        {"retry_after": "3601"},
        {"x_oss_qos_delay_time": "3600001"},
        {"retry_after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": "Sun, 09 Mar 2025 08:07:06 GMT"},
    ],
)
def test_a_wait_is_at_most_an_hour(headers):
    assert retry_after(make_response(503, **headers)) == 3600.0


def test_a_wait_of_an_hour_is_not_shortened():
    assert retry_after(make_response(503, retry_after="3600")) == 3600.0
    assert retry_after(make_response(503, retry_after="3599")) == 3599.0


@pytest.mark.parametrize("seconds", ["-1", "+1", "1_0", "1.5", "1e3", "inf", "nan", "\u0661", "\xb2", "", "true"])
def test_a_wait_that_is_not_a_plain_number_is_ignored(seconds):
    assert retry_after(make_response(503, retry_after=seconds, x_oss_qos_delay_time=seconds)) is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", ServerFailed),
        (500, None, ServerFailed),
        (502, None, ServerFailed),
        (504, None, ServerFailed),
        (408, None, ConnectionFailed),
        (400, "RequestTimeout", ConnectionFailed),
        (401, None, AccessDenied),
    ],
)
@pytest.mark.parametrize("headers", [{"retry_after": "2"}, {"x_oss_qos_delay_time": "2000"}])
def test_every_retryable_error_has_the_wait_of_its_response(status, code, kind, headers):
    error = error_of(make_response(status, document(code) if code else b"", **headers))
    assert (type(error), error.retryable, error.retry_after) == (kind, True, 2.0)


def test_a_permanent_error_has_no_wait():
    assert error_of(make_response(403, document("AccessDenied"), retry_after="5")).retry_after is None


# --- the clock of OSS ------------------------------------------------------------------------------------------------


def test_the_clock_of_oss_is_the_server_time_of_the_document():
    response = make_response(
        403,
        document("RequestTimeTooSkewed", ServerTime="2025-03-09T09:07:06.000Z"),
        date="Sun, 09 Mar 2025 08:07:06 GMT",
    )
    assert server_time(response, parse_error(response)) == 1741507626.0 + 3600


def test_without_a_server_time_the_clock_of_oss_is_the_date_header():
    response = make_response(403, document("RequestTimeTooSkewed"), date="Sun, 09 Mar 2025 08:07:06 GMT")
    assert server_time(response, parse_error(response)) == response_date(response) == 1741507626.0


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 09 Mar 2025 08:07:06 GMT", 1741507626.0),
        ("Sun, 09 Mar 2025 08:07:06 -0000", 1741507626.0),
        ("Sun, 09 Mar 2025 08:07:06 +0800", 1741507626.0 - 8 * 3600),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 978307200.0 - 24 * 3600 + 60),  # such a year is one of this century
        ("Sun, 09 Mar 2025 08:07:06 +9999999999", None),
        ("Sun, 09 Mar 99999 08:07:06 GMT", None),
        ("Sun, 09 Mar 2025 25:61:61 GMT", None),
        ("Sun, 09 Mar " + "9" * 4400 + " 08:07:06 GMT", None),
        ("9" * 4400, None),
    ],
)
def test_a_date_may_have_any_zone_and_is_none_if_out_of_range(date, seconds):
    assert response_date(make_response(200, date=date)) == seconds


@given(st.text(max_size=60), st.text(max_size=40))
@example("Sun, 09 Mar 2025 08:07:06 -0000", "0001-01-01T00:00:00+23:59")
@example("Mon, 01 Jan 0001 00:00:00 +2359", "9999-12-31T23:59:59-23:59")
@example("Thu, 01 Jan 1970 00:00:00 -2400", "2025-W10-7")
def test_arbitrary_dates_are_times_or_none(date, stated):
    for text in (date, f"Sun, 09 Mar 2025 08:07:06 {date}", f"Sun, {date} GMT"):
        response = make_response(403, date=text, retry_after=text)
        details = ErrorDetails("X", "", details={"ServerTime": stated})
        for found in (response_date(response), server_time(response, details)):
            assert found is None or math.isfinite(found)
        assert retry_after(response) is None or 0 <= retry_after(response) <= 3600


@given(st.binary(max_size=200), st.text(st.characters(max_codepoint=255), max_size=60))
@example(b"", "\x80")
def test_an_arbitrary_response_becomes_a_backend_error(body, text):
    for status in (203, 307, 400, 403, 404, 407, 500, 503):
        error = error_of(
            make_response(status, body, x_oss_err=text, location=text, x_oss_ec=text, x_oss_request_id=text)
        )
        assert isinstance(error, BackendError)


def test_at_most_fifty_details_are_kept():
    body = document(**{f"E{n}": "x" for n in range(500)})
    assert len(error_of(make_response(400, body)).details.keys() - {"host_id", "ec"}) == 50


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Mar 2025 08:07:06 GMT"])
def test_without_a_valid_time_the_clock_of_oss_is_unknown(date):
    response = make_response(403, document("RequestTimeTooSkewed", ServerTime="noon"), date=date)
    assert server_time(response, parse_error(response)) is None


# --- secrets ---------------------------------------------------------------------------------------------------------

TOKEN = "STS.testtoken/with+chars=and==padding"
SECRETS = ("testsecret", TOKEN)


@pytest.mark.parametrize(
    "shown",
    [
        f"PUT\n\n\nx-oss-security-token:{TOKEN}\n/b/k",
        "x-oss-security-token=STS.testtoken%2Fwith%2Bchars%3Dand%3D%3Dpadding&amp;x",
        "/b/STS.testtoken/with%2Bchars%3Dand%3D%3Dpadding",
        f"the token {TOKEN} is bad, and so is testsecret",
    ],
)
def test_an_error_contains_no_secret(shown):
    hexed = " ".join(f"{byte:02x}" for byte in shown.encode())
    body = document("SignatureDoesNotMatch", shown, StringToSign=shown, CanonicalRequest=shown, StringToSignBytes=hexed)
    error = error_of(make_response(403, body), SECRETS)
    text = repr((error.args, vars(error)))
    for secret in (*SECRETS, "STS.testtoken", hexed):
        assert secret not in text
    assert set(error.details) == {"StringToSign", "CanonicalRequest", "host_id", "ec"}


@pytest.mark.parametrize("status", [301, 403, 407, 500])
def test_codes_ids_and_hosts_contain_no_secret(status):
    """In elements and in headers, the redirect target included."""
    names = ("Code", "RequestId", "HostId", "EC", "Endpoint", "testsecret")
    body = "".join(f"<{name}>{TOKEN}</{name}>" for name in names)
    headers = dict.fromkeys(("x_oss_request_id", "x_oss_ec", "location", "x_oss_err"), TOKEN)
    for response in (
        make_response(status, f"<Error>{body}</Error>".encode(), **headers),
        make_response(status, **headers),
    ):
        error = error_of(response, SECRETS)
        text = repr((error.args, vars(error)))
        assert "STS" not in text
        assert "testsecret" not in text


def test_codes_and_ids_are_printable_and_short():
    body = "<Error><Code>a&#9;b</Code><RequestId>R\x9b31m</RequestId><HostId>" + "h" * 200 + "</HostId></Error>"
    error = error_of(make_response(400, body.encode(), x_oss_ec="e\x1b[31m"))
    assert (error.code, error.request_id) == ("a b", "R 31m")
    assert error.details == {"host_id": "h" * 100, "ec": "e [31m"}


def test_the_shown_part_of_a_page_contains_no_secret():
    page = f"<html>{'x' * 180}{TOKEN}".encode()
    assert "STS" not in error_of(make_response(502, page), SECRETS).message


def test_a_very_short_secret_does_not_garble_messages():
    assert "Words" in error_of(make_response(403, document("AccessDenied")), ("o",)).message


def test_an_unknown_security_token_is_masked_too():
    assert "abc" not in repr(
        vars(error_of(make_response(403, document("X", StringToSign="x-oss-security-token:abc\n/b"))))
    )


def test_a_large_error_document_is_not_searched_to_its_end(monkeypatch):
    searched = []

    def recorded(text, secrets):
        searched.append(len(text))
        return redact(text, secrets)

    monkeypatch.setattr(error_documents, "redact", recorded)
    secret = "hunter2SecretKeyOfThirtyLetter"
    elements = "".join(f"<{name}>{secret} {'x' * 1024 * 1024}</{name}>" for name in ("Code", "Message", "Bucket"))
    details = parse_error(Response(500, {}, f"<Error>{elements}</Error>".encode()), [secret])

    assert [len(shown) for shown in (details.code, details.message, details.details["Bucket"])] == [100, 4000, 4000]
    assert all(shown.startswith("*** ") for shown in (details.code, details.message, details.details["Bucket"]))
    assert max(searched) <= 10_000
