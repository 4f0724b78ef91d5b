"""Files opened for writing: stored when they are closed, whole and verified, or not at all."""

from __future__ import annotations

import contextlib
import csv
import gc
import gzip
import io
import json
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from partwise import AccessDenied, CheckpointBusy, SourceMismatch, UploadFailed
from partwise._engine.throttle import TransferStopped
from partwise.backends.memory import MemoryBackend
from partwise.fsspec import UploadFile, UploadFileSystem
from partwise.fsspec.pipe import BUFFER_SIZE, Pipe
from partwise.registry import register_backend
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

PART = 256 * 1024
PATH = "examplebucket/table.bin"
KEY = "table.bin"

#: More than what is buffered, so that parts of it are sent before the file is closed.
LARGE = pseudo_random_bytes(BUFFER_SIZE + 3 * PART + 5, 1)


class Failed(Exception):
    """What a program may raise."""


def wait_until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


class RefusingBackend(MemoryBackend):
    """A storage that refuses parts from a certain number on."""

    first_refused = 3

    def __init__(self) -> None:
        super().__init__()
        self.responds = threading.Event()
        self.responds.set()
        self.is_asked = threading.Event()

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Any) -> Any:
        self.is_asked.set()
        assert self.responds.wait(60)
        if part_number >= self.first_refused:
            raise AccessDenied("this storage has enough")
        return super().upload_part(key, upload_id, part_number, body)


@pytest.fixture
def refusing(fs: UploadFileSystem) -> RefusingBackend:
    """The backend of the filesystem instead of `backend`."""
    refusing = RefusingBackend()
    register_backend("toy", lambda url, **settings: (refusing, ""))
    return refusing


# --- an object -------------------------------------------------------------------------------------------------------


def test_parts_are_sent_while_the_file_is_written_and_the_object_appears_when_it_is_closed(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    with fs.open(PATH, "wb") as file:
        for begin in range(0, len(LARGE), 100_000):
            file.write(LARGE[begin : begin + 100_000])
        assert len(backend.uploads) == 1
        assert backend.keys() == []

    assert backend.read(KEY) == LARGE
    assert (file.closed, file.result.size, file.result.verified) == (True, len(LARGE), True)
    assert file.result.parts_sent == -(-len(LARGE) // PART)
    assert backend.uploads == {}


def test_what_fits_into_the_buffer_is_sent_when_the_file_is_closed_without_another_thread(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    threads = threading.active_count()
    with fs.open(PATH, "wb") as file:
        file.write(LARGE[:PART])
        assert threading.active_count() == threads
    assert backend.read(KEY) == LARGE[:PART]


def test_an_empty_file_is_an_empty_object(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    fs.touch(PATH)
    assert backend.read(KEY) == b""


def test_a_flush_stores_nothing(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    file = fs.open(PATH, "wb")
    file.write(b"abc")
    file.flush()
    assert backend.calls == {}
    file.close()
    assert backend.read(KEY) == b"abc"


def test_closing_twice_stores_once(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    file = fs.open(PATH, "wb")
    file.close()
    file.close()
    file.commit()
    file.discard()
    assert backend.calls["put_object"] == 1
    assert backend.keys() == [KEY]


def test_the_file_is_one_for_writing_only(fs: UploadFileSystem) -> None:
    with fs.open(PATH, "wb") as file:
        assert (file.writable(), file.readable(), file.seekable()) == (True, False, False)
        assert file.write(memoryview(b"abcdef").cast("H")) == 6
        assert file.tell() == 6
        assert (file.path, file.name, file.mode) == (PATH, PATH, "wb")
        for refused in (file.read, lambda: file.seek(0), file.truncate, file.fileno, lambda: pickle.dumps(file)):
            with pytest.raises((OSError, TypeError)):
                refused()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        file.flush()


@pytest.mark.parametrize("mode", ["ab", "a", "r+b", "w+b"])
def test_an_object_can_be_neither_appended_to_nor_changed(fs: UploadFileSystem, mode: str) -> None:
    with pytest.raises(ValueError, match="an object is stored as a whole"):
        fs.open(PATH, mode)


def test_the_block_size_is_that_of_the_parts(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with fs.open(PATH, "wb", block_size=4 * PART) as file:
        file.write(LARGE)
    assert file.result.parts_sent == -(-len(LARGE) // (4 * PART))


def test_a_callback_gets_the_bytes_and_is_closed(fs: UploadFileSystem) -> None:
    seen: list[Any] = []

    class Seen(fsspec.Callback):
        def close(self) -> None:
            seen.append("closed")

    callback = Seen()
    with fs.open(PATH, "wb", callback=callback) as file:
        file.write(LARGE)
    assert (callback.size, callback.value, seen) == (len(LARGE), len(LARGE), ["closed"])


def test_the_options_of_one_object_take_the_place_of_those_of_the_filesystem(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    with fs.open(PATH, "wb", options={"content_type": "text/x-table"}):
        pass
    assert backend.describe(KEY).content_type == "text/x-table"


def test_bytes_that_are_not_the_expected_ones_are_not_stored(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    file = fs.open(PATH, "wb", expected_size=4)
    file.write(b"abc")
    with pytest.raises((SourceMismatch, UploadFailed)):
        file.close()
    assert file.closed
    assert backend.keys() == []


# --- a program that fails --------------------------------------------------------------------------------------------


class Handles:
    """As pandas closes what it has opened."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> Any:
        return self.file

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.flush()
        self.file.close()


@contextlib.contextmanager
def generated(file: Any) -> Iterator[Any]:
    try:
        yield file
    finally:
        file.close()


class Stacked(contextlib.ExitStack):
    def __init__(self, file: Any) -> None:
        super().__init__()
        self.file = file
        self.callback(file.close)

    def __enter__(self) -> Any:
        return self.file


WAYS: dict[str, Callable[[UploadFileSystem], Any]] = {
    "the file": lambda fs: fs.open(PATH, "wb"),
    "a text file": lambda fs: fs.open(PATH, "w"),
    "compressed": lambda fs: fs.open(PATH, "wb", compression="gzip"),
    "compressed text": lambda fs: fs.open(PATH, "wt", compression="xz"),
    "fsspec.open": lambda fs: fsspec.core.OpenFile(fs, PATH, "wb"),
    "fsspec.open of text": lambda fs: fsspec.core.OpenFile(fs, PATH, "w"),
    "fsspec.open, compressed": lambda fs: fsspec.core.OpenFile(fs, PATH, "wb", compression="gzip"),
    "closing": lambda fs: contextlib.closing(fs.open(PATH, "wb")),
    "handles of another library": lambda fs: Handles(fs.open(PATH, "wb")),
    "a generator": lambda fs: generated(fs.open(PATH, "wb")),
    "a stack": lambda fs: Stacked(fs.open(PATH, "wb")),
}


def content_for(way: str) -> Any:
    if "text" in way:
        return "abc"
    return LARGE[:PART] if "compressed" in way else LARGE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("fast_collection")
def test_an_exception_that_leaves_the_with_block_stores_nothing(
    fs: UploadFileSystem, backend: MemoryBackend, way: str
) -> None:
    with pytest.raises(Failed), WAYS[way](fs) as file:  # noqa: PT012
        file.write(content_for(way))
        raise Failed
    gc.collect()
    assert backend.keys() == []
    assert backend.uploads == {}


@pytest.mark.parametrize("way", WAYS)
def test_without_an_exception_what_was_written_is_stored(
    fs: UploadFileSystem, backend: MemoryBackend, way: str
) -> None:
    content = content_for(way)
    with WAYS[way](fs) as file:
        file.write(content)
    stored = backend.read(KEY)
    if "compressed" in way:
        stored = fsspec.compression.compr["xz" if "text" in way else "gzip"](io.BytesIO(stored), mode="r").read()
    assert stored == (content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_an_exception_that_is_passed_to_the_end_of_a_block_stores_nothing(
    fs: UploadFileSystem, backend: MemoryBackend, mode: str
) -> None:
    """As by a framework that calls it later, when nothing is being handled."""
    file = fs.open(PATH, mode)
    file.write(b"abc" if mode == "wb" else "abc")
    file.__exit__(Failed, Failed(), None)
    assert (file.closed, backend.keys()) == (True, [])


def test_a_file_that_is_closed_by_the_handler_of_an_exception_is_stored(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    """As by a program that writes until there is nothing more."""
    file, chunks = fs.open(PATH, "wb"), iter([b"abc", b"def"])
    while not file.closed:
        try:
            file.write(next(chunks))
        except StopIteration:
            file.close()
    assert backend.read(KEY) == b"abcdef"


def test_a_file_that_reports_an_exception_is_stored(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    class Reporter:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: object, trace: object) -> bool:
            with fs.open(PATH, "w") as file:
                file.write(repr(error))
            with fs.open(f"{PATH}.2", "w") as file:
                file.write("more")
            return True

    with Reporter():
        raise Failed
    assert backend.read(KEY) == b"Failed()"
    assert backend.read(f"{KEY}.2") == b"more"


def test_a_discarded_file_is_not_stored_and_can_not_be_written(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    file = fs.open(PATH, "wb")
    file.write(LARGE)
    file.discard()
    with pytest.raises(ValueError, match="discarded"):
        file.write(b"more")
    file.close()
    assert (backend.keys(), backend.uploads, file.result) == ([], {}, None)


@pytest.mark.parametrize("size", [3, len(LARGE)])
def test_a_discarded_text_file_is_not_stored_and_can_be_closed(
    fs: UploadFileSystem, backend: MemoryBackend, size: int
) -> None:
    """The text that is not encoded yet is dropped, too."""
    file = fs.open(PATH, "w")
    file.write("x" * size)
    file.write("the end")
    file.discard()
    file.close()
    with fs.open(PATH, "w") as other:
        other.write("x" * size)
        other.discard()
    assert (file.closed, other.closed, file.result) == (True, True, None)
    assert (backend.keys(), backend.uploads) == ([], {})


def test_nothing_can_be_written_to_a_file_that_is_stored(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    file = fs.open(PATH, "wb")
    file.write(b"abc")
    file.commit()
    with pytest.raises(ValueError, match=f"{PATH} is stored already"):
        file.write(b"more")
    file.close()
    assert backend.read(KEY) == b"abc"


def test_a_compressor_that_can_not_end_its_file_ends_the_upload(
    fs: UploadFileSystem, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        def __init__(self, file: Any, mode: str) -> None:
            self.write = file.write

        def close(self) -> None:
            raise MemoryError("the last block is too large")

    monkeypatch.setitem(fsspec.compression.compr, "endless", Endless)
    threads = threading.active_count()
    file = fs.open(PATH, "wb", compression="endless")
    file.write(LARGE)
    for end in (file.commit, file.close):
        with pytest.raises(MemoryError, match="the last block"):
            end()
    wait_until(lambda: threading.active_count() == threads)
    assert (file.closed, backend.keys(), backend.uploads) == (True, [], {})


def test_a_text_file_that_can_not_be_opened_is_no_empty_object(
    fs: UploadFileSystem, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    fs.pipe_file(PATH, b"kept")
    with fs.transaction:
        with pytest.raises(LookupError, match="unknown encoding"):
            fs.open(PATH, "w", encoding="unknown")
        with pytest.raises(ValueError, match="illegal newline"):
            fs.open(PATH, "w", newline="unknown")
    gc.collect()
    assert (backend.read(KEY), backend.uploads, caplog.records) == (b"kept", {}, [])


def test_the_end_of_a_compressed_file_that_was_discarded_is_dropped(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    file = fs.open(PATH, "wb", compression="gzip")
    file.write(b"abc")
    file.discard()
    file._encoder.close()
    file.close()
    assert (backend.calls, repr(file)) == ({}, f"<UploadFile {PATH!r} closed>")


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_that_is_never_closed_is_not_stored_and_that_is_logged(
    fs: UploadFileSystem, backend: MemoryBackend, caplog: pytest.LogCaptureFixture, mode: str, compression: str | None
) -> None:
    gc.disable()  # no cycle keeps it
    try:
        with caplog.at_level(logging.WARNING, "partwise.fsspec"):
            fs.open(PATH, mode, compression=compression).write(b"abc" if mode == "wb" else "abc")
    finally:
        gc.enable()
    assert backend.keys() == []
    [record] = [record for record in caplog.records if record.name == "partwise.fsspec"]
    assert record.getMessage() == f"{PATH} was not closed, so what was written to it is not stored"


@pytest.mark.usefixtures("fast_collection")
def test_a_file_whose_creation_failed_is_no_file(
    fs: UploadFileSystem,
    backend: MemoryBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(file: object, mode: str) -> None:
        raise Failed

    monkeypatch.setitem(fsspec.compression.compr, "failing", fail)
    with pytest.raises(Failed):
        fs.open(PATH, "wb", compression="failing")
    gc.collect()
    assert caplog.text == ""
    with pytest.raises(ValueError, match="none such"):
        fs.open(PATH, "wb", compression="none such")
    with pytest.raises(ValueError, match="no encoding"):
        fs.open(PATH, "wb", encoding="utf-8")
    with pytest.raises(TypeError, match="unknown_argument"):
        fs.open(PATH, "wb", unknown_argument=1)
    UploadFile.__new__(UploadFile).__del__()
    assert backend.calls == {}


# --- a stream that can be written again ------------------------------------------------------------------------------


def test_what_is_written_again_under_the_same_name_sends_only_the_parts_that_are_missing(
    fs: UploadFileSystem, backend: MemoryBackend, store: MemoryCheckpointStore
) -> None:
    with pytest.raises(Failed), fs.open(PATH, "wb", stream_name="table of today") as file:  # noqa: PT012
        file.write(LARGE)
        raise Failed
    assert len(backend.uploads) == 1

    with fs.open(PATH, "wb", stream_name="table of today") as file:
        file.write(LARGE)
    assert backend.read(KEY) == LARGE
    assert file.result.parts_resumed > 0
    assert file.result.parts_resumed + file.result.parts_sent == -(-len(LARGE) // PART)
    assert (backend.uploads, list(store.scan())) == ({}, [])


def test_a_name_does_not_keep_other_bytes(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with pytest.raises(Failed), fs.open(PATH, "wb", stream_name="table") as file:  # noqa: PT012
        file.write(LARGE)
        raise Failed
    changed = b"other" + LARGE[5:]
    with fs.open(PATH, "wb", stream_name="table") as file:
        file.write(changed)
    assert backend.read(KEY) == changed


def test_a_discarded_stream_with_a_name_is_aborted(
    fs: UploadFileSystem, backend: MemoryBackend, store: MemoryCheckpointStore
) -> None:
    file = fs.open(PATH, "wb", stream_name="table")
    file.write(LARGE)
    file.discard()
    assert (backend.uploads, list(store.scan())) == ({}, [])


@pytest.mark.timeout(30)
def test_a_stream_with_a_name_whose_upload_has_failed_can_be_discarded(
    fs: UploadFileSystem, refusing: RefusingBackend, store: MemoryCheckpointStore
) -> None:
    file = fs.open(PATH, "wb", stream_name="table")
    with pytest.raises(UploadFailed) as caught:  # noqa: PT012
        while True:
            file.write(LARGE)
    assert caught.value.resumable
    assert len(refusing.uploads) == 1
    file.discard()
    file.discard()
    assert (refusing.uploads, list(store.scan())) == ({}, [])


def test_a_stream_with_a_name_whose_failure_was_not_noticed_can_be_discarded(
    fs: UploadFileSystem, refusing: RefusingBackend, store: MemoryCheckpointStore
) -> None:
    file = fs.open(PATH, "wb", stream_name="table")
    refusing.responds.clear()
    file.write(LARGE[: BUFFER_SIZE + 1])
    refusing.responds.set()
    wait_until(file._task.done)
    file.discard()
    assert (refusing.uploads, list(store.scan())) == ({}, [])


@pytest.mark.parametrize("name", ["table", ""])
def test_what_a_discard_can_not_abort_is_logged(
    fs: UploadFileSystem,
    refusing: RefusingBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    def refuse(*call: object) -> None:
        raise AccessDenied("you may not abort")

    monkeypatch.setattr(refusing, "abort_upload", refuse)
    refusing.first_refused = 3 if name else 100
    file = fs.open(PATH, "wb", stream_name=name)
    refusing.responds.clear()
    file.write(LARGE[: BUFFER_SIZE + 1])
    refusing.responds.set()
    wait_until(file._task.done if name else lambda: refusing.uploads)
    file.discard()
    assert [record for record in caplog.records if record.name == "partwise.fsspec"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_what_a_signal_handler_raises_during_a_discard_propagates(
    fs: UploadFileSystem, refusing: RefusingBackend
) -> None:
    """As the time limits of task queues do."""

    def limit(number: int, frame: object) -> None:
        refusing.responds.set()
        raise Failed

    refusing.responds.clear()
    file = fs.open(PATH, "wb")
    file.write(LARGE[: BUFFER_SIZE + 1])
    assert refusing.is_asked.wait(60)
    before = signal.signal(signal.SIGUSR1, limit)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Failed):
            file.discard()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert (refusing.keys(), refusing.uploads) == ([], {})


# --- a storage that fails --------------------------------------------------------------------------------------------


@pytest.mark.timeout(30)
def test_a_failure_of_the_storage_ends_the_writing(fs: UploadFileSystem, refusing: RefusingBackend) -> None:
    with pytest.raises(UploadFailed, match="has enough"), fs.open(PATH, "wb") as file:  # noqa: PT012
        while True:
            file.write(LARGE)
    assert file.closed
    assert (refusing.keys(), refusing.uploads) == ([], {})


def test_a_failure_that_the_program_ignored_is_raised_again_when_the_file_is_closed(
    fs: UploadFileSystem, refusing: RefusingBackend
) -> None:
    file = fs.open(PATH, "wb")
    with contextlib.suppress(UploadFailed):
        while True:
            file.write(LARGE)
    with pytest.raises(UploadFailed):
        file.write(b"more")
    with pytest.raises(UploadFailed):
        file.close()
    assert file.closed


@pytest.mark.timeout(30)
def test_where_no_thread_can_be_started_a_large_file_fails_and_a_small_one_is_stored(
    fs: UploadFileSystem, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(UploadFailed, match="no thread can be started"), fs.open(PATH, "wb") as file:
        file.write(LARGE)
    assert (backend.keys(), backend.uploads) == ([], {})
    with fs.open(PATH, "wb") as file:
        file.write(LARGE[: 2 * PART])
    assert backend.read(KEY) == LARGE[: 2 * PART]


def test_a_failure_when_the_file_is_closed_is_that_of_the_upload(
    fs: UploadFileSystem, refusing: RefusingBackend
) -> None:
    file = fs.open(PATH, "wb")
    file.write(LARGE[: 4 * PART])
    with pytest.raises(UploadFailed, match="has enough"):
        file.close()
    assert (file.closed, file.result, refusing.keys()) == (True, None, [])


def test_another_file_of_the_same_stream_is_refused_while_one_is_written(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    with fs.open(PATH, "wb", stream_name="table") as file:
        file.write(LARGE)
        wait_until(lambda: backend.uploads)
        second = fs.open(PATH, "wb", stream_name="table")
        second.write(b"other")
        with pytest.raises(CheckpointBusy):
            second.close()
    assert backend.read(KEY) == LARGE


# --- create only -----------------------------------------------------------------------------------------------------


def test_an_object_that_appears_while_a_file_is_written_to_create_it_is_not_replaced(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    file = fs.open(PATH, "xb")
    file.write(b"mine")
    fs.pipe_file(PATH, b"theirs")
    with pytest.raises(FileExistsError) as caught:
        file.close()
    assert caught.value.filename == PATH
    assert backend.read(KEY) == b"theirs"


# --- transactions ----------------------------------------------------------------------------------------------------


def test_the_objects_of_a_transaction_appear_at_its_end(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with fs.transaction:
        with fs.open("examplebucket/one", "wb") as file:
            file.write(LARGE)
        with fs.open("examplebucket/two", "w") as text:
            text.write("two")
        fs.pipe_file("examplebucket/three", b"three")
        assert (file.closed, text.closed) == (True, True)
        assert backend.keys() == []
    assert {key: backend.read(key) for key in backend.keys()} == {  # noqa: SIM118
        "one": LARGE,
        "two": b"two",
        "three": b"three",
    }


def test_nothing_of_a_transaction_that_fails_is_stored(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with pytest.raises(Failed), fs.transaction:  # noqa: PT012
        for name in ("one", "two"):
            with fs.open(f"examplebucket/{name}", "wb") as file:
                file.write(LARGE)
        raise Failed
    assert (backend.keys(), backend.uploads) == ([], {})
    fs.pipe_file(PATH, b"after it")
    assert backend.keys() == [KEY]


def test_a_transaction_that_failed_sends_only_what_is_missing_of_streams_with_names(
    fs: UploadFileSystem, backend: MemoryBackend, store: MemoryCheckpointStore
) -> None:
    with pytest.raises(Failed), fs.transaction:  # noqa: PT012
        with fs.open(PATH, "wb", stream_name="table") as file:
            file.write(LARGE)
        raise Failed
    with fs.transaction, fs.open(PATH, "wb", stream_name="table") as file:
        file.write(LARGE)
    assert file.result.parts_resumed > 0
    assert (backend.read(KEY), backend.uploads, list(store.scan())) == (LARGE, {}, [])


def test_a_file_that_failed_is_left_out_of_a_transaction_that_goes_on(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    with fs.transaction:
        with contextlib.suppress(Failed), fs.open("examplebucket/one", "wb") as file:
            file.write(LARGE)
            raise Failed
        fs.pipe_file("examplebucket/two", b"two")
    assert (backend.keys(), backend.uploads) == (["two"], {})


class IncompletableBackend(MemoryBackend):
    """A storage that refuses to complete the upload of one key."""

    def complete_upload(self, key: str, *arguments: Any) -> Any:
        if key == "two":
            raise AccessDenied("this key is protected")
        return super().complete_upload(key, *arguments)


def test_a_file_that_can_not_be_stored_ends_its_transaction_and_discards_the_files_after_it(
    fs: UploadFileSystem,
) -> None:
    backend = IncompletableBackend()
    register_backend("toy", lambda url, **settings: (backend, ""))
    threads = threading.active_count()
    with pytest.raises(UploadFailed, match="this key is protected"), fs.transaction:  # noqa: PT012
        for name in ("one", "two", "three"):
            with fs.open(f"examplebucket/{name}", "wb") as file:
                file.write(LARGE)
    assert (backend.keys(), backend.uploads) == (["one"], {})
    wait_until(lambda: threading.active_count() == threads)

    fs.pipe_file("examplebucket/later", b"stored at once")
    assert backend.keys() == ["later", "one"]


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_that_is_not_closed_in_its_transaction_is_not_stored(
    fs: UploadFileSystem, backend: MemoryBackend, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """The end of a text is written when its file is closed, so half of it would be stored."""
    fs.pipe_file(PATH, b"kept")
    with fs.transaction:
        file = fs.open(PATH, mode)
        file.write("x" * len(LARGE) if mode == "w" else LARGE)
        fs.pipe_file("examplebucket/other", b"stored")
    assert {key: backend.read(key) for key in backend.keys()} == {KEY: b"kept", "other": b"stored"}  # noqa: SIM118
    assert backend.uploads == {}
    assert f"{PATH} was not closed in its transaction, so it is not stored" in caplog.text
    file.close()
    assert file.result is None


# --- writers of the standard library ---------------------------------------------------------------------------------


def test_writers_of_text_and_of_archives_can_write(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with fs.open("examplebucket/table.csv", "w", newline="", encoding="latin-1") as file:
        csv.writer(file).writerows([["a", "b"], [1, "ü"]])
        assert file.result is None
    assert file.result.size == len("a,b\r\n1,ü\r\n".encode("latin-1"))
    with fs.open("examplebucket/table.json.gz", "wt", compression="infer") as file:
        json.dump({"a": [1, 2]}, file)
    with fs.open("examplebucket/table.zip", "wb", compression="zip") as file:
        file.write(b"zipped")

    assert file.result.size == len(backend.read("table.zip"))
    assert backend.read("table.csv").decode("latin-1") == "a,b\r\n1,ü\r\n"
    assert gzip.decompress(backend.read("table.json.gz")) == b'{"a": [1, 2]}'
    assert fs.open("examplebucket/table.zip", "rb", compression="zip").read() == b"zipped"


@pytest.mark.parametrize("encoding", ["utf-16", "UTF16", "utf-32", "utf-16-be", "utf-8-sig", "latin-1", "locale", None])
def test_a_text_is_stored_as_a_local_file_has_it(
    fs: UploadFileSystem, backend: MemoryBackend, tmp_path: Path, encoding: str | None
) -> None:
    """A codec with a byte order mark writes it once, at the start, and only before a text."""
    for texts in (["a\n", "ü\n"], ["ü" * 20_000] * 3, []):
        with fs.open(PATH, "w", encoding=encoding, newline="") as file:
            file.writelines(texts)
        local = tmp_path / "local"
        with local.open("w", encoding=encoding, newline="") as own:
            own.writelines(texts)
        assert backend.read(KEY) == local.read_bytes()
        with fs.open(PATH, "r", encoding=encoding, newline="") as file:
            assert file.read() == "".join(texts)


# --- the buffer ------------------------------------------------------------------------------------------------------


def test_a_program_that_writes_faster_than_its_bytes_are_read_waits() -> None:
    pipe = Pipe()
    data = memoryview(LARGE)
    writer = threading.Thread(target=pipe.write, args=(data, lambda: True), daemon=True)
    writer.start()
    received = pipe.read(PART)  # waits until there are as many
    while len(received) < len(LARGE):
        assert len(pipe._buffer) <= BUFFER_SIZE
        received += pipe.read(min(PART, len(LARGE) - len(received)))
    writer.join(10)
    assert received == LARGE


def test_the_end_of_the_bytes_is_read_as_such() -> None:
    pipe = Pipe()
    assert pipe.write(memoryview(b"abc"), lambda: True)
    pipe.end()
    assert [pipe.read(2), pipe.read(2), pipe.read(2)] == [b"ab", b"c", b""]


def test_a_writer_whose_bytes_are_not_read_any_more_is_told() -> None:
    pipe = Pipe()
    answers = iter([True] * 3)
    assert not pipe.write(memoryview(LARGE), lambda: next(answers, False))
    pipe.stop()
    assert not pipe.write(memoryview(b"abc"), lambda: True)
    with pytest.raises(TransferStopped):
        pipe.read(1)
