"""What the pages say about installing is what the metadata says."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import partwise
from partwise._extras import missing_module

Table = list[dict[str, str]]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = [
    classifier.rpartition(" ")[2]
    for classifier in PROJECT["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
]

#: Those for working on partwise itself.
OF_CONTRIBUTORS = {"dev", "docs", "peers", "strangers"}


def packages(extra: str) -> set[str]:
    """The packages that an extra installs, with those of the extras that it includes."""
    found = set()
    for requirement in EXTRAS[extra]:
        included = re.match(r"partwise\[([\w,]+)\]", requirement)
        if included:
            found |= {name for other in included[1].split(",") for name in packages(other)}
        else:
            found |= set(re.findall(r"^[\w-]+", requirement))
    return found


def test_the_table_of_extras_is_complete(
    section: Callable[[str, str], str], tables: Callable[[str], list[Table]], names: Callable[[str], list[str]]
) -> None:
    [table] = tables(section("install", "Extras"))
    shown = {names(row["extra"])[0]: row["what it installs"] for row in table}

    assert shown.keys() == EXTRAS.keys() - OF_CONTRIBUTORS
    for extra, installs in shown.items():
        if extra != "all":
            assert set(installs.split(", ")) == packages(extra), extra


def test_the_versions_of_python_are_those_of_the_metadata(page: Callable[[str], str]) -> None:
    versions = f"{PYTHONS[0]} to {PYTHONS[-1]}"

    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f"Python {versions} " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python {versions}." in page("install")
    assert f"| Python | {', '.join(PYTHONS)} |" in page("compatibility")


def test_the_front_page_says_what_the_metadata_says() -> None:
    line = next(
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("Python 3.")
    )

    assert f"{PROJECT['license']} licence" in line
    for word, classifier in (("Linux", "Operating System :: POSIX :: Linux"), ("typed", "Typing :: Typed")):
        assert word in line
        assert classifier in PROJECT["classifiers"]
    assert ("beta" in line) == ("Development Status :: 4 - Beta" in PROJECT["classifiers"])


def test_what_a_missing_extra_is_said_to_look_like_is_what_is_raised(page: Callable[[str], str]) -> None:
    error = missing_module("partwise.server", ModuleNotFoundError(name="h11"), "server")

    assert f"`{error}`" in page("install")


def test_the_version_of_the_wheel_is_that_of_the_package(page: Callable[[str], str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8") + page("install")

    assert set(re.findall(r"partwise-([\d.]+)-py3", text)) == {partwise.__version__}
