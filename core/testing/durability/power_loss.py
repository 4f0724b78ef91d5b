"""
Simulated power loss: what a directory may be after the machine stops.

The operating system keeps written data in memory and writes it to the disk at any time, or on ``fsync``: of a file for
its bytes, of a directory for its names. `RecordedDisk` records the calls that change a directory, and afterwards turns
the directory into each state that a power loss after any of these calls could leave::

    disk = RecordedDisk(directory)
    with disk.recording():
        store.save(checkpoint)
        disk.note("saved")
    for loss in disk.losses():
        loss.apply()
        assert "saved" not in loss.notes or open_store(directory).load(name) == checkpoint

Limits:

- Changes that do not go through the `os` module and unbuffered files of Python, such as those of a database library,
  are not recorded. They are detected, though: when a recording ends, the directory is compared with the record.
- Of the unsynced names in a directory either all survive or none, and likewise of the unsynced bytes of all files: not
  every combination is tried. A rename is atomic, as on every journaling file system.
- The disk is assumed to keep everything that was synced. Restored files have other inode numbers and the permissions of
  new files.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from partwise.testing.durability.recorded_calls import RecordedCalls

__all__ = ["PowerLoss", "RecordedDisk", "Survival"]

_ROOT = 0


class Survival(Enum):
    """What survives of the changes that were not synced."""

    NOTHING = "no change survives"
    DATA = "bytes survive, names do not"
    CUT = "names survive, and files have the length that was synced"
    TORN = "names survive, and of new bytes the first half"
    HOLE = "names survive, and of new bytes the second half; the first is zeros"
    ZEROS = "names survive, and new bytes are zeros"
    EVERYTHING = "all changes survive"


# --- what is on a disk -----------------------------------------------------------------------------------------------


@define(frozen=True)
class _Bytes:
    """The bytes of a file, and its mtime in nanoseconds."""

    data: bytes = b""
    mtime_ns: int = 0


@define
class _Tree:
    """
    Names by directory and bytes by file.

    Both have node numbers, which are never reused.
    """

    names: dict[int, dict[str, int]] = field(factory=lambda: {_ROOT: {}})
    files: dict[int, _Bytes] = field(factory=dict)

    def copy(self) -> _Tree:
        return _Tree({directory: dict(names) for directory, names in self.names.items()}, dict(self.files))

    def walk(self, directory: int = _ROOT, path: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and node number of each entry, a directory before its contents."""
        for name, node in sorted(self.names.get(directory, {}).items()):
            yield path + name, node
            if node in self.names:
                yield from self.walk(node, f"{path}{name}/")


@define(frozen=True)
class _Rename:
    """A rename between directories; syncing either makes the other half durable."""

    source: tuple[int, str]
    target: tuple[int, str]
    node: int


@define
class _Disk:
    """A disk and the page cache of the operating system."""

    now: _Tree = field(factory=_Tree)  # what programs see
    safe: _Tree = field(factory=_Tree)  # what was synced
    renames: tuple[_Rename, ...] = ()  # renames between two directories of which neither was synced since

    def copy(self) -> _Disk:
        return _Disk(self.now.copy(), self.safe.copy(), self.renames)

    # --- changes -----------------------------------------------------------------------------------------------------

    def make_file(self, node: int, mtime_ns: int) -> None:
        self.now.files[node] = _Bytes(b"", mtime_ns)

    def make_directory(self, node: int) -> None:
        self.now.names[node] = {}

    def put_name(self, directory: int, name: str, node: int) -> None:
        self.now.names[directory][name] = node

    def remove_name(self, directory: int, name: str) -> None:
        del self.now.names[directory][name]

    def rename(self, source: tuple[int, str], target: tuple[int, str]) -> None:
        node = self.now.names[source[0]].pop(source[1])
        self.now.names[target[0]][target[1]] = node
        if source[0] != target[0]:
            self.renames = (*self.renames, _Rename(source, target, node))

    def write(self, node: int, offset: int, data: bytes, mtime_ns: int) -> None:
        before = self.now.files[node].data
        after = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]
        self.now.files[node] = _Bytes(after, mtime_ns)

    def truncate(self, node: int, length: int, mtime_ns: int) -> None:
        before = self.now.files[node].data
        self.now.files[node] = _Bytes(before[:length].ljust(length, b"\0"), mtime_ns)

    def sync_file(self, node: int) -> None:
        self.safe.files[node] = self.now.files[node]

    def sync_directory(self, directory: int) -> None:
        self.safe.names[directory] = dict(self.now.names[directory])
        for rename in self.renames:
            if directory == rename.target[0]:
                names = self.safe.names.get(rename.source[0], {})
                if names.get(rename.source[1]) == rename.node:
                    del names[rename.source[1]]
            elif directory == rename.source[0]:
                self.safe.names.setdefault(rename.target[0], {})[rename.target[1]] = rename.node
        self.renames = tuple(r for r in self.renames if directory not in (r.source[0], r.target[0]))

    # --- what survives -----------------------------------------------------------------------------------------------

    def after(self, survival: Survival) -> _Tree:
        """Return what is on the disk after a power loss."""
        names = self.safe.names if survival in {Survival.NOTHING, Survival.DATA} else self.now.names
        # A directory that was never synced is empty, if its own name survives.
        everywhere = {directory: names.get(directory, {}) for directory in self.now.names}
        return _Tree(everywhere, {node: self._surviving(node, survival) for node in self.now.files})

    def _surviving(self, node: int, survival: Survival) -> _Bytes:
        safe, now = self.safe.files.get(node, _Bytes()), self.now.files[node]
        if survival in {Survival.DATA, Survival.EVERYTHING} or safe.data == now.data:
            return now
        if survival in {Survival.NOTHING, Survival.CUT}:
            return evolve(safe, mtime_ns=now.mtime_ns)
        kept = _common_length(safe.data, now.data)
        new = now.data[kept:]
        half = len(new) // 2
        left = {
            Survival.TORN: new[:half],
            Survival.HOLE: bytes(half) + new[half:],
            Survival.ZEROS: bytes(len(new)),
        }[survival]
        return evolve(now, data=now.data[:kept] + left)


def _common_length(left: bytes, right: bytes) -> int:
    """Return the length of the common prefix."""
    different = (number for number, (one, other) in enumerate(zip(left, right, strict=False)) if one != other)
    return next(different, min(len(left), len(right)))


# --- power losses ----------------------------------------------------------------------------------------------------


@define(frozen=True)
class PowerLoss:
    """
    A power loss at one instant, with one outcome for unsynced changes.

    Args:
        instant: the number of changes before it.
        call: the last of them.
        survival: what survives of the changes that were not synced.
        notes: the notes made before it.
    """

    instant: int
    call: str
    survival: Survival
    notes: tuple[Hashable, ...]
    _directory: Path
    _tree: _Tree
    _inodes: Mapping[int, int]

    def __str__(self) -> str:
        return f"after change {self.instant}, {self.call}: {self.survival.value}"

    def apply(self) -> dict[int, int]:
        """
        Turn the directory into what the power loss would leave.

        No program may be using it.

        Returns:
            the new inode number of each file, by its old one.
        """
        there = {os.path.join(self._directory, name): node for name, node in self._tree.walk()}  # noqa: PTH118  # faster
        self._remove(os.fspath(self._directory), there)
        made: dict[int, str] = {}
        for path, node in there.items():
            if node in self._tree.names:
                with suppress(FileExistsError):
                    os.mkdir(path)  # noqa: PTH102  # likewise
            elif node in made:
                os.link(made[node], path)
            else:
                made[node] = path
                content = self._tree.files[node]
                Path(path).write_bytes(content.data)
                os.utime(path, ns=(content.mtime_ns, content.mtime_ns))
        return {self._inodes[node]: os.stat(path).st_ino for node, path in made.items()}  # noqa: PTH116  # likewise

    def _remove(self, directory: str, there: Mapping[str, int]) -> None:
        """Remove what is in a directory, but not the directories that are kept."""
        with os.scandir(directory) as entries:
            for entry in list(entries):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)  # noqa: PTH108  # likewise
                    continue
                self._remove(entry.path, there)
                if there.get(entry.path) not in self._tree.names:
                    os.rmdir(entry.path)  # noqa: PTH106  # likewise

    def _found(self) -> Hashable:
        """Return what identifies the state, since each state is tried once."""
        left = [(path, node, self._tree.files.get(node, _Bytes()).data) for path, node in self._tree.walk()]
        return self.notes, tuple(left)


@define(frozen=True)
class _Instant:
    call: str
    disk: _Disk
    notes: tuple[Hashable, ...]


class RecordedDisk:
    """
    A directory after every change, and what would survive a power loss there.

    Args:
        directory: its current contents are assumed to be durable.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(os.path.realpath(directory))
        self._lock = threading.RLock()
        self._disk = _Disk()
        self._notes: tuple[Hashable, ...] = ()
        self._inodes: dict[int, int] = {}  # by node number
        self._nodes: dict[tuple[int, int], int] = {}  # node numbers of existing files, by device and inode
        self._number(self.directory, _ROOT)
        self._add_tree(self.directory, _ROOT)
        self._disk.safe = self._disk.now.copy()
        self._instants = [_Instant("nothing", self._disk.copy(), ())]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """
        Record what any thread changes in the directory during the block.

        A sync there does not wait for the disk.

        Raises:
            AssertionError: the directory was changed in a way that was not recorded.
        """
        with RecordedCalls(self).in_place():
            yield
        self._compare()

    def note(self, note: Hashable) -> None:
        """Add a note to the record, such as that a call returned; it is an instant, too."""
        with self._lock:
            self._notes = (*self._notes, note)
            self.changed(f"the note {note!r}")

    @property
    def instants(self) -> int:
        """The number of instants so far: before the first change, and after each one."""
        return len(self._instants)

    def losses(self) -> Iterator[PowerLoss]:
        """Yield a loss for every instant and outcome; equal states only once."""
        seen = set()
        for number, instant in enumerate(self._instants):
            for survival in Survival:
                loss = PowerLoss(
                    number,
                    instant.call,
                    survival,
                    instant.notes,
                    self.directory,
                    instant.disk.after(survival),
                    self._inodes,
                )
                found = loss._found()  # noqa: SLF001  # of this module
                if found not in seen:
                    seen.add(found)
                    yield loss

    # --- for the calls -----------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[_Disk]:
        """Enter with the disk to change, one thread at a time."""
        with self._lock:
            yield self._disk

    def changed(self, call: str) -> None:
        """Record the disk as it is now: the power may be lost at this instant."""
        self._instants.append(_Instant(call, self._disk.copy(), self._notes))

    def place(self, path: Any, dir_fd: int | None = None) -> tuple[int, str] | None:
        """Return the directory and the name of a path; None if it is elsewhere."""
        parent, name = os.path.split(os.fspath(path))
        try:
            status = os.stat(parent or os.curdir, dir_fd=dir_fd)
        except OSError:
            return None
        directory = self._nodes.get((status.st_dev, status.st_ino))
        return None if directory is None else (directory, os.fsdecode(name))

    def node(self, status: os.stat_result) -> int | None:
        """Return the number of a file or directory; None if it is elsewhere."""
        return self._nodes.get((status.st_dev, status.st_ino))

    def add(self, status: os.stat_result) -> int:
        """Assign a number to a file or directory that was just created, and return it."""
        node = len(self._inodes)
        self._inodes[node] = status.st_ino
        self._nodes[status.st_dev, status.st_ino] = node
        return node

    def lose(self, status: os.stat_result) -> None:
        """Forget a file that has lost its last name: its inode number may be used again."""
        if status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode):
            self._nodes.pop((status.st_dev, status.st_ino), None)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _number(self, path: Path, expected: int | None = None) -> int:
        node = self.add(path.stat())
        assert expected in (None, node)
        return node

    def _add_tree(self, directory: Path, number: int) -> None:
        for entry in sorted(directory.iterdir()):
            status = entry.stat()
            known = self.node(status)
            node = self.add(status) if known is None else known
            self._disk.put_name(number, entry.name, node)
            if entry.is_dir():
                self._disk.make_directory(node)
                self._add_tree(entry, node)
            elif known is None:
                self._disk.make_file(node, status.st_mtime_ns)
                self._disk.write(node, 0, entry.read_bytes(), status.st_mtime_ns)

    def _compare(self) -> None:
        written = {
            path: self._disk.now.files[node].data if node in self._disk.now.files else None
            for path, node in self._disk.now.walk()
        }
        there = {
            path.relative_to(self.directory).as_posix(): path.read_bytes() if path.is_file() else None
            for path in self.directory.rglob("*")
        }
        missed = [path for path in written.keys() | there.keys() if written.get(path, ...) != there.get(path, ...)]
        assert not missed, f"{self.directory} was changed in a way that was not recorded: {', '.join(sorted(missed))}"
