"""
Where the bytes come from: files, bytes in memory, streams.

Files are read by positioned reads into a small buffer that is used again and again, with the checksum taken while the
bytes are still in the processor's cache. They are never mapped into memory: touching a mapped file that somebody cut
short kills the process, where a read just comes up short and can be reported.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BufferedRandom, FileIO
from typing import Protocol

from partwise._os_errors import is_transient
from partwise._validation import brief, check_integer, check_methods, check_path, check_type
from partwise.checkpoint import Fingerprint
from partwise.checksums import crc64
from partwise.errors import InvalidInput, SourceChanged, SourceError, SourceUnreadable
from partwise.model import MIB
from partwise.protocols import Body, Source

__all__ = ["BytesSource", "FileSource", "StreamSource"]

#: Read and handed on at a time: no more than stays in a processor's own cache from the read to the send, since bytes
#: that have to be fetched again cost more than all else does here; and no less, since each read, checksum and send is a
#: turn in the interpreter among threads.
CHUNK_SIZE_MAX = MIB

#: ... of parts below the size given first: a good part of them, so that the next piece is read while the last one is on
#: its way.
_SMALL_PART, _SMALL_CHUNK = 4 * MIB, MIB // 2


def chunk_size(part_size: int) -> int:
    """How many bytes of a part of this size are read and handed on at a time."""
    return CHUNK_SIZE_MAX if part_size >= _SMALL_PART else _SMALL_CHUNK


class _Buffer(threading.local):
    """
    The buffer of each thread, so that a thousand parts do not allocate a thousand buffers, and so that a thread finds
    in its processor's cache what it wrote to last. It goes when the thread does.
    """

    def __init__(self) -> None:
        self._free: memoryview | None = None

    def take(self) -> memoryview:
        """One that nobody uses; several bodies may be read by one thread in turns."""
        buffer, self._free = self._free, None
        return memoryview(bytearray(CHUNK_SIZE_MAX)) if buffer is None else buffer

    def give_back(self, buffer: memoryview) -> None:
        self._free = buffer


_buffers = _Buffer()


class _OpenFiles:
    """
    A file, opened once for each body that is read at one time, and kept open for the next.

    To open, position and close it for each part takes four calls of the system more, and each of them a turn in the
    interpreter among threads. As above, a list's `append` and `pop` need no lock.

    Args:
        path: the file.
        inode: its inode. 0: it is not known. A file that is found under this name with another inode is not read,
            unless its size and time are those in `version`: it may be the same file on a file system whose inodes do
            not last. Then its inode is noted in `others`.
        version: size in bytes and modification time in nanoseconds.
    """

    def __init__(self, path: str, inode: int = 0, version: tuple[int, int] | None = None) -> None:
        self._path = path
        self.inode = inode
        self.version = version
        self.others: set[int] = set()
        self._idle: list[FileIO] = []
        self._closed = False
        self._opened: set[FileIO] = set()
        # Not by a method of its own: when a circle of these and of a read that was never ended is collected, the file
        # might be finalized first. What a finalizer refers to is not collected before it has run.
        weakref.finalize(self, _close_all, self._opened)

    def take(self) -> FileIO:
        """An open file, for one reader at a time."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def give_back(self, file: FileIO) -> None:
        """The reader is done with it."""
        self._idle.append(file)
        if self._closed:
            self.close()

    def discard(self, file: FileIO) -> None:
        """
        Close a file that could not be read, and all that are idle: none of them may outlive what made the read fail,
        such as the restart of a file server. The next reader opens the file anew.
        """
        self._close(file)
        self._close_idle()

    def close(self) -> None:
        """Close what nobody reads, now; and what is being read, when it is given back."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                file = self._idle.pop()
            except IndexError:
                return
            self._close(file)

    def _close(self, file: FileIO) -> None:
        self._opened.discard(file)
        _close_all((file,))

    def _open(self) -> FileIO:
        file, status = _open_for_reading(self._path)
        self._opened.add(file)
        if self.inode and status.st_ino != self.inode:
            if self.version == (status.st_size, status.st_mtime_ns):
                self.others.add(status.st_ino)
                return file
            self._close(file)
            raise SourceChanged(
                f"{self._path} was replaced by another file while it was being uploaded", source=self._path
            )
        return file


def _close_all(files: Iterable[FileIO]) -> None:
    for file in files:
        with suppress(OSError):  # on a network file system that is gone, closing may fail, too
            file.close()


class FileBody:
    """
    A range of a file. It can be pickled: the copy opens the file each time it is read, and makes sure that it is the
    same file there, which on another machine it may not be.

    Args:
        path: the file.
        offset: where the range begins, in bytes from 0.
        size: its length in bytes.
        files: where open files are kept; None: they are not.
        version: size in bytes and modification time in nanoseconds of the file that is meant; None: any.
    """

    def __init__(
        self,
        path: str,
        offset: int,
        size: int,
        files: _OpenFiles | None = None,
        version: tuple[int, int] | None = None,
    ) -> None:
        self.path = path
        self.offset = offset
        self.size = size
        self.crc64: int | None = None
        self._files = files
        self._version = version

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"FileBody({self.path!r}, offset={self.offset}, size={self.size})"

    def __reduce__(self) -> tuple[type[FileBody], tuple[str, int, int, None, tuple[int, int] | None]]:
        return FileBody, (self.path, self.offset, self.size, None, self._version)

    def chunks(self) -> Iterator[memoryview]:
        self.crc64 = None
        files, path = self._files, self.path
        file = self._open() if files is None else files.take()
        whole = _buffers.take()
        buffer = whole[: chunk_size(self.size)]
        checksum, at, end = 0, self.offset, self.offset + self.size
        readable = True
        try:
            while at < end:
                readable = False
                count = _read_into(file, buffer[: end - at], at, path)
                readable = True
                if not count:
                    raise SourceChanged(
                        f"{path} was cut short while it was being uploaded: it ends {end - at} bytes before byte {end}",
                        source=path,
                    )
                at += count
                chunk = buffer[:count]
                checksum = crc64(chunk, checksum)
                if at == end:
                    self.crc64 = checksum
                yield chunk
            self.crc64 = checksum
        finally:
            _buffers.give_back(whole)
            if files is None:
                file.close()
            elif readable:
                files.give_back(file)
            else:
                files.discard(file)

    def _open(self) -> FileIO:
        file, status = _open_for_reading(self.path)
        if self._version not in (None, (status.st_size, status.st_mtime_ns)):
            import platform

            file.close()
            raise SourceUnreadable(
                f"{self.path} on {platform.node()} is not the file that the upload was begun with: it has"
                f" {status.st_size} bytes of {status.st_mtime_ns} ns since 1970, and (size, time) should be"
                f" {self._version}",
                source=self.path,
            )
        return file


def _open_for_reading(path: str) -> tuple[FileIO, os.stat_result]:
    try:
        file = FileIO(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        return file, os.fstat(file.fileno())
    except OSError as error:
        file.close()
        raise _unreadable(path, error) from error


def _not_a_file(path: str, mode: int) -> str:
    if stat.S_ISDIR(mode):
        return f"{path} is a directory; only files and streams can be uploaded"
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return (
        f"{path} is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a regular file. What can only be read from"
        f" beginning to end is uploaded as a stream: {STREAM_ADVICE}"
    )


#: How a program uploads what is not a regular file; the command line has words of its own for it.
STREAM_ADVICE = "give it as an open file, or as StreamSource(open(path, 'rb'), name=path), which can be resumed"


def _read_into(file: FileIO, buffer: memoryview, offset: int, path: str) -> int:
    preadv = getattr(os, "preadv", None)  # Windows has none
    try:
        if preadv is not None:
            return int(preadv(file.fileno(), (buffer,), offset))
        file.seek(offset)
        return file.readinto(buffer) or 0
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> SourceUnreadable:
    reason = error.strerror or str(error)
    return SourceUnreadable(f"{path} can't be read: {reason}", source=path, retryable=is_transient(error))


class FileSource:
    """
    A regular file.

    One version of it is told from another by size, modification time in nanoseconds, and inode. What writes to a file
    in place and sets its time back goes unnoticed unless ``TransferConfig(verify_source="content")`` is asked for.

    Args:
        path: the file. It is named in the checkpoint by its absolute path.
            Bytes are a path as the system writes it.

    Raises:
        InvalidInput: it is not a path; or it is relative, and the working directory does not exist any more.
    """

    def __init__(self, path: str | os.PathLike[str] | os.PathLike[bytes]) -> None:
        self._path = check_path("the path of a source", path)
        self._files = _OpenFiles(self._path)
        self._seen: tuple[tuple[int, int, int, int], Fingerprint] | None = None

    def __reduce__(self) -> tuple[type[FileSource], tuple[str]]:
        return FileSource, (self._path,)

    @property
    def name(self) -> str:
        """The absolute path."""
        return self._path

    def __repr__(self) -> str:
        return f"FileSource({self._path!r})"

    def fingerprint(self) -> Fingerprint:
        """
        Size, modification time and inode as they are now. The first time the file is opened, too, so that one that may
        not be read is known before anything is sent.

        Raises:
            SourceUnreadable: there is no such file, it is no regular file, it may not be read, or it has bytes that it
                does not count, as files under /proc have.
        """
        try:
            status = os.stat(self._path)  # noqa: PTH116  # asked for after every part; a Path costs more than the call
        except OSError as error:
            raise _unreadable(self._path, error) from error
        except ValueError as error:
            raise SourceUnreadable(f"{self._path!r} can't be a path: {error}", source=self._path) from error
        if not stat.S_ISREG(status.st_mode):
            raise SourceUnreadable(_not_a_file(self._path, status.st_mode), source=self._path)
        version = (status.st_size, status.st_mtime_ns, status.st_ino, len(self._files.others))
        seen = self._seen
        if seen is not None and seen[0] == version:
            return seen[1]
        if self._files.inode != status.st_ino:
            self._replace_files(status.st_ino)
        self._files.version = version[:2]
        # What was read under another inode than this one counts as a change of identity, too.
        inodes = [status.st_ino, *sorted(self._files.others)]
        identity = "+".join(map(str, inodes)) if status.st_ino else None
        fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, identity)
        if seen is None:
            self._try_to_read(empty=not status.st_size)
        self._seen = version, fingerprint
        return fingerprint

    def _try_to_read(self, *, empty: bool) -> None:
        with self._files.take() as file:
            if empty and _read_into(file, memoryview(bytearray(1)), 0, self._path):
                raise SourceUnreadable(
                    f"{self._path} says that it is empty, and has bytes all the same: upload it as a stream",
                    source=self._path,
                )

    def _replace_files(self, inode: int) -> None:
        old, self._files = self._files, _OpenFiles(self._path, inode, self._files.version)
        old.close()

    def body(self, offset: int, size: int) -> FileBody:
        """A range of the file as it was last seen; nothing is opened yet."""
        return FileBody(self._path, offset, size, self._files, None if self._seen is None else self._seen[0][:2])

    def close(self) -> None:
        """Close the file, which is kept open from one part to the next. A further upload opens it anew."""
        self._replace_files(self._files.inode)


class BytesBody:
    """
    Bytes in memory.

    Args:
        data: the bytes, which must not change while they are being read.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = _plain(data)
        self.crc64: int | None = None

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"<BytesBody of {len(self)} bytes>"

    def __reduce__(self) -> tuple[type[BytesBody], tuple[bytes]]:
        return BytesBody, (bytes(self._data),)

    def chunks(self) -> Iterator[memoryview]:
        self.crc64 = None
        checksum = crc64(self._data)
        for begin in range(0, len(self._data), MIB):
            if begin + MIB >= len(self._data):
                self.crc64 = checksum
            yield self._data[begin : begin + MIB]
        self.crc64 = checksum


def _plain(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError as error:
        raise InvalidInput(f"the view can't be read as plain bytes, so copy it with bytes(): {error}") from error


class BytesSource:
    """
    Bytes in memory.

    They are known again by their checksum, so a later run that is given the same bytes under the same name resumes.

    Args:
        data: the bytes, which must not change during the upload. A view must be contiguous.
        name: tells them from other bytes on their way to the same key.

    Raises:
        InvalidInput: `data` is a view with gaps.
    """

    def __init__(self, data: bytes | bytearray | memoryview, *, name: str = "bytes") -> None:
        check_type("the name of bytes", name, str, "a string")
        self._data = _plain(data)
        self._name = name
        self._fingerprint: Fingerprint | None = None

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<BytesSource {self._name!r} of {len(self._data)} bytes>"

    def fingerprint(self) -> Fingerprint:
        """Size and checksum, taken once: the parts that were sent must add up to it, or the buffer was written to."""
        if self._fingerprint is None:
            self._fingerprint = Fingerprint(size=len(self._data), crc64=crc64(self._data))
        return self._fingerprint

    def body(self, offset: int, size: int) -> BytesBody:
        return BytesBody(self._data[offset : offset + size])

    def close(self) -> None:
        """Nothing is open."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class _SpooledBody:
    """A part of a stream, kept in a temporary file because it is large. To another process it goes by its bytes."""

    def __init__(self, file: BufferedRandom, size: int, checksum: int) -> None:
        self._file = file
        # Not by a method of its own: when both are collected in a circle, the file might be finalized first.
        weakref.finalize(self, file.close)
        self._size = size
        self._checksum = checksum
        self.crc64: int | None = checksum

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[type[BytesBody], tuple[bytes]]:
        return BytesBody, (b"".join(self.chunks()),)

    def chunks(self) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(chunk_size(self._size)))
        self._file.seek(0)
        while count := self._read_into(buffer):
            yield buffer[:count]

    def _read_into(self, buffer: memoryview) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise _unreadable("a part of the stream in a temporary file", error) from error


class StreamSource:
    """
    A stream that can be read once, from its present position to its end: a pipe, a socket, a decompressor.

    Its size is not known until its end was seen. One part for each worker is held, in memory up to `spool_above` bytes
    and in a temporary file beyond that, since a part may have to be sent twice.

    A stream without a name can't be resumed: no checkpoint is kept, and a failure aborts the upload. With a name, a
    later run that is given a stream of the same bytes, from their beginning, reads along and sends only the parts
    that the storage does not hold yet; each part that it skips was compared by checksum.

    Args:
        stream: anything with a binary ``read(size)``; or a callable that opens it, called when reading begins.
        name: how a later run knows the stream again; "" for a stream that can't be produced a second time.
        spool_above: parts of more bytes than this are kept in a temporary file.
    """

    def __init__(
        self, stream: _Readable | Callable[[], _Readable], *, name: str = "", spool_above: int = 16 * MIB
    ) -> None:
        check_type("the name of a stream", name, str, "a string")
        # -1 keeps all parts in files.
        check_integer("spool_above", spool_above, -1)
        if not callable(stream) and not hasattr(stream, "read"):
            raise InvalidInput(f"a stream has the method read, or is a function that opens one, not {brief(stream)}")
        self._open = stream if callable(stream) and not hasattr(stream, "read") else None
        self._stream = None if self._open else stream
        self._name = name
        self._spool_above = spool_above
        self._position = 0

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<StreamSource {self._name!r}>"

    def fingerprint(self) -> Fingerprint:
        """Nothing tells one version of a stream from another but reading it."""
        return Fingerprint()

    def body(self, offset: int, size: int) -> Body:
        """
        The next `size` bytes, or what is left of the stream. Blocks until they are there.

        Raises:
            SourceError: the stream fails, gives no bytes for the moment, or was read from before.
        """
        if offset != self._position:
            raise SourceError(f"the stream is at byte {self._position}, and can't go to {offset}", source=self._name)
        if self._stream is None:
            assert self._open is not None
            try:
                stream = self._open()
            except OSError as error:
                raise SourceError(
                    f"the stream can't be opened: {error}", source=self._name, retryable=is_transient(error)
                ) from error
            check_methods("what opens a stream gives", stream, ("read",), "a stream, which has the method read")
            self._stream = stream
        return self._spooled(size) if size > self._spool_above else self._in_memory(size)

    def close(self) -> None:
        """Close what the callable opened; a further upload opens it anew. A stream that was given is the caller's."""
        if self._open and self._stream is not None:
            closing = getattr(self._stream, "close", None)
            if closing is not None:
                closing()
            self._stream = None
            self._position = 0

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            asked = min(size, MIB)
            try:
                piece = self._stream.read(asked)  # type: ignore[union-attr]  # opened by body()
            except (OSError, ValueError) as error:
                raise SourceError(f"the stream failed at byte {self._position}: {error}", source=self._name) from error
            if piece is None:
                raise SourceError("the stream would block; give one that waits for its bytes", source=self._name)
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InvalidInput(f"the stream gives {type(piece).__name__}, not bytes: open it in binary mode")
            piece = bytes(piece)
            if not piece:
                return
            if len(piece) > asked:
                raise InvalidInput(f"the stream gave {len(piece)} bytes where {asked} were asked for")
            self._position += len(piece)
            size -= len(piece)
            yield piece

    def _in_memory(self, size: int) -> BytesBody:
        return BytesBody(b"".join(self._pieces(size)))

    def _spooled(self, size: int) -> _SpooledBody:
        import tempfile

        try:
            file: BufferedRandom = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the body
        except OSError as error:
            # Nothing of the part was read yet, so it can be asked for again.
            raise self._unspooled(error, retryable=is_transient(error)) from error
        checksum = 0
        length = 0
        try:
            for piece in self._pieces(size):
                checksum = crc64(piece, checksum)
                length += len(piece)
                try:
                    file.write(piece)
                except OSError as error:
                    raise self._unspooled(error) from error
            try:
                file.flush()
            except OSError as error:
                raise self._unspooled(error) from error
        except BaseException:
            with suppress(OSError):  # what could not be written is tried again when the file is closed
                file.close()
            raise
        return _SpooledBody(file, length, checksum)

    def _unspooled(self, error: OSError, *, retryable: bool = False) -> SourceError:
        import tempfile

        where = tempfile.tempdir or "the directory for temporary files"
        return SourceError(
            f"a part of the stream can't be kept in {where}: {error.strerror or error}. Make room there, or name"
            " another directory by TMPDIR, or keep parts in memory (spool_above)",
            source=self._name,
            retryable=retryable,
        )


#: What can be uploaded: a path, bytes, a binary stream, or a source of one's own.
SourceLike = str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview | _Readable | Source


def as_source(source: object) -> Source:
    """
    What a caller gave, as a `Source`: a path, bytes, a binary stream, or a source of their own.

    A stream that is given without more is one that can't be resumed; `StreamSource` with a name is.

    Raises:
        InvalidInput: it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return FileSource(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesSource(source)
    if isinstance(source, Source):
        return source
    if hasattr(source, "read"):
        return StreamSource(source)
    raise InvalidInput(
        f"a source is a path, bytes, a binary stream or a Source, not {type(source).__name__} ({brief(source)})"
    )
