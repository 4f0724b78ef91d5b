"""
Plan parts from the size of a source and the limits of a storage.

This is pure arithmetic. A plan computes the offset and the size of each part by a formula, so it takes no more memory
for the largest object than for the smallest.

If the size is known, all parts but the last have the same size. If it is not (a stream), parts start small, to save
memory, and their size doubles after every N parts, so that the part numbers suffice: starting at 8 MiB, 10,000 parts
hold 7.8 TiB.
"""

from __future__ import annotations

from typing import Literal

from attrs import define

from partwise._units import format_bytes
from partwise.errors import InvalidInput
from partwise.model import MIB, PartLimits

#: Large enough for the overhead of a request to be negligible, small enough for a failed part to be sent again cheaply.
PREFERRED_PART_SIZE = 8 * MIB

# On a long line a connection may be slow: one that loses 1 of 1,000 packets at a round trip of 100 ms carries some
# 0.5 MB/s, and a part of 8 MiB takes 16 seconds. Many small parts keep many connections busy, and the last part ends
# soon after the others. Services charge for each request, so the number of parts below 8 MiB is limited.
LONG_LINE_SECONDS = 0.03
LONG_LINE_PARTS = 1024

# The part size of a stream doubles at most nine times, from 8 MiB to 4 GiB. More doublings would start earlier, and
# make the parts of ordinary streams large.
_STREAM_GENERATIONS = 10


@define(frozen=True)
class PartRange:
    """One part of a plan."""

    part_number: int  # from 1
    offset: int  # its first byte in the source, counting from 0
    size: int  # its length in bytes


@define(frozen=True)
class PartPlan:
    """The offset and the size of each part."""

    part_size: int  # bytes in a part (in the first one, if sizes double)
    size: int | None  # total bytes; None while it is unknown
    parts_per_doubling: int | None = None  # the number of parts after which the part size doubles; None: it never does

    @property
    def parts_total(self) -> int | None:
        """The number of parts, 0 for an empty source; None while it is unknown."""
        if self.size is None:
            return None
        if self.parts_per_doubling is None:
            return -(-self.size // self.part_size)
        return self.number_at(self.size - 1) if self.size else 0

    def part(self, number: int) -> PartRange:
        """
        Return part `number`; raise ValueError if there is none.

        The last part ends with the source.
        """
        return PartRange(number, *self.bounds(number))

    def bounds(self, number: int) -> tuple[int, int]:
        """Return offset and size of part `number`; raise ValueError if there is none."""
        if number < 1:
            raise ValueError(f"part numbers start at 1, not at {number}")
        if self.parts_per_doubling is None:
            offset, size = (number - 1) * self.part_size, self.part_size
        else:
            generation, index = divmod(number - 1, self.parts_per_doubling)
            size = self.part_size << generation
            offset = self.parts_per_doubling * (size - self.part_size) + index * size
        if self.size is not None:
            if offset >= self.size:
                raise ValueError(f"there is no part {number} of {self.size} bytes")
            size = min(size, self.size - offset)
        return offset, size

    def number_at(self, offset: int) -> int:
        """Return the number of the part that contains the byte at `offset`."""
        if self.parts_per_doubling is None:
            return offset // self.part_size + 1
        # Generation g starts at parts_per_doubling * part_size * (2^g - 1).
        generation = (offset // (self.parts_per_doubling * self.part_size) + 1).bit_length() - 1
        size = self.part_size << generation
        start = self.parts_per_doubling * (size - self.part_size)
        return generation * self.parts_per_doubling + (offset - start) // size + 1


def is_single_put(size: int, limits: PartLimits, threshold: int) -> bool:
    """
    Return whether one request stores the object.

    This is so if it is empty, or below `threshold`.
    """
    return size == 0 or (size < threshold and size <= limits.max_put_size)


def plan_parts(
    size: int | None,
    limits: PartLimits,
    part_size: int | Literal["auto"] = "auto",
    *,
    equal_part_sizes: bool = False,
    latency: float = 0.0,
) -> PartPlan:
    """
    Plan the parts of `size` bytes under `limits`.

    Args:
        size: total bytes; None if it is unknown.
        limits: what the storage accepts.
        part_size: the requested size in bytes. "auto" is 8 MiB, or more where there would be too many parts; on a long
            line, 1 MiB, or more where there would be more than 1,024 parts.
        equal_part_sizes: the storage requires all parts but the last to have the same size, so a stream's can't double.
        latency: seconds that a small request takes; 30 ms or more make it a long line.

    Raises:
        InvalidInput: the requested size is impossible; the hint says which one is possible. Or the object is too large.
    """
    if part_size != "auto":
        _check_part_size(part_size, limits)
    if size is None:
        first = _clamp(PREFERRED_PART_SIZE, limits) if part_size == "auto" else part_size
        return PartPlan(first, None, None if equal_part_sizes else _parts_per_doubling(first, limits))
    maximum = min(limits.max_object_size, limits.max_part_size * limits.max_parts)
    if size > maximum:
        raise InvalidInput(
            f"{format_bytes(size)} are too large for one object: the storage accepts up to {format_bytes(maximum)}"
        )
    minimum = -(-size // limits.max_parts)
    if part_size == "auto":
        preferred = PREFERRED_PART_SIZE
        if latency >= LONG_LINE_SECONDS:
            preferred = min(preferred, _round_up(-(-size // LONG_LINE_PARTS)))
        return PartPlan(_clamp(max(preferred, _round_up(minimum)), limits), size)
    if part_size < minimum:
        raise InvalidInput(
            f"{format_bytes(size)} in parts of {format_bytes(part_size)} make {-(-size // part_size):,} parts, and the"
            f" storage accepts at most {limits.max_parts:,}",
            hint=f"Set {{part_size}} to at least {format_bytes(minimum)}, or to 'auto'",
        )
    return PartPlan(part_size, size)


def _check_part_size(part_size: int, limits: PartLimits) -> None:
    if not limits.min_part_size <= part_size <= limits.max_part_size:
        raise InvalidInput(
            f"the part size of {format_bytes(part_size)} is out of bounds: the storage accepts parts of"
            f" {format_bytes(limits.min_part_size)} to {format_bytes(limits.max_part_size)}"
        )


def _clamp(part_size: int, limits: PartLimits) -> int:
    return max(limits.min_part_size, min(part_size, limits.max_part_size))


def _round_up(part_size: int) -> int:
    return -(-part_size // MIB) * MIB  # whole MiB: readable, and aligned for storage that uses pages


def _parts_per_doubling(part_size: int, limits: PartLimits) -> int | None:
    generations = min((limits.max_part_size // part_size).bit_length(), _STREAM_GENERATIONS)
    return -(-limits.max_parts // generations) if generations > 1 else None
