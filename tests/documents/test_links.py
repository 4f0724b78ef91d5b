"""Every link between the documents has a target: a file, and a heading in it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@cache
def anchors(text: str) -> set[str]:
    """The anchors of a document, as GitHub and the site make them of its headings up to the third level."""
    found: set[str] = set()
    tokens = MarkdownIt().parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.tag in ("h1", "h2", "h3"):
            words = "".join(child.content for child in inline.children or [])
            anchor = base = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            number = 0
            while anchor in found:
                number += 1
                anchor = f"{base}-{number}"
            found.add(anchor)
    return found


def included(path: Path) -> str:
    """A document with those that it includes."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"^```\{include\} (\S+)$", text, re.MULTILINE):
        text += (path.parent / name).read_text(encoding="utf-8")
    return text


def links(tokens: list[Token]) -> Iterator[str]:
    """What a document links to, and the pictures that it shows."""
    for token in tokens:
        yield from (str(value) for name, value in token.attrs.items() if name in ("href", "src"))
        yield from links(token.children or [])


def dead(path: Path, text: str) -> list[str]:
    """The links of a document whose target is not in the repository."""
    found = []
    for link in links(MarkdownIt().enable("table").parse(text)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if re.match(r"[a-z]+:", link):
            continue
        if not (target.is_relative_to(ROOT) and target.exists()):
            found.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(included(target)):
            found.append(f"{link}: no such heading")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_link_has_a_target(document: Path) -> None:
    assert dead(document, document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("no-such-file.md", "file"),
        ("install.md#no-such-heading", "heading"),
        ("#no-such-heading", "heading"),
        ("../../outside.md", "file"),
    ],
)
def test_a_dead_link_is_found(link: str, why: str) -> None:
    assert dead(ROOT / "docs" / "oss.md", f"| a |\n|---|\n| [there]({link}) |\n") == [f"{link}: no such {why}"]


def test_a_link_that_has_a_target_is_not() -> None:
    text = (
        "[a](install.md#extras) [b](#options) [c](../README.md) [d](https://example.com/x#y) ![e](pictures/status.svg)"
    )
    assert dead(ROOT / "docs" / "oss.md", text) == []


def test_no_document_names_an_address_of_the_project() -> None:
    """It has none yet. Links stay relative until it has."""
    hosts = r"https?://(?:www\.)?(?:github|gitlab|pypi|readthedocs)\b[^)\s]*partwise|img\.shields\.io"
    assert [path.name for path in DOCUMENTS if re.search(hosts, path.read_text(encoding="utf-8"))] == []


def test_the_front_page_has_six_links() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [link for link in links(MarkdownIt().enable("table").parse(text)) if not link.endswith(".svg")]
    assert len(found) == 6


# --- the links of the site ---


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_links", ROOT / "docs" / "links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("link", "is_dead"),
    [
        ("other.html", False),
        ("other.html#here", False),
        ("#top", False),
        ("#", False),
        ("https://example.com/#x", False),
        ("missing.html", True),
        ("other.html#gone", True),
        ("#gone", True),
    ],
)
def test_a_link_of_the_site_without_a_target_is_found(
    checker: ModuleType, tmp_path: Path, link: str, is_dead: bool
) -> None:
    (tmp_path / "index.html").write_text(f'<h1 id="top"></h1><a href="{link}">there</a>')
    (tmp_path / "other.html").write_text('<h1 id="here"></h1>')

    assert checker.dead_links(tmp_path) == ([f"index.html: {link}"] if is_dead else [])
