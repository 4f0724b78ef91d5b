"""The command with `s3://` URLs: killed, lied to, and left without a response."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from partwise.model import MIB
from partwise.server import CorruptBody, LoseResponse, NoChecksum, S3Server, ServerFault, WrongChecksum
from partwise.testing.fakes import pseudo_random_bytes

Run = Callable[..., Any]

URL = "s3://examplebucket/backups/ü large.bin"
KEPT = ("--checkpoint-dir", "checkpoints")
PART = 5 * MIB
KILLS = 10


@pytest.fixture(autouse=True)
def no_settings_of_the_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def large(place: Path) -> Path:
    """A file of 12 parts and a bit."""
    path = place / "large.bin"
    path.write_bytes(pseudo_random_bytes(12 * PART + 5, 3))
    return path


@pytest.fixture
def three_parts(place: Path) -> Path:
    path = place / "three.bin"
    path.write_bytes(pseudo_random_bytes(2 * PART + 5, 4))
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server in this process, which the environment names."""
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.unreached_faults == ()


def environment_of(serving: Any) -> dict[str, str]:
    """Return the environment for the clients of `partwise serve`."""
    announced = json.loads(serving.process.stdout.readline())
    return {**os.environ, **{variable: announced[name] for name, variable in S3Server.variables.items()}}


def as_one_upload(*options: str) -> tuple[str, ...]:
    return (*KEPT, "--part-size", "5M", "--multipart-threshold", "0", *options, "--json")


def test_an_upload_that_is_killed_at_random_instants_is_one_upload(
    child: Run, recorded: Run, place: Path, large: Path
) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    environment = environment_of(child("serve", "--dialect", "s3", "--json", "buckets"))
    random = Random(14)
    seen: set[str] = set()
    slowly = as_one_upload("--bandwidth-limit", "20M", "--concurrency", "1")
    for number in range(KILLS):
        line = child("upload", "large.bin", URL, *slowly, env=environment)
        if number == 0:
            recorded()
        else:
            # It has sent nothing, a part, or two. A whole upload takes 3 seconds.
            with pytest.raises(subprocess.TimeoutExpired):
                line.process.wait(random.uniform(0.05, 0.5))
        line.process.kill()
        assert line.end().code != 0
        listed = child("uploads", "s3://examplebucket", "--json", env=environment).end()
        assert listed.code == 0, listed.err
        seen |= {entry["upload_id"] for entry in listed.objects}
        assert not (place / "buckets/examplebucket/backups").exists()

    ended = child("upload", "large.bin", URL, *as_one_upload(), env=environment).end()
    assert ended.code == 0, ended.err
    assert (ended.last["verified"], ended.last["bytes_resumed"] > 0) == (True, True)
    assert ended.last["bytes_sent"] + ended.last["bytes_resumed"] == large.stat().st_size
    assert (place / "buckets/examplebucket/backups/ü large.bin").read_bytes() == large.read_bytes()
    assert len(seen) == 1
    assert child("uploads", "s3://examplebucket", "--json", env=environment).end().out == ""
    assert list((place / "checkpoints").iterdir()) == []


def test_an_object_with_another_checksum_is_never_called_stored(
    partwise: Run, server: S3Server, three_parts: Path
) -> None:
    server.plan(ServerFault("CompleteMultipartUpload", WrongChecksum()))
    ended = partwise("upload", "three.bin", URL, *as_one_upload())
    assert (ended.code, ended.last["ok"], ended.last["error"]["cause"]["type"]) == (1, False, "IntegrityError")
    again = partwise("upload", "three.bin", URL, *as_one_upload())
    assert (again.code, again.last["verified"], again.last["parts_sent"]) == (0, True, 3)
    assert server.backend().read("backups/ü large.bin") == three_parts.read_bytes()


def test_a_bit_that_flips_in_the_storage_is_refused_by_it_and_its_part_sent_again(
    partwise: Run, server: S3Server, three_parts: Path
) -> None:
    """The list of parts shows which one it is."""
    server.plan(*(ServerFault("UploadPart", effect, part_number=2) for effect in (CorruptBody(), NoChecksum())))
    ended = partwise("upload", "three.bin", URL, *as_one_upload())

    assert (ended.code, ended.last["verified"]) == (0, True)
    assert [request.part_number for request in server.requests_of("UploadPart")].count(2) == 2
    assert [request.code for request in server.requests_of("CompleteMultipartUpload")] == ["BadDigest", ""]
    assert len(server.requests_of("CreateMultipartUpload")) == 1
    assert server.backend().read("backups/ü large.bin") == three_parts.read_bytes()


def test_a_part_that_is_damaged_on_its_way_is_sent_again(partwise: Run, server: S3Server, three_parts: Path) -> None:
    server.plan(ServerFault("UploadPart", CorruptBody(), part_number=2))
    ended = partwise("upload", "three.bin", URL, *as_one_upload())
    assert (ended.code, ended.last["verified"]) == (0, True)
    assert sorted(request.part_number for request in server.requests_of("UploadPart")) == [1, 2, 2, 3]


def test_the_lost_response_of_the_last_request_is_settled(partwise: Run, server: S3Server, three_parts: Path) -> None:
    server.plan(ServerFault("CompleteMultipartUpload", LoseResponse()))
    ended = partwise("upload", "three.bin", URL, *as_one_upload())
    assert (ended.code, ended.last["verified"]) == (0, True)
    assert server.backend().read("backups/ü large.bin") == three_parts.read_bytes()
    assert len(server.requests_of("CreateMultipartUpload")) == 1
    assert len(server.requests_of("UploadPart")) == 3
