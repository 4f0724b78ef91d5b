"""
The interface between the scheduler and the workers that send parts.

The scheduler decides what to send. It submits one attempt at a part at a time, and takes one outcome at a time; it does
not know how parts are sent. `InlineWorkers` sends them in the scheduler's own thread, `ExecutorWorkers` by any
`concurrent.futures.Executor`, `thread_workers.ThreadWorkers` by own threads. A simulation chooses which part finishes
next.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from attrs import define

from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise._engine.throttle import TransferStopped
from partwise.clock import Clock
from partwise.errors import BackendError, ConnectionFailed, IntegrityError, PartwiseError, UploadUnusable
from partwise.model import UploadedPart
from partwise.protocols import Body, MultipartBackend

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

logger = logging.getLogger("partwise")

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


@define(frozen=True)
class PartJob:
    """One attempt at one part, made by a worker, perhaps in another process."""

    backend: MultipartBackend
    key: str
    upload_id: str
    part_number: int
    body: Body
    second: bool = False  # it is sent a second time while the first attempt goes on; see `tail`

    def run(self) -> UploadedPart:
        """
        Send the part, and return it with a checksum that both sides agree on.

        Raises:
            IntegrityError: the size or the checksum that the storage reports is not that of the bytes read here.
            PartwiseError: what the backend or the source raised. An exception of any other class is a defect in one of
                them, and becomes a permanent `BackendError`. So any other exception that an executor reports is its
                own.
            BaseException: what a signal handler raised, where the scheduler's thread makes the attempt.
        """
        part = self.call_backend(self.backend.upload_part, self.key, self.upload_id, self.part_number, self.body)
        return self.verify(part)

    def call_backend(self, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Call the backend, and translate a defect of it to a `BackendError`."""
        try:
            return call_plugin(call, *args)
        except PluginDefect as defect:
            if isinstance(defect.__cause__, MemoryError):
                # Like ENOMEM, this is transient: other parts release memory when they are done.
                raise BackendError(
                    f"there was not enough memory to send part {self.part_number} of {self.key}", retryable=True
                ) from defect.__cause__
            raise BackendError(
                f"part {self.part_number} of {self.key} failed because of a defect in the backend or the source:"
                f" {defect}"
            ) from defect.__cause__

    def verify(self, part: UploadedPart) -> UploadedPart:
        """
        Compare the storage's report with the bytes read, and add the checksum.

        Raises:
            IntegrityError: they differ.
            UploadUnusable: they differ, and the storage does not replace parts.
        """
        sent = self.body.checksum
        if sent is None or part.size != len(self.body) or part.checksum not in (None, sent):
            # What does not match is stored, so a storage that replaces no parts can't take the right bytes any more.
            kind = IntegrityError if self.backend.capabilities.replaces_parts else UploadUnusable
            raise kind(
                f"part {self.part_number} of {self.key} does not match what was sent: {len(self.body)} bytes with the"
                f" checksum {sent} were read here, the storage reports {part.size} bytes with the checksum"
                f" {part.checksum}"
            )
        if part.part_number != self.part_number:
            raise IntegrityError(f"part {self.part_number} of {self.key} was stored as part {part.part_number}")
        return part if part.checksum == sent else UploadedPart(self.part_number, part.size, part.etag, sent)


@define(frozen=True)
class Outcome:
    """The result of one attempt: the uploaded part, or an error."""

    part_number: int
    part: UploadedPart | None = None
    error: BaseException | None = None
    second: bool = False  # of the second copy of a part


def outcome_of(job: PartJob, attempt: Callable[[], UploadedPart]) -> Outcome:
    """Call `attempt`, a step of the job; return its result or what it raised."""
    try:
        return Outcome(job.part_number, attempt(), second=job.second)
    except BaseException as error:  # noqa: BLE001  # the scheduler raises it, once no part is in flight
        return Outcome(job.part_number, error=error, second=job.second)


def cancelled_outcome(job: PartJob) -> Outcome:
    """Return the outcome of an attempt that was cancelled before it started."""
    return Outcome(job.part_number, error=TransferStopped("cancelled before it started"), second=job.second)


class WorkerPool(Protocol):
    """
    Sends parts for the scheduler.

    All methods but `wake` are called from one thread, the scheduler's.
    """

    def submit(self, job: PartJob) -> None:
        """
        Start one attempt, or queue it.

        Raises:
            Exception: the pool does not accept the job (any more). The attempt was not started.
        """

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        """
        Wait for the next outcome, and return it.

        It waits even if nothing is in flight, except after `cancel_pending`.

        Args:
            timeout: seconds to wait at most; None: no limit.

        Returns:
            the outcome; None if the timeout expired or `wake` was called first.
        """

    def cancel_pending(self) -> None:
        """
        Cancel the attempts that no worker has started, if these are known.

        Each of them still has an outcome, an error. Until the next `submit`, `next_outcome` returns None as soon as the
        pool is idle.
        """

    def can_cut(self, job: PartJob, /) -> bool:
        """Return whether `cut` has an effect on this attempt."""

    def cut(self, job: PartJob, reason: str, /) -> object:
        """
        Make an attempt in flight fail soon, with a reason for its error.

        It still has an outcome.
        """

    @property
    def saturated(self) -> bool:
        """
        Whether parts wait for the processors.

        If so, more of them in flight would bring nothing.
        """

    @property
    def idle(self) -> bool:
        """After `cancel_pending`: whether no attempt is in flight and no outcome is left."""

    def wake(self) -> None:
        """Make a waiting `next_outcome` return None. May be called from any thread."""


def never_cut(job: PartJob, reason: str = "") -> bool:  # noqa: ARG001  # of the protocol
    """Return False: an attempt can't be cut."""
    return False


class InlineWorkers:
    """Sends each part in the scheduler's own thread, when its outcome is requested."""

    saturated = True  # one thread sends one part at a time, whatever the number in flight
    can_cut = staticmethod(never_cut)
    cut = staticmethod(never_cut)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: deque[PartJob] = deque()
        self._cancelled = False
        self._wakeup = threading.Event()

    def submit(self, job: PartJob) -> None:
        self._jobs.append(job)

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        if not self._jobs:
            self._clock.wait(self._wakeup, timeout or 0.0)
            self._wakeup.clear()
            return None
        job = self._jobs.popleft()
        return cancelled_outcome(job) if self._cancelled else outcome_of(job, job.run)

    def cancel_pending(self) -> None:
        self._cancelled = True

    @property
    def idle(self) -> bool:
        return not self._jobs

    def wake(self) -> None:
        self._wakeup.set()


def lacks_resources(error: BaseException) -> bool:
    """Return whether a limit on threads, processes or memory prevented a start."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.ENOMEM)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error))


def send_part(job: PartJob, attempt_id: str) -> UploadedPart:
    """
    Make one attempt at a part. This is the function that executors call.

    Args:
        job: the attempt.
        attempt_id: unique to the attempt. Some executors treat equal calls as one, as Dask does, and may return the
            result of the first attempt for the second.
    """
    if _superseded.pop(attempt_id, None) is not None:
        raise TransferStopped("the scheduler's thread sends it")
    return job.run()


#: Attempts that `submit` of an executor refused, but left in its queue, as Python's does if it can't start a thread.
#: The references are weak: what no queue of this process holds any more is never called.
_superseded: WeakValueDictionary[str, PartJob] = WeakValueDictionary()


class ExecutorWorkers:
    """
    Sends parts by a `concurrent.futures.Executor`.

    Its workers are threads, processes, or the machines of a cluster.

    Where the executor can't start a thread or a process that a part needs, the scheduler's thread sends that part.
    """

    saturated = False  # not known
    can_cut = staticmethod(never_cut)
    cut = staticmethod(never_cut)

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._futures: dict[int, Future[UploadedPart]] = {}
        self._finished: SimpleQueue[tuple[int, Future[UploadedPart]] | None] = SimpleQueue()
        self._inline_jobs: deque[PartJob] = deque()
        self._warned = False
        self._cancelled = False

    def submit(self, job: PartJob) -> None:
        self._cancelled = False
        attempt_id = os.urandom(8).hex()
        try:
            future = self._executor.submit(send_part, job, attempt_id)
        except Exception as error:
            if not lacks_resources(error):
                raise
            _superseded[attempt_id] = job
            self._inline_jobs.append(job)
            if not self._warned:
                self._warned = True
                logger.warning(
                    "the executor can't start more workers: %s; the uploading thread sends parts, too", error
                )
            return
        part_number = job.part_number
        self._futures[part_number] = future
        if future.done():
            # Not by a callback, which would suppress what a signal handler raises.
            self._finished.put((part_number, future))
        else:
            future.add_done_callback(lambda future: self._finished.put((part_number, future)))

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        outcome = self._ready_outcome()
        if outcome is not None or (self._cancelled and self.idle):
            return outcome
        try:
            finished = self._finished.get(timeout=timeout)
        except Empty:
            return None
        if finished is None:
            return None
        part_number, future = finished
        if self._futures.pop(part_number, None) is None:
            return None  # its outcome was returned before
        return _outcome_of_future(part_number, future)

    def _ready_outcome(self) -> Outcome | None:
        if self._cancelled:
            # Ask the futures: an interrupt may have lost an entry that was just taken from the queue.
            for part_number, future in list(self._futures.items()):
                if future.done():
                    del self._futures[part_number]
                    return _outcome_of_future(part_number, future)
        if self._inline_jobs and self._finished.empty():
            job = self._inline_jobs.popleft()
            return cancelled_outcome(job) if self._cancelled else outcome_of(job, job.run)
        return None

    def cancel_pending(self) -> None:
        self._cancelled = True
        futures = list(self._futures.values())
        # Dask's futures never report that they are running, and can be "cancelled" while a worker runs them: the upload
        # would not know when that ends. Where running futures can't be recognised, wait for all of them.
        if futures and (any(future.running() for future in futures) or self._reports_running_state()):
            for future in futures:
                future.cancel()

    def _reports_running_state(self) -> bool:
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        return isinstance(self._executor, ThreadPoolExecutor | ProcessPoolExecutor)

    @property
    def idle(self) -> bool:
        return not self._futures and not self._inline_jobs

    def wake(self) -> None:
        self._finished.put(None)


def _outcome_of_future(part_number: int, future: Future[UploadedPart]) -> Outcome:
    from pickle import PicklingError

    try:
        return Outcome(part_number, future.result())
    except PartwiseError as error:
        return Outcome(part_number, error=error)
    # What pickling and unpickling raise, depending on the version of Python. `PartJob.run` never raises these.
    except (PicklingError, TypeError, AttributeError, ImportError) as error:
        unpicklable = BackendError(f"part {part_number} can't be sent to a worker of this executor: {error}")
        unpicklable.__cause__ = error
        return Outcome(part_number, error=unpicklable)
    except Exception as error:  # noqa: BLE001  # executors report a lost worker by different exceptions
        lost = ConnectionFailed(f"the worker that was sending part {part_number} was lost: {error!r}")
        lost.__cause__ = error
        return Outcome(part_number, error=lost)
    except BaseException as error:  # noqa: BLE001  # the scheduler raises it, once no worker is running
        return Outcome(part_number, error=error)
