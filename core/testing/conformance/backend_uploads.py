"""Uploads: initiate, send, list, complete, abort, resume (7 to 26)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

from attrs import evolve

from partwise.errors import BackendError, ObjectExists, PreconditionFailed, SourceChanged, UploadNotFound
from partwise.model import MIB, ObjectOptions, UploadedPart
from partwise.protocols import MultipartBackend, SupportsPipelining
from partwise.testing.conformance.backend_harness import (
    NO_OPTIONS,
    WAYS,
    BackendHarness,
    body_of,
    frequent_switches,
    listed_parts,
    must_be_stored,
    must_not_be_found,
    must_succeed_or_refuse,
    part_contents,
    put,
    skip_if_sequential,
    skip_unless_lists_parts,
    skip_unless_lists_uploads,
    skip_unless_replaces_parts,
    skip_unless_supports,
    stored_size,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.oracles import slow_checksum

CHECKS: Suite[BackendHarness] = Suite()

#: Ids that were never returned by initiate.
UNKNOWN_IDS = ("no-such-upload", "0" * 32)

#: The same, of a form that no id has. Some look like paths, and must not be used as paths.
MALFORMED_IDS = ("../..", "a/b", "ä b", "x" * 300)


# --- making an object ------------------------------------------------------------------------------------------------


@CHECKS.covers(7)
def check_complete(harness: BackendHarness) -> None:
    """Initiate, send, complete: the object is its parts, as the results say."""
    backend = harness.open_for_test()
    contents = part_contents(harness.part_size(backend), 3, "complete")
    upload = harness.begin(backend, "object")
    parts = upload.send_all(contents)
    described = [(part.part_number, part.size) for part in parts]
    assert described == [(n, len(content)) for n, content in enumerate(contents, 1)], "a part has its number and size"
    stored = upload.complete(parts)
    must_be_stored(harness, upload.key, b"".join(contents), "the object is its parts in ascending order")
    assert (stored.key, stored.size) == (upload.key, sum(map(len, contents))), "the result describes the object"
    upload.must_not_be_pending("the upload is completed")


@CHECKS.covers(7, 16)
def check_put_object(harness: BackendHarness) -> None:
    """`put_object` stores an object, even an empty one, and replaces another."""
    backend = harness.open_for_test()
    key = harness.key("put")
    for data in (b"one", b"another that is longer", b""):
        stored = backend.put_object(key, body_of(backend, data), NO_OPTIONS)
        assert (stored.key, stored.size) == (key, len(data)), "the result describes the object"
        must_be_stored(harness, key, data, "the object has the bytes of the body")


@CHECKS.covers(7)
def check_head_object(harness: BackendHarness) -> None:
    """`head_object` describes an object as storing it did; None if there is none."""
    backend = harness.open_for_test()
    assert backend.head_object(harness.key("nothing")) is None, "head_object returns None if there is no object"
    data = pseudo_random_bytes(harness.part_size(backend) + 1)
    for way, store in WAYS.items():
        stored = store(harness, backend, way, data)
        found = backend.head_object(harness.key(way))
        assert found is not None, f"head_object finds an object stored by {way}"
        described = (found.key, found.size, found.etag)
        assert described == (stored.key, len(data), stored.etag), f"head_object agrees with the result of {way}"


@CHECKS.covers(8)
def check_complete_without_parts(harness: BackendHarness) -> None:
    """Complete without parts is refused, or makes an empty object, as declared."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "no-parts")
    part = upload.send(1, data)
    if harness.completes_without_parts:
        assert upload.complete([]).size == 0, "an object without parts is empty"
        must_be_stored(harness, upload.key, b"", "an object without parts is empty")
    else:
        upload.must_refuse([], "there are no parts")
        upload.must_complete([part], data, "complete without parts")


@CHECKS.covers(9)
def check_sizes_at_the_edges(harness: BackendHarness) -> None:
    """Sizes around multiples of several part sizes, by parts and by put."""
    backend = harness.open_for_test()
    least, most = harness.part_size(backend), backend.limits.max_part_size
    for part_size in sorted({least, min(least + 1, most), min(3 * least // 2, max(least, MIB), most)}):
        for size in sorted({1, part_size - 1, part_size, part_size + 1, 2 * part_size, 2 * part_size + 1} - {0}):
            data = pseudo_random_bytes(size, (part_size, size))
            what = f"{size} bytes in parts of {part_size}"
            upload = harness.begin(backend, f"edge-{part_size}-{size}")
            parts = upload.send_all(data[at : at + part_size] for at in range(0, size, part_size))
            assert upload.complete(parts).size == size, f"{what}: the result has the right size"
            must_be_stored(harness, upload.key, data, f"{what}: the object has the right bytes")
            assert put(harness, backend, "edge", data).size == size, f"{size} bytes by put: right size"
            must_be_stored(harness, harness.key("edge"), data, f"{size} bytes by put: right bytes")


# --- sending ---------------------------------------------------------------------------------------------------------


@CHECKS.covers(10)
def check_parts_in_any_order(harness: BackendHarness) -> None:
    """Parts may be sent in any order; the object has them in ascending order."""
    backend = harness.open_for_test()
    skip_if_sequential(backend)
    contents = part_contents(harness.part_size(backend), 4, "order")
    for order in ((4, 3, 2, 1), (1, 3, 4, 2)):
        upload = harness.begin(backend, f"order-{order[0]}")
        parts = {number: upload.send(number, contents[number - 1]) for number in order}
        upload.complete([parts[number] for number in (1, 2, 3, 4)])
        must_be_stored(harness, upload.key, b"".join(contents), f"sent in the order {order}, ascending in the object")


@CHECKS.covers(10)
def check_last_part_that_is_not_known(harness: BackendHarness) -> None:
    """A part is not known to be the last one, as in a stream, until complete_upload."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    contents = [pseudo_random_bytes(size, ("not known", n)) for n in (1, 2)]
    upload = harness.begin(backend, "not-known")
    parts = [
        upload.send(number, data, offset=(number - 1) * size, is_last=False)
        for number, data in enumerate(contents, start=1)
    ]
    duty = "the last part of a stream has is_last=False if the stream is a multiple of the part size"
    must_return(duty, upload.complete, parts)
    must_be_stored(harness, upload.key, b"".join(contents), duty)


@CHECKS.covers(11)
def check_many_threads(harness: BackendHarness) -> None:
    """Parts of several uploads are sent concurrently; none is lost or mixed up."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    duty = "parts that are sent concurrently are not mixed up"
    with ThreadPoolExecutor(max_workers=8) as pool:
        uploads = list(pool.map(lambda n: harness.begin(backend, f"thread-{n}"), range(4)))
        assert len({upload.upload_id for upload in uploads}) == len(uploads), "every upload has a unique id"
        contents = {upload.key: part_contents(size, 4, upload.key) for upload in uploads}
        # Round-robin, so that consecutive jobs belong to different uploads.
        numbers = (1, 2, 3, 4) if backend.capabilities.sequential else (4, 2, 1, 3)
        parts: dict[tuple[str, int], UploadedPart] = {}
        for together in [[n] for n in numbers] if backend.capabilities.sequential else [numbers]:
            jobs = [(upload, number) for number in together for upload in uploads]
            sent = pool.map(lambda job: job[0].send(job[1], contents[job[0].key][job[1] - 1]), jobs)
            results = must_return(duty, list, sent)
            parts |= {(upload.key, number): part for (upload, number), part in zip(jobs, results, strict=True)}
        complete = pool.map(lambda upload: upload.complete([parts[upload.key, n] for n in (1, 2, 3, 4)]), uploads)
        done = must_return(duty, list, complete)
        assert [stored.key for stored in done] == [upload.key for upload in uploads], "each upload makes its own object"
    for key, expected in contents.items():
        must_be_stored(harness, key, b"".join(expected), duty)


@CHECKS.covers(11)
def check_pipelined_parts(harness: BackendHarness) -> None:
    """Pipelined parts are returned as if sent alone, in any order of responses."""
    backend = harness.open_for_test()
    if not isinstance(backend, SupportsPipelining):
        raise NotApplicable("the backend does not offer SupportsPipelining")
    skip_if_sequential(backend)
    contents = part_contents(harness.part_size(backend), 4, "pipelined")
    upload = harness.begin(backend, "pipelined")
    bodies = [body_of(backend, content) for content in contents]
    responses = [backend.begin_part(upload.key, upload.upload_id, n, body) for n, body in enumerate(bodies, 1)]
    assert [body.checksum for body in bodies] == [
        slow_checksum(backend.capabilities.checksum, content) for content in contents
    ], "begin_part reads the whole body"
    error = SourceChanged("it was cut short")
    failing = body_of(backend, b"", declared=len(contents[1]), error=error)
    raised = must_raise(SourceChanged, "the body failed", backend.begin_part, upload.key, upload.upload_id, 2, failing)
    assert raised is error, "begin_part re-raises an error of the body unchanged"

    def send_to_unknown_upload() -> UploadedPart:
        return backend.begin_part(upload.key, "no-such-upload", 1, body_of(backend, b"x"))()

    must_raise(UploadNotFound, "the upload does not exist", send_to_unknown_upload)
    parts = {number: responses[number - 1]() for number in (3, 1, 4, 2)}
    described = {number: (part.part_number, part.size) for number, part in parts.items()}
    expected = {number: (number, len(content)) for number, content in enumerate(contents, 1)}
    assert described == expected, "each response is that of its own part"
    upload.must_hold([parts[number] for number in (1, 2, 3, 4)], "a part is stored once its response was read")
    upload.complete([parts[number] for number in (1, 2, 3, 4)])
    must_be_stored(harness, upload.key, b"".join(contents), "pipelined parts are not mixed up")


@CHECKS.covers(12)
def check_part_sent_again(harness: BackendHarness) -> None:
    """Sending the same part again results in one part; the last result counts."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "again")
    upload.send(1, data)
    part = must_return("a part can be sent again", upload.send, 1, data)
    upload.must_hold([part], "a part that was sent twice is listed once")
    upload.complete([part])
    must_be_stored(harness, upload.key, data, "the object has the part once")


@CHECKS.covers(12)
def check_part_replaced(harness: BackendHarness) -> None:
    """Sending other, even fewer, bytes with the same number replaces the part."""
    backend = harness.open_for_test()
    skip_unless_replaces_parts(backend)
    first, last = pseudo_random_bytes(harness.part_size(backend), "first"), b"the last one"
    upload = harness.begin(backend, "replaced")
    upload.send(1, first)
    part = upload.send(1, last)
    upload.must_hold([part], "only the last part with a number is listed")
    upload.complete([part])
    must_be_stored(harness, upload.key, last, "the last part with a number is in the object")


# --- completing ------------------------------------------------------------------------------------------------------


@CHECKS.covers(13)
def check_missing_part(harness: BackendHarness) -> None:
    """A part that was never sent is a PartRejected; the upload stays usable."""
    backend = harness.open_for_test()
    contents = part_contents(harness.part_size(backend), 2, "missing")
    upload = harness.begin(backend, "missing")
    part = upload.send(1, contents[0])
    upload.must_refuse([part, evolve(part, part_number=2)], "part 2 was never sent")
    second = must_return("after a part was missing the upload is still usable", upload.send, 2, contents[1])
    upload.must_complete([part, second], b"".join(contents), "a part was missing")


@CHECKS.covers(13)
def check_other_parts_are_dropped(harness: BackendHarness) -> None:
    """Parts that are not passed to `complete_upload` are not in the object."""
    backend = harness.open_for_test()
    skip_if_sequential(backend)
    contents = part_contents(harness.part_size(backend), 3, "other-parts")
    upload = harness.begin(backend, "other-parts")
    upload.complete(upload.send_all(contents)[:2])
    must_be_stored(
        harness, upload.key, b"".join(contents[:2]), "the object has the parts passed to complete_upload only"
    )


@CHECKS.covers(14)
def check_stale_part(harness: BackendHarness) -> None:
    """Complete with a part that was replaced is refused; the upload stays usable."""
    backend = harness.open_for_test()
    skip_unless_replaces_parts(backend)
    old, new = (pseudo_random_bytes(harness.part_size(backend), age) for age in ("old", "new"))
    upload = harness.begin(backend, "stale")
    stale, part = upload.send(1, old), upload.send(1, new)
    upload.must_refuse([stale], "the part was sent again with other bytes")
    upload.must_complete([part], new, "a part was stale")


@CHECKS.covers(14)
def check_foreign_part(harness: BackendHarness) -> None:
    """Complete with a part of another upload is refused, and the upload stays usable."""
    backend = harness.open_for_test()
    other, own = (pseudo_random_bytes(harness.part_size(backend), seed) for seed in ("foreign", "own"))
    other_key = "foreign-other" if backend.capabilities.one_upload_per_key else "foreign"
    foreign = harness.begin(backend, other_key).send(1, other)
    upload = harness.begin(backend, "foreign")
    part = upload.send(1, own)
    upload.must_refuse([foreign], "the part is of another upload")
    upload.must_complete([part], own, "a part was foreign")


@CHECKS.covers(14)
def check_wrong_order(harness: BackendHarness) -> None:
    """Complete with unsorted or repeated parts is refused; it stays usable."""
    backend = harness.open_for_test()
    contents = [pseudo_random_bytes(harness.part_size(backend), n) for n in (1, 2)]
    upload = harness.begin(backend, "wrong-order")
    one, two = upload.send_all(contents)
    upload.must_refuse([two, one], "part 1 comes after part 2")
    upload.must_refuse([one, one, two], "part 1 is repeated")
    upload.must_complete([one, two], b"".join(contents), "the order was wrong")


@CHECKS.covers(15)
def check_invisible_until_complete(harness: BackendHarness) -> None:
    """Before `complete_upload` there is no object, or the previous one is unchanged."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    for before in (None, b"the previous one"):
        name = f"invisible-{before is None}"
        if before is not None:
            put(harness, backend, name, before)
        upload = harness.begin(backend, name)
        must_be_stored(harness, upload.key, before, "initiate_upload does not change the object")
        part = upload.send(1, data)
        must_be_stored(harness, upload.key, before, "upload_part does not change the object")
        assert stored_size(backend, upload.key) == (None if before is None else len(before)), "head_object agrees"
        upload.complete([part])
        must_be_stored(harness, upload.key, data, "complete_upload replaces the object")


@CHECKS.covers(16)
def check_replaced_atomically(harness: BackendHarness) -> None:
    """Reading an object while it is replaced returns the old or the new one."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    versions = [pseudo_random_bytes(size + n, ("version", n)) for n in range(6)]
    put(harness, backend, "watched", versions[0])
    seen: set[bytes | None] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(harness.read(harness.key("watched")))

    # A thread that only reads would keep the others from running for five milliseconds at a time.
    with frequent_switches(), ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            for version in versions:
                for store in WAYS.values():
                    store(harness, backend, "watched", version)
        finally:
            done.set()
        watching.result()
    assert None not in seen, "an object that is replaced exists at any time"
    assert seen <= set(versions), "an object that is replaced is read as the old one or the new one"


@CHECKS.covers(16, 36)
def check_forbid_overwrite(harness: BackendHarness) -> None:
    """With forbid_overwrite storing raises ObjectExists, and changes nothing."""
    backend = harness.open_for_test()
    skip_unless_supports(backend, "forbid_overwrite")
    forbid = ObjectOptions(forbid_overwrite=True)
    data = pseudo_random_bytes(harness.part_size(backend))
    if backend.capabilities.one_upload_per_key:
        # Storing the object would end an upload that was begun before.
        put(harness, backend, "forbidden", b"was first", forbid)
        upload = harness.begin(backend, "forbidden")
        part = upload.send(1, data)
    else:
        upload = harness.begin(backend, "forbidden", forbid)
        part = upload.send(1, data)
        put(harness, backend, "forbidden", b"was first", forbid)
    duty = "forbid_overwrite is set, and there is an object"
    must_raise(ObjectExists, duty, put, harness, backend, "forbidden", b"late", forbid)
    must_raise(ObjectExists, duty, harness.begin, backend, "forbidden", forbid)
    must_raise(ObjectExists, duty, upload.complete, [part], forbid)
    must_be_stored(harness, upload.key, b"was first", f"{duty}: it is unchanged")
    upload.must_be_the_only_one(f"{duty}: no other upload may be initiated")
    if "forbid_overwrite" in backend.capabilities.late_options:
        upload.must_complete([part], data, "overwriting was refused", NO_OPTIONS)
    else:
        upload.must_hold([part], "overwriting was refused, and the upload is unchanged")


#: Rounds and threads: what looks first and stores then lets two of them pass in almost every round.
_ROUNDS, _RIVALS = 5, 4


@CHECKS.covers(16)
def check_forbid_overwrite_at_once(harness: BackendHarness) -> None:
    """Of several that store an object with forbid_overwrite at once, one succeeds."""
    backend = harness.open_for_test()
    skip_unless_supports(backend, "forbid_overwrite")
    forbid = ObjectOptions(forbid_overwrite=True)
    ready = threading.Barrier(_RIVALS)

    def store(name: str, rival: int) -> bytes | None:
        data = b"stored by rival %d" % rival
        ready.wait(timeout=60)
        try:
            put(harness, backend, name, data, forbid)
        except BackendError as error:
            # Or an error that a retry resolves, as S3 reports requests that conflict.
            if not (isinstance(error, ObjectExists) or error.retryable):
                raise
            return None
        return data

    with ThreadPoolExecutor(_RIVALS) as threads:
        for round_number in range(_ROUNDS):
            name = f"rivals-{round_number}"
            results = list(threads.map(partial(store, name), range(_RIVALS)))
            stored = [data for data in results if data is not None]
            duty = f"{_RIVALS} calls of put_object with forbid_overwrite at once: one succeeds, not {len(stored)}"
            assert len(stored) == 1, f"{duty}: the storage has to refuse it; a look before the request is not enough"
            must_be_stored(harness, harness.key(name), stored[0], "the object is that of the call that succeeded")


@CHECKS.covers(16, 36)
def check_if_match(harness: BackendHarness) -> None:
    """With if_match only the object of that ETag is replaced; else nothing changes."""
    backend = harness.open_for_test()
    skip_unless_supports(backend, "if_match")
    first = ObjectOptions(if_match=put(harness, backend, "matched", b"first").etag)
    second = ObjectOptions(if_match=put(harness, backend, "matched", b"second", first).etag)
    data = pseudo_random_bytes(harness.part_size(backend))
    duty = "if_match is set, and the object has another ETag"
    must_raise(PreconditionFailed, duty, put, harness, backend, "matched", b"late", first)
    upload = harness.begin(backend, "matched", second)
    part = upload.send(1, data)
    if "if_match" in backend.capabilities.late_options:
        must_raise(PreconditionFailed, duty, upload.complete, [part], first)
        must_be_stored(harness, upload.key, b"second", f"{duty}: it is unchanged")
    elif not backend.capabilities.one_upload_per_key:  # where storing another object would end the upload
        third = ObjectOptions(if_match=put(harness, backend, "matched", b"third", second).etag)
        must_raise(PreconditionFailed, duty, upload.complete, [part])
        must_be_stored(harness, upload.key, b"third", f"{duty}: it is unchanged")
        upload = harness.begin(backend, "matched", third)
        part = upload.send(1, data)
    must_return("if_match names the object", upload.complete, [part])
    must_be_stored(harness, upload.key, data, "if_match names the object: it is replaced")
    must_raise(PreconditionFailed, "there is no object", put, harness, backend, "missing", b"x", second)
    assert harness.read(harness.key("missing")) is None, "if_match is set, and there is no object: none is stored"


@CHECKS.covers(19)
def check_complete_twice(harness: BackendHarness) -> None:
    """Complete again returns the same or raises UploadNotFound, and changes nothing."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "twice")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    stored = upload.complete(parts)
    again = upload.complete_again(parts)
    assert again is None or (again.size, again.etag) == (stored.size, stored.etag), "the second result equals the first"
    put(harness, backend, "twice", b"newer")
    upload.complete_again(parts)
    must_be_stored(harness, upload.key, b"newer", "complete again does not restore an object that was replaced")


@CHECKS.covers(20)
def check_two_uploads_of_one_key(harness: BackendHarness) -> None:
    """Two uploads of one key have their own parts; the last one completed is stored."""
    backend = harness.open_for_test()
    one, other = (pseudo_random_bytes(harness.part_size(backend), which) for which in ("one", "other"))
    if backend.capabilities.one_upload_per_key:
        raise NotApplicable("a key has one upload, as declared")
    first, second = harness.begin(backend, "two"), harness.begin(backend, "two")
    assert first.upload_id != second.upload_id, "each upload has a unique id"
    first_part = must_return("a second upload of a key does not affect the first", first.send, 1, one)
    second_part = second.send(1, other)
    first.must_be_pending("an upload of the same key was begun")
    second.must_be_pending("an upload of the same key was begun before")
    first.must_hold([first_part], "each upload has its own parts")
    second.complete([second_part])
    must_be_stored(harness, first.key, other, "an upload is completed with its own parts")
    must_return("an upload is usable after another one of its key was completed", first.complete, [first_part])
    must_be_stored(harness, first.key, one, "the last upload completed is stored")


# --- aborting --------------------------------------------------------------------------------------------------------


@CHECKS.covers(17)
def check_abort(harness: BackendHarness) -> None:
    """An aborted upload is removed with its parts, and the object is unchanged."""
    backend = harness.open_for_test()
    put(harness, backend, "aborted", b"the previous one")
    upload = harness.begin(backend, "aborted")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    upload.abort()
    if backend.capabilities.aborts:
        upload.must_not_be_pending("the upload is aborted")
        upload.must_not_be_found("is aborted", parts)
    must_be_stored(harness, upload.key, b"the previous one", "abort_upload does not change the object")


@CHECKS.covers(18)
def check_abort_again(harness: BackendHarness) -> None:
    """Abort twice, after complete, or of an unknown id changes nothing."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    aborted = harness.begin(backend, "gone")
    aborted.abort()
    must_return("aborting twice is not an error", aborted.abort)
    completed = harness.begin(backend, "gone")
    completed.complete([completed.send(1, data)])
    must_return("aborting a completed upload is not an error", completed.abort)
    must_be_stored(harness, completed.key, data, "aborting a completed upload does not change its object")
    other = harness.begin(backend, "gone")
    for unknown in UNKNOWN_IDS:
        must_return("aborting an unknown id is not an error", backend.abort_upload, other.key, unknown)
    for malformed in MALFORMED_IDS:
        must_succeed_or_refuse("aborting a malformed id", backend.abort_upload, other.key, malformed)
    other.must_be_pending("aborting an unknown id does not affect other uploads")


@CHECKS.covers(21, 37)
def check_unknown_ids(harness: BackendHarness) -> None:
    """
    Every method raises a permanent UploadNotFound for an unknown or completed id.

    A malformed id may be another permanent error.
    """
    backend = harness.open_for_test()
    upload = harness.begin(backend, "unknown")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    for unknown in UNKNOWN_IDS:
        must_not_be_found(backend, upload.key, unknown, "does not exist", parts)
    for malformed in MALFORMED_IDS:
        must_not_be_found(backend, upload.key, malformed, "does not exist", parts, malformed=True)
    upload.complete(parts)
    # Without complete, which may return the object again: see check_complete_twice.
    upload.must_not_be_found("is completed")


# --- listing and resuming --------------------------------------------------------------------------------------------


@CHECKS.covers(22, 24)
def check_list_parts(harness: BackendHarness) -> None:
    """Parts are listed once they are sent, in order, as upload_part returned them."""
    backend = harness.open_for_test()
    skip_unless_lists_parts(backend)
    size = harness.part_size(backend)
    upload = harness.begin(backend, "parts")
    upload.must_hold([], "an upload without parts has an empty list")
    sent: dict[int, UploadedPart] = {}
    # As strings, "10" sorts before "2".
    for number in range(1, 11) if backend.capabilities.sequential else (10, 2, 9, 1):
        if number <= backend.limits.max_parts:
            sent[number] = upload.send(number, pseudo_random_bytes(size, number))
            upload.must_hold([sent[n] for n in sorted(sent)], "parts are listed at once, in ascending order")


#: How far the clock of the storage may be off. At a greater difference S3 and OSS refuse requests.
_CLOCK_DIFFERENCE = timedelta(minutes=15)


@CHECKS.covers(22, behaviours=("initiated",))
def check_list_uploads(harness: BackendHarness) -> None:
    """Pending uploads with the prefix are listed in any order, with their start."""
    backend = harness.open_for_test()
    skip_unless_lists_uploads(backend)
    earliest = datetime.now(UTC) - _CLOCK_DIFFERENCE
    again = () if backend.capabilities.one_upload_per_key else ("list/b",) * 3
    uploads = [harness.begin(backend, name) for name in ("list/b", "list/a", "list/ab", *again, "list-not")]
    initiated = sorted((upload.key, upload.upload_id) for upload in uploads)
    for prefix in (harness.key("list/"), harness.key("list/a")):
        listed = list(backend.list_uploads(prefix))
        expected = [upload for upload in initiated if upload[0].startswith(prefix)]
        assert sorted((pending.key, pending.upload_id) for pending in listed) == expected, (
            f"the uploads of keys that start with {prefix!r} are listed, each once, also several of one key"
        )
        assert all(pending.initiated.tzinfo is not None for pending in listed), "initiated has a time zone"
    with harness.behaviour("initiated"):
        latest = datetime.now(UTC) + _CLOCK_DIFFERENCE
        for pending in backend.list_uploads(harness.key("list")):
            assert earliest <= pending.initiated <= latest, (
                f"initiated is the time when the upload was initiated, not {pending.initiated.isoformat()}:"
                " old uploads are taken for orphans, and aborted"
            )
    everywhere = {(pending.key, pending.upload_id) for pending in backend.list_uploads()}
    assert everywhere >= set(initiated), "without a prefix every upload is listed"
    if backend.capabilities.aborts:
        for upload in uploads:
            upload.abort()
        assert list(backend.list_uploads(harness.key("list"))) == [], "aborted uploads are not listed"


@CHECKS.covers(23)
def check_pages_of_uploads(harness: BackendHarness) -> None:
    """Uploads are listed completely in pages, even while others start and end."""
    for page_size in (1, 2, 4):
        backend = _open_with_page_size(harness, page_size)
        skip_unless_lists_uploads(backend)
        a, b, c, d = (harness.begin(backend, f"pages-{page_size}/{name}") for name in "abcd")
        # Those of one key are on several pages.
        again = 0 if backend.capabilities.one_upload_per_key else 3
        of_one_key = [d, *(harness.begin(backend, f"pages-{page_size}/d") for _ in range(again))]
        listing = iter(backend.list_uploads(harness.key(f"pages-{page_size}/")))
        found = [next(listing)]
        ended = b if found[0].upload_id != b.upload_id else c
        ended.abort()
        harness.begin(backend, f"pages-{page_size}/e")
        found.extend(listing)
        ids = [pending.upload_id for pending in found]
        what = f"with pages of {page_size}, while other uploads start and end"
        stayed = {upload.upload_id for upload in (a, b, c, *of_one_key) if upload is not ended}
        assert stayed <= set(ids), f"{what}, no pending upload is missed"
        assert len(ids) == len(set(ids)), f"{what}, each is listed once"


@CHECKS.covers(23)
def check_pages_of_parts(harness: BackendHarness) -> None:
    """Parts are listed completely in pages, even if another one is sent meanwhile."""
    for page_size in (1, 2, 4):
        backend = _open_with_page_size(harness, page_size)
        skip_unless_lists_parts(backend)
        size = harness.part_size(backend)
        upload = harness.begin(backend, "pages")
        before, late = ([1, 2, 3, 4], 5) if backend.capabilities.sequential else ([1, 2, 4, 5], 3)
        parts = {number: upload.send(number, pseudo_random_bytes(size, number)) for number in before}
        upload.must_hold(list(parts.values()), f"with pages of {page_size}, all parts are listed")
        listing = iter(backend.list_parts(upload.key, upload.upload_id))
        numbers = [next(listing).part_number]
        upload.send(late, pseudo_random_bytes(size, late))
        numbers += [part.part_number for part in listing]
        assert numbers in (before, [1, 2, 3, 4, 5]), (
            f"with pages of {page_size}, a part that is sent meanwhile hides no other"
        )


@CHECKS.covers(25, 26)
def check_resume_from_the_id(harness: BackendHarness) -> None:
    """A new handle resumes by the id, and completes with parts from `list_parts`."""
    first = harness.open_for_test()
    contents = part_contents(harness.part_size(first), 2, "resumed")
    upload = harness.begin(first, "resumed")
    parts = [upload.send(1, contents[0])]
    first.close()
    upload.backend = harness.open_for_test()
    parts.append(upload.send(2, contents[1]))
    if upload.backend.capabilities.lists_parts:
        parts = listed_parts(upload.backend, upload.key, upload.upload_id)
    duty = "an upload is resumed by its id, and completed with listed parts"
    must_return(duty, upload.complete, parts)
    must_be_stored(harness, upload.key, b"".join(contents), duty)


@CHECKS.covers(26)
def check_parts_with_a_checksum(harness: BackendHarness) -> None:
    """Complete accepts parts with a checksum that was added to them."""
    backend = harness.open_for_test()
    contents = part_contents(harness.part_size(backend), 2, "checksum")
    upload = harness.begin(backend, "checksum")
    parts = [
        part
        if part.checksum is not None
        else evolve(part, checksum=slow_checksum(backend.capabilities.checksum, content))
        for part, content in zip(upload.send_all(contents), contents, strict=True)
    ]
    must_return("parts are identified by number and ETag, whatever their checksum", upload.complete, parts)
    must_be_stored(harness, upload.key, b"".join(contents), "parts with an added checksum complete the upload")


def _open_with_page_size(harness: BackendHarness, page_size: int) -> MultipartBackend:
    backend = harness.open_with_page_size(page_size)
    if backend is None:
        raise harness.without("open_with_page_size")
    return backend


# --- what the capabilities declare -----------------------------------------------------------------------------------


@CHECKS.covers(48)
def check_one_upload_per_key(harness: BackendHarness) -> None:
    """If a key has one upload, as declared, storing or initiating ends the others."""
    backend = harness.open_for_test()
    if not backend.capabilities.one_upload_per_key:
        raise NotApplicable("a key can have several uploads, as declared")
    data = pseudo_random_bytes(harness.part_size(backend))
    first, second = harness.begin(backend, "one-per-key"), harness.begin(backend, "one-per-key")
    first.must_not_be_found("was ended by initiating another upload of its key")
    second.must_be_the_only_one("capabilities.one_upload_per_key is True")
    part = second.send(1, data)
    other_key = harness.begin(backend, "one-per-key-other")
    put(harness, backend, "one-per-key", b"by put")
    second.must_not_be_found("was ended by storing an object of its key", [part])
    must_be_stored(harness, second.key, b"by put", "the object is the one that was stored")
    other_key.must_be_pending("uploads of other keys are not ended")


@CHECKS.covers(48)
def check_abort_without_effect(harness: BackendHarness) -> None:
    """If the storage aborts nothing, as declared, an aborted upload stays usable."""
    backend = harness.open_for_test()
    if backend.capabilities.aborts:
        raise NotApplicable("the storage aborts uploads, as declared")
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "not-aborted")
    part = upload.send(1, data)
    must_return("capabilities.aborts is False: abort_upload returns without effect", upload.abort)
    upload.must_be_pending("capabilities.aborts is False")
    upload.must_complete([part], data, "an abort that has no effect, as declared,")
