"""Credentials, their providers, and the cache that threads share."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._http.credentials import (
    CallableCredentials,
    Credentials,
    CredentialsCache,
    CredentialsProvider,
    StaticCredentials,
)
from partwise.backends.oss.credentials import ClientCredentials, EnvironmentCredentials, as_provider
from partwise.errors import CredentialsExpired, InvalidInput

NOW = 1_000_000.0


def in_seconds(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


# --- credentials -----------------------------------------------------------------------------------------------------


def test_a_repr_contains_no_secret():
    credentials = Credentials("testid0000EXAMPLE", "hunter2", "STS.token", in_seconds(60))
    for shown in (credentials, StaticCredentials(credentials), as_provider(Client(credentials)), [credentials]):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert "hunter2" not in text
            assert "STS.token" not in text
            assert "testid" not in text


def test_a_repr_shows_the_end_of_the_id():
    assert "***MPLE" in repr(Credentials("testid0000EXAMPLE", "secret"))


@pytest.mark.parametrize("bad", [("", "secret"), ("id", ""), ("id", "se cret"), ("id", "hunter2\r\nx: y"), ("ïd", "s")])
def test_an_invalid_key_is_refused_and_not_shown(bad):
    with pytest.raises(InvalidInput) as raised:
        Credentials(*bad)
    assert "hunter2" not in str(raised.value)


def test_a_token_with_a_line_end_is_refused():
    with pytest.raises(InvalidInput, match="security_token"):
        Credentials("id", "secret", "to\nken")


@pytest.mark.parametrize("secret", [None, 5, b"secret", ["secret"]])
def test_a_value_that_is_not_text_is_refused(secret):
    with pytest.raises(InvalidInput, match="access_key_secret"):
        Credentials("id", secret)


def test_a_repr_shows_whether_there_are_a_token_and_an_expiration():
    plain = Credentials("testid0000EXAMPLE", "secret")
    full = Credentials("testid0000EXAMPLE", "secret", "token", in_seconds(60))
    assert repr(plain) == "Credentials(access_key_id='***MPLE', access_key_secret=***)"
    assert repr(full) == (
        "Credentials(access_key_id='***MPLE', access_key_secret=***, security_token=***,"
        " expiration=1970-01-12T13:47:40+00:00)"
    )


def test_the_secrets_are_the_secret_and_the_token():
    assert Credentials("id", "secret").secrets == ("secret",)
    assert Credentials("id", "secret", "token").secrets == ("secret", "token")


def test_an_empty_token_is_none():
    assert Credentials("id", "secret", "").security_token is None


@pytest.mark.parametrize(
    "value", [NOW, int(NOW), in_seconds(0), in_seconds(0).astimezone(timezone(timedelta(hours=8)))]
)
def test_an_expiration_is_a_datetime_or_a_timestamp(value):
    assert Credentials("id", "secret", None, value).expiration == in_seconds(0)


@pytest.mark.parametrize(
    "given",
    [
        1.7e12,
        1_700_000_000_000,
        float("nan"),
        float("inf"),
        -float("inf"),
        1e20,
        -1e20,
        10**400,
        -(10**400),
        True,
        "2030-01-01",
        "1741507626",
        b"1",
        [1],
    ],
)
def test_an_invalid_expiration_is_refused(given):
    with pytest.raises(InvalidInput, match="the expiration of credentials"):
        Credentials("id", "secret", expiration=given)


def test_the_hint_for_an_expiration_out_of_range_suggests_milliseconds():
    with pytest.raises(InvalidInput, match="milliseconds"):
        Credentials("id", "secret", expiration=1.7e12)


@given(
    st.one_of(
        *(st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.integers(), st.integers(-(10**12), 10**12)),
        st.datetimes(timezones=st.sampled_from([None, UTC])),
    )
)
def test_an_arbitrary_expiration_is_accepted_or_refused(value):
    with contextlib.suppress(InvalidInput):
        expiration = Credentials("id", "secret", expiration=value).expiration
        if value is None or isinstance(value, datetime):
            assert expiration == value
        else:
            assert expiration.timestamp() == pytest.approx(value, abs=0.001)


def test_an_invalid_expiration_from_a_function_is_an_error():
    cache = make_cache(CallableCredentials(lambda: Credentials("id", "secret", expiration=1.7e12)))
    with pytest.raises(InvalidInput, match="milliseconds"):
        cache.current()


def test_an_invalid_key_is_not_a_local_variable_of_the_traceback():
    """Error trackers record the local variables of frames."""
    with pytest.raises(InvalidInput) as raised:
        Credentials("id", "hunter2 hunter2")
    captured = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    frames = [frame for frame in captured.stack if "credentials.py" in frame.filename and "test_" not in frame.filename]
    assert frames
    assert "hunter2" not in repr([frame.locals for frame in frames])


def test_an_expiration_without_a_time_zone_is_refused():
    with pytest.raises(InvalidInput, match="time zone"):
        Credentials("id", "secret", None, datetime(2030, 1, 1))  # noqa: DTZ001  # intended


# --- providers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"}, ("a", "b", None)),
        ({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b", "OSS_SESSION_TOKEN": "c"}, ("a", "b", "c")),
        (
            {"ALIBABA_CLOUD_ACCESS_KEY_ID": "a", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b"},
            ("a", "b", None),
        ),
        (
            {
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "a",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b",
                "ALIBABA_CLOUD_SECURITY_TOKEN": "c",
            },
            ("a", "b", "c"),
        ),
        (
            {
                "OSS_ACCESS_KEY_ID": "a",
                "OSS_ACCESS_KEY_SECRET": "b",
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "x",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "y",
                "ALIBABA_CLOUD_SECURITY_TOKEN": "z",
            },
            ("a", "b", None),
        ),
        ({"OSS_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_ID": "x", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "y"}, "xy"),
    ],
)
def test_the_environment(environment, expected):
    provider = EnvironmentCredentials(environment)
    assert provider.present
    assert provider.fetch() == Credentials(*expected)


def test_without_variables_the_hint_names_them():
    provider = EnvironmentCredentials({})
    assert not provider.present
    with pytest.raises(InvalidInput, match="Set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"):
        provider.fetch()


def test_if_one_variable_is_missing_the_error_names_it():
    with pytest.raises(InvalidInput, match="OSS_ACCESS_KEY_SECRET is not"):
        EnvironmentCredentials({"OSS_ACCESS_KEY_ID": "a"}).fetch()


def test_the_environment_is_read_again_each_time(monkeypatch):
    provider = EnvironmentCredentials()
    for secret in ("one", "two"):
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
        assert provider.fetch().access_key_secret == secret


class Model:
    """Credentials as of alibabacloud-credentials."""

    access_key_id = "id"
    access_key_secret = "secret"
    security_token = "token"
    type = "sts"


class Getters:
    """Credentials as of its providers."""

    def get_access_key_id(self):
        return "id"

    def get_access_key_secret(self):
        return "secret"

    def get_security_token(self):
        return "token"


class Client:
    def __init__(self, credentials):
        self.credentials = credentials

    def get_credential(self):
        return self.credentials


class SDKProvider(Client):
    get_credential = None

    def get_credentials(self):
        return self.credentials


@pytest.mark.parametrize("client", [Client, SDKProvider])
@pytest.mark.parametrize("credentials", [Model(), Getters(), Credentials("id", "secret", "token")])
def test_a_client_is_recognised_by_its_methods(client, credentials):
    provider = as_provider(client(credentials))
    assert isinstance(provider, ClientCredentials)
    assert provider.fetch() == Credentials("id", "secret", "token")


@pytest.mark.parametrize(
    ("expiration", "kept"),
    [(in_seconds(60), in_seconds(60)), (datetime(2030, 1, 1), None), ("soon", None)],  # noqa: DTZ001  # intended
)
def test_the_expiration_of_a_client_is_kept_if_it_is_valid(expiration, kept):
    model = Model()
    model.expiration = expiration
    assert as_provider(Client(model)).fetch().expiration == kept


def test_a_client_without_credentials_is_an_error():
    with pytest.raises(InvalidInput, match="access_key_id is empty"):
        as_provider(Client(object())).fetch()


def test_a_provider_is_used_as_it_is():
    provider = EnvironmentCredentials({})
    assert as_provider(provider) is provider
    assert isinstance(as_provider(None), EnvironmentCredentials)
    assert isinstance(as_provider(lambda: None), CallableCredentials)
    assert all(isinstance(as_provider(kind), CredentialsProvider) for kind in (None, Client(1), Credentials("i", "s")))


@pytest.mark.parametrize("value", [5, "id:secret", ("id", "secret")])
def test_other_values_are_refused(value):
    with pytest.raises(InvalidInput, match="credentials must be Credentials, a function"):
        as_provider(value)


def test_a_function_that_returns_something_else_is_an_error():
    with pytest.raises(InvalidInput, match="must return Credentials, not tuple"):
        as_provider(lambda: ("id", "hunter2")).fetch()


# --- the cache -------------------------------------------------------------------------------------------------------


class Rotating:
    """A provider that returns other credentials with each call."""

    renewable = True
    hold_seconds: float | None = None

    def __init__(self, validity: float | None = 3600.0) -> None:
        self.validity = validity
        self.now = NOW
        self.calls = 0
        self.fails: Exception | None = None
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def fetch(self):
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.fails is not None:
            raise self.fails
        self.calls += 1
        expiration = None if self.validity is None else self.now + self.validity
        return Credentials("id", f"secret{self.calls}", None, expiration)

    def clock(self):
        return self.now


def make_cache(provider) -> CredentialsCache:
    return CredentialsCache(provider, getattr(provider, "clock", lambda: NOW))


def test_credentials_are_fetched_once():
    provider = Rotating()
    cache = make_cache(provider)
    assert {cache.current().credentials.access_key_secret for _ in range(5)} == {"secret1"}
    assert provider.calls == 1


@pytest.mark.parametrize(("validity", "early"), [(3600.0, 300.0), (1500.0, 300.0), (100.0, 20.0), (10.0, 2.0)])
def test_new_credentials_are_fetched_before_the_old_ones_expire(validity, early):
    provider = Rotating(validity)
    cache = make_cache(provider)
    cache.current()
    provider.now += validity - early - 1
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.now += 1
    assert cache.current().credentials.access_key_secret == "secret2"


def test_credentials_without_an_expiration_are_used_until_they_are_refused():
    provider = Rotating(None)
    cache = make_cache(provider)
    first = cache.current()
    provider.now += 1e9
    assert cache.current() is first
    assert cache.renew(first)
    assert cache.current().credentials.access_key_secret == "secret2"


def test_a_client_that_refreshes_by_itself_is_called_periodically():
    provider = Rotating(None)
    provider.hold_seconds = 30.0
    cache = make_cache(provider)
    cache.current()
    provider.now += 29
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.now += 1
    assert cache.current().credentials.access_key_secret == "secret2"


def test_a_client_is_called_again_after_thirty_seconds():
    results = iter([Credentials("id", "secret1"), Credentials("id", "secret2")])
    client, now = Client(None), [NOW]
    client.get_credential = lambda: next(results)
    cache = CredentialsCache(as_provider(client), lambda: now[0])
    seen = []
    for seconds in (0.0, 29.9, 30.0):
        now[0] = NOW + seconds
        seen.append(cache.current().credentials.access_key_secret)
    assert seen == ["secret1", "secret1", "secret2"]


def test_without_credentials_one_thread_fetches_and_the_others_wait():
    provider = Rotating()
    provider.gate = threading.Event()
    cache = make_cache(provider)
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(cache.current().credentials.access_key_secret)) for _ in "12345"
    ]
    for thread in threads:
        thread.start()
    provider.gate.set()
    for thread in threads:
        thread.join(10)
    assert (seen, provider.calls) == (["secret1"] * 5, 1)


def test_while_one_thread_fetches_the_others_use_the_old_credentials():
    provider = Rotating()
    cache = make_cache(provider)
    cache.current()
    provider.now += 3400
    provider.gate = threading.Event()
    provider.entered.clear()
    fetching = threading.Thread(target=cache.current)
    fetching.start()
    assert provider.entered.wait(10)
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.gate.set()
    fetching.join(10)
    assert cache.current().credentials.access_key_secret == "secret2"


def test_a_thread_that_arrives_after_a_renewal_uses_its_result():
    provider = Rotating()
    cache = make_cache(provider)
    old = cache.current()
    provider.now += 3400
    new = cache.current()
    assert cache._renew_early(old) is new
    assert provider.calls == 2


def test_a_failed_early_renewal_is_retried_after_ten_seconds():
    provider = Rotating()
    cache = make_cache(provider)
    cache.current()
    provider.now += 3400
    provider.fails = OSError("no route to the metadata service")
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.fails = None
    for seconds in (0.0, 9.9):
        provider.now = NOW + 3400 + seconds
        assert cache.current().credentials.access_key_secret == "secret1"
    provider.now = NOW + 3410
    assert cache.current().credentials.access_key_secret == "secret2"


def test_a_failed_renewal_after_the_expiration_is_a_retryable_error():
    provider = Rotating()
    cache = make_cache(provider)
    cache.current()
    provider.now += 3601
    provider.fails = OSError("the secret is hunter2")
    with pytest.raises(CredentialsExpired) as raised:
        cache.current()
    assert (raised.value.retryable, raised.value.__cause__) == (True, provider.fails)
    assert "hunter2" not in str(raised.value)
    provider.fails = None
    assert cache.current().credentials.access_key_secret == "secret2"


def test_credentials_are_used_up_to_their_expiration():
    provider = Rotating()
    cache = make_cache(provider)
    cache.current()
    provider.fails = OSError("unreachable")
    provider.now = NOW + 3599.9
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.now = NOW + 3600
    with pytest.raises(CredentialsExpired):
        cache.current()


def test_a_client_that_fails_is_not_called_for_ten_seconds():
    provider = Rotating(None)
    provider.hold_seconds = 30.0
    cache = make_cache(provider)
    cache.current()
    provider.now += 30
    provider.fails = OSError("unreachable")
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.fails = None
    provider.now += 9.9
    assert cache.current().credentials.access_key_secret == "secret1"
    provider.now += 0.1
    assert cache.current().credentials.access_key_secret == "secret2"


def test_a_partwise_error_of_a_provider_propagates():
    with pytest.raises(InvalidInput, match="no credentials are configured"):
        make_cache(EnvironmentCredentials({})).current()


def test_after_a_refusal_new_credentials_are_fetched_once_for_all_threads():
    provider = Rotating()
    cache = make_cache(provider)
    refused = cache.current()
    results: list[bool] = []
    barrier = threading.Barrier(6)

    def work():
        barrier.wait(10)
        results.append(cache.renew(refused))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (results, provider.calls) == ([True] * 6, 2)


def test_a_refused_thread_waits_for_the_one_that_fetches():
    provider = Rotating()
    cache = make_cache(provider)
    refused = cache.current()
    provider.gate = threading.Event()
    provider.entered.clear()
    threads = [threading.Thread(target=cache.renew, args=(refused,), daemon=True) for _ in range(2)]
    threads[0].start()
    assert provider.entered.wait(10)
    provider.entered.clear()
    threads[1].start()
    assert not provider.entered.wait(0.02)
    provider.gate.set()
    for thread in threads:
        thread.join(10)
    assert provider.calls == 2


def test_unchanged_credentials_do_not_count_as_new():
    calls = []
    cache = make_cache(CallableCredentials(lambda: calls.append(1) or Credentials("id", "secret")))
    refused = cache.current()
    assert not cache.renew(refused)
    assert not cache.renew(refused)
    assert len(calls) == 2, "a second thread with the same refusal does not fetch again"


def test_credentials_that_were_renewed_before_the_refusal_arrived_are_used():
    provider = Rotating()
    cache = make_cache(provider)
    refused = cache.current()
    provider.now += 3400
    assert cache.current().credentials.access_key_secret == "secret2"
    assert cache.renew(refused)
    assert provider.calls == 2


def test_the_environment_is_read_again_after_a_refusal():
    environment = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "old"}
    cache = make_cache(EnvironmentCredentials(environment))
    refused = cache.current()
    environment["OSS_ACCESS_KEY_SECRET"] = "new"
    assert cache.current().credentials.access_key_secret == "old"
    assert cache.renew(refused)
    assert cache.current().credentials.access_key_secret == "new"


@pytest.mark.parametrize("shape", ["client", "function"])
def test_a_client_or_a_function_is_called_again_after_a_refusal(shape):
    client = Client(Credentials("id", "old"))
    cache = make_cache(as_provider(client if shape == "client" else lambda: client.credentials))
    refused = cache.current()
    client.credentials = Credentials("id", "new")
    assert cache.renew(refused)
    assert cache.current().credentials.access_key_secret == "new"


def test_static_credentials_are_fetched_once():
    calls = []

    class Counted(StaticCredentials):
        def fetch(self):
            calls.append(1)
            return super().fetch()

    cache = make_cache(Counted(Credentials("id", "secret", None, NOW - 5)))
    for _ in range(3):
        assert not cache.renew(cache.current())
    assert len(calls) == 1


def test_a_client_is_called_after_a_refusal_even_if_it_was_called_since_with_the_same_result():
    calls = iter(["one", "one", "two"])
    provider = ClientCredentials(Client(None))
    provider.fetch = lambda: Credentials("id", next(calls))
    now = [NOW]
    cache = CredentialsCache(provider, lambda: now[0])
    refused = cache.current()
    now[0] += 31
    cache.current()
    assert cache.renew(refused)
    assert cache.current().credentials.access_key_secret == "two"


def test_static_credentials_can_not_be_renewed():
    cache = make_cache(StaticCredentials(Credentials("id", "secret", None, NOW - 5)))
    assert not cache.renew(cache.current())


def test_a_provider_that_fails_after_a_refusal_is_a_retryable_error():
    provider = Rotating()
    cache = make_cache(provider)
    refused = cache.current()
    provider.fails = OSError("unreachable")
    with pytest.raises(CredentialsExpired) as raised:
        cache.renew(refused)
    assert raised.value.retryable


def test_a_process_with_another_pid_does_not_wait_for_the_lock(monkeypatch):
    """A simulated fork: the child has a copy of the locked lock."""
    provider = Rotating()
    cache = make_cache(provider)
    with cache._lock():
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert cache.current().credentials.access_key_secret == "secret1"
        assert cache._lock() is cache._lock(), "the threads of the child share a lock"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent():
    provider = Rotating()
    provider.gate = threading.Event()
    cache = make_cache(provider)
    fetching = threading.Thread(target=cache.current)
    fetching.start()
    assert provider.entered.wait(10)
    child = os.fork()
    if child == 0:  # pragma: no cover  # not seen by the parent's coverage
        provider.gate = None
        os._exit(0 if cache.current().credentials.access_key_secret == "secret1" else 1)
    _, status = os.waitpid(child, 0)
    provider.gate.set()
    fetching.join(10)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    "provider",
    [
        StaticCredentials(Credentials("id", "secret", "t", in_seconds(1))),
        EnvironmentCredentials(),
        CallableCredentials(len),
    ],
)
def test_a_provider_can_be_pickled_if_its_contents_can(provider):
    assert repr(pickle.loads(pickle.dumps(provider))) == repr(provider)
