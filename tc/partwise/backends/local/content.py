"""Write the bytes of parts and objects to new files."""

from __future__ import annotations

from collections.abc import Sequence
from io import FileIO

from partwise import _durable
from partwise.backends.local.errors import translate_os_errors
from partwise.backends.local.files import BLOCK, append_copy, etag_of
from partwise.backends.local.upload_folder import UploadFolder, part_name
from partwise.bodies import exact_chunks
from partwise.checksums import crc64, crc64_combine
from partwise.errors import PartRejected
from partwise.model import UploadedPart
from partwise.protocols import Body


def write_body(body: Body, what: str, file: FileIO, translating: translate_os_errors) -> int:
    """
    Write a body to a file and return the checksum of its bytes.

    Raises:
        IntegrityError: the body has fewer bytes than it promised, or more.
        and what the body raises, unchanged.
    """
    checksum = 0
    for chunk in exact_chunks(body, what):
        with translating:
            _durable.write(file.fileno(), chunk)
        checksum = crc64(chunk, checksum)
    return checksum


def assemble(key: str, folder: UploadFolder, parts: Sequence[UploadedPart], target: FileIO) -> int:
    """
    Append the parts to a new file, and return the checksum of the bytes in it.

    Raises:
        PartRejected: the stored bytes of a part have changed. All parts are read before this is raised, because what
            damages one part, such as a power loss, may damage many.
    """
    checksum = 0
    damaged = []
    buffer = memoryview(bytearray(BLOCK))
    with folder.open_parts() as directory:
        for part in parts:
            name = part_name(part.part_number)
            with directory.open_trusted_file(name) as source:
                size, part_checksum = append_copy(source, target, part.size, buffer)
            if (size, etag_of(part_checksum)) != (part.size, part.etag):
                # If it stayed listed, the next run would rely on it again.
                directory.discard(name)
                damaged.append(part.part_number)
            checksum = crc64_combine(checksum, part_checksum, part.size)
    if damaged:
        several = f"{len(damaged)} parts, the first of which is part {damaged[0]}, are"
        which = f"part {damaged[0]} is" if len(damaged) == 1 else several
        raise PartRejected(
            f"{key!r} can't be completed: {which} damaged on the disk. Damaged parts were removed and must be sent"
            " again; the other parts are kept",
            code="InvalidPart",
        )
    return checksum
