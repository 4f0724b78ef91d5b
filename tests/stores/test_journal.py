"""The text of a checkpoint: damage is detected, and never yields a wrong checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import blake2b

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged
from partwise.model import UploadedPart
from partwise.stores import _journal as journal
from partwise.stores.file import FileCheckpointStore
from partwise.testing import strategies

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]


@pytest.fixture
def whole(checkpoint: MakeCheckpoint, part: MakePart) -> Checkpoint:
    return checkpoint(parts=(part(1), part(2), part(3)))


@pytest.fixture
def text(whole: Checkpoint) -> bytes:
    return journal.encode(whole)


@pytest.fixture
def prefixes(whole: Checkpoint) -> list[Checkpoint]:
    return [evolve(whole, parts=whole.parts[:count]) for count in range(4)]


@pytest.fixture(params=["directory", "explicit file"])
def reopened(request: pytest.FixtureRequest, tmp_path, whole: Checkpoint) -> Iterator[Callable[[bytes], object]]:
    """A function that loads a file of these bytes and returns the checkpoint or the error."""
    store = FileCheckpointStore(tmp_path)
    if request.param == "explicit file":
        store = FileCheckpointStore.for_file(store.path_for(whole.name))
    path = store.path_for(whole.name)

    def load(data: bytes) -> object:
        path.write_bytes(data)
        try:
            return store.load(whole.name)
        except CheckpointDamaged as damage:
            return damage

    yield load
    store.close()


# --- the text --------------------------------------------------------------------------------------------------------


def test_a_file_is_readable_lines_of_ascii(text: bytes, whole: Checkpoint) -> None:
    first, *lines = text.decode("ascii").splitlines()
    mark, rest = first.split(" ", 1)
    assert mark == "partwise-checkpoint/1"
    assert json.loads(rest.rsplit(" ", 1)[0]) == evolve(whole, parts=()).to_data()
    assert [json.loads(line.split(" ")[0])[:2] for line in lines] == [[1, 8388608], [2, 8388608], [3, 8388608]]


def test_each_checksum_covers_the_previous_one_and_the_text(text: bytes) -> None:
    before = b"partwise-checkpoint/1 "
    for line in text.removeprefix(before).splitlines():
        body, checksum = line.rsplit(b" ", 1)
        before = blake2b(before + body, digest_size=8).digest()
        assert checksum == before.hex().encode()


def test_lone_surrogates_and_unusual_characters_are_kept(checkpoint: MakeCheckpoint) -> None:
    odd = checkpoint(key="\u2028\U0001f4e6\n\0\x7f\"'\\", source="/a/\udcff\ud800")
    assert journal.decode(journal.encode(odd)).checkpoint == odd


@given(checkpoint=strategies.checkpoints())
@settings(max_examples=50, deadline=None)
def test_a_written_checkpoint_is_read_unchanged(checkpoint: Checkpoint) -> None:
    data = journal.encode(checkpoint)
    found = journal.decode(data)
    assert (found.checkpoint, found.length) == (checkpoint, len(data))


@given(part=strategies.uploaded_parts())
def test_a_part_is_written_as_its_plain_data(part: UploadedPart) -> None:
    assert journal.part_text(part) == json.dumps(part.to_data(), separators=(",", ":"))


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_changed_byte_anywhere_never_yields_a_wrong_checkpoint(
    text: bytes, prefixes: list[Checkpoint], reopened: Callable[[bytes], object], flip: int
) -> None:
    for position in range(len(text)):
        edited = bytearray(text)
        edited[position] ^= flip
        found = reopened(bytes(edited))
        if position == len(text) - 1:
            assert found == prefixes[2], "a last line without its newline is torn"
        else:
            assert isinstance(found, CheckpointDamaged), f"byte {position}"


def test_a_byte_changed_to_a_newline_or_zero_never_yields_a_wrong_checkpoint(text: bytes, prefixes, reopened) -> None:
    for position in range(len(text)):
        for byte in b"\n\0":
            if text[position] != byte:
                found = reopened(text[:position] + bytes([byte]) + text[position + 1 :])
                assert isinstance(found, CheckpointDamaged) or found in prefixes, f"byte {position}"


def test_a_file_truncated_at_any_length_loses_only_parts_at_its_end(text: bytes, prefixes, reopened) -> None:
    ends = [position + 1 for position, byte in enumerate(text) if byte == ord("\n")]
    for length in range(len(text)):
        found = reopened(text[:length])
        whole_lines = sum(end <= length for end in ends)
        if whole_lines:
            assert found == prefixes[whole_lines - 1], f"cut at {length}"
        else:
            assert isinstance(found, CheckpointDamaged), f"cut at {length}"


def test_zeros_at_the_end_are_an_incomplete_line(text: bytes, prefixes, reopened) -> None:
    ends = [position + 1 for position, byte in enumerate(text) if byte == ord("\n")]
    for length in range(ends[0], len(text) + 1):
        found = reopened(text[:length] + bytes(4096))
        assert found == prefixes[sum(end <= length for end in ends) - 1], f"zeros from {length}"


def test_zeros_before_a_valid_line_are_damage(text: bytes, reopened) -> None:
    *lines, last = text.splitlines(keepends=True)
    assert isinstance(reopened(b"".join(lines) + bytes(100) + last), CheckpointDamaged)


@pytest.mark.parametrize("torn", [b"", b"\0", b"\0" * 4096, b"partwise", b"\n", b"\n\n"], ids=repr)
def test_a_file_without_a_complete_first_line_is_damage(reopened, torn: bytes) -> None:
    assert isinstance(reopened(torn), CheckpointDamaged)


def test_reordered_removed_or_duplicated_lines_are_damage(text: bytes, reopened) -> None:
    header, *lines = text.splitlines(keepends=True)
    for edited in (
        [header, lines[1], lines[0], lines[2]],
        [header, lines[0], lines[2]],
        [header, lines[1], lines[2]],
        [header, lines[0], lines[0], lines[1], lines[2]],
        [header, *lines, lines[2]],
        [header, *lines, b"\n"],
        [header, header, *lines],
        [*lines, header],
    ):
        assert isinstance(reopened(b"".join(edited)), CheckpointDamaged)


def test_lines_of_another_checkpoint_are_damage(text: bytes, whole: Checkpoint, reopened) -> None:
    header, *lines = text.splitlines(keepends=True)
    other_header, *other_lines = journal.encode(evolve(whole, upload_id="another")).splitlines(keepends=True)
    for edited in (
        [header, *other_lines],
        [header, *lines, other_lines[-1]],
        [header, lines[0], *other_lines[1:]],
        [other_header, *lines],
    ):
        assert isinstance(reopened(b"".join(edited)), CheckpointDamaged)


def test_the_upload_id_is_reported_if_the_first_line_verifies(text: bytes, whole: Checkpoint, reopened) -> None:
    damage = reopened(text[:-40] + b"?" + text[-39:])
    assert isinstance(damage, CheckpointDamaged)
    assert (damage.upload_id, damage.name) == ("UPLOAD", whole.name)
    damage = reopened(text.replace(b"UPLOAD", b"UPLOAB", 1))
    assert isinstance(damage, CheckpointDamaged)
    assert damage.upload_id is None


def sealed(*bodies: bytes) -> bytes:
    """A file with these lines and valid checksums."""
    before, lines = b"partwise-checkpoint/1 ", []
    for body in bodies:
        before = journal.checksum(before, body)
        lines.append(body + b" " + before.hex().encode() + b"\n")
    return b"partwise-checkpoint/1 " + b"".join(lines)


def test_another_format_is_refused_by_its_number(text: bytes, reopened) -> None:
    damage = reopened(text.replace(b"partwise-checkpoint/1", b"partwise-checkpoint/72", 1))
    assert isinstance(damage, CheckpointDamaged)
    assert "format 72" in damage.message
    assert "format 1" in damage.message


def test_another_version_of_the_fields_is_refused_by_its_number_and_its_upload_id_is_reported(whole, reopened) -> None:
    data = {**whole.to_data(), "version": 7, "something": "new"}
    damage = reopened(sealed(json.dumps(data).encode()))
    assert isinstance(damage, CheckpointDamaged)
    assert "version 7" in damage.message
    assert damage.upload_id == "UPLOAD"


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"[]", b"null", b"5", b'"x"', b"{}", b"{", b"\xff", b'{"version":2}', b'{"version":2,"upload_id":5}'),
        *(b'{"version":1}', b'{"version":1,"upload_id":5}'),
        *(b"[" * 100_000, b"9" * 5000, b'{"version":2,"parts":' + b"[" * 100_000),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_an_invalid_first_line_with_a_valid_checksum_is_damage(reopened, header: bytes) -> None:
    damage = reopened(sealed(header))
    assert isinstance(damage, CheckpointDamaged)
    assert damage.upload_id is None


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b"[0,1,null,null]", b'[1,1,"e"]', b'[0,1,"e",null]'),
        *(b'[1,-1,"e",null]', b'[true,1,"e",null]', b'[1,1,"e",5]', b'[1,1,"e","x"]'),
        b'[1,1,"e","%d"]' % 2**512,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_an_invalid_part_with_a_valid_checksum_is_damage(whole: Checkpoint, reopened, record: bytes) -> None:
    damage = reopened(sealed(journal.header_text(whole).encode(), record))
    assert isinstance(damage, CheckpointDamaged)
    assert damage.upload_id == "UPLOAD"


@given(data=st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"partwise-checkpoint/1 " + rest))
def test_arbitrary_bytes_are_damage(data: bytes) -> None:
    for read in (journal.decode, journal.decode_header):
        with pytest.raises(journal.CorruptJournal):
            read(data)


# --- recognising a checkpoint ----------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_still_looks_like_one(text: bytes) -> None:
    for position in range(len(text)):
        assert journal.looks_like_checkpoint(text[:position])
        assert journal.looks_like_checkpoint(text[:position] + b"?" + text[position + 1 :])
    assert journal.looks_like_checkpoint(bytes(100))


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b\x08", b"[magic]", b"Hello, world", b"\xef\xbb\xbfpartwise-checkpoint/1", b"\n"]
)
def test_a_file_that_never_was_a_checkpoint_does_not_look_like_one(data: bytes) -> None:
    assert not journal.looks_like_checkpoint(data)


@pytest.mark.parametrize(
    ("found", "is_nearly"),
    [
        (b"abcd", True),
        (b"abcX", True),
        (b"abXX", False),
        (b"abcdefgX", True),
        (b"abcdefXX", True),
        (b"abcdeXXX", False),
    ],
)
def test_bytes_are_mostly_equal_if_at_most_one_of_four_differs(found: bytes, is_nearly: bool) -> None:
    """A damaged checkpoint is set aside; a file that never was one is not changed."""
    assert journal.mostly_equal(found, b"abcdefgh"[: len(found)]) is is_nearly
