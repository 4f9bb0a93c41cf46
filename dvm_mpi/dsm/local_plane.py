"""The data plane inside one process: homes' memory is simply there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.home import Home

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class LocalDataPlane:
    """`snapshot.DataPlane` of one worker, over homes in the same process."""

    def __init__(self, homes: Sequence[Home], worker: int) -> None:
        self._homes = homes
        self._worker = worker

    def read_frames(self, home: int, frames: Ints) -> Bytes:
        """Return published frames as (n, PAGE_BYTES), zeros for NO_FRAME; the caller's own."""
        return self._homes[home].pool.read(frames)

    def write_arena(self, home: int, offset: int, data: Bytes) -> None:
        """Put bytes into this worker's slice of a home's arena; on return they are there."""
        arena = self._homes[home].arena
        assert 0 <= offset <= offset + data.size <= arena.shape[1], "outside of the slice"
        arena[self._worker, offset : offset + data.size] = data
