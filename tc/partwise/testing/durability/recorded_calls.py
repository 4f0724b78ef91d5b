"""
The functions that change files, each reporting to a `RecordedDisk`.

Each calls the original function, and then reports the change if it was in the directory of the disk. What can't be
recorded is refused in that directory: buffered writes, whose order is unknown, symbolic links, and moves into or out of
the directory.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from io import FileIO
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from partwise.testing.durability.power_loss import RecordedDisk

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: The functions of `os` that change or sync files.
_CHANGING = """
    open write pwrite ftruncate truncate copy_file_range rename replace link unlink remove mkdir rmdir symlink
    fsync fdatasync
""".split()  # noqa: SIM905


class RecordedCalls:
    """The recording functions, under their original names."""

    def __init__(self, disk: RecordedDisk) -> None:
        self._disk = disk
        self._os = {name: getattr(os, name) for name in _CHANGING if hasattr(os, name)}
        self._open_file = io.open
        self._fcntl = None if fcntl is None else fcntl.fcntl

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the original functions during the block."""
        with ExitStack() as patched:
            for name in self._os:
                patched.enter_context(mock.patch.object(os, name, getattr(self, name)))
            patched.enter_context(mock.patch.object(io, "open", self.open_file))
            patched.enter_context(mock.patch("builtins.open", self.open_file))
            if fcntl is not None:  # pragma: no branch  # not on Windows
                patched.enter_context(mock.patch.object(fcntl, "fcntl", self.fcntl))
            yield

    # --- files -------------------------------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self._disk.changing():
            before = _status(path, dir_fd=dir_fd)
            file: int = self._os["open"](path, flags, mode, dir_fd=dir_fd)
            self._opened(path, dir_fd, before, os.fstat(file), empties=bool(flags & os.O_TRUNC))
            return file

    def open_file(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        """`open`: writing in the directory must be binary and unbuffered."""
        changes = not set(mode).isdisjoint("wax+")
        if not changes or isinstance(file, int) or self._disk.place(file) is None:
            return self._open_file(file, mode, buffering, *args, **kwargs)
        if buffering != 0 or any(args) or kwargs:
            raise NotImplementedError(f"{file} is opened for buffered writing, which can't be recorded")
        with self._disk.changing():
            before = _status(file)
            opened = _RecordedFile(file, mode.replace("b", ""), self)
            self._opened(file, None, before, os.fstat(opened.fileno()), empties="w" in mode)
            return opened

    def _opened(
        self, path: Any, dir_fd: int | None, before: os.stat_result | None, after: os.stat_result, *, empties: bool
    ) -> None:
        place = self._disk.place(path, dir_fd)
        if place is None:
            return
        with self._disk.changing() as disk:
            if before is None:
                node = self._disk.add(after)
                disk.make_file(node, after.st_mtime_ns)
                disk.put_name(*place, node)
                self._disk.changed(f"making {place[1]}")
            elif empties and (known := self._disk.node(after)) is not None:
                disk.truncate(known, 0, after.st_mtime_ns)
                self._disk.changed(f"emptying {place[1]}")

    def write(self, file: int, data: Any) -> int:
        with self._disk.changing():
            written: int = self._os["write"](file, data)
            if stat.S_ISREG(os.fstat(file).st_mode):
                self.wrote(file, os.lseek(file, 0, os.SEEK_CUR) - written, bytes(memoryview(data)[:written]))
            return written

    def pwrite(self, file: int, data: Any, offset: int) -> int:
        with self._disk.changing():
            written: int = self._os["pwrite"](file, data, offset)
            self.wrote(file, offset, bytes(memoryview(data)[:written]))
            return written

    def copy_file_range(
        self, src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
    ) -> int:
        if offset_src is None or offset_dst is None:
            raise NotImplementedError("copy_file_range can be recorded only with both offsets")
        with self._disk.changing():
            copied: int = self._os["copy_file_range"](src, dst, count, offset_src, offset_dst)
            self.wrote(dst, offset_dst, os.pread(src, copied, offset_src))
            return copied

    def ftruncate(self, file: int, length: int) -> None:
        with self._disk.changing():
            self._os["ftruncate"](file, length)
            self._truncated(os.fstat(file))

    def truncate(self, path: Any, length: int) -> None:
        with self._disk.changing():
            self._os["truncate"](path, length)
            self._truncated(os.stat(path))  # noqa: PTH116  # it may be a descriptor

    def wrote(self, file: int, offset: int, data: bytes) -> None:
        """Record that bytes were written."""
        status = os.fstat(file)
        with self._disk.changing() as disk:
            node = self._disk.node(status)
            if node is not None and data:
                disk.write(node, offset, data, status.st_mtime_ns)
                self._disk.changed(f"writing {len(data)} bytes")

    def _truncated(self, status: os.stat_result) -> None:
        with self._disk.changing() as disk:
            node = self._disk.node(status)
            if node is not None:
                disk.truncate(node, status.st_size, status.st_mtime_ns)
                self._disk.changed(f"truncating to {status.st_size} bytes")

    # --- names -------------------------------------------------------------------------------------------------------

    def _renamed(self, how: str, src: Any, dst: Any, **dirs: int | None) -> None:
        with self._disk.changing() as disk:
            source = self._disk.place(src, dirs.get("src_dir_fd"))
            target = self._disk.place(dst, dirs.get("dst_dir_fd"))
            if (source is None) != (target is None):
                raise NotImplementedError(f"{src} would be moved to {dst}, into or out of the recorded directory")
            replaced = _status(dst, dir_fd=dirs.get("dst_dir_fd"))
            self._os[how](src, dst, **dirs)
            if source is not None and target is not None:
                if replaced is not None:
                    self._disk.lose(replaced)
                disk.rename(source, target)
                self._disk.changed(f"renaming {source[1]} to {target[1]}")

    rename = partialmethod(_renamed, "rename")
    replace = partialmethod(_renamed, "replace")

    def link(self, src: Any, dst: Any, **options: Any) -> None:
        with self._disk.changing() as disk:
            self._os["link"](src, dst, **options)
            place = self._disk.place(dst, options.get("dst_dir_fd"))
            node = self._disk.node(os.stat(dst, dir_fd=options.get("dst_dir_fd")))
            if place is not None and node is not None:
                disk.put_name(*place, node)
                self._disk.changed(f"linking {place[1]}")

    def symlink(self, src: Any, dst: Any, *args: Any, **options: Any) -> None:
        """`os.symlink`, which is refused in the directory."""
        if self._disk.place(dst, options.get("dir_fd")) is not None:
            raise NotImplementedError(f"{dst} would be a symbolic link, which can't be recorded")
        self._os["symlink"](src, dst, *args, **options)

    def _removed(self, how: str, path: Any, *, dir_fd: int | None = None) -> None:
        with self._disk.changing() as disk:
            place, before = self._disk.place(path, dir_fd), _status(path, dir_fd=dir_fd)
            self._os[how](path, dir_fd=dir_fd)
            if place is not None and before is not None:
                self._disk.lose(before)
                disk.remove_name(*place)
                self._disk.changed(f"removing {place[1]}")

    unlink = partialmethod(_removed, "unlink")
    remove = partialmethod(_removed, "remove")
    rmdir = partialmethod(_removed, "rmdir")

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._disk.changing() as disk:
            self._os["mkdir"](path, mode, dir_fd=dir_fd)
            place = self._disk.place(path, dir_fd)
            if place is not None:
                node = self._disk.add(os.stat(path, dir_fd=dir_fd))
                disk.make_directory(node)
                disk.put_name(*place, node)
                self._disk.changed(f"making {place[1]}")

    # --- syncing -----------------------------------------------------------------------------------------------------

    def fcntl(self, file: Any, command: int, *args: Any) -> Any:
        """`fcntl.fcntl`, which can sync on macOS."""
        assert self._fcntl is not None
        if command != getattr(fcntl, "F_FULLFSYNC", None):
            return self._fcntl(file, command, *args)
        self.fsync(file)
        return 0

    def fsync(self, file: Any) -> None:
        """`os.fsync` and `os.fdatasync`."""
        status = os.fstat(file if isinstance(file, int) else file.fileno())
        with self._disk.changing() as disk:
            node = self._disk.node(status)
            if node is None:
                return
            if stat.S_ISDIR(status.st_mode):
                disk.sync_directory(node)
                self._disk.changed("syncing a directory")
            else:
                disk.sync_file(node)
                self._disk.changed("syncing a file")

    fdatasync = fsync


class _RecordedFile(FileIO):
    """A file opened for unbuffered writing."""

    def __init__(self, path: Any, mode: str, calls: RecordedCalls) -> None:
        super().__init__(path, mode)
        self._calls = calls

    def write(self, data: Any) -> int:
        """As `io.FileIO.write`."""
        written = super().write(data)
        self._calls.wrote(self.fileno(), self.tell() - written, bytes(memoryview(data).cast("B")[:written]))
        return written

    def truncate(self, size: int | None = None) -> int:
        """As `io.FileIO.truncate`."""
        length = self.tell() if size is None else size
        os.ftruncate(self.fileno(), length)
        return length


def _status(path: Any, *, dir_fd: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return None
