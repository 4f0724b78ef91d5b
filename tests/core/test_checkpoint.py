"""Checkpoints as plain data, which is not trusted when it is read."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from functools import reduce

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partwise.checkpoint import (
    OPTIONS_DEPTH_MAX,
    OPTIONS_TEXT_MAX,
    OPTIONS_VALUES_MAX,
    Checkpoint,
    Fingerprint,
)
from partwise.errors import CheckpointDamaged, InvalidInput
from partwise.model import PART_NUMBER_MAX, UploadedPart, utc

TEXTS = st.text(max_size=8)


def depth_of(value):
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
    return 1


COUNTS = st.integers(0, 2**63)
CHECKSUMS = st.none() | st.integers(0, 2**64 - 1)
MAPPINGS = st.dictionaries(TEXTS, TEXTS, max_size=3)
PARTS = st.builds(UploadedPart, st.integers(1, 10_000), COUNTS, TEXTS, CHECKSUMS)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64) + 1, 2**64 - 1) | st.floats(-1e19, 1e19) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).filter(lambda value: depth_of(value) < OPTIONS_DEPTH_MAX)
OPTIONS = st.dictionaries(TEXTS, PLAIN, max_size=4)
TIMES = st.integers(-(2**63), 2**63)
FINGERPRINTS = st.builds(Fingerprint, st.none() | COUNTS, st.none() | TIMES, st.none() | TEXTS, CHECKSUMS)
CHECKPOINTS = st.builds(
    Checkpoint,
    location=TEXTS,
    key=TEXTS,
    source=TEXTS,
    fingerprint=FINGERPRINTS,
    part_size=st.integers(1, 2**40),
    parts_per_doubling=st.none() | st.integers(1, 10_000),
    options=OPTIONS,
    upload_id=st.none() | TEXTS,
    parts=st.lists(PARTS, max_size=4, unique_by=lambda part: part.part_number),
    token=st.none() | TEXTS,
    abandoned=st.lists(TEXTS, max_size=3),
    created=st.floats(0, 253_402_300_799),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**4000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)

CHECKPOINT = Checkpoint(
    "memory://bucket",
    "key",
    "/a/file",
    Fingerprint(25, 7, "inode"),
    part_size=10,
    options={"metadata": {"a": "b"}, "retention": {"days": 7, "rules": ["a", None, True]}},
    upload_id="ID",
    parts=(UploadedPart(1, 10, "E1", 2**64 - 1), UploadedPart(2, 10, "E2")),
    abandoned=("OLD",),
    created=1.5,
)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@given(CHECKPOINTS)
def test_a_checkpoint_survives_json(checkpoint):
    assert Checkpoint.from_data(json.loads(json.dumps(checkpoint.to_data()))) == checkpoint


@pytest.mark.parametrize(
    "change", [{"\x1b[2J\n": 1}, {"fingerprint": {"\x1b[2J\n": 1}}, {"part_size": "\x1b\n"}, {"version": "\x1b\n"}]
)
def test_a_message_has_no_control_characters_of_the_data(change):
    with pytest.raises(CheckpointDamaged) as caught:
        Checkpoint.from_data({**CHECKPOINT.to_data(), **change})
    assert str(caught.value).isprintable()


WITH_NUMBER = {
    "number of a part": lambda number: attrs.evolve(CHECKPOINT, parts=(UploadedPart(number, 1, "E"),)),
    "size of a part": lambda number: attrs.evolve(CHECKPOINT, parts=(UploadedPart(1, number, "E"),)),
    "size of parts": lambda number: attrs.evolve(CHECKPOINT, part_size=number),
    "parts per doubling": lambda number: attrs.evolve(CHECKPOINT, parts_per_doubling=number),
    "size of the source": lambda number: attrs.evolve(CHECKPOINT, fingerprint=Fingerprint(number)),
}


@pytest.mark.parametrize("place", WITH_NUMBER)
@given(number=st.integers(0, 2**130))
@example(PART_NUMBER_MAX)
@example(PART_NUMBER_MAX + 1)
@example(2**64 - 1)
@example(2**64)
def test_a_number_that_could_not_be_read_again_is_refused_at_once(place, number):
    try:
        checkpoint = WITH_NUMBER[place](number)
    except InvalidInput:
        return
    assert Checkpoint.from_data(checkpoint.to_data()) == checkpoint


def test_the_plain_form_is_stable():
    """One version writes it and the next one reads it."""
    assert CHECKPOINT.to_data() == {
        "version": 2,
        "location": "memory://bucket",
        "key": "key",
        "source": "/a/file",
        "fingerprint": {"size": 25, "mtime_ns": 7, "identity": "inode"},
        "part_size": 10,
        "options": {"metadata": {"a": "b"}, "retention": {"days": 7, "rules": ["a", None, True]}},
        "upload_id": "ID",
        "parts": [[1, 10, "E1", "18446744073709551615"], [2, 10, "E2", None]],
        "abandoned": ["OLD"],
        "created": 1.5,
    }


def test_plain_data_shares_nothing_with_the_checkpoint():
    data = CHECKPOINT.to_data()
    data["options"]["metadata"]["a"] = "c"
    data["options"]["retention"]["rules"].clear()
    data["parts"].clear()

    assert CHECKPOINT.options == {"metadata": {"a": "b"}, "retention": {"days": 7, "rules": ["a", None, True]}}
    assert len(CHECKPOINT.parts) == 2


def test_a_checkpoint_shares_nothing_with_the_data_that_it_is_made_of():
    data = deepcopy(CHECKPOINT.to_data())
    checkpoint = Checkpoint.from_data(data)
    data["options"]["retention"]["rules"].clear()

    assert checkpoint == CHECKPOINT


def test_a_time_may_be_an_integer():
    assert Checkpoint.from_data({**CHECKPOINT.to_data(), "created": 2}).created == 2.0


@pytest.mark.parametrize("data", [None, [], "text", 1, True])
def test_data_that_is_not_a_dict_is_refused(data):
    with pytest.raises(CheckpointDamaged, match="a dict of named fields, not a"):
        Checkpoint.from_data(data)


@pytest.mark.parametrize("version", [None, 0, 3, "1", "2", True, 1.0, 2.0])
def test_another_version_is_refused(version):
    with pytest.raises(
        CheckpointDamaged,
        match=rf"the checkpoint is of version {version!r}, and this version of partwise reads versions 1 to 2\. Resume",
    ):
        Checkpoint.from_data({**CHECKPOINT.to_data(), "version": version})


def test_data_without_a_version_is_refused():
    data = CHECKPOINT.to_data()
    del data["version"]

    with pytest.raises(CheckpointDamaged, match="of version None"):
        Checkpoint.from_data(data)


@pytest.mark.parametrize("where", [[], ["fingerprint"]])
def test_an_unknown_field_is_refused(where):
    """A field that an older version does not know may change the meaning of others."""
    data = deepcopy(CHECKPOINT.to_data())
    place = data
    for name in where:
        place = place[name]
    place["novelty"] = 1

    with pytest.raises(CheckpointDamaged, match="novelty"):
        Checkpoint.from_data(data)


@pytest.mark.parametrize("name", ["location", "key", "source", "fingerprint", "part_size"])
def test_a_field_without_a_default_is_required(name):
    data = CHECKPOINT.to_data()
    del data[name]

    with pytest.raises(CheckpointDamaged, match=name):
        Checkpoint.from_data(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("location", None),
        ("key", 1),
        ("part_size", "10"),
        ("part_size", 10.0),
        ("part_size", True),
        ("part_size", 0),
        ("parts_per_doubling", 0),
        ("created", "1.5"),
        ("created", True),
        ("fingerprint", []),
        ("fingerprint", {"size": -1}),
        ("fingerprint", {"size": "25"}),
        ("options", None),
        ("options", []),
        ("options", "metadata"),
        ("options", {1: "a"}),
        ("options", {"metadata": {1: "a"}}),
        ("options", {"metadata": b"a"}),
        ("options", {"metadata": {"a"}}),
        ("options", {"limit": float("nan")}),
        ("upload_id", 1),
        ("abandoned", "OLD"),
        ("abandoned", [1]),
        ("parts", {}),
        ("parts", [[1, 10, "E1"]]),
        ("parts", [[0, 10, "E1", None]]),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(CheckpointDamaged, match=r"can't be read: .+"):
        Checkpoint.from_data({**CHECKPOINT.to_data(), name: value})


def test_a_part_number_that_occurs_twice_is_refused():
    data = CHECKPOINT.to_data()
    data["parts"].append([1, 10, "E3", None])

    with pytest.raises(CheckpointDamaged, match=r"Checkpoint\.parts must contain each part number only once"):
        Checkpoint.from_data(data)
    with pytest.raises(InvalidInput, match=r"Checkpoint\.parts must contain each part number only once"):
        attrs.evolve(CHECKPOINT, parts=(*CHECKPOINT.parts, UploadedPart(1, 10, "E3")))


@given(st.sampled_from([a.name for a in attrs.fields(Checkpoint)]), ANYTHING)
def test_any_wrong_value_raises_checkpoint_damaged(name, value):
    """Any accepted value makes a valid checkpoint."""
    with suppress(CheckpointDamaged):
        checkpoint = Checkpoint.from_data({**CHECKPOINT.to_data(), name: value})
        assert Checkpoint.from_data(checkpoint.to_data()) == checkpoint


NUMBERS_OF_A_CHECKPOINT = [
    ["part_size"],
    ["parts_per_doubling"],
    ["fingerprint", "size"],
    ["fingerprint", "mtime_ns"],
    ["fingerprint", "crc64"],
    ["options", "retention", "days"],
    ["created"],
    ["version"],
]


@pytest.mark.parametrize("where", NUMBERS_OF_A_CHECKPOINT, ids=".".join)
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), 1e20, 1e308, -1e20, 2**64, -(2**64), 10**400, -(10**400), 10**5000],
    ids=lambda value: f"{value:g}" if isinstance(value, float) else f"{value.bit_length()} bits",
)
def test_an_invalid_number_is_damage(where, value):
    data = deepcopy(CHECKPOINT.to_data())
    place = data
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = value

    with pytest.raises(CheckpointDamaged):
        Checkpoint.from_data(data)


@pytest.mark.parametrize(
    "options",
    [
        {"a": "x" * OPTIONS_TEXT_MAX},
        {"x" * OPTIONS_TEXT_MAX: "a"},
        {"a": [0] * (OPTIONS_VALUES_MAX - 2)},
        {str(n): n for n in range(OPTIONS_VALUES_MAX // 2)},
        {"a": reduce(lambda inner, _: [inner], range(OPTIONS_DEPTH_MAX - 1), 0)},
        {"a": reduce(lambda inner, _: {"b": inner}, range(OPTIONS_DEPTH_MAX - 1), 0)},
    ],
    ids=["text", "name", "values", "names", "lists", "mappings"],
)
def test_options_beyond_a_bound_are_damage(options):
    """The bounds are of all texts, names and values together."""
    with pytest.raises(CheckpointDamaged, match=r"exceed 20000 values, 1048576 characters or 8 levels"):
        Checkpoint.from_data({**CHECKPOINT.to_data(), "options": options})
    with pytest.raises(InvalidInput, match="exceed 20000 values"):
        attrs.evolve(CHECKPOINT, options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"a": "x" * (OPTIONS_TEXT_MAX - 1)},
        {"a": [0] * (OPTIONS_VALUES_MAX - 3)},
        {"a": reduce(lambda inner, _: [inner], range(OPTIONS_DEPTH_MAX - 2), 0)},
    ],
    ids=["text", "values", "lists"],
)
def test_options_at_a_bound_are_read(options):
    assert Checkpoint.from_data({**CHECKPOINT.to_data(), "options": options}).options == options


def test_options_of_a_storage_that_is_not_known_here_are_kept():
    options = {"server_side_key": "k", "lock": {"until": "2032-01-01"}}

    assert Checkpoint.from_data({**CHECKPOINT.to_data(), "options": options}).options == options


@pytest.mark.parametrize("created", [-1, -1e-9, 253_402_300_800, "2024", True, None])
def test_a_time_without_a_date_is_damage(created):
    with pytest.raises(CheckpointDamaged):
        Checkpoint.from_data({**CHECKPOINT.to_data(), "created": created})


@pytest.mark.parametrize("created", [0, 253_402_300_799])
def test_the_first_and_the_last_time_have_dates(created):
    utc(Checkpoint.from_data({**CHECKPOINT.to_data(), "created": created}).created)


@pytest.mark.parametrize("created", [float("nan"), float("inf"), 1e20, -1.0])
def test_a_checkpoint_can_t_be_created_with_a_time_without_a_date(created):
    with pytest.raises(InvalidInput, match=r"Checkpoint\.created must be seconds since 1970"):
        attrs.evolve(CHECKPOINT, created=created)


@pytest.mark.parametrize("name", [a.name for a in attrs.fields(Checkpoint)] + ["version", "novelty"])
@pytest.mark.parametrize("depth", [10, 900, 5000])
def test_deeply_nested_data_is_damage(name, depth):
    with pytest.raises(CheckpointDamaged) as caught:
        Checkpoint.from_data({**CHECKPOINT.to_data(), name: nested(depth)})
    assert len(str(caught.value)) < 500


def test_a_message_shows_only_the_start_of_a_wrong_value():
    for data in (
        {**CHECKPOINT.to_data(), "x" * 10**6: 1},
        {**CHECKPOINT.to_data(), "part_size": "x" * 10**6},
        {**CHECKPOINT.to_data(), "parts": [["x" * 10**6] * 1000]},
        {**CHECKPOINT.to_data(), "version": list(range(10**5))},
    ):
        with pytest.raises(CheckpointDamaged) as caught:
            Checkpoint.from_data(data)
        assert len(str(caught.value)) < 500


# --- uploaded parts --------------------------------------------------------------------------------------------------


@given(PARTS)
def test_an_uploaded_part_survives_json(part):
    assert UploadedPart.from_data(json.loads(json.dumps(part.to_data()))) == part


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        [1, 10, "E"],
        [1, 10, "E", None, None],
        ["1", 10, "E", None],
        [True, 10, "E", None],
        [1, True, "E", None],
        [1, 10.0, "E", None],
        [1, 10, None, None],
        [1, 10, "E", 7],
        [0, 10, "E", None],
        [1, -1, "E", None],
        [1, 10, "E", ""],
        [1, 10, "E", "-1"],
        [1, 10, "E", "+1"],
        [1, 10, "E", "1.0"],
        [1, 10, "E", " 1"],
        [1, 10, "E", "1_0"],
        [1, 10, "E", "\N{ARABIC-INDIC DIGIT ONE}"],
        [1, 10, "E", str(2**512)],
        [1, 10, "E", "0" * 156],
        "1234",
        [PART_NUMBER_MAX + 1, 10, "E", None],
        [1, 2**64, "E", None],
        [1, 10**5000, "E", None],
        nested(900),
        [1, 10, nested(900), None],
    ],
)
def test_data_that_is_not_a_part_is_refused(data):
    with pytest.raises(CheckpointDamaged, match=r"not (an uploaded part|a checksum)|must be an integer"):
        UploadedPart.from_data(data)


def test_the_highest_part_number_is_accepted():
    assert UploadedPart.from_data([PART_NUMBER_MAX, 2**64 - 1, "E", None]).part_number == 100_000


def test_the_largest_checksum_is_accepted():
    assert UploadedPart.from_data([1, 10, "E", str(2**512 - 1)]).checksum == 2**512 - 1
