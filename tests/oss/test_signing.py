"""Both signatures compared with those of the official clients, including known errors of these clients."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from partwise.backends.oss import Credentials, signing
from partwise.backends.oss.signing import Signable

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "oss" / "signing.json").read_text(encoding="utf-8"))

SIGNING_HEADERS = {"x-oss-date", "x-oss-content-sha256", "x-oss-security-token", "date"}


def vectors(mode: str, version: str) -> list[Any]:
    return [
        pytest.param(vector, id=vector["id"])
        for vector in VECTORS["vectors"]
        if (vector["mode"], vector["signature_version"]) == (mode, version)
    ]


def quirks(*, why: str) -> list[Any]:
    return [pytest.param(quirk, id=quirk["id"]) for quirk in VECTORS["quirks"] if why in quirk["why"]]


def credentials(vector: dict[str, Any]) -> Credentials:
    return Credentials(**vector["credentials"])


def sent_headers(vector: dict[str, Any]) -> dict[str, str]:
    given = {**vector["headers"], **vector["expected"].get("headers_added", {})}
    return {name.lower(): value for name, value in given.items()}


def signable(vector: dict[str, Any], headers: dict[str, str], query: list[Any] | None = None) -> Signable:
    pairs = [(name, value) for name, value in (vector["query"] if query is None else query)]
    return Signable(vector["method"], vector["bucket"], vector["key"], pairs, headers)


def v4_fields(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    pairs = (field.strip().partition("=") for field in rest.split(","))
    return {"algorithm": algorithm, **{name: value for name, _, value in pairs}}


def scope(vector: dict[str, Any]) -> dict[str, str]:
    return {"region": vector["region"], "product": vector["product"]}


def test_every_vector_of_the_file_is_tested():
    covered = sum(len(vectors(mode, version)) for mode in ("header", "presign") for version in ("v1", "v4"))
    assert VECTORS["counts"] == {"vectors": covered, "quirks": len(VECTORS["quirks"])}
    assert covered == 388


@pytest.mark.parametrize("vector", vectors("header", "v4"))
def test_v4_in_a_header(vector: dict[str, Any]):
    request = signable(vector, sent_headers(vector))
    additional = vector.get("additional_headers", [])
    canonical = signing.canonical_request_v4(request, additional)
    assert vector["expected"]["canonical_request"] == canonical
    to_sign = signing.string_to_sign_v4(canonical, vector["unix_time"], **scope(vector))
    assert vector["expected"]["string_to_sign"] == to_sign

    own = {name: value for name, value in sent_headers(vector).items() if name not in SIGNING_HEADERS}
    added = signing.prepare_v4(
        credentials(vector),
        signable(vector, own),
        vector["unix_time"],
        additional_headers=additional,
        **scope(vector),
    ).signed()
    assert v4_fields(vector["expected"]["authorization"]) == v4_fields(added.pop("Authorization"))
    expected = {name: value for name, value in sent_headers(vector).items() if name in SIGNING_HEADERS - {"date"}}
    assert expected == added


@pytest.mark.parametrize("vector", vectors("presign", "v4"))
def test_v4_in_a_url(vector: dict[str, Any]):
    query = dict(vector["expected"]["query_decoded"])
    signature = query.pop("x-oss-signature")
    request = signable(vector, sent_headers(vector), list(query.items()))
    canonical = signing.canonical_request_v4(request, vector.get("additional_headers", []))
    assert vector["expected"]["canonical_request"] == canonical
    prepared = signing.prepare_v4(credentials(vector), request, vector["unix_time"], **scope(vector))
    assert signature == prepared.sign(canonical)
    key_id, _, signed_scope = query["x-oss-credential"].partition("/")
    assert key_id == vector["credentials"]["access_key_id"]
    assert signed_scope == signing.scope_v4(vector["unix_time"], **scope(vector))
    assert query["x-oss-date"] == signing.basic_time(vector["unix_time"])


@pytest.mark.parametrize("vector", vectors("header", "v1"))
def test_v1_in_a_header(vector: dict[str, Any]):
    sent = sent_headers(vector)
    to_sign = signing.string_to_sign_v1(signable(vector, sent), sent.get("x-oss-date") or sent["date"])
    assert vector["expected"]["string_to_sign"] == to_sign
    signature = signing.signature_v1(vector["credentials"]["access_key_secret"], to_sign)
    assert vector["expected"]["authorization"] == f"OSS {vector['credentials']['access_key_id']}:{signature}"


@pytest.mark.parametrize(
    "vector", [v for v in vectors("header", "v1") if "x-oss-date" not in sent_headers(v.values[0])]
)
def test_v1_adds_the_headers_of_the_signature(vector: dict[str, Any]):
    own = {name: value for name, value in sent_headers(vector).items() if name not in SIGNING_HEADERS}
    added = signing.prepare_v1(credentials(vector), signable(vector, own), vector["unix_time"]).signed()
    expected = {name: value for name, value in sent_headers(vector).items() if name in SIGNING_HEADERS}
    assert vector["expected"]["authorization"] == added.pop("Authorization")
    assert expected == {name.lower(): value for name, value in added.items()}


@pytest.mark.parametrize("vector", vectors("presign", "v1"))
def test_v1_in_a_url(vector: dict[str, Any]):
    query = dict(vector["expected"]["query_decoded"])
    signature, expires = query.pop("Signature"), query.pop("Expires")
    assert query.pop("OSSAccessKeyId") == vector["credentials"]["access_key_id"]
    to_sign = signing.string_to_sign_v1(signable(vector, sent_headers(vector), list(query.items())), expires)
    assert vector["expected"]["string_to_sign"] == to_sign
    assert signature == signing.signature_v1(vector["credentials"]["access_key_secret"], to_sign)


# --- where an official client departs from the rules -----------------------------------------------------------------


def test_every_quirk_is_tested():
    reasons = ("leaves x-oss-* query parameters out", "unsigned header", "every additional header", "key=", "locale")
    found = [quirk for quirk in VECTORS["quirks"] if any(reason in quirk["why"] for reason in reasons)]
    assert len(VECTORS["quirks"]) == len(found)


@pytest.mark.parametrize("quirk", quirks(why="leaves x-oss-* query parameters out"))
def test_v1_signs_the_query_parameters_of_oss(quirk: dict[str, Any]):
    request = signable(quirk, sent_headers(quirk))
    expires = str(quirk["unix_time"] + quirk.get("expires_seconds", 0))
    date = sent_headers(quirk).get("date", expires)
    ours = signing.string_to_sign_v1(request, date)
    left_out = signable(
        quirk, sent_headers(quirk), [pair for pair in quirk["query"] if not pair[0].startswith("x-oss-")]
    )
    assert quirk["expected"]["string_to_sign"] == signing.string_to_sign_v1(left_out, date)
    assert ours == quirk["expected"]["string_to_sign"] + "&x-oss-traffic-limit=819200"


@pytest.mark.parametrize("quirk", quirks(why="unsigned header"))
def test_v1_signs_the_security_token_by_its_documented_name(quirk: dict[str, Any]):
    sent = sent_headers(quirk)
    token = sent.pop("security-token")
    assert quirk["expected"]["string_to_sign"] == signing.string_to_sign_v1(signable(quirk, sent), sent["date"])
    own = {name: value for name, value in sent.items() if name != "date"}
    added = signing.prepare_v1(credentials(quirk), signable(quirk, own), quirk["unix_time"]).signed()
    assert token == added["x-oss-security-token"]
    assert quirk["expected"]["authorization"] != added["Authorization"]


@pytest.mark.parametrize("quirk", quirks(why="every additional header"))
def test_v4_lists_only_additional_headers_that_are_sent(quirk: dict[str, Any]):
    request = signable(quirk, sent_headers(quirk))
    ours = signing.canonical_request_v4(request, quirk["additional_headers"])
    assert quirk["expected"]["canonical_request"].split("\n")[-2] == "not-present"
    assert ours == quirk["expected"]["canonical_request"].replace("\nnot-present\n", "\n\n")
    added = signing.prepare_v4(
        credentials(quirk),
        signable(quirk, quirk["headers"]),
        quirk["unix_time"],
        additional_headers=quirk["additional_headers"],
        **scope(quirk),
    ).signed()
    assert "AdditionalHeaders" not in added["Authorization"]


@pytest.mark.parametrize("quirk", quirks(why="key="))
def test_v4_signs_an_empty_value_without_equals_sign(quirk: dict[str, Any]):
    ours = signing.canonical_request_v4(signable(quirk, sent_headers(quirk)))
    line = quirk["expected"]["canonical_request"].split("\n")[2]
    assert ours == quirk["expected"]["canonical_request"].replace(line, re.sub(r"=(?=&|$)", "", line))


@pytest.mark.parametrize("quirk", quirks(why="locale"))
def test_v4_sorts_by_code_point(quirk: dict[str, Any]):
    ours = signing.canonical_request_v4(signable(quirk, sent_headers(quirk))).split("\n")[2]
    theirs = quirk["expected"]["canonical_request"].split("\n")[2]
    assert ours == "Aparam=a%2Fb%20c&aparam=~%2A&zparam=1"
    assert sorted(theirs.split("&")) == ours.split("&")
    assert theirs != ours


# --- beyond the vectors ----------------------------------------------------------------------------------------------

REQUEST = Signable("PUT", "examplebucket", "a", (), {})
KEYS = Credentials("id", "secret")


@pytest.mark.parametrize(
    "other",
    [
        {"region": "cn-beijing"},
        {"product": "oss-cloudbox"},
        {"time": 1741507626.0 + 86400},
        {"credentials": Credentials("id", "other")},
    ],
)
def test_each_part_of_the_scope_changes_the_v4_signature(other: dict[str, Any]):
    settings = {"credentials": KEYS, "request": REQUEST, "time": 1741507626.0, "region": "cn-hangzhou"}
    ours, theirs = (signing.prepare_v4(**given).signed() for given in (settings, settings | other))
    assert ours["Authorization"] != theirs["Authorization"]


def test_a_time_is_truncated_to_a_second():
    early, late = (signing.prepare_v4(KEYS, REQUEST, time, region="r").signed() for time in (1e9, 1e9 + 0.999))
    assert early == late
    early, late = (signing.prepare_v1(KEYS, REQUEST, time).signed() for time in (1e9, 1e9 + 0.999))
    assert early == late


def test_header_names_are_case_insensitive_and_values_are_trimmed():
    tidy = Signable("PUT", "b", "k", (), {"x-oss-meta-a": "b", "content-type": "t"})
    loose = Signable("PUT", "b", "k", (), {"X-Oss-Meta-A": " b ", "Content-TYPE": "t\t"})
    assert signing.canonical_request_v4(tidy) == signing.canonical_request_v4(loose)
    assert signing.string_to_sign_v1(tidy, "d") == signing.string_to_sign_v1(loose, "d")


def test_names_of_additional_headers_are_case_insensitive():
    loose = Signable("PUT", "b", "k", (), {"X-Custom": " a ", "Host": "h"})
    canonical = signing.canonical_request_v4(loose, ["HOST", "x-custom"])
    assert canonical == "PUT\n/b/k\n\nhost:h\nx-custom:a\n\nhost;x-custom\nUNSIGNED-PAYLOAD"
    prepared = signing.prepare_v4(KEYS, loose, 1e9, region="r", additional_headers=["HOST", "x-custom"])
    assert ",AdditionalHeaders=host;x-custom,Signature=" in prepared.authorization


@pytest.mark.parametrize(
    ("text", "encoded"), [("Az09", "Az09"), ("中", "%E4%B8%AD"), ("\u0661", "%D9%A1"), ("a b/~", "a%20b%2F~")]
)
def test_letters_and_digits_outside_ascii_are_encoded(text: str, encoded: str):
    assert signing.encoded_query([("prefix", text)]) == f"prefix={encoded}"
    assert signing.encoded_query([(text, None)]) == encoded


def test_each_signature_has_its_own_time_format():
    assert signing.basic_time(1_741_507_626) == "20250309T080706Z"
    assert signing.http_date(1_741_507_626) == "Sun, 09 Mar 2025 08:07:06 GMT"
    assert signing.scope_v4(1_741_507_626.9, "cn-hangzhou") == "20250309/cn-hangzhou/oss/aliyun_v4_request"
