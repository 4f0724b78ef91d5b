"""From what was said on the command line to a backend, a store, a source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from attrs import define

from partwise.cli.asking import at_most_one
from partwise.cli.piping import STANDARD_INPUT
from partwise.errors import InvalidInput
from partwise.model import Checkpoint
from partwise.plugins import default_checkpoint_store, open_backend, open_checkpoint_store
from partwise.protocols import CheckpointStore, MultipartBackend


@define(frozen=True)
class StoreChoice:
    """
    Where progress is recorded; the user's state directory if nothing is said.

    Args:
        file: one file, for one upload.
        directory: a directory of checkpoints.
        url: the URL of a store.
    """

    file: str | None = None
    directory: str | None = None
    url: str | None = None

    def __attrs_post_init__(self) -> None:
        at_most_one(checkpoint=self.file, checkpoint_dir=self.directory, store=self.url)

    @property
    def is_given(self) -> bool:
        """Whether anything was said."""
        return (self.file, self.directory, self.url) != (None, None, None)

    def __str__(self) -> str:
        return self.file or self.directory or self.url or "your state directory"

    @contextmanager
    def open(self) -> Iterator[CheckpointStore]:
        """
        The store, closed at the end if it can be closed.

        Raises:
            InvalidInput: what was said makes no sense.
        """
        store = self._open()
        try:
            yield store
        finally:
            close = getattr(store, "close", None)
            if close is not None:
                close()

    def _open(self) -> CheckpointStore:
        if self.url is not None:
            return open_checkpoint_store(self.url)
        if self.file is None and self.directory is None:
            return default_checkpoint_store()
        from partwise.stores.file import FileCheckpointStore

        if self.file is not None:
            return FileCheckpointStore.for_file(self.file)
        return FileCheckpointStore(self.directory)


@define(frozen=True)
class BackendChoice:
    """
    Where objects are.

    Args:
        url: as it was given.
        settings: what else was said about the way there; None stands for what was not said.
    """

    url: str
    settings: Mapping[str, object]

    @contextmanager
    def open(self) -> Iterator[tuple[MultipartBackend, str]]:
        """
        The backend, closed at the end, and what the URL has beyond the bucket: a key, a prefix, or nothing.

        Raises:
            InvalidInput: the URL or a setting makes no sense.
        """
        backend, key = open_backend(self.url, **self.settings)
        try:
            yield backend, key
        finally:
            backend.close()

    @contextmanager
    def open_object(self, file: str) -> Iterator[tuple[MultipartBackend, str, str]]:
        """
        The backend, the key of the object that the URL names, and its whole URL, for people.

        Where the URL ends like a folder, with a slash or with the bucket, the file's name goes there.

        Args:
            file: what is uploaded: a path, or ``-``.

        Raises:
            InvalidInput: the URL names no object, and neither does the file.
        """
        if not file:
            raise InvalidInput("the name of the file is empty")
        _check_scheme(self.url)
        with self.open() as (backend, key):
            if key and not key.endswith("/"):
                _check_that_it_can_be_a_file(backend, key, self.url)
                yield backend, key, self.url
            else:
                name = _name(file, self.url)
                # Only in file: URLs are there signs that don't stand for themselves.
                shown = quote(name, safe="") if self.url.lower().startswith("file:") else name
                yield backend, key + name, f"{self.url.rstrip('/')}/{shown}"


def _check_scheme(url: str) -> None:
    """
    Help those who name a directory as other programs take it.

    Raises:
        InvalidInput: this is no URL.
    """
    if ":" not in url.replace("\\", "/").partition("/")[0] or re.match(r"[A-Za-z]:[\\/]", url):
        example = "oss://bucket/key"
        if url:
            example += f", or {Path(url).absolute().as_uri()}{'/' * url.endswith('/')} for a directory of this machine"
        raise InvalidInput(f"{url!r:.200} is not a URL: write {example}")


def _check_that_it_can_be_a_file(backend: MultipartBackend, key: str, url: str) -> None:
    """
    Help those who name a directory and forget its slash.

    Raises:
        InvalidInput: there is a directory of that name.
    """
    directory = getattr(backend, "directory", None)
    if isinstance(directory, Path) and ".." not in Path(key).parts and (directory / key).is_dir():
        raise InvalidInput(f"{url!r:.200} is a directory: to put the file into it, end it with a slash")


def _name(file: str, url: str) -> str:
    name = "" if file == STANDARD_INPUT else Path(file).name
    if not name:
        raise InvalidInput(f"{url!r:.200} names no object, and {file!r} has no name to give it: write the whole key")
    return name


def url_of(checkpoint: Checkpoint) -> str:
    """
    Where a recorded upload goes, as it is written on the command line.

    A location says more than that: where there is an ``@``, the region or host that tells buckets of one name apart.
    """
    scheme, _, rest = checkpoint.location.partition("://")
    if scheme == "file":
        return f"{checkpoint.location.rstrip('/')}/{quote(checkpoint.key, safe='')}"
    return f"{scheme}://{rest.rstrip('/').partition('@')[0]}/{checkpoint.key}"
