"""Which file a checkpoint is in: one of a directory, or the only one."""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH112, PTH118, PTH120

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from attrs import define

from partwise import _durable as files
from partwise._validation import check_path
from partwise.errors import CheckpointUnwritable
from partwise.stores import _journal as journal
from partwise.stores._checks import plain_name

SUFFIX = ".ucp"


class Place(Protocol):
    """Where the checkpoints of a store are."""

    @property
    def shared(self) -> bool:
        """Whether all names go to one file, so that it may hold the checkpoint of another name."""

    def exists(self) -> bool:
        """Whether the directory, or the file, is there."""

    def path(self, name: str) -> str:
        """The file for this name."""

    def paths(self) -> Iterable[str]:
        """Every file there is that may hold a checkpoint; raises OSError."""

    def prepare(self) -> None:
        """Make sure that files can be made; raises OSError."""

    def is_foreign(self, path: str) -> bool:
        """Whether somebody's file is there, which was named by mistake and must not be touched; raises OSError."""


@define(frozen=True)
class Directory:
    """
    A file for each name.

    Args:
        given: the directory; None is the user's state directory for partwise.
    """

    given: str | None

    @property
    def shared(self) -> bool:
        """Never."""
        return False

    def __str__(self) -> str:
        return self.root()

    def root(self) -> str:
        """
        The directory.

        Raises:
            CheckpointUnwritable: none was given, and the user has no home.
        """
        if self.given is not None:
            return self.given
        # Here and not above: a program that names its own place need not have a home.
        from platformdirs import user_state_path

        # Where there is no home, later versions of it raise this, and earlier ones leave the ~ as it is.
        with suppress(RuntimeError):
            root = user_state_path("partwise", appauthor=False) / "checkpoints"
            if root.is_absolute():
                return str(root)
        relative = os.environ.get("XDG_STATE_HOME", "").strip()
        ignored = f", and XDG_STATE_HOME, {relative!r:.100}, is not an absolute path" if relative else ""
        raise CheckpointUnwritable(
            f"this user has no home directory to keep checkpoints in{ignored}: name a directory for them, or set"
            " XDG_STATE_HOME to one. Nothing was done"
        )

    def exists(self) -> bool:
        """Whether it is there. The state directory counts as being there, since it was not named and can't be wrong."""
        return self.given is None or os.path.isdir(self.given)

    def path(self, name: str) -> str:
        """The file for this name."""
        return os.path.join(self.root(), plain_name(name) + SUFFIX)

    def paths(self) -> Iterable[str]:
        """Every checkpoint file in the directory."""
        try:
            with os.scandir(self.root()) as entries:
                return [entry.path for entry in entries if entry.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []

    def prepare(self) -> None:
        """Make the directory if it is missing."""
        root = self.root()
        files.make_private_directory(root)
        files.check_directory(root)

    def is_foreign(self, path: str) -> bool:  # noqa: ARG002  # whatever it is, nobody but us makes files there
        """Never: whatever has the name of a checkpoint there was made for one."""
        return False


@define(frozen=True)
class OneFile:
    """
    One file, whatever the name.

    Args:
        file: the file.
    """

    file: str

    @property
    def shared(self) -> bool:
        """Always."""
        return True

    def __str__(self) -> str:
        return self.file

    def exists(self) -> bool:
        """Whether it is there, whatever it is."""
        return os.path.lexists(self.file)

    def path(self, name: str) -> str:  # noqa: ARG002  # there is one file, whatever the name
        """The file."""
        return self.file

    def paths(self) -> Iterable[str]:
        """The file, if it is there."""
        return [self.file] if self.exists() else []

    def prepare(self) -> None:
        """Look at the directory, which is not made: a name that is wrong in its middle is a slip of the keyboard."""
        files.check_directory(os.path.dirname(self.file))

    def is_foreign(self, path: str) -> bool:
        """Whether something is there that never was a checkpoint. Whose file it is, is not asked."""
        try:
            return not journal.resembles(files.read(path, 64, trusted=False))
        except FileNotFoundError:
            return False


def checked_path(path: object) -> str:
    """
    The path from the root.

    Raises:
        InvalidInput: it is empty, or can't be a path; or it is not from the root, and the working directory is gone.
    """
    return check_path("the place for checkpoints", path, files.absolute)


def resolved_directory(path: str) -> str:
    """
    The path with the symbolic links on the way resolved, so that two ways to a file are one place.

    The last name stays as it is: a file that is a link is not used, since another user may have made the link.
    """
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def name_aside(path: str) -> str:
    """
    The name under which to set a file aside: ``PATH.damaged``, or one like it where another file is not to be lost.

    Raises:
        OSError: as the system says.
    """
    aside = path + ".damaged"
    if not os.path.lexists(aside) or (files.is_trusted(aside) and files.is_trusted(path)):
        return aside
    return f"{path}.{secrets.token_hex(4)}.damaged"
