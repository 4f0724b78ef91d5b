"""The service over HTTP, as its page asks it."""

from __future__ import annotations

import time

import pytest
import urllib3

from partwise.testing.fakes import pseudo_random_bytes

SOON = 30  # seconds
DATA = pseudo_random_bytes(300_000)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    return tmp_path_factory.mktemp("bucket")


@pytest.fixture(scope="module")
def ask(make_service, bucket):
    """Asks the service, which stores files in a directory."""
    service = make_service(f"file://{bucket}/")
    service.start()
    with urllib3.PoolManager(timeout=SOON, retries=False) as pool:
        yield lambda method, path, body=None: pool.request(method, service.url + path, body=body)


def stored(ask, name):
    give_up = time.monotonic() + SOON
    while {entry["name"]: entry["state"] for entry in ask("GET", "uploads").json()}[name] != "stored":
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_file_that_is_put_is_stored_under_its_name(ask, bucket):
    assert ask("PUT", "uploads/caf%C3%A9%201%25.bin", DATA).status == 202
    stored(ask, "café 1%.bin")

    assert (bucket / "café 1%.bin").read_bytes() == DATA


def test_a_body_of_unknown_length_is_fine(ask, bucket):
    assert ask("PUT", "uploads/file.bin", (DATA[i : i + 1000] for i in range(0, len(DATA), 1000))).status == 202
    stored(ask, "file.bin")

    assert (bucket / "file.bin").read_bytes() == DATA


def test_an_empty_file_is_a_file(ask, bucket):
    ask("PUT", "uploads/empty", b"")
    stored(ask, "empty")

    assert (bucket / "empty").read_bytes() == b""


def test_a_sender_that_goes_away_leaves_nothing(ask, bucket):
    def broken():
        yield DATA[:1000]
        raise LookupError("the sender has gone")

    with pytest.raises(LookupError):
        ask("PUT", "uploads/half.bin", broken())

    give_up = time.monotonic() + SOON
    while "half.bin" in {entry["name"] for entry in ask("GET", "uploads").json()}:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert not (bucket / "half.bin").exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "uploads/x/pause"), ("POST", "uploads/x/resume"), ("DELETE", "uploads/x"), ("PUT", "uploads/.x")],
)
def test_what_can_not_be_done_is_told(ask, method, path):
    answer = ask(method, path, b"")

    assert answer.status == 409
    assert "file" in answer.json()["error"]


@pytest.mark.parametrize("path", ["uploads/..%2Fx", "uploads/a%2Fb"])
def test_a_path_is_no_name(ask, path):
    assert ask("PUT", path, b"data").status == 404


def test_the_page_is_served_and_the_report_is_never_cached(ask):
    assert b"<title>Uploads</title>" in ask("GET", "").data
    assert ask("GET", "uploads").headers["Cache-Control"] == "no-store"
