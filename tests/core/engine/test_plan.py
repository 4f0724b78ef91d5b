"""Plans of parts, from a size, the limits of a storage, and a requested part size."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from partwise._engine.plan import PartPlan, PartRange, is_single_put, plan_parts
from partwise.errors import InvalidInput
from partwise.model import GIB, KIB, MIB, TIB, PartLimits

#: The limits of Alibaba Cloud OSS.
OSS = PartLimits(min_part_size=100 * KIB)

LIMITS = st.builds(
    lambda minimum, more, parts: PartLimits(
        min_part_size=minimum, max_part_size=minimum + more, max_parts=parts, max_object_size=(minimum + more) * parts
    ),
    minimum=st.integers(1, 9 * MIB),
    more=st.integers(0, 5 * GIB),
    parts=st.integers(1, 10_000),
)
STREAM_PLANS = st.builds(PartPlan, st.integers(1, 2**30), st.none(), st.none() | st.integers(1, 2000))
#: Numbers near the edges of generations come up often enough with small ones.
PLANS = st.builds(PartPlan, st.integers(1, 20), st.integers(0, 2000), st.none() | st.integers(1, 4))


def sizes_near(count):
    return st.sampled_from([count - 1, count, count + 1])


# --- known sizes -----------------------------------------------------------------------------------------------------


@given(st.data(), LIMITS)
def test_a_plan_respects_the_limits(data, limits):
    size = data.draw(st.integers(0, limits.max_object_size))
    plan = plan_parts(size, limits, latency=data.draw(st.sampled_from([0.0, 0.1])))

    assert limits.min_part_size <= plan.part_size <= limits.max_part_size
    assert plan.parts_total <= limits.max_parts


@pytest.mark.parametrize(
    ("size", "latency", "part_size"),
    [
        (256 * MIB, 0.0, 8 * MIB),
        (256 * MIB, 0.029, 8 * MIB),
        (256 * MIB, 0.03, MIB),
        (1024 * MIB, 0.2, MIB),
        (1025 * MIB, 0.2, 2 * MIB),
        (5 * GIB, 0.2, 5 * MIB),
        (8 * GIB + 1, 0.2, 8 * MIB),
        (TIB, 0.2, 105 * MIB),
    ],
)
def test_a_long_line_has_up_to_1024_small_parts(size, latency, part_size):
    assert plan_parts(size, OSS, latency=latency).part_size == part_size


def test_a_long_line_does_not_get_smaller_parts_than_the_storage_accepts():
    s3 = PartLimits(min_part_size=5 * MIB)

    assert plan_parts(256 * MIB, s3, latency=0.2).part_size == 5 * MIB


@given(st.data(), LIMITS)
def test_a_requested_part_size_is_used_or_rejected(data, limits):
    size = data.draw(st.integers(0, limits.max_object_size))
    requested = data.draw(st.integers(limits.min_part_size, limits.max_part_size))
    if requested * limits.max_parts >= size:
        assert plan_parts(size, limits, requested) == PartPlan(requested, size)
    else:
        with pytest.raises(InvalidInput, match="Set part_size= to at least"):
            plan_parts(size, limits, requested)


@given(st.data(), LIMITS)
def test_the_part_size_that_the_hint_suggests_is_possible(data, limits):
    size = data.draw(st.integers(limits.min_part_size * limits.max_parts + 1, limits.max_object_size + 1))
    assume(size <= limits.max_object_size)
    with pytest.raises(InvalidInput) as caught:
        plan_parts(size, limits, limits.min_part_size)
    minimum = exact_size(str(caught.value).split("at least ")[1].partition(", or to")[0])

    assert plan_parts(size, limits, minimum).parts_total <= limits.max_parts
    if minimum - 1 >= limits.min_part_size:
        with pytest.raises(InvalidInput):
            plan_parts(size, limits, minimum - 1)


def exact_size(text):
    """The bytes of a size in a message, such as ``5 GiB`` or ``8.3 MiB (8,700,000 bytes)``."""
    number, unit = text.rpartition("(")[2].removesuffix(")").replace(",", "").split()
    units = {"byte": 1, "bytes": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
    return int(number) * units[unit]


@given(st.data(), LIMITS)
def test_one_byte_more_than_the_maximum_is_rejected(data, limits):
    limits = evolve(limits, max_object_size=data.draw(st.integers(0, 2 * limits.max_object_size)))
    maximum = min(limits.max_object_size, limits.max_part_size * limits.max_parts)

    assert plan_parts(maximum, limits).size == maximum
    with pytest.raises(InvalidInput) as caught:
        plan_parts(maximum + 1, limits)
    size, accepted = str(caught.value).split(" are too large for one object: the storage accepts up to ")
    assert (exact_size(size), exact_size(accepted)) == (maximum + 1, maximum)


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (0, 8 * MIB),
        (1, 8 * MIB),
        (10_000 * 8 * MIB - 1, 8 * MIB),
        (10_000 * 8 * MIB, 8 * MIB),
        (10_000 * 8 * MIB + 1, 9 * MIB),
        (10_000 * 9 * MIB, 9 * MIB),
        (10_000 * 9 * MIB + 1, 10 * MIB),
        (10_000 * 5 * GIB - 1, 5 * GIB),
        (10_000 * 5 * GIB, 5 * GIB),
    ],
)
def test_auto_is_8_mib_unless_there_would_be_too_many_parts(size, part_size):
    assert plan_parts(size, OSS) == PartPlan(part_size, size)


@pytest.mark.parametrize(
    ("size", "latency", "part_size"),
    [
        (1 * GIB, 0.029, 8 * MIB),
        (1 * GIB, 0.03, 1 * MIB),
        (1 * GIB + 1, 0.03, 2 * MIB),
        (7 * GIB, 60.0, 7 * MIB),
        (79 * GIB, 60.0, 9 * MIB),
    ],
)
def test_on_a_long_line_auto_is_smaller_up_to_1024_parts(size, latency, part_size):
    assert plan_parts(size, OSS, latency=latency) == PartPlan(part_size, size)


def test_a_requested_part_size_is_used_on_a_long_line():
    assert plan_parts(GIB, OSS, 5 * MIB, latency=1.0) == PartPlan(5 * MIB, GIB)


def test_a_streams_parts_are_not_smaller_on_a_long_line():
    assert plan_parts(None, OSS, latency=1.0) == plan_parts(None, OSS)


def test_the_largest_object_is_planned_without_listing_its_parts():
    plan = plan_parts(10_000 * 5 * GIB, OSS)

    assert plan.size > 48.8 * TIB
    assert plan.parts_total == 10_000
    assert plan.part(10_000) == PartRange(10_000, 9_999 * 5 * GIB, 5 * GIB)
    assert plan.number_at(plan.size - 1) == 10_000


def test_auto_is_never_below_the_minimum_part_size():
    assert plan_parts(1, PartLimits(min_part_size=16 * MIB)).part_size == 16 * MIB


def test_auto_is_never_above_the_maximum_part_size():
    assert plan_parts(1, PartLimits(max_part_size=MIB)).part_size == MIB


def test_auto_rounds_up_to_whole_mebibytes_within_the_limits():
    limits = PartLimits(max_part_size=9 * MIB - 1, max_parts=1, max_object_size=TIB)

    assert plan_parts(8 * MIB + 1, limits).part_size == 9 * MIB - 1


@pytest.mark.parametrize("requested", [100 * KIB, 100 * KIB + 1, 5 * GIB - 1, 5 * GIB])
def test_a_requested_part_size_within_bounds_is_used(requested):
    assert plan_parts(10 * GIB if requested > GIB else 1, OSS, requested).part_size == requested


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("requested", [1, 100 * KIB - 1, 5 * GIB + 1])
def test_a_requested_part_size_out_of_bounds_is_rejected(size, requested):
    with pytest.raises(
        InvalidInput, match=r" is out of bounds: the storage accepts parts of 100 KiB to 5 GiB$"
    ) as caught:
        plan_parts(size, OSS, requested)
    assert exact_size(str(caught.value).removeprefix("the part size of ").partition(" is out")[0]) == requested


@pytest.mark.parametrize("part_size", [1, 7, 100 * KIB, 8 * MIB])
@pytest.mark.parametrize("parts", [1, 2, 9_999, 10_000])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_sizes_at_the_boundary_of_a_part(part_size, parts, more):
    size = parts * part_size + more
    total = parts - (more == -1 and part_size == 1) + (more == 1)
    if total > 10_000:
        with pytest.raises(InvalidInput, match="10,001 parts"):
            plan_parts(size, PartLimits(), part_size)
        return
    plan = plan_parts(size, PartLimits(), part_size)

    assert plan.parts_total == total
    if total:
        last = plan.part(total)
        assert last.offset + last.size == size
        assert 1 <= last.size <= part_size


def test_an_empty_source_has_no_parts():
    assert plan_parts(0, OSS).parts_total == 0
    assert PartPlan(10, 0, parts_per_doubling=3).parts_total == 0


@pytest.mark.parametrize(
    ("size", "threshold", "single"),
    [(0, 0, True), (0, 10, True), (1, 0, False), (9, 10, True), (10, 10, False), (12, 99, True), (13, 99, False)],
)
def test_small_objects_are_stored_by_a_single_put(size, threshold, single):
    assert is_single_put(size, PartLimits(max_put_size=12), threshold) == single


# --- streams ---------------------------------------------------------------------------------------------------------


@given(LIMITS)
@example(OSS)
@example(PartLimits())
def test_a_streams_parts_respect_the_limits_up_to_the_last_part_number(limits):
    plan = plan_parts(None, limits)

    assert plan.part(1).size >= limits.min_part_size
    assert plan.part(limits.max_parts).size <= limits.max_part_size


@given(LIMITS)
def test_a_streams_parts_do_not_double_where_equal_sizes_are_required(limits):
    plan = plan_parts(None, limits, equal_part_sizes=True)

    assert plan.parts_per_doubling is None
    assert plan.part(limits.max_parts).size == plan.part_size


@given(st.data(), LIMITS)
def test_a_stream_starts_with_the_requested_part_size(data, limits):
    requested = data.draw(st.integers(limits.min_part_size, limits.max_part_size))

    assert plan_parts(None, limits, requested).part(1).size == requested


def test_a_stream_starts_small_and_may_be_terabytes_long():
    plan = plan_parts(None, OSS)
    last = plan.part(10_000)

    assert (plan.part_size, plan.parts_per_doubling) == (8 * MIB, 1000)
    assert last.offset + last.size > 7.8 * TIB
    assert plan.parts_total is None


def test_a_part_size_doubles_nine_times_at_most():
    plan = plan_parts(None, OSS, 100 * KIB)

    assert plan.parts_per_doubling == 1000
    assert plan.part(10_000).size == 512 * 100 * KIB


def test_a_part_size_that_can_not_double_stays_the_same():
    assert plan_parts(None, OSS, 4 * GIB).parts_per_doubling is None
    assert plan_parts(None, OSS, 5 * GIB // 2).parts_per_doubling == 5_000


# --- offsets ---------------------------------------------------------------------------------------------------------


@given(STREAM_PLANS, st.integers(1, 10_000))
def test_each_part_starts_where_the_previous_one_ends(plan, number):
    part, following = plan.part(number), plan.part(number + 1)

    assert following.offset == part.offset + part.size
    assert part.size <= following.size <= 2 * part.size
    assert plan.part(1).offset == 0


@given(STREAM_PLANS, st.integers(1, 10_000))
def test_number_at_finds_the_part_of_any_byte(plan, number):
    part = plan.part(number)

    assert {plan.number_at(part.offset), plan.number_at(part.offset + part.size - 1)} == {number}
    assert plan.number_at(part.offset + part.size) == number + 1


@given(PLANS)
def test_the_parts_of_a_known_size_cover_it(plan):
    parts = [plan.part(number) for number in range(1, plan.parts_total + 1)]

    assert sum(part.size for part in parts) == plan.size
    assert [part.offset for part in parts] == [sum(p.size for p in parts[:n]) for n in range(len(parts))]
    assert all(part.size for part in parts)
    assert all(part.size == evolve(plan, size=None).part(part.part_number).size for part in parts[:-1])


@given(PLANS)
def test_there_is_no_part_beyond_the_last(plan):
    with pytest.raises(ValueError, match=f"there is no part {plan.parts_total + 1} of {plan.size} bytes"):
        plan.part(plan.parts_total + 1)


@given(STREAM_PLANS)
def test_there_is_no_part_before_the_first(plan):
    with pytest.raises(ValueError, match="part numbers start at 1, not at 0"):
        plan.part(0)
