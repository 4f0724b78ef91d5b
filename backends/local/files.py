"""
The bytes of files: writing, copying, checksums.

Functions that not every system has are looked up when they are called, and done without where they are missing.
"""

from __future__ import annotations

import errno
import os
import secrets
from io import FileIO

from partwise.backends.local.directories import Directory
from partwise.checksums import crc64

#: Bytes read at a time. Measured on ext4, 256 KiB to 8 MiB make little difference.
BLOCK = 1024 * 1024

#: The names that `fresh_name` makes, as a regular expression.
FRESH_NAME = "[0-9a-f]{16}"

# What copy_file_range says where the kernel or the file system can't do it for these two files.
_NO_KERNEL_COPY = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.EBADF}
# What link says where the file system has no hard links, or the user may not make one.
_NO_LINK = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EINVAL}


def fresh_name() -> str:
    """A name that no other file has."""
    return secrets.token_hex(8)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many steps as the operating system takes."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def move_new(source: Directory, name: str, target: Directory, new: str) -> None:
    """
    Move the file `name` to `target` as `new`, unless that name is taken.

    A hard link gives certainty, and leaves a second name of the same file for a moment. Where there are no links, the
    name is looked for first: two writers that bring the same new name at the same instant may then both succeed, and
    the last one stands; each is whole.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        source.link(name, target, new)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    else:
        # The file has its name. Should the other one stay, then the sweep removes it.
        source.discard(name)
        return
    if target.status(new) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.path_of(new))
    # On Windows a rename never replaces, so that the question above is only for the others.
    source.move(name, target, new)


def append_copy(source: FileIO, target: FileIO, size: int, buffer: memoryview) -> tuple[int, int]:
    """
    Append the first `size` bytes of `source` to `target`, by the kernel where it can.

    On a file system that shares blocks between files (Btrfs, XFS) the copy then takes neither time nor room. The
    checksum is always taken from bytes that were read: what is meant to be there may not be what is there.

    Args:
        source: the file to copy from.
        target: a file open for reading and writing.
        size: how many bytes to copy.
        buffer: room to read into.

    Returns:
        How many bytes there were, `size` unless `source` is shorter; and the CRC-64/XZ of them as they are in `target`.
    """
    end = target.seek(0, os.SEEK_END)
    done = 0
    checksum = 0
    while done < size:
        block = buffer[: size - done]
        moved = _copy_by_kernel(source, done, target, end + done, len(block))
        if moved is None:
            source.seek(done)
            moved = source.readinto(block)
            target.seek(end + done)
            write_all(target, block[:moved])
        else:
            target.seek(end + done)
            moved = target.readinto(block[:moved])
        if not moved:
            break
        checksum = crc64(block[:moved], checksum)
        done += moved
    return done, checksum


def _copy_by_kernel(source: FileIO, offset: int, target: FileIO, target_offset: int, count: int) -> int | None:
    """The number of bytes copied, which may be fewer; None where the kernel copies none."""
    copy = getattr(os, "copy_file_range", None)
    if copy is None:
        return None
    try:
        copied: int = copy(source.fileno(), target.fileno(), count, offset, target_offset)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return None
        raise
    # None at all is the end of the file, or one of the file systems that mistake themselves for empty: reading tells.
    return copied or None


def checksum_of(file: FileIO) -> tuple[int, int]:
    """The number of bytes from here to the end of a file, and their CRC-64/XZ."""
    buffer = memoryview(bytearray(BLOCK))
    size = 0
    checksum = 0
    while count := file.readinto(buffer):
        checksum = crc64(buffer[:count], checksum)
        size += count
    return size, checksum


def etag_of(checksum: int) -> str:
    """What a file whose bytes have this CRC-64 is called: the same bytes, the same name."""
    return f"{checksum:016X}"
