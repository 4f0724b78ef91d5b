"""
From a size, the storage's limits and a wish to a plan of parts. Pure arithmetic.

A plan says for each part number where the part begins and how long it is, by formula, so that it costs nothing to plan
the largest object there can be.

Where the size is known, all parts are of one size but the last. Where it is not (a stream), parts begin small, so that
memory stays small, and double after every so many, so that the number of parts lasts for as long as the stream does:
beginning at 8 MiB, 10,000 parts hold 7.8 TiB.
"""

from __future__ import annotations

from typing import Literal

from attrs import define

from partwise.errors import InvalidInput
from partwise.model import MIB, PartLimits

#: Large enough for the cost of a request to vanish beside that of its bytes, small enough that a part which fails costs
#: little to send again.
PREFERRED_PART_SIZE = 8 * MIB

# A stream's part size doubles at most nine times: from 8 MiB that is 4 GiB, and doubling more often would make the
# parts of ordinary streams large.
_STREAM_GENERATIONS = 10


@define(frozen=True)
class PartRange:
    """
    One part of a plan.

    Args:
        part_number: from 1.
        offset: where it begins in the source, in bytes from 0.
        size: its length in bytes.
    """

    part_number: int
    offset: int
    size: int


@define(frozen=True)
class PartPlan:
    """
    Where each part begins and how long it is.

    Args:
        part_size: bytes in a part (in the first one, where sizes grow).
        size: bytes in all; None while that is not known.
        parts_per_doubling: after so many parts the size of a part doubles; None: it never does.
    """

    part_size: int
    size: int | None
    parts_per_doubling: int | None = None

    @property
    def parts_total(self) -> int | None:
        """The number of parts; None while it is not known. An empty source has none."""
        if self.size is None:
            return None
        if self.parts_per_doubling is None:
            return -(-self.size // self.part_size)
        return self.number_at(self.size - 1) if self.size else 0

    def part(self, number: int) -> PartRange:
        """
        Part `number`, cut off at the end of the source where that is known.

        Raises:
            ValueError: there is no such part.
        """
        if number < 1:
            raise ValueError(f"parts are numbered from 1, not {number}")
        if self.parts_per_doubling is None:
            offset, size = (number - 1) * self.part_size, self.part_size
        else:
            generation, index = divmod(number - 1, self.parts_per_doubling)
            size = self.part_size << generation
            offset = self.parts_per_doubling * (size - self.part_size) + index * size
        if self.size is not None:
            if offset >= self.size:
                raise ValueError(f"{self.size} bytes have no part {number}")
            size = min(size, self.size - offset)
        return PartRange(number, offset, size)

    def number_at(self, offset: int) -> int:
        """The number of the part that holds the byte at `offset`."""
        if self.parts_per_doubling is None:
            return offset // self.part_size + 1
        # Generation g begins at parts_per_doubling * part_size * (2^g - 1).
        generation = (offset // (self.parts_per_doubling * self.part_size) + 1).bit_length() - 1
        size = self.part_size << generation
        begin = self.parts_per_doubling * (size - self.part_size)
        return generation * self.parts_per_doubling + (offset - begin) // size + 1


def is_single_put(size: int, limits: PartLimits, threshold: int) -> bool:
    """Whether an object of `size` bytes is stored by one request: because it is below `threshold`, or has no byte."""
    return size == 0 or (size < threshold and size <= limits.max_put_size)


def plan_parts(
    size: int | None,
    limits: PartLimits,
    part_size: int | Literal["auto"] = "auto",
    *,
    equal_part_sizes: bool = False,
) -> PartPlan:
    """
    The plan for `size` bytes under `limits`.

    Args:
        size: bytes in all; None where it is not known.
        limits: what the storage accepts.
        part_size: a wish in bytes. "auto" takes 8 MiB, more where the number of parts would not suffice.
        equal_part_sizes: the storage wants all parts but the last of one size, so that a stream's can't grow.

    Raises:
        InvalidInput: no plan meets both the wish and the limits; the message says which part size would do.
    """
    if part_size != "auto":
        _check_part_size(part_size, limits)
    if size is None:
        begin = _clamp(PREFERRED_PART_SIZE, limits) if part_size == "auto" else part_size
        return PartPlan(begin, None, None if equal_part_sizes else _doubling_every(begin, limits))
    if size > limits.max_object_size or size > limits.max_part_size * limits.max_parts:
        most = min(limits.max_object_size, limits.max_part_size * limits.max_parts)
        raise InvalidInput(f"{size} bytes are more than the storage takes as one object, which is {most} bytes")
    least = -(-size // limits.max_parts)
    if part_size == "auto":
        return PartPlan(_auto_part_size(least, limits), size)
    if part_size < least:
        raise InvalidInput(
            f"{size} bytes in parts of {part_size} are {-(-size // part_size)} parts, and the storage takes"
            f" {limits.max_parts}: choose a part size of at least {least} bytes, or 'auto'"
        )
    return PartPlan(part_size, size)


def _check_part_size(part_size: int, limits: PartLimits) -> None:
    if not limits.min_part_size <= part_size <= limits.max_part_size:
        raise InvalidInput(
            f"a part size of {part_size} bytes is out of bounds: the storage takes parts of {limits.min_part_size} to"
            f" {limits.max_part_size} bytes"
        )


def _clamp(part_size: int, limits: PartLimits) -> int:
    return max(limits.min_part_size, min(part_size, limits.max_part_size))


def _auto_part_size(least: int, limits: PartLimits) -> int:
    if least <= PREFERRED_PART_SIZE:
        return _clamp(PREFERRED_PART_SIZE, limits)
    return _clamp(-(-least // MIB) * MIB, limits)  # whole MiB: easier on the eye, and on page-aligned storage


def _doubling_every(begin: int, limits: PartLimits) -> int | None:
    generations = min((limits.max_part_size // begin).bit_length(), _STREAM_GENERATIONS)
    return -(-limits.max_parts // generations) if generations > 1 else None
