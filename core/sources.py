"""
Sources of bytes: files, bytes in memory, streams.

Files are read by positioned reads into a small reused buffer, so that the checksum is computed while the bytes are in
the CPU cache. They are not mapped into memory: access to a mapped file that was truncated kills the process, while a
read only returns fewer bytes, which can be reported.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BufferedRandom, FileIO
from typing import Protocol

from partwise._os_errors import is_transient
from partwise._units import format_count
from partwise._validation import brief, check_integer, check_methods, check_path, check_type
from partwise.checkpoint import Fingerprint
from partwise.checksums import crc64
from partwise.errors import InvalidInput, PartwiseError, SourceChanged, SourceError, SourceUnreadable
from partwise.model import KIB, MIB
from partwise.protocols import Source, SourceBody

__all__ = ["BinaryStream", "BytesSource", "FileSource", "StreamSource"]

#: Size of the chunks of a body. Larger ones would not stay in the CPU cache from the read to the send, and a cache miss
#: costs more than anything else here. Smaller ones switch between threads in the interpreter more often.
CHUNK_SIZE_MAX = MIB

#: Parts smaller than the first size have chunks of the second one, so that the next chunk is read while the previous
#: one is being sent.
_SMALL_PART, _SMALL_CHUNK = 4 * MIB, MIB // 2


def chunk_size(part_size: int) -> int:
    """Return the size of the chunks in which a part of this size is read."""
    return CHUNK_SIZE_MAX if part_size >= _SMALL_PART else _SMALL_CHUNK


#: How many readers have buffers of the largest size at the same time, and the size of the buffers of all others. With
#: 128 parts in flight, each of them gets little of the line, so small chunks cost nothing, and large ones 128 MiB.
_LARGE_BUFFERS_MAX, _SMALL_BUFFER = 8, 64 * KIB


class _BufferPool:
    """
    Reusable buffers for all threads.

    A thousand parts do not allocate a thousand buffers. The last one that was released is used first, since it may
    still be in the CPU cache. `append` and `pop` of a list are atomic, so the pool needs no lock.
    """

    def __init__(self) -> None:
        self._unallocated = [None] * _LARGE_BUFFERS_MAX
        self._large: list[memoryview] = []
        self._small: list[memoryview] = []

    def acquire(self) -> memoryview:
        """
        Return a buffer that is not in use.

        It is a large one, or a small one if all large ones are in use.
        """
        try:  # not by `suppress`, which costs more than all the rest
            return self._large.pop()
        except IndexError:
            return self._acquire_another()

    def _acquire_another(self) -> memoryview:
        with suppress(IndexError):
            self._unallocated.pop()
            return memoryview(bytearray(CHUNK_SIZE_MAX))
        with suppress(IndexError):
            return self._small.pop()
        return memoryview(bytearray(_SMALL_BUFFER))

    def release(self, buffer: memoryview) -> None:
        (self._large if len(buffer) == CHUNK_SIZE_MAX else self._small).append(buffer)

    def clear(self) -> None:
        """Free the buffers that are not in use."""
        self._small.clear()
        with suppress(IndexError):
            while True:
                self._large.pop()
                self._unallocated.append(None)


_buffers = _BufferPool()


class _OpenFiles:
    """
    A pool of file objects of one file, kept open for the next bodies.

    It has as many as bodies are read concurrently. To open, position and close the file for each part takes four more
    system calls, each of which releases the interpreter's lock. `append` and `pop` of a list are atomic, so the pool
    needs no lock.

    Args:
        path: the file.
        inode: its inode; 0 if it is not known. If the path has another inode, the file is not read, unless it has the
            size and time in `version`: then it may be the same file on a file system with unstable inodes, and its
            inode is added to `others`.
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
        # Not `__del__`: in a reference cycle with an unfinished read, the file might be finalized first. What a
        # `weakref.finalize` refers to is not collected before it has run.
        weakref.finalize(self, _close_all, self._opened)

    def acquire(self) -> FileIO:
        """Return an open file for one reader."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def release(self, file: FileIO) -> None:
        """Return a file to the pool."""
        self._idle.append(file)
        if self._closed:
            self.close()

    def discard(self, file: FileIO) -> None:
        """
        Close a file that could not be read, and all idle ones.

        The next reader opens the file again. What made the read fail, such as the restart of a file server, may have
        invalidated all of them.
        """
        self._close(file)
        self._close_idle()

    def close(self) -> None:
        """Close idle files now, and files in use when they are released."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):  # another thread may take the last one
            while True:
                self._close(self._idle.pop())

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
            raise SourceChanged(f"{self._path} was replaced by another file during the upload", source=self._path)
        return file


def _close_all(files: Iterable[FileIO]) -> None:
    for file in files:
        with suppress(OSError):  # closing may fail, too, if a network file system is not available
            file.close()


class FileBody:
    """
    A range of a file.

    It can be pickled. The copy opens the file each time it is read, and checks that it is the same file, since another
    machine may have another one at this path.

    Args:
        path: the file.
        offset: the first byte of the range, from 0.
        size: its length in bytes.
        files: the pool of open files; None opens and closes one for each read.
        version: size in bytes and modification time in nanoseconds of the file; None: any.
    """

    def __init__(
        self, path: str, offset: int, size: int, files: _OpenFiles | None = None, version: tuple[int, int] | None = None
    ) -> None:
        self.path = path
        self.offset = offset
        self.size = size
        self._files = files
        self._version = version

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"FileBody({self.path!r}, offset={self.offset}, size={self.size})"

    def __reduce__(self) -> tuple[type[FileBody], tuple[str, int, int, None, tuple[int, int] | None]]:
        return FileBody, (self.path, self.offset, self.size, None, self._version)

    def chunks(self) -> Iterator[memoryview]:
        files, path = self._files, self.path
        file = self._open() if files is None else files.acquire()
        whole = _buffers.acquire()
        buffer = whole[: chunk_size(self.size)]
        at, end = self.offset, self.offset + self.size
        readable = True
        try:
            while at < end:
                readable = False
                count = _read_into(file, buffer[: end - at], at, path)
                readable = True
                if not count:
                    missing = format_count(end - at, "byte")
                    raise SourceChanged(
                        f"{path} was truncated during the upload: it ends {missing} before byte {end}", source=path
                    )
                at += count
                yield buffer[:count]
        finally:
            _buffers.release(whole)
            if files is None:
                file.close()
            elif readable:
                files.release(file)
            else:
                files.discard(file)

    def _open(self) -> FileIO:
        file, status = _open_for_reading(self.path)
        if self._version not in (None, (status.st_size, status.st_mtime_ns)):
            import platform

            file.close()
            raise SourceUnreadable(
                f"{self.path} on {platform.node()} is not the file that is being uploaded: its (size, time) is"
                f" {(status.st_size, status.st_mtime_ns)}, not {self._version}",
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


_STREAM_HINT = "Upload it as a stream: an open file, or StreamSource(open(path, 'rb'), name=path), which is resumable"


_DIRECTORY_HINT = "Upload each file in it, or an archive of it as a stream"


def irregular_file_error(
    path: str, mode: int, hint: str = _STREAM_HINT, directory_hint: str = _DIRECTORY_HINT
) -> SourceUnreadable:
    """
    Return the error for a path that is not that of a regular file.

    `hint` is for what can be read as a stream.
    """
    if stat.S_ISDIR(mode):
        return SourceUnreadable(f"{path} is a directory, not a file", source=path, hint=directory_hint)
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return SourceUnreadable(
        f"{path} is {kinds.get(stat.S_IFMT(mode), 'a special file')}, not a regular file",
        source=path,
        hint=hint,
    )


def _read_into(file: FileIO, buffer: memoryview, offset: int, path: str) -> int:
    preadv = getattr(os, "preadv", None)  # not on Windows
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

    Changes are detected by size, modification time in nanoseconds, and inode. A program that writes to a file in place
    and resets its time is not noticed, except with ``TransferConfig(verify_source="content")``.

    Args:
        path: the file, a string, a path object, or bytes in the encoding of the file system. The checkpoint contains
            its absolute path.

    Raises:
        InvalidInput: it is not a path, or it is relative and there is no working directory.
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
        Return the current size, modification time and inode.

        The first call opens the file, too, so that a missing permission is noticed before anything is sent.

        Raises:
            SourceUnreadable: the file does not exist, is not a regular file, is not readable, or reports a size of 0
                although it has bytes, as files under /proc do.
        """
        try:
            status = os.stat(self._path)  # noqa: PTH116  # called after every part; a Path costs more than the call
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise irregular_file_error(self._path, status.st_mode)
        version = (status.st_size, status.st_mtime_ns, status.st_ino, len(self._files.others))
        seen = self._seen
        if seen is not None and seen[0] == version:
            return seen[1]
        if self._files.inode != status.st_ino:
            self._replace_files(status.st_ino)
        self._files.version = version[:2]
        # A file that was read under another inode counts as a change of identity, too.
        inodes = [status.st_ino, *sorted(self._files.others)]
        identity = "+".join(map(str, inodes)) if status.st_ino else None
        fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, identity)
        if seen is None:
            self._check_readable(empty=not status.st_size)
        self._seen = version, fingerprint
        return fingerprint

    def _check_readable(self, *, empty: bool) -> None:
        with self._files.acquire() as file:
            if empty and _read_into(file, memoryview(bytearray(1)), 0, self._path):
                raise SourceUnreadable(
                    f"{self._path} reports a size of 0 bytes, but has more. Upload it as a stream", source=self._path
                )

    def _replace_files(self, inode: int) -> None:
        old, self._files = self._files, _OpenFiles(self._path, inode, self._files.version)
        old.close()

    def body(self, offset: int, size: int) -> FileBody:
        """
        Return a range of the file in the version of the last fingerprint.

        Nothing is opened yet.
        """
        return FileBody(self._path, offset, size, self._files, None if self._seen is None else self._seen[0][:2])

    def close(self) -> None:
        """
        Close the file, which is kept open between parts, and free the buffers.

        The next upload opens it again.
        """
        self._replace_files(self._files.inode)
        _buffers.clear()


class BytesBody:
    """
    Bytes in memory.

    Args:
        data: the bytes. They must not change while they are read.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = _plain(data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"<BytesBody of {len(self)} bytes>"

    def __reduce__(self) -> tuple[type[BytesBody], tuple[bytes]]:
        return BytesBody, (bytes(self._data),)

    def chunks(self) -> Iterator[memoryview]:
        for begin in range(0, len(self._data), MIB):
            yield self._data[begin : begin + MIB]


def _plain(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        view = memoryview(data)
    except (TypeError, ValueError):  # of another type, or a view that was released
        raise InvalidInput(f"data must be bytes, a bytearray or a memoryview, not {brief(data)}") from None
    try:
        return view.cast("B")
    except TypeError as error:
        raise InvalidInput(f"the view is not contiguous bytes: {error}", hint="Copy it with bytes()") from error


class BytesSource:
    """
    Bytes in memory.

    They are identified by their checksum: a later run with the same bytes and the same name resumes.

    Args:
        data: the bytes. They must not change during the upload. A view must be contiguous.
        name: distinguishes them from other bytes that are uploaded to the same key.

    Raises:
        InvalidInput: `data` is not bytes, or a view that is not contiguous.
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
        """
        Return size and checksum, computed once.

        If the parts sent do not add up to it, the bytes were changed.
        """
        if self._fingerprint is None:
            self._fingerprint = Fingerprint(size=len(self._data), crc64=crc64(self._data))
        return self._fingerprint

    def body(self, offset: int, size: int) -> BytesBody:
        return BytesBody(self._data[offset : offset + size])

    def close(self) -> None:
        """Do nothing."""


class BinaryStream(Protocol):
    """
    What can be read once, such as an open file, a pipe, or the body of a response.

    Any object with such a method is one.
    """

    def read(self, size: int, /) -> bytes | None:
        """
        Return up to `size` bytes, and wait for at least one; ``b""`` at the end.

        None, as from a non-blocking stream, is refused.
        """


class _SpooledBody:
    """
    A large part of a stream, in a temporary file. Pickling copies its bytes.

    Args:
        file: the file.
        size: its length in bytes.
        checksum: the CRC-64 of what was written to it; another one when it is read means that the file was changed.
    """

    def __init__(self, file: BufferedRandom, size: int, checksum: int) -> None:
        self._file = file
        self._checksum = checksum
        # Not `__del__`: in a reference cycle, the file might be finalized first.
        weakref.finalize(self, file.close)
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[type[BytesBody], tuple[bytes]]:
        return BytesBody, (b"".join(self.chunks()),)

    def chunks(self) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(chunk_size(self._size)))
        checksum, left = 0, self._size
        self._file.seek(0)
        while left and (count := self._read_into(buffer[:left])):
            checksum = crc64(buffer[:count], checksum)
            left -= count
            if not left and checksum != self._checksum:
                break
            yield buffer[:count]
        if left or checksum != self._checksum:
            raise SourceUnreadable("the temporary file with a part of the stream was changed")

    def _read_into(self, buffer: memoryview) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise _unreadable("a part of the stream in a temporary file", error) from error


class StreamSource:
    """
    A stream that can be read once, from its current position to its end.

    Examples are a pipe, a socket and a decompressor. Its size is known only at its end. Since a part may have to be
    sent twice, one part per worker is kept: in memory up to `spool_above` bytes, above that in a temporary file.

    A stream without a name is not resumable: there is no checkpoint, and a failure aborts the upload. With a name, a
    later run reads a stream of the same bytes from their start, compares the checksum of each part with what the
    storage has, and sends only the parts that are missing.

    Args:
        stream: a `BinaryStream`, or a function that opens one, called when reading starts.
        name: identifies the stream in a later run; "" for a stream that can't be produced again.
        spool_above: parts larger than this number of bytes are kept in a temporary file; -1: all parts.
    """

    def __init__(
        self, stream: BinaryStream | Callable[[], BinaryStream], *, name: str = "", spool_above: int = 16 * MIB
    ) -> None:
        check_type("the name of a stream", name, str, "a string")
        check_integer("spool_above", spool_above, -1)
        if not callable(stream) and not hasattr(stream, "read"):
            raise InvalidInput(
                f"a stream must have a method read, or be a function that opens one, not {brief(stream)}"
            )
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
        """Return an empty fingerprint: only reading a stream shows its version."""
        return Fingerprint()

    def body(self, offset: int, size: int) -> SourceBody:
        """
        Return the next `size` bytes, or the rest of the stream.

        Blocks until they are available.

        Raises:
            SourceError: the stream fails, is non-blocking, or is not at `offset`.
        """
        if offset != self._position:
            raise SourceError(f"the stream is at byte {self._position}, and can't seek to {offset}", source=self._name)
        if self._stream is None:
            assert self._open is not None
            try:
                stream = self._open()
            except PartwiseError:
                raise
            except Exception as error:
                retryable = isinstance(error, OSError) and is_transient(error)
                raise SourceError(
                    f"the stream can't be opened: {_stream_failure(error)}", source=self._name, retryable=retryable
                ) from error
            check_methods("the return value of the function that opens a stream", stream, ("read",), "a binary stream")
            self._stream = stream
        return self._spooled(size) if size > self._spool_above else BytesBody(b"".join(self._pieces(size)))

    def close(self) -> None:
        """
        Close what the function opened; the next upload opens it again.

        A stream from the caller stays open.
        """
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
            except PartwiseError:
                raise
            except Exception as error:
                why = _stream_failure(error)
                raise SourceError(f"the stream failed at byte {self._position}: {why}", source=self._name) from error
            if piece is None:
                raise SourceError("the stream is non-blocking. Pass one that waits for its bytes", source=self._name)
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InvalidInput(
                    f"the stream returned {type(piece).__name__}, not bytes", hint="Open it in binary mode"
                )
            piece = bytes(piece)
            if not piece:
                return
            if len(piece) > asked:
                raise InvalidInput(
                    f"the stream returned {format_count(len(piece), 'byte')}, more than the {asked} requested"
                )
            self._position += len(piece)
            size -= len(piece)
            yield piece

    def _spooled(self, size: int) -> _SpooledBody:
        import tempfile

        try:
            file: BufferedRandom = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the body
        except OSError as error:
            # Nothing was read from the stream yet, so the part can be requested again.
            raise self._spool_error(error, retryable=is_transient(error)) from error
        checksum = 0
        length = 0
        try:
            for piece in self._pieces(size):
                checksum = crc64(piece, checksum)
                length += len(piece)
                try:
                    file.write(piece)
                except OSError as error:
                    raise self._spool_error(error) from error
            try:
                file.flush()
            except OSError as error:
                raise self._spool_error(error) from error
        except BaseException:
            with suppress(OSError):  # closing writes again what could not be written
                file.close()
            raise
        return _SpooledBody(file, length, checksum)

    def _spool_error(self, error: OSError, *, retryable: bool = False) -> SourceError:
        import tempfile

        where = tempfile.tempdir or "the directory for temporary files"
        return SourceError(
            f"a part of the stream can't be kept in {where}: {error.strerror or error}",
            source=self._name,
            retryable=retryable,
            hint="Free space there, set TMPDIR to another directory, or keep parts in memory by a larger {spool_above}",
        )


def _stream_failure(error: Exception) -> str:
    """
    Return why a stream failed, for a message.

    The texts of other errors, such as that of a KeyError, say nothing without the name of their class.
    """
    return f"{error}" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"


#: What can be uploaded: a path, bytes, a binary stream, or a `Source`.
SourceLike = str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview | BinaryStream | Source


def as_source(source: object) -> Source:
    """
    Return a `Source` for a path, bytes, a binary stream, or a source.

    A stream is not resumable; a `StreamSource` with a name is.

    Raises:
        InvalidInput: it is not one of these.
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
        f"a source must be a path, bytes, a binary stream or a Source, not {type(source).__name__} ({brief(source)})"
    )
