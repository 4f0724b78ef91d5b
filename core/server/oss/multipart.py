"""The operations on multipart uploads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from urllib.parse import quote

from attrs import evolve

from partwise.checksums import crc64_fold
from partwise.model import ObjectOptions, PendingUpload, UploadedPart
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.buckets import UploadInfo
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.oss.callbacks import callback_of
from partwise.server.oss.headers import checksum_headers
from partwise.server.oss.objects import check_length, check_overwrite, object_info, stored_response
from partwise.server.oss.options import encryption_headers, for_backend, options_of, traffic_limit_of
from partwise.server.paging import limit_of, page_of
from partwise.server.reading import quoted
from partwise.server.uploads import (
    PART_NUMBERS,
    abort_upload,
    check_part_sizes,
    list_stored_parts,
    naming_upload,
    select_parts,
)
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder, parse_part_list, xml_time

_XML = (("Content-Type", "application/xml"),)


def initiate_multipart_upload(exchange: Exchange) -> ServerResponse:
    exchange.body.document()
    bucket = exchange.bucket
    options = options_of(exchange.request)
    check_overwrite(exchange, options.forbid_overwrite)
    # The ACL is passed to complete; it is not documented for initiate.
    accepted = for_backend(evolve(options, acl=None), bucket.backend.capabilities.options)
    upload_id = bucket.backend.initiate_upload(exchange.key, accepted)
    info = UploadInfo(options, exchange.request.has_param("sequential"))
    bucket.uploads.put(upload_id, info, len(repr(info)))
    encode = key_encoder(exchange.request)
    body = document(
        "InitiateMultipartUploadResult",
        (
            *encoding_node(exchange.request),
            ("Bucket", bucket.name),
            ("Key", encode(exchange.key)),
            ("UploadId", upload_id),
        ),
    )
    return ServerResponse(200, (*_XML, *encryption_headers(options)), body)


def upload_part(exchange: Exchange) -> ServerResponse:
    request, body = exchange.request, exchange.body
    bucket = exchange.bucket
    upload_id, number = _upload_id(exchange), _part_number(exchange)
    encryption = request.header("x-oss-server-side-encryption")
    if encryption is not None:
        raise bad_argument(
            "x-oss-server-side-encryption", encryption, "It can only be set when the upload is initiated."
        )
    traffic_limit_of(request)
    check_length(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_part_size):
        raise ServiceError("EntityTooLarge")
    upload = bucket.upload(upload_id)
    if upload.sequential:
        _check_sequence(number, list_stored_parts(exchange, upload_id))
    with naming_upload(upload_id):
        part = bucket.backend.upload_part(exchange.key, upload_id, number, body)
    bucket.part_times.put((upload_id, number), exchange.now, 1)
    headers = (
        ("ETag", quoted(part.etag)),
        ("Content-MD5", base64.b64encode(body.md5).decode()),
        *checksum_headers(exchange, body.checksum if part.checksum is None else part.checksum),
        *encryption_headers(upload.options),
    )
    return ServerResponse(200, headers)


def list_parts(exchange: Exchange) -> ServerResponse:
    upload_id = _upload_id(exchange)
    marker = exchange.request.param("part-number-marker") or "0"
    if not (marker.isascii() and marker.isdigit() and len(marker) <= 5):
        raise bad_argument("part-number-marker", marker, "It must be a part number.")
    limit = limit_of(exchange.request, "max-parts", 1000, exchange.settings.page_limit)
    parts = [part for part in list_stored_parts(exchange, upload_id) if part.part_number > int(marker)]
    page, encode = parts[:limit], key_encoder(exchange.request)
    bucket = exchange.bucket
    with_checksum = exchange.checksums and exchange.settings.list_checksums
    body = document(
        "ListPartsResult",
        (
            *encoding_node(exchange.request),
            ("Bucket", bucket.name),
            ("Key", encode(exchange.key)),
            ("UploadId", upload_id),
            ("StorageClass", bucket.upload(upload_id).options.storage_class or "Standard"),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", str(page[-1].part_number) if page else marker),
            ("MaxParts", str(limit)),
            ("IsTruncated", boolean(value=len(parts) > len(page))),
            *(
                ("Part", _part_node(part, bucket.part_time(upload_id, part), with_checksum=with_checksum))
                for part in page
            ),
        ),
    )
    return ServerResponse(200, _XML, body)


def complete_multipart_upload(exchange: Exchange) -> ServerResponse:
    request, bucket, key = exchange.request, exchange.bucket, exchange.key
    upload_id = _upload_id(exchange)
    sent = exchange.body.document()
    callback = callback_of(request)
    options = options_of(request)
    stored_parts = list_stored_parts(exchange, upload_id)
    if request.header("x-oss-complete-all") == "yes":
        if sent:
            raise bad_argument(
                "x-oss-complete-all", "yes", "A list of parts and x-oss-complete-all exclude each other."
            )
        parts = stored_parts
    else:
        parts = select_parts(parse_part_list(sent), stored_parts, upload_id)
    if not parts:
        raise ServiceError("InvalidPart", "The upload has no parts.")
    check_part_sizes(exchange, parts)
    check_overwrite(exchange, options.forbid_overwrite)
    relevant = ObjectOptions(acl=options.acl, forbid_overwrite=options.forbid_overwrite)
    accepted = for_backend(relevant, bucket.backend.capabilities.options)
    with naming_upload(upload_id):
        stored = bucket.backend.complete_upload(key, upload_id, parts, accepted)
    if stored.checksum is None:
        stored = evolve(stored, checksum=_object_crc64(parts))
    info = object_info(exchange, stored, evolve(bucket.upload(upload_id).options, acl=options.acl), "Multipart")
    bucket.remember_object(info)
    bucket.uploads.drop(upload_id)
    return stored_response(exchange, info, callback, _complete_document(exchange, info.etag))


def abort_multipart_upload(exchange: Exchange) -> ServerResponse:
    exchange.body.document()
    return abort_upload(exchange, _upload_id(exchange))


def list_multipart_uploads(exchange: Exchange) -> ServerResponse:
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
    # The markers are present on the last page, too: a client must use IsTruncated.
    last = page.last
    next_key, next_id = (last.key, last.upload_id) if isinstance(last, PendingUpload) else (last or "", "")
    encode = key_encoder(exchange.request)
    body = document(
        "ListMultipartUploadsResult",
        (
            *encoding_node(exchange.request),
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


# --- the request -----------------------------------------------------------------------------------------------------


def _upload_id(exchange: Exchange) -> str:
    upload_id = exchange.target.upload_id
    if upload_id is None:
        raise bad_argument("ResourceType", "uploadId", "The query parameter uploadId is missing.")
    return upload_id


def _part_number(exchange: Exchange) -> int:
    text = exchange.request.param("partNumber")
    if text is None:
        raise bad_argument("ResourceType", "partNumber", "The query parameter partNumber is missing.")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in PART_NUMBERS):
        raise bad_argument("PartNumber", text, "Part number must be an integer between 1 and 10000, inclusive.")
    return int(text)


# --- the stored parts ------------------------------------------------------------------------------------------------


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_sequence(number: int, stored: Sequence[UploadedPart]) -> None:
    numbers = [part.part_number for part in stored]
    if number in numbers:
        raise ServiceError("PartAlreadyExist", elements={"PartNumber": str(number)})
    if number != max(numbers, default=0) + 1:
        raise ServiceError("PartNotSequential", elements={"PartNumber": str(number)})


# --- the response ----------------------------------------------------------------------------------------------------


def _object_crc64(parts: Sequence[UploadedPart]) -> int | None:
    """Return the CRC-64 of the object, or None if that of a part is unknown."""
    runs = [(part.checksum, part.size) for part in parts if part.checksum is not None]
    return crc64_fold(runs) if len(runs) == len(parts) else None


def _complete_document(exchange: Exchange, etag: str) -> bytes:
    target = exchange.target
    return document(
        "CompleteMultipartUploadResult",
        (
            *encoding_node(exchange.request),
            ("Location", f"http://{target.bucket}.{target.host}/{quote(exchange.key)}"),
            ("Bucket", target.bucket or ""),
            ("Key", key_encoder(exchange.request)(exchange.key)),
            ("ETag", quoted(etag)),
        ),
    )


def _part_node(part: UploadedPart, modified: float, *, with_checksum: bool) -> tuple[Node, ...]:
    checksum = () if part.checksum is None or not with_checksum else (("HashCrc64ecma", str(part.checksum)),)
    return (
        ("PartNumber", str(part.part_number)),
        ("LastModified", xml_time(modified)),
        ("ETag", quoted(part.etag)),
        *checksum,
        ("Size", str(part.size)),
    )
