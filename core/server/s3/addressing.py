"""The bucket and key of a request: from the path, or from the bucket's host name."""

from __future__ import annotations

from partwise.server.errors import ServiceError
from partwise.server.hosts import host_of, is_address
from partwise.server.messages import RequestTarget, ServerRequest
from partwise.server.settings import ServerSettings

_KEY_BYTES_MAX = 1024
_NUMBER_DIGITS_MAX = 9


def parse_target(request: ServerRequest, settings: ServerSettings) -> RequestTarget:
    """
    Return what the request is addressed to.

    The first label of a host name with a dot is the bucket, and the rest the endpoint, unless `settings` has the name
    as path-style or as an endpoint. A bucket whose name has dots is addressed by the path: `check_hosts` refuses a host
    with several labels before the endpoint.

    Raises:
        ServiceError: the path or the key is invalid.
    """
    if not request.path.startswith("/"):
        raise ServiceError("InvalidURI")
    host = host_of(request.header("host") or "")
    path = request.path[1:]
    bucket: str | None
    if host in settings.cnames:
        bucket, key = settings.cnames[host], path
    elif is_address(host) or not {".", ":"} & set(host) or host in settings.path_style_hosts or host in settings.hosts:
        name, _, key = path.partition("/")
        bucket = name or None
    else:
        bucket, key = host.partition(".")[0], path
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ServiceError("InvalidURI", "The key is not UTF-8.") from None
    if size > _KEY_BYTES_MAX:
        raise ServiceError("KeyTooLongError", elements={"Size": str(size), "MaxSizeAllowed": str(_KEY_BYTES_MAX)})
    return RequestTarget(host, bucket, key or None, request.param("uploadId") or None, _part_number(request))


def _part_number(request: ServerRequest) -> int | None:
    """
    Return the part number; None if it is absent or not a number.

    The operation refuses None.
    """
    text = request.param("partNumber") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX else None
