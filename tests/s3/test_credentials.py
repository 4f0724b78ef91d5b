"""Where credentials and settings for S3 come from; botocore finds the same."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from shared.scripted import make_certificate

from partwise.backends.s3.credentials import (
    AWSEnvironmentCredentials,
    ContainerCredentials,
    Credentials,
    FrozenCredentials,
    MachineCredentials,
    SSOCredentials,
    SSOLogin,
    as_provider,
    find_provider,
)
from partwise.backends.s3.metadata import fetch_text
from partwise.backends.s3.profiles import Settings, read_settings
from partwise.backends.s3.sts import _request
from partwise.backends.s3.urls import parse_url
from partwise.errors import CredentialsExpired, InvalidInput

LATER = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
ISO = "2099-01-02T03:04:05Z"


class Service(ThreadingHTTPServer):
    """Answers by a table of paths, and records the requests."""

    daemon_threads = True

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket, self.scheme = context.wrap_socket(self.socket, server_side=True), "https"
        self.answers: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, body))
        found = self.server.answers.get((self.command, self.path.partition("?")[0]), 404)
        status, text = found if isinstance(found, tuple) else (found, "") if isinstance(found, int) else (200, found)
        data = text if isinstance(text, bytes) else (text if isinstance(text, str) else json.dumps(text)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer  # noqa: N815  # names of the base class

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    thread = threading.Thread(target=service.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as service:
        yield service


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without settings, and an environment without them."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.fixture
def write(home: Path) -> Callable[..., None]:
    def write(config: str = "", credentials: str = "") -> None:
        (home / ".aws" / "config").write_text(config)
        (home / ".aws" / "credentials").write_text(credentials)

    return write


def values(credentials: Any) -> tuple[str, str, str | None]:
    return credentials.access_key_id, credentials.access_key_secret, credentials.security_token


def botocores(profile: str | None = None) -> tuple[str, str, str | None]:
    session = botocore.session.Session(profile=profile)
    found = session.get_credentials()
    assert found is not None
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


def same(profile: str | None = None) -> tuple[str, str, str | None]:
    """Return what is found here, and check that botocore finds the same."""
    found = values(find_provider(profile=profile).fetch())
    assert found == botocores(profile)
    return found


# --- the environment and profiles ------------------------------------------------------------------------------------


def test_the_environment_comes_before_the_profiles(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(credentials="[default]\naws_access_key_id = P\naws_secret_access_key = PS\n")
    assert same() == ("P", "PS", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ES")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ET")

    assert same() == ("E", "ES", "ET")
    monkeypatch.setenv("AWS_PROFILE", "default")
    assert same() == ("E", "ES", "ET")
    assert same("default") == ("P", "PS", None), "but a profile that is passed comes first"


def test_the_credentials_file_comes_before_the_config_file(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        "[profile one]\naws_access_key_id = C\naws_secret_access_key = CS\nregion = eu-west-1\n"
        "[profile two]\naws_access_key_id = C2\naws_secret_access_key = CS2\naws_session_token = T2\n",
        "[one]\naws_access_key_id = F\naws_secret_access_key = FS\n",
    )
    assert same("one") == ("F", "FS", None)
    monkeypatch.setenv("AWS_PROFILE", "two")
    assert same() == ("C2", "CS2", "T2")


def test_the_files_can_be_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home / "other"
    other.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(other))

    assert same() == ("A", "B", None)


def test_without_credentials_the_error_says_what_to_set(home: Path) -> None:
    with pytest.raises(InvalidInput, match="no credentials are configured") as caught:
        find_provider()
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


SOURCE = "[b]\naws_access_key_id = A\naws_secret_access_key = TOPSECRET\n"


@pytest.mark.parametrize(
    ("config", "credentials", "message"),
    [
        ("", "", "profile 'absent' is neither"),
        ("[profile absent]\nregion = x\n", "", "has no credentials"),
        ("", "[absent]\naws_access_key_id = A\n", "only one half"),
        ("[profile absent]\nrole_arn = arn\n", "", "neither a source_profile"),
        ("[profile absent]\nrole_arn = arn\nsource_profile = absent\n", "", "name each other"),
        ("[profile absent]\nrole_arn = a\nsource_profile = gone\n", "", "profile 'gone' is neither"),
        ("[profile absent]\nsso_account_id = 1\nsso_session = s\n", "", "no section 'sso-session s'"),
        ("[profile absent]\nsso_account_id = 1\n", "", "needs sso_region"),
        ("[profile absent]\nsecret without a name\n", "", "not a valid configuration file"),
        ("[profile absent]\nrole_arn = a\nsource_profile = b\nmfa_serial = m\n", SOURCE, "MFA"),
    ],
)
def test_a_profile_that_can_not_be_used_is_refused(write: Any, config: str, credentials: str, message: str) -> None:
    write(config, credentials)
    with pytest.raises(InvalidInput, match=message) as caught:
        find_provider(profile="absent")
    assert "secret without" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (4 * 1024 * 1024 + 1)], ids=["not UTF-8", "too large"])
def test_a_file_that_is_no_text_is_refused(home: Path, data: bytes) -> None:
    (home / ".aws" / "config").write_bytes(data)
    with pytest.raises(InvalidInput):
        find_provider(profile="any")


def test_a_directory_in_place_of_a_file_is_an_error(home: Path) -> None:
    (home / ".aws" / "config").mkdir()
    with pytest.raises(InvalidInput, match="can't be read: Is a directory"):
        read_settings()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_without_an_end_is_an_error(home: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partwise.backends.s3.profiles._PIPE_SECONDS", 0.2)
    pipe = home / "pipe"
    os.mkfifo(pipe)
    write(f"[profile w]\nrole_arn = a\nweb_identity_token_file = {pipe}\n")
    provider = find_provider(profile="w")
    for opened_by_a_writer in (False, True):
        writer = os.open(pipe, os.O_RDWR) if opened_by_a_writer else None
        with pytest.raises(CredentialsExpired, match="web identity token can't be read: TimeoutError"):
            provider.fetch()
        monkeypatch.setenv("AWS_CONFIG_FILE", str(pipe))
        with pytest.raises(InvalidInput, match="can't be read: what is written to it does not end"):
            read_settings()
        if writer is not None:
            os.close(writer)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_file_may_be_a_pipe_or_the_null_device(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = home / "pipe"
    os.mkfifo(pipe)
    text = "# more than fits into a pipe at once\n" * 10_000 + "[default]\nregion = eu-west-1\n"
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(pipe))
    assert read_settings().region == "eu-west-1"
    writer.join()
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert read_settings() == Settings()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_the_files_are_read_once_for_a_url(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process substitution can be read only once."""
    monkeypatch.setattr("partwise.backends.s3.profiles._PIPE_SECONDS", 0.5)
    pipe = home / "pipe"
    os.mkfifo(pipe)
    text = "[default]\nregion = eu-west-1\naws_access_key_id = A\naws_secret_access_key = B\n"
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(pipe))
    _, _, given = parse_url("s3://examplebucket/k", {})
    writer.join()
    assert (given["region"], values(given["credentials"].fetch())) == ("eu-west-1", ("A", "B", None))


def test_a_file_below_a_home_directory_that_there_is_not_has_no_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "~no-such-user/config")
    assert read_settings() == Settings()


# --- a process -------------------------------------------------------------------------------------------------------


def test_a_process_prints_credentials(home: Path, write: Any) -> None:
    script = home / "print credentials.py"
    answer = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": ISO}
    script.write_text(f"print({json.dumps(json.dumps(answer))})")
    write(f"[profile p]\ncredential_process = {sys.executable} '{script}'\n")

    assert same("p") == ("A", "S", "T")
    assert find_provider(profile="p").fetch().expiration == LATER
    script.write_text(f"print({json.dumps(json.dumps(answer | {'Expiration': None}))})")
    assert find_provider(profile="p").fetch().expiration is None


@pytest.mark.parametrize(
    ("output", "message"),
    [
        *(("{}", "no Version 1"), ("[]", "not a JSON object"), ("secret", "not a JSON object")),
        ('{"Version": 1}', "no access key"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "soon"}', "is not a time"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": 1e300}', "is not a time"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": NaN}', "is not a time"),
        ('{"Version": 1, "AccessKeyId": "", "SecretAccessKey": "secret"}', "access_key_id is empty"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "the secret"}', "access_key_secret contains a space"),
    ],
)
def test_a_process_that_prints_something_else_is_a_transient_failure(
    home: Path, write: Any, output: str, message: str
) -> None:
    script = home / "script.py"
    script.write_text(f"print({output!r})")
    write(f"[profile p]\ncredential_process = {sys.executable} {script}\n")
    with pytest.raises(CredentialsExpired, match=message) as caught:
        find_provider(profile="p").fetch()
    assert caught.value.retryable
    assert "secret" not in str(caught.value).replace("access_key_secret", "")


def test_a_process_that_fails_is_a_transient_failure(write: Any) -> None:
    for command, message in (("/does/not/exist", "can't be run"), (f"{sys.executable} -c 1/0", "exit code 1")):
        write(f"[profile p]\ncredential_process = {command}\n")
        with pytest.raises(CredentialsExpired, match=message):
            find_provider(profile="p").fetch()


def test_a_process_that_does_not_end_is_in_no_error(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partwise.backends.s3.credentials._PROCESS_SECONDS", 0.3)
    write(f"[profile p]\ncredential_process = {sys.executable} -c 'import time; time.sleep(30)' TOPSECRET\n")
    with pytest.raises(CredentialsExpired, match=r"does not end within 0\.3 seconds") as caught:
        find_provider(profile="p").fetch()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_process_that_prints_too_much_is_not_waited_for(
    home: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partwise.backends.s3.credentials._PROCESS_SECONDS", 5.0)
    script = home / "script.py"
    script.write_text("import time\nprint('x' * 65_536, flush=True)\ntime.sleep(30)")
    write(f"[profile p]\ncredential_process = {sys.executable} {script}\n")
    with pytest.raises(CredentialsExpired, match="credential_process prints more than 65536 bytes"):
        find_provider(profile="p").fetch()


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_process_whose_child_keeps_its_output_open_is_not_waited_for(
    home: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partwise.backends.s3.credentials._PROCESS_SECONDS", 0.5)
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'])"
    script = home / "script.py"
    script.write_text(child)
    write(f"[profile p]\ncredential_process = {sys.executable} {script}\n")
    started = time.monotonic()
    with pytest.raises(CredentialsExpired, match=r"does not end within 0\.5 seconds"):
        find_provider(profile="p").fetch()
    assert time.monotonic() - started < 4


# --- roles -----------------------------------------------------------------------------------------------------------

ASSUMED = (
    '<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>'
    f"<AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>"
    f"<Expiration>{ISO}</Expiration></Credentials></{{0}}Result></{{0}}Response>"
)


def test_a_role_is_assumed_by_its_source_profile(service: Service, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write(
        "[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = s\nexternal_id = e&x\n"
        "role_session_name = session\nduration_seconds = 900\nregion = eu-west-1\n",
        "[s]\naws_access_key_id = SK\naws_secret_access_key = SS\naws_session_token = ST\n",
    )
    service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
    assert same("r") == ("A", "S", "T")
    provider = find_provider(profile="r")
    assert (provider.renewable, provider.fetch().expiration) == (True, LATER)

    ours, theirs = service.requests[0], service.requests[1]
    assert {**parse_qs(ours[3])} == {**parse_qs(theirs[3])}
    for name in ("authorization", "x-amz-security-token"):
        assert (
            ours[2][name].partition("Signature")[0].split()[0] == theirs[2][name].partition("Signature")[0].split()[0]
        )
    assert "/eu-west-1/sts/aws4_request" in ours[2]["authorization"]


def test_the_request_for_a_role_is_signed_as_botocore_signs_it(service: Service, write: Any) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotocoreCredentials

    from partwise.backends.s3.sts import assume_role

    service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
    parameters = {"RoleArn": "arn:aws:iam::1:role/r x", "RoleSessionName": "s"}
    assume_role(
        Credentials("K", "SECRET", "TOKEN"), parameters, region="us-west-2", endpoint=service.url, now=time.time()
    )
    _, _, headers, body = service.requests[0]

    request = AWSRequest("POST", service.url + "/", data=body.encode())
    request.headers["Content-Type"] = headers["content-type"]
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(BotocoreCredentials("K", "SECRET", "TOKEN"), "sts", "us-west-2")
    request.headers["X-Amz-Date"] = headers["x-amz-date"]
    request.headers["X-Amz-Security-Token"] = "TOKEN"
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert headers["authorization"].endswith(f"Signature={signature}")


def test_roles_can_be_chained(service: Service, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write(
        "[profile a]\nrole_arn = arn:a\nsource_profile = b\n[profile b]\nrole_arn = arn:b\nsource_profile = c\n",
        "[c]\naws_access_key_id = SK\naws_secret_access_key = SS\n",
    )
    service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
    assert values(find_provider(profile="a").fetch()) == ("A", "S", "T")
    assert [parse_qs(request[3])["RoleArn"] for request in service.requests] == [["arn:b"], ["arn:a"]]
    assert service.requests[1][2]["x-amz-security-token"] == "T"


def test_a_role_of_the_environment_is_assumed_by_a_web_identity(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "token").write_text("the-token\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "pod")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "token"))
    service.answers["POST", "/"] = ASSUMED.format("AssumeRoleWithWebIdentity")

    assert same() == ("A", "S", "T")
    sent = parse_qs(service.requests[0][3])
    assert (sent["WebIdentityToken"], sent["RoleSessionName"]) == (["the-token"], ["pod"])
    assert "authorization" not in service.requests[0][2]
    (home / "token").write_text("a newer token")
    find_provider().fetch()
    assert parse_qs(service.requests[-1][3])["WebIdentityToken"] == ["a newer token"]


def test_a_profile_may_name_the_token_of_its_web_identity(
    service: Service, home: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "token").write_text("the-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write(
        f"[profile w]\nrole_arn = arn:aws:iam::123456789012:role/r\nweb_identity_token_file = {home / 'token'}\n"
        "role_session_name = session\nregion = eu-west-1\n"
    )
    service.answers["POST", "/"] = ASSUMED.format("AssumeRoleWithWebIdentity")

    assert same("w") == ("A", "S", "T")
    ours, theirs = (parse_qs(request[3]) for request in service.requests)
    assert ours == theirs
    (home / "token").write_text("t" * (64 * 1024 + 1))
    with pytest.raises(CredentialsExpired, match="more than 65536 bytes"):
        find_provider(profile="w").fetch()


SURROUNDINGS = {
    "Environment": {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "ES", "AWS_SESSION_TOKEN": "ET"},
    "EcsContainer": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/creds"},
    "Ec2InstanceMetadata": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}", "AWS_EC2_METADATA_DISABLED": "false"},
}


@pytest.mark.parametrize("source", SURROUNDINGS)
def test_a_role_is_assumed_by_the_credentials_of_its_surroundings(
    service: Service, write: Any, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    for name, value in SURROUNDINGS[source].items():
        monkeypatch.setenv(name, value.format(url=service.url))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write(f"[profile r]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = {source}\nregion = eu-west-1\n")
    roles = "/latest/meta-data/iam/security-credentials/"
    own = {**ANSWER, "AccessKeyId": "E", "SecretAccessKey": "ES", "Token": "ET"}
    service.answers |= {
        ("POST", "/"): ASSUMED.format("AssumeRole"),
        ("PUT", "/latest/api/token"): "token",
        ("GET", roles): "my-role",
        ("GET", f"{roles}my-role"): own,
        ("GET", "/creds"): own,
    }

    assert same("r") == ("A", "S", "T")
    ours, theirs = (headers for method, path, headers, _ in service.requests if (method, path) == ("POST", "/"))
    assert "Credential=E/" in ours["authorization"]
    assert "Credential=E/" in theirs["authorization"]
    assert ours["x-amz-security-token"] == theirs["x-amz-security-token"] == "ET"


def test_the_token_service_of_a_region_has_its_own_host() -> None:
    regions = (None, "eu-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1")
    assert {region: _request("AssumeRole", {}, region, None)[0] for region in regions} == {
        None: "https://sts.amazonaws.com/",
        "eu-west-1": "https://sts.eu-west-1.amazonaws.com/",
        "cn-north-1": "https://sts.cn-north-1.amazonaws.com.cn/",
        "us-iso-east-1": "https://sts.us-iso-east-1.c2s.ic.gov/",
        "eusc-de-east-1": "https://sts.eusc-de-east-1.amazonaws.eu/",
    }
    with pytest.raises(InvalidInput, match="'sts' is not the URL of a token service"):
        _request("AssumeRole", {}, None, "sts")


@pytest.mark.parametrize("region", ["example.com/", "eu-west-1@example.com", "eu west", ""])
def test_a_region_can_not_lead_to_another_host(home: Path, sso: Any, region: str) -> None:
    sso()
    with pytest.raises(InvalidInput, match="is not a valid region"):
        _request("AssumeRole", {}, region, None)
    with pytest.raises(InvalidInput, match="is not a valid region"):
        SSOCredentials(SSOLogin("s", region, "123", "reader")).fetch()


def test_a_web_identity_comes_before_the_keys_of_a_profile_and_after_its_role(
    service: Service, home: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "token").write_text("the-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "token"))
    keys = "aws_access_key_id = P\naws_secret_access_key = PS\n"
    service.answers["POST", "/"] = ASSUMED.format("AssumeRoleWithWebIdentity")

    write(f"[default]\n{keys}")
    assert same() == ("A", "S", "T")
    service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
    write(f"[default]\nrole_arn = arn:aws:iam::123456789012:role/other\nsource_profile = keys\n[profile keys]\n{keys}")
    same()
    assert parse_qs(service.requests[-1][3])["RoleArn"] == ["arn:aws:iam::123456789012:role/other"]


def with_an_entity(encoding: str) -> bytes:
    """An answer with credentials that a parser has to expand."""
    text = ASSUMED.format("AssumeRole").replace("<SessionToken>T", "<SessionToken>&t;")
    return f'<!DOCTYPE a [<!ENTITY t "T">]>{text}'.encode(encoding)


@pytest.mark.parametrize(
    "answer",
    [
        *(403, "", "<a>", "<a><AccessKeyId>A</AccessKeyId></a>", ASSUMED.format("AssumeRole").replace(ISO, "soon")),
        *(with_an_entity("utf-8"), with_an_entity("utf-16-le"), with_an_entity("utf-16-be")),
    ],
)
def test_a_token_service_that_refuses_is_a_transient_failure(
    service: Service, write: Any, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write(
        "[profile r]\nrole_arn = a\nsource_profile = s\n",
        "[s]\naws_access_key_id = K\naws_secret_access_key = TOPSECRET\n",
    )
    service.answers["POST", "/"] = answer
    with pytest.raises(CredentialsExpired) as caught:
        find_provider(profile="r").fetch()
    assert caught.value.retryable
    assert "TOPSECRET" not in str(caught.value)


def test_why_a_token_service_refuses_is_said_by_its_code(
    service: Service, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write("[profile r]\nrole_arn = a\nsource_profile = b\n", SOURCE)
    document = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>TOPSECRET</Message></Error></ErrorResponse>"
    service.answers["POST", "/"] = 403, document
    with pytest.raises(CredentialsExpired, match=r"answered with the status 403 \(AccessDenied\)") as caught:
        find_provider(profile="r").fetch()
    assert (caught.value.status, caught.value.code) == (403, "AccessDenied")
    assert "TOPSECRET" not in str(caught.value)


def test_a_time_without_a_zone_from_the_token_service_is_in_utc(
    service: Service, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    write("[profile r]\nrole_arn = a\nsource_profile = b\n", SOURCE)
    service.answers["POST", "/"] = ASSUMED.format("AssumeRole").replace(ISO, ISO.removesuffix("Z"))

    assert find_provider(profile="r").fetch().expiration == LATER


def test_the_token_service_and_the_portal_are_reached_through_the_proxy_of_the_environment(
    service: Service, write: Any, sso: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", service.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", "http://portal.invalid")
    service.answers["POST", "http://sts.invalid/"] = ASSUMED.format("AssumeRole")
    service.answers["GET", "http://portal.invalid/federation/credentials"] = PORTAL
    sso()
    assert values(find_provider(profile="p").fetch()) == ("A", "S", "T")
    write("[profile r]\nrole_arn = a\nsource_profile = b\n", SOURCE)

    assert values(find_provider(profile="r").fetch()) == ("A", "S", "T")


@pytest.mark.parametrize("where", ["the environment", "the profile"])
def test_the_token_service_and_the_portal_may_have_certificates_of_another_authority(
    home: Path, write: Any, sso: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    certificate = make_certificate(home, "IP:127.0.0.1")
    (home / "token").write_text("the-token")
    setting = f"ca_bundle = {certificate[0]}\n" if where == "the profile" else ""
    if not setting:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    role = f"role_arn = arn:aws:iam::123456789012:role/r\nregion = eu-west-1\n{setting}"
    with serving(Service(certificate)) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", service.url)
        service.answers["GET", "/federation/credentials"] = PORTAL
        service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
        sso(setting)
        assert values(find_provider(profile="p").fetch()) == ("A", "S", "T")
        write(
            f"[profile r]\nsource_profile = q\n{role}"
            "[profile q]\nrole_arn = arn:aws:iam::123456789012:role/q\nsource_profile = b\n",
            SOURCE,
        )
        assert same("r") == ("A", "S", "T")
        service.answers["POST", "/"] = ASSUMED.format("AssumeRoleWithWebIdentity")
        write(
            f"[profile w]\nweb_identity_token_file = {home / 'token'}\n{role}[profile v]\nregion = eu-west-1\n{setting}"
        )
        assert same("w") == ("A", "S", "T")
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "token"))
        monkeypatch.setenv("AWS_PROFILE", "v")
        assert values(find_provider().fetch()) == ("A", "S", "T")


def test_without_its_authority_the_token_service_is_not_trusted(
    home: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Service(make_certificate(home, "IP:127.0.0.1"))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        service.answers["POST", "/"] = ASSUMED.format("AssumeRole")
        write("[profile r]\nrole_arn = a\nsource_profile = b\n", SOURCE)
        with pytest.raises(CredentialsExpired, match="does not verify"):
            find_provider(profile="r").fetch()
        assert service.requests == []


def test_a_metadata_service_is_not_reached_through_a_proxy(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", service.url)
    with pytest.raises(InvalidInput, match="there is no metadata service"):
        MachineCredentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://metadata.invalid"}).fetch()
    assert service.requests == []


# --- single sign-on --------------------------------------------------------------------------------------------------


PORTAL = {
    "roleCredentials": {
        "accessKeyId": "A",
        "secretAccessKey": "S",
        "sessionToken": "T",
        "expiration": int(LATER.timestamp() * 1000),
    }
}


@pytest.fixture
def sso(service: Service, home: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a profile with a login, and its cached token."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", service.url)
    service.answers["GET", "/federation/credentials"] = PORTAL

    def sso(setting: str = "", *, session: bool = True, expires: datetime = LATER) -> None:
        login = "sso_region = eu-west-1\nsso_start_url = https://start.example\n"
        account = f"[profile p]\nregion = eu-west-1\n{setting}sso_account_id = 123\nsso_role_name = reader/x\n"
        write(f"{account}sso_session = s\n[sso-session s]\n{login}" if session else account + login)
        name = hashlib.sha1(b"s" if session else b"https://start.example", usedforsecurity=False).hexdigest()
        cache = home / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True)
        token = {"accessToken": "login", "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        (cache / f"{name}.json").write_text(json.dumps(token))

    return sso


@pytest.mark.parametrize("session", [True, False], ids=["a session", "a start URL"])
def test_a_login_gives_the_credentials_of_a_role(service: Service, sso: Any, session: bool) -> None:
    sso(session=session)
    credentials = find_provider(profile="p").fetch()

    assert (*values(credentials), credentials.expiration) == ("A", "S", "T", LATER)
    method, path, headers, _ = service.requests[0]
    assert (method, path) == ("GET", "/federation/credentials?account_id=123&role_name=reader%2Fx")
    assert headers["x-amz-sso_bearer_token"] == "login"


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "portal.sso.eu-west-1.amazonaws.com"), ("cn-north-1", "portal.sso.cn-north-1.amazonaws.com.cn")],
)
def test_the_portal_of_a_region_has_the_domain_of_its_partition(
    home: Path, sso: Any, monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    sso()
    asked = []

    def fetch(url: str, **_: Any) -> dict[str, Any]:
        asked.append(urlsplit(url).hostname)
        return {"roleCredentials": {"accessKeyId": "A", "secretAccessKey": "S"}}

    monkeypatch.setattr("partwise.backends.s3.credentials.fetch_json", fetch)
    login = SSOLogin("s", region, "123", "reader")
    assert SSOCredentials(login).fetch().access_key_id == "A"
    assert asked == [host]


@pytest.mark.parametrize(
    ("answer", "message"), [({}, "portal has no credentials"), ("<html>", "response is not a JSON object")]
)
def test_a_portal_that_answers_something_else_is_a_transient_failure(
    service: Service, sso: Any, answer: Any, message: str
) -> None:
    sso()
    service.answers["GET", "/federation/credentials"] = answer
    with pytest.raises(CredentialsExpired, match=message):
        find_provider(profile="p").fetch()


def test_a_login_that_the_portal_refuses_says_to_log_in_again(service: Service, sso: Any) -> None:
    sso()
    service.answers["GET", "/federation/credentials"] = 401
    with pytest.raises(InvalidInput, match="the portal refuses the login") as caught:
        find_provider(profile="p").fetch()
    assert "aws sso login" in caught.value.hint
    service.answers["GET", "/federation/credentials"] = 503
    with pytest.raises(CredentialsExpired, match="status 503"):
        find_provider(profile="p").fetch()


def test_an_old_login_says_to_log_in_again(sso: Any, home: Path) -> None:
    sso(expires=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(InvalidInput, match="has expired") as caught:
        find_provider(profile="p").fetch()
    assert "aws sso login" in caught.value.hint
    for path in (home / ".aws" / "sso" / "cache").iterdir():
        path.unlink()
    with pytest.raises(InvalidInput, match="no cached login"):
        find_provider(profile="p").fetch()


# --- metadata services -----------------------------------------------------------------------------------------------

ANSWER = {
    "AccessKeyId": "A",
    "SecretAccessKey": "S",
    "Token": "T",
    "Expiration": ISO,
    "RoleArn": "arn",
    "Code": "Success",
}


def test_a_container_has_credentials(service: Service, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/creds")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc")
    service.answers["GET", "/creds"] = ANSWER

    assert same() == ("A", "S", "T")
    assert service.requests[0][2]["authorization"] == "Basic abc"
    (home / "token").write_text("from a file\n")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(home / "token"))
    assert find_provider().fetch().expiration == LATER
    assert service.requests[-1][2]["authorization"] == "from a file"


def test_the_keys_of_a_profile_come_before_those_of_a_container(
    service: Service, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/creds")
    service.answers["GET", "/creds"] = ANSWER
    write("[default]\nregion = eu-west-1\n")
    assert same() == ("A", "S", "T")
    write("[default]\naws_access_key_id = P\naws_secret_access_key = PS\n")

    assert same() == ("P", "PS", None)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/creds", "http://10.0.0.1/", "ftp://127.0.0.1/", "http://127.0.0.1.example.com/"),
        *("http:///x", "http://[", "https://["),
    ],
)
def test_the_token_of_a_container_is_sent_to_no_other_host(url: str) -> None:
    with pytest.raises(InvalidInput, match="neither https nor this machine"):
        ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})


def test_a_relative_address_of_a_container_is_that_of_its_service() -> None:
    names = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/id"}
    for environment in (names, {**names, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/"}):
        assert ContainerCredentials(environment)._url == "http://169.254.170.2/v2/id"


def test_a_relative_address_of_a_container_can_not_change_the_host() -> None:
    with pytest.raises(InvalidInput, match="must begin with a slash"):
        ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "@example.com/"})


@pytest.mark.parametrize("url", ["http://169.254.170.23/v1", "http://localhost:80/", "https://example.com/creds"])
def test_hosts_of_containers_are_accepted(url: str) -> None:
    assert "Container" in repr(ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}))


def test_a_machine_has_credentials_by_version_2_of_its_service(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    roles = "/latest/meta-data/iam/security-credentials/"
    service.answers |= {
        ("PUT", "/latest/api/token"): "token",
        ("GET", roles): "my-role",
        ("GET", f"{roles}my-role"): ANSWER,
    }
    assert same() == ("A", "S", "T")
    assert [request[:2] for request in service.requests[:3]] == [
        ("PUT", "/latest/api/token"),
        ("GET", roles),
        ("GET", f"{roles}my-role"),
    ]
    assert service.requests[2][2]["x-aws-ec2-metadata-token"] == "token"


def test_a_machine_without_a_role_has_no_credentials(service: Service) -> None:
    service.answers |= {
        ("PUT", "/latest/api/token"): "token",
        ("GET", "/latest/meta-data/iam/security-credentials/"): "\n",
    }
    with pytest.raises(InvalidInput, match="this machine has no role") as caught:
        MachineCredentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url}).fetch()
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_machine_without_the_service_fails_within_seconds() -> None:
    provider = MachineCredentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"})
    started = time.monotonic()
    with pytest.raises(InvalidInput, match="no credentials are configured") as caught:
        provider.fetch()
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert time.monotonic() - started < 5


def test_a_service_that_has_answered_before_may_fail_for_a_moment(service: Service) -> None:
    roles = "/latest/meta-data/iam/security-credentials/"
    service.answers |= {("PUT", "/latest/api/token"): "token", ("GET", roles): "r", ("GET", f"{roles}r"): ANSWER}
    provider = MachineCredentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url})
    provider.fetch()
    service.answers["PUT", "/latest/api/token"] = 503

    with pytest.raises(CredentialsExpired, match="answered with the status 503"):
        provider.fetch()


def test_an_answer_that_is_too_long_is_refused(service: Service) -> None:
    service.answers["GET", "/creds"] = {**ANSWER, "More": "x" * 256 * 1024}
    provider = ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service.url}/creds"})
    with pytest.raises(CredentialsExpired, match="has more than 262144 bytes"):
        provider.fetch()


def test_an_answer_that_arrives_byte_by_byte_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.01)

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        with pytest.raises(CredentialsExpired):
            fetch_text(f"http://127.0.0.1:{listener.getsockname()[1]}/", headers={}, seconds=0.1)
        assert time.monotonic() - started < 5
        thread.join()


@pytest.mark.parametrize("token", ["TOPSECRET\nmore", "TOPSECRET\N{HORIZONTAL ELLIPSIS}"])
def test_a_token_that_can_not_be_sent_is_in_no_error(service: Service, token: str) -> None:
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service.url}/creds",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
    }
    with pytest.raises(InvalidInput, match=r"the header Authorization for 127\.0\.0\.1") as caught:
        ContainerCredentials(environment).fetch()

    error: BaseException | None = caught.value
    while error is not None:
        assert "TOPSECRET" not in f"{error} {vars(error)}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("url", ["http://[", "http://host:port", "http://ho st/", "//host", "http://user:hidden@host/"])
@pytest.mark.parametrize("service_name", ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL_STS"])
def test_an_address_that_is_invalid_is_not_tried_again(
    write: Any, monkeypatch: pytest.MonkeyPatch, service_name: str, url: str
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv(service_name, url)
    write("[profile r]\nrole_arn = a\nsource_profile = b\n", SOURCE)
    provider = find_provider(profile="r" if service_name.endswith("STS") else None)
    with pytest.raises(InvalidInput, match="is not the URL of") as caught:
        provider.fetch()
    assert "hidden" not in str(caught.value)


# --- what a program passes -------------------------------------------------------------------------------------------


def test_what_a_program_passes_is_used(home: Path) -> None:
    own = Credentials("A", "S")
    session = botocore.session.Session()
    session.set_credentials("B", "BS", "BT")

    assert as_provider(own).fetch() == own
    assert as_provider(lambda: own).fetch() == own
    assert values(as_provider(session).fetch()) == ("B", "BS", "BT")
    assert values(as_provider(session.get_credentials()).fetch()) == ("B", "BS", "BT")
    assert isinstance(as_provider(session), FrozenCredentials)
    provider = AWSEnvironmentCredentials({})
    assert as_provider(provider) is provider


def test_a_session_without_credentials_says_so(home: Path) -> None:
    with pytest.raises(InvalidInput, match="no credentials"):
        as_provider(botocore.session.Session()).fetch()


@pytest.mark.parametrize("wrong", [5, "AKID", object()])
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="credentials must be"):
        as_provider(wrong)


def test_credentials_and_a_profile_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="exclude each other"):
        as_provider(Credentials("A", "S"), profile="p")


def test_no_repr_has_a_secret(write: Any) -> None:
    write(
        "[profile r]\nrole_arn = a\nsource_profile = s\n[profile c]\ncredential_process = print TOPSECRET\n",
        "[s]\naws_access_key_id = K\naws_secret_access_key = TOPSECRET\n",
    )
    for profile in ("r", "s", "c"):
        assert "TOPSECRET" not in repr(find_provider(profile=profile))
    session = botocore.session.Session()
    session.set_credentials("B", "TOPSECRET", "TOPSECRET")
    assert repr(as_provider(session)) == "FrozenCredentials(Session)"


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_come_from_the_profile_and_the_environment(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        "[default]\nregion = eu-west-1\nservices = mine\nca_bundle = /ca.pem\n"
        "s3 =\n  addressing_style = path\n  use_accelerate_endpoint = true\n"
        "[plugins]\nregion = of a plug-in\n"
        "[services mine]\ns3 =\n  endpoint_url = http://127.0.0.1:9\nsts =\n  endpoint_url = http://127.0.0.1:8\n"
    )
    assert read_settings() == Settings("eu-west-1", "http://127.0.0.1:9", "path", False, True, "/ca.pem")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:7")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    found = read_settings()
    assert (found.region, found.endpoint, found.dualstack) == ("us-west-2", "http://127.0.0.1:7", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:6")
    assert read_settings().endpoint == "http://127.0.0.1:6"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert read_settings().endpoint is None


def test_there_are_no_settings_without_files(home: Path) -> None:
    assert read_settings() == Settings()


@pytest.mark.parametrize("text", ["s3 =\n  addressing_style = any", "use_dualstack_endpoint = yes"])
def test_an_impossible_setting_is_refused(write: Any, text: str) -> None:
    write(f"[default]\n{text}\n")
    with pytest.raises(InvalidInput, match="must be"):
        read_settings()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file that this user can't read")
def test_a_file_that_can_not_be_read_is_an_error(home: Path) -> None:
    path = home / ".aws" / "config"
    path.write_text("[default]\n")
    path.chmod(stat.S_IWUSR)
    with pytest.raises(InvalidInput, match="can't be read"):
        read_settings()
