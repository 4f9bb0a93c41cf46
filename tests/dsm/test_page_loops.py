"""Loops over few pages beside sets and byte strings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.dsm import page_loops
from dvm_mpi.dsm.messages import NO_FRAME, RUN
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.layout import PAGE_BYTES
from tests.properties import tried

PAGES = 6
#: Runs end where pages do, and near them.
PLACES = st.builds(
    lambda page, off: max(page * PAGE_BYTES + off, 0),
    st.integers(0, PAGES - 1),
    st.sampled_from([0, 1, 7, PAGE_BYTES // 2, PAGE_BYTES - 1]),
)


def runs_of(bounds: list[tuple[int, int]]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return runs between bounds, in any order, and bytes of which no two are alike nearby."""
    runs = np.zeros(len(bounds), RUN)
    first = 0
    for row, (one, other) in enumerate(bounds):
        runs[row] = min(one, other), abs(other - one), first
        first += abs(other - one)
    chance = np.random.default_rng(first)
    return runs, chance.integers(1, 256, first, np.uint8)


BOUNDS = st.lists(st.tuples(PLACES, PLACES), max_size=8)


@tried(200)
@given(bounds=BOUNDS, has_bases=st.lists(st.booleans(), min_size=PAGES, max_size=PAGES))
def test_stores_are_laid_over_what_was_there(
    bounds: list[tuple[int, int]], has_bases: list[bool]
) -> None:
    runs, data = runs_of(bounds)
    expected = np.zeros((PAGES, PAGE_BYTES), np.uint8)
    expected[has_bases] = ord("b")
    is_stored = np.zeros((PAGES, PAGE_BYTES), bool)
    for start, length, first in runs.tolist():
        expected.reshape(-1)[start : start + length] = data[first : first + length]
        is_stored.reshape(-1)[start : start + length] = True
    touched = np.flatnonzero(is_stored.any(axis=1))
    found = np.empty(PAGES, np.int64)
    count = page_loops.pages_stored(words_of(runs), found)
    pages = found[:count]
    assert pages.tolist() == touched.tolist()
    # Bases lie in the first frames, new frames behind them hold rubbish.
    memory = np.full((2 * PAGES, PAGE_BYTES), ord("r"), np.uint8)
    memory[:PAGES] = ord("b")
    frames = PAGES + np.arange(count)[::-1].copy()
    bases = np.array([page if has_bases[page] else NO_FRAME for page in touched], np.int64)
    flat = memory.reshape(-1)
    copied = page_loops.copy_bases(words_of(runs), pages, frames, bases, flat)
    is_whole = is_stored[touched].all(axis=1)
    assert copied == count - is_whole.sum(), "what is stored as a whole needs no copy"
    assert page_loops.lay_over(words_of(runs), data, pages, frames, flat) == 0
    assert np.array_equal(memory[frames], expected[touched])
    assert (memory[:PAGES] == ord("b")).all(), "published frames stay as they are"


def test_more_pages_than_there_is_room_for_are_told() -> None:
    runs = np.array([(0, 3 * PAGE_BYTES, 0), (9 * PAGE_BYTES, 1 << 40, 0)], RUN)
    assert page_loops.pages_stored(words_of(runs), np.empty(4, np.int64)) > 4


@pytest.mark.parametrize(
    ("start", "length", "first"),
    [
        (5, 9, 0),  # more than its data
        (5, 2, 7),
        (5, 2, -1),
        (PAGE_BYTES - 1, 2, 0),  # on a page that is not there
    ],
)
def test_what_lies_beyond_data_or_pages_is_not_written(start: int, length: int, first: int) -> None:
    runs = np.array([(start, length, first)], RUN)
    memory = np.zeros(2 * PAGE_BYTES, np.uint8)
    page = np.zeros(1, np.int64)
    data = np.ones(8, np.uint8)
    assert page_loops.lay_over(words_of(runs), data, page, page, memory) == 1
    assert not memory[PAGE_BYTES:].any()
