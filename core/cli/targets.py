"""From what was said on the command line to a backend, a store, a source."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from attrs import define

from partwise.checkpoint import Checkpoint
from partwise.cli.parsing import at_most_one
from partwise.cli.stdin import STANDARD_INPUT
from partwise.errors import InvalidInput
from partwise.protocols import CheckpointStore, MultipartBackend
from partwise.registry import default_checkpoint_store, open_backend, open_checkpoint_store


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
        _refuse_memory(self.url or "", "--store")

    @property
    def is_given(self) -> bool:
        """Whether anything was said."""
        return (self.file, self.directory, self.url) != (None, None, None)

    def __str__(self) -> str:
        if self.file is not None and not os.path.lexists(self.file):
            return f"{self.file}, which does not exist"
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

    def check_that_it_is_there(self, *, the_file_too: bool = False) -> None:
        """
        Refuse a place that does not exist, whose name is most likely a typo, unlike one that holds nothing.

        A store that was named by a URL is asked by its method `exists`, if it has one.

        Args:
            the_file_too: a file for one upload has to exist, too; without this only its directory, since the file goes
                with its upload.

        Raises:
            InvalidInput: the place that was named does not exist.
        """
        missing = None
        if self.directory and not os.path.isdir(self.directory):  # noqa: PTH112  # fails on no name
            missing = f"--checkpoint-dir: there is no directory {self.directory}"
        elif self.file:
            there = os.path.isdir(os.path.dirname(self.file) or ".")  # noqa: PTH112, PTH120  # likewise
            if not there or (the_file_too and not os.path.exists(self.file)):  # noqa: PTH110  # likewise
                missing = f"--checkpoint: there is no {'directory of the ' * (not there)}file {self.file}"
            elif os.path.isdir(self.file):  # noqa: PTH112  # likewise
                missing = f"--checkpoint: {self.file} is a directory, which --checkpoint-dir takes"
        elif self.url:
            with self.open() as store:
                exists = getattr(store, "exists", None)
                if exists is not None and not exists():
                    missing = f"--store: {self.url} does not exist"
        if missing is not None:
            raise InvalidInput(f"{missing}, so nothing is recorded there; nothing was done")

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
        _check_scheme(self.url)
        _refuse_memory(self.url, "URL")
        backend, key = open_backend(self.url, **self.settings)
        try:
            yield backend, key
        finally:
            backend.close()

    @contextmanager
    def open_prefix(self) -> Iterator[tuple[MultipartBackend, str]]:
        """
        The backend, and how the keys begin that the URL speaks of; "" for all keys of the bucket.

        Raises:
            InvalidInput: the URL or a setting makes no sense, or names a directory that is not there, or one of which
                the slash at its end is missing.
        """
        with self.open() as (backend, prefix):
            if prefix:
                _check_that_it_is_no_directory(backend, prefix, self.url, "for what is in it, end it with a slash")
            directory = _directory_of(backend)
            if directory is not None and not os.path.isdir(directory):  # noqa: PTH112  # fails on no name
                raise InvalidInput(f"{self.url!r:.200}: there is no directory {directory}; nothing was done")
            yield backend, prefix

    def check_that_it_names_something(self, backend: MultipartBackend, prefix: str) -> None:
        """
        Tell keys of which no upload is pending from a directory that is not there and whose slash is missing.

        Raises:
            InvalidInput: in the directory of the backend, if it has one, no name begins as the URL says.
        """
        directory = _directory_of(backend)
        if directory is None or not prefix:
            return
        above, begin = os.path.split(prefix)
        with suppress(OSError, ValueError):  # what can't be read can't be told from a name that is wrong
            if any(name.startswith(begin) for name in os.listdir(directory / above)):  # noqa: PTH208  # all names
                return
        raise InvalidInput(
            f"{self.url!r:.200}: nothing in {directory} has a name that begins with {prefix!r:.100}, and no upload to"
            " such a key is pending; nothing was done"
        )

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
        with self.open() as (backend, key):
            if key and not key.endswith("/"):
                _check_that_it_is_no_directory(backend, key, self.url, "to put the file into it, end it with a slash")
                yield backend, key, self.url
            else:
                name = _name(file, self.url)
                # Only in file: URLs are there signs that don't stand for themselves.
                shown = quote(os.fsencode(name), safe="") if self.url.lower().startswith("file:") else name
                yield backend, key + name, f"{self.url.rstrip('/')}/{shown}"


def _check_scheme(url: str) -> None:
    """
    Help those who name a directory as other programs take it.

    Raises:
        InvalidInput: this is no URL.
    """
    if ":" not in url.replace("\\", "/").partition("/")[0] or re.match(r"[A-Za-z]:[\\/]", url):
        example = "oss://bucket/key"
        with suppress(OSError, ValueError):  # the working directory was removed; or it is the name of nothing
            if url:
                as_uri = Path(url).absolute().as_uri()
                example += f", or {as_uri}{'/' * url.endswith('/')} for a directory of this machine"
        raise InvalidInput(f"{url!r:.200} is not a URL: write {example}")


def _refuse_memory(url: str, what: str) -> None:
    """
    Refuse to keep in this process what is to outlive it.

    Raises:
        InvalidInput: the URL is of the storage, or the store, that exists in the memory of one process only.
    """
    if url.partition(":")[0].lower() == "memory":
        instead = "oss://bucket/key or file:///directory/key" if what == "URL" else "sqlite:///uploads.db"
        raise InvalidInput(
            f"{what}: {url!r:.200} is the memory of this process, which ends with the command: nothing would be kept;"
            f" write {instead}"
        )


def _check_that_it_is_no_directory(backend: MultipartBackend, key: str, url: str, advice: str) -> None:
    """
    Help those who name a directory and forget its slash.

    Raises:
        InvalidInput: there is a directory of that name.
    """
    directory = _directory_of(backend)
    if directory is None or ".." in Path(key).parts:
        return
    if os.path.isdir(directory / key):  # noqa: PTH112  # a name that is too long is for the backend to refuse
        raise InvalidInput(f"{url!r:.200} is a directory: {advice}")


def _directory_of(backend: MultipartBackend) -> Path | None:
    directory = getattr(backend, "directory", None)
    return directory if isinstance(directory, Path) else None


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
        return f"{checkpoint.location.rstrip('/')}/{quote(os.fsencode(checkpoint.key), safe='')}"
    return f"{scheme}://{rest.rstrip('/').partition('@')[0]}/{checkpoint.key}"
