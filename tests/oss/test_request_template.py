"""Heads from the template are equal to those from the general code."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from partwise.backends._http.http1 import request_head
from partwise.backends._http.request_template import PartRequestTemplate
from partwise.backends.oss.credentials import Credentials
from partwise.backends.oss.signing import Signable, encoded_key, encoded_query, prepare_v1, prepare_v4

NOW = 1_700_000_000.0
FIXED = "Host: h\r\n"

texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=30)
headers_of_parts = st.dictionaries(
    st.sampled_from(["x-oss-traffic-limit", "x-oss-request-payer", "x-other"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)


def query_of(upload_id):
    return lambda number: (("partNumber", number), ("uploadId", upload_id))


def general_code(version, key, credentials, headers):
    """The general code: how a request is signed, and how its head is built."""

    def prepare(query):
        signable = Signable("PUT", "bucket", key, query, headers)
        if version == "v4":
            return prepare_v4(credentials, signable, NOW, region="r")
        return prepare_v1(credentials, signable, NOW)

    def build(query, added, length=None):
        target = f"/{encoded_key(key)}?{encoded_query(query)}"
        return request_head("PUT", target, FIXED, {**headers, **added}, length)

    return prepare, build


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
def test_every_head_is_equal_to_that_of_the_general_code(*, version, key, upload_id, token, headers, parts):
    credentials = Credentials("id", "secret", token)
    prepare, build = general_code(version, key, credentials, headers)
    template = PartRequestTemplate(query=query_of(upload_id), prepare=prepare, build=build)

    for part_number, size in parts:
        query = query_of(upload_id)(str(part_number))
        assert build(query, prepare(query).signed(), size) == template.head(part_number, size)


def test_the_general_code_runs_once_for_many_parts():
    prepare, build = general_code("v4", "key", Credentials("id", "secret"), {})
    queries = []

    def counted(query):
        queries.append(query)
        return prepare(query)

    template = PartRequestTemplate(query=query_of("upload"), prepare=counted, build=build)
    signatures = {re.search(rb"Signature=([0-9a-f]{64})", template.head(number, 1))[1] for number in range(1, 101)}

    assert (len(queries), len(signatures)) == (1, 100)
