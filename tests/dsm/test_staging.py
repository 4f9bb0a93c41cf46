"""The staging arena beside a list of occupied bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi import config
from dvm_mpi.dsm.messages import RUN, Staged
from dvm_mpi.dsm.staging import StagingArena, arena_slice_bytes, cut_parts
from dvm_mpi.layout import PAGE_BYTES


def part_of(serial, part, *lengths):
    runs = np.array([(1_000 * k, length, 77) for k, length in enumerate(lengths)], RUN)
    return Staged(1, serial, part, False, runs, np.empty(0, np.uint8))


@pytest.mark.parametrize("seed", range(6))
def test_parts_never_overlap_and_every_one_finds_room_at_last(seed):
    """Two homes; releases mostly in order; whoever is refused fits once the slice is empty."""
    random = np.random.default_rng(seed)
    arena, held = StagingArena(100), [{}, {}]
    refused = 0
    for serial in range(500):
        home = int(random.integers(2))
        lengths = random.integers(1, 30, int(random.integers(1, 4))).tolist()
        placed = arena.place(home, part_of(serial, 0, *lengths))
        if placed is None:
            refused += 1
            assert held[home]
            keys = list(held[home])
            for key in (
                keys if random.integers(2) else keys[: 1 + int(random.integers(len(keys)))][::-1]
            ):
                arena.release(home, key, 0)
                del held[home][key]
        else:
            firsts = placed.runs["data_first"].tolist()
            assert firsts == [firsts[0] + sum(lengths[:k]) for k in range(len(lengths))]
            held[home][serial] = set(range(firsts[0], firsts[0] + sum(lengths)))
        arena.check_invariants()
        for blocks in held:
            occupied = [byte for block in blocks.values() for byte in block]
            assert len(occupied) == len(set(occupied))
            assert max(occupied, default=0) < 100
        assert [arena.parts_under_way(h) for h in (0, 1)] == [len(blocks) for blocks in held]
    assert refused > 20


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
@settings(max_examples=150, deadline=None)
def test_cutting_into_parts(rows, part_bytes):
    """Every byte is in one part, in order, with its place in the data; parts are full."""
    runs = np.array([(s, n, 50 * k) for k, (s, n) in enumerate(rows)], RUN)
    parts = cut_parts(runs, part_bytes)
    told = [(s + k, d + k) for part in parts for s, n, d in part.tolist() for k in range(n)]
    assert told == [(s + k, d + k) for s, n, d in runs.tolist() for k in range(n)]
    sizes = [int(part["length"].sum()) for part in parts]
    assert sizes[:-1] == [part_bytes] * (len(parts) - 1)
    assert all(0 < size <= part_bytes for size in sizes)
