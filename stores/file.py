"""
Checkpoints in files: readable text, one file an upload.

What is promised, and by what means:

- `save` is whole or not at all, and durable: the new content goes to a file beside it, which is synced and renamed over
  the old one, and then the directory is synced.
- `append_part` is one write of one line at the end of the file, which stays open while the claim is held. It is not
  synced: the death of the process does not take the line back; the loss of power may, for then the storage's own list
  has the part. Without a claim each append opens and reads the file first.
- Every line carries a checksum that is chained to the line before, so that damage is told from a torn end.
- Files are for their owner alone (mode 0600), and so are the directories that are made for them (0700).

Beside a checkpoint ``NAME.ucp`` there may be, for a while: ``NAME.ucp.lock``, which is locked while an uploader holds
the claim; ``NAME.ucp.tmp``, of a save; and ``NAME.ucp.damaged``, which could not be trusted.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH105, PTH117

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from partwise import _durable as files
from partwise._signals import ignored
from partwise._validation import check_text, split_url
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged, CheckpointMismatch, CheckpointUnwritable, InvalidInput
from partwise.model import UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._appending import Appender
from partwise.stores._checks import (
    absent,
    check_checkpoint,
    check_name,
    check_receipt,
    closed,
    reason,
    unreadable,
    unwritable,
    upload_of,
)
from partwise.stores._locations import SUFFIX, Directory, OneFile, Place, checked_path, name_aside, resolved_directory
from partwise.stores._locks import claim

_log = logging.getLogger(__name__)


class FileCheckpointStore:
    """
    Checkpoints in a directory, a file each.

    Safe to use from many threads and processes. It can be pickled: the copy has the same place, and no claim.

    Args:
        directory: where; it is made when first needed. None is ``checkpoints`` in the user's state directory for
            partwise, such as ``~/.local/state/partwise/checkpoints``.

    Raises:
        InvalidInput: `directory` is no path.
    """

    def __init__(self, directory: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None) -> None:
        self._place: Place = Directory(None if directory is None else checked_path(directory))
        self._closed = False
        self._start()

    @classmethod
    def for_file(cls, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Self:
        """
        A store of exactly one file, for one upload at a time.

        If the checkpoint of another upload is in it, `load`, `save` and `append_part` raise CheckpointMismatch, which
        names that upload, and touch neither. A file that never was a checkpoint is not touched either.

        Args:
            path: the file. Its directory must exist.

        Raises:
            InvalidInput: `path` is no path.
        """
        store = cls()
        store._place = OneFile(resolved_directory(checked_path(path)))
        return store

    @staticmethod
    def beside_source() -> Callable[[str], FileCheckpointStore]:
        """
        A function that returns the store of one source: the checkpoint of ``backup.tar`` is ``backup.tar.ucp``.

        Give it to an `Uploader` as its store. A source has one file beside it, so it can be uploaded to one target at a
        time; a second one is refused as a CheckpointMismatch. The function raises InvalidInput for a source that is not
        a file.
        """
        return _store_beside

    def __repr__(self) -> str:
        try:
            place = str(self._place)
        except CheckpointUnwritable:
            place = "without a place"
        return f"<{type(self).__name__} {place}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_place": self._place, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def close(self) -> None:
        """Let go of open files. A claim that is held lasts until its context is left. Closing twice is fine."""
        self._closed = True
        self._appender.close()

    def path_for(self, name: str) -> Path:
        """The file that the checkpoint of this name is in, if there is one."""
        return Path(self._place.path(check_name(name)))

    def exists(self) -> bool:
        """Whether the directory (the one file) is there; it need not be before something is saved."""
        return self._place.exists()

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """
        The sole right to this name; see `CheckpointStore.claim`.

        Raises:
            CheckpointBusy: on entering: an uploader, here or in another process, holds it.
            CheckpointUnwritable: on entering: files can't be made there, or a file that never was a checkpoint is in
                the way.
        """
        path = self._begin(name)
        self._prepare(path, name)
        with claim(path + ".lock", name=name, where=path, upload=lambda: self._upload(path, name)):
            process = os.getpid()
            self._claimed[name] = path
            try:
                yield
            finally:
                if os.getpid() == process:
                    self._claimed.pop(name, None)
                    self._appender.let_go(path)

    def load(self, name: str) -> Checkpoint | None:
        """
        The checkpoint with every part appended since; see `CheckpointStore.load`.

        A damaged file is set aside, as ``NAME.ucp.damaged``, only while this store holds the claim: a reader that looks
        on must not take it from its owner.

        Raises:
            CheckpointDamaged: it can't be trusted; `where` is the file, or what it was set aside as.
            CheckpointMismatch: the one file of this store holds the checkpoint of another upload.
            CheckpointError: the file can't be read at all.
        """
        path = self._begin(name)
        try:
            if self._place.is_foreign(path):
                raise CheckpointDamaged(
                    f"{path} does not begin as a checkpoint does, and was left as it is", name=name, where=path
                )
            return self._decoded(path, name)
        except FileNotFoundError:
            return None
        except files.Untrusted as error:
            # Whose upload its id is of is not known either, so the id is not given to be aborted.
            raise self._set_aside(path, name, journal.CorruptJournal(f"it {error.strerror}")) from error
        except OSError as error:
            raise unreadable(error, path, name=name) from error
        except journal.CorruptJournal as damage:
            raise self._set_aside(path, name, damage) from damage

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Raises:
            CheckpointUnwritable: the file can't be written; what was there is still there, whole.
            CheckpointMismatch: the one file of this store holds the checkpoint of another upload.
        """
        check_checkpoint(checkpoint)
        name = checkpoint.name
        path = self._begin(name)
        self._prepare(path, name)
        if self._place.shared and (header := _header(path)) is not None:
            self._check_owner(path, name, header)
        self._appender.let_go(path)
        try:
            _check_replaceable(path)
            files.replace(path, journal.encode(checkpoint), self._temporary(path, name))
        except OSError as error:
            raise unwritable(error, path, name=name) from error

    def append_part(self, name: str, part: UploadedPart) -> None:
        """
        Add one receipt by one write; see `CheckpointStore.append_part`.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            CheckpointUnwritable: the file can't be written. What it held it holds, and later receipts can follow.
            CheckpointDamaged: what is there can't be added to.
            CheckpointMismatch: the one file of this store holds the checkpoint of another upload.
        """
        path = self._begin(name)
        check_receipt(part)
        try:
            self._appender.append(
                path,
                name,
                part,
                admit=lambda found: self._check_owner(path, name, found),
                keep=name in self._claimed,
            )
        except FileNotFoundError as error:
            raise absent(name, path) from error
        except OSError as error:
            raise unwritable(error, path, name=name) from error
        except journal.CorruptJournal as damage:
            raise CheckpointDamaged(
                f"nothing can be added to the checkpoint {path}: {damage.reason}; it was left as it is",
                name=name,
                where=path,
                upload_id=damage.upload_id,
            ) from damage

    def delete(self, name: str) -> None:
        """
        Forget the checkpoint and what was set aside; see `CheckpointStore.delete`.

        Raises:
            CheckpointUnwritable: a file can't be removed.
        """
        path = self._begin(name)
        try:
            if self._place.is_foreign(path):
                return
            if self._place.shared and (header := _header(path)) is not None and header.name != name:
                return
            self._appender.let_go(path)
            files.remove(path)
            files.remove(path + ".damaged")
            if name in self._claimed:
                files.remove(path + ".tmp")
        except files.Untrusted:
            return  # what is in its place is not ours to remove
        except OSError as error:
            raise unwritable(error, path, name=name) from error

    def scan(self) -> Iterable[Checkpoint]:
        """
        Every checkpoint that can be read; see `CheckpointStore.scan`.

        Damaged ones stay where they are; the logger ``partwise.stores.file`` gets a warning for each.

        Raises:
            CheckpointError: the directory can't be listed.
        """
        self._check_open()
        try:
            return self._scanned(self._place.paths())
        except OSError as error:
            raise unreadable(error, str(self._place)) from error

    # --- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._process = os.getpid()
        self._claimed: dict[str, str] = {}  # by this store object: the names, and their files
        self._appender = Appender()

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self)
        if self._process != os.getpid():
            # A forked child has descriptors of its own for the same files, and none of its parent's claims.
            self._appender.inherited()
            self._start()

    def _begin(self, name: str) -> str:
        self._check_open()
        return self._claimed.get(check_name(name)) or self._place.path(name)

    def _prepare(self, path: str, name: str) -> None:
        try:
            self._place.prepare()
            foreign = self._place.is_foreign(path)
        except OSError as error:
            raise unwritable(error, path, name=name) from error
        if foreign:
            raise CheckpointUnwritable(
                f"{path} is something else than a checkpoint, and was left as it is; name another file for the "
                "checkpoint, or move that one away",
                name=name,
                where=path,
            )

    def _decoded(self, path: str, name: str) -> Checkpoint:
        """The checkpoint in a file; raises OSError, CorruptJournal, and CheckpointMismatch."""
        try:
            checkpoint = journal.decode(_read(path)).checkpoint
        except journal.CorruptJournal as damage:
            if damage.header is not None:
                self._check_owner(path, name, damage.header)
            if damage.name != name:
                damage.upload_id = None  # it is another upload's, which may be alive
            raise
        self._check_owner(path, name, checkpoint)
        return checkpoint

    def _check_owner(self, path: str, name: str, found: Checkpoint) -> None:
        """Refuse what is found under a name that is not its own; raises CheckpointMismatch or CorruptJournal."""
        if found.name == name:
            return
        if self._place.shared:
            raise CheckpointMismatch(
                f"{path} holds the checkpoint of another upload, {upload_of(found)}; neither was touched. Finish or "
                "abort that one first, or name another file",
                name=name,
                where=path,
            )
        # A copy under a wrong name. Its upload is alive as far as anyone knows, so its id is not given to be aborted.
        raise journal.CorruptJournal(f"it is of {upload_of(found)}")

    def _set_aside(self, path: str, name: str, damage: journal.CorruptJournal) -> CheckpointDamaged:
        where = path
        kept = "it was left where it is"
        if name in self._claimed:
            self._appender.let_go(path)  # an open file can't be renamed everywhere
            try:
                aside = name_aside(path)
                os.replace(path, aside)
            except OSError as error:
                kept = f"it can't be set aside ({reason(error)})"
            else:
                where = aside
                kept = f"it was set aside as {where}"
        return CheckpointDamaged(
            f"the checkpoint {path} can't be trusted: {damage.reason}; {kept}. Its upload can only start again",
            name=name,
            where=where,
            upload_id=damage.upload_id,
        )

    def _temporary(self, path: str, name: str) -> str:
        """Where to write what is to take the place of a file."""
        if name in self._claimed:
            temporary = path + ".tmp"
            with ignored(OSError):
                files.remove(temporary)  # of a process that died while it saved
            if not os.path.lexists(temporary):
                return temporary
        return f"{path}.{secrets.token_hex(4)}.tmp"

    def _upload(self, path: str, name: str) -> str:
        header = _header(path)
        return f"the upload {name}" if header is None else upload_of(header)

    def _scanned(self, paths: Iterable[str]) -> Iterator[Checkpoint]:
        for path in paths:
            try:
                if self._place.is_foreign(path):
                    _log.warning("%s is left out: it does not begin as a checkpoint does", path)
                    continue
                checkpoint = journal.decode(_read(path)).checkpoint
            except FileNotFoundError:
                continue
            except files.Untrusted as error:
                _log.warning("%s is left out: it %s", path, error.strerror)
            except OSError as error:
                _log.warning("%s is left out: it can't be read: %s", path, reason(error))
            except journal.CorruptJournal as damage:
                _log.warning("%s is left out: it can't be trusted: %s", path, damage.reason)
            else:
                if self._place.path(checkpoint.name) == path:
                    yield checkpoint
                else:
                    _log.warning("%s is left out: it is of %s", path, upload_of(checkpoint))


def _header(path: str) -> Checkpoint | None:
    """The checkpoint in a file without its parts; None where there is none that verifies."""
    try:
        return journal.decode_header(files.read(path, journal.LINE_MAX + 1))
    except (OSError, journal.CorruptJournal):
        return None


def _read(path: str) -> bytes:
    """All of a file, or as much of it as is too much; raises OSError."""
    return files.read(path, journal.BYTES_MAX + 1)


def _check_replaceable(path: str) -> None:
    """Refuse to replace what is not ours to remove; raises OSError."""
    with suppress(FileNotFoundError):
        files.check_trusted(path)


# --- beside the source -----------------------------------------------------------------------------------------------


def _store_beside(source: str) -> FileCheckpointStore:
    if not os.path.isabs(check_text("the name of a source", source)):
        raise InvalidInput(
            f"the source {source!r} is not a file, so it has no file beside it; name a directory for its checkpoint"
        )
    return FileCheckpointStore.for_file(source + SUFFIX)


# --- by URL ----------------------------------------------------------------------------------------------------------


def open_url(url: str) -> FileCheckpointStore:
    """
    Open ``file:``, which is the user's state directory, or ``file:///DIRECTORY``.

    Raises:
        InvalidInput: the URL names no directory of this machine.
    """
    return FileCheckpointStore(None if url.lower() == "file:" else _directory_of(url))


def _directory_of(url: str) -> str:
    # Here and not above: it brings the whole of http with it.
    from urllib.request import url2pathname

    parts = split_url(url, urlsplit)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidInput(f"{url!r} names no directory for checkpoints: write file: or file:///DIRECTORY")
    if parts.query or parts.fragment:
        raise InvalidInput(f"{url!r} has a ? or a # in it; in the name of a directory write %3F and %23")
    return url2pathname(parts.path)
