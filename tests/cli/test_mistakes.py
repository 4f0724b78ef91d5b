"""What the command says to common mistakes, on a terminal of 80 columns and in a pipe."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from partwise.cli import main
from partwise.cli.output import Output
from partwise.cli.reporting import ErrorReport
from partwise.server import Fail, S3Server, ServerFault
from partwise.stores.file import FileCheckpointStore

Run = Callable[..., Any]

WIDTH = 80

#: The labels of an error; a part of it is folded, and continues in indented lines.
LABEL = re.compile(r"(error|cause|kept|hint): ")


class Terminal(io.StringIO):
    """A terminal without colors."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """A storage for all mistakes."""
    with S3Server() as running:
        yield running


@pytest.fixture
def at_80_columns(
    place: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str]]]:
    """Run a command on a terminal of 80 columns, and return its exit code and the lines of the error."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERM", "dumb")
    (place / "backup.tar").write_bytes(b"holiday photos " * 20_000)
    (place / "other.tar").write_bytes(b"other photos " * 20_000)
    (place / "album").mkdir()

    def run(*line: str) -> tuple[int, list[str]]:
        terminal = Terminal()
        with redirect_stderr(terminal), redirect_stdout(io.StringIO()):
            code = main(line)
        lines = terminal.getvalue().splitlines()
        begin = next(number for number, text in enumerate(lines) if text.startswith("error: "))
        return code, lines[begin:]

    return run


def parts_of(lines: list[str]) -> dict[str, list[str]]:
    """The lines of each part of an error, by its label."""
    parts: dict[str, list[str]] = {}
    label = ""
    for line in lines:
        if match := LABEL.match(line):
            label = match[1]
            parts[label] = []
        parts[label].append(line)
    return parts


def upload(*words: str) -> list[str]:
    return ["upload", "backup.tar", *words]


S3 = "s3://examplebucket/backup.tar"
PARTS = ("--part-size", "100K", "--multipart-threshold", "0")


@pytest.mark.parametrize(
    ("line", "code", "labels"),
    [
        (["uplaod", "backup.tar", S3], 2, "error hint"),
        (["statsu"], 2, "error hint"),
        (["upload", "backup.tar"], 2, "error hint"),
        (["upload", S3, "backup.tar"], 2, "error hint"),
        (["upload", "missing.tar", S3], 1, "error"),
        (["upload", "album", S3], 1, "error hint"),
        (["upload", "backup.tar", "album", "s3://examplebucket/x"], 2, "error hint"),
        (["upload", "-", "s3://examplebucket/"], 2, "error hint"),
        (["verify", "album", S3], 1, "error hint"),
        (upload("/mnt/backups/"), 2, "error hint"),
        (upload("gs://bucket/key"), 2, "error"),
        (upload("s3://"), 2, "error"),
        (upload(S3, "--part-size", "8Q"), 2, "error hint"),
        (upload(S3, "--part-size", "8"), 2, "error hint"),
        (upload(S3, "--part-sise", "8M"), 2, "error hint"),
        (upload(S3, "--part-size", "6TiB"), 2, "error"),
        (upload(S3, *PARTS), 2, "error"),
        (upload(S3, "--signature-version", "v1"), 2, "error hint"),
        (upload(S3, "--no-resume", "--checkpoint", "c"), 2, "error hint"),
        (upload(S3, "--store", "redis://x"), 2, "error"),
        (upload(S3, "--profile", "work"), 2, "error hint"),
        (upload(S3, "--endpoint", "TLS", "--ca-bundle", "missing.pem"), 2, "error hint"),
        (upload(S3, "--proxy", "socks5://ann:geheim@127.0.0.1:1"), 2, "error hint"),
        (upload(S3, "--object-lock-mode", "GOVERNANCE"), 2, "error"),
        (upload(S3, "--sse-customer-key-file", "missing"), 2, "error"),
        (upload(S3, "--expect-size", "5"), 1, "error"),
        (upload(S3, "--require-resume", "--multipart-threshold", "0"), 1, "error cause hint"),
        (upload("s3://nobucket/backup.tar"), 1, "error cause hint"),
        (upload(S3, "--region", "us-west-2"), 1, "error cause hint"),
        (upload("oss://examplebucket/backup.tar"), 2, "error hint"),
        (upload("oss://examplebucket/backup.tar", "--region", "cn-hangzhou"), 2, "error hint"),
        (upload(S3, "--endpoint", "http://127.0.0.1:1", "--give-up-after", "0"), 75, "error cause hint"),
        (upload(S3, "--endpoint", "TLS", "--give-up-after", "0"), 1, "error cause hint"),
        (upload("FILE:bucket/x", "--checkpoint-dir", "backup.tar", *PARTS), 1, "error cause hint"),
        (upload("FILE:bucket/x", "--checkpoint", "backup.tar", *PARTS), 2, "error hint"),
        (upload("FILE:bucket/x", "--checkpoint", "backup.tar", "--dry-run"), 2, "error hint"),
        (upload("FILE:bucket/x", "--checkpoint", "other.tar", *PARTS), 1, "error hint"),
        (upload("FILE:bucket/x", "--checkpoint", "album", *PARTS), 1, "error cause hint"),
        (upload("FILE:bucket/x", "--expect-crc64", "5", *PARTS), 1, "error cause kept hint"),
        (upload("FILE:backup.tar/x"), 1, "error cause"),
        (upload("FILE:album"), 2, "error hint"),
        (upload("FILE:bucket/x", "--acl", "private"), 2, "error"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_explained_in_short_parts_that_fit(
    *, at_80_columns: Run, place: Path, server: S3Server, line: list[str], code: int, labels: str
) -> None:
    words = {"TLS": server.endpoint.replace("http:", "https:")}
    ended, lines = at_80_columns(
        *(words.get(word, word.replace("FILE:", f"{place.as_uri()}/")) for word in line),
    )
    parts = parts_of(lines)
    assert (ended, " ".join(parts)) == (code, labels)
    for text in lines:
        assert len(text) <= WIDTH or " " not in LABEL.sub("", text).strip(), "only a long name may be wider"
    for label, of_part in parts.items():
        assert len(of_part) <= 4, of_part
        indent = " " * (len(label) + 2)
        assert all(text.startswith(indent) and text[len(indent)] != " " for text in of_part[1:])
    assert "geheim" not in "".join(lines)


@pytest.mark.parametrize(
    ("fault", "code", "labels", "words"),
    [
        (Fail("AccessDenied"), 1, "error cause", "cause: AccessDenied: "),
        (Fail("SlowDown"), 75, "error cause hint", "raise --give-up-after"),
        (Fail("InternalError"), 75, "error cause hint", "Run the same command again"),
        (Fail("EntityTooLarge"), 1, "error cause", "EntityTooLarge"),
        (Fail("ExpiredToken"), 1, "error cause hint", "AWS_SESSION_TOKEN"),
        (Fail("RequestTimeTooSkewed"), 1, "error cause hint", "Set the clock of this machine"),
        (Fail("PreconditionFailed"), 1, "error cause", "overwriting was forbidden"),
    ],
    ids=lambda value: value.code if isinstance(value, Fail) else None,
)
def test_a_refusal_of_the_storage_is_explained_in_short_parts_that_fit(
    *, at_80_columns: Run, server: S3Server, fault: Fail, code: int, labels: str, words: str
) -> None:
    server.plan(ServerFault("PutObject", fault))
    ended, lines = at_80_columns(*upload(S3, "--give-up-after", "0"))
    assert (ended, " ".join(parts_of(lines))) == (code, labels)
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 8
    assert words in " ".join(line.strip() for line in lines)
    assert "s3://examplebucket@" not in "".join(lines), "the first line names the object"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["upload", "album", S3], "Upload its files: partwise upload DIR/* URL/, or an archive: tar c DIR | partwise"),
        (["verify", "album", S3], "album is a directory, not a file hint: Name a file in it"),
        (["upload", S3, "backup.tar"], "the URL has to be the last argument, not 'backup.tar'"),
        (["uplaod"], "no such command 'uplaod' hint: Did you mean upload?"),
        (upload(S3, "--endpoint", "TLS"), "the server does not speak TLS on this port"),
        (
            upload(S3, "--endpoint", "TLS", "--ca-bundle", "missing.pem"),
            "missing.pem can't be used: No such file or directory hint",
        ),
        (upload(S3, "--object-lock-mode", "GOVERNANCE"), "--object-lock-mode and --object-lock-retain-until require"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_explained_in_plain_words(
    *, at_80_columns: Run, server: S3Server, line: list[str], words: str
) -> None:
    tls = server.endpoint.replace("http:", "https:")
    _, lines = at_80_columns(*(tls if word == "TLS" else word for word in line))
    assert words in " ".join(text.strip() for text in lines)


def test_a_busy_upload_is_explained_in_two_parts(at_80_columns: Run, place: Path) -> None:
    line = upload(f"{place.as_uri()}/bucket/x", *PARTS, "--checkpoint-dir", "checkpoints")
    assert at_80_columns(*line, "--expect-crc64", "5")[0] == 1
    store = FileCheckpointStore("checkpoints")
    (checkpoint,) = store.scan()
    with store.claim(checkpoint.name):
        code, lines = at_80_columns(*line)
    assert (code, list(parts_of(lines))) == (3, ["error", "hint"])


def test_in_a_pipe_each_part_is_one_line(partwise: Run, place: Path) -> None:
    (place / "album").mkdir()
    ended = partwise("upload", "album", f"{place.as_uri()}/bucket/x")
    assert [LABEL.match(line) is not None for line in ended.err.splitlines()] == [True, True]
    assert max(map(len, ended.err.splitlines())) > WIDTH


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals")
@pytest.mark.parametrize("columns", [50, 120])
def test_the_width_is_that_of_the_terminal_that_shows_the_error(
    columns: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output, which may be a file, tells nothing."""
    import fcntl
    import struct
    import termios

    controller, device = os.openpty()
    fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    monkeypatch.setenv("TERM", "dumb")
    with os.fdopen(device, "w") as terminal, redirect_stderr(terminal):
        Output().error(ErrorReport("word " * 60))
        os.set_blocking(controller, False)
        lines = os.read(controller, 10_000).decode().splitlines()
    os.close(controller)
    assert columns - 5 <= max(map(len, lines)) <= columns


@pytest.mark.parametrize(
    "arguments",
    [
        upload(S3, "--store", "memory://me:secret@db"),
        upload("memory://me:secret@db/key"),
        upload("oss://me:secret@db/key", "--dialect", "aws"),
        ("probe", "file://me:secret@db/key"),
    ],
    ids=str,
)
def test_a_password_in_a_url_is_not_shown(partwise: Run, arguments: tuple[str, ...]) -> None:
    ended = partwise(*arguments)
    assert ended.code == 2
    assert "***" in ended.err
    assert "secret" not in ended.out + ended.err
