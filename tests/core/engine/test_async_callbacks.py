"""Coroutine callbacks, and what becomes of an upload whose event loop is slow, blocked, stopped or closed."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import weakref

import pytest

from partwise import InvalidInput, Progress, TransferConfig, Uploader, UploadPaused, UploadTask
from partwise._engine import async_callbacks
from partwise._engine.async_callbacks import CallbackRunner, bind_callback
from partwise.progress import for_ali_oss, for_boto3, for_event_loop, for_oss2

SOON = 30  # seconds: what takes longer hangs


@pytest.fixture
def uploader(backend, store):
    """Sends five parts, one by one, from a thread."""
    return Uploader(backend, store, TransferConfig(part_size=10, multipart_threshold=0, concurrency=1))


@pytest.fixture
def kept(store):
    """How many parts each checkpoint has."""
    return lambda: [len(checkpoint.parts) for checkpoint in store.scan()]


def run(coroutine):
    """Like `asyncio.run`, and what the loop would have complained of to a log is an error."""
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        return await coroutine

    result = asyncio.run(main())
    gc.collect()
    assert complaints == []
    return result


class Held:
    """A coroutine callback that never comes back from its n-th call."""

    def __init__(self, call=2):
        self._call = call
        self.calls = 0
        self.reached = threading.Event()
        self.cancelled = False

    async def report(self, progress):
        self.calls += 1
        if self.calls == self._call:
            self.reached.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise


async def until(event):
    while not event.is_set():  # noqa: ASYNC110  # it is set by another thread
        await asyncio.sleep(0.001)


# --- what may be given -----------------------------------------------------------------------------------------------


class _Caller:
    def __init__(self, seen):
        self._seen = seen

    async def __call__(self, progress):
        await asyncio.sleep(0)
        self._seen.append(progress.bytes_done)

    async def method(self, progress):
        await self(progress)


@pytest.mark.parametrize(
    "shape",
    [
        _Caller,
        lambda seen: _Caller(seen).method,
        lambda seen: functools.partial(_Caller.method, _Caller(seen)),
        lambda seen: lambda progress: _Caller(seen).method(progress),  # not known by its looks
    ],
    ids=["an object", "a method", "a partial", "a function that gives a coroutine"],
)
def test_whatever_gives_something_to_await_is_awaited(uploader, source, shape):
    seen = []

    async def main():
        return await uploader.start(source, "key", progress=shape(seen))

    assert run(main()).size == seen[-1] == 45
    assert seen == sorted(seen)


def test_a_coroutine_behind_the_shape_of_another_library_is_awaited(uploader, source):
    amounts, consumed, fractions = [], [], []

    async def amount(count):
        await asyncio.sleep(0)
        amounts.append(count)

    async def done_of(done, total):
        await asyncio.sleep(0)
        consumed.append((done, total))

    async def fraction(share, checkpoint):
        await asyncio.sleep(0)
        fractions.append(share)

    async def main():
        await uploader.start(source, "one", progress=for_boto3(amount))
        await uploader.start(source, "two", progress=for_oss2(done_of))
        await uploader.start(source, "three", progress=for_ali_oss(fraction))

    run(main())
    assert sum(amounts) == 45
    assert consumed[-1] == (45, 45)
    assert fractions[-1] == 1.0


def test_what_must_be_awaited_is_refused_where_nothing_awaits(uploader, source, kept):
    """Before anything is sent where that can be seen, and at the first call otherwise."""

    async def report(progress): ...

    for begin in (uploader.upload, uploader.start):
        for callback in (report, functools.partial(report), _Caller([])):
            with pytest.raises(InvalidInput, match="event loop"):
                begin(source, "key", progress=callback)
    assert kept() == []
    with pytest.raises(InvalidInput, match="event loop"):
        uploader.upload(source, "key", progress=lambda progress: report(progress))  # noqa: PLW0108  # see above


def test_an_upload_in_a_thread_of_ones_own_reports_to_a_loop(uploader, source):
    seen = []

    async def report(progress):
        seen.append((progress.bytes_done, threading.current_thread()))

    async def main():
        callback = for_event_loop(report, asyncio.get_running_loop())
        return await asyncio.to_thread(uploader.upload, source, "key", progress=callback)

    assert run(main()).size == 45
    assert seen[-1] == (45, threading.main_thread())


def test_uploads_that_share_a_callback_do_not_share_their_ends(uploader, source):
    seen = []

    async def report(progress):
        seen.append(progress.bytes_done)

    async def main():
        callback = for_event_loop(report, asyncio.get_running_loop())
        paused = uploader.start(source, "one", progress=callback)
        paused.pause()
        with pytest.raises(UploadPaused):
            await paused
        seen.clear()
        await uploader.start(source, "two", progress=callback)

    run(main())
    assert seen[-1] == 45


# --- slow, raising, interrupted --------------------------------------------------------------------------------------


def test_the_upload_waits_for_a_slow_call_so_that_calls_never_meet(uploader, source):
    started, ended = [], []

    async def report(progress):
        assert len(started) == len(ended), "two calls at once"
        started.append(progress.bytes_done)
        await asyncio.sleep(0.02)
        ended.append(progress.bytes_done)

    async def main():
        await uploader.start(source, "key", progress=report)

    run(main())
    assert started == ended
    assert started[-1] == 45


def test_what_a_call_raises_pauses_the_upload_and_comes_out_of_await(uploader, source, kept):
    async def report(progress):
        await asyncio.sleep(0)
        if progress.parts_done == 2:
            raise LookupError("enough")

    async def main():
        with pytest.raises(LookupError, match="enough"):
            await uploader.start(source, "key", progress=report)

    run(main())
    assert kept() == [2]
    assert uploader.upload(source, "key").parts_resumed == 2


def test_a_stop_iteration_from_a_callback_comes_out_as_what_can_be_awaited(uploader, source):
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(_wait(uploader.start(source, "key", progress=lambda _: next(iter(())))), SOON)

    run(main())


async def _wait(task):
    return await task


@pytest.mark.parametrize(("wish", "left"), [("pause", 1), ("cancel", 0)])
def test_a_call_under_way_does_not_hold_up_a_pause_or_a_cancel(uploader, source, kept, wish, left):
    held = Held()

    async def main():
        task = uploader.start(source, "key", progress=held.report)
        await until(held.reached)
        getattr(task, wish)()
        with pytest.raises((UploadPaused,) if wish == "pause" else Exception, match=wish):
            await asyncio.wait_for(_wait(task), SOON)
        assert not held.cancelled, "it is left to run"

    run(main())
    assert held.calls == 2, "a call under way is the last one"
    assert len(kept()) == left


def test_a_call_that_fails_after_its_upload_has_stopped_is_logged(uploader, source, caplog):
    reached, go = threading.Event(), None

    async def report(progress):
        if progress.parts_done == 1:
            reached.set()
            await go.wait()
            raise LookupError("too late")

    async def main():
        nonlocal go
        go = asyncio.Event()
        task = uploader.start(source, "key", progress=report)
        await until(reached)
        task.pause()
        with pytest.raises(UploadPaused):
            await task
        go.set()
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING, "partwise"):
        run(main())
    assert "LookupError('too late')" in caplog.text


# --- who waits, and stops waiting ------------------------------------------------------------------------------------


def test_cancelling_whoever_awaits_does_not_stop_the_upload(uploader, source):
    """One may look on, and stop looking. To own an upload is to be in its ``async with``."""
    held = Held()
    go = threading.Event()

    def report(progress):
        held.reached.set()
        assert go.wait(SOON)

    async def main():
        task = uploader.start(source, "key", progress=report)
        onlooker = asyncio.create_task(_wait(task))
        await until(held.reached)
        onlooker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await onlooker
        assert not task.done()
        go.set()
        return await task

    assert run(main()).size == 45


def test_whoever_stopped_awaiting_hears_nothing_of_the_failure(uploader, source, kept, caplog):
    """No complaint about an exception that nobody fetched, and none about a loop that is closed by then."""
    reached, go = threading.Event(), threading.Event()

    def report(progress):
        reached.set()
        assert go.wait(SOON)
        raise LookupError("enough")

    async def main():
        task = uploader.start(source, "key", progress=report)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(task), 0.01)
        return task

    task = run(main())
    go.set()
    with pytest.raises(LookupError):
        task.result(SOON)
    task._thread.join()
    assert caplog.records == []


@pytest.mark.parametrize("ends", [LookupError, asyncio.CancelledError])
def test_a_block_that_is_left_early_pauses_without_blocking_the_loop(uploader, source, backend, kept, ends):
    held = Held(call=3)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        with pytest.raises(ends):  # noqa: PT012  # what is left, and how
            async with uploader.start(source, "key", progress=held.report) as task:
                assert isinstance(task, UploadTask)
                await until(held.reached)
                before = ticks
                raise ends
        assert task.done()
        assert ticks > before
        ticking.cancel()

    run(main())
    assert backend.keys() == []
    assert len(kept()) == 1
    assert uploader.upload(source, "key").size == 45


def test_a_block_that_is_left_early_by_a_plain_with_does_not_hang(uploader, source, backend, kept):
    """It blocks the loop, which therefore can't finish the call that the upload was waiting for."""
    held = Held()

    async def main():
        with pytest.raises(LookupError):  # noqa: PT012, SIM117
            with uploader.start(source, "key", progress=held.report) as task:
                await until(held.reached)
                raise LookupError
        assert task.done()

    run(main())
    assert backend.keys() == []
    assert len(kept()) == 1


def test_a_block_that_is_left_after_the_end_gives_the_result(uploader, source):
    async def main():
        async with uploader.start(source, "key") as task:
            result = await task
        assert await task is result

    run(main())


# --- loops that run nothing any more ---------------------------------------------------------------------------------


def test_a_loop_that_ends_in_mid_upload_pauses_it(uploader, source, kept):
    held = Held()

    async def main():
        task = uploader.start(source, "key", progress=held.report)
        await until(held.reached)
        return task

    task = run(main())
    with pytest.raises(UploadPaused, match=r"loop has ended.* The same call resumes it") as paused:
        task.result(SOON)
    assert held.cancelled
    assert paused.value.resumable
    assert (paused.value.key, paused.value.bytes_total) == ("key", 45)
    assert len(kept()) == 1
    assert uploader.upload(source, "key").size == 45


def test_a_call_that_is_cancelled_pauses_the_upload(uploader, source, kept):
    async def report(progress):
        if progress.parts_done == 2:
            raise asyncio.CancelledError

    async def main():
        with pytest.raises(UploadPaused):
            await uploader.start(source, "key", progress=report)

    run(main())
    assert kept() == [2]


def test_a_loop_that_was_closed_between_two_calls_pauses_the_upload(uploader, source, kept):
    async def report(progress): ...

    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(UploadPaused):
        uploader.upload(source, "key", progress=for_event_loop(report, loop))
    assert len(kept()) == 1


def test_a_loop_that_was_closed_before_it_ran_a_call_pauses_the_upload(uploader, source, kept):
    loop, stopped = asyncio.new_event_loop(), threading.Event()

    async def report(progress): ...

    def when_the_loop_has_stopped(progress):
        assert stopped.wait(SOON)
        return report(progress)

    async def start():
        return uploader.start(source, "key", progress=when_the_loop_has_stopped)

    task = loop.run_until_complete(start())
    stopped.set()
    with pytest.raises(TimeoutError):
        task.result(0.05)
    loop.close()
    with pytest.raises(UploadPaused):
        task.result(5)  # it is looked after twice a second
    assert len(kept()) == 1


def test_a_loop_that_has_ended_does_not_undo_what_is_complete(uploader, source, backend):
    """The object is there, whether or not anybody could be told."""
    loop = asyncio.new_event_loop()

    async def report(progress): ...

    call = for_event_loop(report, loop)
    result = uploader.upload(source, "key", progress=lambda at: (loop.close(), call(at)) if at.completed else None)

    assert result.size == 45
    assert backend.keys() == ["key"]


def test_a_loop_that_stands_still_is_waited_for_and_can_be_left(uploader, source, kept):
    async def report(progress): ...

    loop = asyncio.new_event_loop()

    async def start():
        return uploader.start(source, "key", progress=report)

    task = loop.run_until_complete(start())
    with pytest.raises(TimeoutError):
        task.result(0.05)
    assert loop.run_until_complete(asyncio.wait_for(_wait(task), SOON)).size == 45, "both run again"

    with loop.run_until_complete(start()) as task:
        pass
    assert task.done()
    loop.run_until_complete(asyncio.sleep(0.01))  # it ends what it had started
    loop.close()


def test_waiting_in_the_loop_that_the_callback_needs_is_told_instead_of_hanging(uploader, source, kept):
    async def report(progress): ...

    async def main():
        task = uploader.start(source, "key", progress=report)
        with pytest.raises(InvalidInput, match="Await the task"):
            task.result()

    run(main())
    assert len(kept()) == 1


def test_uploading_in_the_loop_that_the_callback_needs_is_told_instead_of_hanging(uploader, source):
    async def report(progress): ...

    async def main():
        with pytest.raises(InvalidInput, match="blocks the event loop"):
            uploader.upload(source, "key", progress=for_event_loop(report, asyncio.get_running_loop()))

    run(main())


# --- the runner of callbacks, without an upload ----------------------------------------------------------------------


def test_no_coroutine_is_started_after_a_stop_request():
    """The thread that waits for the upload to stop may be the one that runs the loop."""
    started = []

    async def report(progress):
        started.append(progress)

    async def main():
        loop = asyncio.get_running_loop()
        soon = loop.call_soon_threadsafe

        def at_once(call, *arguments):
            ran = threading.Event()
            soon(lambda: (call(*arguments), ran.set()))
            assert ran.wait(30)

        loop.call_soon_threadsafe = at_once
        runner = bind_callback(report, loop)
        thread = threading.Thread(target=runner, args=(Progress(1, 2),))
        runner.abandon()
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110  # it is no task
            await asyncio.sleep(0.001)
        del loop.call_soon_threadsafe

    asyncio.run(main())
    assert started == []


class Awaitable:
    """An awaitable that is not a coroutine."""

    def __await__(self):
        yield


@pytest.mark.parametrize("make", [Awaitable, lambda: asyncio.sleep(0)], ids=["an object", "a coroutine"])
def test_an_awaitable_without_an_event_loop_is_refused_with_a_hint(make):
    with pytest.raises(InvalidInput, match=r"Call Uploader\.start in one, and await the task"):
        CallbackRunner(lambda _: make(), None)(Progress(1, 2))


def test_a_pause_because_the_loop_has_ended_reports_the_acknowledged_bytes():
    loop = asyncio.new_event_loop()
    loop.close()
    runner = CallbackRunner(lambda _: asyncio.sleep(0), loop)
    with pytest.raises(UploadPaused) as caught:
        runner(Progress(30, 100, bytes_acknowledged=20, parts_done=2, parts_total=10))
    error = caught.value
    assert (error.bytes_done, error.bytes_total, error.parts_done, error.parts_total) == (20, 100, 2, 10)
    assert not error.resumable, "there is no checkpoint"
    runner(Progress(100, 100, completed=True))


def in_a_loop(callback, loop=None):
    """Call a coroutine callback from a thread, as an upload does, while a loop runs."""

    async def main():
        running = asyncio.get_running_loop()
        calling = threading.Thread(target=for_event_loop(callback, running), args=(Progress(1, 2),), daemon=True)
        calling.start()
        deadline = running.time() + 5
        while calling.is_alive() and running.time() < deadline:  # noqa: ASYNC110  # a thread has no event
            await asyncio.sleep(0.001)
        assert not calling.is_alive(), "the call did not return"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_task_is_referenced_until_it_is_done():
    """A loop has weak references to its tasks: a task in a reference cycle with its future would be collected."""
    collected = []

    async def wait():
        waited_for = asyncio.get_running_loop().create_future()
        reference = weakref.ref(waited_for)

        def settle():
            gc.collect()
            future = reference()
            collected.append(future is None)
            if future is not None:
                future.set_result(None)

        asyncio.get_running_loop().call_later(0.001, settle)
        await waited_for

    class Waiting:
        def __await__(self):
            return wait().__await__()  # only the task references it from here on

    in_a_loop(lambda _: Waiting())
    assert collected == [False]
    assert async_callbacks._tasks == set()


def test_an_upload_sleeps_while_its_callback_is_awaited():
    looks = []

    class Loop(asyncio.SelectorEventLoop):
        def is_closed(self):
            looks.append(1)
            return super().is_closed()

    async def callback(_):
        await asyncio.sleep(0.02)

    in_a_loop(callback, Loop)
    assert len(looks) < 20
