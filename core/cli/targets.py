"""Open what the command line names: backends by URL, checkpoint stores by flags."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from attrs import define, field

from partwise._validation import without_password
from partwise.checkpoint import Checkpoint
from partwise.cli.object_options import RequestedOptions
from partwise.cli.parsing import require_at_most_one
from partwise.cli.stdin import STANDARD_INPUT
from partwise.cli.vendors import bucket_in_url
from partwise.errors import InvalidInput
from partwise.protocols import CheckpointStore, MultipartBackend, SupportsRequestOptions
from partwise.registry import default_checkpoint_store, open_backend, open_checkpoint_store


@define(frozen=True)
class StoreSpec:
    """The checkpoint store that the flags name, or the user's state directory."""

    file: str | None = None  # a checkpoint file, for one upload
    directory: str | None = None  # a directory of checkpoints
    url: str | None = None  # the URL of a store

    def __attrs_post_init__(self) -> None:
        require_at_most_one(checkpoint=self.file, checkpoint_dir=self.directory, store=self.url)

    @property
    def is_given(self) -> bool:
        """Whether a flag names a store."""
        return (self.file, self.directory, self.url) != (None, None, None)

    def __str__(self) -> str:
        if self.file is not None and not os.path.lexists(self.file):
            return f"{self.file}, which does not exist"
        return self.file or self.directory or (without_password(self.url) if self.url else "your state directory")

    @contextmanager
    def open(self) -> Iterator[CheckpointStore]:
        """
        Open the store, and close it at the end if it has a method for that.

        Raises:
            InvalidInput: the store can't be opened.
        """
        store = self._open()
        try:
            yield store
        finally:
            close = getattr(store, "close", None)
            if close is not None:
                close()

    def place(self, store: CheckpointStore) -> str:
        """
        Return where the open store is, for messages.

        It is a directory, a file, or a URL without a password.
        """
        where = getattr(store, "where", None)
        if not isinstance(where, str) or not where:
            return str(self)
        missing = self.file is not None and not os.path.lexists(self.file)
        return f"{where}, which does not exist" if missing else where

    def require_existing(self, *, including_file: bool = False) -> None:
        """
        Refuse a store that does not exist.

        Its name is probably misspelled, and it would look like an empty store. A store that is named by a URL is asked
        by its method `exists`, if it has one.

        Args:
            including_file: a checkpoint file has to exist, too. Otherwise only its directory has to, since the file is
                deleted with its upload.

        Raises:
            InvalidInput: the store does not exist.
        """
        missing = self._missing(including_file=including_file)
        if missing:
            raise InvalidInput(f"{missing}; nothing was changed")

    def require_other_than(self, source: str) -> None:
        """
        Refuse a checkpoint file that is the source.

        It would not be taken for a checkpoint, unless it is empty or has zeros only; then it would be replaced.

        Raises:
            InvalidInput: the two are one file.
        """
        if self.file is not None and _is_same_file(self.file, source):
            raise InvalidInput(
                f"--checkpoint: {self.file} is the file to upload; nothing was changed",
                hint="Name another file: the checkpoint is written to it",
            )

    # The functions of os.path return False for names that are invalid; the methods of Path raise.
    def _missing(self, *, including_file: bool) -> str:
        if self.directory and not os.path.isdir(self.directory):  # noqa: PTH112  # see above
            return f"--checkpoint-dir: there is no directory {self.directory}"
        if self.file:
            if not os.path.isdir(os.path.dirname(self.file) or "."):  # noqa: PTH112, PTH120  # see above
                return f"--checkpoint: there is no directory for the file {self.file}"
            if including_file and not os.path.exists(self.file):  # noqa: PTH110  # see above
                return f"--checkpoint: there is no file {self.file}"
            if os.path.isdir(self.file):  # noqa: PTH112  # see above
                return f"--checkpoint: {self.file} is a directory: use --checkpoint-dir"
        if self.url:
            with self.open() as store:
                exists = getattr(store, "exists", None)
                if exists is not None and not exists():
                    return f"--store: {without_password(self.url)} does not exist"
        return ""

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
class BackendSpec:
    """The backend that a URL and the flags name."""

    url: str
    settings: Mapping[str, object]  # the connection settings that were given
    options: RequestedOptions = field(factory=RequestedOptions)  # those of every request

    @property
    def scheme(self) -> str:
        """The scheme of the URL, in lower case."""
        return self.url.partition(":")[0].lower()

    @contextmanager
    def open(self) -> Iterator[tuple[MultipartBackend, str]]:
        """
        Open the backend, yield it with the rest of the URL, and close it.

        The rest of the URL is a key, a prefix, or "".

        Raises:
            InvalidInput: the URL, a setting or an option is invalid.
            UnsupportedOption: the backend does not support an option.
        """
        backend, key = open_backend(self.url, **self.settings)
        with closing(backend):
            options = self.options.for_backend(backend) if self.options.values else None
            if options is not None and isinstance(backend, SupportsRequestOptions):
                yield backend.with_request_options(options), key
            else:
                yield backend, key

    @contextmanager
    def open_prefix(self) -> Iterator[tuple[MultipartBackend, str]]:
        """
        Open the backend, and yield it with the prefix that the URL selects.

        The prefix is "" for all keys.

        Raises:
            InvalidInput: the URL or a setting is invalid, the URL names a directory that does not exist, or a directory
                without a slash at its end.
        """
        with self.open() as (backend, prefix):
            if prefix:
                _refuse_directory(backend, prefix, self.url, "To select what is in it, end the URL with a slash")
            directory = _directory_of(backend)
            if directory is not None and not os.path.isdir(directory):  # noqa: PTH112  # invalid names are not there
                raise InvalidInput(f"{self.url!r:.200}: there is no directory {directory}; nothing was changed")
            yield backend, prefix

    def require_matching_name(self, backend: MultipartBackend, prefix: str) -> None:
        """
        Refuse a prefix that matches no name in the backend's directory.

        This is for a prefix without any pending upload. It is then probably misspelled, or a directory that does not
        exist, written without its slash.

        Raises:
            InvalidInput: no name matches. Backends without a directory are not checked.
        """
        directory = _directory_of(backend)
        if directory is None or not prefix:
            return
        above, begin = os.path.split(prefix)
        with suppress(OSError, ValueError):  # if it can't be read, no name is known to match
            if any(name.startswith(begin) for name in os.listdir(directory / above)):  # noqa: PTH208  # all names
                return
        raise InvalidInput(
            f"{self.url!r:.200}: no name in {directory} begins with {prefix!r:.100}, and no upload to such a key is"
            " pending; nothing was changed"
        )

    @contextmanager
    def open_object(self, file: str) -> Iterator[tuple[MultipartBackend, str, str]]:
        """
        Open the backend, and yield it with the key of the object and the object's URL.

        If the URL ends with a slash or is that of a bucket, the file's name is added.

        Raises:
            InvalidInput: the URL names no object, and the file has no name to add, as ``-``.
        """
        if not file:
            raise InvalidInput("the name of the file is empty")
        with self.open() as (backend, key):
            if key and not key.endswith("/"):
                _refuse_directory(backend, key, self.url, "To upload into it, end the URL with a slash")
                yield backend, key, self.url
            else:
                yield backend, *self._below(key, file)

    @contextmanager
    def open_objects(self, files: Sequence[str]) -> Iterator[tuple[MultipartBackend, list[tuple[str, str]]]]:
        """
        Open the backend, and yield it with key and URL of the object of each file.

        The name of each file is added to the URL, which ends with a slash or is that of a bucket.

        Raises:
            InvalidInput: the URL names one object, a file has no name to add, or two files have the same name.
        """
        if not all(files):
            raise InvalidInput("the name of a file is empty")
        with self.open() as (backend, prefix):
            if prefix and not prefix.endswith("/"):
                _refuse_directory(backend, prefix, self.url, "To upload into it, end the URL with a slash")
                raise InvalidInput(
                    f"{self.url!r:.200} names one object, and there are {len(files)} files",
                    hint="End the URL with a slash, so that each file keeps its name",
                )
            found = [self._below(prefix, file) for file in files]
            first: dict[str, str] = {}
            for file, (key, url) in zip(files, found, strict=True):
                if key in first:
                    raise InvalidInput(
                        f"{first[key]!r:.200} and {file!r:.200} would both be stored as {url:.200}; nothing was sent",
                        hint="Upload one of them on its own, to another key",
                    )
                first[key] = file
            yield backend, found

    def _below(self, prefix: str, file: str) -> tuple[str, str]:
        """Return key and URL of the object that gets the name of this file."""
        name = _name_of(file, self.url)
        # Only file: URLs are percent-encoded; in others each character stands for itself.
        in_url = quote(os.fsencode(name), safe="") if self.url.lower().startswith("file:") else name
        return prefix + name, f"{self.url.rstrip('/')}/{in_url}"


def _refuse_directory(backend: MultipartBackend, key: str, url: str, hint: str) -> None:
    """Raise InvalidInput for a directory: probably its final slash was forgotten."""
    directory = _directory_of(backend)
    if directory is None or ".." in Path(key).parts:
        return
    if os.path.isdir(directory / key):  # noqa: PTH112  # the backend refuses names that are too long
        raise InvalidInput(f"{url!r:.200} is a directory", hint=hint)


def _directory_of(backend: MultipartBackend) -> Path | None:
    directory = getattr(backend, "directory", None)
    return directory if isinstance(directory, Path) else None


def _name_of(file: str, url: str) -> str:
    name = "" if file == STANDARD_INPUT else Path(file).name
    if not name:
        raise InvalidInput(f"{url!r:.200} names no object, and {file!r} has no name to add", hint="Write the whole key")
    return name


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121  # the methods of Path raise for names that are invalid
    except (OSError, ValueError):
        return False  # what uses it reports it


def url_of(checkpoint: Checkpoint) -> str:
    """
    Return the URL of a recorded upload, as it is written on the command line.

    A checkpoint's location may have an ``@`` and a region or host after the bucket; URLs do not. They name an access
    point by its ARN.
    """
    scheme, _, rest = checkpoint.location.partition("://")
    if scheme == "file":
        return f"{checkpoint.location.rstrip('/')}/{quote(os.fsencode(checkpoint.key), safe='')}"
    return f"{scheme}://{bucket_in_url(scheme, rest.rstrip('/'))}/{checkpoint.key}"
