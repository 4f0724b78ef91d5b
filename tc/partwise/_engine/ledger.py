"""
The parts of one upload that the storage has acknowledged, and those missing.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from partwise._engine.plan import PartPlan
from partwise.checksums import Checksum
from partwise.model import UploadedPart


class Ledger:
    """
    Keep the acknowledged parts of one upload.

    Every change is also appended to a history that never changes afterwards, so that a progress report can give the
    parts as they were when it was made, from any thread.
    """

    def __init__(self, plan: PartPlan) -> None:
        self.plan = plan
        self.bytes_done = 0
        self.bytes_resumed = 0
        self._parts: dict[int, UploadedPart] = {}
        self._resumed: set[int] = set()
        #: Each part that was added, and the number of each part that was removed.
        self._history: list[UploadedPart | int] = []

    @property
    def parts_done(self) -> int:
        """The number of acknowledged parts."""
        return len(self._parts)

    @property
    def parts_resumed(self) -> int:
        """The number of acknowledged parts that an earlier run sent."""
        return len(self._resumed)

    def has(self, part_number: int) -> bool:
        """Return whether this part is acknowledged."""
        return part_number in self._parts

    def add(self, part: UploadedPart, *, resumed: bool = False) -> None:
        """Add an acknowledged part. It replaces an earlier one of the same number."""
        self._forget(part.part_number)
        self._parts[part.part_number] = part
        self._history.append(part)
        self.bytes_done += part.size
        if resumed:
            self._resumed.add(part.part_number)
            self.bytes_resumed += part.size

    def replace(self, part: UploadedPart) -> None:
        """Replace a part by one with another ETag; it stays a resumed one if it was."""
        self.add(part, resumed=part.part_number in self._resumed)

    def remove(self, part_number: int) -> None:
        """Remove a part that the storage does not hold, so that it is sent again."""
        if self._forget(part_number):
            self._history.append(part_number)

    def _forget(self, part_number: int) -> bool:
        part = self._parts.pop(part_number, None)
        if part is None:
            return False
        self.bytes_done -= part.size
        if part_number in self._resumed:
            self._resumed.remove(part_number)
            self.bytes_resumed -= part.size
        return True

    @property
    def version(self) -> int:
        """The number of changes so far; `at_version` gives the parts as they were then."""
        return len(self._history)

    def at_version(self, version: int) -> tuple[UploadedPart, ...]:
        """
        Return the acknowledged parts as they were after `version` changes.

        Safe to call from any thread.
        """
        parts: dict[int, UploadedPart] = {}
        for change in self._history[:version]:
            if isinstance(change, int):
                del parts[change]
            else:
                parts[change.part_number] = change
        return tuple(parts.values())

    def missing(self) -> Iterator[int]:
        """
        Iterate over the numbers of the missing parts, ascending.

        The size of the source must be known.
        """
        total = self.plan.parts_total
        assert total is not None
        return (number for number in range(1, total + 1) if number not in self._parts)

    def is_complete(self) -> bool:
        """
        Return whether the acknowledged parts make up the whole source.

        They are parts 1 to n, each with its planned size.
        """
        total = self.plan.parts_total
        return (
            total is not None
            and len(self._parts) == total
            and self.bytes_done == self.plan.size
            and all(
                number in self._parts and self._parts[number].size == self.plan.bounds(number)[1]
                for number in range(1, total + 1)
            )
        )

    def parts(self) -> tuple[UploadedPart, ...]:
        """Return the acknowledged parts by ascending number, for `complete_upload`."""
        return tuple(self._parts[number] for number in sorted(self._parts))

    def resumed_parts(self) -> tuple[UploadedPart, ...]:
        """Return the parts that earlier runs sent, ascending by number."""
        return tuple(self._parts[number] for number in sorted(self._resumed))

    def checksum(self, algorithm: Checksum) -> int | None:
        """
        Return the checksum combined from the parts.

        It is None if that of a part is not known, or if those of this algorithm can't be combined.
        """
        known = [(part.checksum, part.size) for part in self.parts() if part.checksum is not None]
        return algorithm.fold(known) if len(known) == len(self._parts) else None
