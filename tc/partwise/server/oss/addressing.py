"""
The bucket and key of a request.

They come from the path, from the bucket's host name, or from a custom host name.
"""

from __future__ import annotations

import re

from partwise.server.errors import ServiceError
from partwise.server.hosts import host_of, is_address
from partwise.server.messages import RequestTarget, ServerRequest
from partwise.server.settings import ServerSettings

_ENDPOINT = re.compile(r"(s3\.)?oss-[a-z0-9-]+\.aliyuncs\.com|[a-z0-9-]+\.oss\.aliyuncs\.com")
_KEY_BYTES_MAX = 1023
_NUMBER_DIGITS_MAX = 9


def parse_target(request: ServerRequest, settings: ServerSettings) -> RequestTarget:
    """
    Return what the request is addressed to.

    Raises:
        ServiceError: the path or the key is invalid, or the host does not allow a bucket in the path.
    """
    if not request.path.startswith("/"):
        raise ServiceError("InvalidURI")
    host = host_of(request.header("host") or "")
    path = request.path[1:]
    bucket: str | None
    if host in settings.cnames:
        bucket, key = settings.cnames[host], path
    elif is_address(host) or not {".", ":"} & set(host) or host in settings.path_style_hosts:
        name, _, key = path.partition("/")
        bucket = name or None
    elif _ENDPOINT.fullmatch(host):
        if path:
            raise ServiceError("SecondLevelDomainForbidden")
        bucket, key = None, ""
    else:
        bucket, key = host.partition(".")[0], path
    _check_key(key)
    return RequestTarget(host, bucket, key or None, request.param("uploadId") or None, _part_number(request))


def _check_key(key: str) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ServiceError("InvalidObjectName", "The object name is not UTF-8.") from None
    if size > _KEY_BYTES_MAX:
        raise ServiceError("InvalidObjectName", "The length of the object name must be less than 1024.")
    if key.startswith(("/", "\\")):
        raise ServiceError("InvalidObjectName")


def _part_number(request: ServerRequest) -> int | None:
    """
    Return the part number; None if it is absent or not a number.

    The operation refuses None.
    """
    text = request.param("partNumber") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX else None
