"""
The flags that the packages of storages declare.

A package declares its flags as plain data in a module ``flags``; `partwise.backends.oss.flags` says how. Flags for what
several storages have are declared by the command line itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from partwise._validation import brief_url
from partwise.cli.completion import Paths, Suggestions
from partwise.cli.help_pages import OptionGroup
from partwise.cli.param_types import Value, unique_pairs

VENDORS: tuple[Any, ...] = tuple(
    map(import_module, ("partwise.backends.oss.flags", "partwise.backends.s3.flags")),
)

#: The attributes of an option whose pairs can be repeated.
PAIRS: dict[str, Any] = {"multiple": True, "callback": unique_pairs}

#: The flags for the settings of storages that hints name.
SETTINGS: Mapping[str, str] = {name: flag for vendor in VENDORS for name, flag in vendor.SETTINGS.items()}


def suggestions(name: str, words: tuple[str, ...] = ()) -> Suggestions:
    """
    Return the words that a shell suggests for the value of this name.

    The words given are those of all storages; each package adds its own.
    """
    return Suggestions(words, {vendor.SCHEME: vendor.SUGGESTIONS.get(name, ()) for vendor in VENDORS})


def _groups(flags_of: Callable[[Any], Iterable[tuple[str, str, str, str]]]) -> list[tuple[Any, OptionGroup]]:
    groups = []
    for vendor in VENDORS:
        group = OptionGroup(vendor.HEADING)
        for usage, kind, explanation, name in flags_of(vendor):
            if kind == "flag":
                group.flag(usage, explanation)
            elif kind == "pairs":
                group.option(usage, Value("pair"), explanation, name, **PAIRS)
            elif kind == "path":
                group.option(usage, Paths("file"), explanation, name)
            elif kind == "text":
                group.option(usage, suggestions(name), explanation, name)
            else:
                group.option(usage, Value(kind), explanation, name)
        groups.append((vendor, group))
    return groups


_CONNECTION_GROUPS = _groups(lambda vendor: vendor.CONNECTION_FLAGS)
_REQUEST_GROUPS = _groups(lambda vendor: vendor.REQUEST_FLAGS)
_READING_GROUPS = _groups(lambda vendor: vendor.READING_FLAGS)
_OPTION_GROUPS = _groups(lambda vendor: vendor.OPTION_FLAGS)


def _declare(groups: list[tuple[Any, OptionGroup]], function: Any) -> Any:
    for _, group in reversed(groups):
        function = group(function)
    return function


def connection_flags(function: Any) -> Any:
    """Declare the flags of single storages for connections and requests: a decorator."""
    return _declare(_CONNECTION_GROUPS, _declare(_REQUEST_GROUPS, function))


def reading_flags(function: Any) -> Any:
    """Declare the flags of single storages for requests about an object: a decorator."""
    return _declare(_READING_GROUPS, function)


def option_flags(function: Any) -> Any:
    """Declare the option flags of single storages: a decorator."""
    return reading_flags(_declare(_OPTION_GROUPS, function))


def connection_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connection settings that the flags of storages give."""
    return {name: value for _, group in _CONNECTION_GROUPS for name, value in present(group.values(given)).items()}


def option_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of options that flags of single storages give, by name.

    The command need not have all of them.

    Raises:
        InvalidInput: flags that belong together are incomplete, or a file that one names can't be used.
    """
    values: dict[str, Any] = {}
    for groups in (_REQUEST_GROUPS, _READING_GROUPS, _OPTION_GROUPS):
        for vendor, group in groups:
            values |= vendor.option_values(present(group.values_present(given)))
    return values


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out flags that were not given (False, or no pairs)."""
    return {name: value for name, value in values.items() if value is not False and value != {}}


def require_matching_flags(url: str, given: Mapping[str, Any]) -> None:
    """
    Refuse a flag of one storage with the URL of another.

    Schemes of other packages are not checked: those may have settings of the same names.

    Raises:
        InvalidInput: there is such a flag.
    """
    scheme = scheme_of(url)
    if scheme not in {vendor.SCHEME for vendor in VENDORS}:
        return
    for groups in (_CONNECTION_GROUPS, _REQUEST_GROUPS, _READING_GROUPS, _OPTION_GROUPS):
        for vendor, group in groups:
            flags = [group.usages[name] for name in present(group.values_present(given))]
            if flags and scheme != vendor.SCHEME:
                from partwise.errors import InvalidInput

                raise InvalidInput(
                    f"{flags[0]} is only for {vendor.SCHEME}:// URLs, and {brief_url(url)} is not one",
                    hint=f"Leave {flags[0]} out",
                )


def scheme_of(url: str) -> str:
    """Return the scheme of a URL, in lower case."""
    return url.partition(":")[0].lower()


def credentials_of(scheme: str) -> str:
    """Return where credentials for URLs of this scheme come from."""
    return str(next((vendor for vendor in VENDORS if scheme == vendor.SCHEME), VENDORS[0]).CREDENTIALS)


def bucket_in_url(scheme: str, location: str) -> str:
    """
    Return the bucket as it is written in a URL.

    The location is that of a backend without its scheme, such as ``bucket@host``.
    """
    vendor = next((vendor for vendor in VENDORS if scheme == vendor.SCHEME), None)
    return location.partition("@")[0] if vendor is None else str(vendor.bucket_in_url(location))


def probing_module(url: str) -> Any:
    """
    Import the module that probes the storage of a URL.

    Raises:
        InvalidInput: there is none.
    """
    vendor = next((vendor for vendor in VENDORS if scheme_of(url) == vendor.SCHEME), None)
    if vendor is None or vendor.PROBE is None:
        from partwise.errors import InvalidInput

        schemes = " or ".join(f"{vendor.SCHEME}://bucket/prefix" for vendor in VENDORS if vendor.PROBE)
        raise InvalidInput(
            f"{brief_url(url)} can't be probed: only storages behind one protocol differ", hint=f"Write {schemes}"
        )
    return import_module(vendor.PROBE)


def secret_options() -> dict[str, str]:
    """Return the options that --set refuses, with the flag to use instead."""
    return {name: flag for vendor in VENDORS for name, flag in vendor.SECRETS.items()}
