"""Which option becomes which header on which request."""

from __future__ import annotations

import base64
import json

import pytest
from attrs import define, fields

from partwise.backends._http.http1 import Response
from partwise.backends._http.option_headers import RequestKind
from partwise.backends.oss import Callback, OSSOptions
from partwise.backends.oss.options import CAPABILITIES, OPTION_TABLE
from partwise.backends.oss.responses import READER
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions

CALLBACK = Callback("http://cb.example.com/cb", "bucket=${bucket}&object=${object}")

#: The options of OSS: option, value, headers, and the requests that carry them.
TABLE = [
    ("content_type", "text/plain", {"Content-Type": "text/plain"}, "put initiate"),
    ("cache_control", "no-cache", {"Cache-Control": "no-cache"}, "put initiate"),
    ("content_disposition", "attachment", {"Content-Disposition": "attachment"}, "put initiate"),
    ("content_encoding", "gzip", {"Content-Encoding": "gzip"}, "put initiate"),
    ("content_language", "de", {"Content-Language": "de"}, "put initiate"),
    ("expires", "Wed, 01 Jan 2031 00:00:00 GMT", {"Expires": "Wed, 01 Jan 2031 00:00:00 GMT"}, "put initiate"),
    ("metadata", {"Author": "x y"}, {"x-oss-meta-author": "x y"}, "put initiate"),
    ("storage_class", "IA", {"x-oss-storage-class": "IA"}, "put initiate"),
    ("tags", {"a b": "1/2", "c": ""}, {"x-oss-tagging": "a%20b=1%2F2&c="}, "put initiate"),
    ("encryption", "KMS", {"x-oss-server-side-encryption": "KMS"}, "put initiate"),
    ("data_encryption", "SM4", {"x-oss-server-side-data-encryption": "SM4"}, "put initiate"),
    ("kms_key_id", "9468da86", {"x-oss-server-side-encryption-key-id": "9468da86"}, "put initiate"),
    ("acl", "private", {"x-oss-object-acl": "private"}, "put complete"),
    (
        "callback",
        CALLBACK,
        {
            "x-oss-callback": "eyJjYWxsYmFja1VybCI6Imh0dHA6Ly9jYi5leGFtcGxlLmNvbS9jYiIsImNhbGxiYWNrQm9keSI6ImJ1Y2tldD0"
            "ke2J1Y2tldH0mb2JqZWN0PSR7b2JqZWN0fSJ9"
        },
        "put complete",
    ),
    ("forbid_overwrite", True, {"x-oss-forbid-overwrite": "true"}, "put initiate complete"),
    ("traffic_limit", 819200, {"x-oss-traffic-limit": "819200"}, "put part"),
    ("request_payer", "requester", {"x-oss-request-payer": "requester"}, "put initiate part complete read other"),
]
REQUESTS = {request.name.lower(): request for request in RequestKind if request.name}


def test_the_table_contains_every_option():
    assert {row[0] for row in TABLE} == {field.name for field in fields(OSSOptions)} - {"if_match"}
    assert {row[0] for row in TABLE} == CAPABILITIES.options


def test_what_acts_late_is_not_sent_at_initiate_only():
    late = {row[0] for row in TABLE if set(row[3].split()) - {"put", "initiate"}}
    assert late == CAPABILITIES.late_options


@pytest.mark.parametrize(
    ("word", "native"),
    [
        ("standard", "Standard"),
        ("infrequent-access", "IA"),
        ("archive", "Archive"),
        ("deep-archive", "DeepColdArchive"),
        ("Standard", "Standard"),
        ("IA", "IA"),
        ("ColdArchive", "ColdArchive"),
        ("DeepColdArchive", "DeepColdArchive"),
    ],
)
@pytest.mark.parametrize("kind", [ObjectOptions, OSSOptions])
def test_a_storage_class_is_a_word_of_all_storages_or_of_oss(kind, word, native):
    options = kind(storage_class=word)
    OPTION_TABLE.check(options)
    assert OPTION_TABLE.headers(RequestKind.INITIATE, options) == {"x-oss-storage-class": native}


@pytest.mark.parametrize("word", ["STANDARD", "GLACIER", "cold", "", "Infrequent-Access"])
def test_a_storage_class_that_oss_has_not_is_refused_with_those_that_it_has(word):
    with pytest.raises(InvalidInput, match="one of standard, infrequent-access, archive, deep-archive, Standard, IA,"):
        OPTION_TABLE.check(ObjectOptions(storage_class=word))


@pytest.mark.parametrize("acl", ["private", "public-read", "public-read-write", "default"])
@pytest.mark.parametrize("encryption", ["AES256", "KMS", "SM4"])
def test_access_rules_and_encryption_are_named_as_in_all_storages(acl, encryption):
    options = ObjectOptions(acl=acl, encryption=encryption)
    OPTION_TABLE.check(options)
    assert OPTION_TABLE.headers(RequestKind.COMPLETE, options) == {"x-oss-object-acl": acl}
    assert OPTION_TABLE.headers(RequestKind.INITIATE, options) == {"x-oss-server-side-encryption": encryption}


@define(frozen=True)
class OtherOptions(ObjectOptions):
    """Options of another storage, two of which have the names of options of OSS."""

    callback: str | None = None
    traffic_limit: str | None = None


@pytest.mark.parametrize("option", ["callback", "traffic_limit"])
def test_an_option_of_another_storage_with_the_name_of_one_of_oss_is_refused(option):
    with pytest.raises(InvalidInput, match=rf"{option} must be"):
        OPTION_TABLE.check(OtherOptions(**{option: "text"}))


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize(("option", "value", "headers", "on"), TABLE, ids=[row[0] for row in TABLE])
def test_an_option_is_sent_with_its_requests_only(option, value, headers, on, request_name):
    options = OSSOptions(**{option: value})
    expected = headers if request_name in on.split() else {}
    assert expected == OPTION_TABLE.headers(REQUESTS[request_name], options)


def test_without_options_there_are_no_headers():
    assert all(OPTION_TABLE.headers(request, OSSOptions()) == {} for request in RequestKind)


def test_all_options_together():
    options = OSSOptions(**{row[0]: row[1] for row in TABLE})
    OPTION_TABLE.check(options)
    expected = {name: value for row in TABLE if "put" in row[3] for name, value in row[2].items()}
    assert expected == OPTION_TABLE.headers(RequestKind.PUT, options)


# --- invalid values --------------------------------------------------------------------------------------------------

TEXTS = [row[0] for row in TABLE if isinstance(row[1], str) and row[0] not in ("encryption", "data_encryption")]


@pytest.mark.parametrize("option", [*TEXTS, "encryption", "data_encryption"])
@pytest.mark.parametrize(
    "value", ["a\r\nx-oss-object-acl: public-read", "a\nb", "a\rb", "a\x00b", "ü", "中", "", " a", "a\t"]
)
def test_a_value_that_would_inject_or_change_a_header_is_refused(option, value):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(**{option: value}))


@pytest.mark.parametrize("value", ["a\r\nb", "ü", " a", "a ", "\x7f"])
def test_a_metadata_value_that_would_not_be_returned_unchanged_is_refused(value):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(metadata={"name": value}))


@pytest.mark.parametrize("name", ["", "a b", "a_b", "a.b", "ü", "a:b", "a\r\n"])
def test_a_metadata_name_consists_of_letters_digits_and_hyphens(name):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(metadata={name: "x"}))


def test_metadata_names_that_differ_only_in_case_are_refused():
    with pytest.raises(InvalidInput, match="case-insensitive"):
        OPTION_TABLE.check(OSSOptions(metadata={"A": "1", "a": "2"}))


@pytest.mark.parametrize(("size", "fits"), [(8192 - 1, True), (8192, False)])
def test_metadata_is_limited_to_8_kib(size, fits):
    options = OSSOptions(metadata={"n": "x" * size})
    if fits:
        OPTION_TABLE.check(options)
        return
    with pytest.raises(InvalidInput, match="the maximum is 8192"):
        OPTION_TABLE.check(options)


def test_a_metadata_value_may_be_empty():
    options = OSSOptions(metadata={"a": ""})
    OPTION_TABLE.check(options)
    assert OPTION_TABLE.headers(RequestKind.PUT, options) == {"x-oss-meta-a": ""}


@pytest.mark.parametrize(
    "tags",
    [{str(n): "" for n in range(11)}, {"": "x"}, {"k" * 129: "x"}, {"k": "x" * 257}],
)
def test_tags_are_limited_in_number_and_length(tags):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(tags=tags))


def test_tags_at_their_limits_are_accepted():
    OPTION_TABLE.check(OSSOptions(tags={f"{n:0128}": "x" * 256 for n in range(10)}))


@pytest.mark.parametrize("limit", [819_199, 838_860_801, 0, -1])
def test_a_traffic_limit_out_of_range_is_refused(limit):
    with pytest.raises(InvalidInput, match="819200 to 838860800"):
        OPTION_TABLE.check(OSSOptions(traffic_limit=limit))


@pytest.mark.parametrize("limit", [819_200, 838_860_800])
def test_a_traffic_limit_at_its_limits_is_accepted(limit):
    OPTION_TABLE.check(OSSOptions(traffic_limit=limit))


@pytest.mark.parametrize(
    "options",
    [
        {"encryption": "AES128"},
        {"encryption": "KMS", "data_encryption": "AES256"},
        {"data_encryption": "SM4"},
        {"kms_key_id": "k"},
        {"encryption": "AES256", "kms_key_id": "k"},
        {"request_payer": "me"},
    ],
)
def test_unknown_or_contradictory_values_are_refused(options):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(**options))


# --- callbacks -------------------------------------------------------------------------------------------------------


def decoded(text: str) -> object:
    return json.loads(base64.b64decode(text))


def test_a_callback_with_everything():
    callback = Callback(
        "http://a/;https://b/",
        '{"object":${object}}',
        host="a.example.com",
        body_type="application/json",
        variables={"x:var1": "value-1", "x:二": "中"},
        sni=False,
    )
    options = OSSOptions(callback=callback)
    OPTION_TABLE.check(options)
    headers = OPTION_TABLE.headers(RequestKind.COMPLETE, options)
    assert decoded(headers["x-oss-callback"]) == {
        "callbackUrl": "http://a/;https://b/",
        "callbackHost": "a.example.com",
        "callbackBody": '{"object":${object}}',
        "callbackBodyType": "application/json",
        "callbackSNI": False,
    }
    assert decoded(headers["x-oss-callback-var"]) == {"x:var1": "value-1", "x:二": "中"}


@pytest.mark.parametrize(
    "callback",
    [
        Callback("", "b"),
        Callback("http://a/;", "b"),
        Callback(";".join(["http://a/"] * 6), "b"),
        Callback("http://a/", ""),
        Callback("http://a/", "b", body_type="text/plain"),
        Callback("http://a/", "b", variables={"var": "1"}),
        Callback("http://a/", "b", variables={"x:Var": "1"}),
        Callback("http://a/", "b", variables={"x:": "1"}),
        Callback("http://a/", "b" * 5000),
        Callback("http://a/", "b", variables={"x:a": "b" * 5000}),
    ],
)
def test_a_callback_that_oss_would_reject_is_refused(callback):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(callback=callback))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "https://:80/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:x/",
        "http://[::1/",
        "http://a b/",
        "http://a/ b",
        "http://a/\n",
        "http://a/\r\nx: y",
        "http://a/\x00",
        "http://a/\x7f",
        "http://a/\u4e2d",
        "http://-a/",
        "http://a/;ftp://b/",
        "//a/",
        "/a",
        " ",
    ],
)
def test_an_invalid_callback_url_is_refused(url):
    with pytest.raises(InvalidInput, match="a callback has 1 to 5 http or https URLs"):
        OPTION_TABLE.check(OSSOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize(
    "url",
    [
        "http://cb.example.com/uploaded?a=b&c=%20d#e",
        "HTTPS://cb.example.com:8443",
        "cb.example.com/uploaded",
        "cb.example.com:8080",
        "http://192.0.2.7:80/",
        "http://[2001:db8::1]:80/",
        "http://a/;https://b/;c/;http://d;e",
    ],
)
def test_a_valid_callback_url_is_accepted(url):
    OPTION_TABLE.check(OSSOptions(callback=Callback(url, "b")))


@pytest.mark.parametrize(
    "more",
    [
        {"host": ""},
        {"host": "a b"},
        {"host": "a\r\nx: y"},
        {"host": "http://a/"},
        {"host": "a/b"},
        {"host": 5},
        {"sni": "yes"},
        {"body": 5},
        {"body": "\ud800"},
        {"body": "a\x00"},
        {"variables": {"x:a": 5}},
        {"variables": {"x:a": "\ud800"}},
        {"variables": {"x:a": "\x1b"}},
        {"variables": {"x:\ud800": "a"}},
        {"variables": {5: "a"}},
    ],
)
def test_the_other_fields_of_a_callback_are_checked_too(more):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(callback=Callback(**{"url": "http://a/", "body": "b", **more})))


def test_a_callback_header_is_limited_to_5_kib():
    """3,840 bytes of JSON are 5 KiB in base64."""
    frame = len('{"callbackUrl":"http://a/","callbackBody":""}')
    OPTION_TABLE.check(OSSOptions(callback=Callback("http://a/", "b" * (3840 - frame))))
    with pytest.raises(InvalidInput, match="the maximum is 5120"):
        OPTION_TABLE.check(OSSOptions(callback=Callback("http://a/", "b" * (3841 - frame))))


@pytest.mark.parametrize(
    "options",
    [{"tags": {"\ud800": "a"}}, {"tags": {"a": "\ud800"}}, {"tags": {1: "a"}}, {"metadata": {1: "a"}}],
)
def test_values_that_are_not_text_are_refused(options):
    with pytest.raises(InvalidInput):
        OPTION_TABLE.check(OSSOptions(**options))


# --- metadata of responses -------------------------------------------------------------------------------------------


def test_metadata_is_taken_from_the_headers_of_a_response():
    response = Response(200, {"etag": "x", "x-oss-meta-author": "me", "x-oss-meta-": ""}, b"")
    assert READER.metadata(response) == {
        "author": "me",
        "": "",
    }
