"""Multipart uploads to the S3 server, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_plus

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.checksums import CRC32, CRC32C, CRC64_NVME, SHA256, Checksum
from partwise.model import KIB, ObjectOptions, StoredObject, UploadedPart
from partwise.server import Fail, LoseResponse, NoChecksum, S3Server, ServerFault, WrongChecksum
from partwise.testing.fakes import pseudo_random_bytes

SMALL = 100 * KIB
PARTS = [pseudo_random_bytes(SMALL, 1), pseudo_random_bytes(SMALL, 2), pseudo_random_bytes(1000, 3)]
WHOLE = b"".join(PARTS)


def document(parts: list[tuple[int, str]]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def send_all(client: Any, upload_id: str, **headers: str) -> list[tuple[int, str]]:
    return [
        (number, client.part(upload_id, number, body, **headers).headers["ETag"])
        for number, body in enumerate(PARTS, 1)
    ]


def test_an_object_is_made_of_its_parts(client: Any) -> None:
    upload_id = client.create()
    reply = client.complete(upload_id, send_all(client, upload_id))

    assert (reply.status, reply.text("Key"), reply.text("ChecksumType")) == (200, "key", "FULL_OBJECT")
    assert client("GET", "key").body == WHOLE
    assert reply.text("ChecksumCRC64NVME") == CRC64_NVME.to_base64(CRC64_NVME.compute(WHOLE))


@pytest.mark.parametrize("algorithm", [CRC64_NVME, CRC32C, CRC32], ids=lambda kind: kind.name)
def test_the_checksum_of_the_full_object_is_reported_and_compared(client: Any, algorithm: Checksum) -> None:
    name = algorithm.name.upper()
    upload_id = client.create(x_amz_checksum_algorithm=name, x_amz_checksum_type="FULL_OBJECT")
    parts = send_all(client, upload_id)
    right = algorithm.to_base64(algorithm.compute(WHOLE))
    wrong = algorithm.to_base64(algorithm.compute(WHOLE) ^ 1)
    header = f"x_amz_checksum_{algorithm.name}"

    refused = client.complete(upload_id, parts, **{header: wrong})
    assert (refused.status, refused.code) == (400, "BadDigest")
    assert client.complete(upload_id, parts, **{header: right}).status == 200
    shown = client("HEAD", "key", headers={"x-amz-checksum-mode": "ENABLED"}).headers
    assert (shown[header.replace("_", "-")], shown["x-amz-checksum-type"]) == (right, "FULL_OBJECT")
    assert header.replace("_", "-") not in client("HEAD", "key").headers


def test_a_composite_checksum_is_that_of_the_checksums_of_the_parts(client: Any) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="SHA256")
    values = [SHA256.to_base64(SHA256.compute(body)) for body in PARTS]
    etags = [
        client.part(upload_id, n, body, x_amz_checksum_sha256=values[n - 1]).headers["ETag"]
        for n, body in enumerate(PARTS, 1)
    ]
    without = client.complete(upload_id, list(enumerate(etags, 1)))
    listed = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n - 1]}</ETag>"
        f"<ChecksumSHA256>{values[n - 1]}</ChecksumSHA256></Part>"
        for n in (1, 2, 3)
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    reply = client("POST", "key", {"uploadId": upload_id}, body)

    whole = SHA256.to_base64(SHA256.compute(b"".join(SHA256.to_bytes(SHA256.compute(part)) for part in PARTS)))
    assert (without.status, without.code) == (400, "InvalidRequest")
    assert (reply.status, reply.text("ChecksumSHA256"), reply.text("ChecksumType")) == (200, f"{whole}-3", "COMPOSITE")


def test_a_part_of_a_composite_upload_needs_its_checksum(client: Any) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="SHA256")

    assert client.part(upload_id, 1, b"x").code == "InvalidRequest"


def test_an_object_is_not_completed_with_another_type_of_checksum_or_without_its_upload(client: Any) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="CRC64NVME", x_amz_checksum_type="FULL_OBJECT")
    parts = send_all(client, upload_id)

    assert client.complete(upload_id, parts, x_amz_checksum_type="COMPOSITE").code == "InvalidRequest"
    assert client("PUT", "key", {"partNumber": "1"}, b"x").code == "InvalidArgument"
    assert client.complete(upload_id, parts, x_amz_checksum_type="FULL_OBJECT").status == 200


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"), ("CRC7", ""), ("CRC32", "ANY")]
)
def test_a_checksum_that_there_is_not_is_refused(client: Any, algorithm: str, kind: str) -> None:
    headers = {"x-amz-checksum-algorithm": algorithm} | ({"x-amz-checksum-type": kind} if kind else {})

    assert client("POST", "key", {"uploads": ""}, headers=headers).status == 400


def test_a_part_that_arrives_damaged_is_refused(client: Any) -> None:
    upload_id = client.create()
    wrong = CRC64_NVME.to_base64(CRC64_NVME.compute(PARTS[0]) ^ 1)

    assert client.part(upload_id, 1, PARTS[0], x_amz_checksum_crc64nvme=wrong).code == "BadDigest"
    assert client.part(upload_id, 1, PARTS[0], content_md5=md5(b"other")).code == "BadDigest"
    assert client("GET", "key", {"uploadId": upload_id}).texts("Part") == []


def test_a_part_with_a_checksum_of_another_algorithm_is_refused(client: Any) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="CRC64NVME")
    reply = client.part(upload_id, 1, b"x", x_amz_checksum_crc32=CRC32.to_base64(CRC32.compute(b"x")))

    assert (reply.code, "expected checksum Type: crc64nvme" in (reply.text("Message") or "")) == (
        "InvalidRequest",
        True,
    )


def test_where_no_algorithm_was_chosen_parts_may_have_checksums_of_any(client: Any) -> None:
    upload_id, right = client.create(), CRC32.to_base64(CRC32.compute(b"x"))
    wrong = client.part(upload_id, 1, b"y", x_amz_checksum_crc32=right)
    reply = client.part(upload_id, 1, b"x", x_amz_checksum_crc32=right)
    completed = client.complete(upload_id, [(1, reply.headers["ETag"])])

    assert (wrong.code, reply.headers["x-amz-checksum-crc32"]) == ("BadDigest", right)
    assert completed.text("ChecksumCRC64NVME") == CRC64_NVME.to_base64(CRC64_NVME.compute(b"x"))


def test_parts_in_another_order_are_refused_and_the_upload_is_kept(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)

    assert client.complete(upload_id, [parts[1], parts[0]]).code == "InvalidPartOrder"
    assert client.complete(upload_id, [parts[0], parts[0]]).code == "InvalidPartOrder"
    assert client.complete(upload_id, parts).status == 200


class TakesAnyList(MemoryBackend):
    """Leaves it to the server to refuse a list of parts."""

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        in_order = sorted(set(parts), key=lambda part: part.part_number)
        return super().complete_upload(key, upload_id, in_order, options)


def test_parts_in_another_order_are_refused_whatever_the_backend_does(client_of: Any) -> None:
    with S3Server({"examplebucket": TakesAnyList("examplebucket")}) as server:
        server.settings = evolve(server.settings, min_part_size=SMALL)
        client = client_of(server)
        upload_id = client.create()
        parts = send_all(client, upload_id)

        for wrong in ([parts[1], parts[0]], [parts[0], parts[0]]):
            assert client.complete(upload_id, wrong).code == "InvalidPartOrder"
        assert client.complete(upload_id, parts).status == 200


def test_a_stale_a_foreign_and_a_missing_part_are_refused(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)
    stale = parts[0]
    parts[0] = (1, client.part(upload_id, 1, PARTS[1]).headers["ETag"])

    assert client.complete(upload_id, [stale, *parts[1:]]).code == "InvalidPart"
    assert client.complete(upload_id, [*parts, (4, parts[0][1])]).code == "InvalidPart"
    assert client.complete(upload_id, parts).status == 200


def test_a_part_that_is_too_small_is_refused_unless_it_is_the_last(client: Any) -> None:
    upload_id = client.create()
    parts = [(n, client.part(upload_id, n, body).headers["ETag"]) for n, body in ((1, b"x" * 10), (2, PARTS[0]))]
    reply = client.complete(upload_id, parts)

    assert (reply.code, reply.text("PartNumber"), reply.text("ProposedSize")) == ("EntityTooSmall", "1", "10")
    assert client.complete(upload_id, parts[:1]).status == 200


def test_parts_of_s3_have_5_mib_unless_the_settings_say_otherwise(client_of: Any) -> None:
    with S3Server() as server:
        client = client_of(server)
        upload_id = client.create()
        parts = [(n, client.part(upload_id, n, PARTS[0]).headers["ETag"]) for n in (1, 2)]

        assert client.complete(upload_id, parts).text("MinSizeAllowed") == "5242880"


@pytest.mark.parametrize("number", ["0", "10001", "x", "", "1e3", "-1", "9" * 30])
def test_a_part_number_out_of_range_is_refused(client: Any, number: str) -> None:
    upload_id = client.create()

    assert client("PUT", "key", {"partNumber": number, "uploadId": upload_id}, b"x").code == "InvalidArgument"


def test_the_numbers_of_parts_end_at_10000(client: Any) -> None:
    upload_id = client.create()
    parts = [(number, client.part(upload_id, number, PARTS[0]).headers["ETag"]) for number in (1, 10_000)]

    assert client.complete(upload_id, parts).status == 200


def test_the_checksum_with_which_a_part_is_listed_is_compared(client: Any) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="CRC32C", x_amz_checksum_type="FULL_OBJECT")
    etag = client.part(upload_id, 1, b"x").headers["ETag"]

    def complete(value: int) -> Any:
        checksum = f"<ChecksumCRC32C>{CRC32C.to_base64(value)}</ChecksumCRC32C>"
        part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag>{checksum}</Part>"
        body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        return client("POST", "key", {"uploadId": upload_id}, body)

    assert complete(CRC32C.compute(b"x") ^ 1).code == "InvalidPart"
    assert complete(CRC32C.compute(b"x")).status == 200


def test_the_size_that_the_client_expects_is_compared(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)

    assert client.complete(upload_id, parts, x_amz_mp_object_size="1").code == "InvalidRequest"
    assert client.complete(upload_id, parts, x_amz_mp_object_size=str(len(WHOLE))).status == 200


def test_an_upload_that_is_gone_is_not_found(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)
    assert client("DELETE", "key", {"uploadId": upload_id}).status == 204

    for reply in (
        client.part(upload_id, 1, b"x"),
        client("GET", "key", {"uploadId": upload_id}),
        client.complete(upload_id, parts),
        client("DELETE", "key", {"uploadId": upload_id}),
    ):
        assert (reply.status, reply.code) == (404, "NoSuchUpload")


# --- conditions ------------------------------------------------------------------------------------------------------


def test_if_none_match_refuses_to_replace_an_object_and_keeps_the_upload(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)
    client("PUT", "key", body=b"first")

    reply = client.complete(upload_id, parts, if_none_match="*")
    assert (reply.status, reply.code, client("GET", "key").body) == (412, "PreconditionFailed", b"first")
    client("DELETE", "key")
    assert client.complete(upload_id, parts, if_none_match="*").status == 200


def test_if_match_replaces_this_version_only(client: Any) -> None:
    upload_id = client.create()
    parts = send_all(client, upload_id)
    missing = client.complete(upload_id, parts, if_match='"any"')
    etag = client("PUT", "key", body=b"first").headers["ETag"]

    assert (missing.status, missing.code) == (404, "NoSuchKey")
    assert client.complete(upload_id, parts, if_match='"other"').status == 412
    assert client.complete(upload_id, parts, if_match=etag).status == 200


def test_an_etag_after_if_none_match_is_not_implemented(client: Any) -> None:
    assert client("PUT", "key", body=b"x", headers={"If-None-Match": '"etag"'}).code == "NotImplemented"


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 3])
def test_parts_are_listed_page_by_page_with_their_checksums(client: Any, page: int) -> None:
    upload_id = client.create(x_amz_checksum_algorithm="CRC32C", x_amz_checksum_type="FULL_OBJECT")
    parts = send_all(client, upload_id)
    found: list[tuple[int, str]] = []
    checksums: list[str] = []
    marker = "0"
    while True:
        query = {"uploadId": upload_id, "max-parts": str(page), "part-number-marker": marker}
        reply = client("GET", "key", query)
        found += [
            (int(number), etag)
            for number, etag in zip(reply.texts("Part/PartNumber"), reply.texts("Part/ETag"), strict=True)
        ]
        checksums += reply.texts("Part/ChecksumCRC32C")
        if reply.text("IsTruncated") == "false":
            break
        marker = reply.text("NextPartNumberMarker") or ""

    assert found == parts
    assert checksums == [CRC32C.to_base64(CRC32C.compute(body)) for body in PARTS]


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_uploads_are_listed_by_key_and_then_by_time(client: Any, page: int) -> None:
    ids = [(key, client.create(key)) for key in ("b", "a", "b", "b/c", "a b+&")]
    found: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        reply = client("GET", "", {"uploads": "", "max-uploads": str(page), "encoding-type": "url", **markers})
        found += zip(map(unquote_plus, reply.texts("Upload/Key")), reply.texts("Upload/UploadId"), strict=True)
        if reply.text("IsTruncated") == "false":
            break
        assert len(found) < len(ids)
        markers = {
            "key-marker": unquote_plus(reply.text("NextKeyMarker") or ""),
            "upload-id-marker": reply.text("NextUploadIdMarker") or "",
        }

    assert found == sorted(ids, key=lambda item: item[0])


def test_after_an_upload_that_has_ended_all_of_its_key_are_listed(client: Any) -> None:
    ids = [client.create(key) for key in ("a", "b", "b", "c")]
    client("DELETE", "b", {"uploadId": ids[1]})
    reply = client("GET", "", {"uploads": "", "key-marker": "b", "upload-id-marker": ids[1]})

    assert reply.texts("Upload/UploadId") == ids[2:]


def test_keys_are_encoded_if_the_request_says_so(client: Any) -> None:
    client.create("a%41 +")
    client.create("b/*-._~é!")
    plain, encoded = client("GET", "", {"uploads": ""}), client("GET", "", {"uploads": "", "encoding-type": "url"})

    assert (plain.texts("Upload/Key"), plain.text("EncodingType")) == (["a%41 +", "b/*-._~é!"], None)
    assert (encoded.texts("Upload/Key"), encoded.text("EncodingType")) == (["a%2541+%2B", "b/*-._%7E%C3%A9%21"], "url")
    assert client("GET", "", {"uploads": "", "encoding-type": "base64"}).code == "InvalidArgument"


# --- object lock, customer keys --------------------------------------------------------------------------------------


def test_a_bucket_with_object_lock_needs_a_digest_of_each_part(server: S3Server, client: Any) -> None:
    server.settings = evolve(server.settings, require_digests=True)
    upload_id = client.create()

    assert client.part(upload_id, 1, b"x").code == "InvalidRequest"
    assert client.part(upload_id, 1, b"x", content_md5=md5(b"x")).status == 200
    checksum = CRC64_NVME.to_base64(CRC64_NVME.compute(b"x"))
    assert client.part(upload_id, 1, b"x", x_amz_checksum_crc64nvme=checksum).status == 200
    assert client("PUT", "key", body=b"x").code == "InvalidRequest"


def customer_key(byte: bytes) -> dict[str, str]:
    prefix = "x_amz_server_side_encryption_customer_"
    key = byte * 32
    return {
        f"{prefix}algorithm": "AES256",
        f"{prefix}key": base64.b64encode(key).decode(),
        f"{prefix}key_MD5": md5(key),
    }


def test_a_customers_key_must_come_with_every_part_and_every_reading(client: Any) -> None:
    key, other = customer_key(b"k"), customer_key(b"o")
    upload_id = client.create(**key)
    assert client.part(upload_id, 1, b"x").code == "InvalidRequest"
    assert client.part(upload_id, 1, b"x", **other).code == "InvalidRequest"
    part = client.part(upload_id, 1, b"x", **key)
    assert client.complete(upload_id, [(1, part.headers["ETag"])]).status == 200

    assert client("HEAD", "key").status == 400
    assert client("GET", "key", headers={n.replace("_", "-"): v for n, v in key.items()}).body == b"x"
    recorded = str(client.server.requests)
    assert key["x_amz_server_side_encryption_customer_key"] not in recorded


# --- planned faults --------------------------------------------------------------------------------------------------


def test_a_conflict_at_complete_keeps_the_upload(server: S3Server, client: Any) -> None:
    server.plan(ServerFault("CompleteMultipartUpload", Fail("ConditionalRequestConflict")))
    upload_id = client.create()
    parts = send_all(client, upload_id)

    assert client.complete(upload_id, parts).status == 409
    assert client.complete(upload_id, parts).status == 200


def test_a_lost_response_of_complete_leaves_the_object(server: S3Server, client: Any) -> None:
    server.plan(ServerFault("CompleteMultipartUpload", LoseResponse()))
    upload_id = client.create()
    with pytest.raises((ConnectionError, OSError)):
        client.complete(upload_id, send_all(client, upload_id))

    assert client("GET", "key").body == WHOLE


def test_checksums_can_be_wrong_or_missing(server: S3Server, client: Any) -> None:
    upload_id = client.create()
    right = CRC64_NVME.to_base64(CRC64_NVME.compute(b"x"))
    server.plan(ServerFault("UploadPart", WrongChecksum()), ServerFault("UploadPart", NoChecksum(), occurrence=2))
    replies = [client.part(upload_id, 1, b"x").headers.get("x-amz-checksum-crc64nvme") for _ in range(3)]

    assert replies[0] not in (None, right)
    assert replies[1:] == [None, right]


@pytest.mark.parametrize(
    "body",
    [b"", b"<", b"<CompleteMultipartUpload/>", document([]), b"<Other/>", b"<!DOCTYPE a []>" + document([(1, "e")])],
)
def test_a_document_that_is_none_is_refused(client: Any, body: bytes) -> None:
    upload_id = client.create()

    assert client("POST", "key", {"uploadId": upload_id}, body).code == "MalformedXML"
