"""What each answer means that is no success."""

from __future__ import annotations

import base64
import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partwise.backends._http.http1 import Answer
from partwise.backends.oss.errors import (
    ERRORS,
    Said,
    callback_failure,
    date_of,
    failure,
    read,
    retry_after,
    server_time,
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


@pytest.mark.parametrize(("before", "found"), [(4000, True), (4096, False)])
def test_a_code_is_looked_for_at_the_beginning_of_what_is_not_a_document(before, found):
    error = made(an_answer(404, b"x" * before + b"<Code>NoSuchUpload</Code>"))
    assert (type(error) is UploadNotFound) is found


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
def test_no_service_makes_us_wait_for_more_than_an_hour(headers):
    assert retry_after(an_answer(503, **headers)) == 3600.0


def test_an_hour_is_waited_for():
    assert retry_after(an_answer(503, retry_after="3600")) == 3600.0
    assert retry_after(an_answer(503, retry_after="3599")) == 3599.0


@pytest.mark.parametrize("seconds", ["-1", "+1", "1_0", "1.5", "1e3", "inf", "nan", "\u0661", "\xb2", "", "true"])
def test_a_wait_that_is_not_a_plain_number_is_not_known(seconds):
    assert retry_after(an_answer(503, retry_after=seconds, x_oss_qos_delay_time=seconds)) is None


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
def test_a_wait_is_asked_for_by_whatever_is_worth_another_attempt(status, code, kind, headers):
    error = made(an_answer(status, document(code) if code else b"", **headers))
    assert (type(error), error.retryable, error.retry_after) == (kind, True, 2.0)


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


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 09 Mar 2025 08:07:06 GMT", 1741507626.0),
        ("Sun, 09 Mar 2025 08:07:06 -0000", 1741507626.0),
        ("Sun, 09 Mar 2025 08:07:06 +0800", 1741507626.0 - 8 * 3600),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Sun, 09 Mar 2025 08:07:06 +9999999999", None),
        ("Sun, 09 Mar 99999 08:07:06 GMT", None),
        ("Sun, 09 Mar 2025 25:61:61 GMT", None),
        ("Sun, 09 Mar " + "9" * 4400 + " 08:07:06 GMT", None),
        ("9" * 4400, None),
    ],
)
def test_a_date_of_any_zone_or_out_of_range_is_a_time_or_none(date, seconds):
    found = date_of(an_answer(200, date=date))
    assert found == seconds or (seconds is None and (found is None or isinstance(found, float)))


@given(st.text(max_size=60), st.text(max_size=40))
@example("Sun, 09 Mar 2025 08:07:06 -0000", "0001-01-01T00:00:00+23:59")
@example("Mon, 01 Jan 0001 00:00:00 +2359", "9999-12-31T23:59:59-23:59")
@example("Thu, 01 Jan 1970 00:00:00 -2400", "2025-W10-7")
def test_any_dates_are_times_or_not_known(date, stated):
    for text in (date, f"Sun, 09 Mar 2025 08:07:06 {date}", f"Sun, {date} GMT"):
        answer = an_answer(403, date=text, retry_after=text)
        for found in (date_of(answer), server_time(answer, Said("X", "", details={"ServerTime": stated}))):
            assert found is None or math.isfinite(found)
        assert retry_after(answer) is None or 0 <= retry_after(answer) <= 3600


@given(st.binary(max_size=200), st.text(st.characters(max_codepoint=255), max_size=60))
@example(b"", "\x80")
def test_any_answer_is_an_error_of_the_tree(body, text):
    for status in (203, 307, 400, 403, 404, 407, 500, 503):
        error = made(an_answer(status, body, x_oss_err=text, location=text, x_oss_ec=text, x_oss_request_id=text))
        assert isinstance(error, BackendError)


def test_an_error_document_of_many_elements_is_cut():
    body = document(**{f"E{n}": "x" for n in range(500)})
    assert len(made(an_answer(400, body)).details) == 50


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
        "/b/STS.testtoken/with%2Bchars%3Dand%3D%3Dpadding",
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


@pytest.mark.parametrize("status", [301, 403, 407, 500])
def test_no_secret_is_in_what_an_answer_says_of_itself(status):
    """Its code, its ids, its host, and where it points: in elements and in headers."""
    names = ("Code", "RequestId", "HostId", "EC", "Endpoint", "testsecret")
    body = "".join(f"<{name}>{TOKEN}</{name}>" for name in names)
    headers = dict.fromkeys(("x_oss_request_id", "x_oss_ec", "location", "x_oss_err"), TOKEN)
    for answer in (an_answer(status, f"<Error>{body}</Error>".encode(), **headers), an_answer(status, **headers)):
        error = made(answer, SECRETS)
        told = repr((error.args, vars(error)))
        assert "STS" not in told
        assert "testsecret" not in told


def test_what_an_answer_says_of_itself_is_printable_and_short():
    body = "<Error><Code>a&#9;b</Code><RequestId>R\x9b31m</RequestId><HostId>" + "h" * 200 + "</HostId></Error>"
    error = made(an_answer(400, body.encode(), x_oss_ec="e\x1b[31m"))
    assert (error.code, error.request_id, error.host_id, error.ec) == ("a b", "R 31m", "h" * 100, "e [31m")


def test_no_secret_is_in_the_part_of_a_page_that_is_shown():
    page = f"<html>{'x' * 180}{TOKEN}".encode()
    assert "STS" not in made(an_answer(502, page), SECRETS).message


def test_a_message_is_not_garbled_by_the_secret_of_a_test():
    assert "Words" in made(an_answer(403, document("AccessDenied")), ("o",)).message


def test_a_token_of_somebody_else_is_not_shown_either():
    assert "abc" not in repr(vars(made(an_answer(403, document("X", StringToSign="x-oss-security-token:abc\n/b")))))
