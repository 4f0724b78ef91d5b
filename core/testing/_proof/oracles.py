"""Independent ways to know what is right: they share no code with what they bear witness about."""

from __future__ import annotations

from attrs import evolve

from partwise.checkpoint import Checkpoint


def slow_crc64(data: bytes) -> int:
    """The CRC-64/XZ of `data`, bit by bit as the definition has it; some 100 KiB a second."""
    remainder = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xC96C5795D7870F42 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFFFFFFFFFF


def in_order(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its parts by ascending number: their order means nothing, and is not compared."""
    return evolve(checkpoint, parts=sorted(checkpoint.parts, key=lambda part: part.part_number))
