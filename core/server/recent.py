"""What the server keeps in memory: the newest entries, within a number of entries and of bytes."""

from __future__ import annotations

from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """
    A mapping that drops its oldest entries where it would hold too much. Its owner keeps threads apart.

    Args:
        entries_max: the most entries.
        bytes_max: the most bytes, by the sizes that `put` is given.
    """

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: dict[_Key, tuple[_Value, int]] = {}

    def get(self, key: _Key) -> _Value | None:
        """The value, or None where there is none, or none any more."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: _Key, value: _Value, size: int) -> None:
        """Keep a value of this size in bytes; as the newest, if there was one under the key."""
        self.drop(key)
        self._entries[key] = (value, size)
        self._bytes += size
        self.shrink(self._entries_max)

    def drop(self, key: _Key) -> None:
        """Drop the value; if there is none that is fine."""
        _, size = self._entries.pop(key, (None, 0))
        self._bytes -= size

    def shrink(self, entries_max: int) -> None:
        """Drop the oldest entries until there are `entries_max` at most, within the bound of bytes."""
        while self._entries and (len(self._entries) > entries_max or self._bytes > self._bytes_max):
            self.drop(next(iter(self._entries)))

    def values(self) -> tuple[_Value, ...]:
        """All values that are kept, the oldest first."""
        return tuple(value for value, _ in self._entries.values())
