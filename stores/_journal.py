r"""
The text form of a checkpoint: lines that verify themselves.

Pure: bytes in, values out.

    partwise-checkpoint/1 {"version":2,"location":...} CHECKSUM      the checkpoint without its parts
    [1,8388608,"etag","1234567890"] CHECKSUM                         one line for each part
    [2,...

CHECKSUM is BLAKE2b of 8 bytes, in hexadecimal, over the checksum of the line before and the text of this line; the
first line uses its mark in place of a line before. So an edit anywhere is detected, as is a line that was removed,
moved, or copied from another checkpoint. It protects against accidents, not against forgery.

A killed process or a power loss leaves an incomplete line or zero bytes at the end, without a newline after them. That
part was never acknowledged, and is ignored. The first line is written together with the file, so it can't be
incomplete.

The text is plain ASCII: paths and keys come back unchanged, lone surrogates included.

A file and a line have a maximum size (`BYTES_MAX`, `LINE_MAX`), far beyond those of any upload. Anything larger is
damage, and is not read to its end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

from attrs import define, evolve

from partwise.checkpoint import Checkpoint, checkpoint_name
from partwise.errors import CheckpointDamaged, CheckpointUnwritable
from partwise.model import MIB, UploadedPart

#: The version of the lines. The fields have a version, too: see `partwise.checkpoint`.
FORMAT = 1

#: The maximum size of a file in bytes: enough for 100,000 parts (the most that are read), each written several times.
BYTES_MAX = 64 * MIB

#: The maximum length of a line in bytes. A part needs about a hundred; a header has a key, a path, and some options.
LINE_MAX = MIB

_NAME = b"partwise-checkpoint/"
_MARK = _NAME + b"%d " % FORMAT
_DIGEST_BYTES = 8
_END_CHARS = 1 + 2 * _DIGEST_BYTES  # a space and the checksum

_to_text = json.JSONEncoder(separators=(",", ":")).encode


@define(frozen=True)
class Journal:
    """The content of a file."""

    checkpoint: Checkpoint
    length: int  # the number of bytes up to the end of the last complete line
    digest: bytes  # the checksum of that line, to which the next one is chained


class CorruptJournal(Exception):
    """
    The stored text can't be trusted. Stores translate it to a CheckpointDamaged.

    Args:
        reason: why, a clause whose subject is "it".
        header: the checkpoint without parts, if that could be verified.
        upload_id: the upload's id, if known; it may be known where the rest of the header can't be read.
        name: the name of the checkpoint, if known.
    """

    def __init__(
        self, reason: str, *, header: Checkpoint | None = None, upload_id: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.header = header
        self.upload_id = upload_id if header is None else header.upload_id
        self.name = name if header is None else header.name


# --- writing ---------------------------------------------------------------------------------------------------------

#: The fields that make up the name of a checkpoint.
_IDENTITY = ("location", "key", "source")


def header_text(checkpoint: Checkpoint) -> str:
    """
    Return the checkpoint without its parts as one line of JSON.

    Raises:
        CheckpointUnwritable: it is longer than `decode` accepts.
    """
    text = _to_text(evolve(checkpoint, parts=()).to_data())
    if len(text) > LINE_MAX - len(_MARK) - _END_CHARS:
        raise CheckpointUnwritable(
            f"the checkpoint can't be written: its names and options have {len(text):,} bytes, and the maximum is"
            f" {LINE_MAX:,}",
            name=checkpoint.name,
            hint="Use a shorter key, path or metadata",
        )
    return text


def part_text(part: UploadedPart) -> str:
    """Return the data of a part (`UploadedPart.to_data`) as one line of JSON."""
    # Not by the encoder, which takes longer for four values than everything else that recording a part needs.
    crc64 = "null" if part.checksum is None else f'"{part.checksum}"'
    return f"[{part.part_number},{part.size},{_to_text(part.etag)},{crc64}]"


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the whole file for a checkpoint."""
    body = header_text(checkpoint).encode()
    digest = checksum(_MARK, body)
    lines = [_MARK + _line(body, digest)]
    for part in checkpoint.parts:
        line, digest = encode_part(digest, part)
        lines.append(line)
    return b"".join(lines)


def encode_part(digest: bytes, part: UploadedPart) -> tuple[bytes, bytes]:
    """
    Return the line of a part, and the line's own checksum.

    It follows a line with the checksum `digest`.
    """
    body = part_text(part).encode()
    digest = checksum(digest, body)
    return _line(body, digest), digest


def _line(body: bytes, digest: bytes) -> bytes:
    return b"%b %b\n" % (body, digest.hex().encode())


def checksum(before: bytes, body: bytes) -> bytes:
    """Return the checksum of `body`, chained to `before`."""
    return blake2b(before + body, digest_size=_DIGEST_BYTES).digest()


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Journal:
    """Read a file, without an incomplete end; raise CorruptJournal if it is damaged."""
    lines = _Lines(data)
    return Journal(with_parts(lines.header, lines), lines.length, lines.digest)


def verify(data: bytes) -> Journal:
    """Verify all lines; return the checkpoint without parts, or raise CorruptJournal."""
    lines = _Lines(data)
    for _ in lines:
        pass
    return Journal(lines.header, lines.length, lines.digest)


class _Lines:
    """
    The lines of a file, to be iterated over once.

    Each yields its text, after it was verified.

    Args:
        data: the file.

    Raises:
        CorruptJournal: the first line can't be read; or, during the iteration, a line does not verify.
    """

    def __init__(self, data: bytes) -> None:
        first = _first_line(data)
        self.header, self.digest = _decode_header(first)
        if len(data) > BYTES_MAX:
            raise CorruptJournal(f"it is larger than the maximum of {BYTES_MAX // MIB} MiB", header=self.header)
        self.length = len(first) + 1
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        data, number = self._data, 1
        while (end := data.find(b"\n", self.length)) >= 0:
            number += 1
            if end - self.length > LINE_MAX:
                raise CorruptJournal(f"line {number} is longer than {LINE_MAX:,} bytes", header=self.header)
            line = data[self.length : end + 1]
            body = line[: -_END_CHARS - 1]
            digest = checksum(self.digest, body)
            if line != _line(body, digest):
                raise CorruptJournal(f"line {number} does not match its checksum", header=self.header)
            self.digest, self.length = digest, end + 1
            yield body


def decode_header(data: bytes) -> Checkpoint:
    """Verify the first line alone; return its checkpoint, or raise CorruptJournal."""
    return _decode_header(_first_line(data))[0]


def _first_line(data: bytes) -> bytes:
    end = data.find(b"\n", 0, LINE_MAX + 1)
    if end < 0 and len(data) > LINE_MAX:
        raise CorruptJournal(f"its first line is longer than {LINE_MAX:,} bytes")
    if end < 0:
        raise CorruptJournal("its first line is incomplete" if data else "it is empty")
    return data[:end]


def with_parts(header: Checkpoint, records: Iterable[bytes]) -> Checkpoint:
    """
    Return the checkpoint with the parts in these records.

    A later record of a part number replaces an earlier one.

    Raises:
        CorruptJournal: one of them is not a part.
    """
    parts = {}
    for record in records:
        try:
            part = UploadedPart.from_data(_from_text(record))
        except (CheckpointDamaged, ValueError) as error:
            raise CorruptJournal(f"a part can't be read: {error}", header=header) from error
        parts[part.part_number] = part
    return evolve(header, parts=tuple(parts.values()))


def header_from_text(body: bytes) -> Checkpoint:
    """Read the text that `header_text` returned; raise CorruptJournal if that fails."""
    data: Any = None
    try:
        data = _from_text(body)
        return Checkpoint.from_data(data)
    except (CheckpointDamaged, ValueError) as error:
        fields = data if isinstance(data, dict) else {}
        upload_id = fields.get("upload_id")
        identity = [found for name in _IDENTITY if isinstance(found := fields.get(name), str)]
        raise CorruptJournal(
            error.message if isinstance(error, CheckpointDamaged) else str(error),
            upload_id=upload_id if isinstance(upload_id, str) else None,
            name=checkpoint_name(*identity) if len(identity) == len(_IDENTITY) else None,
        ) from error


def looks_like_checkpoint(data: bytes) -> bool:
    """
    Return whether a file with this beginning may have been a checkpoint.

    It may if it starts nearly like one. Any other file was probably named by mistake, and must not be changed, unless
    it is empty or has zeros only.
    """
    return mostly_equal(data.strip(b"\0")[: len(_NAME)], _NAME)


def mostly_equal(found: bytes, expected: bytes) -> bool:
    """
    Return whether three of four bytes are equal.

    A few damaged bytes do not matter.
    """
    return 4 * sum(left == right for left, right in zip(found, expected, strict=False)) >= 3 * len(found)


def _decode_header(line: bytes) -> tuple[Checkpoint, bytes]:
    if not line.startswith(_MARK):
        other = re.match(re.escape(_NAME) + rb"([0-9]{1,9}) ", line)
        raise CorruptJournal(
            f"it has format {int(other[1])}, and this version of partwise reads format {FORMAT}"
            if other
            else "it does not start like a checkpoint of partwise"
        )
    body = line[len(_MARK) : -_END_CHARS]
    digest = checksum(_MARK, body)
    if line + b"\n" != _MARK + _line(body, digest):
        raise CorruptJournal("its first line does not match its checksum")
    return header_from_text(body), digest


def _from_text(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
