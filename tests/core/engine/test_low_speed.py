"""Which parts are cut for low speed: models of lines, sampled once a second."""

from __future__ import annotations

import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partwise._engine import scheduler
from partwise._engine.low_speed import CUTS_MAX, LowSpeed
from partwise.backends.memory import MemoryBackend
from partwise.config import TransferConfig
from partwise.errors import ConnectionFailed
from partwise.model import KIB, MIB, PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes
from partwise.uploader import Uploader

#: Bytes that count as sent at a time.
PIECE = 64 * KIB


class Line:
    """
    A number of connections over which parts are sent one after the other, in steps of a second.

    Args:
        connections: how many there are.
        size: of a part, in bytes.
        rate: bytes per second of a connection, given its index and the time.
        buffer: bytes that the kernel accepts ahead of what has arrived.
        response: seconds from the last byte to the response.
    """

    def __init__(self, connections, size, rate, *, buffer=MIB, response=0.5):
        self.size, self.rate, self.buffer, self.response = size, rate, buffer, response
        self.now = 0.0
        self.low_speed = LowSpeed()
        self.parts = {}  # connection: [number, started, bytes that have arrived, seconds since then]
        self.next_number = 0
        self.cuts = []  # (time, connection, number)
        self.acknowledged = 0
        #: What happens to a connection when its part is cut: it is a new one. The default keeps its rate.
        self.reconnected = lambda connection: None
        for connection in range(connections):
            self.start(connection)

    def start(self, connection, number=None):
        if number is None:
            self.next_number += 1
            number = self.next_number
        self.parts[connection] = [number, self.now, 0.0, 0.0]

    def sent(self, arrived):
        return int(min(self.size, (arrived + self.buffer) // PIECE * PIECE))

    def step(self):
        self.now += 1.0
        for connection, part in list(self.parts.items()):
            number, started, arrived, waited = part
            part[2] = min(self.size, arrived + self.rate(connection, self.now))
            if arrived >= self.size:
                part[3] = waited + 1.0
                if part[3] >= self.response:
                    self.low_speed.acknowledged(number, self.size, started, self.now)
                    self.acknowledged += 1
                    self.start(connection)
        state = [
            (number, started, self.sent(arrived), self.size) for number, started, arrived, _ in self.parts.values()
        ]
        for number in self.low_speed.sample(self.now, state):
            connection = next(key for key, part in self.parts.items() if part[0] == number)
            self.cuts.append((self.now, connection, number))
            self.reconnected(connection)
            self.start(connection, number)

    def run(self, seconds):
        for _ in range(seconds):
            self.step()
        return self


# --- a connection that trickles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trickle", [0, 1000, 20_000])
@pytest.mark.parametrize("connections", [4, 64])
def test_a_connection_that_moves_far_less_than_the_others_is_cut(connections, trickle):
    slow = {2}
    line = Line(connections, 8 * MIB, lambda connection, _: trickle if connection in slow else 500_000)
    line.reconnected = slow.discard
    line.run(60)

    assert [connection for _, connection, _ in line.cuts] == [2]
    assert 10 <= line.cuts[0][0] <= 25


def test_the_slower_the_line_the_longer_it_takes():
    """What moves shows in pieces only, so on a slow line a part that moves looks like one that does not."""
    line = Line(8, 8 * MIB, lambda connection, _: 0 if connection == 4 else 60_000, buffer=0)
    line.run(60)

    assert line.cuts[0][0] == pytest.approx(49, abs=3)


def test_a_part_is_cut_a_few_times_only():
    """The cause may be the part, such as a network file system that is slow at its offset."""
    line = Line(8, 8 * MIB, lambda connection, _: 0 if connection == 3 else 500_000).run(300)

    assert len(line.cuts) == CUTS_MAX
    assert {connection for _, connection, _ in line.cuts} == {3}


def test_the_bytes_of_a_part_count_once_when_it_is_acknowledged():
    """A connection at a sixth of the average would otherwise look like one at a twelfth."""
    line = Line(8, 8 * MIB, lambda connection, _: 75_000 if connection == 0 else 500_000, response=0)

    assert line.run(100).cuts == []


def test_one_part_in_flight_is_never_cut_while_it_moves():
    assert Line(1, 100 * MIB, lambda _, now: 1_000_000 if now < 20 else 300).run(120).cuts == []


# --- a line that is slow, but honest ---------------------------------------------------------------------------------


@st.composite
def honest_lines(draw):
    """A line that connections share unevenly, by a factor of four, and whose rate changes."""
    connections = draw(st.sampled_from((1, 2, 3, 4, 8, 32)))
    total = draw(st.sampled_from((20_000, 300_000, 2_500_000, 40_000_000, 1_000_000_000)))
    weights = draw(st.lists(st.sampled_from((0.5, 1.0, 2.0)), min_size=connections, max_size=connections))
    changes = st.tuples(st.integers(1, 120), st.sampled_from((0.01, 0.1, 0.5, 1.0, 3.0)))
    factors = sorted(draw(st.lists(changes, max_size=4)))

    def rate(connection, now):
        factor = next((factor for at, factor in reversed(factors) if at <= now), 1.0)
        return total * factor * weights[connection] / connections

    size = draw(st.sampled_from((100 * KIB, MIB, 8 * MIB, 64 * MIB)))
    return Line(connections, size, rate, buffer=draw(st.sampled_from((0, 256 * KIB, 4 * MIB))))


def faster_again(weights, rate, size, slow, factor):
    """A line that is a hundred times slower for a while; the bytes of its parts wait in the kernel meanwhile."""

    def current(connection, now):
        return rate * weights[connection] * (0.01 if slow[0] <= now < slow[1] else 1.0 if now < slow[0] else factor)

    return Line(len(weights), size, current, buffer=4 * MIB)


@given(honest_lines())
@example(Line(128, MIB, lambda connection, _: 10_000 * 2 ** (connection % 3), buffer=4 * MIB))
@example(Line(64, 8 * MIB, lambda _, now: 600_000 if now < 30 else 6_000, buffer=0))
@example(Line(32, MIB, lambda k, now: 40_000 * 2 ** (k % 3) * (1.0 if now < 24 else 0.1), buffer=4 * MIB))
@example(Line(32, 100 * KIB, lambda k, now: 40_000 * 2 ** (k % 3) * (1.0 if now < 83 else 0.01), buffer=256 * KIB))
@example(faster_again([4, 1, 4, 2, 2, 2, 4, 1], 18_750, 100 * KIB, (21, 74), 1.0))
@example(faster_again([2, 4, 1, 2, 4, 2, 4, 2], 1_250, 100 * KIB, (30, 66), 3.0))
@example(faster_again([4, 2, 4, 2, 4, 1, 2, 1], 40_000, MIB, (31, 62), 3.0))
@example(faster_again([4, 1, 2, 1, 2, 2, 4, 4, 1, 4, 2, 2, 2, 2, 2, 1], 18_750, MIB, (29, 50), 1.0))
@example(faster_again([1, 2, 4], 416_667, 8 * MIB, (11, 52), 1.0))
def test_a_line_that_is_slow_or_becomes_slow_is_never_cut(line):
    assert line.run(120).cuts == []


def test_parts_that_start_later_do_not_make_the_earlier_ones_look_slow():
    """New ones fill the buffer of the kernel at once."""
    line = Line(4, 8 * MIB, lambda *_: 2_500_000 / len(line.parts), buffer=MIB)
    for connection in range(4, 128):
        line.run(1)
        line.start(connection)

    assert line.run(60).cuts == []


# --- parts that wait for their response ------------------------------------------------------------------------------


def test_a_part_whose_response_never_comes_is_cut_once_later_parts_have_theirs():
    line = Line(8, MIB, lambda connection, _: 0 if connection == 5 else 500_000, buffer=4 * MIB)
    line.run(60)

    assert line.cuts[0][1] == 5
    assert 20 <= line.cuts[0][0] <= 50


def test_a_part_waits_for_its_response_until_three_later_parts_have_theirs():
    """Fewer may have been lucky."""
    low_speed, cut_at = LowSpeed(), []
    for second in range(1, 60):
        if second in (30, 35, 40):
            low_speed.acknowledged(second, MIB, second - 1.0, float(second))
        cut_at += [second for _ in low_speed.sample(float(second), [(1, 0.0, MIB, MIB)])]

    assert cut_at == [40]


def test_a_storage_that_takes_long_to_respond_is_waited_for():
    assert Line(8, MIB, lambda *_: 5_000_000, buffer=4 * MIB, response=30).run(200).cuts == []


# --- outages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outage", "size", "buffer", "seconds"),
    [
        *((outage, 4 * MIB, buffer, 5) for outage in (7, 30, 55) for buffer in (0, MIB)),
        (20, MIB, MIB, 20),  # all bytes are with the kernel, so only the responses show that nothing moves
        (55, 4 * MIB, 4 * MIB, 60),
    ],
)
def test_what_still_hangs_after_an_outage_is_cut_soon(outage, size, buffer, seconds):
    """TCP doubles the time between its attempts: after an outage of a minute, it may wait for another one."""
    dead = set(range(1, 16))

    def rate(connection, now):
        if 40 < now <= 40 + outage or (connection in dead and now > 40):
            return 0
        return 500_000

    line = Line(16, size, rate, buffer=buffer, response=0)
    line.reconnected = dead.discard
    line.run(40 + outage)
    assert line.cuts == []
    line.run(seconds)

    assert not dead


def test_the_part_that_ends_a_standstill_has_not_stayed_behind():
    """Afterwards it waits for its turn again, while another one moves."""
    low_speed, sent, cuts = LowSpeed(), {1: 0, 2: 0}, []
    for second in range(1, 32):
        if second <= 10:
            sent = {number: count + PIECE for number, count in sent.items()}
        elif second == 20:
            sent[1] += PIECE
        elif second > 20:
            sent[2] += 512 * KIB
        cuts += low_speed.sample(float(second), [(number, 0.0, count, 64 * MIB) for number, count in sent.items()])
        if second == 26:
            assert cuts == []

    assert set(cuts) <= {1}


def test_while_nothing_moves_one_part_every_15_seconds_is_to_be_sent_a_second_time():
    line = Line(16, 8 * MIB, lambda _, now: 500_000 if now <= 30 else 0, buffer=0)
    copies = []
    for _ in range(70):
        line.step()
        if (number := line.low_speed.part_to_copy(line.now)) is not None:
            copies.append((line.now, number))

    assert [at for at, _ in copies] == [45, 60]


def test_no_part_is_sent_a_second_time_while_all_wait_for_their_response():
    line = Line(16, 8 * MIB, lambda *_: 5_000_000, buffer=8 * MIB, response=100).run(60)

    assert line.low_speed.part_to_copy(line.now) is None


def test_connections_that_move_again_after_an_outage_are_kept():
    line = Line(16, 8 * MIB, lambda _, now: 0 if 40 < now <= 50 else 500_000, buffer=0)

    assert line.run(100).cuts == []


def test_after_a_gap_between_samples_everything_counts_as_new():
    """The process was stopped, or a callback took long: that is not a standstill of the line."""
    line = Line(4, 8 * MIB, lambda connection, now: 0 if connection == 3 and now > 130 else 500_000, buffer=0).run(30)
    line.now += 100

    assert line.run(8).cuts == []


# --- in an upload ----------------------------------------------------------------------------------------------------


def test_a_part_that_is_much_slower_than_the_others_is_cut_and_sent_again(monkeypatch):
    """By own threads, which are started with the first part."""
    monkeypatch.setattr(scheduler, "_SPEED_INTERVAL", 0.01)
    monkeypatch.setattr(LowSpeed, "sample", lambda self, now, parts: [one[0] for one in parts if one[0] == 2])
    data = pseudo_random_bytes(40)
    with HangingBackend(2) as backend:
        result = Uploader(
            backend, store=MemoryCheckpointStore(), config=TransferConfig(part_size=10, multipart_threshold=0)
        ).upload(data, "key")

        assert backend.cuts == ["it was much slower than others"]
        assert (backend.read("key"), result.retries) == (data, 1)


class HangingBackend(MemoryBackend):
    """A bucket in which the first attempt at one part hangs until it is cut."""

    def __init__(self, number):
        super().__init__(limits=PartLimits())
        self.number = number
        self.cuts = []
        self._cut = threading.Event()

    def upload_part(self, key, upload_id, part_number, body):
        if part_number == self.number and not self._cut.is_set():
            for _ in body.chunks():
                break
            assert self._cut.wait(30), "it is never cut"
            raise ConnectionFailed("cut")
        return super().upload_part(key, upload_id, part_number, body)

    def cut_part(self, body, reason):
        self.cuts.append(reason)
        self._cut.set()
