"""Independent ways to compute what is right, sharing no code with the checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache, lru_cache
from types import MappingProxyType

from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.checksums import Checksum

__all__ = ["in_order", "slow_checksum", "slow_crc64"]

# The reflected polynomials, without their highest term.
_CRCS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "crc64xz": (64, 0xC96C5795D7870F42),
        "crc64nvme": (64, 0x9A6C9329AC4BC9B5),
        "crc32c": (32, 0x82F63B78),
        "crc32": (32, 0xEDB88320),
    }
)
_DIGESTS = ("md5", "sha1", "sha256")


def slow_crc64(data: bytes) -> int:
    """Return the CRC-64/XZ, computed from its definition; a few MiB per second."""
    return _slow_crc("crc64xz", data)


def slow_checksum(checksum: Checksum, data: bytes) -> int:
    """
    Return the checksum of `data` by this algorithm.

    A CRC takes about a second for 5 MiB. An algorithm that is not one of `partwise.checksums` computes it itself.
    """
    if checksum.name in _CRCS:
        return _slow_crc(checksum.name, data)
    if checksum.name in _DIGESTS:
        return int.from_bytes(hashlib.new(checksum.name, data, usedforsecurity=False).digest(), "big")
    return checksum.compute(data)


#: State machines need the CRCs of a few contents again after every step; those of at most 64 KiB are kept.
_KEPT_MAX = 64 * 1024


def _slow_crc(name: str, data: bytes) -> int:
    return _kept_crc(name, bytes(data)) if len(data) <= _KEPT_MAX else _computed_crc(name, data)


@lru_cache(maxsize=64)
def _kept_crc(name: str, data: bytes) -> int:
    return _computed_crc(name, data)


def _computed_crc(name: str, data: bytes) -> int:
    width, polynomial = _CRCS[name]
    ones = (1 << width) - 1
    remainders = _remainders(polynomial)
    remainder = ones
    for byte in data:
        remainder = remainders[(remainder ^ byte) & 0xFF] ^ (remainder >> 8)
    return remainder ^ ones


@cache
def _remainders(polynomial: int) -> tuple[int, ...]:
    """Return the remainder of each byte, bit by bit as a CRC is defined."""
    remainders = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (polynomial if remainder & 1 else 0)
        remainders.append(remainder)
    return tuple(remainders)


def in_order(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its parts in order, which stores need not keep."""
    return evolve(checkpoint, parts=sorted(checkpoint.parts, key=lambda part: part.part_number))
