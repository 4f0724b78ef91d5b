"""``partwise upload`` in this process."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import define, evolve

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.checkpoint import Checkpoint
from partwise.checksums import crc64
from partwise.cli.object_options import RequestedOptions
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.cli.upload import UploadCommand, format_plan
from partwise.config import TransferConfig
from partwise.errors import AccessDenied, CheckpointError, ConnectionFailed, InvalidInput, ServerFailed
from partwise.explain import Explanation, PlannedPart
from partwise.model import MIB, Capabilities, ObjectOptions, StoredObject
from partwise.protocols import Body
from partwise.registry import register_backend
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import OSSServer

Run = Callable[..., Any]

PARTS = ("--part-size", "100K", "--multipart-threshold", "0")


class Spy(MemoryBackend):
    """A storage that outlives the command, and counts how often it is closed."""

    closings = 0

    def close(self) -> None:
        self.closings += 1


@pytest.fixture
def opened() -> dict[str, Any]:
    """Register the scheme ``spy:``; "backend" is its backend, "settings" the last arguments of its factory."""
    seen: dict[str, Any] = {"backend": Spy("spy")}

    def open_url(url: str, **settings: object) -> tuple[Any, str]:
        seen["settings"] = settings
        return seen["backend"], url.removeprefix("spy:")

    register_backend("spy", open_url)
    return seen


# --- the upload ---


def test_a_file_is_stored(partwise: Run, small: Path, url: str, bucket: Path) -> None:
    ended = partwise("upload", "small.bin", url)
    assert ended.code == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


def test_the_result_is_two_lines(partwise: Run, small: Path, url: str) -> None:
    first, second = partwise("upload", "small.bin", url, *PARTS).out.splitlines()
    assert first == f"stored small.bin as {url}: 293.0 KiB, checksum verified"
    assert second.startswith("  sent 293.0 KiB in 3 parts, ")


def test_the_result_is_one_object(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, *PARTS, "--json")
    assert ended.code == 0
    assert ended.out.count("\n") == 1
    payload = ended.last
    etag = payload.pop("etag")
    assert isinstance(etag, str)
    assert payload == {
        "ok": True,
        "url": url,
        "source": "small.bin",
        "key": "copy",
        "size": 300_000,
        "checksum": str(crc64(small.read_bytes())),
        "checksum_algorithm": "crc64xz",
        "crc64": str(crc64(small.read_bytes())),
        "version_id": None,
        "request_id": None,
        "callback_response": None,
        "bytes_sent": 300_000,
        "bytes_resumed": 0,
        "parts_sent": 3,
        "parts_resumed": 0,
        "retries": 0,
        "concurrency_reached": 3,
        "verified": True,
        "warnings": [],
    }
    assert "stored small.bin" in ended.err


def test_without_a_terminal_the_start_is_printed(partwise: Run, small: Path, url: str) -> None:
    assert partwise("upload", "small.bin", url, *PARTS).err == f"uploading small.bin to {url}: 293.0 KiB in 3 parts\n"


def test_quiet_prints_nothing(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, *PARTS, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_quiet_prints_errors(partwise: Run, place: Path, url: str) -> None:
    ended = partwise("upload", "missing.bin", url, "--quiet")
    assert ended.err == f"error: {place / 'missing.bin'} can't be read: No such file or directory\n"


def test_verbose_prints_the_log(partwise: Run, small: Path, url: str) -> None:
    assert re.search("^[0-9:]{8} info: ", partwise("upload", "small.bin", url, *PARTS, "--verbose").err)


def test_the_logger_is_restored(partwise: Run, small: Path, url: str) -> None:
    logger = logging.getLogger("partwise")
    before = (logger.level, logger.propagate, list(logger.handlers))
    partwise("upload", "small.bin", url, "--verbose")
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_an_empty_file_is_stored(partwise: Run, place: Path, url: str, bucket: Path) -> None:
    (place / "empty").touch()
    assert partwise("upload", "empty", url).code == 0
    assert (bucket / "copy").read_bytes() == b""


def test_the_flags_become_options(partwise: Run, small: Path, url: str, bucket: Path) -> None:
    ended = partwise(
        *("upload", "small.bin", url),
        *("--content-type", "text/x-test", "--meta", "a=1", "--meta", "b=x=y", "--tag", "t=u"),
        *("--cache-control", "no-store", "--content-disposition", "inline", "--content-encoding", "zstd"),
    )
    assert ended.code == 0
    assert LocalBackend(bucket).describe("copy") == ObjectOptions(
        content_type="text/x-test",
        metadata={"a": "1", "b": "x=y"},
        tags={"t": "u"},
        cache_control="no-store",
        content_disposition="inline",
        content_encoding="zstd",
    )


def test_flags_of_one_storage_and_of_all_become_options_of_its_class(
    partwise: Run, small: Path, opened: dict[str, Any]
) -> None:
    opened["backend"] = backend = Spy("spy", callback=lambda stored: b"heard")
    ended = partwise(
        *("upload", "small.bin", "spy:k", "--acl", "private", "--storage-class", "archive"),
        *("--encryption", "KMS", "--data-encryption", "SM4", "--kms-key-id", "key"),
        *("--traffic-limit", "819200", "--request-payer", "requester"),
        *("--callback-url", "http://127.0.0.1/", "--callback-host", "h", "--callback-body", "b"),
        *("--callback-body-type", "application/json", "--callback-var", "x:a=b", "--callback-var", "x:c=d=e"),
    )
    assert ended.code == 0
    assert backend.describe("k") == OSSOptions(
        content_type="application/octet-stream",
        acl="private",
        storage_class="archive",
        encryption="KMS",
        data_encryption="SM4",
        kms_key_id="key",
        traffic_limit=819_200,
        request_payer="requester",
        callback=Callback("http://127.0.0.1/", "b", "h", "application/json", {"x:a": "b", "x:c": "d=e"}),
    )


def test_any_option_can_be_set_by_its_name(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    line = ("--set", "content_language=en", "--set", "expires=a=b", "--set", "traffic_limit=819200", "--set")
    assert partwise("upload", "small.bin", "spy:k", *line, "forbid_overwrite=True").code == 0
    assert opened["backend"].describe("k") == OSSOptions(
        content_type="application/octet-stream",
        content_language="en",
        expires="a=b",
        traffic_limit=819_200,
        forbid_overwrite=True,
    )


@define(frozen=True)
class OwnOptions(ObjectOptions):
    """Options of a plug-in: their types are what --set goes by."""

    mode: Literal["governance", "compliance"] | None = None
    days: int = 1
    legal_hold: bool | None = None
    rules: tuple[str, ...] = ()


def test_the_options_of_a_plug_in_can_be_set_by_name(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    names = {"mode", "days", "legal_hold", "rules"}
    opened["backend"] = Spy("spy", capabilities=Capabilities(names - {"rules"}, option_type=OwnOptions))
    line = ("upload", "small.bin", "spy:k", "--set", "mode=compliance", "--set", "days=-7", "--set", "legal_hold=false")
    assert partwise(*line).code == 0
    assert opened["backend"].describe("k") == OwnOptions(mode="compliance", days=-7, legal_hold=False)

    ended = partwise(*line, "--set", "rules=a", "--traffic-limit", "819200")
    assert ended.code == 2
    assert "memory://spy does not support --set rules, --traffic-limit. Nothing was sent" in ended.err


def test_if_match_replaces_only_the_object_that_it_names(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    first = partwise("upload", "small.bin", "spy:k", "--json").last["etag"]
    assert partwise("upload", "small.bin", "spy:k", "--if-match", first).code == 0
    ended = partwise("upload", "small.bin", "spy:k", "--if-match", "OTHER", "--json")
    assert (ended.code, ended.last["error"]["cause"]["type"]) == (1, "PreconditionFailed")


def test_a_dry_run_refuses_the_same_options(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    ended = partwise("upload", "small.bin", "spy:k", "--dry-run", "--set", "colour=red")
    assert (ended.code, "memory://spy does not support --set colour" in ended.err) == (2, True)


def test_another_access_rule_on_a_storage_that_fixes_it_starts_again(
    partwise: Run, small: Path, opened: dict[str, Any]
) -> None:
    opened["backend"] = backend = Failing(ServerFailed("down"))
    backend._capabilities = evolve(backend.capabilities, late_options=())
    partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--acl", "public-read")
    backend.error = None
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--acl", "private")
    assert "warning: k: started again: other options were requested (acl)" in ended.err
    assert backend.describe("k").acl == "private"


def test_an_existing_object_can_be_protected(partwise: Run, small: Path, url: str, bucket: Path) -> None:
    bucket.mkdir()
    (bucket / "copy").write_bytes(b"mine")
    ended = partwise("upload", "small.bin", url, "--forbid-overwrite", "--json")
    assert (ended.code, ended.last["error"]["cause"]["type"]) == (1, "ObjectExists")
    assert (bucket / "copy").read_bytes() == b"mine"


def test_only_given_settings_are_passed_to_the_backend(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    partwise("upload", "small.bin", "spy:k")
    assert opened["settings"] == {}
    given = ("--endpoint", "e", "--region", "r", "--signature-version", "v1", "--addressing-style", "path")
    partwise("upload", "small.bin", "spy:k", *given, "--ca-bundle", "c", "--proxy", "p:1", "--timeout", "1m")
    assert opened["settings"] == {
        "endpoint": "e",
        "region": "r",
        "signature_version": "v1",
        "addressing_style": "path",
        "ca_bundle": "c",
        "proxy": "p:1",
        "timeout": 60.0,
    }


def test_an_interrupt_before_the_start_is_reported(
    partwise: Run, small: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("partwise.cli.targets.open_backend", interrupt)
    ended = partwise("upload", "small.bin", url)
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


# --- the target ---


@pytest.mark.parametrize("given", ["spy:", "spy:folder/", "spy:a//"])
def test_the_name_of_the_file_is_added_after_a_slash(
    partwise: Run, small: Path, opened: dict[str, Any], given: str
) -> None:
    ended = partwise("upload", str(small), given, "--json")
    assert (ended.code, ended.last["key"]) == (0, f"{given.removeprefix('spy:')}small.bin")
    assert opened["backend"].read(ended.last["key"]) == small.read_bytes()


def test_the_result_has_the_url_with_the_added_name(partwise: Run, place: Path, bucket: Path) -> None:
    (place / "my file#1.bin").write_bytes(b"x")
    ended = partwise("upload", "my file#1.bin", f"{bucket.as_uri()}/", "--json")
    assert ended.last["url"] == f"{bucket.as_uri()}/my%20file%231.bin"
    assert (bucket / "my file#1.bin").read_bytes() == b"x"


def test_abort_takes_the_same_folder_as_upload(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ServerFailed("down"))
    assert partwise("upload", "small.bin", "spy:folder/", *ONE_BY_ONE).code == 75
    ended = partwise("abort", "small.bin", "spy:folder/", "--checkpoint-dir", "checkpoints", "--json")
    assert ended.last["dropped"] is True


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf_8_can_not_be_a_key(partwise: Run, place: Path, bucket: Path) -> None:
    os.close(os.open(os.fsencode(place) + b"/\xff.bin", os.O_CREAT))
    ended = partwise("upload", "\udcff.bin", f"{bucket.as_uri()}/")
    assert (ended.code, "UTF-8" in ended.err and "'\\udcff.bin'" in ended.err) == (2, True)
    ended = partwise("abort", "\udcff.bin", f"{bucket.as_uri()}/")
    assert (ended.code, "/%FF.bin is recorded" in ended.out) == (0, True)
    assert partwise("upload", "\udcff.bin", f"{bucket.as_uri()}/name.bin").code == 0


@pytest.mark.parametrize("line", [("-", "spy:folder/"), ("", "spy:k"), ("/", "spy:folder/")], ids=repr)
def test_a_source_without_a_name_needs_the_whole_key(
    partwise: Run, opened: dict[str, Any], line: tuple[str, str]
) -> None:
    ended = partwise("upload", *line)
    assert ended.code == 2
    assert "name" in ended.err


@pytest.mark.parametrize("key", ["a b%2B+?#ü", "a//b", "%2F", "x?acl", "./a", "key:1"])
def test_the_key_in_an_oss_url_is_taken_literally(
    partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    backend = MemoryBackend()
    with OSSServer(buckets={"examplebucket": backend}) as server:
        for name, value in {
            "ENDPOINT": server.endpoint,
            "REGION": server.region,
            "ACCESS_KEY_ID": server.access_key_id,
            "ACCESS_KEY_SECRET": server.access_key_secret,
        }.items():
            monkeypatch.setenv(f"OSS_{name}", value)
        ended = partwise("upload", "small.bin", f"oss://examplebucket/{key}", "--json")
    assert (ended.code, ended.last["key"]) == (0, key)
    assert backend.read(key) == small.read_bytes()


# --- progress for programs ---


def test_progress_is_written_as_objects_before_the_result(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, *PARTS, "--progress", "JSON", "--progress-interval", "0")
    *events, result = ended.objects
    assert {one["event"] for one in events} == {"progress"}
    assert (events[0]["bytes_done"], events[-1]["bytes_done"], events[-1]["fraction"]) == (0, 300_000, 1.0)
    assert [one["bytes_done"] for one in events] == sorted(one["bytes_done"] for one in events)
    assert (result["ok"], "event" in result) == (True, False)


def test_a_warning_is_an_object(partwise: Run, small: Path, place: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = backend = Failing(ServerFailed("down"))
    partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"small", b"smell"))
    backend.error = None
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--progress", "json", "--quiet")
    warnings = [one["message"] for one in ended.objects if one.get("event") == "warning"]
    assert [text for text in warnings if text.endswith(ended.last["warnings"][0])], warnings
    assert ended.err == ""


def test_an_error_is_the_last_object_after_progress(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ServerFailed("down"))
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--progress", "json")
    assert ended.objects[0]["event"] == "progress"
    assert (ended.last["ok"], ended.last["exit_code"]) == (False, 75)


# --- resuming ---


class Failing(Spy):
    """Accepts some parts, then fails with an error."""

    def __init__(self, error: Exception, *, after: int = 1) -> None:
        super().__init__("spy")
        self.error: Exception | None = error
        self.left = after

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Any:
        if self.error is not None and self.left <= 0:
            raise self.error
        self.left -= 1
        return super().upload_part(key, upload_id, part_number, body)


class Waiting(Spy):
    """Waits in the second part until it is to go on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.second, self.go_on = threading.Event(), threading.Event()

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Any:
        if part_number == 2:
            self.second.set()
            assert self.go_on.wait(60)
        return super().upload_part(key, upload_id, part_number, body)


ONE_BY_ONE = (*PARTS, "--concurrency", "1", "--max-attempts", "1", "--checkpoint-dir", "checkpoints")


def test_a_retryable_failure_is_resumed_by_the_same_command(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = backend = Failing(ServerFailed("the storage is down"))
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    assert ended.code == 75
    assert ended.err.splitlines()[-4:] == [
        "error: small.bin to spy:k could not be uploaded",
        "cause: the storage is down",
        "kept: 100.0 of 293.0 KiB (1 of 3 parts)",
        "hint: Run the same command again to resume",
    ]
    backend.error = None
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    assert ended.code == 0
    assert "resuming small.bin to spy:k at 100.0 of 293.0 KiB (1 of 3 parts)" in ended.err
    assert "; resumed 100.0 KiB in 1 part" in ended.out
    assert backend.read("k") == small.read_bytes()


def test_a_denied_upload_is_not_retryable_but_resumable(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(AccessDenied("not yours"))
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--json")
    assert ended.code == 1
    error = ended.last["error"]
    assert (error["type"], error["resumable"], error["retryable"], error["parts_done"]) == (
        "UploadFailed",
        True,
        False,
        1,
    )
    assert ended.last["exit_code"] == 1


def test_a_defect_of_a_backend_has_no_traceback(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ZeroDivisionError("oops"))
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    assert ended.code == 1
    assert "ZeroDivisionError: oops" in ended.err
    assert "Traceback" not in ended.err


def test_verbose_prints_tracebacks(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ZeroDivisionError("oops"))
    assert "Traceback" in partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--verbose").err


def test_a_defect_of_the_command_is_reported_as_one(
    partwise: Run, small: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("partwise.cli.upload.meter_for")
    ended = partwise("upload", "small.bin", url)
    assert ended.code == 1
    assert ended.err.startswith("error: NameError: ")
    assert ended.err.endswith("\nhint: This is a defect of partwise; --verbose shows the traceback\n")


def test_no_resume_keeps_nothing(partwise: Run, small: Path, place: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = backend = Failing(ConnectionFailed("gone"))
    ended = partwise("upload", "small.bin", "spy:k", *PARTS, "--max-attempts", "1", "--no-resume")
    assert ended.code == 75
    assert ended.err.splitlines()[-2:] == ["kept: nothing", "hint: Run the same command again"]
    assert list(backend.list_uploads()) == []


def test_require_resume_refuses_to_start(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, "--require-resume")
    assert ended.code == 1
    assert ended.err == (
        f"error: small.bin to {url} can't be resumed; nothing was changed\n"
        "cause: there is no checkpoint of it\n"
        "hint: To start again from the first byte: omit --require-resume\n"
    )


@pytest.mark.parametrize(
    "where",
    [("--checkpoint", "here.ucp"), ("--checkpoint-dir", "there"), ("--store", "sqlite:///uploads.db"), ()],
    ids=["file", "directory", "store", "default"],
)
def test_the_checkpoint_is_kept_in_the_given_store(
    partwise: Run, small: Path, opened: dict[str, Any], where: tuple[str, ...]
) -> None:
    opened["backend"] = backend = Failing(ServerFailed("down"))
    line = ("upload", "small.bin", "spy:k", *PARTS, "--concurrency", "1", "--max-attempts", "1", *where)
    assert partwise(*line).code == 75
    assert [one["source"] for one in partwise("status", "--json", *where).objects] == [str(small)]
    backend.error = None
    ended = partwise(*line, "--json")
    assert (ended.last["parts_sent"], ended.last["parts_resumed"]) == (2, 1)
    assert partwise("status", "--json", *where).out == ""


def test_a_checkpoint_file_is_for_one_upload(partwise: Run, small: Path, large: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ServerFailed("down"))
    line = (*PARTS, "--concurrency", "1", "--max-attempts", "1", "--checkpoint", "here.ucp")
    assert partwise("upload", "small.bin", "spy:k", *line).code == 75
    ended = partwise("upload", "large.bin", "spy:k", *line, "--json")
    assert (ended.code, ended.last["error"]["type"]) == (1, "CheckpointMismatch")
    assert str(small) in ended.err


def test_an_unwritable_checkpoint_has_a_hint_with_flags(partwise: Run, small: Path, place: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, *PARTS, "--checkpoint-dir", "small.bin/in", "--json")
    assert (ended.code, ended.last["error"]["type"]) == (1, "CheckpointUnwritable")
    assert "\ncause: " in ended.err
    assert "--checkpoint-dir names another place, --no-resume uses none" in ended.err


def test_a_damaged_checkpoint_is_warned_about(partwise: Run, small: Path, place: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = backend = Failing(ServerFailed("down"))
    partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"small", b"smell"))
    backend.error = None
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--json")
    assert (ended.code, ended.last["parts_sent"]) == (0, 3)
    assert len(ended.last["warnings"]) == 1
    assert [line for line in ended.err.splitlines() if "warning: " in line] == [
        f"warning: k: {ended.last['warnings'][0]}"
    ]


@pytest.mark.parametrize("parts", [0, 1])
def test_a_signal_while_the_thread_of_the_upload_is_started_says_what_is_kept(
    partwise: Run, small: Path, opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    opened["backend"] = backend = Waiting("spy")
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if not thread.name.startswith("partwise upload of"):
            start(thread)
        elif parts == 0:
            signal.raise_signal(signal.SIGINT)
            start(thread)
            backend.go_on.set()
        else:
            start(thread)
            assert backend.second.wait(60)
            signal.raise_signal(signal.SIGINT)
            backend.go_on.set()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--json")
    assert ended.code == 130
    assert ended.last["error"]["resumable"]
    assert ended.last["error"]["parts_done"] >= parts
    assert "hint: To resume:\n  partwise upload small.bin spy:k" in ended.err
    assert backend.keys() == []
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--json")
    assert (ended.code, ended.last["parts_resumed"] >= parts) == (0, True)


class StopsWhileLoading(MemoryCheckpointStore):
    """A store that can't be reached, and a signal that comes meanwhile."""

    has_raised = False

    def load(self, name: str) -> Checkpoint | None:
        if not self.has_raised:
            self.has_raised = True  # a second signal would not wait for the upload
            signal.raise_signal(signal.SIGINT)
        raise CheckpointError("no connection to the database", retryable=True)


def test_a_signal_before_the_checkpoint_was_loaded_does_not_say_that_nothing_is_kept(
    partwise: Run, small: Path, opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoreSpec, "_open", lambda _: StopsWhileLoading())
    ended = partwise("upload", "small.bin", "spy:k", *PARTS)

    assert ended.code == 130
    assert "kept: what an earlier run has sent\nhint: To resume:\n  partwise upload small.bin spy:k" in ended.err


def test_a_failed_callback_reports_the_stored_object(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    def fail(stored: StoredObject) -> bytes:
        raise OSError("the application server is down")

    opened["backend"] = backend = Spy("spy", callback=fail)
    line = ("--callback-url", "http://127.0.0.1/", "--callback-body", "object=${object}", "--callback-var", "x:a=b")
    ended = partwise("upload", "small.bin", "spy:k", *line, "--json")
    assert ended.code == 1
    assert ended.last["error"]["type"] == "CallbackError"
    assert ended.last["error"]["result"]["size"] == 300_000
    assert "stored small.bin as spy:k: 293.0 KiB" in ended.err
    assert backend.read("k") == small.read_bytes()


# --- dry run ---


def test_a_dry_run_shows_the_plan_and_sends_nothing(partwise: Run, small: Path, url: str, bucket: Path) -> None:
    ended = partwise("upload", "small.bin", url, *PARTS, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"small.bin to {url} would be sent from the start",
        "  send  parts 1-3  293.0 KiB  it was not sent yet",
        "  3 parts: 0 B kept, 293.0 KiB to send",
    ]
    assert not bucket.exists()


def test_a_dry_run_of_a_resume_shows_ranges_of_parts(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Failing(ServerFailed("down"))
    partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE)
    ended = partwise("upload", "small.bin", "spy:k", *ONE_BY_ONE, "--dry-run")
    assert ended.out.splitlines() == [
        "small.bin to spy:k would be resumed",
        "  keep  part 1     100.0 KiB  recorded, and on the storage",
        "  send  parts 2-3  193.0 KiB  it was not sent yet",
        "  3 parts: 100.0 KiB kept, 193.0 KiB to send",
    ]


def a_patchwork(parts: int) -> tuple[UploadCommand, Explanation]:
    """Return a plan in which every other part is kept."""
    command = UploadCommand(
        "f", BackendSpec("spy:k", {}), StoreSpec(), TransferConfig(), RequestedOptions(), "auto", "partwise upload"
    )
    outcomes = (("send", "it was not sent yet"), ("keep", "recorded, and on the storage"))
    planned = (PlannedPart(n, (n - 1) * MIB, MIB, *outcomes[n % 2]) for n in range(1, parts + 1))
    return command, Explanation("resume", "", tuple(planned))


def test_a_few_ranges_are_listed_in_order() -> None:
    lines = format_plan(*a_patchwork(5))
    assert ["".join(line).split()[:3] for line in lines[1:-1]] == [
        ["keep", "part", "1"],
        ["send", "part", "2"],
        ["keep", "part", "3"],
        ["send", "part", "4"],
        ["keep", "part", "5"],
    ]


def test_many_ranges_are_grouped_by_action_and_reason() -> None:
    headline, kept, sent, sums = map("".join, format_plan(*a_patchwork(10_000)))
    rest = "and 4,988 more ranges (--verbose shows all)"
    assert headline == "f to spy:k would be resumed"
    assert sums == "  10,000 parts: 4.9 GiB kept, 4.9 GiB to send"
    assert kept == (
        f"  keep  5,000 parts  4.9 GiB  recorded, and on the storage: 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 {rest}"
    )
    assert (
        sent == f"  send  5,000 parts  4.9 GiB  it was not sent yet: 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24 {rest}"
    )


def test_the_plan_is_folded_on_a_terminal() -> None:
    lines = ["".join(line) for line in format_plan(*a_patchwork(10_000), width=80)]
    assert max(map(len, lines)) <= 80
    assert {line[:30].strip() for line in lines[2:4]} == {""}


def test_verbose_shows_all_part_numbers() -> None:
    kept = "".join(format_plan(*a_patchwork(100), all_numbers=True)[1])
    assert kept.endswith(": " + ", ".join(map(str, range(1, 100, 2))))


def test_a_dry_run_is_one_object(partwise: Run, small: Path, url: str) -> None:
    payload = partwise("upload", "small.bin", url, *PARTS, "--dry-run", "--json").last
    assert (payload["ok"], payload["dry_run"], payload["action"]) == (True, True, "start")
    assert (payload["bytes_to_keep"], payload["bytes_to_send"]) == (0, 300_000)
    assert [part["part_number"] for part in payload["parts"]] == [1, 2, 3]
    assert payload["parts"][2] == {
        "part_number": 3,
        "offset": 204_800,
        "size": 95_200,
        "action": "send",
        "why": "it was not sent yet",
    }


def test_a_dry_run_of_a_small_file_shows_a_single_request(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("upload", "small.bin", url, "--dry-run")
    assert ended.out == f"small.bin to {url} would be sent in a single request\n"


def test_a_dry_run_says_that_parts_are_smaller_on_a_long_line(partwise: Run, place: Path, url: str) -> None:
    with (place / "large.bin").open("wb") as file:
        file.truncate(100 * MIB)
    lines = partwise("upload", "large.bin", url, "--dry-run").out.splitlines()
    note = "part size auto: parts of 1 MiB on a long line, where a request takes 30 ms or more"
    assert lines[0] == f"large.bin to {url} would be sent from the start ({note})"
    assert lines[-1] == "  13 parts: 0 B kept, 100.0 MiB to send"


def test_a_dry_run_reads_nothing_of_standard_input(partwise: Run, url: str) -> None:
    ended = partwise("upload", "-", url, "--dry-run")
    assert ended.out == f"standard input to {url} would be sent from the start\n"


def test_a_dry_run_fails_as_the_upload_would(partwise: Run, small: Path, url: str) -> None:
    assert partwise("upload", "small.bin", url, "--dry-run", "--require-resume").code == 1
    assert partwise("upload", "missing.bin", url, "--dry-run").code == 1


# --- standard input ---


def test_standard_input_without_a_descriptor_is_read(
    partwise: Run, url: str, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert partwise("upload", "-", url).code == 0
    assert (bucket / "copy").read_bytes() == b"piped"


def test_closed_standard_input_is_an_error(partwise: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    ended = partwise("upload", "-", url)
    assert (ended.code, ended.err) == (1, "error: standard input is closed\n")


# --- plug-ins ---


def test_the_backend_is_always_closed(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    for arguments in (["small.bin", "spy:k"], ["small.bin", "spy:"], ["missing.bin", "spy:k"]):
        opened["backend"] = backend = Spy("spy")
        partwise("upload", *arguments)
        assert backend.closings == 1


def test_a_setting_that_a_backend_refuses_is_wrong_usage(partwise: Run, small: Path) -> None:
    def open_url(url: str, **settings: object) -> tuple[Any, str]:
        raise InvalidInput("no such place")

    register_backend("refusing", open_url)
    assert partwise("upload", "small.bin", "refusing:k").code == 2


def test_the_options_that_a_backend_lacks_are_wrong_usage(partwise: Run, small: Path, opened: dict[str, Any]) -> None:
    opened["backend"] = Spy("spy", capabilities=Capabilities())
    ended = partwise("upload", "small.bin", "spy:k", "--acl", "private")
    assert (ended.code, "acl" in ended.err) == (2, True)


@pytest.mark.parametrize("flags", [("--expect-size", "11"), ("--expect-size", "11B", "--expect-crc64", "0x2a")])
def test_a_source_that_is_not_as_expected_is_not_stored(partwise, place, flags):
    (place / "short.bin").write_bytes(b"ten bytes.")
    ended = partwise("upload", "short.bin", f"file://{place}/box/short.bin", *flags)

    assert (ended.code, "has 10 bytes where 11 was expected" in ended.err) == (1, True)
    assert not (place / "box" / "short.bin").exists()


def test_errors_name_standard_input(partwise: Run, place: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ten bytes.")))
    ended = partwise("upload", "-", url, "--expect-size", "11")
    assert ended.err.startswith(f"error: standard input to {url} could not be uploaded\n")


def test_a_source_that_is_as_expected_is_stored(partwise, place):
    (place / "short.bin").write_bytes(b"123456789")
    flags = ("--expect-size", "9", "--expect-crc64", "0x995DC9BBDF1939FA")  # the check value of CRC-64/XZ
    ended = partwise("upload", "short.bin", f"file://{place}/box/short.bin", *flags)

    assert ended.code == 0


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--expect-size", "-1"),
        ("--expect-size", "ten"),
        ("--expect-size", "١٢"),
        ("--expect-crc64", ""),
        ("--expect-crc64", "995DC9BBDF1939FA"),
        ("--expect-crc64", "18446744073709551616"),
        ("--expect-crc64", "0x1995DC9BBDF1939FA"),
    ],
)
def test_an_invalid_expectation_is_wrong_usage(partwise, place, flag, value):
    (place / "short.bin").write_bytes(b"ten bytes.")
    ended = partwise("upload", "short.bin", f"file://{place}/box/short.bin", f"{flag}={value}")

    assert (ended.code, flag in ended.err) == (2, True)


# --- the source ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(partwise: Run, opened: dict[str, Any], place: Path) -> Path:
    """A file of three parts, of which an earlier run has sent the first two."""
    path = place / "three.bin"
    path.write_bytes(bytes(100 * 1024) + b"b" * 100 * 1024 + b"c" * 100)
    real = opened["backend"].upload_part

    def refuse(key: str, upload_id: str, part_number: int, body: Body) -> Any:
        if part_number == 3:
            raise AccessDenied("refused")
        return real(key, upload_id, part_number, body)

    opened["backend"].upload_part = refuse
    assert partwise("upload", *PARTS, "--concurrency", "1", "three.bin", "spy:key").code == 1
    opened["backend"].upload_part = real
    return path


def test_a_changed_source_starts_again_unless_matching_parts_are_kept(
    partwise: Run, opened: dict[str, Any], stopped: Path
) -> None:
    stopped.write_bytes(stopped.read_bytes()[:-1] + b"d")
    line = ("upload", *PARTS, "--dry-run", "three.bin", "spy:key")

    assert "would be sent from the start (the source changed" in partwise(*line).out
    assert "would be sent from the start" in partwise(*line, "--on-source-change", "restart").out
    assert "would be resumed" in partwise(*line, "--on-source-change", "keep-matching").out


def test_verify_source_content_reads_the_source(partwise: Run, stopped: Path) -> None:
    status = stopped.stat()
    stopped.write_bytes(b"a" + stopped.read_bytes()[1:])
    os.utime(stopped, ns=(status.st_atime_ns, status.st_mtime_ns))
    line = ("upload", *PARTS, "--dry-run", "three.bin", "spy:key")

    assert "would be resumed" in partwise(*line).out
    assert "the bytes of part 1 " in partwise(*line, "--verify-source", "content").out


@pytest.mark.parametrize("flags", [("--verify-source", "perhaps"), ("--on-source-change", "")])
def test_an_unknown_choice_is_wrong_usage(partwise: Run, small: Path, url: str, flags: tuple[str, str]) -> None:
    ended = partwise("upload", *flags, "any.bin", url)

    assert (ended.code, flags[0] in ended.err) == (2, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no FIFOs")
def test_a_fifo_gets_a_hint_to_use_standard_input(partwise: Run, place: Path, url: str) -> None:
    os.mkfifo(place / "fifo")
    ended = partwise("upload", "fifo", url)

    assert ended.code == 1
    assert ended.err == (
        "error: fifo is a FIFO, not a regular file\n"
        "hint: Use standard input: partwise upload - URL < FILE, or COMMAND | partwise upload - URL\n"
    )


@pytest.mark.parametrize("command", ["upload", "abort"])
def test_without_a_working_directory_a_relative_file_is_wrong_usage(
    partwise: Run, url: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    ended = partwise(command, "small.bin", url)

    assert (ended.code, "small.bin" in ended.err and "working directory" in ended.err) == (2, True)
