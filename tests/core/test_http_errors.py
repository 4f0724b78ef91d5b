"""HTTP statuses as errors, and the wait that a response asks for."""

from __future__ import annotations

import email.message
import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict

from partwise import (
    AccessDenied,
    BackendError,
    CallbackError,
    ConnectionFailed,
    IntegrityError,
    ObjectExists,
    ServerFailed,
    Throttled,
    UploadNotFound,
)
from partwise.http_errors import (
    RETRY_AFTER_MAX,
    class_for_status,
    error_for_status,
    is_transient_status,
    parse_http_date,
    retry_after_seconds,
)

TABLE = [
    (304, BackendError, False),
    (307, BackendError, False),
    (400, BackendError, False),
    (401, AccessDenied, False),
    (403, AccessDenied, False),
    (404, BackendError, False),
    (407, ConnectionFailed, False),
    (408, ConnectionFailed, True),
    (409, BackendError, False),
    (412, BackendError, False),
    (413, BackendError, False),
    (429, Throttled, True),
    (500, ServerFailed, True),
    (501, BackendError, False),
    (502, ServerFailed, True),
    (503, ServerFailed, True),
    (504, ServerFailed, True),
    (505, BackendError, False),
    (507, ServerFailed, True),
    (599, ServerFailed, True),
    (600, BackendError, False),
    (999, BackendError, False),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), TABLE)
def test_a_status_has_its_class(status, kind, retryable):
    error = error_for_status(status, {}, "part 3 of 'a'")

    assert (type(error), error.retryable, error.status) == (kind, retryable, status)
    assert (error.message, error.retry_after, error.code, error.details) == ("part 3 of 'a'", None, None, {})
    if status != 407:
        assert is_transient_status(status) == retryable


def test_an_error_has_what_the_storage_said():
    error = error_for_status(
        409, {}, "'a' is locked", code="Locked", request_id="R", details={"holder": "b"}, hint="Wait"
    )

    assert (error.code, error.request_id, error.details) == ("Locked", "R", {"holder": "b"})
    assert str(error) == "'a' is locked. Wait"


def test_an_error_can_be_pickled():
    error = error_for_status(429, {"Retry-After": "3"}, "slow down", code="X", details={"a": "b"})
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.args, vars(copy)) == (type(error), error.args, vars(error))


# --- classes of a storage --------------------------------------------------------------------------------------------

CLASSES = {"NoSuchUpload": UploadNotFound, "BadDigest": IntegrityError, "Gone": UploadNotFound, 412: ObjectExists}


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (404, "NoSuchUpload", UploadNotFound, False),
        (400, "BadDigest", IntegrityError, True),
        (412, None, ObjectExists, False),
        (412, "Unknown", ObjectExists, False),
        (412, "Gone", UploadNotFound, False),
        (500, "NoSuchUpload", UploadNotFound, False),
        (500, "Unknown", ServerFailed, True),
        (404, "Unknown", BackendError, False),
    ],
)
def test_a_code_takes_precedence_over_a_status_and_both_over_the_table(status, code, kind, retryable):
    error = error_for_status(status, {}, "no", code=code, classes=CLASSES)

    assert (type(error), error.retryable, error.code) == (kind, retryable, code)


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {}), (503, {"Retry-After": "1"}), (503, {"Retry-After": "soon"})]
)
def test_throttling_takes_precedence_over_a_code(status, headers):
    error = error_for_status(status, headers, "no", code="BadDigest", classes=CLASSES)

    assert (type(error), error.retryable) == (Throttled, True)


def test_a_proxy_that_wants_credentials_is_not_an_error_of_the_storage():
    error = error_for_status(407, {}, "no", code="NoSuchUpload", classes={**CLASSES, 407: AccessDenied})

    assert (type(error), error.retryable) == (ConnectionFailed, False)


def test_whether_a_retry_helps_can_be_given():
    gateway = error_for_status(401, {"Retry-After": "2"}, "no", retryable=True)
    broken = error_for_status(500, {"Retry-After": "2"}, "no", retryable=False)

    assert (type(gateway), gateway.retryable, gateway.retry_after) == (AccessDenied, True, 2.0)
    assert (type(broken), broken.retryable, broken.retry_after) == (ServerFailed, False, None)


def test_a_failed_callback_can_be_among_the_classes():
    error = error_for_status(203, {}, "stored", code="CallbackFailed", classes={"CallbackFailed": CallbackError})

    assert (type(error), error.retryable, error.result) == (CallbackError, False, None)


def test_the_class_alone_can_be_had():
    assert class_for_status(404, code="NoSuchUpload", classes=CLASSES) is UploadNotFound
    assert class_for_status(503) is ServerFailed
    assert class_for_status(503, asks_to_wait=True) is Throttled


# --- how long to wait ------------------------------------------------------------------------------------------------

DATE = "Sun, 09 Mar 2025 08:07:06 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"RETRY-AFTER": "0"}, 0.0),
        ({"Retry-After": "3600"}, 3600.0),
        ({"Retry-After": "3601"}, 3600.0),
        ({"Retry-After": "9" * 4400}, 3600.0),
        ({"Retry-After": "Sun, 09 Mar 2025 08:07:36 GMT", "Date": DATE}, 30.0),
        ({"Retry-After": "Sun, 09 Mar 2025 08:07:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": DATE}, 3600.0),
        ({"Retry-After": "Sun, 09 Mar 2025 08:07:36 GMT"}, None),
        ({"Retry-After": "Sun, 09 Mar 2025 08:07:36 GMT", "Date": "now"}, None),
    ],
)
def test_the_wait_that_a_response_asks_for(headers, seconds):
    assert retry_after_seconds(headers) == seconds
    assert error_for_status(503, headers, "no").retry_after == seconds


@pytest.mark.parametrize("value", ["-1", "+1", "1_0", "1.5", "1e3", "inf", "nan", "\u0661", "\xb2", "", "soon"])
def test_a_wait_that_is_neither_a_whole_number_nor_a_date_is_ignored(value):
    assert retry_after_seconds({"Retry-After": value, "Date": DATE}) is None


def message(**headers):
    made = email.message.Message()  # what http.client has
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return made


@pytest.mark.parametrize("make", [dict, HTTPHeaderDict])
def test_the_headers_may_be_of_any_library(make):
    assert retry_after_seconds(make({"retry-after": "5"})) == 5.0
    assert retry_after_seconds(make({"Retry-After": "5"})) == 5.0
    assert retry_after_seconds(message(RETRY_AFTER="5")) == 5.0


@pytest.mark.parametrize("library", ["requests.structures.CaseInsensitiveDict", "httpx.Headers"])
def test_the_headers_may_be_of_an_installed_library(library):
    module, _, name = library.rpartition(".")
    make = getattr(pytest.importorskip(module), name)

    assert retry_after_seconds(make({"Retry-After": "5"})) == 5.0


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_the_longer_wait_counts(status):
    def wait(stated, header):
        return error_for_status(status, {"Retry-After": header}, "no", retry_after=stated).retry_after

    assert (wait(1.5, "1"), wait(0.5, "1"), wait(1.5, "x")) == (1.5, 1.0, 1.5)
    assert wait(1e9, "1") == RETRY_AFTER_MAX
    assert (wait(math.nan, "1"), wait(math.nan, "x")) == (1.0, None), "not a number is no wait"


def test_a_503_whose_storage_asks_to_wait_by_other_means_is_throttling():
    assert type(error_for_status(503, {}, "no", retry_after=0.5)) is Throttled


@pytest.mark.parametrize("status", [403, 404, 501])
def test_a_permanent_error_has_no_wait(status):
    assert error_for_status(status, {"Retry-After": "5"}, "no").retry_after is None


@given(st.text(max_size=60), st.text(max_size=60))
@example("Mon, 01 Jan 0001 00:00:00 +2359", "Thu, 01 Jan 1970 00:00:00 -2400")
@example("9" * 4400, "")
def test_any_header_is_a_wait_from_zero_to_an_hour_or_none(value, date):
    for text in (value, f"Sun, 09 Mar 2025 08:07:06 {value}", f"Sun, {value} GMT"):
        found = parse_http_date(text)
        assert found is None or math.isfinite(found)
        wait = retry_after_seconds({"Retry-After": text, "Date": date})
        assert wait is None or 0 <= wait <= RETRY_AFTER_MAX
