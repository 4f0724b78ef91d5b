"""The file of a checkpoint: one of a directory, or a single file."""

# Paths are strings here, since most are used for one system call each.
# ruff: noqa: PTH112, PTH118, PTH120

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar, Protocol

from attrs import define

from partwise import _durable as files
from partwise._validation import check_path
from partwise.errors import CheckpointUnwritable
from partwise.stores import _journal as journal

SUFFIX = ".ucp"


class Location(Protocol):
    """Where the checkpoints of a store are."""

    @property
    def shared(self) -> bool:
        """
        Whether all names have the same file.

        It may then contain the checkpoint of another name.
        """

    def exists(self) -> bool:
        """Return whether the directory, or the file, exists."""

    def path(self, name: str) -> str:
        """Return the file for this name."""

    def paths(self) -> Iterable[str]:
        """Return every existing file that may contain a checkpoint; raises OSError."""

    def prepare(self) -> None:
        """Make sure that files can be created; raises OSError."""

    def is_unrelated(self, path: str) -> bool:
        """
        Return whether there is a file that never was a checkpoint; raises OSError.

        Such a file must not be changed.
        """


@define(frozen=True)
class CheckpointDirectory:
    """A file for each name."""

    shared: ClassVar[bool] = False  # each name has a file
    given: str | None  # the directory; None is the user's state directory for partwise

    def __str__(self) -> str:
        return self.root()

    def root(self) -> str:
        """Return the directory; raise CheckpointUnwritable if there is none by default."""
        if self.given is not None:
            return self.given
        # Imported late: a program that names a directory need not have a home directory.
        from platformdirs import user_state_path

        # Without a home directory, later versions of platformdirs raise this, and earlier ones keep the ~.
        with suppress(RuntimeError):
            root = user_state_path("partwise", appauthor=False) / "checkpoints"
            if root.is_absolute():
                return str(root)
        relative = os.environ.get("XDG_STATE_HOME", "").strip()
        ignored = f", and XDG_STATE_HOME, {relative!r:.100}, is not an absolute path" if relative else ""
        raise CheckpointUnwritable(
            f"this user has no home directory to keep checkpoints in{ignored}. Nothing was done",
            hint="Name a directory for checkpoints, or set XDG_STATE_HOME to one",
        )

    def exists(self) -> bool:
        """
        Return whether it exists.

        The default always does: it was not named, so its name can't be wrong.
        """
        return self.given is None or os.path.isdir(self.given)

    def path(self, name: str) -> str:
        return os.path.join(self.root(), file_name(name) + SUFFIX)

    def paths(self) -> Iterable[str]:
        try:
            with os.scandir(self.root()) as entries:
                return [entry.path for entry in entries if entry.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []

    def prepare(self) -> None:
        """Create the directory if it is missing."""
        root = self.root()
        files.make_directories(root, private=True)
        files.check_directory(root)

    def is_unrelated(self, path: str) -> bool:  # noqa: ARG002  # only partwise creates files of such a name
        """Return False: a file with the name of a checkpoint there was created as one."""
        return False


@define(frozen=True)
class SingleFile:
    """One file, whatever the name."""

    shared: ClassVar[bool] = True  # all names have this file
    file: str

    def __str__(self) -> str:
        return self.file

    def exists(self) -> bool:
        """Return whether it exists, whatever it is."""
        return os.path.lexists(self.file)

    def path(self, name: str) -> str:  # noqa: ARG002  # the file is the same for every name
        return self.file

    def paths(self) -> Iterable[str]:
        return [self.file] if self.exists() else []

    def prepare(self) -> None:
        """
        Check the directory.

        It is not created: a wrong name in the middle of a path is probably a typing error.
        """
        files.check_directory(os.path.dirname(self.file))

    def is_unrelated(self, path: str) -> bool:
        """Return whether there is a file that never was a checkpoint, trusted or not."""
        try:
            start = files.read(path, 64, trusted=False)
            if start.strip(b"\0"):
                return not journal.looks_like_checkpoint(start)
            return not files.is_all_zeros(path, journal.BYTES_MAX)
        except FileNotFoundError:
            return False


def file_name(name: str) -> str:
    """
    Return the name in hexadecimal digits.

    Every file system and database keeps such names apart. The engine's names are such digits already. For any other
    name it is a digest, which is longer than those.
    """
    if re.fullmatch("[0-9a-f]{32}", name):
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def absolute_path(path: object) -> str:
    """
    Return the absolute path.

    Raises:
        InvalidInput: it is empty or can't be a path; or it is relative, and the working directory was removed.
    """
    return check_path("the path for checkpoints", path, files.absolute)


def resolve_directory(path: str) -> str:
    """
    Return the path with the symbolic links in its directory resolved.

    So two paths to one file are equal. The last name is kept: a file that is a link is not used, since another user may
    have created the link.
    """
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def path_aside(path: str) -> str:
    """
    Return where to move a damaged file.

    It is ``PATH.damaged``, or a similar path if a file there must not be replaced.

    Raises:
        OSError: from the system.
    """
    aside = path + ".damaged"
    if not os.path.lexists(aside) or (files.is_trusted(aside) and files.is_trusted(path)):
        return aside
    return f"{path}.{secrets.token_hex(4)}.damaged"
