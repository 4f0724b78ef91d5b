"""
Parts sent by threads of our own; and by the loop itself, where parts are so quick that threads are a burden.

Python runs one thread at a time. A small part on a fast line is hardly anything but Python, so several threads send no
more of them than one, while each part is handed to a thread and back, and each call of the system is an occasion to
lose one's turn. On two processors, 10,000 parts of 100 KiB over the loopback take four threads four times the processor
time, and more than twice the time, that they take the loop alone. Where the storage is further away than that, a part
is hardly anything but waiting, and threads are worth their while. Which of the two it is, is tried out. If the backend
can begin a part and be asked for the answer later, the loop has further ones on their way meanwhile.

Large parts are sent by threads in any case. But where the processors are what they wait for, more threads than there
are processors only take each other's turns, and push each other's bytes out of the caches: then no more of them work at
a time. That shows in the processor time that they use.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from partwise._engine.workers import (
    Outcome,
    PartJob,
    cancelled_outcome,
    lacks_resources,
    outcome_of,
    outcome_of_running,
)
from partwise._signals import raised_by_signal
from partwise.clock import Clock
from partwise.model import UploadedPart

logger = logging.getLogger("partwise")

#: Parts that are timed together. Uploads of fewer parts have nothing to gain here.
_WINDOW = 32

#: Seconds from one part to the next, below which the loop tries to send them itself. It keeps short what a try can
#: cost, and the time for which the loop, while it sends, looks after nothing else.
_QUICK = 0.001

#: Parts at the beginning of a try that are not timed: threads are still busy with the last of theirs.
_SETTLING = 8

#: How much slower the loop may be than threads, for the processor time that it saves.
_TOLERANCE = 1.25


#: Parts that the loop has on their way while it waits for the answer to another. Without one it would fall asleep with
#: each part, and its processor with it: to wake up, and to find the caches cold, costs as much as half of all that
#: Python does for a part. More than two gain nothing.
_AHEAD = 2


class Tempo:
    """
    Whether the loop shall send parts itself, from nothing but the times at which parts are done.

    A try is given up as soon as it is known to be slower, and made again after twice as many parts as the last time, so
    that tries cost next to nothing where they are of no use. Each window that goes well makes up for one try that
    failed, since anything may hold up a part now and then.

    Args:
        now: the present, in seconds.
    """

    def __init__(self, now: float) -> None:
        self.alone = False
        self._threads_took = 0.0  # seconds for a window, when threads sent it
        self._failed_tries = 0
        self._pause = 0  # windows until the next try may be made
        self._begin_window(now)

    def _begin_window(self, now: float, *, settling: int = 0) -> None:
        self._parts = -settling
        self._since = now

    def part_done(self, now: float) -> None:
        """One more part is done; `alone` may change by it."""
        self._parts += 1
        if self._parts <= 0:
            self._since = now
            return
        took = now - self._since
        if self.alone and took > self._threads_took * _TOLERANCE:
            self._give_up(now)
        elif self._parts == _WINDOW:
            self._begin_window(now)
            if self.alone:
                self._failed_tries = max(0, self._failed_tries - 1)
            elif self._pause:
                self._pause -= 1
            elif took < _QUICK * _WINDOW:
                self._try(now, took)

    def _try(self, now: float, threads_took: float) -> None:
        self.alone = True
        self._threads_took = threads_took
        self._begin_window(now, settling=_SETTLING)

    def _give_up(self, now: float) -> None:
        self.alone = False
        self._failed_tries += 1
        self._pause = 2**self._failed_tries
        self._begin_window(now)


#: Parts after which it is looked again how busy the processors are.
_LOOKS = 4

#: The share of all processors' time from which on they count as busy, and the one below which they no longer do. The
#: rest is others' (the storage's, if it is on the same machine), and the kernel's on behalf of nobody.
_BUSY, _AT_LEISURE = 0.4, 0.25


class Load:
    """
    Whether the processors are what threads wait for, from nothing but the time that passes and the time they use.

    Args:
        processors: how many there are.
    """

    def __init__(self, processors: int) -> None:
        self.busy = False
        self._processors = processors
        self._parts = 0
        self._since = self._used = 0.0

    def part_done(self, now: float, used: Callable[[], float]) -> None:
        """
        One more part is done; `busy` may change by it.

        Args:
            now: the present, in seconds.
            used: gives the seconds of processor time that the threads have used since they began.
        """
        self._parts += 1
        if self._parts % _LOOKS != 1:
            return
        in_all = used()
        if self._parts > 1:  # from the first one on, since before it there are connections to be made
            share = (in_all - self._used) / (max(now - self._since, 1e-9) * self._processors)
            self.busy = share > (_AT_LEISURE if self.busy else _BUSY)
        self._since, self._used = now, in_all


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux tells which ones are ours
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class Places:
    """
    How many threads may work at a time. A thread takes a place and keeps it from part to part; the others wait. Another
    thread for each part would find nothing of its own in the caches.

    `limit` is called by one thread, everything else by any. As elsewhere, a list's `append` and `pop` need no lock.

    Args:
        count: how many places there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: SimpleQueue[None] = SimpleQueue()
        self._surplus: list[None] = []  # are to be given up by those who have one
        for _ in range(count):
            self._free.put(None)

    def take(self) -> None:
        """Wait for a place."""
        self._free.get()

    def keep(self) -> None:
        """Between two parts: go on, or wait for another place if there are fewer now."""
        try:
            self._surplus.pop()
        except IndexError:
            return
        self.take()

    def give_back(self) -> None:
        """Leave a place to the next one."""
        try:
            self._surplus.pop()
        except IndexError:
            self._free.put(None)

    def limit(self, count: int) -> None:
        """Let there be so many. Whoever has one place too many keeps it until it is given back."""
        while self._count > count:
            self._count -= 1
            try:
                self._free.get_nowait()
            except Empty:
                self._surplus.append(None)
        while self._count < count:
            self._count += 1
            self.give_back()


#: Bytes of the address space that a further thread must find: its stack, and what all of them need to work.
_SPARE = 32 * 1024 * 1024


def _check_memory() -> None:
    """
    Raises:
        MemoryError: a further thread would take the last of a small address space, and leave none to work with.
    """
    import mmap  # not every upload has a second thread

    try:
        mmap.mmap(-1, _SPARE).close()  # is not touched, so that this takes some microseconds and no memory
    except OSError as error:
        if raised_by_signal(error) is not None:
            raise
        raise MemoryError("no memory for a further thread") from error


class ThreadWorkers:
    """
    Parts are sent by threads of our own: one more is started whenever a part may find none free, up to so many.

    Between them and the loop there are two queues and nothing else. A `ThreadPoolExecutor` makes a future with a lock
    of its own for each part, which costs as much again as the queues do.

    Args:
        workers: how many threads there are at the most.
        clock: what time is.
        processors: how many processors there are; None: as many as this process may use.
    """

    def __init__(self, workers: int, clock: Clock, *, processors: int | None = None) -> None:
        self._workers = workers
        self._clock = clock
        self._processors = processors or _processors()
        self._tempo = Tempo(clock.monotonic())
        self._load = Load(self._processors)
        self._places = Places(workers)
        self._used: dict[str, float] = {}  # by each thread: seconds of processor time
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        self._kept: deque[PartJob] = deque()  # for the loop itself
        self._begun: deque[tuple[int, Callable[[], UploadedPart]]] = deque()  # by the loop itself, and not answered yet
        self._jobs: SimpleQueue[PartJob | None] = SimpleQueue()
        self._finished: SimpleQueue[Outcome | None] = SimpleQueue()
        self._ended: list[threading.Thread] = []
        self._ending = False

    def submit(self, job: PartJob) -> None:
        if self._ending:
            self._begin_anew()
        if self._tempo.alone or not self._handed_over(job):
            self._kept.append(job)
        self._under_way += 1

    def _handed_over(self, job: PartJob) -> bool:
        """Give a part to the threads, and return whether there are any."""
        if len(self._threads) < min(self._workers, self._under_way + 1):
            self._start_one_more()
        if not self._threads:
            return False
        self._jobs.put(job)
        return True

    def _start_one_more(self) -> None:
        # Daemons, so that a program can end: what they leave undone is resumed, as after any other death.
        thread = threading.Thread(
            target=self._work,
            args=(self._jobs, self._places),
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
            # A limit on threads, processes or memory. Those that there are go on, or else the loop itself.
            self._workers = len(self._threads)
            logger.warning("no more threads can be started: %s; parts are sent by %d", error, max(1, self._workers))
        else:
            self._threads.append(thread)

    def _work(self, jobs: SimpleQueue[PartJob | None], places: Places) -> None:
        name = threading.current_thread().name
        places.take()
        while (job := jobs.get()) is not None:
            outcome = outcome_of_running(job)
            self._used[name] = time.thread_time()
            self._finished.put(outcome)
            places.keep()
        jobs.put(None)  # for the next one
        places.give_back()
        self._ended.append(threading.current_thread())
        self._finished.put(None)  # the loop may wait for this

    def _begin_anew(self) -> None:
        self.close()
        self._threads, self._ended, self._under_way = [], [], 0
        self._jobs, self._finished, self._places = SimpleQueue(), SimpleQueue(), Places(self._workers)
        self._load, self._used = Load(self._processors), {}
        self._begun.clear()
        self._ending = False

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        if (self._kept or self._begun) and self._finished.empty():
            outcome: Outcome | None = self._outcome_of_our_own()
        else:
            try:
                outcome = self._finished.get(block=not (self._ending and self.idle), timeout=timeout)
            except Empty:
                return None
        if outcome is not None:
            self._under_way -= 1
            now = self._clock.monotonic()
            self._tempo.part_done(now)
            if self._processors < self._workers and not self._tempo.alone:
                self._load.part_done(now, self._used_in_all)
                self._places.limit(self._processors if self._load.busy else self._workers)
            while self._kept and not self._tempo.alone and self._handed_over(self._kept[0]):
                self._kept.popleft()
        return outcome

    def _outcome_of_our_own(self) -> Outcome:
        while self._kept and len(self._begun) <= (_AHEAD if self._kept[0].pipelined else 0):
            job = self._kept.popleft()
            try:
                self._begun.append((job.part_number, job.begin()))
            except BaseException as error:  # noqa: BLE001  # as for any other attempt
                return Outcome(job.part_number, error=error)
        return outcome_of(*self._begun.popleft())

    def _used_in_all(self) -> float:
        return sum(list(self._used.values()))

    def cancel_pending(self) -> None:
        while self._kept:
            self._finished.put(cancelled_outcome(self._kept.popleft()))
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            assert job is not None, "nothing is recalled from threads that were told to end"
            self._finished.put(cancelled_outcome(job))
        self._end()

    @property
    def idle(self) -> bool:
        # By the threads themselves, not by counting: what was counted when the program was interrupted may be wrong.
        return len(self._ended) >= len(self._threads) and self._finished.empty() and not self._begun

    def wake(self) -> None:
        self._finished.put(None)

    def close(self) -> None:
        """End the threads, and wait for that."""
        self._end()
        for thread in self._threads:
            thread.join()

    def _end(self) -> None:
        if not self._ending:
            self._jobs.put(None)
            self._ending = True
