"""
What both conformance suites share: harnesses, checks, declared deviations.

A check is a function of one harness. It returns if the contract is kept. It raises AssertionError with a message that
says what the contract demands, or `NotApplicable` if it can't be run with this harness. No check needs pytest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar
from unittest import SkipTest

from attrs import define

from partwise.errors import InvalidInput, PartwiseError

__all__ = ["Check", "NotApplicable", "Suite"]

_Error = TypeVar("_Error", bound=BaseException)
_Subject = TypeVar("_Subject")
_Result = TypeVar("_Result")
_P = ParamSpec("_P")


class NotApplicable(SkipTest):
    """
    The check can't be run with this harness; the message says why.

    Test runners report it as skipped.
    """


class Harness(ABC, Generic[_Subject]):
    """
    Describes the backend or store under test. Each check gets a new harness.

    As a context manager it closes every handle that `open_for_test` returned, and then itself.
    """

    deviations: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """
    Known deviations from the contract: the name of a check, and the reason.

    A check that is listed here has to fail. If it passes, the suite fails, so that a declaration is removed once it is
    obsolete.
    """

    examples: ClassVar[int] = 30
    """The number of sequences of calls that the state machine tries."""

    @abstractmethod
    def open(self) -> _Subject:
        """Open a handle; all handles use the same storage, which is empty at first."""

    def close(self) -> None:
        """Remove the storage. The default does nothing."""

    @cached_property
    def _handles(self) -> ExitStack:  # created on first use, so that a harness need not call super().__init__()
        return ExitStack()

    def open_for_test(self) -> _Subject:
        """Open a handle that is closed at the end of the check."""
        subject = self.open()
        if callable(close := getattr(subject, "close", None)):
            self._handles.callback(close)
        return subject

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._handles.close()
        finally:
            self.close()


_Harness = TypeVar("_Harness", bound=Harness[Any])


@define(frozen=True)
class Check(Generic[_Harness]):
    """
    One check of a suite. Call it with a harness.

    Args:
        function: the `check_*` function.
        items: the numbers of the behaviours that it covers, in the list of its suite.
    """

    function: Callable[[_Harness], None]
    items: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the function without ``check_``."""
        return self.function.__name__.removeprefix("check_")

    def __call__(self, harness: _Harness) -> None:
        """
        Run the check as the declared deviations say, and close the harness.

        Raises:
            AssertionError: the contract is not kept, or a deviation was declared and the check passed.
            NotApplicable: the check can't be run with this harness, or it failed and that deviation was declared.
        """
        with harness:
            reason = harness.deviations.get(self.name)
            if reason is None:
                self.function(harness)
                return
            try:
                self.function(harness)
            except SkipTest:
                raise
            except Exception as error:
                raise NotApplicable(f"a declared deviation: {reason}") from error
            raise AssertionError(f"{self.name} is declared to deviate ({reason}), but passes: remove the declaration")


class Suite(Generic[_Harness]):
    """
    Checks by name, in the order of their definition.

    Args:
        suites: suites whose checks it includes.
        left_out: behaviours that no check covers, by number, with the reason.
    """

    def __init__(self, *suites: Suite[_Harness], left_out: Mapping[int, str] | None = None) -> None:
        self.left_out = dict(left_out or {})
        self._checks = {check.name: check for suite in suites for check in suite}

    def __iter__(self) -> Iterator[Check[_Harness]]:
        return iter(self._checks.values())

    def __getitem__(self, name: str) -> Check[_Harness]:
        return self._checks[name]

    @property
    def covered(self) -> frozenset[int]:
        """The numbers of the covered behaviours."""
        return frozenset(item for check in self for item in check.items)

    def covers(self, *items: int) -> Callable[[Callable[[_Harness], None]], Callable[[_Harness], None]]:
        """Add the decorated function, unchanged, as the check of these behaviours."""

        def enter(function: Callable[[_Harness], None]) -> Callable[[_Harness], None]:
            check = Check(function, items)
            assert check.name not in self._checks, f"there are two checks {check.name}"
            self._checks[check.name] = check
            return function

        return enter

    def add_tests(self, test_class: type) -> None:
        """Add a test method for each check to the class."""
        for check in self:
            setattr(test_class, f"test_{check.name}", _as_test(check))

    def check_declarations(self, harness: _Harness) -> None:
        """Raise InvalidInput if a declared deviation names no check."""
        if unknown := sorted(harness.deviations.keys() - self._checks.keys()):
            raise InvalidInput(f"unknown checks in deviations: {', '.join(unknown)}")


def _as_test(check: Check[_Harness]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        # Via the class: a function that is looked up on the instance would become a bound method.
        check(type(self).harness())

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.function.__doc__
    return test


def must_raise(
    expected: type[_Error], duty: str, call: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
) -> _Error:
    """
    Call a function that has to raise the expected error, and return the error.

    `duty` is what the contract demands; an AssertionError begins with it.
    """
    try:
        result = call(*args, **kwargs)
    except expected as error:
        return error
    except PartwiseError as error:
        raise AssertionError(
            f"{duty}: expected {expected.__name__}, and {type(error).__name__} was raised: {error}"
        ) from error
    raise AssertionError(f"{duty}: expected {expected.__name__}, and the call returned {result!r}")


def must_return(duty: str, call: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs) -> _Result:
    """
    Call a function that must not raise a PartwiseError, and return its result.

    `duty` is what the contract demands; an AssertionError begins with it.
    """
    try:
        return call(*args, **kwargs)
    except PartwiseError as error:
        raise AssertionError(f"{duty}, and {type(error).__name__} was raised: {error}") from error
