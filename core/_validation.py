"""
Checks of what callers give, so that a wrong value is an `InvalidInput` that names it, wherever it was given.

Internal to partwise. Our own backends and stores share it with the engine, so that all of them refuse alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from reprlib import Repr
from typing import Any, TypeGuard

from attrs import Attribute

from partwise._signals import raised_by_signal
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


#: Unlike `repr` it shows only the outer levels of a value, and only the first items.
_outline = Repr()
_outline.maxlevel, _outline.maxother = 2, 60


def outline(value: object) -> str:
    """Plain data in a message. Unlike `brief` it takes little memory, however large or deeply nested the data is."""
    try:
        return _outline.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a huge {type(value).__name__}"


def _name(instance: object, attribute: Attribute[Any]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"


def whole(least: int, most: int | None = None, *also: object) -> Callable[[Any, Attribute[Any], Any], None]:
    """A validator of whole numbers from `least` to `most`, and of the values in `also`, such as None."""

    highest = _WHOLE_MAX if most is None else most

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        # The first question alone is nearly always the answer, and eight such checks are made for each part.
        if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
            if least <= value <= highest:
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


def text(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A validator of text."""
    instance_of(value, str, f"{_name(instance, attribute)} must be text")


def of_type(*kinds: type) -> Callable[[Any, Attribute[Any], Any], None]:
    """A validator of values of these types."""
    words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            raise InvalidInput(f"{_name(instance, attribute)} must be {words}, not {brief(value)}")

    return check


def all_of(kind: type) -> Callable[[Any, Attribute[Any], Any], None]:
    """A validator of tuples of values of one type."""

    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        # By their types, of which there are few: an upload has many parts.
        if not all(issubclass(one, kind) for one in set(map(type, value))):
            raise InvalidInput(f"{_name(instance, attribute)} must hold {kind.__name__} alone, not {brief(value)}")

    return check


def to_tuple(value: Iterable[Any]) -> tuple[Any, ...]:
    """A converter to a tuple."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInput(f"several values must be a list or a tuple of them, not {brief(value)}")
    return tuple(value)


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
    if not is_whole(value) or not least <= value <= _WHOLE_MAX:
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


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, which True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_number(what: str, value: object) -> None:
    """
    Make sure that an argument is an integer or a float, and not NaN.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN alone
        raise InvalidInput(f"{what} is a number, not {brief(value)}")


def check_type(what: str, value: object, kind: type, expected: str) -> None:
    """
    Make sure that an argument is of its type.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, kind):
        raise InvalidInput(f"{what} is {expected}, not {brief(value)}")


def check_callable(what: str, value: object) -> None:
    """
    Make sure that an argument can be called.

    Raises:
        InvalidInput: it can't.
    """
    if not callable(value):
        raise InvalidInput(f"{what} is a function, not {brief(value)}")


def check_methods(what: str, value: object, methods: tuple[str, ...], expected: str) -> None:
    """
    Make sure that an argument is an object with these methods.

    Raises:
        InvalidInput: it lacks one of them.
    """
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in methods):
        raise InvalidInput(f"{what} is {expected}, not {brief(value)}")


def check_text(what: str, value: object, error: type[InvalidInput] = InvalidInput) -> str:
    """
    Return an argument, if it is a text that can be written as UTF-8.

    Raises:
        InvalidInput: it is not a text, or has a lone surrogate in it; of the class `error`.
    """
    if not isinstance(value, str):
        raise error(f"{what} is text, not {brief(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise error(f"{what} can't be written as UTF-8: {brief(value)}") from None
    return value


def check_path(what: str, path: object, resolve: Callable[[str], str] = os.path.abspath) -> str:
    """
    Return a path from the root, as text.

    Args:
        what: the argument, as the message names it.
        path: text, bytes as the operating system has them, or an object that stands for one of them.
        resolve: makes it a path from the root.

    Raises:
        InvalidInput: it can't be a path; or it is not from the root, and there is no working directory.
    """
    try:
        found = os.fsdecode(path)  # type: ignore[arg-type]  # it refuses what it can't take
        os.fsencode(found)
    except (TypeError, UnicodeError):
        raise InvalidInput(f"{what} is given by its path, not {brief(path)}") from None
    if not found or "\0" in found:
        raise InvalidInput(f"{what} is given by its path, which is not empty and has no NUL, not {brief(path)}")
    try:
        return resolve(found)
    except OSError as error:  # of os.getcwd
        if raised_by_signal(error) is not None:
            raise
        gone = isinstance(error, FileNotFoundError)
        why = "was removed" if gone else f"can't be read ({error.strerror or error})"
        raise InvalidInput(
            f"{what}, {brief(path)}, leads nowhere, since the working directory {why}: write the path from the root"
        ) from error


def split_url(url: str, split: Callable[[str], Any]) -> Any:
    """
    Split a URL by `urllib.parse.urlsplit`, which is not imported for this.

    Raises:
        InvalidInput: it can't be a URL, as one whose host has a bracket too many.
    """
    try:
        return split(url)
    except ValueError as error:
        raise InvalidInput(f"{brief(url)} can't be a URL: {error}") from None
