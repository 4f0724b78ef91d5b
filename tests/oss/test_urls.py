"""``oss://bucket/key``, and what lies around it."""

from __future__ import annotations

import pytest

from partwise.backends.oss import Credentials, OSSBackend, open_url
from partwise.errors import InvalidInput

PLACE = {"region": "cn-hangzhou", "credentials": Credentials("id", "secret")}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An environment in which nothing is said."""
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
def test_the_key_is_what_follows_the_bucket_letter_for_letter(url, key):
    backend, found = open_url(url, **PLACE)
    backend.close()
    assert (key, "examplebucket") == (found, backend.bucket)


@pytest.mark.parametrize("url", ["oss://", "oss:///key", "s3://examplebucket/key", "examplebucket/key", ""])
def test_a_url_that_names_no_bucket_is_refused(url):
    with pytest.raises(InvalidInput, match="write oss://bucket/key"):
        open_url(url, **PLACE)


def test_an_unknown_setting_is_refused_and_the_known_are_named():
    with pytest.raises(InvalidInput, match=r"no setting colour, size; there are .*ca_bundle.*region"):
        open_url("oss://examplebucket/key", **PLACE, colour="red", size=1)


def test_a_setting_that_is_none_is_left_out():
    assert opened(**PLACE, endpoint=None, timeout=None, profile=None, proxy=None).region == "cn-hangzhou"


def test_settings_reach_the_backend():
    backend = opened(
        credentials=PLACE["credentials"],
        endpoint="http://127.0.0.1:1",
        region="cn-hangzhou",
        addressing_style="cname",
        timeout=7,
        max_connections=3,
    )
    assert backend.endpoint == "http://127.0.0.1:1"
    assert (backend._recipe.settings["connect_timeout"], backend._recipe.settings["read_timeout"]) == (7, 7)
    assert (backend._recipe.settings["addressing_style"], backend._recipe.settings["max_connections"]) == ("cname", 3)


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
def test_each_setting_that_is_documented_is_taken(setting):
    settings = opened(**PLACE, **setting)._recipe.settings
    for name in setting.keys() & settings.keys() - {"endpoint"}:
        assert setting[name] in (None, settings[name])


def test_a_timeout_of_its_own_goes_before_the_one_for_both():
    backend = opened(**PLACE, timeout=7, connect_timeout=1)
    assert (backend._recipe.settings["connect_timeout"], backend._recipe.settings["read_timeout"]) == (1, 7)


# --- where the bucket is ---------------------------------------------------------------------------------------------


def test_nothing_known_says_how_to_give_it():
    with pytest.raises(InvalidInput, match=r"region= or endpoint=, or set OSS_REGION or OSS_ENDPOINT, or write one to"):
        open_url("oss://examplebucket/key", credentials=PLACE["credentials"])


def test_a_variable_that_is_empty_says_nothing(monkeypatch, config):
    config("[default]\nregion=cn-beijing\n")
    monkeypatch.setenv("OSS_REGION", "")
    monkeypatch.setenv("OSS_ENDPOINT", "")
    assert opened(credentials=PLACE["credentials"]).region == "cn-beijing"


def test_an_endpoint_that_tells_its_region_needs_no_file(config):
    config("no configuration at all")
    backend = opened(credentials=PLACE["credentials"], endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.region == "cn-hangzhou"


CONFIG = "[default]\naccess-key-id=fileid\naccess-key-secret=filesecret\nregion=cn-beijing\n"


HANGZHOU, BEIJING = "oss-cn-hangzhou.aliyuncs.com", "oss-cn-beijing.aliyuncs.com"
FINANCE, GATE = "oss-cn-hzjbp-a.aliyuncs.com", "gate.example.com"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (({}, {"OSS_REGION": "cn-beijing"}, ""), (BEIJING, "cn-beijing")),
        (({}, {"OSS_ENDPOINT": BEIJING}, ""), (BEIJING, "cn-beijing")),
        (({}, {}, CONFIG), (BEIJING, "cn-beijing")),
        (({"region": "cn-hangzhou"}, {"OSS_REGION": "cn-beijing"}, ""), (HANGZHOU, "cn-hangzhou")),
        (({}, {"OSS_REGION": "cn-hangzhou"}, CONFIG), (HANGZHOU, "cn-hangzhou")),
        # Region and endpoint from two places.
        (({"region": "r-1"}, {"OSS_ENDPOINT": GATE}, ""), (GATE, "r-1")),
        (({"endpoint": GATE}, {"OSS_REGION": "r-1"}, ""), (GATE, "r-1")),
        # Two places that contradict each other: what was said more closely holds.
        (({"endpoint": HANGZHOU}, {"OSS_REGION": "cn-beijing"}, ""), (HANGZHOU, "cn-hangzhou")),
        (({"region": "cn-hangzhou"}, {"OSS_ENDPOINT": BEIJING}, ""), (HANGZHOU, "cn-hangzhou")),
        (({}, {"OSS_ENDPOINT": HANGZHOU}, CONFIG), (HANGZHOU, "cn-hangzhou")),
        # One place that seems to contradict itself knows better.
        (({"endpoint": FINANCE, "region": "cn-hzfinance"}, {}, ""), (FINANCE, "cn-hzfinance")),
        (({}, {"OSS_ENDPOINT": FINANCE, "OSS_REGION": "cn-hzfinance"}, ""), (FINANCE, "cn-hzfinance")),
    ],
)
def test_region_and_endpoint_come_from_the_closest_place(monkeypatch, config, said, found):
    settings, environment, file = said
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config(file)
    backend = opened(credentials=PLACE["credentials"], **settings)
    host, region = found
    assert (f"https://examplebucket.{host}", region) == (backend.endpoint, backend.region)


def test_the_files_custom_domain_comes_with_its_style(config):
    config("[Credentials]\naccessKeyID=a\naccessKeySecret=b\n[Bucket-Cname]\nexamplebucket=static.example.com\n")
    assert opened(region="cn-hangzhou").endpoint == "https://static.example.com"


def test_a_style_that_is_asked_for_goes_with_an_endpoint_from_elsewhere(config):
    config("[default]\nendpoint=static.example.com\n")
    backend = opened(credentials=PLACE["credentials"], region="cn-hangzhou", addressing_style="cname")
    assert backend.endpoint == "https://static.example.com"


def test_the_files_style_does_not_go_with_an_endpoint_from_elsewhere(config):
    config("[default]\nendpoint=static.example.com\naddressing-style=cname\n")
    backend = opened(credentials=PLACE["credentials"], endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.endpoint == "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"


# --- who asks --------------------------------------------------------------------------------------------------------


def keys_of(backend: OSSBackend) -> str:
    return backend._keyring.current().credentials.access_key_secret


def test_no_credentials_anywhere_says_how_to_give_them():
    with pytest.raises(InvalidInput, match=r"OSS_ACCESS_KEY_ID.*~/.ossutilconfig"):
        open_url("oss://examplebucket/key", region="cn-hangzhou")


def test_credentials_that_only_ossutil_can_get_are_named(config):
    config("[default]\nmode=EcsRamRole\nregion=cn-hangzhou\n")
    with pytest.raises(InvalidInput, match="mode 'EcsRamRole'"):
        open_url("oss://examplebucket/key")


def test_the_environment_goes_before_the_file(monkeypatch, config):
    config(CONFIG)
    assert keys_of(opened()) == "filesecret"
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "environment")
    assert keys_of(opened()) == "environment"
    assert keys_of(opened(credentials=PLACE["credentials"])) == "secret"


def test_a_profile_that_is_asked_for_goes_before_the_environment(monkeypatch, config):
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "environment")
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    config(CONFIG + "[profile dev]\naccess-key-id=a\naccess-key-secret=dev\nregion=cn-shanghai\n[profile bare]\n")
    backend = opened(profile="dev")
    assert (keys_of(backend), backend.region) == ("dev", "cn-shanghai")
    backend = opened(profile="bare")
    assert (keys_of(backend), backend.region) == ("environment", "cn-hangzhou")


def test_another_file_can_be_named(tmp_path):
    path = tmp_path / "other"
    path.write_text(CONFIG)
    assert keys_of(opened(config_file=path)) == "filesecret"


@pytest.fixture
def unreadable(config, tmp_path):
    """A configuration that can't be read, by anyone: root reads what it may not."""
    (tmp_path / ".ossutilconfig").mkdir()


SAID = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "environment"}


@pytest.mark.parametrize(
    "place",
    [
        {"OSS_REGION": "cn-hangzhou"},
        {"OSS_ENDPOINT": HANGZHOU},
        {"OSS_REGION": "cn-hangzhou", "OSS_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.usefixtures("unreadable")
def test_a_file_that_can_not_be_read_changes_nothing_where_all_is_said(monkeypatch, place):
    for name, value in {**SAID, **place}.items():
        monkeypatch.setenv(name, value)
    backend = opened(**({"region": "cn-hangzhou"} if "OSS_REGION" not in place else {}))
    assert (keys_of(backend), backend.region) == ("environment", "cn-hangzhou")


def test_a_file_is_not_opened_where_nothing_is_missing(monkeypatch):
    for name, value in {**SAID, "OSS_REGION": "r-1", "OSS_ENDPOINT": GATE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("partwise.backends.oss.urls.read_configuration", lambda *_, **__: pytest.fail("it was read"))
    assert opened().region == "r-1"
    monkeypatch.delenv("OSS_REGION")
    assert opened(region="r-2").region == "r-2"
    monkeypatch.setenv("OSS_ENDPOINT", HANGZHOU)
    assert opened().region == "cn-hangzhou"


@pytest.mark.parametrize("missing", ["OSS_REGION", "OSS_ACCESS_KEY_ID"])
@pytest.mark.usefixtures("unreadable")
def test_a_file_that_is_needed_and_can_not_be_read_is_an_error(monkeypatch, missing):
    for name, value in {**SAID, "OSS_REGION": "cn-hangzhou"}.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match="can't be read"):
        open_url("oss://examplebucket/key")


def test_keys_in_the_file_that_can_not_be_used_concern_nobody_who_has_others(monkeypatch, config):
    config("[default]\naccess-key-id=a\naccess-key-secret=hunter2 hunter2\nregion=cn-beijing\n")
    with pytest.raises(InvalidInput, match="the access_key_secret holds a space") as raised:
        open_url("oss://examplebucket/key")
    assert "hunter2" not in str(raised.value)
    for name, value in SAID.items():
        monkeypatch.setenv(name, value)
    assert (keys_of(opened()), opened().region) == ("environment", "cn-beijing")


def test_a_broken_file_concerns_nobody_who_has_said_everything(config):
    config("no configuration at all")
    backend = opened(**PLACE, endpoint="oss-cn-hangzhou.aliyuncs.com")
    assert backend.region == "cn-hangzhou"
    with pytest.raises(InvalidInput, match="not a configuration file of ossutil"):
        open_url("oss://examplebucket/key", region="cn-hangzhou")
