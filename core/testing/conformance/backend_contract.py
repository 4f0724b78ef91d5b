"""The contract in general, and failures (1 to 6, 36 to 40)."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import cast

from attrs import fields

from partwise.checksums import Checksum
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    ObjectExists,
    PartRejected,
    ServerFailed,
    Throttled,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import Capabilities, ObjectOptions, PartLimits, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing._error_chains import error_chain
from partwise.testing.conformance.backend_harness import (
    NO_OPTIONS,
    BackendHarness,
    body_of,
    calls_of_every_method,
    listed_parts,
    must_be_stored,
    pending_ids,
    put,
    stored_size,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import BACKEND_OPERATIONS, Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

CHECKS: Suite[BackendHarness] = Suite()

_FAILURES = (AccessDenied, BucketNotFound, ClockSkewed, ConnectionFailed, CredentialsExpired, ServerFailed, Throttled)
# A backend that can't renew its credentials or correct its clock says that a retry does not help.
_OF_EITHER_KIND = (ClockSkewed, CredentialsExpired)


@CHECKS.covers(1)
def check_protocol(harness: BackendHarness) -> None:
    """The backend has all methods and properties, and a repr that names its class."""
    backend = harness.open_for_test()
    assert isinstance(backend, MultipartBackend), "a backend has all methods and properties of MultipartBackend"
    assert "://" in backend.location, f"location is a URL, not {backend.location!r}"
    assert isinstance(backend.limits, PartLimits), "limits is a PartLimits"
    assert isinstance(backend.capabilities, Capabilities), "capabilities is a Capabilities"
    assert isinstance(backend.capabilities.checksum, Checksum), "capabilities.checksum is a Checksum"
    kind = backend.capabilities.option_type
    unknown = backend.capabilities.options - {a.name for a in fields(kind)}
    assert not unknown, f"capabilities.options names fields of {kind.__name__}, but not {sorted(unknown)}"
    assert type(backend).__name__ in repr(backend), f"repr names the class {type(backend).__name__}: {backend!r}"


class _TextsOfRecords(logging.Handler):
    """Keeps the text of each log record, with that of its exception."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Keep the texts of all log records, of every level, while the block runs."""
    root, handler = logging.getLogger(), _TextsOfRecords()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler.texts
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _text_of(error: BaseException) -> str:
    """Return what a traceback, or a handler of errors, shows of an error."""
    return "\n".join(f"{one!r} {one} {vars(one)}" for one in error_chain(error))


@CHECKS.covers(1, behaviours=("log records",))
def check_secrets_are_not_exposed(harness: BackendHarness) -> None:
    """No repr, location, log record or error contains a credential."""
    if not harness.secrets:
        raise harness.without("secrets")
    backend = harness.open_for_test()
    key = harness.key("secret")
    with _logged() as records:
        body, duty = body_of(backend, b"x"), "the id does not exist"
        unknown = must_raise(UploadNotFound, duty, backend.upload_part, key, "no-such-upload", 1, body)
        put(harness, backend, "secret", b"x")
        backend.close()
        closed = must_raise(BackendClosed, "the backend was closed", backend.head_object, key)
    shown = {"its repr": repr(backend), "its location": backend.location}
    for error in (unknown, closed):
        shown[type(error).__name__] = _text_of(error)
    leaks = [where for where, text in shown.items() if any(secret in text for secret in harness.secrets)]
    assert not leaks, f"a secret is exposed in {', '.join(leaks)}"
    with harness.behaviour("log records"):
        leaks = [text for text in records if any(secret in text for secret in harness.secrets)]
        assert not leaks, f"a secret is exposed in {len(leaks)} of {len(records)} log records"


@CHECKS.covers(2, 24)
def check_handles_see_each_other(harness: BackendHarness) -> None:
    """Handles see each other's changes at once; closing one keeps the others open."""
    one, other = harness.open_for_test(), harness.open_for_test()
    assert one.location == other.location, "location is the same for every handle on one storage"
    assert (one.limits, one.capabilities) == (other.limits, other.capabilities), "limits and capabilities are constant"
    data = pseudo_random_bytes(harness.part_size(one), "shared")
    upload = harness.begin(one, "shared")
    upload.must_be_pending("an upload is listed as soon as initiate_upload returns", other)
    part = upload.send(1, data)
    upload.backend = other
    upload.must_hold([part], "a part is listed as soon as upload_part returns")
    assert one.head_object(upload.key) is None, "before complete_upload returns, there is no object"
    upload.complete([part])
    assert stored_size(one, upload.key) == len(data), "head_object returns the object as it is now"
    other.put_object(upload.key, body_of(other, b"replaced"), NO_OPTIONS)
    assert stored_size(one, upload.key) == len(b"replaced"), "head_object returns the object as it is now"
    one.close()
    assert stored_size(other, upload.key) == len(b"replaced"), "closing a handle does not close the others"


@CHECKS.covers(3)
def check_listing_is_as_declared(harness: BackendHarness) -> None:
    """Listings work, or raise UnsupportedOption if declared so."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "listing")
    if backend.capabilities.lists_parts:
        upload.must_hold([], "capabilities.lists_parts is True")
    else:
        duty = "capabilities.lists_parts is False"
        must_raise(UnsupportedOption, duty, listed_parts, backend, upload.key, upload.upload_id)
    if backend.capabilities.lists_uploads:
        upload.must_be_pending("capabilities.lists_uploads is True")
    else:
        duty = "capabilities.lists_uploads is False"
        must_raise(UnsupportedOption, duty, pending_ids, backend, upload.key)


@CHECKS.covers(5)
def check_close(harness: BackendHarness) -> None:
    """Close is idempotent; every later call raises BackendClosed."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "closed")
    part = upload.send(1, b"x", is_last=True)
    calls = calls_of_every_method(backend, upload, part)
    backend.close()
    must_return("closing twice is not an error", backend.close)
    for operation, call in calls.items():
        must_raise(BackendClosed, f"{operation} after close", call)
    assert harness.read(upload.key) is None, "nothing is stored after close"


@CHECKS.covers(6)
def check_pickle(harness: BackendHarness) -> None:
    """A pickled handle uses the same storage; if not supported, it is a TypeError."""
    backend = harness.open_for_test()
    if not harness.picklable:
        must_raise(TypeError, "the backend is declared not picklable", pickle.dumps, backend)
        return
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "pickled")
    copy = cast("MultipartBackend", pickle.loads(pickle.dumps(backend)))  # noqa: S301  # trusted bytes
    with closing(copy):
        assert (copy.location, copy.limits) == (backend.location, backend.limits), "the copy reaches the same storage"
        assert copy.capabilities == backend.capabilities, "the copy has the same capabilities"
        duty = "an upload is continued by an unpickled handle"
        part = must_return(duty, copy.upload_part, upload.key, upload.upload_id, 1, body_of(copy, data))
    upload.complete([part])
    must_be_stored(harness, upload.key, data, "a part sent through an unpickled handle is stored")


# --- failures --------------------------------------------------------------------------------------------------------


@CHECKS.covers(36, 37, behaviours=(kind.__name__ for kind in _FAILURES))
def check_failures_of_the_storage(harness: BackendHarness) -> None:
    """Every method raises the right error for each kind of failure of the storage."""
    if not harness.gives("open_failing"):
        raise harness.without("open_failing")
    upload, part = harness.begin_with_part("failing")
    tried = 0
    for kind in _FAILURES:
        # One at a time, so that one switch of a proxy or a test server is enough.
        backend = harness.open_failing(kind)
        if backend is None:
            name = kind.__name__
            harness.note_missing("open_failing", name, f"whether this failure of the storage is {name}")
            continue
        tried += 1
        with closing(backend), harness.behaviour(kind.__name__):
            harness.start_failing(backend)
            for operation, call in calls_of_every_method(backend, upload, part).items():
                duty = f"{operation} on a storage that fails by {kind.__name__}"
                if operation == "head_object" and kind in harness.unseen_by_head:
                    _check_head_that_fails(kind, duty, call)
                    continue
                error = must_raise(kind, duty, call)
                if kind not in _OF_EITHER_KIND:
                    assert error.retryable == kind.default_retryable, f"{duty}: retryable is {kind.default_retryable}"
                if kind is ConnectionFailed:
                    assert error.__cause__ is not None, f"{duty}: the error has its cause"
    if not tried:
        raise harness.without("open_failing")


def _check_head_that_fails(kind: type[BackendError], duty: str, head_object: Callable[[], object]) -> None:
    """Check a failure that a response without a body does not name."""
    try:
        found = head_object()
    except BackendError:
        return
    assert kind is BucketNotFound, f"{duty}: a BackendError is raised"
    assert found is None, f"{duty}: it is a BackendError or None"


@CHECKS.covers(37)
def check_retry_after(harness: BackendHarness) -> None:
    """The seconds that the storage asks to wait are in `retry_after` of the error."""
    if not harness.gives("open_failing"):
        raise harness.without("open_failing")
    upload, part = harness.begin_with_part("failing")
    tried = 0
    for kind in (Throttled, ServerFailed):
        backend = harness.open_failing(kind, retry_after=7)
        if backend is None:
            continue
        tried += 1
        with closing(backend):
            harness.start_failing(backend)
            for operation, call in calls_of_every_method(backend, upload, part).items():
                duty = f"{operation} on a storage that asks to wait 7 s ({kind.__name__})"
                waits = must_raise(BackendError, duty, call).retry_after
                # A date is rounded to seconds, and some time has passed since.
                assert waits is not None and 5 <= waits <= 8, f"{duty}: retry_after is 7, not {waits}"  # noqa: PT018
    if not tried:
        harness.note_missing("open_failing", "retry_after", "whether retry_after is kept")
        raise NotApplicable("open_failing opens no handle with retry_after")


@CHECKS.covers(37)
def check_refusals_are_permanent(harness: BackendHarness) -> None:
    """Errors that a retry can't fix are not retryable."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "permanent")
    never_sent = UploadedPart(1, harness.part_size(backend), "no-such-etag")
    errors: list[BackendError] = [must_raise(PartRejected, "the part was never sent", upload.complete, [never_sent])]
    part = upload.send(1, pseudo_random_bytes(harness.part_size(backend), "permanent"))
    upload.complete([part])
    errors.append(must_raise(UploadNotFound, "the upload was completed", upload.send, 2, b"x"))
    if "forbid_overwrite" in backend.capabilities.options:
        put(harness, backend, "permanent", b"x")
        forbid = ObjectOptions(forbid_overwrite=True)
        duty = "forbid_overwrite is set"
        errors.append(must_raise(ObjectExists, duty, put, harness, backend, "permanent", b"y", forbid))
    for error in errors:
        assert not error.retryable, f"{type(error).__name__} is permanent: a retry can't fix it"


@CHECKS.covers(39)
def check_lost_responses(harness: BackendHarness) -> None:
    """Repeating an operation whose response was lost has the same result."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend), "lost")
    key = harness.key("lost")
    changing = ("initiate_upload", "upload_part", "complete_upload", "abort_upload", "put_object")
    plan = FaultPlan([Fault(operation, FaultKind.AFTER) for operation in changing])
    faulty = FaultyBackend(backend, plan)
    lost = "the response is lost"
    with plan:
        must_raise(ConnectionFailed, lost, harness.begin, faulty, "lost")
        if backend.capabilities.lists_uploads:
            orphans = pending_ids(backend, key)
            assert len(orphans) == 1, "list_uploads finds an upload whose id was lost"
        else:
            orphans = [harness.begin(backend, "lost").upload_id]
        upload = harness.begin(faulty, "lost")
        must_raise(ConnectionFailed, lost, faulty.abort_upload, key, orphans[0])
        must_return("aborting again is not an error", faulty.abort_upload, key, orphans[0])
        upload.must_be_pending("aborting again does not affect other uploads", backend)
        if backend.capabilities.aborts:
            upload.must_be_the_only_one("an upload that was aborted twice is not pending", backend)
        must_raise(ConnectionFailed, lost, upload.send, 1, data)
        part = upload.send(1, data)
        upload.must_hold([part], "sending a part again results in one part")
        must_raise(ConnectionFailed, lost, upload.complete, [part])
        assert stored_size(backend, key) == len(data), "head_object shows that the object exists"
        upload.complete_again([part])
        must_be_stored(harness, key, data, "completing again does not change the object")
        must_raise(ConnectionFailed, lost, put, harness, faulty, "lost", b"put")
        put(harness, faulty, "lost", b"put")
        must_be_stored(harness, key, b"put", "putting again results in the same object")


@CHECKS.covers(40)
def check_delays_change_nothing(harness: BackendHarness) -> None:
    """A wrapper that delays each call changes nothing."""
    backend = harness.open_for_test()
    operations = [name for name in BACKEND_OPERATIONS if _is_offered(name, backend)]
    waited: list[float] = []
    plan = FaultPlan([Fault(name, FaultKind.DELAY, seconds=1.0) for name in operations], sleep=waited.append)
    data = pseudo_random_bytes(harness.part_size(backend), "delayed")
    delayed = FaultyBackend(backend, plan)
    with plan:
        upload = harness.begin(delayed, "delayed")
        upload.must_be_pending("the upload is listed")
        part = upload.send(1, data)
        upload.must_hold([part], "the part is listed")
        upload.complete([part])
        must_be_stored(harness, upload.key, data, "the object exists")
        put(harness, delayed, "delayed", b"put")
        assert stored_size(delayed, upload.key) == 3, "the object was replaced"
        upload.abort()
    assert waited == [1.0] * len(operations), "each operation was delayed once"


def _is_offered(operation: str, backend: MultipartBackend) -> bool:
    offers = {"list_parts": backend.capabilities.lists_parts, "list_uploads": backend.capabilities.lists_uploads}
    return offers.get(operation, True)
