"""Where pages live, beside one page at a time."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN
from dvm_mpi.layout import PAGE_BYTES


def test_blocks_go_round_the_homes():
    geometry = Geometry(home_count=3, block_pages=2)
    assert geometry.home_of(np.arange(14)).tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 0, 0]


def test_groups_keep_the_order_of_pages():
    geometry = Geometry(home_count=3, block_pages=2)
    pages = np.array([7, 2, 0, 9, 3, 6])
    groups = [(home, pages[positions].tolist()) for home, positions in geometry.group_pages(pages)]
    assert groups == [(0, [7, 0, 6]), (1, [2, 9, 3])]
    assert geometry.group_pages(np.empty(0, np.int64)) == []


@pytest.mark.parametrize("home_count", [1, 2, 5])
def test_runs_are_cut_where_the_home_changes(home_count):
    """Every byte goes to its home once, with its place in the data, in the order given."""
    geometry = Geometry(home_count, block_pages=1)
    random = np.random.default_rng(home_count)
    runs = np.empty(30, RUN)
    runs["start"] = random.integers(0, 20 * PAGE_BYTES, 30)
    runs["length"] = random.integers(0, 3 * PAGE_BYTES, 30)
    runs["data_first"] = random.integers(0, 1_000, 30)
    told = [
        (home, s + k, d + k)
        for home, pieces in geometry.group_runs(runs)
        for s, n, d in pieces.tolist()
        for k in range(0, n)
    ]
    expected = [
        (((s + k) // PAGE_BYTES) % home_count, s + k, d + k)
        for s, n, d in runs.tolist()
        for k in range(n)
    ]
    assert told == sorted(expected, key=lambda row: row[0])


@pytest.mark.parametrize(("home_count", "block_pages"), [(1, 16), (3, 4), (5, 1)])
def test_the_share_of_each_home_in_a_stretch(home_count: int, block_pages: int) -> None:
    geometry = Geometry(home_count, block_pages)
    for first, count in [(0, 0), (7, 0), (0, 1), (5, 90), (11, 4), (12, 12), (40, 37)]:
        homes = geometry.home_of(np.arange(first, first + count))
        expected = np.bincount(homes, minlength=home_count)
        assert geometry.pages_per_home(first, count).tolist() == expected.tolist()


@pytest.mark.parametrize(("home_count", "block_pages"), [(1, 16), (3, 4), (5, 1)])
@pytest.mark.parametrize("batch_pages", [1, 8, 100])
def test_pages_at_some_homes_come_in_order_and_in_batches(
    home_count: int, block_pages: int, batch_pages: int
) -> None:
    geometry = Geometry(home_count, block_pages)
    for homes in ([0], [home_count - 1], list(range(home_count))[::-1]):
        for first, count in [(0, 0), (7, 0), (0, 1), (5, 90), (11, 4), (12, 12), (40, 37)]:
            pages = np.arange(first, first + count)
            expected = pages[np.isin(geometry.home_of(pages), homes)]
            batches = list(geometry.pages_at(homes, first, count, batch_pages))
            found = np.concatenate([np.empty(0, np.int64), *batches])
            assert np.array_equal(found, expected)
            assert all(0 < b.size <= max(batch_pages, block_pages) for b in batches)
