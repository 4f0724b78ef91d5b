"""The package: every name is available on first use, and nothing is imported before."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import partwise

PACKAGE = Path(partwise.__file__).parent


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def partwise_imports(block: ast.AST) -> list[ast.ImportFrom]:
    found = [node for node in ast.walk(block) if isinstance(node, ast.ImportFrom) and node.module]
    return [node for node in found if str(node.module).startswith("partwise.")]


def test_importing_the_package_imports_no_submodule() -> None:
    loaded = "[name for name in sys.modules if name.startswith('partwise.') or name in ('attrs', 'cattrs', 'urllib3')]"
    assert run(f"import sys, partwise; print({loaded})") == "[]"


def test_type_checkers_see_the_modules_whose_names_are_resolved() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = [(node.module, [alias.name for alias in node.names]) for node in partwise_imports(block)]

    modules = [(f"partwise.{module}", ["*"]) for module in partwise._MODULES]
    assert sorted(seen) == sorted([*modules, *((module, [name]) for name, module in partwise._MOVED.items())])


@pytest.mark.parametrize("module", partwise._MODULES)
def test_a_public_module_defines_what_it_exports(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    defined |= {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}

    assert set(getattr(partwise, module).__all__) <= defined


@pytest.mark.parametrize("module", partwise._MODULES)
def test_a_public_module_imports_only_public_modules_before_it(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    later = partwise._MODULES[partwise._MODULES.index(module) :]
    top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]

    assert [node.module for node in top if str(node.module).removeprefix("partwise.") in later] == []


def test_submodules_are_attributes_of_the_package() -> None:
    assert run("import partwise; print(partwise.errors.PartwiseError.__name__)") == "PartwiseError"


def test_dir_lists_the_public_names() -> None:
    assert set(partwise.__all__) | set(partwise._MODULES) <= set(dir(partwise))


def test_a_name_that_moved_to_a_backend_is_still_found_and_imports_nothing_of_urllib3() -> None:
    code = "import sys, partwise, partwise.backends.oss as oss; assert partwise.Callback is oss.Callback"
    assert run(f"{code}; print('Callback' in partwise.__all__, 'urllib3' in sys.modules)") == "False False"


def test_a_name_is_the_same_object_each_time() -> None:
    assert partwise.Uploader is partwise.Uploader


@pytest.mark.parametrize("name", ["oss", "s3"])
def test_a_backend_lists_the_names_that_it_imports_when_they_are_used(name: str) -> None:
    module = import_module(f"partwise.backends.{name}")
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__path_of_nothing__", "brief", "TYPE_CHECKING_"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(partwise, name)


def test_a_private_name_is_refused_without_importing_anything() -> None:
    code = "import sys, partwise; hasattr(partwise, '_nothing'); print('partwise.errors' in sys.modules)"
    assert run(code) == "False"


def test_all_names_can_be_imported_at_once() -> None:
    assert run("from partwise import *; print(Uploader.__name__, upload.__name__)") == "Uploader upload"
