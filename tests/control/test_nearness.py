"""Which worker runners are near to, and the head of the queue sorted by that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import NEARNESS_PLACES
from dvm_mpi.control.nearness import ANYONE, NOWHERE, Front, Nearness, places_of
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.properties import tried

GEOMETRY = Geometry(home_count=4, block_pages=2)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40)), max_size=4), max_size=6)
)
@tried(200)
def test_a_place_is_the_middle_of_the_largest_range(runners: list[list[tuple[int, int]]]) -> None:
    ranges = [(page * PAGE_BYTES, 1000 * length) for each in runners for page, length in each]
    counts = np.array([len(each) for each in runners], np.int64)
    found = places_of(np.array(ranges, RANGE), counts).tolist()
    expected = []
    for each in runners:
        page, length = max(each, key=lambda one: one[1], default=(NOWHERE, 0))
        expected.append(page + 500 * length // PAGE_BYTES if each else NOWHERE)
    assert found == expected


def nearest(nearness: Nearness, *places: int, is_woken: bool = False) -> list[int]:
    found: list[int] = nearness.workers(np.array(places), np.full(len(places), is_woken)).tolist()
    return found


def test_at_first_the_home_is_near_and_then_whoever_had_it() -> None:
    nearness = Nearness(GEOMETRY, 4)
    assert nearest(nearness, 0, 2, 7, 8, NOWHERE) == [0, 1, 3, 0, ANYONE]
    nearness.note(np.array([2, NOWHERE, 7]), 0)
    assert nearest(nearness, 0, 2, 7, 8, NOWHERE) == [0, 0, 0, 0, ANYONE]
    nearness.note(np.array([2]), 3)
    assert nearest(nearness, 2, 7) == [3, 0]


def test_who_was_woken_is_near_to_the_home() -> None:
    """What woke it was stored there, and what the last one had of it is old."""
    nearness = Nearness(GEOMETRY, 4)
    nearness.note(np.array([2]), 3)
    assert nearest(nearness, 2, is_woken=True) == [1]


def test_more_places_than_slots_are_forgotten_and_never_mistaken() -> None:
    nearness = Nearness(GEOMETRY, 5)
    places = np.arange(3 * NEARNESS_PLACES)
    nearness.note(places, 4)
    found = nearness.workers(places, np.zeros(places.size, bool))
    assert ((found == 4) | (found == GEOMETRY.home_of(places))).all()
    assert NEARNESS_PLACES // 2 < (found == 4).sum() <= NEARNESS_PLACES


def test_near_ones_are_dealt_first_then_those_for_anyone_then_others() -> None:
    front = Front(3)
    near = np.array([0, 1, 1, ANYONE, 0, 1])
    front.fill(np.arange(10, 16), near, ready_count=3)
    assert front.near_counts.tolist() == [2, 3, 0]
    dealt = [(at, rows.tolist()) for at, rows in front.deal(np.array([1, 2]), np.array([1, 3]))]
    assert dealt == [(0, [11]), (1, [13]), (1, [10, 14])]
    assert len(front) == 2
    assert front.take(9).tolist() == [12, 15]


def test_of_very_many_near_to_one_worker_most_are_for_anyone() -> None:
    front = Front(4)
    front.fill(np.arange(100), np.zeros(100, np.int64), ready_count=4)
    assert front.near_counts.tolist() == [50, 0, 0, 0]
    (_, rows), *_ = front.deal(np.array([3]), np.array([2]))
    assert rows.tolist() == [50, 51]


@given(
    near=st.lists(st.integers(ANYONE, 3), max_size=40),
    deals=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=4)),
)
@tried(200)
def test_every_runner_is_dealt_once(near: list[int], deals: list[list[tuple[int, int]]]) -> None:
    front = Front(4)
    front.fill(np.arange(len(near)), np.array(near, np.int64), ready_count=4)
    out: list[int] = []
    for deal in deals:
        wanted = dict(deal)
        workers = np.array(sorted(wanted), np.int64)
        counts = np.array([wanted[worker] for worker in workers.tolist()], np.int64)
        before = len(front)
        taken = [row for _, rows in front.deal(workers, counts) for row in rows.tolist()]
        assert len(taken) == min(before, sum(wanted.values()))
        out += taken
        front.check_invariants()
    out += front.take(len(near)).tolist()
    assert sorted(out) == list(range(len(near)))


def test_it_is_filled_only_when_it_is_empty() -> None:
    """Else those that are there could be passed by for ever."""
    front = Front(2)
    front.fill(np.arange(2), np.array([0, 1]), ready_count=2)
    with pytest.raises(AssertionError, match="passed by"):
        front.fill(np.arange(2), np.array([0, 1]), ready_count=2)
