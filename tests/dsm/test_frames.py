"""The frame pool beside a set of free numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dvm_mpi.dsm.frames import FramePool, frame_extents, reserve_frames
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from tests.properties import tried


def naive_choice(free, count):
    """Lowest stretch of `count` free numbers, else the lowest ones."""
    ordered = sorted(free)
    for k in range(len(ordered) - count + 1):
        if ordered[k + count - 1] - ordered[k] == count - 1:
            return ordered[k : k + count]
    return ordered[:count]


class PoolBesideSet(RuleBasedStateMachine):
    """Frames are taken in groups and given back in any order, now and then more than there are."""

    @initialize(total=st.integers(1, 40))
    def make(self, total: int) -> None:
        self.pool = FramePool(reserve_frames(total))
        self.free, self.held = set(range(total)), []

    @rule(count=st.integers(0, 9))
    def allocate(self, count: int) -> None:
        if count > len(self.free):
            with pytest.raises(LimitError):
                self.pool.allocate(count)
            return
        expected = naive_choice(self.free, count) if count else []
        assert self.pool.allocate(count).tolist() == expected
        self.free -= set(expected)
        self.held += expected

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(self.held), unique=True) if self.held else NONE)
        self.pool.free(np.array(gone, np.int64))
        self.held = [frame for frame in self.held if frame not in gone]
        self.free |= set(gone)

    @invariant()
    def agree(self) -> None:
        self.pool.check_invariants()
        assert self.pool.in_use == len(self.held)


NONE = st.just([])
TestPoolBesideSet = PoolBesideSet.TestCase
TestPoolBesideSet.settings = tried(40, steps=40)


def test_a_full_pool_names_sizes_and_the_remedy():
    pool = FramePool(reserve_frames(512))
    pool.allocate(500)
    with pytest.raises(
        LimitError, match=r"1\.95 MiB of 2\.00 MiB are in use and 0\.08 MiB more .*--memory"
    ):
        pool.allocate(20)
    assert pool.in_use == 500


def test_freeing_twice_is_our_fault():
    pool = FramePool(reserve_frames(8))
    frames = pool.allocate(4)
    pool.free(frames[1:3])
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free(frames[2:])


def test_reserved_frames_take_memory_only_where_written():
    """A terabyte may be reserved where it could never be held; what is read is zero."""
    frames = reserve_frames((1 << 40) // PAGE_BYTES)
    frames[-1, 5] = 9
    assert frames[1 << 20].sum() == 0
    assert frames[-1, 5] == 9


def test_reserving_more_than_there_are_addresses_is_an_error():
    with pytest.raises(LimitError, match="--memory"):
        reserve_frames(1 << 40)


@given(wanted=st.lists(st.integers(0, 12) | st.just(NO_FRAME), max_size=12))
@tried(60)
def test_extents_cover_each_frame_once(wanted):
    """Copying extent by extent gives the same rows as copying frame by frame."""
    pool = FramePool(reserve_frames(13))
    pool.memory[:] = np.arange(1, 14)[:, None]
    frames = np.array(wanted, np.int64)
    contents = pool.read(frames)
    assert contents.shape == (len(wanted), PAGE_BYTES)
    assert (contents == np.where(frames == NO_FRAME, 0, frames + 1)[:, None]).all()
    firsts, counts, rows = frame_extents(frames)
    copied = zip(firsts.tolist(), counts.tolist(), rows.tolist(), strict=True)
    told = [(row + k, first + k) for first, count, row in copied for k in range(count)]
    assert told == [(row, frame) for row, frame in enumerate(wanted) if frame != NO_FRAME]
    ends = list(zip(rows + counts, firsts + counts, strict=True))
    begins = list(zip(rows, firsts, strict=True))
    assert not set(ends) & set(begins), "neighbours are one extent"
