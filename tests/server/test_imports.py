"""What the server imports: h11 besides partwise, and no storage protocol outside of ``partwise.server.oss``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import partwise.server

PACKAGE = Path(partwise.server.__file__).parent
CORE = sorted(path for path in PACKAGE.glob("*.py") if path.name not in ("__init__.py", "serving.py"))

_UPLOAD_WITHOUT_TEST_TOOLS = """
import sys
from importlib.abc import MetaPathFinder

BLOCKED = {"pytest", "_pytest", "hypothesis", "click", "rich"}

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())

from partwise import TransferConfig, Uploader
from partwise.backends.oss import Credentials, OSSBackend
from partwise.server import Fail, OSSServer, ServerFault
from partwise.stores.memory import MemoryCheckpointStore

with OSSServer(faults=[ServerFault("UploadPart", Fail())]) as server:
    credentials = Credentials(server.access_key_id, server.access_key_secret)
    config = TransferConfig(part_size=100 * 1024, multipart_threshold=0, retry_base=0.01)
    with OSSBackend(
        "examplebucket", endpoint=server.endpoint, region=server.region, credentials=credentials
    ) as backend:
        result = Uploader(backend, store=MemoryCheckpointStore(), config=config).upload(sys.argv[1], "key")
assert result.verified
print(*sorted(BLOCKED & set(sys.modules)))
"""


def test_the_server_needs_no_test_tools(tmp_path: Path) -> None:
    """The extra `server` installs h11 only."""
    source = tmp_path / "source"
    source.write_bytes(bytes(250 * 1024))
    command = [sys.executable, "-c", _UPLOAD_WITHOUT_TEST_TOOLS, str(source)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (run.returncode, run.stdout, run.stderr) == (0, "\n", "")


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_of_the_server_does_not_import_a_storage_protocol(path: Path) -> None:
    imported = {node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}

    assert {module for module in imported if module.startswith("partwise.server.oss")} == set()


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_of_the_server_names_no_header_of_a_storage_protocol(path: Path) -> None:
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}

    assert {
        text for text in strings if isinstance(text, str) and text.lower().startswith(("x-oss-", "x-amz-"))
    } == set()
