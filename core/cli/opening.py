"""From what was said on the command line to a backend, a store, a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from attrs import define

from partwise.cli.asking import at_most_one
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
    def open_object(self) -> Iterator[tuple[MultipartBackend, str]]:
        """
        The backend, and the key of the object that the URL names.

        Raises:
            InvalidInput: it names none.
        """
        with self.open() as (backend, key):
            if not key:
                raise InvalidInput(f"{self.url!r} names no object: a key is missing after the bucket or directory")
            yield backend, key


def url_of(checkpoint: Checkpoint) -> str:
    """Where a recorded upload goes, in one word for people."""
    return f"{checkpoint.location.rstrip('/')}/{checkpoint.key}"
