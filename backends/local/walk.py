"""
Open directories at the end of a path of several segments.

Each is opened through the descriptor of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from partwise.backends.local.directories import Directory

_T = TypeVar("_T")

# How often a directory is created again after other processes removed it while it was empty.
_TRIES_MAX = 100


def walk(root: Directory, names: Iterable[str], *, make: bool = False) -> Directory:
    """
    Open the directory at the end of a path; with `make`, create missing ones.

    Each new name is durable.

    Raises:
        FileNotFoundError: a directory is missing.
        SymbolicLink: a segment is a symbolic link.
        NotADirectoryError: a segment is not a directory.
    """

    def step(here: Directory, name: str) -> Directory:
        try:
            return here.enter(name)
        except FileNotFoundError:
            if not make:
                raise
        here.make(name)
        # Also if another process has made it meanwhile: that one may not have synced it yet.
        here.sync()
        return here.enter(name)

    return _walk(root, names, step)


def walk_trusted(root: Directory, names: Iterable[str], *, make: bool = False) -> Directory:
    """
    Open a directory in the metadata directory; with `make`, create missing ones.

    A new name is not durable yet.

    Raises:
        FileNotFoundError: a directory is missing; with `make`, another process removed one meanwhile.
        AccessDenied: a directory is not trusted; see `Directory.require_trusted`.
    """

    def step(here: Directory, name: str) -> Directory:
        try:
            found = here.enter_trusted(name)
        except FileNotFoundError:
            if not make:
                raise
            here.make(name, private=True)
            return here.enter_trusted(name)
        if make:
            found.make_private()
        return found

    return _walk(root, names, step)


def make_and_use(root: Directory, names: Iterable[str], action: Callable[[Directory], _T]) -> tuple[Directory, _T]:
    """
    Open a directory in the metadata directory and call `action` with it.

    It is created if needed.

    Every write removes empty directories, also those of other processes. If that happens before `action` has created an
    entry, both steps are repeated: `action` must have no effect when it raises FileNotFoundError.

    Returns:
        The directory, which the caller closes, and the result of `action`.
    """
    names = tuple(names)
    tries = 0
    while True:
        tries += 1
        try:
            directory = walk_trusted(root, names, make=True)
            try:
                return directory, action(directory)
            except BaseException:
                directory.close()
                raise
        except FileNotFoundError:
            if tries == _TRIES_MAX:
                raise


def _walk(root: Directory, names: Iterable[str], step: Callable[[Directory, str], Directory]) -> Directory:
    here = root.duplicate()
    for name in names:
        with here:
            here = step(here, name)
    return here
