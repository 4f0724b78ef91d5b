"""
The parts of a stream, which can be read once and in order.

Its size is known only at its end. A stream that is resumed is read from its start. A part that the storage holds
already, with the same checksum, is not sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve

from partwise._engine.context import UploadContext
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.reconcile import why_not_sent
from partwise._engine.resume import checksum_of
from partwise.checksums import CRC64_XZ, crc64_combine
from partwise.errors import SourceError, UploadUnusable
from partwise.model import UploadedPart
from partwise.protocols import SourceBody


class StreamParts:
    """Read the parts of a stream, one after the other."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._first: SourceBody | None = None
        self._candidates: Mapping[int, UploadedPart] = {}
        self._recorded: frozenset[UploadedPart] = frozenset()
        self._stored: frozenset[int] = frozenset()

    def read_first(self) -> SourceBody:
        """Read the first part. It is the whole source, if it is shorter than a part."""
        if self._first is None:
            self._first = self._context.read_source(0, self._context.plan.part_size)
        return self._first

    def restart(self) -> None:
        """
        Read the stream again from its start.

        Raises:
            SourceError: it can't be read again.
        """
        call_plugin(self._context.source.close)
        self._first = None
        self.read_first()

    def take_first(self) -> SourceBody:
        """
        Return the first part, reading it if that has not been done.

        The next call reads on from there.
        """
        first = self.read_first()
        self._first = None
        return first

    def expect(
        self, candidates: Mapping[int, UploadedPart], recorded: frozenset[UploadedPart], stored: frozenset[int]
    ) -> None:
        """
        Skip the parts that equal these candidates.

        Args:
            candidates: parts on the storage, with their checksums, by number.
            recorded: parts that the checkpoint has already.
            stored: the numbers of all parts on the storage.
        """
        self._candidates, self._recorded, self._stored = candidates, recorded, stored

    def parts(self) -> Iterator[tuple[int, SourceBody]]:
        """
        Iterate over the parts that have to be sent.

        At the end of the stream, its size is set in the ledger's plan.

        Raises:
            StopRequested, CallbackRaised: as `Control.check` says.
            SourceError: the stream can't be read, or needs more parts than the storage accepts.
            SourceMismatch: it has another size than the caller expects.
            UploadUnusable: it is not the stream that was sent before, and the storage can't take it in its place.
        """
        context, ledger = self._context, self._context.ledger
        if ledger.plan.size is not None:
            return  # all of it was read before; completing is tried again with other ETags
        number = context.stream_crc64 = 0
        while ledger.plan.size is None:
            context.control.check()  # parts that are skipped do not get back to the scheduler
            number += 1
            part = ledger.plan.part(number)
            body = self._first or context.read_source(part.offset, part.size)
            self._first = None
            end, expected = part.offset + len(body), context.request.expected_size
            if len(body) < part.size or (expected is not None and end > expected):
                context.check_expected(end, None, so_far=len(body) == part.size)
            if len(body) < part.size:
                ledger.plan = evolve(ledger.plan, size=end)
                self._check_end(number if len(body) else number - 1)
            if not len(body):
                return
            if number > context.backend.limits.max_parts:
                raise SourceError(
                    f"{context.description} is longer than the {part.offset} bytes that {number - 1} parts hold",
                    source=context.source.name,
                    hint="Start again with a larger {part_size}",
                )
            if context.request.expected_crc64 is not None and context.checksum != CRC64_XZ:
                context.stream_crc64 = crc64_combine(context.stream_crc64, checksum_of(body, CRC64_XZ), len(body))
            if not self._skip(number, body):
                if problem := why_not_sent(number, self._stored, context.backend.capabilities):
                    raise UploadUnusable(f"{context.description} is not what was sent before: {problem}")
                yield number, body

    def _check_end(self, total: int) -> None:
        """Raise UploadUnusable if a sequential storage has parts beyond the last one."""
        context = self._context
        if context.backend.capabilities.sequential and 0 < total < max(self._stored, default=0):
            raise UploadUnusable(f"{context.description} is shorter than what was sent before")

    def _skip(self, number: int, body: SourceBody) -> bool:
        """Record a part if the storage holds it with these bytes; return whether it does."""
        context = self._context
        candidate = self._candidates.get(number)
        if (
            candidate is None
            or candidate.size != len(body)
            or candidate.checksum != checksum_of(body, context.checksum)
        ):
            return False
        context.ledger.add(candidate, resumed=True)
        if candidate not in self._recorded:
            context.record.append_part(context.upload_id, candidate)
        if context.events is not None:
            context.events.part_done(candidate, 0.0, resumed=True)
        context.emit_progress()
        return True
