"""The service over HTTP, as its page uses it."""

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
def send(make_service, bucket):
    """Sends a request to a service that stores files in a directory."""
    service = make_service(f"file://{bucket}/")
    service.start()
    with urllib3.PoolManager(timeout=SOON, retries=False) as pool:
        yield lambda method, path, body=None: pool.request(method, service.url + path, body=body)


def stored(send, name):
    give_up = time.monotonic() + SOON
    while {entry["name"]: entry["state"] for entry in send("GET", "uploads").json()}[name] != "stored":
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_file_that_is_put_is_stored_under_its_name(send, bucket):
    assert send("PUT", "uploads/caf%C3%A9%201%25.bin", DATA).status == 202
    stored(send, "café 1%.bin")

    assert (bucket / "café 1%.bin").read_bytes() == DATA


def test_a_body_of_unknown_length_is_accepted(send, bucket):
    assert send("PUT", "uploads/file.bin", (DATA[i : i + 1000] for i in range(0, len(DATA), 1000))).status == 202
    stored(send, "file.bin")

    assert (bucket / "file.bin").read_bytes() == DATA


def test_an_empty_file_is_stored(send, bucket):
    send("PUT", "uploads/empty", b"")
    stored(send, "empty")

    assert (bucket / "empty").read_bytes() == b""


def test_a_client_that_disconnects_leaves_no_file(send, bucket):
    def broken():
        yield DATA[:1000]
        raise LookupError("the client disconnected")

    with pytest.raises(LookupError):
        send("PUT", "uploads/half.bin", broken())

    give_up = time.monotonic() + SOON
    while "half.bin" in {entry["name"] for entry in send("GET", "uploads").json()}:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert not (bucket / "half.bin").exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "uploads/x/pause"), ("POST", "uploads/x/resume"), ("DELETE", "uploads/x"), ("PUT", "uploads/.x")],
)
def test_an_impossible_request_is_refused_with_a_reason(send, method, path):
    response = send(method, path, b"")

    assert response.status == 409
    assert "file" in response.json()["error"]


@pytest.mark.parametrize("path", ["uploads/..%2Fx", "uploads/a%2Fb"])
def test_a_path_is_not_a_name(send, path):
    assert send("PUT", path, b"data").status == 404


def test_the_page_is_served_and_the_report_is_not_cached(send):
    assert b"<title>Uploads</title>" in send("GET", "").data
    assert send("GET", "uploads").headers["Cache-Control"] == "no-store"
