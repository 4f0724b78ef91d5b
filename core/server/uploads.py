"""What the operations on multipart uploads share, whatever the dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from partwise.errors import UploadNotFound
from partwise.model import UploadedPart
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse

#: The numbers that a part can have.
PART_NUMBERS = range(1, 10_000 + 1)


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
