"""Files opened for writing: what is written to them is uploaded meanwhile."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Any

from attrs import define

from partwise._signals import raised_by_signal
from partwise.errors import ObjectExists, PartwiseError, UploadFailed, UploadStopped
from partwise.fsspec.pipe import Pipe
from partwise.fsspec.typed import Transaction
from partwise.results import UploadResult
from partwise.sources import StreamSource
from partwise.task import UploadTask
from partwise.uploader import Uploader

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["UploadFile"]

logger = logging.getLogger("partwise.fsspec")


@define(frozen=True)
class WrittenObject:
    """
    The object that a file becomes.

    Args:
        uploader: uploads it.
        key: its key.
        path: its path in the filesystem, for messages.
        arguments: further arguments of `Uploader.upload`.
        stream_name: the name of the stream that is written; "" if it can't be written again.
        on_stored: called once it is stored.
    """

    uploader: Uploader
    key: str
    path: str
    arguments: Mapping[str, Any]
    stream_name: str
    on_stored: Callable[[], object]


class _State(Enum):
    WRITING = "what is written will be stored"
    STORED = "the object is stored"
    ENDED = "nothing will be stored"


class _Sink:
    """
    What a compressor writes to.

    It drops what comes after the end of its file, such as the end of a discarded one.

    Args:
        send: takes the bytes. It is referenced weakly, since the file refers to the compressor.
    """

    def __init__(self, send: Callable[[memoryview], None]) -> None:
        self._send = weakref.WeakMethod(send)
        self._position = 0

    def write(self, data: ReadableBuffer) -> int:
        with memoryview(data) as view, view.cast("B") as plain:
            if (send := self._send()) is not None:
                send(plain)
            self._position += len(plain)
            return len(plain)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None: ...

    def close(self) -> None: ...


class UploadFile(io.BufferedIOBase):
    """
    A binary file whose bytes are uploaded while they are written.

    `UploadFileSystem.open` creates it. The object appears when the file is closed, whole and verified, or not at all:

    - `close` returns once the object is stored. In a transaction, its end stores the files that were closed.
    - If an exception leaves the ``with`` block of the file, nothing is stored, and the upload is aborted. With a
      `stream_name` the parts are kept for the next attempt. The same holds for a ``with`` block of `fsspec.open`, and
      of any other object that closes the file in its ``__exit__``.
    - If the file is garbage-collected without having been closed, nothing is stored, and that is logged.
    - Outside of a ``with`` block, `close` stores what was written, in an ``except`` and a ``finally`` block, too. Call
      `discard` there if it is not to be stored.

    It can't be read, and has no positions to seek. One thread at a time writes.

    `result` is the `UploadResult` once the object is stored, and None before; `path` is the path in its filesystem, and
    `autocommit` whether closing the file stores the object (False in a transaction).
    """

    mode = "wb"
    # As long as the constructor has not ended.
    _state = _State.ENDED
    _is_collected = False

    def __init__(
        self,
        written: WrittenObject,
        *,
        owner: object,
        autocommit: bool = True,
        compressor: Callable[..., IO[bytes]] | None = None,
    ) -> None:
        self.path = self.name = written.path
        self.autocommit = autocommit
        self.result: UploadResult | None = None
        self._written = written
        self._pipe = Pipe(owner)
        self._source = StreamSource(self._pipe, name=written.stream_name)
        self._task: UploadTask | None = None
        self._failure: BaseException | None = None
        self._position = 0
        # Not the exception itself: its traceback may refer to this file.
        self._handled_when_opened = id(sys.exc_info()[1])
        self._state = _State.WRITING
        try:
            # It may write a header.
            self._encoder = None if compressor is None else compressor(_Sink(self._send), mode="w")
        except BaseException:
            self._state = _State.ENDED
            raise

    def __repr__(self) -> str:
        return f"<UploadFile {self.path!r}{' closed' if self.closed else ''}>"

    # --- writing -----------------------------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written, before compression."""
        return self._position

    def write(self, data: ReadableBuffer, /) -> int:
        """
        Write bytes, and return how many there are.

        At most 4 MiB that were written wait to be read by the upload; beyond that, this waits for it.

        Raises:
            UploadFailed: the upload has failed meanwhile. Other errors of `Uploader.upload` are raised likewise.
            FileExistsError: the file was opened to be created, and there is an object.
            ValueError: the file is closed, stored, or discarded.
        """
        self._check_open()
        with memoryview(data) as view, view.cast("B") as plain:
            size = len(plain)
            if self._encoder is None:
                self._send(plain)
            else:
                self._encoder.write(plain)
        self._position += size
        return size

    def flush(self) -> None:
        """Do nothing: an object appears when its file is closed."""
        if self.closed:
            raise ValueError(f"{self.path} is closed")

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.path} is closed")
        if self._failure is not None:
            raise self._failure
        if self._state is _State.STORED:
            raise ValueError(f"{self.path} is stored already, and can't be written to any more")
        if self.is_discarded:
            raise ValueError(f"what was written to {self.path} was discarded")

    @property
    def is_discarded(self) -> bool:
        """Whether nothing will be stored, for another reason than a failure."""
        return self._state is _State.ENDED and self._failure is None

    def _send(self, data: memoryview) -> None:
        if self._state is not _State.WRITING:
            return
        if self._task is None and not self._pipe.has_room(len(data)):
            written = self._written
            self._pipe.claim_writing()
            self._task = written.uploader.start(self._source, written.key, **written.arguments)
        if not self._pipe.write(data, self._is_read):
            self._finish()

    def _is_read(self) -> bool:
        return self._task is None or not self._task.done()

    # --- ending ------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        Store what was written, and return once it is stored and verified.

        Nothing happens if it is stored already, or was discarded.

        Raises:
            UploadFailed: the storage failed or refused. Other errors of `Uploader.upload` are raised likewise.
            FileExistsError: the file was opened to be created, and there is an object.
        """
        if self._failure is not None:
            raise self._failure
        if self._state is not _State.WRITING:
            return
        try:
            if self._encoder is not None:
                self._encoder.close()
        except BaseException as error:
            if self._state is _State.WRITING:  # or the upload would wait for the end for ever
                self._stop()
                self._failure = error
            raise
        self._pipe.end()
        self._finish()

    def _finish(self) -> None:
        """Wait for the end of the upload."""
        written = self._written
        try:
            with translated_errors(written.path):
                if self._task is None:
                    self.result = written.uploader.upload(self._source, written.key, **written.arguments)
                else:
                    self.result = self._task.result()
        except BaseException as error:
            self._failure, self._state = error, _State.ENDED
            self._pipe.stop()
            raise
        self._state = _State.STORED
        written.on_stored()

    def discard(self) -> None:
        """
        Store nothing, and abort the upload.

        Nothing happens if the object is stored already. What can't be aborted is logged. If the file is closed, and
        waits for the end of its transaction, the parts of a stream that has a name are kept.
        """
        ending = self._stop() or self._failure
        if isinstance(ending, UploadStopped) and ending.resumable and not self.closed:
            try:
                self._written.uploader.abort(self._source, self._written.key)
            except PartwiseError as error:
                logger.warning("%s: what was sent of it could not be aborted: %s", self.path, error)

    def _abandon(self) -> None:
        """Store nothing, and keep the parts of a stream that has a name."""
        if self._state is _State.WRITING:
            logger.info("%s: an exception ended its with block, so what was written to it is not stored", self.path)
        self._stop()

    def _stop(self, *, wait: bool = True) -> Exception | None:
        """
        Stop the upload, and return what it ended by.

        It is aborted, unless the stream has a name.
        """
        if self._state is not _State.WRITING:
            return None
        self._state = _State.ENDED
        if self._task is not None:
            self._task.pause()
        self._pipe.stop()
        if self._task is None or not wait:
            return None
        try:
            self._task.result()
        except Exception as error:
            if raised_by_signal(error) is not None:  # such as the time limit of a task queue
                raise
            # The caller has given up, or has an exception of its own.
            logger.debug("%s: ended by %s: %s", self.path, type(error).__name__, error)
            for warning in getattr(error, "warnings", ()):
                logger.warning("%s: %s", self.path, warning)
            return error
        return None

    def close(self) -> None:
        """
        Store what was written.

        Nothing is stored if an exception is leaving the ``with`` block that closes the file. Closing again has no
        effect.

        Raises:
            UploadFailed: as for `commit`, and likewise its other errors.
        """
        if self.closed:
            return
        try:
            if self._is_collected:
                self._abandon_collected()
            elif _leaves_with_block(self._handled_when_opened):
                self._abandon()
            elif self.autocommit or self._failure is not None:
                self.commit()
        finally:
            super().close()

    def _abandon_collected(self) -> None:
        if self._state is _State.WRITING:
            logger.warning("%s was not closed, so what was written to it is not stored", self.path)
        self._stop(wait=False)  # not in a garbage collection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()
        self.close()

    def _dealloc_warn(self, _source: object) -> None:
        # A text file calls this before it closes its binary file, when it is garbage-collected.
        self._is_collected = True

    def __del__(self) -> None:
        if not self.closed:
            self._is_collected = True
            self.close()


#: For each codec that begins with a byte order mark, the one without it, and the mark.
_MARKED = (
    {"utf-16": ("utf-16-le", codecs.BOM_UTF16_LE), "utf-32": ("utf-32-le", codecs.BOM_UTF32_LE)}
    if sys.byteorder == "little"
    else {"utf-16": ("utf-16-be", codecs.BOM_UTF16_BE), "utf-32": ("utf-32-be", codecs.BOM_UTF32_BE)}
)


class UploadTextFile(io.TextIOWrapper):
    """
    A text file over an `UploadFile`, with its `result` and `discard`.

    If an exception leaves its ``with`` block, nothing is stored.
    """

    def __init__(self, file: UploadFile, *, encoding: str | None = None, **settings: Any) -> None:
        name = ""
        with suppress(LookupError):  # "locale" is not a codec; any other name is refused below
            name = codecs.lookup(encoding or "").name
        # Python writes the mark to files with positions only, and does not read such a text without one.
        encoding, self._mark = _MARKED.get(name, (encoding, b""))
        self._file = file
        super().__init__(file, encoding=encoding, **settings)

    def write(self, text: str, /) -> int:
        """Write a text, and return the number of its characters."""
        mark, self._mark = self._mark, b""
        if mark:
            self._file.write(mark)
        return super().write(text)

    @property
    def result(self) -> UploadResult | None:
        """The result of the upload once the object is stored; None before."""
        return self._file.result

    def discard(self) -> None:
        """Store nothing, and abort the upload, as `UploadFile.discard`."""
        self._file.discard()

    def close(self) -> None:
        """Store what was written, unless it was discarded, as `UploadFile.close`."""
        if self._file.is_discarded:
            self._file.close()  # without the text that is not written to it yet
        else:
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.__exit__(kind, error, trace)  # without the text that is not written to it yet


class UploadTransaction(Transaction):
    """
    The files that wait for the end of a transaction.

    A file that can't be stored ends it, too. Many versions of fsspec leave it open then: what is written later is never
    stored, and the uploads of the other files wait for ever.
    """

    def complete(self, commit: bool = True) -> None:
        """
        Store the files, in the order in which they were opened, or discard them.

        Those that follow one that can't be stored are discarded, and so is one that was not closed: its end may not be
        written yet.
        """
        filesystem = self.fs
        files: deque[UploadFile] = self.files
        try:
            for file in files if commit else ():
                if file.closed or file._state is not _State.WRITING:  # noqa: SLF001  # of this module
                    file.commit()
                else:
                    logger.warning("%s was not closed in its transaction, so it is not stored", file.path)
        finally:
            filesystem._intrans = False  # noqa: SLF001  # as that of fsspec does
            filesystem._transaction = None  # noqa: SLF001
            while files:
                files.popleft().discard()  # has no effect on those that are stored


def _leaves_with_block(known: int) -> bool:
    """
    Return whether this was called while an exception leaves a ``with`` block.

    That is, by an ``__exit__`` that was given the exception.

    Args:
        known: the id of the exception that was being handled already when the block was entered.
    """
    current = sys.exc_info()[1]
    if current is None or id(current) == known:
        return False
    return any(_is_exit_with(frame, current) for frame, _ in traceback.walk_stack(None))


def _is_exit_with(frame: FrameType, error: BaseException) -> bool:
    if frame.f_code.co_name not in ("__exit__", "__aexit__"):
        return False
    values = frame.f_locals
    given = list(values.values())
    if isinstance(values, dict):
        # Before Python 3.13 it is a copy that the frame keeps, and with it the exception.
        values.clear()
    return any(value is error or (isinstance(value, tuple) and any(item is error for item in value)) for value in given)


@contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """
    Raise FileExistsError where an object was to be created and exists.

    All other errors propagate unchanged.
    """
    try:
        yield
    except UploadFailed as error:
        if isinstance(error.__cause__, ObjectExists):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        raise
