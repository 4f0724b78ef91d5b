"""
A directory that behaves like a bucket: object ``a/b`` is the plain file ``DIRECTORY/a/b``.

Objects appear whole and at once, are durable when the call returns, and can be read, copied and removed with any other
program. Pending parts and what a file can't say of itself lie under ``DIRECTORY/.partwise``:

    uploads/    a folder for each pending upload
    objects/    checksum and options of the objects stored here
    temp/       what is being written
    trash/      what is being removed

Any number of threads and processes may work on one directory; there are no locks. What the death of a process leaves is
removed by a later one, once it is too old to be in use.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from partwise._durable import sync, sync_directory
from partwise.backends._checks import check_part, check_parts, check_put, exact_chunks
from partwise.backends._local_errors import Translating
from partwise.backends._local_files import (
    BLOCK,
    append_copy,
    checksum_of,
    etag_of,
    fresh_name,
    make_directories,
    move_new,
    remove,
    write_all,
)
from partwise.backends._local_keys import BOOKKEEPING, segments_of, split_file_url
from partwise.backends._local_sidecars import Description, Sidecars
from partwise.backends._local_uploads import UploadFolder, UploadRecord, seal
from partwise.checksums import crc64, crc64_combine
from partwise.errors import (
    BackendClosed,
    BackendError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    ServerFailed,
    UploadNotFound,
)
from partwise.model import (
    TIB,
    Capabilities,
    ObjectOptions,
    PartLimits,
    PendingUpload,
    StoredObject,
    UploadedPart,
    utc,
)
from partwise.protocols import Body

_PARTS_MAX = 10_000
_PART_BYTES_MAX = 5 * TIB

#: A directory asks for no least size, and a file may be as large as the file system lets it be, which is the one to say
#: so. The number of parts is that of the object storages: a plan that fits here then fits there, and a folder of so
#: many files is still quick to list.
LIMITS = PartLimits(
    min_part_size=1,
    max_part_size=_PART_BYTES_MAX,
    max_parts=_PARTS_MAX,
    max_object_size=_PARTS_MAX * _PART_BYTES_MAX,
    max_put_size=_PARTS_MAX * _PART_BYTES_MAX,
)

#: What is kept with an object and given back by `LocalBackend.describe`. A directory has no storage classes, access
#: rules, encryption or callbacks of that kind; keeping their names would not be honouring them.
CAPABILITIES = Capabilities(
    options={
        "cache_control",
        "content_disposition",
        "content_encoding",
        "content_language",
        "content_type",
        "expires",
        "forbid_overwrite",
        "metadata",
        "tagging",
    },
    part_checksums=True,
    object_checksums=True,
)

#: Seconds after which what is half written is taken for abandoned. A part or an object that receives no byte for so
#: long is not being sent any more.
ABANDONED_AFTER = 24 * 60 * 60

# Two would nearly always do; so many mean that the file system never says the same twice.
_LOOKS_MAX = 100

_UPLOAD_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


def _new_upload_id() -> str:
    return secrets.token_hex(16)


class LocalBackend:
    """
    A directory as a bucket.

    Keys are relative paths with ``/`` between names. Those that would leave the directory, or that can't be a path
    everywhere, are refused with `InvalidKey`: empty names, ``.`` and ``..``, backslashes, NUL, names of more than 255
    bytes, anything in ``.partwise``, and a path through a symbolic link that leads out of the directory. Where an
    object ``a`` stands there can be no ``a/b``, nor the other way round: that is a `BackendError`.

    The parts of an upload outlive the death of the process; objects outlive the loss of power. To complete an upload
    takes as much free room as the object has bytes, except on file systems that share blocks between files.

    Args:
        directory: where the objects lie. It is made, with those above it, by the first write.
        clock: seconds since 1970, for when uploads began and for what is too old to be in use.
        upload_ids: makes upload ids, of letters, digits, ``-`` and ``_``; by default 32 hexadecimal digits that nobody
            can guess. To pickle the backend this function must be one that pickle finds by name.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        upload_ids: Callable[[], str] = _new_upload_id,
    ) -> None:
        self._root = Path(os.path.realpath(directory))
        self._clock = clock
        self._new_upload_id = upload_ids
        self._closed = False
        self._swept = False

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """The directory, absolute, with symbolic links resolved."""
        return self._root

    @property
    def location(self) -> str:
        """The directory as a ``file:`` URL, percent-encoded."""
        return self._root.as_uri()

    @property
    def limits(self) -> PartLimits:
        """Parts of any size, 10,000 of them. How large a file may be is for the file system to say."""
        return LIMITS

    @property
    def capabilities(self) -> Capabilities:
        """
        Lists of parts, checksums of parts and of objects. Of the options, those that describe an object: type, headers,
        metadata and tags, which `describe` gives back; and `forbid_overwrite`.
        """
        return CAPABILITIES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further calls; there is nothing to let go of. Closing twice is fine."""
        self._closed = True

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Begin a multipart upload; see `MultipartBackend.initiate_upload`. It is durable when this returns.

        Raises:
            BackendError: a directory stands under `key`, or an object stands where a directory is needed. Permanent.
        """
        self._check_open()
        options.refuse_beyond(CAPABILITIES, self.location)
        target = self.path_of(key)
        with self._translating(f"beginning an upload of {key!r}"):
            self._check_place(key, target)
            self._check_overwrite(key, target, options)
            self._prepare()
            folder = self._folder(self._new_upload_id())
            temporary = self._area("temp") / fresh_name()
            try:
                UploadFolder.create(folder.path, temporary, UploadRecord(key, self._clock(), options))
            except BaseException:
                remove(temporary)
                raise
        return folder.upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`. The death of the process does not take it back.

        Raises:
            InvalidInput: the part number or the size is beyond `limits`.
        """
        self._check_open()
        check_part(part_number, len(body), LIMITS)
        folder, _ = self._upload(key, upload_id)
        part = f"part {part_number} of {key!r}"
        translating = self._translating(f"storing {part}", folder, key)
        path = folder.new_part(part_number)

        def finish(file: FileIO, checksum: int) -> None:
            seal(file, len(body), checksum)
            file.close()
            folder.place_part(part_number, path)

        checksum = _receive(body, part, path, translating, finish)
        return UploadedPart(part_number, len(body), etag_of(checksum), checksum)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the parts held; see `MultipartBackend.list_parts`. Their bytes are not read."""
        self._check_open()
        folder, _ = self._upload(key, upload_id)
        with self._translating(f"listing the parts of {key!r}", folder, key):
            return list(self._receipts(key, folder).values())

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Make the object of the parts named; see `MultipartBackend.complete_upload`. It is durable when this returns.

        The bytes of each part are read again and compared with its receipt: those that were damaged on the disk are
        refused, and dropped, so that `list_parts` shows them missing.

        Raises:
            BackendError: a directory stands under `key`, or an object stands where a directory is needed. Permanent;
                the upload is usable.
        """
        self._check_open()
        options.refuse_beyond(CAPABILITIES, self.location)
        target = self.path_of(key)
        folder, record = self._upload(key, upload_id)
        with self._translating(f"completing {key!r}", folder, key):
            self._check_place(key, target)
            self._check_overwrite(key, target, options)
            check_parts(key, parts, self._receipts(key, folder), LIMITS)
            staged = folder.new_staged()
            try:
                checksum = _assemble(key, folder, parts, staged)
                if folder.record() is None:
                    raise self._no_upload(key, upload_id)
                self._publish(
                    key,
                    target,
                    staged,
                    Description(checksum, record.options),
                    options,
                    announce=lambda: folder.announce(staged),
                )
            finally:
                with contextlib.suppress(OSError):
                    folder.unstage(staged)
        # The object stands, and the folder says so itself: what can't be removed now is removed by a later sweep.
        with contextlib.suppress(OSError):
            self._discard(folder)
        return StoredObject(key, sum(part.size for part in parts), etag_of(checksum), checksum)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._check_open()
        self.path_of(key)
        with self._translating(f"aborting the upload of {key!r}"), contextlib.suppress(UploadNotFound):
            folder, _ = self._upload(key, upload_id)
            self._discard(folder)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads; see `MultipartBackend.list_uploads`."""
        self._check_open()
        pending = []
        with self._translating("listing the uploads"):
            for folder in self._folders():
                record = folder.record()
                if record is not None and record.key.startswith(prefix):
                    pending.append(PendingUpload(record.key, folder.upload_id, utc(record.initiated)))
        return sorted(pending, key=lambda upload: (upload.key, upload.upload_id))

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`. It is durable when this returns.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`.
            BackendError: a directory stands under `key`, or an object stands where a directory is needed. Permanent.
        """
        self._check_open()
        options.refuse_beyond(CAPABILITIES, self.location)
        check_put(key, len(body), LIMITS)
        target = self.path_of(key)
        translating = self._translating(f"storing {key!r}")
        with translating:
            self._check_place(key, target)
            self._check_overwrite(key, target, options)
            self._prepare()
        staged = self._area("temp") / fresh_name()

        def finish(file: FileIO, checksum: int) -> None:
            sync(file)
            file.close()
            self._publish(key, target, staged, Description(checksum, options), options)

        checksum = _receive(body, repr(key), staged, translating, finish)
        return StoredObject(key, len(body), etag_of(checksum), checksum)

    def head_object(self, key: str) -> StoredObject | None:
        """
        Describe an object; see `MultipartBackend.head_object`.

        A file that was not stored here, or was changed since, is read for its checksum.
        """
        self._check_open()
        target = self.path_of(key)
        with self._translating(f"looking at {key!r}"):
            found = self._look(key, target)
            if found is None:
                return None
            size, description = found
        return StoredObject(
            key, size, etag_of(description.crc64), description.crc64, metadata=description.options.metadata
        )

    # --- beyond the protocol -----------------------------------------------------------------------------------------

    def path_of(self, key: str) -> Path:
        """
        Where the object of this key lies, or would.

        Raises:
            InvalidKey: it can't lie in this directory.
        """
        target = self._root.joinpath(*segments_of(key, windows=os.name == "nt"))
        # What a symbolic link leads to is not the key's affair: only where the file is in the end.
        with self._translating(f"looking at {key!r}"):
            reached = [target.parent, target] if target.is_symlink() else [target.parent]
        root = os.path.realpath(self._root)
        books = Path(root, BOOKKEEPING)
        for path in reached:
            real = Path(os.path.realpath(path))
            if not real.is_relative_to(root) or real.is_relative_to(books):
                raise InvalidKey(f"{key!r} leads out of {self._root} by a symbolic link, to {real}")
        return target

    def describe(self, key: str) -> ObjectOptions | None:
        """The options that the object was stored with, none for a file put there by hand; None without an object."""
        self._check_open()
        target = self.path_of(key)
        with self._translating(f"looking at {key!r}"):
            found = self._look(key, target)
        return None if found is None else found[1].options

    # --- where things are --------------------------------------------------------------------------------------------

    def _area(self, name: str) -> Path:
        return self._root / BOOKKEEPING / name

    @property
    def _sidecars(self) -> Sidecars:
        return Sidecars(self._area("objects"))

    def _folder(self, upload_id: str) -> UploadFolder:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise InvalidInput(f"{upload_id!r:.100} can't be an upload id here")
        return UploadFolder(self._area("uploads") / upload_id)

    def _folders(self) -> list[UploadFolder]:
        return [UploadFolder(path) for path in _entries(self._area("uploads"))]

    def _upload(self, key: str, upload_id: str) -> tuple[UploadFolder, UploadRecord]:
        self.path_of(key)
        if _UPLOAD_ID.fullmatch(upload_id):
            folder = self._folder(upload_id)
            with self._translating(f"looking for the upload of {key!r}"):
                record = folder.record()
            if record is not None and record.key == key:
                return folder, record
        # A process that died when it had made the object may have left all parts, and the next write may be far off.
        with contextlib.suppress(OSError):
            self._sweep_once()
        raise self._no_upload(key, upload_id)

    def _receipts(self, key: str, folder: UploadFolder) -> dict[int, UploadedPart]:
        receipts = folder.receipts()
        if folder.record() is None:  # it ended meanwhile, and what was seen may be what was left of it
            raise self._no_upload(key, folder.upload_id)
        return receipts

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"{self.location} was closed; open it again to go on")

    def _translating(self, doing: str, folder: UploadFolder | None = None, key: str = "") -> Translating:
        """Translate errors; with `folder`, a file that is missing may mean that the upload is no more."""

        def missing() -> UploadNotFound | None:
            with contextlib.suppress(OSError):
                if folder is not None and folder.record() is None:
                    return self._no_upload(key, folder.upload_id)
            return None

        return Translating(doing, self._root, missing=missing)

    def _no_upload(self, key: str, upload_id: str) -> UploadNotFound:
        return UploadNotFound(
            f"{self.location} has no upload {upload_id:.128} of {key!r}: it was completed or aborted, or never was",
            code="NoSuchUpload",
        )

    def _check_place(self, key: str, target: Path) -> None:
        """Refuse a key that other objects leave no place for."""
        for parent in reversed(target.relative_to(self._root).parents[:-1]):
            if not (self._root / parent).is_dir() and os.path.lexists(self._root / parent):
                raise BackendError(
                    f"{key!r} can't be stored in {self._root}: {parent.as_posix()!r} is an object, and in a directory "
                    "nothing can lie under one",
                    code="ENOTDIR",
                )
        if target.is_dir():
            raise BackendError(
                f"{key!r} can't be stored in {self._root}: a directory of that name stands there", code="EISDIR"
            )

    def _check_overwrite(self, key: str, target: Path, options: ObjectOptions) -> None:
        if options.forbid_overwrite and os.path.lexists(target):
            raise self._exists(key)

    def _exists(self, key: str) -> ObjectExists:
        return ObjectExists(f"{self.location} has an object {key!r} already, and overwriting was forbidden")

    def _prepare(self) -> None:
        """Make what the first write needs, and remove what earlier processes left."""
        for name in ("uploads", "temp", "trash"):
            make_directories(self._area(name))
        self._sweep_once()

    def _publish(
        self,
        key: str,
        target: Path,
        staged: Path,
        description: Description,
        options: ObjectOptions,
        *,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Let a file that is whole and durable become the object.

        Args:
            key: the object.
            target: where it lies.
            staged: the file.
            description: what is to be known of it.
            options: of these `forbid_overwrite`.
            announce: called when all is ready but the last step.
        """
        self._check_place(key, target)
        make_directories(target.parent)
        version = staged.stat()
        self._sidecars.write(key, version, description)
        replaced = _stat_of_file(target)
        announce()
        if options.forbid_overwrite:
            try:
                move_new(staged, target)
            except FileExistsError as error:
                raise self._exists(key) from error
        else:
            staged.replace(target)
        sync_directory(target.parent)
        with contextlib.suppress(OSError):
            if replaced is not None:
                self._sidecars.drop(key, replaced)
            self._sidecars.sweep(key, version, self._clock() - ABANDONED_AFTER)

    def _look(self, key: str, target: Path) -> tuple[int, Description] | None:
        # Each further turn means that the object was replaced since the last one.
        for _ in range(_LOOKS_MAX):
            version = _stat_of_file(target)
            if version is None:
                return None
            description = self._sidecars.read(key, version)
            if description is not None:
                return version.st_size, description
            try:
                with target.open("rb", buffering=0) as file:
                    opened = os.fstat(file.fileno())
                    if _same_version(version, opened):
                        size, checksum = checksum_of(file)
                        return size, Description(checksum, ObjectOptions())
            except FileNotFoundError:
                return None
        raise ServerFailed(f"{key!r} was replaced {_LOOKS_MAX} times while it was looked at")

    def _discard(self, folder: UploadFolder) -> None:
        """Make an upload dead at once, then remove what it had."""
        make_directories(self._area("trash"))
        trash = self._area("trash") / fresh_name()
        try:
            folder.path.rename(trash)
        except FileNotFoundError:
            return
        except PermissionError:
            # Windows moves no folder in which a file is open. Without its record it is dead all the same.
            (folder.path / "upload.json").unlink(missing_ok=True)
            trash = folder.path
        remove(trash)

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            self._sweep(self._clock() - ABANDONED_AFTER)

    def _sweep(self, horizon: float) -> None:
        """Remove what no living process can be using; `horizon` is the time before which it was last touched."""
        for path in _entries(self._area("trash")):
            remove(path)
        for path in _entries(self._area("temp")):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < horizon:
                    remove(path)
        for folder in self._folders():
            with contextlib.suppress(OSError):
                if folder.record() is not None:
                    folder.sweep(horizon)
                elif folder.committed() or folder.path.stat().st_mtime < horizon:
                    self._discard(folder)


def open_url(url: str, **settings: object) -> tuple[LocalBackend, str]:
    """
    Open ``file:///directory/key``: the key is what follows the last slash.

    A key that has slashes itself is written with ``%2F``; on Windows the directory begins with a drive, as in
    ``file:///C:/directory/key``.

    Args:
        url: directory and key are percent-decoded; the key may be empty.
        settings: `timeout` is accepted, though a directory has no network to wait for.

    Returns:
        The backend, and the key.

    Raises:
        InvalidInput: the URL is not absolute, names another host, or has a query or a fragment; or there is a setting
            that means nothing here.
    """
    unknown = sorted(settings.keys() - {"timeout"})
    if unknown:
        raise InvalidInput(f"a directory has no setting {', '.join(unknown)}")
    directory, key = split_file_url(url, windows=os.name == "nt")
    return LocalBackend(directory), key


def _receive(body: Body, what: str, path: Path, translating: Translating, finish: Callable[[FileIO, int], None]) -> int:
    """
    Write a body to a new file, let `finish` (file, checksum) do the rest, and return the checksum.

    Whatever fails, the file is removed. What the body raises is not translated, whatever it is.
    """
    checksum = 0
    with translating:
        file = path.open("xb", buffering=0)
    try:
        with file:
            for chunk in exact_chunks(body, what):
                with translating:
                    write_all(file, chunk)
                checksum = crc64(chunk, checksum)
            with translating:
                finish(file, checksum)
    except BaseException:
        remove(path)
        raise
    return checksum


def _assemble(key: str, folder: UploadFolder, parts: Sequence[UploadedPart], staged: Path) -> int:
    """
    Put the parts together in a new file, durable when this returns, and return the checksum of what is in it.

    Raises:
        PartRejected: parts are not what their receipts say. All of them are found at once: the loss of power, which
            may damage parts, may damage many.
    """
    checksum = 0
    damaged = []
    buffer = memoryview(bytearray(BLOCK))
    with staged.open("x+b", buffering=0) as target:
        for part in parts:
            path = folder.part(part.part_number)
            with path.open("rb", buffering=0) as source:
                size, part_checksum = append_copy(source, target, part.size, buffer)
            if (size, etag_of(part_checksum)) != (part.size, part.etag):
                # Unless it is gone from the list it would be taken for good again.
                remove(path)
                damaged.append(part.part_number)
            checksum = crc64_combine(checksum, part_checksum, part.size)
        if damaged:
            several = f"{len(damaged)} parts, the first of which is part {damaged[0]}, are"
            which = f"part {damaged[0]} is" if len(damaged) == 1 else several
            raise PartRejected(
                f"{key!r} can't be completed: {which} not what was stored, having been damaged on the disk. What was"
                " damaged was dropped and has to be sent again; the other parts are kept",
                code="InvalidPart",
            )
        sync(target)
    return checksum


def _stat_of_file(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _same_version(left: os.stat_result, right: os.stat_result) -> bool:
    return (left.st_ino, left.st_size, left.st_mtime_ns) == (right.st_ino, right.st_size, right.st_mtime_ns)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
