"""Harnesses, hooks, deviations, and the state machines of the conformance suites as tools."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, rule

from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.errors import AccessDenied, BackendError, InvalidInput, PartRejected
from partwise.model import MIB, ObjectOptions, PartLimits, StoredObject, UploadedPart
from partwise.protocols import Body, MultipartBackend
from partwise.testing import (
    BACKEND_CHECKS,
    BackendHarness,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyBackend,
    NotApplicable,
    ResumeMachine,
    backend_machine,
    run_machine,
    shown_options,
)
from partwise.testing.conformance.machines import BoundedMachine, _shrinking_for
from partwise.testing.conformance.suite import Suite, must_raise, must_return
from partwise.testing.faults import BACKEND_OPERATIONS

pytest_plugins = ["pytester"]


class MemoryHarness(BackendHarness):
    """A bucket in memory."""

    picklable = False
    page_size = None
    deviations: ClassVar = {"bodies_are_not_held_in_memory": "the storage is the memory"}
    subject: ClassVar[type[MemoryBackend]] = MemoryBackend
    limits: ClassVar[PartLimits] = PartLimits(min_part_size=5)

    def __init__(self) -> None:
        self.bucket = self.subject("bucket", limits=self.limits, capabilities=DEFAULT_CAPABILITIES)

    def open(self) -> MemoryBackend:
        handle = self.bucket.handle()
        handle.__class__ = self.subject
        return handle

    def read(self, key: str) -> bytes | None:
        return self.bucket.read(key) if self.bucket.head_object(key) else None


# --- hooks -----------------------------------------------------------------------------------------------------------


class WithOptions(MemoryHarness):
    """One hook as a method, one on the instance, one left out."""

    hooks_left_out: ClassVar = {"requests": "it sends no requests"}

    def __init__(self) -> None:
        super().__init__()
        self.secrets = ("secret",)

    def options(self, key: str) -> Mapping[str, object]:
        return shown_options(self.bucket.describe(key))


def test_hooks_are_missing_unless_they_are_given_or_left_out() -> None:
    with MemoryHarness() as bare, WithOptions() as harness:
        assert bare.missing_hooks() == BackendHarness.hooks
        assert bare.missing_hooks().keys() - harness.missing_hooks().keys() == {"options", "secrets", "requests"}


def test_every_hook_is_a_member_of_the_harness_and_described_in_its_docstring() -> None:
    for name in BackendHarness.hooks:
        assert hasattr(BackendHarness, name)
        assert f"- `{name}`:" in (BackendHarness.__doc__ or "")


def test_a_check_without_its_hook_says_why() -> None:
    with pytest.raises(NotApplicable, match="does not give requests"):
        BACKEND_CHECKS["failures_are_not_retried"](MemoryHarness())
    with pytest.raises(NotApplicable, match="requests is left out: it sends no requests"):
        BACKEND_CHECKS["failures_are_not_retried"](WithOptions())


def test_a_failing_handle_is_needed_to_count_the_requests_of_a_failure() -> None:
    class Counts(MemoryHarness):
        def requests(self) -> int:
            return 0

    class FailsInNoWayThatIsTried(KnowsSomeFailures, Counts):
        requests = Counts.requests

    assert Counts().open_failing(AccessDenied) is None
    for harness in (Counts(), FailsInNoWayThatIsTried()):
        with pytest.raises(NotApplicable, match="does not give open_failing"):
            BACKEND_CHECKS["failures_are_not_retried"](harness)


class KnowsSomeFailures(MemoryHarness):
    """Opens handles that deny access, and no other failing ones; it counts no requests."""

    def open_failing(self, error: type[BackendError], *, retry_after: float | None = None) -> MultipartBackend | None:
        if error is not AccessDenied:
            return None
        plan = FaultPlan([Fault(name, FaultKind.PERMANENT) for name in BACKEND_OPERATIONS])
        return FaultyBackend(self.open(), plan)

    def requests(self) -> None:
        return None


def test_a_run_reports_the_parts_of_a_hook_that_are_missing() -> None:
    class Honest(KnowsSomeFailures):
        hooks_left_out: ClassVar = {"open_failing: ClockSkewed": "it has no clock"}

    missing = BACKEND_CHECKS.run(Honest).missing_hooks

    assert missing["open_failing: Throttled"] == "whether this failure of the storage is Throttled"
    assert missing["open_failing: retry_after"] == "whether retry_after is kept"
    assert missing["requests"] == BackendHarness.hooks["requests"]
    assert not missing.keys() & {"open_failing", "open_failing: AccessDenied", "open_failing: ClockSkewed"}


def test_a_hook_that_is_left_out_must_exist() -> None:
    class Misspelt(MemoryHarness):
        hooks_left_out: ClassVar = {"request": "it sends no requests"}

    with pytest.raises(InvalidInput, match="unknown hooks in hooks_left_out: request"):
        BACKEND_CHECKS.check_declarations(Misspelt())


# --- a run without pytest --------------------------------------------------------------------------------------------


class AcceptsAnyOrder(MemoryBackend):
    """Breaks one rule."""

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: ObjectOptions) -> StoredObject:
        return super().complete_upload(key, upload_id, sorted(parts, key=lambda part: part.part_number), options)


class AnyOrder(MemoryHarness):
    subject = AcceptsAnyOrder


def test_a_run_reports_what_passed_and_failed_and_what_was_not_checked() -> None:
    result = BACKEND_CHECKS.run(AnyOrder)

    assert result.failed.keys() == {"wrong_order"}
    assert "complete" in result.passed
    assert result.not_applicable["bodies_are_not_held_in_memory"] == "a declared deviation: the storage is the memory"
    assert result.missing_hooks == BackendHarness.hooks
    lines = str(result).splitlines()
    assert any(line.startswith("FAILED wrong_order: AssertionError: part 1") for line in lines)
    assert f"NOT CHECKED without the hook requests: {BackendHarness.hooks['requests']}" in lines
    assert lines[-1].startswith(f"{len(result.passed)} checks passed, 1 failed, ")


def test_a_run_refuses_a_deviation_that_names_no_check() -> None:
    class Misspelt(MemoryHarness):
        deviations: ClassVar = {"options_are_kept: storage_clas": "a slip of the pen"}

    with pytest.raises(InvalidInput, match="storage_clas"):
        BACKEND_CHECKS.run(Misspelt)


def test_pytest_lists_the_hooks_that_are_not_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_conformance="""
        from partwise.backends.memory import MemoryBackend
        from partwise.testing import BackendConformance, BackendHarness

        class Harness(BackendHarness):
            hooks_left_out = {"requests": "it sends no requests"}

            def __init__(self):
                self.bucket = MemoryBackend()

            def open(self):
                return self.bucket.handle()

            def read(self, key):
                return self.bucket.read(key)

        class TestMemory(BackendConformance):
            harness = Harness
        """
    )

    result = pytester.runpytest_inprocess("-k", "test_hooks_that", "-p", "no:cacheprovider")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*partwise: NOT CHECKED, since hooks are not given*",
            f"open_damaging: {BackendHarness.hooks['open_damaging']}",
            "    not given by Harness",
        ]
    )
    assert "requests:" not in result.stdout.str()


# --- deviations ------------------------------------------------------------------------------------------------------

SUITE: Suite[BackendHarness] = Suite()


@SUITE.covers(1, behaviours=("red", "green"))
def check_colours(harness: BackendHarness) -> None:
    for name in ("red", "green"):
        with harness.behaviour(name):
            assert name != "red", "red is not kept"
    assert "blue" not in harness.deviations, "another failure"


def with_deviations(**deviations: str) -> type[MemoryHarness]:
    names = {name.replace("__", ": "): reason for name, reason in deviations.items()}
    return type("Declared", (MemoryHarness,), {"deviations": names})


def test_a_behaviour_that_is_declared_to_deviate_does_not_fail_its_check() -> None:
    with pytest.raises(AssertionError, match="red is not kept"):
        SUITE["colours"](MemoryHarness())
    SUITE["colours"](with_deviations(colours__red="it is kept by nothing")())


def test_a_declared_behaviour_that_passes_fails() -> None:
    declared = with_deviations(colours__red="it is kept by nothing", colours__green="nor is this")

    with pytest.raises(AssertionError, match=r"'colours: green' is declared to deviate \(nor is this\), but passes"):
        SUITE["colours"](declared())


def test_a_declared_behaviour_does_not_hide_the_rest_of_its_check() -> None:
    with pytest.raises(AssertionError, match="another failure"):
        SUITE["colours"](with_deviations(colours__red="it is kept by nothing", blue="")())


def test_a_behaviour_that_is_skipped_is_neither_kept_nor_deviating() -> None:
    suite: Suite[BackendHarness] = Suite()

    @suite.covers(1, behaviours=("red",))
    def check_skipped(harness: BackendHarness) -> None:
        with harness.behaviour("red"):
            raise harness.without("requests")

    declared = type("Declared", (MemoryHarness,), {"deviations": {"skipped: red": "it is kept by nothing"}})
    with pytest.raises(NotApplicable, match="does not give requests"):
        suite["skipped"](declared())


def test_the_function_of_a_check_knows_no_deviations() -> None:
    with pytest.raises(AssertionError, match="red is not kept"):
        check_colours(with_deviations(colours__red="it is kept by nothing")())


def failing(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize("error", [AssertionError("broken"), NotApplicable("skipped")], ids=repr)
def test_what_a_call_asserts_or_skips_is_not_its_error(error: Exception) -> None:
    for call in (partial(must_raise, AccessDenied, "it works"), partial(must_return, "it works")):
        with pytest.raises(type(error)) as caught:
            call(failing(error))
        assert caught.value is error


def test_an_error_of_another_library_breaks_a_duty() -> None:
    for call in (partial(must_raise, AccessDenied, "it works"), partial(must_return, "it works")):
        with pytest.raises(AssertionError, match=r"it works.* OSError .*, which is not an error of partwise: broken"):
            call(failing(OSError("broken")))
        with pytest.raises(AssertionError, match=r"it works.* PartRejected was raised: no"):
            call(failing(PartRejected("no")))


class StoresOneClass(MemoryBackend):
    """Accepts any storage class, and stores one."""

    def put_object(self, key: str, body: Any, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, storage_class=None))

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        return super().initiate_upload(key, evolve(options, storage_class=None))

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: ObjectOptions) -> StoredObject:
        return super().complete_upload(key, upload_id, parts, evolve(options, storage_class=None))


def test_one_odd_option_does_not_switch_off_the_check_of_the_others() -> None:
    class Honest(WithOptions):
        subject = StoresOneClass

    class Declared(Honest):
        deviations: ClassVar = {"options_are_kept: storage_class": "there is one class"}

    with pytest.raises(AssertionError, match="storage_class is stored"):
        BACKEND_CHECKS["options_are_kept"](Honest())
    BACKEND_CHECKS["options_are_kept"](Declared())


class DropsTheACL(MemoryBackend):
    """Accepts any ACL, and stores none."""

    def put_object(self, key: str, body: Any, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, acl=None))

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: ObjectOptions) -> StoredObject:
        return super().complete_upload(key, upload_id, parts, evolve(options, acl=None))


class ShowsWhatIsStored(MemoryHarness):
    """Returns only the options that the object has, so that a dropped one is missing."""

    subject = DropsTheACL

    def options(self, key: str) -> Mapping[str, object]:
        stored = self.bucket.describe(key)
        assert stored is not None
        return {name: getattr(stored, name) for name in stored.explicitly_set()}


@pytest.mark.parametrize("check", ["options_are_kept", "late_options"])
def test_an_option_that_a_harness_omits_is_reported_as_not_checked(check: str) -> None:
    class LeavesItOut(ShowsWhatIsStored):
        hooks_left_out: ClassVar = {"options: acl": "the storage does not tell it"}

    silent, declared = ShowsWhatIsStored(), LeavesItOut()
    BACKEND_CHECKS[check](silent)
    BACKEND_CHECKS[check](declared)

    assert silent.noted == {"options: acl": "whether an object has the acl that was requested"}
    assert declared.noted == {}


@pytest.mark.parametrize("check", ["options_are_kept", "late_options"])
def test_an_option_that_is_declared_to_be_inspected_may_not_be_omitted(check: str) -> None:
    class Declared(ShowsWhatIsStored):
        inspected_options = ("acl", "content_type")

    with pytest.raises(AssertionError, match=r"acl .*: expected '\S+', and the object has none"):
        BACKEND_CHECKS[check](Declared())


def test_options_that_are_declared_to_be_inspected_must_exist() -> None:
    class Misspelt(WithOptions):
        inspected_options = ("storage_clas",)

    with pytest.raises(AssertionError, match="but not \\['storage_clas'\\]"):
        BACKEND_CHECKS["options_are_kept"](Misspelt())


# --- memory ----------------------------------------------------------------------------------------------------------


class Sink(MemoryBackend):
    """Stores nothing, in this process."""

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        return UploadedPart(part_number, self.swallow(body), "etag")

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return StoredObject(key, self.swallow(body), "etag")

    def swallow(self, body: Body) -> int:
        return sum(len(bytes(chunk)) for chunk in body.chunks())


class SinkOfLists(Sink):
    def swallow(self, body: Body) -> int:
        return len(b"".join([bytes(chunk) for chunk in body.chunks()]))


class SinkOfBuffers(Sink):
    def swallow(self, body: Body) -> int:
        buffer = bytearray(len(body))
        end = 0
        for chunk in body.chunks():
            buffer[end : (end := end + len(chunk))] = chunk
        return end


class SinkOfFiles(Sink):
    def swallow(self, body: Body) -> int:
        file = BytesIO()
        return sum(file.write(chunk) for chunk in body.chunks())


def sink_harness(subject: type[Sink]) -> type[MemoryHarness]:
    return type("SinkHarness", (MemoryHarness,), {"subject": subject, "deviations": {}})


def test_a_backend_in_this_process_that_keeps_nothing_holds_nothing_in_memory() -> None:
    BACKEND_CHECKS["bodies_are_not_held_in_memory"](sink_harness(Sink)())


@pytest.mark.parametrize("subject", [SinkOfLists, SinkOfBuffers, SinkOfFiles])
def test_a_whole_body_in_memory_is_noticed_whatever_it_is_kept_in(subject: type[Sink]) -> None:
    with pytest.raises(AssertionError, match="upload_part sends the chunks of a body one by one: of 8388608 bytes"):
        BACKEND_CHECKS["bodies_are_not_held_in_memory"](sink_harness(subject)())


def test_memory_of_other_threads_is_not_that_of_the_backend() -> None:
    """The storage of this harness is in this process, and holds every part."""

    class Threaded(Sink):
        def swallow(self, body: Body) -> int:
            with ThreadPoolExecutor(max_workers=1) as storage:
                kept: list[bytes] = []
                for chunk in body.chunks():
                    storage.submit(lambda data: kept.append(bytes(data)), chunk).result()
                return sum(map(len, kept))

    BACKEND_CHECKS["bodies_are_not_held_in_memory"](sink_harness(Threaded)())


@pytest.mark.parametrize("large", ["upload_part", "put_object"])
def test_a_request_whose_bodies_are_always_small_is_not_measured(large: str) -> None:
    """The backend would fail, and does with the large bodies of the other request."""
    sizes = {"max_part_size": 8 * MIB if large == "upload_part" else 100}
    sizes["max_put_size"] = 100 if large == "upload_part" else 8 * MIB

    class Small(sink_harness(SinkOfLists)):  # type: ignore[misc]  # the base is made by a function
        limits = PartLimits(**sizes)

    with pytest.raises(AssertionError, match=f"^{large} sends the chunks of a body one by one"):
        BACKEND_CHECKS["bodies_are_not_held_in_memory"](Small())

    class Deviating(Small):
        deviations: ClassVar = {f"bodies_are_not_held_in_memory: {large}": "it joins them"}

    BACKEND_CHECKS["bodies_are_not_held_in_memory"](Deviating())


def test_memory_that_was_traced_before_is_traced_afterwards() -> None:
    tracemalloc.start(3)
    try:
        BACKEND_CHECKS["bodies_are_not_held_in_memory"](sink_harness(Sink)())
        assert tracemalloc.get_traceback_limit() == 3
    finally:
        tracemalloc.stop()
    BACKEND_CHECKS["bodies_are_not_held_in_memory"](sink_harness(Sink)())
    assert not tracemalloc.is_tracing()


# --- another process -------------------------------------------------------------------------------------------------


class Unpicklable(MemoryBackend):
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_handle_that_can_t_be_unpickled_elsewhere_says_nothing_about_other_processes() -> None:
    class Harness(MemoryHarness):
        subject = Unpicklable
        picklable = True

    with pytest.raises(NotApplicable, match=r"give `elsewhere`: (.|\n)*not a number"):
        BACKEND_CHECKS["another_process"](Harness())


# --- the state machines ----------------------------------------------------------------------------------------------


def test_the_machine_does_not_do_what_is_declared_to_deviate() -> None:
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_machine(backend_machine(AnyOrder), examples=100, shrink_seconds=0)

    class Declared(AnyOrder):
        deviations: ClassVar = {"wrong_order": "any order will do"}

    class ForTheMachine(AnyOrder):
        deviations: ClassVar = {"any_sequence_of_calls: wrong_order": "any order will do"}

    BACKEND_CHECKS.check_declarations(ForTheMachine())
    for declared in (Declared(), ForTheMachine()):  # the machine asks nothing else
        assert declared.machine_deviates("wrong_order")
        assert not declared.machine_deviates("stale_part")
    run_machine(backend_machine(ForTheMachine), examples=30)


class TakesPartsOnce(MemoryBackend):
    """Breaks another rule."""

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        if any(part.part_number == part_number for part in self.list_parts(key, upload_id)):
            raise PartRejected("it is there")
        return super().upload_part(key, upload_id, part_number, body)


class PartsOnce(MemoryHarness):
    subject = TakesPartsOnce


def test_the_machine_sends_no_part_again_if_that_is_declared_to_deviate() -> None:
    """Neither one with other bytes, nor one whose response was lost."""
    with pytest.raises((PartRejected, AssertionError, ExceptionGroup), match=r"it is there|distinct failures"):
        run_machine(backend_machine(PartsOnce), examples=100, shrink_seconds=0)

    class Declared(PartsOnce):
        deviations: ClassVar = {"part_sent_again": "a part is sent once"}

    run_machine(backend_machine(Declared), examples=30)
    machine: Any = backend_machine(Declared)()  # these steps, since few sequences lose the response to a part
    try:
        machine.initiate(name="a", handle=0, lost=False, versions=[])
        [pending] = machine.uploads.values()
        for version in (0, 1):
            machine._send(pending, 0, 1, version, FaultKind.AFTER)
        assert len(pending.parts) == 1
    finally:
        machine.teardown()


def test_the_machine_as_a_whole_can_be_declared() -> None:
    class Declared(MemoryHarness):
        deviations: ClassVar = {"any_sequence_of_calls": "it takes too long"}

    BACKEND_CHECKS.check_declarations(Declared())
    with pytest.raises(NotApplicable, match="it takes too long"):
        Declared().skip_machine_if_declared()


class Failing(RuleBasedStateMachine):
    """Fails in a way that takes hypothesis many sequences to shorten."""

    sequences: ClassVar[list[int]]

    def __init__(self) -> None:
        super().__init__()
        self.sequences.append(1)
        self.total = 0

    @rule(numbers=st.lists(st.integers(0, 2**32), min_size=1))
    def step(self, numbers: list[int]) -> None:
        self.total += sum(numbers)
        assert self.total < 100_000, "it fails"


@pytest.fixture
def _no_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hypothesis shortens what fails, in every profile, and does not start with what an earlier run found."""
    profile = request.config.getoption("--hypothesis-profile") or "quick"
    settings.register_profile("no database", settings.get_profile(profile), database=None, phases=list(Phase))
    settings.load_profile("no database")
    yield
    settings.load_profile(profile)


@pytest.mark.usefixtures("_no_database")
def test_shrinking_ends_when_its_time_is_over_and_a_failing_sequence_is_reported() -> None:
    counts = []
    for seconds in (0.0, 60.0):
        machine = type("Failing", (Failing,), {"sequences": []})
        with pytest.raises(AssertionError, match="it fails"):
            run_machine(machine, examples=50, shrink_seconds=seconds)
        counts.append(len(machine.sequences))

    assert counts[0] < counts[1], "no sequence is tried after the time is over"


@pytest.mark.parametrize("machine", [ResumeMachine, BoundedMachine], ids=lambda kind: kind.__name__)
def test_the_test_case_of_a_machine_shortens_a_failing_sequence_for_less_than_a_minute(machine: Any) -> None:
    during = []

    class Looking(machine):  # type: ignore[misc]  # the base is a parameter
        @rule()
        def look(self) -> None:
            during.append(engine.MAX_SHRINKING_SECONDS)

    before = engine.MAX_SHRINKING_SECONDS
    case = Looking.TestCase
    case.settings = settings(max_examples=3, stateful_step_count=3, deadline=None)
    case("runTest").debug()

    assert case is Looking.TestCase
    assert (set(during), engine.MAX_SHRINKING_SECONDS) == ({45.0}, before)


def test_the_time_for_shrinking_is_that_of_hypothesis_again_afterwards() -> None:
    during = []

    class Looking(RuleBasedStateMachine):
        @rule()
        def look(self) -> None:
            during.append(engine.MAX_SHRINKING_SECONDS)

    before = engine.MAX_SHRINKING_SECONDS
    run_machine(Looking, examples=1, steps=1, shrink_seconds=1.5)

    assert set(during) == {1.5}

    assert before == engine.MAX_SHRINKING_SECONDS


def test_a_hypothesis_that_keeps_its_limit_elsewhere_shrinks_as_long_as_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(engine, "MAX_SHRINKING_SECONDS")
    with _shrinking_for(1.0):
        assert not hasattr(engine, "MAX_SHRINKING_SECONDS")
    assert not hasattr(engine, "MAX_SHRINKING_SECONDS")


class FixedPartSize(MemoryHarness):
    """Parts have one size, and there are few of them."""

    limits = PartLimits(min_part_size=8, max_part_size=8, max_parts=6, max_object_size=40, max_put_size=12)


class ResumesWithFixedParts(ResumeMachine):
    backend = FixedPartSize


def test_the_resume_machine_respects_the_limits_of_the_backend() -> None:
    run_machine(ResumesWithFixedParts, examples=25, steps=6)


class Forgetful(MemoryBackend):
    """Refuses to complete an upload of several parts."""

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: ObjectOptions) -> StoredObject:
        if len(parts) > 1:
            raise PartRejected("too many parts")
        return super().complete_upload(key, upload_id, parts, options)


class ForgetfulHarness(MemoryHarness):
    subject = Forgetful


class Strict(ResumeMachine):
    backend = ForgetfulHarness


class Lenient(Strict):
    deviations: ClassVar = {"RETRY": "an upload has one part", "FAST-FAIL": "it is tried again"}


def test_promises_that_are_declared_to_deviate_are_not_checked() -> None:
    with pytest.raises((AssertionError, ExceptionGroup), match=r"RETRY|sub-exceptions"):
        run_machine(Strict, examples=20, steps=3, shrink_seconds=0)
    run_machine(Lenient, examples=10, steps=3)


def test_a_deviation_of_the_resume_machine_names_a_promise() -> None:
    class Misspelt(ResumeMachine):
        deviations: ClassVar = {"RETRI": "a slip of the pen"}

    with pytest.raises(InvalidInput, match="unknown promises in deviations: RETRI"):
        run_machine(Misspelt, examples=1, steps=1, shrink_seconds=0)
