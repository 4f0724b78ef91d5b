"""
Copy, move and checksum files.

System calls that not every system has are looked up when they are needed; without them a slower way is used.
"""

from __future__ import annotations

import errno
import os
import secrets
from io import FileIO

from partwise import _durable
from partwise.backends.local.directories import Directory
from partwise.checksums import crc64

#: Bytes read at a time. On ext4, sizes from 256 KiB to 8 MiB measure about the same.
BLOCK = 1024 * 1024

#: A regular expression of the names that `unique_name` returns.
UNIQUE_NAME = "[0-9a-f]{16}"

# Errors of copy_file_range where the kernel or the file system does not support it for these two files.
_NO_KERNEL_COPY = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.EBADF}
# Errors of link where the file system has no hard links, or the user may not create one.
_NO_LINK = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EINVAL}


def unique_name() -> str:
    """Return a random name that no other file has."""
    return secrets.token_hex(8)


def rename_noreplace(source: Directory, name: str, target: Directory, new: str) -> None:
    """
    Move the file `name` to `target` as `new`, unless that name exists.

    A hard link does that atomically; for a moment the file then has both names. On file systems without hard links the
    name is checked first: two writers that create the same name at the same instant may then both succeed. Each file
    is whole, and the last one stays.

    Raises:
        FileExistsError: the name exists.
    """
    if _link(source, name, target, new):
        # The file has its new name. If the old one can't be removed now, a later sweep removes it.
        source.discard(name)
        return
    if target.status(new) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.path_of(new))
    # On Windows a rename never replaces a file; the check above is for other systems.
    source.move(name, target, new)


def _link(source: Directory, name: str, target: Directory, new: str) -> bool:
    """Give a file a second name; return False if it can't have one."""
    try:
        source.link(name, target, new)
    except FileExistsError:
        # A server of NFS that makes the link, and restarts before it has responded, refuses the repeated request.
        own, found = source.status(name), target.status(new)
        if own is None or found is None or own.st_nlink < 2 or not os.path.samestat(own, found):
            raise
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def append_copy(source: FileIO, target: FileIO, size: int, buffer: memoryview) -> tuple[int, int]:
    """
    Append the first `size` bytes of `source` to `target`, which can be read, too.

    The kernel copies them where that is possible. On file systems that share blocks between files (Btrfs, XFS) such a
    copy takes no time and no space. The checksum is computed from the bytes that are read back from `target`, so it
    shows what was stored.

    Returns:
        The number of bytes copied, which is `size` unless `source` is shorter, and the CRC-64/XZ of the copy.
    """
    end = target.seek(0, os.SEEK_END)
    done = 0
    checksum = 0
    while done < size:
        block = buffer[: size - done]
        moved = _copy_in_kernel(source, done, target, end + done, len(block))
        if moved is None:
            source.seek(done)
            moved = source.readinto(block)
            target.seek(end + done)
            _durable.write(target.fileno(), block[:moved])
        else:
            target.seek(end + done)
            moved = target.readinto(block[:moved])
        if not moved:
            break
        checksum = crc64(block[:moved], checksum)
        done += moved
    return done, checksum


def _copy_in_kernel(source: FileIO, offset: int, target: FileIO, target_offset: int, count: int) -> int | None:
    """
    Copy bytes in the kernel and return their number.

    It may be smaller than `count`. None means that the kernel copied nothing.
    """
    copy = getattr(os, "copy_file_range", None)
    if copy is None:
        return None
    try:
        copied: int = copy(source.fileno(), target.fileno(), count, offset, target_offset)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return None
        raise
    # 0 means the end of the file, but some virtual file systems report it for any file. A plain read decides.
    return copied or None


def checksum_file(file: FileIO) -> tuple[int, int]:
    """Read a file to its end; return the number of bytes and their CRC-64/XZ."""
    buffer = memoryview(bytearray(BLOCK))
    size = 0
    checksum = 0
    while count := file.readinto(buffer):
        checksum = crc64(buffer[:count], checksum)
        size += count
    return size, checksum


def etag_of(checksum: int) -> str:
    """Return the ETag of a part or an object: its CRC-64/XZ as 16 hexadecimal digits."""
    return f"{checksum:016X}"
