"""
Checkpoints in files: readable text, one file for each upload.

How the guarantees are met:

- `save` is atomic and durable: the content is written to a temporary file beside the old one and synced, the temporary
  file is renamed over the old one, and the directory is synced.
- `append_part` is one write of one line at the end of the file, which stays open while the claim is held. It is not
  synced: a killed process does not lose the line; a power loss may, and then the storage's list has the part. Without a
  claim, each append opens and reads the file first.
- Every line has a checksum that is chained to the line before, so that damage is distinguished from an incomplete end.
- Files are private to their owner (mode 0600), and so are directories that the store creates (0700).

Beside a checkpoint ``NAME.ucp`` there may be, for a while: ``NAME.ucp.lock``, locked while a run holds the claim;
``NAME.ucp.owner``, which names the process of that run; ``NAME.ucp.tmp``, of a save in progress; and
``NAME.ucp.damaged``, which could not be trusted.
"""

# Paths are strings here, since most are used for one system call each.
# ruff: noqa: PTH105, PTH117

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from partwise import _durable as files
from partwise._closing import Closing
from partwise._signals import ignored
from partwise._validation import brief_url, check_string, printable, split_url
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged, CheckpointMismatch, CheckpointUnwritable, InvalidInput
from partwise.model import ClaimOwner, UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._appending import Appender
from partwise.stores._arguments import (
    check_checkpoint,
    check_name,
    check_optional_upload_id,
    check_part,
    check_upload_id,
)
from partwise.stores._errors import (
    claim_lost_error,
    closed_error,
    describe_upload,
    not_found_error,
    reason,
    unreadable_error,
    unwritable_error,
)
from partwise.stores._locations import (
    SUFFIX,
    CheckpointDirectory,
    Location,
    SingleFile,
    absolute_path,
    path_aside,
    resolve_directory,
)
from partwise.stores._locks import claim, owner_path
from partwise.stores._owners import read_record

_log = logging.getLogger(__name__)


class FileCheckpointStore(Closing):
    """
    Checkpoints in a directory, one file for each upload.

    Safe to use from many threads and processes. It can be pickled: the copy has the same directory and no claims.

    Args:
        directory: where the files are; created when first needed. None is ``checkpoints`` in the user's state directory
            for partwise, such as ``~/.local/state/partwise/checkpoints``.

    Raises:
        InvalidInput: `directory` is not a path.
    """

    def __init__(self, directory: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None) -> None:
        self._location: Location = CheckpointDirectory(None if directory is None else absolute_path(directory))
        self._closed = False
        self._reset()

    @classmethod
    def for_file(cls, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Self:
        """
        Make a store of exactly one file, for one upload at a time.

        If the file contains the checkpoint of another upload, `load`, `save` and `append_part` raise
        CheckpointMismatch, which names that upload, and change neither. A file that never was a checkpoint is not
        changed either.

        Args:
            path: the file. Its directory must exist.

        Raises:
            InvalidInput: `path` is not a path.
        """
        store = cls()
        store._location = SingleFile(resolve_directory(absolute_path(path)))
        return store

    @staticmethod
    def beside_source() -> Callable[[str], FileCheckpointStore]:
        """
        Return a function that makes the store of one source, beside it.

        For ``backup.tar`` this is ``backup.tar.ucp``. Give it to an `Uploader` as its store. A source has one file
        beside it, so it can be uploaded to one target at a time; a second one is refused as a CheckpointMismatch. The
        function raises InvalidInput for a source that is not a file.
        """
        return _store_beside

    def __repr__(self) -> str:
        try:
            location = str(self._location)
        except CheckpointUnwritable:
            location = "without a directory"
        return f"<{type(self).__name__} {location}{' closed' if self._closed else ''}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"_location": self._location, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def close(self) -> None:
        """
        Close open files.

        A claim that is held lasts until its context ends. Closing twice is fine.
        """
        self._closed = True
        self._appender.close()

    def path_for(self, name: str) -> Path:
        """Return the file for the checkpoint of this name, whether or not it exists."""
        return Path(self._location.path(check_name(name)))

    def exists(self) -> bool:
        """
        Return whether the directory (or the single file) exists.

        It need not before something is saved.
        """
        return self._location.exists()

    @property
    def where(self) -> str:
        """
        The directory, or the single file.

        Raises:
            CheckpointUnwritable: this user has no home directory, and the store is in it.
        """
        return str(self._location)

    def claim_owner(self, name: str) -> ClaimOwner | None:
        """
        Return which process recorded that it holds the claim on this name.

        None if that is not known. It decides nothing; only `claim` tells whether the claim is held.
        """
        return read_record(owner_path(self._path_of(name) + ".lock"))

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """
        Hold the exclusive right to this name; see `CheckpointStore.claim`.

        Raises:
            CheckpointBusy: on entering: another run, in this or another process, holds it.
            CheckpointUnwritable: on entering: files can't be created there, or the file there never was a checkpoint.
        """
        path = self._path_of(name)
        self._prepare(path, name)
        with claim(path + ".lock", name=name, where=path, describe=lambda: self._describe(path, name)):
            process = os.getpid()
            self._claimed[name] = path
            try:
                yield
            finally:
                if os.getpid() == process:
                    self._claimed.pop(name, None)
                    self._appender.close_file(path)

    def load(self, name: str) -> Checkpoint | None:
        """
        Return the checkpoint with its parts; see `CheckpointStore.load`.

        A damaged file is moved to ``NAME.ucp.damaged`` only while this store holds the claim: a reader must not take
        the file from the run that owns it.

        Raises:
            CheckpointDamaged: it can't be trusted; `where` is the file, or where it was moved.
            CheckpointMismatch: the single file of this store contains the checkpoint of another upload.
            CheckpointError: the file can't be read at all.
        """
        path = self._path_of(name)
        try:
            if self._location.is_unrelated(path):
                raise CheckpointDamaged(
                    f"{path} does not start like a checkpoint. It was not changed", name=name, where=path
                )
            return self._read_checkpoint(path, name)
        except FileNotFoundError:
            return None
        except files.Untrusted as error:
            # It is not known which upload its id belongs to, so the id is not passed on to be aborted.
            raise self._set_aside(path, name, journal.CorruptJournal(f"it {error.strerror}")) from error
        except OSError as error:
            raise unreadable_error(error, path, name=name) from error
        except journal.CorruptJournal as damage:
            raise self._set_aside(path, name, damage) from damage

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Raises:
            CheckpointUnwritable: the file can't be written; its previous content is still there, complete.
            CheckpointMismatch: the single file of this store contains the checkpoint of another upload.
        """
        check_checkpoint(checkpoint)
        name = checkpoint.name
        path = self._path_of(name)
        self._prepare(path, name)
        self._appender.close_file(path)
        try:
            if self._location.shared and (header := _read_header(path)) is not None:
                self._check_owner(path, name, header)
            with suppress(FileNotFoundError):
                files.check_trusted(path)  # a file that this store did not create is not replaced
            files.replace(path, journal.encode(checkpoint), self._temporary_path(path, name))
        except OSError as error:
            raise unwritable_error(error, path, name=name) from error

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        """
        Add one part by one write; see `CheckpointStore.append_part`.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            ClaimLost: the checkpoint is that of another upload id. It was not changed.
            CheckpointUnwritable: the file can't be written. Its content is kept, and later parts can be appended.
            CheckpointDamaged: nothing can be appended to its content.
            CheckpointMismatch: the single file of this store contains the checkpoint of another upload.
        """
        path = self._path_of(name)
        check_upload_id(upload_id)
        check_part(part)
        try:
            self._appender.append(
                path,
                name,
                upload_id,
                part,
                validate=lambda found: self._check_owner(path, name, found),
                keep_open=name in self._claimed,
            )
        except FileNotFoundError as error:
            raise not_found_error(name, path) from error
        except OSError as error:
            raise unwritable_error(error, path, name=name) from error
        except journal.CorruptJournal as damage:
            raise CheckpointDamaged(
                f"nothing can be appended to the checkpoint {path}: {damage.reason}. It was not changed",
                name=name,
                where=path,
                upload_id=damage.upload_id,
            ) from damage

    def delete(self, name: str, upload_id: str | None) -> None:
        """
        Delete the checkpoint and what was set aside; see `CheckpointStore.delete`.

        Raises:
            ClaimLost: the checkpoint is that of another upload id. It was not changed.
            CheckpointUnwritable: a file can't be removed.
        """
        path = self._path_of(name)
        check_optional_upload_id(upload_id)
        try:
            if self._location.is_unrelated(path):
                return
            header = _read_header(path)
            if header is not None and header.name != name and self._location.shared:
                return
            if header is not None and header.name == name and header.upload_id != upload_id:
                raise claim_lost_error(upload_id, header.upload_id, name=name, where=path)
            self._appender.close_file(path)
            files.remove(path)
            files.remove(path + ".damaged")
            if name in self._claimed:
                files.remove(path + ".tmp")
        except files.Untrusted:
            return  # this store did not create the file, so it must not remove it
        except OSError as error:
            raise unwritable_error(error, path, name=name) from error

    def scan(self) -> Iterable[Checkpoint]:
        """
        Return every readable checkpoint; see `CheckpointStore.scan`.

        Damaged ones are not moved; the logger ``partwise.stores.file`` gets a warning for each.

        Raises:
            CheckpointError: the directory can't be listed.
        """
        self._check_open()
        try:
            return self._scan(self._location.paths())
        except OSError as error:
            raise unreadable_error(error, str(self._location)) from error

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._process = os.getpid()
        self._claimed: dict[str, str] = {}  # by this store object: the names, and their files
        self._appender = Appender()

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self)
        if self._process != os.getpid():
            # A forked child has copies of its parent's descriptors, and none of its claims.
            self._appender.close_after_fork()
            self._reset()

    def _path_of(self, name: str) -> str:
        self._check_open()
        return self._claimed.get(check_name(name)) or self._location.path(name)

    def _prepare(self, path: str, name: str) -> None:
        try:
            self._location.prepare()
            unrelated = self._location.is_unrelated(path)
        except OSError as error:
            raise unwritable_error(error, path, name=name) from error
        if unrelated:
            raise CheckpointUnwritable(
                f"{path} is not a checkpoint. It was not changed",
                name=name,
                where=path,
                hint="Name another file for the checkpoint, or move that one away",
            )

    def _read_checkpoint(self, path: str, name: str) -> Checkpoint:
        """
        Return the checkpoint in a file.

        Raises OSError, CorruptJournal and CheckpointMismatch.
        """
        try:
            checkpoint = journal.decode(_read(path)).checkpoint
        except journal.CorruptJournal as damage:
            if damage.header is not None:
                self._check_owner(path, name, damage.header)
            if damage.name != name:
                damage.upload_id = None  # of another upload, which may be in progress
            raise
        self._check_owner(path, name, checkpoint)
        return checkpoint

    def _check_owner(self, path: str, name: str, found: Checkpoint) -> None:
        """
        Refuse the checkpoint of another name.

        Raises CheckpointMismatch or CorruptJournal.
        """
        if found.name == name:
            return
        if self._location.shared:
            raise CheckpointMismatch(
                f"{path} contains the checkpoint of another upload, {describe_upload(found)}. Neither was changed",
                name=name,
                where=path,
                hint="Finish or abort that upload first, or name another file",
            )
        # A copy under a wrong name. Its upload may be in progress, so its id is not passed on to be aborted.
        raise journal.CorruptJournal(f"it is that of {describe_upload(found)}")

    def _set_aside(self, path: str, name: str, damage: journal.CorruptJournal) -> CheckpointDamaged:
        where = path
        kept = "It was not moved"
        if name in self._claimed:
            self._appender.close_file(path)  # some systems can't rename an open file
            try:
                aside = path_aside(path)
                os.replace(path, aside)
            except OSError as error:
                kept = f"It can't be set aside ({reason(error)})"
            else:
                where = aside
                kept = f"It was set aside as {where}"
        return CheckpointDamaged(
            f"the checkpoint {path} can't be trusted: {damage.reason}. {kept}, and its upload can only start again",
            name=name,
            where=where,
            upload_id=damage.upload_id,
        )

    def _temporary_path(self, path: str, name: str) -> str:
        """Return where to write the file that replaces another."""
        if name in self._claimed:
            temporary = path + ".tmp"
            with ignored(OSError):
                files.remove(temporary)  # of a process that was killed during a save
            if not os.path.lexists(temporary):
                return temporary
        return f"{path}.{secrets.token_hex(4)}.tmp"

    def _describe(self, path: str, name: str) -> str:
        header = None
        with ignored(OSError):
            header = _read_header(path)
        return f"the upload {name}" if header is None else describe_upload(header)

    def _scan(self, paths: Iterable[str]) -> Iterator[Checkpoint]:
        for path in paths:
            shown = printable(path)  # others may have created the file
            try:
                if self._location.is_unrelated(path):
                    _log.warning("%s is left out: it does not start like a checkpoint", shown)
                    continue
                checkpoint = journal.decode(_read(path)).checkpoint
            except FileNotFoundError:
                continue
            except files.Untrusted as error:
                _log.warning("%s is left out: it %s", shown, error.strerror)
            except OSError as error:
                _log.warning("%s is left out: it can't be read: %s", shown, reason(error))
            except journal.CorruptJournal as damage:
                _log.warning("%s is left out: it can't be trusted: %s", shown, damage.reason)
            else:
                if self._location.path(checkpoint.name) == path:
                    yield checkpoint
                else:
                    _log.warning("%s is left out: it is that of %s", shown, describe_upload(checkpoint))


def _read_header(path: str) -> Checkpoint | None:
    """
    Read a checkpoint without its parts; None if there is none that verifies.

    Raises:
        OSError: it can't be read, so it may be that of any upload.
    """
    try:
        return journal.decode_header(files.read(path, journal.LINE_MAX + 1))
    except (FileNotFoundError, files.Untrusted, journal.CorruptJournal):
        return None


def _read(path: str) -> bytes:
    """Read a file, up to one byte more than it may have; raises OSError."""
    return files.read(path, journal.BYTES_MAX + 1)


# --- beside the source -----------------------------------------------------------------------------------------------


def _store_beside(source: str) -> FileCheckpointStore:
    if not os.path.isabs(check_string("the name of a source", source)):
        raise InvalidInput(
            f"the source {source!r} is not a file, so it can't have a checkpoint beside it",
            hint="Name a directory for its checkpoint",
        )
    return FileCheckpointStore.for_file(source + SUFFIX)


# --- by URL ----------------------------------------------------------------------------------------------------------


def open_url(url: str) -> FileCheckpointStore:
    """
    Open ``file:``, which is the user's state directory, or ``file:///DIRECTORY``.

    Raises:
        InvalidInput: the URL does not name a directory of this machine.
    """
    return FileCheckpointStore(None if url.lower() == "file:" else _directory_of(url))


def _directory_of(url: str) -> str:
    # Imported late: it imports all of http.
    from urllib.request import url2pathname

    parts = split_url(url, urlsplit)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidInput(
            f"{brief_url(url)} does not name a directory for checkpoints", hint="Use file: or file:///DIRECTORY"
        )
    if parts.query or parts.fragment:
        raise InvalidInput(f"{brief_url(url)} contains a ? or a #", hint="In the name of a directory write %3F and %23")
    return url2pathname(parts.path)
