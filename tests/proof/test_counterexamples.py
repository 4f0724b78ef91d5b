"""
Sequences that once broke a promise, each told as a short story.

They were found by the state machine, by drawing at random over the same worlds, or by reading with these in mind, and
cut down to what matters. `World.live` checks every promise after every life; what a test asserts beyond that is what
makes its story.
"""

from __future__ import annotations

import gc
import io
import random
import weakref
from concurrent.futures import ThreadPoolExecutor

from attrs import evolve

from partwise import (
    Callback,
    CallbackError,
    ObjectOptions,
    SourceChanged,
    StreamSource,
    UploadCancelled,
    Uploader,
    UploadFailed,
)
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.scenario import (
    CallbackBroke,
    Happening,
    Incident,
    Life,
    SimulatedFile,
    SimulatedStream,
)
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

PART = 8
CALLBACK = ObjectOptions(callback=Callback("http://127.0.0.1/told", "object=${object}"))


def sent(lived):
    return [deed.part_number for deed in lived.asked if deed.operation == "upload_part"]


# --- NO-MIX ----------------------------------------------------------------------------------------------------------


def test_receipts_never_follow_a_header_that_speaks_of_another_version(make_world, config):
    """
    A source changed, its matching parts were to be kept, and the record could not be renewed; then it was as before.

    The receipts of the new version stood under the old header, and were taken for the old version's: an object of both,
    whose checksum agreed.
    """
    world = make_world()
    world.live(Life((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    world.change(Happening.REWRITE)
    failing = Fault("save", FaultKind.BEFORE)
    dying = Fault("append_part", FaultKind.CRASH_AFTER)
    world.live(Life((failing, dying), config=config(on_source_change="keep-matching")))
    world.change(Happening.RESTORE)

    assert world.live(Life(config=config())).result is not None


def test_an_upload_that_is_gone_is_compared_by_content_if_that_was_asked_for(make_world, config):
    """The object of a lost answer is of the bytes that were sent, not of those that a forger put in their place."""
    world = make_world()
    world.live(Life((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))
    world.change(Happening.FORGE)

    assert sent(world.live(Life(config=config(verify_source="content")))) == [1, 2, 3, 4]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_empty_on_resuming_is_stored_empty(make_world, config):
    """It was completed with no part, which every storage refuses, and so on for ever."""
    world = make_world(SimulatedStream(pseudo_random_bytes(3 * PART)))
    world.live(Life((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    world.change(Happening.EMPTY)

    assert world.live(Life(config=config())).result is not None


def test_a_stream_can_begin_anew_when_its_upload_is_lost(make_world, config):
    """A storage that can't list parts lets it be known only when the stream has gone by: it is opened again."""
    world = make_world(
        SimulatedStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    world.live(Life((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    world.expire()

    assert world.live(Life(config=config())).result is not None


class GoneByStream(SimulatedStream):
    """A stream that nobody can open again, such as standard input."""

    reopens = False

    def open(self):
        return StreamSource(io.BytesIO(self.version.data), name=self.name)


def test_a_stream_that_can_not_begin_anew_does_so_in_the_next_run(make_world, config):
    """The record of the lost upload stayed, and every later run failed by it."""
    world = make_world(
        GoneByStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    world.live(Life((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    world.expire()

    assert isinstance(world.live(Life(config=config())).error, UploadFailed)
    assert world.live(Life(config=config())).result is not None


def test_a_stream_is_not_read_on_and_on_while_the_storage_fails(make_world, config):
    """Parts that waited for another attempt were no longer counted, and the whole stream ended up in memory."""
    chance = random.Random(0)
    order = tuple(chance.randrange(6) for _ in range(600))
    outage = tuple(Fault("upload_part", FaultKind.BEFORE, occurrence) for occurrence in range(1, 40))
    world = make_world(SimulatedStream(pseudo_random_bytes(50 * PART)))

    lived = world.live(Life(outage, choices=order, config=config(concurrency=2, progress_interval=0.001)))

    assert lived.most_bodies <= 2 + 2


class CountingStream(StreamSource):
    """A stream that knows how many of the bodies that it gave are still in memory."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.bodies = weakref.WeakSet()

    def body(self, offset, size):
        body = super().body(offset, size)
        self.bodies.add(body)
        return body


def test_a_part_that_failed_once_does_not_stay_in_memory(config):
    """The error of the first attempt referred to the part, and to itself, until the garbage collector came by."""
    once = FaultPlan([Fault("upload_part", FaultKind.BEFORE, part_number=number) for number in range(1, 31)])
    backend = FaultyBackend(MemoryBackend(limits=PartLimits(min_part_size=1)), once)
    source = CountingStream(pseudo_random_bytes(30 * PART))
    counted = []

    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(2) as executor:
            uploader = Uploader(backend, MemoryCheckpointStore(), config(concurrency=2, retry_base=0.0), executor)
            uploader.upload(source, "key", progress=lambda _: counted.append(len(source.bodies)))
    finally:
        gc.enable()

    assert 1 <= max(counted) <= 2 + 2


# --- PROGRESS --------------------------------------------------------------------------------------------------------


def test_the_last_bytes_of_a_stream_are_not_told_as_all_while_they_are_in_flight(make_world, config):
    """It was told of while its end was not known, failed, and turned out to have been all of it."""
    world = make_world(SimulatedStream(pseudo_random_bytes(PART)))
    failing = Fault("upload_part", FaultKind.BEFORE)

    assert world.live(Life((failing,), choices=(0, 0, 0, 1, 0, 1), config=config())).reports[-1].progress.completed


def test_the_last_bytes_of_a_stream_that_failed_are_not_told_as_all_once_its_end_is_known(make_world, config):
    """They had been told while they were under way; one of two parts failed, and then the stream ended."""
    world = make_world(SimulatedStream(pseudo_random_bytes(2 * PART)))
    failing = Fault("upload_part", FaultKind.BEFORE, occurrence=2)
    ticking = config(concurrency=2, progress_interval=0.001)

    lived = world.live(Life((failing,), choices=(1, 0, 1, 1, 0, 0, 0, 0, 1), config=ticking))

    assert [told.progress.completed for told in lived.reports if told.progress.fraction == 1.0] == [True]


def test_an_object_in_one_piece_is_told_once(make_world, config):
    """Its bytes were counted as acknowledged and as still moving."""
    world = make_world()

    told = world.live(Life(config=config(multipart_threshold=100))).reports[-1].progress

    assert (told.bytes_done, told.bytes_total) == (3 * PART + 5, 3 * PART + 5)


def test_a_callback_that_raises_at_the_very_end_comes_out_as_it_is(make_world, config):
    """Even when the upload callback has failed, too."""
    world = make_world()
    world.backend.callback_works = False
    raising = Incident("progress", Happening.RAISE, occurrence=5)

    lived = world.live(Life(incidents=(raising,), config=config(), options=CALLBACK))

    assert isinstance(lived.error, CallbackBroke)
    assert isinstance(lived.error.__context__, Exception)


# --- endings that are disturbed --------------------------------------------------------------------------------------


def test_a_cancel_that_comes_when_the_object_is_stored_comes_too_late(make_world, config):
    """An old upload could not be aborted at once, and the wait for the next attempt was taken for a place to stop."""
    world = make_world()
    world.live(Life((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    world.change(Happening.TOUCH)
    world.live(
        Life((Fault("abort_upload", FaultKind.PERMANENT), Fault("append_part", FaultKind.CRASH_AFTER)), config=config())
    )
    late = Incident("abort_upload", Happening.CANCEL)

    lived = world.live(Life((Fault("abort_upload", FaultKind.BEFORE),), (late,), config=config()))

    assert lived.result is not None


def test_a_pause_does_not_disturb_the_dropping_of_what_is_useless(make_world, config):
    """What is for nobody to see came out: the wish itself."""
    world = make_world()
    pause = Incident("abort_upload", Happening.PAUSE)
    changed = Incident("append_part", Happening.TOUCH)

    lived = world.live(Life((Fault("abort_upload", FaultKind.BEFORE),), (changed, pause), config=config()))

    assert isinstance(lived.error, SourceChanged)


def test_a_ctrl_c_while_the_last_parts_are_waited_for_leaves_none_of_them_running(make_world, config):
    """The callback raised, the part under way was being waited for, and the wait was given up."""
    world = make_world(SimulatedStream(pseudo_random_bytes(3 * PART)))
    raising = Incident("progress", Happening.RAISE, occurrence=3)
    pressed = Incident("read", Happening.INTERRUPT)

    lived = world.live(Life(incidents=(raising, pressed), choices=(5, 2, 3), config=config()))

    assert isinstance(lived.error, KeyboardInterrupt)
    assert isinstance(lived.error.__context__.__cause__, CallbackBroke)
    assert lived.transports[-1].under_way == 0


def test_what_the_callback_raises_after_a_ctrl_c_is_not_swallowed(make_world, config):
    """Ctrl-C was pressed while one part was sent; the other one arrived, and the callback raised when it did."""
    world = make_world(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = Incident("progress", Happening.RAISE, occurrence=2)
    pressed = Incident("upload_part", Happening.INTERRUPT)

    lived = world.live(Life(incidents=(raising, pressed), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(lived.error, KeyboardInterrupt)
    assert isinstance(lived.error.__context__.__cause__, CallbackBroke)


def test_what_the_callback_raises_after_a_pause_is_not_swallowed(make_world, config):
    world = make_world(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = Incident("progress", Happening.RAISE, occurrence=2)
    paused = Incident("upload_part", Happening.PAUSE, occurrence=2)

    lived = world.live(Life(incidents=(raising, paused), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(lived.error, CallbackBroke)


def test_a_cancel_that_fails_to_abort_keeps_the_record_for_the_next_one(make_world, config):
    world = make_world()
    cancel = Incident("append_part", Happening.CANCEL)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    first = world.live(Life((refused,), (cancel,), config=config()))
    again = world.live(Life(incidents=(Incident("list_parts", Happening.CANCEL),), config=config()))

    assert isinstance(first.error, UploadCancelled)
    assert isinstance(again.error, UploadCancelled)
    assert not world.history.pending()


# --- CLEAN: what can't be cleaned up is told -------------------------------------------------------------------------


def test_an_upload_left_behind_is_told_with_the_callers_own_error(make_world, config):
    world = make_world()
    raising = Incident("progress", Happening.RAISE, occurrence=2)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    lived = world.live(Life((refused,), (raising,), config=config(), resume="never"))

    [left] = world.history.pending()
    assert isinstance(lived.error, CallbackBroke)
    assert left in "".join(lived.error.__notes__)


def test_an_upload_left_behind_by_a_stream_without_a_name_is_told(make_world, config):
    """The message promised that the next run would abort it, which could not know of it."""
    world = make_world(SimulatedStream(pseudo_random_bytes(3 * PART), name=""))
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    lived = world.live(Life((Fault("read", FaultKind.HALFWAY), refused), config=config()))

    [left] = world.history.pending()
    assert "the next run will do it" not in str(lived.error)
    assert left in "".join(lived.error.__notes__)


def test_a_part_of_an_upload_that_was_begun_anew_has_not_arrived_because_the_lost_one_had_it(make_world, config):
    """The witness took the answer of the first upload for one of the second, whose own was refused by its checksum."""
    world = make_world()
    lost = Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, occurrence=2)
    wrong = Fault("upload_part", FaultKind.WRONG_CHECKSUM, occurrence=3)

    lived = world.live(Life((lost, wrong), config=config(max_attempts=1)))

    assert sent(lived) == [1, 2, 1]
    assert isinstance(lived.error, UploadFailed)


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_storage_that_throttles_complete_is_left_alone(make_world, config):
    """It was asked at once what had become of the object."""
    world = make_world()

    lived = world.live(Life((Fault("complete_upload", FaultKind.THROTTLED, seconds=7.0),), config=config()))

    first, look = [deed for deed in lived.asked if deed.operation in {"complete_upload", "head_object"}][:2]
    assert look.began >= first.ended + 7.0


def test_an_object_that_must_not_be_overwritten_is_known_again_after_a_wrong_answer(make_world, config):
    world = make_world(SimulatedFile(pseudo_random_bytes(PART)))
    once = ObjectOptions(forbid_overwrite=True)

    lived = world.live(
        Life((Fault("put_object", FaultKind.WRONG_CHECKSUM),), config=config(multipart_threshold=100), options=once)
    )

    assert lived.result is not None


def test_a_failed_callback_is_told_after_a_lost_first_answer_too(make_world, config):
    world = make_world()
    world.backend.callback_works = False

    lived = world.live(Life((Fault("complete_upload", FaultKind.BEFORE),), config=config(), options=CALLBACK))

    assert isinstance(lived.error, CallbackError)


def test_a_storage_that_throttles_one_part_is_left_alone_by_all_others(make_world, config):
    world = make_world(SimulatedFile(pseudo_random_bytes(6 * PART)))
    throttled = Fault("upload_part", FaultKind.THROTTLED, 2, seconds=100.0)

    lived = world.live(Life((throttled,), choices=(0, 1) * 10, config=config(concurrency=2)))

    [refused] = [deed for deed in lived.asked if deed.error is not None]
    begun = [deed.began for deed in lived.asked[lived.asked.index(refused) + 2 :]]
    assert min(begun) >= refused.ended + 100.0


def test_a_part_that_did_not_arrive_as_it_was_sent_is_sent_again(make_world, config):
    lived = make_world().live(Life((Fault("upload_part", FaultKind.WRONG_CHECKSUM, 2),), config=config()))

    assert [deed.part_number for deed in lived.asked if deed.operation == "upload_part"] == [1, 2, 2, 3, 4]


def test_a_file_that_was_replaced_may_become_the_object_though_more_was_planned_for_it(make_world, config):
    """What did not happen to the source, since nothing asked for a list, does not count as a change of it."""
    replaced = Incident("initiate_upload", Happening.REPLACE)
    never = Incident("list_parts", Happening.GROW)

    lived = make_world(SimulatedFile(pseudo_random_bytes(3 * PART))).live(
        Life(incidents=(replaced, never), config=config())
    )

    assert lived.occurred == (replaced,)
    assert lived.result is not None


def test_a_storage_that_drops_every_upload_twice_may_fail_the_run(make_world, config):
    """One clean new start is granted, and no second one."""
    dropped = tuple(Incident("upload_part", Happening.EXPIRY, occurrence) for occurrence in (1, 2))

    lived = make_world().live(Life(incidents=dropped, config=config(concurrency=2)))

    assert lived.occurred == dropped
    assert isinstance(lived.error, UploadFailed)
    assert "the storage lost the upload twice in a row" in str(lived.error)
