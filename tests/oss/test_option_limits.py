"""The documented values and limits of options."""

from __future__ import annotations

import base64
import json

import pytest

from partwise.backends._http.headers import check_header_value
from partwise.backends._http.option_headers import RequestKind
from partwise.backends.oss import Callback, OSSOptions
from partwise.backends.oss.options import CAPABILITIES, OPTION_TABLE
from partwise.errors import InvalidInput


def decoded(text: str) -> object:
    return json.loads(base64.b64decode(text))


def test_oss_lists_parts_and_reports_checksums_of_parts_and_objects():
    assert (CAPABILITIES.lists_parts, CAPABILITIES.part_checksums, CAPABILITIES.object_checksums) == (True, True, True)
    assert not CAPABILITIES.equal_part_sizes


@pytest.mark.parametrize("value", [5, b"text", 1.5, ["a"]])
def test_a_header_value_must_be_text(value):
    with pytest.raises(InvalidInput, match="user_agent must be a non-empty text"):
        check_header_value("user_agent", value)


@pytest.mark.parametrize(
    "options",
    [
        *({"storage_class": kind} for kind in ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")),
        *({"acl": acl} for acl in ("default", "private", "public-read", "public-read-write")),
        *({"encryption": encryption} for encryption in ("AES256", "KMS", "SM4")),
        {"encryption": "KMS", "data_encryption": "SM4", "kms_key_id": "k"},
        {"request_payer": "requester"},
    ],
    ids=str,
)
def test_every_documented_value_is_accepted(options):
    OPTION_TABLE.check(OSSOptions(**options))


@pytest.mark.parametrize("options", [{"storage_class": "ia"}, {"acl": "Private"}, {"encryption": "aes256"}], ids=str)
def test_values_are_case_sensitive(options):
    with pytest.raises(InvalidInput, match="must be one of"):
        OPTION_TABLE.check(OSSOptions(**options))


@pytest.mark.parametrize(
    "url", ["http://a/", "HTTPS://a/", "a.example.com/cb", "127.0.0.1:8080", ";".join(["http://a/"] * 5)]
)
def test_up_to_five_http_urls_are_accepted(url):
    OPTION_TABLE.check(OSSOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize("url", ["ftp://a/", "file:///a", "http://", "http://a/;ftp://a/"])
def test_only_http_and_https_callback_urls_are_accepted(url):
    with pytest.raises(InvalidInput, match="http or https URLs"):
        OPTION_TABLE.check(OSSOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_a_callback_body_is_a_form_or_json(kind):
    options = OSSOptions(callback=Callback("http://a/", "b", body_type=kind))
    OPTION_TABLE.check(options)
    headers = OPTION_TABLE.headers(RequestKind.PUT, options)
    assert decoded(headers["x-oss-callback"])["callbackBodyType"] == kind


def test_the_callback_header_is_limited_to_5_kib():
    """3,840 bytes of JSON are 5,120 bytes in base64."""
    free = 3840 - len('{"callbackUrl":"http://a/","callbackBody":""}')
    options = OSSOptions(callback=Callback("http://a/", "b" * free))
    OPTION_TABLE.check(options)
    headers = OPTION_TABLE.headers(RequestKind.PUT, options)
    assert len(headers["x-oss-callback"]) == 5120

    with pytest.raises(InvalidInput, match="the header for callback would have 5124 bytes; the maximum is 5120"):
        OPTION_TABLE.check(OSSOptions(callback=Callback("http://a/", "b" * (free + 1))))


def test_the_header_of_the_variables_has_its_own_limit():
    free = 3840 - len('{"x:a":""}')
    OPTION_TABLE.check(OSSOptions(callback=Callback("http://a/", "b", variables={"x:a": "b" * free})))

    with pytest.raises(InvalidInput, match="the header for callback-var would have 5124 bytes"):
        OPTION_TABLE.check(OSSOptions(callback=Callback("http://a/", "b", variables={"x:a": "b" * (free + 1)})))
