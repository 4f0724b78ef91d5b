"""What each answer means that is no success."""

from __future__ import annotations

import base64
import pickle

import pytest

from partwise.backends.oss.failures import ERRORS, callback_failure, date_of, failure, read, retry_after, server_time
from partwise.backends.oss.http1 import Answer
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

#: The table of the protocol: code, status, error, whether to try again.
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

WHAT = "part 3 of 'a/b' in oss://examplebucket@host"


def document(code: str | None = "X", message: str = "Words.", **elements: str) -> bytes:
    given = {"Code": code, "Message": message, "RequestId": "REQ", "HostId": "HOST", "EC": "0001-1", **elements}
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in given.items() if value is not None)
    return f"<Error>{inside}</Error>".encode()


def an_answer(status: int = 400, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def made(answer: Answer, secrets: tuple[str, ...] = ()) -> BackendError:
    return failure(answer, WHAT, read(answer, secrets))


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_code_that_is_mapped_is_in_the_table():
    assert set(ERRORS) <= {code for code, *_ in TABLE}


@pytest.mark.parametrize(("code", "status", "kind", "retryable"), TABLE)
def test_a_code_is_an_error_of_the_tree(code, status, kind, retryable):
    error = made(an_answer(status, document(code) if code else b""))
    assert (kind, retryable) == (type(error), error.retryable)
    assert (code, status) == (error.code, error.status)


@pytest.mark.parametrize(("code", "status", "kind", "retryable"), TABLE)
def test_an_error_survives_pickling(code, status, kind, retryable):
    error = made(an_answer(status, document(code, Bucket="b")))
    again = pickle.loads(pickle.dumps(error))
    assert (type(error), error.args, vars(error)) == (type(again), again.args, vars(again))


def test_all_that_the_service_says_is_kept():
    error = made(an_answer(400, document("InvalidArgument", ArgumentName="PartNumber", ArgumentValue="0")))
    assert (error.request_id, error.host_id, error.ec) == ("REQ", "HOST", "0001-1")
    assert error.details == {"ArgumentName": "PartNumber", "ArgumentValue": "0"}
    assert error.message == f"{WHAT}: InvalidArgument: Words. (HTTP 400, request REQ)"


def test_an_older_document_without_ec_is_enough():
    answer = an_answer(404, b"<Error><Code>NoSuchUpload</Code></Error>", x_oss_request_id="R", x_oss_ec="E")
    assert (made(answer).request_id, made(answer).ec) == ("R", "E")


# --- answers that are no documents -----------------------------------------------------------------------------------


def test_the_answer_to_a_head_has_its_document_in_a_header():
    text = base64.b64encode(document("NoSuchBucket")).decode()
    error = made(an_answer(404, x_oss_err=text))
    assert (BucketNotFound, "Words.") == (type(error), error.message.split(": ")[2].split(" (")[0])


@pytest.mark.parametrize("text", ["!!!", "x", base64.b64encode(b"nonsense").decode()])
def test_a_header_that_is_no_document_leaves_the_status(text):
    error = made(an_answer(404, x_oss_err=text))
    assert (BackendError, None) == (type(error), error.code)


def test_a_gateways_page_is_shown_in_part():
    page = b"<!DOCTYPE html>\n<html>" + b"x" * 5000 + b"\x1b[31m"
    error = made(an_answer(502, page))
    assert (ServerFailed, None) == (type(error), error.code)
    assert "<!DOCTYPE html> <html>xxx" in error.message
    assert len(error.message) < 400
    assert error.message.isprintable()


def test_a_document_that_was_cut_short_still_tells_its_code():
    error = made(an_answer(404, document("NoSuchUpload")[:40]))
    assert (UploadNotFound, "NoSuchUpload") == (type(error), error.code)


def test_an_answer_that_says_far_too_much_is_cut():
    error = made(an_answer(400, document("C" * 1000, "m" * 100_000, Endpoint="e" * 100_000)))
    assert (len(error.code), len(error.details["Endpoint"])) == (100, 4000)
    assert len(error.message) < 5000


def test_an_answer_that_says_nothing_is_told_by_its_status():
    assert made(an_answer(400)).message == f"{WHAT}: the answer says nothing more. (HTTP 400)"


# --- advice ----------------------------------------------------------------------------------------------------------


def test_the_wrong_endpoint_names_the_right_one():
    error = made(an_answer(403, document("AccessDenied", Endpoint="oss-cn-beijing.aliyuncs.com")))
    assert "the endpoint oss-cn-beijing.aliyuncs.com" in error.message


@pytest.mark.parametrize("where", [{"location": "https://other.example.com/"}, {}])
def test_a_redirect_is_not_followed_and_says_so(where):
    error = made(an_answer(307, **where))
    assert "not sent on" in error.message
    assert where.get("location", "does not say where") in error.message


def test_a_redirect_with_a_document_names_the_endpoint():
    error = made(an_answer(301, document("PermanentRedirect", Endpoint="oss-cn-beijing.aliyuncs.com")))
    assert (AccessDenied, True) == (type(error), "oss-cn-beijing.aliyuncs.com" in error.message)


def test_a_service_that_refuses_v1_says_what_to_use():
    assert "signature_version='v4'" in made(an_answer(403, document("AccessDenied", EC="0002-00000080"))).message


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"])
def test_a_refused_completion_says_what_is_kept(code):
    assert made(an_answer(400, document(code))).message.endswith("the upload and its parts are kept")


def test_a_failed_callback_says_that_the_object_is_stored():
    result = StoredObject("a/b", 3, "ETAG")
    answer = an_answer(203, document("CallbackFailed"))
    error = callback_failure(answer, WHAT, read(answer), result)
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
def test_the_wait_that_the_service_asks_for(headers, seconds):
    assert seconds == retry_after(an_answer(503, **headers))


@pytest.mark.parametrize("headers", [{"retry_after": "2"}, {"x_oss_qos_delay_time": "2000"}])
def test_a_busy_service_that_says_how_long_throttles(headers):
    error = made(an_answer(503, document("ServiceUnavailable"), **headers))
    assert (Throttled, 2.0) == (type(error), error.retry_after)


def test_a_permanent_error_has_no_wait():
    assert made(an_answer(403, document("AccessDenied"), retry_after="5")).retry_after is None


# --- the service's clock ---------------------------------------------------------------------------------------------


def test_the_services_clock_is_what_it_compared_with():
    answer = an_answer(
        403,
        document("RequestTimeTooSkewed", ServerTime="2025-03-09T09:07:06.000Z"),
        date="Sun, 09 Mar 2025 08:07:06 GMT",
    )
    assert server_time(answer, read(answer)) == 1741507626.0 + 3600


def test_the_services_clock_is_the_date_of_its_answer_otherwise():
    answer = an_answer(403, document("RequestTimeTooSkewed"), date="Sun, 09 Mar 2025 08:07:06 GMT")
    assert server_time(answer, read(answer)) == date_of(answer) == 1741507626.0


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Mar 2025 08:07:06 GMT"])
def test_a_clock_that_is_not_told_is_not_known(date):
    answer = an_answer(403, document("RequestTimeTooSkewed", ServerTime="noon"), date=date)
    assert server_time(answer, read(answer)) is None


# --- secrets ---------------------------------------------------------------------------------------------------------

TOKEN = "STS.testtoken/with+chars=and==padding"
SECRETS = ("testsecret", TOKEN)


@pytest.mark.parametrize(
    "shown",
    [
        f"PUT\n\n\nx-oss-security-token:{TOKEN}\n/b/k",
        "x-oss-security-token=STS.testtoken%2Fwith%2Bchars%3Dand%3D%3Dpadding&amp;x",
        f"the token {TOKEN} is bad, and so is testsecret",
    ],
)
def test_no_secret_is_in_an_error(shown):
    hexed = " ".join(f"{byte:02x}" for byte in shown.encode())
    body = document("SignatureDoesNotMatch", shown, StringToSign=shown, CanonicalRequest=shown, StringToSignBytes=hexed)
    error = made(an_answer(403, body), SECRETS)
    told = repr((error.args, vars(error)))
    for secret in (*SECRETS, "STS.testtoken", hexed):
        assert secret not in told
    assert set(error.details) == {"StringToSign", "CanonicalRequest"}


def test_no_secret_is_in_the_part_of_a_page_that_is_shown():
    page = f"<html>{'x' * 180}{TOKEN}".encode()
    assert "STS" not in made(an_answer(502, page), SECRETS).message


def test_a_message_is_not_garbled_by_the_secret_of_a_test():
    assert "Words" in made(an_answer(403, document("AccessDenied")), ("o",)).message


def test_a_token_of_somebody_else_is_not_shown_either():
    assert "abc" not in repr(vars(made(an_answer(403, document("X", StringToSign="x-oss-security-token:abc\n/b")))))
