from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import CACHED, DIRTY, AddressSpace
from dvm_mpi.engine.page_cache import PageCache
from dvm_mpi.layout import DATA_START, PAGE_BYTES

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
    made = PageCache(space, 8 * PAGE_BYTES)
    yield made
    made.set_aside()
    space.leave(visitor)


def numbers(*pages: int) -> NDArray[np.int64]:
    return FIRST + np.array(pages, dtype=np.int64)


def install(cache: PageCache, pages: NDArray[np.int64], value: int, epoch: int = 1) -> None:
    epochs = np.full(len(pages), epoch, dtype=np.int64)
    cache.install(pages, epochs, epochs, np.full((len(pages), PAGE_BYTES), value, np.uint8))
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
