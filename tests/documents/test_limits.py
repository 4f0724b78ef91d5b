"""The limits of each storage are those of its backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from partwise.backends.local import LocalBackend
from partwise.backends.oss import Credentials, OSSBackend
from partwise.backends.s3 import DIALECTS, S3Backend
from partwise.backends.s3 import Credentials as S3Credentials
from partwise.config import TransferConfig
from partwise.model import GIB, KIB, MIB, TIB, Capabilities, PartLimits

Row = dict[str, str]

UNITS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
CHECKSUMS = {"CRC-64/XZ": "crc64xz", "CRC-64/NVME": "crc64nvme", "CRC-32C": "crc32c"}


@pytest.fixture
def tested(tmp_path: Path) -> dict[str, tuple[PartLimits, Capabilities]]:
    """What the backends say, by the name in the first column."""
    found: dict[str, tuple[PartLimits, Capabilities]] = {}
    with OSSBackend("examplebucket", region="cn-hangzhou", credentials=Credentials("id", "secret")) as oss:
        found["oss://"] = oss.limits, oss.capabilities
    for name, dialect in DIALECTS.items():
        credentials, endpoint = S3Credentials("id", "secret"), "https://storage.example.com"
        with S3Backend("examplebucket", endpoint=endpoint, region="r", dialect=dialect, credentials=credentials) as s3:
            found[name] = s3.limits, s3.capabilities
    local = LocalBackend(tmp_path)
    found["file:"] = local.limits, local.capabilities
    return found


@pytest.fixture
def rows(
    section: Callable[[str, str], str], tables: Callable[[str], list[list[Row]]], names: Callable[[str], list[str]]
) -> Callable[[str], Iterator[tuple[str, Row]]]:
    """The rows of the table under a heading, by storage."""

    def of(heading: str) -> Iterator[tuple[str, Row]]:
        [table] = tables(section("limits", heading))
        return ((names(row["storage"])[0], row) for row in table)

    return of


def check_size(shown: str, size: int) -> None:
    """A size is exact, or rounded down to one decimal."""
    amount, unit = shown.split()
    assert 0 <= size - float(amount) * UNITS[unit] < ((0.1 if "." in amount else 0) * UNITS[unit] or 1)


def test_every_storage_has_its_sizes(
    rows: Callable[[str], Iterator[tuple[str, Row]]], tested: dict[str, tuple[PartLimits, Capabilities]]
) -> None:
    shown = dict(rows("Of each storage"))

    assert shown.keys() == tested.keys()
    for name, row in shown.items():
        limits, _ = tested[name]
        check_size(row["smallest part"], limits.min_part_size)
        check_size(row["largest part"], limits.max_part_size)
        check_size(row["largest object"], limits.max_object_size)
        check_size(row["in one request"], limits.max_put_size)
        assert int(row["parts"].replace(",", "")) == limits.max_parts


def test_every_storage_has_what_it_can_do(
    rows: Callable[[str], Iterator[tuple[str, Row]]], tested: dict[str, tuple[PartLimits, Capabilities]]
) -> None:
    shown = dict(rows("What each can do"))

    assert shown.keys() == tested.keys()
    for name, row in shown.items():
        _, capabilities = tested[name]
        assert (row["all parts of one size"] == "yes") == capabilities.equal_part_sizes, name
        assert (row["`uploads`, `gc`"] == "yes") == capabilities.lists_uploads, name
        assert (row["`forbid_overwrite`"] == "yes") == ("forbid_overwrite" in capabilities.options), name
        checksums = [CHECKSUMS[word] for word in row["checksum of the object"].split(", ") if word != "none"]
        if name in DIALECTS:
            assert checksums == [checksum.name for checksum in DIALECTS[name].checksums]
        else:
            assert checksums == [capabilities.checksum.name]


def test_the_limits_of_partwise_are_those_of_the_code(section: Callable[[str, str], str]) -> None:
    text = section("limits", "Of partwise")

    assert f"| {TransferConfig().concurrency_max} by itself" in text
    TransferConfig(concurrency=1000)
    with pytest.raises(ValueError, match="concurrency"):
        TransferConfig(concurrency=1001)
