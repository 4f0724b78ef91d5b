"""
"Send this part; give me the next finished one": the seam between the loop that decides and the workers that send.

The loop submits parts and takes outcomes, one at a time; it never sees a thread. What stands behind the seam is any
`concurrent.futures.Executor`, or threads of our own, or nothing at all (parts are then sent one by one, by the loop
itself), or a simulation that draws which part finishes next.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

from attrs import define

from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise._engine.throttle import TransferStopped
from partwise.clock import Clock
from partwise.errors import BackendError, ConnectionFailed, IntegrityError, PartwiseError
from partwise.model import UploadedPart
from partwise.protocols import Body, MultipartBackend, SupportsPipelining

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

logger = logging.getLogger("partwise")

_T = TypeVar("_T")


@define(frozen=True)
class PartJob:
    """One attempt at one part, to be made by a worker, perhaps in another process."""

    backend: MultipartBackend
    key: str
    upload_id: str
    part_number: int
    body: Body

    def run(self) -> UploadedPart:
        """
        Send the part, and give its receipt with a checksum that both sides agree on.

        Raises:
            IntegrityError: the storage's size or checksum is not that of the bytes that were read here.
            PartwiseError: what the backend or the source raised. An exception of another class is a defect in one of
                them, and becomes a permanent `BackendError`, so that whatever else an executor raises is known to be
                the executor's.
            BaseException: what a signal handler raised meanwhile, where the loop itself makes the attempt.
        """
        return self._agreed(self._attempted(self._with_what_it_takes(self.backend.upload_part)))

    @property
    def pipelined(self) -> bool:
        """Whether the part is on its way when `begin` returns."""
        return supports_pipelining(self.backend)

    def begin(self) -> Callable[[], UploadedPart]:
        """
        `run` in two steps: what this returns gives the receipt. Either raises what `run` does.

        Where the backend does not offer `SupportsPipelining`, all is done in the second step.
        """
        if not supports_pipelining(self.backend):
            return self.run
        answer = self._attempted(self._with_what_it_takes(self.backend.begin_part))
        return lambda: self._agreed(self._attempted(answer))

    def _with_what_it_takes(self, step: Callable[[str, str, int, Body], _T]) -> Callable[[], _T]:
        return partial(step, self.key, self.upload_id, self.part_number, self.body)

    def _attempted(self, step: Callable[[], _T]) -> _T:
        try:
            return call_plugin(step)
        except PluginDefect as defect:
            if isinstance(defect.__cause__, MemoryError):
                # As ENOMEM of the system: there may be some when other parts are done.
                raise BackendError(
                    f"there was not enough memory for part {self.part_number} of {self.key}", retryable=True
                ) from defect.__cause__
            raise BackendError(
                f"part {self.part_number} of {self.key} met a defect in the backend or the source: {defect}"
            ) from defect.__cause__

    def _agreed(self, receipt: UploadedPart) -> UploadedPart:
        sent = self.body.crc64
        if sent is None or receipt.size != len(self.body) or receipt.crc64 not in (None, sent):
            raise IntegrityError(
                f"part {self.part_number} of {self.key} did not arrive as it was sent: {len(self.body)} bytes with"
                f" CRC-64 {sent} were read here, the storage has {receipt.size} with {receipt.crc64}"
            )
        if receipt.part_number != self.part_number:
            raise IntegrityError(f"part {self.part_number} of {self.key} was stored as part {receipt.part_number}")
        return receipt if receipt.crc64 == sent else UploadedPart(self.part_number, receipt.size, receipt.etag, sent)


@define(frozen=True)
class Outcome:
    """What became of one attempt: a receipt, or an error."""

    part_number: int
    part: UploadedPart | None = None
    error: BaseException | None = None


class WorkerPool(Protocol):
    """What the loop sends parts by. All methods but `wake` are called by one thread, that of the loop."""

    def submit(self, job: PartJob) -> None:
        """
        Take on one attempt.

        Raises:
            Exception: the job can't be taken on (any more). It was not begun.
        """

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        """
        The next outcome; None when `timeout` seconds have passed, or when `wake` was called, without one.

        With nothing under way it just waits.
        """

    def cancel_pending(self) -> None:
        """
        Take back the attempts that no worker has begun, where that can be told. Their outcomes still come, as errors.
        From now on until something is submitted, `next_outcome` waits no longer than until the transport is idle.
        """

    @property
    def idle(self) -> bool:
        """After `recall`: whether no attempt is under way any more, and no outcome is left."""

    def wake(self) -> None:
        """Make a waiting `next_outcome` return. May be called from any thread."""


class InlineWorkers:
    """No worker at all: the loop sends each part itself when it asks for the next outcome."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: deque[PartJob] = deque()
        self._recalled = False
        self._woken = threading.Event()

    def submit(self, job: PartJob) -> None:
        self._jobs.append(job)

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        if not self._jobs:
            self._clock.wait(self._woken, timeout or 0.0)
            self._woken.clear()
            return None
        job = self._jobs.popleft()
        return cancelled_outcome(job) if self._recalled else outcome_of_running(job)

    def cancel_pending(self) -> None:
        self._recalled = True

    @property
    def idle(self) -> bool:
        return not self._jobs

    def wake(self) -> None:
        self._woken.set()


def supports_pipelining(backend: MultipartBackend) -> TypeGuard[SupportsPipelining]:
    """Whether its parts may be begun; see `SupportsPipelining`."""
    return _class_begins_parts(type(backend)) and "upload_part" not in getattr(backend, "__dict__", ())


@lru_cache(maxsize=32)
def _class_begins_parts(kind: type) -> bool:
    for ancestor in kind.__mro__:
        if "begin_part" in vars(ancestor):
            return True
        if "upload_part" in vars(ancestor):
            break
    return False


def outcome_of_running(job: PartJob) -> Outcome:
    """Make the attempt, here and now, and whatever comes of it an outcome."""
    return outcome_of(job.part_number, job.run)


def outcome_of(part_number: int, attempt: Callable[[], UploadedPart]) -> Outcome:
    """Make what comes of this attempt an outcome, whatever it is."""
    try:
        return Outcome(part_number, attempt())
    except BaseException as error:  # noqa: BLE001  # the loop lets it out, once no part is under way
        return Outcome(part_number, error=error)


def cancelled_outcome(job: PartJob) -> Outcome:
    """What became of an attempt that was not made."""
    return Outcome(job.part_number, error=TransferStopped("taken back before it was begun"))


def send_part(job: PartJob, attempt: str) -> UploadedPart:
    """
    What an executor is given to call: one attempt at a part.

    Args:
        job: the attempt.
        attempt: a name that no other attempt has. Some executors take equal calls for one, as Dask does, and may answer
            a second attempt with what became of the first.
    """
    if attempt in _withdrawn:
        _withdrawn.discard(attempt)
        raise TransferStopped("the loop sends it")
    return job.run()


#: Attempts that an executor of threads refused, but kept in its queue, as Python's does if it can't start a thread.
_withdrawn: set[str] = set()


def lacks_resources(error: BaseException) -> bool:
    """Whether a thread or a process could not be started for want of threads, processes or memory."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.ENOMEM)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error))


class ExecutorWorkers:
    """
    Parts are sent by a `concurrent.futures.Executor`: threads, processes, or the machines of a cluster.

    The loop itself sends those for which the executor can't start a thread or a process that it needs.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._futures: dict[int, Future[UploadedPart]] = {}
        self._finished: SimpleQueue[tuple[int, Future[UploadedPart]] | None] = SimpleQueue()
        self._kept: deque[PartJob] = deque()  # for the loop itself
        self._scarce = False
        self._recalled = False

    def submit(self, job: PartJob) -> None:
        self._recalled = False
        attempt = os.urandom(8).hex()
        try:
            future = self._executor.submit(send_part, job, attempt)
        except Exception as error:
            if not lacks_resources(error):
                raise
            _withdrawn.add(attempt)
            self._kept.append(job)
            if not self._scarce:
                self._scarce = True
                logger.warning("the executor can't start more workers: %s; the loop sends parts, too", error)
            return
        self._futures[job.part_number] = future
        if future.done():
            self._finished.put((job.part_number, future))  # a callback would swallow what a signal handler raises
        else:
            future.add_done_callback(self._when_done(job.part_number))

    def _when_done(self, part_number: int) -> Callable[[Future[UploadedPart]], None]:
        return lambda future: self._finished.put((part_number, future))

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        outcome = self._outcome_at_hand()
        if outcome is not None or (self._recalled and self.idle):
            return outcome
        try:
            finished = self._finished.get(timeout=timeout)
        except Empty:
            return None
        if finished is None:
            return None
        part_number, future = finished
        if self._futures.pop(part_number, None) is None:
            return None  # its outcome was had before
        return _outcome_of(part_number, future)

    def _outcome_at_hand(self) -> Outcome | None:
        if self._recalled:
            # Not by the queue: what was taken from there when the program was interrupted is not in it any more.
            for part_number, future in list(self._futures.items()):
                if future.done():
                    del self._futures[part_number]
                    return _outcome_of(part_number, future)
        if self._kept and self._finished.empty():
            job = self._kept.popleft()
            return cancelled_outcome(job) if self._recalled else outcome_of_running(job)
        return None

    def cancel_pending(self) -> None:
        self._recalled = True
        futures = list(self._futures.values())
        # Dask's futures never say that they are running, and can be "cancelled" while a worker is at them: nobody would
        # know when that ends. Where nothing tells what was begun from what was not, all of it is waited for.
        if futures and (any(future.running() for future in futures) or self._tells_what_runs()):
            for future in futures:
                future.cancel()

    def _tells_what_runs(self) -> bool:
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        return isinstance(self._executor, ThreadPoolExecutor | ProcessPoolExecutor)

    @property
    def idle(self) -> bool:
        return not self._futures and not self._kept

    def wake(self) -> None:
        self._finished.put(None)


def _outcome_of(part_number: int, future: Future[UploadedPart]) -> Outcome:
    from pickle import PicklingError

    try:
        return Outcome(part_number, part=future.result())
    except PartwiseError as error:
        return Outcome(part_number, error=error)
    # What pickling raises for what it can't do, from version to version of Python, and what it can't find on the other
    # side. An attempt never lets these out.
    except (PicklingError, TypeError, AttributeError, ImportError) as error:
        stuck = BackendError(f"part {part_number} can't be handed to a worker of this executor: {error}")
        stuck.__cause__ = error
        return Outcome(part_number, error=stuck)
    except Exception as error:  # noqa: BLE001  # executors differ in their words
        lost = ConnectionFailed(f"the worker that was sending part {part_number} was lost: {error!r}")
        lost.__cause__ = error
        return Outcome(part_number, error=lost)
    except BaseException as error:  # noqa: BLE001  # the loop lets it out, once no worker is running
        return Outcome(part_number, error=error)
