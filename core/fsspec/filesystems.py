"""The filesystems: how paths, options and calls of fsspec become uploads."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from attrs import AttrsInstance, evolve, fields

from partwise._engine.async_callbacks import check_event_callback
from partwise._engine.context import ResumeMode, check_options, for_options
from partwise._engine.plan import plan_parts
from partwise._validation import STORED_INTEGER_MAX, brief, check_integer, check_methods, check_type
from partwise.backends.local.keys import META_DIR
from partwise.backends.s3.urls import split_path
from partwise.config import TransferConfig
from partwise.errors import AccessDenied, InvalidInput, SourceChanged
from partwise.fsspec.files import UploadFile, UploadTextFile, UploadTransaction, WrittenObject, translated_errors
from partwise.fsspec.typed import FileSystem, compressor, filesystem, local_filesystem, local_path, reports_nothing
from partwise.model import ObjectOptions
from partwise.progress import FsspecCallback, ProgressCallback, for_fsspec
from partwise.protocols import MultipartBackend
from partwise.registry import StoreLike, check_store, open_backend, open_checkpoint_store
from partwise.results import UploadResult, Verification
from partwise.sources import BytesSource, FileSource
from partwise.uploader import Uploader

if TYPE_CHECKING:
    from partwise.events import EventCallback

__all__ = ["LocalUploadFileSystem", "OSSUploadFileSystem", "S3UploadFileSystem", "UploadFileSystem"]

_Value = TypeVar("_Value", bound=AttrsInstance)


class UploadFileSystem(FileSystem):
    """
    A filesystem of fsspec that uploads, and leaves the rest to another one.

    `put_file`, `pipe_file` and files opened for writing are uploaded: in parts, retried, verified, and atomically.
    `put_file` resumes what an earlier process has not finished. Reading, listing, copying and removing are done by
    `read_fs`. Without it, only `info`, `exists` and `isfile` work, by asking the storage for one object; what can't be
    done raises NotImplementedError.

    A subclass needs only a `protocol`. What is before ``+partwise`` in it is the scheme of the backend's URLs::

        class DepotFileSystem(UploadFileSystem):
            protocol = "depot+partwise"

    Instances are not cached: each has connections of its own, which are closed when it is no longer used. Threads can
    share one, except during a transaction. It can be pickled if its arguments can.

    Args:
        store: where checkpoints are kept, as for `Uploader`. The store at a URL is opened when it is used first.
        config: how to transfer: a `TransferConfig`, or its fields in a mapping.
        options: the properties of the objects: an `ObjectOptions`, or the fields of the backend's options in a mapping.
        on_event: called with each event of each upload, as for `Uploader.upload`. The `key` of an event names the
            object. Each file that is written can be uploaded in a thread of its own, which calls it, so calls for
            several objects can come at the same time.
        stream_name: identifies what is written to files, as for `StreamSource`: a program that writes the same bytes to
            the same path again, after a failure or in another process, sends only the parts that are missing. "": what
            is written can't be resumed, and a failure aborts its upload.
        read_fs: the filesystem that does everything else, or its protocol, such as ``"s3"``.
        settings: the settings of the backend, such as `endpoint`, `region`, `profile` and `credentials`. The backend
            refuses those that it does not know, by name, when it is used first.

    Raises:
        InvalidInput: an argument is invalid.
    """

    cachable = False
    root_marker = ""
    transaction_type = UploadTransaction

    #: The package that can read what this filesystem writes.
    reader_package: ClassVar[str] = ""

    def __init__(
        self,
        *,
        store: StoreLike | None = None,
        config: TransferConfig | Mapping[str, Any] | None = None,
        options: ObjectOptions | Mapping[str, Any] | None = None,
        on_event: EventCallback | None = None,
        stream_name: str = "",
        read_fs: FileSystem | str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_type("stream_name", stream_name, str, "a string")
        check_type("read_fs", read_fs, (FileSystem, str, type(None)), "a filesystem, its protocol, or None")
        check_type("options", options, (ObjectOptions, Mapping, type(None)), "ObjectOptions, a mapping, or None")
        check_event_callback(on_event)
        self._config = _as_value("config", config, TransferConfig)
        self._options = options
        self._on_event = on_event
        self._stream_name = stream_name
        self.read_fs = filesystem(read_fs) if isinstance(read_fs, str) else read_fs
        self._store = store if store is None or isinstance(store, str) else check_store(store)
        self._settings = settings
        self._lock = threading.Lock()
        self._backends: dict[str, MultipartBackend] = {}
        self._closing = ExitStack()
        weakref.finalize(self, self._closing.close)

    # --- paths -------------------------------------------------------------------------------------------------------

    @classmethod
    def _scheme(cls) -> str:
        protocol = cls.protocol if isinstance(cls.protocol, str) else cls.protocol[0]
        return protocol.removesuffix("+partwise")

    @classmethod
    def _split(cls, path: str) -> tuple[str, str]:
        """Return the bucket and the key of a path."""
        bucket, _, key = path.partition("/")
        return bucket, key

    @classmethod
    def _bucket_url(cls, bucket: str) -> str:
        return f"{cls._scheme()}://{bucket}/"

    def _located(self, path: str) -> tuple[MultipartBackend, str]:
        """Return the backend of a path, and the key."""
        bucket, key = self._split(path)
        if not bucket or not key:
            raise InvalidInput(f"{self.unstrip_protocol(path)!r:.200} has no key after the bucket or directory")
        return self._backend(bucket), key

    def _backend(self, bucket: str) -> MultipartBackend:
        with self._lock:
            if bucket not in self._backends:
                backend, _ = open_backend(self._bucket_url(bucket), **self._settings)
                self._closing.callback(backend.close)
                self._backends[bucket] = backend
            return self._backends[bucket]

    def _uploader(self, backend: MultipartBackend, part_size: int | None = None) -> Uploader:
        config = self._config if part_size is None else evolve(self._config, part_size=part_size)
        with self._lock:
            if isinstance(self._store, str):
                self._store = open_checkpoint_store(self._store)
                close = getattr(self._store, "close", None)
                if close is not None:
                    self._closing.callback(close)
        return Uploader(backend, store=self._store, config=config)

    # --- uploads -----------------------------------------------------------------------------------------------------

    def put_file(
        self,
        lpath: str | os.PathLike[str] | os.PathLike[bytes],
        rpath: str,
        callback: FsspecCallback | None = None,
        mode: str = "overwrite",
        *,
        options: ObjectOptions | Mapping[str, Any] | None = None,
        on_event: EventCallback | None = None,
        resume: ResumeMode = "auto",
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadResult | None:
        """
        Upload a local file; resume an earlier call that has not finished.

        In a transaction, its parts are sent now, and the object appears at the end. If the transaction fails or the
        process dies, the same call resumes, too, but reads the whole file again.

        Args:
            lpath: the file. A directory is created by `makedirs`.
            rpath: the path of the object.
            callback: a callback of fsspec; see `for_fsspec`.
            mode: "overwrite", or "create": fail rather than replace an object.
            options: as for the filesystem, and instead of its own.
            on_event: likewise.
            resume: as for `Uploader.upload`; ignored in a transaction.
            expected_size: as for `Uploader.upload`.
            expected_crc64: as for `Uploader.upload`.

        Returns:
            the result; None for a directory, and in a transaction.

        Raises:
            FileExistsError: `mode` is "create", and there is an object. Nothing was changed.
            PartwiseError: as for `Uploader.upload`.
        """
        path = self._strip_protocol(rpath)
        source = FileSource(lpath)
        if Path(source.name).is_dir():
            self.makedirs(path, exist_ok=True)
            return None
        return self._put(
            source,
            path,
            mode,
            stream_name=source.name,
            resume=resume,
            callback=callback,
            options=options,
            on_event=on_event,
            expected_size=expected_size,
            expected_crc64=expected_crc64,
        )

    def pipe_file(
        self,
        path: str,
        value: bytes | bytearray | memoryview,
        mode: str = "overwrite",
        *,
        callback: FsspecCallback | None = None,
        options: ObjectOptions | Mapping[str, Any] | None = None,
        on_event: EventCallback | None = None,
    ) -> UploadResult | None:
        """
        Store bytes as an object; resume an earlier call with the same bytes.

        Args:
            path: the path of the object.
            value: the bytes.
            mode: "overwrite", or "create": fail rather than replace an object.
            callback: a callback of fsspec; see `for_fsspec`.
            options: as for the filesystem, and instead of its own.
            on_event: likewise.

        Returns:
            the result; None in a transaction, whose end stores them.

        Raises:
            FileExistsError: `mode` is "create", and there is an object. Nothing was changed.
            PartwiseError: as for `Uploader.upload`.
        """
        return self._put(
            BytesSource(value), self._strip_protocol(path), mode, callback=callback, options=options, on_event=on_event
        )

    def _put(
        self,
        source: FileSource | BytesSource,
        path: str,
        mode: str,
        *,
        stream_name: str | None = None,
        resume: ResumeMode = "auto",
        callback: FsspecCallback | None,
        options: ObjectOptions | Mapping[str, Any] | None,
        on_event: EventCallback | None,
        **expected: Any,
    ) -> UploadResult | None:
        """
        Upload a source; in a transaction, write it to a file that is stored later.

        Args:
            source: what is stored.
            path: the path of the object.
            mode: as for `put_file`.
            stream_name: in a transaction, the name of the stream that is written; None: that of the filesystem.
            resume: as for `put_file`.
            callback: as for `put_file`.
            options: as for `put_file`.
            on_event: as for `put_file`.
            expected: `expected_size` and `expected_crc64`, as far as they were given.
        """
        open_mode = _open_mode(mode)
        if self._intrans:
            with closing(source):
                found = source.fingerprint()  # a file that can't be read is not opened for writing, either
                with self.open(
                    path,
                    open_mode,
                    callback=callback,
                    options=options,
                    on_event=on_event,
                    stream_name=stream_name,
                    **expected,
                ) as target:
                    for chunk in source.body(0, found.size or 0).chunks():
                        target.write(chunk)
                    if source.fingerprint() != found:
                        raise SourceChanged(f"{source.name} changed while it was read", source=source.name)
            return None
        backend, key = self._located(path)
        requested = self._requested(backend, options, create="x" in open_mode)
        with translated_errors(path):
            result = self._uploader(backend).upload(
                source,
                key,
                options=requested,
                progress=_as_progress(callback),
                on_event=self._on_event if on_event is None else on_event,
                resume=resume,
                **expected,
            )
        self._forget_listings(path)
        return result

    def _requested(
        self, backend: MultipartBackend, options: ObjectOptions | Mapping[str, Any] | None, *, create: bool
    ) -> ObjectOptions:
        """
        Return the options of one object.

        Raises:
            InvalidInput: an option is unknown or invalid, or the backend does not support it (UnsupportedOption).
        """
        kind = backend.capabilities.option_type
        given = self._options if options is None else options
        value = given if isinstance(given, ObjectOptions) else _as_value("options", given, kind)
        requested = evolve(value, forbid_overwrite=True) if create else value
        check_options(requested, backend)  # before a program writes a file
        return requested

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Open an object for writing, as an `UploadFile`, or for reading, by `read_fs`.

        Args:
            path: the path of the object.
            mode: "w" for writing, or "x", which fails rather than replaces an object; "r" for reading. With "b" for
                bytes; without it for text.
            block_size: for writing, the `part_size` of this object in bytes; None: that of the filesystem.
            cache_options: for reading.
            compression: as for `fsspec.open`.
            kwargs: for text, `encoding`, `errors` and `newline`. For writing, `callback`, `options`, `on_event` and
                `stream_name`, as for `put_file` and the filesystem, and `expected_size` and `expected_crc64`, as for
                `Uploader.upload`: they are of the bytes that are stored.

        Raises:
            FileExistsError: in mode "x", there is an object; also raised when the file is written or closed.
            InvalidInput: an argument is invalid, or the path has no key. Nothing was sent.
            NotImplementedError: for reading without a `read_fs`.
            ValueError: the mode is another one: an object can be neither appended to nor changed.
        """
        check_type("mode", mode, str, "a string such as 'wb'")
        if "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
        if "b" in mode:
            if text:
                raise ValueError(f"a file of bytes has no {', '.join(text)}")
            return super().open(path, mode, block_size, cache_options, layer=compression, **kwargs)
        file = super().open(path, mode.replace("t", "") + "b", block_size, cache_options, layer=compression, **kwargs)
        try:
            return UploadTextFile(file, **text)
        except BaseException:
            file.discard()  # or the end of a transaction would store it, empty
            raise

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **kwargs: Any,
    ) -> Any:
        if mode == "rb":
            reader = self._reader("open an object for reading")
            return reader.open(path, mode, block_size=block_size, cache_options=cache_options, **kwargs)
        if mode not in ("wb", "xb"):
            raise ValueError(f"the mode must be 'rb', 'wb' or 'xb', not {brief(mode)}: an object is stored as a whole")
        return self._open_for_writing(path, create=mode == "xb", part_size=block_size, autocommit=autocommit, **kwargs)

    def _open_for_writing(
        self,
        path: str,
        *,
        create: bool,
        part_size: int | None,
        autocommit: bool,
        layer: str | None = None,
        callback: FsspecCallback | None = None,
        options: ObjectOptions | Mapping[str, Any] | None = None,
        on_event: EventCallback | None = None,
        stream_name: str | None = None,
        expected_size: int | None = None,
        expected_crc64: int | None = None,
    ) -> UploadFile:
        # Before a program writes a file, which may take hours.
        check_event_callback(on_event)
        for name, expected in (("expected_size", expected_size), ("expected_crc64", expected_crc64)):
            if expected is not None:
                check_integer(name, expected, 0, STORED_INTEGER_MAX)
        progress = _as_progress(callback)
        backend, key = self._located(path)
        requested = self._requested(backend, options, create=create)
        for_options(backend, requested)  # refuses values that can't be sent
        uploader = self._uploader(backend, part_size)
        plan_parts(None, backend.limits, uploader.config.part_size)
        # The storage checks it again when it stores the object; who may write need not be able to ask for it.
        with suppress(AccessDenied):
            if create and self._is_taken(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        written = WrittenObject(
            uploader,
            key,
            path,
            arguments={
                "options": requested,
                "progress": progress,
                "on_event": self._on_event if on_event is None else on_event,
                "expected_size": expected_size,
                "expected_crc64": expected_crc64,
            },
            stream_name=self._stream_name if stream_name is None else stream_name,
            on_stored=lambda: self._forget_listings(path),
        )
        return UploadFile(written, owner=self, autocommit=autocommit, compressor=compressor(path, layer))

    # --- everything else ---------------------------------------------------------------------------------------------

    def _reader(self, what: str) -> FileSystem:
        if self.read_fs is None:
            example = f", such as that of {self.reader_package}" if self.reader_package else ""
            raise NotImplementedError(
                f"the filesystem {self._scheme()}+partwise uploads, and can't {what}. Pass another one that can as"
                f" read_fs={example}"
            )
        return self.read_fs

    def _own_name(self, name: str) -> str:
        """Return a path of `read_fs` as one of this filesystem."""
        return name.strip("/")

    def _own_entry(self, entry: Any) -> Any:
        if isinstance(entry, str):
            return self._own_name(entry)
        return {**entry, "name": self._own_name(entry["name"])}

    def _forget_listings(self, path: str) -> None:
        if self.read_fs is not None:
            self.read_fs.invalidate_cache(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Let `read_fs` forget what it has listed."""
        super().invalidate_cache(path)
        if self.read_fs is not None:
            self.read_fs.invalidate_cache(path)

    def info(self, path: str, **kwargs: Any) -> Any:
        """
        Describe an object.

        Without a `read_fs` it has its name, size, ETag and checksum as the storage reports them; a bucket is a
        directory, and nothing else is one.

        Raises:
            FileNotFoundError: there is no object.
            BackendError: the storage can't be asked.
        """
        path = self._strip_protocol(path)
        if self.read_fs is not None:
            return self._own_entry(self.read_fs.info(path, **kwargs))
        if not self._split(path)[1]:
            return {"name": path, "size": 0, "type": "directory"}
        found = self._ask_for_object(path)
        if found.stored is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        algorithm, checksum = found.checksum_algorithm, found.stored.checksum
        entry = {"name": path, "size": found.stored.size, "type": "file", "ETag": found.stored.etag}
        return entry if checksum is None else {**entry, algorithm: checksum}

    def _ask_for_object(self, path: str) -> Verification:
        """
        Ask the storage for an object, with retries and the options that requests need.

        Nothing is compared. The result has the object as `stored`.
        """
        backend, key = self._located(path)
        return self._uploader(backend).verify(b"", key, options=self._requested(backend, None, create=False))

    def _is_taken(self, path: str) -> bool:
        """
        Return whether an object can't be created, since there is one.

        `read_fs` is not asked: what it has listed may be old, and its errors are its own.
        """
        return self._ask_for_object(path).stored is not None

    def exists(self, path: str, **kwargs: Any) -> bool:
        """
        Return whether there is an object.

        Raises:
            BackendError: the storage can't be asked.
        """
        try:
            self.info(path, **kwargs)
        except FileNotFoundError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """
        Return whether it is a directory.

        Without a `read_fs` only a bucket is one, and nothing is sent to find out.
        """
        path = self._strip_protocol(path)
        return not self._split(path)[1] if self.read_fs is None else self.read_fs.isdir(path)

    def isfile(self, path: str) -> bool:
        """
        Return whether there is an object.

        Raises:
            BackendError: the storage can't be asked.
        """
        try:
            return bool(self.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """List what is in a directory, by `read_fs`."""
        found = self._reader("list objects").ls(self._strip_protocol(path), detail=detail, **kwargs)
        return [self._own_entry(entry) for entry in found]

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Do nothing: a bucket has no directories, and is not created."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: a bucket has no directories, and is not created."""

    def rmdir(self, path: str) -> None:
        """Do nothing: a bucket has no directories, and is not removed."""

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove objects, by `read_fs`."""
        reader = self._reader("remove objects")
        reader.rm(self._strip_protocol(path), recursive=recursive, maxdepth=maxdepth)

    def rm_file(self, path: str) -> None:
        """Remove an object, by `read_fs`."""
        self._reader("remove objects").rm_file(self._strip_protocol(path))

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy an object within the storage, by `read_fs`."""
        reader = self._reader("copy objects")
        reader.cp_file(self._strip_protocol(path1), self._strip_protocol(path2), **kwargs)

    def get_file(self, rpath: str, lpath: Any, **kwargs: Any) -> None:
        """Download an object, by `read_fs`."""
        self._reader("download objects").get_file(self._strip_protocol(rpath), lpath, **kwargs)

    def created(self, path: str) -> Any:
        """Return when an object was created, by `read_fs`."""
        return self._reader("tell when an object was created").created(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """Return when an object was modified, by `read_fs`."""
        return self._reader("tell when an object was modified").modified(self._strip_protocol(path))

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> Any:
        """Return a signed URL of an object, by `read_fs`."""
        return self._reader("sign a URL").sign(self._strip_protocol(path), expiration=expiration, **kwargs)


class OSSUploadFileSystem(UploadFileSystem):
    """
    ``oss+partwise://bucket/key``: Alibaba Cloud OSS.

    Its settings are those of ``oss://`` URLs. The filesystem of ossfs can be its `read_fs`.
    """

    protocol = "oss+partwise"
    reader_package = "ossfs"


class S3UploadFileSystem(UploadFileSystem):
    """
    ``s3+partwise://bucket/key``: Amazon S3, and storages that speak S3.

    Its settings are those of ``s3://`` URLs. The bucket can be the ARN of an access point. The filesystem of s3fs can
    be its `read_fs`.
    """

    protocol = "s3+partwise"
    reader_package = "s3fs"

    @classmethod
    def _split(cls, path: str) -> tuple[str, str]:
        return split_path(path)


class LocalUploadFileSystem(UploadFileSystem):
    """
    ``file+partwise:///directory/name``: files in local directories.

    They appear atomically and are durable. It is a `LocalBackend` for the directory of each file. Its `read_fs` is the
    filesystem of fsspec for local files.
    """

    protocol = "file+partwise"
    root_marker = "/"

    def __init__(self, *, read_fs: FileSystem | str | None = None, **arguments: Any) -> None:
        super().__init__(read_fs=local_filesystem() if read_fs is None else read_fs, **arguments)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return local_path(os.fspath(path).removeprefix("file+partwise://"))

    @classmethod
    def _split(cls, path: str) -> tuple[str, str]:
        directory, _, name = path.rpartition("/")
        return directory or "/", name

    @classmethod
    def _bucket_url(cls, bucket: str) -> str:
        return Path(bucket).as_uri().rstrip("/") + "/"

    def _backend(self, bucket: str) -> MultipartBackend:
        # It holds nothing open, and there may be any number of directories.
        return open_backend(self._bucket_url(bucket), **self._settings)[0]

    def _own_name(self, name: str) -> str:
        return name

    def _is_taken(self, path: str) -> bool:
        return self.exists(path)  # a directory counts, too

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """List a directory, without the directory of pending uploads."""
        found: Iterable[Any] = super().ls(path, detail=detail, **kwargs)
        return [entry for entry in found if Path(entry["name"] if detail else entry).name != META_DIR]

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory."""
        self._reader("make directories").mkdir(self._strip_protocol(path), create_parents=create_parents, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and its parents."""
        self._reader("make directories").makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._reader("remove directories").rmdir(self._strip_protocol(path))


def _open_mode(mode: str) -> str:
    """Return the mode of `open` for one of `put_file`."""
    if mode not in ("overwrite", "create"):
        raise InvalidInput(f"mode must be 'overwrite' or 'create', not {brief(mode)}")
    return "xb" if mode == "create" else "wb"


def _as_progress(callback: FsspecCallback | None) -> ProgressCallback | None:
    if callback is None or reports_nothing(callback):
        return None
    check_methods("callback", callback, ("set_size", "relative_update", "close"), "a callback of fsspec or None")
    return for_fsspec(callback)


def _as_value(what: str, given: _Value | Mapping[str, Any] | None, kind: type[_Value]) -> _Value:
    """
    Return a value of an attrs class that is given as such, or by its fields.

    Raises:
        InvalidInput: it is neither, or a field is unknown or has an invalid value.
    """
    if isinstance(given, kind):
        return given
    check_type(what, given, (Mapping, type(None)), f"{kind.__name__}, a mapping, or None")
    values: Mapping[str, Any] = given or {}  # type: ignore[assignment]  # as was checked
    known = {attribute.name for attribute in fields(kind)}
    if unknown := sorted(str(name) for name in values if name not in known):
        raise InvalidInput(f"{what} has no {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    create: Callable[..., _Value] = kind
    return create(**values)
