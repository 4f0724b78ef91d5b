r"""
How a checkpoint is written down: lines of text that verify themselves. Pure: bytes in, values out.

    partwise-checkpoint/1 {"version":1,"location":...} CHECKSUM      the checkpoint without its parts
    [1,8388608,"etag","1234567890"] CHECKSUM                         one line a part
    [2,...

CHECKSUM is BLAKE2b of 8 bytes, in hexadecimal, over the checksum of the line before and the text of this one; the
first line takes the mark that it begins with in place of a line before. So an edit anywhere is seen, and so is a line
that was dropped, moved, or taken from another checkpoint. It guards against accidents, not against a forger.

What the death of a process or the loss of power leaves at the end is told from damage: part of a line, or bytes of
zero, without a newline after them. That was never acknowledged, and is left out. The first line is written together
with the file, so it can't be torn.

The text is plain ASCII: whatever a path or a key is made of, lone surrogates too, comes back as it was.

A file and a line have a largest size (`BYTES_MAX`, `LINE_MAX`), far beyond those of any upload. What is larger is
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
from partwise.stores._checks import nearly

FORMAT = 1

#: The largest file, in bytes: room for 100,000 receipts (the most that can be read), each written several times.
BYTES_MAX = 64 * MIB

#: The longest line, in bytes. A receipt has about a hundred; a header has a key, a path, and some options.
LINE_MAX = MIB

_NAME = b"partwise-checkpoint/"
_MARK = _NAME + b"%d " % FORMAT
_DIGEST_BYTES = 8
_END_CHARS = 1 + 2 * _DIGEST_BYTES  # a space and the checksum

_to_text = json.JSONEncoder(separators=(",", ":")).encode


@define(frozen=True)
class Journal:
    """
    What a file says.

    Args:
        checkpoint: the checkpoint with all its parts.
        length: the bytes up to the end of the last good line. What follows is torn.
        digest: the checksum of that line, which the next one is chained to.
    """

    checkpoint: Checkpoint
    length: int
    digest: bytes


class CorruptJournal(Exception):
    """
    What was read can't be trusted. It never leaves the stores, which make a CheckpointDamaged of it.

    Args:
        reason: why, to follow on "it is damaged: ".
        header: the checkpoint without parts, if that much of it could be verified.
        upload_id: likewise; it may be known where the rest of the header can't be read.
        name: the name of the checkpoint, if that much is known.
    """

    def __init__(
        self,
        reason: str,
        *,
        header: Checkpoint | None = None,
        upload_id: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.header = header
        self.upload_id = upload_id if header is None else header.upload_id
        self.name = name if header is None else header.name


# --- writing ---------------------------------------------------------------------------------------------------------

#: The fields by which a checkpoint is named.
_IDENTITY = ("location", "key", "source")


def header_text(checkpoint: Checkpoint) -> str:
    """
    The checkpoint without its parts, as one line of JSON.

    Raises:
        CheckpointUnwritable: it is longer than what `decode` reads.
    """
    text = _to_text(evolve(checkpoint, parts=()).to_data())
    if len(text) > LINE_MAX - len(_MARK) - _END_CHARS:
        raise CheckpointUnwritable(
            f"the checkpoint can't be written: its names and options have {len(text):,} bytes, and {LINE_MAX:,} are "
            "the most; use shorter ones",
            name=checkpoint.name,
        )
    return text


def part_text(part: UploadedPart) -> str:
    """A receipt as one line of JSON: what `UploadedPart.to_data` makes of it."""
    # By hand: the encoder takes longer for four values than all else does that recording a part takes.
    crc64 = "null" if part.crc64 is None else f'"{part.crc64}"'
    return f"[{part.part_number},{part.size},{_to_text(part.etag)},{crc64}]"


def encode(checkpoint: Checkpoint) -> bytes:
    """The whole file for a checkpoint."""
    body = header_text(checkpoint).encode()
    digest = checksum(_MARK, body)
    lines = [_MARK + _line(body, digest)]
    for part in checkpoint.parts:
        line, digest = encode_part(digest, part)
        lines.append(line)
    return b"".join(lines)


def encode_part(digest: bytes, part: UploadedPart) -> tuple[bytes, bytes]:
    """The line that adds a part after the line whose checksum is `digest`, and the checksum of that line."""
    body = part_text(part).encode()
    digest = checksum(digest, body)
    return _line(body, digest), digest


def _line(body: bytes, digest: bytes) -> bytes:
    return b"%b %b\n" % (body, digest.hex().encode())


def checksum(before: bytes, body: bytes) -> bytes:
    """The checksum of `body` where `before` came before it."""
    return blake2b(before + body, digest_size=_DIGEST_BYTES).digest()


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Journal:
    """
    What a file says, its torn end left out.

    Raises:
        CorruptJournal: it does not verify.
    """
    lines = _Lines(data)
    return Journal(with_parts(lines.header, lines), lines.length, lines.digest)


def decode_end(data: bytes) -> Journal:
    """
    As `decode`, but all lines are verified and only the first one is read: the checkpoint is without its parts.

    Raises:
        CorruptJournal: it does not verify.
    """
    lines = _Lines(data)
    for _ in lines:
        pass
    return Journal(lines.header, lines.length, lines.digest)


class _Lines:
    """
    The lines of a file, to be iterated over once: each gives its text, after it was verified.

    Args:
        data: the file.

    Raises:
        CorruptJournal: the first line can't be read; and while it is iterated over, a line does not verify.
    """

    def __init__(self, data: bytes) -> None:
        first = _first_line(data)
        self.header, self.digest = _decode_header(first)
        if len(data) > BYTES_MAX:
            raise CorruptJournal(f"it is larger than {BYTES_MAX // MIB} MiB, the most there can be", header=self.header)
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
    """
    The checkpoint without its parts, from a file's bytes, whatever follows the first line.

    Raises:
        CorruptJournal: the first line does not verify.
    """
    return _decode_header(_first_line(data))[0]


def _first_line(data: bytes) -> bytes:
    end = data.find(b"\n", 0, LINE_MAX + 1)
    if end < 0 and len(data) > LINE_MAX:
        raise CorruptJournal(f"its first line is longer than {LINE_MAX:,} bytes")
    if end < 0:
        raise CorruptJournal("it is cut off within its first line" if data else "it is empty")
    return data[:end]


def with_parts(header: Checkpoint, records: Iterable[bytes]) -> Checkpoint:
    """
    The checkpoint with the parts that these texts are the receipts of. A later receipt of a number replaces an earlier.

    Raises:
        CorruptJournal: one of them is no receipt.
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
    """
    The checkpoint that `header_text` made a text of.

    Raises:
        CorruptJournal: it can't be read, as when a newer version wrote it.
    """
    data: Any = None
    try:
        data = _from_text(body)
        return Checkpoint.from_data(data)
    except (CheckpointDamaged, ValueError) as error:
        fields = data if isinstance(data, dict) else {}
        upload_id = fields.get("upload_id")
        identity = [found for name in _IDENTITY if isinstance(found := fields.get(name), str)]
        raise CorruptJournal(
            str(error),
            upload_id=upload_id if isinstance(upload_id, str) else None,
            name=checkpoint_name(*identity) if len(identity) == len(_IDENTITY) else None,
        ) from error


def resembles(data: bytes) -> bool:
    """
    Whether a file may have been a checkpoint once: it begins nearly as one does, or holds nothing.

    What does not is somebody's file, named by mistake, and is left alone.
    """
    return nearly(data.strip(b"\0")[: len(_NAME)], _NAME)


def _decode_header(line: bytes) -> tuple[Checkpoint, bytes]:
    if not line.startswith(_MARK):
        other = re.match(re.escape(_NAME) + rb"([0-9]{1,9}) ", line)
        raise CorruptJournal(
            f"it is of format {int(other[1])}, and this version of partwise reads format {FORMAT}"
            if other
            else "it does not begin as a checkpoint of partwise does"
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
