"""CRC-64 and its combination against the values that the official clients compute."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from partwise.checksums import crc64, crc64_combine, crc64_fold

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "oss" / "crc64.json").read_text(encoding="utf-8"))


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in VECTORS[name]]


def test_the_check_value_is_that_of_crc_64_xz():
    assert int(VECTORS["algorithm"]["check"], 16) == crc64(b"123456789")
    assert VECTORS["algorithm"]["check_decimal"] == str(crc64(b"123456789"))


@pytest.mark.parametrize("case", cases("crc"))
def test_crc64_of_known_bytes(kit, case: dict[str, Any]):
    data = kit.generated(case["bytes"])
    assert (case["length"], case["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert case["crc64"] == str(crc64(data))


@pytest.mark.parametrize("case", cases("crc"))
def test_crc64_continued_from_any_position(kit, case: dict[str, Any]):
    data = kit.generated(case["bytes"])
    for cut in {0, 1, len(data) // 3, len(data)}:
        assert case["crc64"] == str(crc64(data[cut:], crc64(data[:cut])))


@pytest.mark.parametrize("case", cases("combine"))
def test_combining_two_checksums(kit, case: dict[str, Any]):
    first, second = kit.generated(case["first"]), kit.generated(case["second"])
    assert (case["crc_first"], case["crc_second"]) == (str(crc64(first)), str(crc64(second)))
    assert case["len_second"] == len(second)
    assert case["combined"] == str(crc64_combine(crc64(first), crc64(second), len(second)))
    assert case["combined"] == str(crc64(first + second))


@pytest.mark.parametrize("case", cases("combine_lengths_only"))
def test_combining_checksums_of_very_long_data(case: dict[str, Any]):
    combined = crc64_combine(int(case["crc_first"]), int(case["crc_second"]), case["len_second"])
    assert case["combined"] == str(combined)


def test_folding_the_checksums_of_parts(kit):
    fold, total = VECTORS["fold"], 0
    for step in fold["steps"]:
        data = kit.generated(step["part"])
        assert (step["size"], step["crc64"]) == (len(data), str(crc64(data)))
        total = crc64_combine(total, int(step["crc64"]), step["size"])
        assert step["running"] == str(total)
    assert fold["object_crc64"] == str(crc64_fold((int(step["crc64"]), step["size"]) for step in fold["steps"]))
