"""
The options of OSS, and the headers that carry them.

The headers are one table, by option and kind of request. This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field

from partwise._validation import check_type, integer, is_integer, of_type, optional_string, string, string_mapping
from partwise.backends._http.option_headers import (
    APPEARANCE,
    CONTENT_RULES,
    CREATION,
    EVERY,
    OptionRule,
    OptionTable,
    RequestKind,
    accept,
    base64_json,
    check_metadata,
    check_tags,
    check_text,
    one_of,
    write_metadata,
    write_tags,
    write_true,
    write_word,
)
from partwise.errors import InvalidInput
from partwise.model import KIB, Capabilities, ObjectOptions

METADATA_PREFIX = "x-oss-meta-"

#: Bytes of all names and values together.
METADATA_BYTES_MAX = 8 * KIB

#: Bits per second.
TRAFFIC_LIMIT_MIN = 819_200
TRAFFIC_LIMIT_MAX = 838_860_800

#: Bytes of each header, encoded.
CALLBACK_BYTES_MAX = 5 * KIB
CALLBACK_URLS_MAX = 5

_ACLS = ("default", "private", "public-read", "public-read-write")
_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")

#: The words for storage classes that all storages share, and those of OSS.
_NATIVE_CLASSES = {
    "standard": "Standard",
    "infrequent-access": "IA",
    "archive": "Archive",
    "deep-archive": "DeepColdArchive",
}
_ENCRYPTIONS = ("AES256", "KMS", "SM4")
_CALLBACK_TYPES = ("application/x-www-form-urlencoded", "application/json")
_CALLBACK_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_CALLBACK_VARIABLE = re.compile(r"x:[^A-Z\s]+")


_BITS64_MAX = 2**64 - 1


# --- options of OSS alone --------------------------------------------------------------------------------------------


@define(frozen=True)
class Callback:
    """
    A POST request that OSS sends to an application server.

    It is sent once the object is stored.

    Args:
        url: the URL of the server; up to five, separated by ``;``.
        body: the body of the request, with variables of OSS such as ``bucket=${bucket}&object=${object}``.
        host: the Host header of the request; None takes it from `url`.
        body_type: ``application/x-www-form-urlencoded`` (the default) or ``application/json``.
        variables: custom values, by a lower-case name that starts with ``x:``.
        sni: whether OSS sends the host name in the TLS handshake with `url`.
    """

    url: str = field(validator=string)
    body: str = field(validator=string)
    host: str | None = field(default=None, validator=optional_string)
    body_type: str | None = field(default=None, validator=optional_string)
    variables: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    sni: bool | None = field(default=None, validator=of_type(bool, type(None)))


@define(frozen=True)
class OSSOptions(ObjectOptions):
    """
    The properties of an object in OSS: those of all storages, and four more.

    `acl` can also be ``"default"``, the rule of the bucket; `storage_class` can also be a word of OSS, such as
    ``"ColdArchive"``; `encryption` can also be ``"SM4"``.

    Args:
        data_encryption: the cipher under KMS: ``"SM4"``.
        traffic_limit: the limit of OSS for each request, in bits per second.
        request_payer: ``"requester"`` if the requester pays.
        callback: a request to an application server once the object is stored.
    """

    data_encryption: str | None = field(default=None, validator=optional_string)
    traffic_limit: int | None = field(default=None, validator=integer(-_BITS64_MAX, _BITS64_MAX, None))
    request_payer: str | None = field(default=None, validator=optional_string)
    callback: Callback | None = field(default=None, validator=of_type(Callback, type(None)))


def callback_of(options: ObjectOptions) -> Callback | None:
    """Return the callback; None if there is none, or options of another class."""
    callback = getattr(options, "callback", None)
    return callback if isinstance(callback, Callback) else None


# --- options as headers ----------------------------------------------------------------------------------------------


# --- plain values ----------------------------------------------------------------------------------------------------


def _check_traffic_limit(option: str, value: Any) -> None:
    if not is_integer(value) or not TRAFFIC_LIMIT_MIN <= value <= TRAFFIC_LIMIT_MAX:
        raise InvalidInput(
            f"{option} must be from {TRAFFIC_LIMIT_MIN} to {TRAFFIC_LIMIT_MAX} bits per second, not {value!r:.60}"
        )


# --- callbacks -------------------------------------------------------------------------------------------------------


def _check_callback(option: str, callback: Any) -> None:
    # Options of another storage may have a field of this name, too.
    check_type(option, callback, Callback, "a partwise.backends.oss.Callback")
    _check_callback_target(callback)
    _check_callback_content(callback)
    for name, text in _write_callback(option, callback).items():
        if len(text) > CALLBACK_BYTES_MAX:
            raise InvalidInput(
                f"the header for {name} would have {len(text)} bytes; the maximum is {CALLBACK_BYTES_MAX}"
            )


def _write_callback(header: str, value: Any) -> dict[str, str]:
    callback: Callback = value
    members = {
        "callbackUrl": callback.url,
        "callbackHost": callback.host,
        "callbackBody": callback.body,
        "callbackBodyType": callback.body_type,
        "callbackSNI": callback.sni,
    }
    headers = {header: base64_json({name: member for name, member in members.items() if member is not None})}
    if callback.variables:
        headers[f"{header}-var"] = base64_json(callback.variables)
    return headers


def _check_callback_target(callback: Callback) -> None:
    urls = callback.url.split(";")
    if not 1 <= len(urls) <= CALLBACK_URLS_MAX or not all(map(_is_callback_url, urls)):
        raise InvalidInput(
            f"a callback has 1 to {CALLBACK_URLS_MAX} http or https URLs, separated by ';', in ASCII without spaces, "
            f"not {callback.url!r:.60}"
        )
    host = callback.host
    if host is not None and ("/" in host or not _is_callback_url(host)):
        raise InvalidInput(f"a callback host is like example.com or example.com:8080, unlike {host!r:.60}")


def _check_callback_content(callback: Callback) -> None:
    if not callback.body:
        raise InvalidInput("a callback requires a body", hint="Give it the content that OSS posts")
    if callback.body_type not in (None, *_CALLBACK_TYPES):
        raise InvalidInput(f"the body type of a callback must be {' or '.join(_CALLBACK_TYPES)}")
    for name, text in callback.variables.items():
        if not _CALLBACK_VARIABLE.fullmatch(name):
            raise InvalidInput(f"a callback variable has a lower-case name that begins with 'x:', unlike {name!r:.60}")
        check_text(f"the name of the callback variable {name!r:.60}", name)
        check_text(f"the callback variable {name}", text)
    check_text("a callback body", callback.body)


def _is_callback_url(url: str) -> bool:
    """Return whether OSS can post to a URL; without a scheme it is http."""
    if not (url.isascii() and url.isprintable()) or any(character in url for character in ' "<>\\'):
        return False
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and port != 0 and _CALLBACK_HOST.fullmatch(host) is not None


# --- the table -------------------------------------------------------------------------------------------------------


def _check_together(options: ObjectOptions) -> None:
    present = options.explicitly_set()
    if options.encryption != "KMS" and not present.isdisjoint(("data_encryption", "kms_key_id")):
        raise InvalidInput(
            "data_encryption and kms_key_id require the encryption KMS", hint="Pass {encryption=KMS} with them"
        )


# Options that describe the object are sent with the request that creates it or initiates its upload; those that affect
# its visibility are sent with the request that makes it appear. forbid_overwrite is sent with both, since OSS checks it
# in each request, and an object may have been created between them.
OPTION_TABLE = OptionTable(
    OSSOptions,
    (
        *CONTENT_RULES,
        OptionRule("metadata", METADATA_PREFIX, CREATION, check_metadata(METADATA_BYTES_MAX), write_metadata),
        OptionRule(
            "storage_class",
            "x-oss-storage-class",
            CREATION,
            one_of(*_NATIVE_CLASSES, *_STORAGE_CLASSES),
            write_word(_NATIVE_CLASSES),
        ),
        OptionRule("tags", "x-oss-tagging", CREATION, check_tags, write_tags),
        OptionRule("encryption", "x-oss-server-side-encryption", CREATION, one_of(*_ENCRYPTIONS)),
        OptionRule("data_encryption", "x-oss-server-side-data-encryption", CREATION, one_of("SM4")),
        OptionRule("kms_key_id", "x-oss-server-side-encryption-key-id", CREATION),
        OptionRule("acl", "x-oss-object-acl", APPEARANCE, one_of(*_ACLS)),
        OptionRule("callback", "x-oss-callback", APPEARANCE, _check_callback, _write_callback),
        OptionRule("forbid_overwrite", "x-oss-forbid-overwrite", CREATION | APPEARANCE, accept, write_true),
        OptionRule("traffic_limit", "x-oss-traffic-limit", RequestKind.PUT | RequestKind.PART, _check_traffic_limit),
        OptionRule("request_payer", "x-oss-request-payer", EVERY, one_of("requester")),
    ),
    _check_together,
)

CAPABILITIES = Capabilities(
    options=OPTION_TABLE.options,
    late_options=frozenset(("acl", "callback", "forbid_overwrite", "traffic_limit", "request_payer")),
    option_type=OSSOptions,
    lists_parts=True,
    part_checksums=True,
    object_checksums=True,
)
