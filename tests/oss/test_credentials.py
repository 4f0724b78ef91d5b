"""Credentials: what they show, where they come from, how threads share them."""

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

from partwise.backends.oss.credentials import (
    CallableCredentials,
    ClientCredentials,
    Credentials,
    CredentialsProvider,
    EnvironmentCredentials,
    Keyring,
    StaticCredentials,
    as_provider,
)
from partwise.errors import CredentialsExpired, InvalidInput

NOW = 1_000_000.0


def until(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


# --- credentials -----------------------------------------------------------------------------------------------------


def test_no_repr_shows_a_secret():
    credentials = Credentials("testid0000EXAMPLE", "hunter2", "STS.token", until(60))
    for shown in (credentials, StaticCredentials(credentials), as_provider(Client(credentials)), [credentials]):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert "hunter2" not in text
            assert "STS.token" not in text
            assert "testid" not in text


def test_the_end_of_the_id_is_shown_so_that_keys_can_be_told_apart():
    assert "***MPLE" in repr(Credentials("testid0000EXAMPLE", "secret"))


@pytest.mark.parametrize("bad", [("", "secret"), ("id", ""), ("id", "se cret"), ("id", "hunter2\r\nx: y"), ("ïd", "s")])
def test_what_can_be_no_key_is_refused_without_being_shown(bad):
    with pytest.raises(InvalidInput) as raised:
        Credentials(*bad)
    assert "hunter2" not in str(raised.value)


def test_a_token_with_a_line_end_is_refused():
    with pytest.raises(InvalidInput, match="security_token"):
        Credentials("id", "secret", "to\nken")


@pytest.mark.parametrize("secret", [None, 5, b"secret", ["secret"]])
def test_what_is_no_text_is_refused(secret):
    with pytest.raises(InvalidInput, match="access_key_secret"):
        Credentials("id", secret)


def test_a_repr_says_whether_there_are_a_token_and_an_expiration():
    plain = Credentials("testid0000EXAMPLE", "secret")
    full = Credentials("testid0000EXAMPLE", "secret", "token", until(60))
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


@pytest.mark.parametrize("given", [NOW, int(NOW), until(0), until(0).astimezone(timezone(timedelta(hours=8)))])
def test_an_expiration_is_a_time(given):
    assert Credentials("id", "secret", None, given).expiration == until(0)


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
def test_an_expiration_that_can_not_be_a_time_is_refused(given):
    with pytest.raises(InvalidInput, match="the expiration of credentials is a time"):
        Credentials("id", "secret", expiration=given)


def test_an_expiration_in_milliseconds_is_recognised():
    with pytest.raises(InvalidInput, match="milliseconds"):
        Credentials("id", "secret", expiration=1.7e12)


@given(st.floats() | st.integers() | st.none() | st.text(max_size=5) | st.booleans() | st.datetimes())
def test_any_expiration_is_a_time_or_refused(value):
    with contextlib.suppress(InvalidInput):
        expiration = Credentials("id", "secret", expiration=value).expiration
        assert expiration is None or expiration.timestamp() is not None


def test_a_function_whose_expiration_can_not_be_a_time_says_so():
    ring_of_it = ring(CallableCredentials(lambda: Credentials("id", "secret", expiration=1.7e12)))
    with pytest.raises(InvalidInput, match="milliseconds"):
        ring_of_it.current()


def test_a_refused_key_is_not_in_the_frame_that_refuses_it():
    """Programs that collect errors keep the local variables of frames."""
    with pytest.raises(InvalidInput) as raised:
        Credentials("id", "hunter2 hunter2")
    captured = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    ours = [frame for frame in captured.stack if "credentials.py" in frame.filename and "test_" not in frame.filename]
    assert ours
    assert "hunter2" not in repr([frame.locals for frame in ours])


def test_an_expiration_without_a_time_zone_is_refused():
    with pytest.raises(InvalidInput, match="time zone"):
        Credentials("id", "secret", None, datetime(2030, 1, 1))  # noqa: DTZ001  # that is the point


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


def test_an_environment_without_credentials_says_how_to_give_them():
    provider = EnvironmentCredentials({})
    assert not provider.present
    with pytest.raises(InvalidInput, match="set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"):
        provider.fetch()


def test_an_environment_with_half_of_the_credentials_says_which_half():
    with pytest.raises(InvalidInput, match="OSS_ACCESS_KEY_SECRET is not"):
        EnvironmentCredentials({"OSS_ACCESS_KEY_ID": "a"}).fetch()


def test_the_environment_is_read_again_each_time(monkeypatch):
    provider = EnvironmentCredentials()
    for secret in ("one", "two"):
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
        assert provider.fetch().access_key_secret == secret


class Model:
    """As alibabacloud-credentials gives it."""

    access_key_id = "id"
    access_key_secret = "secret"
    security_token = "token"
    type = "sts"


class Getters:
    """As its providers give it."""

    def get_access_key_id(self):
        return "id"

    def get_access_key_secret(self):
        return "secret"

    def get_security_token(self):
        return "token"


class Client:
    def __init__(self, given):
        self.given = given

    def get_credential(self):
        return self.given


class SDKProvider(Client):
    get_credential = None

    def get_credentials(self):
        return self.given


@pytest.mark.parametrize("client", [Client, SDKProvider])
@pytest.mark.parametrize("given", [Model(), Getters(), Credentials("id", "secret", "token")])
def test_a_client_is_known_by_its_shape(client, given):
    provider = as_provider(client(given))
    assert isinstance(provider, ClientCredentials)
    assert provider.fetch() == Credentials("id", "secret", "token")


@pytest.mark.parametrize(("expiration", "kept"), [(until(60), until(60)), (datetime(2030, 1, 1), None), ("soon", None)])  # noqa: DTZ001
def test_a_clients_expiration_is_kept_where_it_is_a_time(expiration, kept):
    model = Model()
    model.expiration = expiration
    assert as_provider(Client(model)).fetch().expiration == kept


def test_a_client_without_credentials_is_an_error():
    with pytest.raises(InvalidInput, match="access_key_id is empty"):
        as_provider(Client(object())).fetch()


def test_what_is_a_provider_stays_one():
    provider = EnvironmentCredentials({})
    assert as_provider(provider) is provider
    assert isinstance(as_provider(None), EnvironmentCredentials)
    assert isinstance(as_provider(lambda: None), CallableCredentials)
    assert all(isinstance(as_provider(kind), CredentialsProvider) for kind in (None, Client(1), Credentials("i", "s")))


@pytest.mark.parametrize("given", [5, "id:secret", ("id", "secret")])
def test_what_can_be_no_credentials_is_refused(given):
    with pytest.raises(InvalidInput, match="credentials are Credentials, a function"):
        as_provider(given)


def test_a_function_that_gives_something_else_is_an_error():
    with pytest.raises(InvalidInput, match="gave tuple for credentials"):
        as_provider(lambda: ("id", "hunter2")).fetch()


# --- sharing ---------------------------------------------------------------------------------------------------------


class Rotating:
    """A provider that gives the next credentials each time it is asked."""

    renewable = True
    hold_seconds: float | None = None

    def __init__(self, life: float | None = 3600.0) -> None:
        self.life = life
        self.now = NOW
        self.asked = 0
        self.fails: Exception | None = None
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def fetch(self):
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.fails is not None:
            raise self.fails
        self.asked += 1
        expiration = None if self.life is None else self.now + self.life
        return Credentials("id", f"secret{self.asked}", None, expiration)

    def clock(self):
        return self.now


def ring(provider) -> Keyring:
    return Keyring(provider, getattr(provider, "clock", lambda: NOW))


def test_credentials_are_asked_for_once():
    provider = Rotating()
    keys = ring(provider)
    assert {keys.current().credentials.access_key_secret for _ in range(5)} == {"secret1"}
    assert provider.asked == 1


@pytest.mark.parametrize(("life", "early"), [(3600.0, 300.0), (1500.0, 300.0), (100.0, 20.0), (10.0, 2.0)])
def test_they_are_asked_for_again_before_they_expire(life, early):
    provider = Rotating(life)
    keys = ring(provider)
    keys.current()
    provider.now += life - early - 1
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.now += 1
    assert keys.current().credentials.access_key_secret == "secret2"


def test_those_without_an_expiration_are_good_until_they_are_refused():
    provider = Rotating(None)
    keys = ring(provider)
    first = keys.current()
    provider.now += 1e9
    assert keys.current() is first
    assert keys.renew(first)
    assert keys.current().credentials.access_key_secret == "secret2"


def test_a_client_that_refreshes_inside_is_asked_again_from_time_to_time():
    provider = Rotating(None)
    provider.hold_seconds = 30.0
    keys = ring(provider)
    keys.current()
    provider.now += 29
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.now += 1
    assert keys.current().credentials.access_key_secret == "secret2"


def test_a_client_is_asked_again_after_thirty_seconds():
    given = iter([Credentials("id", "secret1"), Credentials("id", "secret2")])
    client, now = Client(None), [NOW]
    client.get_credential = lambda: next(given)
    keys = Keyring(as_provider(client), lambda: now[0])
    seen = []
    for seconds in (0.0, 29.9, 30.0):
        now[0] = NOW + seconds
        seen.append(keys.current().credentials.access_key_secret)
    assert seen == ["secret1", "secret1", "secret2"]


def test_one_thread_asks_and_all_wait_where_there_are_none():
    provider = Rotating()
    provider.gate = threading.Event()
    keys = ring(provider)
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(keys.current().credentials.access_key_secret)) for _ in "12345"
    ]
    for thread in threads:
        thread.start()
    provider.gate.set()
    for thread in threads:
        thread.join(10)
    assert (seen, provider.asked) == (["secret1"] * 5, 1)


def test_others_use_the_old_ones_while_one_thread_asks():
    provider = Rotating()
    keys = ring(provider)
    keys.current()
    provider.now += 3400
    provider.gate = threading.Event()
    provider.entered.clear()
    asking = threading.Thread(target=keys.current)
    asking.start()
    assert provider.entered.wait(10)
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.gate.set()
    asking.join(10)
    assert keys.current().credentials.access_key_secret == "secret2"


def test_a_thread_that_comes_just_after_a_renewal_takes_what_is_there():
    provider = Rotating()
    keys = ring(provider)
    old = keys.current()
    provider.now += 3400
    new = keys.current()
    assert keys._renewed_early(old) is new
    assert provider.asked == 2


def test_a_failure_to_renew_early_is_borne_and_tried_again_a_little_later():
    provider = Rotating()
    keys = ring(provider)
    keys.current()
    provider.now += 3400
    provider.fails = OSError("metadata service is away")
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.fails = None
    for seconds in (0.0, 9.9):
        provider.now = NOW + 3400 + seconds
        assert keys.current().credentials.access_key_secret == "secret1"
    provider.now = NOW + 3410
    assert keys.current().credentials.access_key_secret == "secret2"


def test_a_failure_once_they_have_expired_is_an_error_that_is_worth_retrying():
    provider = Rotating()
    keys = ring(provider)
    keys.current()
    provider.now += 3601
    provider.fails = OSError("the secret is hunter2")
    with pytest.raises(CredentialsExpired) as raised:
        keys.current()
    assert (raised.value.retryable, raised.value.__cause__) == (True, provider.fails)
    assert "hunter2" not in str(raised.value)
    provider.fails = None
    assert keys.current().credentials.access_key_secret == "secret2"


def test_they_are_used_until_the_very_second_at_which_they_expire():
    provider = Rotating()
    keys = ring(provider)
    keys.current()
    provider.fails = OSError("away")
    provider.now = NOW + 3599.9
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.now = NOW + 3600
    with pytest.raises(CredentialsExpired):
        keys.current()


def test_a_client_that_fails_when_it_is_asked_again_is_left_alone_for_ten_seconds():
    provider = Rotating(None)
    provider.hold_seconds = 30.0
    keys = ring(provider)
    keys.current()
    provider.now += 30
    provider.fails = OSError("away")
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.fails = None
    provider.now += 9.9
    assert keys.current().credentials.access_key_secret == "secret1"
    provider.now += 0.1
    assert keys.current().credentials.access_key_secret == "secret2"


def test_an_error_of_ours_comes_out_of_the_provider_as_it_is():
    with pytest.raises(InvalidInput, match="there are no credentials"):
        ring(EnvironmentCredentials({})).current()


def test_refused_credentials_are_asked_for_once_by_all_who_saw_the_refusal():
    provider = Rotating()
    keys = ring(provider)
    refused = keys.current()
    results: list[bool] = []
    barrier = threading.Barrier(6)

    def work():
        barrier.wait(10)
        results.append(keys.renew(refused))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (results, provider.asked) == ([True] * 6, 2)


def test_a_thread_that_saw_the_refusal_waits_for_the_one_that_asks():
    provider = Rotating()
    keys = ring(provider)
    refused = keys.current()
    provider.gate = threading.Event()
    provider.entered.clear()
    threads = [threading.Thread(target=keys.renew, args=(refused,), daemon=True) for _ in range(2)]
    threads[0].start()
    assert provider.entered.wait(10)
    provider.entered.clear()
    threads[1].start()
    assert not provider.entered.wait(0.02)
    provider.gate.set()
    for thread in threads:
        thread.join(10)
    assert provider.asked == 2


def test_the_same_credentials_again_are_none():
    asked = []
    keys = ring(CallableCredentials(lambda: asked.append(1) or Credentials("id", "secret")))
    refused = keys.current()
    assert not keys.renew(refused)
    assert not keys.renew(refused)
    assert len(asked) == 2, "others who saw the same refusal know the answer"


def test_credentials_that_came_before_the_refusal_of_the_old_ones_was_seen_are_taken():
    provider = Rotating()
    keys = ring(provider)
    refused = keys.current()
    provider.now += 3400
    assert keys.current().credentials.access_key_secret == "secret2"
    assert keys.renew(refused)
    assert provider.asked == 2


def test_the_environment_is_asked_again_for_what_was_refused():
    environment = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "old"}
    keys = ring(EnvironmentCredentials(environment))
    refused = keys.current()
    environment["OSS_ACCESS_KEY_SECRET"] = "new"
    assert keys.current().credentials.access_key_secret == "old"
    assert keys.renew(refused)
    assert keys.current().credentials.access_key_secret == "new"


@pytest.mark.parametrize("shape", ["client", "function"])
def test_a_client_or_a_function_is_asked_again_for_what_was_refused(shape):
    client = Client(Credentials("id", "old"))
    keys = ring(as_provider(client if shape == "client" else lambda: client.given))
    refused = keys.current()
    client.given = Credentials("id", "new")
    assert keys.renew(refused)
    assert keys.current().credentials.access_key_secret == "new"


def test_credentials_that_never_change_are_asked_for_once():
    asked = []

    class Counted(StaticCredentials):
        def fetch(self):
            asked.append(1)
            return super().fetch()

    keys = ring(Counted(Credentials("id", "secret", None, NOW - 5)))
    for _ in range(3):
        assert not keys.renew(keys.current())
    assert len(asked) == 1


def test_a_client_that_was_asked_again_meanwhile_is_still_asked_for_others_when_refused():
    calls = iter(["one", "one", "two"])
    provider = ClientCredentials(Client(None))
    provider.fetch = lambda: Credentials("id", next(calls))
    now = [NOW]
    keys = Keyring(provider, lambda: now[0])
    refused = keys.current()
    now[0] += 31
    keys.current()
    assert keys.renew(refused)
    assert keys.current().credentials.access_key_secret == "two"


def test_static_credentials_can_not_be_renewed():
    keys = ring(StaticCredentials(Credentials("id", "secret", None, NOW - 5)))
    assert not keys.renew(keys.current())


def test_a_provider_that_fails_when_others_are_needed_is_worth_retrying():
    provider = Rotating()
    keys = ring(provider)
    refused = keys.current()
    provider.fails = OSError("away")
    with pytest.raises(CredentialsExpired) as raised:
        keys.renew(refused)
    assert raised.value.retryable


def test_a_process_of_another_number_does_not_wait_for_its_parents_lock(monkeypatch):
    """A fork, played: a child finds the lock as it was at that instant."""
    provider = Rotating()
    keys = ring(provider)
    with keys._lock():
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert keys.current().credentials.access_key_secret == "secret1"
        assert keys._lock() is keys._lock(), "the child's own threads wait for each other"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have():
    provider = Rotating()
    provider.gate = threading.Event()
    keys = ring(provider)
    asking = threading.Thread(target=keys.current)
    asking.start()
    assert provider.entered.wait(10)
    child = os.fork()
    if child == 0:  # pragma: no cover  # not seen by the parent's coverage
        provider.gate = None
        os._exit(0 if keys.current().credentials.access_key_secret == "secret1" else 1)
    _, status = os.waitpid(child, 0)
    provider.gate.set()
    asking.join(10)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    "provider",
    [StaticCredentials(Credentials("id", "secret", "t", until(1))), EnvironmentCredentials(), CallableCredentials(len)],
)
def test_a_provider_can_be_pickled_if_what_it_holds_can(provider):
    assert repr(pickle.loads(pickle.dumps(provider))) == repr(provider)
