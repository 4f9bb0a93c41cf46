from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.engine import entries
from dvm_mpi.engine.address_space import CACHED, DIRTY, AddressSpace
from dvm_mpi.engine.page_cache import PageCache
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.properties import tried

FIRST = DATA_START // PAGE_BYTES


class Visitor:
    """Someone in the view with a cache of its own."""

    def vacate(self) -> None:
        pass


@pytest.fixture
def cache() -> Iterator[PageCache]:
    space = AddressSpace.shared()
    visitor = Visitor()
    space.claim(visitor)
    made = PageCache(space, 8 * PAGE_BYTES, entries.fill)
    yield made
    made.set_aside()
    space.leave(visitor)


def numbers(*pages: int) -> NDArray[np.int64]:
    return FIRST + np.array(pages, dtype=np.int64)


def install(cache: PageCache, pages: NDArray[np.int64], value: int, epoch: int = 1) -> None:
    epochs = np.full(len(pages), epoch, dtype=np.int64)
    memory = np.full((len(pages), PAGE_BYTES), value, np.uint8)
    cache.install(pages, epochs, epochs, memory, np.arange(len(pages)))
    cache.check_invariants()


def test_the_longest_held_pages_go_first(cache: PageCache) -> None:
    install(cache, numbers(*range(8)), 1)
    install(cache, numbers(0, 8, 9), 2)
    cache.evict(keep=3)
    cache.check_invariants()
    versions = cache.versions(numbers(*range(10)))
    assert np.flatnonzero(versions == -1).tolist() == [1, 2]
    space = AddressSpace.shared()
    assert not space.pages[numbers(1, 2)].any(), "memory that went reads as zero"
    assert (space.pages[numbers(0, 3)][:, 0] == [2, 1]).all()


@pytest.mark.parametrize(
    "asked", [(0, 1, 2, 3), (0, 2, 1, 3), (1, 3, 2, 4), (3, 2, 1, 0), (0, 2), (3,), ()]
)
def test_pages_are_asked_about_in_any_order(cache: PageCache, asked: tuple[int, ...]) -> None:
    """Consecutive ones are looked at in place."""
    for page in (0, 2, 3):
        install(cache, numbers(page), 1, epoch=10 + page)
    expected = [10 + page if page in (0, 2, 3) else -1 for page in asked]
    assert cache.versions(numbers(*asked)).tolist() == expected
    newest = np.zeros(len(asked), np.int64)
    missing = cache.missing(numbers(*asked), newest, snapshot=12)
    # Page 3 came later, and the others are not there.
    assert (missing - FIRST).tolist() == [page for page in asked if page not in (0, 2)]


def test_dirty_pages_and_the_newest_stay(cache: PageCache) -> None:
    install(cache, numbers(*range(8)), 1)
    space = AddressSpace.shared()
    space.flags[numbers(0, 1)] |= DIRTY
    install(cache, numbers(*range(8, 20)), 1)
    cache.evict(keep=12)
    versions = cache.versions(numbers(*range(20)))
    assert np.flatnonzero(versions != -1).tolist() == [0, 1, *range(8, 20)]
    space.flags[numbers(0, 1)] &= ~np.uint8(DIRTY)


def test_behind_many_dirty_pages_there_are_others_to_drop(cache: PageCache) -> None:
    install(cache, numbers(*range(12)), 1)
    space = AddressSpace.shared()
    space.flags[numbers(*range(8))] |= DIRTY
    cache.evict(keep=0)
    versions = cache.versions(numbers(*range(12)))
    assert np.flatnonzero(versions != -1).tolist() == list(range(8))
    install(cache, numbers(12), 1)
    cache.evict(keep=1)
    assert cache.versions(numbers(*range(13))).tolist() == [1] * 8 + [-1] * 4 + [1]
    space.flags[numbers(*range(8))] &= ~np.uint8(DIRTY)


def test_pages_aside_leave_zeros_and_come_back(cache: PageCache) -> None:
    install(cache, numbers(3, 5), 7, epoch=4)
    space = AddressSpace.shared()
    cache.set_aside()
    assert not space.pages[numbers(3, 5)].any()
    assert not space.flags[numbers(3, 5)].any()
    cache.put_back()
    cache.check_invariants()
    assert (space.pages[numbers(3, 5)] == 7).all()
    assert (space.flags[numbers(3, 5)] == CACHED).all()
    assert cache.versions(numbers(3, 4)).tolist() == [4, -1]


def test_a_page_that_becomes_zero_again_is_zero(cache: PageCache) -> None:
    """Zero pages are not written where nothing was: they take no memory."""
    install(cache, numbers(2), 9)
    install(cache, numbers(2), 0, epoch=2)
    assert not AddressSpace.shared().pages[numbers(2)].any()


def test_pages_are_copied_from_wherever_their_rows_are(cache: PageCache) -> None:
    """Rows in any order, some of them twice or not at all; a negative one is a page of zeros."""
    memory = np.arange(6, dtype=np.uint8)[:, None].repeat(PAGE_BYTES, axis=1)
    pages, rows = numbers(3, 9, 4, 5, 0), np.array([5, -1, 2, 3, 2])
    install(cache, numbers(9, 4), 7)
    cache.install(pages, np.arange(5), np.arange(5) + 10, memory, rows)
    cache.check_invariants()
    space = AddressSpace.shared()
    assert (space.pages[pages] == np.array([5, 0, 2, 3, 2])[:, None]).all()
    assert space.epochs[pages].tolist() == [[k, k + 10] for k in range(5)]
    with pytest.raises(AssertionError, match="a row beyond the content"):
        cache.install(pages, np.arange(5), np.arange(5), memory, rows + 1)


def test_a_page_without_a_row_is_zero_whatever_lies_before_the_rows(cache: PageCache) -> None:
    around = np.full((3, PAGE_BYTES), 7, np.uint8)
    epochs = np.ones(2, np.int64)
    cache.install(numbers(4, 5), epochs, epochs, around[1:], np.array([-1, 0]))
    space = AddressSpace.shared()
    assert not space.pages[numbers(4)].any()
    assert (space.pages[numbers(5)] == 7).all()


def test_only_pages_with_content_take_memory(cache: PageCache) -> None:
    """Long stretches get their memory in one call: it must not be more than they need."""
    memory = np.zeros((96, PAGE_BYTES), np.uint8)
    memory[:64, -1] = 1
    pages, ones = 1 << 20 | numbers(*range(96)), np.ones(96, np.int64)
    before = resident_pages()
    cache.install(pages, ones, ones, memory, np.arange(96))
    # Beside the content: epochs, numbers of notes, flags, and the system's own tables.
    assert 64 <= resident_pages() - before <= 64 + 16
    assert np.array_equal(AddressSpace.shared().pages[pages], memory)


def test_many_pages_are_streamed_and_few_are_not(cache: PageCache) -> None:
    """Both ways give the same bytes, and leave those beside them alone."""
    draw = np.random.default_rng(7)
    content = draw.integers(0, 256, (1_030, PAGE_BYTES), np.uint8)
    rows = draw.permutation(1_030)
    ones = np.ones(1_030, np.int64)
    for count in (3, 1_030):
        pages = numbers(*range(count))
        cache.install(pages, ones[:count], ones[:count], content, rows[:count])
        assert np.array_equal(AddressSpace.shared().pages[pages], content[rows[:count]])
        assert not AddressSpace.shared().pages[numbers(-1, count)].any()


PAGES = st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True)
STEPS = st.lists(
    st.tuples(st.sampled_from(["install", "evict", "aside"]), PAGES, st.integers(0, 6)),
    max_size=40,
)


@tried(60)
@given(STEPS)
def test_agrees_with_a_list_of_pages(steps: list[tuple[str, list[int], int]]) -> None:
    """The model: pages in the order of their last installation, with what was installed."""
    space, visitor = AddressSpace.shared(), Visitor()
    space.claim(visitor)
    cache, model = PageCache(space, 8 * PAGE_BYTES, entries.fill), dict[int, tuple[int, int]]()
    try:
        for epoch, (step, chosen, number) in enumerate(steps, 1):
            if step == "install":
                install(cache, numbers(*chosen), number, epoch)
                for page in chosen:
                    model.pop(page, None)
                    model[page] = epoch, number
            elif step == "evict":
                cache.evict(number)
                surplus = len(model) - max(8, number)
                for page in list(model)[: max(surplus, 0)]:
                    del model[page]
            else:
                cache.set_aside()
                cache.put_back()
            cache.check_invariants()
            every = numbers(*range(31))
            held = [model.get(page, (-1, 0)) for page in range(31)]
            assert cache.versions(every).tolist() == [version for version, _ in held]
            assert space.pages[every, 5].tolist() == [value for _, value in held]
    finally:
        cache.drop()
        space.leave(visitor)


def resident_pages() -> int:
    """Return how many pages of memory this process has of its own."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) - int(fields[2])
