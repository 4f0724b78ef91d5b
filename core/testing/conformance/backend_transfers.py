"""What only large, many, damaged or concurrent transfers show (42 to 48)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from attrs import evolve

from partwise.checksums import Checksum
from partwise.errors import (
    BackendError,
    ConnectionFailed,
    IntegrityError,
    PartRejected,
    PartwiseError,
    ServerFailed,
    Throttled,
    UploadUnusable,
)
from partwise.model import KIB, MIB, StoredObject, UploadedPart
from partwise.protocols import Body, MultipartBackend, SupportsPipelining
from partwise.testing.conformance.backend_harness import (
    NO_OPTIONS,
    BackendHarness,
    body_of,
    calls_of_every_method,
    frequent_switches,
    listed_parts,
    must_be_stored,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.fakes import StrictBody, pseudo_random_bytes

CHECKS: Suite[BackendHarness] = Suite()

_Made = TypeVar("_Made")


# --- memory ----------------------------------------------------------------------------------------------------------

_LARGE = 8 * MIB
_LARGE_ENOUGH = 4 * MIB
_PIECE = 64 * KIB
_FRAMES = 40


class _LargeBody(StrictBody):
    """
    A body that measures the memory which the call that reads it holds at its end.

    It does so only if the process holds at least `allowed` bytes.
    """

    def __init__(self, size: int, checksum: Checksum, allowed: int) -> None:
        super().__init__(bytes(size), chunk_size=_PIECE, checksum=checksum)
        self.held = 0
        self._allowed = allowed

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        left = len(self)
        for chunk in super().chunks(counted=counted):
            left -= len(chunk)
            if left == 0:
                self._measure()
            yield chunk
        self._measure()

    def _measure(self) -> None:
        if tracemalloc.get_traced_memory()[0] < self._allowed:
            return  # all threads together hold less
        # Only what was allocated below `_send_large`: a server in this process has other threads, which may hold more.
        traces = sorted(tracemalloc.take_snapshot().traces, key=lambda trace: trace.size, reverse=True)
        held, left = 0, sum(trace.size for trace in traces)
        ours: dict[tracemalloc.Traceback, bool] = {}  # the pieces of a body have a few places in common
        for trace in traces:
            if held + left < self._allowed:
                break  # there are thousands of small ones, and all of them together change nothing
            left -= trace.size
            place = trace.traceback
            if place not in ours:
                ours[place] = any(frame.filename == __file__ for frame in place)
            if ours[place]:
                held += trace.size
        self.held = max(self.held, held)


def _send_large(checksum: Checksum, send: Callable[[Body], object], size: int, duty: str) -> None:
    allowed = size // 2
    body = _LargeBody(size, checksum, allowed)
    before = tracemalloc.get_traceback_limit() if tracemalloc.is_tracing() else 0
    tracemalloc.stop()
    tracemalloc.start(_FRAMES)
    try:
        send(body)
    finally:
        tracemalloc.stop()
        if before:
            tracemalloc.start(before)
    assert body.held < allowed, f"{duty}: of {size} bytes, {body.held} are held in memory at the end of the body"


@CHECKS.covers(42, behaviours=("upload_part", "put_object"))
def check_bodies_are_not_held_in_memory(harness: BackendHarness) -> None:
    """A large body is sent in pieces: the backend never holds most of it."""
    backend = harness.open_for_test()
    checksum = backend.capabilities.checksum
    part_size = min(_LARGE, backend.limits.max_part_size)
    put_size = min(_LARGE, backend.limits.max_put_size)
    if max(part_size, put_size) < _LARGE_ENOUGH:
        raise NotApplicable(f"the limits allow no body of {_LARGE_ENOUGH} bytes")
    if part_size >= _LARGE_ENOUGH:
        with harness.behaviour("upload_part"):
            upload = harness.begin(backend, "large")
            duty = "upload_part sends the chunks of a body one by one"
            _send_large(
                checksum, lambda body: backend.upload_part(upload.key, upload.upload_id, 1, body), part_size, duty
            )
            upload.abort()
    if put_size >= _LARGE_ENOUGH:
        with harness.behaviour("put_object"):
            duty = "put_object sends the chunks of a body one by one"
            _send_large(
                checksum, lambda body: backend.put_object(harness.key("large"), body, NO_OPTIONS), put_size, duty
            )


# --- progress --------------------------------------------------------------------------------------------------------


@CHECKS.covers(49, behaviours=("upload_part", "put_object", "begin_part"))
def check_bodies_are_counted_once(harness: BackendHarness) -> None:
    """The bytes of a body are read once as sent; other readings have counted=False."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend), "counted")
    upload = harness.begin(backend, "counted")
    duty = "reads a body with counted=True once, as it is sent, since progress and bandwidth limits follow these bytes"
    with harness.behaviour("upload_part"):
        body = body_of(backend, data)
        backend.upload_part(upload.key, upload.upload_id, 1, body)
        assert body.bytes_read == len(data), f"upload_part {duty}; it read {body.bytes_read} of {len(data)} bytes so"
    with harness.behaviour("put_object"):
        body = body_of(backend, data)
        backend.put_object(harness.key("counted-put"), body, NO_OPTIONS)
        assert body.bytes_read == len(data), f"put_object {duty}; it read {body.bytes_read} of {len(data)} bytes so"
    if isinstance(backend, SupportsPipelining):
        with harness.behaviour("begin_part"):
            body = body_of(backend, data)
            backend.begin_part(upload.key, upload.upload_id, 1, body)()
            assert body.bytes_read == len(data), f"begin_part {duty}; it read {body.bytes_read} of {len(data)} bytes so"


# --- several bodies at the same time ---------------------------------------------------------------------------------

_THREADS = 4
_PIECES = 16


class _WaitingBody(StrictBody):
    """A body whose pieces are yielded at the same time as those of other bodies."""

    def __init__(self, data: bytes, checksum: Checksum, barrier: threading.Barrier) -> None:
        super().__init__(data, chunk_size=max(1, len(data) // _PIECES), checksum=checksum)
        self._barrier = barrier

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        for chunk in super().chunks(counted=counted):
            self._wait()
            yield chunk

    def _wait(self) -> None:
        # A backend that reads one body after the other never meets the others here. It is slow, and not wrong.
        try:
            self._barrier.wait(3.0)
        except threading.BrokenBarrierError:
            return


@CHECKS.covers(43)
def check_bodies_sent_at_the_same_time(harness: BackendHarness) -> None:
    """Threads that send pieces of their bodies in turns do not share a buffer."""
    backend = harness.open_for_test()
    size = min(max(harness.part_size(backend), 512 * KIB), backend.limits.max_part_size, backend.limits.max_put_size)
    contents = [pseudo_random_bytes(size, ("same time", n)) for n in range(_THREADS)]
    uploads = [harness.begin(backend, f"same-time/{n}") for n in range(_THREADS)]
    barrier = threading.Barrier(_THREADS)

    def send(n: int) -> UploadedPart:
        body = _WaitingBody(contents[n], backend.capabilities.checksum, barrier)
        return backend.upload_part(uploads[n].key, uploads[n].upload_id, 1, body)

    def put(n: int) -> StoredObject:
        body = _WaitingBody(contents[n], backend.capabilities.checksum, barrier)
        return backend.put_object(harness.key(f"same-time-put/{n}"), body, NO_OPTIONS)

    with frequent_switches(), ThreadPoolExecutor(max_workers=_THREADS) as pool:
        parts = list(pool.map(send, range(_THREADS)))
        barrier.reset()
        list(pool.map(put, range(_THREADS)))
    for n, upload in enumerate(uploads):
        upload.complete([parts[n]])
        must_be_stored(harness, upload.key, contents[n], "parts that are sent at the same time are not mixed up")
        must_be_stored(
            harness,
            harness.key(f"same-time-put/{n}"),
            contents[n],
            "objects that are put at the same time are not mixed up",
        )


# --- many entries ----------------------------------------------------------------------------------------------------

_SMALL = 4 * KIB


@CHECKS.covers(23)
def check_more_parts_than_a_page(harness: BackendHarness) -> None:
    """Parts are listed completely if there are more than on a page of the storage."""
    backend = harness.open_for_test()
    if not backend.capabilities.lists_parts:
        raise NotApplicable("the backend does not list parts, as declared")
    count = _more_than_a_page(harness)
    if count > backend.limits.max_parts:
        raise NotApplicable(f"an upload has at most {backend.limits.max_parts} parts, which is within one page")
    size = 1
    if backend.capabilities.sequential:  # such a storage may look at the sizes of parts when they arrive
        size = harness.part_size(backend)
        if size > _SMALL:
            raise NotApplicable(f"parts have at least {size} bytes, as declared, and {count} of them take long")
    upload = harness.begin(backend, "many-parts")

    def send(number: int) -> UploadedPart:
        data = bytes([number % 256]) * size
        return upload.send(number, data, offset=(number - 1) * size, is_last=number == count)

    sent = _in_threads(backend, send, range(1, count + 1))
    listed = listed_parts(backend, upload.key, upload.upload_id)
    assert len(listed) == count, f"all {count} parts are listed, across pages of the storage, not {len(listed)}"
    assert listed == sent, "the parts of all pages are listed in ascending order, as upload_part returned them"
    upload.abort()


@CHECKS.covers(20, 23)
def check_more_uploads_than_a_page(harness: BackendHarness) -> None:
    """Uploads are listed completely if there are more than on a page of the storage."""
    backend = harness.open_for_test()
    if not backend.capabilities.lists_uploads:
        raise NotApplicable("the backend does not list uploads, as declared")
    count = _more_than_a_page(harness)
    # A key begins two entries before the end of the page: none of its uploads may be lost there.
    of_one_key = 1 if backend.capabilities.one_upload_per_key else 4
    start = (of_one_key - 1) * count + 3
    uploads = _in_threads(
        backend, lambda n: harness.begin(backend, f"many/{(start + n) // of_one_key:06}"), range(count)
    )
    begun = sorted((upload.key, upload.upload_id) for upload in uploads)
    listed = sorted((pending.key, pending.upload_id) for pending in backend.list_uploads(harness.key("many/")))
    assert len(listed) == count, (
        f"{count} calls of initiate_upload make {count} uploads, and list_uploads returns them all, not {len(listed)}"
    )
    assert listed == begun, "list_uploads returns each upload once"


def _more_than_a_page(harness: BackendHarness) -> int:
    if harness.page_size is None:
        raise NotApplicable("the harness sets BackendHarness.page_size to None")
    return harness.page_size + 1


def _in_threads(backend: MultipartBackend, call: Callable[[int], _Made], values: Sequence[int]) -> list[_Made]:
    workers = 1 if backend.capabilities.sequential else 8
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(call, values))


# --- failures --------------------------------------------------------------------------------------------------------


@CHECKS.covers(44)
def check_failures_are_not_retried(harness: BackendHarness) -> None:
    """The first request of a call that fails ends the call: the engine retries."""
    if harness.requests() is None:
        raise harness.without("requests")
    if not harness.gives("open_failing"):
        raise harness.without("open_failing")
    at_first = harness.requests() or 0
    upload, part = harness.begin_with_part("retried")
    counts = (harness.requests() or 0) > at_first
    tried = False
    for kind in (ServerFailed, Throttled, ConnectionFailed):
        backend = harness.open_failing(kind)
        if backend is None:
            continue
        tried = True
        with closing(backend):
            harness.start_failing(backend)
            for operation, call in calls_of_every_method(backend, upload, part).items():
                before = harness.requests() or 0
                duty = f"{operation} on a storage that fails by {kind.__name__}"
                must_raise(BackendError, duty, call)
                made = (harness.requests() or 0) - before
                assert made <= 1, f"{duty}: the backend makes one request and raises, not {made}: the engine retries"
    if not tried:
        raise harness.without("open_failing")
    assert counts, "the hook `requests` counts the requests of every handle: it counted none of those that succeeded"


@CHECKS.covers(46, behaviours=("upload_part", "put_object"))
def check_damaged_bodies(harness: BackendHarness) -> None:
    """Damage on the way is an IntegrityError, or the storage's checksum shows it."""
    data = pseudo_random_bytes(harness.part_size(harness.open_for_test()), "damaged")
    upload = harness.begin(harness.open_for_test(), "damaged")
    with harness.behaviour("upload_part"):
        duty = "a part arrives with a flipped bit"
        capabilities = upload.backend.capabilities
        error = _send_damaged(
            harness,
            duty,
            data,
            lambda backend, body: backend.upload_part(upload.key, upload.upload_id, 1, body),
            # A storage may report the checksum of the object alone: then the object must not be as if it were right.
            upload.complete if capabilities.object_checksums and not capabilities.part_checksums else None,
        )
        assert error is None or error.retryable, f"{duty}: the IntegrityError is retryable: the part can be sent again"
        if error is not None or capabilities.part_checksums:
            part = must_return("after a damaged part, it can be sent again", upload.send, 1, data)
            upload.must_complete([part], data, "a damaged part")
    with harness.behaviour("put_object"):
        key = harness.key("damaged-put")
        duty = "an object arrives with a flipped bit"
        _send_damaged(harness, duty, data, lambda backend, body: backend.put_object(key, body, NO_OPTIONS))


def _send_damaged(
    harness: BackendHarness,
    duty: str,
    data: bytes,
    send: Callable[[MultipartBackend, Body], UploadedPart | StoredObject],
    complete: Callable[[Sequence[UploadedPart]], StoredObject] | None = None,
) -> IntegrityError | None:
    """Return the error of sending; None if a later step shows the damage."""
    backend = harness.open_damaging()
    if backend is None:
        raise harness.without("open_damaging")
    body = body_of(backend, data)
    with closing(backend):
        try:
            stored = send(backend, body)
        except IntegrityError as error:
            return error
        except PartwiseError as error:
            raise AssertionError(
                f"{duty}: expected IntegrityError, and {type(error).__name__} was raised: {error}"
            ) from error
    if complete is not None and isinstance(stored, UploadedPart):
        duty = f"{duty}, and the upload is completed"
        try:
            stored = complete([evolve(stored, checksum=body.checksum)])
        except (IntegrityError, PartRejected, UploadUnusable):
            return None
    reported = "the storage's checksum, which differs from that of the body"
    assert stored.checksum not in (None, body.checksum), (
        f"{duty}: it is an IntegrityError, or the result has {reported}"
    )
    return None


@CHECKS.covers(47)
def check_errors_in_the_body_of_a_response(harness: BackendHarness) -> None:
    """An error in a response of status 200 to complete_upload is raised."""
    failing = harness.open_failing_in_body()
    if failing is None:
        raise harness.without("open_failing_in_body")
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend), "in-body")
    upload = harness.begin(backend, "in-body")
    part = upload.send(1, data)
    duty = "the response to complete_upload has status 200 and an error in its body"
    with closing(failing):
        error = must_raise(
            BackendError, duty, failing.complete_upload, upload.key, upload.upload_id, [part], NO_OPTIONS
        )
    assert error.retryable, f"{duty}: {type(error).__name__} is retryable, as that of status 500 is"
    must_return(f"{duty}: completing again creates the object", upload.complete, [part])
    must_be_stored(harness, upload.key, data, f"{duty}: completing again creates the object")


# --- another process -------------------------------------------------------------------------------------------------

# The location is read before and after the part: it must not depend on what a handle has done.
_IN_A_CHILD = """
import pickle, sys
sys.path[:0] = pickle.load(sys.stdin.buffer)
opener, key, upload_id, data = pickle.load(sys.stdin.buffer)
from partwise.testing import StrictBody
backend = opener()
locations = {backend.location}
body = StrictBody(data, checksum=backend.capabilities.checksum, offset=len(data))
part = backend.upload_part(key, upload_id, 2, body)
locations.add(backend.location)
backend.close()
pickle.dump((sorted(locations), part), sys.stdout.buffer)
"""


class _Unpickle:
    """Opens a handle in another process by unpickling one."""

    def __init__(self, backend: MultipartBackend) -> None:
        self.backend = backend

    def __call__(self) -> MultipartBackend:
        return self.backend


@CHECKS.covers(45)
def check_another_process(harness: BackendHarness) -> None:
    """In another process the location is the same, and an upload is resumed."""
    backend = harness.open_for_test()
    opener = harness.elsewhere()
    if is_guess := opener is None:
        if not harness.picklable:
            raise harness.without("elsewhere")
        opener = _Unpickle(backend)
    size = harness.part_size(backend)
    one, two = pseudo_random_bytes(size, "here"), pseudo_random_bytes(size, "elsewhere")
    upload = harness.begin(backend, "elsewhere")
    part = upload.send(1, one)
    given = pickle.dumps(sys.path) + pickle.dumps((opener, upload.key, upload.upload_id, two))
    child = subprocess.run(  # noqa: S603  # fixed code in this interpreter
        [sys.executable, "-c", _IN_A_CHILD],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    if child.returncode:
        said = child.stderr.decode(errors="replace").strip()
        if is_guess:
            raise NotApplicable(
                f"an unpickled handle can't be used in another process; give `elsewhere`: {said[-200:]}"
            )
        raise AssertionError(f"a handle works in another process, and this was raised there:\n{said[-2000:]}")
    locations, other = pickle.loads(child.stdout)  # noqa: S301  # from the child
    assert locations == [backend.location], (
        f"location is the same in every process: {backend.location} here, and {locations} in another one;"
        " otherwise no upload is ever resumed"
    )
    upload.complete([part, other])
    must_be_stored(harness, upload.key, one + two, "an upload is resumed in another process")
