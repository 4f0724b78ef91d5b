"""Progress never goes back, whatever is cut, sent again, or found to be missing."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from partwise._engine.ledger import Ledger
from partwise._engine.plan import PartPlan
from partwise._engine.reporter import ProgressReporter
from partwise._engine.status import RunStatus
from partwise._engine.throttle import TransferState
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import UploadedPart

SIZE, PARTS = 45, 5


class Clock:
    def __init__(self):
        self.time = 0.0

    def monotonic(self):
        return self.time


numbers = st.integers(1, PARTS)
events = st.lists(
    st.one_of(
        st.tuples(st.just("send"), numbers, st.integers(0, 10)),  # bytes of the part that were sent
        st.tuples(st.just("cut"), numbers),
        st.tuples(st.just("acknowledge"), numbers),
        st.tuples(st.just("adopt"), numbers),
        st.tuples(st.just("reject"), numbers),
        st.tuples(st.just("lose"), st.none()),  # the storage no longer knows the upload
        st.tuples(st.just("end"), st.none()),  # the size of a stream shows
        st.tuples(st.just("fail"), st.none()),
        st.tuples(st.just("recover"), st.none()),
    ),
    max_size=30,
)


@given(st.booleans(), events)
@example(False, [("send", 1, 10), ("cut", 1), ("send", 1, 3), ("acknowledge", 1), ("send", 1, 10), ("acknowledge", 1)])
@example(False, [*(("acknowledge", number) for number in range(1, 6)), ("fail", None), ("lose", None)])
@example(True, [*(("adopt", number) for number in range(1, 6)), ("end", None), ("fail", None), ("recover", None)])
@example(True, [*(("acknowledge", number) for number in range(1, 5)), ("send", 1, 6)])
def test_progress_never_goes_back(is_stream, happening):
    reports, clock, status, transfer = [], Clock(), RunStatus(), TransferState()
    ledger = Ledger(PartPlan(10, None if is_stream else SIZE))
    reporter = ProgressReporter(reports.append, clock, status)
    checkpoint = Checkpoint("memory://bucket", "key", "f", Fingerprint(), 10, upload_id="ID")
    for event, *rest in happening:
        number = rest[0]
        size = 5 if number == PARTS else 10
        match event:
            case "send":
                if ledger.has(number):
                    transfer.cut.add(number)  # another copy was acknowledged, so the scheduler has cut this one
                transfer.set_sent(number, min(size, rest[1]))
            case "cut":
                transfer.remove_part(number)
            case "acknowledge" | "adopt":
                transfer.remove_part(number)
                ledger.add(UploadedPart(number, size, "E"), resumed=event == "adopt")
            case "reject" if ledger.has(number):  # when nothing is in flight any more
                transfer.remove_part(number)
                ledger.remove(number)
            case "lose":
                ledger, transfer = Ledger(ledger.plan), TransferState()
            case "end" if is_stream:
                ledger.plan = PartPlan(10, SIZE)
            case "fail":
                status.failing(clock.time - 2, "no connection to HOST", None)
            case "recover":
                status.recovered(clock.time)
        clock.time += 1
        reporter.emit(ledger, transfer, checkpoint, completed=False)
        if status.reason is not None:
            assert reports[-1].elapsed == clock.time, "each report of an outage is made"
            assert reports[-1].waiting is not None
    stored = Ledger(PartPlan(10, SIZE))
    for number in range(1, PARTS + 1):
        stored.add(UploadedPart(number, 5 if number == PARTS else 10, "E"))
    reporter.emit(stored, TransferState(), checkpoint, completed=True)

    for before, after in pairwise(reports):
        assert before.bytes_done <= after.bytes_done
        assert before.elapsed <= after.elapsed
        assert before.bytes_total in (None, after.bytes_total)
    for report in reports[:-1]:
        assert max(report.bytes_resumed, report.bytes_acknowledged) <= report.bytes_done
        assert report.bytes_total is None or report.bytes_done < report.bytes_total
        assert report.parts_done == len(report.checkpoint.parts)
    assert (reports[-1].bytes_done, reports[-1].fraction, reports[-1].completed) == (SIZE, 1.0, True)


def test_the_end_is_reported_without_an_outage():
    """The object is stored, and what fails since then, such as reading its checksum, is not waited for any more."""
    reports, outages, clock = [], [], Clock()
    status = RunStatus(outages.append)
    reporter = ProgressReporter(reports.append, clock, status)
    status.failing(clock.time, "no connection to HOST", None)
    clock.time += 10
    stored = Ledger(PartPlan(10, 10))
    stored.add(UploadedPart(1, 10, "E"))
    reporter.emit(stored, TransferState(), None, completed=True)

    assert (reports[0].completed, reports[0].waiting, outages) == (True, None, [])
