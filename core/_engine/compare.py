"""
Decide whether a source is what the storage has under a key.

No function here does I/O.
"""

from __future__ import annotations

from partwise._units import format_count
from partwise.checksums import Checksum
from partwise.model import StoredObject
from partwise.results import Verification


def needs_reading(size: int | None, stored: StoredObject | None) -> bool:
    """
    Return whether the bytes of a source have to be read to compare it.

    Args:
        size: its size in bytes; None: not known before it was read.
        stored: the object; None if there is none.
    """
    if stored is None:
        return False
    return size is None or (size == stored.size and stored.checksum is not None)


def compare(
    key: str, size: int | None, checksum: int | None, stored: StoredObject | None, algorithm: Checksum
) -> Verification:
    """
    Compare a source with an object.

    Args:
        key: the key of the object.
        size: the size of the source in bytes; None: it has more than the object, or there is no object.
        checksum: that of its bytes; None: they were not read, since `needs_reading` said so, or the size differs.
        stored: the object; None if there is none.
        algorithm: that of both checksums.
    """
    equal, reason = _verdict(size, checksum, stored, algorithm)
    return Verification(
        key=key,
        equal=equal,
        reason=reason,
        size=size,
        checksum=checksum,
        checksum_algorithm=algorithm.name,
        stored=stored,
    )


def _verdict(
    size: int | None, checksum: int | None, stored: StoredObject | None, algorithm: Checksum
) -> tuple[bool | None, str]:
    if stored is None:
        return False, "no object is stored under the key"
    if size is None:
        return False, f"the source has more than the {format_count(stored.size, 'byte')} of the object"
    exact = format_count(size, "byte")
    if size != stored.size:
        return False, f"the source has {exact}, the object {stored.size}"
    if stored.checksum is None:
        return None, f"both have {exact}, and the storage reports no checksum of the object to compare"
    if checksum != stored.checksum:
        return False, f"the source has the {algorithm.name} {checksum}, the object {stored.checksum}"
    return True, f"both have {exact} and the {algorithm.name} {checksum}"
