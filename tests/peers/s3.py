"""
Clients of S3 from other authors, each behind the same few calls.

Every client reaches the server by an address and port. Commands find no configuration of the user, and no metadata
service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from attrs import define

from partwise.model import MIB
from partwise.server import S3Server

BUCKET = "examplebucket"
PART = 5 * MIB
_SECONDS = 100


class PeerFailed(Exception):
    """The client reported a failure."""


@define
class Access:
    """What a client needs to know of a server, and a directory for its files."""

    endpoint: str
    region: str
    key_id: str
    secret: str
    directory: Path

    @classmethod
    def of(cls, server: S3Server, directory: Path, secret: str | None = None) -> Access:
        key_id, own = server.access_key_id, server.access_key_secret
        return cls(server.endpoint, server.region, key_id, secret or own, directory)

    @property
    def environment(self) -> dict[str, str]:
        names = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP")
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            "HOME": str(self.directory),
            "XDG_CONFIG_HOME": str(self.directory),
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_CONFIG_FILE": str(self.directory / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUTF8": "1",
        }


class Peer(Protocol):
    """A client of one bucket. Every method raises an exception if it fails."""

    def upload(self, path: Path, key: str) -> None:
        """Store a file, in parts of `PART` if it is larger."""

    def download(self, key: str, path: Path) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...

    def delete(self, key: str) -> None: ...

    def create(self, path: Path, key: str) -> None:
        """Store a file unless there is an object. NotImplementedError: this client can't."""


# --- libraries -------------------------------------------------------------------------------------------------------


@cache
def shared_loader() -> Any:
    """Return the loader that all sessions of botocore share: to read the descriptions of services takes long."""
    from botocore.loaders import create_loader

    return create_loader()


def _botocore_session() -> Any:
    from botocore.session import Session

    session = Session()
    session.register_component("data_loader", shared_loader())
    return session


class Boto3:
    """`boto3`, with its transfers in Python."""

    def __init__(self, access: Access) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        session = boto3.Session(
            access.key_id, access.secret, region_name=access.region, botocore_session=_botocore_session()
        )
        self.client: Any = session.client(
            "s3",
            endpoint_url=access.endpoint,
            config=Config(signature_version="s3v4", retries={"max_attempts": 4, "mode": "standard"}),
        )
        self.config = TransferConfig(
            multipart_threshold=PART, multipart_chunksize=PART, preferred_transfer_client="classic"
        )

    def upload(self, path: Path, key: str) -> None:
        self.client.upload_file(str(path), BUCKET, key, Config=self.config)

    def download(self, key: str, path: Path) -> None:
        self.client.download_file(BUCKET, key, str(path), Config=self.config)

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def create(self, path: Path, key: str) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes(), IfNoneMatch="*")

    def close(self) -> None:
        self.client.close()


class Crt(Boto3):
    """
    The transfers of the AWS Common Runtime, as the AWS command line has them.

    boto3 itself has no endpoint to give to it: ``boto3.crt`` makes its requests with ``endpoint_url=None`` and
    ``use_ssl=True``, so they go to AWS whatever the client's endpoint is.
    """

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        from botocore.credentials import Credentials
        from s3transfer import crt

        session = _botocore_session()
        session.set_credentials(access.key_id, access.secret)
        credentials = crt.BotocoreCRTCredentialsWrapper(Credentials(access.key_id, access.secret))
        client = crt.create_s3_crt_client(
            access.region, credentials.to_crt_credentials_provider(), use_ssl=False, part_size=PART
        )
        names = {"region_name": access.region, "endpoint_url": access.endpoint}
        self._manager = lambda: crt.CRTTransferManager(client, crt.BotocoreCRTRequestSerializer(session, names))
        self.extra: dict[str, str] = {}

    def upload(self, path: Path, key: str) -> None:
        with self._manager() as manager:
            future = manager.upload(str(path), BUCKET, key, extra_args=dict(self.extra))
        future.result()

    def download(self, key: str, path: Path) -> None:
        with self._manager() as manager:
            future = manager.download(BUCKET, key, str(path))
        future.result()


class Obstore:
    """`obstore`: the crate `object_store`."""

    def __init__(self, access: Access) -> None:
        import obstore
        from obstore.store import S3Store

        self._obstore: Any = obstore
        self._store = S3Store(
            BUCKET,
            endpoint=access.endpoint,
            region=access.region,
            access_key_id=access.key_id,
            secret_access_key=access.secret,
            client_options={"allow_http": True},
        )

    def upload(self, path: Path, key: str) -> None:
        self._obstore.put(self._store, key, path, chunk_size=PART, use_multipart=path.stat().st_size > PART)

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(bytes(self._obstore.get(self._store, key).bytes()))

    def keys(self, prefix: str) -> list[str]:
        return [entry["path"] for entry in self._obstore.list(self._store, prefix).collect()]

    def delete(self, key: str) -> None:
        self._obstore.delete(self._store, key)

    def create(self, path: Path, key: str) -> None:
        self._obstore.put(self._store, key, path.read_bytes(), mode="create", use_multipart=False)


class Minio:
    """`minio`, the client of MinIO."""

    def __init__(self, access: Access) -> None:
        import urllib3
        from minio import Minio as Client

        self._http = urllib3.PoolManager(
            retries=urllib3.Retry(total=4, backoff_factor=0.01, status_forcelist=[500, 502, 503, 504])
        )
        self.client: Any = Client(
            access.endpoint.removeprefix("http://"),
            access_key=access.key_id,
            secret_key=access.secret,
            secure=False,
            region=access.region,
            http_client=self._http,
        )

    def upload(self, path: Path, key: str) -> None:
        self.client.fput_object(BUCKET, key, str(path), part_size=PART)

    def download(self, key: str, path: Path) -> None:
        self.client.fget_object(BUCKET, key, str(path))

    def keys(self, prefix: str) -> list[str]:
        return [entry.object_name for entry in self.client.list_objects(BUCKET, prefix=prefix, recursive=True)]

    def delete(self, key: str) -> None:
        self.client.remove_object(BUCKET, key)

    def create(self, path: Path, key: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._http.clear()


# --- commands --------------------------------------------------------------------------------------------------------


def command(name: str) -> str | None:
    """Return the path of a command that was installed beside this Python."""
    return shutil.which(name, path=str(Path(sys.executable).parent))


class _Command:
    name: str

    def __init__(self, access: Access) -> None:
        self.access = access

    def run(self, *arguments: str) -> str:
        found = command(self.name)
        assert found is not None
        done = subprocess.run(
            [found, *arguments],
            env=self.access.environment,
            cwd=self.access.directory,
            capture_output=True,
            encoding="utf-8",
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise PeerFailed(f"{self.name} {' '.join(arguments)}: exit code {done.returncode}: {done.stderr[-600:]}")
        return done.stdout


class AwsCli(_Command):
    """`awscli`, version 1."""

    name = "aws"

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        (access.directory / "config").write_text(
            f"[default]\nregion = {access.region}\nretry_mode = standard\n"
            "s3 =\n  multipart_threshold = 5MB\n  multipart_chunksize = 5MB\n"
        )

    def upload(self, path: Path, key: str) -> None:
        self.run("s3", "cp", str(path), f"s3://{BUCKET}/{key}", "--no-progress")

    def download(self, key: str, path: Path) -> None:
        self.run("s3", "cp", f"s3://{BUCKET}/{key}", str(path), "--no-progress")

    def keys(self, prefix: str) -> list[str]:
        out = self.run(
            *("s3api", "list-objects-v2", "--bucket", BUCKET, "--prefix", prefix),
            *("--query", "Contents[].[Key]", "--output", "text"),
        )
        return [line for line in out.splitlines() if line != "None"]

    def delete(self, key: str) -> None:
        self.run("s3", "rm", f"s3://{BUCKET}/{key}")

    def create(self, path: Path, key: str) -> None:
        where = ("--bucket", BUCKET, "--key", key)
        self.run("s3api", "put-object", *where, "--body", str(path), "--if-none-match", "*")


class Rclone(_Command):
    """`rclone`, on the Go SDK, version 2."""

    name = "rclone"

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        (access.directory / "rclone.conf").write_text(
            f"[s3]\ntype = s3\nprovider = Other\nendpoint = {access.endpoint}\nregion = {access.region}\n"
            f"access_key_id = {access.key_id}\nsecret_access_key = {access.secret}\n"
            "upload_cutoff = 5M\nchunk_size = 5M\nencoding = Slash,InvalidUtf8\nno_check_bucket = true\n"
        )

    def run(self, *arguments: str) -> str:
        own = ("--config", str(self.access.directory / "rclone.conf"), "--low-level-retries", "3", "--retries", "1")
        return super().run(*arguments, *own)

    def upload(self, path: Path, key: str) -> None:
        self.run("copyto", str(path), f"s3:{BUCKET}/{key}")

    def download(self, key: str, path: Path) -> None:
        self.run("copyto", f"s3:{BUCKET}/{key}", str(path))

    def keys(self, prefix: str) -> list[str]:
        return [f"{prefix}{line}" for line in self.run("lsf", "--recursive", f"s3:{BUCKET}/{prefix}").splitlines()]

    def delete(self, key: str) -> None:
        self.run("deletefile", f"s3:{BUCKET}/{key}")

    def create(self, path: Path, key: str) -> None:
        raise NotImplementedError


class S5cmd(_Command):
    """`s5cmd`, on the Go SDK, version 1."""

    name = "s5cmd"

    def run(self, *arguments: str) -> str:
        return super().run("--endpoint-url", self.access.endpoint, "--retry-count", "3", *arguments)

    def upload(self, path: Path, key: str) -> None:
        self.run("cp", "--raw", "--part-size", "5", str(path), f"s3://{BUCKET}/{key}")

    def download(self, key: str, path: Path) -> None:
        self.run("cp", "--raw", "--part-size", "5", f"s3://{BUCKET}/{key}", str(path))

    def keys(self, prefix: str) -> list[str]:
        try:
            lines = self.run("ls", "--show-fullpath", f"s3://{BUCKET}/{prefix}*").splitlines()
        except PeerFailed as error:
            if "no object found" in str(error):  # what it calls an empty listing
                return []
            raise
        return [line.removeprefix(f"s3://{BUCKET}/") for line in lines]

    def delete(self, key: str) -> None:
        self.run("rm", "--raw", f"s3://{BUCKET}/{key}")

    def create(self, path: Path, key: str) -> None:
        raise NotImplementedError


#: The clients by name, and the module or the command that each needs.
PEERS: dict[str, tuple[type[Any], str]] = {
    "boto3": (Boto3, "boto3"),
    "crt": (Crt, "awscrt"),
    "obstore": (Obstore, "obstore"),
    "minio": (Minio, "minio"),
    "aws": (AwsCli, "$aws"),
    "rclone": (Rclone, "$rclone"),
    "s5cmd": (S5cmd, "$s5cmd"),
}


@contextmanager
def connected(name: str, access: Access) -> Iterator[Any]:
    """Yield a client, and close what it has open."""
    peer = PEERS[name][0](access)
    try:
        yield peer
    finally:
        getattr(peer, "close", lambda: None)()
