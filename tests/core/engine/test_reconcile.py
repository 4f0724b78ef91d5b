"""The decision about an upload, from values alone."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
from attrs import evolve
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from partwise._engine.plan import PartPlan
from partwise._engine.reconcile import (
    TOKEN_NAME,
    AlreadyStored,
    Ambiguous,
    CompareWhileReading,
    DamagedCheckpoint,
    Facts,
    Missing,
    NeedChecksums,
    NeedObject,
    NeedPartList,
    PartDecision,
    Resume,
    Start,
    is_same_etag,
    reconcile,
)
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.checksums import crc64, crc64_fold
from partwise.model import Capabilities, PartLimits, StoredObject, UploadedPart

# --- the table -------------------------------------------------------------------------------------------------------

PLAN = PartPlan(10, 25)
DATA = b"abcdefghijKLMNOPQRSTuvwxy"
NOW = Fingerprint(25, 7, "inode")
CHECKSUM = {number: crc64(DATA[10 * number - 10 : 10 * number]) for number in (1, 2, 3)}
PARTS = tuple(UploadedPart(n, size, f"E{n}", CHECKSUM[n]) for n, size in ((1, 10), (2, 10), (3, 5)))
STORED = StoredObject("key", 25, "OBJECT", crc64(DATA))
WANTED = Checkpoint("memory://bucket", "key", "/a/file", NOW, part_size=10, created=2.0)
FOUND = evolve(WANTED, upload_id="ID", parts=PARTS, abandoned=("OLD",), created=1.0)

STREAM = evolve(WANTED, fingerprint=Fingerprint())
STREAM_FOUND = evolve(FOUND, fingerprint=Fingerprint(), parts_per_doubling=500)

#: All that a question can be about, as a world in which nothing went wrong would answer it.
TRUE = {"listed": PARTS, "head": STORED, "local": CHECKSUM}


def part_of(number, size=10, etag=None, crc=None):
    return UploadedPart(number, size, etag or f"E{number}", crc)


def facts(found=FOUND, wanted=WANTED, **known):
    return Facts(wanted, found, **known)


def without_checksum(*parts):
    return tuple(evolve(part, checksum=None) for part in parts)


def actions(decision):
    return [part_decision.action for part_decision in decision.parts]


class TestStarting:
    def test_no_checkpoint_starts(self):
        assert reconcile(facts(None)) == Start()

    def test_an_upload_that_was_not_initiated_starts(self):
        """The ids of older uploads are still to be aborted."""
        assert reconcile(facts(evolve(FOUND, upload_id=None, parts=()))) == Start(abandon=("OLD",))

    def test_a_damaged_checkpoint_starts_again(self):
        assert reconcile(facts(DamagedCheckpoint("the third record is torn"))) == Start("the third record is torn")

    def test_a_damaged_checkpoint_abandons_the_upload_that_could_be_verified(self):
        assert reconcile(facts(DamagedCheckpoint("edited", "ID"))) == Start("edited", ("ID",))


class TestOptions:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("content_type", "text/plain"),
            ("metadata", {"a": "b"}),
            ("storage_class", "IA"),
            ("tags", {"a": "b"}),
            ("encryption", "KMS"),
            ("own_option", ["of one storage", {"a": 1}]),
            ("kms_key_id", "id"),
            ("cache_control", "no-cache"),
            ("content_disposition", "inline"),
            ("content_encoding", "gzip"),
            ("content_language", "en"),
            ("expires", "never"),
        ],
    )
    def test_an_option_that_is_fixed_at_initiate_starts_again(self, name, value):
        wanted = evolve(WANTED, options={name: value})

        assert reconcile(facts(wanted=wanted)) == Start(f"other options were requested ({name})", ("OLD", "ID"))

    def test_all_options_that_differ_are_named(self):
        wanted = evolve(WANTED, options={"storage_class": "IA", "content_type": "a/b"})

        assert reconcile(facts(wanted=wanted)).reason == "other options were requested (content_type, storage_class)"

    def test_an_option_that_is_no_longer_requested_starts_again(self):
        found = evolve(FOUND, options={"acl": "private"})

        assert reconcile(facts(found)).reason == "other options were requested (acl)"

    def test_equal_options_in_another_order_are_the_same(self):
        recorded, requested = (dict.fromkeys(names, 1) for names in ("ab", "ba"))
        found, wanted = evolve(FOUND, options=recorded), evolve(WANTED, options=requested)

        assert isinstance(reconcile(facts(found, wanted=wanted, **TRUE)), Resume)

    def test_what_was_recorded_of_an_option_that_acts_late_does_not_count(self):
        """The storage, or its backend, may have fixed it in an earlier version."""
        found = evolve(FOUND, options={"acl": "private"})
        capabilities = Capabilities({"acl"}, late_options={"acl"})

        assert isinstance(reconcile(facts(found, capabilities=capabilities, **TRUE)), Resume)

    def test_values_of_options_are_not_named(self):
        wanted = evolve(WANTED, options={"customer_key": "c2VjcmV0"})

        assert "c2VjcmV0" not in reconcile(facts(wanted=wanted)).reason

    def test_the_names_in_a_forged_checkpoint_do_not_flood_the_reason(self):
        found = evolve(FOUND, options={f"{n}{'x' * 1000}": n for n in range(1000)})

        assert len(reconcile(facts(found)).reason) < 2000


class TestSourceChanged:
    @pytest.mark.parametrize(
        ("now", "why"),
        [
            (evolve(NOW, size=26), "it had 25 bytes, and now has 26"),
            (evolve(NOW, mtime_ns=8), "it was modified"),
            (evolve(NOW, crc64=1), "its checksum is different"),
        ],
    )
    def test_a_changed_source_starts_again(self, now, why):
        wanted = evolve(WANTED, fingerprint=now)

        assert reconcile(facts(wanted=wanted)) == Start(f"the source changed: {why}", ("OLD", "ID"))

    def test_another_inode_alone_is_not_a_change_if_the_bytes_are_the_same(self):
        """A file system that was mounted again may number its files in another way."""
        now = evolve(NOW, identity="other")
        known = {"wanted": evolve(WANTED, fingerprint=now), "listed": PARTS}

        assert reconcile(facts(**known)) == NeedChecksums(PLAN, (1, 2, 3))

        decision = reconcile(facts(**known, local=CHECKSUM))
        assert actions(decision) == ["keep", "keep", "keep"]
        assert decision.checkpoint.fingerprint == now

    def test_another_inode_and_other_bytes_start_again(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, identity="other"))
        decision = reconcile(facts(wanted=wanted, listed=PARTS, local={**CHECKSUM, 2: 0}))

        assert decision == Start("the source changed: the bytes of part 2 are different", ("OLD", "ID"))

    def test_with_keep_matching_parts_are_kept_whose_checksum_still_matches(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, mtime_ns=8))
        known = {"keep_matching": True, "listed": PARTS}

        assert reconcile(facts(wanted=wanted, **known)) == NeedChecksums(PLAN, (1, 2, 3))

        decision = reconcile(facts(wanted=wanted, **known, local={**CHECKSUM, 2: 0}))
        assert actions(decision) == ["keep", "send", "keep"]
        assert decision.checkpoint.parts == (PARTS[0], PARTS[2])

    def test_a_checkpoint_that_was_kept_is_of_the_new_version(self):
        """Or else the next run would take the source for changed once more."""
        now = evolve(NOW, mtime_ns=8)
        decision = reconcile(facts(wanted=evolve(WANTED, fingerprint=now), keep_matching=True, **TRUE))

        assert decision.checkpoint == evolve(FOUND, fingerprint=now)

    def test_with_keep_matching_a_source_that_grew_keeps_its_whole_parts(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=35))
        decision = reconcile(
            facts(wanted=wanted, keep_matching=True, listed=PARTS, local={1: CHECKSUM[1], 2: CHECKSUM[2]})
        )

        assert actions(decision) == ["keep", "keep", "send", "send"]
        assert decision.parts[2].why == "the storage holds 5 bytes of it, not 10"

    def test_with_keep_matching_a_source_that_shrank_forgets_the_parts_beyond_its_end(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=20))
        decision = reconcile(facts(wanted=wanted, keep_matching=True, listed=PARTS, local=CHECKSUM))

        assert decision.checkpoint.parts == PARTS[:2]

    def test_a_source_that_became_empty_starts_again(self):
        """An upload of zero parts can't be completed."""
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=0))

        assert reconcile(facts(wanted=wanted, keep_matching=True)) == Start("the source is empty now", ("OLD", "ID"))

    def test_with_keep_matching_a_source_that_outgrew_its_parts_starts_again(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=31))

        assert isinstance(
            reconcile(facts(wanted=wanted, keep_matching=True, limits=PartLimits(max_parts=4))), NeedPartList
        )
        assert reconcile(facts(wanted=wanted, keep_matching=True, limits=PartLimits(max_parts=3))) == Start(
            "the source now has more than 3 parts of 10 bytes", ("OLD", "ID")
        )

    def test_a_stream_that_became_a_file_starts_again(self):
        assert isinstance(reconcile(facts(found=STREAM_FOUND)), Start)

    def test_a_file_that_became_a_stream_starts_again(self):
        assert reconcile(facts(wanted=STREAM)) == Start(
            "the source changed: it had a known size, and is a stream now", ("OLD", "ID")
        )


class TestPartSize:
    def test_the_recorded_part_size_is_kept(self):
        decision = reconcile(facts(wanted=evolve(WANTED, part_size=7), **TRUE))

        assert decision.plan == PLAN
        assert decision.checkpoint == FOUND

    @pytest.mark.parametrize(
        ("found", "wanted"), [(STREAM_FOUND, STREAM), (evolve(FOUND, parts_per_doubling=1), WANTED)]
    )
    def test_parts_that_grow_start_again_where_all_must_have_one_size(self, found, wanted):
        equal = Capabilities(equal_part_sizes=True)

        assert reconcile(facts(found, wanted)) == NeedPartList()
        assert reconcile(facts(found, wanted, capabilities=equal)) == Start(
            "the storage requires parts of one size, and the recorded ones grow", ("OLD", "ID")
        )

    def test_parts_that_end_before_they_grow_are_of_one_size(self):
        found = evolve(FOUND, parts_per_doubling=3)

        assert reconcile(facts(found, capabilities=Capabilities(equal_part_sizes=True))) == NeedPartList()


class TestGone:
    def test_the_part_list_is_needed_first(self):
        assert reconcile(facts()) == NeedPartList()

    def test_the_object_is_needed_next(self):
        assert reconcile(facts(listed=Missing.NO_UPLOAD)) == NeedObject()

    def test_no_object_starts_again(self):
        decision = reconcile(facts(listed=Missing.NO_UPLOAD, head=Missing.NO_OBJECT))

        assert isinstance(decision, Start)
        assert "no longer knows the upload" in decision.reason
        assert decision.abandon == ("OLD",), "what is gone need not be aborted"

    def test_an_object_of_another_size_starts_again(self):
        assert isinstance(reconcile(facts(listed=Missing.NO_UPLOAD, head=evolve(STORED, size=24))), Start)

    def test_an_object_of_the_recorded_size_and_checksum_is_compared_with_the_source(self):
        """A checkpoint can be made to say anything."""
        known = {"listed": Missing.NO_UPLOAD, "head": STORED}

        assert reconcile(facts(**known)) == NeedChecksums(PLAN, (1, 2, 3))
        assert reconcile(facts(**known, local=CHECKSUM)) == AlreadyStored(STORED, FOUND)
        assert isinstance(reconcile(facts(**known, local={**CHECKSUM, 2: 0})), Start)

    def test_an_object_of_another_checksum_than_the_recorded_parts_starts_again_without_reading(self):
        assert isinstance(reconcile(facts(listed=Missing.NO_UPLOAD, head=evolve(STORED, checksum=1))), Start)

    def test_parts_that_are_not_recorded_are_read_from_the_source(self):
        found = evolve(FOUND, parts=(PARTS[0], *without_checksum(PARTS[2])))
        known = {"listed": Missing.NO_UPLOAD, "head": STORED}

        assert reconcile(facts(found, **known)) == NeedChecksums(PLAN, (1, 2, 3))
        assert reconcile(facts(found, **known, local=CHECKSUM)) == AlreadyStored(STORED, found)
        assert isinstance(reconcile(facts(found, **known, local={**CHECKSUM, 2: 0, 3: 0})), Start)

    @pytest.mark.parametrize("other", [{"checksum": 0}, {"size": 9}])
    def test_a_recorded_part_of_other_bytes_says_that_the_object_is_not_of_this_upload(self, other):
        """Though it has the bytes of the source as it is now."""
        found = evolve(FOUND, parts=(evolve(PARTS[0], **other), *PARTS[2:]))
        known = {"listed": Missing.NO_UPLOAD, "head": STORED, "local": CHECKSUM}

        assert isinstance(reconcile(facts(found, **known)), Start)

    def test_a_recorded_part_beyond_the_end_says_nothing(self):
        found = evolve(FOUND, parts=(*PARTS, part_of(4, 10)))
        known = {"listed": Missing.NO_UPLOAD, "head": STORED, "local": CHECKSUM}

        assert reconcile(facts(found, **known)) == AlreadyStored(STORED, found)

    def test_records_of_another_version_of_the_source_prove_nothing(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, mtime_ns=8))
        known = {"wanted": wanted, "keep_matching": True, "listed": Missing.NO_UPLOAD, "head": STORED}

        assert reconcile(facts(**known)) == NeedChecksums(PLAN, (1, 2, 3))
        assert reconcile(facts(**known, local=CHECKSUM)) == AlreadyStored(STORED, FOUND)

    @pytest.mark.parametrize(
        ("metadata", "ours"), [({TOKEN_NAME: "TOKEN"}, True), ({TOKEN_NAME: "OTHER"}, False), ({}, False)]
    )
    def test_without_checksums_the_token_decides(self, metadata, ours):
        found = evolve(FOUND, token="TOKEN")
        head = evolve(STORED, checksum=None, metadata=metadata)
        decision = reconcile(facts(found, listed=Missing.NO_UPLOAD, head=head, local=CHECKSUM))

        assert isinstance(decision, AlreadyStored if ours else Start)

    def test_the_token_is_believed_if_each_recorded_part_is_of_the_source(self):
        found = evolve(FOUND, token="TOKEN")
        known = {"listed": Missing.NO_UPLOAD, "head": evolve(STORED, checksum=None, metadata={TOKEN_NAME: "TOKEN"})}

        assert reconcile(facts(found, **known)) == NeedChecksums(PLAN, (1, 2, 3))
        assert isinstance(reconcile(facts(found, **known, local={**CHECKSUM, 2: 0})), Start)

    @pytest.mark.parametrize("parts", [(), PARTS[:2], (*PARTS[:2], *without_checksum(PARTS[2]))])
    def test_the_token_does_not_count_unless_every_part_is_recorded(self, parts):
        found = evolve(FOUND, token="TOKEN", parts=parts)
        head = evolve(STORED, checksum=None, metadata={TOKEN_NAME: "TOKEN"})

        assert isinstance(reconcile(facts(found, listed=Missing.NO_UPLOAD, head=head, local=CHECKSUM)), Start)

    def test_a_token_does_not_make_up_for_another_checksum(self):
        found = evolve(FOUND, token="TOKEN")
        head = evolve(STORED, checksum=1, metadata={TOKEN_NAME: "TOKEN"})

        assert isinstance(reconcile(facts(found, listed=Missing.NO_UPLOAD, head=head, local=CHECKSUM)), Start)

    def test_the_token_of_another_version_of_the_source_does_not_count(self):
        found = evolve(FOUND, token="TOKEN")
        wanted = evolve(WANTED, fingerprint=evolve(NOW, mtime_ns=8))
        head = evolve(STORED, metadata={TOKEN_NAME: "TOKEN"})

        assert isinstance(
            reconcile(facts(found, wanted, keep_matching=True, listed=Missing.NO_UPLOAD, head=head)),
            Start,
        )

    def test_the_token_says_nothing_about_bytes_that_are_to_be_verified(self):
        found = evolve(FOUND, token="TOKEN")
        head = evolve(STORED, checksum=None, metadata={TOKEN_NAME: "TOKEN"})

        assert isinstance(reconcile(facts(found, verify_content=True, listed=Missing.NO_UPLOAD, head=head)), Start)

    def test_if_content_is_to_be_verified_the_object_is_compared_with_the_source(self):
        known = {"verify_content": True, "listed": Missing.NO_UPLOAD, "head": STORED}

        assert reconcile(facts(**known)) == NeedChecksums(PLAN, (1, 2, 3))
        assert reconcile(facts(**known, local=CHECKSUM)) == AlreadyStored(STORED, FOUND)
        assert isinstance(reconcile(facts(**known, local={**CHECKSUM, 2: 0})), Start)

    def test_without_checksum_and_token_it_is_ambiguous(self):
        head = evolve(STORED, checksum=None)

        assert reconcile(facts(listed=Missing.NO_UPLOAD, head=head)) == Ambiguous(head, FOUND)


class TestParts:
    @pytest.mark.parametrize("numbers", [(), (1,), (2,), (1, 3), (2, 3), (1, 2, 3)])
    def test_any_subset_that_both_have_is_kept(self, numbers):
        parts = tuple(part for part in PARTS if part.part_number in numbers)
        decision = reconcile(facts(evolve(FOUND, parts=parts), listed=parts))

        assert decision.checkpoint.parts == parts
        assert actions(decision) == ["keep" if n in numbers else "send" for n in (1, 2, 3)]

    def test_the_order_of_records_means_nothing(self):
        decision = reconcile(facts(evolve(FOUND, parts=PARTS[::-1]), listed=PARTS))

        assert decision.checkpoint.parts == PARTS

    def test_a_checksum_that_only_the_record_has_is_kept(self):
        assert reconcile(facts(listed=without_checksum(*PARTS))).checkpoint.parts == PARTS

    def test_a_checksum_that_only_the_storage_has_is_kept(self):
        assert reconcile(facts(evolve(FOUND, parts=without_checksum(*PARTS)), listed=PARTS)).checkpoint.parts == PARTS

    @pytest.mark.parametrize("verify_content", [False, True])
    def test_a_part_of_another_checksum_is_sent(self, verify_content):
        """Whatever the source says: the storage holds other bytes than were sent."""
        listed = (evolve(PARTS[0], checksum=1), *PARTS[1:])
        decision = reconcile(facts(verify_content=verify_content, listed=listed, local=CHECKSUM))

        assert decision.parts[0] == PartDecision(
            1, "send", "the storage reports another checksum than the recorded one"
        )

    def test_a_part_on_the_storage_only_is_read_before_it_is_decided(self):
        assert reconcile(facts(evolve(FOUND, parts=PARTS[1:]), listed=PARTS)) == NeedChecksums(PLAN, (1,))

    def test_a_part_on_the_storage_only_is_adopted_if_its_checksum_is_the_sources(self):
        decision = reconcile(facts(evolve(FOUND, parts=PARTS[1:]), listed=PARTS, local=CHECKSUM))

        assert actions(decision) == ["adopt", "keep", "keep"]
        assert decision.checkpoint.parts == PARTS

    def test_a_part_on_the_storage_only_of_other_bytes_is_sent(self):
        decision = reconcile(facts(evolve(FOUND, parts=PARTS[1:]), listed=PARTS, local={1: 0}))

        assert decision.parts[0] == PartDecision(1, "send", "the storage holds other bytes of it")
        assert decision.checkpoint.parts == PARTS[1:]

    def test_a_part_on_the_storage_only_without_a_checksum_is_sent(self):
        decision = reconcile(facts(evolve(FOUND, parts=()), listed=without_checksum(*PARTS)))

        assert actions(decision) == ["send"] * 3
        assert "no checksum of it is known" in decision.parts[0].why

    def test_a_part_in_the_checkpoint_only_is_sent(self):
        decision = reconcile(facts(listed=PARTS[:2]))

        assert decision.parts[2] == PartDecision(3, "send", "the storage does not hold it any more")

    def test_a_part_that_is_nowhere_is_sent(self):
        decision = reconcile(facts(evolve(FOUND, parts=()), listed=()))

        assert {part_decision.why for part_decision in decision.parts} == {"it was not sent yet"}

    def test_a_part_of_another_etag_and_unknown_checksum_is_sent(self):
        decision = reconcile(facts(listed=(evolve(PARTS[0], etag="OTHER", checksum=None), *PARTS[1:])))

        assert decision.parts[0].action == "send"
        assert "another version" in decision.parts[0].why

    def test_a_part_of_another_etag_and_checksum_is_sent(self):
        decision = reconcile(facts(listed=(evolve(PARTS[0], etag="OTHER", checksum=0), *PARTS[1:])))

        assert decision.parts[0].action == "send"

    def test_a_part_of_another_etag_and_the_same_checksum_is_kept_with_the_etag_that_is_listed(self):
        """Something during the upload has altered the one that was recorded."""
        held = evolve(PARTS[0], etag="OTHER")
        decision = reconcile(facts(listed=(held, *PARTS[1:])))

        assert decision.parts[0].action == "keep"
        assert decision.checkpoint.parts == (held, *PARTS[1:])

    @pytest.mark.parametrize(
        ("recorded", "listed"),
        [
            ('W/"A1"', '"A1"'),
            ('"A1"', "A1"),
            ('W/"a1b2"', "A1B2"),
            ("w/A1-3", '"a1-3"'),
            (' "A1" ', "A1"),
        ],
    )
    def test_a_part_whose_etag_is_quoted_otherwise_is_kept_with_the_etag_that_is_listed(self, recorded, listed):
        found = evolve(FOUND, parts=(evolve(PARTS[0], etag=recorded), *PARTS[1:]))
        decision = reconcile(facts(found, listed=(evolve(PARTS[0], etag=listed, checksum=None), *PARTS[1:])))

        assert decision.parts[0].action == "keep"
        assert decision.checkpoint.parts == (evolve(PARTS[0], etag=listed), *PARTS[1:])

    @pytest.mark.parametrize(("recorded", "listed"), [("Xyz", "xyz"), ('"A1"', '"A2"'), ("W/", "A"), ("", "A")])
    def test_other_etags_are_different(self, recorded, listed):
        assert not is_same_etag(recorded, listed)

    def test_a_part_of_another_size_is_sent(self):
        decision = reconcile(facts(listed=(*PARTS[:2], evolve(PARTS[2], size=4))))

        assert decision.parts[2] == PartDecision(3, "send", "the storage holds 4 bytes of it, not 5")

    def test_a_part_that_was_recorded_of_another_size_is_sent(self):
        decision = reconcile(facts(evolve(FOUND, parts=(*PARTS[:2], evolve(PARTS[2], size=4))), listed=PARTS))

        assert decision.parts[2].action == "send"

    def test_a_part_beyond_the_end_is_left_out(self):
        stray = part_of(4, 10)

        assert reconcile(facts(evolve(FOUND, parts=(*PARTS, stray)), listed=(*PARTS, stray))).checkpoint.parts == PARTS

    def test_where_the_storage_can_not_list_parts_the_checkpoint_decides(self):
        decision = reconcile(facts(evolve(FOUND, parts=PARTS[:2]), listed=Missing.LISTING_UNSUPPORTED))

        assert actions(decision) == ["keep", "keep", "send"]


class TestVerifyingContent:
    def test_every_part_is_compared_with_the_source(self):
        assert reconcile(facts(verify_content=True, listed=PARTS)) == NeedChecksums(PLAN, (1, 2, 3))

    def test_parts_that_match_are_kept(self):
        decision = reconcile(facts(verify_content=True, **TRUE))

        assert actions(decision) == ["keep"] * 3
        assert decision.parts[0].why == "recorded, on the storage, and its checksum is the source's"

    def test_one_that_does_not_match_says_that_the_source_changed(self):
        decision = reconcile(facts(verify_content=True, listed=PARTS, local={**CHECKSUM, 2: 0}))

        assert decision == Start("the source changed: the bytes of part 2 are different", ("OLD", "ID"))

    def test_with_keep_matching_only_that_one_is_sent(self):
        decision = reconcile(facts(verify_content=True, keep_matching=True, listed=PARTS, local={**CHECKSUM, 2: 0}))

        assert actions(decision) == ["keep", "send", "keep"]

    def test_a_part_that_was_never_known_to_be_of_this_source_says_nothing_about_it(self):
        decision = reconcile(
            facts(evolve(FOUND, parts=PARTS[1:]), verify_content=True, listed=PARTS, local={**CHECKSUM, 1: 0})
        )

        assert actions(decision) == ["send", "keep", "keep"]

    def test_without_any_checksum_a_part_is_sent(self):
        decision = reconcile(
            facts(evolve(FOUND, parts=without_checksum(*PARTS)), verify_content=True, listed=without_checksum(*PARTS))
        )

        assert actions(decision) == ["send"] * 3


class TestStreams:
    def test_the_part_list_is_needed(self):
        assert reconcile(facts(STREAM_FOUND, STREAM)) == NeedPartList()

    def test_what_the_storage_holds_is_compared_while_reading(self):
        decision = reconcile(facts(STREAM_FOUND, STREAM, listed=PARTS))

        assert decision == CompareWhileReading(
            STREAM_FOUND, PartPlan(10, None, 500), dict(enumerate(PARTS, 1)), frozenset({1, 2, 3})
        )

    def test_a_checksum_that_only_the_checkpoint_has_is_kept_with_the_etag_that_is_listed(self):
        held = evolve(PARTS[0], etag=f'W/"{PARTS[0].etag}"', checksum=None)

        assert reconcile(facts(STREAM_FOUND, STREAM, listed=(held,))).candidates == {
            1: evolve(PARTS[0], etag=held.etag)
        }

    def test_a_checksum_that_only_the_record_has_is_enough(self):
        decision = reconcile(facts(STREAM_FOUND, STREAM, listed=without_checksum(*PARTS)))

        assert decision.candidates == dict(enumerate(PARTS, 1))

    @pytest.mark.parametrize("other", [{"etag": "OTHER"}, {"size": 9}])
    def test_a_checksum_of_another_version_of_a_part_is_not_enough(self, other):
        held = evolve(PARTS[0], checksum=None, **other)

        assert reconcile(facts(STREAM_FOUND, STREAM, listed=(held,))).candidates == {}

    def test_a_part_that_was_not_recorded_is_known_by_the_storages_checksum(self):
        found = evolve(STREAM_FOUND, parts=())

        assert reconcile(facts(found, STREAM, listed=PARTS)).candidates == dict(enumerate(PARTS, 1))
        assert reconcile(facts(found, STREAM, listed=without_checksum(*PARTS))).candidates == {}

    def test_where_the_storage_can_not_list_parts_the_checkpoint_decides(self):
        decision = reconcile(facts(STREAM_FOUND, STREAM, listed=Missing.LISTING_UNSUPPORTED))

        assert decision.candidates == dict(enumerate(PARTS, 1))

    def test_an_upload_that_is_gone_starts_again(self):
        decision = reconcile(facts(STREAM_FOUND, STREAM, listed=Missing.NO_UPLOAD))

        assert isinstance(decision, Start)
        assert decision.abandon == ("OLD",)


# --- what a storage can't do -----------------------------------------------------------------------------------------

FINAL = {"capabilities": Capabilities(replaces_parts=False)}
IN_ORDER = {"capabilities": Capabilities(sequential=True)}
CHANGED = evolve(WANTED, fingerprint=evolve(NOW, mtime_ns=8))
KEEP = {"wanted": CHANGED, "keep_matching": True}


def is_restart(decision, reason):
    return isinstance(decision, Start) and reason in decision.reason and decision.abandon == ("OLD", "ID")


class TestStoragesThatReplaceNoParts:
    def test_parts_that_match_are_kept_and_those_that_it_lacks_are_sent(self):
        decision = reconcile(facts(**KEEP, listed=PARTS[:2], local=CHECKSUM, **FINAL))

        assert actions(decision) == ["keep", "keep", "send"]

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_other_bytes_of_a_part_start_again_even_with_keep_matching(self, number):
        decision = reconcile(facts(**KEEP, listed=PARTS, local={**CHECKSUM, number: 0}, **FINAL))

        assert is_restart(decision, f"the storage has part {number}, which has to be sent, and replaces no parts")

    def test_a_last_part_that_grew_starts_again(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=35))
        known = {"wanted": wanted, "keep_matching": True, "listed": PARTS, "local": CHECKSUM}

        assert is_restart(reconcile(facts(**known, **FINAL)), "(the storage holds 5 bytes of it, not 10)")
        assert actions(reconcile(facts(**known))) == ["keep", "keep", "send", "send"]

    @pytest.mark.parametrize("other", [{"etag": "OTHER", "checksum": None}, {"checksum": 0}])
    def test_another_version_of_a_recorded_part_starts_again(self, other):
        listed = (PARTS[0], evolve(PARTS[1], **other), PARTS[2])

        assert is_restart(reconcile(facts(listed=listed, **FINAL)), "the storage has part 2")

    def test_other_bytes_of_a_part_that_is_not_recorded_start_again(self):
        decision = reconcile(facts(evolve(FOUND, parts=PARTS[1:]), listed=PARTS, local={1: 0}, **FINAL))

        assert is_restart(decision, "(the storage holds other bytes of it)")

    def test_unknown_bytes_are_those_of_an_unchanged_source_and_may_be_sent_again(self):
        known = {"found": evolve(FOUND, parts=PARTS[1:]), "listed": (without_checksum(PARTS[0])[0], *PARTS[1:])}

        assert actions(reconcile(facts(**known, **FINAL))) == ["send", "keep", "keep"]
        assert is_restart(reconcile(facts(**known, **KEEP, **FINAL, local=CHECKSUM)), "the storage has part 1")

    def test_what_is_not_listed_is_not_known_if_the_source_changed(self):
        known = {"found": evolve(FOUND, parts=PARTS[:2]), "listed": Missing.LISTING_UNSUPPORTED, "local": CHECKSUM}

        assert is_restart(reconcile(facts(**known, **KEEP, **FINAL)), "the source may have changed")
        assert actions(reconcile(facts(**known, **KEEP))) == ["keep", "keep", "send"]
        assert actions(reconcile(facts(**known, **FINAL))) == ["keep", "keep", "send"]

    def test_a_stream_is_compared_while_it_is_read(self):
        decision = reconcile(facts(STREAM_FOUND, STREAM, listed=PARTS, **FINAL))

        assert (set(decision.candidates), decision.stored) == ({1, 2, 3}, {1, 2, 3})

    def test_a_stream_starts_again_if_the_bytes_of_a_part_are_unknown(self):
        known = {"found": evolve(STREAM_FOUND, parts=PARTS[:1]), "wanted": STREAM, "listed": without_checksum(*PARTS)}

        assert is_restart(reconcile(facts(**known, **FINAL)), "the storage has part 2")
        assert set(reconcile(facts(**known)).candidates) == {1}

    def test_a_stream_starts_again_if_parts_can_not_be_listed(self):
        known = {"listed": Missing.LISTING_UNSUPPORTED, **FINAL}

        assert is_restart(reconcile(facts(STREAM_FOUND, STREAM, **known)), "the source may have changed")


class TestSequentialStorages:
    def test_what_follows_the_last_part_is_sent(self):
        assert actions(reconcile(facts(listed=PARTS[:1], **IN_ORDER))) == ["keep", "send", "send"]

    def test_the_last_part_may_be_sent_again(self):
        decision = reconcile(facts(**KEEP, listed=PARTS[:2], local={**CHECKSUM, 2: 0}, **IN_ORDER))

        assert actions(decision) == ["keep", "send", "send"]

    def test_an_earlier_part_that_has_to_be_sent_starts_again(self):
        decision = reconcile(facts(**KEEP, listed=PARTS, local={**CHECKSUM, 2: 0}, **IN_ORDER))

        assert is_restart(decision, "takes parts in order, and has parts after part 2, which has to be sent")

    def test_a_missing_part_before_others_starts_again(self):
        assert is_restart(reconcile(facts(listed=(PARTS[0], PARTS[2]), **IN_ORDER)), "has parts after part 2")

    def test_a_source_that_ends_before_the_last_part_starts_again(self):
        wanted = evolve(WANTED, fingerprint=evolve(NOW, size=20))
        known = {"wanted": wanted, "keep_matching": True, "listed": PARTS, "local": CHECKSUM}

        assert is_restart(reconcile(facts(**known, **IN_ORDER)), "parts beyond the source's last one, 2")
        assert actions(reconcile(facts(**known))) == ["keep", "keep"]

    def test_what_is_not_listed_is_not_known_if_the_source_changed(self):
        known = {"listed": Missing.LISTING_UNSUPPORTED, "local": CHECKSUM, **IN_ORDER}

        assert is_restart(reconcile(facts(**known, **KEEP)), "the source may have changed")
        assert is_restart(reconcile(facts(STREAM_FOUND, STREAM, **known)), "the source may have changed")

    def test_a_stream_starts_again_if_the_bytes_of_an_earlier_part_are_unknown(self):
        listed = (*without_checksum(PARTS[0]), PARTS[1])
        found = evolve(STREAM_FOUND, parts=())

        assert is_restart(reconcile(facts(found, STREAM, listed=listed, **IN_ORDER)), "has parts after part 1")
        assert reconcile(facts(found, STREAM, listed=listed[:1], **IN_ORDER)).candidates == {}


def test_where_a_key_has_one_upload_another_one_may_have_ended_it():
    known = {"listed": Missing.NO_UPLOAD, "head": Missing.NO_OBJECT}
    one_per_key = Capabilities(one_upload_per_key=True)

    assert "another one of this key" in reconcile(facts(**known, capabilities=one_per_key)).reason
    assert "another one of this key" not in reconcile(facts(**known)).reason


# --- whatever is found -----------------------------------------------------------------------------------------------


@attrs.define(frozen=True)
class World:
    """What there is to be found out."""

    wanted: Checkpoint
    found: Checkpoint | DamagedCheckpoint | None
    listed: tuple[UploadedPart, ...] | Missing
    head: StoredObject | Missing
    local: dict[int, int]
    verify_content: bool
    keep_matching: bool
    capabilities: Capabilities

    def ask(self):
        """The facts as they were at the decision, the decision, and every question that was asked."""
        known = Facts(
            self.wanted,
            self.found,
            verify_content=self.verify_content,
            keep_matching=self.keep_matching,
            capabilities=self.capabilities,
            limits=PartLimits(max_parts=5),
        )
        questions = []
        while len(questions) < 10:
            match step := reconcile(known):
                case NeedPartList():
                    known = evolve(known, listed=self.listed)
                case NeedObject():
                    known = evolve(known, head=self.head)
                case NeedChecksums(_, numbers):
                    known = evolve(known, local={**known.local, **{n: self.local[n] for n in numbers}})
                case decision:
                    return known, decision, questions
            questions.append(step)
        raise AssertionError(f"it never decides, but asks {questions}")


def mostly(value, others):
    """The value, or one of the others in an eighth of the cases."""
    # Several times in `one_of`, a strategy counts once.
    return st.integers(0, 7).flatmap(lambda chosen: st.just(value) if chosen else others)


FINGERPRINTS = st.builds(
    Fingerprint,
    st.sampled_from([25, 45, 25, 45, 5, 50, 0, None]),
    st.integers(0, 1),
    st.sampled_from(["inode", "other"]),
)


#: How a part differs from the one of the source; None: there is no such part.
PART_CHANGES = st.sampled_from(
    [{}] * 6 + [None, {"size": 5}, {"size": 10}, {"etag": "F"}, {"checksum": None}, {"checksum": 0}, {"checksum": 1}]
)


@st.composite
def worlds(draw):
    """
    Worlds whose values mostly agree with each other.

    Of values that are drawn independently, hardly any do, and almost every decision is to start.
    """
    wanted = evolve(WANTED, fingerprint=draw(FINGERPRINTS))
    fingerprint = draw(mostly(wanted.fingerprint, FINGERPRINTS))
    plan = PartPlan(10, wanted.fingerprint.size, draw(st.sampled_from([None, None, 2])))
    sizes = {number: plan.part(number).size for number in range(1, (plan.parts_total or 0) + 1)}
    local = dict(enumerate(draw(st.tuples(*[st.integers(0, 1)] * 6)), start=1))

    def parts(least):
        right = [UploadedPart(number, sizes.get(number, 10), "E", local[number]) for number in local]
        changes = draw(st.lists(PART_CHANGES, min_size=least, max_size=len(sizes) + 1))
        pairs = zip(right, changes, strict=False)
        return tuple(evolve(part, **change) for part, change in pairs if change is not None)

    recorded, listed = parts(0), parts(len(sizes))
    found = evolve(
        wanted,
        upload_id=draw(mostly("ID", st.none())),
        parts=recorded,
        fingerprint=fingerprint,
        token=draw(st.sampled_from([None, "TOKEN"])),
        parts_per_doubling=plan.parts_per_doubling,
        options=draw(mostly({}, st.just({"content_type": "a/b"}))),
    )
    of_source = crc64_fold([(local[number], size) for number, size in sizes.items()])
    head = StoredObject(
        "key",
        draw(st.sampled_from([wanted.fingerprint.size or 25] * 2 + [25, 45])),
        "E",
        draw(st.sampled_from([of_source, None, of_source, 1])),
        metadata=draw(st.sampled_from([{}, {TOKEN_NAME: "TOKEN"}])),
    )
    return World(
        wanted=wanted,
        found=draw(mostly(found, st.none() | st.just(DamagedCheckpoint("edited", "ID")))),
        listed=draw(
            st.sampled_from([Missing.NO_UPLOAD, Missing.LISTING_UNSUPPORTED, Missing.NO_UPLOAD, recorded, listed])
        ),
        head=draw(mostly(head, st.just(Missing.NO_OBJECT))),
        local=local,
        verify_content=draw(st.booleans()),
        keep_matching=draw(st.booleans()),
        capabilities=Capabilities(
            sequential=draw(st.sampled_from([False, False, True])),
            replaces_parts=draw(st.sampled_from([True, True, False])),
        ),
    )


WORLDS = worlds()


def test_the_worlds_lead_to_every_decision():
    """Without that, the properties would hold of any code."""
    seen = Counter()

    @settings(max_examples=300, derandomize=True, database=None, phases=[Phase.generate])
    @given(WORLDS)
    def look(world):
        _, decision, _ = world.ask()
        seen[type(decision)] += 1
        if isinstance(decision, Resume):
            seen.update(set(actions(decision)))

    look()
    least = dict.fromkeys([Start, Resume, CompareWhileReading, AlreadyStored, Ambiguous, "keep", "adopt", "send"], 3)
    assert seen >= Counter(least), dict(seen)


@given(WORLDS)
def test_it_decides_and_asks_nothing_twice(world):
    _, _, questions = world.ask()
    kinds = Counter(type(question) for question in questions)
    read = Counter(n for question in questions if isinstance(question, NeedChecksums) for n in question.part_numbers)

    assert kinds[NeedPartList] <= 1
    assert kinds[NeedObject] <= 1
    assert all(times == 1 for times in read.values())


@given(WORLDS)
def test_it_decides_the_same_of_the_same_facts(world):
    known, decision, _ = world.ask()

    assert reconcile(known) == decision


@given(WORLDS)
def test_it_never_keeps_a_part_that_the_storage_does_not_hold(world):
    known, decision, _ = world.ask()
    if isinstance(decision, Resume):
        assert known.listed is not Missing.NO_UPLOAD
        listed = world.found.parts if world.listed is Missing.LISTING_UNSUPPORTED else world.listed
        held = {part.part_number: part for part in listed}
        recorded = {part.part_number: part for part in world.found.parts}
        for part in decision.checkpoint.parts:
            stored = held[part.part_number]
            assert (part.size, part.etag) == (stored.size, stored.etag)
            assert stored.checksum in (None, part.checksum)
            before = recorded.get(part.part_number, stored)
            assert before.etag == stored.etag or before.checksum == stored.checksum is not None


@given(WORLDS)
def test_it_never_adopts_a_part_without_an_equal_checksum(world):
    _, decision, _ = world.ask()
    if isinstance(decision, Resume):
        recorded = {part.part_number for part in world.found.parts}
        held = {part.part_number: part for part in decision.checkpoint.parts}
        for part_decision in decision.parts:
            if part_decision.action == "adopt":
                assert held[part_decision.part_number].checksum == world.local[part_decision.part_number]
            assert (part_decision.action == "adopt") == (
                part_decision.part_number in held and part_decision.part_number not in recorded
            )


@given(WORLDS)
def test_a_resumed_upload_lacks_only_the_parts_that_are_sent(world):
    _, decision, _ = world.ask()
    if isinstance(decision, Resume):
        numbers = list(range(1, decision.plan.parts_total + 1))
        kept = [part.part_number for part in decision.checkpoint.parts]

        assert [part_decision.part_number for part_decision in decision.parts] == numbers
        assert kept == [part_decision.part_number for part_decision in decision.parts if part_decision.action != "send"]
        assert all(part.size == decision.plan.part(part.part_number).size for part in decision.checkpoint.parts)
        assert numbers, "an upload of zero parts can't be completed"


@given(WORLDS)
def test_what_is_resumed_is_of_the_source_as_it_is_now(world):
    """A source that seems unchanged is trusted, unless its content is to be verified."""
    _, decision, _ = world.ask()
    if isinstance(decision, Resume):
        assert decision.checkpoint.fingerprint == world.wanted.fingerprint
        if world.verify_content or world.found.fingerprint != world.wanted.fingerprint:
            assert all(world.local[part.part_number] == part.checksum for part in decision.checkpoint.parts)


@given(WORLDS)
def test_a_part_is_sent_only_if_the_storage_takes_it(world):
    """Other bytes only where parts are replaced, and nothing before the last part where parts come in order."""
    _, decision, _ = world.ask()
    if isinstance(decision, Resume) and isinstance(world.listed, tuple):
        listed = {part.part_number: part for part in world.listed}
        sent = [part.part_number for part in decision.parts if part.action == "send"]
        if not world.capabilities.replaces_parts:
            changed = world.found.fingerprint != world.wanted.fingerprint
            again = [listed[number] for number in sent if number in listed]

            assert all(
                part.checksum is None and part.size == decision.plan.part(part.part_number).size for part in again
            )
            assert not (again and changed)
        if world.capabilities.sequential:
            assert all(number >= max(listed, default=0) for number in sent)
            assert max(listed, default=0) <= decision.plan.parts_total


@given(WORLDS)
def test_no_upload_becomes_an_orphan(world):
    """What a start leaves behind is aborted, unless it is gone; all else goes on with it."""
    known, decision, _ = world.ask()
    upload_id = None if world.found is None else world.found.upload_id
    if isinstance(decision, Start):
        assert (upload_id in decision.abandon) == (upload_id is not None and known.listed is not Missing.NO_UPLOAD)
    else:
        assert decision.checkpoint.upload_id == upload_id


@given(WORLDS)
def test_an_object_counts_as_ours_only_if_something_shows_it(world):
    _, decision, _ = world.ask()
    if isinstance(decision, AlreadyStored):
        assert world.listed is Missing.NO_UPLOAD
        assert decision.stored.size == world.wanted.fingerprint.size
        assert decision.stored.checksum is not None or world.found.token is not None
        assert world.found.token in (None, decision.stored.metadata.get(TOKEN_NAME))
