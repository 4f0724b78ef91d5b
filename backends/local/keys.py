"""Which keys can be paths in a directory, and how ``file:`` URLs are split."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from partwise._validation import brief, brief_url, check_string, split_url, without_password
from partwise.errors import InvalidInput, InvalidKey

#: The metadata directory in a bucket's directory: pending uploads, and options of objects. No key leads into it.
META_DIR = ".partwise"

# The longest name that common file systems accept.
_SEGMENT_BYTES_MAX = 255

_WINDOWS_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f]')
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
# Windows generates a short alias for a long name, so these could be aliases of the metadata directory.
_WINDOWS_META_DIR_ALIAS = re.compile(r"partwi~[0-9]+|pa[0-9a-f]{4}~[0-9]+", re.IGNORECASE)
# What Unicode calls ignorable (Default_Ignorable_Code_Point). HFS+ leaves most of these characters out when it compares
# names; ext4 and F2FS leave all of them out, in directories that ignore case.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_WINDOWS_DRIVE = re.compile(r"/[A-Za-z]:(/|$)")


def split_key(key: str, *, windows: bool) -> tuple[str, ...]:
    """
    Split a key into path segments.

    A backslash is refused on every system, because it separates segments on Windows. Names that only Windows can't
    store are refused only there.

    Raises:
        InvalidKey: the key can't be a path inside the directory.
    """
    check_string("a key", key, InvalidKey)
    if not key:
        raise InvalidKey("a key must not be empty")
    segments = tuple(key.split("/"))
    for number, segment in enumerate(segments):
        problem = _problem(segment, first=number == 0) or (_problem_on_windows(segment) if windows else None)
        if problem is not None:
            raise InvalidKey(f"{key!r:.300} can't be a path in a directory: {problem}", hint="Choose another key")
    return segments


def is_metadata_dir(name: str) -> bool:
    """Return whether an entry of a bucket's directory may be its metadata directory."""
    return _IGNORABLE.sub("", name).casefold() == META_DIR  # some file systems ignore case


def _problem(segment: str, *, first: bool) -> str | None:
    if not segment:
        return "it starts or ends with a slash, or has two in a row"
    if segment in {".", ".."}:
        return "'.' and '..' are not allowed as path segments"
    if "\0" in segment or "\\" in segment:
        return "it contains a NUL or a backslash"
    if len(segment.encode()) > _SEGMENT_BYTES_MAX:
        return f"a path segment has at most {_SEGMENT_BYTES_MAX} bytes"
    if first and is_metadata_dir(segment):
        return f"{META_DIR} is reserved for internal metadata"
    return None


def _problem_on_windows(segment: str) -> str | None:
    if _WINDOWS_CHARACTERS.search(segment):
        return f"{segment!r} contains a character that Windows does not allow"
    if segment[-1] in ". ":
        return f"{segment!r} ends with a dot or a space, which Windows removes"
    if _WINDOWS_DEVICES.fullmatch(segment):
        return f"{segment!r} is a device on Windows"
    if _WINDOWS_META_DIR_ALIAS.fullmatch(segment):
        return f"{segment!r} may be an alias of {META_DIR}"
    return None


def split_file_url(url: str, *, windows: bool) -> tuple[Path, str]:
    """
    Split a ``file:`` URL into the directory and the key.

    The key is the text after the last slash, and may be empty. Both are percent-decoded after the split, so a slash
    within a key is written ``%2F``.

    Raises:
        InvalidInput: the URL has another scheme, is not absolute, names another host, or has a query or a fragment.
    """
    shown = brief_url(url)
    scheme, host, path, _, _ = split_url(url, urlsplit)
    if scheme != "file":
        raise InvalidInput(f"{shown} is not a file: URL", hint="Write file:///directory/key")
    if host.lower() not in {"", "localhost"}:
        raise InvalidInput(
            f"{shown} names the host {without_password(host)!r}, but a file: URL can only name files of this machine"
        )
    if "?" in url or "#" in url:
        raise InvalidInput(f"{shown} has a query or a fragment", hint="In a path, write '?' as %3F and '#' as %23")
    if windows and _WINDOWS_DRIVE.match(path):
        path = path[1:]
    elif not path.startswith("/"):
        raise InvalidInput(f"{shown} is not absolute", hint="Write file:///directory/key")
    directory, _, key = path.rpartition("/")
    decoded = _percent_decoded(directory + "/")
    if "\0" in decoded:
        raise InvalidInput(f"{shown} has a NUL in its path")
    return Path(decoded), _percent_decoded(key)


def _percent_decoded(text: str) -> str:
    try:
        return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{brief(text)} can't be a path: it contains a character that the file system can't encode"
        ) from None
