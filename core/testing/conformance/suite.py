"""
What the two suites have in common: harnesses, checks, declared deviations, and how checks become tests.

A check is a function of one harness. It returns, or it raises AssertionError with a message that says what the contract
asks for, or `NotApplicable` where this harness can't show what the check is about. No check needs pytest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar
from unittest import SkipTest

from attrs import define

from partwise.errors import InvalidInput, PartwiseError

_Error = TypeVar("_Error", bound=BaseException)
_Subject = TypeVar("_Subject")
_Answer = TypeVar("_Answer")
_P = ParamSpec("_P")


class NotApplicable(SkipTest):
    """This harness can't show what the check is about; the message says why. Test runners report it as skipped."""


class Harness(ABC, Generic[_Subject]):
    """
    What an author tells a suite about the backend or the store under test. Each check has a harness of its own.

    As a context manager it closes, at the end, every handle that a check took by `open_for_test`, and then itself.
    """

    deviations: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """
    What is known to depart from the contract: the name of a check, and the reason.

    A check that is named here must fail. One that passes after all fails the suite, so that no declaration outlives the
    deviation.
    """

    examples: ClassVar[int] = 30
    """How many sequences of calls the state machine tries."""

    @abstractmethod
    def open(self) -> _Subject:
        """A handle; each one reaches the same storage, which is empty at first."""

    def close(self) -> None:
        """Remove the storage. The default leaves it."""

    @cached_property
    def _handles(self) -> ExitStack:  # made at first use, so that a harness need not call super().__init__()
        return ExitStack()

    def open_for_test(self) -> _Subject:
        """For checks: a handle that is closed when the check is over."""
        subject = self.open()
        if callable(close := getattr(subject, "close", None)):
            self._handles.callback(close)
        return subject

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """The function's name without its ``check_``."""
        return self.function.__name__.removeprefix("check_")

    def __call__(self, harness: _Harness) -> None:
        """
        Check it, in the light of what the harness declares. The harness is closed afterwards.

        Raises:
            AssertionError: the contract is not kept, or a deviation was declared and there is none.
            NotApplicable: the harness can't show it, or a deviation was declared and was found.
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
            raise AssertionError(f"{self.name} is declared to deviate ({reason}), and does not: drop the declaration")


class Suite(Generic[_Harness]):
    """
    Checks by name, in the order of their definition.

    Args:
        suites: whose checks it begins with.
        left_out: behaviours that no check covers, by number, and why not.
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
        """The numbers of the behaviours that the checks cover."""
        return frozenset(item for check in self for item in check.items)

    def covers(self, *items: int) -> Callable[[Callable[[_Harness], None]], Callable[[_Harness], None]]:
        """Enter the decorated function, which stays as it is, as the check of these behaviours."""

        def enter(function: Callable[[_Harness], None]) -> Callable[[_Harness], None]:
            check = Check(function, items)
            assert check.name not in self._checks, f"there are two checks {check.name}"
            self._checks[check.name] = check
            return function

        return enter

    def add_tests(self, test_class: type) -> None:
        """Give the class one test method for each check, for test runners to find."""
        for check in self:
            setattr(test_class, f"test_{check.name}", _as_test(check))

    def check_declarations(self, harness: _Harness) -> None:
        """
        Look for declared deviations that are of no check.

        Raises:
            InvalidInput: naming them.
        """
        if unknown := sorted(harness.deviations.keys() - self._checks.keys()):
            raise InvalidInput(f"there is no check {', '.join(unknown)} to deviate from")


def _as_test(check: Check[_Harness]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        # Through the class, since a function in an attribute would become a method of the instance.
        check(type(self).harness())

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.function.__doc__
    return test


def must_raise(
    expected: type[_Error], duty: str, call: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
) -> _Error:
    """
    The error that a call raises, if it is the one that the contract asks for.

    Args:
        expected: the class that it must be of.
        duty: what the contract asks for, for the message.
        call: what to call, with the arguments that follow.

    Raises:
        AssertionError: nothing was raised, or an error of another class of the tree.
    """
    try:
        answer = call(*args, **kwargs)
    except expected as error:
        return error
    except PartwiseError as error:
        raise AssertionError(
            f"{duty}: expected {expected.__name__}, and {type(error).__name__} came: {error}"
        ) from error
    raise AssertionError(f"{duty}: expected {expected.__name__}, and the call returned {answer!r}")


def must_return(duty: str, call: Callable[_P, _Answer], *args: _P.args, **kwargs: _P.kwargs) -> _Answer:
    """
    The answer of a call that the contract does not let fail.

    Args:
        duty: what the contract asks for, for the message.
        call: what to call, with the arguments that follow.

    Raises:
        AssertionError: an error of the tree was raised.
    """
    try:
        return call(*args, **kwargs)
    except PartwiseError as error:
        raise AssertionError(f"{duty}, and {type(error).__name__} came: {error}") from error
