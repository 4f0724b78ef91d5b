"""Whatever a caller gives in place of what is meant comes out as an error of the tree, and as nothing else."""

from __future__ import annotations

import io
import math

import pytest
from attrs import fields

import partwise
from partwise._validation import brief
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback
from partwise.checkpoint import Fingerprint
from partwise.config import TransferConfig
from partwise.errors import InvalidInput, PartwiseError
from partwise.model import Capabilities, ObjectOptions, PartLimits, UploadedPart
from partwise.sources import BytesSource, FileSource, StreamSource
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.uploader import Uploader


class NoPath:
    def __fspath__(self):
        return 7


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


NUMBERS = [True, -1, 2**64, -(2**64), 10**5000, 0.5, 1e20, math.nan, math.inf, -math.inf]
OTHERS = [None, "", "x", "8", "8MiB", "\0", "\udcff", b"", b"\xff", [], {}, {1: 2}, {"a": None}, [1], (1, 2), object()]
JUNK = [*NUMBERS, *OTHERS, int, NoPath(), Unspeakable()]


def with_fields(kind, **needed):
    """Makes this value, with the given one in place of one of its fields."""
    return {
        f"{kind.__name__}.{one.name}": lambda value, name=one.name: kind(**{**needed, name: value})
        for one in fields(kind)
    }


def uploader():
    return Uploader(MemoryBackend(), store=MemoryCheckpointStore())


ENTRIES = {
    **with_fields(TransferConfig),
    **with_fields(ObjectOptions),
    **with_fields(Callback, url="http://a/", body="b"),
    **with_fields(PartLimits),
    **with_fields(Capabilities),
    **with_fields(Fingerprint),
    **with_fields(UploadedPart, part_number=1, size=1, etag="e"),
    "FileSource": lambda value: FileSource(value).fingerprint(),
    "expected_size": lambda value: uploader().upload(b"x", "key", expected_size=value),
    "expected_crc64": lambda value: uploader().upload(b"x", "key", expected_crc64=value),
    "BytesSource": BytesSource,
    "BytesSource name": lambda value: BytesSource(b"", name=value),
    "StreamSource": StreamSource,
    "StreamSource name": lambda value: StreamSource(io.BytesIO(), name=value),
    "StreamSource spool_above": lambda value: StreamSource(io.BytesIO(), spool_above=value),
    "upload source": lambda value: uploader().upload(value, "key"),
    "upload key": lambda value: uploader().upload(b"x", value),
    "upload options": lambda value: uploader().upload(b"x", "key", options=value),
    "upload progress": lambda value: uploader().upload(b"x", "key", progress=None if callable(value) else value),
    "upload resume": lambda value: uploader().upload(b"x", "key", resume=value),
    "start source": lambda value: uploader().start(value, "key").result(10),
    "start key": lambda value: uploader().start(b"x", value).result(10),
    "start progress": lambda value: uploader().start(b"x", "key", progress=None if callable(value) else value).result(),
    "plan key": lambda value: uploader().plan(b"x", value),
    "abort source": lambda value: uploader().abort(value, "key"),
    "abort key": lambda value: uploader().abort(b"x", value),
    "LocalBackend": LocalBackend,
    "MemoryBackend": MemoryBackend,
    "FileCheckpointStore": FileCheckpointStore,
    "SQLiteCheckpointStore": SQLiteCheckpointStore,
    "Uploader backend": Uploader,
    "Uploader store": lambda value: Uploader(MemoryBackend(), store=value),
    "Uploader config": lambda value: Uploader(MemoryBackend(), store=None, config=value),
    "Uploader executor": lambda value: Uploader(MemoryBackend(), executor=value),
    "url of an upload": lambda value: partwise.upload(b"x", value, store=MemoryCheckpointStore()),
    "open_backend": partwise.open_backend,
    "open_checkpoint_store": partwise.open_checkpoint_store,
    "register_backend": lambda value: partwise.register_backend(value, lambda url: None),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("partwise.registry._registered", {})


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_wrong_value_is_an_error_of_the_tree(entry):
    for value in JUNK:
        try:
            ENTRIES[entry](value)
        except PartwiseError as error:
            assert len(str(error)) < 1000  # noqa: PT017  # values that are accepted are fine, too


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TransferConfig, "part_size"),
        (TransferConfig, "multipart_threshold"),
        (TransferConfig, "concurrency"),
        (TransferConfig, "max_attempts"),
        (TransferConfig, "retry_base"),
        (TransferConfig, "retry_max"),
        (TransferConfig, "bandwidth_limit"),
        (TransferConfig, "progress_interval"),
        (PartLimits, "min_part_size"),
        (PartLimits, "max_part_size"),
        (PartLimits, "max_parts"),
        (PartLimits, "max_object_size"),
        (PartLimits, "max_put_size"),
    ],
)
@pytest.mark.parametrize(
    "value",
    [True, -1, 10**5000, 1e20, math.nan, math.inf, "8", b"8"],
    ids=brief,
)
def test_a_number_that_can_not_be_is_refused(kind, name, value):
    with pytest.raises(InvalidInput, match=name):
        kind(**{name: value})


@pytest.mark.parametrize("name", ["retry_base", "retry_max", "progress_interval"])
def test_seconds_are_those_that_every_system_can_wait_for(name):
    assert getattr(TransferConfig(**{name: 2_592_000}), name) == 2_592_000

    with pytest.raises(InvalidInput, match=name):
        TransferConfig(**{name: 2_592_001})


@pytest.mark.parametrize("value", [7, b"private", ["a"], math.nan])
@pytest.mark.parametrize("name", ["acl", "content_type", "expires", "cache_control", "metadata", "tags"])
def test_an_option_that_is_not_a_string_is_refused(name, value):
    with pytest.raises(InvalidInput):
        ObjectOptions(**{name: value})
