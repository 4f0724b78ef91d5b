"""A mapping of limited size, for what the server keeps in memory."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """
    A mapping that drops its oldest entries above a number of entries or bytes.

    The bytes are the sum of the sizes that are passed to `put`. It is thread-safe.
    """

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.RLock()
        self._entries: dict[_Key, tuple[_Value, int]] = {}

    def get(self, key: _Key) -> _Value | None:
        """Return the value, or None if there is none or it was dropped."""
        return self._entries.get(key, (None, 0))[0]

    def put(self, key: _Key, value: _Value, size: int) -> None:
        """Add or replace a value, of this size in bytes, as the newest entry."""
        with self._lock:
            self.drop(key)
            self._entries[key] = (value, size)
            self._bytes += size
            self.shrink(self._entries_max)

    def drop(self, key: _Key) -> None:
        """Drop the value of the key, if there is one."""
        with self._lock:
            self._bytes -= self._entries.pop(key, (None, 0))[1]

    def shrink(self, entries_max: int) -> None:
        """Drop the oldest entries until `entries_max` and the maximum of bytes are met."""
        with self._lock:
            while self._entries and (len(self._entries) > entries_max or self._bytes > self._bytes_max):
                self.drop(next(iter(self._entries)))

    def values(self) -> tuple[_Value, ...]:
        """Return all values, the oldest first."""
        with self._lock:
            return tuple(value for value, _ in self._entries.values())
