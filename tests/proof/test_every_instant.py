"""
Every instant at which a process can die or a call can fail, one after the other, for small uploads.

An upload is a few dozen calls of its storage, its store and its source. For each of them, the process dies just before
it takes effect or just after; or it fails without effect, or takes effect and its answer is lost. Then another process
runs, which nothing befalls. After every life, every promise of `partwise.testing._proof.invariants` is
checked; here it is
also counted how many parts were sent again, and looked whether anything was left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from attrs import define, evolve

from partwise import PartwiseError, SourceChanged, TransferConfig
from partwise.testing._proof.scenario import (
    Happening,
    Incident,
    Life,
    Lived,
    MemoryHarness,
    MemoryStoreHarness,
    SimulatedFile,
    SimulatedStream,
    SourcePlace,
    World,
)
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import (
    BACKEND_OPERATIONS,
    OPERATIONS,
    SOURCE_OPERATIONS,
    STORE_OPERATIONS,
    Call,
    Fault,
    FaultKind,
)

PART = 8

#: A thousand worlds in one test take a while where a busy machine measures branches besides; no single one can hang.
pytestmark = pytest.mark.timeout(600)

DEATHS = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER)
FAILURES = (FaultKind.BEFORE, FaultKind.AFTER)
#: Every other kind; but a store in memory can't tear what it writes: see `test_machine` and `test_every_system_call`.
OTHERS = tuple(kind for kind in FaultKind if kind not in {*DEATHS, *FAILURES, FaultKind.TORN_WRITE})

#: Orders in which parts make their steps: one after the other, in turns, the last one first.
ORDERS = {"in order": (), "in turns": (0, 1) * 40, "backwards": (1,) * 80}


@define(frozen=True)
class Scene:
    """
    One small upload.

    Args:
        source: where the source lies.
        parts: how many parts it makes; the last one is short.
        concurrency: parts under way at once.
        order: the order in which they make their steps.
    """

    source: type[SourcePlace]
    parts: int
    concurrency: int = 1
    order: str = "in order"

    def __str__(self) -> str:
        where = {SimulatedFile: "file", SimulatedStream: "stream"}[self.source]
        how = "in one piece" if not self.parts else f"{self.parts} parts, {self.concurrency} at once, {self.order}"
        return f"{where}, {how}"

    def world(self) -> World:
        size = PART * (self.parts - 1) + 5 if self.parts else 5
        return World(MemoryHarness(), MemoryStoreHarness(), self.source(pseudo_random_bytes(size)))

    def life(self, *faults: Fault) -> Life:
        threshold = 0 if self.parts else PART
        config = TransferConfig(part_size=PART, multipart_threshold=threshold, concurrency=self.concurrency)
        return Life(faults=faults, choices=ORDERS[self.order], config=config)


SCENES = [
    *(Scene(SimulatedFile, parts) for parts in (0, 1, 2, 3, 4)),
    *(Scene(SimulatedFile, parts, 2, order) for parts in (2, 3, 4) for order in ORDERS),
    *(Scene(SimulatedStream, parts) for parts in (0, 1, 2, 3)),
    *(Scene(SimulatedStream, 3, 2, order) for order in ORDERS),
]
#: Two deaths in a row are the square of one.
PAIRS = [
    Scene(SimulatedFile, 0),
    Scene(SimulatedFile, 2),
    Scene(SimulatedFile, 2, 2, "in turns"),
    Scene(SimulatedStream, 2),
]


def faults_at(
    calls: tuple[Call, ...], kinds: tuple[FaultKind, ...], operations: tuple[str, ...] = OPERATIONS
) -> list[Fault]:
    """A fault of each kind at each of these calls, of those operations."""
    seen: Counter[str] = Counter()
    planned: list[Fault] = []
    for call in calls:
        seen[call.operation] += 1
        if call.operation in operations:
            # A call that was refused had no effect that a death could come after.
            possible = (k for k in kinds if k is not FaultKind.CRASH_AFTER or call.outcome == "returned")
            planned += [
                Fault(call.operation, k, seen[call.operation]) for k in possible if k.applies_to(call.operation)
            ]
    return planned


def uneventful(scene: Scene) -> Lived:
    world = scene.world()
    try:
        return world.live(scene.life())
    finally:
        world.close()


def assert_done(scene: Scene, world: World, *lives: Lived, again: int) -> None:
    """The last life did it, the object is there, nothing is left behind, and so many parts were sent twice at most."""
    last = lives[-1]
    assert last.result is not None, f"PROGRESS: nothing befell it, and it failed\n{last}"
    assert world.situation().stored == world.source.version.data, f"EXACT\n{last}"
    assert world.history.record is None, f"CLEAN: a checkpoint was left behind\n{last}"
    left = [upload_id for upload_id in world.history.pending() if not world.history.uploads[upload_id].excused]
    assert not left, f"CLEAN: uploads were left behind\n{last}"
    sent = 0
    for lived in lives:
        sent += sum(deed.operation == "upload_part" for deed in lived.asked)
        if lived is not last and lived.after.stored is not None and lived.after.record is None:
            sent = 0  # that upload was all over; what follows is another one of the same bytes
    # A stream that was completed by a process that died at once is sent again: it can't be told before it was read.
    if scene.source is SimulatedFile:
        assert sent <= scene.parts + again, f"BOUNDED: {sent} parts were sent\n" + "\n".join(map(str, lives))


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_death_at_any_instant_costs_no_more_than_what_was_in_flight(scene, figure):
    deaths = faults_at(uneventful(scene).calls, DEATHS)
    for death in deaths:
        world = scene.world()
        dead = world.live(scene.life(death))
        assert dead.died, f"planned, and never reached: {death}"
        assert_done(scene, world, dead, world.live(scene.life()), again=scene.concurrency)
        world.close()
    figure("instants of death, each followed by a run that ends well", len(deaths))


@pytest.mark.parametrize("scene", PAIRS, ids=str)
def test_a_second_death_while_recovering_from_the_first_costs_no_more(scene, figure):
    count = 0
    for first in faults_at(uneventful(scene).calls, DEATHS):
        world = scene.world()
        world.live(scene.life(first))
        recovery = world.live(scene.life())
        world.close()
        for second in faults_at(recovery.calls, DEATHS):
            world = scene.world()
            lives = [world.live(scene.life(death)) for death in (first, second)]
            assert all(lived.died for lived in lives)
            assert_done(scene, world, *lives, world.live(scene.life()), again=2 * scene.concurrency)
            world.close()
            count += 1
    figure("pairs of deaths, the second one while recovering from the first", count)


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_failure_of_the_storage_at_any_call_is_survived(scene, figure):
    """With its effect or without: the run itself ends well, and at most the part that failed is sent again."""
    failures = faults_at(uneventful(scene).calls, FAILURES, BACKEND_OPERATIONS)
    for failure in failures:
        world = scene.world()
        lived = world.live(scene.life(failure))
        assert lived.faults, f"planned, and never reached: {failure}"
        assert_done(scene, world, lived, again=int(failure.operation == "upload_part"))
        world.close()
    figure("failures of the storage, with effect and without, each survived by the run itself", len(failures))


@pytest.mark.parametrize("scene", PAIRS, ids=str)
def test_two_failures_of_the_storage_are_survived(scene, figure):
    """The second one may strike what was only done because of the first, such as the look at a lost answer."""
    count = 0
    for first in faults_at(uneventful(scene).calls, FAILURES, BACKEND_OPERATIONS):
        world = scene.world()
        shaken = world.live(scene.life(first))
        world.close()
        for second in faults_at(shaken.calls, FAILURES, BACKEND_OPERATIONS):
            if (second.operation, second.occurrence) <= (first.operation, first.occurrence):
                continue
            world = scene.world()
            lived = world.live(scene.life(first, second))
            again = sum(fault.operation == "upload_part" for fault in (first, second))
            assert_done(scene, world, lived, again=again)
            world.close()
            count += 1
    figure("pairs of failures of the storage in one run, each survived by the run itself", count)


@pytest.mark.parametrize("scene", PAIRS, ids=str)
def test_a_failure_of_the_storage_and_then_a_death_cost_no_more(scene, figure):
    count = 0
    for failure in faults_at(uneventful(scene).calls, FAILURES, BACKEND_OPERATIONS):
        world = scene.world()
        shaken = world.live(scene.life(failure))
        world.close()
        for death in faults_at(shaken.calls, DEATHS):
            if (death.operation, death.occurrence) == (failure.operation, failure.occurrence):
                continue
            world = scene.world()
            dead = world.live(scene.life(failure, death))
            assert dead.died
            again = scene.concurrency + (failure.operation == "upload_part")
            assert_done(scene, world, dead, world.live(scene.life()), again=again)
            world.close()
            count += 1
    figure("failures of the storage with a death in the same run, each followed by a run that ends well", count)


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_failure_of_store_or_source_at_any_call_loses_nothing(scene, figure):
    """The run ends with an error of the tree, or ends well and says what it could not write; the next one is clean."""
    failures = faults_at(uneventful(scene).calls, FAILURES, (*STORE_OPERATIONS, *SOURCE_OPERATIONS))
    for failure in failures:
        world = scene.world()
        lived = world.live(scene.life(failure))
        assert lived.faults, f"planned, and never reached: {failure}"
        assert lived.result is not None or isinstance(lived.error, PartwiseError), lived
        lost_all = isinstance(lived.error, SourceChanged) or lived.result is not None
        again = scene.parts if lost_all else scene.concurrency
        assert_done(scene, world, lived, world.live(scene.life()), again=again)
        world.close()
    figure("failures of store and source, each followed by a run that ends well", len(failures))


def begun(scene: Scene) -> World:
    """A world in which a process died when it had recorded two parts."""
    world = scene.world()
    world.live(scene.life(Fault("append_part", FaultKind.CRASH_AFTER, 2)))
    return world


def other_faults(scene: Scene, begin: Callable[[Scene], World]) -> list[Fault]:
    world = begin(scene)
    calls = world.live(scene.life()).calls
    world.close()
    return [evolve(fault, seconds=2.0) for fault in faults_at(calls, OTHERS)]


#: Where each of the other kinds can strike: an upload in one piece, by parts, and one that is carried on.
STRUCK = [
    *((scene, Scene.world) for scene in (Scene(SimulatedFile, 0), Scene(SimulatedFile, 3), Scene(SimulatedStream, 2))),
    (Scene(SimulatedFile, 4), begun),
    (Scene(SimulatedFile, 4, 2, "in turns"), begun),
    (Scene(SimulatedStream, 4), begun),
]


@pytest.mark.parametrize(
    ("scene", "begin"), STRUCK, ids=[f"{scene}{', carried on' * (begin is begun)}" for scene, begin in STRUCK]
)
def test_a_fault_of_any_other_kind_at_any_call_breaks_no_promise(scene, begin, figure):
    """Throttled, refused, damaged, written in vain: whatever the run makes of it, the next one is clean."""
    faults = other_faults(scene, begin)
    for fault in faults:
        world = begin(scene)
        lived = world.live(scene.life(fault))
        assert lived.faults, f"planned, and never reached: {fault}"
        assert_done(scene, world, lived, world.live(scene.life()), again=scene.parts)
        world.close()
    figure("faults of every other kind, each followed by a run that ends well", len(faults))


def test_every_kind_of_fault_strikes_somewhere():
    struck = {fault.kind for scene, begin in STRUCK for fault in other_faults(scene, begin)}

    assert struck == set(OTHERS)


WISHES = [Happening.INTERRUPT, Happening.EXIT, Happening.TIME_LIMIT, Happening.PAUSE, Happening.CANCEL]


@pytest.mark.parametrize("scene", SCENES, ids=str)
@pytest.mark.parametrize("what", WISHES, ids=lambda what: what.name)
def test_a_wish_to_stop_at_any_call_costs_no_more_than_what_was_in_flight(scene, what, figure):
    """Whether Ctrl-C is pressed, a signal handler raises, or a pause or a cancel is asked for."""
    calls = uneventful(scene).calls
    seen: Counter[str] = Counter()
    for call in calls:
        seen[call.operation] += 1
        world = scene.world()
        stopping = evolve(scene.life(), incidents=(Incident(call.operation, what, seen[call.operation]),))
        stopped = world.live(stopping)
        dropped = what is Happening.CANCEL or stopped.result is not None
        assert_done(
            scene, world, stopped, world.live(scene.life()), again=scene.parts if dropped else scene.concurrency
        )
        world.close()
    figure("instants of an interrupt, a pause or a cancel, each followed by a run that ends well", len(calls))
