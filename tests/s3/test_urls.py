"""s3:// URLs, and where missing settings come from."""

from __future__ import annotations

import pickle

import pytest

from partwise.backends.s3 import Credentials
from partwise.errors import InvalidInput
from partwise.registry import open_backend


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """An access key, and nothing else."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")


@pytest.fixture
def config(tmp_path):
    """A function that writes the config file."""
    return (tmp_path / "config").write_text


@pytest.mark.parametrize("key", ["k", "", "/k", "a//b", "a?b#c%20d+e", "a b/ü", "..", "x@y"])
def test_the_key_is_everything_after_the_bucket(key):
    backend, found = open_backend(f"s3://examplebucket/{key}")
    assert (backend.bucket, found) == ("examplebucket", key)


@pytest.mark.parametrize(
    ("variable", "value", "instead"),
    [
        ("AWS_REGION", "eu west", {"region": "eu-west-1"}),
        ("AWS_DEFAULT_REGION", "eu west", {"region": "eu-west-1"}),
        ("AWS_ENDPOINT_URL", "ftp://host", {"endpoint": "http://127.0.0.1:9"}),
        ("AWS_ENDPOINT_URL_S3", "ftp://host", {"endpoint": "http://127.0.0.1:9"}),
        ("AWS_ENDPOINT_URL_S3", "ftp://host", {"dual_stack": True}),
    ],
)
def test_an_invalid_variable_is_named_and_does_not_matter_if_it_is_not_used(monkeypatch, variable, value, instead):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=f"^{variable}: '{value}' is not a valid"):
        open_backend("s3://examplebucket/key")
    open_backend("s3://examplebucket/key", **instead)


@pytest.mark.parametrize(
    ("setting", "origin"),
    [("region = eu west", "the region of the profile"), ("endpoint_url = ftp://x", "the endpoint_url of the profile")],
)
def test_an_invalid_setting_of_the_profile_is_named(config, setting, origin):
    config(f"[default]\n{setting}\n")
    with pytest.raises(InvalidInput, match=f"^{origin}: .* is not a valid"):
        open_backend("s3://examplebucket/key")


@pytest.mark.parametrize("variable", ["AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"])
def test_a_variable_that_is_neither_true_nor_false_is_named(monkeypatch, config, variable):
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(InvalidInput, match=f"^{variable} must be true or false, not 'perhaps'"):
        open_backend("s3://examplebucket/key")
    monkeypatch.delenv(variable)
    name = variable.removeprefix("AWS_").lower()
    config(f"[default]\n{name} = perhaps\n")
    with pytest.raises(InvalidInput, match=f"^the {name} of the profile must be true or false, not 'perhaps'"):
        open_backend("s3://examplebucket/key")


def test_without_a_slash_the_key_is_empty():
    assert open_backend("S3://examplebucket")[1] == ""


@pytest.mark.parametrize("separator", ["/", ":"])
def test_an_access_point_is_its_arn(separator):
    arn = f"arn:aws:s3:us-west-2:123456789012:accesspoint{separator}point"
    backend, key = open_backend(f"s3://{arn}/a/b")

    assert (backend.endpoint, key) == ("https://point-123456789012.s3-accesspoint.us-west-2.amazonaws.com", "a/b")


def test_an_access_point_of_an_outpost_is_its_arn():
    arn = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/point"
    backend, key = open_backend(f"s3://{arn}/a")

    assert backend.bucket == "point-123456789012"
    assert key == "a"


@pytest.mark.parametrize("url", ["s3:examplebucket", "s3://", "s3:///k"])
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(InvalidInput, match="s3://bucket/key"):
        open_backend(url)


def test_settings_are_arguments_of_the_backend():
    backend, _ = open_backend(
        "s3://examplebucket/k", endpoint="http://localhost:9000", dialect="minio", region="r", timeout=7
    )
    assert (backend.endpoint, backend.dialect.name, backend.region) == ("http://localhost:9000", "minio", "r")
    settings = backend._pickle_state.settings
    assert (settings["connect_timeout"], settings["read_timeout"]) == (7, 7)


def test_an_unknown_setting_is_refused():
    with pytest.raises(InvalidInput, match="unknown setting for an s3:// URL: signature_version"):
        open_backend("s3://examplebucket/k", signature_version="v4")


def test_the_environment_has_settings(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://general.example.com")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    backend, _ = open_backend("s3://examplebucket/k")
    assert (backend.endpoint, backend.region) == ("https://general.example.com", "eu-west-1")

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    backend, _ = open_backend("s3://examplebucket/k")
    assert (backend.endpoint, backend.region) == ("https://s3.example.com", "eu-west-2")

    backend, _ = open_backend("s3://examplebucket/k", endpoint="https://mine.example.com", region="eu-west-3")
    assert (backend.endpoint, backend.region) == ("https://mine.example.com", "eu-west-3")


def test_a_profile_has_settings(config):
    config(
        "[profile work]\nregion = eu-west-1\naws_access_key_id = AKIDWORK\naws_secret_access_key = worksecret\n"
        "use_dualstack_endpoint = true\ns3 =\n  addressing_style = path\n"
    )
    backend, _ = open_backend("s3://examplebucket/k", profile="work")

    assert backend.endpoint == "https://s3.dualstack.eu-west-1.amazonaws.com"
    assert backend._client._credentials.current().credentials == Credentials("AKIDWORK", "worksecret")


def test_an_endpoint_of_the_profile_gives_way_to_acceleration(config, monkeypatch):
    config("[default]\nendpoint_url = https://s3.example.com\nregion = eu-west-1\n")

    assert open_backend("s3://examplebucket/k")[0].endpoint == "https://s3.example.com"
    accelerated, _ = open_backend("s3://examplebucket/k", accelerate=True)
    assert accelerated.endpoint == "https://examplebucket.s3-accelerate.amazonaws.com"


def test_an_endpoint_that_is_given_leaves_dual_stack_of_the_profile_out(config):
    config("[default]\nuse_dualstack_endpoint = true\nregion = eu-west-1\n")

    backend, _ = open_backend("s3://examplebucket/k", endpoint="https://s3.example.com")
    assert backend.endpoint == "https://s3.example.com"


def test_credentials_and_a_profile_exclude_each_other(config):
    config("[profile work]\nregion = eu-west-1\n")
    with pytest.raises(InvalidInput, match="exclude each other"):
        open_backend("s3://examplebucket/k", profile="work", credentials=Credentials("id", "secret"))


def test_a_backend_with_the_keys_of_the_environment_can_be_pickled_without_them():
    backend, _ = open_backend("s3://examplebucket/k")
    data = pickle.dumps(backend)

    assert b"testsecret" not in data
    assert pickle.loads(data)._client._credentials.current().credentials.access_key_id == "AKIDTEST"
