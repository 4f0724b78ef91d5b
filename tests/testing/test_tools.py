"""The smaller tools of the kit: bodies, sources, oracles, crashes, and the public names."""

from __future__ import annotations

import copyreg
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import partwise.testing
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.checksums import CRC32, CRC32C, CRC64_XZ, MD5, SHA1, SHA256, Checksum, crc64
from partwise.errors import ConnectionFailed, SourceChanged
from partwise.model import UploadedPart
from partwise.protocols import Body, Source, SourceBody
from partwise.testing import (
    ChangingSource,
    ChunkListBody,
    SimulatedCrash,
    StrictBody,
    crash_at,
    crashes_at,
    in_order,
    pseudo_random_bytes,
    slow_checksum,
    slow_crc64,
)
from partwise.testing._proof.simulation import without_frames

# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_strict_body_overwrites_the_previous_chunk() -> None:
    chunks = StrictBody(b"abcdef", chunk_size=4).chunks()
    first = next(chunks)
    assert bytes(first) == b"abcd"
    next(chunks)
    assert bytes(first) != b"abcd"


def test_a_strict_body_can_be_read_again_and_counts() -> None:
    body = StrictBody(b"abcdef", chunk_size=4)
    for _ in range(2):
        assert b"".join(map(bytes, body.chunks())) == b"abcdef"
    assert (body.readings, body.bytes_read, body.checksum) == (2, 12, crc64(b"abcdef"))
    assert repr(body) == "<StrictBody of 6 bytes>"


def test_a_strict_body_declares_a_wrong_length_and_fails_as_configured() -> None:
    error = ZeroDivisionError()
    body = StrictBody(b"abc", declared=10, error=error)
    assert len(body) == 10
    with pytest.raises(ZeroDivisionError) as caught:
        list(body.chunks())
    assert caught.value is error


def test_bodies_implement_the_protocol() -> None:
    assert isinstance(StrictBody(b""), Body)
    assert isinstance(ChunkListBody(), Body)
    assert isinstance(ChangingSource(b"").body(0, 0), SourceBody)


def test_a_chunk_list_body_yields_its_chunks_unchanged() -> None:
    pieces = (memoryview(b"ab"), memoryview(b"c"))
    body = ChunkListBody(*pieces)
    assert tuple(body.chunks()) == pieces
    assert (len(body), body.checksum) == (3, crc64(b"abc"))


def test_pseudo_random_bytes_depend_on_the_seed_only() -> None:
    assert pseudo_random_bytes(20, "a") == pseudo_random_bytes(20, "a")
    assert pseudo_random_bytes(20, "a") != pseudo_random_bytes(20, "b")
    assert len(pseudo_random_bytes(20)) == 20


# --- a source that changes -------------------------------------------------------------------------------------------


def read(source: ChangingSource, offset: int, size: int) -> bytes:
    return b"".join(map(bytes, source.body(offset, size).chunks()))


def test_a_changing_source_is_a_source_and_yields_its_bytes() -> None:
    source = ChangingSource(b"0123456789", chunk_size=3)
    assert isinstance(source, Source)
    assert read(source, 2, 7) == b"2345678"
    assert source.fingerprint() == source.fingerprint()
    assert repr(source) == "<ChangingSource '/a/file' of 10 bytes>"
    source.close()


def test_its_bodies_raise_source_changed_if_it_was_truncated() -> None:
    source = ChangingSource(b"0123456789")
    body = source.body(5, 5)
    source.truncate(7)
    with pytest.raises(SourceChanged, match="3 bytes before byte 10") as caught:
        list(body.chunks())
    assert caught.value.source == "/a/file"


def test_each_change_shows_in_the_fingerprint_as_documented() -> None:
    def changed_by(change: str, *args: object) -> set[str]:
        source = ChangingSource(b"0123456789")
        before = source.fingerprint()
        getattr(source, change)(*args)
        after = source.fingerprint()
        return {name for name in ("size", "mtime_ns", "identity") if getattr(before, name) != getattr(after, name)}

    assert changed_by("append", b"x") == {"size", "mtime_ns"}
    assert changed_by("truncate", 5) == {"size", "mtime_ns"}
    assert changed_by("write", b"9876543210") == {"mtime_ns"}
    assert changed_by("touch") == {"mtime_ns"}
    assert changed_by("replace", b"9876543210") == {"identity"}
    assert changed_by("forge", b"9876543210") == set()


def test_a_planned_change_happens_in_the_middle_of_its_reading() -> None:
    source = ChangingSource(b"0123456789", chunk_size=1, changes={2: lambda source: source.write(b"abcdefghij")})
    assert read(source, 0, 10) == b"0123456789"
    assert read(source, 0, 10) == b"01234fghij"
    assert source.readings == 2


# --- oracles ---------------------------------------------------------------------------------------------------------


def test_the_slow_checksum_has_the_published_check_value() -> None:
    assert slow_crc64(b"123456789") == 0x995DC9BBDF1939FA


@given(data=st.binary(max_size=300))
def test_the_slow_checksum_and_the_fast_one_agree(data: bytes) -> None:
    assert slow_crc64(data) == crc64(data)


@pytest.mark.parametrize("algorithm", [CRC64_XZ, CRC32C, CRC32, MD5, SHA1, SHA256], ids=lambda kind: kind.name)
def test_every_checksum_of_the_package_has_an_independent_computation(algorithm: Checksum) -> None:
    data = b"123456789" * 10
    broken = evolve(algorithm, start=lambda: pytest.fail("it is computed by the package"))
    assert slow_checksum(broken, data) == algorithm.compute(data)


def test_a_checksum_that_a_backend_brings_along_computes_itself() -> None:
    own = Checksum("own", 256, SHA256.start)
    assert slow_checksum(own, b"data") == SHA256.compute(b"data")


def test_the_order_of_parts_is_not_compared() -> None:
    parts = [UploadedPart(number, 1, "etag") for number in (1, 2, 3)]
    one, other = (
        Checkpoint("memory://b", "key", "source", Fingerprint(), part_size=1, parts=order)
        for order in (tuple(parts), tuple(reversed(parts)))
    )
    assert one != other
    assert in_order(one) == in_order(other)


# --- crashes ---------------------------------------------------------------------------------------------------------


def replace_file(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    temporary.replace(path)


def test_a_process_crashes_at_each_step_and_then_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    found = []
    for step in range(1, 6):
        died = crashes_at(step, replace_file, path, b"new!")
        temporary = path.with_suffix(".tmp")
        found.append((died, path.read_bytes(), temporary.read_bytes() if temporary.exists() else None))
    assert found == [
        (True, b"old", None),  # at open
        (True, b"old", b"ne"),  # at write, half of which is done
        (True, b"old", b"new!"),  # at fsync
        (True, b"old", b"new!"),  # at replace
        (False, b"new!", None),
    ]


def test_after_a_crash_nothing_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "left").touch()

    def tidy() -> None:
        try:
            (tmp_path / "made").mkdir()
        finally:
            (tmp_path / "left").unlink()

    assert crashes_at(1, tidy)
    assert [path.name for path in tmp_path.iterdir()] == ["left"]


def test_other_threads_do_not_crash(tmp_path: Path) -> None:
    thread = threading.Thread(target=(tmp_path / "made").mkdir)
    with crash_at(1):
        thread.start()
        thread.join()
    assert (tmp_path / "made").is_dir()


def test_after_a_crash_the_original_calls_are_restored(tmp_path: Path) -> None:
    before = os.mkdir
    with pytest.raises(SimulatedCrash), crash_at(1):
        (tmp_path / "made").mkdir()
    assert os.mkdir is before


def test_a_call_that_a_system_does_not_have_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "truncate")
    with crash_at(1):
        assert not hasattr(os, "truncate")


# --- public names ----------------------------------------------------------------------------------------------------


def test_every_public_name_exists() -> None:
    missing = [name for name in partwise.testing.__all__ if getattr(partwise.testing, name, None) is None]
    assert missing == []


def test_dir_lists_the_public_names() -> None:
    assert set(partwise.testing.__all__) <= set(dir(partwise.testing))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = partwise.testing.nothing
    with pytest.raises(AttributeError, match="no attribute '_nothing'"):
        _ = partwise.testing._nothing


def test_the_kit_imports_neither_pytest_nor_hypothesis_nor_h11_before_they_are_used() -> None:
    script = """
import sys
import partwise.testing as kit
from partwise.backends.memory import MemoryBackend
kit.FaultyBackend(MemoryBackend(), kit.FaultPlan()).head_object("key")
kit.BackendConformance, kit.CheckpointStoreConformance, kit.crashes_at, kit.ChangingSource
print(sorted({"pytest", "hypothesis", "werkzeug"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_without_frames_drops_traceback_and_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a library makes copies keep them, as tblib does, which Dask imports."""

    def remade(message: str, trace: TracebackType | None, cause: BaseException | None) -> ConnectionFailed:
        error = ConnectionFailed(message).with_traceback(trace)
        error.__cause__ = cause
        return error

    monkeypatch.setitem(
        copyreg.dispatch_table,
        ConnectionFailed,
        lambda error: (remade, (error.message, error.__traceback__, error.__cause__)),
    )
    with pytest.raises(ConnectionFailed) as caught:
        raise ConnectionFailed("gone") from OSError("x")
    kept = without_frames(caught.value)

    assert (type(kept), str(kept)) == (ConnectionFailed, "gone")
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
