"""How fast bytes may go, how far they are, and when they must stop."""

from __future__ import annotations

import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.throttle import BandwidthLimit, ThrottledBody, TransferState, TransferStopped
from partwise.checksums import crc64
from partwise.protocols import Body
from partwise.sources import BytesBody
from partwise.testing.fakes import ChunkListBody, pseudo_random_bytes

NEVER = threading.Event()


class Ticking:
    """A clock of which the test owns the hand."""

    def __init__(self, time=0.0):
        self.time = time

    def monotonic(self):
        return self.time

    def now(self):
        return self.time

    def wait(self, event, seconds):
        self.time += seconds
        return event.is_set()


def sent(body):
    return b"".join(bytes(chunk) for chunk in body.chunks())


# --- the limit -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_bytes_go_no_faster_than_the_limit(rate, counts):
    """Whatever was let go at an instant had its time before: all but the last piece, which takes its own."""
    clock = Ticking()
    limit = BandwidthLimit(rate, clock)
    for count in counts:
        limit.acquire(count, NEVER)

    assert clock.time == pytest.approx(sum(counts[:-1]) / rate)


def test_the_first_piece_goes_at_once(clock):
    BandwidthLimit(100, clock).acquire(1000, NEVER)

    assert clock.waits == []


def test_workers_share_the_limit():
    """Each has its own clock hand here, as if both asked at the same instant."""
    first, second = Ticking(), Ticking()
    limit = BandwidthLimit(100, first)
    limit.acquire(50, NEVER)
    limit._clock = second
    limit.acquire(50, NEVER)

    assert (first.time, second.time) == (0.0, 0.5)


def test_bytes_that_were_not_sent_can_not_be_made_up_for():
    clock = Ticking()
    limit = BandwidthLimit(100, clock)
    clock.time = 1000.0
    for _ in range(3):
        limit.acquire(100, NEVER)

    assert clock.time == 1002.0


def test_after_an_idle_time_the_limit_holds_as_before():
    """Neither what was booked before it nor the time that went by unused lets more bytes go."""
    clock = Ticking()
    limit = BandwidthLimit(100, clock)
    for idle in (0.0, 50.0, 1000.0):
        clock.time += idle
        began = clock.time
        for _ in range(3):
            limit.acquire(100, NEVER)
        assert clock.time - began == 2.0
        clock.time += 1.0  # the last piece takes its own time


def test_time_that_was_not_enough_for_the_last_piece_is_no_idle_time():
    clock = Ticking()
    limit = BandwidthLimit(100, clock)
    limit.acquire(100, NEVER)
    clock.time = 0.75
    limit.acquire(100, NEVER)

    assert clock.time == 1.0


def test_workers_take_their_turns_one_after_the_other():
    """No two of them see the same time as free."""
    waits, second_is_done = [], []

    class Slow(Ticking):
        """While one worker looks at it, another one comes."""

        def monotonic(self):
            if threading.current_thread() is threading.main_thread():
                second.start()
                second.join(0.05)
                second_is_done.append(not second.is_alive())
            return 0.0

        def wait(self, event, seconds):
            waits.append(seconds)

    limit = BandwidthLimit(100, Slow())
    second = threading.Thread(target=limit.acquire, args=(100, NEVER))
    limit.acquire(100, NEVER)
    second.join()

    assert second_is_done == [False]
    assert waits == [1.0]


def test_the_wait_is_one_for_the_end_of_the_upload():
    """So that whoever waits for his turn does not keep an upload that is ending."""
    waits = []

    class Noting(Ticking):
        def wait(self, event, seconds):
            waits.append((event, seconds))

    limit = BandwidthLimit(2, Noting())
    limit.acquire(10, NEVER)
    limit.acquire(10, NEVER)

    assert waits == [(NEVER, 5.0)]


@pytest.mark.parametrize(("rate", "size"), [(1, 4096), (8 * 4096, 4096), (8 * 4096 + 8, 4097), (8_000_000, 1_000_000)])
def test_a_piece_is_an_eighth_of_a_second_but_not_tiny(rate, size):
    assert BandwidthLimit(rate, Ticking()).piece_size == size


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_paced_body_is_a_body():
    assert isinstance(TransferState().throttled(1, BytesBody(b"abc")), Body)


def test_without_a_limit_pieces_pass_as_they_are():
    body = TransferState().throttled(1, ChunkListBody(memoryview(b"abc"), memoryview(b"de")))

    assert [bytes(chunk) for chunk in body.chunks()] == [b"abc", b"de"]


def test_length_and_checksum_are_the_bodys():
    body = TransferState().throttled(1, BytesBody(b"abc"))

    assert (len(body), body.crc64) == (3, None)
    assert sent(body) == b"abc"
    assert body.crc64 == crc64(b"abc")


def test_with_a_limit_bytes_go_in_small_pieces():
    data = pseudo_random_bytes(10_000)
    clock = Ticking()
    body = TransferState(BandwidthLimit(10_000, clock)).throttled(1, BytesBody(data))
    pieces = [bytes(chunk) for chunk in body.chunks()]

    assert [len(piece) for piece in pieces] == [4096, 4096, 1808]
    assert b"".join(pieces) == data
    assert clock.time == pytest.approx(0.8192)


def test_how_far_a_part_is_shows():
    flow = TransferState()
    body = flow.throttled(7, ChunkListBody(memoryview(b"abc"), memoryview(b"de")))
    seen = [flow.sent(7) for _ in body.chunks()]

    assert seen == [0, 3]
    assert flow.sent(7) == 5


def test_how_far_a_part_is_starts_anew_with_each_attempt():
    flow = TransferState()
    body = flow.throttled(7, BytesBody(b"abcde"))
    sent(body)
    next(body.chunks())

    assert flow.sent(7) == 0


def test_all_parts_under_way_count():
    flow = TransferState()
    sent(flow.throttled(1, BytesBody(b"abc")))
    sent(flow.throttled(2, BytesBody(b"de")))

    assert flow.in_flight_bytes() == 5
    assert flow.remove_part(1) == 3
    assert flow.in_flight_bytes() == 2
    assert flow.sent(1) == 0
    assert flow.remove_part(1) == 0


def test_a_part_that_begins_while_the_others_are_counted_does_no_harm():
    """Played by a count that notes another part just as it is added up."""
    flow = TransferState()

    class Counted(int):
        def __radd__(self, other):
            flow.set_sent(2, 5)
            return other + int(self)

    flow.set_sent(1, Counted(3))

    assert flow.in_flight_bytes() == 3
    assert flow.in_flight_bytes() == 8


def test_a_stop_ends_every_body_at_its_next_piece():
    flow = TransferState()
    chunks = flow.throttled(1, ChunkListBody(memoryview(b"abc"), memoryview(b"de"))).chunks()
    next(chunks)
    flow.stop.set()

    with pytest.raises(TransferStopped):
        next(chunks)


def test_a_stop_ends_a_body_that_was_not_begun():
    flow = TransferState()
    flow.stop.set()

    with pytest.raises(TransferStopped):
        sent(flow.throttled(1, BytesBody(b"abc")))


# --- in another process ----------------------------------------------------------------------------------------------


def test_without_a_limit_the_body_itself_arrives():
    arrived = pickle.loads(pickle.dumps(TransferState().throttled(3, BytesBody(b"abc"))))

    assert type(arrived) is BytesBody
    assert sent(arrived) == b"abc"


def test_with_a_limit_a_share_of_it_arrives():
    body = TransferState(BandwidthLimit(1000, Ticking()), shares=4).throttled(3, BytesBody(b"abc"))
    arrived = pickle.loads(pickle.dumps(body))

    assert type(arrived) is ThrottledBody
    assert arrived._flow.limit.rate == 250
    assert sent(arrived) == b"abc"
    assert arrived.crc64 == crc64(b"abc")


def test_the_whole_limit_arrives_where_it_is_not_shared():
    arrived = pickle.loads(pickle.dumps(TransferState(BandwidthLimit(1000, Ticking())).throttled(3, BytesBody(b"abc"))))

    assert arrived._flow.limit.rate == 1000


def test_a_share_may_be_no_whole_number_of_bytes():
    arrived = pickle.loads(
        pickle.dumps(TransferState(BandwidthLimit(100_001, Ticking()), shares=2).throttled(3, BytesBody(b"abc")))
    )

    assert arrived._flow.limit.rate == 50_000.5
    assert arrived._flow.limit.piece_size == 6250
    assert sent(arrived) == b"abc"
