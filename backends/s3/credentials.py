"""
Where the access keys of S3 come from, in the order of AWS tools.

1. What the program passes: `Credentials`, a function, an object of botocore, or the name of a profile.
2. ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.
3. The role of the profile that ``AWS_PROFILE`` names, or of the profile ``default``.
4. ``AWS_ROLE_ARN`` with ``AWS_WEB_IDENTITY_TOKEN_FILE``.
5. Whatever else that profile has.
6. The container's and then the machine's metadata service.

A profile has static keys, a role to assume, a process to run, a cached login of IAM Identity Center (SSO), or a role
with a web identity. `partwise.backends._http.credentials` keeps the credentials in use, and fetches new ones before
they expire.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define

from partwise.backends._http.credentials import (
    CallableCredentials,
    Credentials,
    CredentialsProvider,
    StaticCredentials,
    VariableCredentials,
)
from partwise.backends.s3.addressing import regional_host
from partwise.backends.s3.metadata import Fetch, fetch_json, fetch_text, read_credentials, read_time
from partwise.backends.s3.profiles import (
    Profile,
    SharedFiles,
    configured_ca_bundle,
    profile_name,
    read_beginning,
    read_shared_files,
    service_endpoint,
)
from partwise.backends.s3.sts import assume_role, assume_role_with_web_identity
from partwise.errors import CredentialsExpired, InvalidInput
from partwise.model import KIB

__all__ = ["CREDENTIALS_HINT", "Credentials", "CredentialsProvider", "as_provider", "find_provider"]
__all__ += ["CallableCredentials", "AWSEnvironmentCredentials", "StaticCredentials"]
__all__ += ["ContainerCredentials", "FrozenCredentials", "MachineCredentials", "ProcessCredentials", "RoleCredentials"]
__all__ += ["SSOCredentials", "WebIdentityCredentials"]

CREDENTIALS_HINT = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a {profile} of ~/.aws, or pass Credentials in Python"
)

#: Seconds after which an object of botocore, which refreshes by itself, is called again.
_HOLD_SECONDS = 30.0

_CONTAINER_HOST = "http://169.254.170.2"
_CONTAINER_ADDRESSES = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23")
_MACHINE = "http://169.254.169.254"
_MACHINE_TOKEN_SECONDS = "21600"  # noqa: S105  # a number of seconds
_METADATA_SECONDS = 1.0

#: Seconds for which a credential process may run.
_PROCESS_SECONDS = 60.0

#: Bytes of the output of a process, and of a file with a token.
_TEXT_MAX = 64 * KIB

#: A longer chain of profiles is a mistake.
_CHAIN_MAX = 5


class AWSEnvironmentCredentials(VariableCredentials):
    """
    Credentials from environment variables, read again after a refusal.

    `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.

    Args:
        environment: the variables; None means those of the process.
    """

    families = (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),)
    hint = CREDENTIALS_HINT


class FrozenCredentials:
    """
    Credentials of botocore, which refreshes them by itself.

    Args:
        source: an object with `get_frozen_credentials()`, as botocore's credentials, or a session of botocore or boto3
            with `get_credentials()`, which returns one.
    """

    renewable = True
    hold_seconds: float | None = _HOLD_SECONDS

    def __init__(self, source: Any) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"FrozenCredentials({type(self._source).__name__})"

    def fetch(self) -> Credentials:
        source = self._source
        if not hasattr(source, "get_frozen_credentials"):
            source = source.get_credentials()
            if source is None:
                raise InvalidInput("the session of botocore has no credentials", hint=CREDENTIALS_HINT)
        # One call for all values: separate calls could return values of two access keys.
        frozen = source.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


# --- profiles --------------------------------------------------------------------------------------------------------


class _Renewable:
    """The base of providers that return credentials with an expiration."""

    renewable = True
    hold_seconds: float | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ProcessCredentials(_Renewable):
    """
    Credentials that the ``credential_process`` of a profile prints.

    Args:
        command: the command line. No shell runs it.
    """

    def __init__(self, command: str) -> None:
        self._command = command

    def fetch(self) -> Credentials:
        """
        Run the process, and return what it prints.

        Raises:
            CredentialsExpired: it fails, runs for more than a minute, or prints something else or too much. Retryable.
        """
        result: tuple[int, bytes] | None = None
        try:
            result = _run(shlex.split(self._command, posix=os.name != "nt"))
        except subprocess.TimeoutExpired:
            problem = f"does not end within {_PROCESS_SECONDS:g} seconds"
        except (OSError, ValueError) as error:
            problem = f"can't be run: {type(error).__name__}"
        if result is None:
            # Raised here, since a timeout has the command line in it, and would be the context.
            raise CredentialsExpired(f"the credential_process {problem}")
        code, output = result
        if len(output) > _TEXT_MAX:
            raise CredentialsExpired(f"the credential_process prints more than {_TEXT_MAX} bytes")
        if code:
            raise CredentialsExpired(f"the credential_process ended with the exit code {code}")
        values = _json_object(output, "the output of the credential_process")
        if values.get("Version") != 1:
            raise CredentialsExpired("the output of the credential_process has no Version 1")
        return read_credentials(values, "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


def _run(command: list[str]) -> tuple[int, bytes]:
    """
    Run a process, and return its exit code and what it prints.

    If that is too much, the process is ended, and only the beginning is returned.

    Raises:
        subprocess.TimeoutExpired: it does not end in time, or another process keeps its output open.
        OSError, ValueError: it can't be run.
    """
    deadline, output = time.monotonic() + _PROCESS_SECONDS, bytearray()
    process = subprocess.Popen(  # noqa: S603  # the user's own configuration names it, and no shell runs it
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    pipe = process.stdout

    def read() -> None:
        with pipe:
            output.extend(pipe.read(_TEXT_MAX + 1))

    # A thread, since a pipe can't be read with a timeout on Windows. It ends when all copies of the pipe are closed.
    reader = threading.Thread(target=read, daemon=True)
    try:
        reader.start()
        reader.join(_PROCESS_SECONDS)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(command, _PROCESS_SECONDS)
        if len(output) > _TEXT_MAX:
            process.kill()
        return process.wait(max(0.0, deadline - time.monotonic())), bytes(output)
    finally:
        process.kill()
        process.wait()


class RoleCredentials(_Renewable):
    """
    Credentials of a role that other credentials assume.

    Args:
        source: the credentials that may assume the role.
        profile: has `role_arn`, and optionally `role_session_name`, `external_id` and `duration_seconds`.
        region: the region of the token service; None: the global one.
        endpoint: the URL of the token service; None: AWS's.
        ca_bundle: certificate authorities to trust for the token service; None: the system's.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        source: CredentialsProvider,
        profile: Profile,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if profile.get("mfa_serial"):
            raise InvalidInput(
                f"the role of the profile {profile.name!r:.80} needs a code of an MFA device, which can't be asked for",
                hint="Assume the role by another tool, and pass its temporary credentials",
            )
        self._source, self._profile, self._region, self._endpoint = source, profile, region, endpoint
        self._ca_bundle, self._clock = ca_bundle, clock

    def fetch(self) -> Credentials:
        parameters = {"RoleArn": self._profile.get("role_arn") or "", "RoleSessionName": _session_name(self._profile)}
        for name, setting in (("ExternalId", "external_id"), ("DurationSeconds", "duration_seconds")):
            value = self._profile.get(setting)
            if value is not None:
                parameters[name] = value
        return assume_role(
            self._source.fetch(),
            parameters,
            region=self._region,
            endpoint=self._endpoint,
            ca_bundle=self._ca_bundle,
            now=self._clock(),
        )


class WebIdentityCredentials(_Renewable):
    """
    Credentials of a role that a web identity assumes, as in Kubernetes.

    Args:
        role_arn: the role.
        token_file: the file with the token; it is read each time, since it is replaced.
        session_name: the name of the session.
        region: the region of the token service; None: the global one.
        endpoint: the URL of the token service; None: AWS's.
        ca_bundle: certificate authorities to trust for the token service; None: the system's.
    """

    def __init__(
        self,
        role_arn: str,
        token_file: str,
        *,
        session_name: str,
        region: str | None = None,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self._parameters = {"RoleArn": role_arn, "RoleSessionName": session_name}
        self._token_file, self._region, self._endpoint, self._ca_bundle = token_file, region, endpoint, ca_bundle

    def fetch(self) -> Credentials:
        token = _read_small_file(self._token_file, "the file with the web identity token").strip()
        parameters = {**self._parameters, "WebIdentityToken": token}
        return assume_role_with_web_identity(
            parameters, region=self._region, endpoint=self._endpoint, ca_bundle=self._ca_bundle
        )


@define(frozen=True)
class SSOLogin:
    """What a profile says about its login by IAM Identity Center."""

    cache_name: str  # the session or the start URL, which the cached token is filed under
    region: str
    account_id: str
    role_name: str


class SSOCredentials(_Renewable):
    """
    Credentials of a role, by the cached token of ``aws sso login``.

    Args:
        login: what the profile says.
        endpoint: the URL of the portal; None: AWS's.
        ca_bundle: certificate authorities to trust for the portal; None: the system's.
        cache: the directory of the cached tokens.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        login: SSOLogin,
        *,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        cache: str = "~/.aws/sso/cache",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._login, self._endpoint, self._ca_bundle = login, endpoint, ca_bundle
        self._cache, self._clock = cache, clock

    def fetch(self) -> Credentials:
        """
        Fetch credentials with the cached token.

        Raises:
            InvalidInput: there is no token, or it has expired, or is refused: log in again.
            CredentialsExpired: the portal can't be asked. Retryable.
        """
        login = self._login
        name = hashlib.sha1(login.cache_name.encode(), usedforsecurity=False).hexdigest()
        hint = "Run: aws sso login"
        try:
            path = Path(self._cache).expanduser() / f"{name}.json"
            text = _read_small_file(str(path), "the cached login")
        except (CredentialsExpired, RuntimeError) as error:
            raise InvalidInput("there is no cached login for the profile's SSO session", hint=hint) from error
        values = _json_object(text.encode(), "the cached login")
        expires = read_time(values.get("expiresAt"))
        token = values.get("accessToken")
        if not isinstance(token, str) or (expires is not None and expires.timestamp() <= self._clock()):
            raise InvalidInput("the login of the profile's SSO session has expired", hint=hint)
        base = self._endpoint or f"https://{regional_host('portal.sso', login.region)}"
        query = f"account_id={quote(login.account_id, safe='')}&role_name={quote(login.role_name, safe='')}"
        try:
            response = fetch_json(
                f"{base.rstrip('/')}/federation/credentials?{query}",
                headers={"x-amz-sso_bearer_token": token},
                seconds=10.0,
                through_proxy=True,
                ca_bundle=self._ca_bundle,
            )
        except CredentialsExpired as error:
            if error.status == 401:  # the time in the file may be later than the end of the session
                raise InvalidInput("the portal refuses the login of the profile's SSO session", hint=hint) from error
            raise
        found = response.get("roleCredentials")
        if not isinstance(found, dict):
            raise CredentialsExpired("the response of the SSO portal has no credentials")
        milliseconds = found.get("expiration")
        expiration = (
            milliseconds / 1000 if isinstance(milliseconds, int) and not isinstance(milliseconds, bool) else None
        )
        return read_credentials(
            {**found, "expiration": expiration}, "accessKeyId", "secretAccessKey", "sessionToken", "expiration"
        )


# --- metadata services -----------------------------------------------------------------------------------------------


class ContainerCredentials(_Renewable):
    """
    Credentials from the metadata service of a container (ECS, EKS, Lambda).

    Args:
        environment: names the service, and the token or the file with it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        full = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if relative and not relative.startswith("/"):
            # It would change the host, to which the token is sent.
            raise InvalidInput(
                f"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with a slash, unlike {relative!r:.80}"
            )
        self._url = f"{_CONTAINER_HOST}{relative}" if relative else full or ""
        if not relative:
            _check_container_host(self._url)

    def fetch(self) -> Credentials:
        headers, environment = {}, self._environment
        token_file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        if token_file:
            token = _read_small_file(token_file, "the file with the token of the container").strip()
        if token:
            headers["Authorization"] = token
        response = fetch_json(self._url, headers=headers, seconds=_METADATA_SECONDS)
        return read_credentials(response, "AccessKeyId", "SecretAccessKey", "Token", "Expiration")


def _check_container_host(url: str) -> None:
    """Refuse a URL that would send the container's token anywhere else."""
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:  # brackets without an address in them
        scheme = host = ""
    if scheme == "https":
        return
    try:
        address = ip_address(host)
        allowed = address.is_loopback or host in _CONTAINER_ADDRESSES or address in ip_network("169.254.170.0/24")
    except ValueError:
        allowed = host == "localhost"
    if scheme != "http" or not allowed:
        raise InvalidInput(
            f"AWS_CONTAINER_CREDENTIALS_FULL_URI names {host!r:.80}, which is neither https nor this machine"
        )


class MachineCredentials(_Renewable):
    """
    Credentials of the role of a machine (EC2), by version 2 of its service.

    Args:
        environment: may name another service, or disable it.
        fetch: makes the requests.
    """

    def __init__(self, environment: Mapping[str, str], fetch: Fetch = fetch_text) -> None:
        self._base = (environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _MACHINE).rstrip("/")
        self._fetch = fetch
        self._has_answered = False

    def fetch(self) -> Credentials:
        """
        Ask the metadata service.

        Raises:
            InvalidInput: the service has never answered, so there is none: no credentials are configured.
            CredentialsExpired: it has answered before, and does not now. Retryable.
        """
        try:
            credentials = self._ask()
        except CredentialsExpired as error:
            if self._has_answered:
                raise
            raise InvalidInput(
                "no credentials are configured, and there is no metadata service of a machine in AWS",
                hint=CREDENTIALS_HINT,
            ) from error
        self._has_answered = True
        return credentials

    def _ask(self) -> Credentials:
        token = self._fetch(
            f"{self._base}/latest/api/token",
            method="PUT",
            headers={"x-aws-ec2-metadata-token-ttl-seconds": _MACHINE_TOKEN_SECONDS},
            seconds=_METADATA_SECONDS,
        )
        headers = {"x-aws-ec2-metadata-token": token.strip()}
        roles = f"{self._base}/latest/meta-data/iam/security-credentials/"
        role = self._fetch(roles, headers=headers, seconds=_METADATA_SECONDS).strip().partition("\n")[0]
        if not role:
            raise InvalidInput("this machine has no role", hint=CREDENTIALS_HINT)
        text = self._fetch(roles + quote(role, safe=""), headers=headers, seconds=_METADATA_SECONDS)
        return read_credentials(
            _json_object(text.encode(), "the response of the metadata service"),
            *("AccessKeyId", "SecretAccessKey", "Token", "Expiration"),
        )


# --- which one -------------------------------------------------------------------------------------------------------


def as_provider(
    credentials: object,
    *,
    profile: str | None = None,
    environment: Mapping[str, str] | None = None,
    files: SharedFiles | None = None,
) -> CredentialsProvider:
    """
    Return a provider for what the caller passed as credentials.

    Args:
        credentials: `Credentials`, a provider, an object of botocore as for `FrozenCredentials`, a function that
            returns `Credentials`, or None to look for them.
        profile: the name of a profile to take them from.
        environment: the variables; None: those of the process.
        files: the files; None: they are read.

    Raises:
        InvalidInput: it is something else, or none are found.
    """
    if credentials is None:
        return find_provider(profile=profile, environment=environment, files=files)
    if profile is not None:
        raise InvalidInput("credentials and profile exclude each other; both were given")
    if isinstance(credentials, Credentials):
        return StaticCredentials(credentials)
    if isinstance(credentials, CredentialsProvider):
        return credentials
    if any(callable(getattr(credentials, name, None)) for name in ("get_frozen_credentials", "get_credentials")):
        return FrozenCredentials(credentials)
    if callable(credentials):
        return CallableCredentials(credentials)
    raise InvalidInput(
        "credentials must be Credentials, a function that returns them, or an object of botocore, not "
        f"{type(credentials).__name__}"
    )


def find_provider(
    *,
    profile: str | None = None,
    environment: Mapping[str, str] | None = None,
    files: SharedFiles | None = None,
) -> CredentialsProvider:
    """
    Return the first provider that is configured.

    Args:
        profile: the name of a profile; None: see the module.
        environment: the variables; None: those of the process.
        files: the files; None: they are read.

    Raises:
        InvalidInput: a file or a profile is not valid, or nothing is configured.
    """
    variables = os.environ if environment is None else environment
    if profile is not None:
        files = files or read_shared_files(variables)
        chosen = files.profile(profile)
        return _of_profile(chosen, _Configured(files, variables, configured_ca_bundle(variables, chosen)))
    own = AWSEnvironmentCredentials(variables)
    if own.present:
        return own
    files = files or read_shared_files(variables)
    name = profile_name(variables)
    chosen = files.profiles.get("default", Profile("default")) if name is None else files.profile(name)
    ca_bundle = configured_ca_bundle(variables, chosen)
    role_arn, token_file = variables.get("AWS_ROLE_ARN"), variables.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if role_arn and token_file and not chosen.get("role_arn"):
        return WebIdentityCredentials(
            role_arn,
            token_file,
            session_name=variables.get("AWS_ROLE_SESSION_NAME") or _default_session_name(),
            region=variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION"),
            endpoint=service_endpoint("sts", variables, chosen, files),
            ca_bundle=ca_bundle,
        )
    if name is not None or _has_credentials(chosen):
        return _of_profile(chosen, _Configured(files, variables, ca_bundle))
    if _names_container(variables):
        return ContainerCredentials(variables)
    if (variables.get("AWS_EC2_METADATA_DISABLED") or "").lower() == "true":
        raise InvalidInput("no credentials are configured", hint=CREDENTIALS_HINT)
    return MachineCredentials(variables)


def _names_container(variables: Mapping[str, str]) -> bool:
    return bool(
        variables.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    )


def _has_credentials(profile: Profile) -> bool:
    names = ("role_arn", "credential_process", "aws_access_key_id", "sso_account_id")
    return any(profile.get(name) for name in names)


@define(frozen=True)
class _Configured:
    """What all profiles of a chain have in common."""

    files: SharedFiles
    variables: Mapping[str, str]
    ca_bundle: str | None  # that of the first profile, or of the environment

    def endpoint(self, service: str, profile: Profile) -> str | None:
        """Return the URL of a service; None: AWS's."""
        return service_endpoint(service, self.variables, profile, self.files)


def _of_profile(profile: Profile, configured: _Configured, seen: tuple[str, ...] = ()) -> CredentialsProvider:
    if len(seen) >= _CHAIN_MAX:
        raise InvalidInput(f"the profiles {' -> '.join(seen)} name each other as their source_profile")
    if profile.get("role_arn") and not (profile.name in seen and profile.get("aws_access_key_id")):
        return _of_role(profile, configured, seen)
    key_id, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
    if key_id is not None or secret is not None:
        if key_id is None or secret is None:
            raise InvalidInput(f"the profile {profile.name!r:.80} has only one half of an access key")
        return StaticCredentials(Credentials(key_id, secret, profile.get("aws_session_token")))
    if profile.get("sso_account_id"):
        login = _login_of(profile, configured.files)
        return SSOCredentials(login, endpoint=configured.endpoint("sso", profile), ca_bundle=configured.ca_bundle)
    command = profile.get("credential_process")
    if command is not None:
        return ProcessCredentials(command)
    raise InvalidInput(f"the profile {profile.name!r:.80} has no credentials", hint=CREDENTIALS_HINT)


def _of_role(profile: Profile, configured: _Configured, seen: tuple[str, ...]) -> CredentialsProvider:
    variables, ca_bundle = configured.variables, configured.ca_bundle
    region = profile.get("region") or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    endpoint = configured.endpoint("sts", profile)
    token_file = profile.get("web_identity_token_file")
    if token_file is not None:
        return WebIdentityCredentials(
            profile.get("role_arn") or "",
            token_file,
            session_name=_session_name(profile),
            region=region,
            endpoint=endpoint,
            ca_bundle=ca_bundle,
        )
    source, kind = profile.get("source_profile"), profile.get("credential_source")
    provider: CredentialsProvider
    if source is not None:
        provider = _of_profile(configured.files.profile(source), configured, (*seen, profile.name))
    elif kind == "Environment":
        provider = AWSEnvironmentCredentials(variables)
    elif kind == "EcsContainer":
        provider = ContainerCredentials(variables)
    elif kind == "Ec2InstanceMetadata":
        provider = MachineCredentials(variables)
    else:
        raise InvalidInput(
            f"the profile {profile.name!r:.80} has a role_arn, but neither a source_profile nor a known"
            " credential_source"
        )
    return RoleCredentials(provider, profile, region=region, endpoint=endpoint, ca_bundle=ca_bundle)


def _login_of(profile: Profile, files: SharedFiles) -> SSOLogin:
    session = profile.get("sso_session")
    values: Mapping[str, str] = profile.values
    if session is not None:
        if session not in files.sso_sessions:
            raise InvalidInput(f"there is no section 'sso-session {session:.80}' in the config file of AWS")
        values = files.sso_sessions[session]
    region, start_url = values.get("sso_region"), values.get("sso_start_url")
    account_id, role_name = profile.get("sso_account_id"), profile.get("sso_role_name")
    if not (region and start_url and account_id and role_name):
        raise InvalidInput(
            f"the profile {profile.name!r:.80} needs sso_region, sso_start_url, sso_account_id and sso_role_name"
        )
    return SSOLogin(session or start_url, region, account_id, role_name)


def _session_name(profile: Profile) -> str:
    return profile.get("role_session_name") or _default_session_name()


def _default_session_name() -> str:
    return f"partwise-{int(time.time())}"


# --- reading ---------------------------------------------------------------------------------------------------------


def _read_small_file(path: str, what: str) -> str:
    try:
        data = read_beginning(Path(path), _TEXT_MAX + 1)
    except (OSError, ValueError) as error:
        raise CredentialsExpired(f"{what} can't be read: {type(error).__name__}") from error
    if len(data) > _TEXT_MAX:
        raise CredentialsExpired(f"{what} has more than {_TEXT_MAX} bytes")
    return data.decode("utf-8", "replace")


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data[: _TEXT_MAX + 1])
    except (ValueError, RecursionError):
        value = None  # the error would quote the text, which may have secrets
    if not isinstance(value, dict):
        raise CredentialsExpired(f"{what} is not a JSON object")
    return value
