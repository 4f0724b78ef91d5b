"""Checkpoints that were written before the format had version 2 are read, resumed, and rewritten by the next save."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from partwise import BytesSource, Checkpoint, ObjectOptions, StreamSource, TransferConfig, UploadedPart, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.bodies import bytes_body
from partwise.errors import CheckpointDamaged
from partwise.model import PartLimits
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

SAVED = Path(__file__).parent.parent / "data" / "checkpoints" / "v1"
DATA = bytes(range(256)) * 40
OPTIONS = ObjectOptions(content_type="text/plain", metadata={"a": "b"}, tags={"team": "storage"})
CONFIG = TransferConfig(part_size=1000, multipart_threshold=0, concurrency=1)
KINDS = ["directory", "one file", "sqlite", "plain data"]
KEYS = ["bytes", "stream"]


@contextmanager
def opened(kind: str, key: str, folder: Path):
    """A store with the saved checkpoint of this key, in a new folder."""
    for path in (*SAVED.glob("*.ucp"), SAVED / "uploads.db"):
        shutil.copy(path, folder)
        (folder / path.name).chmod(0o600)
    match kind:
        case "directory":
            store = FileCheckpointStore(folder)
        case "one file":
            store = FileCheckpointStore.for_file(folder / f"{read(key).name}.ucp")
        case "sqlite":
            store = SQLiteCheckpointStore(folder / "uploads.db")
        case _:
            store = MemoryCheckpointStore()
            store.save(read(key))
    with store:
        yield store


def read(key: str) -> Checkpoint:
    return Checkpoint.from_data(json.loads((SAVED / f"{key}.json").read_text()))


def header(kind: str, key: str, folder: Path) -> str:
    """The text of a stored checkpoint without its parts."""
    name = read(key).name
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "uploads.db")) as database:
            return str(database.execute("SELECT header FROM checkpoints WHERE name = ?", (name,)).fetchone()[0])
    return (folder / f"{name}.ucp").read_text().partition("\n")[0]


def source(key: str):
    return BytesSource(DATA, name="bytes") if key == "bytes" else StreamSource(io.BytesIO(DATA), name="stream")


def backend_with(checkpoint: Checkpoint) -> MemoryBackend:
    """The backend as the interrupted run left it: with the upload, and the parts that it had acknowledged."""
    limits = PartLimits(min_part_size=100, max_part_size=5000, max_parts=50)
    backend = MemoryBackend(f"v1-{checkpoint.key}", limits=limits)
    assert backend.initiate_upload(checkpoint.key, OPTIONS) == checkpoint.upload_id
    for part in checkpoint.parts:
        offset = (part.part_number - 1) * 1000
        body = bytes_body(DATA[offset : offset + part.size], offset=offset)
        assert backend.upload_part(checkpoint.key, checkpoint.upload_id, part.part_number, body) == part
    return backend


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
def test_its_fields_are_read_by_their_old_names(kind, key, tmp_path):
    with opened(kind, key, tmp_path) as store:
        checkpoint = store.load(read(key).name)

    assert checkpoint == evolve(read(key), created=checkpoint.created)
    assert checkpoint.created > 1.7e9
    assert checkpoint.options == OPTIONS.fixed_data(())
    assert [part.part_number for part in checkpoint.parts] == [1, 2, 3, 4]
    if key == "bytes":
        assert checkpoint.fingerprint == source(key).fingerprint()
        assert checkpoint.fingerprint.crc64 is not None
    else:
        assert checkpoint.parts_per_doubling == 17


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
def test_its_upload_is_resumed_and_no_acknowledged_part_is_sent_again(kind, key, tmp_path):
    backend = backend_with(read(key))
    sent_before = backend.calls["upload_part"]

    with opened(kind, key, tmp_path) as store:
        result = Uploader(backend, store=store, config=CONFIG).upload(source(key), key, options=OPTIONS)

    assert (result.parts_resumed, result.parts_sent) == (4, 7)
    assert backend.calls["upload_part"] - sent_before == 7
    assert backend.calls["initiate_upload"] == 1
    assert backend.read(key) == DATA
    assert not result.warnings


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain data"])
@pytest.mark.parametrize("key", KEYS)
def test_parts_are_appended_to_it_as_it_is_and_the_next_save_writes_version_2(kind, key, tmp_path):
    name = read(key).name
    part = UploadedPart(5, 1000, "E5", 7)

    with opened(kind, key, tmp_path) as store, store.claim(name):
        before = store.load(name)
        old_header = header(kind, key, tmp_path)
        store.append_part(name, before.upload_id, part)
        appended = store.load(name)
        assert appended == evolve(before, parts=(*before.parts, part))
        assert header(kind, key, tmp_path) == old_header
        assert '"version":1,' in old_header
        store.save(appended)
        assert '"version":2,' in header(kind, key, tmp_path)
        assert store.load(name) == appended


@pytest.mark.parametrize("key", KEYS)
def test_as_plain_data_it_is_written_as_version_2(key):
    data = read(key).to_data()

    assert data["version"] == 2
    assert data["options"]["tags"] == {"team": "storage"}
    assert not {"doubling_every", "content", "tagging"} & {*data, *data["fingerprint"], *data["options"]}
    assert Checkpoint.from_data(data) == read(key)


@pytest.mark.parametrize("key", KEYS)
def test_data_of_version_1_is_not_changed_by_reading_it(key):
    data = json.loads((SAVED / f"{key}.json").read_text())
    Checkpoint.from_data(data)

    assert data == json.loads((SAVED / f"{key}.json").read_text())


@pytest.mark.parametrize("kind", ["directory", "one file"])
@pytest.mark.parametrize("key", KEYS)
def test_a_flipped_byte_anywhere_is_still_damage(kind, key, tmp_path):
    name = read(key).name
    with opened(kind, key, tmp_path) as store:
        path = store.path_for(name)
        whole = path.read_bytes()
        for place in range(len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(CheckpointDamaged):
                store.load(name)


@pytest.mark.parametrize("table", ["checkpoints", "parts"])
def test_a_changed_row_is_still_damage(table, tmp_path):
    name = read("bytes").name
    column = "header" if table == "checkpoints" else "record"
    with opened("sqlite", "bytes", tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / "uploads.db")) as database, database:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, '1000', '1001')")
        with pytest.raises(CheckpointDamaged, match="checksum"):
            store.load(name)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [("", "parts_per_doubling", 17), ("fingerprint", "crc64", 1), ("options", "tags", {"a": "b"})],
)
def test_a_field_that_only_version_2_has_is_refused_by_name(place, name, value):
    data = json.loads((SAVED / "bytes.json").read_text())
    (data[place] if place else data)[name] = value

    with pytest.raises(CheckpointDamaged, match=f"version 1 of a checkpoint has no field {name}\\. Start the upload"):
        Checkpoint.from_data(data)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [("", "doubling_every", 17), ("fingerprint", "content", 1)],
)
def test_a_field_that_only_version_1_has_is_refused_in_version_2(place, name, value):
    data = {**read("bytes").to_data()}
    (data[place] if place else data)[name] = value

    with pytest.raises(CheckpointDamaged, match=name):
        Checkpoint.from_data(data)


def test_an_option_that_only_version_1_has_is_one_that_no_one_requests_in_version_2():
    """So its upload starts again: names of options belong to storages, not to the format."""
    data = read("bytes").to_data()
    data["options"]["tagging"] = data["options"].pop("tags")

    options = Checkpoint.from_data(data).options
    assert (options["tagging"], "tags" in options) == ({"team": "storage"}, False)
    assert options != OPTIONS.fixed_data(())


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("", "doubling_every", "17"),
        ("fingerprint", "content", -1),
        ("options", "tagging", {1: "a"}),
        ("", "fingerprint", 1),
    ],
)
def test_a_wrong_value_in_it_is_damage(place, name, value):
    data = json.loads((SAVED / "bytes.json").read_text())
    (data[place] if place else data)[name] = value

    with pytest.raises(CheckpointDamaged, match="can't be read"):
        Checkpoint.from_data(data)
