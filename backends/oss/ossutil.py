"""
The configuration file of ossutil, `~/.ossutilconfig`, of its first and its second generation.

The first has one section ``[Credentials]`` and tables of endpoints by bucket; the second has profiles,
``[default]`` and ``[profile NAME]``, and a section ``[buckets NAME]`` for a bucket. Names of sections and of keys
are read in any case and with any of the hyphens and underscores that ossutil allows. Only what is needed to reach a
bucket is read.
"""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from partwise.backends.oss.credentials import Credentials
from partwise.errors import InvalidInput

DEFAULT_PATH = "~/.ossutilconfig"

#: In bytes. Of a file with a hundred profiles it is the hundredth part.
_SIZE_MAX = 4 * 1024 * 1024

#: The modes in which a profile's keys are what they seem.
_KEY_MODES = ("ak", "ststoken")


@define(frozen=True)
class Configuration:
    """
    What the file says about one bucket.

    Args:
        credentials: the keys, None where it has none.
        region: the region's id.
        endpoint: the endpoint.
        addressing_style: the addressing style that goes with the endpoint.
        only_ossutil: how the profile gets credentials, where that is a way that only ossutil knows.
        wrong: why its keys can't be used, where it has some that can't.
    """

    credentials: Credentials | None = None
    region: str | None = None
    endpoint: str | None = None
    addressing_style: str | None = None
    only_ossutil: str | None = None
    wrong: str | None = None


@define
class _Profile:
    values: dict[str, str] = field(factory=dict)

    def get(self, *names: str) -> str | None:
        return next((self.values[name] for name in names if self.values.get(name)), None)


def read_configuration(bucket: str, *, path: str | Path | None = None, profile: str | None = None) -> Configuration:
    """
    Read what the file says about a bucket; a file that is not there says nothing, nor does one in a home that is not.

    Args:
        bucket: the bucket.
        path: the file; None takes `~/.ossutilconfig`.
        profile: the profile; None takes the default one.

    Raises:
        InvalidInput: the file can't be read, or has no such profile. Neither the error nor what it was raised from
            holds anything of the file.
    """
    try:
        file = Path(path or DEFAULT_PATH).expanduser()
    except RuntimeError as error:
        # A process of a user who is not in the user database, as in many containers.
        if path is not None:
            raise InvalidInput(f"{path} can't be found: this user has no home directory") from error
        return Configuration()
    sections = _sections(file)
    if isinstance(sections, str):
        raise InvalidInput(f"{file} {sections}")
    chosen = _profile(sections, profile, file)
    own = sections.get(f"buckets {bucket}", {})
    by_bucket = _Profile({_plain(name): value for name, value in own.items()})
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
        only_ossutil=None if usable else mode,
        wrong=f"in {file} {credentials}" if isinstance(credentials, str) else None,
    )


def _sections(file: Path) -> dict[str, dict[str, str]] | str:
    """
    The sections of the file, or what is wrong with it.

    What is wrong is returned and not raised: errors of decoding and of parsing hold the file or a line of it, which may
    be the secret, and an error that is raised while one of them is handled keeps it, as do the frames of its traceback.
    """
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        inline_comment_prefixes=("#",),
        default_section="\0",  # a section that is called "default" is one like the others
        strict=False,
        empty_lines_in_values=False,
    )
    parser.optionxform = lambda name: name.strip().lower()  # type: ignore[assignment,method-assign]  # as documented
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
    # Opened without waiting, and looked at when it is open: a FIFO would never end, and a device is not read.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is not a regular file")
        content = opened.read(_SIZE_MAX + 1)
    if len(content) > _SIZE_MAX:
        raise OSError(0, f"it has more than {_SIZE_MAX} bytes")
    return content


def _profile(sections: Mapping[str, dict[str, str]], name: str | None, file: Path) -> _Profile:
    wanted = [f"profile {name.lower()}"] if name else ["profile default", "default", "credentials"]
    if name and name.lower() == "default":
        wanted.append("default")
    section = next((sections[title] for title in wanted if title in sections), None)
    if section is None:
        if name:
            raise InvalidInput(f"{file} has no profile {name!r}")
        return _Profile()
    return _Profile({_plain(key): value.strip() for key, value in section.items()})


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _credentials(profile: _Profile) -> Credentials | str | None:
    """The keys; None where there are none, and what is wrong with them where they can't be used."""
    key_id, secret = profile.get("accesskeyid"), profile.get("accesskeysecret")
    if key_id is None or secret is None:
        return None
    try:
        return Credentials(key_id, secret, profile.get("ststoken"))
    except InvalidInput as error:
        return error.message
