"""
Compare a source with the object that the storage has under a key.

Nothing is sent or changed.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from partwise._engine.compare import compare, needs_reading
from partwise._engine.context import UploadContext
from partwise._engine.plugin_calls import call_plugin_unwrapped
from partwise.errors import SourceChanged
from partwise.model import MIB
from partwise.results import Progress, Verification

#: Bytes that are read from one body. Between two of them, progress is reported.
_RANGE = 4 * MIB


def verify_object(context: UploadContext, on_progress: Callable[[Progress], object] | None) -> Verification:
    """
    Compare the source with the object, and close the source.

    One request describes the object. The source is read only if its size does not show already that they differ.

    Raises:
        SourceChanged: the source changed while it was read.
        SourceError: it can't be read.
        BackendError: the storage can't be asked.
    """
    try:
        return call_plugin_unwrapped(_verify, context, on_progress)
    finally:
        context.close_source()


def _verify(context: UploadContext, on_progress: Callable[[Progress], object] | None) -> Verification:
    before = context.current_fingerprint()
    stored = context.retry("head_object", lambda: context.backend.head_object(context.key))
    if stored is None or not needs_reading(before.size, stored):
        return compare(context.key, before.size, None, stored, context.checksum)
    size, checksum = _Reading(context, before.size, stored.size, on_progress).run()
    after = context.current_fingerprint()
    if after != before:
        # Some file systems renumber inodes. The file that is there now may still be another one, so it is read, too.
        renumbered = after == evolve(before, identity=after.identity)
        if not renumbered or _Reading(context, before.size, stored.size, None).run() != (size, checksum):
            raise _changed_error(context)
    return compare(context.key, size, checksum, stored, context.checksum)


def _changed_error(context: UploadContext) -> SourceChanged:
    return SourceChanged(
        f"{context.source.name or 'the source'} changed while it was read, and was not compared with {context.key}",
        source=context.source.name,
        hint="Verify it when nothing writes to it any more",
    )


class _Reading:
    """
    One reading of the source.

    Args:
        context: whose source is read.
        size: its size in bytes; None: as far as its end.
        size_max: a source of unknown size is read no further than just beyond these bytes.
        on_progress: called as it is read.
    """

    def __init__(
        self, context: UploadContext, size: int | None, size_max: int, on_progress: Callable[[Progress], object] | None
    ) -> None:
        self._context = context
        self._size = size
        self._size_max = size_max
        self._on_progress = on_progress
        self._running = context.checksum.start()
        self._position = 0
        self._started = self._reported = context.clock.monotonic()

    def run(self) -> tuple[int | None, int | None]:
        """
        Return size and checksum.

        Both are None for a source of unknown size that has more than `size_max` bytes.

        Raises:
            SourceChanged: the source became shorter or longer, or was replaced.
            SourceError: it can't be read.
        """
        self._report()
        try:
            while self._context.retry("body", self._read_range, moves=False):
                if self._context.clock.monotonic() - self._reported >= self._context.request.config.progress_interval:
                    self._report()
        except SourceChanged as error:
            raise _changed_error(self._context) from error
        if self._size is None and self._position > self._size_max:
            return None, None
        self._report(completed=True)
        return self._position, self._running.value

    def _read_range(self) -> bool:
        """
        Read on from the position, and return whether there may be more.

        What was read before a failure counts: the next attempt continues after it.
        """
        size = self._size
        wanted = min(_RANGE, (self._size_max + 1 if size is None else size) - self._position)
        if wanted <= 0:
            return False
        body, begin = self._context.source.body(self._position, wanted), self._position
        length = len(body)
        for chunk in body.chunks():
            self._running.update(chunk)
            self._position += len(chunk)
        if self._position - begin != length or length > wanted or (size is not None and length != wanted):
            raise _changed_error(self._context)
        return length == wanted

    def _report(self, *, completed: bool = False) -> None:
        """Report how much was read, but not all of it before the end."""
        if self._on_progress is None or (self._position and self._position == self._size and not completed):
            return
        self._reported = now = self._context.clock.monotonic()
        self._on_progress(
            Progress(
                bytes_done=self._position,
                bytes_total=self._position if completed else self._size,
                elapsed=now - self._started,
                completed=completed,
                retries=self._context.status.retries,
            )
        )
