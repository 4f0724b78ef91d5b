"""What the operations on multipart uploads share, whatever the dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from attrs import define

from partwise.errors import UploadNotFound
from partwise.model import PendingUpload, UploadedPart
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.paging import limit_of, page_of
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder

_XML = (("Content-Type", "application/xml"),)
_PART_NUMBERS = range(1, 10_000 + 1)
_DIGITS_MAX = 9


def part_number_of(text: str) -> int | None:
    """Return the part number that a parameter is; None if it is none."""
    number = _number_of(text)
    return number if number is not None and number in _PART_NUMBERS else None


def _number_of(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


@contextmanager
def naming_upload(upload_id: str) -> Iterator[None]:
    """Add the upload id to the refusal if the upload does not exist."""
    try:
        yield
    except UploadNotFound as error:
        raise ServiceError("NoSuchUpload", elements={"UploadId": upload_id}) from error


def list_stored_parts(exchange: Exchange, upload_id: str) -> list[UploadedPart]:
    """Return the parts of an upload, in ascending order."""
    with naming_upload(upload_id):
        return list(exchange.bucket.backend.list_parts(exchange.key, upload_id))


@define(frozen=True)
class PartsPage:
    """A page of the parts of an upload."""

    parts: list[UploadedPart]
    marker: str  # after which it starts
    limit: int
    truncated: bool  # whether more parts follow


def parts_page(exchange: Exchange, upload_id: str, *, accepted: range) -> PartsPage:
    """
    Return the page of parts that a request asks for.

    Args:
        exchange: the request.
        upload_id: the id of the upload.
        accepted: the limits of a page that a request may have; a page has at most 1000 parts.

    Raises:
        ServiceError: the upload does not exist, or a parameter has an invalid value.
    """
    request = exchange.request
    marker = request.param("part-number-marker") or "0"
    after = _number_of(marker)
    if after is None:
        raise bad_argument("part-number-marker", marker, "It must be a part number.")
    limit = limit_of(request, "max-parts", 1000, exchange.settings.page_limit, accepted)
    parts = [part for part in list_stored_parts(exchange, upload_id) if part.part_number > after]
    return PartsPage(parts[:limit], marker, limit, 0 < limit < len(parts))


def list_pending_uploads(
    exchange: Exchange,
    after: Callable[[Iterable[PendingUpload], str, str], Iterable[PendingUpload]],
    describe: Callable[[PendingUpload], tuple[Node, ...]],
    *,
    quote: Callable[[str], str],
    accepted: range,
) -> ServerResponse:
    """
    Return a page of the pending uploads of a bucket.

    Args:
        exchange: the request.
        after: sorts uploads as the dialect does, and returns those after a marker: a key, and an upload id or "".
        describe: returns the elements of an upload after its key and id.
        quote: encodes a key as in a URL.
        accepted: the limits of a page that a request may have; a page has at most 1000 uploads.
    """
    request, bucket = exchange.request, exchange.bucket
    prefix, delimiter = request.param("prefix") or "", request.param("delimiter") or ""
    key_marker = request.param("key-marker") or ""
    id_marker = (request.param("upload-id-marker") or "") if key_marker else ""
    limit = limit_of(request, "max-uploads", 1000, exchange.settings.page_limit, accepted)
    page = page_of(
        after(bucket.backend.list_uploads(prefix), key_marker, id_marker),
        lambda upload: upload.key,
        prefix=prefix,
        delimiter=delimiter,
        marker=key_marker,
        limit=limit,
    )
    # The markers are present on the last page, too: a client must use IsTruncated.
    last = page.last
    next_key, next_id = (last.key, last.upload_id) if isinstance(last, PendingUpload) else (last or "", "")
    encode = key_encoder(request, quote)
    body = document(
        "ListMultipartUploadsResult",
        (
            *encoding_node(request),
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
                ("Upload", (("Key", encode(upload.key)), ("UploadId", upload.upload_id), *describe(upload)))
                for upload in page.entries
            ),
            *(("CommonPrefixes", (("Prefix", encode(common)),)) for common in page.prefixes),
        ),
    )
    return ServerResponse(200, _XML, body)


def select_parts(
    listed: Sequence[tuple[int, str]], stored: Sequence[UploadedPart], upload_id: str
) -> list[UploadedPart]:
    """
    Return the stored parts that the document of a completion lists.

    Args:
        listed: the numbers of the parts and their ETags, without quotes.
        stored: the parts of the upload.
        upload_id: the id of the upload, for refusals.

    Raises:
        ServiceError: the numbers do not ascend, a part is not stored, or its ETag is another one.
    """
    if any(before >= after for (before, _), (after, _) in pairwise(listed)):
        raise ServiceError("InvalidPartOrder", elements={"UploadId": upload_id})
    by_number = {part.part_number: part for part in stored}
    selected = []
    for number, etag in listed:
        part = by_number.get(number)
        if part is None or part.etag.strip('"') != etag:
            raise ServiceError("InvalidPart", elements={"UploadId": upload_id, "PartNumber": str(number), "ETag": etag})
        selected.append(part)
    return selected


def check_part_sizes(exchange: Exchange, parts: Sequence[UploadedPart]) -> None:
    """Refuse parts that are too small, unless last, and a too large object."""
    limits = exchange.bucket.backend.limits
    smallest = max(exchange.settings.min_part_size, limits.min_part_size)
    for part in parts[:-1]:
        if part.size < smallest:
            raise ServiceError(
                "EntityTooSmall",
                elements={
                    "ETag": part.etag,
                    "MinSizeAllowed": str(smallest),
                    "ProposedSize": str(part.size),
                    "PartNumber": str(part.part_number),
                },
            )
    if sum(part.size for part in parts) > limits.max_object_size:
        raise ServiceError("EntityTooLarge")


def abort_upload(exchange: Exchange, upload_id: str) -> ServerResponse:
    """
    Abort an upload, and return the response.

    A backend accepts the abort of an upload that does not exist; the services report that it does not.
    """
    bucket = exchange.bucket
    pending = bucket.backend.list_uploads(exchange.key)
    if not any((upload.key, upload.upload_id) == (exchange.key, upload_id) for upload in pending):
        raise ServiceError("NoSuchUpload", elements={"UploadId": upload_id})
    bucket.backend.abort_upload(exchange.key, upload_id)
    bucket.uploads.drop(upload_id)
    return ServerResponse(204)
