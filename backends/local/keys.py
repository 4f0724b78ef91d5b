"""Which keys can be paths in a directory, and which URLs name one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from partwise._validation import brief, check_text, split_url
from partwise.errors import InvalidInput, InvalidKey

#: The folder in a bucket's directory that holds pending parts and what is known of objects; no key leads into it.
BOOKKEEPING = ".partwise"

# The longest name that the usual file systems take.
_SEGMENT_BYTES_MAX = 255

_WINDOWS_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f]')
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
# Windows also knows a long name by a short one that it makes up: the bookkeeping folder could be reached by it.
_WINDOWS_SHORT_BOOKKEEPING = re.compile(r"partwi~[0-9]+|pa[0-9a-f]{4}~[0-9]+", re.IGNORECASE)
_WINDOWS_DRIVE = re.compile(r"/[A-Za-z]:(/|$)")


def segments_of(key: str, *, windows: bool) -> tuple[str, ...]:
    """
    The names on the way from the bucket's directory to the object.

    A backslash is refused everywhere, since it would mean something else on Windows; names that Windows alone can't
    hold are refused there only.

    Raises:
        InvalidKey: the key can't be a path inside the directory.
    """
    check_text("a key", key, InvalidKey)
    if not key:
        raise InvalidKey("a key is not empty")
    segments = tuple(key.split("/"))
    for number, segment in enumerate(segments):
        why = _why_not(segment, first=number == 0) or (_why_not_on_windows(segment) if windows else None)
        if why is not None:
            raise InvalidKey(f"{key!r:.300} can't be the path of a file in a directory: {why}")
    return segments


def _why_not(segment: str, *, first: bool) -> str | None:
    if not segment:
        return "it starts or ends with a slash, or has two in a row"
    if segment in {".", ".."}:
        return f"{segment!r} is a way, not a name"
    if "\0" in segment or "\\" in segment:
        return "it has a NUL or a backslash in it"
    if len(segment.encode()) > _SEGMENT_BYTES_MAX:
        return f"a name between slashes has at most {_SEGMENT_BYTES_MAX} bytes"
    # Compared without case, for file systems that do so.
    if first and segment.casefold() == BOOKKEEPING:
        return f"{BOOKKEEPING} is where the bucket keeps its books"
    return None


def _why_not_on_windows(segment: str) -> str | None:
    if _WINDOWS_CHARACTERS.search(segment):
        return f"{segment!r} has a character that Windows does not allow"
    if segment[-1] in ". ":
        return f"{segment!r} ends with a dot or a space, which Windows would drop"
    if _WINDOWS_DEVICES.fullmatch(segment):
        return f"{segment!r} is a device on Windows"
    if _WINDOWS_SHORT_BOOKKEEPING.fullmatch(segment):
        return f"{segment!r} may be another name of {BOOKKEEPING}"
    return None


def split_file_url(url: str, *, windows: bool) -> tuple[Path, str]:
    """
    The directory and the key that a ``file:`` URL names: the key is what follows the last slash, and may be empty.

    Both are percent-decoded after that, so that a slash within a key is written ``%2F``.

    Raises:
        InvalidInput: it is not such a URL, is not absolute, names another host, or has a query or a fragment, which in
            a path have to be written ``%3F`` and ``%23``.
    """
    scheme, host, path, _, _ = split_url(url, urlsplit)
    if scheme != "file":
        raise InvalidInput(f"{url!r} is not a file: URL; write file:///directory/key")
    if host.lower() not in {"", "localhost"}:
        raise InvalidInput(f"{url!r} names the host {host!r}: only files of this machine are served")
    if "?" in url or "#" in url:
        raise InvalidInput(f"{url!r} has a query or a fragment: in a path, write '?' as %3F and '#' as %23")
    if windows and _WINDOWS_DRIVE.match(path):
        path = path[1:]
    elif not path.startswith("/"):
        raise InvalidInput(f"{url!r} is not absolute; write file:///directory/key")
    directory, _, key = path.rpartition("/")
    decoded = _percent_decoded(directory + "/")
    if "\0" in decoded:
        raise InvalidInput(f"{url!r} has a NUL in its path")
    return Path(decoded), _percent_decoded(key)


def _percent_decoded(text: str) -> str:
    try:
        return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
    except UnicodeEncodeError:
        raise InvalidInput(f"{brief(text)} can't be a path: it has a character that no path has") from None
