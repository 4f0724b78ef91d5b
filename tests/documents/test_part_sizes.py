"""The tables of part sizes are what is planned."""

from __future__ import annotations

from itertools import pairwise

import pytest

from partwise._engine.plan import LONG_LINE_PARTS, LONG_LINE_SECONDS, PREFERRED_PART_SIZE, plan_parts
from partwise.backends.oss.backend import LIMITS
from partwise.config import TransferConfig
from partwise.model import GIB, MIB, TIB

UNITS = {"MiB": MIB, "GiB": GIB, "TiB": TIB}


def in_bytes(text: str) -> float:
    amount, unit = text.split()
    return float(amount) * UNITS[unit]


@pytest.fixture
def rows(page, tables):
    """The rows of a table of the page, by the heading that it is under."""
    auto, stream = tables(page("part-size"))
    return {"auto": auto, "stream": stream}


def test_the_table_is_what_auto_picks(rows) -> None:
    for row in rows["auto"]:
        plan = plan_parts(int(in_bytes(row["object"])), LIMITS)
        assert plan.part_size == in_bytes(row["part size"]), row
        assert plan.parts_total == int(row["parts"].replace(",", "")), row
        far = plan_parts(int(in_bytes(row["object"])), LIMITS, latency=LONG_LINE_SECONDS)
        assert far.part_size == in_bytes(row["on a long line"]), row
        assert far.parts_total == int(row["parts then"].replace(",", "")), row
    assert len(rows["auto"]) >= 8


def test_a_smaller_part_size_is_not_enough_if_auto_exceeds_its_preference(rows) -> None:
    larger = [row for row in rows["auto"] if in_bytes(row["part size"]) > PREFERRED_PART_SIZE]
    for row in larger:
        assert -(-in_bytes(row["object"]) // (in_bytes(row["part size"]) - MIB)) > LIMITS.max_parts
    assert larger


def test_the_figures_in_the_text_are_right(page) -> None:
    text = " ".join(page("part-size").split())
    assert f"**{PREFERRED_PART_SIZE // MIB} MiB**" in text
    assert f"`multipart_threshold` ({TransferConfig().multipart_threshold // MIB} MiB)" in text
    assert f"up to {PREFERRED_PART_SIZE * LIMITS.max_parts / GIB:.1f} GiB" in text
    assert f"objects of up to {LIMITS.max_object_size / TIB:.1f} TiB" in text
    assert f"at most {LIMITS.max_parts:,} of them" in text
    assert f"starts the upload takes {LONG_LINE_SECONDS * 1000:.0f} ms or more" in text
    assert f"for which {LONG_LINE_PARTS:,} parts suffice" in text
    assert f"[{TransferConfig().concurrency_max} parts in flight]" in text


def test_the_table_of_streams_is_what_is_planned(rows) -> None:
    plan = plan_parts(None, LIMITS)
    for row in rows["stream"]:
        first, last = (int(number.replace(",", "")) for number in row["parts"].split(" to "))
        size = in_bytes(row["size of each"])
        assert (plan.part(first).size, plan.part(last).size) == (size, size)
        end = plan.part(last).offset + size
        unit = row["total bytes"].split()[1]
        assert f"{end / UNITS[unit]:.1f} {unit}" == row["total bytes"]
    for before, after in pairwise(rows["stream"][:4]):
        assert 2 * in_bytes(before["size of each"]) == in_bytes(after["size of each"])
