"""The data plane over homes in the same process."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.local_plane import LatePlane, LateRead, LocalDataPlane
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.engine.interface import gathered
from dvm_mpi.layout import PAGE_BYTES


def make_homes():
    geometry = Geometry(2, 1)
    return [
        Home(k, geometry, FramePool(reserve_frames(4)), np.zeros((3, 64), np.uint8))
        for k in range(2)
    ]


def test_reads_frames_of_the_home_that_is_named():
    homes = make_homes()
    homes[1].load(1, 1, np.full(9, 5, np.uint8))
    frames, _, _ = homes[1].directory.lookup(np.array([1, 3]), 1)
    found = LocalDataPlane(homes, 0).read_frames(1, frames[::-1], 1)
    assert found.memory is homes[1].pool.memory, "frames are looked at where they are"
    contents = gathered(found.memory, found.rows)
    assert contents.shape == (2, PAGE_BYTES)
    assert frames[1] == NO_FRAME
    assert not contents[0].any()
    assert contents[1, :10].tolist() == [5] * 9 + [0]


def test_writes_only_the_workers_own_slice():
    homes = make_homes()
    LocalDataPlane(homes, 2).write_arena(1, 60, np.arange(4, dtype=np.uint8))
    assert homes[1].arena[2, 58:].tolist() == [0, 0, 0, 1, 2, 3]
    assert not homes[1].arena[:2].any()
    assert not homes[0].arena.any()
    with pytest.raises(AssertionError, match="outside of the slice"):
        LocalDataPlane(homes, 2).write_arena(1, 61, np.arange(4, dtype=np.uint8))


def test_late_reads_are_made_when_they_are_finished_each_for_its_own_plane():
    """The later one first; what a frame holds then is read, not what it held when asked for."""
    homes = make_homes()
    under_way: list[LateRead] = []
    planes = [LatePlane(homes, worker, under_way) for worker in range(3)]
    homes[0].pool.memory[:] = np.arange(4)[:, None]
    assert planes[1].read_frames(0, np.array([1, NO_FRAME]), 7) is None
    assert planes[2].read_frames(0, np.array([2]), 7) is None
    assert planes[1].waits_for == "2 frames of home 0"
    assert planes[0].waits_for == ""
    homes[0].pool.memory[2] = 9
    for read in under_way[::-1]:
        assert [plane.arrived() for plane in planes] == [[], [], []]
        under_way.remove(read)
        read.plane.finish(read)
        ((ticket, found),) = read.plane.arrived()
        contents = gathered(found.memory, found.rows)
        assert ticket == 7
        assert contents[:, 0].tolist() == ([9] if read.plane is planes[2] else [1, 0])
    assert planes[1].waits_for == ""
    assert planes[1].waits_for == ""


def test_late_planes_write_at_once():
    homes = make_homes()
    LatePlane(homes, 2, []).write_arena(1, 60, np.arange(4, dtype=np.uint8))
    assert homes[1].arena[2, 58:].tolist() == [0, 0, 0, 1, 2, 3]
