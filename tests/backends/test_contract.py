"""The contract of every backend, for the memory and the local backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from partwise.backends.oss import Callback, OSSOptions
from partwise.checksums import crc64
from partwise.errors import (
    BackendClosed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import ObjectOptions, UploadedPart
from partwise.protocols import MultipartBackend

NO_OPTIONS = ObjectOptions()
ONCE = ObjectOptions(forbid_overwrite=True)


def start_upload(backend, body, *datas, key="key"):
    upload_id = backend.initiate_upload(key, NO_OPTIONS)
    return upload_id, [backend.upload_part(key, upload_id, n, body(data)) for n, data in enumerate(datas, 1)]


# --- a multipart upload ----------------------------------------------------------------------------------------------


def test_it_implements_the_protocol(backend):
    assert isinstance(backend, MultipartBackend)


def test_the_object_is_its_parts_in_ascending_order(backend, body, read):
    upload_id = backend.initiate_upload("a/b.bin", NO_OPTIONS)
    parts = {n: backend.upload_part("a/b.bin", upload_id, n, body(bytes([n]) * 5000)) for n in (7, 1, 3)}
    whole = b"".join(bytes([n]) * 5000 for n in (1, 3, 7))

    stored = backend.complete_upload("a/b.bin", upload_id, [parts[n] for n in (1, 3, 7)], NO_OPTIONS)

    assert read("a/b.bin") == whole
    assert ("a/b.bin", 15000, crc64(whole)) == (stored.key, stored.size, stored.checksum)


def test_an_uploaded_part_describes_what_is_stored(backend, body):
    _, [part] = start_upload(backend, body, b"x" * 2500)

    assert (1, 2500, crc64(b"x" * 2500)) == (part.part_number, part.size, part.checksum)


def test_the_part_list_is_ascending_and_has_the_same_parts(backend, body):
    upload_id = backend.initiate_upload("key", NO_OPTIONS)
    parts = [backend.upload_part("key", upload_id, n, body(b"%d" % n)) for n in (12, 2, 111)]

    assert sorted(parts, key=lambda part: part.part_number) == list(backend.list_parts("key", upload_id))


def test_an_upload_without_parts_has_an_empty_list(backend):
    assert list(backend.list_parts("key", backend.initiate_upload("key", NO_OPTIONS))) == []


def test_listed_parts_can_be_completed(backend, body, read):
    upload_id, _ = start_upload(backend, body, b"one", b"two")

    backend.complete_upload("key", upload_id, list(backend.list_parts("key", upload_id)), NO_OPTIONS)

    assert read("key") == b"onetwo"


def test_an_object_is_invisible_until_complete(backend, body):
    start_upload(backend, body, b"one")

    assert backend.head_object("key") is None


def test_an_existing_object_is_unchanged_until_complete(backend, body, read):
    backend.put_object("key", body(b"old"), NO_OPTIONS)
    upload_id, parts = start_upload(backend, body, b"new")
    before = read("key")

    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert (before, read("key")) == (b"old", b"new")


def test_parts_that_are_not_listed_at_complete_are_dropped(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"one", b"two", b"three")

    backend.complete_upload("key", upload_id, parts[::2], NO_OPTIONS)

    assert read("key") == b"onethree"


def test_an_empty_last_part_is_accepted(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"")

    stored = backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert (read("key"), stored.size, stored.checksum) == (b"", 0, 0)


def test_a_part_sent_twice_replaces_the_first(backend, body, read):
    upload_id, [stale] = start_upload(backend, body, b"first")
    fresh = backend.upload_part("key", upload_id, 1, body(b"second"))

    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, [stale], NO_OPTIONS)
    backend.complete_upload("key", upload_id, [fresh], NO_OPTIONS)

    assert read("key") == b"second"


def test_the_same_part_sent_twice_is_harmless(backend, body, read):
    upload_id, [first] = start_upload(backend, body, b"same")
    backend.upload_part("key", upload_id, 1, body(b"same"))

    backend.complete_upload("key", upload_id, [first], NO_OPTIONS)

    assert read("key") == b"same"


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(lambda one, two: [], id="no part"),
        pytest.param(lambda one, two: [two, one], id="wrong order"),
        pytest.param(lambda one, two: [one, one, two], id="twice"),
        pytest.param(lambda one, two: [one, two, UploadedPart(3, 3, two.etag)], id="missing"),
        pytest.param(lambda one, two: [one, UploadedPart(2, 3, one.etag)], id="foreign"),
        pytest.param(lambda one, two: [one, UploadedPart(2, 4, two.etag)], id="other size"),
    ],
)
def test_wrong_parts_are_rejected_and_the_upload_stays_usable(backend, body, read, named):
    upload_id, parts = start_upload(backend, body, b"one", b"two")

    with pytest.raises(PartRejected, match="kept"):
        backend.complete_upload("key", upload_id, named(*parts), NO_OPTIONS)

    assert backend.head_object("key") is None
    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert read("key") == b"onetwo"


def test_a_completed_upload_has_ended(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"one")
    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    backend.put_object("key", body(b"later"), NO_OPTIONS)

    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    with pytest.raises(UploadNotFound):
        backend.upload_part("key", upload_id, 1, body(b"one"))
    with pytest.raises(UploadNotFound):
        list(backend.list_parts("key", upload_id))

    assert read("key") == b"later"
    assert list(backend.list_uploads()) == []


def test_an_aborted_upload_has_ended(backend, body):
    upload_id, parts = start_upload(backend, body, b"one")
    backend.abort_upload("key", upload_id)

    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    with pytest.raises(UploadNotFound):
        backend.upload_part("key", upload_id, 1, body(b"one"))
    with pytest.raises(UploadNotFound) as caught:
        list(backend.list_parts("key", upload_id))

    assert not caught.value.retryable
    assert list(backend.list_uploads()) == []


def test_an_abort_changes_no_object_and_can_be_repeated(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"one")
    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    backend.abort_upload("key", upload_id)
    backend.abort_upload("key", upload_id)
    backend.abort_upload("key", "0" * 32)
    backend.abort_upload("key", "../../objects")

    assert read("key") == b"one"


def test_an_abort_under_another_key_keeps_the_upload(backend, body):
    upload_id, parts = start_upload(backend, body, b"one")

    backend.abort_upload("other", upload_id)

    assert list(backend.list_parts("key", upload_id)) == parts


@pytest.mark.parametrize("upload_id", ["", "0" * 32, "..", "../uploads", "a/b", "\0", "é", "x" * 1000])
def test_an_unknown_id_is_upload_not_found(backend, body, upload_id):
    part = UploadedPart(1, 3, "etag")

    with pytest.raises(UploadNotFound):
        backend.upload_part("key", upload_id, 1, body(b"one"))
    with pytest.raises(UploadNotFound):
        list(backend.list_parts("key", upload_id))
    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, [part], NO_OPTIONS)


def test_an_id_belongs_to_its_key(backend, body):
    upload_id, parts = start_upload(backend, body, b"one")

    with pytest.raises(UploadNotFound):
        backend.complete_upload("other", upload_id, parts, NO_OPTIONS)


def test_two_uploads_of_one_key_are_independent(backend, body, read):
    first, first_parts = start_upload(backend, body, b"first")
    second, second_parts = start_upload(backend, body, b"second")
    backend.complete_upload("key", second, second_parts, NO_OPTIONS)

    backend.complete_upload("key", first, first_parts, NO_OPTIONS)

    assert read("key") == b"first"


def test_uploads_are_listed_by_key_and_id_with_a_prefix(backend):
    pending = [(key, backend.initiate_upload(key, NO_OPTIONS)) for key in ("b/2", "a", "b/1", "b/2", "bb")]

    listed = list(backend.list_uploads())

    assert sorted(pending) == [(upload.key, upload.upload_id) for upload in listed]
    assert all(upload.initiated.tzinfo is not None for upload in listed)
    assert [upload.key for upload in backend.list_uploads("b/")] == ["b/1", "b/2", "b/2"]


def test_part_numbers_and_sizes_beyond_the_limits_are_refused(backend, body):
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    for number in (0, -1, backend.limits.max_parts + 1):
        with pytest.raises(InvalidInput):
            backend.upload_part("key", upload_id, number, body(b"x"))
    with pytest.raises(InvalidInput):
        backend.upload_part("key", upload_id, 1, body(b"x", promised=backend.limits.max_part_size + 1))
    with pytest.raises(InvalidInput):
        backend.put_object("key", body(b"x", promised=backend.limits.max_put_size + 1), NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == []


def test_the_highest_part_number_is_accepted(backend, body):
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    part = backend.upload_part("key", upload_id, backend.limits.max_parts, body(b"x"))

    assert [part] == list(backend.list_parts("key", upload_id))


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("promised", [4999, 5001])
def test_a_body_of_a_wrong_length_stores_nothing(backend, body, promised):
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    with pytest.raises(IntegrityError, match="nothing was stored") as caught:
        backend.upload_part("key", upload_id, 1, body(b"x" * 5000, promised=promised))
    with pytest.raises(IntegrityError):
        backend.put_object("key", body(b"x" * 5000, promised=promised), NO_OPTIONS)

    assert caught.value.retryable
    assert list(backend.list_parts("key", upload_id)) == []
    assert backend.head_object("key") is None


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), ValueError("mine"), KeyboardInterrupt()])
def test_exceptions_of_a_body_propagate_and_nothing_is_stored(backend, body, failure):
    upload_id, parts = start_upload(backend, body, b"stands")

    def fail(given):
        if given >= 2000:
            raise failure

    with pytest.raises(type(failure)) as part_failure:
        backend.upload_part("key", upload_id, 1, body(b"x" * 5000, before=fail))
    with pytest.raises(type(failure)) as put_failure:
        backend.put_object("key", body(b"x" * 5000, before=fail), NO_OPTIONS)

    assert failure is part_failure.value is put_failure.value
    assert list(backend.list_parts("key", upload_id)) == parts
    assert backend.head_object("key") is None


def test_a_part_of_an_upload_that_is_aborted_meanwhile_is_not_acknowledged(backend, body):
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    def abort(given):
        if given == 2000:
            backend.abort_upload("key", upload_id)

    with pytest.raises(UploadNotFound):
        backend.upload_part("key", upload_id, 1, body(b"x" * 5000, before=abort))


# --- whole objects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 5000])
def test_a_put_stores_the_object(backend, body, read, data):
    stored = backend.put_object("a/b", body(data), NO_OPTIONS)

    assert read("a/b") == data
    assert ("a/b", len(data), crc64(data)) == (stored.key, stored.size, stored.checksum)
    assert backend.head_object("a/b") == stored


def test_a_put_replaces_an_object(backend, body, read):
    backend.put_object("key", body(b"old and long"), ObjectOptions(metadata={"v": "1"}))
    backend.put_object("key", body(b"new"), NO_OPTIONS)

    assert read("key") == b"new"
    assert backend.head_object("key").metadata == {}


def test_the_head_of_a_missing_object_is_none(backend):
    assert backend.head_object("a/b") is None


def test_the_head_of_an_object_of_parts_is_the_result_of_complete(backend, body):
    upload_id, parts = start_upload(backend, body, b"one", b"two")

    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS) == backend.head_object("key")


# --- options ---------------------------------------------------------------------------------------------------------


def test_options_are_returned_with_the_object(backend, body):
    options = ObjectOptions(
        content_type="text/plain",
        metadata={"a": "1", "b": "zwei"},
        tags={"t": "u"},
        cache_control="no-cache",
        content_disposition="inline",
        content_encoding="gzip",
        content_language="de",
        expires="Thu, 01 Jan 2026 00:00:00 GMT",
    )
    upload_id = backend.initiate_upload("parts", options)
    part = backend.upload_part("parts", upload_id, 1, body(b"one"))
    backend.complete_upload("parts", upload_id, [part], NO_OPTIONS)
    backend.put_object("put", body(b"one"), options)

    for key in ("parts", "put"):
        assert backend.describe(key) == options
        assert backend.head_object(key).metadata == options.metadata
    assert backend.describe("none") is None


def test_an_unsupported_option_is_refused_at_every_step(backend, body):
    options = OSSOptions(callback=Callback("http://127.0.0.1/", "x"))

    with pytest.raises(UnsupportedOption, match="callback"):
        backend.initiate_upload("key", options)
    with pytest.raises(UnsupportedOption):
        backend.put_object("key", body(b"x"), options)
    upload_id, parts = start_upload(backend, body, b"one")
    with pytest.raises(UnsupportedOption):
        backend.complete_upload("key", upload_id, parts, options)

    assert backend.head_object("key") is None
    assert len(list(backend.list_uploads())) == 1


def test_forbid_overwrite_refuses_at_every_step_and_keeps_the_upload(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"new")
    backend.put_object("key", body(b"old"), ONCE)

    with pytest.raises(ObjectExists):
        backend.initiate_upload("key", ONCE)
    with pytest.raises(ObjectExists):
        backend.put_object("key", body(b"new"), ONCE)
    with pytest.raises(ObjectExists):
        backend.complete_upload("key", upload_id, parts, ONCE)

    assert read("key") == b"old"
    assert list(backend.list_parts("key", upload_id)) == parts
    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert read("key") == b"new"


def test_forbid_overwrite_stores_a_new_object(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"one")

    backend.complete_upload("key", upload_id, parts, ONCE)

    assert read("key") == b"one"
    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "x" * 1024, "\udcff"])
def test_an_invalid_key_is_refused_by_every_method(backend, body, key):
    part = UploadedPart(1, 1, "etag")
    calls = [
        lambda: backend.initiate_upload(key, NO_OPTIONS),
        lambda: backend.upload_part(key, "0" * 32, 1, body(b"x")),
        lambda: list(backend.list_parts(key, "0" * 32)),
        lambda: backend.complete_upload(key, "0" * 32, [part], NO_OPTIONS),
        lambda: backend.abort_upload(key, "0" * 32),
        lambda: backend.put_object(key, body(b"x"), NO_OPTIONS),
        lambda: backend.head_object(key),
    ]

    for call in calls:
        with pytest.raises(InvalidKey):
            call()


@pytest.mark.parametrize(
    "key",
    ["a b", "ü/é", "日本語", "%2F", "a+b&c=d", "'\"", "...", "a/.partwise", ".hidden", "~", "-rf", "x" * 255, "🦔"],
)
def test_unusual_keys_are_accepted(backend, body, read, key):
    upload_id, parts = start_upload(backend, body, b"one", key=key)
    backend.complete_upload(key, upload_id, parts, NO_OPTIONS)

    assert read(key) == b"one"
    assert key == backend.head_object(key).key


# --- concurrency -----------------------------------------------------------------------------------------------------


def test_many_threads_send_the_parts_of_one_upload(backend, body, read):
    datas = {n: Random(n).randbytes(10_000) for n in range(1, 41)}
    upload_id = backend.initiate_upload("key", NO_OPTIONS)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda n: backend.upload_part("key", upload_id, n, body(datas[n])), datas))

    stored = backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert b"".join(datas.values()) == read("key")
    assert crc64(b"".join(datas.values())) == stored.checksum


def test_one_of_many_concurrent_puts_with_forbid_overwrite_succeeds(backend, body, read):
    def put(n):
        try:
            backend.put_object("key", body(b"%d" % n * 3000), ONCE)
        except ObjectExists:
            return None
        return n

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(put, range(8)) if n is not None]

    assert len(winners) == 1
    assert b"%d" % winners[0] * 3000 == read("key")


def test_many_concurrent_completes_make_one_object(backend, body, read):
    upload_id, parts = start_upload(backend, body, b"a" * 5000, b"b" * 5000)

    def complete(_):
        try:
            return backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
        except UploadNotFound:
            return None

    with ThreadPoolExecutor(8) as pool:
        results = [result for result in pool.map(complete, range(8)) if result is not None]

    assert results
    assert all(result == results[0] for result in results)
    assert read("key") == b"a" * 5000 + b"b" * 5000
    assert list(backend.list_uploads()) == []


# --- the handle ------------------------------------------------------------------------------------------------------


def test_a_closed_backend_refuses_every_method(backend, body):
    upload_id, [part] = start_upload(backend, body, b"one")
    backend.close()
    backend.close()
    calls = [
        lambda: backend.initiate_upload("key", NO_OPTIONS),
        lambda: backend.upload_part("key", upload_id, 1, body(b"x")),
        lambda: list(backend.list_parts("key", upload_id)),
        lambda: backend.complete_upload("key", upload_id, [part], NO_OPTIONS),
        lambda: backend.abort_upload("key", upload_id),
        lambda: list(backend.list_uploads()),
        lambda: backend.put_object("key", body(b"x"), NO_OPTIONS),
        lambda: backend.head_object("key"),
    ]

    for call in calls:
        with pytest.raises(BackendClosed):
            call()
    assert "closed" in repr(backend)


def test_leaving_the_context_closes_the_backend(backend):
    with backend as entered:
        assert entered is backend

    with pytest.raises(BackendClosed):
        backend.head_object("key")


def test_the_repr_shows_class_and_location(backend):
    assert f"<{type(backend).__name__} {backend.location}>" == repr(backend)
