"""The page about security names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_page_names_are_there(section) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", section("security", "How it is tested"))

    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
