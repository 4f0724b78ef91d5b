"""
What both conformance suites share: harnesses, checks, declared deviations.

A check is a function of one harness. It returns if the contract is kept. It raises AssertionError with a message that
says what the contract demands, or `NotApplicable` if it can't be run with this harness. No check needs pytest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar
from unittest import SkipTest

from attrs import define

from partwise.errors import InvalidInput, PartwiseError

__all__ = ["Check", "NotApplicable", "Suite", "SuiteResult"]

#: The name under which a harness declares deviations of its state machine.
MACHINE = "any_sequence_of_calls"

#: The name of the property of a pytest report that has the hooks that a harness does not give; see `pytest_plugin`.
HOOKS_PROPERTY = "partwise_hooks_not_given"

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
    Known deviations from the contract: what deviates, and the reason.

    The name is that of a check, such as ``"stale_part"``, or of one behaviour of a check, such as
    ``"options_are_kept: storage_class"``. What is listed here has to fail. If it passes, the suite fails, so that a
    declaration is removed once it is obsolete.

    The state machine does not do what a check is declared to deviate in. ``"any_sequence_of_calls: stale_part"``
    declares that for the machine alone, and ``"any_sequence_of_calls"`` skips the machine; neither has to fail.
    """

    hooks: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The optional hooks of this kind of harness: the name, and what is not checked without it."""

    hooks_left_out: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """
    Hooks that can't be given for this storage: the name, and the reason. A run does not report them as missing.

    A part of a hook is named as the run does: ``"open_failing: ClockSkewed"``.
    """

    examples: ClassVar[int] = 30
    """The number of sequences of calls that the state machine tries."""

    @abstractmethod
    def open(self) -> _Subject:
        """Open a handle; all handles use the same storage, which is empty at first."""

    def close(self) -> None:
        """Remove the storage. The default does nothing."""

    def missing_hooks(self) -> dict[str, str]:
        """Return the missing hooks, with what is not checked without them."""
        base = next(parent for parent in type(self).__mro__ if "hooks" in vars(parent))
        return {
            name: unchecked
            for name, unchecked in self.hooks.items()
            if name not in self.hooks_left_out
            and name not in vars(self)
            and getattr(type(self), name) is getattr(base, name)
        }

    def gives(self, hook: str) -> bool:
        """Return whether a hook is given, and not left out."""
        return hook not in self.hooks_left_out and hook not in self.missing_hooks()

    def without(self, hook: str, detail: str = "") -> NotApplicable:
        """Return the exception to raise by a check that needs a hook which is not given."""
        reason = self.hooks_left_out.get(hook)
        if reason is not None:
            return NotApplicable(f"{hook} is left out: {reason}")
        if self.gives(hook):  # it is overridden, and returned None
            self.noted[hook] = self.hooks[hook]
        return NotApplicable(f"the harness does not give {hook}{detail}")

    def note_missing(self, hook: str, part: str, unchecked: str) -> None:
        """
        Note that a hook is given, but not this part of it; the run reports that.

        Args:
            hook: its name.
            part: what is missing, such as one kind of failure.
            unchecked: what is not checked.
        """
        name = f"{hook}: {part}"
        if self.gives(hook) and name not in self.hooks_left_out:
            self.noted[name] = unchecked

    @cached_property
    def noted(self) -> dict[str, str]:
        """The hooks, and parts of hooks, that turned out to be missing in a check."""
        return {}

    @contextmanager
    def behaviour(self, name: str) -> Iterator[None]:
        """
        Check one behaviour in the block; it has to fail if it is declared to deviate.

        The behaviours of a check are those that its decorator names.
        """
        check = self._current_check
        if check is None:  # the function of a check was called, which knows no deviations
            yield
            return
        assert name in check.behaviours, f"{check.name} does not name the behaviour {name}"
        declared = f"{check.name}: {name}"
        if (reason := self.deviations.get(declared)) is None:
            yield
            return
        try:
            yield
        except SkipTest:
            raise
        except Exception:  # noqa: BLE001  # whatever a deviation raises
            return
        raise AssertionError(f"{declared!r} is declared to deviate ({reason}), but passes: remove the declaration")

    def machine_deviates(self, *names: str) -> bool:
        """Return whether one of these checks is declared to deviate in the machine."""
        return any(name in self.deviations or f"{MACHINE}: {name}" in self.deviations for name in names)

    def skip_machine_if_declared(self) -> None:
        """Raise NotApplicable if the state machine as a whole is declared to deviate."""
        if (reason := self.deviations.get(MACHINE)) is not None:
            raise NotApplicable(f"a declared deviation: {reason}")

    _current_check: Check[Any] | None = None

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._handles.close()
        except Exception as of_closing:
            if error is None:
                raise
            # What the check found says more, such as that closing twice is an error, which then is one here, too.
            error.add_note(f"Closing a handle at the end of the check raised {of_closing!r}")
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
        behaviours: the names of the behaviours that can be declared to deviate one by one.
    """

    function: Callable[[_Harness], None]
    items: tuple[int, ...]
    behaviours: frozenset[str] = frozenset()

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
            harness._current_check = self  # noqa: SLF001  # both are of this module
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
        machine_behaviours: the names of checks that the state machine of this suite can do without.
    """

    def __init__(
        self,
        *suites: Suite[_Harness],
        left_out: Mapping[int, str] | None = None,
        machine_behaviours: Iterable[str] = (),
    ) -> None:
        self.left_out = dict(left_out or {})
        self.machine_behaviours = frozenset(machine_behaviours)
        self._checks = {check.name: check for suite in suites for check in suite}

    def __iter__(self) -> Iterator[Check[_Harness]]:
        return iter(self._checks.values())

    def __getitem__(self, name: str) -> Check[_Harness]:
        return self._checks[name]

    @property
    def covered(self) -> frozenset[int]:
        """The numbers of the covered behaviours."""
        return frozenset(item for check in self for item in check.items)

    def covers(
        self, *items: int, behaviours: Iterable[str] = ()
    ) -> Callable[[Callable[[_Harness], None]], Callable[[_Harness], None]]:
        """
        Add the decorated function, unchanged, as the check of these behaviours.

        Args:
            items: their numbers.
            behaviours: the names that the function passes to `Harness.behaviour`.
        """

        def enter(function: Callable[[_Harness], None]) -> Callable[[_Harness], None]:
            check = Check(function, items, frozenset(behaviours))
            assert check.name not in self._checks, f"there are two checks {check.name}"
            self._checks[check.name] = check
            return function

        return enter

    def add_tests(self, test_class: type) -> None:
        """Add a test method for each check to the class."""
        for check in self:
            setattr(test_class, f"test_{check.name}", _as_test(check))

    def run(self, make_harness: Callable[[], _Harness]) -> SuiteResult:
        """
        Run every check, each with a new harness, without pytest.

        The state machine, which needs hypothesis, is not run.

        Print the result: it also says which hooks the harness does not give, and what is not checked without them.

        Raises:
            InvalidInput: a declared deviation names no check, or a hook that is left out does not exist.
        """
        passed: list[str] = []
        failed: dict[str, Exception] = {}
        not_applicable: dict[str, str] = {}
        with make_harness() as harness:
            self.check_declarations(harness)
            missing = harness.missing_hooks()
        for check in self:
            harness = make_harness()
            try:
                check(harness)
            except SkipTest as reason:
                not_applicable[check.name] = str(reason)
            except Exception as error:  # noqa: BLE001  # the subject may raise anything
                failed[check.name] = error
            else:
                passed.append(check.name)
            missing |= harness.noted
        return SuiteResult(tuple(passed), failed, not_applicable, missing)

    def check_declarations(self, harness: _Harness) -> None:
        """
        Check that declared deviations name checks, and hooks left out name hooks.

        Raises:
            InvalidInput: one of them does not.
        """
        known = {MACHINE, *self._checks, *(f"{MACHINE}: {name}" for name in self.machine_behaviours)}
        known |= {f"{check.name}: {behaviour}" for check in self for behaviour in check.behaviours}
        if unknown := sorted(harness.deviations.keys() - known):
            raise InvalidInput(f"unknown checks in deviations: {', '.join(unknown)}")
        if unknown := sorted(name for name in harness.hooks_left_out if name.partition(": ")[0] not in harness.hooks):
            raise InvalidInput(f"unknown hooks in hooks_left_out: {', '.join(unknown)}")


@define(frozen=True)
class SuiteResult:
    """
    What `Suite.run` found. Its text is a report.

    Args:
        passed: the names of the checks that passed.
        failed: the error of each check that failed, by name.
        not_applicable: why a check could not be run, by name.
        missing_hooks: the hooks that the harness does not give, with what is not checked without them.
    """

    passed: tuple[str, ...]
    failed: Mapping[str, Exception]
    not_applicable: Mapping[str, str]
    missing_hooks: Mapping[str, str]

    def __str__(self) -> str:
        counts = f"{len(self.passed)} checks passed, {len(self.failed)} failed, {len(self.not_applicable)} do not apply"
        return "\n".join(
            [
                *(f"FAILED {name}: {type(error).__name__}: {error}" for name, error in self.failed.items()),
                *(f"does not apply: {name}: {reason}" for name, reason in self.not_applicable.items()),
                *(f"NOT CHECKED without the hook {name}: {what}" for name, what in self.missing_hooks.items()),
                counts,
            ]
        )


def record_missing_hooks(
    harness: Harness[Any], missing: Mapping[str, str], record_property: Callable[[str, object], None]
) -> None:
    """Record the hooks that a harness does not give, for `pytest_plugin` to print."""
    for name, unchecked in missing.items():
        record_property(HOOKS_PROPERTY, [type(harness).__qualname__, name, unchecked])


def _as_test(check: Check[_Harness]) -> Callable[[Any, Callable[[str, object], None]], None]:
    def test(self: Any, record_property: Callable[[str, object], None]) -> None:
        # Via the class: a function that is looked up on the instance would become a bound method.
        harness = type(self).harness()
        try:
            check(harness)
        finally:
            record_missing_hooks(harness, harness.noted, record_property)

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.function.__doc__
    return test


def must_raise(
    expected: type[_Error] | tuple[type[_Error], ...],
    duty: str,
    call: Callable[_P, object],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _Error:
    """
    Call a function that has to raise (one of) the expected errors, and return it.

    `duty` is what the contract demands; an AssertionError begins with it.
    """
    names = " or ".join(kind.__name__ for kind in (expected if isinstance(expected, tuple) else (expected,)))
    try:
        result = call(*args, **kwargs)
    except expected as error:
        return error
    except PartwiseError as error:
        raise AssertionError(f"{duty}: expected {names}, and {type(error).__name__} was raised: {error}") from error
    except (AssertionError, NotApplicable):
        raise
    except Exception as error:
        raise AssertionError(f"{duty}: expected {names}, and {_foreign(error)}") from error
    raise AssertionError(f"{duty}: expected {names}, and the call returned {result!r}")


def must_return(duty: str, call: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs) -> _Result:
    """
    Call a function that must not raise an error, and return its result.

    `duty` is what the contract demands; an AssertionError begins with it.
    """
    try:
        return call(*args, **kwargs)
    except PartwiseError as error:
        raise AssertionError(f"{duty}, and {type(error).__name__} was raised: {error}") from error
    except (AssertionError, NotApplicable):
        raise
    except Exception as error:
        raise AssertionError(f"{duty}, and {_foreign(error)}") from error


def _foreign(error: Exception) -> str:
    return f"{type(error).__name__} was raised, which is not an error of partwise: {error}"
