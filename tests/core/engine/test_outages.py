"""What is reported and logged of an outage, at any stage of an upload."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from partwise.backends.oss import Callback, OSSOptions
from partwise.errors import CallbackError, ConnectionFailed
from partwise.events import OutageEnded, OutageStarted
from partwise.testing.faults import Fault, FaultKind

SECONDS = 60.0


class OutageBackend:
    """A backend that can't be reached for a minute from the n-th call of one operation on, which may take effect."""

    def __init__(self, backend, clock, operation, occurrence=1, *, takes_effect=False):
        self._backend, self._clock, self._takes_effect = backend, clock, takes_effect
        self._operation, self._left = operation, occurrence
        self._until = None

    def __getattr__(self, name):
        found = getattr(self._backend, name)
        if not callable(found):
            return found

        def call(*arguments):
            if name == self._operation and self._until is None:
                self._left -= 1
                if not self._left:
                    self._until = self._clock.time + SECONDS
                    if self._takes_effect:
                        found(*arguments)
            if self._until is not None and self._clock.time < self._until:
                raise ConnectionFailed("no connection to https://HOST: Connection refused")
            return found(*arguments)

        return call


@pytest.fixture
def interrupted_after(faulty, source):
    """Leaves an upload with this number of parts on the storage."""

    def make(parts):
        with pytest.raises(Exception, match="could not be uploaded"):
            faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=parts + 1)).upload(source, "key")

    return make


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "partwise")

    def read():
        texts = [(record.levelname, record.getMessage().partition("bucket: ")[2]) for record in caplog.records]
        return [(level, text) for level, text in texts if "no connection" in text or "recovered" in text]

    return read


@pytest.fixture
def run_through_outage(uploader, backend, source, clock):
    """Uploads, with an outage that begins at a call, and returns the reports and the result."""

    def run(operation, occurrence=1, *, takes_effect=False, on_event=None, **config):
        seen = []
        failing = OutageBackend(backend, clock, operation, occurrence, takes_effect=takes_effect)
        result = uploader(backend=failing, **config).upload(source, "key", progress=seen.append, on_event=on_event)
        return seen, result

    return run


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    "begins",
    [("initiate_upload",), ("upload_part", 1), ("upload_part", 4), ("complete_upload",), ("put_object",)],
    ids=str,
)
def test_an_outage_is_reported_from_its_third_second_to_its_end(run_through_outage, log, begins, concurrency):
    threshold = 1000 if "put_object" in begins else 0
    seen, result = run_through_outage(*begins, concurrency=concurrency, multipart_threshold=threshold)

    waiting = [report for report in seen if report.waiting]
    assert {report.waiting.reason for report in waiting} == {"no connection to HOST"}
    assert waiting[0].waiting.seconds == pytest.approx(2.0, abs=0.21)
    assert waiting[0].waiting.gives_up_in == pytest.approx(298.0, abs=0.21)
    assert waiting[-1].waiting.seconds == pytest.approx(SECONDS, abs=5)
    gaps = [after.elapsed - before.elapsed for before, after in pairwise(waiting)]
    assert max(gaps) <= 0.41, "each report comes in time, as long as nothing moves"
    assert [report.waiting for report in seen[seen.index(waiting[-1]) + 1 :]].count(None) >= 1
    assert all(before.bytes_done <= after.bytes_done for before, after in pairwise(seen))
    assert all(report.bytes_done < 45 for report in seen[:-1])
    assert seen[-1].retries == result.retries > 5
    warnings = [text for level, text in log() if level == "WARNING"]
    assert warnings == ["retrying: no connection to HOST, giving up in 298 s"]
    assert [text.partition(" after")[0] for level, text in log() if "recovered" in text] == ["recovered"]


def test_an_outage_before_it_is_known_what_is_resumed_is_reported(interrupted_after, run_through_outage, log):
    interrupted_after(3)
    seen, _ = run_through_outage("list_parts")

    waiting = [report for report in seen if report.waiting]
    assert {(report.bytes_done, report.parts_done, report.bytes_total, report.checkpoint) for report in waiting} == {
        (0, 0, 45, None)
    }
    after = seen[len(waiting)]
    assert (after.bytes_done, after.bytes_resumed, after.waiting) == (30, 30, None)
    assert [level for level, text in log() if "retrying in" not in text] == ["WARNING", "INFO"]


def test_an_outage_ends_when_the_object_is_found_that_was_made_before_it(run_through_outage, log):
    events = []
    seen, result = run_through_outage("complete_upload", takes_effect=True, on_event=events.append)

    assert "the response to complete was lost" in result.warnings[0]
    changes = [type(event) for event in events if isinstance(event, OutageStarted | OutageEnded)]
    assert changes == [OutageStarted, OutageEnded]
    assert [text.partition(" after")[0] for level, text in log() if "recovered" in text] == ["recovered"]
    assert (seen[-1].completed, seen[-1].waiting) == (True, None)


@pytest.mark.parametrize(("operation", "threshold"), [("complete_upload", 0), ("put_object", 1000)])
def test_an_outage_ends_when_the_object_is_stored_though_its_callback_fails(  # noqa: PLR0917  # fixtures
    uploader, make_backend, clock, log, operation, threshold
):
    def refuse(stored):
        raise OSError("connection refused")

    events = []
    failing = OutageBackend(make_backend(callback=refuse), clock, operation)
    options = OSSOptions(callback=Callback("http://example.com", "a=b"))
    made = uploader(backend=failing, multipart_threshold=threshold)
    with pytest.raises(CallbackError):
        made.upload(bytes(45), "key", options=options, on_event=events.append)

    changes = [type(event) for event in events if isinstance(event, OutageStarted | OutageEnded)]
    assert changes == [OutageStarted, OutageEnded]
    assert [text.partition(" after")[0] for level, text in log() if "recovered" in text] == ["recovered"]


def test_a_failure_of_a_moment_is_neither_reported_nor_logged_as_an_outage(faulty, source, log):
    seen = []
    result = faulty(Fault("upload_part", FaultKind.BEFORE, part_number=2)).upload(source, "key", progress=seen.append)

    assert [report.waiting for report in seen if report.waiting] == []
    assert result.retries == 1
    assert [text.partition(" in ")[0] for _, text in log()] == ["retrying"]


def test_parts_in_flight_are_reported(uploader, source):
    seen = []
    result = uploader(concurrency=3).upload(source, "key", progress=seen.append)

    assert max(report.parts_in_flight for report in seen) in (2, 3), "one may have just been acknowledged"
    assert result.concurrency_reached == 3
    assert seen[-1].parts_in_flight == 0


def test_a_single_put_is_one_part_in_flight(uploader, source):
    assert uploader(multipart_threshold=1000).upload(source, "key").concurrency_reached == 1
