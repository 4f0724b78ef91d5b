"""Fault plans, and the wrappers that inject the faults."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import OSSOptions
from partwise.bodies import ChecksummedBody, bytes_body
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.checksums import crc64
from partwise.errors import (
    AccessDenied,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    ConnectionFailed,
    InvalidInput,
    PartwiseError,
    SourceChanged,
    SourceUnreadable,
    Throttled,
    UploadNotFound,
    UploadUnusable,
)
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.protocols import (
    Body,
    CheckpointStore,
    MultipartBackend,
    Source,
    SourceBody,
    SupportsRequestOptions,
    SupportsSourceFile,
)
from partwise.sources import BytesSource
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import (
    Call,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyBackend,
    FaultyCheckpointStore,
    FaultySource,
    LeasedCheckpointStore,
    SimulatedCrash,
    StrictBody,
    strategies,
)
from partwise.testing.faults import BACKEND_OPERATIONS, OPERATIONS, SOURCE_OPERATIONS, STORE_OPERATIONS
from partwise.testing.faulty import one_step_older

NO_OPTIONS = ObjectOptions()
DATA = bytes(range(100))
PART = UploadedPart(1, 5, "etag", 7)
CHECKPOINT = Checkpoint("memory://b", "key", "/a/file", Fingerprint(), part_size=5, upload_id="id", parts=(PART,))
NAME = CHECKPOINT.name


class Scene:
    """An upload of one part in memory, and a plan whose faults are injected into calls of `faulty`."""

    def __init__(self, *faults: Fault, slept: list[float] | None = None) -> None:
        self.plan = FaultPlan(faults, sleep=(slept if slept is not None else []).append)
        self.backend = MemoryBackend("bucket", limits=PartLimits(min_part_size=5))
        self.upload_id = self.backend.initiate_upload("key", NO_OPTIONS)
        self.part = self.backend.upload_part("key", self.upload_id, 1, StrictBody(DATA))
        self.faulty = FaultyBackend(self.backend, self.plan)

    def do(self, operation: str) -> object:
        calls: dict[str, Callable[[], object]] = {
            "initiate_upload": lambda: self.faulty.initiate_upload("key", NO_OPTIONS),
            "upload_part": lambda: self.faulty.upload_part("key", self.upload_id, 2, StrictBody(DATA, chunk_size=7)),
            "list_parts": lambda: self.faulty.list_parts("key", self.upload_id),
            "complete_upload": lambda: self.faulty.complete_upload("key", self.upload_id, [self.part], NO_OPTIONS),
            "abort_upload": lambda: self.faulty.abort_upload("key", self.upload_id),
            "list_uploads": lambda: self.faulty.list_uploads("k"),
            "put_object": lambda: self.faulty.put_object("put", StrictBody(DATA, chunk_size=7), NO_OPTIONS),
            "head_object": lambda: self.faulty.head_object("key"),
        }
        return calls[operation]()

    def state(self) -> object:
        return self.backend.uploads, self.backend.keys()


def fault(operation: str, kind: FaultKind, occurrence: int = 1) -> Fault:
    return Fault(operation, kind, occurrence)


# --- faults and plans ------------------------------------------------------------------------------------------------


def test_a_fault_on_an_unknown_operation_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown operation 'upload'"):
        Fault("upload", FaultKind.BEFORE)


def test_a_fault_that_does_not_apply_is_refused() -> None:
    with pytest.raises(InvalidInput, match="SHORT_LIST does not apply to upload_part"):
        Fault("upload_part", FaultKind.SHORT_LIST)


@pytest.mark.parametrize("numbers", [{"occurrence": 0}, {"part_number": 0}])
def test_occurrences_and_parts_count_from_one(numbers: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="must be an integer of at least 1"):
        Fault("upload_part", FaultKind.BEFORE, **numbers)


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_of_fault_applies_to_an_operation(kind: FaultKind) -> None:
    assert any(kind.applies_to(operation) for operation in OPERATIONS)


ON_BACKENDS = [
    "initiate_upload",
    "upload_part",
    "list_parts",
    "complete_upload",
    "abort_upload",
    "list_uploads",
    "put_object",
    "head_object",
]
ON_STORES = ["claim", "load", "save", "append_part", "delete", "scan", "check_claim"]
ON_SOURCES = ["fingerprint", "body", "read"]
ON_ALL = [*ON_BACKENDS, *ON_STORES, *ON_SOURCES]

APPLICABLE = {
    FaultKind.BEFORE: ON_ALL,
    FaultKind.AFTER: [*ON_BACKENDS, "save", "append_part", "delete"],
    FaultKind.HALFWAY: ["upload_part", "put_object", "read"],
    FaultKind.DELAY: ON_ALL,
    FaultKind.CRASH_BEFORE: ON_ALL,
    FaultKind.CRASH_AFTER: ON_ALL,
    FaultKind.THROTTLED: ON_BACKENDS,
    FaultKind.PERMANENT: ON_BACKENDS,
    FaultKind.WRONG_CHECKSUM: ["upload_part", "put_object", "complete_upload", "head_object"],
    FaultKind.SHORT_LIST: ["list_parts"],
    FaultKind.FORGOTTEN_UPLOAD: ["upload_part", "list_parts", "complete_upload"],
    FaultKind.UNUSABLE: ["upload_part", "complete_upload"],
    FaultKind.UNREACHABLE: ON_STORES,
    FaultKind.CLAIM_LOST: ["save", "append_part", "delete", "check_claim"],
    FaultKind.LOST_WRITE: ["save", "append_part", "delete"],
    FaultKind.DISK_FULL: ["save", "append_part"],
    FaultKind.READ_ONLY: ["save", "append_part", "delete", "claim"],
    FaultKind.TORN_WRITE: ["append_part"],
    FaultKind.OLD_RECORD: ["load"],
    FaultKind.DAMAGED: ["load"],
    FaultKind.CHANGED: ["fingerprint"],
}


def test_all_operations_can_fail() -> None:
    """The tests of the promises use these lists: no fault is injected into an operation that is missing."""
    assert list(BACKEND_OPERATIONS) == ON_BACKENDS
    assert list(STORE_OPERATIONS) == ON_STORES
    assert list(SOURCE_OPERATIONS) == ON_SOURCES
    assert list(OPERATIONS) == ON_ALL


@pytest.mark.parametrize("kind", FaultKind)
def test_each_kind_of_fault_applies_to_its_operations(kind: FaultKind) -> None:
    assert {operation for operation in ON_ALL if kind.applies_to(operation)} == set(APPLICABLE[kind])


def test_a_fault_reads_as_a_sentence() -> None:
    assert str(Fault("save", FaultKind.AFTER)) == "save no. 1 takes effect, and its response is lost"
    assert "no. 2 of part 3" in str(Fault("upload_part", FaultKind.BEFORE, 2, part_number=3))


def test_a_fault_is_injected_into_its_occurrence_only() -> None:
    scene = Scene(fault("head_object", FaultKind.BEFORE, 2))
    scene.do("head_object")
    scene.do("list_parts")
    with pytest.raises(ConnectionFailed):
        scene.do("head_object")
    assert scene.do("head_object") is None


def test_a_fault_on_a_part_counts_the_calls_for_that_part() -> None:
    scene = Scene(Fault("upload_part", FaultKind.BEFORE, 2, part_number=2))

    def send(number: int) -> UploadedPart:
        return scene.faulty.upload_part("key", scene.upload_id, number, StrictBody(DATA))

    for number in (1, 2, 3, 1):
        send(number)
    with pytest.raises(ConnectionFailed):
        send(2)
    assert scene.plan.unreached == ()


def test_a_fault_on_a_part_is_not_injected_into_other_parts_later() -> None:
    scene = Scene(Fault("upload_part", FaultKind.BEFORE, 1, part_number=2))
    with pytest.raises(ConnectionFailed):
        scene.faulty.upload_part("key", scene.upload_id, 2, StrictBody(DATA))
    for number in (1, 3):
        assert scene.faulty.upload_part("key", scene.upload_id, number, StrictBody(DATA)).part_number == number
    assert len(scene.plan.reached) == 1


def test_a_fault_on_any_part_counts_the_calls_for_all_parts() -> None:
    scene = Scene(Fault("upload_part", FaultKind.BEFORE, 3))
    for number in (2, 1):
        scene.faulty.upload_part("key", scene.upload_id, number, StrictBody(DATA))
    with pytest.raises(ConnectionFailed):
        scene.faulty.upload_part("key", scene.upload_id, 1, StrictBody(DATA))


def test_a_plan_whose_faults_were_all_injected_passes() -> None:
    scene = Scene(fault("head_object", FaultKind.BEFORE))
    with scene.plan, pytest.raises(ConnectionFailed):
        scene.do("head_object")
    assert scene.plan.reached == scene.plan.faults


def test_a_planned_fault_that_was_never_reached_fails_with_the_trace() -> None:
    scene = Scene(fault("put_object", FaultKind.BEFORE))
    trace = r"(?s)never reached:\n- put_object no\. 1.*1\. head_object 'key': returned"
    with pytest.raises(AssertionError, match=trace), scene.plan:
        scene.do("head_object")


def test_an_error_in_the_block_is_not_hidden_by_unreached_faults() -> None:
    with pytest.raises(ZeroDivisionError), FaultPlan([fault("save", FaultKind.BEFORE)]):
        _ = 1 // 0


def test_the_repr_of_a_plan_can_be_evaluated() -> None:
    plan = FaultPlan([Fault("upload_part", FaultKind.THROTTLED, 2, seconds=1.5)])
    readable = repr(plan).replace("<FaultKind.THROTTLED: 'is throttled, with a time to wait'>", "THROTTLED")
    again = eval(readable, {"FaultPlan": FaultPlan, "Fault": Fault, "THROTTLED": FaultKind.THROTTLED})
    assert again.faults == plan.faults


def test_the_trace_has_every_call_with_its_outcome() -> None:
    scene = Scene(fault("upload_part", FaultKind.AFTER))
    with pytest.raises(ConnectionFailed):
        scene.do("upload_part")
    scene.do("head_object")
    assert scene.plan.calls == (
        Call("upload_part", "key", scene.upload_id, 2, scene.plan.faults, "ConnectionFailed"),
        Call("head_object", "key", outcome="returned"),
    )
    assert str(scene.plan) == "1. upload_part 'key' part 2 [AFTER]: ConnectionFailed\n2. head_object 'key': returned"


def test_a_call_in_flight_is_in_the_trace() -> None:
    plan = FaultPlan()
    with plan.call("head_object", "key"):
        assert plan.calls[0].outcome == "in flight"


def test_occurrences_are_counted_across_threads() -> None:
    scene = Scene(fault("head_object", FaultKind.BEFORE, 20))

    def attempt(_: int) -> bool:
        try:
            scene.do("head_object")
        except ConnectionFailed:
            return True
        return False

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(attempt, range(40))) == 1


# --- a backend -------------------------------------------------------------------------------------------------------


def test_wrappers_have_the_protocols_of_what_they_wrap() -> None:
    plan = FaultPlan()
    backend, store = MemoryBackend(), MemoryCheckpointStore()
    assert isinstance(FaultyBackend(backend, plan), MultipartBackend)
    assert isinstance(FaultyCheckpointStore(store, plan), CheckpointStore)
    assert isinstance(FaultySource(BytesSource(DATA), plan), Source)
    assert isinstance(FaultySource(BytesSource(DATA), plan).body(0, 5), SourceBody)


def test_a_wrapped_backend_has_the_properties_of_the_backend() -> None:
    backend = MemoryBackend("bucket")
    faulty = FaultyBackend(backend, FaultPlan())
    assert (faulty.location, faulty.limits, faulty.capabilities) == (
        backend.location,
        backend.limits,
        backend.capabilities,
    )
    assert repr(backend) in repr(faulty)


@pytest.mark.parametrize("operation", BACKEND_OPERATIONS)
def test_without_a_fault_a_call_does_what_the_backend_does(operation: str) -> None:
    scene, honest = Scene(), Scene()
    honest.faulty = honest.backend  # type: ignore[assignment]  # for the comparison
    answers = [scene.do(operation), honest.do(operation)]
    if operation in {"list_parts", "list_uploads"}:
        answers = [[(getattr(entry, "etag", None)) for entry in answer] for answer in answers]  # type: ignore[attr-defined]  # listings
    assert answers[0] == answers[1]


@pytest.mark.parametrize("operation", BACKEND_OPERATIONS)
def test_a_failure_before_the_effect_changes_nothing(operation: str) -> None:
    scene = Scene(fault(operation, FaultKind.BEFORE))
    before = scene.state()
    with scene.plan, pytest.raises(ConnectionFailed) as caught:
        scene.do(operation)
    assert scene.state() == before
    assert (caught.value.code, caught.value.retryable) == ("InjectedFault", True)


@pytest.mark.parametrize(
    "operation", ["initiate_upload", "upload_part", "complete_upload", "abort_upload", "put_object"]
)
def test_a_lost_response_keeps_the_effect(operation: str) -> None:
    scene, honest = Scene(fault(operation, FaultKind.AFTER)), Scene()
    with scene.plan, pytest.raises(ConnectionFailed, match="the response was lost"):
        scene.do(operation)
    honest.do(operation)
    assert len(scene.backend.uploads) == len(honest.backend.uploads)
    assert scene.backend.keys() == honest.backend.keys()
    assert [len(upload.parts) for upload in scene.backend.uploads.values()] == [
        len(upload.parts) for upload in honest.backend.uploads.values()
    ]


@pytest.mark.parametrize("operation", ["upload_part", "put_object"])
def test_a_failure_half_way_has_read_half_and_stores_nothing(operation: str) -> None:
    scene = Scene(fault(operation, FaultKind.HALFWAY))
    before = scene.state()
    body = StrictBody(DATA, chunk_size=7)
    send = {
        "upload_part": partial(scene.faulty.upload_part, "key", scene.upload_id, 2, body),
        "put_object": partial(scene.faulty.put_object, "put", body, NO_OPTIONS),
    }
    with scene.plan, pytest.raises(ConnectionFailed, match="the connection broke"):
        send[operation]()
    assert scene.state() == before
    assert len(DATA) // 2 <= body.bytes_read < len(DATA) // 2 + 7


@pytest.mark.parametrize("body", [StrictBody(b""), StrictBody(b"x"), StrictBody(b"short", declared=100)])
def test_a_failure_half_way_fails_a_body_without_a_half(body: StrictBody) -> None:
    scene = Scene(fault("put_object", FaultKind.HALFWAY))
    with scene.plan, pytest.raises(ConnectionFailed):
        scene.faulty.put_object("put", body, NO_OPTIONS)


def test_a_backend_has_the_checksum_of_a_body_that_it_has_read() -> None:
    class Reads(MemoryBackend):
        def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
            assert body.checksum is None
            stored = super().put_object(key, body, options)
            assert body.checksum == stored.checksum
            return stored

    stored = FaultyBackend(Reads(), FaultPlan()).put_object("put", StrictBody(DATA), NO_OPTIONS)
    assert stored.checksum == crc64(DATA)


def test_a_delay_sleeps_as_planned_and_changes_nothing() -> None:
    slept: list[float] = []
    scene = Scene(Fault("head_object", FaultKind.DELAY, seconds=2.5), slept=slept)
    with scene.plan:
        assert scene.do("head_object") is None
    assert slept == [2.5]


def test_throttling_says_how_long_to_wait() -> None:
    scene = Scene(Fault("head_object", FaultKind.THROTTLED, seconds=2.5))
    with scene.plan, pytest.raises(Throttled) as caught:
        scene.do("head_object")
    assert (caught.value.retryable, caught.value.retry_after) == (True, 2.5)


def test_a_permanent_failure_is_not_retryable() -> None:
    scene = Scene(fault("head_object", FaultKind.PERMANENT))
    with scene.plan, pytest.raises(AccessDenied) as caught:
        scene.do("head_object")
    assert not caught.value.retryable


@pytest.mark.parametrize("operation", ["upload_part", "put_object", "complete_upload"])
def test_a_wrong_checksum_differs_from_the_right_one(operation: str) -> None:
    scene, honest = Scene(fault(operation, FaultKind.WRONG_CHECKSUM)), Scene()
    with scene.plan:
        wrong, right = scene.do(operation), honest.do(operation)
    assert evolve(wrong, checksum=None) == evolve(right, checksum=None)  # type: ignore[type-var]  # both are values
    assert wrong != right


def test_a_wrong_checksum_is_set_where_the_storage_has_none() -> None:
    scene = Scene(fault("head_object", FaultKind.WRONG_CHECKSUM))
    scene.backend = MemoryBackend(capabilities=Capabilities())
    scene.backend.put_object("key", StrictBody(DATA), NO_OPTIONS)
    scene.faulty = FaultyBackend(scene.backend, scene.plan)
    assert scene.backend.head_object("key").checksum is None  # type: ignore[union-attr]  # it was stored above
    assert scene.do("head_object").checksum == 1  # type: ignore[attr-defined]  # likewise


def test_pages_of_a_listing_are_read_within_the_call() -> None:
    class Lost(MemoryBackend):
        def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
            yield from super().list_uploads(prefix)
            raise ConnectionFailed("the second page")

        def list_parts(self, key: str, upload_id: str) -> Iterator[UploadedPart]:
            yield from super().list_parts(key, upload_id)
            raise ConnectionFailed("the second page")

    backend, plan = Lost(), FaultPlan()
    upload_id = backend.initiate_upload("key", NO_OPTIONS)
    for listing in (
        lambda: FaultyBackend(backend, plan).list_uploads(),
        lambda: FaultyBackend(backend, plan).list_parts("key", upload_id),
    ):
        with pytest.raises(ConnectionFailed):
            listing()
    assert [call.outcome for call in plan.calls] == ["ConnectionFailed"] * 2


def test_a_body_stops_at_its_next_chunk_when_the_process_crashes() -> None:
    plan = FaultPlan()
    body = StrictBody(DATA, chunk_size=7)

    class Killing(MemoryBackend):
        def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
            chunks = body.chunks()
            next(chunks)
            with pytest.raises(SimulatedCrash):
                plan.crash("just now")
            next(chunks)
            raise AssertionError("a dead process went on reading")

    with pytest.raises(SimulatedCrash):
        FaultyBackend(Killing(), plan).put_object("key", body, NO_OPTIONS)
    assert body.bytes_read <= 14


def test_a_wrong_checksum_of_a_missing_object_is_none() -> None:
    scene = Scene(fault("head_object", FaultKind.WRONG_CHECKSUM))
    with scene.plan:
        assert scene.do("head_object") is None


def test_a_short_list_omits_every_other_part() -> None:
    scene = Scene(fault("list_parts", FaultKind.SHORT_LIST))
    for number in (2, 3):
        scene.backend.upload_part("key", scene.upload_id, number, StrictBody(DATA))
    with scene.plan:
        assert [part.part_number for part in scene.faulty.list_parts("key", scene.upload_id)] == [2]


@pytest.mark.parametrize("operation", ["upload_part", "list_parts", "complete_upload"])
def test_a_forgotten_upload_is_gone_from_the_storage(operation: str) -> None:
    scene = Scene(fault(operation, FaultKind.FORGOTTEN_UPLOAD))
    with scene.plan, pytest.raises(UploadNotFound):
        scene.do(operation)
    assert scene.backend.uploads == {}


def test_an_unusable_upload_takes_neither_parts_nor_a_completion_any_more() -> None:
    scene = Scene(fault("upload_part", FaultKind.UNUSABLE))
    other = scene.backend.initiate_upload("key", ObjectOptions())
    with scene.plan:
        for operation in ("upload_part", "upload_part", "complete_upload"):
            with pytest.raises(UploadUnusable):
                scene.do(operation)
    assert scene.upload_id in scene.backend.uploads
    assert scene.faulty.upload_part("key", other, 1, StrictBody(DATA)).size == len(DATA)


def test_what_drops_a_forgotten_upload_can_be_given() -> None:
    """A storage that aborts nothing drops uploads in another way."""
    backend = MemoryBackend(capabilities=Capabilities(aborts=False))
    upload_id = backend.initiate_upload("key", ObjectOptions())
    plan = FaultPlan([fault("list_parts", FaultKind.FORGOTTEN_UPLOAD)])

    with pytest.raises(UploadNotFound):
        FaultyBackend(backend, plan, forget=backend.drop_upload).list_parts("key", upload_id)


def test_closing_the_wrapper_closes_the_backend() -> None:
    scene = Scene()
    scene.faulty.close()
    with pytest.raises(PartwiseError, match="closed"):
        scene.backend.head_object("key")


def test_a_backend_with_request_options_is_still_wrapped() -> None:
    class Binding(MemoryBackend):
        bound: ObjectOptions | None = None

        def with_request_options(self, options: ObjectOptions) -> MultipartBackend:
            self.bound = options
            return self

    backend = Binding()
    plan = FaultPlan([fault("head_object", FaultKind.BEFORE)])
    faulty = FaultyBackend(backend, plan)
    assert isinstance(faulty, SupportsRequestOptions)
    bound = faulty.with_request_options(OSSOptions(traffic_limit=1_000_000))
    assert backend.bound == OSSOptions(traffic_limit=1_000_000)
    with plan, pytest.raises(ConnectionFailed):
        bound.head_object("key")


def test_a_backend_that_does_not_support_request_options_is_its_own_handle() -> None:
    scene = Scene()
    assert scene.faulty.with_request_options(NO_OPTIONS) is scene.faulty


def test_a_backend_with_a_source_file_is_still_wrapped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o600)
    plan = FaultPlan([fault("head_object", FaultKind.BEFORE)])
    faulty = FaultyBackend(LocalBackend(tmp_path / "bucket"), plan)
    assert isinstance(faulty, SupportsSourceFile)
    bound = faulty.with_source_file(str(source))
    with plan:
        bound.put_object("key", bytes_body(b"x"), NO_OPTIONS)
        with pytest.raises(ConnectionFailed):
            bound.head_object("key")
    if os.name != "nt":
        assert (tmp_path / "bucket" / "key").stat().st_mode & 0o777 == 0o600


def test_a_backend_that_does_not_support_source_files_is_its_own_handle() -> None:
    scene = Scene()
    assert scene.faulty.with_source_file("/a/file") is scene.faulty


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", BACKEND_OPERATIONS)
def test_after_a_crash_nothing_has_an_effect(operation: str) -> None:
    scene = Scene(fault("head_object", FaultKind.CRASH_BEFORE))
    with pytest.raises(SimulatedCrash):
        scene.do("head_object")
    before = scene.state()
    with pytest.raises(SimulatedCrash):
        scene.do(operation)
    assert scene.state() == before
    assert scene.plan.crashed
    assert len(scene.plan.calls) == 1


def test_a_crash_before_the_effect_prevents_it_and_one_after_does_not() -> None:
    for kind, effect in ((FaultKind.CRASH_BEFORE, []), (FaultKind.CRASH_AFTER, ["put"])):
        scene = Scene(fault("put_object", kind))
        with pytest.raises(SimulatedCrash):
            scene.do("put_object")
        assert scene.backend.keys() == effect


def test_a_simulated_crash_is_not_an_exception() -> None:
    assert not issubclass(SimulatedCrash, Exception)


def test_a_crash_does_not_wait_for_a_source_that_is_being_read() -> None:
    """Reading has no effect on the storage."""
    plan, started, end = FaultPlan(), threading.Event(), threading.Event()

    def read() -> None:
        with suppress(SimulatedCrash), plan.call("read", "source"):
            started.set()
            end.wait(30)

    def die() -> None:
        with suppress(SimulatedCrash):
            plan.crash("now")

    reading, dying = threading.Thread(target=read, daemon=True), threading.Thread(target=die, daemon=True)
    reading.start()
    assert started.wait(30)
    dying.start()
    dying.join(5)
    waits = dying.is_alive()
    end.set()
    reading.join(30)
    assert not waits


def test_a_crash_affects_all_wrappers_of_a_process() -> None:
    plan = FaultPlan([fault("save", FaultKind.CRASH_BEFORE)])
    store = FaultyCheckpointStore(MemoryCheckpointStore(), plan)
    backend = FaultyBackend(MemoryBackend(), plan)
    source = FaultySource(BytesSource(DATA), plan)
    body = source.body(0, 5)
    with pytest.raises(SimulatedCrash):
        store.save(CHECKPOINT)
    calls: Iterable[Callable[[], object]] = (
        lambda: backend.head_object("key"),
        lambda: store.load(NAME),
        source.fingerprint,
        lambda: list(body.chunks()),
    )
    for call in calls:
        with pytest.raises(SimulatedCrash):
            call()


def test_a_crash_waits_for_calls_in_flight_which_have_no_response() -> None:
    """The other thread is in the middle of a part; it stops at its next chunk, before the crash is raised."""
    scene = Scene(fault("head_object", FaultKind.CRASH_BEFORE))
    reading, go_on = threading.Event(), threading.Event()

    class Slow(StrictBody):
        def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
            for chunk in super().chunks(counted=counted):
                yield chunk
                reading.set()
                go_on.wait(10)

    body = Slow(DATA, chunk_size=30)
    with ThreadPoolExecutor(max_workers=2) as pool:
        sending = pool.submit(scene.faulty.put_object, "put", body, NO_OPTIONS)
        assert reading.wait(10)
        dying = pool.submit(scene.do, "head_object")
        while not scene.plan.crashed:
            pass
        assert not dying.done()
        go_on.set()
        for future in (sending, dying):
            with pytest.raises(SimulatedCrash):
                future.result()
    assert scene.backend.keys() == []


def test_a_call_that_ends_after_the_crash_has_no_response() -> None:
    """The storage has done it, but the process has crashed."""
    called, go_on = threading.Event(), threading.Event()

    class Slow(MemoryBackend):
        def abort_upload(self, key: str, upload_id: str) -> None:
            called.set()
            go_on.wait(10)
            super().abort_upload(key, upload_id)

    backend = Slow()
    upload_id = backend.initiate_upload("key", NO_OPTIONS)
    plan = FaultPlan()
    with ThreadPoolExecutor(max_workers=2) as pool:
        aborting = pool.submit(FaultyBackend(backend, plan).abort_upload, "key", upload_id)
        assert called.wait(10)
        dying = pool.submit(plan.crash, "elsewhere")
        while not plan.crashed:
            pass
        go_on.set()
        for future in (aborting, dying):
            with pytest.raises(SimulatedCrash):
                future.result()
    assert backend.uploads == {}


def test_a_second_crash_does_not_wait() -> None:
    plan = FaultPlan()
    for _ in range(2):
        with pytest.raises(SimulatedCrash, match="of old age"):
            plan.crash("of old age")


# --- a checkpoint store ----------------------------------------------------------------------------------------------


def store_with(*faults: Fault, tear: Callable[[str], None] | None = None) -> tuple[FaultyCheckpointStore, FaultPlan]:
    """Return a store with CHECKPOINT and these faults."""
    inner = MemoryCheckpointStore()
    inner.save(CHECKPOINT)
    plan = FaultPlan(faults)
    return FaultyCheckpointStore(inner, plan, tear=tear), plan


def write(store: CheckpointStore, operation: str) -> None:
    calls: dict[str, Callable[[], None]] = {
        "save": lambda: store.save(evolve(CHECKPOINT, upload_id="another")),
        "append_part": lambda: store.append_part(NAME, "id", evolve(PART, part_number=2)),
        "delete": lambda: store.delete(NAME, "id"),
    }
    calls[operation]()


WRITES = ("save", "append_part", "delete")


def test_without_a_fault_a_store_does_what_it_does() -> None:
    store, plan = store_with()
    with plan, store.claim(NAME):
        assert store.load(NAME) == CHECKPOINT
        write(store, "append_part")
        assert [len(found.parts) for found in store.scan()] == [2]
        write(store, "delete")
        assert store.load(NAME) is None
    assert [call.operation for call in plan.calls] == ["claim", "load", "append_part", "scan", "delete", "load"]
    assert "MemoryCheckpointStore" in repr(store)


@pytest.mark.parametrize("operation", ["claim", "load", "scan", *WRITES])
def test_a_store_that_can_t_be_reached_for_a_moment_does_nothing_and_can_be_called_again(operation: str) -> None:
    store, _ = store_with(fault(operation, FaultKind.UNREACHABLE))
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: store.claim(NAME).__enter__(),
        "load": lambda: store.load(NAME),
        "scan": lambda: list(store.scan()),
        **{write_operation: lambda: write(store, operation) for write_operation in WRITES},
    }
    with pytest.raises(CheckpointError) as caught:
        calls[operation]()
    assert caught.value.retryable
    assert store.inner.load(NAME) == CHECKPOINT
    calls[operation]()


@pytest.mark.parametrize("operation", WRITES)
def test_after_a_lost_claim_every_write_is_refused_and_the_checkpoint_is_kept(operation: str) -> None:
    store, _ = store_with(fault(operation, FaultKind.CLAIM_LOST))
    for later in (operation, *WRITES):
        with pytest.raises(ClaimLost):
            write(store, later)
    assert store.load(NAME) == CHECKPOINT


def test_a_claim_is_checked_if_the_store_can() -> None:
    leased = LeasedCheckpointStore()
    plan = FaultPlan((fault("check_claim", FaultKind.UNREACHABLE, 2),))
    store = FaultyCheckpointStore(leased, plan)
    with store.claim(NAME):
        store.check_claim(NAME)
        with pytest.raises(CheckpointError) as caught:
            store.check_claim(NAME)
        assert caught.value.retryable
        leased.expire(NAME)
        with pytest.raises(ClaimLost):
            store.check_claim(NAME)
    assert [call.operation for call in plan.calls] == ["claim", *["check_claim"] * 3]


def test_a_lease_is_held_by_one_handle_at_a_time() -> None:
    leased = LeasedCheckpointStore()
    other = leased.handle()
    with leased.claim(NAME):
        leased.save(CHECKPOINT)
        with pytest.raises(CheckpointBusy), other.claim(NAME):
            pass
    with other.claim(NAME):
        assert (list(other.scan()), other.load(NAME)) == ([CHECKPOINT], CHECKPOINT)
    assert repr(leased) == f"<LeasedCheckpointStore on {leased.inner!r}>"


def test_the_claim_of_a_store_that_can_t_lose_one_is_not_checked() -> None:
    store, plan = store_with()
    store.check_claim(NAME)
    assert plan.calls == ()


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_that_fails_before_its_effect_keeps_the_checkpoint(operation: str) -> None:
    store, plan = store_with(fault(operation, FaultKind.BEFORE))
    with plan, pytest.raises(CheckpointUnwritable, match="InjectedFault"):
        write(store, operation)
    assert store.inner.load(NAME) == CHECKPOINT


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_whose_response_is_lost_has_happened(operation: str) -> None:
    store, plan = store_with(fault(operation, FaultKind.AFTER))
    with plan, pytest.raises(CheckpointUnwritable, match="InjectedFault"):
        write(store, operation)
    assert store.inner.load(NAME) != CHECKPOINT


@pytest.mark.parametrize("operation", WRITES)
def test_a_lost_write_reports_success(operation: str) -> None:
    store, plan = store_with(fault(operation, FaultKind.LOST_WRITE))
    with plan:
        write(store, operation)
    assert store.inner.load(NAME) == CHECKPOINT


@pytest.mark.parametrize("operation", ["load", "scan"])
def test_reading_that_fails_is_a_checkpoint_error(operation: str) -> None:
    store, plan = store_with(fault(operation, FaultKind.BEFORE))
    with plan, pytest.raises(CheckpointError, match="InjectedFault") as caught:
        store.load(NAME) if operation == "load" else list(store.scan())
    assert not isinstance(caught.value, CheckpointUnwritable)


def test_a_claim_that_fails_is_not_held() -> None:
    store, plan = store_with(fault("claim", FaultKind.BEFORE))
    with plan, pytest.raises(CheckpointUnwritable):
        store.claim(NAME).__enter__()
    with store.inner.claim(NAME):
        pass


@pytest.mark.parametrize("kind", [FaultKind.DISK_FULL, FaultKind.READ_ONLY])
def test_a_full_disk_and_a_read_only_disk_stay_so(kind: FaultKind) -> None:
    store, plan = store_with(fault("append_part", kind))
    with plan:
        for operation in ("append_part", "save"):
            with pytest.raises(CheckpointUnwritable) as caught:
                write(store, operation)
            assert isinstance(caught.value.__cause__, OSError)
            expected = errno.ENOSPC if kind is FaultKind.DISK_FULL else errno.EROFS
            assert caught.value.__cause__.errno == expected
    assert store.load(NAME) == CHECKPOINT


def test_on_a_full_disk_a_checkpoint_can_be_deleted_and_on_a_read_only_one_not_even_claimed() -> None:
    store, _ = store_with(fault("append_part", FaultKind.DISK_FULL))
    with pytest.raises(CheckpointUnwritable):
        write(store, "append_part")
    write(store, "delete")
    store, _ = store_with(fault("claim", FaultKind.READ_ONLY))
    for _ in range(2):
        with pytest.raises(CheckpointUnwritable):
            store.claim(NAME).__enter__()
    with pytest.raises(CheckpointUnwritable):
        write(store, "delete")


def test_a_torn_write_is_a_crash_after_which_the_end_is_missing(tmp_path: Path) -> None:
    inner = FileCheckpointStore(tmp_path)
    inner.save(CHECKPOINT)

    def tear(name: str) -> None:
        path = inner.path_for(name)
        path.write_bytes(path.read_bytes()[:-3])

    plan = FaultPlan([fault("append_part", FaultKind.TORN_WRITE)])
    store = FaultyCheckpointStore(inner, plan, tear=tear)
    with pytest.raises(SimulatedCrash), store.claim(NAME):
        write(store, "append_part")
    assert plan.crashed
    with FileCheckpointStore(tmp_path) as survivor:
        assert survivor.load(NAME) == CHECKPOINT
    inner.close()


def test_a_torn_write_needs_tear() -> None:
    with pytest.raises(InvalidInput, match="pass `tear`"):
        store_with(fault("append_part", FaultKind.TORN_WRITE))


def test_an_old_checkpoint_is_one_write_older() -> None:
    store, plan = store_with(fault("load", FaultKind.OLD_RECORD))
    with plan:
        assert store.load(NAME) == evolve(CHECKPOINT, parts=())


def test_one_step_before_the_first_part_there_was_no_upload_and_before_that_no_checkpoint() -> None:
    without_parts = evolve(CHECKPOINT, parts=())
    without_upload = evolve(without_parts, upload_id=None)
    assert one_step_older(without_parts) == without_upload
    assert one_step_older(without_upload) is None


def test_one_step_before_the_third_part_there_were_two() -> None:
    parts = tuple(UploadedPart(number, 5, "etag") for number in (1, 2, 3))
    older = one_step_older(evolve(CHECKPOINT, parts=parts))
    assert older is not None
    assert (older.parts, older.upload_id) == (parts[:2], "id")


def test_an_old_checkpoint_of_none_is_none() -> None:
    plan = FaultPlan([fault("load", FaultKind.OLD_RECORD)])
    with plan:
        assert FaultyCheckpointStore(MemoryCheckpointStore(), plan).load(NAME) is None


@pytest.mark.parametrize("saved", [True, False])
def test_a_damaged_checkpoint_has_its_upload_id_if_there_is_one(saved: bool) -> None:
    store, plan = store_with(fault("load", FaultKind.DAMAGED))
    if not saved:
        store.inner.delete(NAME, "id")
    with plan, pytest.raises(CheckpointDamaged) as caught:
        store.load(NAME)
    assert (caught.value.name, caught.value.upload_id) == (NAME, "id" if saved else None)


@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER])
def test_a_crash_in_a_claim_does_not_hold_it(kind: FaultKind) -> None:
    store, _ = store_with(fault("claim", kind))
    with pytest.raises(SimulatedCrash):
        store.claim(NAME).__enter__()
    with store.inner.claim(NAME):
        pass


def test_a_crash_releases_the_claim() -> None:
    store, _ = store_with(fault("save", FaultKind.CRASH_BEFORE))
    with ExitStack() as process:
        process.enter_context(pytest.raises(SimulatedCrash))
        process.enter_context(store.claim(NAME))
        with pytest.raises(CheckpointBusy):
            store.inner.claim(NAME).__enter__()
        write(store, "save")
    with store.inner.claim(NAME):
        pass


# --- a source --------------------------------------------------------------------------------------------------------


def source_with(*faults: Fault) -> tuple[FaultySource, FaultPlan]:
    plan = FaultPlan(faults)
    return FaultySource(BytesSource(DATA, name="some bytes"), plan), plan


def test_without_a_fault_a_source_yields_its_bytes() -> None:
    source, plan = source_with()
    with plan:
        body = source.body(10, 20)
        assert b"".join(bytes(chunk) for chunk in body.chunks()) == DATA[10:30]
    assert (source.name, source.fingerprint().size, len(body)) == ("some bytes", 100, 20)
    assert "some bytes" in repr(source)
    source.close()


@pytest.mark.parametrize("operation", SOURCE_OPERATIONS)
def test_a_source_that_fails_before_its_effect_yields_nothing(operation: str) -> None:
    source, plan = source_with(fault(operation, FaultKind.BEFORE))
    with plan, pytest.raises(SourceUnreadable, match="InjectedFault"):
        source.fingerprint() if operation == "fingerprint" else list(source.body(0, 100).chunks())


def test_a_source_that_fails_half_way_has_yielded_half() -> None:
    source, plan = source_with(fault("read", FaultKind.HALFWAY))
    chunks = source.body(0, 100).chunks()
    assert bytes(next(chunks)) == DATA[:50]
    with plan, pytest.raises(SourceChanged, match="InjectedFault"):
        next(chunks)


def test_a_source_without_an_mtime_can_change() -> None:
    plan = FaultPlan([fault("fingerprint", FaultKind.CHANGED)])
    source = BytesSource(DATA)
    assert source.fingerprint().mtime_ns is None
    assert FaultySource(source, plan).fingerprint().mtime_ns == 1


def test_a_changed_source_stays_changed() -> None:
    source, plan = source_with(fault("fingerprint", FaultKind.CHANGED, 2))
    with plan:
        first, second, third = (source.fingerprint() for _ in range(3))
    assert first != second == third


def test_a_crash_while_reading_is_raised() -> None:
    source, plan = source_with(fault("read", FaultKind.CRASH_AFTER))
    backend = FaultyBackend(MemoryBackend(), plan)
    with pytest.raises(SimulatedCrash):
        backend.put_object("key", ChecksummedBody(source.body(0, 100)), NO_OPTIONS)
    assert plan.crashed


# --- any plan --------------------------------------------------------------------------------------------------------


@given(plan=strategies.fault_plans(BACKEND_OPERATIONS))
def test_any_plan_raises_only_partwise_errors_and_crashes(plan: FaultPlan) -> None:
    backend = FaultyBackend(MemoryBackend("bucket"), plan)
    for _ in range(3):
        try:
            upload_id = backend.initiate_upload("key", NO_OPTIONS)
            part = backend.upload_part("key", upload_id, 1, StrictBody(DATA))
            list(backend.list_parts("key", upload_id))
            backend.complete_upload("key", upload_id, [part], NO_OPTIONS)
        except PartwiseError:
            assert plan.reached
        except SimulatedCrash:
            assert plan.crashed
    assert set(plan.reached) | set(plan.unreached) == set(plan.faults)


def test_operations_of_the_three_protocols_have_different_names() -> None:
    names = (*BACKEND_OPERATIONS, *STORE_OPERATIONS, *SOURCE_OPERATIONS)
    assert len(set(names)) == len(names)
