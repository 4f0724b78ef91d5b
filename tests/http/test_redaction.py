"""Secrets that a server repeats are masked, in whatever form."""

from __future__ import annotations

import base64
import html
import json
import random
import string
import tracemalloc
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._http.redaction import contains, redact

TOKEN = "STS.testtoken/with+chars=and==padding"
SECRET = "hunter2SecretKeyOfThirtyLetter"
SECRETS = (SECRET, TOKEN)

WRITTEN = {
    "as it is": lambda text: text,
    "in upper case": str.upper,
    "in lower case": str.lower,
    "quoted": lambda text: quote(text, safe=""),
    "quoted in a path": lambda text: quote(text, safe="/"),
    "quoted with small letters": lambda text: quote(text, safe="").lower(),
    "quoted twice": lambda text: quote(quote(text, safe=""), safe=""),
    "in a form": quote_plus,
    "in HTML": html.escape,
    "in JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in the base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "in the base64 of more, shifted by one": lambda text: base64.b64encode(b"xyz:" + text.encode() + b"!").decode(),
    "in the base64 of more, shifted by two": lambda text: base64.b64encode(b"uv:xy" + text.encode() + b"!!").decode(),
    "in hexadecimal": lambda text: text.encode().hex(),
    "in hexadecimal with spaces": lambda text: text.encode().hex(" ").upper(),
    "its first half": lambda text: text[: len(text) // 2],
    "its second half": lambda text: text[len(text) // 2 :],
    "all but its ends": lambda text: text[3:-3],
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_secret_is_masked_in_every_form(secret, written):
    form = written(secret)
    shown = redact(f"before <{form}> after", SECRETS)

    assert shown.startswith("before <")
    assert shown.endswith("> after")
    assert "***" in shown
    assert not any(form[at : at + 12] in shown for at in range(len(form) - 11))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", [name for name in WRITTEN if "base64" not in name])
def test_the_shortest_recognisable_part_is_masked_wherever_it_begins(secret, form):
    text = WRITTEN[form](secret)
    parts = [text[at : at + 12] for at in range(len(text) - 11)]
    assert parts
    assert [part for part in parts if redact(f"<{part}>", SECRETS) != "<***>"] == []


def test_the_text_around_a_secret_is_kept():
    assert redact(f"a{SECRET}b{TOKEN}{SECRET} c", SECRETS) == "a***b****** c"


def test_secrets_that_overlap_are_masked_once():
    assert redact("<abcdefghijklmnopqrstuv>", ["abcdefghijklmnop", "ghijklmnopqrstuv"]) == "<***>"


def test_a_secret_in_a_long_text_is_masked_without_taking_many_times_its_memory():
    words = "".join(random.Random(1).choices(string.ascii_lowercase, k=64 * 1024))
    tracemalloc.start()
    shown = redact(f"{words} {TOKEN[5:25]} {words}", SECRETS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert shown == f"{words} *** {words}"
    assert peak < 8 * len(shown)


@given(st.text(string.ascii_letters + string.digits + "+/=.", min_size=12, max_size=60), st.text(), st.text())
def test_no_recognisable_part_of_a_secret_remains(secret, before, after):
    shown = redact(f"{before}{secret}{after}", [secret])
    assert not any(secret[at : at + 12] in shown for at in range(len(secret) - 11))


@given(st.text(max_size=80))
def test_a_text_without_a_secret_is_unchanged(text):
    if "token" not in text.lower():
        assert redact(text, SECRETS) == text


def test_a_short_secret_is_masked_only_as_a_whole_and_one_below_four_characters_never():
    assert redact("hunter2 Hunter2", ["hunter2"]) == "*** Hunter2"
    assert redact("Words", ["o", "abc", ""]) == "Words"


def test_a_security_token_is_masked_by_its_name_even_if_it_is_unknown():
    assert redact("x-oss-security-token:abc\n/b", ()) == "x-oss-security-token:***\n/b"


@pytest.mark.parametrize("written", ["as it is", "quoted in a path", "in base64", "in hexadecimal"])
def test_a_whole_secret_in_one_of_its_forms_is_found_in_bytes(written):
    assert contains(b"x" * 100_000 + WRITTEN[written](TOKEN).encode(), SECRETS)
    assert not contains(b"x" * 100_000 + TOKEN[:10].encode(), SECRETS)
