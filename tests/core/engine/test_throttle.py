"""The bandwidth limit, the count of bytes in flight, and the stop of an upload's bodies."""

from __future__ import annotations

import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.throttle import BandwidthLimit, ThrottledBody, TransferState, TransferStopped
from partwise.bodies import ChecksummedBody
from partwise.checksums import CRC32C, crc64
from partwise.model import KIB, MIB
from partwise.protocols import Body
from partwise.sources import BytesBody
from partwise.testing.fakes import ChunkListBody, pseudo_random_bytes

NEVER = threading.Event()


class ManualClock:
    """A clock that the test sets, and that waits advance."""

    def __init__(self, time=0.0):
        self.time = time

    def monotonic(self):
        return self.time

    def now(self):
        return self.time

    def wait(self, event, seconds):
        self.time += seconds
        return event.is_set()


def read(body):
    return b"".join(bytes(chunk) for chunk in body.chunks())


# --- the limit -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_bytes_are_sent_no_faster_than_the_limit(rate, counts):
    """All but the last chunk have taken their time when the last one is released."""
    clock = ManualClock()
    limit = BandwidthLimit(rate, clock)
    for count in counts:
        limit.acquire(count, NEVER)

    assert clock.time == pytest.approx(sum(counts[:-1]) / rate)


def test_the_first_chunk_is_released_at_once(clock):
    BandwidthLimit(100, clock).acquire(1000, NEVER)

    assert clock.waits == []


def test_workers_share_the_limit():
    """Each has its own clock here, as if both acquired at the same moment."""
    first, second = ManualClock(), ManualClock()
    limit = BandwidthLimit(100, first)
    limit.acquire(50, NEVER)
    limit._clock = second
    limit.acquire(50, NEVER)

    assert (first.time, second.time) == (0.0, 0.5)


def test_unused_bandwidth_is_not_saved_up():
    clock = ManualClock()
    limit = BandwidthLimit(100, clock)
    clock.time = 1000.0
    for _ in range(3):
        limit.acquire(100, NEVER)

    assert clock.time == 1002.0


def test_the_limit_holds_after_idle_time():
    """Neither earlier reservations nor the idle time itself release more bytes."""
    clock = ManualClock()
    limit = BandwidthLimit(100, clock)
    for idle in (0.0, 50.0, 1000.0):
        clock.time += idle
        started = clock.time
        for _ in range(3):
            limit.acquire(100, NEVER)
        assert clock.time - started == 2.0
        clock.time += 1.0  # the last chunk takes its time


def test_the_rest_of_a_reservation_is_not_idle_time():
    clock = ManualClock()
    limit = BandwidthLimit(100, clock)
    limit.acquire(100, NEVER)
    clock.time = 0.75
    limit.acquire(100, NEVER)

    assert clock.time == 1.0


def test_two_workers_never_reserve_the_same_time():
    """One of them arrives while the other one reads the clock."""
    waits, second_is_done = [], []

    class SlowClock(ManualClock):
        """Another worker arrives while this clock is read."""

        def monotonic(self):
            if threading.current_thread() is threading.main_thread():
                second.start()
                second.join(0.05)
                second_is_done.append(not second.is_alive())
            return 0.0

        def wait(self, event, seconds):
            waits.append(seconds)

    limit = BandwidthLimit(100, SlowClock())
    second = threading.Thread(target=limit.acquire, args=(100, NEVER))
    limit.acquire(100, NEVER)
    second.join()

    assert second_is_done == [False]
    assert waits == [1.0]


def test_a_wait_for_bandwidth_ends_when_the_upload_stops():
    waits = []

    class RecordingClock(ManualClock):
        def wait(self, event, seconds):
            waits.append((event, seconds))

    limit = BandwidthLimit(2, RecordingClock())
    limit.acquire(10, NEVER)
    limit.acquire(10, NEVER)

    assert waits == [(NEVER, 5.0)]


@pytest.mark.parametrize(("rate", "size"), [(1, 4096), (8 * 4096, 4096), (8 * 4096 + 8, 4097), (8_000_000, 1_000_000)])
def test_a_chunk_is_an_eighth_of_a_second_but_at_least_4_kib(rate, size):
    assert BandwidthLimit(rate, ManualClock()).chunk_size == size


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_throttled_body_is_a_body():
    assert isinstance(ThrottledBody(BytesBody(b"abc"), 1, TransferState()), Body)


def test_without_a_limit_chunks_are_not_split():
    body = ThrottledBody(ChunkListBody(memoryview(b"abc"), memoryview(b"de")), 1, TransferState())

    assert [bytes(chunk) for chunk in body.chunks()] == [b"abc", b"de"]


def send(body, clock, rate):
    """Read a body as a line of this many bytes per second does, and return the sizes of its chunks."""
    sizes = []
    for chunk in body.chunks():
        sizes.append(len(chunk))
        clock.time += len(chunk) / rate
    return sizes


def test_once_a_chunk_takes_long_the_next_ones_are_small():
    """What moves is counted by the chunk: in chunks of 1 MiB, a slow line looks like one that does not move."""
    clock = ManualClock()
    state = TransferState(monotonic=clock.monotonic)
    body = ThrottledBody(BytesBody(bytes(3 * MIB)), 1, state)

    assert send(body, clock, 1_000_000) == [MIB] + [64 * KIB] * 32


def test_on_a_slow_line_the_first_chunks_of_the_next_part_are_small_until_a_part_was_fast():
    clock = ManualClock()
    state = TransferState(monotonic=clock.monotonic)
    for rate, sizes in [
        (1_000_000, [MIB, *[64 * KIB] * 16]),
        (1_000_000, [64 * KIB] * 32),
        (100_000_000, [64 * KIB] * 32),
        (100_000_000, [MIB, MIB]),
    ]:
        assert send(ThrottledBody(BytesBody(bytes(2 * MIB)), 1, state), clock, rate) == sizes


def test_on_a_fast_line_chunks_are_not_split():
    clock = ManualClock()
    body = ThrottledBody(BytesBody(bytes(3 * MIB)), 1, TransferState(monotonic=clock.monotonic))

    assert send(body, clock, 25_000_000) == [MIB, MIB, MIB]


def test_length_and_checksum_are_those_of_the_wrapped_body():
    body = ThrottledBody(BytesBody(b"abc"), 1, TransferState())

    assert (len(body), body.checksum) == (3, None)
    assert read(body) == b"abc"
    assert body.checksum == crc64(b"abc")


def test_with_a_limit_chunks_are_small():
    data = pseudo_random_bytes(10_000)
    clock = ManualClock()
    body = ThrottledBody(BytesBody(data), 1, TransferState(BandwidthLimit(10_000, clock)))
    chunks = [bytes(chunk) for chunk in body.chunks()]

    assert [len(chunk) for chunk in chunks] == [4096, 4096, 1808]
    assert b"".join(chunks) == data
    assert clock.time == pytest.approx(0.8192)


def test_the_bytes_sent_of_a_part_are_counted():
    state = TransferState()
    body = ThrottledBody(ChunkListBody(memoryview(b"abc"), memoryview(b"de")), 7, state)
    seen = [state.sent(7) for _ in body.chunks()]

    assert seen == [0, 3]
    assert state.sent(7) == 5


def test_each_attempt_counts_from_zero():
    state = TransferState()
    body = ThrottledBody(BytesBody(b"abcde"), 7, state)
    read(body)
    next(body.chunks())

    assert state.sent(7) == 0


def test_the_bytes_in_flight_are_those_of_all_parts():
    state = TransferState()
    read(ThrottledBody(BytesBody(b"abc"), 1, state))
    read(ThrottledBody(BytesBody(b"de"), 2, state))

    assert state.in_flight_bytes() == 5
    assert state.remove_part(1) == 3
    assert state.in_flight_bytes() == 2
    assert state.sent(1) == 0
    assert state.remove_part(1) == 0


def test_a_part_may_start_while_the_bytes_in_flight_are_summed():
    """Simulated by a count that adds another part while it is summed."""
    state = TransferState()

    class Counted(int):
        def __radd__(self, other):
            state.set_sent(2, 5)
            return other + int(self)

    state.set_sent(1, Counted(3))

    assert state.in_flight_bytes() == 3
    assert state.in_flight_bytes() == 8


def test_a_stop_ends_every_body_at_its_next_chunk():
    state = TransferState()
    chunks = ThrottledBody(ChunkListBody(memoryview(b"abc"), memoryview(b"de")), 1, state).chunks()
    next(chunks)
    state.stop.set()

    with pytest.raises(TransferStopped):
        next(chunks)


def test_a_stop_ends_a_body_that_was_not_started():
    state = TransferState()
    state.stop.set()

    with pytest.raises(TransferStopped):
        read(ThrottledBody(BytesBody(b"abc"), 1, state))


def test_a_part_whose_other_copy_was_acknowledged_ends_before_it_starts_and_at_its_next_chunk():
    state = TransferState()
    begun = ThrottledBody(ChunkListBody(memoryview(b"abc"), memoryview(b"de")), 1, state).chunks()
    next(begun)
    state.cut.add(1)

    with pytest.raises(TransferStopped):
        next(begun)
    with pytest.raises(TransferStopped, match="acknowledged another copy of the part"):
        read(ThrottledBody(BytesBody(b"abc"), 1, state))
    assert read(ThrottledBody(BytesBody(b"abc"), 2, state)) == b"abc"


# --- in another process ----------------------------------------------------------------------------------------------


def test_without_a_limit_a_body_with_its_checksum_and_its_place_is_unpickled():
    body = ThrottledBody(BytesBody(b"abc"), 3, TransferState(), CRC32C, offset=7, is_last=True)
    unpickled = pickle.loads(pickle.dumps(body))

    assert type(unpickled) is ChecksummedBody
    assert read(unpickled) == b"abc"
    assert (unpickled.checksum, unpickled.offset, unpickled.is_last) == (CRC32C.compute(b"abc"), 7, True)


def test_with_a_limit_a_share_of_it_is_unpickled():
    body = ThrottledBody(BytesBody(b"abc"), 3, TransferState(BandwidthLimit(1000, ManualClock()), shares=4))
    unpickled = pickle.loads(pickle.dumps(body))

    assert type(unpickled) is ThrottledBody
    assert unpickled._state.limit.rate == 250
    assert read(unpickled) == b"abc"
    assert unpickled.checksum == crc64(b"abc")


def test_a_limit_that_is_not_shared_is_unpickled_undivided():
    unpickled = pickle.loads(
        pickle.dumps(ThrottledBody(BytesBody(b"abc"), 3, TransferState(BandwidthLimit(1000, ManualClock()))))
    )

    assert unpickled._state.limit.rate == 1000


def test_a_share_may_be_a_fraction_of_a_byte():
    unpickled = pickle.loads(
        pickle.dumps(
            ThrottledBody(BytesBody(b"abc"), 3, TransferState(BandwidthLimit(100_001, ManualClock()), shares=2))
        )
    )

    assert unpickled._state.limit.rate == 50_000.5
    assert unpickled._state.limit.chunk_size == 6250
    assert read(unpickled) == b"abc"
