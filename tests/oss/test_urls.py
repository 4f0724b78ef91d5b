"""``oss://bucket/key``, with settings from the environment and from ossutil's file."""

from __future__ import annotations

import pytest

from partwise.backends.oss import Credentials, OSSBackend, open_url
from partwise.errors import InvalidInput

SETTINGS = {"region": "cn-hangzhou", "credentials": Credentials("id", "secret")}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An environment without settings."""
    for name in (
        "OSS_REGION",
        "OSS_ENDPOINT",
        "OSS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_SECRET",
        "OSS_SESSION_TOKEN",
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / ".ossutilconfig").write_text(text)

    return write


def opened(url="oss://examplebucket/key", **settings) -> OSSBackend:
    backend, _ = open_url(url, **settings)
    backend.close()
    return backend


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("oss://examplebucket/key", "key"),
        ("OSS://examplebucket/key", "key"),
        ("oss://examplebucket/dir/key", "dir/key"),
        ("oss://examplebucket/a%20b?c=d#e f+g", "a%20b?c=d#e f+g"),
        ("oss://examplebucket//x", "/x"),
        ("oss://examplebucket/a/../b", "a/../b"),
        ("oss://examplebucket/中文", "中文"),
        ("oss://examplebucket/", ""),
        ("oss://examplebucket", ""),
    ],
)
def test_the_key_is_everything_after_the_bucket_unchanged(url, key):
    backend, found = open_url(url, **SETTINGS)
    backend.close()
    assert (key, "examplebucket") == (found, backend.bucket)


@pytest.mark.parametrize("url", ["oss://", "oss:///key", "s3://examplebucket/key", "examplebucket/key", ""])
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(InvalidInput, match="is not the URL of an object in OSS"):
        open_url(url, **SETTINGS)


def test_the_error_for_an_unknown_setting_lists_the_known_ones():
    with pytest.raises(
        InvalidInput, match=r"unknown setting for an oss:// URL: colour, size; the settings are .*ca_bundle.*region"
    ):
        open_url("oss://examplebucket/key", **SETTINGS, colour="red", size=1)


def test_a_setting_of_none_counts_as_missing():
    assert opened(**SETTINGS, endpoint=None, timeout=None, profile=None, proxy=None).region == "cn-hangzhou"


def test_settings_reach_the_backend():
    backend = opened(
        credentials=SETTINGS["credentials"],
        endpoint="http://127.0.0.1:1",
        region="cn-hangzhou",
        addressing_style="cname",
        timeout=7,
        max_connections=3,
    )
    assert backend.endpoint == "http://127.0.0.1:1"
    assert (backend._pickle_state.settings["connect_timeout"], backend._pickle_state.settings["read_timeout"]) == (7, 7)
    assert (backend._pickle_state.settings["addressing_style"], backend._pickle_state.settings["max_connections"]) == (
        "cname",
        3,
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"signature_version": "v1"},
        {"connect_timeout": 1.0},
        {"read_timeout": 1.0},
        {"timeout": 1.0},
        {"proxy": "http://127.0.0.1:1"},
        {"max_connections": 1},
        {"page_size": 10},
        {"user_agent": "tests"},
        {"addressing_style": "path"},
        {"endpoint": "http://127.0.0.1:1"},
        {"ca_bundle": None},
        {"profile": None},
        {"config_file": None},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_every_documented_setting_is_accepted(setting):
    settings = opened(**SETTINGS, **setting)._pickle_state.settings
    if setting.keys() == {"timeout"}:
        setting = {"connect_timeout": setting["timeout"], "read_timeout": setting["timeout"]}
    for name in setting.keys() - {"endpoint", "profile", "config_file"}:
        assert settings[name] == setting[name], settings


def test_a_specific_timeout_takes_precedence():
    backend = opened(**SETTINGS, timeout=7, connect_timeout=1)
    assert (backend._pickle_state.settings["connect_timeout"], backend._pickle_state.settings["read_timeout"]) == (1, 7)


# --- region and endpoint ---------------------------------------------------------------------------------------------


def test_without_region_and_endpoint_the_hint_names_all_sources():
    with pytest.raises(InvalidInput, match=r"region= or endpoint=, or set OSS_REGION or OSS_ENDPOINT, or write one to"):
        open_url("oss://examplebucket/key", credentials=SETTINGS["credentials"])


@pytest.mark.parametrize(("variable", "value"), [("OSS_REGION", "cn hangzhou"), ("OSS_ENDPOINT", "ftp://a:secret@b")])
def test_an_invalid_variable_is_named_and_does_not_matter_if_it_is_not_used(monkeypatch, config, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=rf"^{variable}: .* is not a valid") as caught:
        open_url("oss://examplebucket/key", credentials=SETTINGS["credentials"])
    assert "secret" not in str(caught.value)
    assert opened(**SETTINGS, endpoint="oss-cn-hangzhou.aliyuncs.com").region == "cn-hangzhou"
    config("[profile work]\nregion=cn-beijing\nendpoint=oss-cn-beijing.aliyuncs.com\n")
    assert opened(credentials=SETTINGS["credentials"], profile="work").region == "cn-beijing"


def test_an_empty_variable_counts_as_missing(monkeypatch, config):
    config("[default]\nregion=cn-beijing\n")
    monkeypatch.setenv("OSS_REGION", "")
    monkeypatch.setenv("OSS_ENDPOINT", "")
    assert opened(credentials=SETTINGS["credentials"]).region == "cn-beijing"


def test_with_an_endpoint_of_oss_the_file_is_not_read(config):
    config("no configuration at all")
    backend = opened(credentials=SETTINGS["credentials"], endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.region == "cn-hangzhou"


CONFIG = "[default]\naccess-key-id=fileid\naccess-key-secret=filesecret\nregion=cn-beijing\n"


HANGZHOU, BEIJING = "oss-cn-hangzhou.aliyuncs.com", "oss-cn-beijing.aliyuncs.com"
FINANCE, GATE = "oss-cn-hzjbp-a.aliyuncs.com", "gate.example.com"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (({}, {"OSS_REGION": "cn-beijing"}, ""), (BEIJING, "cn-beijing")),
        (({}, {"OSS_ENDPOINT": BEIJING}, ""), (BEIJING, "cn-beijing")),
        (({}, {}, CONFIG), (BEIJING, "cn-beijing")),
        (({"region": "cn-hangzhou"}, {"OSS_REGION": "cn-beijing"}, ""), (HANGZHOU, "cn-hangzhou")),
        (({}, {"OSS_REGION": "cn-hangzhou"}, CONFIG), (HANGZHOU, "cn-hangzhou")),
        # Region and endpoint from different sources.
        (({"region": "r-1"}, {"OSS_ENDPOINT": GATE}, ""), (GATE, "r-1")),
        (({"endpoint": GATE}, {"OSS_REGION": "r-1"}, ""), (GATE, "r-1")),
        # Sources that contradict each other: the one of higher precedence wins.
        (({"endpoint": HANGZHOU}, {"OSS_REGION": "cn-beijing"}, ""), (HANGZHOU, "cn-hangzhou")),
        (({"region": "cn-hangzhou"}, {"OSS_ENDPOINT": BEIJING}, ""), (HANGZHOU, "cn-hangzhou")),
        (({}, {"OSS_ENDPOINT": HANGZHOU}, CONFIG), (HANGZHOU, "cn-hangzhou")),
        # One source that seems to contradict itself is trusted.
        (({"endpoint": FINANCE, "region": "cn-hzfinance"}, {}, ""), (FINANCE, "cn-hzfinance")),
        (({}, {"OSS_ENDPOINT": FINANCE, "OSS_REGION": "cn-hzfinance"}, ""), (FINANCE, "cn-hzfinance")),
    ],
)
def test_region_and_endpoint_follow_the_precedence_of_sources(monkeypatch, config, sources, expected):
    settings, environment, file = sources
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config(file)
    backend = opened(credentials=SETTINGS["credentials"], **settings)
    host, region = expected
    assert (f"https://examplebucket.{host}", region) == (backend.endpoint, backend.region)


@pytest.mark.parametrize("region", ["cn-hangzhou", "oss-cn-hangzhou", " cn-hangzhou "])
def test_an_endpoint_of_the_same_region_is_used_however_the_region_is_written(monkeypatch, region):
    monkeypatch.setenv("OSS_ENDPOINT", "https://oss-cn-hangzhou-internal.aliyuncs.com")
    backend = opened(credentials=SETTINGS["credentials"], region=region)

    assert backend.endpoint == "https://examplebucket.oss-cn-hangzhou-internal.aliyuncs.com"
    assert backend.region == "cn-hangzhou"


def test_a_custom_domain_from_the_file_implies_cname(config):
    config("[Credentials]\naccessKeyID=a\naccessKeySecret=b\n[Bucket-Cname]\nexamplebucket=static.example.com\n")
    assert opened(region="cn-hangzhou").endpoint == "https://static.example.com"


def test_an_explicit_style_applies_to_an_endpoint_from_the_file(config):
    config("[default]\nendpoint=static.example.com\n")
    backend = opened(credentials=SETTINGS["credentials"], region="cn-hangzhou", addressing_style="cname")
    assert backend.endpoint == "https://static.example.com"


def test_the_style_of_the_file_does_not_apply_to_another_endpoint(config):
    config("[default]\nendpoint=static.example.com\naddressing-style=cname\n")
    backend = opened(credentials=SETTINGS["credentials"], endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.endpoint == "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"


# --- credentials -----------------------------------------------------------------------------------------------------


def keys_of(backend: OSSBackend) -> str:
    return backend._client._credentials.current().credentials.access_key_secret


def test_without_credentials_the_hint_names_all_sources():
    with pytest.raises(InvalidInput, match=r"OSS_ACCESS_KEY_ID.*~/.ossutilconfig"):
        open_url("oss://examplebucket/key", region="cn-hangzhou")


def test_the_error_names_a_mode_that_only_ossutil_supports(config):
    config("[default]\nmode=EcsRamRole\nregion=cn-hangzhou\n")
    with pytest.raises(InvalidInput, match="mode 'EcsRamRole'"):
        open_url("oss://examplebucket/key")


def test_the_environment_takes_precedence_over_the_file(monkeypatch, config):
    config(CONFIG)
    assert keys_of(opened()) == "filesecret"
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "environment")
    assert keys_of(opened()) == "environment"
    assert keys_of(opened(credentials=SETTINGS["credentials"])) == "secret"


def test_an_explicit_profile_takes_precedence_over_the_environment(monkeypatch, config):
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "environment")
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    config(CONFIG + "[profile dev]\naccess-key-id=a\naccess-key-secret=dev\nregion=cn-shanghai\n[profile bare]\n")
    backend = opened(profile="dev")
    assert (keys_of(backend), backend.region) == ("dev", "cn-shanghai")
    backend = opened(profile="bare")
    assert (keys_of(backend), backend.region) == ("environment", "cn-hangzhou")


def test_another_file_can_be_given(tmp_path):
    path = tmp_path / "other"
    path.write_text(CONFIG)
    assert keys_of(opened(config_file=path)) == "filesecret"


@pytest.fixture
def unreadable(config, tmp_path):
    """A configuration that can't be read, even by root."""
    (tmp_path / ".ossutilconfig").mkdir()


KEYS = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "environment"}


@pytest.mark.parametrize(
    "where",
    [
        {"OSS_REGION": "cn-hangzhou"},
        {"OSS_ENDPOINT": HANGZHOU},
        {"OSS_REGION": "cn-hangzhou", "OSS_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.usefixtures("unreadable")
def test_an_unreadable_file_is_ignored_if_nothing_is_missing(monkeypatch, where):
    for name, value in {**KEYS, **where}.items():
        monkeypatch.setenv(name, value)
    backend = opened(**({"region": "cn-hangzhou"} if "OSS_REGION" not in where else {}))
    assert (keys_of(backend), backend.region) == ("environment", "cn-hangzhou")


def test_the_file_is_not_read_if_nothing_is_missing(monkeypatch):
    for name, value in {**KEYS, "OSS_REGION": "r-1", "OSS_ENDPOINT": GATE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("partwise.backends.oss.urls.read_configuration", lambda *_, **__: pytest.fail("it was read"))
    assert opened().region == "r-1"
    monkeypatch.delenv("OSS_REGION")
    assert opened(region="r-2").region == "r-2"
    monkeypatch.setenv("OSS_ENDPOINT", HANGZHOU)
    assert opened().region == "cn-hangzhou"


@pytest.mark.parametrize("missing", ["OSS_REGION", "OSS_ACCESS_KEY_ID"])
@pytest.mark.usefixtures("unreadable")
def test_an_unreadable_file_is_an_error_if_a_setting_is_missing(monkeypatch, missing):
    for name, value in {**KEYS, "OSS_REGION": "cn-hangzhou"}.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match="can't be read"):
        open_url("oss://examplebucket/key")


def test_an_invalid_key_in_the_file_is_an_error_only_if_it_is_used(monkeypatch, config):
    config("[default]\naccess-key-id=a\naccess-key-secret=hunter2 hunter2\nregion=cn-beijing\n")
    with pytest.raises(InvalidInput, match="the access_key_secret contains a space") as raised:
        open_url("oss://examplebucket/key")
    assert "hunter2" not in str(raised.value)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert (keys_of(opened()), opened().region) == ("environment", "cn-beijing")


def test_a_broken_file_is_an_error_only_if_it_is_needed(config):
    config("no configuration at all")
    backend = opened(**SETTINGS, endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.region == "cn-hangzhou"
    with pytest.raises(InvalidInput, match="not a configuration file of ossutil"):
        open_url("oss://examplebucket/key", region="cn-hangzhou")
