"""
Find objects: from a key to an open directory and a name in it.

A symbolic link that stays inside the bucket is followed: its target is determined by path, and is then reached through
directories opened one by one, without following any link.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from partwise.backends.local.directories import Directory, NotARegularFile, SymbolicLink
from partwise.backends.local.files import checksum_file
from partwise.backends.local.keys import is_metadata_dir, split_key
from partwise.backends.local.sidecars import ObjectMetadata, Sidecars
from partwise.backends.local.walk import walk
from partwise.errors import InvalidKey, ServerFailed
from partwise.model import ObjectOptions

# Two attempts nearly always suffice. If a hundred fail, the file system never reports the same status twice.
_STAT_RETRIES = 100


def segments_of(key: str) -> tuple[str, ...]:
    """Split a key into path segments; raise InvalidKey if this system can't store it."""
    return split_key(key, windows=os.name == "nt")


def open_parent(root: Directory, key: str, *, make: bool = False) -> tuple[Directory, str]:
    """
    Open the directory that contains an object.

    Return it with the object's name in it, which may be the name of a symbolic link. With `make`, missing directories
    are created, durably.

    Raises:
        InvalidKey: a symbolic link in the path leads out of the bucket.
        FileNotFoundError: a directory is missing.
        NotADirectoryError: there is an object in place of a directory.
    """
    *path, name = segments_of(key)
    try:
        return walk(root, path, make=make), name
    except SymbolicLink:
        *path, name = resolve_links(Path(root.path), key, follow_last=False)
        return walk(root, path, make=make), name


def open_lowest_parent(root: Directory, key: str) -> Directory:
    """Open the lowest directory that exists on the path to an object."""
    while True:
        try:
            return open_parent(root, key)[0]
        except FileNotFoundError:
            key = key.rpartition("/")[0]


def find_object(root: Directory, key: str) -> tuple[Directory, str, os.stat_result | None]:
    """
    Find the file that holds an object's bytes, following a link under the key.

    Returns:
        The directory, open, the name of the file in it, and the file's status; None if there is no such entry.

    Raises:
        InvalidKey: a symbolic link leads out of the bucket.
        FileNotFoundError: a directory is missing.
        NotADirectoryError: there is an object in place of a directory.
    """
    parent, name = open_parent(root, key)
    found = parent.status(name)
    if found is None or not stat.S_ISLNK(found.st_mode):
        return parent, name, found
    parent.close()
    *path, name = resolve_links(Path(root.path), key, follow_last=True)
    parent = walk(root, path)
    return parent, name, parent.status(name)


def resolve_links(bucket: Path, key: str, *, follow_last: bool) -> tuple[str, ...]:
    """
    Return the path of an object, relative to the bucket, without symbolic links.

    A link under the key itself is followed only if `follow_last`.

    Raises:
        InvalidKey: the path leads out of the bucket, or into its metadata directory.
    """
    path = bucket.joinpath(*segments_of(key))
    root = os.path.realpath(bucket)
    real = Path(os.path.realpath(path) if follow_last else os.path.realpath(path.parent))
    inside = real.is_relative_to(root)
    names = real.relative_to(root).parts if inside else ()
    if not inside or (names and is_metadata_dir(names[0])):
        raise InvalidKey(f"{key!r} leads out of {bucket} by a symbolic link, to {real}", hint="Choose another key")
    return (names or (os.curdir,)) if follow_last else (*names, path.name)


def stat_object(root: Directory, key: str) -> tuple[int, ObjectMetadata] | None:
    """
    Return the size and the metadata of an object.

    None if there is no regular file under the key.

    Without a record of its metadata the file is read for its checksum.

    Raises:
        InvalidKey: a symbolic link leads out of the bucket.
        ServerFailed: the file was replaced again and again.
        FileNotFoundError: a directory is missing.
        NotADirectoryError: there is an object in place of a directory.
    """
    # Each further attempt means that the object was replaced during the last one.
    for _ in range(_STAT_RETRIES):
        parent, name, version = find_object(root, key)
        with parent:
            if version is None or not stat.S_ISREG(version.st_mode):
                return None
            metadata = Sidecars(root).read(key, version)
            if metadata is not None:
                return version.st_size, metadata
            with contextlib.suppress(NotARegularFile, SymbolicLink), parent.open_file(name) as file:
                if _is_same_version(version, os.fstat(file.fileno())):
                    size, checksum = checksum_file(file)
                    return size, ObjectMetadata(checksum, ObjectOptions())
    raise ServerFailed(f"{key!r} was replaced {_STAT_RETRIES} times while its metadata was read")


def _is_same_version(left: os.stat_result, right: os.stat_result) -> bool:
    return (left.st_ino, left.st_size, left.st_mtime_ns) == (right.st_ino, right.st_size, right.st_mtime_ns)
