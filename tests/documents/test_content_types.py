"""The table of content types is that of the code."""

from __future__ import annotations

import re

from partwise.content_types import _COMPRESSED, _PINNED, guess_content_type


def test_the_content_types_of_compressed_files_are_documented(section, tables) -> None:
    _, rows = tables(section("reference/api", "Object properties"))
    documented = {
        ending: row["content type"].strip("`") for row in rows for ending in re.findall(r"`(\.[\w.]+)`", row["ending"])
    }

    assert documented == {ending: guess_content_type(f"a{ending}") for ending in documented}
    assert {*_COMPRESSED, *_PINNED} - set(documented) == set()
