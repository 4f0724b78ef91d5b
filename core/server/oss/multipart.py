"""The operations on multipart uploads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from attrs import evolve

from partwise.checksums import crc64_fold
from partwise.model import ObjectOptions, PendingUpload, UploadedPart
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.buckets import UploadInfo
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.objects import check_length
from partwise.server.oss.callbacks import callback_of
from partwise.server.oss.headers import checksum_headers
from partwise.server.oss.objects import check_overwrite, object_info, stored_response
from partwise.server.oss.options import (
    ACCEPTED_LIMITS,
    encryption_headers,
    for_backend,
    options_of,
    quote_key,
    traffic_limit_of,
)
from partwise.server.reading import quoted
from partwise.server.times import xml_time
from partwise.server.uploads import (
    abort_upload,
    check_part_sizes,
    list_pending_uploads,
    list_stored_parts,
    naming_upload,
    part_number_of,
    parts_page,
    select_parts,
)
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder, parse_part_list

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
    encode = key_encoder(exchange.request, quote_key)
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
        ("Content-MD5", body.md5),
        *checksum_headers(exchange, body.checksum if part.checksum is None else part.checksum),
        *encryption_headers(upload.options),
    )
    return ServerResponse(200, headers)


def list_parts(exchange: Exchange) -> ServerResponse:
    upload_id = _upload_id(exchange)
    page, encode = parts_page(exchange, upload_id, accepted=ACCEPTED_LIMITS), key_encoder(exchange.request, quote_key)
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
            ("PartNumberMarker", page.marker),
            ("NextPartNumberMarker", str(page.parts[-1].part_number) if page.parts else page.marker),
            ("MaxParts", str(page.limit)),
            ("IsTruncated", boolean(value=page.truncated)),
            *(
                ("Part", _part_node(part, bucket.part_time(upload_id, part), with_checksum=with_checksum))
                for part in page.parts
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
    bucket = exchange.bucket

    def describe(upload: PendingUpload) -> tuple[Node, ...]:
        return (
            ("StorageClass", bucket.upload(upload.upload_id).options.storage_class or "Standard"),
            ("Initiated", xml_time(upload.initiated.timestamp())),
        )

    return list_pending_uploads(exchange, _after, describe, quote=quote_key, accepted=ACCEPTED_LIMITS)


def _after(pending: Iterable[PendingUpload], key_marker: str, id_marker: str) -> Iterator[PendingUpload]:
    for upload in pending:
        if upload.key > key_marker or (upload.key == key_marker and id_marker and upload.upload_id > id_marker):
            yield upload


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
    number = part_number_of(text)
    if number is None:
        raise bad_argument("PartNumber", text, "Part number must be an integer between 1 and 10000, inclusive.")
    return number


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
            ("Key", key_encoder(exchange.request, quote_key)(exchange.key)),
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
