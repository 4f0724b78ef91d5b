"""What is published: the two distributions, their metadata, and programs without one of the extras."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import partwise

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

#: What only a clone can use.
OF_A_CLONE = {".ci", ".git", ".gitignore"}
#: What tools write; not in the source distribution.
CACHES = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", "site", "tc", ".*")


def run(program: str, *options: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Build the source distribution; return the files it was built of, and those it contains."""
    copy = tmp_path_factory.mktemp("sdist") / "copy"
    shutil.copytree(ROOT, copy, ignore=CACHES)
    given = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    name = run("from setuptools import build_meta; print(build_meta.build_sdist('out'))", cwd=copy).split()[-1]
    with tarfile.open(copy / "out" / name) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    return given, inside


def test_the_sdist_has_the_sources_the_tests_the_documents_and_the_changelog(sdist: tuple[set[str], set[str]]) -> None:
    given, inside = sdist

    assert given - inside == set()
    for needed in (
        "CHANGELOG.md",
        "LICENSE",
        "tests/conftest.py",
        "docs/conf.py",
        "core/py.typed",
        "tests/toys/__init__.py",
    ):
        assert needed in inside


def test_the_sdist_has_nothing_else(sdist: tuple[set[str], set[str]]) -> None:
    given, inside = sdist
    generated = {name for name in inside if name in {"PKG-INFO", "setup.cfg"} or name.startswith("partwise.egg-info/")}

    assert inside - given - generated == set()


def test_the_version_is_that_of_the_metadata() -> None:
    assert partwise.__version__ == PROJECT["version"]
    assert "__version__" in dir(partwise)


def test_importing_the_package_does_not_look_for_its_version() -> None:
    program = "import sys; before = set(sys.modules); import partwise; print(*set(sys.modules) - before)"

    assert "importlib.metadata" not in run(program).split()


def test_a_copy_of_the_package_without_metadata_has_a_version_below_every_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    monkeypatch.delitem(vars(partwise), "__version__", raising=False)

    assert partwise.__version__ == "0+unknown"
    monkeypatch.delitem(vars(partwise), "__version__")


#: A package that a program lacks, what the program imports, and the extra that its error has to name.
MISSING = [
    ("h11", "from partwise.server import OSSServer", "partwise.server", "server"),
    ("h11", "from partwise.testing import S3Server", "partwise.server", "server"),
    ("h11", "import partwise.server.dialect", "partwise.server", "server"),
    ("fsspec", "import partwise.fsspec", "partwise.fsspec", "fsspec"),
    ("hypothesis", "from partwise.testing import ResumeMachine", "partwise.testing.ResumeMachine", "testing"),
    ("hypothesis", "from partwise.testing import strategies", "partwise.testing.strategies", "testing"),
]


@pytest.mark.parametrize(("package", "statement", "what", "extra"), MISSING, ids=[f"{row[1]}" for row in MISSING])
def test_an_import_without_the_package_of_an_extra_names_the_extra(
    package: str, statement: str, what: str, extra: str
) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
try:
    {statement}
except ModuleNotFoundError as error:
    print(error.name, error, sep="\\n")
"""
    named, message = run(program).splitlines()

    assert named == package
    assert message == f'{what} needs {package}, which is not installed. Run: pip install "partwise[{extra}]"'


@pytest.mark.parametrize("package", ["click", "rich"])
def test_the_command_without_a_package_of_its_extra_names_the_extra(package: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    program = f"""
import sys
sys.modules[{package!r}] = None
sys.stderr = sys.stdout
from partwise.cli import main
print(main(["upload", "a", "file:{tmp_path}/b", "--checkpoint-dir", "c"]))
"""
    message, hint, code = run(program, cwd=tmp_path).splitlines()

    assert message == "error: the command line needs click and rich, which are not installed"
    assert hint == 'hint: Run: pip install "partwise[cli]"'
    assert code == "2"


@pytest.mark.parametrize("missing", ["h11", "hypothesis"])
def test_what_needs_no_extra_of_the_test_kit_works_without_it(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from partwise.testing import FaultyBackend, BackendConformance"
    )
    run(program)


def test_an_upload_and_its_progress_import_neither_fsspec_nor_a_progress_bar() -> None:
    program = (
        "import sys, partwise, partwise.progress; partwise.upload(b'', 'memory://bucket/key', resume='never');"
        " print({'fsspec', 'tqdm', 'rich'} & set(sys.modules))"
    )

    assert run(program).strip() == "set()"


def test_every_extra_that_is_named_exists() -> None:
    named = set()
    for folder in ("core", "backends", "stores", "docs", "."):
        pattern = "*" if folder == "." else "**/*"
        for path in [*(ROOT / folder).glob(f"{pattern}.py"), *(ROOT / folder).glob(f"{pattern}.md")]:
            text = path.read_text(encoding="utf-8")
            for extras in re.findall(r"partwise\[([a-z,]+)\]", text) + re.findall(r'install_hint\("(\w+)"\)', text):
                named |= set(extras.split(","))

    assert {"cli", "fsspec", "nvme", "postgres", "server", "testing"} <= named <= set(EXTRAS)


def test_the_extra_all_has_what_uploads_and_the_command_line_may_need() -> None:
    assert EXTRAS["all"] == ["partwise[cli,nvme,postgres,server]"]


def test_the_metadata_names_no_address_that_does_not_exist_yet() -> None:
    assert "urls" not in PROJECT
    assert PROJECT["authors"] == [{"name": "The partwise authors"}]
