"""Everything printed is escaped, by one module, to streams that never fail."""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import partwise.cli
from partwise.backends.memory import MemoryBackend
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli import main
from partwise.cli.formatting import collapse_lines, escape_control
from partwise.cli.output import Output, as_json
from partwise.cli.progress_display import meter_for
from partwise.cli.reporting import ErrorReport
from partwise.cli.streams import SteadyStream, steady_streams
from partwise.cli.style import Styled
from partwise.errors import AccessDenied, BackendError
from partwise.model import ObjectOptions
from partwise.registry import register_backend, register_checkpoint_store
from partwise.results import Progress
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore

Run = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="names of files can't have such signs there")

#: Clears the screen by a control sequence of seven bits and by one of eight, goes to the beginning of the line, turns
#: the direction of writing round, begins a line that looks like ours, and has bytes that are not text.
HOSTILE = "a\x1b[2J\x9b1m\r\u202eb\u2066\x7f\nerror: [red]all is well[/red] :bomb: \udc9b\udcff"
ESCAPED = "a\\x1b[2J\\x9b1m\\r\\u202eb\\u2066\\x7f\\nerror: [red]all is well[/red] :bomb: \\udc9b\\udcff"

# --- lines ---


def printed(text: str) -> bool:
    """Whether it is printable, but for the ends of lines."""
    return text.replace("\n", "").isprintable()


def test_printed_text_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(verbose=True)
    output.say(HOSTILE)
    output.note(HOSTILE)
    output.warning(HOSTILE)
    output.error(ErrorReport(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE))
    written = capsys.readouterr()
    assert written.out == f"{ESCAPED}\n"
    in_one_line = escape_control(collapse_lines(HOSTILE))
    labels = ("error", "cause", "kept", "hint")
    assert written.err.splitlines() == [
        ESCAPED,
        f"warning: {ESCAPED}",
        *(f"{label}: {in_one_line}" for label in labels),
        f"  {ESCAPED}",
    ]


@given(st.text(st.characters()))
def test_no_text_breaks_a_line_or_stops_the_output(text: str) -> None:
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        Output().say(text, ("x", Styled(text, "red")))
    assert screen.getvalue().count("\n") == 2
    assert printed(screen.getvalue())


def test_only_styled_text_has_colors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    Output().say(("\x1b[31m", Styled("\x1b", "green"), "!"))
    assert capsys.readouterr().out == "\\x1b[31m\x1b[32m\\x1b\x1b[0m!\n"


def test_colors_depend_on_the_stream(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json words go to standard error, which need not be a terminal where standard output is one."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    Output(json=True).say(Styled("x", "green"))
    assert capsys.readouterr().err == "x\n"


def test_a_traceback_is_escaped_and_indented(capsys: pytest.CaptureFixture[str]) -> None:
    Output(verbose=True).error(ErrorReport("no"), AccessDenied(HOSTILE))
    *trace, last = capsys.readouterr().err.splitlines()
    assert last == "error: no"
    assert all(line.startswith("  ") and line.isprintable() for line in trace)


def test_log_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.lastResort
    with Output().logging():
        logging.getLogger("partwise.stores.file").warning("%s is damaged", HOSTILE)
        # What Python falls back to where a program has set up no logging; here pytest has.
        record = logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": HOSTILE})
        assert logging.lastResort is not None
        logging.lastResort.handle(record)
        assert logging.lastResort.level == logging.WARNING
    assert logging.lastResort is before
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {ESCAPED} is damaged",
        f"warning: {ESCAPED}",
    ]


def test_the_hint_of_an_error_in_a_log_message_names_flags(capsys: pytest.CaptureFixture[str]) -> None:
    error = BackendError("no connection", hint="To keep trying for longer, raise {give_up_after}")
    with Output().logging():
        logging.getLogger("partwise").warning("%s: the upload %s could not be aborted: %s", "k", "U", error)
    assert capsys.readouterr().err == (
        "warning: k: the upload U could not be aborted: no connection."
        " To keep trying for longer, raise --give-up-after\n"
    )


@pytest.mark.parametrize(("scheme", "variable"), [("oss", "OSS_ACCESS_KEY_ID"), ("s3", "AWS_ACCESS_KEY_ID")])
def test_the_hint_of_an_error_in_a_log_message_names_the_credentials_of_the_storage(
    capsys: pytest.CaptureFixture[str], scheme: str, variable: str
) -> None:
    with Output().logging(scheme):
        logging.getLogger("partwise").warning("%s", AccessDenied("denied", hint="Set {credentials}"))
    assert variable in capsys.readouterr().err


def test_an_invalid_log_record_does_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().logging():
        logging.getLogger("partwise").warning("%d parts", "many")
    assert capsys.readouterr().err == "warning: %d parts\n"


# --- objects ---


@given(st.text(st.characters()))
def test_json_is_printable_ascii(text: str) -> None:
    written = as_json({"message": text})
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == json.loads(json.dumps({"message": text}))


def test_values_without_a_json_form_are_null_or_text() -> None:
    odd = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}, "e": Path("/x"), "f": (1,)}
    assert json.loads(as_json(odd)) == {"a": None, "b": [None, 1.5], "c": {"d": None}, "e": "/x", "f": [1]}


# --- every command, from end to end ---


class HostileServer(MemoryBackend):
    """A server whose responses try to control the terminal."""

    def __init__(self) -> None:
        super().__init__("hostile")

    def close(self) -> None:
        """It serves more than one command."""

    def upload_part(self, *arguments: object) -> Any:
        raise BackendError(HOSTILE, code=HOSTILE, request_id=HOSTILE, details={"host_id": HOSTILE, HOSTILE: HOSTILE})

    def list_uploads(self, prefix: str = "") -> Any:
        return [evolve(one, upload_id=HOSTILE, key=HOSTILE) for one in super().list_uploads()]

    def abort_upload(self, *arguments: object) -> None:
        raise AccessDenied(HOSTILE)


@pytest.fixture
def hostile_file(small: Path) -> str:
    name = f"./{HOSTILE.replace('/', '_')}"
    small.rename(name)
    return name


@pytest.fixture
def hostile(place: Path, hostile_file: str) -> str:
    """The URL of a storage, the source of an upload, a checkpoint directory: all of them hostile."""
    server = HostileServer()
    server.initiate_upload("k", ObjectOptions())
    register_backend("hostile", lambda url, **settings: (server, HOSTILE))
    FileCheckpointStore(place / "checkpoints").save(
        Checkpoint("oss://b@r", "copy", "/f", Fingerprint(size=2), 1, upload_id="U")
    )
    return f"hostile:{HOSTILE}"


@posix
@pytest.mark.parametrize(
    "line",
    [
        ("upload", "FILE", "URL", "--part-size", "100K", "--multipart-threshold", "0"),
        ("upload", "FILE", "URL", "--part-size", "100K", "--multipart-threshold", "0", "--verbose"),
        ("upload", "FILE", "URL", "--part-size", "100K", "--multipart-threshold", "0", "--json"),
        ("upload", "FILE", "URL", "--progress", "json", "--progress-interval", "0"),
        ("upload", "FILE", "URL", "--dry-run"),
        ("upload", "FILE", "BUCKET"),
        ("upload", "FILE", "BUCKET", "--json"),
        ("upload", "WORDS", "URL"),
        ("upload", "FILE", "WORDS"),
        ("upload", "FILE", "URL", "--part-size", "WORDS"),
        ("upload", "FILE", "URL", "--checkpoint-dir", "FILE/in", "--multipart-threshold", "0"),
        ("upload", "FILE", "URL", "WORDS"),
        ("upload", "FILE", "URL", "--WORDS"),
        ("WORDS",),
        ("abort", "FILE", "URL"),
        ("abort", "FILE", "URL", "--json"),
        ("abort", "FILE", "URL", "--checkpoint-dir", "WORDS"),
        ("uploads", "URL"),
        ("uploads", "URL", "--json"),
        ("uploads", "file:///WORDS/"),
        ("gc", "URL", "--older-than", "0s", "--checkpoint-dir", "checkpoints"),
        ("gc", "URL", "--older-than", "0s", "--checkpoint-dir", "checkpoints", "--dry-run"),
        ("gc", "URL", "--older-than", "0s", "--checkpoint-dir", "checkpoints", "--json"),
        ("gc", "URL", "--older-than", "WORDS"),
        ("status", "--checkpoint-dir", "WORDS"),
        ("status", "--checkpoint", "WORDS"),
        ("status", "--store", "sqlite:///WORDS"),
        ("status", "--store", "WORDS"),
        ("serve", "FILE"),
        ("demo", "FILE"),
    ],
    ids=" ".join,
)
def test_every_command_prints_only_printable_text(
    partwise: Run, bucket: Path, hostile: str, hostile_file: str, line: tuple[str, ...]
) -> None:
    words = {"FILE": hostile_file, "URL": hostile, "BUCKET": f"{bucket.as_uri()}/", "WORDS": HOSTILE}
    for word, meant in words.items():
        line = tuple(one.replace(word, meant) for one in line)
    ended = partwise(*line)
    assert printed(ended.out)
    assert printed(ended.err)
    assert "\nerror: [red]" not in f"\n{ended.out}{ended.err}", "a name starts a line"
    if "--json" in line:
        assert ended.objects


@posix
def test_a_status_of_hostile_entries_is_a_line_for_each(partwise: Run) -> None:
    store = MemoryCheckpointStore()
    store.save(
        Checkpoint(f"oss://{HOSTILE}@r", HOSTILE, HOSTILE, Fingerprint(size=2), 1, upload_id=HOSTILE, created=1.0)
    )
    register_checkpoint_store("hostile", lambda url: store.handle())
    ended = partwise("status", "--store", "hostile:")
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)
    assert printed(ended.out)
    assert ESCAPED in ended.out
    assert partwise("status", "--store", "hostile:", "--json").last["key"] == HOSTILE


@posix
@pytest.mark.parametrize("line", [("status",), ("status", "--verbose"), ("gc", "BUCKET")], ids=" ".join)
def test_a_hostile_directory_of_checkpoints_is_escaped(
    partwise: Run, place: Path, bucket: Path, line: tuple[str, ...]
) -> None:
    bucket.mkdir()
    name = HOSTILE.replace("/", "_")
    directory = place / name
    directory.mkdir()
    for content in (HOSTILE, "partwise checkpoint 1\n", ""):
        (directory / f"{len(content)}{name}.ucp").write_bytes(os.fsencode(content))
    line = tuple(f"{bucket.as_uri()}/" if word == "BUCKET" else word for word in line)
    ended = partwise(*line, "--checkpoint-dir", name)
    assert printed(ended.out)
    assert printed(ended.err)
    assert ended.err.count(" is left out: ") == 3
    assert "\nerror: [red]" not in ended.err


def test_a_question_is_escaped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert Output().ask(HOSTILE) is False
    assert capsys.readouterr().err == f"{ESCAPED} [y/N] "


def test_a_question_that_is_not_answered_by_text_is_answered_by_no(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    assert Output().ask("Delete?") is False
    assert capsys.readouterr().err == "Delete? [y/N] \n"


def test_a_quiet_command_prints_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    Output(quiet=True).warning("it is slow")
    Output().warning("it is slow")
    assert capsys.readouterr().err == "warning: it is slow\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_and_what_is_written_above_it_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "500")
    with meter_for(Output(), HOSTILE, HOSTILE) as meter:
        meter(Progress(bytes_done=1, bytes_total=2, parts_done=1, parts_total=2))
        Output().note(HOSTILE)
    written = screen.getvalue()
    assert f"uploading {ESCAPED}: 2 B" in written
    assert f"{ESCAPED}\n" in written
    assert "\x1b[2J" not in written
    assert not {"\x9b", "\u202e", "\u2066", "\x7f", "\udc9b"} & set(written)


def test_what_is_written_above_a_bar_goes_to_the_terminal_of_the_bar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with (tmp_path / "screen").open("w") as file:
        file.isatty = lambda: True  # type: ignore[method-assign]  # as a terminal
        monkeypatch.setattr("sys.stderr", file)
        with meter_for(Output(), "f", "f") as meter:
            assert (sys.stderr.isatty(), sys.stderr.fileno()) == (True, file.fileno())
            assert sys.stderr is not file
        monkeypatch.setattr("sys.__stderr__", file)
        file.flush()
        meter.restore_screen()
    assert (tmp_path / "screen").read_text().endswith("\x1b[?25h\n")


def test_a_bar_that_can_t_be_started_for_another_reason_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    meter = meter_for(Output(), "f", "f")
    monkeypatch.setattr(type(meter._display), "start", fail)
    with pytest.raises(RuntimeError, match="a defect"), meter:
        pytest.fail("it has started")


# --- one place ---

#: Where printing is done: these two modules, and the bar, which another library draws on its own. The package says
#: itself that they can't be imported, since a library is missing.
PRINTERS = {"output.py", "streams.py"}
WITHOUT_LIBRARIES = ["__init__.py: sys.stderr.write"] * 2


def test_only_the_output_module_prints() -> None:
    found = []
    for path in sorted(Path(partwise.cli.__file__).parent.glob("*.py")):
        if path.name in PRINTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "print" or called.endswith(
                (".print", ".echo", ".secho", ".style", "os.write", "stdout.write", "stderr.write", ".writelines")
            ):
                found.append(f"{path.name}: {called}")
            if called in ("Console", "Live") and path.name != "progress_bar.py":
                found.append(f"{path.name}: {called}")
    assert found == WITHOUT_LIBRARIES


# --- streams ---


class Broken(io.StringIO):
    """Fails with an error when it is written to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF], ids=errno.errorcode.get)
def test_a_stream_that_fails_drops_what_is_written(number: int) -> None:
    stream = SteadyStream(Broken(number))
    assert stream.write("lost") == 4
    stream.flush()
    assert stream.write("lost, too") == 9
    assert not stream.isatty()
    assert stream.failure is not None
    assert stream.failure.errno == number
    assert stream.is_cut_short == (number == errno.ENOSPC)


def test_a_file_that_a_program_has_put_in_the_place_of_a_stream_is_left_as_it_is(tmp_path: Path) -> None:
    """Only the descriptors of standard output and standard error are the command's own."""
    with (tmp_path / "log").open("w+", encoding="utf-8") as log:

        class Full(Broken):
            def fileno(self) -> int:
                return log.fileno()

        stream = SteadyStream(Full(errno.ENOSPC))
        stream.write("lost")
        log.write("kept")
        log.seek(0)
        assert log.read() == "kept"


def test_a_stream_that_was_closed_drops_what_is_written() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (SteadyStream(closed), SteadyStream(None)):
        stream.write("lost")
        stream.flush()
        assert not stream.isatty()
        with pytest.raises((OSError, ValueError)):
            stream.fileno()
    assert SteadyStream(None).encoding == "utf-8"


def test_a_stream_takes_text_only_and_has_nothing_to_write_past_it() -> None:
    stream = SteadyStream(io.StringIO())
    with pytest.raises(TypeError):
        stream.write(b"bytes")  # type: ignore[arg-type]
    assert not hasattr(stream, "buffer")


def test_what_a_stream_can_not_encode_is_escaped() -> None:
    raw = io.BytesIO()
    stream = SteadyStream(io.TextIOWrapper(raw, encoding="latin-1", newline=""))
    stream.write("ü 備 \udc9b\n")
    stream.flush()
    assert raw.getvalue() == b"\xfc \\u5099 \\udc9b\n"


@posix
def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    """Another process that has the pipe, too, may have made it so."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "x" * 300_000
    read = bytearray()

    def reader() -> None:
        while chunk := os.read(reading, 65_536):
            read.extend(chunk)

    thread = threading.Thread(target=reader)
    with open(writing, "w", encoding="utf-8") as pipe:  # noqa: PTH123  # a descriptor
        stream = SteadyStream(pipe)
        for size in (3000, 90_000, 7000, 200_000):
            stream.write(text[:size])
            if not thread.ident:
                thread.start()
            stream.flush()
    thread.join()
    os.close(reading)
    assert bytes(read) == text.encode()


class Full(io.StringIO):
    """A pipe that does not block and is full, `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def write(self, text: str) -> int:
        super().write(text)
        if self.times:
            raise BlockingIOError(errno.EAGAIN, "full", len(text))
        return len(text)

    def flush(self) -> None:
        if self.times:
            self.times -= 1
            raise BlockingIOError(errno.EAGAIN, "full", 0)


def test_a_full_pipe_is_flushed_before_the_next_write(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []
    monkeypatch.setattr("partwise.cli.streams._wait_until_writable", waits.append)
    screen = Full(times=2)
    stream = SteadyStream(screen)
    stream.write("text")
    assert (screen.getvalue(), screen.times, waits) == ("text", 0, [screen, screen])


def test_a_full_pipe_that_can_t_be_waited_for_drops_what_is_written() -> None:
    stream = SteadyStream(Full(times=1))  # has no descriptor
    stream.write("x" * 3000)
    assert isinstance(stream.failure, OSError)
    assert stream.write("lost, too") == 9


def test_a_terminal_that_was_closed_is_none() -> None:
    screen = io.StringIO()
    screen.close()
    assert SteadyStream(screen).isatty() is False


def test_a_write_in_the_middle_of_another_one_is_dropped_and_the_next_is_not() -> None:
    class Reentrant(io.StringIO):
        def flush(self) -> None:
            raise RuntimeError("reentrant call inside a buffered writer")

        def write(self, text: str) -> int:
            if text == "from a handler":
                raise RuntimeError("reentrant call inside a buffered writer")
            return super().write(text)

    screen = Reentrant()
    stream = SteadyStream(screen)
    stream.write("from a handler")
    stream.write("the next")
    stream.flush()
    assert (screen.getvalue(), stream.failure) == ("the next", None)


def test_streams_are_what_they_were_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout, sys.stderr
    with steady_streams():
        assert isinstance(sys.stdout, SteadyStream)
    assert (sys.stdout, sys.stderr) == before


@contextmanager
def instead(monkeypatch: pytest.MonkeyPatch, **streams: object) -> Any:
    with monkeypatch.context() as patch:
        for name, stream in streams.items():
            patch.setattr(f"sys.{name}", stream)
        yield


@pytest.mark.parametrize(
    ("which", "gone"),
    [
        ("stdout", None),
        ("stderr", None),
        ("both", None),
        ("stdout", errno.ENOSPC),
        ("stderr", errno.EIO),
        ("both", errno.EPIPE),
    ],
)
def test_an_upload_ends_well_whatever_became_of_the_streams(
    *, small: Path, url: str, bucket: Path, monkeypatch: pytest.MonkeyPatch, gone: int | None, which: str
) -> None:
    names = ("stdout", "stderr") if which == "both" else (which,)
    with instead(monkeypatch, **{name: None if gone is None else Broken(gone) for name in names}):
        assert main(["upload", "small.bin", url, "--part-size", "100K", "--multipart-threshold", "0"]) == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


class VanishingTerminal(Terminal):
    """A terminal that is closed after some output."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)

    flush = lambda self: self.write("")  # noqa: E731


@pytest.mark.parametrize("writes", [*range(7), 12])
def test_an_upload_succeeds_if_its_terminal_is_closed_under_the_bar(
    *, small: Path, url: str, bucket: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with instead(monkeypatch, stderr=VanishingTerminal(writes), stdout=VanishingTerminal(writes)):
        assert main(["upload", "small.bin", url, "--part-size", "100K", "--multipart-threshold", "0"]) == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


@pytest.mark.parametrize(
    ("gone", "code"), [(None, 0), (errno.EPIPE, 0), (errno.EIO, 0), (errno.ENOSPC, 1), (errno.EDQUOT, 1)], ids=str
)
@pytest.mark.parametrize("line", [("status",), ("status", "--json"), ("uploads", "BUCKET"), ("gc", "BUCKET")], ids=str)
def test_a_list_that_is_cut_short_by_a_full_disk_is_a_failure(
    *, place: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], gone: int | None, code: int
) -> None:
    """A program that reads it must not take it for the whole. A reader that has left has what it wanted."""
    from partwise.backends.local import LocalBackend
    from partwise.registry import default_checkpoint_store

    LocalBackend(bucket).initiate_upload("k", ObjectOptions())
    default_checkpoint_store().save(Checkpoint("oss://b@r", "k", "/f", Fingerprint(size=2), 1, upload_id="U"))
    words = io.StringIO()
    with instead(monkeypatch, stdout=None if gone is None else Broken(gone), stderr=words):
        assert main([f"{bucket.as_uri()}/" if word == "BUCKET" else word for word in line]) == code
    reason = os.strerror(gone) if code and gone else ""
    assert (f"error: standard output could not be written\ncause: {reason}\n" in words.getvalue()) == bool(code)


@pytest.mark.parametrize("line", [["--help"], ["upload", "--help"], ["--version"], ["uplaod"]], ids=" ".join)
def test_help_and_usage_errors_need_no_output(monkeypatch: pytest.MonkeyPatch, line: list[str]) -> None:
    for stream in (None, Broken(errno.EIO)):
        with instead(monkeypatch, stdout=stream, stderr=stream):
            assert main(line) == (2 if line == ["uplaod"] else 0)


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_an_upload_may_be_started_with_closed_streams(
    child: Any, small: Path, url: str, bucket: Path, closed: str
) -> None:
    line = f'exec "$0" -m partwise upload small.bin {url} --part-size 100K --multipart-threshold 0 {closed}'
    program = f"import os, sys; os.execvp('sh', ['sh', '-c', {line!r}, sys.executable])"
    ended = child(program=("-c", program)).end()
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert (bucket / "copy").read_bytes() == small.read_bytes()


@posix
def test_no_file_gets_the_descriptor_of_a_closed_stream(child: Any, place: Path) -> None:
    """What a library writes to standard error would otherwise go into an object, or into a checkpoint."""
    (place / "program.py").write_text(
        "import os, sys\n"
        "from partwise.cli.streams import steady_streams\n"
        "for number in (0, 1, 2):\n"
        "    os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "with steady_streams():\n"
        "    found = os.open('file', os.O_RDWR | os.O_CREAT)\n"
        "os.write(found, str(found).encode())\n"
    )
    assert child(program=("program.py",)).end().code == 0
    assert int((place / "file").read_text()) > 2
