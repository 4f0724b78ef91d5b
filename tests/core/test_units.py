"""Numbers with their units, in messages."""

from __future__ import annotations

import math

import pytest

from partwise._units import format_bytes, format_count, format_seconds
from partwise.model import GIB, MIB


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (0.5, "0.5 seconds"),
        (1, "1 second"),
        (1.0000001, "1 second"),
        (2.0, "2 seconds"),
        (4e9, "4000000000 seconds"),
        (math.inf, "inf seconds"),
    ],
)
def test_only_one_second_is_singular(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (100 * 1024, "100 KiB"),
        (8 * MIB, "8 MiB"),
        (1536 * MIB, "1.5 GiB (1,610,612,736 bytes)"),
        (8_700_000, "8.3 MiB (8,700,000 bytes)"),
        (5 * GIB, "5 GiB"),
        (5 * GIB + 1, "5.0 GiB (5,368,709,121 bytes)"),
        (2**40 - 1, "1024.0 GiB (1,099,511,627,775 bytes)"),
        (2**52, "4,096 TiB"),
    ],
)
def test_a_size_is_readable_and_exact(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 parts"), (1, "1 part"), (2, "2 parts"), (12_000, "12000 parts")])
def test_only_one_thing_is_singular(number: int, text: str) -> None:
    assert format_count(number, "part") == text
