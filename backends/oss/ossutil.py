"""
The configuration file of ossutil, `~/.ossutilconfig`, of its first and its second generation.

The first has one section ``[Credentials]`` and tables of endpoints by bucket; the second has profiles,
``[default]`` and ``[profile NAME]``, and a section ``[buckets NAME]`` for a bucket. Names of sections and of keys
are read in any case and with any of the hyphens and underscores that ossutil allows. Only what is needed to reach a
bucket is read.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from partwise.backends.oss.credentials import Credentials
from partwise.errors import InvalidInput

DEFAULT_PATH = "~/.ossutilconfig"

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
    """

    credentials: Credentials | None = None
    region: str | None = None
    endpoint: str | None = None
    addressing_style: str | None = None
    only_ossutil: str | None = None


@define
class _Profile:
    values: dict[str, str] = field(factory=dict)

    def get(self, *names: str) -> str | None:
        return next((self.values[name] for name in names if self.values.get(name)), None)


def read_configuration(bucket: str, *, path: str | Path | None = None, profile: str | None = None) -> Configuration:
    """
    Read what the file says about a bucket; a file that is not there says nothing.

    Args:
        bucket: the bucket.
        path: the file; None takes `~/.ossutilconfig`.
        profile: the profile; None takes the default one.

    Raises:
        InvalidInput: the file can't be read, or has no such profile.
    """
    file = Path(path or DEFAULT_PATH).expanduser()
    sections = _sections(file)
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
    return Configuration(
        credentials=_credentials(chosen) if usable else None,
        region=by_bucket.get("region") or chosen.get("region"),
        endpoint=endpoint,
        addressing_style=None if style is None else style.lower(),
        only_ossutil=None if usable else mode,
    )


def _sections(file: Path) -> dict[str, dict[str, str]]:
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
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    try:
        parser.read_string(text)
    except configparser.Error:
        # The parser's message repeats the line, which may hold the secret; so would the cause.
        raise InvalidInput(f"{file} is no configuration file of ossutil") from None
    return {" ".join(name.lower().split()): dict(parser.items(name)) for name in parser.sections()}


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


def _credentials(profile: _Profile) -> Credentials | None:
    key_id, secret = profile.get("accesskeyid"), profile.get("accesskeysecret")
    if key_id is None or secret is None:
        return None
    return Credentials(key_id, secret, profile.get("ststoken"))
