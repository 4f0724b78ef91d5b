"""The operations on multipart uploads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from attrs import evolve

from partwise.checksums import Checksum
from partwise.model import PendingUpload, UploadedPart
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.buckets import Bucket, UploadInfo
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerRequest, ServerResponse
from partwise.server.objects import check_length
from partwise.server.reading import quoted
from partwise.server.s3.objects import (
    check_conditions,
    check_digest,
    checksum_headers,
    object_info,
    reported,
    stored_headers,
)
from partwise.server.s3.options import (
    ACCEPTED_LIMITS,
    OWNER,
    check_customer_key,
    customer_key_of,
    encryption_headers,
    for_backend,
    kept_headers,
    options_of,
    quote_key,
)
from partwise.server.s3.payload import (
    ALGORITHMS,
    announced_algorithm,
    default_checksum,
    header_of,
    name_of,
    sent_checksum,
)
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
from partwise.server.xml import Node, boolean, document, number_and_etag, parse_parts

_XML = (("Content-Type", "application/xml"),)
_OWNER: Node = ("Owner", (("ID", OWNER),))
_INITIATOR: Node = ("Initiator", (("ID", OWNER),))


def create_multipart_upload(exchange: Exchange) -> ServerResponse:
    request, bucket = exchange.request, exchange.bucket
    exchange.body.document()
    options, headers, customer_key = options_of(request), kept_headers(request), customer_key_of(request)
    # A condition is for the request that completes the upload.
    options = evolve(options, forbid_overwrite=False)
    algorithm, composite = _requested_checksum(request)
    upload_id = bucket.backend.initiate_upload(exchange.key, for_backend(options, bucket.backend.capabilities.options))
    chosen = request.header("x-amz-checksum-algorithm") is not None
    info = UploadInfo(options, False, headers, algorithm, composite, customer_key, names_checksum=chosen)
    bucket.uploads.put(upload_id, info, len(repr(info)))
    announced: tuple[tuple[str, str], ...] = ()
    if chosen:
        announced = (
            ("x-amz-checksum-algorithm", name_of(algorithm)),
            ("x-amz-checksum-type", "COMPOSITE" if composite else "FULL_OBJECT"),
        )
    body = document(
        "InitiateMultipartUploadResult",
        (("Bucket", bucket.name), ("Key", exchange.key), ("UploadId", upload_id)),
    )
    return ServerResponse(200, (*_XML, *announced, *encryption_headers(options, customer_key)), body)


def _requested_checksum(request: ServerRequest) -> tuple[Checksum, bool]:
    """Return the algorithm of an upload, and whether its checksum is composite."""
    name, kind = request.header("x-amz-checksum-algorithm"), request.header("x-amz-checksum-type")
    if name is None:
        return default_checksum(), False
    algorithm = ALGORITHMS.get(name.upper())
    if algorithm is None:
        raise ServiceError("InvalidRequest", "Checksum algorithm provided is unsupported.")
    if kind not in (None, "COMPOSITE", "FULL_OBJECT"):
        raise bad_argument("x-amz-checksum-type", kind, "It must be COMPOSITE or FULL_OBJECT.")
    composite = algorithm.name != "crc64nvme" if kind is None else kind == "COMPOSITE"
    if not composite and not algorithm.is_combinable:
        raise ServiceError("InvalidRequest", f"The FULL_OBJECT checksum type cannot be used with the {name} checksum.")
    if composite and algorithm.name == "crc64nvme":
        raise ServiceError("InvalidRequest", f"The COMPOSITE checksum type cannot be used with the {name} checksum.")
    return algorithm, composite


def upload_part(exchange: Exchange) -> ServerResponse:
    request, body, bucket = exchange.request, exchange.body, exchange.bucket
    upload_id, number = _upload_id(exchange), _part_number(exchange)
    check_length(exchange)
    check_digest(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_part_size):
        raise ServiceError("EntityTooLarge", elements={"ProposedSize": str(len(body))})
    upload = bucket.upload(upload_id)
    check_customer_key(request, upload.customer_key)
    algorithm = _check_part_checksum(request, upload)
    body.track(algorithm)
    with naming_upload(upload_id):
        part = bucket.backend.upload_part(exchange.key, upload_id, number, body)
    value = body.tracked(algorithm)
    bucket.part_times.put((upload_id, number), exchange.now, 1)
    bucket.part_checksums.put((upload_id, number), (part.etag, value), 1)
    shown = announced_algorithm(request) or algorithm
    headers = (
        ("ETag", quoted(part.etag)),
        *reported(exchange, ((header_of(shown), shown.to_base64(body.tracked(shown))),)),
        *encryption_headers(upload.options, upload.customer_key),
    )
    return ServerResponse(200, headers)


def _check_part_checksum(request: ServerRequest, upload: UploadInfo) -> Checksum:
    """
    Return the algorithm of an upload's parts.

    Where the client has chosen one, a part with a checksum of another one is refused. Else the checksum of a part may
    be of any algorithm: SDKs send CRC32 with the parts of an upload that was created without an algorithm.
    """
    sent, expected = announced_algorithm(request), upload.checksum or default_checksum()
    if sent is not None and sent != expected and upload.names_checksum:
        raise ServiceError(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {name_of(expected).lower()}, actual checksum "
            f"Type: {name_of(sent).lower()}",
        )
    if upload.composite and sent is None:
        raise ServiceError("InvalidRequest", f"A part of this upload needs the header {header_of(expected)}.")
    return expected


def list_parts(exchange: Exchange) -> ServerResponse:
    bucket, upload_id = exchange.bucket, _upload_id(exchange)
    page = parts_page(exchange, upload_id, accepted=ACCEPTED_LIMITS)
    upload = bucket.upload(upload_id)
    kind: tuple[Node, ...] = ()
    if upload.checksum is not None and exchange.checksums:
        kind = (
            ("ChecksumAlgorithm", name_of(upload.checksum)),
            ("ChecksumType", "COMPOSITE" if upload.composite else "FULL_OBJECT"),
        )
    with_checksum = exchange.checksums and exchange.settings.list_checksums
    body = document(
        "ListPartsResult",
        (
            ("Bucket", bucket.name),
            ("Key", exchange.key),
            ("UploadId", upload_id),
            _INITIATOR,
            _OWNER,
            ("StorageClass", upload.options.storage_class or "STANDARD"),
            ("PartNumberMarker", page.marker),
            ("NextPartNumberMarker", str(page.parts[-1].part_number) if page.parts else "0"),
            ("MaxParts", str(page.limit)),
            ("IsTruncated", boolean(value=page.truncated)),
            *kind,
            *(
                ("Part", _part_node(bucket, upload_id, upload, part, with_checksum=with_checksum))
                for part in page.parts
            ),
        ),
    )
    return ServerResponse(200, _XML, body)


def _part_node(
    bucket: Bucket, upload_id: str, upload: UploadInfo, part: UploadedPart, *, with_checksum: bool
) -> tuple[Node, ...]:
    checksum: tuple[Node, ...] = ()
    algorithm, value = upload.checksum, _part_checksum(bucket, upload_id, part)
    if with_checksum and algorithm is not None and value is not None:
        checksum = ((f"Checksum{name_of(algorithm)}", algorithm.to_base64(value)),)
    return (
        ("PartNumber", str(part.part_number)),
        ("LastModified", xml_time(bucket.part_time(upload_id, part))),
        ("ETag", quoted(part.etag)),
        ("Size", str(part.size)),
        *checksum,
    )


def complete_multipart_upload(exchange: Exchange) -> ServerResponse:
    request, bucket, key = exchange.request, exchange.bucket, exchange.key
    upload_id = _upload_id(exchange)
    listed = parse_parts(exchange.body.document())
    upload, stored_parts = bucket.upload(upload_id), list_stored_parts(exchange, upload_id)
    parts = select_parts([number_and_etag(part) for part in listed], stored_parts, upload_id)
    check_part_sizes(exchange, parts)
    checksums = _object_checksum(exchange, upload, parts, listed)
    check_conditions(exchange)
    relevant = evolve(upload.options, forbid_overwrite=request.header("if-none-match") == "*")
    with naming_upload(upload_id):
        stored = bucket.backend.complete_upload(
            key, upload_id, parts, for_backend(relevant, bucket.backend.capabilities.options)
        )
    info = object_info(exchange, stored, upload.options, checksums)
    info = evolve(info, headers=upload.headers, customer_key=upload.customer_key)
    bucket.remember_object(info)
    bucket.uploads.drop(upload_id)
    target = exchange.target
    elements = [
        ("Location", f"http://{target.host}/{bucket.name}/{quote(key)}"),
        ("Bucket", bucket.name),
        ("Key", key),
        ("ETag", quoted(info.etag)),
        *_checksum_elements(reported(exchange, checksums)),
    ]
    # As on S3, the checksum is in the document, and not in the headers.
    encryption = tuple(header for header in stored_headers(exchange, info) if "encryption" in header[0])
    return ServerResponse(200, (*_XML, *encryption), document("CompleteMultipartUploadResult", elements))


def _checksum_elements(headers: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        kind = name.removeprefix("x-amz-checksum-")
        yield ("ChecksumType", value) if kind == "type" else (f"Checksum{kind.upper()}", value)


def _object_checksum(
    exchange: Exchange, upload: UploadInfo, parts: Sequence[UploadedPart], listed: Sequence[Mapping[str, str]]
) -> tuple[tuple[str, str], ...]:
    """
    Return the headers that report the checksum of the object, if it is known.

    Raises:
        ServiceError: the client expects another checksum, another size or another kind of checksum.
    """
    request, bucket, algorithm = exchange.request, exchange.bucket, upload.checksum
    upload_id = _upload_id(exchange)
    size = request.header("x-amz-mp-object-size")
    if size is not None and size != str(sum(part.size for part in parts)):
        raise ServiceError(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {size[:20]} does not match what was computed.",
        )
    sent = sent_checksum_of_object(request)
    values = [_part_checksum(bucket, upload_id, part) for part in parts]
    if algorithm is None or None in values:
        return ()
    known = [value for value in values if value is not None]
    _check_listed_checksums(algorithm, known, listed, composite=upload.composite)
    kind = request.header("x-amz-checksum-type")
    if kind is not None and (kind == "COMPOSITE") != upload.composite:
        raise ServiceError("InvalidRequest", "The checksum type is not that of the upload.")
    if upload.composite:
        whole = algorithm.compute(b"".join(map(algorithm.to_bytes, known)))
        text = f"{algorithm.to_base64(whole)}-{len(known)}"
    else:
        folded = algorithm.fold(zip(known, (part.size for part in parts), strict=True))
        assert folded is not None, "only checksums that can be combined are of the full object"
        text = algorithm.to_base64(folded)
    if sent is not None and (sent[0] != algorithm or sent[1] not in (text, text.partition("-")[0])):
        raise ServiceError(
            "BadDigest", f"The {name_of(sent[0]).lower()} you specified did not match the calculated checksum."
        )
    return checksum_headers(algorithm, text, composite=upload.composite)


def sent_checksum_of_object(request: ServerRequest) -> tuple[Checksum, str] | None:
    """Return the checksum of the whole object that a client expects, in base64."""
    composite = next(
        (
            (algorithm, value)
            for algorithm in ALGORITHMS.values()
            if (value := request.header(header_of(algorithm))) is not None and "-" in value
        ),
        None,
    )
    return composite or sent_checksum(request)


def _check_listed_checksums(
    algorithm: Checksum, known: Sequence[int], listed: Sequence[Mapping[str, str]], *, composite: bool
) -> None:
    element = f"Checksum{name_of(algorithm)}"
    for number, (value, part) in enumerate(zip(known, listed, strict=True), 1):
        text = part.get(element)
        if text is None and composite:
            raise ServiceError(
                "InvalidRequest",
                f"The upload was created using a {name_of(algorithm).lower()} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {number} in the request.",
            )
        if text is not None and text.strip() != algorithm.to_base64(value):
            raise ServiceError("InvalidPart", elements={"PartNumber": part["PartNumber"], "ETag": part["ETag"]})


def abort_multipart_upload(exchange: Exchange) -> ServerResponse:
    exchange.body.document()
    return abort_upload(exchange, _upload_id(exchange))


def list_multipart_uploads(exchange: Exchange) -> ServerResponse:
    bucket = exchange.bucket
    return list_pending_uploads(
        exchange,
        _after,
        lambda upload: _upload_nodes(bucket, upload),
        quote=quote_key,
        accepted=ACCEPTED_LIMITS,
    )


def _after(pending: Iterable[PendingUpload], key_marker: str, id_marker: str) -> Iterator[PendingUpload]:
    """Yield the uploads after a marker; if its upload is gone, all of its key."""
    # By key, then by time, as S3 does. So the id of the marker is a place in the list, and not an order.
    pending = sorted(pending, key=lambda upload: (upload.key, upload.initiated))
    found = not id_marker or not any((upload.key, upload.upload_id) == (key_marker, id_marker) for upload in pending)
    for upload in pending:
        if upload.key > key_marker or (upload.key == key_marker and id_marker and found):
            yield upload
        elif (upload.key, upload.upload_id) == (key_marker, id_marker):
            found = True


def _upload_nodes(bucket: Bucket, upload: PendingUpload) -> tuple[Node, ...]:
    info = bucket.upload(upload.upload_id)
    kind: tuple[Node, ...] = ()
    if info.checksum is not None:
        kind = (
            ("ChecksumAlgorithm", name_of(info.checksum)),
            ("ChecksumType", "COMPOSITE" if info.composite else "FULL_OBJECT"),
        )
    return (
        _INITIATOR,
        _OWNER,
        ("StorageClass", info.options.storage_class or "STANDARD"),
        ("Initiated", xml_time(upload.initiated.timestamp())),
        *kind,
    )


# --- the request -----------------------------------------------------------------------------------------------------


def _upload_id(exchange: Exchange) -> str:
    upload_id = exchange.target.upload_id
    if upload_id is None:
        raise bad_argument("uploadId", "", "This operation does not accept a query-string without uploadId.")
    return upload_id


def _part_number(exchange: Exchange) -> int:
    text = exchange.request.param("partNumber") or ""
    number = part_number_of(text)
    if number is None:
        raise bad_argument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
    return number


# --- the stored parts ------------------------------------------------------------------------------------------------


def _part_checksum(bucket: Bucket, upload_id: str, part: UploadedPart) -> int | None:
    """Return the checksum that the server computed of this version of a part."""
    known = bucket.part_checksums.get((upload_id, part.part_number))
    return known[1] if known is not None and known[0] == part.etag else None
