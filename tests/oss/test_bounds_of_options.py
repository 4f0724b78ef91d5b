"""The values and sizes of options that the service knows, as its documentation has them."""

from __future__ import annotations

import base64
import json

import pytest

from partwise.backends.oss.options import CAPABILITIES, Request, check, check_header_value, headers_for
from partwise.errors import InvalidInput
from partwise.model import Callback, ObjectOptions


def decoded(text: str) -> object:
    return json.loads(base64.b64decode(text))


def test_the_service_lists_parts_and_has_checksums_of_parts_and_objects():
    assert (CAPABILITIES.lists_parts, CAPABILITIES.part_checksums, CAPABILITIES.object_checksums) == (True, True, True)
    assert not CAPABILITIES.equal_part_sizes


@pytest.mark.parametrize("value", [5, b"text", 1.5, ["a"]])
def test_what_is_no_text_is_no_header(value):
    with pytest.raises(InvalidInput, match="user_agent is a text that is not empty"):
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
def test_each_value_that_the_service_knows_is_sent(options):
    check(ObjectOptions(**options))


@pytest.mark.parametrize("options", [{"storage_class": "ia"}, {"acl": "Private"}, {"encryption": "aes256"}], ids=str)
def test_a_value_is_written_as_the_service_writes_it(options):
    with pytest.raises(InvalidInput, match="is one of"):
        check(ObjectOptions(**options))


@pytest.mark.parametrize(
    "url", ["http://a/", "HTTPS://a/", "a.example.com/cb", "127.0.0.1:8080", ";".join(["http://a/"] * 5)]
)
def test_up_to_five_urls_of_http_may_be_called(url):
    check(ObjectOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize("url", ["ftp://a/", "file:///a", "http://", "http://a/;ftp://a/"])
def test_a_callback_is_by_http_alone(url):
    with pytest.raises(InvalidInput, match="URLs of http or https"):
        check(ObjectOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_the_body_of_a_callback_is_a_form_or_json(kind):
    callback = Callback("http://a/", "b", body_type=kind)
    headers = headers_for(Request.PUT, ObjectOptions(callback=callback))
    assert decoded(headers["x-oss-callback"])["callbackBodyType"] == kind


def test_a_callback_has_5_kib_as_it_is_sent():
    """In base64, 3,840 bytes are 5,120."""
    room = 3840 - len('{"callbackUrl":"http://a/","callbackBody":""}')
    headers = headers_for(Request.PUT, ObjectOptions(callback=Callback("http://a/", "b" * room)))
    assert len(headers["x-oss-callback"]) == 5120

    with pytest.raises(InvalidInput, match="x-oss-callback would have 5124 bytes, and 5120 is the most"):
        check(ObjectOptions(callback=Callback("http://a/", "b" * (room + 1))))


def test_the_variables_of_a_callback_have_5_kib_of_their_own():
    room = 3840 - len('{"x:a":""}')
    check(ObjectOptions(callback=Callback("http://a/", "b", variables={"x:a": "b" * room})))

    with pytest.raises(InvalidInput, match="x-oss-callback-var would have 5124 bytes"):
        check(ObjectOptions(callback=Callback("http://a/", "b", variables={"x:a": "b" * (room + 1)})))
