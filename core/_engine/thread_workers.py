"""
Parts sent by own threads, which is the default.

Two things are adapted while an upload runs. Parts that are so small that threads cost more than they gain are sent by
the scheduler's thread itself: see `pipelining`. And if the threads wait for processors instead of the network, more
threads than processors only compete for these, and evict each other's data from the caches. Then no more of them work
at a time than there are processors; `CpuSaturation` detects that by the processor time that the threads use.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from partwise._engine.pipelining import InlinePipeline, InlineSwitch
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.workers import Outcome, PartJob, cancelled_outcome, lacks_resources, outcome_of
from partwise._signals import raised_by_signal
from partwise._supports import supports_cutting
from partwise.clock import Clock
from partwise.errors import PartwiseError

logger = logging.getLogger("partwise")

#: Parts between two samples of the processor time.
_SAMPLE_EVERY = 4

#: The shares of all processors' time above which they count as saturated, and below which they no longer do. The
#: remainder goes to other programs (to the storage, if it runs on the same machine), and to kernel work that is not
#: charged to a thread.
_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.25

#: Bytes of address space that must be free for another thread to start: its stack, and what all threads need to work.
_THREAD_HEADROOM = 32 * 1024 * 1024


class CpuSaturation:
    """
    Detects whether threads wait for processors instead of the network.

    This is a heuristic over the elapsed time and the processor time that the threads used.
    """

    def __init__(self, processors: int) -> None:
        self.saturated = False
        self._processors = processors
        self._parts = 0
        self._sampled_at = self._cpu_seconds = 0.0

    def part_done(self, now: float, total_cpu: Callable[[], float]) -> None:
        """
        Count one more part, and update `saturated` at every fourth one.

        Args:
            now: the current time in seconds.
            total_cpu: returns the seconds of processor time that the threads have used since they started.
        """
        self._parts += 1
        if self._parts % _SAMPLE_EVERY != 1:
            return
        cpu_seconds = total_cpu()
        if self._parts > 1:  # measure from the first part on: before it, connections are made
            elapsed = max(now - self._sampled_at, 1e-9)
            share = (cpu_seconds - self._cpu_seconds) / (elapsed * self._processors)
            self.saturated = share > (_IDLE_BELOW if self.saturated else _BUSY_ABOVE)
        self._sampled_at, self._cpu_seconds = now, cpu_seconds


class WorkerSlots:
    """
    A resizable semaphore that limits how many threads work at a time.

    A thread keeps its slot from part to part, and the others wait: handing each part to another thread would cost the
    data in the caches. Only one thread may call `resize`; any thread may call the other methods. No lock is needed,
    since `append` and `pop` of a list are atomic.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: SimpleQueue[None] = SimpleQueue()
        self._surplus: list[None] = []  # slots that their holders must not release to others
        for _ in range(count):
            self._free.put(None)

    def acquire(self) -> None:
        """Wait for a free slot, and take it."""
        self._free.get()

    def keep(self) -> None:
        """Keep the slot for another part; if it is surplus, wait for another one."""
        try:
            self._surplus.pop()
        except IndexError:
            return
        self.acquire()

    def release(self) -> None:
        """Release the slot to the next thread."""
        try:
            self._surplus.pop()
        except IndexError:
            self._free.put(None)

    def resize(self, count: int) -> None:
        """Set the number of slots. Surplus ones end with `keep` or `release`."""
        while self._count > count:
            self._count -= 1
            try:
                self._free.get_nowait()
            except Empty:
                self._surplus.append(None)
        while self._count < count:
            self._count += 1
            self.release()


class ThreadWorkers:
    """
    Sends parts by own threads, which are started as they are needed.

    Threads and scheduler share two queues and nothing else. A `ThreadPoolExecutor` creates a future with a lock for
    each part, which costs as much again as the queues do.

    Args:
        workers: the maximum number of threads.
        clock: the time.
        processors: the number of processors; None: as many as this process may use.
    """

    def __init__(self, workers: int, clock: Clock, *, processors: int | None = None) -> None:
        self._workers = workers
        self._clock = clock
        self._processors = processors or _available_processors()
        self._switch = InlineSwitch(clock.monotonic())
        self._inline = InlinePipeline()
        self._saturation = CpuSaturation(self._processors)
        self._slots = WorkerSlots(workers)
        self._cpu_seconds: dict[str, float] = {}  # by the thread's name
        self._threads: list[threading.Thread] = []
        self._exited: list[threading.Thread] = []
        self._in_flight = 0
        self._jobs: SimpleQueue[PartJob | None] = SimpleQueue()
        self._finished: SimpleQueue[Outcome | None] = SimpleQueue()
        self._stopping = False

    def submit(self, job: PartJob) -> None:
        if self._stopping:
            self._restart()
        if self._switch.inline or not self._hand_to_threads(job):
            self._inline.jobs.append(job)
        self._in_flight += 1

    def _hand_to_threads(self, job: PartJob) -> bool:
        """Queue a part for the threads; return False if there are none."""
        if len(self._threads) < min(self._workers, self._in_flight + 1):
            self._start_thread()
        if not self._threads:
            return False
        self._jobs.put(job)
        return True

    def _start_thread(self) -> None:
        # A daemon does not keep a program from ending. What it leaves unfinished can be resumed, as after a crash.
        thread = threading.Thread(
            target=self._work,
            args=(self._jobs, self._slots),
            name=f"partwise-{len(self._threads)}",
            daemon=True,
        )
        try:
            if self._threads:
                _check_memory()
            thread.start()
        except (RuntimeError, MemoryError) as error:
            if not lacks_resources(error):
                raise
            # A limit on threads, processes or memory: continue with the threads there are, or else inline.
            self._workers = len(self._threads)
            logger.warning("can't start more threads: %s; sending parts by %d", error, max(1, self._workers))
        else:
            self._threads.append(thread)

    def _work(self, jobs: SimpleQueue[PartJob | None], slots: WorkerSlots) -> None:
        name = threading.current_thread().name
        slots.acquire()
        while (job := jobs.get()) is not None:
            outcome = outcome_of(job, job.run)
            self._cpu_seconds[name] = time.thread_time()
            self._finished.put(outcome)
            slots.keep()
        jobs.put(None)  # for the next thread
        slots.release()
        self._exited.append(threading.current_thread())
        self._finished.put(None)  # the scheduler may be waiting for the last thread to exit

    def _restart(self) -> None:
        self.close()
        self._threads, self._exited, self._in_flight = [], [], 0
        self._jobs, self._finished, self._slots = SimpleQueue(), SimpleQueue(), WorkerSlots(self._workers)
        self._saturation, self._cpu_seconds = CpuSaturation(self._processors), {}
        self._inline.pending.clear()
        self._stopping = False

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        inline = self._inline
        if (inline.jobs or inline.pending) and self._finished.empty():
            outcome: Outcome | None = self._inline_outcome()
        else:
            try:
                outcome = self._finished.get(block=not (self._stopping and self.idle), timeout=timeout)
            except Empty:
                return None
        if outcome is not None:
            self._in_flight -= 1
            self._adapt()
        return outcome

    def _inline_outcome(self) -> Outcome:
        outcome = self._inline.next_outcome()
        error = outcome.error
        if self._stopping and error is not None and not isinstance(error, PartwiseError):
            raise error  # an interrupt in this thread: the scheduler ignores the errors of parts while it stops
        return outcome

    def _adapt(self) -> None:
        """After each part: choose the mode, and how many threads may work."""
        switch, now = self._switch, self._clock.monotonic()
        switch.part_done(now)
        if self._processors < self._workers and not switch.inline:
            self._saturation.part_done(now, self._total_cpu)
            self._slots.resize(self._processors if self._saturation.saturated else self._workers)
        jobs = self._inline.jobs
        while jobs and not switch.inline and self._hand_to_threads(jobs[0]):
            jobs.popleft()

    def _total_cpu(self) -> float:
        return sum(list(self._cpu_seconds.values()))

    def can_cut(self, job: PartJob) -> bool:
        # Inline, a second copy would have to wait for the first one.
        return bool(self._threads) and not self._switch.inline and supports_cutting(job.backend)

    def cut(self, job: PartJob, reason: str) -> None:
        if supports_cutting(job.backend):
            with suppress(PartwiseError):  # of a defect; the attempt then takes as long as it takes
                call_plugin(job.backend.cut_part, job.body, reason)

    @property
    def saturated(self) -> bool:
        return self._switch.inline or self._saturation.saturated

    def cancel_pending(self) -> None:
        if self._stopping:
            return  # nothing was submitted since, and what is left in the queue tells the threads to exit
        while self._inline.jobs:
            self._finished.put(cancelled_outcome(self._inline.jobs.popleft()))
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            assert job is not None, "only `_stop_threads` puts it"
            self._finished.put(cancelled_outcome(job))
        self._stop_threads()

    @property
    def idle(self) -> bool:
        # Ask the threads instead of counting parts: an interrupt may have made the count wrong.
        return len(self._exited) >= len(self._threads) and self._finished.empty() and not self._inline.pending

    def wake(self) -> None:
        self._finished.put(None)

    def close(self) -> None:
        """Stop the threads, and wait until they have exited."""
        self._stop_threads()
        for thread in self._threads:
            thread.join()

    def _stop_threads(self) -> None:
        if not self._stopping:
            self._jobs.put(None)
            self._stopping = True


def _available_processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux reports which processors this process may use
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _check_memory() -> None:
    """Raise MemoryError if another thread would take the last of the address space."""
    import mmap  # not every upload starts a second thread

    try:
        mmap.mmap(-1, _THREAD_HEADROOM).close()  # it is never touched, so it costs microseconds and no memory
    except OSError as error:
        if raised_by_signal(error) is not None:
            raise
        raise MemoryError("no memory for another thread") from error
