"""Fixtures of the filesystems: storages of this process, and filesystems that read them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from partwise.backends.memory import MemoryBackend
from partwise.fsspec import UploadFileSystem
from partwise.registry import register_backend
from partwise.stores.memory import MemoryCheckpointStore

PART = 256 * 1024


class BucketReader(fsspec.AbstractFileSystem):
    """
    What reads a bucket in memory, as s3fs reads one of S3.

    A directory is a prefix of keys.
    """

    cachable = False
    slash = ""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__()
        self.backend = backend
        self.forgotten: list[str | None] = []

    def _key(self, path: str) -> str:
        return path.strip("/").partition("/")[2]

    def _entry(self, key: str) -> dict[str, Any]:
        size = len(self.backend.read(key))
        return {"name": f"{self.slash}examplebucket/{key}", "size": size, "type": "file"}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        key = self._key(path)
        prefix = f"{key}/" if key else ""
        inside = [found for found in self.backend.keys() if found.startswith(prefix)]  # noqa: SIM118  # not a mapping
        entries = {found: self._entry(found) for found in inside if "/" not in found[len(prefix) :]}
        for found in inside:
            if "/" in found[len(prefix) :]:
                name = prefix + found[len(prefix) :].partition("/")[0]
                directory = {"name": f"{self.slash}examplebucket/{name}", "size": 0, "type": "directory"}
                entries[name] = directory
        if not entries:
            if key not in self.backend.keys():  # noqa: SIM118
                raise FileNotFoundError(path)
            entries = {key: self._entry(key)}
        return [entry if detail else entry["name"] for _, entry in sorted(entries.items())]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        assert mode == "rb"
        if self._key(path) not in self.backend.keys():  # noqa: SIM118
            raise FileNotFoundError(path)
        return io.BytesIO(self.backend.read(self._key(path)))

    def _rm(self, path: str) -> None:
        self.backend._storage.objects.pop(self._key(path), None)  # directories are not there

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.backend._storage.objects[self._key(path2)] = self.backend._storage.objects[self._key(path1)]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.forgotten.append(path)


class SlashedBucketReader(BucketReader):
    """One whose paths start with a slash, as those of ossfs do."""

    slash = "/"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [cls._strip_protocol(one) for one in path] if isinstance(path, list) else f"/{path.strip('/')}"


class ToyFileSystem(UploadFileSystem):
    """One for the backend in memory that a test registers."""

    protocol = "toy+partwise"


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "OSS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def store() -> MemoryCheckpointStore:
    return MemoryCheckpointStore()


@pytest.fixture(scope="session")
def reader() -> type[BucketReader]:
    return BucketReader


@pytest.fixture(scope="session")
def slashed_reader() -> type[BucketReader]:
    return SlashedBucketReader


@pytest.fixture
def fs(backend: MemoryBackend, store: MemoryCheckpointStore) -> UploadFileSystem:
    """A filesystem that sends small parts, one after the other, and whose bucket is `backend`."""
    register_backend("toy", lambda url, **settings: (backend.handle(), url.partition("://")[2].partition("/")[2]))
    return ToyFileSystem(
        store=store,
        config={"part_size": PART, "multipart_threshold": 0, "concurrency": 1},
        read_fs=BucketReader(backend),
    )
