"""Which options a resumed upload may change, and what the backend gets of them."""

from __future__ import annotations

import pytest
from attrs import define, evolve

from partwise._engine.reconcile import TOKEN_NAME
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.bodies import bytes_body
from partwise.checksums import crc64
from partwise.errors import (
    ConnectionFailed,
    InvalidInput,
    ObjectExists,
    PreconditionFailed,
    UnsupportedOption,
    UploadFailed,
)
from partwise.model import ObjectOptions, PartLimits
from partwise.testing.fakes import ChangingSource
from partwise.testing.faults import Fault, FaultKind

#: What is fixed at initiate by a storage like S3: everything but the conditions, which act when the object is created.
CONDITIONS = frozenset({"forbid_overwrite", "if_match"})

COMPLETE_LOST = Fault("complete_upload", FaultKind.AFTER)
PUT_LOST = Fault("put_object", FaultKind.AFTER)


@define(frozen=True)
class Lock:
    """A value that only one storage knows."""

    until: str
    mode: str = "governance"


@define(frozen=True)
class LockingOptions(ObjectOptions):
    """The options of a storage that locks objects, and encrypts them with a key of the caller."""

    lock: Lock | None = None
    customer_key: str | None = None


@pytest.fixture
def like_s3(make_backend):
    """A bucket that fixes the access rule at initiate, as S3 does."""
    return make_backend(late_options=CONDITIONS)


@pytest.fixture
def like_azure(make_backend):
    """A bucket whose options all act when the parts are committed, as those of Azure block blobs do."""
    return make_backend(late_options=DEFAULT_CAPABILITIES.options)


@pytest.fixture
def locking(make_backend):
    """A bucket of another vendor, with options of its own: one is fixed at initiate, one is sent with each request."""
    return make_backend(
        options={"metadata", "lock", "customer_key"}, late_options={"customer_key"}, option_type=LockingOptions
    )


class Recorded:
    """Keeps the options that a bucket gets with each method."""

    def __init__(self, inner):
        self.inner = inner
        self.initiated, self.completed, self.put = [], [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def initiate_upload(self, key, options):
        self.initiated.append(options)
        return self.inner.initiate_upload(key, options)

    def complete_upload(self, key, upload_id, parts, options):
        self.completed.append(options)
        return self.inner.complete_upload(key, upload_id, parts, options)

    def put_object(self, key, body, options):
        self.put.append(options)
        return self.inner.put_object(key, body, options)


# --- a resumed upload with other options -----------------------------------------------------------------------------


def test_an_access_rule_that_is_fixed_at_initiate_starts_again_if_another_one_is_requested(
    uploader, interrupted, like_s3, source, left_behind
):
    interrupted(source, ObjectOptions(acl="public-read"), backend=like_s3)
    result = uploader(backend=like_s3).upload(source, "key", options=ObjectOptions(acl="private"))

    assert result.warnings == ("started again: other options were requested (acl)",)
    assert (result.parts_resumed, result.parts_sent) == (0, 5)
    assert like_s3.describe("key").acl == "private"
    assert left_behind(like_s3) == []


def test_the_same_access_rule_is_resumed(uploader, interrupted, like_s3, source):
    interrupted(source, ObjectOptions(acl="private"), backend=like_s3)
    result = uploader(backend=like_s3).upload(source, "key", options=ObjectOptions(acl="private"))

    assert (result.parts_resumed, result.warnings) == (2, ())
    assert like_s3.describe("key").acl == "private"


def test_an_access_rule_that_is_no_longer_requested_starts_again(uploader, interrupted, like_s3, source):
    interrupted(source, ObjectOptions(acl="public-read"), backend=like_s3)
    result = uploader(backend=like_s3).upload(source, "key")

    assert result.warnings == ("started again: other options were requested (acl)",)
    assert like_s3.describe("key").acl is None


def test_options_that_all_act_late_are_those_of_the_run_that_completes(uploader, interrupted, like_azure, source):
    before = ObjectOptions(acl="public-read", metadata={"run": "1"}, tags={"a": "b"}, storage_class="archive")
    now = ObjectOptions(acl="private", metadata={"run": "2"}, content_type="text/plain", encryption="KMS")
    interrupted(source, before, backend=like_azure)
    result = uploader(backend=like_azure).upload(source, "key", options=now)

    assert (result.parts_resumed, result.warnings) == (2, ())
    assert like_azure.describe("key") == now


def test_a_checkpoint_records_only_what_is_fixed(interrupted, like_s3, like_azure, source, store):
    options = ObjectOptions(acl="private", metadata={"a": "b"}, forbid_overwrite=True)
    interrupted(source, options, backend=like_s3)
    assert [checkpoint.options for checkpoint in store.scan()] == [{"acl": "private", "metadata": {"a": "b"}}]

    interrupted(
        source, options, backend=MemoryBackend("other", limits=PartLimits(), capabilities=like_azure.capabilities)
    )
    assert {} in [checkpoint.options for checkpoint in store.scan()]


# --- options of one storage ------------------------------------------------------------------------------------------


def test_another_value_of_an_option_of_one_storage_starts_again(uploader, interrupted, locking, source):
    interrupted(source, LockingOptions(lock=Lock("2032-01-01")), backend=locking)
    options = LockingOptions(lock=Lock("2033-01-01"))
    result = uploader(backend=locking).upload(source, "key", options=options)

    assert result.warnings == ("started again: other options were requested (lock)",)
    assert locking.describe("key") == options


def test_an_equal_value_of_an_option_of_one_storage_is_resumed(uploader, interrupted, locking, source):
    interrupted(source, LockingOptions(lock=Lock("2032-01-01")), backend=locking)
    result = uploader(backend=locking).upload(
        source, "key", options=LockingOptions(lock=Lock("2032-01-01", mode="governance"))
    )

    assert (result.parts_resumed, locking.describe("key").lock) == (2, Lock("2032-01-01"))


def test_a_key_that_is_sent_with_each_request_is_in_no_checkpoint(uploader, interrupted, locking, source, store):
    interrupted(source, LockingOptions(customer_key="c2VjcmV0"), backend=locking)
    assert "c2VjcmV0" not in str([checkpoint.to_data() for checkpoint in store.scan()])

    result = uploader(backend=locking).upload(source, "key", options=LockingOptions(customer_key="c2VjcmV0"))
    assert (result.parts_resumed, locking.describe("key").customer_key) == (2, "c2VjcmV0")


def test_the_options_of_another_storage_are_refused_by_name_before_anything_is_sent(uploader, backend, source):
    options = LockingOptions(acl="private", lock=Lock("2032-01-01"))
    with pytest.raises(UnsupportedOption, match=r"memory://bucket does not support lock\. Nothing was sent"):
        uploader().upload(source, "key", options=options)

    assert backend.calls.total() == 0


def test_options_of_another_class_are_accepted_if_only_those_of_all_storages_are_set(uploader, backend, source):
    uploader().upload(source, "key", options=LockingOptions(acl="private"))

    assert backend.describe("key").acl == "private"


def test_a_value_that_no_checkpoint_can_hold_is_refused_before_anything_is_sent(uploader, locking, source):
    with pytest.raises(InvalidInput, match=r"LockingOptions\.lock can't be recorded in a checkpoint: b'2032'"):
        uploader(backend=locking).upload(source, "key", options=LockingOptions(lock=b"2032"))

    assert locking.calls.total() == 0
    assert locking.uploads == {}


def test_options_that_no_checkpoint_can_hold_are_refused_before_anything_is_sent(uploader, backend, source, store):
    options = ObjectOptions(metadata={"a": "x" * 2**20})
    with pytest.raises(InvalidInput, match="exceed 20000 values, 1048576 characters"):
        uploader().upload(source, "key", options=options)

    assert (backend.calls["initiate_upload"], list(store.scan())) == (0, [])


# --- what the backend gets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("object_checksums", [True, False])
def test_complete_gets_the_options_that_initiate_got(uploader, make_backend, source, object_checksums):
    """With the guessed content type, and the token where it is needed."""
    recorded = Recorded(make_backend(object_checksums=object_checksums))
    uploader(backend=recorded).upload(source, "report.pdf", options=ObjectOptions(metadata={"who": "me"}))

    assert recorded.completed == recorded.initiated
    assert recorded.completed[0].content_type == "application/pdf"
    assert recorded.completed[0].metadata.keys() == {"who"} | ({TOKEN_NAME} if not object_checksums else set())


@pytest.mark.parametrize("object_checksums", [True, False])
def test_complete_of_a_resumed_upload_gets_them_too(uploader, faulty, make_backend, source, object_checksums):
    """The token is that of the checkpoint; what acts late is as it is requested now."""
    backend = make_backend(object_checksums=object_checksums)
    first, second = Recorded(backend), Recorded(backend)
    before = ObjectOptions(metadata={"who": "me"}, acl="public-read")
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=first).upload(
            source, "report.pdf", options=before
        )
    result = uploader(backend=second).upload(source, "report.pdf", options=evolve(before, acl="private"))

    assert (result.parts_resumed, second.initiated) == (2, [])
    assert second.completed == [evolve(first.initiated[0], acl="private")]


def test_where_options_act_at_commit_a_lost_response_is_resolved_by_the_token(faulty, make_backend, source):
    backend = make_backend(late_options=DEFAULT_CAPABILITIES.options, object_checksums=False)
    result = faulty(COMPLETE_LOST, backend=backend).upload(source, "report.pdf")

    assert backend.calls["complete_upload"] == 1
    assert backend.describe("report.pdf").content_type == "application/pdf"
    assert "the response to complete was lost" in result.warnings[0]


# --- if_match --------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(backend):
    """An object that is there."""
    return put(backend, b"old")


def put(backend, data):
    return backend.put_object("key", bytes_body(data), ObjectOptions())


THRESHOLDS = {"with one request": 50, "in parts": 0}


@pytest.mark.parametrize("threshold", THRESHOLDS.values(), ids=THRESHOLDS)
def test_the_object_that_is_named_is_replaced(uploader, backend, source, old, threshold):
    options = ObjectOptions(if_match=old.etag)
    uploader(multipart_threshold=threshold).upload(source, "key", options=options)

    assert backend.read("key") == source.data


@pytest.mark.parametrize("threshold", THRESHOLDS.values(), ids=THRESHOLDS)
@pytest.mark.parametrize("newer", [b"newer", None])
def test_another_object_is_not_replaced_nor_one_made_where_there_is_none(
    uploader, make_backend, source, threshold, newer
):
    backend = make_backend()
    if newer is not None:
        put(backend, newer)
    with pytest.raises(UploadFailed) as caught:
        uploader(multipart_threshold=threshold).upload(source, "key", options=ObjectOptions(if_match="OLD"))

    assert isinstance(caught.value.__cause__, PreconditionFailed)
    assert not caught.value.retryable
    assert (backend.read("key") if newer else backend.keys()) == (newer or [])


def test_an_object_that_was_replaced_meanwhile_leaves_an_upload_that_can_be_completed(
    uploader, interrupted, backend, source, old
):
    interrupted(source, ObjectOptions(if_match=old.etag))
    newer = put(backend, b"newer")
    with pytest.raises(UploadFailed) as caught:
        uploader().upload(source, "key", options=ObjectOptions(if_match=old.etag))
    assert isinstance(caught.value.__cause__, PreconditionFailed)
    assert (caught.value.resumable, backend.read("key")) == (True, b"newer")

    result = uploader().upload(source, "key", options=ObjectOptions(if_match=newer.etag))
    assert (result.parts_sent, result.parts_resumed, backend.read("key")) == (0, 5, source.data)


@pytest.mark.parametrize("object_checksums", [True, False])
@pytest.mark.parametrize("lost", [PUT_LOST, COMPLETE_LOST], ids=["put", "complete"])
def test_after_a_lost_response_the_object_in_its_way_is_its_own(faulty, make_backend, source, object_checksums, lost):
    threshold = 50 if lost is PUT_LOST else 0
    backend = make_backend(object_checksums=object_checksums)
    options = ObjectOptions(if_match=put(backend, b"old").etag)
    faulty(lost, backend=backend, multipart_threshold=threshold).upload(source, "key", options=options)

    assert backend.read("key") == source.data
    assert (TOKEN_NAME in backend.describe("key").metadata) is not object_checksums


@pytest.mark.parametrize("object_checksums", [True, False])
def test_its_own_object_is_known_though_the_second_request_is_refused_before_it_is_read(
    uploader, make_backend, source, object_checksums
):
    """As by a storage that compares the condition when it has the header of the request."""
    backend, attempts = make_backend(object_checksums=object_checksums), []
    source = ChangingSource(source.data, chunk_size=5)
    store_object = backend.put_object

    def answer(key, body, options):
        attempts.append(key)
        if len(attempts) == 1:
            store_object(key, body, options)
            raise ConnectionFailed("no response")
        next(body.chunks())
        raise ObjectExists("there is one")

    backend.put_object = answer
    options = ObjectOptions(forbid_overwrite=True)
    result = uploader(backend=backend, multipart_threshold=100).upload(source, "key", options=options)

    assert result.verified is object_checksums
    assert result.checksum == crc64(source.data)
    assert len(attempts) == 2


@pytest.mark.parametrize("object_checksums", [True, False])
def test_after_a_lost_request_the_object_of_another_client_is_not_its_own(
    uploader, make_backend, source, object_checksums
):
    backend = make_backend(object_checksums=object_checksums)
    options = ObjectOptions(if_match=put(backend, b"old").etag)

    class Raced(Recorded):
        def put_object(self, key, body, options):
            if not self.put:
                self.put.append(options)
                put(self.inner, b"of another client")
                raise ConnectionFailed("the request was lost")
            return super().put_object(key, body, options)

    with pytest.raises(UploadFailed) as caught:
        uploader(backend=Raced(backend), multipart_threshold=50).upload(source, "key", options=options)

    assert isinstance(caught.value.__cause__, PreconditionFailed)
    assert backend.read("key") == b"of another client"


def test_a_second_attempt_to_complete_that_meets_its_own_object_is_resolved(faulty, backend, source, old, clock):
    """The first request was slow: it took effect after the bucket was asked, and before the second one."""
    options = ObjectOptions(if_match=old.etag)

    class ComparesFirst(Recorded):
        """Looks at the object before it looks for the upload."""

        def complete_upload(self, key, upload_id, parts, options):
            found = self.inner.head_object(key)
            if found.etag != options.if_match:
                raise PreconditionFailed("it is another one")
            return super().complete_upload(key, upload_id, parts, options)

    made = faulty(Fault("complete_upload", FaultKind.BEFORE), backend=ComparesFirst(backend))

    def arrive():
        if made.backend.plan.reached and backend.uploads:
            [upload] = backend.uploads.values()
            backend.complete_upload("key", upload.upload_id, list(upload.parts.values()), options)

    clock.meanwhile = arrive
    assert made.upload(source, "key", options=options).verified
    assert backend.read("key") == source.data


def test_two_conditions_that_exclude_each_other_are_refused(uploader, backend, source):
    options = ObjectOptions(if_match="E", forbid_overwrite=True)
    with pytest.raises(InvalidInput, match=r"forbid_overwrite and if_match exclude each other\. Pass only one of them"):
        uploader().upload(source, "key", options=options)

    assert backend.calls.total() == 0


def test_a_storage_without_conditions_refuses_one(uploader, make_backend, source):
    backend = make_backend(options={"metadata"})
    with pytest.raises(UnsupportedOption, match="does not support if_match"):
        uploader(backend=backend).upload(source, "key", options=ObjectOptions(if_match="E"))


def test_an_object_that_must_not_be_replaced_is_known_by_its_token_in_the_next_attempt_only(
    uploader, make_backend, source
):
    """A later run has no checkpoint of an object that was stored with one request."""
    backend = make_backend(object_checksums=False)
    once = ObjectOptions(forbid_overwrite=True)
    make = uploader(backend=backend, multipart_threshold=50)
    make.upload(source, "key", options=once)
    with pytest.raises(UploadFailed) as caught:
        make.upload(source, "key", options=once)

    assert isinstance(caught.value.__cause__, ObjectExists)
