"""
The configuration file of ossutil, `~/.ossutilconfig`, versions 1 and 2.

Version 1 has a section ``[Credentials]``, and tables of endpoints by bucket; version 2 has profiles, ``[default]`` and
``[profile NAME]``, and a section ``[buckets NAME]`` per bucket. Section and key names are case-insensitive, with or
without the hyphens and underscores that ossutil allows. Only the values needed to access a bucket are read.
"""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import define

from partwise.backends._http.credentials import Credentials
from partwise.errors import InvalidInput

DEFAULT_PATH = "~/.ossutilconfig"

#: Bytes. A file with a hundred profiles has a hundredth of this.
_SIZE_MAX = 4 * 1024 * 1024

#: The modes in which a profile's access key is used as it is.
_KEY_MODES = ("ak", "ststoken")


@define(frozen=True)
class Configuration:
    """The settings for one bucket."""

    credentials: Credentials | None = None
    region: str | None = None
    endpoint: str | None = None
    addressing_style: str | None = None
    unsupported_mode: str | None = None  # how the profile gets credentials, if only ossutil supports it
    problem: str | None = None  # why the access key can't be used, if it is invalid


def read_configuration(bucket: str, *, path: str | Path | None = None, profile: str | None = None) -> Configuration:
    """
    Read the settings for a bucket.

    They are empty if the file or the home directory does not exist.

    Args:
        bucket: the bucket.
        path: the file; None means `~/.ossutilconfig`.
        profile: the profile; None means the default profile.

    Raises:
        InvalidInput: the file can't be read, or has no such profile. Neither the error nor its cause contains any
            content of the file.
    """
    try:
        file = Path(path or DEFAULT_PATH).expanduser()
    except RuntimeError as error:
        # The user is not in the user database, as in many containers.
        if path is not None:
            raise InvalidInput(f"{path} not found: this user has no home directory") from error
        return Configuration()
    sections = _sections(file)
    if isinstance(sections, str):
        raise InvalidInput(f"{file} {sections}")
    chosen = _profile(sections, profile, file)
    by_bucket = _values(sections.get(f"buckets {bucket}", {}))
    cname = sections.get("bucket-cname", {}).get(bucket)
    endpoint = (
        by_bucket.get("endpoint") or cname or sections.get("bucket-endpoint", {}).get(bucket) or chosen.get("endpoint")
    )
    style = by_bucket.get("addressingstyle") or ("cname" if cname else None) or chosen.get("addressingstyle")
    mode = chosen.get("mode")
    usable = mode is None or mode.lower() in _KEY_MODES
    credentials = _credentials(chosen) if usable else None
    return Configuration(
        credentials=credentials if isinstance(credentials, Credentials) else None,
        region=by_bucket.get("region") or chosen.get("region"),
        endpoint=endpoint,
        addressing_style=None if style is None else style.lower(),
        unsupported_mode=None if usable else mode,
        problem=f"in {file} {credentials}" if isinstance(credentials, str) else None,
    )


def _sections(file: Path) -> dict[str, dict[str, str]] | str:
    """
    Return the sections of the file, or what is wrong with it.

    It is returned, not raised: a decoding or parsing error contains the file or a line of it, which may be the secret,
    and would be the context of an exception that is raised while it is handled.
    """
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        inline_comment_prefixes=("#",),
        default_section="\0",  # so that a section named "default" is not special
        strict=False,
        empty_lines_in_values=False,
    )
    parser.optionxform = lambda name: name.strip().lower()  # type: ignore[assignment,method-assign]  # documented
    try:
        parser.read_string(_content(file).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        return f"can't be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        return "can't be read: it is not UTF-8"
    except configparser.Error:
        return "is not a configuration file of ossutil"
    return {" ".join(name.lower().split()): dict(parser.items(name)) for name in parser.sections()}


def _content(file: Path) -> bytes:
    # Checked after opening it, without blocking: a FIFO would block for ever, and a device must not be read.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is not a regular file")
        content = opened.read(_SIZE_MAX + 1)
    if len(content) > _SIZE_MAX:
        raise OSError(0, f"it has more than {_SIZE_MAX} bytes")
    return content


def _profile(sections: Mapping[str, dict[str, str]], name: str | None, file: Path) -> dict[str, str]:
    titles = [f"profile {name.lower()}"] if name else ["profile default", "default", "credentials"]
    if name and name.lower() == "default":
        titles.append("default")
    section = next((sections[title] for title in titles if title in sections), None)
    if section is None and name:
        raise InvalidInput(f"{file} has no profile {name!r}")
    return _values(section or {})


def _values(section: Mapping[str, str]) -> dict[str, str]:
    """Return the values that are not empty, by plain name."""
    found = {name.replace("-", "").replace("_", "").lower(): value.strip() for name, value in section.items()}
    return {name: value for name, value in found.items() if value}


def _credentials(profile: Mapping[str, str]) -> Credentials | str | None:
    """Return the access key, or None, and what is wrong with it if it is invalid."""
    key_id, secret = profile.get("accesskeyid"), profile.get("accesskeysecret")
    if key_id is None or secret is None:
        return None
    try:
        return Credentials(key_id, secret, profile.get("ststoken"))
    except InvalidInput as error:
        return error.message
