"""The command line of S3 users: uploads to a server in another process, flags of one storage, hints, the probe."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.s3.probe import Verdict
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli.app import app
from partwise.cli.common_options import connection_settings
from partwise.cli.reporting import format_error
from partwise.cli.targets import url_of
from partwise.cli.vendors import VENDORS
from partwise.errors import AccessDenied
from partwise.model import MIB, ObjectOptions
from partwise.registry import open_backend
from partwise.server import Delay, Fail, ReplaceResponse, S3Server, ServerFault
from partwise.stores.file import FileCheckpointStore

pytest.importorskip("awscrt")

Run = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


@pytest.fixture(autouse=True)
def variables(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set variables of AWS; there are no others, and no metadata service is asked."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def set_to(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.fixture
def server(variables: Callable[..., None]) -> Iterator[S3Server]:
    """A server in this process, which the variables name."""
    with S3Server() as server:
        variables(**server.environment())
        yield server


@pytest.fixture
def large(place: Path) -> Path:
    """A file of four parts of 5 MiB."""
    path = place / "large.bin"
    path.write_bytes(os.urandom(4 * 5 * MIB))
    return path


URL = "s3://examplebucket/dir/large.bin"
PARTS = ("--part-size", "5MiB", "--concurrency", "1", "--checkpoint-dir", "checkpoints")


# --- a server in another process -------------------------------------------------------------------------------------


@posix
def test_an_upload_to_s3_is_killed_listed_resumed_and_another_one_aborted(
    place: Path, child: Run, recorded: Run, large: Path, variables: Callable[..., None]
) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    serve = child("serve", "--dialect", "s3", "--json", "buckets")
    served = json.loads(serve.process.stdout.readline())
    variables(
        AWS_ENDPOINT_URL_S3=served["endpoint"],
        AWS_REGION=served["region"],
        AWS_ACCESS_KEY_ID=served["access_key_id"],
        AWS_SECRET_ACCESS_KEY=served["access_key_secret"],
    )
    upload = ("upload", "large.bin", URL, *PARTS)

    killed = child(*upload, "--bandwidth-limit", "4MiB")
    assert recorded(5 * MIB) < 20 * MIB
    killed.process.kill()
    killed.process.wait()

    (row,) = child("status", "--json", "--checkpoint-dir", "checkpoints").end().objects
    assert (row["url"], row["running"], row["parts_total"]) == (URL, False, 4)
    (pending,) = child("uploads", "--json", "s3://examplebucket").end().objects
    assert (pending["key"], pending["upload_id"]) == ("dir/large.bin", row["upload_id"])

    plan = child(*upload, "--dry-run", "--json").end().last
    assert plan["action"] == "resume"
    assert plan["bytes_to_keep"] >= 5 * MIB

    result = child(*upload, "--json").end()
    assert result.code == 0, result.err
    assert result.last["verified"] is True
    assert result.last["checksum_algorithm"] == "crc64nvme"
    assert result.last["bytes_resumed"] == plan["bytes_to_keep"]
    assert (place / "buckets" / "examplebucket" / "dir" / "large.bin").read_bytes() == large.read_bytes()
    assert child("uploads", "s3://examplebucket").end().out == ""

    second = child("upload", "large.bin", "s3://examplebucket/other", *PARTS, "--bandwidth-limit", "4MiB")
    recorded(5 * MIB)
    assert second.send(signal.SIGINT).code == 130
    (row,) = child("status", "--json", "--checkpoint-dir", "checkpoints").end().objects
    aborted = child("abort", "large.bin", row["url"], "--json", "--checkpoint-dir", "checkpoints").end()
    assert (aborted.code, aborted.last["dropped"], aborted.last["upload_id"]) == (0, True, row["upload_id"])
    assert child("uploads", "s3://examplebucket").end().out == ""
    assert serve.send(signal.SIGINT).code == 0


# --- flags -----------------------------------------------------------------------------------------------------------


def test_gc_aborts_orphans_of_s3(server: S3Server, partwise: Run) -> None:
    server.backend().initiate_upload("backups/orphan", ObjectOptions())
    listed = partwise("gc", "--older-than", "0s", "--dry-run", "--json", "s3://examplebucket/backups/")
    assert [one["action"] for one in listed.objects] == ["would drop"]
    dropped = partwise("gc", "--older-than", "0s", "--json", "s3://examplebucket/backups/")
    assert [one["action"] for one in dropped.objects] == ["dropped"]
    assert not list(server.backend().list_uploads())


def test_a_profile_names_endpoint_region_and_credentials(
    server: S3Server, partwise: Run, small: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server.environment():
        monkeypatch.delenv(name)
    folder = place / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "config").write_text(
        f"[profile work]\nregion = {server.region}\nendpoint_url = {server.endpoint}\n", encoding="utf-8"
    )
    (folder / "credentials").write_text(
        f"[work]\naws_access_key_id = {server.access_key_id}\naws_secret_access_key = {server.access_key_secret}\n",
        encoding="utf-8",
    )
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--profile", "work")
    assert ended.code == 0, ended.err
    assert server.backend().read("key") == small.read_bytes()
    missing = partwise("upload", "small.bin", "s3://examplebucket/key", "--profile", "other")
    assert (missing.code, "hint: Pass the name of another --profile" in missing.err) == (2, True)


def test_a_profile_of_ossutil_is_named_by_the_same_flag(partwise: Run, small: Path, place: Path) -> None:
    (place / "home").mkdir()
    (place / "home" / ".ossutilconfig").write_text("[default]\nregion = cn-hangzhou\n", encoding="utf-8")
    ended = partwise("upload", "small.bin", "oss://examplebucket/key", "--profile", "work")
    assert ended.code == 2
    assert "has no profile 'work'" in ended.err


def test_endpoint_region_and_addressing_style_are_flags(
    server: S3Server, partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name)
    where = ("--endpoint", server.endpoint, "--region", server.region, "--addressing-style", "path")
    assert partwise("upload", "small.bin", "s3://examplebucket/key", *where).code == 0
    assert server.requests[-1].path == "/examplebucket/key"


def test_the_dialect_decides_what_may_be_requested(server: S3Server, partwise: Run, small: Path) -> None:
    line = ("upload", "small.bin", "s3://examplebucket/key", "--acl", "private")
    refused = partwise(*line, "--dialect", "r2")
    assert (refused.code, "does not support --acl. Nothing was sent" in refused.err) == (2, True)
    assert not server.requests
    assert partwise(*line).code == 0
    unknown = partwise(*line, "--dialect", "s4")
    assert (unknown.code, "the dialect must be one of aws, r2" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("url", "flags", "words"),
    [
        ("s3://b/k", ["--signature-version", "v4"], "--signature-version is only for oss:// URLs"),
        ("s3://b/k", ["--traffic-limit", "819200"], "--traffic-limit is only for oss:// URLs"),
        ("s3://b/k", ["--callback-url", "http://x", "--callback-body", "x"], "--callback-url is only for oss:// URLs"),
        ("S3://b/k", ["--callback-var", "x:a=b"], "--callback-var is only for oss:// URLs"),
        ("oss://b/k", ["--dialect", "aws"], "--dialect is only for s3:// URLs"),
        ("oss://b/k", ["--dual-stack"], "--dual-stack is only for s3:// URLs"),
        ("oss://b/k", ["--accelerate"], "--accelerate is only for s3:// URLs"),
        ("oss://b/k", ["--sse-customer-key-file", "key"], "--sse-customer-key-file is only for s3:// URLs"),
        ("oss://b/k", ["--object-lock-mode", "GOVERNANCE"], "--object-lock-mode is only for s3:// URLs"),
        ("oss://b/k", ["--expected-bucket-owner", "1"], "--expected-bucket-owner is only for s3:// URLs"),
    ],
)
def test_a_flag_of_one_storage_is_refused_with_the_url_of_the_other(
    partwise: Run, small: Path, url: str, flags: list[str], words: str
) -> None:
    ended = partwise("upload", "small.bin", url, *flags)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {words}")


@pytest.mark.parametrize("command", ["uploads", "gc", "abort"])
def test_other_commands_refuse_them_too(partwise: Run, command: str) -> None:
    line = [command, *(["small.bin"] if command == "abort" else []), "oss://examplebucket/key", "--dialect", "aws"]
    assert "--dialect is only for s3:// URLs" in partwise(*line).err


def test_each_flag_of_a_storage_is_under_its_heading(partwise: Run) -> None:
    sections = re.split(r"^(?=\S)", partwise("upload", "--help").out, flags=re.MULTILINE)
    for vendor in VENDORS:
        (section,) = [text for text in sections if text.startswith(f"{vendor.HEADING}:")]
        flags = (vendor.CONNECTION_FLAGS, vendor.REQUEST_FLAGS, vendor.READING_FLAGS, vendor.OPTION_FLAGS)
        for usage, *_ in chain.from_iterable(flags):
            assert f"  {usage.split()[0]}" in section


def test_dual_stack_and_acceleration_choose_the_endpoint_of_aws(variables: Callable[..., None]) -> None:
    variables(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret")
    command = app.commands["uploads"]
    context = command.make_context("uploads", ["s3://examplebucket", "--dual-stack", "--accelerate"])
    settings = connection_settings(context.params)
    backend, _ = open_backend("s3://examplebucket", **settings)
    backend.close()
    assert backend.endpoint == "https://examplebucket.s3-accelerate.dualstack.amazonaws.com"


@pytest.mark.parametrize(
    "bucket",
    [
        "examplebucket",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-point",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/point",
        "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/point",
        "arn:aws:s3-outposts:us-east-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/point",
    ],
)
def test_the_url_of_a_recorded_upload_leads_to_the_same_place(variables: Callable[..., None], bucket: str) -> None:
    variables(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret", AWS_REGION="us-east-2")
    backend, key = open_backend(f"s3://{bucket}/a key")
    backend.close()
    recorded = Checkpoint(backend.location, key, "file", Fingerprint(size=1), 5 * MIB)
    assert url_of(recorded) == f"s3://{bucket}/a key"


# --- options ---------------------------------------------------------------------------------------------------------

KEY = bytes(range(32))


@pytest.mark.parametrize("content", [KEY, base64.b64encode(KEY), base64.b64encode(KEY) + b"\n"])
def test_the_key_of_the_customer_comes_from_a_file(
    server: S3Server, partwise: Run, small: Path, place: Path, content: bytes
) -> None:
    (place / "key").write_bytes(content)
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--sse-customer-key-file", "key", "--verbose")
    assert ended.code == 0, ended.err
    sent = server.requests[-1].headers
    assert sent["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
    assert base64.b64encode(KEY).decode() not in ended.out + ended.err


@pytest.mark.parametrize("content", [b"", b"too short", KEY + b"x", b"\xff" * 44, b"secret" * 100_000])
def test_a_file_without_a_key_is_refused_without_showing_it(
    partwise: Run, small: Path, place: Path, content: bytes
) -> None:
    (place / "key").write_bytes(content)
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--sse-customer-key-file", "key", "--verbose")
    assert ended.code == 2
    assert "does not contain a key" in ended.err
    assert "secret" not in ended.err.replace("secrets", "")
    assert "too short" not in ended.err


def test_a_missing_file_with_a_key_is_named(partwise: Run, small: Path) -> None:
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--sse-customer-key-file", "nowhere")
    assert (ended.code, "'nowhere' can't be read" in ended.err) == (2, True)


def test_a_secret_can_t_be_on_the_command_line(partwise: Run, small: Path) -> None:
    key = base64.b64encode(KEY).decode()
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--set", f"sse_customer_key={key}")
    assert ended.code == 2
    assert "hint: Write it to a file, and use --sse-customer-key-file" in ended.err
    assert key not in ended.err


def test_options_of_s3_are_flags_or_set_by_name(server: S3Server, partwise: Run, small: Path) -> None:
    ended = partwise(
        *("upload", "small.bin", "s3://examplebucket/key", "--object-lock-mode", "GOVERNANCE"),
        *("--object-lock-retain-until", "2030-12-31T00:00:00Z", "--set", "object_lock_legal_hold=true"),
        *("--expected-bucket-owner", "123456789012", "--storage-class", "infrequent-access"),
        *("--request-payer", "requester"),
    )
    assert ended.code == 0, ended.err
    headers = server.requests[-1].headers
    assert headers["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert headers["x-amz-object-lock-retain-until-date"] == "2030-12-31T00:00:00Z"
    assert headers["x-amz-object-lock-legal-hold"] == "ON"
    assert headers["x-amz-expected-bucket-owner"] == "123456789012"
    assert headers["x-amz-storage-class"] == "STANDARD_IA"
    assert headers["x-amz-request-payer"] == "requester"


@pytest.mark.parametrize(
    "line",
    [
        ("verify", "small.bin", "s3://examplebucket/key"),
        ("abort", "small.bin", "s3://examplebucket/key"),
        ("abort", "--upload-id", "UPLOAD", "s3://examplebucket/key"),
        ("abort", "NAME"),
        ("uploads", "s3://examplebucket"),
        ("uploads", "s3://examplebucket", "--parts"),
        ("gc", "s3://examplebucket", "--older-than", "0s"),
        ("probe", "s3://examplebucket"),
    ],
    ids=" ".join,
)
def test_every_request_says_who_pays_and_who_owns_the_bucket(
    server: S3Server, partwise: Run, small: Path, line: tuple[str, ...]
) -> None:
    recorded, upload_id = (server.backend().initiate_upload("key", ObjectOptions()) for _ in range(2))
    backend, _ = open_backend("s3://examplebucket/key")
    backend.close()
    fingerprint = Fingerprint(size=1)
    checkpoint = Checkpoint(backend.location, "key", str(small), fingerprint, 5 * MIB, upload_id=recorded)
    FileCheckpointStore().save(checkpoint)
    before = len(server.requests)
    words = {"NAME": checkpoint.name, "UPLOAD": upload_id}
    flags = ("--request-payer", "requester", "--expected-bucket-owner", "123456789012")
    ended = partwise(*(words.get(word, word) for word in line), *flags)
    assert ended.code == (1 if line[0] == "verify" else 0), ended.err
    sent = server.requests[before:]
    assert sent
    for request in sent:
        assert request.headers["x-amz-request-payer"] == "requester"
        assert request.headers["x-amz-expected-bucket-owner"] == "123456789012"


@pytest.mark.parametrize("command", ["uploads", "gc", "probe"])
def test_the_owner_of_the_bucket_has_to_be_an_account(server: S3Server, partwise: Run, command: str) -> None:
    ended = partwise(command, "s3://examplebucket", "--expected-bucket-owner", "me")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: --expected-bucket-owner ")
    assert not server.requests


def test_a_storage_without_paying_requesters_says_so(partwise: Run, place: Path) -> None:
    (place / "bucket").mkdir()
    ended = partwise("uploads", f"{(place / 'bucket').as_uri()}/", "--request-payer", "requester")
    assert (ended.code, "does not support --request-payer" in ended.err) == (2, True)


def test_an_object_with_a_key_of_the_customer_is_verified_with_it(
    server: S3Server, partwise: Run, small: Path, place: Path
) -> None:
    (place / "key").write_bytes(KEY)
    target = ("small.bin", "s3://examplebucket/key")
    with_key = ("--sse-customer-key-file", "key")
    assert partwise("upload", *target, *with_key).code == 0
    assert partwise("verify", *target, *with_key).code == 0
    ended = partwise("verify", *target)
    assert ended.code == 1
    assert "hint: Pass the key that the object is encrypted with: --sse-customer-key-file\n" in ended.err


# --- hints -----------------------------------------------------------------------------------------------------------


def test_hints_name_the_variables_of_the_storage() -> None:
    error = AccessDenied("x", hint="Pass new {credentials}")
    assert "OSS_ACCESS_KEY_ID" in format_error(error, scheme="oss").hint
    assert "AWS_" not in format_error(error, scheme="oss").hint
    assert "AWS_ACCESS_KEY_ID" in format_error(error, scheme="s3").hint
    assert "OSS_" not in format_error(error, scheme="s3").hint


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ExpiredToken", "AWS_SESSION_TOKEN, or --profile"),
        ("SignatureDoesNotMatch", "the --region"),
        ("NoSuchBucket", "Check the bucket's name and its region"),
        ("NotImplemented", "Pass --dialect with the kind of the storage"),
    ],
)
def test_a_refusal_of_s3_gets_a_hint(server: S3Server, partwise: Run, small: Path, code: str, words: str) -> None:
    server.plan(ServerFault("PutObject", Fail(code), times=None))
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--give-up-after", "0", "--max-attempts", "1")
    hint = next(line for line in ended.err.splitlines() if line.startswith("hint: "))
    assert words in hint
    assert "OSS_" not in hint


def test_a_region_that_is_wrong_is_named_with_the_right_one(server: S3Server, partwise: Run, small: Path) -> None:
    ended = partwise("upload", "small.bin", "s3://examplebucket/key", "--region", "eu-west-9")
    assert ended.code == 1
    assert "hint: Pass --region us-east-1" in ended.err


def test_missing_credentials_name_the_variables_of_aws(
    server: S3Server, partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    ended = partwise("upload", "small.bin", "s3://examplebucket/key")
    assert ended.code == 2
    assert "hint: Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in ended.err
    assert "--profile of ~/.aws" in ended.err


# --- the probe -------------------------------------------------------------------------------------------------------


def test_a_probe_names_the_dialect_and_removes_everything(server: S3Server, partwise: Run) -> None:
    ended = partwise("probe", "s3://examplebucket/tmp")
    assert ended.code == 0, ended.err
    assert "the dialect aws fits, as configured" in ended.out
    assert "verified  CRC-64/NVME of the whole object, compared by partwise" in ended.out
    assert "everything was removed" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert server.backend().keys() == []
    assert not list(server.backend().list_uploads())


def test_a_probe_is_an_object_for_programs(server: S3Server, partwise: Run) -> None:
    server.settings = evolve(server.settings, min_part_size=100 * 1024)
    found = partwise("probe", "s3://examplebucket", "--json", "--dialect", "ceph").last
    assert (found["ok"], found["configured"], found["dialect"], found["fits"]) == (True, "ceph", "aws", True)
    assert found["observed"]["min_part_size"] == 100 * 1024
    assert found["observed"]["checksums"]["crc64nvme"]["reports_whole"] is True
    assert found["remaining"] == []
    assert found["requests"] == len(server.requests)


def test_a_probe_says_which_dialect_to_use(server: S3Server, partwise: Run) -> None:
    server.settings = evolve(server.settings, min_part_size=100 * 1024)
    ended = partwise("probe", "s3://examplebucket", "--dialect", "ceph")
    assert (ended.code, "  use --dialect aws\n" in ended.out) == (0, True)


def test_a_probe_says_what_keeps_the_nearest_dialect_from_fitting(
    server: S3Server, partwise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = Verdict("minio", False, ("it lists pending uploads",), (), ())
    monkeypatch.setattr("partwise.backends.s3.probing.judge", lambda *_: nearest)
    server.settings = evolve(server.settings, min_part_size=1024)
    ended = partwise("probe", "s3://examplebucket")
    assert ended.code == 0
    assert "  no dialect fits; the nearest is minio\n" in ended.out
    assert "  minio does not fit  it lists pending uploads\n" in ended.out


def test_a_probe_that_could_not_remove_something_fails_and_names_it(server: S3Server, partwise: Run) -> None:
    server.plan(ServerFault("DeleteObject", Fail("AccessDenied"), occurrence=2, times=None))
    ended = partwise("probe", "s3://examplebucket/tmp", "--json")
    assert (ended.code, ended.last["ok"]) == (1, False)
    left = server.backend().keys()
    assert left
    assert {*left} <= {*ended.last["remaining"]}
    assert left[0] in ended.err


def test_a_probe_that_is_denied_says_so(server: S3Server, partwise: Run) -> None:
    server.plan(ServerFault("PutObject", Fail("AccessDenied"), times=None))
    ended = partwise("probe", "s3://examplebucket")
    assert (ended.code, ended.out) == (1, "")
    assert "AccessDenied" in ended.err


def test_a_bucket_that_keeps_everything_is_probed_only_on_request(server: S3Server, partwise: Run) -> None:
    rule = b"<Rule><DefaultRetention><Days>1</Days></DefaultRetention></Rule>"
    kept = b"<ObjectLockConfiguration>" + rule + b"</ObjectLockConfiguration>"
    server.plan(ServerFault("GetObjectLockConfiguration", ReplaceResponse(kept, 200, "application/xml"), times=None))
    refused = partwise("probe", "s3://examplebucket")
    assert (refused.code, refused.out) == (1, "")
    assert "nothing was stored" in refused.err
    assert "or --yes to leave" in refused.err
    assert len(server.requests) == 1
    assert partwise("probe", "s3://examplebucket", "--yes").code == 0


@pytest.mark.parametrize("url", ["oss://examplebucket", "file:///tmp/"])
def test_other_storages_can_t_be_probed(partwise: Run, url: str) -> None:
    ended = partwise("probe", url)
    assert ended.code == 2
    assert "hint: Write s3://bucket/prefix" in ended.err


@posix
@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload", "ListParts"])
def test_a_probe_that_is_stopped_removes_what_it_made(server: S3Server, child: Run, operation: str) -> None:
    server.plan(ServerFault(operation, Delay(1.0), occurrence=2))
    running = child("probe", "s3://examplebucket/tmp")
    while not [request for request in server.requests if request.operation == operation]:
        assert running.process.poll() is None
        time.sleep(0.005)  # the server is in this process
    ended = running.send(signal.SIGINT)
    assert ended.code == 130
    assert server.backend().keys() == []
    assert not list(server.backend().list_uploads())
