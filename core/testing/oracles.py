"""Independent ways to compute what is right, sharing no code with the checked."""

from __future__ import annotations

from attrs import evolve

from partwise.checkpoint import Checkpoint

__all__ = ["in_order", "slow_crc64"]


def slow_crc64(data: bytes) -> int:
    """Return the CRC-64/XZ, bit by bit as it is defined; about 100 KiB per second."""
    remainder = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xC96C5795D7870F42 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFFFFFFFFFF


def in_order(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its parts in order, which stores need not keep."""
    return evolve(checkpoint, parts=sorted(checkpoint.parts, key=lambda part: part.part_number))
