"""The filesystems: local files and bytes that are uploaded, options, and what another filesystem does."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

import fsspec
import pytest
from attrs import define, field
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

import partwise.fsspec
from partwise import (
    AccessDenied,
    CannotResume,
    InvalidInput,
    ObjectOptions,
    PartLimits,
    SourceChanged,
    SourceMismatch,
    SourceUnreadable,
    TransferConfig,
    UnsupportedOption,
    UploadFailed,
)
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.events import RunEnded, RunStarted, UploadEvent
from partwise.fsspec import LocalUploadFileSystem, OSSUploadFileSystem, S3UploadFileSystem, UploadFile, UploadFileSystem
from partwise.registry import register_backend
from partwise.server import Delay, Exchange, OSSServer, ServerFault
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

PART = 256 * 1024
PATH = "examplebucket/backups/one.bin"
KEY = "backups/one.bin"
CONTENT = pseudo_random_bytes(8 * PART + 5, 2)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A local file of nine parts."""
    path = tmp_path / "one.bin"
    path.write_bytes(CONTENT)
    return path


class UnreachableBackend(MemoryBackend):
    """A storage that denies some operations."""

    denied: tuple[str, ...] = ()

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Any) -> Any:
        if "upload_part" in self.denied and part_number > 4:
            raise AccessDenied("not now")
        return super().upload_part(key, upload_id, part_number, body)

    def head_object(self, key: str) -> Any:
        if "head_object" in self.denied:
            raise AccessDenied("you may only write")
        return super().head_object(key)


@pytest.fixture
def unreachable(fs: UploadFileSystem) -> UnreachableBackend:
    """The backend of the filesystem instead of `backend`."""
    unreachable = UnreachableBackend()
    register_backend("toy", lambda url, **settings: (unreachable, ""))
    fs.read_fs = None
    return unreachable


# --- local files -----------------------------------------------------------------------------------------------------


def test_put_file_uploads_in_parts_and_returns_the_result(
    fs: UploadFileSystem, backend: MemoryBackend, local: Path
) -> None:
    result = fs.put_file(local, f"toy+partwise://{PATH}")
    assert backend.read(KEY) == CONTENT
    assert (result.parts_sent, result.size, result.verified) == (9, len(CONTENT), True)


def test_the_same_call_resumes_what_has_failed(
    fs: UploadFileSystem, unreachable: UnreachableBackend, local: Path
) -> None:
    unreachable.denied = ("upload_part",)
    with pytest.raises(UploadFailed) as caught:
        fs.put_file(local, PATH)
    assert caught.value.resumable
    unreachable.denied = ()
    result = fs.put_file(local, PATH)
    assert result.parts_resumed == caught.value.parts_done > 0
    assert result.parts_resumed + result.parts_sent == 9
    assert unreachable.read(KEY) == CONTENT


@define(frozen=True)
class Hold(Delay):
    """Let a request wait until the server stops."""

    seconds: float = 600
    holds: threading.Event = field(factory=threading.Event)

    def before(self, exchange: Exchange) -> None:
        self.holds.set()
        super().before(exchange)


#: Programs that store a local file.
PROGRAMS = {
    "put_file": "result = fs.put_file(local, path)",
    "a stream that has a name": """
with fs.open(path, "wb", stream_name="one") as file:
    file.write(Path(local).read_bytes())
result = file.result
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_call_resumes_what_a_killed_process_has_sent(tmp_path: Path, program: str) -> None:
    content = CONTENT * 3
    local = tmp_path / "large.bin"
    local.write_bytes(content)
    fourth = Hold()
    with OSSServer(faults=[ServerFault("UploadPart", fourth, part_number=4)]) as server:
        storage_options = {
            "config": {"part_size": PART, "multipart_threshold": 0, "concurrency": 1},
            "store": (tmp_path / "checkpoints").as_uri(),
            "endpoint": server.endpoint,
            "region": server.region,
        }
        called = f"""
from pathlib import Path
import fsspec
fs = fsspec.filesystem("oss+partwise", **{storage_options!r})
local, path = {str(local)!r}, {PATH!r}
{PROGRAMS[program]}
"""
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OSS_ACCESS_KEY_ID", server.access_key_id)
            environment.setenv("OSS_ACCESS_KEY_SECRET", server.access_key_secret)
            child = subprocess.Popen([sys.executable, "-c", called])
            assert fourth.holds.wait(60)
            child.kill()
            child.wait()
            again: dict[str, Any] = {}
            exec(called, again)

        result = again["result"]
        assert (result.parts_resumed, result.parts_sent, result.verified) == (3, 22, True)
        assert server.backend().read(KEY) == content
        stored = [request.part_number for request in server.requests_of("UploadPart") if request.status == 200]
        assert sorted(stored) == list(range(1, 26))
        assert len(server.requests_of("InitiateMultipartUpload")) == 1


def test_put_file_takes_the_arguments_of_an_upload(fs: UploadFileSystem, backend: MemoryBackend, local: Path) -> None:
    with pytest.raises(SourceMismatch):
        fs.put_file(local, PATH, expected_size=3)
    with pytest.raises(CannotResume):
        fs.put_file(local, PATH, resume="require")
    with pytest.raises(TypeError, match="unknown_argument"):
        fs.put_file(local, PATH, unknown_argument=1)
    with pytest.raises(InvalidInput, match="mode must be"):
        fs.put_file(local, PATH, mode="append")
    assert backend.keys() == []


def test_mode_create_never_replaces_an_object(fs: UploadFileSystem, backend: MemoryBackend, local: Path) -> None:
    assert fs.put_file(local, PATH, mode="create").size == len(CONTENT)
    local.write_bytes(b"changed")
    with pytest.raises(FileExistsError) as caught:
        fs.put_file(local, PATH, mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(PATH, b"changed", mode="create")
    assert caught.value.filename == PATH
    assert backend.read(KEY) == CONTENT


def test_put_reports_files_and_their_bytes(fs: UploadFileSystem, local: Path) -> None:
    class Branching(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.children: list[Callback] = []

        def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
            self.children.append(Callback())
            return self.children[-1]

    callback = Branching()
    fs.put([str(local), str(local)], ["examplebucket/a", "examplebucket/b"], callback=callback)
    assert (callback.size, callback.value) == (2, 2)
    assert [(child.size, child.value) for child in callback.children] == [(len(CONTENT), len(CONTENT))] * 2


def test_put_of_a_directory_uploads_its_files(fs: UploadFileSystem, backend: MemoryBackend, tmp_path: Path) -> None:
    (tmp_path / "source" / "inner" / "empty").mkdir(parents=True)
    (tmp_path / "source" / "one").write_bytes(b"1")
    (tmp_path / "source" / "inner" / "two").write_bytes(b"2")
    fs.put(str(tmp_path / "source"), "examplebucket/copy/", recursive=True)
    assert backend.keys() == ["copy/source/inner/two", "copy/source/one"]


def test_put_passes_its_arguments_on(fs: UploadFileSystem, backend: MemoryBackend, local: Path) -> None:
    fs.put(str(local), PATH, mode="create", options={"acl": "private"})
    assert backend.describe(KEY).acl == "private"
    with pytest.raises(FileExistsError):
        fs.put(str(local), PATH, mode="create")


def test_a_write_cache_of_fsspec_uploads_its_file(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    with fsspec.filesystem("simplecache", fs=fs).open(PATH, "wb") as file:
        file.write(CONTENT)
    assert backend.read(KEY) == CONTENT


def test_pipe_stores_bytes(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    fs.pipe({"examplebucket/a": b"1", "examplebucket/b": bytearray(b"2")})
    assert fs.pipe_file("examplebucket/c", memoryview(CONTENT)).parts_sent == 9
    assert (backend.read("a"), backend.read("b"), backend.read("c")) == (b"1", b"2", CONTENT)


def test_a_file_that_is_put_in_a_transaction_appears_at_its_end_and_what_was_sent_before_a_failure_is_used(
    fs: UploadFileSystem, unreachable: UnreachableBackend, tmp_path: Path
) -> None:
    local = tmp_path / "large.bin"
    local.write_bytes(CONTENT * 3)
    unreachable.denied = ("upload_part",)
    with pytest.raises(UploadFailed), fs.transaction:
        fs.put_file(local, PATH)
    unreachable.denied = ()
    calls = unreachable.calls.copy()
    with fs.transaction:
        assert fs.put_file(local, PATH) is None
        assert unreachable.keys() == []
    assert unreachable.read(KEY) == CONTENT * 3
    assert unreachable.calls["upload_part"] - calls["upload_part"] == 25 - 4


def test_a_file_that_is_missing_in_a_transaction_is_no_empty_object_at_its_end(
    fs: UploadFileSystem, backend: MemoryBackend, tmp_path: Path
) -> None:
    with fs.transaction:
        fs.pipe_file("examplebucket/other", b"1")
        with pytest.raises(SourceUnreadable):
            fs.put_file(tmp_path / "missing", PATH)
    assert backend.keys() == ["other"]


def test_a_file_that_changes_while_it_is_read_in_a_transaction_is_not_stored(
    fs: UploadFileSystem, backend: MemoryBackend, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = UploadFile.write

    def write_and_append(file: UploadFile, data: Any) -> int:
        if not file.tell():
            with local.open("ab") as other:
                other.write(b"more")
        return write(file, data)

    monkeypatch.setattr(UploadFile, "write", write_and_append)
    with fs.transaction, pytest.raises(SourceChanged):
        fs.put_file(local, PATH)
    assert backend.keys() == []


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TransferConfig(part_size=4 * PART), {"part_size": 4 * PART}])
@pytest.mark.parametrize("options", [ObjectOptions(acl="private"), {"acl": "private"}])
def test_config_and_options_are_values_or_their_fields(
    fs: UploadFileSystem, backend: MemoryBackend, local: Path, config: Any, options: Any
) -> None:
    own = type(fs)(store=MemoryCheckpointStore(), config=config, options=options)
    own.put_file(local, PATH)
    assert backend.describe(KEY).acl == "private"
    own.put_file(local, PATH, options={"storage_class": "archive"})
    described = backend.describe(KEY)
    assert (described.acl, described.storage_class) == (None, "archive")


def stored_and_their_outcomes(events: list[UploadEvent]) -> list[tuple[str, str]]:
    assert isinstance(events[0], RunStarted)
    return [(event.key, event.outcome) for event in events if isinstance(event, RunEnded)]


def test_the_event_callback_of_a_filesystem_is_told_of_each_upload(
    fs: UploadFileSystem, backend: MemoryBackend, local: Path
) -> None:
    events: list[UploadEvent] = []
    own = type(fs)(store=MemoryCheckpointStore(), on_event=events.append)
    own.put_file(local, "examplebucket/put")
    own.pipe_file("examplebucket/piped", CONTENT)
    with own.open("examplebucket/written", "wb") as file:
        file.write(CONTENT)
    with own.transaction:
        own.put_file(local, "examplebucket/in-a-transaction")
    assert stored_and_their_outcomes(events) == [
        (key, "completed") for key in ("put", "piped", "written", "in-a-transaction")
    ]


def test_a_file_has_an_event_callback_of_its_own(fs: UploadFileSystem, backend: MemoryBackend, local: Path) -> None:
    others: list[UploadEvent] = []
    events: list[UploadEvent] = []
    own = type(fs)(store=MemoryCheckpointStore(), on_event=others.append)
    own.put_file(local, "examplebucket/put", on_event=events.append)
    own.pipe_file("examplebucket/piped", CONTENT, on_event=events.append)
    with own.open("examplebucket/written", "wb", on_event=events.append) as file:
        file.write(CONTENT)
    with own.transaction:
        own.put_file(local, "examplebucket/in-a-transaction", on_event=events.append)
    assert stored_and_their_outcomes(events) == [
        (key, "completed") for key in ("put", "piped", "written", "in-a-transaction")
    ]
    assert others == []


def test_an_event_callback_that_can_not_be_called_is_refused_before_a_file_is_written(
    fs: UploadFileSystem, local: Path
) -> None:
    async def coroutine(event: UploadEvent) -> None: ...

    wrong: Any = "print"
    with pytest.raises(InvalidInput, match="on_event"):
        type(fs)(on_event=wrong)
    with pytest.raises(InvalidInput, match="on_event"):
        fs.put_file(local, PATH, on_event=wrong)
    with pytest.raises(InvalidInput, match="on_event is a coroutine function"):
        fs.open(PATH, "wb", on_event=coroutine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expected_size": "5"}, "expected_size must be an integer"),
        ({"expected_crc64": -1}, "expected_crc64 must be an integer"),
        ({"expected_crc64": 2**64}, "expected_crc64 must be an integer"),
        ({"callback": print}, "callback must be a callback of fsspec or None"),
        ({"block_size": 5}, "the part size of 5 bytes is out of bounds"),
        ({"stream_name": 5}, "the name of a stream must be a string"),
        ({"options": 5}, "options must be OSSOptions, a mapping, or None"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused_before_a_file_is_written(
    fs: UploadFileSystem, arguments: dict[str, Any], message: str
) -> None:
    backend = MemoryBackend(limits=PartLimits(min_part_size=10))
    register_backend("toy", lambda url, **settings: (backend, ""))
    for mode in ("w", "wb"):
        with pytest.raises(InvalidInput, match=message):
            fs.open(PATH, mode, **arguments)


def test_a_file_to_create_has_no_condition_on_the_object_that_it_replaces(fs: UploadFileSystem) -> None:
    for mode in ("x", "xb"):
        with pytest.raises(InvalidInput, match="forbid_overwrite and if_match exclude each other"):
            fs.open(PATH, mode, options={"if_match": "etag"})


def test_an_option_that_can_t_be_sent_is_refused_before_a_file_is_written(fs: UploadFileSystem) -> None:
    class RefusingBackend(MemoryBackend):
        def with_request_options(self, options: ObjectOptions) -> Self:
            raise InvalidInput(f"{options.acl} is no ACL")

    refusing = RefusingBackend()
    register_backend("toy", lambda url, **settings: (refusing, ""))
    for mode in ("w", "wb"):
        with pytest.raises(InvalidInput, match="anyone is no ACL"):
            fs.open(PATH, mode, options={"acl": "anyone"})


@pytest.mark.parametrize("mode", [None, 5, b"wb", ["wb"]], ids=repr)
def test_a_mode_that_is_no_text_is_refused(fs: UploadFileSystem, mode: Any) -> None:
    with pytest.raises(InvalidInput, match="mode must be a string"):
        fs.open(PATH, mode)


def test_what_is_not_the_path_of_a_local_file_is_refused(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    for wrong in (5, None, "", "nul\0", b"\0"):
        with pytest.raises(InvalidInput, match="the path of a source must be a path"):
            fs.put_file(wrong, PATH)
    assert backend.keys() == []


def test_the_path_of_a_local_file_may_be_bytes(fs: UploadFileSystem, backend: MemoryBackend, local: Path) -> None:
    given: Any = os.fsencode(local)
    fs.put_file(given, PATH)
    assert backend.read(KEY) == CONTENT


def test_a_callback_of_another_kind_is_refused(fs: UploadFileSystem, local: Path) -> None:
    wrong: Any = print
    for put in (lambda: fs.put_file(local, PATH, callback=wrong), lambda: fs.pipe_file(PATH, b"1", callback=wrong)):
        with pytest.raises(InvalidInput, match="callback must be a callback of fsspec or None"):
            put()


def test_unknown_options_are_refused_by_name(
    fs: UploadFileSystem, backend: MemoryBackend, tmp_path: Path, local: Path
) -> None:
    kind = type(fs)
    with pytest.raises(InvalidInput, match="config has no parts, threads; there are bandwidth_limit, "):
        kind(config={"threads": 4, "parts": 2})
    with pytest.raises(InvalidInput, match="config must be TransferConfig, a mapping, or None, not 4"):
        kind(config=4)
    with pytest.raises(InvalidInput, match="options must be"):
        kind(options=4)
    with pytest.raises(InvalidInput, match="read_fs must be"):
        kind(read_fs=4)
    with pytest.raises(InvalidInput, match="stream_name must be"):
        kind(stream_name=None)
    with pytest.raises(InvalidInput, match="store must be"):
        kind(store=4)
    with pytest.raises(InvalidInput, match="options has no colour; there are acl, "):
        kind(options={"colour": "red"}).pipe_file(PATH, b"")
    with pytest.raises(InvalidInput, match="unknown setting for an oss:// URL: colour; the settings are "):
        OSSUploadFileSystem(colour="red").pipe_file(PATH, b"")
    with pytest.raises(InvalidInput, match="unknown setting for an s3:// URL: colour; the settings are "):
        S3UploadFileSystem(colour="red").pipe_file(PATH, b"")
    with pytest.raises(InvalidInput, match="a directory has no setting colour"):
        LocalUploadFileSystem(colour="red").put_file(local, tmp_path / "copy")
    assert backend.calls == {}


def test_an_option_that_the_storage_does_not_have_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match="does not support acl"):
        LocalUploadFileSystem(options={"acl": "private"}).open(tmp_path / "one", "wb")


@pytest.mark.usefixtures("fast_collection")
def test_the_store_of_a_url_is_opened_once_and_closed_with_the_filesystem(
    fs: UploadFileSystem, tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[MemoryCheckpointStore] = []
    closed: list[MemoryCheckpointStore] = []

    class Closable(MemoryCheckpointStore):
        def close(self) -> None:
            closed.append(self)

    def open_store(url: str) -> MemoryCheckpointStore:
        assert url == "toy:"
        opened.append(Closable())
        return opened[-1]

    monkeypatch.setattr("partwise.fsspec.filesystems.open_checkpoint_store", open_store)
    own = type(fs)(store="toy:")
    assert opened == []
    own.put_file(local, PATH)
    own.put_file(local, f"{PATH}.2")
    assert (len(opened), closed) == (1, [])
    del own
    gc.collect()
    assert closed == opened


@pytest.mark.usefixtures("fast_collection")
def test_backends_are_opened_once_for_each_bucket_and_closed_with_the_filesystem(fs: UploadFileSystem) -> None:
    opened: dict[str, MemoryBackend] = {}

    def open_url(url: str, **settings: Any) -> tuple[MemoryBackend, str]:
        assert url not in opened
        assert settings == {"region": "here"}
        opened[url] = MemoryBackend()
        return opened[url], ""

    register_backend("toy", open_url)
    own = type(fs)(region="here")
    for path in ("one/a", "one/b/c", "two/a"):
        own.pipe_file(path, b"abc")
    assert list(opened) == ["toy://one/", "toy://two/"]
    assert opened["toy://one/"].keys() == ["a", "b/c"]
    del own
    gc.collect()
    assert all("closed" in repr(backend) for backend in opened.values())


def test_a_filesystem_can_be_pickled(tmp_path: Path) -> None:
    original = LocalUploadFileSystem(config={"concurrency": 2}, stream_name="table")
    copy = pickle.loads(pickle.dumps(original))
    copy.pipe_file(str(tmp_path / "one"), b"abc")
    assert (copy.storage_options, (tmp_path / "one").read_bytes()) == (original.storage_options, b"abc")


def test_two_filesystems_with_other_secrets_are_not_one() -> None:
    first, second = (partwise.fsspec.S3UploadFileSystem(credentials=object) for _ in range(2))
    assert first is not second


# --- paths -----------------------------------------------------------------------------------------------------------


def test_fsspec_finds_the_filesystems_by_their_protocols() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["fsspec.specs"]
    assert declared == {
        point.name: point.value for point in entry_points(group="fsspec.specs", module="partwise.fsspec")
    }
    for name, value in declared.items():
        kind = getattr(partwise.fsspec, value.partition(":")[2])
        assert fsspec.get_filesystem_class(name) is kind
        assert kind.protocol == name


@pytest.mark.parametrize(
    ("kind", "path", "split"),
    [
        (S3UploadFileSystem, "bucket/a/b", ("bucket", "a/b")),
        (S3UploadFileSystem, "bucket", ("bucket", "")),
        (
            S3UploadFileSystem,
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/name/a/b",
            ("arn:aws:s3:eu-west-1:123456789012:accesspoint/name", "a/b"),
        ),
        (OSSUploadFileSystem, "bucket/a/b", ("bucket", "a/b")),
        (LocalUploadFileSystem, "/a/b", ("/a", "b")),
        (LocalUploadFileSystem, "/a", ("/", "a")),
    ],
)
def test_a_path_is_a_bucket_and_a_key(kind: type[UploadFileSystem], path: str, split: tuple[str, str]) -> None:
    assert kind._split(path) == split


def test_a_path_without_a_key_is_refused(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    for path in ("examplebucket", "examplebucket/", "", "toy+partwise://"):
        with pytest.raises(InvalidInput, match="has no key"):
            fs.pipe_file(path, b"abc")
    assert backend.calls == {}


@pytest.mark.parametrize("name", ["plain", "ü 100%.txt", "a#b?c", "%2F", "[x]*"])
def test_any_name_of_a_local_file_is_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new directory #1" / name
    with fsspec.filesystem("file+partwise").open(f"file+partwise://{path}", "wb") as file:
        file.write(b"abc")
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_a_relative_path_of_a_local_file_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LocalUploadFileSystem().pipe_file("one", b"abc")
    assert (tmp_path / "one").read_bytes() == b"abc"
    assert LocalBackend(tmp_path).head_object("one").size == 3


def test_a_url_is_opened(tmp_path: Path) -> None:
    with fsspec.open(f"file+partwise://{tmp_path}/table.csv", "w") as file:
        file.write("a,b\n")
    assert (tmp_path / "table.csv").read_text() == "a,b\n"


# --- what another filesystem does ------------------------------------------------------------------------------------


def test_without_another_filesystem_the_storage_is_asked_for_one_object(
    fs: UploadFileSystem, backend: MemoryBackend
) -> None:
    fs.read_fs = None
    fs.pipe_file(PATH, b"abc")
    stored = backend.head_object(KEY)
    assert fs.info(PATH) == {
        "name": PATH,
        "size": 3,
        "type": "file",
        "ETag": stored.etag,
        "crc64xz": stored.checksum,
    }
    assert (fs.exists(PATH), fs.isfile(PATH), fs.isdir(PATH), fs.size(PATH)) == (True, True, False, 3)
    assert (fs.exists(f"{PATH}x"), fs.isfile(f"{PATH}x")) == (False, False)
    assert (fs.isdir("examplebucket"), fs.isfile("examplebucket")) == (True, False)
    with pytest.raises(FileNotFoundError):
        fs.info(f"{PATH}x")


def test_without_a_permission_to_read_objects_can_be_created_and_nothing_is_called_missing(
    fs: UploadFileSystem, unreachable: UnreachableBackend, local: Path
) -> None:
    unreachable.denied = ("head_object",)
    fs.put(str(local), PATH)
    with fs.open(f"{PATH}.2", "xb") as file:
        file.write(b"abc")
    assert unreachable.read(f"{KEY}.2") == b"abc"
    for question in (fs.exists, fs.isfile, fs.info):
        with pytest.raises(AccessDenied):
            question(PATH)


def test_whether_an_object_can_be_created_is_not_asked_of_the_filesystem_that_reads(
    fs: UploadFileSystem, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has listed may be old, and it need not have the permission to list."""
    monkeypatch.setattr(fs.read_fs, "info", lambda path: {"name": path, "size": 1, "type": "file"})
    with fs.open(PATH, "xb") as file:
        file.write(b"abc")

    def refuse(path: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(fs.read_fs, "info", refuse)
    with fs.open(f"{PATH}.2", "xb") as file:
        file.write(b"abc")
    assert backend.keys() == [KEY, f"{KEY}.2"]
    with pytest.raises(FileExistsError):
        fs.open(PATH, "xb")


def test_a_file_is_not_created_in_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(FileExistsError):
        LocalUploadFileSystem().open(str(tmp_path / "directory"), "xb")


CALLS: dict[str, Callable[[Any], Any]] = {
    "open an object for reading": lambda fs: fs.open(PATH),
    "list objects": lambda fs: fs.ls("examplebucket"),
    "remove objects": lambda fs: fs.rm_file(PATH),
    "copy objects": lambda fs: fs.cp_file(PATH, f"{PATH}.2"),
    "download objects": lambda fs: fs.get_file(PATH, "unused"),
    "tell when an object was created": lambda fs: fs.created(PATH),
    "tell when an object was modified": lambda fs: fs.modified(PATH),
    "sign a URL": lambda fs: fs.sign(PATH),
}


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize(("kind", "package"), [(S3UploadFileSystem, "s3fs"), (OSSUploadFileSystem, "ossfs")])
def test_what_only_another_filesystem_can_do_names_the_package_that_has_it(
    kind: type[UploadFileSystem], package: str, what: str
) -> None:
    with pytest.raises(NotImplementedError) as caught:
        CALLS[what](kind())
    message = f"the filesystem {kind.protocol} uploads, and can't {what}. Pass another one that can as read_fs="
    assert str(caught.value) == f"{message}, such as that of {package}"


def test_another_filesystem_does_the_rest(fs: UploadFileSystem, backend: MemoryBackend, tmp_path: Path) -> None:
    fs.pipe({PATH: b"abc", "examplebucket/two": b"two"})
    assert fs.cat_file(PATH) == b"abc"
    assert fs.open(PATH, "r").read() == "abc"
    assert fs.ls("examplebucket", detail=False) == ["examplebucket/backups", "examplebucket/two"]
    assert fs.find("examplebucket") == [PATH, "examplebucket/two"]
    assert fs.glob("examplebucket/t*") == ["examplebucket/two"]
    fs.get_file(PATH, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"abc"
    fs.mv(PATH, "examplebucket/three")
    fs.rm_file("examplebucket/two")
    assert backend.keys() == ["three"]


def test_what_another_filesystem_has_listed_is_forgotten_when_an_object_is_stored(fs: UploadFileSystem) -> None:
    fs.pipe_file("examplebucket/a", b"1")
    with fs.open("examplebucket/b", "wb") as file:
        file.write(b"2")
        assert fs.read_fs.forgotten == ["examplebucket/a"]
    fs.invalidate_cache()
    assert fs.read_fs.forgotten == ["examplebucket/a", "examplebucket/b", None]


def test_another_filesystem_can_be_named_by_its_protocol() -> None:
    assert isinstance(S3UploadFileSystem(read_fs="file").read_fs, LocalFileSystem)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with a pending upload."""
    LocalBackend(tmp_path / "bucket").initiate_upload("pending", ObjectOptions())
    yield tmp_path / "bucket"
    assert (tmp_path / "bucket" / ".partwise").exists()


def test_pending_uploads_of_a_directory_are_not_listed(directory: Path) -> None:
    fs = LocalUploadFileSystem()
    fs.pipe_file(str(directory / "one"), b"abc")
    assert fs.ls(str(directory), detail=False) == [str(directory / "one")]
    assert [entry["name"] for entry in fs.ls(str(directory))] == [str(directory / "one")]
    assert fs.find(str(directory)) == [str(directory / "one")]


def test_directories_of_local_files_can_be_made_and_removed(tmp_path: Path) -> None:
    fs = LocalUploadFileSystem()
    fs.mkdir(str(tmp_path / "a"))
    fs.makedirs(str(tmp_path / "b" / "c"))
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "home") == ["a", "b"]
    fs.rmdir(str(tmp_path / "a"))
    assert not fs.exists(str(tmp_path / "a"))
    assert fs.modified(str(tmp_path)) is not None


def test_a_bucket_has_no_directories(fs: UploadFileSystem, backend: MemoryBackend) -> None:
    fs.mkdir("examplebucket/a")
    fs.makedirs("examplebucket/a/b")
    fs.rmdir("examplebucket/a")
    assert backend.calls == {}
