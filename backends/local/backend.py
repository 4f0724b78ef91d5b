"""
A directory that behaves like a bucket: object ``a/b`` is the plain file ``DIRECTORY/a/b``.

Objects appear whole and at once, are durable when the call returns, and can be read, copied and removed with any other
program. What is pending, and what a file can't say of itself, lies under ``DIRECTORY/.partwise``, for this user alone:

    uploads/    a folder for each pending upload
    objects/    checksum and options of objects that were stored with options
    temp/       what is being written
    trash/      what is being removed

The folder goes when nothing is in it that is needed.

Any number of threads and processes of one user may work on one directory; there are no locks. What the death of a
process leaves is removed by a later write, once it is too old to be in use. Calls that only read change nothing.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from attrs import define

from partwise._durable import sync
from partwise._signals import ignored
from partwise._validation import brief, check_callable, check_path, check_text
from partwise.backends._checks import check_call, check_part, check_parts, check_put, exact_chunks
from partwise.backends.local.bookkeeping import (
    TEMP,
    UPLOAD_ID,
    begin_upload,
    check_bookkeeping,
    discard_upload,
    empty_trash,
    open_upload,
    remove_unneeded,
    sweep,
    uploads_in,
)
from partwise.backends.local.directories import (
    Directory,
    LinkInTheWay,
    NotAFile,
    change_permissions,
    make_directories,
    walk,
    within,
)
from partwise.backends.local.errors import NO_OBJECT_CHANGED, Translating
from partwise.backends.local.files import (
    BLOCK,
    append_copy,
    checksum_of,
    etag_of,
    fresh_name,
    move_new,
    write_all,
)
from partwise.backends.local.keys import BOOKKEEPING, segments_of, split_file_url
from partwise.backends.local.sidecars import Description, Sidecars, check_options
from partwise.backends.local.upload_folder import PARTS_MAX, UploadFolder, UploadRecord, new_part_name, part_name, seal
from partwise.checksums import crc64, crc64_combine
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PartwiseError,
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

_PART_BYTES_MAX = 5 * TIB

#: A directory asks for no least size, and a file may be as large as the file system lets it be, which is the one to say
#: so.
LIMITS = PartLimits(
    min_part_size=1,
    max_part_size=_PART_BYTES_MAX,
    max_parts=PARTS_MAX,
    max_object_size=PARTS_MAX * _PART_BYTES_MAX,
    max_put_size=PARTS_MAX * _PART_BYTES_MAX,
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
        "tags",
    },
    part_checksums=True,
    object_checksums=True,
    types_by_name=True,
)

#: Seconds after which what is half written is taken for abandoned. A part or an object that receives no byte for so
#: long is not being sent any more.
ABANDONED_AFTER = 24 * 60 * 60

# Two would nearly always do; so many mean that the file system never says the same twice.
_LOOKS_MAX = 100

# What a new file may be that is not made of a file; the umask takes from it.
_PERMISSIONS = 0o666
# Read, write and execute for owner, group and others. What else a mode has (setuid, setgid, sticky) is never copied.
_PERMISSIONS_MASK = 0o777

_OBJECT_STANDS = "the object stands, whole, but a loss of power may still take it back: store it again"


def _new_upload_id() -> str:
    return secrets.token_hex(16)


class _State:
    """What a backend shares with the handles that it gives."""

    def __init__(self) -> None:
        self.closed = False
        self.swept = False


@define(frozen=True)
class _SourceFile:
    """The file that an object is made of."""

    device: int
    inode: int
    permissions: int

    def is_file(self, status: os.stat_result) -> bool:
        return bool(self.inode) and (self.device, self.inode) == (status.st_dev, status.st_ino)


@define(frozen=True)
class _Place:
    """
    What stands under a key.

    Args:
        taken: whether anything does.
        file: the regular file that does, or that a link there leads to.
    """

    taken: bool
    file: os.stat_result | None


class LocalBackend:
    """
    A directory as a bucket.

    Keys are relative paths with ``/`` between names. Those that would leave the directory, or that can't be a path
    everywhere, are refused with `InvalidKey`: empty names, ``.`` and ``..``, backslashes, NUL, names of more than 255
    bytes, anything in ``.partwise``, and a path through a symbolic link that leads out of the directory. A link that
    stays inside is followed. Where an object ``a`` stands there can be no ``a/b``, nor the other way round; and where
    something stands that is not a regular file there can be no object: those are `BackendError`.

    The parts of an upload outlive the death of the process; objects outlive the loss of power. To complete an upload
    takes as much free room as the object has bytes, except on file systems that share blocks between files.

    An object that is made of a file gets its permissions, within the umask; any other gets what the umask leaves. One
    that replaces an object keeps that object's permissions.

    ``.partwise`` and all in it must be real directories of this user, or of root, that others can't write to. Otherwise
    every call is refused with `AccessDenied`, and nothing is changed. So users who share a directory can store objects
    in it in turns, but not while an upload of another one is pending, or an object is there that another one stored
    with options.

    A directory is opened once for each call, and what lies below it is reached through descriptors: another user, or
    another program, who renames a directory or puts a link in its place meanwhile can't lead a write or a read out of
    the bucket. Windows has no such way. There, only users who are trusted may have the right to change the directory
    and those below it. Everywhere, a user who may rename the directory itself, or one above it, decides which directory
    is the bucket.

    Args:
        directory: where the objects lie. It is made, with those above it, by the first write.
        clock: seconds since 1970, for when uploads began and for what is too old to be in use.
        upload_ids: makes upload ids, of letters, digits, ``-`` and ``_``; by default 32 hexadecimal digits that nobody
            can guess. To pickle the backend this function must be one that pickle finds by name.

    Raises:
        InvalidInput: `directory` is not a path, or is not from the root while the working directory was removed.
    """

    def __init__(
        self,
        directory: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        clock: Callable[[], float] = time.time,
        upload_ids: Callable[[], str] = _new_upload_id,
    ) -> None:
        self._root = Path(check_path("the directory of a bucket", directory, os.path.realpath))
        check_callable("clock", clock)
        check_callable("upload_ids", upload_ids)
        self._clock = clock
        self._new_upload_id = upload_ids
        self._state = _State()
        self._source: _SourceFile | None = None

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
        return f"<{type(self).__name__} {self.location}{' closed' if self._state.closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further calls; nothing is kept open between two. Closing twice is fine."""
        self._state.closed = True

    def with_source_file(self, path: str) -> Self:
        """See `SupportsSourceFile.with_source_file`. A file that can't be found is left for the source to report."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return self
        bound = copy.copy(self)
        source = _SourceFile(status.st_dev, status.st_ino, status.st_mode & _PERMISSIONS_MASK)
        bound._source = source  # noqa: SLF001  # of this class
        return bound

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Begin a multipart upload; see `MultipartBackend.initiate_upload`. It is durable when this returns.

        Raises:
            InvalidInput: the object would be its own source; or the options take more than a mebibyte.
            BackendError: something that is not a regular file stands under `key`, or an object stands where a directory
                is needed. Permanent.
        """
        self._check_open()
        check_call(key=key, options=options)
        options.require_supported_by(CAPABILITIES, self.location)
        self._check_key(key)
        upload_id = check_text("an upload id", self._new_upload_id())
        if not UPLOAD_ID.fullmatch(upload_id):
            raise InvalidInput(f"{brief(upload_id)} can't be an upload id here")
        permissions = None if self._source is None else self._source.permissions
        record = UploadRecord(key, self._clock(), options, permissions)
        translating = self._translating(f"beginning an upload of {key!r}")
        begun = False
        try:
            with self._writing(translating) as root, translating:
                self._check_place(root, key, options)
                begun = True
                begin_upload(root, upload_id, record)
        except BaseException:
            # Also an interrupt: the caller will not learn the id, and so could not abort it.
            if begun:
                with contextlib.suppress(PartwiseError):
                    self.abort_upload(key, upload_id)
            raise
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`. The death of the process does not take it back.

        Raises:
            InvalidInput: the part number or the size is beyond `limits`.
        """
        self._check_open()
        check_call(key=key, upload_id=upload_id, part_number=part_number, body=body)
        check_part(part_number, len(body), LIMITS)
        part = f"part {part_number} of {key!r}"
        with self._upload(key, upload_id, f"looking for the upload of {key!r}") as (folder, _):
            translating = self._translating(f"storing {part}", folder, key)
            name = new_part_name(part_number)
            with translating:
                parts = folder.parts()
            with parts:

                def finish(file: FileIO, checksum: int) -> None:
                    seal(file, len(body), checksum)
                    file.close()
                    folder.place_part(parts, name, part_number)

                with translating:
                    file, _ = parts.create(name)
                checksum = _receive(body, part, file, translating, discard=lambda: parts.discard(name), finish=finish)
        return UploadedPart(part_number, len(body), etag_of(checksum), checksum)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the parts held; see `MultipartBackend.list_parts`. Their bytes are not read."""
        self._check_open()
        check_call(key=key, upload_id=upload_id)
        doing = f"listing the parts of {key!r}"
        with self._upload(key, upload_id, doing) as (folder, _), self._translating(doing, folder, key):
            return list(self._receipts(key, folder).values())

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Make the object of the parts named; see `MultipartBackend.complete_upload`. It is durable when this returns.

        The bytes of each part are read again and compared with its receipt: those that were damaged on the disk are
        refused, and dropped, so that `list_parts` shows them missing.

        Raises:
            InvalidInput: the object would be its own source.
            BackendError: something that is not a regular file stands under `key`, or an object stands where a directory
                is needed. Permanent; the upload is usable.
        """
        self._check_open()
        check_call(key=key, upload_id=upload_id, parts=parts, options=options)
        options.require_supported_by(CAPABILITIES, self.location)
        doing = f"completing {key!r}"
        with (
            self._upload(key, upload_id, doing) as (folder, record),
            self._writing(self._translating(doing)) as root,
        ):
            with self._translating(doing, folder, key):
                self._check_place(root, key, options)
                check_parts(key, parts, self._receipts(key, folder), LIMITS)
                permissions = _PERMISSIONS if record.permissions is None else record.permissions
                staged, file, granted = folder.new_staged(permissions)
                try:
                    with file:
                        checksum = _assemble(key, folder, parts, file)
                        if folder.record() is None:
                            raise self._no_upload(key, upload_id)
                        self._publish(
                            root,
                            key,
                            _Staged(*folder.way_to(staged), file, granted),
                            Description(checksum, record.options),
                            options,
                            announce=lambda: folder.announce(staged),
                        )
                finally:
                    with ignored(OSError):
                        folder.unstage(staged)
            # The object stands, and the folder says so itself: what can't be removed now, a later sweep removes.
            with ignored(OSError, AccessDenied):
                self._discard(root, upload_id)
        return StoredObject(key, sum(part.size for part in parts), etag_of(checksum), checksum)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._check_open()
        check_call(key=key, upload_id=upload_id)
        self._check_key(key)
        if not UPLOAD_ID.fullmatch(upload_id):
            return
        translating = self._translating(f"aborting the upload of {key!r}")
        with translating, contextlib.suppress(FileNotFoundError), self._open_root() as root:
            check_bookkeeping(root)
            dropped = False
            with contextlib.suppress(FileNotFoundError), open_upload(root, upload_id) as folder:
                record = folder.record()
                # A process that made the object and died may have left all parts.
                dropped = folder.committed() if record is None else record.key == key
            if dropped:
                self._discard(root, upload_id)
            # A process that died while it removed the upload has left the rest of it there.
            empty_trash(root)
            remove_unneeded(root)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """
        List the pending uploads; see `MultipartBackend.list_uploads`.

        Raises:
            BucketNotFound: there is no such directory (yet).
        """
        self._check_open()
        check_call(prefix=prefix)
        pending = []
        with self._translating("listing the uploads"):
            try:
                root = self._open_root()
            except FileNotFoundError as error:
                raise BucketNotFound(
                    f"there is no directory {self._root}, and so no upload: check the path; the first upload to it"
                    " makes it",
                    code="ENOENT",
                ) from error
            with root:
                check_bookkeeping(root)
                for folder in uploads_in(root):
                    record = folder.record()
                    if record is not None and record.key.startswith(prefix):
                        pending.append(PendingUpload(record.key, folder.upload_id, utc(record.initiated)))
        return sorted(pending, key=lambda upload: (upload.key, upload.upload_id))

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`. It is durable when this returns.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`; the object would be its own source; or the
                options take more than a mebibyte.
            BackendError: something that is not a regular file stands under `key`, or an object stands where a directory
                is needed. Permanent.
        """
        self._check_open()
        check_call(key=key, body=body, options=options)
        options.require_supported_by(CAPABILITIES, self.location)
        check_put(key, len(body), LIMITS)
        self._check_key(key)
        check_options(key, options)
        permissions = _PERMISSIONS if self._source is None else self._source.permissions
        translating = self._translating(f"storing {key!r}")
        name = fresh_name()
        with self._writing(translating) as root:
            with translating:
                self._check_place(root, key, options)
                temp, (opened, granted) = within(root, TEMP, lambda temp: temp.create(name, permissions))
            with temp:

                def finish(file: FileIO, checksum: int) -> None:
                    staged = _Staged(temp, name, file, granted)
                    self._publish(root, key, staged, Description(checksum, options), options)

                checksum = _receive(
                    body, repr(key), opened, translating, discard=lambda: temp.discard(name), finish=finish
                )
        return StoredObject(key, len(body), etag_of(checksum), checksum)

    def head_object(self, key: str) -> StoredObject | None:
        """
        Describe an object; see `MultipartBackend.head_object`.

        One that was stored without options, or not by this class, or was changed since, is read for its checksum.
        """
        self._check_open()
        found = self._look(key)
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
        target = self._root.joinpath(*self._check_key(key))
        # What a symbolic link leads to is not the key's affair: only where the file is in the end.
        with self._translating(f"looking at {key!r}"):
            self._resolved(key, last=target.is_symlink())
        return target

    def describe(self, key: str) -> ObjectOptions | None:
        """The options that the object was stored with, none for a file put there by hand; None without an object."""
        self._check_open()
        found = self._look(key)
        return None if found is None else found[1].options

    def open_object(self, key: str) -> BinaryIO:
        """
        Open an object for reading; the caller closes it.

        Raises:
            KeyError: there is no such object.
        """
        self._check_open()
        with self._translating(f"opening {key!r}"):
            try:
                with self._open_root() as root:
                    parent, name, _ = self._find(root, key)
                    with parent:
                        return io.BufferedReader(parent.open_file(name))
            except (FileNotFoundError, NotADirectoryError, NotAFile):
                raise KeyError(key) from None

    def delete_object(self, key: str) -> None:
        """
        Delete an object, and what is known of it; of a link, the link. One that is not there is fine.

        Raises:
            InvalidKey: it is a symbolic link that leads out of the bucket.
        """
        self._check_open()
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._translating(f"deleting {key!r}"), missing, self._open_root() as root:
            check_bookkeeping(root)
            parent, name = self._parent(root, key)
            with parent:
                found = parent.status(name)
                if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                    return
                if stat.S_ISLNK(found.st_mode):
                    self._resolved(key, last=True)
                parent.unlink(name)
            Sidecars(root).settle(key, None, found, self._clock() - ABANDONED_AFTER)
            remove_unneeded(root)

    # --- where things are --------------------------------------------------------------------------------------------

    def _open_root(self) -> Directory:
        return Directory.open(str(self._root))

    def _check_key(self, key: str) -> tuple[str, ...]:
        return segments_of(key, windows=os.name == "nt")

    def _parent(self, root: Directory, key: str, *, make: bool = False) -> tuple[Directory, str]:
        """
        The directory that the object lies in, open, and its name there, at which there may be a link.

        Raises:
            InvalidKey: a symbolic link on the way leads out of the bucket.
            FileNotFoundError: a directory is missing.
            NotADirectoryError: an object stands in place of one.
        """
        *way, name = self._check_key(key)
        try:
            return walk(root, way, make=make), name
        except LinkInTheWay:
            # Where it leads is found by path. What is at that path is then reached without following any link.
            *way, name = self._resolved(key, last=False)
            return walk(root, way, make=make), name

    def _find(self, root: Directory, key: str) -> tuple[Directory, str, os.stat_result | None]:
        """
        Where the bytes of an object are: a directory, open, the name there, and what it is.

        Raises:
            as `_parent`; and InvalidKey: a symbolic link under the key leads out of the bucket.
        """
        parent, name = self._parent(root, key)
        found = parent.status(name)
        if found is None or not stat.S_ISLNK(found.st_mode):
            return parent, name, found
        parent.close()
        *way, name = self._resolved(key, last=True)
        parent = walk(root, way)
        return parent, name, parent.status(name)

    def _resolved(self, key: str, *, last: bool) -> tuple[str, ...]:
        """
        The names on the way to an object, without symbolic links.

        Args:
            key: the object.
            last: whether a link under the key itself is followed, too.

        Raises:
            InvalidKey: the way leads out of the bucket.
        """
        path = self._root.joinpath(*self._check_key(key))
        root = os.path.realpath(self._root)
        real = Path(os.path.realpath(path) if last else os.path.realpath(path.parent))
        if not real.is_relative_to(root) or real.is_relative_to(Path(root, BOOKKEEPING)):
            raise InvalidKey(f"{key!r} leads out of {self._root} by a symbolic link, to {real}")
        names = real.relative_to(root).parts
        return (names or (os.curdir,)) if last else (*names, path.name)

    @contextlib.contextmanager
    def _writing(self, translating: Translating) -> Iterator[Directory]:
        """The bucket's directory, open, to be written to; it is made where it is missing."""
        with translating:
            make_directories(str(self._root))
            root = self._open_root()
        with root:
            with translating:
                check_bookkeeping(root)
                if not self._state.swept:
                    self._state.swept = True
                    sweep(root, self._clock() - ABANDONED_AFTER)
            try:
                yield root
            finally:
                remove_unneeded(root)

    @contextlib.contextmanager
    def _upload(self, key: str, upload_id: str, doing: str) -> Iterator[tuple[UploadFolder, UploadRecord]]:
        """The folder of an upload, open, and what it is for."""
        self._check_key(key)
        folder = record = None
        if UPLOAD_ID.fullmatch(upload_id):
            missing = contextlib.suppress(FileNotFoundError)
            with self._translating(doing), missing, self._open_root() as root:
                check_bookkeeping(root)
                folder = open_upload(root, upload_id)
        if folder is None:
            raise self._no_upload(key, upload_id)
        with folder:
            with self._translating(doing):
                record = folder.record()
            if record is None or record.key != key:
                raise self._no_upload(key, upload_id)
            yield folder, record

    def _receipts(self, key: str, folder: UploadFolder) -> dict[int, UploadedPart]:
        receipts = folder.receipts()
        if folder.record() is None:  # it ended meanwhile, and what was seen may be what was left of it
            raise self._no_upload(key, folder.upload_id)
        return receipts

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._state.closed:
            raise BackendClosed(f"{self.location} was closed; open it again to go on")

    def _translating(
        self, doing: str, folder: UploadFolder | None = None, key: str = "", *, kept: str = NO_OBJECT_CHANGED
    ) -> Translating:
        """Translate errors; with `folder`, a file that is missing may mean that the upload is no more."""

        def missing() -> UploadNotFound | None:
            with ignored(OSError):
                if folder is not None and folder.record() is None:
                    return self._no_upload(key, folder.upload_id)
            return None

        return Translating(doing, self._root, kept=kept, missing=missing)

    def _no_upload(self, key: str, upload_id: str) -> UploadNotFound:
        return UploadNotFound(
            f"{self.location} has no upload {upload_id:.128} of {key!r}: it was completed or aborted, or never was",
            code="NoSuchUpload",
        )

    def _check_place(self, root: Directory, key: str, options: ObjectOptions) -> None:
        """Refuse a key that leaves no place for an object, before anything is written."""
        # By descriptors a path may be longer than any other program can name it.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(os.path.join(self._root, *self._check_key(key)))  # noqa: PTH118
        try:
            parent, name = self._parent(root, key)
        except FileNotFoundError:
            with self._lowest(root, key) as parent:
                parent.check_writable()
            return
        except NotADirectoryError as error:
            raise self._under_an_object(key, error) from error
        with parent:
            if self._place(root, key, parent, name).taken and options.forbid_overwrite:
                raise self._exists(key)
            parent.check_writable(name)

    def _lowest(self, root: Directory, key: str) -> Directory:
        """The directory, open, in which those are to be made that are missing on the way to an object."""
        while True:
            try:
                return self._parent(root, key)[0]
            except FileNotFoundError:
                key = key.rpartition("/")[0]

    def _under_an_object(self, key: str, error: NotADirectoryError) -> BackendError:
        place = os.path.relpath(str(error.filename), self._root)
        return BackendError(
            f"{key!r} can't be stored in {self._root}: {Path(place).as_posix()!r} is an object, and in a directory "
            "nothing can lie under one",
            code="ENOTDIR",
        )

    def _place(self, root: Directory, key: str, parent: Directory, name: str) -> _Place:
        """
        What stands under a key, where that can be replaced by an object.

        Raises:
            InvalidKey: it is a symbolic link that leads out of the bucket.
            InvalidInput: it is the source of the upload.
            BackendError: it is not a regular file.
        """
        found = parent.status(name)
        if found is None:
            return _Place(taken=False, file=None)
        if stat.S_ISLNK(found.st_mode):
            # The link is what is replaced. What it leads to says whether it may be.
            try:
                behind, _, found = self._find(root, key)
                behind.close()
            except (FileNotFoundError, NotADirectoryError):
                found = None
            if found is None:
                return _Place(taken=True, file=None)
        if self._source is not None and self._source.is_file(found):
            raise InvalidInput(
                f"{key!r} in {self._root} is the file that is to be uploaded, by this or another name. Nothing was"
                " changed; choose another key"
            )
        if stat.S_ISDIR(found.st_mode):
            raise BackendError(
                f"{key!r} can't be stored in {self._root}: a directory of that name stands there", code="EISDIR"
            )
        if not stat.S_ISREG(found.st_mode):
            raise BackendError(
                f"{key!r} can't be stored in {self._root}: {_kind_of(found)} of that name stands there, and is not"
                " replaced by an object. Nothing was changed; remove it, or choose another key",
                code="EEXIST",
            )
        return _Place(taken=True, file=found)

    def _exists(self, key: str) -> ObjectExists:
        return ObjectExists(f"{self.location} has an object {key!r} already, and overwriting was forbidden")

    def _publish(
        self,
        root: Directory,
        key: str,
        staged: _Staged,
        description: Description,
        options: ObjectOptions,
        *,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Let a file that is whole become the object, durably.

        Args:
            root: the bucket's directory.
            key: the object.
            staged: the file.
            description: what is to be known of it.
            options: of these `forbid_overwrite`.
            announce: called when all is ready but the last step.
        """
        try:
            parent, name = self._parent(root, key, make=True)
        except NotADirectoryError as error:
            raise self._under_an_object(key, error) from error
        with parent:
            replaced = self._place(root, key, parent, name).file
            permissions = staged.granted if replaced is None else replaced.st_mode & _PERMISSIONS_MASK
            version = staged.settle(permissions)
            if description.needed:
                Sidecars(root).write(key, version, description)
            announce()
            if options.forbid_overwrite:
                try:
                    move_new(staged.directory, staged.name, parent, name)
                except FileExistsError as error:
                    raise self._exists(key) from error
            else:
                staged.directory.replace(staged.name, parent, name)
            with self._translating(f"syncing the directory of {key!r}", kept=_OBJECT_STANDS):
                parent.sync()
        with ignored(OSError, AccessDenied):
            Sidecars(root).settle(key, version, replaced, self._clock() - ABANDONED_AFTER)

    def _look(self, key: str) -> tuple[int, Description] | None:
        self._check_key(key)
        with self._translating(f"looking at {key!r}"):
            try:
                with self._open_root() as root:
                    check_bookkeeping(root)
                    return self._look_in(root, key)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _look_in(self, root: Directory, key: str) -> tuple[int, Description] | None:
        # Each further turn means that the object was replaced since the last one.
        for _ in range(_LOOKS_MAX):
            parent, name, version = self._find(root, key)
            with parent:
                if version is None or not stat.S_ISREG(version.st_mode):
                    return None
                description = Sidecars(root).read(key, version)
                if description is not None:
                    return version.st_size, description
                with contextlib.suppress(NotAFile, LinkInTheWay), parent.open_file(name) as file:
                    if _same_version(version, os.fstat(file.fileno())):
                        size, checksum = checksum_of(file)
                        return size, Description(checksum, ObjectOptions())
        raise ServerFailed(f"{key!r} was replaced {_LOOKS_MAX} times while it was looked at")

    def _discard(self, root: Directory, upload_id: str) -> None:
        discard_upload(root, upload_id)


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


@define(frozen=True)
class _Staged:
    """
    A file that is to become an object.

    Args:
        directory: where it is.
        name: the way to it from there.
        file: the file, open.
        granted: the permissions of a new object.
    """

    directory: Directory
    name: str
    file: FileIO
    granted: int

    def settle(self, permissions: int) -> os.stat_result:
        """
        Give it its permissions, bring it to the disk, and close it.

        Raises:
            FileNotFoundError: it was removed meanwhile, with the upload that it belongs to.
        """
        change_permissions(self.file, permissions)
        sync(self.file)
        self.file.close()
        version = self.directory.status(self.name)
        if version is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.directory.path_of(self.name))
        return version


def _receive(
    body: Body,
    what: str,
    file: FileIO,
    translating: Translating,
    *,
    discard: Callable[[], None],
    finish: Callable[[FileIO, int], None],
) -> int:
    """
    Write a body to a new file, let `finish` (file, checksum) do the rest, and return the checksum.

    Whatever fails, the file is discarded. What the body raises is not translated, whatever it is.
    """
    checksum = 0
    try:
        with file:
            for chunk in exact_chunks(body, what):
                with translating:
                    write_all(file, chunk)
                checksum = crc64(chunk, checksum)
            with translating:
                finish(file, checksum)
    except BaseException:
        discard()
        raise
    return checksum


def _assemble(key: str, folder: UploadFolder, parts: Sequence[UploadedPart], target: FileIO) -> int:
    """
    Put the parts together in a new file, and return the checksum of what is in it.

    Raises:
        PartRejected: parts are not what their receipts say. All of them are found at once: the loss of power, which
            may damage parts, may damage many.
    """
    checksum = 0
    damaged = []
    buffer = memoryview(bytearray(BLOCK))
    with folder.parts() as directory:
        for part in parts:
            name = part_name(part.part_number)
            with directory.open_own_file(name) as source:
                size, part_checksum = append_copy(source, target, part.size, buffer)
            if (size, etag_of(part_checksum)) != (part.size, part.etag):
                # Unless it is gone from the list it would be taken for good again.
                directory.discard(name)
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
    return checksum


def _kind_of(status: os.stat_result) -> str:
    kinds = [
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ]
    return next((words for is_kind, words in kinds if is_kind(status.st_mode)), "something that is not a file")


def _same_version(left: os.stat_result, right: os.stat_result) -> bool:
    return (left.st_ino, left.st_size, left.st_mtime_ns) == (right.st_ino, right.st_size, right.st_mtime_ns)
