"""Heads of part requests, written once and filled in, are those that the general rules give."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from partwise.backends._http.http1 import request_head
from partwise.backends.oss.credentials import Credentials
from partwise.backends.oss.request_template import PartHeads
from partwise.backends.oss.signing import Signable, encoded_key, encoded_query, signing_v1, signing_v4

NOW = 1_700_000_000.0
FIXED = "Host: h\r\n"

texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=30)
headers_of_parts = st.dictionaries(
    st.sampled_from(["x-oss-traffic-limit", "x-oss-request-payer", "x-other"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)


def query_of(upload_id):
    return lambda number: (("partNumber", number), ("uploadId", upload_id))


def rules(version, key, credentials, headers):
    """The general rules: how a request is signed, and how it is written."""

    def sign(query):
        signable = Signable("PUT", "bucket", key, query, headers)
        if version == "v4":
            return signing_v4(credentials, signable, NOW, region="r")
        return signing_v1(credentials, signable, NOW)

    def write(query, added, length=None):
        target = f"/{encoded_key(key)}?{encoded_query(query)}"
        return request_head("PUT", target, FIXED, {**headers, **added}, length)

    return sign, write


@given(
    version=st.sampled_from(["v4", "v1"]),
    key=texts,
    upload_id=texts,
    token=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
    headers=headers_of_parts,
    parts=st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 2**33)), min_size=1, max_size=3),
)
@example(
    version="v4",
    key="NUMBER0",
    upload_id="SIGNATURE0NUMBER1",
    token="SIGNATURE2",
    headers={},
    parts=[(7, 5)],
)
@example(version="v1", key="NUMBER0/SIGNATURE1", upload_id="NUMBER", token="NUMBER2", headers={}, parts=[(7, 5)])
def test_every_head_is_the_one_that_the_rules_give(*, version, key, upload_id, token, headers, parts):
    credentials = Credentials("id", "secret", token)
    sign, write = rules(version, key, credentials, headers)
    heads = PartHeads(query=query_of(upload_id), sign=sign, write=write)

    for part_number, size in parts:
        query = query_of(upload_id)(str(part_number))
        assert write(query, sign(query).signed(), size) == heads.head(part_number, size)


def test_the_rules_are_followed_once_for_many_parts():
    sign, write = rules("v4", "key", Credentials("id", "secret"), {})
    asked = []

    def counted(query):
        asked.append(query)
        return sign(query)

    heads = PartHeads(query=query_of("upload"), sign=counted, write=write)
    signatures = {re.search(rb"Signature=([0-9a-f]{64})", heads.head(number, 1))[1] for number in range(1, 101)}

    assert (len(asked), len(signatures)) == (1, 100)
