"""Which keys can be paths, and which URLs name a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from partwise.backends.local.keys import split_file_url, split_key
from partwise.errors import InvalidInput, InvalidKey


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "./a",
        "a/../b",
        "a/.",
        "../a",
        "a\\b",
        "..\\a",
        "a\0b",
        "\udc80",
        ".partwise",
        ".partwise/uploads/x",
        ".PartWise/x",
        ".part\u200cwise/uploads/x",
        "\u00ad.partwise",
        ".PARTWISE\ufeff/x",
        ".partwise\ufe0f",
        "x" * 256,
        "a/" + "é" * 128,
    ],
)
def test_a_key_that_is_not_a_path_in_the_directory_is_refused_everywhere(key, windows):
    with pytest.raises(InvalidKey):
        split_key(key, windows=windows)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "key",
    [
        *("a", "a/b/c", "a b", ".a", "a.b", "...a", "a/.partwise", "partwise", "x" * 255, "é" * 127, "con1", "comma"),
        *("a\u200cb", "a/.part\u200cwise", ".partwise\u0301"),
    ],
)
def test_other_keys_are_split_at_the_slashes(key, windows):
    assert split_key(key, windows=windows) == tuple(key.split("/"))


@pytest.mark.parametrize(
    "key",
    [
        "c:/a",
        "a:b",
        'a"b',
        "a<b",
        "a>b",
        "a|b",
        "a?b",
        "a*b",
        "a\nb",
        "a\x1f",
        "a.",
        "a ",
        "...",
        "a ./b",
        "con",
        "CON",
        "a/Nul",
        "aux.txt",
        "prn.tar.gz",
        "com1",
        "LPT9.x",
        "com¹",
        "conin$",
        "nul .txt",
        "PARTWI~1/uploads",
        "pa12ef~1",
    ],
)
def test_what_windows_can_not_store_is_refused_only_there(key):
    assert split_key(key, windows=False)
    with pytest.raises(InvalidKey):
        split_key(key, windows=True)


def test_the_message_shows_no_more_than_the_start_of_a_long_key():
    with pytest.raises(InvalidKey) as caught:
        split_key("x" * 10_000, windows=False)

    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("url", "directory", "key"),
    [
        ("file:///dir/key", "/dir", "key"),
        ("file:///dir/sub/key", "/dir/sub", "key"),
        ("file:///dir/", "/dir", ""),
        ("file:///key", "/", "key"),
        ("file:///", "/", ""),
        ("file://localhost/dir/key", "/dir", "key"),
        ("file://LOCALHOST/dir/key", "/dir", "key"),
        ("FILE:///dir/key", "/dir", "key"),
        ("file:/dir/key", "/dir", "key"),
        ("file:///a%20dir/a%20key", "/a dir", "a key"),
        ("file:///dir/a%2Fb%3F%23", "/dir", "a/b?#"),
        ("file:///d%C3%BC/%E2%82%AC", "/dü", "€"),
        ("file:///C:/dir/key", "/C:/dir", "key"),
    ],
)
def test_a_url_is_split_into_directory_and_key(url, directory, key):
    assert split_file_url(url, windows=False) == (Path(directory), key)


@pytest.mark.parametrize(
    ("url", "directory", "key"),
    [
        ("file:///C:/dir/key", "C:/dir", "key"),
        ("file:///c:/key", "c:/", "key"),
        ("file:///C:/dir/", "C:/dir", ""),
        ("file:///share/key", "/share", "key"),
    ],
)
def test_on_windows_a_url_may_start_with_a_drive(url, directory, key):
    assert split_file_url(url, windows=True) == (Path(directory), key)


@pytest.mark.parametrize(
    "url",
    [
        "file://host/dir/key",
        "file:dir/key",
        "file:",
        "file:///dir/key?x=1",
        "file:///dir/key?",
        "file:///dir/key#part",
        "file:///d%00ir/key",
        "file://[x/key",
        "file://dir[1]/key",
        "oss://bucket/key",
        "/dir/key",
    ],
)
def test_another_url_is_refused(url):
    with pytest.raises(InvalidInput):
        split_file_url(url, windows=False)
