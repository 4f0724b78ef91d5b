"""Progress arrives in the shapes that programs have already."""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from fsspec.callbacks import Callback, TqdmCallback
from rich.console import Console
from rich.progress import DownloadColumn, TaskProgressColumn
from rich.progress import Progress as RichDisplay
from tqdm import tqdm

from partwise import Checkpoint, InvalidInput, PartLimits, Progress, TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.progress import (
    for_ali_oss,
    for_android,
    for_boto3,
    for_fsspec,
    for_ios,
    for_oss2,
    for_rich,
    for_tqdm,
)
from partwise.stores.memory import MemoryCheckpointStore

PART = 100 * 1024
SOURCE = bytes(range(256)) * 1600  # four parts
CONFIG = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1)


def new_uploader():
    return Uploader(MemoryBackend(), store=MemoryCheckpointStore(), config=CONFIG)


def upload(progress):
    new_uploader().upload(SOURCE, "key", progress=progress)


def test_a_report_can_be_sent_to_another_process():
    reports = []
    upload(lambda progress: reports.append((progress, pickle.dumps(progress), progress.checkpoint)))

    copies = [pickle.loads(data) for _, data, _ in reports]
    assert copies == [progress for progress, _, _ in reports]
    assert [copied.checkpoint for copied in copies] == [checkpoint for _, _, checkpoint in reports]
    assert copies[-2].checkpoint.parts


def test_for_boto3_the_amounts_add_up_to_the_size():
    amounts = []
    upload(for_boto3(amounts.append))
    assert sum(amounts) == len(SOURCE)
    assert min(amounts) > 0


def test_for_boto3_what_was_resumed_comes_first():
    amounts = []
    report = for_boto3(amounts.append)
    report(Progress(300, 400, bytes_resumed=300))
    report(Progress(400, 400, bytes_resumed=300))
    assert amounts == [300, 100]


def test_for_oss2_consumed_and_total_end_alike():
    calls = []
    upload(for_oss2(lambda consumed, total: calls.append((consumed, total))))
    assert calls[-1] == (len(SOURCE), len(SOURCE))


def test_for_oss2_the_total_of_a_stream_is_none_until_its_end():
    totals = []
    Uploader(MemoryBackend(), store=MemoryCheckpointStore(), config=CONFIG).upload(
        io.BytesIO(SOURCE), "key", progress=for_oss2(lambda consumed, total: totals.append(total))
    )
    assert totals[0] is None
    assert totals[-1] == len(SOURCE)


def test_for_ali_oss_one_means_completed_and_the_checkpoint_is_data():
    calls = []
    upload(for_ali_oss(lambda fraction, checkpoint: calls.append((fraction, checkpoint))))
    fractions = [fraction for fraction, _ in calls]
    assert fractions[-1] == 1.0
    assert all(fraction < 1.0 for fraction in fractions[:-1])
    assert Checkpoint.from_data(calls[-2][1]).key == "key"
    assert calls[-1][1] is None


def test_for_android_and_ios_say_minus_one_for_a_size_that_is_not_known():
    android, ios = [], []
    for_android(lambda *call: android.append(call))(Progress(5, None))
    for_ios(lambda *call: ios.append(call))(Progress(5, None))
    assert android == [(5, -1)]
    assert ios == [(5, 5, -1)]


def test_for_ios_amount_sum_and_size():
    calls = []
    upload(for_ios(lambda *call: calls.append(call)))
    assert sum(amount for amount, _, _ in calls) == len(SOURCE)
    assert calls[-1][1:] == (len(SOURCE), len(SOURCE))


def test_for_tqdm_the_bar_gets_its_total_and_its_place():
    screen = io.StringIO()
    with tqdm(unit="B", unit_scale=True, file=screen, mininterval=0) as bar:
        upload(for_tqdm(bar))

        assert (bar.total, bar.n) == (len(SOURCE), len(SOURCE))
    assert "0%|" in screen.getvalue()
    assert "100%|" in screen.getvalue()
    assert "410k/410k" in screen.getvalue()


def test_for_tqdm_the_bar_of_a_stream_has_a_total_at_its_end():
    with tqdm(unit="B", file=io.StringIO()) as bar:
        seen = []
        report = for_tqdm(bar)
        Uploader(MemoryBackend(), store=MemoryCheckpointStore(), config=CONFIG).upload(
            io.BytesIO(SOURCE), "key", progress=lambda progress: seen.append((report(progress), bar.total))
        )

    assert seen[0] == (None, None)
    assert seen[-1] == (None, len(SOURCE))


def test_for_rich_the_task_is_finished_at_the_end():
    screen = io.StringIO()
    with RichDisplay(TaskProgressColumn(), DownloadColumn(), console=Console(file=screen, width=80)) as display:
        task = display.add_task("upload", total=None)
        upload(for_rich(display, task))

        assert display.finished
    assert "100% 409.6/409.6 kB" in screen.getvalue()


def test_for_rich_the_task_of_a_stream_has_a_total_at_its_end():
    display = RichDisplay()
    task = display.add_task("upload", total=None)
    seen = []
    report = for_rich(display, task)
    Uploader(MemoryBackend(), store=MemoryCheckpointStore(), config=CONFIG).upload(
        io.BytesIO(SOURCE), "key", progress=lambda progress: seen.append((report(progress), display.tasks[0].total))
    )

    assert seen[0] == (None, None)
    assert seen[-1] == (None, len(SOURCE))


def test_calls_come_one_at_a_time_for_any_number_of_parts_in_flight():
    """From one thread, so that a callback needs no lock."""
    inside, threads, amounts = threading.Lock(), set(), []

    def report(progress):
        assert inside.acquire(blocking=False), "two calls at once"
        threads.add(threading.current_thread())
        amounts.append(progress.bytes_done)
        time.sleep(0.002)
        inside.release()

    config = TransferConfig(part_size=PART // 4, multipart_threshold=0, concurrency=4, progress_interval=0.001)
    Uploader(MemoryBackend(limits=PartLimits()), store=MemoryCheckpointStore(), config=config).upload(
        SOURCE, "key", progress=report
    )

    assert threads == {threading.current_thread()}
    assert amounts == sorted(amounts)
    assert len(amounts) > 16, "one for each part, at least"


def test_a_coroutine_function_is_run_by_the_event_loop_one_call_at_a_time():
    calls, running = [], 0

    async def report(progress):
        nonlocal running
        running += 1
        assert running == 1, "two calls at once"
        await asyncio.sleep(0)
        calls.append(progress.bytes_done)
        running -= 1

    async def main():
        task = new_uploader().start(SOURCE, "key", progress=report)
        return await task

    result = asyncio.run(main())
    assert calls == sorted(calls)
    assert calls[-1] == result.size == len(SOURCE)


def test_what_a_coroutine_function_raises_stops_the_upload_and_propagates():
    async def report(progress):
        raise LookupError("enough")

    async def main():
        await new_uploader().start(SOURCE, "key", progress=report)

    with pytest.raises(LookupError, match="enough"):
        asyncio.run(main())


def test_a_coroutine_function_without_an_event_loop_is_refused():
    async def report(progress): ...

    uploader = Uploader(MemoryBackend(), store=MemoryCheckpointStore(), config=CONFIG)
    with pytest.raises(InvalidInput, match="event loop"):
        uploader.start(SOURCE, "key", progress=report)
    with pytest.raises(InvalidInput, match="event loop"):
        uploader.upload(SOURCE, "key", progress=report)


class Bar:
    """As tqdm has them, with what was shown."""

    def __init__(self):
        self.total, self.n, self.shown = 7, 0, []

    def refresh(self):
        self.shown.append((self.n, self.total))

    def close(self):
        self.shown.append("closed")


def test_a_bar_of_tqdm_is_refreshed_and_keeps_its_total_until_it_is_known():
    bar = Bar()
    report = for_tqdm(bar)
    report(Progress(3, None))
    report(Progress(5, 9))
    assert bar.shown == [(3, 7), (5, 9)]


def test_a_bar_of_tqdm_is_closed_once_the_object_is_stored():
    bar = Bar()
    report = for_tqdm(bar)
    report(Progress(9, 9))
    report(Progress(9, 9, completed=True))
    assert bar.shown == [(9, 9), (9, 9), "closed"]


def test_the_rate_of_a_bar_of_tqdm_does_not_count_what_an_earlier_run_sent():
    with tqdm(unit="B", file=io.StringIO()) as bar:
        for_tqdm(bar)(Progress(300, 400, bytes_resumed=250))

        assert (bar.n - bar.initial, bar.total) == (50, 400)


def test_for_tqdm_without_a_bar_one_is_created_by_the_first_report(monkeypatch):
    bars = []

    def create(**settings):
        bars.append(Bar())
        return bars[-1]

    monkeypatch.setattr("tqdm.auto.tqdm", create)
    report = for_tqdm()
    assert bars == []
    upload(report)
    [bar] = bars
    assert bar.shown[-2:] == [(len(SOURCE), len(SOURCE)), "closed"]


def test_for_tqdm_the_bar_that_is_created_counts_bytes(capsys):
    upload(for_tqdm())
    assert "400k/400k" in capsys.readouterr().err


class Recorded(Callback):
    """A callback of fsspec with its calls."""

    def __init__(self):
        super().__init__(hooks={"seen": lambda size, value: self.calls.append((size, value))})
        self.calls = []

    def close(self):
        self.calls.append("closed")


def test_for_fsspec_the_value_ends_at_the_size_and_the_callback_is_closed():
    callback = Recorded()
    upload(for_fsspec(callback))
    assert callback.calls[0] == (len(SOURCE), 0)
    assert callback.calls[-2:] == [(len(SOURCE), len(SOURCE)), "closed"]


def test_for_fsspec_the_value_grows_by_what_is_new_and_includes_what_was_resumed():
    callback = Recorded()
    report = for_fsspec(callback)
    for done in (300, 300, 350):
        report(Progress(done, 400, bytes_resumed=300))
    assert callback.calls == [(400, 0), (400, 300), (400, 350)]


def test_for_fsspec_the_size_of_a_stream_is_set_at_its_end():
    callback = Recorded()
    new_uploader().upload(io.BytesIO(SOURCE), "key", progress=for_fsspec(callback))
    sizes = [call[0] for call in callback.calls if call != "closed"]
    assert sizes[0] is None
    assert sizes[-1] == len(SOURCE)
    assert sizes.count(len(SOURCE)) < len(sizes)


def test_for_fsspec_an_empty_object_has_a_size_too():
    callback = Recorded()
    new_uploader().upload(b"", "key", progress=for_fsspec(callback))
    assert callback.calls == [(0, 0), "closed"]


def test_for_fsspec_a_callback_that_only_counts_increments_is_enough():
    amounts = []
    upload(for_fsspec(SimpleNamespace(set_size=lambda size: None, relative_update=amounts.append, close=lambda: None)))
    assert sum(amounts) == len(SOURCE)
    assert min(amounts) > 0


def test_for_fsspec_a_bar_of_tqdm_is_complete():
    screen = io.StringIO()
    upload(for_fsspec(TqdmCallback({"file": screen, "mininterval": 0, "unit": "B"})))
    assert "100%|" in screen.getvalue()
