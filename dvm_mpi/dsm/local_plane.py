"""Data planes inside one process: homes' memory is simply there, or comes when a seed says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.snapshot import Content
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class LocalDataPlane:
    """`snapshot.DataPlane` of one worker, over homes in the same process."""

    carries_content = False
    #: Every read is complete at once.
    waits_for = ""

    def __init__(self, homes: Sequence[Home], worker: int) -> None:
        self._homes = homes
        self._worker = worker

    def read_frames(self, home: int, frames: Ints, ticket: int) -> Content:
        """Return published frames where they are."""
        del ticket
        return Content(self._homes[home].pool.memory, frames)

    def arrived(self) -> list[tuple[int, Content]]:
        """Return nothing: no read is owed."""
        return []

    def write_arena(self, home: int, offset: int, data: Bytes) -> None:
        """Put bytes into this worker's slice of a home's arena; on return they are there."""
        arena = self._homes[home].arena
        assert 0 <= offset <= offset + data.size <= arena.shape[1], "outside of the slice"
        arena[self._worker, offset : offset + data.size] = data


@dataclass(frozen=True, slots=True, eq=False)
class LateRead:
    """A read that was asked for and not made yet."""

    plane: LatePlane
    home: int
    frames: Ints
    ticket: int


class LatePlane:
    """Reads that are made long after they were asked for, in any order: when `finish` is called.

    What a transport does between nodes, and more: it finds frames that are given to others too
    early, and answers that somebody takes for granted.

    Parameters
    ----------
    homes, worker
        As of `LocalDataPlane`.
    under_way
        Reads that are owed, of all the planes of a machine; the caller's, shared among them.
    """

    carries_content = False

    def __init__(self, homes: Sequence[Home], worker: int, under_way: list[LateRead]) -> None:
        self._homes = homes
        self._local = LocalDataPlane(homes, worker)
        self.worker = worker
        self._under_way = under_way
        self._arrived: list[tuple[int, Content]] = []

    def read_frames(self, home: int, frames: Ints, ticket: int) -> Content | None:
        """Note what is to be read."""
        self._under_way.append(LateRead(self, home, frames, ticket))
        return None

    def write_arena(self, home: int, offset: int, data: Bytes) -> None:
        """Put bytes into this worker's slice of a home's arena; on return they are there."""
        self._local.write_arena(home, offset, data)

    @property
    def waits_for(self) -> str:
        """Tell what is on its way; empty if nothing is."""
        own = [read for read in self._under_way if read.plane is self]
        return ", ".join(f"{read.frames.size} frames of home {read.home}" for read in own)

    def finish(self, read: LateRead) -> None:
        """Make a read that the caller has taken from those under way."""
        assert read.plane is self
        # Copied now: what the frames hold later is nobody's business.
        content = self._homes[read.home].pool.read(read.frames)
        self._arrived.append((read.ticket, Content.of(content)))

    def arrived(self) -> list[tuple[int, Content]]:
        """Return what was read since the last call."""
        taken, self._arrived = self._arrived, []
        return taken
