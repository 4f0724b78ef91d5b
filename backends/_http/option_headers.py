"""
The headers that carry the options of an object, as one table per service.

An option is honoured or refused. A value that can't be sent unchanged is an error before anything is sent; only the
words that all storages share are translated. That includes metadata values outside ASCII: HTTP has no standard encoding
for them, so the caller must encode them, such as by percent-encoding, in the form that the reader of the object
decodes. This module does no I/O.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from enum import Flag, auto
from typing import Any
from urllib.parse import quote

from attrs import define, field

from partwise.backends._http.headers import check_header_value
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions

TAGS_MAX = 10
TAG_NAME_MAX = 128
TAG_VALUE_MAX = 256

_METADATA_NAME = re.compile(r"[A-Za-z0-9-]+")


class RequestKind(Flag):
    """Kinds of requests, as far as options are concerned."""

    PUT = auto()
    INITIATE = auto()
    PART = auto()
    COMPLETE = auto()
    READ = auto()  # head, and the list of parts
    OTHER = auto()  # abort, and the list of uploads


CREATION = RequestKind.PUT | RequestKind.INITIATE
APPEARANCE = RequestKind.PUT | RequestKind.COMPLETE
EVERY = CREATION | APPEARANCE | RequestKind.PART | RequestKind.READ | RequestKind.OTHER


# --- the check of a value, and its header ----------------------------------------------------------------------------


def accept(_: str, __: Any) -> None:
    """Check nothing."""


def write_text(header: str, value: Any) -> dict[str, str]:
    """Return the header with a value as it is."""
    return {header: str(value)}


def write_true(header: str, _: Any) -> dict[str, str]:
    """Return the header of an option that is turned on."""
    return {header: "true"}


def one_of(*known: str) -> Callable[[str, Any], None]:
    """Return a check that a value is one of these words."""

    def check(option: str, value: Any) -> None:
        if value not in known:
            raise InvalidInput(f"{option} must be one of {', '.join(known)}, not {value!r:.60}")

    return check


def write_word(words: Mapping[str, str]) -> Callable[[str, Any], dict[str, str]]:
    """Return what writes a word of all storages as that of this one."""
    return lambda header, value: {header: words.get(value, value)}


def check_metadata(bytes_max: int) -> Callable[[str, Any], None]:
    """
    Return a check of metadata.

    Its names and values together have up to `bytes_max` bytes.
    """

    def check(_: str, value: Any) -> None:
        names: set[str] = set()
        for name, text in value.items():
            if not _METADATA_NAME.fullmatch(name):
                raise InvalidInput(
                    f"a metadata name consists of ASCII letters, digits and hyphens, unlike {name!r:.60}"
                )
            if name.lower() in names:
                raise InvalidInput(f"metadata contains {name!r} twice: names are case-insensitive")
            names.add(name.lower())
            if text != "":
                check_header_value(f"metadata {name!r}", text)
        size = sum(len(name) + len(text) for name, text in value.items())
        if size > bytes_max:
            raise InvalidInput(f"metadata has {size} bytes in names and values; the maximum is {bytes_max}")

    return check


def write_metadata(header: str, value: Any) -> dict[str, str]:
    """Return one header for each name; `header` is their prefix."""
    return {header + name.lower(): text for name, text in value.items()}


def check_tags(_: str, value: Any) -> None:
    """Check the number of tags, and the lengths of their names and values."""
    if len(value) > TAGS_MAX:
        raise InvalidInput(f"an object can have up to {TAGS_MAX} tags, not {len(value)}")
    for name, text in value.items():
        check_text("a tag name", name)
        check_text("a tag value", text)
        if not 1 <= len(name) <= TAG_NAME_MAX or len(text) > TAG_VALUE_MAX:
            raise InvalidInput(
                f"a tag has a name of 1 to {TAG_NAME_MAX} characters and a value of up to {TAG_VALUE_MAX}; "
                f"{name!r:.60} has {len(name)} and {len(text)}"
            )


def write_tags(header: str, value: Any) -> dict[str, str]:
    """Return the header with tags, encoded as in a query."""
    return {header: "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in value.items())}


def check_text(what: str, text: str) -> None:
    """
    Raise InvalidInput for text with surrogates or control characters.

    UTF-8 can't encode surrogates.
    """
    if any("\ud800" <= character <= "\udfff" or (character < " " and character not in "\t\r\n") for character in text):
        raise InvalidInput(f"{what} contains a control character or a surrogate: {text!r:.60}")


def base64_json(value: Mapping[str, object]) -> str:
    """Return a mapping as JSON in base64."""
    return base64.b64encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()).decode()


# --- the table -------------------------------------------------------------------------------------------------------


@define(frozen=True)
class OptionRule:
    """How one option is checked and sent."""

    option: str
    header: str
    requests: RequestKind
    check: Callable[[str, Any], object] = check_header_value
    write: Callable[[str, Any], dict[str, str]] = write_text


#: The rules that are the same for all services.
CONTENT_RULES = (
    OptionRule("content_type", "Content-Type", CREATION),
    OptionRule("cache_control", "Cache-Control", CREATION),
    OptionRule("content_disposition", "Content-Disposition", CREATION),
    OptionRule("content_encoding", "Content-Encoding", CREATION),
    OptionRule("content_language", "Content-Language", CREATION),
    OptionRule("expires", "Expires", CREATION),
)


@define(frozen=True)
class OptionTable:
    """
    The rules of one service.

    Args:
        option_type: the class of its options.
        rules: one for each option; an option without a rule is refused, not ignored.
        check_together: raises InvalidInput if one option requires or excludes another one.
    """

    option_type: type[ObjectOptions]
    rules: tuple[OptionRule, ...]
    check_together: Callable[[ObjectOptions], None] = field(default=lambda _: None)

    @property
    def options(self) -> frozenset[str]:
        """The names of the options."""
        return frozenset(rule.option for rule in self.rules)

    def check(self, options: ObjectOptions) -> None:
        """
        Check all options, including those that only complete sends.

        Raises:
            InvalidInput: an option has a value that can't be sent, or requires another option.
        """
        present = options.explicitly_set()
        for rule in self.rules:
            if rule.option in present:
                rule.check(rule.option, getattr(options, rule.option))
        self.check_together(options)

    def headers(self, kind: RequestKind, options: ObjectOptions) -> dict[str, str]:
        """
        Return the headers that carry the options on one kind of request.

        The options have passed `check`.
        """
        present = options.explicitly_set()
        headers: dict[str, str] = {}
        for rule in self.rules:
            if rule.option in present and kind & rule.requests:
                headers.update(rule.write(rule.header, getattr(options, rule.option)))
        return headers

    def of_requests(self, options: ObjectOptions) -> ObjectOptions:
        """Return the options that requests of parts carry, without the others."""
        carried = {rule.option for rule in self.rules if rule.requests & RequestKind.PART}
        return self.option_type(**{name: getattr(options, name) for name in carried & options.explicitly_set()})
