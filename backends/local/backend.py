"""
A directory as a bucket: object ``a/b`` is the plain file ``DIRECTORY/a/b``.

Objects appear atomically, are durable when the call returns, and can be read, copied and removed by other programs.
Pending uploads, and what a file can't store about its object, are in the metadata directory ``DIRECTORY/.partwise``,
which only this user can read:

    uploads/    a folder for each pending upload
    objects/    checksum and options of objects that were stored with options
    temp/       what is being written
    trash/      what is being removed

The metadata directory is removed when it is empty.

Any number of threads and processes of one user may work on one directory; there are no locks. What a crashed process
leaves behind is removed by a later write, once it is too old to be in use. Calls that only read change nothing.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from partwise._closing import Closing
from partwise._durable import make_directories
from partwise._signals import ignored
from partwise._validation import brief, check_callable, check_path, check_string
from partwise.backends._argument_checks import check_call, check_part, check_parts, check_put, reject_settings
from partwise.backends.local import lookup
from partwise.backends.local.content import assemble, write_body
from partwise.backends.local.directories import Directory, NotARegularFile
from partwise.backends.local.errors import translate_os_errors
from partwise.backends.local.files import etag_of, unique_name
from partwise.backends.local.keys import split_file_url
from partwise.backends.local.metadata_dir import (
    TEMP,
    UPLOAD_ID,
    check_metadata_dir,
    create_upload,
    drop_upload,
    empty_trash,
    open_upload,
    open_uploads,
    remove_empty_directories,
    sweep,
)
from partwise.backends.local.sidecars import ObjectMetadata, Sidecars, check_options
from partwise.backends.local.target import PERMISSIONS_MASK, SourceFile, StagedFile, Target
from partwise.backends.local.upload_folder import PARTS_MAX, UploadFolder, UploadRecord, new_part_name, write_trailer
from partwise.backends.local.walk import make_and_use
from partwise.errors import AccessDenied, BackendClosed, BucketNotFound, InvalidInput, PartwiseError, UploadNotFound
from partwise.model import TIB, Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body

_PART_BYTES_MAX = 5 * TIB

#: A directory has no minimum part size. The maximum size of a file depends on the file system, which reports it.
LIMITS = PartLimits(
    min_part_size=1,
    max_part_size=_PART_BYTES_MAX,
    max_parts=PARTS_MAX,
    max_object_size=PARTS_MAX * _PART_BYTES_MAX,
    max_put_size=PARTS_MAX * _PART_BYTES_MAX,
)

#: The options that are stored with an object and returned by `LocalBackend.describe`. Storage classes, access rules,
#: encryption and callbacks are not among them: a directory has none, and storing their names would not honour them.
CAPABILITIES = Capabilities(
    options=(
        *("cache_control", "content_disposition", "content_encoding", "content_language", "content_type", "expires"),
        *("forbid_overwrite", "metadata", "tags"),
    ),
    late_options=("forbid_overwrite",),
    part_checksums=True,
    object_checksums=True,
    types_by_name=True,
)

#: Seconds without a change after which an incomplete file counts as abandoned: no running call pauses for so long.
ABANDONED_AFTER = 24 * 60 * 60

# The permissions of an object that is not made from a file, before the umask is applied.
_DEFAULT_PERMISSIONS = 0o666


def _new_upload_id() -> str:
    return secrets.token_hex(16)


class _State:
    """The state that a backend shares with its handles; see `with_source_file`."""

    def __init__(self) -> None:
        self.closed = False
        self._swept: float | None = None  # when, in seconds since 1970

    def must_sweep(self, now: float) -> bool:
        """Return whether the call at this time sweeps: the first one, then one a day."""
        if self._swept is not None and 0 <= now - self._swept < ABANDONED_AFTER:
            return False
        self._swept = now
        return True


class LocalBackend(Closing):
    """
    A directory as a bucket.

    Keys are relative paths with ``/`` between segments. Keys that would leave the directory, or are not valid paths on
    every system, are refused with `InvalidKey`: empty segments, ``.`` and ``..``, backslashes, NUL, segments of more
    than 255 bytes, anything in ``.partwise``, and a path through a symbolic link that leads out of the directory. A
    link that stays inside is followed. Objects ``a`` and ``a/b`` can't both exist, and an object can only replace a
    regular file: both are a `BackendError`.

    The parts of an upload survive a crash of the process; objects survive a power loss. Completing an upload needs as
    much free space as the object has bytes, except on file systems that share blocks between files.

    An object that is made from a file gets that file's permissions, reduced by the umask; any other object gets the
    default of the umask. An object that replaces another one keeps the permissions of that one.

    ``.partwise`` and the directories in it must be real directories of this user or of root that other users can't
    write to. Otherwise every call is refused with `AccessDenied`, and nothing is changed. So several users can store
    objects in one directory in turns, but not while an upload of another user is pending, or an object exists that
    another user stored with options.

    The directory is opened once for each call, and everything below it is reached through descriptors: if another user
    or program renames a directory or replaces it by a link meanwhile, no write or read leaves the bucket. Windows does
    not support that. There, only trusted users may have permission to change the directory and those below it. On every
    system, a user who may rename the directory itself, or one above it, decides which directory is the bucket.

    Args:
        directory: where the objects are. It is created, with its parents, by the first write.
        clock: returns seconds since 1970; used for the start of uploads, and to decide what is abandoned.
        upload_ids: returns new upload ids, of letters, digits, ``-`` and ``_``; by default 32 random hexadecimal
            digits. To pickle the backend this must be a function that pickle finds by name.

    Raises:
        InvalidInput: `directory` is not a path, or is a relative path while the working directory does not exist.
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
        self._source: SourceFile | None = None

    # --- properties --------------------------------------------------------------------------------------------------

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
        """Up to 10,000 parts of any size, up to the largest file of the file system."""
        return LIMITS

    @property
    def capabilities(self) -> Capabilities:
        """
        Part lists, checksums of parts and objects, and the options of an object.

        The options are those that describe an object (content type, headers, metadata and tags), which `describe`
        returns, and `forbid_overwrite`.
        """
        return CAPABILITIES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}{' closed' if self._state.closed else ''}>"

    def close(self) -> None:
        """Refuse further calls; nothing is held open. Closing twice is fine."""
        self._state.closed = True

    def with_source_file(self, path: str) -> Self:
        """See `SupportsSourceFile.with_source_file`; a missing file is ignored here."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return self
        bound = copy.copy(self)
        source = SourceFile(status.st_dev, status.st_ino, status.st_mode & PERMISSIONS_MASK)
        bound._source = source  # noqa: SLF001  # of this class
        return bound

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Start a multipart upload; see `MultipartBackend.initiate_upload`.

        It is durable when this returns.

        Raises:
            InvalidInput: the object would replace its own source, or the options take more than a mebibyte.
            BackendError: there is something other than a regular file under `key`, or an object in place of a
                directory. Permanent.
        """
        self._check_call(key=key, options=options)
        upload_id = check_string("an upload id", self._new_upload_id())
        if not UPLOAD_ID.fullmatch(upload_id):
            raise InvalidInput(f"{brief(upload_id)} can't be an upload id of a directory")
        permissions = None if self._source is None else self._source.permissions
        record = UploadRecord(key, self._clock(), options, permissions)
        translating = self._translating(f"initiating an upload of {key!r}")
        may_exist = False
        try:
            with self._writing(translating) as root, translating:
                self._target(root, key, options).check()
                may_exist = True
                create_upload(root, upload_id, record)
        except BaseException:
            # The caller does not get the id, so it could not abort the upload. An interrupt may be the reason, too.
            if may_exist:
                with contextlib.suppress(PartwiseError):
                    self.abort_upload(key, upload_id)
            raise
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        It survives a crash of the process.

        Raises:
            InvalidInput: the part number or the size exceeds `limits`.
        """
        self._check_call(key=key, upload_id=upload_id, part_number=part_number, body=body)
        check_part(part_number, len(body), LIMITS)
        what = f"part {part_number} of {key!r}"
        with self._open_upload(key, upload_id, f"looking for the upload of {key!r}") as (folder, _):
            translating = self._translating(f"storing {what}", folder, key)
            name = new_part_name(part_number)
            with translating:
                parts = folder.open_parts()
            with parts:
                with translating:
                    file, _ = parts.create(name)
                try:
                    checksum = write_body(body, what, file, translating)
                    with translating:
                        write_trailer(file, len(body), checksum)
                        file.close()
                        folder.place_part(parts, name, part_number)
                except BaseException:
                    parts.discard(name, file)
                    raise
        return UploadedPart(part_number, len(body), etag_of(checksum), checksum)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the stored parts by their trailers; see `MultipartBackend.list_parts`."""
        self._check_call(key=key, upload_id=upload_id)
        doing = f"listing the parts of {key!r}"
        with self._open_upload(key, upload_id, doing) as (folder, _), self._translating(doing, folder, key):
            return list(self._stored_parts(key, folder).values())

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Make the object from these parts; see `MultipartBackend.complete_upload`.

        It is durable when this returns.

        The bytes of each part are read again and compared with its checksum. Parts that were damaged on the disk are
        refused and removed, so that `list_parts` does not list them.

        Raises:
            InvalidInput: the object would replace its own source.
            BackendError: there is something other than a regular file under `key`, or an object in place of a
                directory. Permanent; the upload can still be used.
        """
        self._check_call(key=key, upload_id=upload_id, parts=parts, options=options)
        doing = f"completing {key!r}"
        with (
            self._open_upload(key, upload_id, doing) as (folder, record),
            self._writing(self._translating(doing)) as root,
        ):
            with self._translating(doing, folder, key):
                target = self._target(root, key, options)
                target.check()
                check_parts(key, parts, self._stored_parts(key, folder), LIMITS)
                checksum = self._make_object(target, folder, record, parts)
            # The object is stored, and the folder's marker says so: what can't be removed now, a later sweep removes.
            with ignored(OSError, AccessDenied):
                drop_upload(root, upload_id)
        return StoredObject(key, sum(part.size for part in parts), etag_of(checksum), checksum)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._check_call(key=key, upload_id=upload_id)
        if not UPLOAD_ID.fullmatch(upload_id):
            return
        translating = self._translating(f"aborting the upload of {key!r}")
        with translating, contextlib.suppress(FileNotFoundError), self._open_root() as root:
            check_metadata_dir(root)
            is_ours = False
            with contextlib.suppress(FileNotFoundError), open_upload(root, upload_id) as folder:
                record = folder.record()
                # A process that crashed after it stored the object may have left all parts.
                is_ours = folder.is_committed() if record is None else record.key == key
            if is_ours:
                drop_upload(root, upload_id)
            # A process that crashed while it removed the upload has left the rest of it in the trash.
            empty_trash(root)
            remove_empty_directories(root)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """
        List the pending uploads; see `MultipartBackend.list_uploads`.

        Raises:
            BucketNotFound: the directory does not exist (yet).
        """
        self._check_call(prefix=prefix)
        pending = []
        with self._translating("listing the uploads"):
            try:
                root = self._open_root()
            except FileNotFoundError as error:
                raise BucketNotFound(
                    f"the directory {self._root} does not exist, so it has no uploads; the first upload creates it",
                    code="ENOENT",
                    hint="Check the path",
                ) from error
            with root:
                check_metadata_dir(root)
                for folder in open_uploads(root):
                    record = folder.record()
                    if record is not None and record.key.startswith(prefix):
                        pending.append(PendingUpload(record.key, folder.upload_id, utc(record.initiated)))
        return sorted(pending, key=lambda upload: (upload.key, upload.upload_id))

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        It is durable when this returns.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`, the object would replace its own source, or the
                options take more than a mebibyte.
            BackendError: there is something other than a regular file under `key`, or an object in place of a
                directory. Permanent.
        """
        self._check_call(key=key, body=body, options=options)
        check_put(key, len(body), LIMITS)
        check_options(key, options)
        permissions = _DEFAULT_PERMISSIONS if self._source is None else self._source.permissions
        translating = self._translating(f"storing {key!r}")
        name = unique_name()
        with self._writing(translating) as root:
            target = self._target(root, key, options)
            with translating:
                target.check()
                temp, (file, granted) = make_and_use(root, TEMP, lambda temp: temp.create(name, permissions))
            with temp:
                try:
                    checksum = write_body(body, repr(key), file, translating)
                    with translating:
                        staged = StagedFile(temp, name, file, granted)
                        target.publish(staged, ObjectMetadata(checksum, options), cutoff=self._cutoff())
                except BaseException:
                    temp.discard(name, file)
                    raise
        return StoredObject(key, len(body), etag_of(checksum), checksum)

    def head_object(self, key: str) -> StoredObject | None:
        """
        Describe an object; see `MultipartBackend.head_object`.

        An object that was stored without options, or by another program, or was changed since, is read for its
        checksum.
        """
        found = self._stat_object(key)
        if found is None:
            return None
        size, metadata = found
        return StoredObject(key, size, etag_of(metadata.crc64), metadata.crc64, metadata=metadata.options.metadata)

    # --- beyond the protocol -----------------------------------------------------------------------------------------

    def path_of(self, key: str) -> Path:
        """
        Return the path at which the object of this key is, or would be, stored.

        Raises:
            InvalidKey: the object can't be stored in this directory.
        """
        path = self._root.joinpath(*lookup.segments_of(key))
        with self._translating(f"looking up {key!r}"):
            lookup.resolve_links(self._root, key, follow_last=path.is_symlink())
        return path

    def describe(self, key: str) -> ObjectOptions | None:
        """
        Return the options of an object; None if there is no object.

        An object that another program stored has no options.
        """
        found = self._stat_object(key)
        return None if found is None else found[1].options

    def open_object(self, key: str) -> BinaryIO:
        """Open an object for the caller to read and close; raise KeyError if missing."""
        self._check_call(key=key)
        with self._translating(f"opening {key!r}"):
            try:
                with self._open_root() as root:
                    parent, name, _ = lookup.find_object(root, key)
                    with parent:
                        return io.BufferedReader(parent.open_file(name))
            except (FileNotFoundError, NotADirectoryError, NotARegularFile):
                raise KeyError(key) from None

    def delete_object(self, key: str) -> None:
        """
        Delete an object and its metadata.

        Of a symbolic link, the link is deleted. It is not an error if there is no such object.

        Raises:
            InvalidKey: it is a symbolic link that leads out of the bucket.
        """
        self._check_call(key=key)
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._translating(f"deleting {key!r}"), missing, self._open_root() as root:
            check_metadata_dir(root)
            parent, name = lookup.open_parent(root, key)
            with parent:
                found = parent.status(name)
                if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                    return
                if stat.S_ISLNK(found.st_mode):
                    lookup.resolve_links(self._root, key, follow_last=True)
                parent.unlink(name)
            Sidecars(root).clean_up(key, None, found, self._cutoff())
            remove_empty_directories(root)

    # --- steps of the operations -------------------------------------------------------------------------------------

    def _check_call(self, **given: object) -> None:
        """Check that the backend is open, and the types, options and key of a call."""
        if self._state.closed:
            raise BackendClosed(f"{self.location} was closed", hint="Open it again to continue")
        check_call(**given)
        if isinstance(options := given.get("options"), ObjectOptions):
            options.require_supported_by(CAPABILITIES, self.location)
        if isinstance(key := given.get("key"), str):
            lookup.segments_of(key)

    def _open_root(self) -> Directory:
        return Directory.open(str(self._root))

    def _cutoff(self) -> float:
        """Return the cutoff for abandoned files, in seconds since 1970."""
        return self._clock() - ABANDONED_AFTER

    @contextlib.contextmanager
    def _writing(self, translating: translate_os_errors) -> Iterator[Directory]:
        """
        Open the bucket's directory for a write, creating it if needed.

        At the end, empty directories of the metadata directory are removed.
        """
        with translating:
            make_directories(str(self._root), private=False)
            root = self._open_root()
        with root:
            with translating:
                check_metadata_dir(root)
                if self._state.must_sweep(self._clock()):
                    sweep(root, self._cutoff())
            try:
                yield root
            finally:
                remove_empty_directories(root)

    @contextlib.contextmanager
    def _open_upload(self, key: str, upload_id: str, doing: str) -> Iterator[tuple[UploadFolder, UploadRecord]]:
        """Open the folder of an upload, and read its record."""
        folder = record = None
        if UPLOAD_ID.fullmatch(upload_id):
            missing = contextlib.suppress(FileNotFoundError)
            with self._translating(doing), missing, self._open_root() as root:
                check_metadata_dir(root)
                folder = open_upload(root, upload_id)
        if folder is None:
            raise self._upload_not_found(key, upload_id)
        with folder:
            with self._translating(doing):
                record = folder.record()
            if record is None or record.key != key:
                raise self._upload_not_found(key, upload_id)
            yield folder, record

    def _stored_parts(self, key: str, folder: UploadFolder) -> dict[int, UploadedPart]:
        parts = folder.parts()
        if folder.record() is None:  # it ended meanwhile, so some of its parts may have been removed already
            raise self._upload_not_found(key, folder.upload_id)
        return parts

    def _target(self, root: Directory, key: str, options: ObjectOptions) -> Target:
        return Target(root, key, self.location, bool(options.forbid_overwrite), self._source)

    def _make_object(
        self, target: Target, folder: UploadFolder, record: UploadRecord, parts: Sequence[UploadedPart]
    ) -> int:
        """Assemble the parts in the folder, publish the result, and return its checksum."""
        permissions = _DEFAULT_PERMISSIONS if record.permissions is None else record.permissions
        name, file, granted = folder.create_staged(permissions)
        try:
            checksum = assemble(target.key, folder, parts, file)
            if folder.record() is None:
                raise self._upload_not_found(target.key, folder.upload_id)
            target.publish(
                StagedFile(*folder.staged_path(name), file, granted),
                ObjectMetadata(checksum, record.options),
                cutoff=self._cutoff(),
                mark_committing=lambda: folder.mark_committing(name),
            )
        finally:
            with ignored(OSError):  # if it was published, it is closed already
                file.close()
            with ignored(OSError):
                folder.unstage(name)
        return checksum

    def _stat_object(self, key: str) -> tuple[int, ObjectMetadata] | None:
        self._check_call(key=key)
        with self._translating(f"looking up {key!r}"):
            try:
                with self._open_root() as root:
                    check_metadata_dir(root)
                    return lookup.stat_object(root, key)
            except (FileNotFoundError, NotADirectoryError):
                return None

    # --- errors ------------------------------------------------------------------------------------------------------

    def _translating(self, doing: str, folder: UploadFolder | None = None, key: str = "") -> translate_os_errors:
        """
        Translate errors of the operating system.

        With `folder`, a missing file means UploadNotFound if the upload has ended.
        """

        def missing() -> UploadNotFound | None:
            with ignored(OSError):
                if folder is not None and folder.record() is None:
                    return self._upload_not_found(key, folder.upload_id)
            return None

        return translate_os_errors(doing, self._root, missing=missing)

    def _upload_not_found(self, key: str, upload_id: str) -> UploadNotFound:
        return UploadNotFound(
            f"{self.location} has no upload {upload_id:.128} of {key!r}: it was completed or aborted, or never existed",
            code="NoSuchUpload",
        )


def open_url(url: str, **settings: object) -> tuple[LocalBackend, str]:
    """
    Open ``file:///directory/key``: the key is the text after the last slash.

    A slash within a key is written ``%2F``. On Windows the path starts with a drive, as in ``file:///C:/directory/key``.

    Args:
        url: the URL. Directory and key are percent-decoded; the key may be empty.
        settings: only `timeout`, which has no effect, since there is no network.

    Returns:
        The backend and the key.

    Raises:
        InvalidInput: the URL is not absolute, names another host, or has a query or a fragment; or there is an unknown
            setting.
    """
    reject_settings("a directory", settings)
    directory, key = split_file_url(url, windows=os.name == "nt")
    return LocalBackend(directory), key
