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
