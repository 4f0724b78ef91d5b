"""
The options of OSS, and the headers that carry them.

The headers are one table, by option and kind of request. This module does no I/O.

An option is honoured or refused. A value that can't be sent unchanged is an error before anything is sent; only the
words that all storages share are translated. That includes metadata values outside ASCII: HTTP has no standard encoding
for them, so the caller must encode them, such as by percent-encoding, in the form that the reader of the object
decodes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from enum import Flag, auto
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define, field

from partwise._validation import check_type, integer, is_integer, of_type, optional_string, string, string_mapping
from partwise.backends._http.headers import check_header_value
from partwise.errors import InvalidInput
from partwise.model import KIB, Capabilities, ObjectOptions

METADATA_PREFIX = "x-oss-meta-"

#: Bytes of all names and values together.
METADATA_BYTES_MAX = 8 * KIB

TAGS_MAX = 10
TAG_NAME_MAX = 128
TAG_VALUE_MAX = 256

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
_METADATA_NAME = re.compile(r"[A-Za-z0-9-]+")
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


class RequestKind(Flag):
    """Kinds of requests, as far as options are concerned."""

    PUT = auto()
    INITIATE = auto()
    PART = auto()
    COMPLETE = auto()
    OTHER = auto()  # lists, head, abort


_CREATION = RequestKind.PUT | RequestKind.INITIATE
_APPEARANCE = RequestKind.PUT | RequestKind.COMPLETE
_EVERY = _CREATION | _APPEARANCE | RequestKind.PART | RequestKind.OTHER


def check_options(options: ObjectOptions) -> None:
    """
    Check all options, including those that only complete sends.

    Raises:
        InvalidInput: an option has a value that can't be sent, or requires another option.
    """
    present = options.explicitly_set()
    for rule in _RULES:
        if rule.option in present:
            rule.check(rule.option, getattr(options, rule.option))
    if options.encryption != "KMS" and not present.isdisjoint(("data_encryption", "kms_key_id")):
        raise InvalidInput(
            "data_encryption and kms_key_id require the encryption KMS", hint="Pass {encryption=KMS} with them"
        )


def headers_for(kind: RequestKind, options: ObjectOptions) -> dict[str, str]:
    """
    Return the headers that carry the options on one kind of request.

    The options are those that `check_options` returned.
    """
    present = options.explicitly_set()
    headers: dict[str, str] = {}
    for rule in _RULES:
        if kind & rule.requests and rule.option in present:
            headers.update(rule.write(rule.header, getattr(options, rule.option)))
    return headers


def part_options(options: ObjectOptions) -> OSSOptions:
    """Return the options that requests of parts carry, without the others."""
    carried = {rule.option for rule in _RULES if rule.requests & RequestKind.PART}
    return OSSOptions(**{name: getattr(options, name) for name in carried & options.explicitly_set()})


# --- plain values ----------------------------------------------------------------------------------------------------


def _write_text(header: str, value: Any) -> dict[str, str]:
    return {header: str(value)}


def _one_of(*known: str) -> Callable[[str, Any], None]:
    def check(option: str, value: Any) -> None:
        if value not in known:
            raise InvalidInput(f"{option} must be one of {', '.join(known)}, not {value!r:.60}")

    return check


def _write_storage_class(header: str, value: Any) -> dict[str, str]:
    return {header: _NATIVE_CLASSES.get(value, value)}


def _check_traffic_limit(option: str, value: Any) -> None:
    if not is_integer(value) or not TRAFFIC_LIMIT_MIN <= value <= TRAFFIC_LIMIT_MAX:
        raise InvalidInput(
            f"{option} must be from {TRAFFIC_LIMIT_MIN} to {TRAFFIC_LIMIT_MAX} bits per second, not {value!r:.60}"
        )


# --- metadata and tags -----------------------------------------------------------------------------------------------


def _check_metadata(_: str, value: Any) -> None:
    names: set[str] = set()
    for name, text in value.items():
        if not _METADATA_NAME.fullmatch(name):
            raise InvalidInput(f"a metadata name consists of ASCII letters, digits and hyphens, unlike {name!r:.60}")
        if name.lower() in names:
            raise InvalidInput(f"metadata contains {name!r} twice: names are case-insensitive")
        names.add(name.lower())
        if text != "":
            check_header_value(f"metadata {name!r}", text)
    size = sum(len(name) + len(text) for name, text in value.items())
    if size > METADATA_BYTES_MAX:
        raise InvalidInput(f"metadata has {size} bytes in names and values; the maximum is {METADATA_BYTES_MAX}")


def _write_metadata(header: str, value: Any) -> dict[str, str]:
    return {header + name.lower(): text for name, text in value.items()}


def _check_tags(_: str, value: Any) -> None:
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"an object can have up to {TAGS_MAX} tags, not {len(value)}")
    for name, text in value.items():
        _check_text("a tag name", name)
        _check_text("a tag value", text)
        if not 1 <= len(name) <= TAG_NAME_MAX or len(text) > TAG_VALUE_MAX:
            raise InvalidInput(
                f"a tag has a name of 1 to {TAG_NAME_MAX} characters and a value of up to {TAG_VALUE_MAX}; "
                f"{name!r:.60} has {len(name)} and {len(text)}"
            )


def _write_tags(header: str, value: Any) -> dict[str, str]:
    return {header: "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in value.items())}


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
    headers = {header: _base64_json({name: member for name, member in members.items() if member is not None})}
    if callback.variables:
        headers[f"{header}-var"] = _base64_json(callback.variables)
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
        _check_text(f"the name of the callback variable {name!r:.60}", name)
        _check_text(f"the callback variable {name}", text)
    _check_text("a callback body", callback.body)


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


def _check_text(what: str, text: str) -> None:
    """
    Raise InvalidInput for text with surrogates or control characters.

    UTF-8 can't encode surrogates.
    """
    if any("\ud800" <= character <= "\udfff" or (character < " " and character not in "\t\r\n") for character in text):
        raise InvalidInput(f"{what} contains a control character or a surrogate: {text!r:.60}")


def _base64_json(value: Mapping[str, object]) -> str:
    return base64.b64encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()).decode()


# --- the table -------------------------------------------------------------------------------------------------------


_check_storage_class = _one_of(*_NATIVE_CLASSES, *_STORAGE_CLASSES)


def _accept(_: str, __: Any) -> None:
    """Check nothing."""


def _write_true(header: str, _: Any) -> dict[str, str]:
    return {header: "true"}


@define(frozen=True)
class _Rule:
    option: str
    header: str
    requests: RequestKind
    check: Callable[[str, Any], object] = check_header_value
    write: Callable[[str, Any], dict[str, str]] = _write_text


# Options that describe the object are sent with the request that creates it or initiates its upload; those that affect
# its visibility are sent with the request that makes it appear. forbid_overwrite is sent with both, since OSS checks it
# in each request, and an object may have been created between them.
_RULES = (
    _Rule("content_type", "Content-Type", _CREATION),
    _Rule("cache_control", "Cache-Control", _CREATION),
    _Rule("content_disposition", "Content-Disposition", _CREATION),
    _Rule("content_encoding", "Content-Encoding", _CREATION),
    _Rule("content_language", "Content-Language", _CREATION),
    _Rule("expires", "Expires", _CREATION),
    _Rule("metadata", METADATA_PREFIX, _CREATION, _check_metadata, _write_metadata),
    _Rule("storage_class", "x-oss-storage-class", _CREATION, _check_storage_class, _write_storage_class),
    _Rule("tags", "x-oss-tagging", _CREATION, _check_tags, _write_tags),
    _Rule("encryption", "x-oss-server-side-encryption", _CREATION, _one_of(*_ENCRYPTIONS)),
    _Rule("data_encryption", "x-oss-server-side-data-encryption", _CREATION, _one_of("SM4")),
    _Rule("kms_key_id", "x-oss-server-side-encryption-key-id", _CREATION),
    _Rule("acl", "x-oss-object-acl", _APPEARANCE, _one_of(*_ACLS)),
    _Rule("callback", "x-oss-callback", _APPEARANCE, _check_callback, _write_callback),
    _Rule("forbid_overwrite", "x-oss-forbid-overwrite", _CREATION | _APPEARANCE, _accept, _write_true),
    _Rule("traffic_limit", "x-oss-traffic-limit", RequestKind.PUT | RequestKind.PART, _check_traffic_limit),
    _Rule("request_payer", "x-oss-request-payer", _EVERY, _one_of("requester")),
)

#: An option without a rule is refused, not ignored.
CAPABILITIES = Capabilities(
    options=frozenset(rule.option for rule in _RULES),
    late_options=frozenset(("acl", "callback", "forbid_overwrite", "traffic_limit", "request_payer")),
    option_type=OSSOptions,
    lists_parts=True,
    part_checksums=True,
    object_checksums=True,
)
