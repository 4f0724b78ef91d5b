"""`Uploader`, `UploadTask` and `upload`: what programs call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from attrs import define

from partwise._engine.abort import abort_upload
from partwise._engine.async_callbacks import CallbackRunner, bind_callback, running_loop
from partwise._engine.context import ResumeMode, Runtime, UploadContext, UploadRequest, logger
from partwise._engine.control import Control
from partwise._engine.plan import PartPlan, is_single_put
from partwise._engine.reconcile import AlreadyStored, Ambiguous, CompareWhileReading, Decision, Resume
from partwise._engine.thread_workers import ThreadWorkers
from partwise._engine.upload import UploadRun
from partwise._engine.workers import ExecutorWorkers, InlineWorkers, WorkerPool, lacks_resources
from partwise._signals import raised_by_signal
from partwise._validation import brief, check_callable, check_methods, check_number, instance_of
from partwise.clock import Clock, Random, SystemClock, default_random
from partwise.config import TransferConfig
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions, PartLimits
from partwise.progress import ProgressCallback
from partwise.protocols import CheckpointStore, MultipartBackend
from partwise.registry import default_checkpoint_store, open_backend
from partwise.results import Progress, UploadResult
from partwise.sources import SourceLike, as_source

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor, Future


class Uploader:
    """
    Uploads through one backend, with one way of remembering and one way of transferring.

    It keeps nothing between calls but what it was made with, so it can be shared by threads, and one can serve a whole
    program.

    Args:
        backend: where to. Closing it is the caller's affair.
        store: what remembers progress; None: files in the user's state directory.
        config: how to transfer; None: the defaults.
        executor: what sends the parts; None: threads of our own, `config.concurrency` of them for each upload. One of
            your own (a process pool, a cluster's) is not shut down, and takes `config.concurrency` parts at a time.
        clock: time; for simulations.
        chance: randomness for the waits between attempts; for simulations.
        transport: makes what parts are sent by, instead of an executor; for simulations.
    """

    def __init__(
        self,
        backend: MultipartBackend,
        store: CheckpointStore | None = None,
        config: TransferConfig | None = None,
        executor: Executor | None = None,
        *,
        clock: Clock | None = None,
        chance: Random | None = None,
        transport: Callable[[], WorkerPool] | None = None,
    ) -> None:
        check_methods("backend", backend, ("initiate_upload", "upload_part", "complete_upload"), "a MultipartBackend")
        if store is not None:
            check_methods("store", store, ("claim", "save", "append_part"), "a CheckpointStore or None")
        if executor is not None:
            check_methods("executor", executor, ("submit",), "an Executor or None")
        if clock is not None:
            check_methods("clock", clock, ("monotonic", "now", "wait"), "a Clock or None")
        if chance is not None:
            check_methods("chance", chance, ("uniform",), "a Random or None")
        if transport is not None:
            check_callable("transport", transport)
        if config is not None:
            instance_of(config, TransferConfig, "how to transfer is a TransferConfig")
        self.backend = backend
        self.config = config or TransferConfig()
        self._store = store
        self._executor = executor
        self._clock: Clock = clock or SystemClock()
        self._chance: Random = chance or default_random()
        self._transport = transport

    def __repr__(self) -> str:
        return f"Uploader({self.backend!r}, store={self._store!r}, config={self.config!r})"

    @property
    def store(self) -> CheckpointStore:
        """What remembers progress."""
        if self._store is None:
            self._store = default_checkpoint_store()
        return self._store

    def upload(
        self,
        source: SourceLike,
        key: str,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        resume: ResumeMode = "auto",
        *,
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadResult:
        """
        Upload `source` as the object `key`, and return when the object is there.

        If an earlier call for the same source, key and backend did not get to its end, this one carries on from where
        that one stopped. A Ctrl-C is a pause: workers end, the checkpoint stays, KeyboardInterrupt propagates. So is
        any other exception from outside: an exit, or what a signal handler raises, as time limits of task queues do.

        Args:
            source: a path, bytes, a binary stream, or a `Source`.
            key: the object's key.
            options: what the object shall be like.
            progress: is told of each part, and now and then in between, one call at a time, from the thread that
                uploads. What it raises stops the upload as a pause does, and comes out of this call.
            resume: "auto": carry on, or start (again) where that can't be. "require": carry on, or raise CannotResume.
                "never": read and write no checkpoint; a failure aborts the upload.
            expected_size: the size in bytes that the source must have. A stream that ends early, since its producer
                died, looks like one that ends.
            expected_crc64: the CRC-64/XZ that the source must have, as a number.

        Raises:
            UploadFailed: the storage failed or refused; `resumable` says whether the same call resumes, and the
                cause is the last error. OutcomeUnknown is one of these.
            SourceChanged: the source changed during the upload. Nothing was completed; the next call sends every part.
            SourceUnreadable: the source is missing, is a directory, or may not be read. Nothing was sent.
            SourceMismatch: it is not of `expected_size` or `expected_crc64`. Nothing was sent; where that shows only on
                the way, this is the cause of an UploadFailed, and no object was made.
            CallbackError: the object is stored, but its callback failed; `result` has the result.
            CannotResume: see `resume`.
            CheckpointBusy: another process or thread is uploading this right now. Nothing was sent.
            CheckpointUnwritable: progress can't be recorded. Nothing was sent.
            CheckpointMismatch: the one place for the checkpoint has another upload's. Nothing was sent.
            InvalidInput: the call is wrong: part size, options, key. Nothing was sent.
            UploadPaused, UploadCancelled: an `UploadTask` was asked to.
        """
        expected = (expected_size, expected_crc64)
        _check_call(key, progress)
        report = None if progress is None else bind_callback(progress, None)
        with self._ready(self._order(source, key, options, report, resume, expected=expected), Control()) as ready:
            return ready.run()

    def start(
        self,
        source: SourceLike,
        key: str,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        resume: ResumeMode = "auto",
        *,
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadTask:
        """
        Begin to upload in the background, and return a handle at once. Arguments are those of `upload`.

        Within an event loop of asyncio, `progress` may be a coroutine function, which that loop then runs, one call at
        a time. If the loop ends before the upload does, the upload is paused. A call that is under way when the upload
        is paused or cancelled is not waited for, and is the last one.

        Where no thread can be started, the upload runs in the calling one, and the handle is returned when it has
        ended; a coroutine function is not run then.

        Whatever `upload` raises comes out of the handle's `result`.

        Raises:
            InvalidInput: `progress` is a coroutine function, and no event loop is running here.
        """
        expected = (expected_size, expected_crc64)
        _check_call(key, progress)
        called = None if progress is None else bind_callback(progress, running_loop())

        def ready(control: Control, watch: ProgressCallback) -> AbstractContextManager[UploadRun]:
            def report(at: Progress) -> None:
                watch(at)
                if called is not None:
                    called(at)

            if called is not None:
                control.on_request(called.abandon)
            return self._ready(self._order(source, key, options, report, resume, expected=expected), control)

        return UploadTask(ready, key, called)

    def plan(
        self,
        source: SourceLike,
        key: str,
        options: ObjectOptions | None = None,
        resume: ResumeMode = "auto",
        *,
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> Explanation:
        """
        What `upload` would do now, part by part, and why. Nothing is sent or changed.

        It may read the source, to compare it with what the storage holds.

        Raises:
            CannotResume: ``resume="require"``, and it would be a start.
            BackendError: the storage can't be asked which parts it holds.
            InvalidInput, SourceUnreadable, SourceMismatch, CheckpointMismatch: as `upload` says.
        """
        expected = (expected_size, expected_crc64)
        with self._ready(self._order(source, key, options, None, resume, expected=expected), Control()) as ready:
            return _explained(*ready.explain(), limits=self.backend.limits, config=self.config)

    def abort(self, source: SourceLike, key: str) -> bool:
        """
        Drop the unfinished upload of `source` as `key`: the storage's part of it first, then its checkpoint.

        Returns:
            whether there was one.

        Raises:
            CheckpointBusy: somebody is uploading it right now.
            UploadFailed: the storage could not be told; the checkpoint is kept.
            CheckpointDamaged: a checkpoint that can't be trusted is there, and can't be removed.
            InvalidInput: the source has no name, so that nothing of it was ever recorded.
        """
        instance_of(key, str, "the key of an object is text")
        order = UploadRequest(self.backend, self.store, as_source(source), key, ObjectOptions(), self.config)
        runtime = Runtime(partial(InlineWorkers, self._clock), self._clock, self._chance)
        return abort_upload(UploadContext(order, runtime, Control()))

    def _order(
        self,
        source: SourceLike,
        key: str,
        options: ObjectOptions | None,
        progress: ProgressCallback | None,
        resume: ResumeMode,
        *,
        expected: tuple[int | None, int | None],
    ) -> UploadRequest:
        # Before the store is opened, which makes a directory.
        given, wanted = as_source(source), ObjectOptions() if options is None else options
        _check_call(key, progress)
        store = None if resume == "never" else self.store
        return UploadRequest(
            self.backend,
            store,
            given,
            key,
            wanted,
            self.config,
            resume,
            progress,
            *expected,
        )

    @contextmanager
    def _ready(self, order: UploadRequest, control: Control) -> Generator[UploadRun]:
        """An upload that is ready to run, with its workers; they are gone afterwards."""
        workers = _Workers(self._executor, self.config.concurrency, self._clock)
        try:
            yield UploadRun(order, Runtime(self._transport or workers.transport, self._clock, self._chance), control)
        finally:
            workers.close()


def _check_call(key: object, progress: object) -> None:
    instance_of(key, str, "the key of an object is text")
    if progress is not None and not callable(progress):
        raise InvalidInput(f"progress is a function that is called, not {brief(progress)}")


class _Workers:
    """What sends the parts of one upload: the caller's executor, or threads that start with the first part."""

    def __init__(self, executor: Executor | None, concurrency: int, clock: Clock) -> None:
        self._given = executor
        self._own: ThreadWorkers | None = None
        self._concurrency = concurrency
        self._clock = clock

    def transport(self) -> WorkerPool:
        if self._given is not None:
            return ExecutorWorkers(self._given)
        if self._own is None:
            self._own = ThreadWorkers(self._concurrency, self._clock)
        return self._own

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


class UploadTask:
    """
    An upload in the background.

    Made by `Uploader.start`. `result` waits for it; so does ``await``, from any event loop. Giving up waiting, by a
    timeout or because the awaiting task is cancelled, does not stop it; `pause` and `cancel` do, and another
    `UploadTask` is never touched by either.

    As a context manager it pauses, if it is left before the upload has ended, and waits for that: by ``with``, or by
    ``async with``, which does not block the event loop meanwhile. Leaving never completes an upload.
    """

    def __init__(
        self,
        ready: Callable[[Control, ProgressCallback], AbstractContextManager[UploadRun]],
        key: str,
        called: CallbackRunner | None = None,
    ) -> None:
        from concurrent.futures import Future

        self._control = Control()
        self._future: Future[UploadResult] = Future()
        # It runs, from here on: whoever stops waiting for it does not cancel it.
        self._future.set_running_or_notify_cancel()
        self._progress = Progress(0, None)
        self._ready = ready
        self._called = called
        # A daemon, so that a program can end: for the upload that is no worse than any other death, and it is resumed.
        self._thread = threading.Thread(target=self._work, name=f"partwise upload of {key}", daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            if not lacks_resources(error):
                raise
            logger.warning("no thread can be started: %s; the upload of %s runs in this one", error, key)
            if called is not None and called.loop is not None:
                called.abandon()  # the event loop waits here, and so can await nothing
            self._work()

    def _work(self) -> None:
        try:
            with self._ready(self._control, self._watch) as ready:
                result = ready.run()
        except StopIteration as error:
            # From a progress callback. Nobody could await it: a coroutine takes it for the end of its own.
            stopped = RuntimeError("the progress callback raised StopIteration")
            stopped.__cause__ = error
            self._future.set_exception(stopped)
        except BaseException as error:  # noqa: BLE001  # comes out of result()
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _watch(self, progress: Progress) -> None:
        self._progress = progress

    def result(self, timeout: float | None = None) -> UploadResult:
        """
        Wait for the upload and return what `Uploader.upload` returns, or raise what it raises.

        A Ctrl-C while waiting pauses the upload, waits for that, and goes on as KeyboardInterrupt. So does any other
        exception that a signal handler raises, such as SystemExit, or the time limit of a task queue.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: the upload is still running.
            InvalidInput: `timeout` is not a number. The upload goes on.
            InvalidInput: it would wait for ever: `progress` is a coroutine function, and its event loop is the one that
                waits here, instead of awaiting the task. The upload is paused.
        """
        if timeout is not None:
            check_number("timeout", timeout)
            timeout = min(timeout, threading.TIMEOUT_MAX)
        if timeout is None and self._called is not None and self._called.loop is running_loop():
            self._called.mark_loop_blocked()
        try:
            return self._future.result(timeout)
        except BaseException as error:
            if self._future.done():
                raise  # the upload's own
            if isinstance(error, TimeoutError) and raised_by_signal(error) is None:
                raise TimeoutError(f"the upload is still running after {timeout} seconds") from None
            # An interrupt, an exit, or a time limit, of the thread that waits.
            self.pause()
            self._wait_for_the_end()
            raise

    def pause(self) -> None:
        """
        Stop, and keep the checkpoint and the upload: the same call resumes. Returns at once; `result` raises
        UploadPaused when no worker is running any more. Without effect on an upload that has ended.
        """
        self._control.pause()

    def cancel(self) -> None:
        """
        Stop, and drop the upload and its checkpoint. Returns at once; `result` raises UploadCancelled when that is
        done. Without effect on an upload that has ended.
        """
        self._control.cancel()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    def done(self) -> bool:
        """Whether it has ended, well or otherwise."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, UploadResult]:
        import asyncio

        return asyncio.wrap_future(self._future).__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pause()
        self._wait_for_the_end()

    def _wait_for_the_end(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        import asyncio

        self.pause()
        ended = asyncio.wrap_future(self._future)
        ended.add_done_callback(_look_at)
        await asyncio.wait([ended])


def _look_at(ended: asyncio.Future[UploadResult]) -> None:
    """How it ended is for `result` to tell, so asyncio need not complain that nobody has asked."""
    if not ended.cancelled():
        ended.exception()


@define(frozen=True)
class PlannedPart:
    """
    What an upload would do about one part.

    Args:
        part_number: from 1.
        offset: where it begins in the source, in bytes.
        size: its length in bytes.
        action: "keep", "adopt" or "send".
        why: the reason, in words.
    """

    part_number: int
    offset: int
    size: int
    action: str
    why: str


@define(frozen=True)
class Explanation:
    """
    What an upload would do, and why.

    Args:
        action: "put" (in one piece), "start", "resume", "done" (it is there already) or "unknown" (nothing tells).
        reason: why, in words; "" where there is nothing to say.
        parts: part by part; empty for a stream, whose parts only show in reading it.
    """

    action: str
    reason: str
    parts: tuple[PlannedPart, ...]


def _explained(decision: Decision, plan: PartPlan, *, limits: PartLimits, config: TransferConfig) -> Explanation:
    match decision:
        case AlreadyStored():
            return Explanation("done", "an earlier run completed it, but the response was lost", ())
        case Ambiguous():
            return Explanation(
                "unknown", "an object of this size is there, and nothing shows whether this upload made it", ()
            )
        case CompareWhileReading(plan=recorded, candidates=candidates):
            reasons = (
                f"up to {len(candidates)} parts need not be sent, if the stream is the same",
                _part_size_that_stands(recorded, config),
            )
            return Explanation("resume", "; ".join(filter(None, reasons)), ())
        case Resume(plan=recorded, parts=decisions):
            parts = []
            for decided in decisions:
                part = recorded.part(decided.part_number)
                parts.append(PlannedPart(part.part_number, part.offset, part.size, decided.action, decided.why))
            return Explanation("resume", _part_size_that_stands(recorded, config), tuple(parts))
        case start:
            if plan.size is not None and is_single_put(plan.size, limits, config.multipart_threshold):
                return Explanation("put", start.reason, ())
            numbers = range(1, (plan.parts_total or 0) + 1)
            planned = (plan.part(number) for number in numbers)
            return Explanation(
                "start",
                start.reason,
                tuple(PlannedPart(p.part_number, p.offset, p.size, "send", "it was not sent yet") for p in planned),
            )


def _part_size_that_stands(recorded: PartPlan, config: TransferConfig) -> str:
    """That another part size was asked for than the upload has, in words; "" where none was."""
    if config.part_size in ("auto", recorded.part_size):
        return ""
    return f"its parts have {recorded.part_size} bytes, and keep them, though {config.part_size} were asked for"


def upload(
    source: SourceLike,
    target_url: str,
    *,
    store: CheckpointStore | None = None,
    config: TransferConfig | None = None,
    options: ObjectOptions | None = None,
    progress: ProgressCallback | None = None,
    resume: ResumeMode = "auto",
    expected_size: int | None = None,
    expected_crc64: int | None = None,
) -> UploadResult:
    """
    Upload `source` to the object that a URL names. If an earlier call did not get to its end, this one carries on::

        upload("backup.tar", "file:///mnt/backups/backup.tar")

    Args:
        source: a path, bytes, a binary stream, or a `Source`.
        target_url: such as ``oss://bucket/key`` or ``file:///dir/key``.
        store: what remembers progress; None: files in the user's state directory.
        config: how to transfer.
        options: what the object shall be like.
        progress: is told how far the upload is.
        resume: "auto", "require" or "never".
        expected_size: the size in bytes that the source must have; None: any.
        expected_crc64: the CRC-64/XZ that it must have; None: any.

    Raises:
        InvalidInput: the URL names no object, or no installed plug-in serves it (UnknownScheme).
        PartwiseError: as `Uploader.upload` says.
    """
    backend, key = open_backend(target_url)
    try:
        if not key:
            raise InvalidInput(f"{target_url!r} names no object: a key is missing after the bucket or directory")
        return Uploader(backend, store, config).upload(
            source,
            key,
            options,
            progress,
            resume,
            expected_size=expected_size,
            expected_crc64=expected_crc64,
        )
    finally:
        backend.close()
