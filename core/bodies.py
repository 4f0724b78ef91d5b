"""A base class for bodies that wrap another, to throttle it or count its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partwise.protocols import Body


class BodyWrapper:
    """
    A body that has the length, the checksum and the chunks of another one.

    Subclasses override `chunks` to see, delay, change or refuse what is read.

    Args:
        body: the body to wrap.
    """

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def crc64(self) -> int | None:
        """The CRC-64/XZ of the wrapped body; None until its `chunks` is exhausted."""
        return self._body.crc64

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks of the wrapped body."""
        return self._body.chunks()
