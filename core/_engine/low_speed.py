"""
Decide which parts in flight are cut because their connection moves too little.

A part that is cut is sent again over another connection. There is no fixed limit in bytes per second: parts are only
compared with what others did in the same time, so a line that is slow, or that becomes slow, is never cut. A connection
that is lost silently would otherwise hold its part until the read timeout, or until TCP tries again, which after an
outage of a minute may take another one.

Bytes count as sent when the kernel accepts them, up to 4 MiB ahead of the network. So a part whose bytes are all sent
is compared by the time until its response arrives.

This module decides, without a clock: a sample is what was sent of each part at a given time, about one a second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice
from statistics import median

from attrs import define, field

from partwise.model import KIB, MIB

#: Seconds over which parts are compared, at least and at most. Both windows are looked at.
_WINDOW, _WINDOW_MAX = 10.0, 60

#: A part is cut below this share of what a part in flight moves on average.
_SHARE = 0.1

#: Bytes by which a part may lag behind in any case. Movement shows only when a chunk has been sent.
_SLACK = 256 * KIB

#: A part that waits for its response is cut if this many later parts have been acknowledged, and if the time since the
#: first of those was started is this many times what they took. The time since this part was sent would not do: when
#: the line has just become faster, later parts overtake those whose bytes still wait in the kernel.
_WAIT_FACTOR, _LATER_PARTS = 4.0, 3

#: How many of the last parts show how long a part takes now.
_LAST_PARTS = 64

#: Seconds without any movement that are a standstill; and seconds after its end, in which each connection should move
#: again. A part that waits for its response has the seconds that parts take which are sent since then, times a factor.
_STANDSTILL, _RESUME_SECONDS, _RESUME_FACTOR = 5.0, 3.0, 5.0

#: Bytes that another part has moved since then, while this one has not sent a single piece.
_RESUME_BYTES = MIB

#: Seconds without any movement after which a part is sent a second time: the new connection shows whether the line
#: works.
_COPY_AFTER = 15.0

#: Seconds between two samples after which the earlier ones are dropped: the process was stopped, or busy.
_GAP_MAX = 5.0

#: How often one part is cut in an upload.
CUTS_MAX = 3


@define(eq=False)
class _Track:
    """One attempt in flight."""

    started: float
    size: int
    moved_at: float
    sent: deque[int] = field(factory=lambda: deque(maxlen=_WINDOW_MAX + 1))  # at each of the last samples
    all_sent_at: float | None = None
    behind_since: float | None = None  # when others moved again after a standstill, if this one has not


@define(frozen=True)
class _Sample:
    time: float
    moved: int  # bytes that all parts have moved until then
    part_seconds: float  # the seconds that all parts have been in flight until then


@define(eq=False)
class LowSpeed:
    """Chooses the parts in flight to cut. Made for one run."""

    _tracks: dict[int, _Track] = field(factory=dict, init=False)
    _samples: deque[_Sample] = field(factory=lambda: deque(maxlen=_WINDOW_MAX + 1), init=False)
    _moved: int = field(default=0, init=False)
    #: Start and seconds of the last parts: what 128 connections finish in the time of eight parts.
    _finished: deque[tuple[float, float]] = field(factory=lambda: deque(maxlen=1024), init=False)
    _cuts: dict[int, int] = field(factory=dict, init=False)
    _moved_at: float = field(default=0.0, init=False)  # when anything moved last
    _copied_at: float = field(default=float("-inf"), init=False)

    def acknowledged(self, number: int, size: int, started: float, now: float) -> None:
        """Note that a part was stored, and when its attempt was started."""
        track = self._tracks.pop(number, None)
        self._moved += size if track is None else size - track.sent[-1]
        self._finished.append((started, now - started))
        self._note_moved(now)

    def sample(self, now: float, parts: Iterable[tuple[int, float, int, int]]) -> list[int]:
        """
        Take a sample, and return the numbers of the parts to cut.

        Args:
            now: the time of the sample in seconds; about one second after the last one.
            parts: the attempts in flight: the number of the part, negative for its second copy; when the attempt was
                started, the bytes sent of it, and its size. Attempts that wait for a worker, or are sent where their
                bytes can't be seen, are left out.
        """
        if self._samples and now - self._samples[-1].time > _GAP_MAX:
            self._forget(now)
        self._track(now, parts)
        self._add_sample(now)
        late = [number for number, track in self._tracks.items() if self._is_late(number, track, now)]
        for number in late:
            self._cuts[number] = self._cuts.get(number, 0) + 1
            del self._tracks[number]
        return late

    def part_to_copy(self, now: float) -> int | None:
        """
        Return a part to send a second time if nothing moves at all, or None.

        The copy takes nothing away from a line that is only slow, and on a new connection it shows whether the line
        works: if it does, and the others still do not move, these are cut.
        """
        sending = [number for number, track in self._tracks.items() if number > 0 and track.all_sent_at is None]
        if not sending or now - max(self._moved_at, self._copied_at) < _COPY_AFTER:
            return None
        self._copied_at = now
        return min(sending, key=lambda number: self._tracks[number].moved_at)

    # --- what happened -----------------------------------------------------------------------------------------------

    def _forget(self, now: float) -> None:
        self._samples.clear()
        self._tracks.clear()
        self._moved_at = now

    def _track(self, now: float, parts: Iterable[tuple[int, float, int, int]]) -> None:
        tracks: dict[int, _Track] = {}
        for number, started, sent, size in parts:
            track = self._tracks.get(number)
            if track is None or track.started != started:
                track = _Track(started, size, now)
                self._note_moved(now)
            elif sent > track.sent[-1]:
                self._moved += sent - track.sent[-1]
                track.moved_at, track.behind_since = now, None
                self._note_moved(now)
            track.sent.append(sent)
            if sent >= size and track.all_sent_at is None:
                track.all_sent_at = now
            tracks[number] = track
        self._tracks = tracks

    def _note_moved(self, now: float) -> None:
        seconds = now - self._moved_at
        if seconds >= _STANDSTILL and seconds >= self._standstill():  # the first is cheap: this is called for each part
            for track in self._tracks.values():
                if track.behind_since is None and track.moved_at <= self._moved_at:
                    track.behind_since = now
        self._moved_at = now

    def _standstill(self) -> float:
        """Return the seconds without movement that are a standstill."""
        if any(track.all_sent_at is None for track in self._tracks.values()):
            return _STANDSTILL
        # All bytes are with the kernel, so only responses show what moves.
        durations = [seconds for _, seconds in islice(reversed(self._finished), _LAST_PARTS)]
        return max(_STANDSTILL, _RESUME_FACTOR * median(durations)) if durations else math.inf

    def _add_sample(self, now: float) -> None:
        last = self._samples[-1] if self._samples else _Sample(now, 0, 0.0)
        part_seconds = last.part_seconds + (now - last.time) * len(self._tracks)
        self._samples.append(_Sample(now, self._moved, part_seconds))

    # --- what is late ------------------------------------------------------------------------------------------------

    def _is_late(self, number: int, track: _Track, now: float) -> bool:
        if self._cuts.get(number, 0) >= CUTS_MAX:
            return False
        return self._is_trickle(track) or self._waits_too_long(track, now) or self._stays_behind(track, now)

    def _is_trickle(self, track: _Track) -> bool:
        """
        Return whether a part moves far less than the average of those in flight.

        Both are measured in the same time.
        """
        if track.all_sent_at is not None:
            return False
        latest, samples = self._samples[-1], len(track.sent)
        windows = {samples, min(samples, int(_WINDOW) + 1)}
        for count in windows:
            first = self._samples[-count]
            seconds, part_seconds = latest.time - first.time, latest.part_seconds - first.part_seconds
            if seconds < _WINDOW - 1.0:
                continue
            average = (latest.moved - first.moved) / part_seconds * seconds
            if track.sent[-1] - track.sent[-count] + _SLACK < _SHARE * average:
                return True
        return False

    def _waits_too_long(self, track: _Track, now: float) -> bool:
        """Return whether later parts had their response long ago."""
        if track.all_sent_at is None or now - track.all_sent_at < _WINDOW:
            return False
        later = self._finished_since(track.all_sent_at, now)
        if len(later) < _LATER_PARTS:
            return False
        typical = median(seconds for _, seconds in later)
        # Not since this part was sent: the line may have become faster for all parts a moment ago.
        same_time = now - min(started for started, _ in later)
        return same_time >= _WAIT_FACTOR * typical

    def _finished_since(self, time: float, now: float) -> list[tuple[float, float]]:
        """Return the parts that were sent in the second half since then."""
        # Not in the first half: the line may have become slow for all parts meanwhile.
        return [finished for finished in self._finished if finished[0] >= (time + now) / 2]

    def _stays_behind(self, track: _Track, now: float) -> bool:
        """Return whether a part has not moved since a standstill, although others do."""
        if track.behind_since is None or now - track.behind_since < _RESUME_SECONDS:
            return False
        later = self._finished_since(track.behind_since, now)
        # As in `_waits_too_long`: the line may have become faster for all parts a moment ago.
        if later and now - min(started for started, _ in later) >= _RESUME_FACTOR * median(took for _, took in later):
            return True
        return track.all_sent_at is None and any(
            self._sent_since(other, track.behind_since) >= _RESUME_BYTES for other in self._tracks.values()
        )

    def _sent_since(self, track: _Track, time: float) -> int:
        count = sum(1 for sample in self._samples if sample.time >= time)
        return track.sent[-1] - track.sent[-min(count, len(track.sent))]
