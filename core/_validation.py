"""
Checks of arguments and fields: a wrong value raises an `InvalidInput`.

The message names the argument or field. Private to partwise. Its backends and stores use it, too, so that all of them
report wrong values alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from reprlib import Repr
from typing import Any, NoReturn, TypeGuard

from attrs import Attribute

from partwise._signals import raised_by_signal
from partwise.errors import InvalidInput

_BRIEF_LENGTH = 60

#: No storage, file or machine needs a larger number, and a message could not show it.
_INTEGER_MAX = 2**128

#: Systems keep sizes, times in nanoseconds, and checksums in 64 bits.
STORED_INTEGER_MAX = 2**64 - 1

#: A validator of an attrs field.
Validator = Callable[[Any, "Attribute[Any]", Any], None]


# --- values in messages ----------------------------------------------------------------------------------------------


def brief(value: object) -> str:
    """
    Return a short text for any value.

    Python itself refuses to format an integer of 5,000 digits.
    """
    try:
        return f"{value!r:.{_BRIEF_LENGTH}}"
    except Exception:  # noqa: BLE001  # the __repr__ of any object may raise anything
        return f"a {type(value).__name__}"


def brief_url(url: str) -> str:
    """Return a URL in quotes for a message, not too long, and without its password."""
    return f"{without_password(url)!r:.200}"


def without_password(url: str) -> str:
    """
    Return a URL for messages, with ``***`` for a password.

    It may be that of a database, whose scheme may be mistyped, or that of a proxy, such as ``user:password@host:3128``.
    """
    return _PASSWORD_PARAMETER.sub("***", _PASSWORD.sub(r"\1:***@", url))


#: What is before a password, and the password: up to the last @, since it may contain one, or a slash, that is not
#: percent-encoded, as may the name of the user.
_PASSWORD = re.compile(r"^((?:[^/@:]*:)?//[^/:]*|[^/@:]+(?=:(?!//))):.*@", re.DOTALL)

_PASSWORD_PARAMETER = re.compile("(?<=password=)[^&]*")


#: Unlike `repr` it shows only the outer levels of a value, and only the first items.
_outline = Repr()
_outline.maxlevel, _outline.maxother = 2, 60


def outline(value: object) -> str:
    """
    Return a short text for plain data.

    Unlike `brief` it takes little memory for large or deeply nested data.
    """
    try:
        return _outline.repr(value)
    except ValueError:  # an integer of more digits than Python formats
        return f"a huge {type(value).__name__}"


def printable(text: str) -> str:
    """
    Return a text from outside as a message or a log may have it.

    It is unchanged, or its `repr` if it has control characters, which could change what a terminal shows.
    """
    return text if text.isprintable() else repr(text)


# --- validators and converters of attrs fields -----------------------------------------------------------------------


def integer(minimum: int, maximum: int | None = None, *also: object) -> Validator:
    """Return a validator of integers in a range, and of the values in `also`."""
    return _integer(minimum, _INTEGER_MAX if maximum is None else maximum, _range(minimum, maximum), also)


def stored_integer(minimum: int, *also: object) -> Validator:
    """
    Return a validator of integers of up to 64 bits, which a checkpoint can keep.

    The values in `also` are valid, too.
    """
    return _integer(minimum, STORED_INTEGER_MAX, _range(minimum), also)


def _integer(minimum: int, maximum: int, expected: str, also: tuple[object, ...]) -> Validator:
    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        # The first test alone nearly always decides, and eight such checks are made for each part.
        if type(value) is int or is_integer(value):
            if minimum <= value <= maximum:
                return
            must_be = expected if value < minimum else _range(minimum, maximum)
        else:
            # Not by `any`: it abandons a generator, and what a signal handler raises while that is closed is lost.
            for one in also:
                if value is one or (isinstance(one, str) and value == one):
                    return
            must_be = expected
        raise InvalidInput(f"{field_name(instance, attribute)} must be {must_be}, not {brief(value)}")

    return check


def number(minimum: float, maximum: float, expected: str) -> Validator:
    """
    Return a validator of integers and floats in a range.

    `expected` describes the range in the message.
    """

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        # NaN compares as false, so it is not in the range.
        if not isinstance(value, int | float) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise InvalidInput(f"{field_name(instance, attribute)} must be {expected}, not {brief(value)}")

    return check


def choice(*choices: str) -> Validator:
    """Return a validator of these strings."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        check_choice(field_name(instance, attribute), value, choices)

    return check


def string(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a string."""
    if not isinstance(value, str):
        _refuse_type(instance, attribute, value, "a string")


def optional_string(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a string or None."""
    if value is not None and not isinstance(value, str):
        _refuse_type(instance, attribute, value, "a string or None")


def boolean(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Validate True or False."""
    if not isinstance(value, bool):
        _refuse_type(instance, attribute, value, "True or False")


def of_type(*kinds: type) -> Validator:
    """Return a validator of values of these types."""
    expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            _refuse_type(instance, attribute, value, expected)

    return check


# The name of the field is only made for a message: every part and every checkpoint is validated.
def _refuse_type(instance: object, attribute: Attribute[Any], value: object, expected: str) -> NoReturn:
    raise InvalidInput(f"{field_name(instance, attribute)} must be {expected}, not {brief(value)}")


def tuple_of(kind: type) -> Validator:
    """Return a validator of tuples whose items are all of one type."""

    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        # The set of types is small, while an upload has many parts.
        if not all(issubclass(one, kind) for one in set(map(type, value))):
            name = field_name(instance, attribute)
            raise InvalidInput(f"{name} must contain only {kind.__name__}, not {brief(value)}")

    return check


def to_tuple(value: Iterable[Any]) -> tuple[Any, ...]:
    """Convert an iterable to a tuple; a string is refused."""
    if type(value) is tuple:
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInput(f"several values must be a list or a tuple, not {brief(value)}")
    return tuple(value)


def string_mapping(value: Mapping[str, str]) -> dict[str, str]:
    """Copy a mapping from strings to strings."""
    check_type("names and values", value, Mapping, "a mapping from strings to strings")
    if not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise InvalidInput(f"names and values must be a mapping from strings to strings, not {brief(value)}")
    return dict(value)


def string_set(value: Iterable[str]) -> frozenset[str]:
    """Convert an iterable of strings to a set; a string is refused."""
    try:
        found = frozenset(value)
    except TypeError as error:
        raise InvalidInput(f"names must be a set of strings, not {brief(value)}") from error
    if isinstance(value, str) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"names must be a set of strings, not {brief(value)}")
    return found


def field_name(instance: object, attribute: Attribute[Any]) -> str:
    """Return the name of a field for messages, such as ``TransferConfig.part_size``."""
    return f"{type(instance).__name__}.{attribute.name}"


# --- checks of arguments ---------------------------------------------------------------------------------------------
#
# Each takes the name of the argument for the message and its value, and raises InvalidInput if the value is wrong.


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer. True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_integer(what: str, value: object, minimum: int, maximum: int | None = None) -> None:
    """Check that an argument is an integer in a range."""
    if not is_integer(value) or not minimum <= value <= (_INTEGER_MAX if maximum is None else maximum):
        raise InvalidInput(f"{what} must be {_range(minimum, maximum)}, not {brief(value)}")


def check_number(what: str, value: object) -> None:
    """Check that an argument is an integer or a float, and not NaN."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN alone
        raise InvalidInput(f"{what} must be a number, not {brief(value)}")


def check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of these strings."""
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise InvalidInput(f"{what} must be {', '.join(others)} or {last}, not {brief(value)}")


def check_type(what: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Check the type of an argument; `expected` is the type for the message."""
    if not isinstance(value, kind):
        raise InvalidInput(f"{what} must be {expected}, not {brief(value)}")


def check_callable(what: str, value: object) -> None:
    """Check that an argument can be called."""
    if not callable(value):
        raise InvalidInput(f"{what} must be a function, not {brief(value)}")


def has_methods(value: object, methods: tuple[str, ...]) -> bool:
    """Return whether a value is an object, not a class, with these methods."""
    if isinstance(value, type):
        return False
    for name in methods:  # noqa: SIM110  # not by `all`: this is called for each part
        if not callable(getattr(value, name, None)):
            return False
    return True


def check_methods(what: str, value: object, methods: tuple[str, ...], expected: str) -> None:
    """
    Check that an argument is an object with these methods.

    `expected` names the type in the message.
    """
    if not has_methods(value, methods):
        raise InvalidInput(f"{what} must be {expected}, not {brief(value)}")


def check_string(what: str, value: object, error: type[InvalidInput] = InvalidInput) -> str:
    """Return an argument that is a string with a UTF-8 encoding, or raise `error`."""
    if not isinstance(value, str):
        raise error(f"{what} must be a string, not {brief(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            raise error(f"{what} can't be encoded as UTF-8: {brief(value)}") from None
    return value


def check_path(what: str, path: object, resolve: Callable[[str], str] = os.path.abspath) -> str:
    """
    Return a path as an absolute one.

    Args:
        what: the argument, for the message.
        path: a string, bytes in the encoding of the file system, or a path object.
        resolve: makes a path absolute.

    Raises:
        InvalidInput: it is not a path, or it is relative and there is no working directory.
    """
    try:
        found = os.fsdecode(path)  # type: ignore[arg-type]  # raises TypeError for anything else
        os.fsencode(found)
    except (TypeError, UnicodeError):
        raise InvalidInput(f"{what} must be a path, not {brief(path)}") from None
    if not found or "\0" in found:
        raise InvalidInput(f"{what} must be a path that is not empty and has no NUL character, not {brief(path)}")
    try:
        return resolve(found)
    except OSError as error:  # of os.getcwd
        if raised_by_signal(error) is not None:
            raise
        gone = isinstance(error, FileNotFoundError)
        why = "was removed" if gone else f"can't be read ({error.strerror or error})"
        raise InvalidInput(
            f"{what} is the relative path {brief(path)}, and the working directory {why}", hint="Use an absolute path"
        ) from error


def split_url(url: str, split: Callable[[str], Any]) -> Any:
    """
    Split a URL by `urllib.parse.urlsplit`, which the caller imports.

    Raises:
        InvalidInput: it is not a URL, such as one with an unmatched bracket in its host.
    """
    try:
        return split(url)
    except ValueError as error:
        raise InvalidInput(f"{brief(url)} is not a URL: {error}") from None


def _range(minimum: int, maximum: int | None = None) -> str:
    return f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
