"""From a size, the storage's limits and a wish to a plan of parts."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from partwise._engine.plan import PartPlan, PartRange, is_single_put, plan_parts
from partwise.errors import InvalidInput
from partwise.model import GIB, KIB, MIB, TIB, PartLimits

#: Those of Alibaba Cloud OSS.
OSS = PartLimits(min_part_size=100 * KIB)

LIMITS = st.builds(
    lambda least, more, parts: PartLimits(
        min_part_size=least, max_part_size=least + more, max_parts=parts, max_object_size=(least + more) * parts
    ),
    least=st.integers(1, 9 * MIB),
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
def test_a_plan_keeps_to_the_limits(data, limits):
    size = data.draw(st.integers(0, limits.max_object_size))
    plan = plan_parts(size, limits)

    assert limits.min_part_size <= plan.part_size <= limits.max_part_size
    assert plan.parts_total <= limits.max_parts


@given(st.data(), LIMITS)
def test_a_wish_is_kept_to_or_refused(data, limits):
    size = data.draw(st.integers(0, limits.max_object_size))
    wish = data.draw(st.integers(limits.min_part_size, limits.max_part_size))
    if wish * limits.max_parts >= size:
        assert plan_parts(size, limits, wish) == PartPlan(wish, size)
    else:
        with pytest.raises(InvalidInput, match="choose a part size of at least"):
            plan_parts(size, limits, wish)


@given(st.data(), LIMITS)
def test_the_part_size_that_a_refusal_names_would_do(data, limits):
    size = data.draw(st.integers(limits.min_part_size * limits.max_parts + 1, limits.max_object_size + 1))
    assume(size <= limits.max_object_size)
    with pytest.raises(InvalidInput) as caught:
        plan_parts(size, limits, limits.min_part_size)
    least = int(str(caught.value).split("at least ")[1].split()[0])

    assert plan_parts(size, limits, least).parts_total <= limits.max_parts
    if least - 1 >= limits.min_part_size:
        with pytest.raises(InvalidInput):
            plan_parts(size, limits, least - 1)


@given(st.data(), LIMITS)
def test_one_byte_more_than_the_storage_takes_is_refused(data, limits):
    limits = evolve(limits, max_object_size=data.draw(st.integers(0, 2 * limits.max_object_size)))
    most = min(limits.max_object_size, limits.max_part_size * limits.max_parts)

    assert plan_parts(most, limits).size == most
    with pytest.raises(InvalidInput, match=f"{most + 1} bytes are more than the storage takes .* which is {most} "):
        plan_parts(most + 1, limits)


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
def test_auto_takes_8_mib_and_more_only_where_it_must(size, part_size):
    assert plan_parts(size, OSS) == PartPlan(part_size, size)


def test_the_largest_object_there_can_be_is_planned_without_listing_its_parts():
    plan = plan_parts(10_000 * 5 * GIB, OSS)

    assert plan.size > 48.8 * TIB
    assert plan.parts_total == 10_000
    assert plan.part(10_000) == PartRange(10_000, 9_999 * 5 * GIB, 5 * GIB)
    assert plan.number_at(plan.size - 1) == 10_000


def test_auto_is_never_below_what_the_storage_takes():
    assert plan_parts(1, PartLimits(min_part_size=16 * MIB)).part_size == 16 * MIB


def test_auto_is_never_above_what_the_storage_takes():
    assert plan_parts(1, PartLimits(max_part_size=MIB)).part_size == MIB


def test_auto_rounds_up_to_whole_mebibytes_only_as_far_as_the_storage_takes():
    limits = PartLimits(max_part_size=9 * MIB - 1, max_parts=1, max_object_size=TIB)

    assert plan_parts(8 * MIB + 1, limits).part_size == 9 * MIB - 1


@pytest.mark.parametrize("wish", [100 * KIB, 100 * KIB + 1, 5 * GIB - 1, 5 * GIB])
def test_a_wish_within_bounds_is_granted(wish):
    assert plan_parts(10 * GIB if wish > GIB else 1, OSS, wish).part_size == wish


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("wish", [1, 100 * KIB - 1, 5 * GIB + 1])
def test_a_wish_out_of_bounds_is_refused(size, wish):
    with pytest.raises(InvalidInput, match=f"a part size of {wish} bytes is out of bounds: .* 102400 to 5368709120"):
        plan_parts(size, OSS, wish)


@pytest.mark.parametrize("part_size", [1, 7, 100 * KIB, 8 * MIB])
@pytest.mark.parametrize("parts", [1, 2, 9_999, 10_000])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_sizes_at_the_edge_of_a_part(part_size, parts, more):
    size = parts * part_size + more
    total = parts - (more == -1 and part_size == 1) + (more == 1)
    if total > 10_000:
        with pytest.raises(InvalidInput, match="10001 parts"):
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
    ("size", "threshold", "one"),
    [(0, 0, True), (0, 10, True), (1, 0, False), (9, 10, True), (10, 10, False), (12, 99, True), (13, 99, False)],
)
def test_what_is_small_goes_in_one_piece(size, threshold, one):
    assert is_single_put(size, PartLimits(max_put_size=12), threshold) == one


# --- streams ---------------------------------------------------------------------------------------------------------


@given(LIMITS)
@example(OSS)
@example(PartLimits())
def test_a_streams_parts_keep_to_the_limits_for_as_long_as_numbers_last(limits):
    plan = plan_parts(None, limits)

    assert plan.part(1).size >= limits.min_part_size
    assert plan.part(limits.max_parts).size <= limits.max_part_size


@given(LIMITS)
def test_a_streams_parts_do_not_grow_where_they_may_not(limits):
    plan = plan_parts(None, limits, equal_part_sizes=True)

    assert plan.parts_per_doubling is None
    assert plan.part(limits.max_parts).size == plan.part_size


@given(st.data(), LIMITS)
def test_a_stream_begins_with_the_part_size_that_was_wished_for(data, limits):
    wish = data.draw(st.integers(limits.min_part_size, limits.max_part_size))

    assert plan_parts(None, limits, wish).part(1).size == wish


def test_a_stream_begins_small_and_has_room_for_terabytes():
    plan = plan_parts(None, OSS)
    last = plan.part(10_000)

    assert (plan.part_size, plan.parts_per_doubling) == (8 * MIB, 1000)
    assert last.offset + last.size > 7.8 * TIB
    assert plan.parts_total is None


def test_a_part_size_doubles_nine_times_at_most():
    plan = plan_parts(None, OSS, 100 * KIB)

    assert plan.parts_per_doubling == 1000
    assert plan.part(10_000).size == 512 * 100 * KIB


def test_a_part_size_that_can_not_double_never_does():
    assert plan_parts(None, OSS, 4 * GIB).parts_per_doubling is None
    assert plan_parts(None, OSS, 5 * GIB // 2).parts_per_doubling == 5_000


# --- where parts lie -------------------------------------------------------------------------------------------------


@given(STREAM_PLANS, st.integers(1, 10_000))
def test_each_part_begins_where_the_one_before_ends(plan, number):
    part, following = plan.part(number), plan.part(number + 1)

    assert following.offset == part.offset + part.size
    assert part.size <= following.size <= 2 * part.size
    assert plan.part(1).offset == 0


@given(STREAM_PLANS, st.integers(1, 10_000))
def test_a_part_is_known_by_any_byte_of_it(plan, number):
    part = plan.part(number)

    assert {plan.number_at(part.offset), plan.number_at(part.offset + part.size - 1)} == {number}
    assert plan.number_at(part.offset + part.size) == number + 1


@given(PLANS)
def test_the_parts_of_a_known_size_make_it_up(plan):
    parts = [plan.part(number) for number in range(1, plan.parts_total + 1)]

    assert sum(part.size for part in parts) == plan.size
    assert [part.offset for part in parts] == [sum(p.size for p in parts[:n]) for n in range(len(parts))]
    assert all(part.size for part in parts)
    assert all(part.size == evolve(plan, size=None).part(part.part_number).size for part in parts[:-1])


@given(PLANS)
def test_there_is_no_part_beyond_the_last(plan):
    with pytest.raises(ValueError, match=f"{plan.size} bytes have no part {plan.parts_total + 1}"):
        plan.part(plan.parts_total + 1)


@given(STREAM_PLANS)
def test_there_is_no_part_before_the_first(plan):
    with pytest.raises(ValueError, match="parts are numbered from 1, not 0"):
        plan.part(0)
