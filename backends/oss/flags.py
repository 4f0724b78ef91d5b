"""
The flags of the command line for OSS.

They are plain data, so that help pages and completion start fast: nothing of the backend is imported before a flag is
given, and nothing of the command line at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The scheme of the URLs that the flags are for.
SCHEME = "oss"

#: The heading under which they are listed.
HEADING = "Only OSS"

#: The module that finds out what such a storage can do; None: there is none.
PROBE: str | None = None

#: Where new credentials are put.
CREDENTIALS = "OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN"

#: The flags for settings of the connection. Each has its usage, the type of its value, its text on the help page, and
#: the name of its value. The type is a function of `partwise.cli.parsing`, "text", "path" for a file, "pairs" for
#: NAME=VALUE that can be repeated, or "flag" if it has no value.
CONNECTION_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    ("--signature-version VERSION", "text", "How requests are signed: v4 (default) or v1.", "signature_version"),
)

#: The flags for options of every request, in the same form.
REQUEST_FLAGS: tuple[tuple[str, str, str, str], ...] = ()

#: The flags for options of requests about an object that can be read only with them, in the same form.
READING_FLAGS: tuple[tuple[str, str, str, str], ...] = ()

#: The flags for options of the object, in the same form.
OPTION_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    (
        "--traffic-limit BITS",
        "positive_integer",
        "Maximum rate of each request in bits per second, enforced by OSS.",
        "traffic_limit",
    ),
    ("--data-encryption METHOD", "text", "Cipher under --encryption KMS in OSS: SM4.", "data_encryption"),
    ("--callback-url URL", "text", "Server to which OSS sends a POST once it has stored.", "callback_url"),
    ("--callback-host HOST", "text", "Host header; default: the URL's host.", "callback_host"),
    (
        "--callback-body TEXT",
        "text",
        "Body of the request, such as 'object=${object}&size=${size}'.",
        "callback_body",
    ),
    (
        "--callback-body-type TYPE",
        "text",
        "application/json, or application/x-www-form-urlencoded (default).",
        "callback_body_type",
    ),
    (
        "--callback-var x:NAME=VALUE",
        "pairs",
        "Custom variable of the callback; can be repeated.",
        "callback_variables",
    ),
)

#: Words that a shell suggests, by the name of the value. Those for options that all storages have add to theirs.
SUGGESTIONS: Mapping[str, tuple[str, ...]] = {
    "acl": ("default",),
    "storage_class": ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"),
    "encryption": ("SM4",),
    "addressing_style": ("virtual", "path", "cname"),
    "signature_version": ("v4", "v1"),
    "data_encryption": ("SM4",),
    "callback_body_type": ("application/x-www-form-urlencoded", "application/json"),
}

#: The flags for the settings that hints name.
SETTINGS: Mapping[str, str] = {
    "callback": "--callback-url and --callback-body",
    "data_encryption": "--data-encryption",
    "signature_version": "--signature-version",
    "traffic_limit": "--traffic-limit",
}

#: Options that must not be on a command line, which other users can read, with the flag to use instead.
SECRETS: Mapping[str, str] = {}


def bucket_in_url(location: str) -> str:
    """Return the bucket of a location, such as ``bucket@host``."""
    return location.partition("@")[0]


def option_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of `OSSOptions` that the flags set, by name.

    Args:
        given: the values of the flags that were given, by the name of the value.

    Raises:
        InvalidInput: a callback is incomplete.
    """
    values = dict(given)
    callback = {name: values.pop(name) for name in given if name.startswith("callback_")}
    if callback:
        values["callback"] = _callback({name.removeprefix("callback_"): value for name, value in callback.items()})
    return values


def _callback(fields: Mapping[str, Any]) -> object:
    from partwise.backends.oss.options import Callback
    from partwise.errors import InvalidInput

    if not fields.keys() >= {"url", "body"}:
        raise InvalidInput("a callback needs both --callback-url and --callback-body")
    return Callback(**fields)
