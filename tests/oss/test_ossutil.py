"""The configuration file of ossutil, of both generations."""

from __future__ import annotations

import pytest

from partwise.backends.oss import Credentials
from partwise.backends.oss.ossutil import Configuration, read_configuration
from partwise.errors import InvalidInput

FIRST = """
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

SECOND = """
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


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    assert read_configuration("b", path=tmp_path / "none") == Configuration()


def test_the_file_is_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / ".ossutilconfig").write_text(FIRST)
    assert read_configuration("b").credentials == Credentials("id1", "secret1", "token1")


@pytest.mark.parametrize(
    ("bucket", "endpoint", "style"),
    [
        ("other", "oss-cn-hangzhou.aliyuncs.com", None),
        ("bucket-a", "oss-cn-beijing.aliyuncs.com", None),
        ("bucket-b", "static.example.com", "cname"),
    ],
)
def test_the_first_generation(file, bucket, endpoint, style):
    found = read_configuration(bucket, path=file(FIRST))
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
def test_the_second_generation(file, bucket, profile, expected):
    assert expected == read_configuration(bucket, path=file(SECOND), profile=profile)


def test_a_default_profile_by_its_long_name(file):
    text = "[profile default]\naccess-key-id=a\naccess-key-secret=b\n"
    for profile in (None, "default"):
        assert read_configuration("b", path=file(text), profile=profile).credentials == Credentials("a", "b")


@pytest.mark.parametrize("text", ["", "[default]\n", "[default]\naccess-key-id=a\n", "[Credentials]\nlanguage=EN\n"])
def test_a_file_without_keys_has_no_credentials(file, text):
    assert read_configuration("b", path=file(text)).credentials is None


def test_a_profile_that_is_not_there_is_an_error(file):
    with pytest.raises(InvalidInput, match="has no profile 'prod'"):
        read_configuration("b", path=file(SECOND), profile="prod")


@pytest.mark.parametrize("text", ["accessKeySecret=hunter2\n", "[Credentials]\nhunter2\n", "[Cred\nx=hunter2", b"\xff"])
def test_a_file_that_is_none_is_refused_without_being_shown(file, text):
    with pytest.raises(InvalidInput) as raised:
        read_configuration("b", path=file(text))
    assert str(file(text)) in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or "hunter2" not in str(raised.value.__context__)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read"):
        read_configuration("b", path=tmp_path)
