"""
The public API as a type checker sees it. It is never run: ``mypy --strict`` checks it against the installed package.

What must be accepted is written as users write it. What must be refused has a ``type: ignore`` that names the error,
and an unneeded ignore is an error itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, Literal, assert_type

import partwise
from partwise import (
    BinaryStream,
    Body,
    BytesSource,
    CallbackError,
    Capabilities,
    Checkpoint,
    CheckpointStore,
    ClaimOwner,
    Explanation,
    FileSource,
    Fingerprint,
    MultipartBackend,
    ObjectExists,
    ObjectOptions,
    PartLimits,
    PartwiseError,
    PendingUpload,
    Progress,
    Source,
    SourceBody,
    StoredObject,
    StreamSource,
    TransferConfig,
    UploadedPart,
    Uploader,
    UploadFailed,
    UploadResult,
    UploadTask,
    Verification,
    Waiting,
)
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
from partwise.bodies import BodyFile, ChecksummedBody, bytes_body, exact_chunks
from partwise.fsspec import LocalUploadFileSystem, S3UploadFileSystem, UploadFileSystem
from partwise.http_errors import class_for_status, error_for_status, retry_after_seconds
from partwise.paging import ResultPage, list_pages
from partwise.progress import (
    FsspecCallback,
    ProgressCallback,
    for_ali_oss,
    for_android,
    for_boto3,
    for_event_loop,
    for_fsspec,
    for_ios,
    for_oss2,
    for_tqdm,
)
from partwise.registry import BackendFactory, StoreFactory, StoreOfSource
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.postgres import PostgresCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

# --- plug-ins that fit the protocols without inheriting --------------------------------------------------------------


class OwnCallback:
    def set_size(self, size: int) -> None: ...

    def relative_update(self, inc: int = 1) -> None: ...

    def close(self) -> None: ...


class OwnFileSystem(UploadFileSystem):
    protocol = "own+partwise"


class OwnBackend:
    location = "own://bucket"
    limits = PartLimits(min_part_size=100 * 1024)
    capabilities = Capabilities(options=["metadata"], lists_parts=True)

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        options.require_supported_by(self.capabilities, self.location)
        return "id"

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        for chunk in body.chunks():
            assert_type(chunk, memoryview)
        return UploadedPart(part_number, len(body), "etag", checksum=body.checksum)

    def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        return []

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        return StoredObject(key, sum(part.size for part in parts), "etag")

    def abort_upload(self, key: str, upload_id: str) -> None: ...

    def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        yield from ()

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return StoredObject(key, len(body), "etag")

    def head_object(self, key: str) -> StoredObject | None:
        return None

    def close(self) -> None: ...


class OwnStore:
    def claim(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def load(self, name: str) -> Checkpoint | None:
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        assert_type(checkpoint.name, str)

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None: ...

    def delete(self, name: str, upload_id: str | None) -> None: ...

    def scan(self) -> Iterable[Checkpoint]:
        return ()


class OwnSource:
    name = "own"

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(size=3)

    def body(self, offset: int, size: int) -> SourceBody:
        return BytesSource(b"abc").body(offset, size)

    def close(self) -> None: ...


class NoBackend:
    location = "no://bucket"

    def initiate_upload(self, key: str) -> str:
        return "id"


backend: MultipartBackend = OwnBackend()
store: CheckpointStore = OwnStore()
source: Source = OwnSource()
for shipped in (LocalBackend("bucket"), MemoryBackend(), OSSBackend("examplebucket")):
    backend = shipped
for kept in (FileCheckpointStore(), FileCheckpointStore("dir"), MemoryCheckpointStore(), SQLiteCheckpointStore("db")):
    store = kept
store = FileCheckpointStore.for_file(Path("one.checkpoint"))
owner: ClaimOwner | None = FileCheckpointStore("dir").claim_owner("name")
assert_type(FileCheckpointStore("dir").where, str)
store_of_source: StoreOfSource = FileCheckpointStore.beside_source()

sent: Body = ChecksummedBody(OwnSource().body(0, 3), backend.capabilities.checksum, offset=0, is_last=True)
sent = bytes_body(b"abc")
sent = OwnSource().body(0, 3)  # type: ignore[assignment]
if isinstance(backend, partwise.SupportsPipelining):
    assert_type(backend.begin_part("key", "id", 1, sent)(), UploadedPart)
if isinstance(backend, partwise.SupportsCutting):
    backend.cut_part(sent, "it is too slow")
if isinstance(backend, partwise.SupportsConnectingAhead):
    backend.connect_ahead(round)
if isinstance(store, partwise.SupportsClaimCheck):
    store.check_claim("name")
shared: partwise.SupportsClaimCheck = PostgresCheckpointStore("postgresql:///uploads")
if isinstance(backend, partwise.SupportsRequestOptions):
    backend = backend.with_request_options(ObjectOptions())
if isinstance(backend, partwise.SupportsSourceFile):
    backend = backend.with_source_file("backup.tar")

backend = NoBackend()  # type: ignore[assignment]
backend = OwnStore()  # type: ignore[assignment]
store = OwnBackend()  # type: ignore[assignment]
source = b"bytes are not a source, but can be uploaded"  # type: ignore[assignment]

# --- one call --------------------------------------------------------------------------------------------------------

result = partwise.upload("backup.tar", "oss://examplebucket/backup.tar")
assert_type(result, UploadResult)
assert_type(result.size, int)
assert_type(result.checksum, int | None)
assert_type(result.verified, bool)
assert_type(result.warnings, tuple[str, ...])
result.size = 3  # type: ignore[misc]

for anything in ("path", Path("path"), b"bytes", bytearray(3), memoryview(b"bytes"), io.BytesIO(), OwnSource()):
    partwise.upload(anything, "memory://bucket/key")
with Path("backup.tar").open("rb") as stream:
    partwise.upload(stream, "memory://bucket/key", resume="never")
    readable: BinaryStream = stream
partwise.upload(StreamSource(io.BytesIO, name="dump"), "memory://bucket/key", resume="require")
partwise.upload(readable, "memory://bucket/key")
text: BinaryStream = io.StringIO()  # type: ignore[assignment]
partwise.upload(FileSource("backup.tar"), "memory://bucket/key", config=TransferConfig(), store=OwnStore())

partwise.upload(42, "memory://bucket/key")  # type: ignore[arg-type]
partwise.upload(io.StringIO(), "memory://bucket/key")  # type: ignore[arg-type]
partwise.upload("backup.tar", "memory://bucket/key", resume="sometimes")  # type: ignore[arg-type]
partwise.upload("backup.tar", "memory://bucket/key", OwnStore())  # type: ignore[call-arg]
partwise.upload("backup.tar", "memory://bucket/key", store="sqlite:///uploads.db")
partwise.upload("backup.tar", "memory://bucket/key", store=b"uploads.db")  # type: ignore[arg-type]
partwise.upload("backup.tar")  # type: ignore[call-arg]

# --- an uploader -----------------------------------------------------------------------------------------------------

config = TransferConfig(part_size=8 * 1024 * 1024, concurrency=4, bandwidth_limit=None, verify_source="content")
TransferConfig(part_size="auto", on_source_change="keep-matching", progress_interval=1)
TransferConfig(part_size="8 MiB")  # type: ignore[arg-type]
TransferConfig(verify_source="always")  # type: ignore[arg-type]
TransferConfig(threads=4)  # type: ignore[call-arg]
config.concurrency = 8  # type: ignore[misc]

options = OSSOptions(
    content_type="application/x-tar",
    metadata={"made-by": "us"},
    tags={"keep": "a year"},
    forbid_overwrite=True,
    callback=Callback(url="https://example.com/stored", body="object=${object}", variables={"x:job": "7"}),
)
neutral: ObjectOptions = options
assert_type(options.callback, Callback | None)
assert_type(partwise.Callback("u", "b"), Callback)
ObjectOptions(acl="private", storage_class="infrequent-access", if_match="ETAG").fixed_data({"acl"})
OSSOptions(if_match=5)  # type: ignore[arg-type]
ObjectOptions(callback=None)  # type: ignore[call-arg]
Capabilities(options={"acl"}, late_options={"acl"}, option_type=OSSOptions)
Capabilities(option_type=Callback)  # type: ignore[arg-type]
partwise.BackendError("x", host_id="h")  # type: ignore[call-arg]
ObjectOptions(metadata=["made-by"])  # type: ignore[arg-type]
ObjectOptions(colour="red")  # type: ignore[call-arg]

uploader = Uploader(backend, store=store, config=config, executor=ThreadPoolExecutor(4))
assert_type(uploader.backend, MultipartBackend)
assert_type(uploader.store, CheckpointStore | StoreOfSource)
assert_type(uploader.upload("backup.tar", "key", options=options), UploadResult)
assert_type(uploader.abort("backup.tar", "key"), bool)
assert_type(uploader.plan("backup.tar", "key"), Explanation)
assert_type(uploader.verify("backup.tar", "key"), Verification)
assert_type(uploader.verify("backup.tar", "key", options=options, progress=print).equal, bool | None)
assert_type(uploader.verify("backup.tar", "key").stored, StoredObject | None)
assert_type(
    [(part.part_number, part.action) for part in uploader.plan("backup.tar", "key").parts],
    list[tuple[int, Literal["keep", "adopt", "send"]]],
)
Uploader("oss://examplebucket")  # type: ignore[arg-type]
Uploader(OwnBackend(), store="sqlite:///uploads.db")
Uploader(OwnBackend(), store=lambda source: OwnStore())
Uploader(OwnBackend(), store=FileCheckpointStore.beside_source())
Uploader(OwnBackend(), store=7)  # type: ignore[arg-type]
Uploader(OwnBackend(), store)  # type: ignore[call-arg]
uploader.upload("backup.tar")  # type: ignore[call-arg]


def in_the_background() -> None:
    with uploader.start("backup.tar", "key") as task:
        assert_type(task, UploadTask)
        assert_type(task.progress, Progress)
        assert_type(task.done(), bool)
        assert_type(task.result(timeout=1.5), UploadResult)
        task.pause()
        task.cancel()
    task.progress = Progress(0, None)  # type: ignore[misc]


async def awaited() -> None:
    async with uploader.start("backup.tar", "key", progress=show_later) as task:
        assert_type(await task, UploadResult)


# --- progress --------------------------------------------------------------------------------------------------------


def show(progress: Progress) -> None:
    assert_type(progress.bytes_total, int | None)
    assert_type(progress.fraction, float | None)
    assert_type(progress.eta, float | None)
    assert_type(progress.checkpoint, Checkpoint | None)
    assert_type(progress.parts_in_flight, int)
    assert_type(progress.waiting, Waiting | None)
    if progress.waiting is not None:
        assert_type(progress.waiting.gives_up_in, float | None)


async def show_later(progress: Progress) -> None: ...


async def amount_later(count: int) -> None: ...


def amounts(count: int) -> None: ...


def consumed(done: int, total: int | None) -> None: ...


def wrong(progress: str) -> None: ...


callbacks: list[ProgressCallback] = [
    show,
    show_later,
    list[Progress]().append,
    for_boto3(amounts),
    for_boto3(amount_later),
    for_oss2(consumed),
    for_ali_oss(lambda fraction, checkpoint: None),
    for_android(lambda done, total: None),
    for_ios(lambda sent, done, total: None),
    for_fsspec(OwnCallback()),
    for_tqdm(),
]
for callback in callbacks:
    uploader.upload("backup.tar", "key", progress=callback)
uploader.upload("backup.tar", "key", progress=wrong)  # type: ignore[arg-type]
for_boto3(consumed)  # type: ignore[arg-type]
for_event_loop(show, loop=None)  # type: ignore[arg-type]
for_fsspec(show)  # type: ignore[arg-type]

# --- filesystems -----------------------------------------------------------------------------------------------------

for filesystem in (LocalUploadFileSystem(), S3UploadFileSystem(region="eu-west-1", store="sqlite:///uploads.db")):
    assert_type(filesystem.put_file("backup.tar", "bucket/backup.tar"), UploadResult | None)
    filesystem.put_file(Path("backup.tar"), "bucket/backup.tar", OwnCallback(), "create", options={"acl": "private"})
    filesystem.pipe_file("bucket/key", b"bytes", resume="never")  # type: ignore[call-arg]
OwnFileSystem(config={"part_size": 8 * 1024 * 1024}, options=ObjectOptions(), read_fs="s3")
OwnFileSystem(on_event=print).pipe_file("bucket/key", b"bytes", on_event=lambda event: event.key)
OwnFileSystem(on_event="print")  # type: ignore[arg-type]
OwnFileSystem(config=4)  # type: ignore[arg-type]
reported: FsspecCallback = OwnCallback()

# --- plug-ins by URL -------------------------------------------------------------------------------------------------


def open_url(url: str, /, **settings: Any) -> tuple[OwnBackend, str]:
    return OwnBackend(), url.removeprefix("own://bucket/")


def open_store(url: str, /) -> OwnStore:
    return OwnStore()


backends: BackendFactory = open_url
stores: StoreFactory = open_store
partwise.register_backend("own", open_url)
partwise.register_backend("own", lambda url: (OwnBackend(), url.removeprefix("own:")))
partwise.register_checkpoint_store("own", open_store)
partwise.register_backend("own", OwnBackend)  # type: ignore[arg-type]
partwise.register_checkpoint_store("own", open_url)  # type: ignore[arg-type]
assert_type(partwise.open_backend("own://bucket/key", region="eu"), tuple[MultipartBackend, str])
assert_type(partwise.open_checkpoint_store("own:"), CheckpointStore)

# --- checkpoints and errors ------------------------------------------------------------------------------------------

for checkpoint in store.scan():
    assert_type(checkpoint, Checkpoint)
    assert_type(checkpoint.parts, tuple[UploadedPart, ...])
    assert_type(checkpoint.fingerprint, Fingerprint)
    assert_type(Checkpoint.from_data(checkpoint.to_data()), Checkpoint)

try:
    partwise.upload("backup.tar", "memory://bucket/key")
except CallbackError as failure:
    assert_type(failure.status, int | None)
except UploadFailed as failure:
    assert_type(failure.resumable, bool)
    assert_type(failure.retryable, bool)
    assert_type(failure.bytes_total, int | None)
except PartwiseError as failure:
    assert_type(str(failure), str)

retryable: list[type[partwise.BackendError]] = [
    partwise.ConnectionFailed,
    partwise.HostNotFound,
    partwise.ServerFailed,
    partwise.Throttled,
    partwise.CredentialsExpired,
    partwise.ClockSkewed,
    partwise.IntegrityError,
]
refused: list[type[partwise.BackendError]] = [
    partwise.AccessDenied,
    partwise.BucketNotFound,
    partwise.UploadNotFound,
    partwise.UploadUnusable,
    partwise.PartRejected,
    partwise.ObjectExists,
    partwise.PreconditionFailed,
    partwise.BackendClosed,
]
remembered: list[type[partwise.CheckpointError]] = [
    partwise.CheckpointBusy,
    partwise.ClaimLost,
    partwise.CheckpointDamaged,
    partwise.CheckpointMismatch,
    partwise.CheckpointUnwritable,
    partwise.StoreClosed,
]
misused: list[type[partwise.InvalidInput]] = [
    partwise.InvalidKey,
    partwise.UnknownScheme,
    partwise.UnsupportedOption,
]
read: list[type[partwise.SourceError]] = [partwise.SourceChanged, partwise.SourceMismatch, partwise.SourceUnreadable]
stopped: list[type[partwise.UploadStopped]] = [partwise.UploadPaused, partwise.UploadCancelled, UploadFailed]
unknown: type[UploadFailed] = partwise.OutcomeUnknown
alone: type[PartwiseError] = partwise.CannotResume
hinted = PartwiseError("it failed", hint="Pass {resume=never}")
assert_type(hinted.hint, str)
assert_type(partwise.render_hint(hinted.hint_template, lambda setting, value: f"--{setting} {value or ''}"), str)
PartwiseError("it failed", "no positional hint")  # type: ignore[call-arg]
planned: list[partwise.PlannedPart] = list(uploader.plan("backup.tar", "key").parts)
busy: type[partwise.BackendError] = partwise.CheckpointBusy  # type: ignore[assignment]

# --- what authors of backends build on -------------------------------------------------------------------------------


def send(body: Body, status: int, headers: HTTPMessage) -> UploadedPart:
    with BodyFile(body, counted=False) as file:
        binary: io.RawIOBase = file
        assert_type(file.read(10), bytes)
        assert_type(file.readinto(bytearray(10)), int)
        assert_type(file.error, BaseException | None)
        file.counted = True
    assert_type(list(exact_chunks(body, "a part", counted=True)), list[memoryview])
    classes: dict[str | int, type[partwise.BackendError]] = {"NoSuchUpload": partwise.UploadNotFound, 412: ObjectExists}
    raise error_for_status(status, headers, "a part", code="NoSuchUpload", classes=classes) from ValueError(binary)


def listed() -> Iterator[UploadedPart]:
    def fetch(marker: int) -> ResultPage[UploadedPart, int]:
        return ResultPage([UploadedPart(marker + 1, 5, "etag")], None)

    return list_pages(fetch, 0, "the parts", 10_000, page_size=1000)


assert_type(retry_after_seconds({"Retry-After": "1"}), float | None)
assert_type(class_for_status(404), type[partwise.BackendError])
list_pages(lambda marker: ResultPage([marker], None), "", "uploads", 10)
list_pages(listed, 0, "the parts", 10_000)  # type: ignore[arg-type]

# --- OSS -------------------------------------------------------------------------------------------------------------

credentials = Credentials("id", "secret", security_token=None, expiration=None)
with OSSBackend("examplebucket", endpoint="https://oss-cn-hangzhou.aliyuncs.com", credentials=credentials) as opened:
    assert_type(opened, OSSBackend)
    assert_type(opened.head_object("key"), StoredObject | None)
OSSBackend("examplebucket", "https://oss-cn-hangzhou.aliyuncs.com")  # type: ignore[call-arg]
OSSBackend("examplebucket", credential=credentials)  # type: ignore[call-arg]
