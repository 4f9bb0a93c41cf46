"""The head of the queue, sorted by the worker that each runner is near to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import FRONT_RUNNERS
from dvm_mpi.control.nearness import Front
from dvm_mpi.dsm.holders import ANYONE
from tests.properties import tried


def deal(front: Front, workers: list[int], wanted: list[int]) -> dict[int, list[int]]:
    """Return what each position is dealt, in order."""
    positions, rows = front.deal(np.array(workers), np.array(wanted))
    assert positions.tolist() == sorted(positions.tolist())
    return {at: rows[positions == at].tolist() for at in np.unique(positions).tolist()}


def test_near_ones_are_dealt_first_then_those_for_anyone_then_others() -> None:
    front = Front(3)
    near = np.array([0, 1, 1, ANYONE, 0, 1])
    front.fill(np.arange(10, 16), near, ready_count=3)
    assert front.near_counts.tolist() == [2, 3, 0]
    assert deal(front, [1, 2], [1, 3]) == {0: [11], 1: [13, 10, 14]}
    assert len(front) == 2
    assert front.take(9).tolist() == [12, 15]


def test_those_for_anyone_are_dealt_in_their_order() -> None:
    front = Front(3)
    front.fill(np.arange(10, 16), None, ready_count=3)
    assert front.is_for_anyone
    assert front.near_counts.tolist() == [0, 0, 0]
    assert deal(front, [0, 1, 2], [2, 0, 9]) == {0: [10, 11], 2: [12, 13, 14, 15]}
    front.check_invariants()
    assert len(front) == 0


def test_of_very_many_near_to_one_worker_most_are_for_anyone() -> None:
    front = Front(4)
    front.fill(np.arange(100), np.zeros(100, np.int64), ready_count=4)
    assert front.near_counts.tolist() == [50, 0, 0, 0]
    assert deal(front, [3], [2]) == {0: [50, 51]}


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
        taken = front.deal(workers, counts)[1].tolist()
        assert len(taken) == min(before, sum(wanted.values()))
        out += taken
        front.check_invariants()
    out += front.take(len(near)).tolist()
    assert sorted(out) == list(range(len(near)))


def test_more_are_added_behind_the_others_of_their_group() -> None:
    front = Front(3)
    front.fill(np.arange(10, 14), np.array([0, 0, 1, ANYONE]), ready_count=3)
    assert front.room > 4
    front.add(np.arange(20, 23), np.array([2, ANYONE, 0]), ready_count=3)
    front.check_invariants()
    assert front.near_counts.tolist() == [3, 1, 1]
    assert deal(front, [0, 1, 2], [3, 1, 9]) == {0: [10, 11, 22], 1: [12], 2: [20, 13, 21]}


def test_those_for_anyone_need_nobody_behind_them() -> None:
    front = Front(2)
    front.fill(np.arange(4), None, ready_count=2)
    assert front.room == 0


def test_so_many_are_added_at_most_before_all_have_been_dealt() -> None:
    """Else one that is near to nobody in particular could be passed by for ever."""
    front = Front(2)
    front.fill(np.array([7, 8]), np.array([ANYONE, 0]), ready_count=2)
    added = 0
    while (room := front.room) > 0:
        front.add(np.arange(room), np.zeros(room, np.int64), ready_count=2)
        added += room
        front.deal(np.array([0]), np.array([int(front.near_counts[0]) - 1]))
    assert added == FRONT_RUNNERS
    front.take(len(front))
    front.fill(np.array([7, 8]), np.array([ANYONE, 0]), ready_count=2)
    assert front.room > 0


def test_it_is_filled_only_when_it_is_empty() -> None:
    """Else those that are there could be passed by for ever."""
    front = Front(2)
    front.fill(np.arange(2), np.array([0, 1]), ready_count=2)
    with pytest.raises(AssertionError, match="passed by"):
        front.fill(np.arange(2), np.array([0, 1]), ready_count=2)
