"""`Uploader` and `upload`, which upload a source to a storage."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from attrs import evolve

from partwise._engine.abort import abort_upload
from partwise._engine.async_callbacks import CallbackRunner, bind_callback, check_event_callback, running_loop
from partwise._engine.concurrency import CONCURRENCY_MIN
from partwise._engine.context import ResumeMode, Runtime, UploadContext, UploadRequest
from partwise._engine.control import Control
from partwise._engine.thread_workers import ThreadWorkers
from partwise._engine.upload import UploadRun
from partwise._engine.verify import verify_object
from partwise._engine.workers import ExecutorWorkers, InlineWorkers
from partwise._validation import check_callable, check_methods, check_type
from partwise.clock import SystemClock, default_random
from partwise.config import TransferConfig
from partwise.errors import InvalidInput
from partwise.explain import Explanation, explain
from partwise.model import ObjectOptions
from partwise.progress import ProgressCallback
from partwise.protocols import CheckpointStore, MultipartBackend, Source
from partwise.registry import (
    StoreLike,
    StoreOfSource,
    check_store,
    default_checkpoint_store,
    open_backend,
    store_of_source,
)
from partwise.results import UploadResult, Verification
from partwise.sources import SourceLike, as_source
from partwise.task import UploadTask

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from partwise.events import EventCallback

__all__ = ["Uploader", "upload"]


class Uploader:
    """
    Uploads to one backend, with one checkpoint store and one configuration.

    It has no state besides its arguments: threads can share it, and a program needs only one.

    Args:
        backend: where to upload. The caller closes it.
        store: where checkpoints are kept: a store, its URL, or a function that returns the store for the source of a
            given name, such as `FileCheckpointStore.beside_source()`; None: files in the user's state directory. A
            store that is opened from a URL is closed when the uploader is no longer used.
        config: how to transfer; None: the defaults.
        executor: what sends the parts; None: each upload starts threads, at most `config.concurrency`. An executor (a
            process pool, a cluster's) is given at most `config.concurrency` parts at a time, 4 if that is "auto", and
            is not shut down.

    Raises:
        InvalidInput: an argument has the wrong type, or the URL is not one of a store.
    """

    def __init__(
        self,
        backend: MultipartBackend,
        *,
        store: StoreLike | None = None,
        config: TransferConfig | None = None,
        executor: Executor | None = None,
    ) -> None:
        check_methods("backend", backend, ("initiate_upload", "upload_part", "complete_upload"), "a MultipartBackend")
        if executor is not None:
            check_methods("executor", executor, ("submit",), "an Executor or None")
        if config is not None:
            check_type("config", config, TransferConfig, "a TransferConfig or None")
        self.backend = backend
        self.config = config or TransferConfig()
        self._store = None if store is None else check_store(store)
        if isinstance(store, str) and (close := getattr(self._store, "close", None)) is not None:
            weakref.finalize(self, close)  # what was opened here, is closed here
        self._executor = executor
        self._runtime: Runtime | None = None

    @classmethod
    def _with_runtime(
        cls,
        runtime: Runtime,
        backend: MultipartBackend,
        *,
        store: StoreLike | None = None,
        config: TransferConfig | None = None,
    ) -> Self:
        """Make an uploader with another clock, randomness and workers, for tests."""
        uploader = cls(backend, store=store, config=config)
        uploader._runtime = runtime
        return uploader

    def __repr__(self) -> str:
        return f"Uploader({self.backend!r}, store={self._store!r}, config={self.config!r})"

    @property
    def store(self) -> CheckpointStore | StoreOfSource:
        """The checkpoint store, or the function that returns the one for a source."""
        if self._store is None:
            self._store = default_checkpoint_store()
        return self._store

    def upload(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        on_event: EventCallback | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadResult:
        """
        Upload `source` as the object `key`, and return once the object is stored.

        If an earlier call for the same source, key and backend did not finish, this one resumes it. A KeyboardInterrupt
        pauses: workers end, the checkpoint is kept, and KeyboardInterrupt propagates. So does any other exception from
        outside, such as SystemExit or what a signal handler raises (time limits of task queues).

        Args:
            source: a path, bytes, a binary stream, or a `Source`.
            key: the object's key.
            options: the properties of the object.
            progress: called for each part and from time to time in between, one call at a time, in the thread that
                uploads. If it raises, the upload stops as by a pause, and its exception propagates.
            on_event: called with each event of the run, such as a part that is done or an attempt that failed: see
                `partwise.events`. In the same thread, one call at a time. If it raises, the upload stops as by a pause,
                and its exception propagates.
            resume: "auto": resume, or start (again) if that is not possible. "require": resume, or raise CannotResume.
                "never": read and write no checkpoint; a failure aborts the upload.
            expected_size: the size in bytes that the source must have. Without it, a stream that ends early because its
                producer failed looks like a complete one.
            expected_crc64: the CRC-64/XZ that the source must have, as a number.

        Raises:
            UploadFailed: the storage failed or refused; `resumable` says whether the same call resumes, and the cause
                is the last error. OutcomeUnknown is a subclass.
            SourceChanged: the source changed during the upload. No object was written, unless the message says that an
                earlier request may have written one; the next call sends every part.
            SourceUnreadable: the source is missing, a directory, or not readable. Nothing was sent.
            SourceMismatch: the source does not have `expected_size` or `expected_crc64`. Nothing was sent. If that is
                known only after parts were sent, this is the cause of an UploadFailed, and no object was written.
            CallbackError: the object is stored, but its callback failed; `result` has the result.
            CannotResume: see `resume`.
            CheckpointBusy: another process or thread is uploading this now. Nothing was sent.
            ClaimLost: this run lost its claim to another one, or to a failure of the store. Nothing was aborted or
                completed after that, and what was sent is kept for the run that holds the claim. It is a
                CheckpointBusy.
            CheckpointUnwritable: the checkpoint can't be written. Nothing was sent.
            CheckpointError: the store could not be asked for too long. Nothing was sent; or a note of the error says
                how much is kept, and the same call resumes.
            CheckpointMismatch: the only file for the checkpoint contains that of another upload. Nothing was sent.
            InvalidInput: an argument is invalid: part size, options, key. Nothing was sent.
            UploadPaused, UploadCancelled: `UploadTask.pause` or `UploadTask.cancel` was called.
        """
        callback = _check_call(key, options, progress, loop=None)
        check_event_callback(on_event)
        request = self._request(
            source,
            key,
            options=options,
            progress=callback,
            on_event=on_event,
            resume=resume,
            expected_size=expected_size,
            expected_crc64=expected_crc64,
        )
        with self._prepare(request, Control()) as upload:
            return upload.run()

    def start(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        on_event: EventCallback | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadTask:
        """
        Start an upload in the background, and return its task at once.

        The arguments are those of `upload`. `on_event` is called in the thread of the upload.

        In a running event loop of asyncio, `progress` may be a coroutine function. The loop runs it, one call at a
        time. If the loop ends before the upload does, the upload is paused. When the upload is paused or cancelled, a
        call that is still running is not waited for, and no further ones are made.

        If no thread can be started, the upload runs in the calling thread, and the task is returned when it has
        ended; a coroutine function is not run then.

        The task's `result` raises what `upload` raises.

        Raises:
            InvalidInput: `progress` is a coroutine function, and no event loop is running here; or `key`, `options` or
                `progress` has the wrong type, or `on_event` is a coroutine function.
        """
        task = self._task(
            source,
            key,
            options=options,
            progress=progress,
            on_event=on_event,
            resume=resume,
            expected_size=expected_size,
            expected_crc64=expected_crc64,
        )
        task._start()  # noqa: SLF001  # of this package
        return task

    def _task(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        on_event: EventCallback | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadTask:
        """
        Return the task of `start`, which is not started yet.

        Who has it before that can pause it from a signal handler that interrupts its start.
        """
        callback = _check_call(key, options, progress, loop=running_loop())
        check_event_callback(on_event)
        control = Control()
        if callback is not None:
            control.on_request(callback.stop_waiting)

        def prepare(report: ProgressCallback) -> AbstractContextManager[UploadRun]:
            request = self._request(
                source,
                key,
                options=options,
                progress=report,
                on_event=on_event,
                resume=resume,
                expected_size=expected_size,
                expected_crc64=expected_crc64,
            )
            return self._prepare(request, control)

        return UploadTask(prepare, control, key, callback)

    def plan(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> Explanation:
        """
        Return what `upload` would do now, part by part, and why.

        Nothing is sent or changed. It may read the source, to compare it with the parts that the storage has.

        Raises:
            CannotResume: ``resume="require"`` was given, and the upload would start again.
            BackendError: the storage can't be asked which parts it has.
            InvalidInput, SourceUnreadable, SourceMismatch, CheckpointMismatch: as for `upload`.
        """
        _check_call(key, options, None, loop=None)
        request = self._request(
            source, key, options=options, resume=resume, expected_size=expected_size, expected_crc64=expected_crc64
        )
        with self._prepare(request, Control()) as upload:
            return explain(*upload.explain(), limits=self.backend.limits, config=self.config)

    def abort(self, source: SourceLike, key: str, *, upload_id: str | None = None) -> bool:
        """
        Discard the unfinished upload of `source` as `key`.

        Abort it on the storage, then delete its checkpoint. Where the storage can't abort uploads
        (`Capabilities.aborts`), only the checkpoint is deleted, and the parts expire by themselves.

        Args:
            source: what was being uploaded. It is not read.
            key: the object's key.
            upload_id: discard only the upload of this id; another one, which a later run may have started, is left as
                it is. None: whichever is recorded.

        Returns:
            whether there was one.

        Raises:
            CheckpointBusy: another process or thread is uploading it now.
            ClaimLost: another run took it over meanwhile. Nothing more was aborted or deleted.
            UploadFailed: the storage could not abort it; the checkpoint is kept.
            CheckpointDamaged: the checkpoint can't be trusted, and can't be removed.
            InvalidInput: the source has no name, so that it never has a checkpoint; or an argument is invalid.
        """
        _check_call(key, None, None, loop=None)
        check_type("upload_id", upload_id, (str, type(None)), "a string or None")
        context = UploadContext(self._request(source, key), self._runtime_without_threads(), Control())
        return abort_upload(context, upload_id)

    def verify(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
    ) -> Verification:
        """
        Compare `source` with the object `key` by size and checksum.

        Nothing is sent or changed. The storage is asked once for the object; then the source is read once, unless its
        size is known and differs, or the storage reports no checksum. The checksum is that of
        `Capabilities.checksum`. Checkpoints play no role.

        Args:
            source: a path, bytes, a binary stream, or a `Source`. A stream is read from its position to its end, or to
                the first byte beyond the size of the object.
            key: the object's key.
            options: for those that requests need, such as who pays for them. Properties of the object are not compared.
            progress: called as the source is read: `bytes_done` are the bytes read, and the report with `completed` is
                the last one. If it raises, its exception propagates.

        Returns:
            the result; only ``equal=True`` says that the object has the bytes of the source.

        Raises:
            SourceChanged: the source changed while it was read.
            SourceUnreadable: the source is missing, a directory, or not readable.
            BackendError: the storage can't be asked. Transient errors are retried for `config.give_up_after`.
            InvalidInput: an argument is invalid.
        """
        callback = _check_call(key, options, progress, loop=None)
        request = self._request(source, key, options=options, resume="never")
        return verify_object(UploadContext(request, self._runtime_without_threads(), Control()), callback)

    def _runtime_without_threads(self) -> Runtime:
        return self._runtime or Runtime(partial(InlineWorkers, clock := SystemClock()), clock, default_random())

    def _request(
        self,
        source: SourceLike,
        key: str,
        *,
        options: ObjectOptions | None = None,
        progress: ProgressCallback | None = None,
        on_event: EventCallback | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadRequest:
        opened = as_source(source)  # checked before the store is opened, which may create a directory
        return UploadRequest(
            self.backend,
            self._store_of(opened) if resume != "never" else None,
            opened,
            key,
            ObjectOptions() if options is None else options,
            self.config,
            resume,
            progress,
            expected_size,
            expected_crc64,
            on_event,
        )

    def _store_of(self, source: Source) -> CheckpointStore | None:
        return store_of_source(self.store, source.name) if source.name else None

    @contextmanager
    def _prepare(self, request: UploadRequest, control: Control) -> Generator[UploadRun]:
        """Yield an upload that is ready to run; end the threads that it started."""
        if self._runtime is not None:
            yield UploadRun(request, self._runtime, control)
            return
        clock, random = SystemClock(), default_random()
        if self._executor is not None:
            # How much its workers move is not known here before a part is done.
            if self.config.concurrency == "auto":
                request = evolve(request, config=evolve(self.config, concurrency=CONCURRENCY_MIN))
            yield UploadRun(request, Runtime(partial(ExecutorWorkers, self._executor), clock, random), control)
            return
        concurrency = self.config.concurrency
        workers = ThreadWorkers(self.config.concurrency_max if concurrency == "auto" else concurrency, clock)
        try:
            yield UploadRun(request, Runtime(lambda: workers, clock, random), control)
        finally:
            workers.close()


def _check_call(
    key: object, options: object, progress: ProgressCallback | None, *, loop: AbstractEventLoop | None
) -> CallbackRunner | None:
    """Refuse arguments of the wrong type; return the runner of the progress callback."""
    check_type("key", key, str, "a string")
    if options is not None:
        check_type("options", options, ObjectOptions, "an ObjectOptions or None")
    if progress is None:
        return None
    check_callable("progress", progress)
    return bind_callback(progress, loop)


def upload(
    source: SourceLike,
    target_url: str,
    *,
    store: StoreLike | None = None,
    config: TransferConfig | None = None,
    options: ObjectOptions | None = None,
    progress: ProgressCallback | None = None,
    on_event: EventCallback | None = None,
    resume: ResumeMode = "auto",
    expected_size: int | None = None,
    expected_crc64: int | None = None,
) -> UploadResult:
    """
    Upload `source` to the object at a URL.

    If an earlier call did not finish, this one resumes it::

        upload("backup.tar", "file:///mnt/backups/backup.tar")

    Args:
        source: a path, bytes, a binary stream, or a `Source`.
        target_url: such as ``oss://bucket/key`` or ``file:///dir/key``.
        store: where checkpoints are kept, as for `Uploader`; None: files in the user's state directory.
        config: how to transfer; None: the defaults.
        options: the properties of the object.
        progress: called as the upload proceeds, as for `Uploader.upload`.
        on_event: called with each event of the run, as for `Uploader.upload`.
        resume: "auto", "require" or "never", as for `Uploader.upload`.
        expected_size: the size in bytes that the source must have; None: any.
        expected_crc64: the CRC-64/XZ that the source must have; None: any.

    Raises:
        InvalidInput: the URL has no key, or no installed plug-in handles its scheme (UnknownScheme).
        PartwiseError: as for `Uploader.upload`.
    """
    backend, key = open_backend(target_url)
    try:
        if not key:
            raise InvalidInput(f"{target_url!r} has no key after the bucket or directory")
        return Uploader(backend, store=store, config=config).upload(
            source,
            key,
            options=options,
            progress=progress,
            on_event=on_event,
            resume=resume,
            expected_size=expected_size,
            expected_crc64=expected_crc64,
        )
    finally:
        backend.close()
