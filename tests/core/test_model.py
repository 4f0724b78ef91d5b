"""The values that cross the protocols."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends.oss import Callback, OSSOptions
from partwise.checkpoint import Checkpoint, Fingerprint, checkpoint_name
from partwise.checksums import SHA256
from partwise.errors import InvalidInput, UnsupportedOption
from partwise.model import (
    GIB,
    KIB,
    MIB,
    TIB,
    Capabilities,
    ObjectOptions,
    PartLimits,
    StoredObject,
    UploadedPart,
    utc,
)
from partwise.results import Progress, UploadResult

KEPT = {"location": "l", "key": "k", "source": "s", "fingerprint": Fingerprint(), "part_size": 1}
CHECKPOINT = Checkpoint("memory://bucket", "key", "/a/file", Fingerprint(25), part_size=10)

#: For each option a value that is not its default.
OPTIONS = {
    "content_type": "text/plain",
    "acl": "private",
    "metadata": {"a": "b"},
    "storage_class": "IA",
    "tags": {"c": "d"},
    "forbid_overwrite": True,
    "encryption": "KMS",
    "kms_key_id": "id",
    "cache_control": "no-cache",
    "content_disposition": "inline",
    "content_encoding": "gzip",
    "content_language": "en",
    "expires": "Thu, 01 Jan 2026 00:00:00 GMT",
    "if_match": "E",
}


@attrs.define(frozen=True)
class Lock:
    """The value of an option of one storage."""

    until: str
    days: int | None = None
    names: tuple[str, ...] = ()
    notes: dict[str, str] = attrs.field(factory=dict)


@attrs.define(frozen=True)
class OtherOptions(ObjectOptions):
    """Options of one storage, with a value of its own class and one that JSON has not."""

    lock: Lock | None = None
    size: int = 5
    when: object = None
    required: str = attrs.field(kw_only=True)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UploadedPart(0, 1, "E"), "UploadedPart.part_number must be an integer from 1 to 100000, not 0"),
        (lambda: UploadedPart(1, -1, "E"), "UploadedPart.size must be an integer of at least 0, not -1"),
        (lambda: Fingerprint(-1), "Fingerprint.size must be an integer of at least 0, not -1"),
        (lambda: attrs.evolve(CHECKPOINT, part_size=0), "Checkpoint.part_size must be an integer of at least 1, not 0"),
        (
            lambda: attrs.evolve(CHECKPOINT, parts_per_doubling=0),
            "Checkpoint.parts_per_doubling must be an integer of at least 1, not 0",
        ),
        (lambda: PartLimits(min_part_size=0), "PartLimits.min_part_size must be an integer of at least 1, not 0"),
        (lambda: PartLimits(max_parts=0), "PartLimits.max_parts must be an integer from 1 to 100000, not 0"),
        (lambda: PartLimits(min_part_size=9, max_part_size=8), "min_part_size 9 is above max_part_size 8"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_units_and_limits_are_those_of_the_documentation():
    assert (KIB, MIB, GIB, TIB) == (1024, 1_048_576, 1_073_741_824, 1_099_511_627_776)
    assert attrs.astuple(PartLimits()) == (1, 5_368_709_120, 10_000, 53_687_091_200_000, 5_368_709_120)
    capabilities = attrs.asdict(Capabilities())
    assert capabilities.pop("options") == frozenset()
    assert {name for name, value in capabilities.items() if value is True} == {
        "lists_parts",
        "lists_uploads",
        "replaces_parts",
        "aborts",
    }


@pytest.mark.parametrize(
    ("kind", "needed", "name", "least", "most"),
    [
        (PartLimits, {"max_part_size": 2**64 - 1}, "min_part_size", 1, 18_446_744_073_709_551_615),
        (PartLimits, {"min_part_size": 1}, "max_part_size", 1, 18_446_744_073_709_551_615),
        (PartLimits, {}, "max_parts", 1, 100_000),
        (PartLimits, {}, "max_object_size", 0, None),
        (PartLimits, {}, "max_put_size", 0, None),
        (UploadedPart, {"size": 1, "etag": "E"}, "part_number", 1, 100_000),
        (UploadedPart, {"part_number": 1, "etag": "E"}, "size", 0, 18_446_744_073_709_551_615),
        (UploadedPart, {"part_number": 1, "size": 1, "etag": "E"}, "checksum", 0, 2**512 - 1),
        (Fingerprint, {}, "size", 0, 18_446_744_073_709_551_615),
        (Fingerprint, {}, "mtime_ns", -18_446_744_073_709_551_615, 18_446_744_073_709_551_615),
        (Fingerprint, {}, "crc64", 0, 18_446_744_073_709_551_615),
        (OSSOptions, {}, "traffic_limit", -18_446_744_073_709_551_615, 18_446_744_073_709_551_615),
        (Checkpoint, KEPT, "part_size", 1, 18_446_744_073_709_551_615),
        (Checkpoint, KEPT, "parts_per_doubling", 1, 18_446_744_073_709_551_615),
        (Checkpoint, KEPT, "created", 0, 253_402_300_799),
    ],
)
def test_a_number_has_bounds_on_both_sides(kind, needed, name, least, most):
    for value in (least, 2**64 if most is None else most):
        assert getattr(kind(**{**needed, name: value}), name) == value
    for value in (least - 1, 2**128 + 1 if most is None else most + 1):
        with pytest.raises(InvalidInput, match=rf"{kind.__name__}\.{name} must be"):
            kind(**{**needed, name: value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "an integer of at least 1"),
        ("1", "an integer of at least 1"),
        (2**64, "an integer from 1 to 18446744073709551615"),
    ],
)
def test_a_number_that_is_too_large_is_refused_with_the_maximum(value, expected):
    with pytest.raises(InvalidInput, match=f"PartLimits.min_part_size must be {expected}, not"):
        PartLimits(min_part_size=value)


def test_a_checkpoint_contains_only_parts_and_ids():
    assert attrs.evolve(CHECKPOINT, parts=[UploadedPart(1, 1, "E")], abandoned=["A"]).abandoned == ("A",)
    for name, value in [("parts", [UploadedPart(1, 1, "E"), "E"]), ("abandoned", ["A", None]), ("abandoned", "AB")]:
        with pytest.raises(InvalidInput):
            attrs.evolve(CHECKPOINT, **{name: value})


def test_limits_may_leave_no_choice():
    assert PartLimits(min_part_size=8, max_part_size=8).max_part_size == 8


@pytest.mark.parametrize(
    "value",
    [
        CHECKPOINT,
        Callback("u", "b"),
        OSSOptions(),
        Capabilities(),
        Fingerprint(),
        ObjectOptions(),
        PartLimits(),
        Progress(0, None),
        StoredObject("k", 0, "E"),
        UploadedPart(1, 1, "E"),
        UploadResult("k", 0, "E"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_changes_under_its_holder(value):
    name = attrs.fields(type(value))[0].name

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, None)


def test_mappings_that_are_passed_are_copied():
    """A value can't be changed by changing its arguments."""
    metadata, parts, options = {"a": "b"}, [UploadedPart(1, 1, "E")], {"acl"}
    values = (
        ObjectOptions(metadata=metadata, tags=metadata),
        Callback("u", "b", variables=metadata),
        StoredObject("k", 0, "E", metadata=metadata),
        attrs.evolve(CHECKPOINT, parts=parts),
        Capabilities(options),
    )
    metadata.clear()
    parts.clear()
    options.clear()

    assert values[0].metadata == values[0].tags == {"a": "b"}
    assert values[1].variables == {"a": "b"}
    assert values[2].metadata == {"a": "b"}
    assert values[3].parts == (UploadedPart(1, 1, "E"),)
    assert values[4].options == {"acl"}


# --- options ---------------------------------------------------------------------------------------------------------


def test_every_option_is_tried_here():
    assert {a.name for a in attrs.fields(ObjectOptions)} == set(OPTIONS)


def test_no_option_is_given_by_default():
    assert ObjectOptions().explicitly_set() == frozenset()


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_differs_from_the_default_is_given(name):
    assert ObjectOptions(**{name: OPTIONS[name]}).explicitly_set() == {name}


def test_options_of_one_storage_differ_from_their_own_defaults():
    options = OtherOptions(acl="private", size=6, required="a")

    assert options.explicitly_set() == {"acl", "size", "required"}


@given(st.sets(st.sampled_from(sorted(OPTIONS))), st.sets(st.sampled_from(sorted(OPTIONS))))
def test_the_fixed_options_are_those_that_are_set_and_do_not_act_late(names, late):
    options = ObjectOptions(**{name: OPTIONS[name] for name in names})

    assert options.fixed_data(late) == {name: OPTIONS[name] for name in names - late}
    assert options.explicitly_set() == names


def test_the_fixed_options_of_one_storage_are_plain_data_too():
    lock = Lock("2032-01-01", names=("a",), notes={"b": "c"})

    assert OtherOptions(lock=lock, required="a").fixed_data(()) == {
        "lock": {"until": "2032-01-01", "names": ["a"], "notes": {"b": "c"}},
        "required": "a",
    }


def test_plain_data_shares_nothing_with_the_options():
    options = ObjectOptions(metadata={"a": "b"})
    options.fixed_data(())["metadata"]["a"] = "c"

    assert options.metadata == {"a": "b"}


@pytest.mark.parametrize("value", [b"secret", {1, 2}, datetime(2032, 1, 1, tzinfo=UTC), object])
def test_an_option_that_can_t_be_recorded_is_refused_by_name_unless_it_acts_late(value):
    options = OtherOptions(when=value, required="a")

    with pytest.raises(InvalidInput, match=r"OtherOptions\.when can't be recorded in a checkpoint: .* not plain data"):
        options.fixed_data(())
    assert options.fixed_data({"when"}) == {"required": "a"}


def test_a_backend_refuses_the_options_of_another_storage_by_name():
    capabilities = Capabilities({"acl", "size"})

    with pytest.raises(UnsupportedOption, match=r"s3://bucket does not support lock, required\. Nothing was sent"):
        OtherOptions(acl="private", lock=Lock("x"), size=6, required="a").require_supported_by(
            capabilities, "s3://bucket"
        )
    ObjectOptions(acl="private").require_supported_by(capabilities, "s3://bucket")


def test_what_acts_late_must_be_supported():
    assert Capabilities({"acl"}, late_options={"acl"}).late_options == {"acl"}
    with pytest.raises(InvalidInput, match=r"Capabilities\.late_options has names that are not in options: \['acl'\]"):
        Capabilities({"metadata"}, late_options={"acl"})


@pytest.mark.parametrize("kind", [Lock, "ObjectOptions", None, ObjectOptions()])
def test_the_class_of_options_must_be_one(kind):
    assert Capabilities(option_type=OtherOptions).option_type is OtherOptions
    with pytest.raises(InvalidInput, match=r"Capabilities\.option_type must be ObjectOptions or a subclass of it, not"):
        Capabilities(option_type=kind)


# --- the checkpoint's name -------------------------------------------------------------------------------------------


def test_a_name_is_32_hexadecimal_digits():
    assert len(CHECKPOINT.name) == 32
    assert set(CHECKPOINT.name) <= set("0123456789abcdef")


def test_a_name_is_the_same_from_version_to_version():
    """Otherwise existing checkpoints would not be found."""
    assert checkpoint_name("memory://bucket", "key", "/a/file") == "cf8cc4409936c71c8e04f30f5f9c0f72"


@given(st.lists(st.text(max_size=3), min_size=6, max_size=6))
def test_names_differ_wherever_location_key_or_source_differ(texts):
    one, other = texts[:3], texts[3:]

    assert (checkpoint_name(*one) == checkpoint_name(*other)) == (one == other)


def test_what_was_done_does_not_change_the_name():
    assert attrs.evolve(CHECKPOINT, upload_id="ID", part_size=7, parts=(UploadedPart(1, 7, "E"),)).name == (
        CHECKPOINT.name
    )


def test_a_key_that_no_encoding_holds_still_has_a_name():
    assert len(checkpoint_name("memory://bucket", "key", "/a/\udcff")) == 32


def test_a_checkpoint_has_the_bytes_of_its_parts():
    parts = (UploadedPart(2, 10, "E"), UploadedPart(3, 5, "E"))

    assert attrs.evolve(CHECKPOINT, parts=parts).bytes_done == 15


# --- progress --------------------------------------------------------------------------------------------------------


def test_the_fraction_is_of_the_total():
    assert Progress(25, 100).fraction == 0.25


def test_the_fraction_is_not_known_before_the_total_is():
    assert Progress(25, None).fraction is None


def test_the_fraction_reaches_one_only_when_the_object_is_there():
    assert Progress(100, 100, completed=True).fraction == 1.0
    assert Progress(0, 0).fraction == 0.0
    assert Progress(0, 0, completed=True).fraction == 1.0


def test_the_rate_leaves_out_what_was_resumed():
    assert Progress(80, 100, bytes_resumed=40, elapsed=4.0).rate == 10.0


def test_checksums_of_objects_need_an_algorithm_that_can_be_combined():
    with pytest.raises(InvalidInput, match="object_checksums requires an algorithm that can be combined, and sha256"):
        Capabilities(object_checksums=True, checksum=SHA256)
    assert Capabilities(object_checksums=False, checksum=SHA256).checksum == SHA256


def test_there_is_no_rate_before_time_has_passed():
    assert Progress(80, 100).rate == 0.0


def test_the_time_left_follows_from_the_rate():
    assert Progress(80, 100, bytes_resumed=40, elapsed=4.0).eta == 2.0


def test_the_time_left_is_not_known_without_a_total_or_a_rate():
    assert Progress(80, None, elapsed=4.0).eta is None
    assert Progress(40, 100, bytes_resumed=40, elapsed=4.0).eta is None
    assert Progress(0, 100).eta is None


def test_there_is_no_checkpoint_unless_one_was_given():
    assert Progress(0, 100).checkpoint is None
    assert Progress(0, 100, checkpoint=lambda: CHECKPOINT).checkpoint is CHECKPOINT


def test_progress_compares_and_prints_without_its_checkpoint():
    assert Progress(0, 100, checkpoint=lambda: CHECKPOINT) == Progress(0, 100)
    assert "checkpoint" not in repr(Progress(0, 100, checkpoint=lambda: CHECKPOINT))


def test_utc_has_its_time_zone():
    assert utc(0) == datetime(1970, 1, 1, tzinfo=UTC)
