"""Ragged rows beside a dictionary of lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.arena import RowArena
from dvm_mpi.dsm.ranges import firsts_of

#: (rows to append, how many of the oldest owners give theirs back, whether to compact)
STEPS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans()), min_size=12, max_size=40
)


@given(steps=STEPS)
def test_agrees_with_a_dictionary(steps: list[tuple[int, int, bool]]) -> None:
    arena, naive = RowArena(np.int64, capacity=2), dict[int, tuple[int, list[int]]]()
    value = 0
    for owner, (count, released, compacts) in enumerate(steps):
        rows = list(range(value, value + count))
        value += count
        naive[owner] = (arena.append(np.array(rows, dtype=np.int64)), rows)
        for old in sorted(naive)[: min(released, len(naive) - 1)]:
            arena.release(len(naive.pop(old)[1]))
        firsts = np.array([first for first, _ in naive.values()])
        counts = np.array([len(rows) for _, rows in naive.values()])
        if compacts:
            firsts = arena.compact(firsts, counts)
            naive = {
                o: (first, rows)
                for (o, (_, rows)), first in zip(naive.items(), firsts.tolist(), strict=True)
            }
            assert arena.used == counts.sum()
            assert arena.garbage == 0
        gathered, moved = arena.gather(firsts, counts)
        assert gathered.tolist() == [row for _, rows in naive.values() for row in rows]
        assert moved.tolist() == firsts_of(counts).tolist()
        for first, kept in naive.values():
            assert arena.rows[first : first + len(kept)].tolist() == kept


def test_memory_stays_in_proportion_to_what_is_live() -> None:
    """Runners come and go for ever; the array must not."""
    arena = RowArena(np.int64)
    counts = np.array([100])
    first = arena.append(np.arange(100))
    for round_ in range(2_000):
        newer = arena.append(np.arange(round_, round_ + 100))
        arena.release(100)
        first = newer
        if arena.wants_compaction:
            first = int(arena.compact(np.array([first]), counts)[0])
        assert arena.rows[first : first + 100].tolist() == list(range(round_, round_ + 100))
    assert len(arena.rows) <= 16_384


def test_forgetting_an_owner_is_noticed() -> None:
    arena = RowArena(np.int64)
    first = arena.append(np.arange(3))
    arena.append(np.arange(4))
    with pytest.raises(AssertionError, match="forgotten"):
        arena.compact(np.array([first]), np.array([3]))


def test_giving_back_too_much_is_noticed() -> None:
    arena = RowArena(np.int64)
    arena.append(np.arange(3))
    with pytest.raises(AssertionError, match="more rows"):
        arena.release(4)
