"""The tests that fsspec has for every filesystem, over a directory and over servers of OSS and of S3."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractOpenTests, AbstractPipeTests, AbstractPutTests

from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials as OSSCredentials
from partwise.backends.s3 import Credentials as S3Credentials
from partwise.fsspec import LocalUploadFileSystem, OSSUploadFileSystem, S3UploadFileSystem, UploadFileSystem
from partwise.server import OSSServer, S3Server
from partwise.stores.memory import MemoryCheckpointStore

Reader = Callable[..., object]


class OfFsspec(AbstractFixtures, AbstractPutTests, AbstractPipeTests, AbstractOpenTests):
    @pytest.fixture
    def local_fs(self) -> LocalFileSystem:
        """That of fsspec has the scope of a class, in a way that pytest no longer allows."""
        return LocalFileSystem(auto_mkdir=True)


class TestDirectory(OfFsspec):
    @pytest.fixture
    def fs(self) -> LocalUploadFileSystem:
        return LocalUploadFileSystem()

    @pytest.fixture
    def fs_path(self, tmp_path: Path) -> str:
        return str(tmp_path / "bucket")


class OfABucket(OfFsspec):
    """With checkpoints in memory, to save time: `TestDirectory` has the usual store."""

    @pytest.fixture
    def fs_path(self) -> str:
        return "examplebucket"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


@pytest.fixture(scope="module")
def oss_server() -> Iterator[OSSServer]:
    with OSSServer(buckets={"examplebucket": MemoryBackend()}) as server:
        yield server


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server(buckets={"examplebucket": MemoryBackend()}) as server:
        yield server


class TestOSS(OfABucket):
    # How a glob becomes keys is the same for every bucket, and is tried with S3.
    test_put_glob_edge_cases = None

    @pytest.fixture
    def fs(self, oss_server: OSSServer, slashed_reader: Reader, store: MemoryCheckpointStore) -> UploadFileSystem:
        return OSSUploadFileSystem(
            store=store,
            endpoint=oss_server.endpoint,
            region=oss_server.region,
            credentials=OSSCredentials(oss_server.access_key_id, oss_server.access_key_secret),
            read_fs=slashed_reader(oss_server.backend()),
        )


class TestS3(OfABucket):
    @pytest.fixture
    def fs(self, s3_server: S3Server, reader: Reader, store: MemoryCheckpointStore) -> UploadFileSystem:
        return S3UploadFileSystem(
            store=store,
            endpoint=s3_server.endpoint,
            region=s3_server.region,
            credentials=S3Credentials(s3_server.access_key_id, s3_server.access_key_secret),
            read_fs=reader(s3_server.backend()),
        )
