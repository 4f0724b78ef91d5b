"""
Checks of what callers give, so that a wrong value is an `InvalidInput` that names it, wherever it was given.

Internal to partwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import Attribute

from partwise.errors import InvalidInput

_SHOWN_MAX = 60

# Beyond this no storage, file or machine has a use for a number, and messages have no room for it.
_WHOLE_MAX = 2**128


def brief(value: object) -> str:
    """A value in a message: short, whatever it is. Python refuses to write a whole number of 5,000 digits."""
    try:
        return f"{value!r:.{_SHOWN_MAX}}"
    except Exception:  # noqa: BLE001  # a value of the caller's own may raise anything
        return f"a {type(value).__name__}"


def _name(instance: object, attribute: Attribute[Any]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"


def whole(least: int, most: int | None = None, *also: object) -> Callable[[Any, Attribute[Any], Any], None]:
    """A validator of whole numbers from `least` to `most`, and of the values in `also`, such as None."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            if least <= value <= (_WHOLE_MAX if most is None else most):
                return
        else:
            # Not by `any`: it leaves a generator half way, and what a signal handler raises at its end is lost.
            for one in also:
                if value is one or (isinstance(one, str) and value == one):
                    return
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise InvalidInput(f"{_name(instance, attribute)} must be a whole number {bounds}, not {brief(value)}")

    return check


def text_or_none(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A validator of text, and of None."""
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{_name(instance, attribute)} must be text, not {brief(value)}")


def yes_or_no(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A validator of True and False."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{_name(instance, attribute)} must be True or False, not {brief(value)}")


def texts_by_name(value: Mapping[str, str]) -> dict[str, str]:
    """A converter to a copy of a mapping from text to text."""
    instance_of(value, Mapping, "names and values must be a mapping from text to text")
    if not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise InvalidInput(f"names and values must be a mapping from text to text, not {brief(value)}")
    return dict(value)


def names(value: Iterable[str]) -> frozenset[str]:
    """A converter to a set of names."""
    try:
        found = frozenset(value)
    except TypeError as error:
        raise InvalidInput(f"names must be a set of text, not {brief(value)}") from error
    if isinstance(value, str) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"names must be a set of text, not {brief(value)}")
    return found


def check_whole(value: object, least: int, what: str) -> None:
    """
    Make sure that an argument is a whole number from `least` on.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _WHOLE_MAX:
        raise InvalidInput(f"{what}, not {brief(value)}")


def one_of(value: object, choices: tuple[str, ...], what: str) -> None:
    """
    Make sure that an argument is one of some words.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{what}, not {brief(value)}")


def instance_of(value: object, kind: type, what: str) -> None:
    """
    Make sure that an argument is of its type.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, kind):
        raise InvalidInput(f"{what}, not {type(value).__name__} ({brief(value)})")
