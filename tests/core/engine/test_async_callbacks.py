"""Coroutine callbacks, and uploads whose event loop is slow, blocked, stopped or closed."""

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
    """Sends five parts, one at a time, from a thread."""
    return Uploader(backend, store=store, config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=1))


@pytest.fixture
def kept(store):
    """Returns the number of parts in each checkpoint."""
    return lambda: [len(checkpoint.parts) for checkpoint in store.scan()]


def run(coroutine):
    """Like `asyncio.run`, but asserts that the loop reports no errors to its exception handler."""
    reported = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        return await coroutine

    result = asyncio.run(main())
    gc.collect()
    assert reported == []
    return result


class Hanging:
    """A coroutine callback that never returns from its n-th call."""

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
    async with asyncio.timeout(30):
        while not event.is_set():  # noqa: ASYNC110  # it is set by another thread
            await asyncio.sleep(0.001)


# --- kinds of callbacks ----------------------------------------------------------------------------------------------


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
        lambda seen: lambda progress: _Caller(seen).method(progress),  # not a coroutine function
    ],
    ids=["an object", "a method", "a partial", "a function that returns a coroutine"],
)
def test_whatever_a_callback_returns_is_awaited(uploader, source, shape):
    seen = []

    async def main():
        return await uploader.start(source, "key", progress=shape(seen))

    assert run(main()).size == seen[-1] == 45
    assert seen == sorted(seen)


def test_adapters_for_other_libraries_accept_coroutine_functions(uploader, source):
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


def test_a_coroutine_function_without_an_event_loop_is_rejected(uploader, source, kept):
    """Before anything is sent if it is recognised as one, and at the first call otherwise."""

    async def report(progress): ...

    for call in (uploader.upload, uploader.start):
        for callback in (report, functools.partial(report), _Caller([])):
            with pytest.raises(InvalidInput, match="event loop"):
                call(source, "key", progress=callback)
    assert kept() == []
    with pytest.raises(InvalidInput, match="event loop"):
        uploader.upload(source, "key", progress=lambda progress: report(progress))  # noqa: PLW0108  # see above


def test_an_upload_in_another_thread_reports_to_a_loop(uploader, source):
    seen = []

    async def report(progress):
        seen.append((progress.bytes_done, threading.current_thread()))

    async def main():
        callback = for_event_loop(report, asyncio.get_running_loop())
        return await asyncio.to_thread(uploader.upload, source, "key", progress=callback)

    assert run(main()).size == 45
    assert seen[-1] == (45, threading.main_thread())


def test_a_callback_shared_by_uploads_is_abandoned_by_one_of_them_only(uploader, source):
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


def test_the_upload_waits_for_a_slow_callback_so_that_calls_never_overlap(uploader, source):
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


def test_an_error_in_a_callback_pauses_the_upload_and_propagates_from_await(uploader, source, kept):
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


def test_a_future_of_another_loop_ends_the_upload_with_an_error(uploader, source, kept):
    """It can't be awaited in this one, so the upload would wait for ever."""
    other = asyncio.new_event_loop()

    async def main():
        with pytest.raises(ValueError, match="loop"):
            await asyncio.wait_for(_wait(uploader.start(source, "key", progress=lambda _: other.create_future())), SOON)

    try:
        run(main())
    finally:
        other.close()
    assert len(kept()) == 1


def test_a_stop_iteration_from_a_callback_becomes_a_runtime_error(uploader, source):
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(_wait(uploader.start(source, "key", progress=lambda _: next(iter(())))), SOON)

    run(main())


async def _wait(task):
    return await task


@pytest.mark.parametrize(("mode", "left"), [("pause", 1), ("cancel", 0)])
def test_a_pending_callback_does_not_delay_a_pause_or_a_cancel(uploader, source, kept, mode, left):
    hanging = Hanging()

    async def main():
        task = uploader.start(source, "key", progress=hanging.report)
        await until(hanging.reached)
        getattr(task, mode)()
        with pytest.raises((UploadPaused,) if mode == "pause" else Exception, match=mode):
            await asyncio.wait_for(_wait(task), SOON)
        assert not hanging.cancelled, "the call continues to run"

    run(main())
    assert hanging.calls == 2, "there are no further calls"
    assert len(kept()) == left


def test_a_callback_that_fails_after_its_upload_has_stopped_is_logged(uploader, source, caplog):
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


# --- awaiting, and stopping to await ---------------------------------------------------------------------------------


def test_cancelling_an_awaiting_task_does_not_stop_the_upload(uploader, source):
    """Only leaving its ``async with`` block early stops the upload."""
    hanging = Hanging()
    go = threading.Event()

    def report(progress):
        hanging.reached.set()
        assert go.wait(SOON)

    async def main():
        task = uploader.start(source, "key", progress=report)
        awaiting = asyncio.create_task(_wait(task))
        await until(hanging.reached)
        awaiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaiting
        assert not task.done()
        go.set()
        return await task

    assert run(main()).size == 45


def test_a_failure_after_awaiting_timed_out_is_not_reported(uploader, source, kept, caplog):
    """Neither as an exception that was never retrieved, nor because the loop is closed by then."""
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
def test_leaving_an_async_with_block_early_pauses_without_blocking_the_loop(uploader, source, backend, kept, ends):
    hanging = Hanging(call=3)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        with pytest.raises(ends):  # noqa: PT012  # the block is left by the raise
            async with uploader.start(source, "key", progress=hanging.report) as task:
                assert isinstance(task, UploadTask)
                await until(hanging.reached)
                before = ticks
                raise ends
        assert task.done()
        assert ticks > before
        ticking.cancel()

    run(main())
    assert backend.keys() == []
    assert len(kept()) == 1
    assert uploader.upload(source, "key").size == 45


def test_leaving_a_plain_with_block_early_does_not_hang(uploader, source, backend, kept):
    """It blocks the loop, so the pending callback can't finish."""
    hanging = Hanging()

    async def main():
        with pytest.raises(LookupError):  # noqa: PT012, SIM117
            with uploader.start(source, "key", progress=hanging.report) as task:
                await until(hanging.reached)
                raise LookupError
        assert task.done()

    run(main())
    assert backend.keys() == []
    assert len(kept()) == 1


def test_a_block_may_be_left_after_the_upload_has_ended(uploader, source):
    async def main():
        async with uploader.start(source, "key") as task:
            result = await task
        assert await task is result

    run(main())


# --- loops that have stopped or are closed ---------------------------------------------------------------------------


def test_a_loop_that_ends_during_an_upload_pauses_it(uploader, source, kept):
    hanging = Hanging()

    async def main():
        task = uploader.start(source, "key", progress=hanging.report)
        await until(hanging.reached)
        return task

    task = run(main())
    with pytest.raises(UploadPaused, match=r"loop has ended.* The same call resumes it") as paused:
        task.result(SOON)
    assert hanging.cancelled
    assert paused.value.resumable
    assert (paused.value.key, paused.value.bytes_total) == ("key", 45)
    assert len(kept()) == 1
    assert uploader.upload(source, "key").size == 45


def test_a_cancelled_callback_pauses_the_upload(uploader, source, kept):
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
        task.result(5)  # it is checked twice a second
    assert len(kept()) == 1


def test_a_loop_that_has_ended_does_not_fail_a_completed_upload(uploader, source, backend):
    """The object is stored, even if the last progress can't be reported."""
    loop = asyncio.new_event_loop()

    async def report(progress): ...

    call = for_event_loop(report, loop)
    result = uploader.upload(source, "key", progress=lambda at: (loop.close(), call(at)) if at.completed else None)

    assert result.size == 45
    assert backend.keys() == ["key"]


def test_the_upload_waits_for_a_stopped_loop_and_can_be_paused(uploader, source, kept):
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


def test_blocking_the_callbacks_loop_by_result_is_an_error(uploader, source, kept):
    async def report(progress): ...

    async def main():
        task = uploader.start(source, "key", progress=report)
        with pytest.raises(InvalidInput, match="Await the task"):
            task.result()

    run(main())
    assert len(kept()) == 1


def test_blocking_the_callbacks_loop_by_upload_is_an_error(uploader, source):
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
        runner.stop_waiting()
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110  # a thread has no awaitable end
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
