"""The staging arena beside a list of occupied bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dvm_mpi import config
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, Staged
from dvm_mpi.dsm.staging import Division, StagingArena, arena_slice_bytes, cut_parts
from dvm_mpi.layout import PAGE_BYTES
from tests.properties import tried


def part_of(serial, part, *lengths):
    runs = np.array([(1_000 * k, length, 77) for k, length in enumerate(lengths)], RUN)
    return Staged(1, serial, part, False, runs, np.empty(0, np.uint8))


HOMES, SLICE_BYTES = 2, 100


class ArenaBesideBytes(RuleBasedStateMachine):
    """Parts are placed and given back at two homes, in order or not."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = StagingArena(SLICE_BYTES)
        self.held: list[dict[int, set[int]]] = [{} for _ in range(HOMES)]
        self.serial = 0

    @rule(
        home=st.integers(0, HOMES - 1), lengths=st.lists(st.integers(1, 30), min_size=1, max_size=3)
    )
    def place(self, home: int, lengths: list[int]) -> None:
        self.serial += 1
        placed = self.arena.place(home, part_of(self.serial, 0, *lengths))
        if placed is None:
            # Who is refused finds room once the slice is empty: it has something to wait for.
            assert self.held[home]
            return
        firsts = placed.runs["data_first"].tolist()
        assert firsts == [firsts[0] + sum(lengths[:k]) for k in range(len(lengths))]
        taken = set(range(firsts[0], firsts[0] + sum(lengths)))
        assert max(taken) < SLICE_BYTES
        assert all(taken.isdisjoint(other) for other in self.held[home].values())
        self.held[home][self.serial] = taken

    @precondition(lambda self: any(self.held))
    @rule(data=st.data(), home=st.integers(0, HOMES - 1))
    def release(self, data: st.DataObject, home: int) -> None:
        home = home if self.held[home] else 1 - home
        oldest = next(iter(self.held[home]))
        serial = data.draw(st.just(oldest) | st.sampled_from(list(self.held[home])))
        self.arena.release(home, serial, 0)
        del self.held[home][serial]

    @invariant()
    def agree(self) -> None:
        self.arena.check_invariants()
        for home, held in enumerate(self.held):
            assert self.arena.parts_under_way(home) == len(held)


TestArenaBesideBytes = ArenaBesideBytes.TestCase
TestArenaBesideBytes.settings = tried(40, steps=30)


def test_a_full_slice_refuses_until_it_is_released():
    arena = StagingArena(100)
    first = arena.place(0, part_of(1, 0, 60))
    assert first is not None
    assert arena.place(0, part_of(1, 1, 41)) is None
    second = arena.place(0, part_of(1, 1, 40))
    assert second is not None
    assert second.runs["data_first"].tolist() == [60]
    assert arena.place(0, part_of(1, 2, 1)) is None
    arena.release(0, 1, 0)
    third = arena.place(0, part_of(1, 2, 60))
    assert third is not None
    assert third.runs["data_first"].tolist() == [0]


def test_releasing_twice_is_our_fault():
    arena = StagingArena(100)
    arena.place(0, part_of(1, 0, 60))
    arena.release(0, 1, 0)
    with pytest.raises(AssertionError, match="unasked or twice"):
        arena.release(0, 1, 0)


@pytest.mark.parametrize("workers", [1, 16, 64, 65, 1_000, 4_096, 1 << 20])
def test_all_slices_of_an_arena_are_within_its_limit(workers):
    """Few workers have the largest slice; of very many each has a page, whatever the sum."""
    size = arena_slice_bytes(workers)
    assert size % PAGE_BYTES == 0
    assert PAGE_BYTES <= size <= config.ARENA_SLICE_BYTES
    assert size == PAGE_BYTES or size * workers <= config.ARENA_BYTES_MAX
    assert (size == config.ARENA_SLICE_BYTES) == (workers <= 64)


@given(
    rows=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 40)), max_size=6),
    part_bytes=st.sampled_from([1, 7, 16, 100]),
)
@tried(150)
def test_cutting_into_parts(rows, part_bytes):
    """Every byte is in one part, in order, with its place in the data; parts are full."""
    runs = np.array([(s, n, 50 * k) for k, (s, n) in enumerate(rows)], RUN)
    parts = cut_parts(runs, part_bytes)
    told = [(s + k, d + k) for part in parts for s, n, d in part.tolist() for k in range(n)]
    assert told == [(s + k, d + k) for s, n, d in runs.tolist() for k in range(n)]
    sizes = [int(part["length"].sum()) for part in parts]
    assert sizes[:-1] == [part_bytes] * (len(parts) - 1)
    assert all(0 < size <= part_bytes for size in sizes)


# --- what is staged ------------------------------------------------------------------------------
HOME_COUNT = 4
#: Homes of one page each: a write set may be spread over all of them.
SCATTERED = Geometry(HOME_COUNT, 1)
#: Bytes that a write set stores at each home.
SPREAD = st.lists(
    st.integers(0, 3) | st.integers(10_000, 40_000), min_size=HOME_COUNT, max_size=HOME_COUNT
)


def legs(worker: int, home: int, is_staged: bool) -> int:
    """Return how often a byte crosses from rank to rank; the coordinator is on rank 0."""
    stops = [worker, home] if is_staged else [worker, 0, home]
    return sum(left != right for left, right in pairwise(stops))


def write_set(spread: list[int]) -> list[tuple[int, int, int]]:
    """Return runs of so many bytes at each home, in rounds of up to a page."""
    left, runs, page = list(spread), [], 0
    while any(left):
        home = int(SCATTERED.home_of(np.array([page]))[0])
        length = min(left[home], PAGE_BYTES)
        left[home] -= length
        runs += [(page * PAGE_BYTES, length, 0)] if length else []
        page += 1
    return runs


@given(st.integers(0, HOME_COUNT - 1), st.lists(SPREAD, min_size=1, max_size=4))
@tried(100)
def test_what_is_large_or_would_travel_much_less_is_staged(
    worker: int, spreads: list[list[int]]
) -> None:
    large = 90_000
    division = Division(worker, SCATTERED, large, PAGE_BYTES)
    sets = [write_set(spread) for spread in spreads]
    runs = np.array([run for each in sets for run in each], RUN)
    counts = np.array([len(each) for each in sets], np.int64)
    found = {(k, home): parts for k, home, parts in division.staged(runs, counts, 1)}
    expected = {}
    for k, spread in enumerate(spreads):
        saved = sum(
            (legs(worker, home, False) - legs(worker, home, True)) * length
            for home, length in enumerate(spread)
        )
        if sum(spread) > large or saved >= config.DETOUR_BYTES_MIN:
            expected |= {(k, home): length for home, length in enumerate(spread) if length}
            assert division.may_stage(sum(spread))
    assert list(found) == sorted(expected)
    for (_, home), parts in found.items():
        assert all(0 < part["length"].sum() <= PAGE_BYTES for part in parts)
        starts = np.concatenate([part["start"] for part in parts])
        assert set(SCATTERED.home_of(starts // PAGE_BYTES).tolist()) == {home}
    lengths = {key: sum(int(p["length"].sum()) for p in parts) for key, parts in found.items()}
    assert lengths == expected


def test_beside_the_coordinator_only_large_ones_are_looked_at() -> None:
    for worker in range(HOME_COUNT):
        division = Division(worker, SCATTERED, 90_000, PAGE_BYTES)
        assert division.may_stage(90_000) == (worker != 0)
        assert division.may_stage(90_001)
    least = config.DETOUR_BYTES_MIN // 2
    assert not Division(1, SCATTERED, 90_000, PAGE_BYTES).may_stage(least - 1)
