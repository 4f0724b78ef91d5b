"""Interrupts, exits and time limits pause an upload, and propagate unchanged; defects of plug-ins fail it."""

from __future__ import annotations

import asyncio
import functools
import gc
import io
import os
import signal
import sys
import threading
import weakref
from contextlib import contextmanager, suppress

import pytest

from partwise import FileSource, StreamSource, TransferConfig
from partwise._engine.context import Runtime
from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise._engine.workers import InlineWorkers
from partwise._signals import ignored, raised_by_signal
from partwise._validation import check_path
from partwise.backends.local import LocalBackend
from partwise.backends.local import metadata_dir as local_metadata_dir
from partwise.backends.local import upload_folder as local_uploads
from partwise.clock import default_random
from partwise.errors import CheckpointUnwritable, ConnectionFailed, PartwiseError, UploadFailed
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import ChangingSource
from partwise.testing.faults import Fault, FaultKind
from partwise.uploader import Uploader

SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)  # Windows has none


class TimeLimit(Exception):
    """An exception that the signal handler of a task queue raises."""


class Killed(BaseException):
    """An exception that ends a green thread."""


@pytest.fixture
def limited():
    """Makes the next signal raise `error`, from a handler."""
    before = signal.getsignal(SIGNAL)

    def limit(error, handler=None):
        def handle(number, frame):
            raise error

        signal.signal(SIGNAL, handler or handle)
        return error

    yield limit
    signal.signal(SIGNAL, before)


def send_signal(*_):
    """Let the signal arrive now."""
    signal.raise_signal(SIGNAL)


def send_signal_at(target, name, monkeypatch, *, call=1):
    """Let the signal arrive in the n-th call of a method, before it does anything."""
    original, calls = getattr(target, name), 0

    def interrupted_call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            send_signal()
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, interrupted_call)


# --- time limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "name", "call"),
    [
        ("backend", "initiate_upload", 1),
        ("backend", "upload_part", 3),
        ("backend", "complete_upload", 1),
        ("store", "load", 1),
        ("store", "save", 1),
        ("store", "save", 2),
        ("store", "append_part", 3),
        ("store", "delete", 1),
        ("source", "fingerprint", 4),
        ("source", "body", 3),
    ],
)
def test_a_time_limit_propagates_unchanged_and_the_upload_can_be_resumed(
    uploader, backend, *, store, source, limited, monkeypatch, of, name, call
):
    error = limited(TimeLimit("soft"))
    send_signal_at({"backend": backend, "store": store, "source": source}[of], name, monkeypatch, call=call)
    with pytest.raises(TimeLimit) as caught:
        uploader().upload(source, "key")
    monkeypatch.undo()
    result = uploader().upload(source, "key")

    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert backend.calls["upload_part"] == 5, "each part once"
    assert result.verified


@pytest.mark.parametrize("call", ["upload", "abort"])
@pytest.mark.parametrize("instant", ["entering", "leaving"])
def test_a_time_limit_that_a_store_translates_propagates_unchanged(uploader, source, limited, *, call, instant):
    """It is an OSError, which the store takes to mean that the checkpoint can't be written."""
    error = limited(TimeoutError("out of time"))

    class TranslatingStore(MemoryCheckpointStore):
        @contextmanager
        def claim(self, name):
            with super().claim(name):
                self.interrupted(instant == "entering")
                yield
                self.interrupted(instant == "leaving")

        def interrupted(self, now):
            try:
                if now:
                    send_signal()
            except OSError as failed:
                raise CheckpointUnwritable("the checkpoint can't be written") from failed

    with pytest.raises(TimeoutError) as caught:
        getattr(uploader(store=TranslatingStore()), call)(source, "key")

    assert caught.value is error
    assert error.__context__ is None


@pytest.mark.parametrize(
    "make",
    [FileSource, lambda path: check_path("a bucket", path, send_signal)],
    ids=["a source", "a backend or a store"],
)
def test_a_time_limit_while_a_path_is_made_absolute_propagates_unchanged(limited, monkeypatch, make):
    error = limited(TimeoutError("out of time"))
    monkeypatch.setattr(os, "getcwd", send_signal)
    with pytest.raises(TimeoutError) as caught:
        make("data.bin")

    assert caught.value is error


def test_a_time_limit_is_not_suppressed_where_os_errors_are_ignored(limited):
    error = limited(TimeoutError("out of time"))
    with ignored(OSError):
        raise FileNotFoundError
    with pytest.raises(ZeroDivisionError), ignored(OSError):
        raise ZeroDivisionError
    with pytest.raises(TimeoutError) as caught, ignored(OSError):
        send_signal()

    assert caught.value is error


def test_a_time_limit_while_a_bucket_is_cleaned_up_propagates(limited, monkeypatch, tmp_path):
    """Errors while an upload's folder is removed are ignored once the object is stored."""
    error = limited(TimeoutError("out of time"))
    uploader = Uploader(LocalBackend(tmp_path), store=MemoryCheckpointStore())
    remove = local_uploads.remove_upload_folder
    monkeypatch.setattr(local_metadata_dir, "remove_upload_folder", lambda *given: (send_signal(), remove(*given)))
    uploader.config = TransferConfig(part_size=100 * 1024, multipart_threshold=0)
    with pytest.raises(TimeoutError) as caught:
        uploader.upload(bytes(10), "key")
    monkeypatch.undo()

    assert caught.value is error
    assert uploader.upload(bytes(10), "key").verified


def test_a_note_on_a_time_limit_says_what_is_kept(uploader, backend, source, limited, monkeypatch):
    error = limited(TimeLimit("soft"))
    send_signal_at(backend, "upload_part", monkeypatch, call=3)
    with pytest.raises(TimeLimit):
        uploader().upload(source, "key")

    assert error.__notes__[-1].endswith("stopped with 20 of 45 bytes; the same call resumes.")


def test_a_time_limit_that_a_backend_translates_propagates_unchanged(uploader, backend, source, limited):
    """It is often a TimeoutError, which a socket raises, too."""
    error, upload_part = limited(TimeoutError("out of time")), backend.upload_part

    def translating(*args):
        try:
            send_signal()
        except OSError as lost:
            raise ConnectionFailed("lost") from lost
        return upload_part(*args)

    backend.upload_part = translating
    with pytest.raises(TimeoutError) as caught:
        uploader().upload(source, "key")

    assert caught.value is error
    assert error.__context__ is None


def test_a_time_limit_during_backoff_propagates(faulty, source, clock, limited):
    error = limited(TimeLimit("soft"))
    clock.meanwhile = send_signal
    with pytest.raises(TimeLimit) as caught:
        faulty(Fault("initiate_upload", FaultKind.BEFORE)).upload(source, "key")

    assert caught.value is error


def test_a_time_limit_while_threads_send_propagates_and_leaves_no_thread(backend, store, source, limited, monkeypatch):
    error, running = limited(TimeLimit("soft")), set(threading.enumerate())
    upload_part = backend.upload_part

    def slow(key, upload_id, number, body):
        if number == 2:
            signal.pthread_kill(threading.main_thread().ident, SIGNAL)
        return upload_part(key, upload_id, number, body)

    monkeypatch.setattr(backend, "upload_part", slow)
    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=2))
    with pytest.raises(TimeLimit) as caught:
        uploader.upload(source, "key")

    assert caught.value is error
    assert set(threading.enumerate()) <= running
    assert len(list(store.scan())) == len(backend.uploads) == 1


def _handlers(error):
    def raising(number, frame):
        raise error

    class Handler:
        def __call__(self, number, frame):
            raise error

        def method(self, number, frame):
            raising(number, frame)

    def replaces_itself(number, frame):
        signal.signal(SIGNAL, signal.SIG_IGN)
        raise error

    def takes_anything(*given):
        raise error

    def deleting(number, frame):
        del number, frame
        raise error

    return {
        "a function": raising,
        "an object": Handler(),
        "a method": Handler().method,
        "a partial": functools.partial(lambda more, number, frame: raising(number, frame), "more"),
        "one that takes anything": takes_anything,
        "one that deletes its arguments": deleting,
        "a partial of one that deletes them": functools.partial(deleting),
        "a lambda": lambda *given: raising(*given[:2]),
        "one that replaces itself": replaces_itself,
    }


@pytest.mark.parametrize("shape", _handlers(TimeLimit()))
def test_any_kind_of_signal_handler_is_recognised(limited, shape):
    error = TimeLimit("soft")
    limited(error, _handlers(error)[shape])
    with pytest.raises(TimeLimit) as caught:
        call_plugin(send_signal)

    assert caught.value is error


def test_default_signal_handlers_are_not_mistaken_for_functions():
    """They are values of an enumeration, whose calls raise other errors."""
    with pytest.raises(PluginDefect, match="is not a valid Signals"):
        call_plugin(signal.Signals, 9999)


def test_a_time_limit_that_is_being_handled_is_not_a_new_one(uploader, backend, source, limited):
    """A program that uploads again in the block that handles its time limit."""
    limited(TimeLimit("soft"))
    backend.initiate_upload = lambda *_: {}["no such thing"]
    try:
        send_signal()
    except TimeLimit:
        with pytest.raises(UploadFailed) as caught:
            uploader().upload(source, "key")

    assert isinstance(caught.value.__cause__, KeyError)


def test_only_the_main_thread_runs_signal_handlers():
    found = []

    def elsewhere():
        def looks_like_one(number, frame):
            raise TimeLimit

        try:
            looks_like_one(1, sys._getframe())
        except TimeLimit as error:
            found.append(raised_by_signal(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert found == [None]


def test_an_exception_raised_outside_of_plugins_propagates_unchanged(uploader, source, clock, left_behind):
    """Such as one that another thread injects into this one."""
    error = TimeLimit("soft")

    class Injected(InlineWorkers):
        def next_outcome(self, timeout):
            raise error

    with pytest.raises(TimeLimit) as caught:
        uploader(new_workers=lambda: Injected(clock)).upload(source, "key")

    assert caught.value is error
    assert len(left_behind()) == 2, "an upload and its checkpoint"


def test_a_time_limit_while_a_part_is_submitted_propagates_unchanged(uploader, source, limited, left_behind, clock):
    error = limited(TimeLimit("soft"))

    class Injected(InlineWorkers):
        def submit(self, job):
            super().submit(job)
            if job.part_number == 2:
                send_signal()

    with pytest.raises(TimeLimit) as caught:
        uploader(new_workers=lambda: Injected(clock)).upload(source, "key")

    assert caught.value is error
    assert len(left_behind()) == 2, "an upload and its checkpoint"
    assert uploader().upload(source, "key").verified


def test_a_time_limit_at_any_call_propagates_and_the_next_run_succeeds(make_backend, clock, limited):
    """At each fifth call of a Python function of partwise, one run for each."""
    error = limited(TimeLimit("soft"))
    reached = 0
    for instant in range(1, 100_000, 5):
        backend, store = make_backend(), MemoryCheckpointStore()
        uploader = Uploader._with_runtime(
            Runtime(lambda: InlineWorkers(clock), clock, default_random()),
            backend,
            store=store,
            config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=2),
        )
        source, left, raised = ChangingSource(bytes(45)), instant, None
        error.__traceback__ = None

        def count(frame, event, _):
            nonlocal left
            if event == "call" and "partwise" in frame.f_globals.get("__name__", ""):
                left -= 1
                if left == 0:
                    sys.setprofile(None)
                    send_signal()

        sys.setprofile(count)
        try:
            uploader.upload(source, "key")
        except TimeLimit as caught:
            raised = caught
        finally:
            sys.setprofile(None)
        if left > 0:
            break
        reached += 1
        assert raised is error
        error.__traceback__ = None  # releases a claim that was interrupted while it was released
        assert uploader.upload(source, "key").verified
        assert [*store.scan(), *backend.uploads][1:] == [], "at most an upload whose id is not known"
    assert reached > 100


# --- defects of plug-ins ---------------------------------------------------------------------------------------------


def test_a_defect_before_anything_is_sent_propagates_unchanged(uploader, source, monkeypatch):
    """Of a source's fingerprint, or of a store's claim: there is no upload yet to report."""

    def broken(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(source, "fingerprint", broken)
    for call in (uploader().upload, uploader().plan):
        with pytest.raises(ZeroDivisionError):
            call(source, "key")
    monkeypatch.undo()
    monkeypatch.setattr(MemoryCheckpointStore, "claim", broken)
    for call in (uploader().upload, uploader().abort):
        with pytest.raises(ZeroDivisionError):
            call(source, "key")


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), TimeoutError("late"), ExceptionGroup("both", [OSError()])])
@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("backend", "initiate_upload"),
        ("backend", "complete_upload"),
        ("store", "load"),
        ("store", "append_part"),
        ("source", "body"),
    ],
)
def test_a_defect_of_a_plugin_fails_the_upload_which_says_what_is_kept(
    uploader, backend, *, store, source, monkeypatch, of, name, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr({"backend": backend, "store": store, "source": source}[of], name, fail)
    with pytest.raises(UploadFailed) as caught:
        uploader().upload(source, "key")

    assert caught.value.__cause__ is error
    assert caught.value.resumable is (name in {"complete_upload", "append_part", "body"})


def test_a_defect_in_a_dry_run_or_an_abort_propagates_unchanged(uploader, interrupted, store, source, monkeypatch):
    interrupted(source)
    monkeypatch.setattr(store, "load", lambda name: {}["no such thing"])
    for ask in (uploader().plan, uploader().abort):
        with pytest.raises(KeyError):
            ask(source, "key")


def test_a_defect_during_cleanup_is_a_warning(uploader, backend, source, interrupted, monkeypatch):
    interrupted(source)
    source.touch()
    monkeypatch.setattr(backend, "abort_upload", lambda *_: {}["no such thing"])
    result = uploader().upload(source, "key")

    assert any("could not be aborted: KeyError: 'no such thing'" in warning for warning in result.warnings)


def test_partwise_errors_of_a_plugin_propagate_unchanged():
    error = PartwiseError("x")

    def fail():
        raise error

    with pytest.raises(PartwiseError) as caught:
        call_plugin(fail)

    assert caught.value is error
    assert call_plugin(divmod, 7, 3) == (2, 1)
    with pytest.raises(PluginDefect, match=r"ZeroDivisionError: .*zero"):
        call_plugin(divmod, 7, 0)


# --- exits and interrupts --------------------------------------------------------------------------------------------

ENDS = [SystemExit(0), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Killed("green")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
@pytest.mark.parametrize("how", ["never", "unnamed"])
def test_an_exit_aborts_an_upload_that_can_not_be_resumed(uploader, backend, *, data, left_behind, limited, end, how):
    limited(end)
    source = io.BytesIO(data) if how == "unnamed" else ChangingSource(data)
    with pytest.raises(type(end)) as caught:
        uploader().upload(
            source,
            "key",
            progress=lambda at: send_signal() if at.parts_done == 2 else None,
            resume="auto" if how == "unnamed" else "never",
        )

    assert caught.value is end
    assert left_behind() == []
    assert backend.calls["abort_upload"] == 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_an_exit_keeps_an_upload_that_can_be_resumed(uploader, backend, source, limited, end):
    limited(end)
    with pytest.raises(type(end)) as caught:
        uploader().upload(source, "key", progress=lambda at: send_signal() if at.parts_done == 2 else None)

    assert caught.value is end
    assert uploader().upload(source, "key").parts_resumed == 2
    assert backend.uploads == {}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_an_exit_stops_the_workers_and_closes_the_source(backend, data, limited, end):
    limited(end)
    running, stream = set(threading.enumerate()), io.BytesIO(data)
    uploader = Uploader(backend, store=None, config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=3))
    with pytest.raises(type(end)):
        uploader.upload(
            StreamSource(lambda: stream), "key", progress=lambda at: send_signal() if at.parts_done == 2 else None
        )

    assert set(threading.enumerate()) <= running
    assert stream.closed
    assert backend.uploads == {}


def test_a_failed_cleanup_does_not_hide_an_exit(uploader, backend, data, limited, monkeypatch):
    end = limited(SystemExit(0))
    monkeypatch.setattr(backend, "abort_upload", lambda *_: {}["no such thing"])
    with pytest.raises(SystemExit) as caught:
        uploader().upload(io.BytesIO(data), "key", progress=lambda at: send_signal() if at.parts_done == 2 else None)

    assert caught.value is end
    assert "could not be aborted" in end.__notes__[-1]


def test_an_upload_succeeds_if_its_source_can_not_be_closed(uploader, backend, source, monkeypatch, caplog):
    def fail():
        raise OSError("bad descriptor")

    monkeypatch.setattr(source, "close", fail)

    assert uploader().upload(source, "key").verified
    assert "could not be closed: OSError('bad descriptor')" in caplog.text


def test_a_time_limit_while_a_source_is_closed_propagates(uploader, backend, source, limited, monkeypatch):
    error = limited(TimeLimit("soft"))
    monkeypatch.setattr(source, "close", send_signal)

    with pytest.raises(TimeLimit) as caught:
        uploader().upload(source, "key")

    assert caught.value is error


# --- in the thread that waits for a background upload ----------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [TimeLimit("soft"), TimeoutError("soft"), *ENDS], ids=lambda end: f"{type(end).__name__}"
)
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_an_exit_of_the_waiting_thread_pauses_the_upload(backend, store, *, source, limited, end, resume):
    limited(end)
    upload_part, main, waiting = backend.upload_part, threading.main_thread().ident, threading.Event()

    def kill(key, upload_id, number, body):
        part = upload_part(key, upload_id, number, body)
        if number == 2:
            assert waiting.wait(30)
            signal.pthread_kill(main, SIGNAL)
            while not task._control.requested.wait(0.2):
                signal.pthread_kill(main, SIGNAL)  # the first one came just before the thread waited
        return part

    backend.upload_part = kill
    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=1))
    task = uploader.start(source, "key", resume=resume)
    wait = task._future.result
    task._future.result = lambda timeout: (waiting.set(), wait(timeout))[1]
    with pytest.raises(type(end)) as caught:
        task.result(None if resume == "auto" else 30)

    assert caught.value is end
    assert task.done()
    assert len(backend.uploads) == (1 if resume == "auto" else 0)


def test_a_thread_that_stops_waiting_does_not_stop_the_upload(backend, store, source):
    held, upload_part = threading.Event(), backend.upload_part
    backend.upload_part = lambda *args: held.wait(30) and upload_part(*args)
    task = Uploader(backend, store=store, config=TransferConfig(part_size=10, multipart_threshold=0)).start(
        source, "key"
    )
    with suppress(TimeoutError):
        task.result(0.01)
    held.set()

    assert task.result(30).verified


class _Part:
    """Stands for the bytes of a part."""


@pytest.mark.parametrize("kind", [CheckpointUnwritable, OSError], ids=["a partwise error", "a defect"])
def test_the_arguments_of_a_failed_call_are_freed_without_the_garbage_collector(kind):
    """Otherwise parts that can't be recorded would fill the memory."""

    def fail(part):
        raise kind("disk full")

    part = _Part()
    kept = weakref.ref(part)
    gc.disable()
    try:
        with suppress(CheckpointUnwritable, PluginDefect):
            call_plugin(fail, part)
        del part
        assert kept() is None
    finally:
        gc.enable()
