"""Homes of blocks beside a dictionary, and pages by home as of any epoch."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.moves import NEWEST, SINCE, TIMES, Moves
from dvm_mpi.dsm.ranges import expand

HOMES = 5
BLOCKS = 400


def moved_at_random(random: np.random.Generator, geometry: Geometry) -> dict[int, tuple[int, ...]]:
    """Move blocks in some epochs; return epoch, home and the one before of each."""
    expected: dict[int, tuple[int, ...]] = {}
    for epoch in range(3, 60, 3):
        blocks = random.choice(BLOCKS, int(random.integers(1, 30)), replace=False)
        before = geometry.home_of(blocks * geometry.block_pages)
        homes = (before + random.integers(1, HOMES, blocks.size)) % HOMES
        geometry.move(epoch, blocks, homes)
        # To be told once more changes nothing.
        geometry.move(epoch, blocks, homes)
        rows = zip(blocks.tolist(), homes.tolist(), before.tolist(), strict=True)
        expected |= {block: (epoch, home, left) for block, home, left in rows}
    return expected


@pytest.mark.parametrize("seed", range(3))
def test_every_page_has_the_home_of_its_block_as_of_any_epoch(seed: int) -> None:
    random = np.random.default_rng(seed)
    geometry = Geometry(HOMES, 4)
    expected = moved_at_random(random, geometry)
    pages = np.arange(BLOCKS * 4)
    for epoch in (0, 7, 30, 57, 58, NEWEST):
        asked = []
        for page in pages.tolist():
            since, home, before = expected.get(page // 4, (0, page // 4 % HOMES, 0))
            asked.append(home if epoch >= since else before)
        assert geometry.home_of(pages, epoch).tolist() == asked
        each = geometry.home_of(pages, np.full(pages.size, epoch))
        assert each.tolist() == asked
        found = {
            home: set(pages[rows].tolist()) for home, rows in geometry.group_pages(pages, epoch)
        }
        for home in range(HOMES):
            batches = list(geometry.pages_at([home], 10, 1_000, 64, epoch))
            assert all(0 < batch.size <= 64 for batch in batches)
            held = np.concatenate(batches)
            assert len(set(held.tolist())) == held.size
            assert set(held.tolist()) == found[home] & set(range(10, 1_010))


def test_a_table_grows_and_finds_all_rows() -> None:
    moves = Moves()
    blocks = expand(np.array([0, 1 << 33]), np.array([700, 700]))
    for part in np.array_split(blocks, 9):
        moves.note(4, part, (part + 1) % 3, 3)
    assert len(moves) == blocks.size
    assert moves.rows()[:, 0].tolist() == blocks.tolist()
    rows = moves.of(np.array([5, 699, 700, 1 << 33]))
    assert rows[:, SINCE].tolist() == [4, 4, 0, 4]
    assert rows[:, TIMES].tolist() == [1, 1, 0, 1]


def test_a_home_has_a_block_until_the_epoch_before_it_leaves() -> None:
    geometry = Geometry(3, 1)
    geometry.move(9, np.array([0, 1]), np.array([2, 0]))
    geometry.move(12, np.array([0]), np.array([0]))
    assert geometry.moves.ends(np.array([0, 1, 3]), 0).tolist() == [NEWEST, NEWEST, NEWEST]
    assert geometry.moves.ends(np.array([0, 1, 4]), 1).tolist() == [11, 8, NEWEST]
    assert geometry.moves.ends(np.array([0]), 2).tolist() == [11]
