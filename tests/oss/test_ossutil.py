"""The configuration file of ossutil, versions 1 and 2."""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partwise.backends.oss import Credentials
from partwise.backends.oss.ossutil import Configuration, read_configuration
from partwise.errors import InvalidInput

VERSION_1 = """
[Credentials]
language=EN
accessKeyID = id1
accessKeySecret=secret1
stsToken = token1
endpoint=oss-cn-hangzhou.aliyuncs.com

[Bucket-Endpoint]
bucket-a = oss-cn-beijing.aliyuncs.com

[Bucket-Cname]
bucket-b = static.example.com
"""

VERSION_2 = """
# a comment
[default]
access-key-id = id1
access-key-secret = secret1   # another
region = cn-hangzhou

[Profile Dev]
accessKeyId = id2
ACCESS_KEY_SECRET = secret2
sts_token = token2
mode = StsToken
endpoint = http://127.0.0.1:9000
addressing-style = Path

[profile role]
mode = EcsRamRole
region = cn-beijing

[buckets special]
region = cn-shanghai
endpoint = oss-cn-shanghai-internal.aliyuncs.com
addressing-style = virtual
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_missing_file_is_empty(tmp_path):
    assert read_configuration("b", path=tmp_path / "none") == Configuration()


def test_the_file_is_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / ".ossutilconfig").write_text(VERSION_1)
    assert read_configuration("b").credentials == Credentials("id1", "secret1", "token1")


@pytest.mark.parametrize(
    ("bucket", "endpoint", "style"),
    [
        ("other", "oss-cn-hangzhou.aliyuncs.com", None),
        ("bucket-a", "oss-cn-beijing.aliyuncs.com", None),
        ("bucket-b", "static.example.com", "cname"),
    ],
)
def test_version_1(file, bucket, endpoint, style):
    found = read_configuration(bucket, path=file(VERSION_1))
    assert found == Configuration(Credentials("id1", "secret1", "token1"), None, endpoint, style)


@pytest.mark.parametrize(
    ("bucket", "profile", "expected"),
    [
        ("b", None, Configuration(Credentials("id1", "secret1"), "cn-hangzhou", None, None)),
        ("b", "default", Configuration(Credentials("id1", "secret1"), "cn-hangzhou", None, None)),
        ("b", "dev", Configuration(Credentials("id2", "secret2", "token2"), None, "http://127.0.0.1:9000", "path")),
        ("b", "role", Configuration(None, "cn-beijing", None, None, "EcsRamRole")),
        (
            "special",
            None,
            Configuration(
                Credentials("id1", "secret1"), "cn-shanghai", "oss-cn-shanghai-internal.aliyuncs.com", "virtual"
            ),
        ),
    ],
)
def test_version_2(file, bucket, profile, expected):
    assert expected == read_configuration(bucket, path=file(VERSION_2), profile=profile)


def test_the_default_profile_may_have_the_long_section_name(file):
    text = "[profile default]\naccess-key-id=a\naccess-key-secret=b\n"
    for profile in (None, "default"):
        assert read_configuration("b", path=file(text), profile=profile).credentials == Credentials("a", "b")


@pytest.mark.parametrize("text", ["", "[default]\n", "[default]\naccess-key-id=a\n", "[Credentials]\nlanguage=EN\n"])
def test_a_file_without_keys_has_no_credentials(file, text):
    assert read_configuration("b", path=file(text)).credentials is None


def test_a_missing_profile_is_an_error(file):
    with pytest.raises(InvalidInput, match="has no profile 'prod'"):
        read_configuration("b", path=file(VERSION_2), profile="prod")


@pytest.mark.parametrize(
    "text",
    [
        "accessKeySecret=hunter2\n",
        "[Credentials]\nhunter2\n",
        "[Cred\nx=hunter2",
        b"accessKeySecret=hunter2\xff",
        b"[Credentials]\nhunter2=\xff",
        "[Credentials]\n  hunter2\n = hunter2\n",
        "[Credentials]\nx=1\n" + "hunter2" * 700_000,
    ],
)
def test_a_broken_file_is_refused_and_not_shown(file, text):
    with pytest.raises(InvalidInput) as raised:
        read_configuration("b", path=file(text))
    error = raised.value
    assert str(file(text)) in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    # Error trackers record the local variables of frames.
    captured = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in captured.stack if "test_" not in frame.filename]
    assert "hunter2" not in repr([(frame.line, frame.locals) for frame in frames])


@pytest.mark.parametrize("secret", ["hunter2 hunter2", "hunter2\u00e9", "hunter2\x00"])
def test_an_invalid_access_key_is_reported_and_not_shown(file, secret):
    text = f"[default]\naccess-key-id=id\naccess-key-secret={secret}\nregion=cn-hangzhou\n"
    found = read_configuration("b", path=file(text))
    assert (found.credentials, found.region) == (None, "cn-hangzhou")
    assert f"in {file(text)} the access_key_secret contains" in found.problem
    assert "hunter2" not in repr(found)


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read"):
        read_configuration("b", path=tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "config")
    with pytest.raises(InvalidInput, match="not a regular file"):
        read_configuration("b", path=tmp_path / "config")


def test_a_huge_file_is_not_read_completely(tmp_path):
    with (tmp_path / "config").open("wb") as sparse:
        sparse.truncate(10**10)
    with pytest.raises(InvalidInput, match="has more than 4194304 bytes"):
        read_configuration("b", path=tmp_path / "config")


def no_home(monkeypatch):
    def fail(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", fail)


def test_without_a_home_directory_the_default_file_is_empty(monkeypatch):
    no_home(monkeypatch)
    assert read_configuration("b") == Configuration()


def test_without_a_home_directory_an_explicit_file_is_an_error(monkeypatch):
    no_home(monkeypatch)
    with pytest.raises(InvalidInput, match="this user has no home directory"):
        read_configuration("b", path="~/other")


@pytest.mark.parametrize("home", ["/nonexistent", "file"])
def test_an_invalid_home_directory_counts_as_missing(tmp_path, monkeypatch, home):
    (tmp_path / "file").touch()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / home))
    assert read_configuration("b") == Configuration()


@settings(max_examples=30)
@given(st.text(max_size=80) | st.binary(max_size=80))
@example("[a]\n b\n")
@example("[default]\naccess-key-id=a\naccess-key-secret= \x00\n")
def test_an_arbitrary_file_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config")
        for text in (content, f"[default]\n{content}" if isinstance(content, str) else b"[default]\n" + content):
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            with contextlib.suppress(InvalidInput):
                read_configuration("b", path=path)
