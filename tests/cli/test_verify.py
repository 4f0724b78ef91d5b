"""``partwise verify``: a file is compared with a stored object."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.bodies import bytes_body
from partwise.checksums import crc64
from partwise.errors import AccessDenied, ConnectionFailed, PartwiseError, ServerFailed
from partwise.model import ObjectOptions, StoredObject
from partwise.registry import register_backend
from partwise.server import S3Server
from partwise.sources import FileSource
from partwise.testing import OSSServer

Run = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="signals and terminals are those of POSIX")


class Storage(MemoryBackend):
    """A storage with one object, which counts the requests for it."""

    def __init__(self, data: bytes | None, *, checksums: bool = True, error: PartwiseError | None = None) -> None:
        super().__init__("spy", capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=checksums))
        if data is not None:
            self.put_object("key", bytes_body(data), ObjectOptions())
        self.error = error
        self.asked = 0

    def head_object(self, key: str) -> StoredObject | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return super().head_object(key)


def storing(*args: Any, **options: Any) -> Storage:
    """Register the scheme ``spy:`` for a storage with this object."""
    storage = Storage(*args, **options)
    register_backend("spy", lambda url, **settings: (storage, url.removeprefix("spy://")))
    return storage


@pytest.fixture
def stored(partwise: Run, small: Path, url: str) -> Path:
    """The small file is stored."""
    assert partwise("upload", "small.bin", url, "--quiet").code == 0
    return small


# --- the result ---


def test_an_equal_file_ends_with_zero(partwise: Run, stored: Path, url: str) -> None:
    ended = partwise("verify", "small.bin", url)
    checksum = crc64(stored.read_bytes())
    assert ended.code == 0
    assert ended.out == f"small.bin is equal to {url}: 293.0 KiB, crc64xz {checksum}\n"
    assert ended.err == f"comparing small.bin with {url}: 293.0 KiB\n"


def test_another_size_ends_with_one(partwise: Run, stored: Path, url: str) -> None:
    stored.write_bytes(stored.read_bytes() + b"x")
    ended = partwise("verify", "small.bin", url)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        f"error: small.bin is not equal to {url}",
        "cause: the source has 300001 bytes, the object 300000",
    ]


def test_another_byte_ends_with_one(partwise: Run, stored: Path, url: str) -> None:
    before = stored.read_bytes()
    stored.write_bytes(b"x" + before[1:] if before[:1] != b"x" else b"y" + before[1:])
    ended = partwise("verify", "small.bin", url)
    assert (ended.code, ended.out) == (1, "")
    found, known = crc64(stored.read_bytes()), crc64(before)
    assert f"cause: the source has the crc64xz {found}, the object {known}\n" in ended.err


def test_an_object_that_was_changed_on_the_disk_is_found(partwise: Run, stored: Path, url: str, bucket: Path) -> None:
    with (bucket / "copy").open("r+b") as file:
        file.seek(7)
        byte = file.read(1)
        file.seek(7)
        file.write(bytes([byte[0] ^ 1]))
    assert partwise("verify", "small.bin", url).code == 1


def test_no_object_ends_with_one(partwise: Run, stored: Path, url: str) -> None:
    ended = partwise("verify", "small.bin", f"{url}-2")
    assert ended.code == 1
    assert ended.err == f"error: small.bin is not stored as {url}-2\ncause: no object is stored under the key\n"


def test_without_a_checksum_of_the_object_it_says_that_only_the_size_was_compared(partwise: Run, small: Path) -> None:
    storing(small.read_bytes(), checksums=False)
    ended = partwise("verify", "small.bin", "spy://key", "--json")
    assert (ended.code, ended.last["exit_code"]) == (4, 4)
    assert ended.err.splitlines() == [
        "error: it is unknown whether small.bin is equal to spy://key",
        "cause: both have 300000 bytes, and the storage reports no checksum of the object to compare",
        "hint: Only the sizes were compared. Download the object to compare its bytes",
    ]
    assert (ended.last["ok"], ended.last["equal"], ended.last["checksum"]) == (False, None, None)


@pytest.mark.parametrize(
    ("etag", "words"),
    [
        ('"9b2cf535f27731c974343645a3985328-12"', "that of 12 parts"),
        ("9B2CF535F27731C974343645A3985328-1", "that of 1 part"),
        ('"9b2cf535f27731c974343645a3985328"', None),
        ('"9b2cf535f27731c974343645a3985328-x"', None),
        ('"opaque-12"', None),
    ],
)
def test_the_etag_of_a_multipart_upload_is_called_no_checksum(
    partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch, etag: str, words: str | None
) -> None:
    storing(small.read_bytes(), checksums=False)
    head = Storage.head_object
    monkeypatch.setattr(Storage, "head_object", lambda storage, key: evolve(head(storage, key), etag=etag))
    ended = partwise("verify", "small.bin", "spy://key")
    assert ended.code == 4
    about = f"Its ETag is {words}: neither it nor a composite checksum is one of the whole object\n"
    assert (about in ended.err) == (words is not None)
    assert ("ETag" in ended.err) == (words is not None)


def test_a_file_of_another_size_is_not_read(
    partwise: Run, stored: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stored.open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(FileSource, "body", lambda *arguments: pytest.fail("the file was read"))
    ended = partwise("verify", "small.bin", url, "--json")
    assert (ended.code, ended.last["checksum"], ended.last["size"]) == (1, None, 300_001)


def test_a_composite_checksum_of_s3_is_not_compared(
    partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tools upload with a checksum of each part, and S3 keeps the checksum of these."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("awscrt")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    data = os.urandom(6 * 1024 * 1024)
    small.write_bytes(data)
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        client = boto3.session.Session().client("s3")
        names = {"Bucket": "examplebucket", "Key": "key"}
        upload = {**names, "UploadId": client.create_multipart_upload(**names, ChecksumAlgorithm="CRC32")["UploadId"]}
        parts = []
        for number, body in enumerate((data[: 5 * 1024 * 1024], data[5 * 1024 * 1024 :]), start=1):
            sent = client.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]})
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        ended = partwise("verify", "small.bin", "s3://examplebucket/key")
    assert ended.code == 4
    assert "Its ETag is that of 2 parts: neither it nor a composite checksum" in ended.err


def test_the_storage_is_asked_once(partwise: Run, small: Path) -> None:
    storage = storing(small.read_bytes())
    assert partwise("verify", "small.bin", "spy://key").code == 0
    assert storage.asked == 1


def test_the_file_name_is_added_to_a_url_with_a_slash(partwise: Run, small: Path, bucket: Path) -> None:
    assert partwise("upload", "small.bin", f"{bucket.as_uri()}/", "-q").code == 0
    ended = partwise("verify", "small.bin", f"{bucket.as_uri()}/")
    assert ended.code == 0
    assert f"equal to {bucket.as_uri()}/small.bin: " in ended.out


def test_the_result_is_one_object(partwise: Run, stored: Path, url: str) -> None:
    ended = partwise("verify", "small.bin", url, "--json")
    checksum = str(crc64(stored.read_bytes()))
    assert ended.out.count("\n") == 1
    result = ended.last
    assert isinstance(result["stored"].pop("etag"), str)
    assert result == {
        "ok": True,
        "url": url,
        "key": "copy",
        "equal": True,
        "reason": f"both have 300000 bytes and the crc64xz {checksum}",
        "size": 300_000,
        "checksum": checksum,
        "checksum_algorithm": "crc64xz",
        "stored": {"size": 300_000, "checksum": checksum, "version_id": None},
        "exit_code": 0,
    }


@pytest.mark.parametrize("content", [b"", b"x" * 300_000])
def test_what_is_not_equal_is_one_object(partwise: Run, stored: Path, url: str, content: bytes) -> None:
    stored.write_bytes(content)
    ended = partwise("verify", "small.bin", url, "--json")
    assert ended.out.count("\n") == 1
    assert (ended.code, ended.last["ok"], ended.last["equal"], ended.last["exit_code"]) == (1, False, False, 1)
    assert ended.last["reason"] in ended.err


def test_no_object_is_one_object(partwise: Run, small: Path, url: str) -> None:
    last = partwise("verify", "small.bin", url, "--json").last
    assert (last["ok"], last["equal"], last["stored"]) == (False, False, None)


def test_quiet_prints_only_what_differs(partwise: Run, stored: Path, url: str) -> None:
    ended = partwise("verify", "small.bin", url, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert "error: small.bin is not stored" in partwise("verify", "small.bin", f"{url}-2", "--quiet").err


def test_an_empty_file_is_compared(partwise: Run, place: Path, url: str) -> None:
    (place / "empty").touch()
    assert partwise("upload", "empty", url).code == 0
    assert partwise("verify", "empty", url).code == 0


# --- failures ---


def test_a_missing_file_is_an_error(partwise: Run, place: Path, url: str) -> None:
    ended = partwise("verify", "missing.bin", url)
    assert ended.code == 1
    assert ended.err == f"error: {place / 'missing.bin'} can't be read: No such file or directory\n"


@posix
def test_a_fifo_is_refused_with_a_command_that_works(partwise: Run, place: Path, url: str) -> None:
    os.mkfifo(place / "fifo")
    ended = partwise("verify", "fifo", url)
    assert ended.code == 1
    assert "hint: Use standard input: partwise verify - URL < FILE" in ended.err


@pytest.mark.parametrize(
    ("error", "code"), [(AccessDenied("no"), 1), (ConnectionFailed("reset"), 75), (ServerFailed("500"), 75)]
)
def test_a_storage_that_fails_is_no_difference(partwise: Run, small: Path, error: PartwiseError, code: int) -> None:
    storage = storing(None, error=error)
    ended = partwise("verify", "small.bin", "spy://key", "--max-attempts", "2", "--json")
    assert (ended.code, ended.last["error"]["type"]) == (code, type(error).__name__)
    assert storage.asked == (1 if code == 1 else 2)
    assert "equal" not in ended.last


def test_a_file_that_changes_while_it_is_read_is_an_error(
    partwise: Run, stored: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partwise.cli.progress_display import Lines

    def touch(meter: Lines, progress: Any) -> None:  # the signature of a meter
        os.utime(stored, ns=(1, 1))

    monkeypatch.setattr(Lines, "__call__", touch)
    ended = partwise("verify", "small.bin", url)
    assert ended.code == 1
    assert f"error: {stored} changed while it was read, and was not compared with copy\n" in ended.err
    assert "hint: Verify it when nothing writes to it any more\n" in ended.err


# --- storages of every scheme ---


@pytest.mark.parametrize("kind", [OSSServer, S3Server])
def test_objects_in_a_storage_over_http_are_compared(
    partwise: Run, small: Path, monkeypatch: pytest.MonkeyPatch, kind: type[OSSServer | S3Server]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    scheme = "oss" if kind is OSSServer else "s3"
    if scheme == "s3":
        pytest.importorskip("awscrt")
    with kind() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        target = f"{scheme}://examplebucket/ü key"
        assert partwise("verify", "small.bin", target).code == 1
        assert partwise("upload", "small.bin", target, "--timeout", "30s").code == 0
        ended = partwise("verify", "small.bin", target, "--timeout", "30s", "--json")
        assert (ended.code, ended.last["equal"]) == (0, True)
        assert ended.last["checksum_algorithm"] == ("crc64xz" if scheme == "oss" else "crc64nvme")
        small.write_bytes(bytes(300_000))
        assert partwise("verify", "small.bin", target).code == 1


# --- standard input, progress, signals ---


def test_standard_input_is_compared(child: Run, stored: Path, url: str) -> None:
    ended = child("verify", "-", url).end(stored.read_bytes())
    assert ended.code == 0
    assert ended.out.startswith(f"standard input is equal to {url}: 293.0 KiB, ")


@pytest.mark.parametrize("change", [b"", b"x"])
def test_other_bytes_of_standard_input_are_found(child: Run, stored: Path, url: str, change: bytes) -> None:
    given = stored.read_bytes() + change if change else stored.read_bytes()[:-1]
    ended = child("verify", "-", url).end(given)
    assert ended.code == 1
    assert f"error: standard input is not equal to {url}\n" in ended.err


def test_standard_input_needs_the_whole_key(partwise: Run, bucket: Path) -> None:
    ended = partwise("verify", "-", f"{bucket.as_uri()}/")
    assert ended.code == 2
    assert "has no name to add" in ended.err


def test_progress_can_be_requested_as_objects(partwise: Run, stored: Path, url: str) -> None:
    first, last, result = partwise("verify", "small.bin", url, "--progress", "json").objects
    assert [first["event"], last["event"]] == ["progress", "progress"]
    assert (first["fraction"], last["fraction"], last["bytes_done"]) == (0.0, 1.0, 300_000)
    assert result["equal"] is True


@posix
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_stops_it_and_says_so(child: Run, stored: Path, url: str, name: str, code: int) -> None:
    line = child("verify", "-", url, "--json")
    line.process.stdin.write(stored.read_bytes()[:200_000])
    line.process.stdin.flush()
    line.read_until("comparing", on="stderr")
    line.process.send_signal(getattr(signal, name))
    assert line.process.wait(60) == code
    text = line.process.stderr.read().decode()
    assert text == "error: stopped before all was compared\n"
    written = line.process.stdout.read().decode()
    assert re.fullmatch(rf'{{"ok": false, .*"exit_code": {code}}}\n', written)


@posix
def test_a_terminal_shows_a_bar_without_parts(child: Run, place: Path, url: str) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 140, 0, 0))
    (place / "b").write_bytes(bytes(4_000_000))
    assert child("upload", "b", url).end().code == 0
    line = child("verify", "-", url, stderr=theirs, env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
    line.process.stdin.write(bytes(2_000_000))
    line.process.stdin.flush()
    written = b""
    while b"so far" not in written:
        written += os.read(ours, 65536)
    line.process.send_signal(signal.SIGINT)
    while b"stopped before all was compared" not in written:
        written += os.read(ours, 65536)
    assert line.process.wait(60) == 130
    os.close(ours)
    os.close(theirs)
    text = written.decode()
    assert f"comparing standard input with {url}" in text
    assert "parts" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"


def test_it_needs_no_store(partwise: Run, stored: Path, url: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    assert partwise("verify", "small.bin", url).code == 0
    assert sorted(place.rglob("*")) == before


def test_it_can_be_run_where_nothing_may_be_written(child: Run, stored: Path, url: str, place: Path) -> None:
    environment = {**os.environ, "HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent"}
    assert child("verify", "small.bin", url, env=environment).end().code == 0
