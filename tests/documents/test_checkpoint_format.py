"""The documented checkpoint format is the one that is written, and can be read by its description alone."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields

from partwise import Checkpoint, CheckpointDamaged, Fingerprint, ObjectOptions, UploadedPart
from partwise.backends.local import LocalBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.backends.oss.options import CAPABILITIES
from partwise.checkpoint import OPTIONS_DEPTH_MAX, OPTIONS_TEXT_MAX, OPTIONS_VALUES_MAX
from partwise.model import _CHECKSUM_MAX, PART_NUMBER_MAX
from partwise.stores import _database, _journal
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.uploader import TransferConfig, Uploader

JSON_TYPES = {"integer": int, "text": str, "object": dict, "array": list, "array of texts": list, "number": float}


@pytest.fixture
def document(page) -> dict[str, Any]:
    """The definitions of the page's reader."""
    block = next(
        text for text in re.findall(r"```python\n(.*?)```", page("checkpoint-format"), re.DOTALL) if "def " in text
    )
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    return namespace


@pytest.fixture
def read(document):
    """The reader of the page, which does not use partwise."""
    assert "partwise" not in {name.partition(".")[0] for name in document if not name.startswith("__")}
    return document["read_checkpoint"]


class Enough(Exception):
    pass


@pytest.fixture
def interrupted(tmp_path, monkeypatch) -> Path:
    """The checkpoint file of an upload that was interrupted after some of its parts."""
    source = tmp_path / "söurce"
    source.write_bytes(bytes(range(256)) * 40)

    def stop(progress):
        if progress.parts_done == 3:
            raise Enough

    config = TransferConfig(part_size=1000, multipart_threshold=0, concurrency=1)
    options = ObjectOptions(content_type="text/plain", metadata={"who": "example"})
    uploader = Uploader(LocalBackend(tmp_path / "bucket"), store=FileCheckpointStore(tmp_path / "state"), config=config)
    with pytest.raises(Enough):
        uploader.upload(source, "a/ключ", options=options, progress=stop)
    (path,) = (tmp_path / "state").glob("*.ucp")
    return path


def stored(path: Path) -> Checkpoint | None:
    """The checkpoint as the store reads it."""
    return FileCheckpointStore(path.parent).load(path.stem)


def test_a_checkpoint_can_be_read_by_the_documented_rules_alone(read, interrupted: Path) -> None:
    header, parts = read(interrupted.read_bytes())
    expected = stored(interrupted)
    assert expected is not None
    assert len(expected.parts) >= 3
    assert header == evolve(expected, parts=()).to_data()
    assert header["options"] == {"content_type": "text/plain", "metadata": {"who": "example"}}
    assert parts == {part.part_number: (part.size, part.etag, str(part.checksum)) for part in expected.parts}


def test_the_documented_reader_and_the_store_agree_about_files_truncated_anywhere(
    document, read, interrupted: Path
) -> None:
    whole = interrupted.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    lengths = {0, *range(1, len(whole), 7), *(end + off for end in ends for off in (-2, -1, 0, 1))} - {
        len(whole),
        len(whole) + 1,
    }
    outcomes = set()
    for tail in (b"", b"\0\0\0"):
        for length in sorted(lengths):
            interrupted.write_bytes(whole[:length] + tail)
            try:
                expected: object = {part.part_number for part in (stored(interrupted) or pytest.fail("no file")).parts}
            except CheckpointDamaged:
                expected = "damaged"
            try:
                found: object = set(read(whole[:length] + tail)[1])
            except document["Damaged"]:
                found = "damaged"
            assert expected == found, length
            outcomes.add(str(found))
    assert {"damaged", "set()", "{1}", "{1, 2}"} <= outcomes


def test_a_changed_byte_is_damage_unless_it_makes_the_end_incomplete(document, read, interrupted: Path) -> None:
    whole = interrupted.read_bytes()
    last = whole.rindex(b"\n")
    for place in range(last):
        with pytest.raises(document["Damaged"]):
            read(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    parts = read(whole)[1]
    assert set(read(whole[:last] + b"\x0b")[1]) == set(parts) - {max(parts)}


def test_every_field_is_documented_with_its_type_and_its_default(section, tables, names) -> None:
    (header, fingerprint), (part,) = (
        tables(section("checkpoint-format", heading)) for heading in ("The header", "A part")
    )
    for documented, value in ((header, Checkpoint), (fingerprint, Fingerprint)):
        assert [names(row["field"])[0] for row in documented if "version" not in row["field"]] == [
            field.name for field in fields(value)
        ]
    assert len(part) == len(fields(UploadedPart))
    assert "by the algorithm that the header names" in part[3]["meaning"]
    full = evolve(FULL, parts=()).to_data()
    for row in header:
        (name,) = names(row["field"])
        kinds = tuple(JSON_TYPES.get(kind, type(None)) for kind in row["type"].split(" or "))
        if name != "parts":
            assert type(full[name]) in kinds, name
        if row["default"] and name != "created":
            default = Checkpoint("l", "k", "s", Fingerprint(), 1)
            assert json.loads(row["default"].strip("`")) == _plain(getattr(default, name)), name


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_the_options_of_all_storages_and_of_oss_are_documented(section, names) -> None:
    text = section("checkpoint-format", "The header").partition("The options of all storages are")[2]
    neutral, _, rest = text.partition("Those of OSS alone are")
    own, _, late = rest.partition("Options that act later")
    every, of_all = ({field.name for field in fields(kind)} for kind in (OSSOptions, ObjectOptions))
    assert set(names(neutral)) & every == of_all
    assert set(names(own)) & every == every - of_all
    assert set(names(late)) & every == OSS_LATE


OSS_LATE = CAPABILITIES.late_options

FULL = Checkpoint(
    location="memory://example",
    key="key",
    source="/source",
    fingerprint=Fingerprint(1, 2, "3", 4),
    part_size=5,
    parts_per_doubling=6,
    options=OSSOptions(
        content_type="a",
        acl="private",
        metadata={"b": "c"},
        storage_class="IA",
        tags={"d": "e"},
        forbid_overwrite=True,
        encryption="KMS",
        data_encryption="SM4",
        kms_key_id="f",
        cache_control="g",
        content_disposition="h",
        content_encoding="i",
        content_language="j",
        expires="k",
        traffic_limit=1_000_000,
        request_payer="requester",
        callback=Callback("http://l", "m"),
    ).fixed_data(OSS_LATE),
    upload_id="n",
    checksum="crc32c",
    token="o",
    abandoned=("p",),
    created=7.5,
)


def test_every_field_survives_the_documented_reader(read, tmp_path) -> None:
    with FileCheckpointStore(tmp_path) as store:
        store.save(FULL)
        store.append_part(FULL.name, FULL.upload_id, UploadedPart(2, 5, "q"))
        store.append_part(FULL.name, FULL.upload_id, UploadedPart(2, 5, "r", 2**512 - 1))
    header, parts = read((tmp_path / f"{FULL.name}.ucp").read_bytes())
    assert Checkpoint.from_data(header) == FULL
    assert parts == {2: (5, "r", str(2**512 - 1))}


def test_parts_of_growing_sizes_follow_the_documented_formula() -> None:
    from partwise._engine.plan import PartPlan

    size, every = 5, 3
    plan = PartPlan(size, None, every)
    for number in range(1, 20):
        generation, index = divmod(number - 1, every)
        part = plan.part(number)
        assert part.size == size * 2**generation
        assert part.offset == every * size * (2**generation - 1) + index * size * 2**generation


def test_rows_in_sqlite_have_the_documented_checksums(tmp_path) -> None:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store:
        store.save(FULL)
        store.append_part(FULL.name, FULL.upload_id, UploadedPart(2, 5, "q", 6))
    with closing(sqlite3.connect(tmp_path / "uploads.db")) as database:
        ((name, header, checksum),) = database.execute("SELECT name, header, checksum FROM checkpoints")
        ((part_name, number, record, part_checksum),) = database.execute(
            "SELECT name, part_number, record, checksum FROM parts"
        )
        application, version = (
            database.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")
        )
    assert checksum == blake2b(f"{name}\0{header}".encode(), digest_size=8).hexdigest()
    assert part_checksum == blake2b(f"{part_name}\0{number}\0{record}".encode(), digest_size=8).hexdigest()
    assert (application, version) == (0x70617274, 1)


def test_the_documented_bounds_are_the_actual_ones(page) -> None:
    """With literal numbers: to change one is to change the format."""
    text = page("checkpoint-format")
    for documented, found, expected in (
        ("| a file | 64 MiB |", _journal.BYTES_MAX, 64 * 2**20),
        ("| a line, its line feed not counted | 1 MiB |", _journal.LINE_MAX, 2**20),
        ("| the number of a part, and so the parts | 100,000 |", PART_NUMBER_MAX, 100_000),
        ("| the checksum of a part, a text | 512 bits |", _CHECKSUM_MAX, 2**512 - 1),
        ("| texts of the options, names included | 1,048,576 characters together |", OPTIONS_TEXT_MAX, 2**20),
        ("| names and values of the options, at all levels | 20,000 |", OPTIONS_VALUES_MAX, 20_000),
        ("| levels of objects and arrays in the options | 8 |", OPTIONS_DEPTH_MAX, 8),
        ("In SQLite a value has at most 2 MiB", _database._LENGTH_MAX, 2 * 2**20),
        ("takes at most 10⁹ operations", _database._OPERATIONS_MAX, 10**9),
    ):
        assert documented in text
        assert found == expected
