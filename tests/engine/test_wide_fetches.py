from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.engine import wide_fetches
from dvm_mpi.engine.address_space import CACHED, VIEW, WIDE_PAGES, AddressSpace
from dvm_mpi.engine.wide_fetches import WideFetches
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.properties import tried

#: A page where a huge one may begin.
FIRST = -(-(DATA_START // PAGE_BYTES) // WIDE_PAGES) * WIDE_PAGES + 8 * WIDE_PAGES


class Given:
    """What was given memory as a whole, by a system that takes some time for each."""

    def __init__(self, taken_ns: int = 0) -> None:
        self.firsts: list[int] = []
        self.taken_ns = taken_ns
        self.now_ns = 0
        self.wide = WideFetches(AddressSpace.shared(), lambda: self.now_ns, self.widen)

    def widen(self, first: int) -> None:
        self.firsts.append(first)
        self.now_ns += self.taken_ns


def pages(begin: int, end: int) -> NDArray[np.int64]:
    return FIRST + np.arange(begin, end)


@pytest.fixture
def flagged() -> Iterator[Callable[[int], None]]:
    """Give a page a flag until the test is over."""
    flags, marked = AddressSpace.shared().flags, list[int]()

    def flag(page: int) -> None:
        flags[page] = CACHED
        marked.append(page)

    yield flag
    flags[marked] = 0


def test_stretches_that_are_fetched_as_a_whole_get_memory_at_once() -> None:
    made = Given()
    made.wide.expect(pages(-3, 2 * WIDE_PAGES + 5))
    # A home of several: every other sixteen pages.
    some = pages(-3, 2 * WIDE_PAGES + 5)
    some = some[some // 16 % 2 == 0]
    made.wide.make_ready(some[::-1].copy(), np.arange(some.size))
    assert made.firsts == [FIRST, FIRST + WIDE_PAGES]


def test_what_is_fetched_in_part_gets_memory_page_by_page() -> None:
    made = Given()
    for fetched in (
        pages(0, WIDE_PAGES - 1),
        pages(1, WIDE_PAGES + 1),
        np.delete(pages(0, WIDE_PAGES + 1), 7),
        pages(0, 0),
    ):
        made.wide.expect(fetched)
        made.wide.make_ready(fetched, np.arange(fetched.size))
    assert made.firsts == []


def test_what_was_fetched_before_is_forgotten() -> None:
    made = Given()
    made.wide.expect(pages(0, WIDE_PAGES))
    made.wide.expect(pages(5, 6))
    made.wide.make_ready(pages(5, 6), np.zeros(1, np.int64))
    assert made.firsts == []


def test_where_something_is_or_only_zeros_come_nothing_is_given(flagged) -> None:
    made = Given()
    made.wide.expect(pages(0, 4 * WIDE_PAGES))
    flagged(FIRST + WIDE_PAGES - 1)
    rows = np.zeros(4, np.int64)
    rows[1] = -1
    made.wide.make_ready(FIRST + WIDE_PAGES * np.arange(4), rows)
    assert made.firsts == [FIRST + 2 * WIDE_PAGES, FIRST + 3 * WIDE_PAGES]


def test_huge_pages_that_take_long_are_given_up() -> None:
    slow = Given(wide_fetches._SMALL_NS + wide_fetches._LOST_NS_MAX // 2)
    slow.wide.expect(pages(0, 8 * WIDE_PAGES))
    slow.wide.make_ready(pages(0, 8 * WIDE_PAGES), np.arange(8 * WIDE_PAGES))
    assert len(slow.firsts) == 3
    assert slow.wide.are_given_up
    quick = Given(wide_fetches._SMALL_NS)
    quick.wide.expect(pages(0, 8 * WIDE_PAGES))
    quick.wide.make_ready(pages(0, 8 * WIDE_PAGES), np.arange(8 * WIDE_PAGES))
    assert len(quick.firsts) == 8


@given(st.sets(st.integers(0, 5)), st.integers(-4, 4), st.integers(-4, 4))
@tried(50)
def test_only_whole_stretches_are_expected(lacking: set[int], before: int, after: int) -> None:
    """Compared with a set, looked at place by place."""
    fetched = pages(-before, 3 * WIDE_PAGES + after)
    fetched = np.delete(fetched, sorted(WIDE_PAGES // 2 * each for each in lacking))
    made = Given()
    made.wide.expect(fetched)
    made.wide.make_ready(fetched, np.arange(fetched.size))
    there = set(fetched.tolist())
    places = range(FIRST - WIDE_PAGES, FIRST + 4 * WIDE_PAGES, WIDE_PAGES)
    assert made.firsts == [p for p in places if there.issuperset(range(p, p + WIDE_PAGES))]


def test_the_view_reads_the_same_whatever_the_system_gives() -> None:
    space = AddressSpace.shared()
    space.widen(FIRST)
    try:
        assert not space.pages[FIRST : FIRST + WIDE_PAGES].any()
        maps = Path("/proc/self/maps").read_text().splitlines()
        begins = [line.partition("-")[0] for line in maps]
        assert f"{VIEW + FIRST * PAGE_BYTES:x}" not in begins, "the view is in parts"
    finally:
        space.release(np.arange(FIRST, FIRST + WIDE_PAGES))
