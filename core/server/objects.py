"""What the operations on whole objects share, whatever the dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable

from partwise.server.buckets import ObjectInfo
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import FileSlice, ServerResponse

_OVERRIDES = ("Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition", "Content-Encoding")
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|^\s|\s$")


def check_length(exchange: Exchange) -> None:
    """Raise a MissingContentLength error if the body has no length."""
    request = exchange.request
    if request.header("content-length") is None and request.header("transfer-encoding") is None:
        raise ServiceError("MissingContentLength")


def send_object(
    exchange: Exchange, info: ObjectInfo, headers: Iterable[tuple[str, str]], requested: range | None
) -> ServerResponse:
    """
    Return the response with an object, or with a range of it.

    Args:
        exchange: the request; its parameters, such as ``response-content-type``, replace headers.
        info: the object.
        headers: its headers.
        requested: the range; None: the whole object.

    Raises:
        ServiceError: the object has been deleted meanwhile, or a parameter is not allowed in a header.
    """
    shown, size = dict(headers), info.stored.size
    for header in _OVERRIDES:
        name = f"response-{header.lower()}"
        override = exchange.request.param(name)
        if override is not None:
            if _NOT_IN_A_HEADER.search(override):
                raise bad_argument(name, override, "The value is not allowed in a header.")
            shown[header] = override
    try:
        file = exchange.bucket.access.open_object(exchange.key)
    except KeyError:
        raise ServiceError("NoSuchKey", elements={"Key": exchange.key}) from None
    if requested is None:
        return ServerResponse(200, tuple(shown.items()), FileSlice(file, 0, size))
    shown["Content-Range"] = f"bytes {requested.start}-{requested.stop - 1}/{size}"
    return ServerResponse(206, tuple(shown.items()), FileSlice(file, requested.start, len(requested)))


def delete_object(exchange: Exchange) -> ServerResponse:
    """Delete an object; one that does not exist is deleted, too."""
    exchange.body.document()
    exchange.bucket.access.delete_object(exchange.key)
    exchange.bucket.objects.drop(exchange.key)
    return ServerResponse(204)
