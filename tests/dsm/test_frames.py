"""The frame pool beside a set of free numbers."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.frames import FramePool, frame_extents, reserve_frames
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES


def naive_choice(free, count):
    """Lowest stretch of `count` free numbers, else the lowest ones."""
    ordered = sorted(free)
    for k in range(len(ordered) - count + 1):
        if ordered[k + count - 1] - ordered[k] == count - 1:
            return ordered[k : k + count]
    return ordered[:count]


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_set_of_free_frames(seed):
    random = np.random.default_rng(seed)
    total = int(random.integers(20, 120))
    pool = FramePool(reserve_frames(total))
    free, held = set(range(total)), []
    for _ in range(400):
        if random.integers(2) or not held:
            count = int(random.integers(0, 9))
            if count > len(free):
                with pytest.raises(LimitError):
                    pool.allocate(count)
                pool.check_invariants()
                continue
            expected = naive_choice(free, count) if count else []
            assert pool.allocate(count).tolist() == expected
            free -= set(expected)
            held += expected
        else:
            random.shuffle(held)
            count = int(random.integers(0, min(len(held), 9) + 1))
            gone, held = held[:count], held[count:]
            pool.free(np.array(gone, np.int64))
            free |= set(gone)
        pool.check_invariants()
        assert pool.in_use == len(held)


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


@pytest.mark.parametrize("seed", range(5))
def test_extents_cover_each_frame_once(seed):
    """Copying extent by extent gives the same rows as copying frame by frame."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 13, 40)
    frames[random.integers(0, 40, 8)] = NO_FRAME
    frames[20:30] = np.arange(3, 13)
    pool = FramePool(reserve_frames(13))
    pool.memory[:] = np.arange(1, 14)[:, None]
    contents = pool.read(frames)
    assert contents.shape == (40, PAGE_BYTES)
    assert (contents == (frames + 1)[:, None]).all()
    _, counts, _ = frame_extents(frames)
    assert counts.max() >= 10
    assert counts.sum() == (frames != NO_FRAME).sum()
    assert frame_extents(np.array([NO_FRAME]))[0].size == 0
