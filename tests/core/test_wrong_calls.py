"""Calls with wrong types and values: they are refused in the tree's words, never by an exception of Python's own."""

from __future__ import annotations

import io
import math
import os
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from partwise import (
    BytesSource,
    Capabilities,
    Checkpoint,
    CheckpointDamaged,
    FileSource,
    Fingerprint,
    InvalidInput,
    InvalidKey,
    ObjectOptions,
    PartLimits,
    PartwiseError,
    SourceError,
    StoredObject,
    StreamSource,
    TransferConfig,
    UploadedPart,
    Uploader,
    open_backend,
    open_checkpoint_store,
    register_backend,
    register_checkpoint_store,
    upload,
)
from partwise._validation import brief
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, OSSBackend, OSSOptions
from partwise.backends.oss.credentials import Credentials
from partwise.bodies import bytes_body
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore


class PathOf:
    """Stands for a path, or for what is none."""

    def __init__(self, path):
        self.path = path

    def __repr__(self):
        return f"PathOf({self.path!r})"  # the same in every process of a run, as the ids of tests are

    def __fspath__(self):
        return self.path


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no repr")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


DEEP = nested(10_000)
# fmt: off
NUMBERS = [
    True, False, 0, 1, -1, 10**9, 10**30, -(10**30), 10**5000,
    1.5, math.nan, math.inf, -math.inf, 1e20, -1e20, 1e308, 5e-324,
    Decimal("NaN"), Decimal(3), Fraction(1, 3), 1j,
]
TEXTS = [
    "", "abc", "5", "nan", "\0", "a\0b", "\ud800", "\udcff", "x" * 5000, "/", ".", "..", "../x", "é", "a\nb", "[::",
]
OTHERS = [
    None, b"", b"abc", b"\xff", bytearray(b"abc"), memoryview(b"abcdef")[::2],
    PathOf(b"/x"), PathOf(5), PathOf("\0"),
    [], [1], {}, {"a": 1}, {1: 2}, {"a": "b"}, ("a",), {1}, range(3), object(), Unshowable(), ValueError("x"), DEEP,
    datetime(2000, 1, 1), datetime(1, 1, 1), datetime(9999, 12, 31, tzinfo=UTC),  # noqa: DTZ001  # naive on purpose
]
# fmt: on
VALUES = [*NUMBERS, *TEXTS, *OTHERS]

KEYS = Credentials("id", "secret")
CHECKPOINT = Checkpoint("memory://x", "k", "s", Fingerprint(size=1), 1, upload_id="id")
PART = UploadedPart(1, 1, "E")


def try_all(call, values=VALUES):
    """Call with each value: it may do, or be refused by an error of the tree."""
    for value in values:
        try:
            call(value)
        except PartwiseError:
            continue
        except Exception as error:  # noqa: BLE001  # what must not be
            pytest.fail(f"{brief(value)}: {type(error).__name__}: {error}", pytrace=False)


def uploader(**given):
    return Uploader(**{"backend": MemoryBackend(), "store": MemoryCheckpointStore(), **given})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A relative path among the values leads into a directory of the test."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


# --- what programs call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["store", "config", "options", "progress", "resume", "expected_size", "expected_crc64"]
)
def test_upload_refuses_wrong_arguments(name):
    try_all(lambda value: upload(b"x", "memory://wrong/key", **{name: value}))


def test_upload_refuses_wrong_sources_and_urls():
    try_all(lambda value: upload(value, "memory://wrong/key"))
    try_all(lambda value: upload(b"x", value))
    for scheme in ("file:", "file://", "file:///", "memory://", "oss://"):
        try_all(lambda value, scheme=scheme: open_backend(scheme + value), [text for text in TEXTS if text != "/"])


@pytest.mark.parametrize("name", ["backend", "store", "config", "executor"])
def test_an_uploader_refuses_arguments_of_the_wrong_type(name):
    for value in VALUES:
        if value is None and name != "backend":
            continue
        with pytest.raises(InvalidInput, match=r"store|URL" if name == "store" else name):
            uploader(**{name: value})


ALL = ("source", "key", "options", "progress", "resume", "expected_size", "expected_crc64")
REPORTING = ("options", "progress")


@pytest.mark.parametrize("method", ["upload", "start", "plan", "abort", "verify"])
@pytest.mark.parametrize("name", ALL)
def test_the_methods_of_an_uploader_refuse_wrong_arguments(method, name):
    taken = {"plan": set(ALL) - {"progress"}, "abort": {"source", "key"}, "verify": {"source", "key", *REPORTING}}
    if name not in taken.get(method, ALL):
        return

    def call(value):
        started = getattr(uploader(), method)(**{"source": b"x", "key": "k", name: value})
        if method == "start":
            started.result(10)

    try_all(call)


@pytest.mark.parametrize("value", [5, b"id", ["id"], False], ids=repr)
def test_an_upload_to_abort_is_named_by_a_text(value):
    with pytest.raises(InvalidInput, match="upload_id must be a string or None, not"):
        uploader().abort("source", "k", upload_id=value)


@pytest.mark.parametrize("name", ["options", "progress", "key"])
@pytest.mark.parametrize("value", [0, False, [], b"", {}])
def test_an_empty_value_of_a_wrong_type_is_not_treated_as_none(name, value):
    with pytest.raises(InvalidInput):
        uploader().upload(**{"source": b"x", "key": "k", name: value})


def test_a_wrong_config_that_is_empty_is_not_treated_as_none():
    with pytest.raises(InvalidInput, match="config must be a TransferConfig or None, not"):
        uploader(config={})


def test_waiting_for_a_wrong_time_is_refused_and_the_upload_continues():
    released = threading.Event()

    class Slow(MemoryBackend):
        def put_object(self, *args):
            released.wait(10)
            return super().put_object(*args)

    task = uploader(backend=Slow()).start(b"x", "k")
    for value in [math.nan, "5", True, 1j, [], DEEP]:
        with pytest.raises(InvalidInput, match="timeout must be a number, not"):
            task.result(value)
    for value in [0, -1, -math.inf, -(10**30)]:
        with pytest.raises(TimeoutError):
            task.result(value)
    released.set()

    assert task.result(math.inf).size == task.result(1e20).size == task.result(10**400).size == 1


# --- sources ---------------------------------------------------------------------------------------------------------


def test_sources_refuse_wrong_arguments():
    try_all(lambda value: FileSource(value).fingerprint())
    try_all(lambda value: BytesSource(value).fingerprint())
    try_all(lambda value: StreamSource(value).body(0, 10))
    try_all(lambda value: StreamSource(lambda: value).body(0, 10))


@pytest.mark.parametrize(
    "make",
    [lambda name: BytesSource(b"x", name=name), lambda name: StreamSource(io.BytesIO(b"x"), name=name)],
    ids=["bytes", "stream"],
)
def test_the_name_of_a_source_is_a_text(make):
    try_all(lambda value: uploader().upload(make(value), "k"))
    with pytest.raises(InvalidInput, match=r"the name of (bytes|a stream) must be a string"):
        make(b"name")


@pytest.mark.parametrize("size", [-2, -(10**30), 1.5, math.nan, math.inf, True, "5", None, Decimal(3)], ids=brief)
def test_the_spooling_threshold_must_be_an_integer(size):
    with pytest.raises(InvalidInput, match="spool_above must be an integer of at least -1"):
        StreamSource(io.BytesIO(b"x"), spool_above=size)
    assert len(StreamSource(io.BytesIO(b"xy"), spool_above=10**30).body(0, 2)) == 2


@pytest.mark.parametrize("path", ["", "nul\0byte", b"nul\0byte", "\ud800", 5, None, PathOf(5), PathOf("")], ids=brief)
def test_what_can_not_be_a_path_is_refused_at_once(path):
    with pytest.raises(PartwiseError, match="path"):
        FileSource(path).fingerprint()
    with pytest.raises(InvalidInput, match="the directory of a bucket must be a path"):
        LocalBackend(path)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are Unicode there")
def test_a_file_whose_name_is_not_unicode_is_uploaded_and_resumed(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102  # a Path is text
    with open(folder + b"/\xff.bin", "wb") as file:  # noqa: PTH123  # a Path is text
        file.write(b"x" * 100)
    (entry,) = os.scandir(folder)
    backend = LocalBackend(PathOf(folder + b"/bucket"))
    config = TransferConfig(part_size=10, multipart_threshold=0)

    for store in (FileCheckpointStore(folder + b"/checkpoints"), SQLiteCheckpointStore(folder + b"/u.db")):
        for source in (entry, PathOf(folder + b"/\xff.bin"), os.fsdecode(folder + b"/\xff.bin"), FileSource(entry)):

            def stop(progress):
                if progress.parts_done:
                    raise InterruptedError

            with pytest.raises(InterruptedError):
                Uploader(backend, store=store, config=config).upload(source, "key", progress=stop)
            result = Uploader(backend, store=store, config=config).upload(source, "key", resume="require")

            assert result.parts_resumed
            assert Path(os.fsdecode(folder + b"/bucket/key")).read_bytes() == b"x" * 100


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory can't be removed there")
def test_a_removed_working_directory_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    for use in (
        FileSource,
        LocalBackend,
        FileCheckpointStore,
        FileCheckpointStore.for_file,
        SQLiteCheckpointStore,
        lambda path: uploader().upload(path, "k"),
        lambda path: uploader().plan(path, "k"),
        lambda path: uploader().abort(path, "k"),
        lambda path: open_checkpoint_store(f"sqlite:///{path}"),
    ):
        with pytest.raises(InvalidInput, match=r"working directory .*(removed|can't be read)"):
            use("relative")

    # Nothing that is named from the root needs the directory.
    store = FileCheckpointStore(tmp_path / "checkpoints")
    result = Uploader(LocalBackend(tmp_path / "bucket"), store=store).upload(tmp_path / "file", "key")
    assert result.size == 1


# --- values ----------------------------------------------------------------------------------------------------------


VALUE_TYPES = [
    (TransferConfig, {}),
    (ObjectOptions, {}),
    (OSSOptions, {}),
    (Callback, {"url": "http://x/", "body": "b"}),
    (PartLimits, {}),
    (Capabilities, {}),
    (UploadedPart, {"part_number": 1, "size": 1, "etag": "E"}),
    (Fingerprint, {}),
    (StoredObject, {"key": "k", "size": 1, "etag": "E"}),
    (Checkpoint, {"location": "l", "key": "k", "source": "s", "fingerprint": Fingerprint(), "part_size": 1}),
    (Credentials, {"access_key_id": "a", "access_key_secret": "b"}),
]


def use_value(value):
    """Do with a value what programs do."""
    if not isinstance(value, StoredObject):  # what a backend answers is taken as it is
        repr(value)
    match value:
        case TransferConfig():
            uploader(config=value)
        case ObjectOptions():
            value.explicitly_set(), value.fixed_data(())
            uploader().upload(b"x", "k", options=value)
        case Callback():
            OSSOptions(callback=value)
        case PartLimits():
            uploader(backend=MemoryBackend(limits=value)).upload(b"x", "k")
        case Capabilities():
            uploader(backend=MemoryBackend(capabilities=value)).upload(b"x", "k")
        case UploadedPart():
            MemoryCheckpointStore().save(Checkpoint("l", "k", "s", Fingerprint(), 1, parts=[value]))
        case Fingerprint():
            Checkpoint("l", "k", "s", value, 1).to_data()
        case Checkpoint():
            MemoryCheckpointStore().save(Checkpoint.from_data(value.to_data()))


@pytest.mark.parametrize(
    ("kind", "others", "name"),
    [(kind, others, field.name) for kind, others in VALUE_TYPES for field in fields(kind)],
    ids=lambda value: value.__name__ if isinstance(value, type) else value if isinstance(value, str) else "",
)
def test_values_refuse_wrong_fields(kind, others, name):
    try_all(lambda value: use_value(kind(**{**others, name: value})))


@pytest.mark.parametrize("name", ["expires", "content_type", "acl", "cache_control", "storage_class"])
def test_an_option_of_the_object_is_a_text(name):
    for value in [datetime(2000, 1, 1, tzinfo=UTC), 1_700_000_000_000, 1.5, b"text", True]:
        with pytest.raises(InvalidInput, match=rf"ObjectOptions\.{name} must be a string or None, not"):
            ObjectOptions(**{name: value})


@pytest.mark.parametrize("name", ["concurrency"])
def test_the_parts_at_a_time_are_bounded_since_each_takes_a_thread(name):
    assert TransferConfig(concurrency=1000).concurrency == 1000
    for value in [1001, 10**9, 10**5000]:
        with pytest.raises(InvalidInput, match="concurrency must be an integer from 1 to 1000, not"):
            TransferConfig(**{name: value})


@pytest.mark.parametrize("name", ["expected_size", "expected_crc64"])
def test_expected_values_of_a_source_are_integers(name):
    with pytest.raises(SourceError, match=str(2**64 - 1)):
        uploader().upload(b"x", "k", **{name: 2**64 - 1})
    for value in [-1, 2**64, 1.5, math.nan, True, 10**5000, "5"]:  # no size and no CRC-64 is above 64 bits
        with pytest.raises(InvalidInput, match=f"{name} must be an integer"):
            uploader().upload(b"x", "k", **{name: value})


def test_a_checkpoint_is_not_made_of_wrong_data():
    try_all(Checkpoint.from_data)
    good = CHECKPOINT.to_data()
    for name in good:
        try_all(lambda value, name=name: Checkpoint.from_data({**good, name: value}))
    with pytest.raises(CheckpointDamaged):
        Checkpoint.from_data({**good, "fingerprint": {1: 2}})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=3)
    | st.sampled_from([2**64, -(2**64), "\ud800", 253_402_300_800]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["size", "content", "metadata", "callback", "url", 1, b"x"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@given(name=st.sampled_from([field.name for field in fields(Checkpoint)]), value=PLAIN)
def test_plain_data_is_a_checkpoint_or_damaged(name, value):
    try:
        checkpoint = Checkpoint.from_data({**CHECKPOINT.to_data(), name: value})
    except CheckpointDamaged:
        return
    assert Checkpoint.from_data(checkpoint.to_data()) == checkpoint


@given(value=PLAIN, name=st.sampled_from([field.name for field in fields(TransferConfig)]))
def test_a_transfer_with_any_value_is_made_or_refused(name, value):
    try_all(lambda one: TransferConfig(**{name: one}), [value])


# --- from URLs -------------------------------------------------------------------------------------------------------


def test_values_that_are_not_urls_are_refused():
    try_all(open_backend)
    try_all(open_checkpoint_store)
    for scheme in ("file:", "sqlite:", "memory:", "file://", "sqlite:///", "memory://"):
        try_all(lambda value, scheme=scheme: open_checkpoint_store(scheme + value), TEXTS)
    for value in (b"memory://x/y", None, Path("file:///x")):
        with pytest.raises(InvalidInput, match="the URL must be a string such as"):
            open_backend(value)


@pytest.mark.parametrize("register", [register_backend, register_checkpoint_store])
def test_only_a_function_can_be_registered(register):
    try_all(lambda value: register(value, open_backend))
    for value in VALUES:
        with pytest.raises(InvalidInput, match="factory must be a function, not"):
            register("never", value)


@pytest.mark.parametrize("url", ["file://[/x/key", "file://℀/x/key"])
def test_a_url_with_an_impossible_host_is_refused(url):
    with pytest.raises(InvalidInput):
        open_backend(url)
    with pytest.raises(InvalidInput):
        open_checkpoint_store(url)


# --- backends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["name", "limits", "capabilities", "page_size", "clock", "callback"])
def test_a_memory_backend_refuses_wrong_arguments(name):
    try_all(lambda value: uploader(backend=MemoryBackend(**{name: value})).upload(b"x", "k"))


@pytest.mark.parametrize("name", ["clock", "upload_ids"])
def test_a_local_backend_refuses_wrong_arguments(name, tmp_path):
    try_all(lambda value: LocalBackend(tmp_path, **{name: value}))
    with pytest.raises(InvalidInput, match="an upload id must be a string"):
        LocalBackend(tmp_path, upload_ids=lambda: 5).initiate_upload("k", ObjectOptions())


OSS_SETTINGS = [
    "bucket",
    "endpoint",
    "region",
    "credentials",
    "signature_version",
    "addressing_style",
    "connect_timeout",
    "read_timeout",
    "ca_bundle",
    "proxy",
    "max_connections",
    "page_size",
    "user_agent",
    "clock",
]


@pytest.mark.parametrize("name", OSS_SETTINGS)
def test_an_oss_backend_refuses_wrong_arguments(name):
    good = {"bucket": "bucket", "endpoint": "http://127.0.0.1:9", "region": "cn-hangzhou", "credentials": KEYS}
    try_all(lambda value: OSSBackend(**{**good, name: value}).close())


METHODS = {
    "initiate_upload": ["k", ObjectOptions()],
    "upload_part": ["k", "ID", 1, bytes_body(b"xx")],
    "list_parts": ["k", "ID"],
    "complete_upload": ["k", "ID", [PART], ObjectOptions()],
    "abort_upload": ["k", "ID"],
    "list_uploads": [""],
    "put_object": ["k", bytes_body(b"xx"), ObjectOptions()],
    "head_object": ["k"],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("which", ["memory", "local", "oss"])
def test_the_methods_of_a_backend_refuse_wrong_arguments(which, method, tmp_path):
    backend = {
        "memory": MemoryBackend,
        "local": lambda: LocalBackend(tmp_path / "bucket"),
        "oss": lambda: OSSBackend("bucket", endpoint="http://127.0.0.1:9", region="x", credentials=KEYS),
    }[which]()
    upload_id = "0" * 32 if which == "oss" else backend.initiate_upload("k", ObjectOptions())
    good = [upload_id if argument == "ID" else argument for argument in METHODS[method]]

    def call(value, at):
        answer = getattr(backend, method)(*good[:at], value, *good[at + 1 :])
        if hasattr(answer, "__iter__"):
            list(answer)

    for at in range(len(good)):
        try_all(lambda value, at=at: call(value, at))
        with pytest.raises(InvalidInput):
            call(1.5, at)


@pytest.mark.parametrize("key", [5, b"key", None, "\ud800"])
def test_a_key_of_a_wrong_type_is_an_invalid_key(key, tmp_path):
    for backend in (MemoryBackend(), LocalBackend(tmp_path)):
        with pytest.raises(InvalidKey):
            backend.head_object(key)
        with pytest.raises(InvalidInput):
            uploader(backend=backend).upload(b"x", key)


# --- stores ----------------------------------------------------------------------------------------------------------


def test_the_place_of_a_store_is_a_path():
    try_all(lambda value: list(FileCheckpointStore(value).scan()))
    try_all(lambda value: list(FileCheckpointStore.for_file(value).scan()))
    try_all(lambda value: list(SQLiteCheckpointStore(value).scan()))


@pytest.mark.parametrize("method", ["claim", "load", "save", "delete", "append_part"])
@pytest.mark.parametrize("which", ["memory", "file", "one file", "sqlite"])
def test_the_methods_of_a_store_refuse_wrong_arguments(which, method, tmp_path):
    store = {
        "memory": MemoryCheckpointStore,
        "file": lambda: FileCheckpointStore(tmp_path / "checkpoints"),
        "one file": lambda: FileCheckpointStore.for_file(tmp_path / "one.ucp"),
        "sqlite": lambda: SQLiteCheckpointStore(tmp_path / "uploads.db"),
    }[which]()

    def call(value, *more):
        answer = getattr(store, method)(value, *more)
        if hasattr(answer, "__enter__"):
            with answer:
                pass

    if method == "append_part":
        try_all(lambda value: call(value, "id", PART))
        store.save(CHECKPOINT)
        try_all(lambda value: call(CHECKPOINT.name, "id", value))
        try_all(lambda value: call(CHECKPOINT.name, value, PART), [*NUMBERS, *OTHERS])
        assert store.load(CHECKPOINT.name) == CHECKPOINT
    else:
        more = (None,) if method == "delete" else ()
        # Few texts: each is a name, and a claim of it a file or two.
        try_all(lambda value: call(value, *more), [*NUMBERS, *OTHERS, "", "a\0b", "\ud800"])
        with pytest.raises(InvalidInput):
            call(5, *more)


def test_the_store_of_a_source_refuses_wrong_names():
    try_all(FileCheckpointStore.beside_source(), [*NUMBERS, *OTHERS, "", "a\0b", "\ud800"])
    with pytest.raises(InvalidInput):
        FileCheckpointStore.beside_source()(5)


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [10**5000, DEEP, "x" * 10**6, Unshowable(), [[[1]]] * 1000, {10**5000: DEEP}], ids=brief
)
def test_any_value_is_shown_briefly(value):
    assert 0 < len(brief(value)) < 500
