"""Buckets in a directory: nothing outside of it is read, written, listed or deleted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from partwise.backends.local import LocalBackend, lookup
from partwise.errors import InvalidKey
from partwise.server import ObjectAccess, OSSServer, S3Server, ServerSettings
from partwise.server.access import access_to
from partwise.server.buckets import DirectoryBuckets

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, modes and FIFOs of POSIX")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory next to the served one, with a file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return outside


@pytest.fixture
def bucket(tmp_path: Path, outside: Path) -> Path:
    """The folder of ``examplebucket``, with the object ``a/key``."""
    bucket = tmp_path / "served" / "examplebucket"
    (bucket / "a").mkdir(parents=True)
    (bucket / "a" / "key").write_bytes(b"data")
    return bucket


@pytest.fixture
def client(tmp_path: Path, bucket: Path, outside: Path, client_of: Callable[[OSSServer], Any]) -> Iterator[Any]:
    """A client of a server over the directory. The files outside of it must be unchanged at the end."""
    with OSSServer(directory=tmp_path / "served") as server:
        yield client_of(server)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_folders_are_accessible_to_their_owner_only(tmp_path: Path, client_of: Any) -> None:
    with OSSServer(directory=tmp_path / "new" / "served") as server:
        assert client_of(server)("PUT", None, bucket="newbucket").status == 200
    assert _mode(tmp_path / "new" / "served") == 0o700
    assert _mode(tmp_path / "new" / "served" / "newbucket") == 0o700


def test_an_existing_folder_keeps_its_mode(tmp_path: Path, bucket: Path, client_of: Any) -> None:
    bucket.parent.chmod(0o750)
    bucket.chmod(0o751)
    with OSSServer(directory=tmp_path / "served") as server:
        assert client_of(server)("PUT", None, bucket="examplebucket").status == 200
    assert (_mode(bucket.parent), _mode(bucket)) == (0o750, 0o751)


def test_a_link_is_not_a_bucket(bucket: Path, outside: Path, client: Any) -> None:
    (bucket.parent / "linkedbucket").symlink_to(outside)
    assert client("GET", "secret", bucket="linkedbucket").code == "NoSuchBucket"
    assert client("PUT", "new", bucket="linkedbucket", body=b"x").code == "NoSuchBucket"
    assert client("DELETE", "secret", bucket="linkedbucket").code == "NoSuchBucket"
    reply = client("PUT", None, bucket="linkedbucket")
    assert (reply.status, reply.code) == (409, "BucketAlreadyExists")
    assert client("GET", None, bucket=None).texts("Buckets/Bucket/Name") == ["examplebucket"]


def test_a_bucket_that_is_replaced_by_a_link_is_no_longer_a_bucket(bucket: Path, outside: Path, client: Any) -> None:
    assert client("GET", "a/key").body == b"data"
    bucket.rename(bucket.with_name("moved"))
    bucket.symlink_to(outside)
    assert client("GET", "secret").code == "NoSuchBucket"


def test_a_folder_replaced_by_a_link_while_it_is_opened_is_not_a_bucket(
    bucket: Path, outside: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(folder: Path) -> LocalBackend:
        bucket.rename(bucket.with_name("moved"))
        bucket.symlink_to(outside)
        return LocalBackend(folder)

    monkeypatch.setattr("partwise.server.buckets.LocalBackend", opened)
    assert client("PUT", "new", body=b"planted").status == 404


def test_creating_a_bucket_with_the_name_of_a_file_is_refused(bucket: Path, client: Any) -> None:
    (bucket.parent / "taken").write_bytes(b"")
    assert client("PUT", None, bucket="taken").code == "BucketAlreadyExists"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "outside",
            "../outside",
            "./../outside",
            "%2e%2e/outside",
            "served%2f..%2foutside",
            "%00",
            "%2e%2e%2foutside",
        ),
        *("..", ".", "%2e%2e", "%2E", "Examplebucket"),
    ],
)
def test_no_bucket_name_leaves_the_directory(
    tmp_path: Path, bucket: Path, outside: Path, client_of: Any, path: str
) -> None:
    # Unsigned requests are allowed, so that none is refused for its signature.
    settings = ServerSettings(allow_anonymous=True)
    with OSSServer(directory=tmp_path / "served", settings=settings) as server:
        client = client_of(server)
        assert client("GET", target="/examplebucket/a/key", signed=False).body == b"data"
        for method, key in product(("GET", "PUT", "DELETE"), ("secret", "a/key")):
            reply = client(method, target=f"/{path}/{key}", signed=False)
            assert reply.code == "NoSuchBucket", (method, key, reply.status)
    assert {one.name: one.read_bytes() for one in outside.iterdir()} == {"secret": b"secret"}


def test_a_bucket_can_not_be_created_above_the_directory(bucket: Path, client: Any) -> None:
    assert client("PUT", None, bucket="..").code == "InvalidBucketName"
    assert [path.name for path in bucket.parent.iterdir()] == ["examplebucket"]
    assert client("GET", "a/key").body == b"data"


@pytest.mark.parametrize("name", ["{outside}", "../outside", "examplebucket/inner", "./examplebucket"])
def test_a_path_is_not_a_bucket(tmp_path: Path, bucket: Path, outside: Path, name: str) -> None:
    (bucket / "inner").mkdir()
    assert DirectoryBuckets(tmp_path / "served").find(name.format(outside=outside)) is None


@pytest.mark.parametrize("server_class", [OSSServer, S3Server])
def test_a_host_name_with_a_path_names_no_bucket(
    tmp_path: Path, bucket: Path, client_of: Any, server_class: type[OSSServer | S3Server]
) -> None:
    (bucket / "inner").mkdir()
    (bucket / "inner" / "key").write_bytes(b"data")
    with server_class(directory=tmp_path / "served", settings=ServerSettings(allow_anonymous=True)) as server:
        client = client_of(server)
        assert client("GET", target="/inner/key", host="examplebucket.localhost", signed=False).body == b"data"
        assert client("GET", target="/key", host="examplebucket/inner.localhost", signed=False).code == "NoSuchBucket"


@pytest.mark.parametrize("key", ["../outside/secret", "../../outside/secret", "a/../../../outside/secret", ".", "a/.."])
@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "encoded"])
def test_no_key_leaves_the_bucket(client: Any, outside: Path, key: str, encoded: bool) -> None:
    target = "/examplebucket/" + (key.replace(".", "%2e").replace("/", "%2F") if encoded else key)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        reply = client(method, key, target=target, body=b"planted" if method == "PUT" else None)
        assert reply.status in (400, 404)


@pytest.mark.parametrize("key", ["{outside}/secret", "a/{outside}/secret", "a\x00b", "a\\..\\b", ".partwise/x"])
def test_odd_keys_reach_no_file(client: Any, outside: Path, key: str) -> None:
    key = key.format(outside=outside)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert client(method, key, body=b"planted" if method == "PUT" else None).status in (400, 404)


def test_a_link_out_of_the_bucket_is_not_an_object(bucket: Path, outside: Path, client: Any) -> None:
    (bucket / "file").symlink_to(outside / "secret")
    (bucket / "folder").symlink_to(outside)
    for key in ("file", "folder/secret", "folder/new"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert client(method, key, body=b"planted" if method == "PUT" else None).status in (400, 404), (method, key)
    assert client("GET", None).texts("Contents/Key") == ["a/key"]
    assert (bucket / "file").is_symlink()


def test_a_link_within_the_bucket_is_the_object_that_it_points_to(bucket: Path, client: Any) -> None:
    (bucket / "link").symlink_to("a/key")
    assert client("GET", "link").body == b"data"
    assert client("DELETE", "link").status == 204
    assert not (bucket / "link").is_symlink()
    assert client("GET", "a/key").body == b"data"


def test_a_fifo_is_not_an_object_and_does_not_block(bucket: Path, client: Any) -> None:
    os.mkfifo(bucket / "fifo")
    assert client("GET", "fifo").status == 404
    assert client("HEAD", "fifo").status == 404
    assert client("DELETE", "fifo").status == 204
    assert stat.S_ISFIFO((bucket / "fifo").stat().st_mode)
    assert client("GET", None).texts("Contents/Key") == ["a/key"]


def test_a_missing_permission_is_reported_without_a_traceback(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    reply = client("DELETE", "a/key")
    assert (reply.status, reply.code, caplog.records) == (403, "AccessDenied", [])


def test_a_bucket_for_which_the_permission_is_missing_is_reported_without_a_traceback(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    reply = client("PUT", None, bucket="another-bucket")
    assert (reply.status, reply.code, caplog.records) == (403, "AccessDenied", [])


# --- changes at the wrong moment -------------------------------------------------------------------------------------


@pytest.fixture
def access(bucket: Path) -> ObjectAccess:
    access = access_to(LocalBackend(bucket))
    assert access is not None
    return access


def _swap(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change something right after the key was accepted."""
    open_parent = lookup.open_parent

    def changed(*args: Any) -> Any:
        change()
        return open_parent(*args)

    monkeypatch.setattr(lookup, "open_parent", changed)


def _become_a_link(folder: Path, target: Path) -> Callable[[], None]:
    def change() -> None:
        folder.rename(folder.with_name("moved"))
        folder.symlink_to(target)

    return change


def test_a_folder_replaced_by_a_link_at_the_last_moment_is_not_followed(
    bucket: Path, outside: Path, access: ObjectAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "a" / "secret").write_bytes(b"mine")
    _swap(monkeypatch, _become_a_link(bucket / "a", outside))
    with pytest.raises((KeyError, InvalidKey)):
        access.open_object("a/secret")


def test_a_file_replaced_by_a_link_at_the_last_moment_is_not_followed(
    bucket: Path, outside: Path, access: ObjectAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    _swap(monkeypatch, _become_a_link(bucket / "a" / "key", outside / "secret"))
    with pytest.raises((KeyError, InvalidKey)):
        access.open_object("a/key")


def test_nothing_is_deleted_from_a_folder_that_was_replaced_by_a_link(
    bucket: Path, outside: Path, access: ObjectAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "a" / "secret").write_bytes(b"mine")
    _swap(monkeypatch, _become_a_link(bucket / "a", outside))
    with pytest.raises(InvalidKey):
        access.delete_object("a/secret")
    assert (outside / "secret").read_bytes() == b"secret"


def test_no_file_descriptor_leaks(bucket: Path, access: ObjectAccess) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc: descriptors can't be counted")
    before = len(list(Path("/proc/self/fd").iterdir()))
    access.open_object("a/key").close()
    for key in ("a/nothing", "nothing/at/all", "a"):
        with pytest.raises(KeyError):
            access.open_object(key)
        access.delete_object(key)
    with pytest.raises(InvalidKey):
        access.delete_object("../x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(access.list_objects()) == ["a/key"]
