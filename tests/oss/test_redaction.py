"""What a server repeats of the secrets of a request is masked, however it writes it."""

from __future__ import annotations

import base64
import html
import json
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends.oss.redaction import contains, redacted

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
def test_a_secret_is_masked_however_it_is_written(secret, written):
    form = written(secret)
    shown = redacted(f"before <{form}> after", SECRETS)

    assert shown.startswith("before <")
    assert shown.endswith("> after")
    assert "***" in shown
    assert not any(form[at : at + 12] in shown for at in range(len(form) - 11))


def test_what_stands_around_a_secret_stays():
    assert redacted(f"a{SECRET}b{TOKEN}{SECRET} c", SECRETS) == "a***b****** c"


@given(st.text(string.ascii_letters + string.digits + "+/=.", min_size=12, max_size=60), st.text(), st.text())
def test_no_part_of_a_secret_that_is_recognisable_is_left(secret, before, after):
    shown = redacted(f"{before}{secret}{after}", [secret])
    assert not any(secret[at : at + 12] in shown for at in range(len(secret) - 11))


@given(st.text(max_size=80))
def test_a_text_without_a_secret_is_left_as_it_is(text):
    if "token" not in text.lower():
        assert redacted(text, SECRETS) == text


def test_a_short_secret_is_masked_as_a_whole_and_one_of_a_test_is_not():
    assert redacted("hunter2 Hunter2", ["hunter2"]) == "*** Hunter2"
    assert redacted("Words", ["o", "abc", ""]) == "Words"


def test_the_token_of_another_request_is_masked_by_its_name():
    assert redacted("x-oss-security-token:abc\n/b", ()) == "x-oss-security-token:***\n/b"


@pytest.mark.parametrize("written", ["as it is", "quoted in a path", "in base64", "in hexadecimal"])
def test_a_whole_secret_is_found_in_bytes(written):
    assert contains(b"x" * 100_000 + WRITTEN[written](TOKEN).encode(), SECRETS)
    assert not contains(b"x" * 100_000 + TOKEN[:10].encode(), SECRETS)
