"""
Which option becomes which header on which request, in one table. Pure.

An option is honoured or refused: a value that can't be sent as it was given, and would not come back the same, is an
error here, before anything is sent. That goes for values of metadata beyond ASCII too: HTTP has no one way to write
them, so percent-encode them (or whatever their reader undoes) before they get here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from enum import Flag, auto
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define, fields

from partwise._validation import brief
from partwise.errors import InvalidInput
from partwise.model import KIB, Callback, Capabilities, ObjectOptions

METADATA_PREFIX = "x-oss-meta-"

#: In bytes, names and values together.
METADATA_BYTES_MAX = 8 * KIB

TAGS_MAX = 10
TAG_NAME_MAX = 128
TAG_VALUE_MAX = 256

#: In bits a second.
TRAFFIC_LIMIT_MIN = 819_200
TRAFFIC_LIMIT_MAX = 838_860_800

#: Of the header, in bytes, as it is sent.
CALLBACK_BYTES_MAX = 5 * KIB
CALLBACK_URLS_MAX = 5

#: All of them are honoured.
CAPABILITIES = Capabilities(
    options=frozenset(f.name for f in fields(ObjectOptions)),
    lists_parts=True,
    part_checksums=True,
    object_checksums=True,
)

_ACLS = ("default", "private", "public-read", "public-read-write")
_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_ENCRYPTIONS = ("AES256", "KMS", "SM4")
_CALLBACK_TYPES = ("application/x-www-form-urlencoded", "application/json")
_METADATA_NAME = re.compile(r"[A-Za-z0-9-]+")
_CALLBACK_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_CALLBACK_VARIABLE = re.compile(r"x:[^A-Z\s]+")


class Request(Flag):
    """The kinds of request that options go with."""

    PUT = auto()
    INITIATE = auto()
    PART = auto()
    COMPLETE = auto()
    OTHER = auto()  # lists, head, abort


_CREATION = Request.PUT | Request.INITIATE
_APPEARANCE = Request.PUT | Request.COMPLETE
_EVERY = Request.PUT | Request.INITIATE | Request.PART | Request.COMPLETE | Request.OTHER


def headers_for(request: Request, options: ObjectOptions) -> dict[str, str]:
    """
    The headers that carry the options on one kind of request.

    Raises:
        InvalidInput: an option has a value that can't be sent.
    """
    given = options.explicitly_set()
    headers: dict[str, str] = {}
    for rule in _RULES:
        if request & rule.requests and rule.option in given:
            headers.update(rule.write(rule.header, getattr(options, rule.option)))
    return headers


def check(options: ObjectOptions) -> None:
    """
    Refuse what can't be honoured now, rather than by the request that ends the upload.

    Raises:
        InvalidInput: an option has a value that can't be sent, or makes no sense without another.
    """
    headers_for(_EVERY, options)
    if options.encryption != "KMS" and (options.data_encryption or options.kms_key_id):
        raise InvalidInput("data_encryption and kms_key_id go with encryption='KMS' alone")


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The metadata among the headers of an answer."""
    return {
        name.removeprefix(METADATA_PREFIX): value for name, value in headers.items() if name.startswith(METADATA_PREFIX)
    }


def check_header_value(name: str, value: object) -> str:
    """
    The value, if it arrives as it is sent.

    Raises:
        InvalidInput: it is no text, is empty, has white space around it, or holds a character beyond printable ASCII.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} is a text that is not empty, not {brief(value)}")
    if not (value.isascii() and value.isprintable()):
        raise InvalidInput(
            f"{name} is sent as a header, so it holds printable ASCII alone, not {value!r:.60}: encode it, for example "
            "with urllib.parse.quote"
        )
    if value != value.strip():
        raise InvalidInput(f"{name} would lose the white space around {value!r:.60} on the way")
    return value


# --- how each value is written ---------------------------------------------------------------------------------------


def _text(header: str, value: Any) -> dict[str, str]:
    return {header: check_header_value(header, value)}


def _true(header: str, _: Any) -> dict[str, str]:
    return {header: "true"}


def _one_of(*known: str) -> Callable[[str, Any], dict[str, str]]:
    def write(header: str, value: Any) -> dict[str, str]:
        if value not in known:
            raise InvalidInput(f"{header} is one of {', '.join(known)}, not {value!r:.60}")
        return {header: value}

    return write


def _traffic_limit(header: str, value: Any) -> dict[str, str]:
    if type(value) is not int or not TRAFFIC_LIMIT_MIN <= value <= TRAFFIC_LIMIT_MAX:
        raise InvalidInput(
            f"traffic_limit is from {TRAFFIC_LIMIT_MIN} to {TRAFFIC_LIMIT_MAX} bits a second, not {value!r:.60}"
        )
    return {header: str(value)}


def _metadata(header: str, value: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, text in value.items():
        if not (isinstance(name, str) and _METADATA_NAME.fullmatch(name)):
            raise InvalidInput(f"a name in metadata is of ASCII letters, digits and hyphens, not {name!r:.60}")
        lower = header + name.lower()
        if lower in headers:
            raise InvalidInput(f"metadata has {name!r} twice: names differ by more than case")
        headers[lower] = check_header_value(f"metadata {name!r}", text) if text != "" else ""
    size = sum(len(name) - len(header) + len(text) for name, text in headers.items())
    if size > METADATA_BYTES_MAX:
        raise InvalidInput(f"metadata has {size} bytes, names and values together; {METADATA_BYTES_MAX} is the most")
    return headers


def _tags(header: str, value: Any) -> dict[str, str]:
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"an object has at most {TAGS_MAX} tags, not {len(value)}")
    for name, text in value.items():
        for what, said in (("name", name), ("value", text)):
            _check_text(f"the {what} of a tag", said)
        if not 1 <= len(name) <= TAG_NAME_MAX or len(text) > TAG_VALUE_MAX:
            raise InvalidInput(
                f"a tag's name has 1 to {TAG_NAME_MAX} characters and its value at most {TAG_VALUE_MAX}; "
                f"{name!r:.60} has {len(name)} and {len(text)}"
            )
    return {header: "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in value.items())}


def _callback(header: str, value: Any) -> dict[str, str]:
    callback: Callback = value
    _check_callback_way(callback)
    _check_callback_content(callback)
    asked = {
        "callbackUrl": callback.url,
        "callbackHost": callback.host,
        "callbackBody": callback.body,
        "callbackBodyType": callback.body_type,
        "callbackSNI": callback.sni,
    }
    headers = {header: _base64_json({name: said for name, said in asked.items() if said is not None})}
    if callback.variables:
        headers[f"{header}-var"] = _base64_json(callback.variables)
    for name, text in headers.items():
        if len(text) > CALLBACK_BYTES_MAX:
            raise InvalidInput(f"{name} would have {len(text)} bytes, and {CALLBACK_BYTES_MAX} is the most")
    return headers


def _check_callback_way(callback: Callback) -> None:
    url: object = callback.url
    urls = url.split(";") if isinstance(url, str) else []
    if not 1 <= len(urls) <= CALLBACK_URLS_MAX or not all(map(_is_callback_url, urls)):
        raise InvalidInput(
            f"a callback has 1 to {CALLBACK_URLS_MAX} URLs of http or https, separated by ';', in ASCII and without "
            f"spaces, not {callback.url!r:.60}"
        )
    host: object = callback.host
    if host is not None and not (isinstance(host, str) and "/" not in host and _is_callback_url(host)):
        raise InvalidInput(f"the host of a callback is like example.com or example.com:8080, not {host!r:.60}")
    if callback.sni not in (None, True, False):
        raise InvalidInput(f"the sni of a callback is True or False, not {callback.sni!r:.60}")


def _check_callback_content(callback: Callback) -> None:
    if not callback.body:
        raise InvalidInput("a callback needs a body, which is what is posted: give one such as 'object=${object}'")
    if callback.body_type not in (None, *_CALLBACK_TYPES):
        raise InvalidInput(f"the body of a callback is of type {' or '.join(_CALLBACK_TYPES)}")
    variables: Mapping[Any, Any] = callback.variables
    for name, text in variables.items():
        if not (isinstance(name, str) and _CALLBACK_VARIABLE.fullmatch(name)):
            raise InvalidInput(f"a callback's variable has a lower-case name that begins with 'x:', not {name!r:.60}")
        _check_text(f"the name of the callback's variable {name!r:.60}", name)
        _check_text(f"the callback's variable {name}", text)
    _check_text("the body of a callback", callback.body)


def _is_callback_url(url: str) -> bool:
    """Whether the service can be asked to post there; without a scheme it is http."""
    if not (url.isascii() and url.isprintable()) or any(character in url for character in ' "<>\\'):
        return False
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and port != 0 and _CALLBACK_HOST.fullmatch(host) is not None


def _check_text(what: str, text: object) -> None:
    """
    Refuse what can't be written as UTF-8, or is a control character.

    Raises:
        InvalidInput: it is one, or is not a text.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"{what} is a text, not {type(text).__name__}")
    if any("\ud800" <= character <= "\udfff" or (character < " " and character not in "\t\r\n") for character in text):
        raise InvalidInput(f"{what} holds a character that is not text: {text!r:.60}")


def _base64_json(value: Mapping[str, object]) -> str:
    return base64.b64encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()).decode()


# --- the table -------------------------------------------------------------------------------------------------------


@define(frozen=True)
class _Rule:
    option: str
    header: str
    requests: Request
    write: Callable[[str, Any], dict[str, str]] = _text


# What makes an object goes with the request that creates it or begins to; what shows it goes with the one that makes it
# appear. forbid_overwrite goes with both: each of them checks for itself, and an object may come to be in between.
_RULES = (
    _Rule("content_type", "Content-Type", _CREATION),
    _Rule("cache_control", "Cache-Control", _CREATION),
    _Rule("content_disposition", "Content-Disposition", _CREATION),
    _Rule("content_encoding", "Content-Encoding", _CREATION),
    _Rule("content_language", "Content-Language", _CREATION),
    _Rule("expires", "Expires", _CREATION),
    _Rule("metadata", METADATA_PREFIX, _CREATION, _metadata),
    _Rule("storage_class", "x-oss-storage-class", _CREATION, _one_of(*_STORAGE_CLASSES)),
    _Rule("tags", "x-oss-tagging", _CREATION, _tags),
    _Rule("encryption", "x-oss-server-side-encryption", _CREATION, _one_of(*_ENCRYPTIONS)),
    _Rule("data_encryption", "x-oss-server-side-data-encryption", _CREATION, _one_of("SM4")),
    _Rule("kms_key_id", "x-oss-server-side-encryption-key-id", _CREATION),
    _Rule("acl", "x-oss-object-acl", _APPEARANCE, _one_of(*_ACLS)),
    _Rule("callback", "x-oss-callback", _APPEARANCE, _callback),
    _Rule("forbid_overwrite", "x-oss-forbid-overwrite", _CREATION | _APPEARANCE, _true),
    _Rule("traffic_limit", "x-oss-traffic-limit", Request.PUT | Request.PART, _traffic_limit),
    _Rule("request_payer", "x-oss-request-payer", _EVERY, _one_of("requester")),
)
