"""
Pipelining of small parts: one thread sends them, several are in flight.

For small parts the cost is the interpreter. The GIL lets one thread run Python at a time, so several threads send no
more parts than one, each part is passed to a thread and back, and each system call may hand the GIL to another thread.
If the storage is farther away, a part is mostly waiting, and threads pay off. Which of the two it is, `InlineSwitch`
finds out by measuring both modes.

A single thread falls asleep while it waits for a response, and waking up with cold caches costs as much as half of
all the Python code for a part. So if the backend implements `SupportsPipelining`, `InlinePipeline` sends further parts
before the response to the first one arrives.

Measured over the loopback on two processors (docs/performance.md), with parts of 100 KiB: sending them in one thread
takes a quarter of the processor time of four threads, and less than half of the elapsed time. Two further parts in
flight save another quarter of the processor time, and nearly double the rate. With parts of 8 MiB there is no
difference. Nothing here is needed for correctness: without this module, threads would send all parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TypeGuard

from partwise._engine.workers import Outcome, PartJob, outcome_of
from partwise.model import UploadedPart
from partwise.protocols import MultipartBackend, SupportsPipelining

#: Parts that are timed together. An upload of fewer parts can't gain anything here.
_WINDOW = 32

#: Seconds per part, below which inline mode is tried. It bounds the cost of a trial, and the time for which the
#: scheduler does nothing else while it sends a part.
_FAST_PART_SECONDS = 0.001

#: Parts at the start of a trial that are not timed: threads are still finishing their last parts.
_WARMUP_PARTS = 8

#: How much slower than threads inline mode may be, in return for the processor time that it saves.
_TOLERANCE = 1.25

#: Further parts that are sent before the response to one is read. More than two gain nothing.
_PIPELINE_DEPTH = 2


class InlineSwitch:
    """
    Decides whether the scheduler's thread sends parts itself (inline mode).

    This is a heuristic over the times at which parts are done. A trial ends as soon as inline mode is known to be
    slower. The next one starts after twice as many parts as the last time, so that trials cost next to nothing where
    they fail. A window in which inline mode was fast enough offsets one failed trial, since anything may delay a part
    now and then.
    """

    def __init__(self, now: float) -> None:
        self.inline = False
        self._threaded_seconds = 0.0  # for one window, when threads sent it
        self._failed_trials = 0
        self._backoff_windows = 0  # until the next trial may start
        self._start_window(now)

    def part_done(self, now: float) -> None:
        """Count one more part, and update `inline`."""
        self._parts += 1
        if self._parts <= 0:
            self._window_start = now
            return
        elapsed = now - self._window_start
        if self.inline and elapsed > self._threaded_seconds * _TOLERANCE:
            self._switch_to_threads(now)
        elif self._parts == _WINDOW:
            self._start_window(now)
            if self.inline:
                self._failed_trials = max(0, self._failed_trials - 1)
            elif self._backoff_windows:
                self._backoff_windows -= 1
            elif elapsed < _FAST_PART_SECONDS * _WINDOW:
                self._switch_to_inline(now, elapsed)

    def _start_window(self, now: float, *, warmup: int = 0) -> None:
        self._parts = -warmup
        self._window_start = now

    def _switch_to_inline(self, now: float, threaded_seconds: float) -> None:
        self.inline = True
        self._threaded_seconds = threaded_seconds
        self._start_window(now, warmup=_WARMUP_PARTS)

    def _switch_to_threads(self, now: float) -> None:
        self.inline = False
        self._failed_trials += 1
        self._backoff_windows = 2**self._failed_trials
        self._start_window(now)


class InlinePipeline:
    """
    Sends parts in the calling thread, each when its outcome is requested.

    Attributes:
        jobs: the attempts that were not started. The owner appends to it, and may take some back.
        pending: parts that were sent, and whose responses were not read: the attempt, and what waits for the response.
    """

    def __init__(self) -> None:
        self.jobs: deque[PartJob] = deque()
        self.pending: deque[tuple[PartJob, Callable[[], UploadedPart]]] = deque()

    def next_outcome(self) -> Outcome:
        """Fill the pipeline, and return the outcome of its first part; there must be one."""
        jobs, pending = self.jobs, self.pending
        while jobs and (not pending or (len(pending) <= _PIPELINE_DEPTH and supports_pipelining(jobs[0].backend))):
            job = jobs.popleft()
            try:
                pending.append((job, begin(job)))
            except BaseException as error:  # noqa: BLE001  # as `outcome_of` does
                return Outcome(job.part_number, error=error, second=job.second)
        return outcome_of(*pending.popleft())


def begin(job: PartJob) -> Callable[[], UploadedPart]:
    """
    Send a part, and return a function that waits for the response.

    That function returns the uploaded part. Either step raises what `PartJob.run` raises. If the backend does not
    support pipelining, nothing is sent before the returned function is called.
    """
    if not supports_pipelining(job.backend):
        return job.run
    read_response = job.call_backend(job.backend.begin_part, job.key, job.upload_id, job.part_number, job.body)
    return lambda: job.verify(job.call_backend(read_response))


def supports_pipelining(backend: MultipartBackend) -> TypeGuard[SupportsPipelining]:
    """Return whether `begin_part` may be called in place of `upload_part`."""
    return _class_supports_pipelining(type(backend)) and "upload_part" not in getattr(backend, "__dict__", ())


@lru_cache(maxsize=32)
def _class_supports_pipelining(kind: type) -> bool:
    for ancestor in kind.__mro__:
        if "begin_part" in vars(ancestor):
            return True
        if "upload_part" in vars(ancestor):
            break  # a subclass that overrides `upload_part` alone wants its parts to be sent by that
    return False
