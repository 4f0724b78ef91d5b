"""
Clients that others wrote, unmodified, against the server over real sockets.

They are what "S3" means to programs: if one of them fails, the server is wrong. The extra `peers` installs them; one
that is missing is skipped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from peers.s3 import BUCKET, PART, PEERS, Access, command, connected

from partwise.checksums import CRC64_NVME
from partwise.model import KIB
from partwise.server import Fail, LoseResponse, ReceivedRequest, S3Server, ServerFault
from partwise.testing.fakes import pseudo_random_bytes

LARGE = pseudo_random_bytes(2 * PART + 300 * KIB, 1)
SMALL = pseudo_random_bytes(70 * KIB, 2)

#: Keys that clients get wrong: characters with a meaning in URLs, signatures, patterns and XML; not of the BMP.
PLAIN = "folder/plain.bin"
ODD = [
    "odd/space and+plus&ampersand=equals%41%2F.txt",
    "odd/ünïcödé-日本-😀-e\N{COMBINING ACUTE ACCENT}",
    "odd/it's(a)!$,;:@~[b]{c}|^`#hash<tag>",
]

#: Keys that a client itself can't name, and why.
CANNOT_NAME = {("s5cmd", ODD[2]): "s5cmd takes '#' of a URL for the start of a fragment"}

#: What each client sends to store `LARGE`, as its authors document or its source shows.
STORES = Counter(CreateMultipartUpload=1, UploadPart=3, CompleteMultipartUpload=1)
ALSO = {"rclone": Counter(HeadObject=2)}  # it looks for an object before, and compares the size after

CLIENTS = sorted(PEERS)
needs = pytest.mark.parametrize("name", CLIENTS)


def is_missing(name: str) -> bool:
    needed = PEERS[name][1]
    return command(needed[1:]) is None if needed.startswith("$") else find_spec(needed) is None


@pytest.fixture
def server() -> Iterator[S3Server]:
    """A server with the limits of the service."""
    with S3Server() as server:
        yield server
        assert server.unreached_faults == ()


@pytest.fixture
def connect(server: S3Server, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Returns a client by name; `secret` replaces the right one."""
    with ExitStack() as stack:

        def open_peer(name: str, secret: str | None = None) -> Any:
            if is_missing(name):
                pytest.skip(f"{name} is not installed; the extra 'peers' has it")
            directory = tmp_path / f"home-{name}"
            directory.mkdir(exist_ok=True)
            return stack.enter_context(connected(name, Access.of(server, directory, secret)))

        yield open_peer


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.bin"
    path.write_bytes(SMALL)
    return path


def operations(server: S3Server) -> Counter[str]:
    return Counter(request.operation for request in server.requests if request.code != "BucketAlreadyOwnedByYou")


def stored(server: S3Server, key: str) -> bytes:
    with server._service.buckets.find(BUCKET).access.open_object(key) as file:
        return file.read()


@needs
def test_an_object_is_stored_in_parts_listed_read_and_deleted(
    server: S3Server, connect: Callable[..., Any], large: Path, tmp_path: Path, name: str
) -> None:
    peer, key = connect(name), ODD[0]
    peer.upload(large, key)
    assert operations(server) == STORES + ALSO.get(name, Counter())
    assert stored(server, key) == LARGE

    peer.download(key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE
    assert peer.keys("odd/") == [key]
    peer.delete(key)
    assert peer.keys("odd/") == []
    assert {request.code for request in server.requests} <= {"", "NoSuchKey"}  # rclone looks before it stores


@needs
def test_odd_keys_are_the_same_for_every_client(
    server: S3Server, connect: Callable[..., Any], small: Path, tmp_path: Path, name: str
) -> None:
    peer = connect(name)
    keys = [key for key in ODD[1:] if (name, key) not in CANNOT_NAME]
    for key in keys:
        peer.upload(small, key)
        assert stored(server, key) == SMALL
    peer.download(keys[-1], tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == SMALL
    assert sorted(peer.keys("odd/")) == sorted(keys)
    assert operations(server)["PutObject"] == len(keys)


@needs
def test_a_wrong_secret_is_refused(
    server: S3Server, connect: Callable[..., Any], large: Path, small: Path, name: str
) -> None:
    peer = connect(name, secret="wrong" * 8)
    for path in (large, small):
        with pytest.raises(Exception, match=r"(?i)signature|403|forbidden"):
            peer.upload(path, PLAIN)
    assert {request.code for request in server.requests} == {"SignatureDoesNotMatch"}
    assert not list(server.backend().list_uploads(""))
    assert server.backend().head_object(PLAIN) is None


@needs
def test_a_refused_part_ends_in_an_abort(server: S3Server, connect: Callable[..., Any], large: Path, name: str) -> None:
    peer = connect(name)
    server.plan(ServerFault("UploadPart", Fail("AccessDenied"), part_number=2, times=None))
    with pytest.raises(Exception, match=r"(?i)access.?denied|403"):
        peer.upload(large, PLAIN)
    assert operations(server)["AbortMultipartUpload"] == 1
    assert not list(server.backend().list_uploads(""))


@needs
@pytest.mark.parametrize("effect", [LoseResponse(), Fail("SlowDown"), Fail("InternalError")], ids=repr)
def test_a_part_is_sent_again(
    server: S3Server, connect: Callable[..., Any], large: Path, name: str, effect: Any
) -> None:
    peer = connect(name)
    server.plan(ServerFault("UploadPart", effect, part_number=2))
    peer.upload(large, PLAIN)
    assert stored(server, PLAIN) == LARGE
    assert Counter(request.part_number for request in server.requests_of("UploadPart")) == {1: 1, 2: 2, 3: 1}


@needs
def test_an_existing_object_is_not_replaced(
    server: S3Server, connect: Callable[..., Any], small: Path, tmp_path: Path, name: str
) -> None:
    peer = connect(name)
    other = tmp_path / "other"
    other.write_bytes(b"another")
    try:
        peer.create(small, PLAIN)
    except NotImplementedError:
        pytest.skip(f"{name} has no conditional upload")
    with pytest.raises(Exception, match=r"(?i)precondition|exists"):
        peer.create(other, PLAIN)
    assert [request.code for request in server.requests_of("PutObject")] == ["", "PreconditionFailed"]
    assert stored(server, PLAIN) == SMALL


# --- what single clients send ----------------------------------------------------------------------------------------


def headers_of(requests: tuple[ReceivedRequest, ...], header: str) -> set[str | None]:
    return {request.headers.get(header) for request in requests}


def test_boto3_sends_crc32_of_each_part_by_default(server: S3Server, connect: Callable[..., Any], large: Path) -> None:
    connect("boto3").upload(large, PLAIN)
    assert headers_of(server.requests_of("CreateMultipartUpload"), "x-amz-checksum-algorithm") == {"CRC32"}
    parts = server.requests_of("UploadPart")
    assert headers_of(parts, "x-amz-sdk-checksum-algorithm") == {"CRC32"}
    assert None not in headers_of(parts, "x-amz-checksum-crc32")


def test_boto3_compares_the_crc64nvme_of_the_object(server: S3Server, connect: Callable[..., Any], large: Path) -> None:
    client = connect("boto3").client
    arguments = {"Bucket": BUCKET, "Key": PLAIN}
    created = client.create_multipart_upload(**arguments, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT")
    arguments["UploadId"] = created["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(LARGE), PART), 1):
        body = LARGE[start : start + PART]
        sent = client.upload_part(**arguments, PartNumber=number, Body=body, ChecksumAlgorithm="CRC64NVME")
        assert sent["ChecksumCRC64NVME"] == CRC64_NVME.to_base64(CRC64_NVME.compute(body))
        parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC64NVME": sent["ChecksumCRC64NVME"]})
    listed = client.list_parts(**arguments)
    assert (listed["ChecksumAlgorithm"], [part["Size"] for part in listed["Parts"]]) == (
        "CRC64NVME",
        [PART, PART, 300 * KIB],
    )

    whole = CRC64_NVME.compute(LARGE)
    wrong, right = CRC64_NVME.to_base64(whole ^ 1), CRC64_NVME.to_base64(whole)
    with pytest.raises(client.exceptions.ClientError, match="BadDigest"):
        client.complete_multipart_upload(**arguments, MultipartUpload={"Parts": parts}, ChecksumCRC64NVME=wrong)
    client.complete_multipart_upload(**arguments, MultipartUpload={"Parts": parts}, ChecksumCRC64NVME=right)
    shown = client.head_object(Bucket=BUCKET, Key=PLAIN, ChecksumMode="ENABLED")
    assert (shown["ChecksumCRC64NVME"], shown["ChecksumType"]) == (right, "FULL_OBJECT")


def test_boto3_lists_aborts_and_completes_only_if_there_is_no_object(
    server: S3Server, connect: Callable[..., Any]
) -> None:
    client = connect("boto3").client
    where = {"Bucket": BUCKET, "Key": ODD[1]}
    client.put_object(**where, Body=b"first")
    first, second = (client.create_multipart_upload(**where)["UploadId"] for _ in range(2))
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=BUCKET, Prefix="odd/", PaginationConfig={"PageSize": 1}
    )
    assert [(entry["Key"], entry["UploadId"]) for page in pages for entry in page["Uploads"]] == [
        (ODD[1], first),
        (ODD[1], second),
    ]

    etag = client.upload_part(**where, UploadId=first, PartNumber=1, Body=b"second")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.complete_multipart_upload(**where, UploadId=first, MultipartUpload=parts, IfNoneMatch="*")
    client.abort_multipart_upload(**where, UploadId=second)
    with pytest.raises(client.exceptions.NoSuchUpload):
        client.abort_multipart_upload(**where, UploadId=second)
    client.complete_multipart_upload(**where, UploadId=first, MultipartUpload=parts)  # it stayed usable
    assert client.get_object(**where)["Body"].read() == b"second"


def test_a_presigned_url_of_boto3_is_valid_for_what_was_signed(server: S3Server, connect: Callable[..., Any]) -> None:
    import urllib3

    client = connect("boto3").client
    url = client.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": ODD[0]}, ExpiresIn=60)
    with urllib3.PoolManager(retries=False) as http:
        assert http.request("PUT", url, body=SMALL).status == 200
        assert http.request("PUT", url.replace("plus", "minus"), body=SMALL).status == 403
    assert stored(server, ODD[0]) == SMALL


def test_the_runtime_sends_its_checksums_in_trailers(
    server: S3Server, connect: Callable[..., Any], large: Path, tmp_path: Path
) -> None:
    peer = connect("crt")
    peer.extra = {"ChecksumAlgorithm": "CRC64NVME"}
    peer.upload(large, PLAIN)
    parts = server.requests_of("UploadPart")
    assert headers_of(parts, "x-amz-content-sha256") == {"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    assert headers_of(parts, "x-amz-trailer") == {"x-amz-checksum-crc64nvme"}
    assert headers_of(server.requests_of("CompleteMultipartUpload"), "x-amz-mp-object-size") == {str(len(LARGE))}
    head = connect("boto3").client.head_object(Bucket=BUCKET, Key=PLAIN, ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == CRC64_NVME.to_base64(CRC64_NVME.compute(LARGE))


def test_the_runtime_reads_ranges_of_an_object_with_a_checksum(
    server: S3Server, connect: Callable[..., Any], large: Path, tmp_path: Path
) -> None:
    peer = connect("crt")
    peer.extra = {"ChecksumAlgorithm": "CRC64NVME"}
    peer.upload(large, PLAIN)
    peer.download(PLAIN, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE
    # It compares a checksum with the bytes that came with it, so a range must not come with that of the object.
    assert {request.status for request in server.requests_of("GetObject")} == {206}


def test_minio_rclone_and_s5cmd_send_the_digests_that_they_are_known_for(
    server: S3Server, connect: Callable[..., Any], large: Path
) -> None:
    seen = {}
    for name in ("minio", "rclone", "s5cmd"):
        connect(name).upload(large, f"by/{name}")
        parts = [request for request in server.requests_of("UploadPart") if request.key == f"by/{name}"]
        hashed = all(len(request.headers["x-amz-content-sha256"]) == 64 for request in parts)
        seen[name] = (hashed, all("content-md5" in request.headers for request in parts))
    assert seen == {"minio": (True, False), "rclone": (True, True), "s5cmd": (True, True)}


def test_rclone_removes_uploads_that_others_left(server: S3Server, connect: Callable[..., Any]) -> None:
    peer = connect("rclone")
    connect("boto3").client.create_multipart_upload(Bucket=BUCKET, Key=PLAIN)
    peer.run("backend", "cleanup", f"s3:{BUCKET}", "-o", "max-age=0s")
    assert not list(server.backend().list_uploads(""))


def test_the_aws_command_lists_and_aborts_uploads(server: S3Server, connect: Callable[..., Any]) -> None:
    peer = connect("aws")
    upload_id = connect("boto3").client.create_multipart_upload(Bucket=BUCKET, Key=ODD[0])["UploadId"]
    query = ("--query", "Uploads[].[Key, UploadId]", "--output", "text")
    listed = peer.run("s3api", "list-multipart-uploads", "--bucket", BUCKET, *query)
    assert listed.rstrip("\n").split("\t") == [ODD[0], upload_id]
    peer.run("s3api", "abort-multipart-upload", "--bucket", BUCKET, "--key", ODD[0], "--upload-id", upload_id)
    assert not list(server.backend().list_uploads(""))


def test_where_the_tests_need_the_clients_none_is_missing() -> None:
    if "PARTWISE_TESTS_NEED_PEERS" not in os.environ:
        pytest.skip("PARTWISE_TESTS_NEED_PEERS is not set")
    assert [name for name in CLIENTS if is_missing(name)] == []
