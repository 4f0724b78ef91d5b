"""Valid and invalid configurations."""

from __future__ import annotations

import math

import attrs
import pytest

from partwise.config import TransferConfig
from partwise.errors import InvalidInput


def test_the_defaults_suit_most_programs():
    config = TransferConfig()

    assert (
        config.part_size,
        config.multipart_threshold,
        config.concurrency,
        config.give_up_after,
        config.max_attempts,
        config.bandwidth_limit,
    ) == ("auto", 10 * 2**20, "auto", 300.0, None, None)
    assert (config.retry_base, config.retry_max, config.progress_interval) == (0.5, 30.0, 0.2)
    assert (config.verify_source, config.on_source_change) == ("metadata", "restart")


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("part_size", 1),
        ("multipart_threshold", 0),
        ("concurrency", 1),
        ("max_attempts", 1),
        ("bandwidth_limit", 1),
        ("retry_base", 0),
        ("retry_max", 0),
        ("progress_interval", 0),
    ],
)
def test_a_number_may_be_as_small_as_makes_sense(name, least):
    assert least == getattr(TransferConfig(**{name: least}), name)

    with pytest.raises(InvalidInput, match=rf"TransferConfig\.{name} must be .*, not {least - 1}"):
        TransferConfig(**{name: least - 1})


@pytest.mark.parametrize("name", ["part_size", "multipart_threshold", "concurrency", "max_attempts", "bandwidth_limit"])
@pytest.mark.parametrize("value", [1.0, "8 MiB", True, [1]])
def test_a_count_is_an_integer(name, value):
    with pytest.raises(InvalidInput, match=f"TransferConfig.{name} must be an integer"):
        TransferConfig(**{name: value})


@pytest.mark.parametrize("name", ["retry_base", "retry_max", "progress_interval"])
@pytest.mark.parametrize("value", [math.inf, math.nan, "1", None, True])
def test_seconds_are_a_finite_number(name, value):
    with pytest.raises(InvalidInput, match=f"TransferConfig.{name} must be seconds"):
        TransferConfig(**{name: value})


@pytest.mark.parametrize("name", ["multipart_threshold", "concurrency", "give_up_after"])
def test_not_every_number_can_be_left_out(name):
    with pytest.raises(InvalidInput, match=name):
        TransferConfig(**{name: None})


@pytest.mark.parametrize("name", ["verify_source", "on_source_change"])
def test_a_choice_is_one_of_the_documented_strings(name):
    with pytest.raises(InvalidInput, match=rf"TransferConfig\.{name} must be '.*' or '.*', not 'perhaps'"):
        TransferConfig(**{name: "perhaps"})


def test_it_never_changes_under_its_holder():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        TransferConfig().concurrency = 8
