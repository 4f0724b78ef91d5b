"""
Receipts in little room: what an upload remembers of its parts must not be what fills the memory.

A receipt as a value takes some 300 bytes, and is one more object for the garbage collector to visit. Packed, it takes
some 60, and it becomes a value again when it is looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from partwise.model import UploadedPart

_STRUCK, _WITHOUT_CRC64, _WITH_CRC64 = range(3)
_FIELDS = 4


class ReceiptLog:
    """
    Receipts in the order in which they came, and strikes: nothing counts that came before for that part.

    Entries are only ever added, so what was read once stays as it is, and may be read by any thread.
    """

    def __init__(self) -> None:
        # Of each entry: part number, size, checksum, and where its etag ends in the row of etags.
        self._numbers = array("Q")
        self._etags = bytearray()
        # It comes last when an entry is added: its length is the number of entries.
        self._kinds = bytearray()

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, part: UploadedPart) -> int:
        """Enter a receipt, and give the number of its entry."""
        crc64 = part.crc64
        self._etags += part.etag.encode("utf-8", "surrogatepass")
        self._numbers.extend((part.part_number, part.size, crc64 or 0, len(self._etags)))
        self._kinds.append(_WITHOUT_CRC64 if crc64 is None else _WITH_CRC64)
        return len(self._kinds) - 1

    def strike(self, part_number: int) -> None:
        """Enter that nothing counts that was entered for this part."""
        self._numbers.extend((part_number, 0, 0, len(self._etags)))
        self._kinds.append(_STRUCK)

    def parts(self, entries: Iterable[int]) -> Iterator[UploadedPart]:
        """The receipts that these entries are."""
        numbers, etags, kinds = self._numbers, self._etags, self._kinds
        for entry in entries:
            at = entry * _FIELDS
            etag = etags[numbers[at - 1] if entry else 0 : numbers[at + 3]].decode("utf-8", "surrogatepass")
            crc64 = numbers[at + 2] if kinds[entry] == _WITH_CRC64 else None
            yield UploadedPart(numbers[at], numbers[at + 1], etag, crc64)

    def size(self, entry: int) -> int:
        """The size that this receipt is for, in bytes."""
        return self._numbers[entry * _FIELDS + 1]

    def crc64(self, entry: int) -> int | None:
        """The checksum on this receipt."""
        return self._numbers[entry * _FIELDS + 2] if self._kinds[entry] == _WITH_CRC64 else None

    def last(self, entries: int) -> dict[int, int]:
        """For each part, the last entry that counted when there were so many of them."""
        last: dict[int, int] = {}
        for entry in range(entries):
            number = self._numbers[entry * _FIELDS]
            if self._kinds[entry] == _STRUCK:
                del last[number]
            else:
                last[number] = entry
        return last


class Receipts(Sequence[UploadedPart]):
    """
    Some of a log's receipts, as a sequence that makes values of them one by one. It stays as it is when the log grows.

    Args:
        log: where they are.
        entries: which ones, in which order.
    """

    def __init__(self, log: ReceiptLog, entries: array[int]) -> None:
        self._log = log
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> UploadedPart: ...
    @overload
    def __getitem__(self, index: slice) -> Receipts: ...
    def __getitem__(self, index: int | slice) -> UploadedPart | Receipts:
        if isinstance(index, slice):
            return Receipts(self._log, self._entries[index])
        return next(self._log.parts((self._entries[index],)))

    def __iter__(self) -> Iterator[UploadedPart]:
        return self._log.parts(self._entries)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a sequence of the same receipts."""
        if not isinstance(other, Receipts | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has none, which it may equal

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} parts>"
