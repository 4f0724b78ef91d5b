"""The words for options that all storages share are documented, with what backends make of them."""

from __future__ import annotations

import pytest

from partwise.backends._http.option_headers import RequestKind
from partwise.backends.oss.options import OPTION_TABLE
from partwise.backends.s3 import DIALECTS
from partwise.backends.s3.dialects import AWS
from partwise.backends.s3.options import _ENCRYPTION_WORDS
from partwise.cli.object_options import _WORDS
from partwise.model import ObjectOptions


@pytest.fixture
def words(section, tables, names) -> list[tuple[str, str, str, str]]:
    """Of each word in the table: its option, itself, and the words of OSS and S3."""
    found, option = [], ""
    for row in tables(section("reference/api", "Object properties"))[0]:
        option = next(iter(names(row["option"])), option)
        for word in names(row["word"]):
            at = names(row["word"]).index(word)
            natives = [[word] if row[column] == "the same" else names(row[column]) for column in ("OSS", "S3")]
            found.append((option, word, *(native[min(at, len(native) - 1)] for native in natives)))
    return found


def test_every_word_is_documented(words) -> None:
    documented = {option: {word for other, word, *_ in words if other == option} for option, *_ in words}
    assert documented == {option: set(known) for option, known in _WORDS.items()}


def test_oss_gets_its_own_words(words) -> None:
    for option, word, native, _ in words:
        options = ObjectOptions(**{option: word})
        OPTION_TABLE.check(options)
        headers = OPTION_TABLE.headers(RequestKind.PUT, options)
        assert list(headers.values()) == [native]


def test_s3_gets_its_own_words(words) -> None:
    natives = {"storage_class": AWS.class_words, "encryption": _ENCRYPTION_WORDS, "acl": {}}
    for option, word, _, native in words:
        assert natives[option].get(word, word) == native


#: The options that a word in the table of the dialects stands for.
REFUSED = {
    "access rules": {"acl"},
    "conditions": {"forbid_overwrite", "if_match"},
    "encryption": {"encryption", "kms_key_id", "bucket_key", "encryption_context"},
    "KMS": {"kms_key_id", "bucket_key", "encryption_context"},
    "lock": {"object_lock_mode", "object_lock_retain_until", "object_lock_legal_hold"},
    "SSE-C": {"sse_customer_key"},
    "tags": {"tags"},
}


def test_each_dialect_refuses_what_its_row_says(section, tables, names) -> None:
    text = section("s3", "Other storages that speak S3")
    rows = {names(row["dialect"])[0]: row["what is refused"] for row in tables(text)[0]}

    assert "All but `aws` also refuse `request_payer` and `expected_bucket_owner`" in text
    assert "all but `aws` and `ceph` refuse `website_redirect`" in text
    assert rows.keys() == DIALECTS.keys()
    for name, dialect in DIALECTS.items():
        words = rows[name].partition(";")[0].split(", ") if rows[name] else []
        options = set().union(*(REFUSED.get(word, {word.strip("`")}) for word in words))
        options |= set() if name == "aws" else {"request_payer", "expected_bucket_owner"}
        options |= set() if name in {"aws", "ceph"} else {"website_redirect"}
        assert options == dialect.refused_options, name
