"""The policies of `--placement`, each by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.policies import (
    NOTHING_DECLARED,
    PLACEMENTS,
    Declared,
    Random,
    RoundRobin,
    largest_of,
    make_policy,
)
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.holders import ANYONE
from dvm_mpi.layout import PAGE_BYTES, RANGE
from dvm_mpi.options import parse_run, run_parser
from tests.properties import tried

GEOMETRY = Geometry(home_count=4, block_pages=2)


@given(st.lists(st.lists(st.integers(1, 40), max_size=4), max_size=6))
@tried(100)
def test_the_largest_range_of_each(runners: list[list[int]]) -> None:
    ranges = np.array([(0, length) for each in runners for length in each], RANGE)
    counts = np.array([len(each) for each in runners], np.int64)
    assert largest_of(ranges, counts).tolist() == [max(each, default=0) for each in runners]


def test_in_turn_whatever_the_batches() -> None:
    policy = RoundRobin(3)
    dealt = [w for size in (2, 0, 3, 1) for w in policy.near(size, NOTHING_DECLARED).tolist()]
    assert dealt == [0, 1, 2, 0, 1, 2]


def test_lots_are_even_and_the_same_for_a_seed_whatever_the_batches() -> None:
    lots = Random(4, 7).near(40_000, NOTHING_DECLARED)
    counts = np.bincount(lots, minlength=4)
    assert counts.size == 4
    assert (abs(counts - 10_000) < 500).all(), counts
    # Neither the next one nor the one after depends on the last.
    for distance in (1, 2):
        same = (lots[distance:] == lots[:-distance]).mean()
        assert abs(same - 0.25) < 0.02
    again = Random(4, 7)
    parts = [again.near(size, NOTHING_DECLARED) for size in (1, 39_000, 999)]
    assert np.concatenate(parts).tolist() == lots.tolist()
    assert Random(4, 8).near(40_000, NOTHING_DECLARED).tolist() != lots.tolist()


def test_by_data_who_was_sent_memory_has_it_until_it_changes() -> None:
    policy = make_policy("data", GEOMETRY, 4, 0)
    assert policy is not None
    assert policy.looks
    ranges = np.array([(PAGE_BYTES, 4 * PAGE_BYTES)], RANGE)
    one, unchanged, changed = np.array([1]), np.array([1]), np.array([6])
    policy.sent(np.array([3]), 5, Declared(one, ranges, unchanged))
    assert policy.near(1, Declared(one, ranges, unchanged)).tolist() == [3]
    assert policy.near(1, Declared(one, ranges, changed)).tolist() == [1]


def test_by_data_nobody_is_near_who_has_little_more_than_others() -> None:
    """Pages that nobody has read yet lie at all homes: no worker is worth waiting for."""
    policy = make_policy("data", GEOMETRY, 4, 0)
    assert policy is not None
    one, unchanged = np.array([1]), np.array([1])
    for pages, near in ((8, ANYONE), (10, ANYONE), (3, 0), (2, 0)):
        declared = Declared(one, np.array([(0, pages * PAGE_BYTES)], RANGE), unchanged)
        assert policy.near(1, declared).tolist() == [near], pages
    # Of two who have all of it either is as good as the other: work stays where it was last.
    ranges = np.array([(0, 10 * PAGE_BYTES)], RANGE)
    for worker in (3, 2):
        policy.sent(np.array([worker]), 5, Declared(one, ranges, unchanged))
    assert policy.near(1, Declared(one, ranges, unchanged)).tolist() == [2]


def test_every_placement_that_the_command_line_knows_can_be_made() -> None:
    (action,) = (a for a in run_parser()._actions if "--placement" in a.option_strings)
    assert action.choices is not None
    assert tuple(action.choices) == PLACEMENTS
    assert parse_run(["p.dasm"]).placement is None, "what fits the machine"
    assert parse_run(["p.dasm", "--placement", "random"]).placement == "random"
    for placement in PLACEMENTS:
        policy = make_policy(placement, GEOMETRY, 3, 1)
        assert (policy is None) == (placement == "load")
        assert make_policy(placement, GEOMETRY, 1, 1) is None, "one worker gets everything"
