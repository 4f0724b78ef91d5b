"""The memory backend: what it does beyond the common contract, or more strictly."""

from __future__ import annotations

import copy
import pickle
from hashlib import md5

import pytest
from attrs import fields

from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend, open_url
from partwise.backends.oss import Callback, OSSOptions
from partwise.errors import (
    BackendClosed,
    BackendError,
    CallbackError,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    PartRejected,
    PreconditionFailed,
    UnsupportedOption,
    UploadNotFound,
    UploadUnusable,
)
from partwise.model import (
    GIB,
    KIB,
    Capabilities,
    ObjectOptions,
    PartLimits,
    PendingUpload,
    UploadedPart,
    utc,
)
from partwise.testing.fakes import StrictBody

NO_OPTIONS = ObjectOptions()
ANY_SIZE = PartLimits()
CALLBACK = OSSOptions(callback=Callback("http://127.0.0.1/done", "object=${object}"))


def start_upload(backend, body, *datas, key="key"):
    upload_id = backend.initiate_upload(key, NO_OPTIONS)
    return upload_id, [backend.upload_part(key, upload_id, n, body(data)) for n, data in enumerate(datas, 1)]


# --- properties ------------------------------------------------------------------------------------------------------


def test_by_default_the_limits_are_those_of_oss():
    assert MemoryBackend().limits == PartLimits(100 * KIB, 5 * GIB, 10_000, 10_000 * 5 * GIB, 5 * GIB)


def test_by_default_all_options_but_callbacks_are_supported():
    honoured = MemoryBackend().capabilities

    assert honoured.option_type is OSSOptions
    assert honoured.options == {field.name for field in fields(OSSOptions)} - {"callback"}
    assert honoured.late_options == {"acl", "forbid_overwrite", "if_match", "traffic_limit", "request_payer"}
    assert (honoured.lists_parts, honoured.part_checksums, honoured.object_checksums) == (True, True, True)


def test_the_location_contains_the_name():
    assert MemoryBackend("a bucket/ü").location == "memory://a%20bucket%2F%C3%BC"


def test_a_message_names_the_bucket_by_its_location():
    backend = MemoryBackend("a bucket\x1b")

    with pytest.raises(UploadNotFound, match=r"^memory://a%20bucket%1B has no upload"):
        backend.list_parts("key", "0" * 32)


def test_without_a_name_each_bucket_has_a_unique_one():
    assert MemoryBackend().location != MemoryBackend().location


@pytest.mark.parametrize("wrong", [{"name": ""}, {"page_size": 0}, {"capabilities": Capabilities({"callback"})}])
def test_invalid_arguments_are_refused(wrong):
    with pytest.raises(InvalidInput):
        MemoryBackend(**wrong)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_can_not_be_pickled_and_the_error_says_why(duplicate):
    with pytest.raises(TypeError, match="memory of this process"):
        duplicate(MemoryBackend())


# --- strictness ------------------------------------------------------------------------------------------------------


def test_a_small_part_that_is_not_the_last_is_rejected_at_complete(body):
    backend = MemoryBackend(limits=PartLimits(min_part_size=1000))
    upload_id, parts = start_upload(backend, body, b"x" * 1000, b"x" * 999, b"x")

    with pytest.raises(PartRejected, match="part 2 has 999 bytes") as caught:
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert caught.value.code == "EntityTooSmall"
    backend.complete_upload("key", upload_id, parts[:2], NO_OPTIONS)
    assert len(backend.read("key")) == 1999


SMALL = PartLimits(min_part_size=1, max_part_size=5, max_parts=3, max_object_size=11, max_put_size=7)


@pytest.mark.parametrize("number", [1, 3])
def test_parts_are_numbered_from_one_to_the_maximum(body, number):
    backend = MemoryBackend(limits=SMALL)
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    assert backend.upload_part("key", upload_id, number, body(b"x")).part_number == number


@pytest.mark.parametrize("number", [-1, 0, 4])
def test_a_part_number_beyond_the_maximum_is_refused(body, number):
    backend = MemoryBackend(limits=SMALL)
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    with pytest.raises(InvalidInput, match=f"a part number must be from 1 to 3, not {number}"):
        backend.upload_part("key", upload_id, number, body(b"x"))


def test_a_part_of_the_maximum_size_is_accepted_and_one_byte_more_refused(body):
    backend = MemoryBackend(limits=SMALL)
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    assert backend.upload_part("key", upload_id, 1, body(b"12345")).size == 5
    with pytest.raises(InvalidInput, match="part 1 has 6 bytes; the maximum is 5"):
        backend.upload_part("key", upload_id, 1, body(b"123456"))


def test_a_put_of_the_maximum_size_is_accepted_and_one_byte_more_refused(body):
    backend = MemoryBackend(limits=SMALL)

    assert backend.put_object("key", body(b"1234567"), NO_OPTIONS).size == 7
    with pytest.raises(InvalidInput, match="has 8 bytes; the maximum for a single request is 7"):
        backend.put_object("key", body(b"12345678"), NO_OPTIONS)


def test_an_object_in_parts_of_the_maximum_size_is_accepted_and_one_byte_more_refused(body):
    backend = MemoryBackend(limits=SMALL)
    upload_id, parts = start_upload(backend, body, b"12345", b"12345", b"12")

    with pytest.raises(PartRejected, match="12 bytes, and the maximum is 11") as caught:
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    parts[2] = backend.upload_part("key", upload_id, 3, body(b"1"))

    assert caught.value.code == "EntityTooLarge"
    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS).size == 11


def test_an_endless_body_is_read_no_further_than_its_length():
    asked = []

    class Endless:
        checksum = None

        def __len__(self):
            return 10

        def chunks(self, *, counted=True):
            while True:
                asked.append(4)
                yield memoryview(b"four")

    backend = MemoryBackend(limits=ANY_SIZE)
    with pytest.raises(IntegrityError, match="more than 10 bytes instead of 10; nothing was stored"):
        backend.put_object("key", Endless(), NO_OPTIONS)

    assert asked == [4, 4, 4]
    assert backend.keys() == []


@pytest.mark.parametrize(("given", "said"), [(b"", "0 bytes"), (b"123", "3 bytes"), (b"12345", "more than 4 bytes")])
def test_a_body_of_a_wrong_length_stores_nothing_in_memory(given, said):
    backend = MemoryBackend(limits=ANY_SIZE)

    with pytest.raises(IntegrityError, match=f"the body of 'key' had {said} instead of 4") as caught:
        backend.put_object("key", StrictBody(given, declared=4), NO_OPTIONS)

    assert caught.value.retryable
    assert backend.keys() == []


@pytest.mark.parametrize("order", [[1, 1], [2, 1], [1, 3, 2]])
def test_parts_out_of_order_or_listed_twice_are_rejected_at_complete(body, order):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id, parts = start_upload(backend, body, b"1", b"2", b"3")

    with pytest.raises(PartRejected, match=rf"part {order[-1]} is listed after part {order[-2]}") as caught:
        backend.complete_upload("key", upload_id, [parts[number - 1] for number in order], NO_OPTIONS)

    assert caught.value.code == "InvalidPartOrder"


def test_parts_of_any_sizes_are_accepted_unless_they_must_be_equal(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id, parts = start_upload(backend, body, b"1", b"22", b"333")

    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS).size == 6


def test_an_object_beyond_the_maximum_size_is_rejected_at_complete(body):
    backend = MemoryBackend(limits=PartLimits(max_object_size=5))
    upload_id, parts = start_upload(backend, body, b"one", b"two")

    with pytest.raises(PartRejected, match="6 bytes, and the maximum is 5"):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert backend.keys() == []


def test_parts_of_unequal_size_are_rejected_where_they_must_be_equal(body):
    backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(equal_part_sizes=True))
    upload_id, parts = start_upload(backend, body, b"four", b"five!", b"6")

    with pytest.raises(PartRejected, match="only the last part may have another size"):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    backend.complete_upload("key", upload_id, [parts[0], parts[2]], NO_OPTIONS)

    assert backend.read("key") == b"four6"


def test_list_parts_is_refused_without_the_capability():
    backend = MemoryBackend(capabilities=Capabilities(lists_parts=False))
    upload_id = backend.initiate_upload("key", NO_OPTIONS)

    with pytest.raises(UnsupportedOption):
        backend.list_parts("key", upload_id)


def shaped(body, *chunks, **capabilities):
    """A bucket of this shape, with an upload that has these parts."""
    backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(**capabilities))
    return backend, start_upload(backend, body, *chunks)[0]


def test_a_sequential_bucket_refuses_a_part_that_does_not_follow(body):
    backend, upload_id = shaped(body, b"one", b"two", sequential=True)

    with pytest.raises(UploadUnusable, match="was sent after part 2"):
        backend.upload_part("key", upload_id, 4, body(b"four"))

    assert sorted(backend.uploads[upload_id].parts) == [1, 2]


def test_a_sequential_bucket_takes_an_earlier_part_with_the_same_bytes_only(body):
    """A run that died may not have recorded the parts that it sent; without a list the next one sends them again."""
    backend, upload_id = shaped(body, b"one", b"two", sequential=True)

    again = backend.upload_part("key", upload_id, 1, body(b"one"))
    with pytest.raises(UploadUnusable, match="stored with other bytes"):
        backend.upload_part("key", upload_id, 1, body(b"1"))

    assert backend.uploads[upload_id].parts[1] == again


def test_a_sequential_bucket_takes_the_last_part_again_and_then_the_next_one(body):
    backend, upload_id = shaped(body, b"one", b"two", sequential=True)

    for number, data in ((2, b"2"), (3, b"three")):
        backend.upload_part("key", upload_id, number, body(data))

    assert [part.size for part in backend.list_parts("key", upload_id)] == [3, 1, 5]


def test_a_sequential_bucket_refuses_a_part_while_another_one_arrives(body):
    backend, upload_id = shaped(body, b"one", sequential=True)

    class Interrupting:
        def __len__(self):
            return 3

        def chunks(self, **_):
            with pytest.raises(BackendError, match="while another one was arriving"):
                backend.upload_part("key", upload_id, 2, body(b"2"))
            yield memoryview(b"two")

    assert backend.upload_part("key", upload_id, 2, Interrupting()).size == 3


def test_a_bucket_that_replaces_no_parts_takes_the_same_bytes_again_and_refuses_others(body):
    backend, upload_id = shaped(body, b"one", replaces_parts=False)

    again = backend.upload_part("key", upload_id, 1, body(b"one"))
    with pytest.raises(UploadUnusable, match="stored with other bytes"):
        backend.upload_part("key", upload_id, 1, body(b"two"))

    assert list(backend.list_parts("key", upload_id)) == [again]


@pytest.mark.parametrize("end", ["initiate", "complete", "put"])
def test_a_bucket_of_one_upload_per_key_ends_the_others(body, end):
    backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(one_upload_per_key=True))
    other = backend.initiate_upload("other", NO_OPTIONS)
    first = backend.initiate_upload("key", NO_OPTIONS)
    left = []
    match end:
        case "initiate":
            left = [backend.initiate_upload("key", NO_OPTIONS)]
        case "complete":
            part = backend.upload_part("key", first, 1, body(b"one"))
            backend.complete_upload("key", first, [part], NO_OPTIONS)
        case _:
            backend.put_object("key", body(b"whole"), NO_OPTIONS)

    assert sorted(backend.uploads) == sorted([other, *left])
    with pytest.raises(UploadNotFound):
        backend.list_parts("key", first)


def test_list_uploads_is_refused_without_the_capability():
    backend = MemoryBackend(capabilities=Capabilities(lists_uploads=False))

    with pytest.raises(UnsupportedOption, match="does not list pending uploads"):
        backend.list_uploads()


def test_a_bucket_that_does_not_abort_keeps_the_upload(body):
    backend, upload_id = shaped(body, b"one", aborts=False)

    backend.abort_upload("key", upload_id)

    assert len(list(backend.list_parts("key", upload_id))) == 1


def test_an_upload_that_is_dropped_is_gone_even_if_nothing_aborts_it(body):
    backend, upload_id = shaped(body, b"one", aborts=False)

    backend.drop_upload("another key", upload_id)
    assert upload_id in backend.uploads
    backend.drop_upload("key", upload_id)
    assert upload_id not in backend.uploads


def test_without_part_checksums_parts_have_none(body):
    backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(object_checksums=True))
    upload_id, parts = start_upload(backend, body, b"one")

    assert [part.checksum for part in parts] == [None]
    assert [part.checksum for part in backend.list_parts("key", upload_id)] == [None]
    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS).checksum is not None


def test_without_object_checksums_objects_have_none(body):
    backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(part_checksums=True))
    upload_id, parts = start_upload(backend, body, b"one")

    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS).checksum is None
    assert backend.put_object("put", body(b"one"), NO_OPTIONS).checksum is None
    assert backend.head_object("key").checksum is None


def test_etags_are_those_of_object_storages(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id, parts = start_upload(backend, body, b"one", b"two")
    digests = [md5(b"one"), md5(b"two")]
    of_both = md5(digests[0].digest() + digests[1].digest()).hexdigest().upper()

    assert [part.etag for part in parts] == [digest.hexdigest().upper() for digest in digests]
    assert backend.complete_upload("key", upload_id, parts, NO_OPTIONS).etag == f"{of_both}-2"
    assert backend.put_object("key", body(b"one"), NO_OPTIONS).etag == parts[0].etag


@pytest.mark.parametrize("key", ["x" * 1023, "/", "..", "a//b", "é" * 511])
def test_a_key_may_be_any_text_that_fits(body, key):
    backend = MemoryBackend()
    backend.put_object(key, body(b"x"), NO_OPTIONS)

    assert backend.keys() == [key]


def test_a_key_is_measured_in_bytes():
    with pytest.raises(InvalidKey, match="1024"):
        MemoryBackend().head_object("é" * 512)


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 3, 4])
def test_pages_of_any_size_list_all_entries_once(body, page_size):
    backend = MemoryBackend(limits=ANY_SIZE, page_size=page_size)
    upload_id, parts = start_upload(backend, body, b"1", b"2", b"3")
    backend.initiate_upload("key", NO_OPTIONS)
    backend.initiate_upload("other", NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == parts
    assert [upload.key for upload in backend.list_uploads()] == ["key", "key", "other"]


def test_parts_added_between_pages_are_listed_once_or_not_at_all(body):
    backend = MemoryBackend(limits=ANY_SIZE, page_size=2)
    upload_id = backend.initiate_upload("key", NO_OPTIONS)
    for number in (2, 4, 6):
        backend.upload_part("key", upload_id, number, body(b"x"))
    listing = iter(backend.list_parts("key", upload_id))
    seen = [next(listing).part_number]

    backend.upload_part("key", upload_id, 1, body(b"x"))
    backend.upload_part("key", upload_id, 5, body(b"x"))
    seen += [part.part_number for part in listing]

    assert seen == [2, 4, 5, 6]


def test_uploads_are_listed_by_the_prefix_of_their_key():
    backend = MemoryBackend()
    for key in ("a/b", "b", "b/a", "c/b"):
        backend.initiate_upload(key, NO_OPTIONS)

    assert [upload.key for upload in backend.list_uploads("b")] == ["b", "b/a"]
    assert [upload.key for upload in backend.list_uploads("b/")] == ["b/a"]
    assert list(backend.list_uploads("/b")) == []


def test_uploads_removed_between_pages_hide_no_other():
    backend = MemoryBackend(page_size=2)
    ids = {key: backend.initiate_upload(key, NO_OPTIONS) for key in "abcde"}
    listing = iter(backend.list_uploads())
    seen = [next(listing).key, next(listing).key]

    backend.abort_upload("b", ids["b"])
    backend.abort_upload("d", ids["d"])
    seen += [upload.key for upload in listing]

    assert seen == ["a", "b", "c", "e"]


def test_an_upload_that_ends_between_pages_is_not_found(body):
    backend = MemoryBackend(limits=ANY_SIZE, page_size=1)
    upload_id, _ = start_upload(backend, body, b"1", b"2")
    listing = iter(backend.list_parts("key", upload_id))
    next(listing)
    backend.abort_upload("key", upload_id)

    with pytest.raises(UploadNotFound):
        next(listing)


def test_no_page_is_fetched_after_close(body):
    backend = MemoryBackend(limits=ANY_SIZE, page_size=1)
    upload_id, _ = start_upload(backend, body, b"1", b"2")
    listing = iter(backend.list_parts("key", upload_id))
    next(listing)
    backend.close()

    with pytest.raises(BackendClosed):
        next(listing)


# --- options ---------------------------------------------------------------------------------------------------------


def test_late_options_are_taken_from_complete_and_the_others_from_initiate(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id = backend.initiate_upload("key", ObjectOptions(content_type="text/plain", acl="private"))
    part = backend.upload_part("key", upload_id, 1, body(b"x"))

    backend.complete_upload("key", upload_id, [part], ObjectOptions(content_type="other", acl="public-read"))

    assert backend.describe("key") == ObjectOptions(content_type="text/plain", acl="public-read")


def test_which_options_are_late_is_what_the_capabilities_say(body):
    options = {"acl", "content_type", "metadata"}
    for late in (set(), {"metadata"}, options):
        backend = MemoryBackend(limits=ANY_SIZE, capabilities=Capabilities(options, late_options=late))
        initiated = ObjectOptions(acl="private", content_type="a/b", metadata={"a": "b"})
        upload_id = backend.initiate_upload("key", initiated)
        part = backend.upload_part("key", upload_id, 1, body(b"x"))
        completed = ObjectOptions(acl="public-read", content_type="c/d")
        backend.complete_upload("key", upload_id, [part], completed)

        stored = backend.describe("key")
        assert {name for name in options if getattr(stored, name) == getattr(completed, name)} == late
        assert {name for name in options if getattr(stored, name) == getattr(initiated, name)} == options - late


def test_a_late_option_of_one_storage_is_kept_if_initiate_got_none_of_its_class(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id = backend.initiate_upload("key", ObjectOptions(content_type="a/b"))
    part = backend.upload_part("key", upload_id, 1, body(b"x"))
    backend.complete_upload("key", upload_id, [part], OSSOptions(request_payer="requester"))

    assert backend.describe("key") == OSSOptions(content_type="a/b", request_payer="requester")


def test_if_match_replaces_only_the_object_that_it_names(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    etag = backend.put_object("key", body(b"first"), NO_OPTIONS).etag
    upload_id, parts = start_upload(backend, body, b"one")
    for options in (ObjectOptions(if_match="OTHER"), ObjectOptions(if_match=etag.lower())):
        for refused in (
            lambda options=options: backend.put_object("key", body(b"x"), options),
            lambda options=options: backend.initiate_upload("key", options),
            lambda options=options: backend.complete_upload("key", upload_id, parts, options),
        ):
            with pytest.raises(PreconditionFailed, match=f"has no object 'key' with the ETag .*: it has {etag}"):
                refused()
    assert (backend.read("key"), list(backend.uploads)) == (b"first", [upload_id])

    stored = backend.complete_upload("key", upload_id, parts, ObjectOptions(if_match=etag))
    backend.put_object("key", body(b"third"), ObjectOptions(if_match=stored.etag))
    assert backend.read("key") == b"third"


def test_if_match_makes_no_object_where_there_is_none(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    with pytest.raises(PreconditionFailed, match="has no object 'key' with the ETag E: there is none"):
        backend.put_object("key", body(b"x"), ObjectOptions(if_match="E"))

    assert backend.keys() == []


def test_every_option_of_requests_and_objects_is_accepted_by_default(body):
    backend = MemoryBackend()
    options = OSSOptions(
        storage_class="IA",
        encryption="KMS",
        data_encryption="SM4",
        kms_key_id="id",
        traffic_limit=819_200,
        request_payer="requester",
    )
    backend.put_object("key", body(b"x"), options)

    assert backend.describe("key") == options


def test_the_response_of_the_callback_is_returned(body):
    backend = MemoryBackend(limits=ANY_SIZE, callback=lambda stored: f"got {stored.key}".encode())
    upload_id, parts = start_upload(backend, body, b"one")

    assert backend.complete_upload("key", upload_id, parts, CALLBACK).callback_response == b"got key"
    assert backend.put_object("put", body(b"x"), CALLBACK).callback_response == b"got put"
    assert backend.put_object("put", body(b"x"), NO_OPTIONS).callback_response is None


def test_a_failed_callback_keeps_the_object(body):
    failure = RuntimeError("application server down")

    def fail(stored):
        raise failure

    backend = MemoryBackend(limits=ANY_SIZE, callback=fail)
    upload_id, parts = start_upload(backend, body, b"one")

    with pytest.raises(CallbackError) as caught:
        backend.complete_upload("key", upload_id, parts, CALLBACK)

    assert caught.value.__cause__ is failure
    assert caught.value.result == backend.head_object("key")
    assert backend.read("key") == b"one"
    assert backend.uploads == {}


# --- for tests -------------------------------------------------------------------------------------------------------


def test_a_missing_object_can_not_be_read():
    with pytest.raises(KeyError):
        MemoryBackend().read("key")


def test_the_keys_are_sorted(body):
    backend = MemoryBackend()
    for key in ("b", "a/c", "a"):
        backend.put_object(key, body(b""), NO_OPTIONS)

    assert backend.keys() == ["a", "a/c", "b"]


def test_the_uploads_can_be_inspected(body):
    backend = MemoryBackend(limits=ANY_SIZE, clock=lambda: 1000.0)
    options = ObjectOptions(content_type="text/plain")
    upload_id = backend.initiate_upload("key", options)
    part = backend.upload_part("key", upload_id, 3, body(b"x"))

    upload = backend.uploads[upload_id]

    assert (upload.key, upload.upload_id, upload.options, upload.parts) == ("key", upload_id, options, {3: part})
    assert list(backend.list_uploads()) == [PendingUpload("key", upload_id, utc(1000.0))]


def test_calls_are_counted_by_name_on_all_handles(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id, _ = start_upload(backend, body, b"one", b"two")
    with pytest.raises(PartRejected):
        backend.handle().complete_upload("key", upload_id, [], NO_OPTIONS)
    counted = dict(backend.calls)

    backend.calls.clear()
    backend.head_object("key")

    assert counted == {"initiate_upload": 1, "upload_part": 2, "complete_upload": 1}
    assert dict(backend.calls) == {"head_object": 1}


def test_upload_ids_are_derived_from_the_name():
    def ids(name):
        backend = MemoryBackend(name)
        return [backend.initiate_upload("key", NO_OPTIONS) for _ in range(3)]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b")}) == 6


# --- handles and snapshots -------------------------------------------------------------------------------------------


def test_a_handle_shares_the_storage_and_is_closed_separately(body):
    backend = MemoryBackend("name", limits=ANY_SIZE, page_size=7)
    other = backend.handle()
    upload_id, parts = start_upload(other, body, b"one")
    other.close()

    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert (other.location, other.limits, other.capabilities) == ("memory://name", ANY_SIZE, DEFAULT_CAPABILITIES)
    assert other.read("key") == b"one"
    with pytest.raises(BackendClosed):
        other.head_object("key")


def test_a_snapshot_and_the_original_are_independent(body):
    backend = MemoryBackend("name", limits=ANY_SIZE)
    backend.put_object("old", body(b"old"), NO_OPTIONS)
    upload_id, [one] = start_upload(backend, body, b"one")

    copied = backend.snapshot()
    two = backend.upload_part("key", upload_id, 2, body(b"two"))
    backend.complete_upload("key", upload_id, [one, two], NO_OPTIONS)
    copied.put_object("old", body(b"new"), NO_OPTIONS)

    assert copied.location == backend.location
    assert (backend.read("old"), backend.keys()) == (b"old", ["key", "old"])
    assert (copied.read("old"), copied.keys()) == (b"new", ["old"])
    assert list(copied.list_parts("key", upload_id)) == [one]
    assert copied.initiate_upload("key", NO_OPTIONS) != upload_id


def test_a_snapshot_of_a_closed_backend_is_open(body):
    backend = MemoryBackend()
    backend.put_object("key", body(b"x"), NO_OPTIONS)
    backend.close()

    assert backend.snapshot().head_object("key").size == 1


# --- by URL ----------------------------------------------------------------------------------------------------------


def test_a_url_refers_to_one_storage_within_a_process(body):
    first, key = open_url("memory://one-of-a-process/a/b c%20#?")
    first.put_object(key, body(b"x"), NO_OPTIONS)
    first.close()

    second, _ = open_url("memory://one-of-a-process/")

    assert key == "a/b c%20#?"
    assert second.read(key) == b"x"
    assert open_url("memory://another-of-a-process/")[0].keys() == []


def test_the_location_opens_the_same_storage():
    backend, key = open_url("memory://with%20space")

    assert (backend.location, key) == ("memory://with%20space", "")


@pytest.mark.parametrize("url", ["memory://", "memory:///key", "file:///a", "memory:name/key"])
def test_a_url_without_a_name_is_refused(url):
    with pytest.raises(InvalidInput):
        open_url(url)


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(InvalidInput, match="endpoint, region"):
        open_url("memory://name/key", region="r", endpoint="e", timeout=3)


def test_a_part_of_another_upload_of_the_same_size_is_rejected(body):
    backend = MemoryBackend(limits=ANY_SIZE)
    upload_id, [part] = start_upload(backend, body, b"one")

    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, [UploadedPart(1, 3, part.etag[::-1])], NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == [part]
