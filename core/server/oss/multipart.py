"""The operations of multipart uploads."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from urllib.parse import quote

from attrs import evolve

from partwise.checksums import crc64_fold
from partwise.errors import UploadNotFound
from partwise.model import ObjectOptions, PendingUpload, UploadedPart
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.oss.buckets import UploadRecord
from partwise.server.oss.callbacks import callback_of
from partwise.server.oss.errors import OSSError, bad_argument
from partwise.server.oss.objects import check_length, check_overwrite, quoted, record_of, stored_response
from partwise.server.oss.options import encryption_headers, for_backend, options_of, traffic_limit_of
from partwise.server.oss.paging import limit_of, page_of
from partwise.server.oss.xml import (
    Node,
    boolean,
    document,
    encoding_node,
    key_encoder,
    listed_parts,
    xml_time,
)

_XML = (("Content-Type", "application/xml"),)
_PART_NUMBERS = range(1, 10_000 + 1)


def initiate_multipart_upload(exchange: Exchange) -> ServerResponse:
    """InitiateMultipartUpload."""
    exchange.body.document()
    bucket = exchange.bucket
    options = options_of(exchange.request)
    check_overwrite(exchange, options.forbid_overwrite)
    # The ACL is given on complete; the interface lists no effect of it here.
    asked = for_backend(evolve(options, acl=None), bucket.backend.capabilities.options)
    upload_id = bucket.backend.initiate_upload(exchange.key, asked)
    bucket.remember_upload(upload_id, UploadRecord(options, exchange.request.has_param("sequential")))
    encode = key_encoder(exchange.encoding_type)
    body = document(
        "InitiateMultipartUploadResult",
        (
            *encoding_node(exchange.encoding_type),
            ("Bucket", bucket.name),
            ("Key", encode(exchange.key)),
            ("UploadId", upload_id),
        ),
    )
    return ServerResponse(200, (*_XML, *encryption_headers(options)), body)


def upload_part(exchange: Exchange) -> ServerResponse:
    """UploadPart."""
    request, body = exchange.request, exchange.body
    bucket = exchange.bucket
    upload_id, number = _upload_id(exchange), _part_number(exchange)
    encryption = request.header("x-oss-server-side-encryption")
    if encryption is not None:
        raise bad_argument("x-oss-server-side-encryption", encryption, "It is fixed when the upload is initiated.")
    traffic_limit_of(request)
    check_length(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_part_size):
        raise OSSError("EntityTooLarge")
    record = bucket.upload(upload_id)
    if record.sequential:
        _check_sequence(number, _held(exchange, upload_id))
    with _naming(upload_id):
        receipt = bucket.backend.upload_part(exchange.key, upload_id, number, body)
    bucket.remember_part(upload_id, number, exchange.now)
    headers = (
        ("ETag", quoted(receipt.etag)),
        ("Content-MD5", base64.b64encode(body.md5).decode()),
        *exchange.checksum_headers(body.crc64 if receipt.crc64 is None else receipt.crc64),
        *encryption_headers(record.options),
    )
    return ServerResponse(200, headers)


def list_parts(exchange: Exchange) -> ServerResponse:
    """ListParts."""
    upload_id = _upload_id(exchange)
    marker = exchange.request.param("part-number-marker") or "0"
    if not (marker.isascii() and marker.isdigit() and len(marker) <= 5):
        raise bad_argument("part-number-marker", marker, "It is a part number.")
    limit = limit_of(exchange.request, "max-parts", 1000, exchange.settings.page_limit)
    parts = [part for part in _held(exchange, upload_id) if part.part_number > int(marker)]
    page, encode = parts[:limit], key_encoder(exchange.encoding_type)
    bucket = exchange.bucket
    reports = exchange.checksums and exchange.settings.checksums and exchange.settings.list_checksums
    body = document(
        "ListPartsResult",
        (
            *encoding_node(exchange.encoding_type),
            ("Bucket", bucket.name),
            ("Key", encode(exchange.key)),
            ("UploadId", upload_id),
            ("StorageClass", bucket.upload(upload_id).options.storage_class or "Standard"),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", str(page[-1].part_number) if page else marker),
            ("MaxParts", str(limit)),
            ("IsTruncated", boolean(value=len(parts) > len(page))),
            *(("Part", _part_node(part, bucket.part_time(upload_id, part), reports=reports)) for part in page),
        ),
    )
    return ServerResponse(200, _XML, body)


def complete_multipart_upload(exchange: Exchange) -> ServerResponse:
    """CompleteMultipartUpload."""
    request, bucket, key = exchange.request, exchange.bucket, exchange.key
    upload_id = _upload_id(exchange)
    sent = exchange.body.document()
    callback = callback_of(request)
    late = options_of(request)
    held = _held(exchange, upload_id)
    if request.header("x-oss-complete-all") == "yes":
        if sent:
            raise bad_argument("x-oss-complete-all", "yes", "A list of parts and complete-all can't go together.")
        parts = held
    else:
        parts = _chosen(listed_parts(sent), held, upload_id)
    _check_sizes(exchange, parts)
    check_overwrite(exchange, late.forbid_overwrite)
    asked = ObjectOptions(acl=late.acl, forbid_overwrite=late.forbid_overwrite)
    honoured = for_backend(asked, bucket.backend.capabilities.options)
    with _naming(upload_id):
        stored = bucket.backend.complete_upload(key, upload_id, parts, honoured)
    if stored.crc64 is None:
        stored = evolve(stored, crc64=_folded(parts))
    record = record_of(exchange, stored, evolve(bucket.upload(upload_id).options, acl=late.acl), "Multipart")
    bucket.remember_object(record)
    bucket.forget_upload(upload_id)
    return stored_response(exchange, record, callback, _complete_document(exchange, record.etag))


def abort_multipart_upload(exchange: Exchange) -> ServerResponse:
    """AbortMultipartUpload."""
    exchange.body.document()
    upload_id = _upload_id(exchange)
    bucket = exchange.bucket
    # To a backend an id that is dead already is an aborted one; the service says that there is none.
    pending = bucket.backend.list_uploads(exchange.key)
    if not any((upload.key, upload.upload_id) == (exchange.key, upload_id) for upload in pending):
        raise OSSError("NoSuchUpload", elements={"UploadId": upload_id})
    bucket.backend.abort_upload(exchange.key, upload_id)
    bucket.forget_upload(upload_id)
    return ServerResponse(204)


def list_multipart_uploads(exchange: Exchange) -> ServerResponse:
    """ListMultipartUploads."""
    request, bucket = exchange.request, exchange.bucket
    prefix, delimiter = request.param("prefix") or "", request.param("delimiter") or ""
    key_marker = request.param("key-marker") or ""
    id_marker = (request.param("upload-id-marker") or "") if key_marker else ""
    limit = limit_of(request, "max-uploads", 1000, exchange.settings.page_limit)

    def follows(upload: PendingUpload) -> bool:
        if upload.key == key_marker and id_marker:
            return upload.upload_id > id_marker
        return upload.key > key_marker

    page = page_of(
        filter(follows, bucket.backend.list_uploads(prefix)),
        lambda upload: upload.key,
        prefix=prefix,
        delimiter=delimiter,
        marker=key_marker,
        limit=limit,
    )
    # They stand on the last page too: a client has to go by IsTruncated.
    last = page.last
    next_key, next_id = (last.key, last.upload_id) if isinstance(last, PendingUpload) else (last or "", "")
    encode = key_encoder(exchange.encoding_type)
    body = document(
        "ListMultipartUploadsResult",
        (
            *encoding_node(exchange.encoding_type),
            ("Bucket", bucket.name),
            ("KeyMarker", encode(key_marker)),
            ("UploadIdMarker", id_marker),
            ("NextKeyMarker", encode(next_key)),
            ("NextUploadIdMarker", next_id),
            ("Delimiter", encode(delimiter)),
            ("Prefix", encode(prefix)),
            ("MaxUploads", str(limit)),
            ("IsTruncated", boolean(value=page.truncated)),
            *(
                (
                    "Upload",
                    (
                        ("Key", encode(upload.key)),
                        ("UploadId", upload.upload_id),
                        ("StorageClass", bucket.upload(upload.upload_id).options.storage_class or "Standard"),
                        ("Initiated", xml_time(upload.initiated.timestamp())),
                    ),
                )
                for upload in page.entries
            ),
            *(("CommonPrefixes", (("Prefix", encode(common)),)) for common in page.prefixes),
        ),
    )
    return ServerResponse(200, _XML, body)


# --- what a request says ---------------------------------------------------------------------------------------------


def _upload_id(exchange: Exchange) -> str:
    upload_id = exchange.request.param("uploadId")
    if not upload_id:
        raise bad_argument("ResourceType", "uploadId", "The query parameter uploadId is missing.")
    return upload_id


def _part_number(exchange: Exchange) -> int:
    text = exchange.request.param("partNumber")
    if text is None:
        raise bad_argument("ResourceType", "partNumber", "The query parameter partNumber is missing.")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in _PART_NUMBERS):
        raise bad_argument("PartNumber", text, "Part number must be an integer between 1 and 10000, inclusive.")
    return int(text)


# --- what there is ---------------------------------------------------------------------------------------------------


@contextmanager
def _naming(upload_id: str) -> Iterator[None]:
    """Let the refusal name the upload that there is not."""
    try:
        yield
    except UploadNotFound as error:
        raise OSSError("NoSuchUpload", elements={"UploadId": upload_id}) from error


def _held(exchange: Exchange, upload_id: str) -> list[UploadedPart]:
    with _naming(upload_id):
        return list(exchange.bucket.backend.list_parts(exchange.key, upload_id))


# --- the rules -------------------------------------------------------------------------------------------------------


def _check_sequence(number: int, held: Sequence[UploadedPart]) -> None:
    numbers = [part.part_number for part in held]
    if number in numbers:
        raise OSSError("PartAlreadyExist", elements={"PartNumber": str(number)})
    if number != max(numbers, default=0) + 1:
        raise OSSError("PartNotSequential", elements={"PartNumber": str(number)})


def _chosen(named: Sequence[tuple[int, str]], held: Sequence[UploadedPart], upload_id: str) -> list[UploadedPart]:
    """The parts that the document names, as they are held."""
    if any(before >= after for (before, _), (after, _) in pairwise(named)):
        raise OSSError("InvalidPartOrder", elements={"UploadId": upload_id})
    by_number = {part.part_number: part for part in held}
    chosen = []
    for number, etag in named:
        part = by_number.get(number)
        if part is None or part.etag.strip('"') != etag:
            raise OSSError("InvalidPart", elements={"ETag": etag, "PartNumber": str(number), "UploadId": upload_id})
        chosen.append(part)
    return chosen


def _check_sizes(exchange: Exchange, parts: Sequence[UploadedPart]) -> None:
    if not parts:
        raise OSSError("InvalidPart", "The upload has no part.")
    limits = exchange.bucket.backend.limits
    smallest = max(exchange.settings.min_part_size, limits.min_part_size)
    for part in parts[:-1]:
        if part.size < smallest:
            raise OSSError(
                "EntityTooSmall",
                elements={
                    "ETag": part.etag,
                    "MinSizeAllowed": str(smallest),
                    "ProposedSize": str(part.size),
                    "PartNumber": str(part.part_number),
                },
            )
    if sum(part.size for part in parts) > limits.max_object_size:
        raise OSSError("EntityTooLarge")


# --- what a response says ---------------------------------------------------------------------------------------------


def _folded(parts: Sequence[UploadedPart]) -> int | None:
    """The CRC-64 of the whole, where every part has one."""
    runs = [(part.crc64, part.size) for part in parts if part.crc64 is not None]
    return crc64_fold(runs) if len(runs) == len(parts) else None


def _complete_document(exchange: Exchange, etag: str) -> bytes:
    place = exchange.place
    return document(
        "CompleteMultipartUploadResult",
        (
            *encoding_node(exchange.encoding_type),
            ("Location", f"http://{place.bucket}.{place.host}/{quote(exchange.key)}"),
            ("Bucket", place.bucket or ""),
            ("Key", key_encoder(exchange.encoding_type)(exchange.key)),
            ("ETag", quoted(etag)),
        ),
    )


def _part_node(part: UploadedPart, modified: float, *, reports: bool) -> tuple[Node, ...]:
    checksum = () if part.crc64 is None or not reports else (("HashCrc64ecma", str(part.crc64)),)
    return (
        ("PartNumber", str(part.part_number)),
        ("LastModified", xml_time(modified)),
        ("ETag", quoted(part.etag)),
        *checksum,
        ("Size", str(part.size)),
    )
