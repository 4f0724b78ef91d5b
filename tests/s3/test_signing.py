"""Signatures, judged by botocore: the same requests have the same signatures."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from partwise.backends._http.request_template import PartRequestTemplate
from partwise.backends._http.signatures import encoded_key, encoded_query
from partwise.backends.s3 import Credentials
from partwise.backends.s3.addressing import resolve
from partwise.backends.s3.signing import (
    EMPTY_PAYLOAD,
    PAYLOAD_HEADER,
    PathRequest,
    canonical_query,
    canonical_request,
    prepare,
    string_to_sign,
)

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = 1_741_507_626.9
REQUEST = PathRequest("GET", "/b/k", (), {"Host": "s3.example.com"})

TOKEN = "FwoGZXIvYXdzEBYaD/+=example"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
ODD = PRINTABLE + "äé漢\U0001f600\x00\x1f\x7f\u0301\u200b" + "/." * 5

#: Every kind of key: slashes, dots, plus, percent, spaces, quotes, control characters, all planes of Unicode.
KEY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30)
NAME = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


class Clock:
    """The clock of botocore in this module."""

    now = datetime.fromtimestamp(NOW, UTC)

    def read(self) -> datetime:
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="module", autouse=True)
def _clock_of_botocore() -> Iterator[None]:
    # Once, since a patch takes as long as a signature.
    with mock.patch.object(botocore.auth, "get_current_datetime", CLOCK.read):
        yield


def botocores(request: PathRequest, credentials: Credentials, time: float, region: str, service: str) -> dict[str, str]:
    """Return the headers of a request after botocore has signed it."""
    headers = {name: value for name, value in request.headers.items() if name.lower() != PAYLOAD_HEADER}
    query = encoded_query(request.query)
    url = f"https://{request.headers['Host']}{request.path}" + (f"?{query}" if query else "")
    signed = AWSRequest(method=request.method, url=url, headers=headers)
    payload = request.headers.get(PAYLOAD_HEADER, "UNSIGNED-PAYLOAD")
    pair = BotocoreCredentials(credentials.access_key_id, credentials.access_key_secret, credentials.security_token)
    auth = botocore.auth.S3SigV4Auth(pair, service, region)
    auth.payload = lambda _: payload
    CLOCK.now = datetime.fromtimestamp(time, UTC)
    auth.add_auth(signed)
    return {name.lower(): value for name, value in signed.headers.items()}


@st.composite
def requests(draw: st.DrawFn) -> PathRequest:
    method = draw(st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]))
    path = "/" + draw(st.sampled_from(["", "bucket/"])) + encoded_key(draw(KEY))
    query = tuple(draw(st.lists(st.tuples(NAME, st.none() | KEY), max_size=4, unique_by=lambda pair: pair[0])))
    headers = {"Host": draw(st.sampled_from(["s3.eu-west-1.amazonaws.com", "b.example.com:9000"]))}
    headers |= {f"x-amz-{name}": value for name, value in draw(st.dictionaries(NAME, VALUE, max_size=5)).items()}
    headers |= draw(st.sampled_from([{}, {"Content-Type": "text/plain; charset=utf-8"}, {"If-None-Match": "*"}]))
    reserved = {"x-amz-date", "x-amz-security-token", PAYLOAD_HEADER}
    headers = {name: value for name, value in headers.items() if name not in reserved}
    headers |= draw(st.sampled_from([{}, {PAYLOAD_HEADER: EMPTY_PAYLOAD}]))
    return PathRequest(method, path, query, headers)


def same_signature(request, credentials, time, region, service):
    """Assert that botocore adds the same headers."""
    ours = prepare(credentials, request, time, region=region, service=service).signed()

    theirs = botocores(request, credentials, time, region, service)
    assert {name.lower(): theirs[name.lower()] for name in ours} == {name.lower(): ours[name] for name in ours}


@given(
    requests(),
    st.integers(0, 4_000_000_000),
    st.sampled_from(["us-east-1", "auto", "cn-north-1"]),
    st.sampled_from(["s3", "s3-outposts"]),
    st.none() | st.just(TOKEN),
)
def test_a_signature_is_that_of_botocore(request, time, region, service, token):
    same_signature(request, Credentials(KEYS.access_key_id, KEYS.access_key_secret, token), time, region, service)


def random_request(rng):
    """Return a request by cheaper means than Hypothesis, which finds smaller ones."""

    def text(size, characters):
        return "".join(rng.choices(characters, k=rng.randrange(1, size)))

    query = {text(8, "abcXYZ-"): rng.choice([None, text(12, ODD)]) for _ in range(rng.randrange(4))}
    headers = {"Host": rng.choice(["s3.eu-west-1.amazonaws.com", "b.example.com:9000"])}
    headers |= {f"x-amz-{text(9, 'abcdef-')}": text(20, PRINTABLE) for _ in range(rng.randrange(5))}
    headers |= rng.choice([{}, {PAYLOAD_HEADER: EMPTY_PAYLOAD}, {"Content-Type": "text/plain", "If-Match": '"e"'}])
    path = "/" + rng.choice(["", "bucket/"]) + encoded_key(text(30, ODD))
    return PathRequest(rng.choice(["GET", "PUT", "POST", "HEAD", "DELETE"]), path, tuple(query.items()), headers)


@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_signatures_are_those_of_botocore(seed):
    rng = random.Random(seed)
    for _ in range(1000):
        credentials = Credentials(KEYS.access_key_id, KEYS.access_key_secret, rng.choice([None, TOKEN]))
        region, service = rng.choice(["us-east-1", "auto"]), rng.choice(["s3", "s3-outposts"])
        same_signature(random_request(rng), credentials, rng.randrange(4_000_000_000), region, service)


@given(KEY)
@example("a//b/../c/./d")
@example("/leading/and/trailing/")
@example("100%25 +plus&and=equal?question#hash")
@example("ünï/code/\U0001f600/\u0000\u001f\u007f")
@example("~tilde-_.!*'()")
def test_the_path_of_any_key_is_that_of_botocore(judge, key):
    sent = judge.sent("head_object", Bucket="examplebucket", Key=key)

    address = resolve("examplebucket", region="eu-west-1")
    assert address.path_of(key) == urlsplit(sent.url).path


@pytest.mark.parametrize("value", ["a  b", " a ", "a\tb", "a   b  c", ""])
def test_white_space_in_a_header_is_signed_as_botocore_signs_it(value):
    request = REQUEST.with_headers({"x-amz-meta-text": value})

    ours = prepare(KEYS, request, NOW, region="r").signed()

    assert ours["Authorization"] == botocores(request, KEYS, NOW, "r", "s3")["authorization"]


def test_a_body_is_signed_where_the_header_says_so():
    digest = hashlib.sha256(b"body").hexdigest()
    signed = REQUEST.with_headers({PAYLOAD_HEADER: digest})

    prepared = prepare(KEYS, signed, NOW, region="r")

    assert prepared.text.endswith(f"\n{digest}")
    assert PAYLOAD_HEADER not in prepared.headers
    assert prepare(KEYS, REQUEST, NOW, region="r").headers[PAYLOAD_HEADER] == "UNSIGNED-PAYLOAD"


def test_the_digest_of_another_service_has_no_header():
    prepared = prepare(KEYS, REQUEST, NOW, region="r", service="sts", digest=EMPTY_PAYLOAD)

    assert prepared.text.endswith(f"\n{EMPTY_PAYLOAD}")
    assert PAYLOAD_HEADER not in prepared.headers


@pytest.mark.parametrize(
    "other",
    [
        {"region": "other"},
        {"service": "s3-outposts"},
        {"time": NOW + 1},
        {"credentials": Credentials("AKIDEXAMPLE", "other")},
        {"request": PathRequest("PUT", "/b/k", (), {"Host": "s3.example.com"})},
        {"request": PathRequest("GET", "/b/l", (), {"Host": "s3.example.com"})},
        {"request": PathRequest("GET", "/b/k", (("a", None),), {"Host": "s3.example.com"})},
        {"request": PathRequest("GET", "/b/k", (), {"Host": "other.example.com"})},
    ],
)
def test_every_part_of_a_request_is_signed(other):
    given = {"credentials": KEYS, "request": REQUEST, "time": NOW, "region": "r", "service": "s3"}

    ours, theirs = (prepare(**arguments).signed() for arguments in (given, given | other))

    assert ours["Authorization"].rpartition("=")[2] != theirs["Authorization"].rpartition("=")[2]


def test_a_query_without_a_value_is_signed_with_an_equals_sign():
    assert canonical_query((("uploads", None), ("a", "b c"))) == "a=b%20c&uploads="
    assert canonical_query(()) == ""


def test_the_text_to_sign_is_public():
    canonical = canonical_request(REQUEST, "UNSIGNED-PAYLOAD")

    assert canonical == "GET\n/b/k\n\nhost:s3.example.com\n\nhost\nUNSIGNED-PAYLOAD"
    algorithm, date, scope, digest = string_to_sign(canonical, NOW, "r").split("\n")
    assert (algorithm, date, scope) == ("AWS4-HMAC-SHA256", "20250309T080706Z", "20250309/r/s3/aws4_request")
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("number", [1, 9, 10, 9999])
def test_a_template_of_parts_has_the_signature_of_each_part(number):
    address, headers = resolve("examplebucket", region="eu-west-1"), {"x-amz-request-payer": "requester"}

    def prepared(query):
        signed = PathRequest("PUT", address.path_of("k e/y"), query, {**headers, "Host": address.authority})
        return prepare(KEYS, signed, NOW, region="eu-west-1")

    template = PartRequestTemplate(
        query=lambda part: (("partNumber", part), ("uploadId", "UPLOAD")),
        prepare=prepared,
        build=lambda query, added: (
            f"PUT {address.target('k e/y', query)} HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in {**headers, **added}.items())
            + "\r\n"
        ).encode(),
    )

    head = template.head(number, 5).decode()

    expected = prepared((("partNumber", str(number)), ("uploadId", "UPLOAD"))).signed()["Authorization"]
    assert f"\r\nAuthorization: {expected}\r\n" in head
    assert re.search(rf"partNumber={number}&uploadId=UPLOAD ", head)
    assert head.endswith("Content-Length: 5\r\n\r\n")
