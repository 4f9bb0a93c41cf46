"""The page frames of one home: which are free, and the memory behind them.

A frame is a page-sized row of the pool's memory. Who owns a frame writes it once, before its
number is known to anyone else. The pool knows no pages and no epochs.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import byte_copy, ranges
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.dsm.page_loops import give_back, take_together
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

Ints = NDArray[np.int64]

#: Linux's number of the flag; the standard library does not name it.
MAP_NORESERVE: Final = 0x4000

MATRIX_DIMENSIONS: Final = 2


def reserve_frames(frame_count: int) -> NDArray[np.uint8]:
    """Return (frame_count, PAGE_BYTES) zeros that take real memory only where they are written.

    Raises
    ------
    LimitError
        The system does not give that much address space.
    """
    assert frame_count > 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    try:
        region = mmap.mmap(-1, frame_count * PAGE_BYTES, flags=flags)
    except (OSError, OverflowError) as error:
        raise LimitError(
            f"no room for {_mib(frame_count)} of shared memory: {error}; give less with --memory, "
            "or raise the limit on the address space (ulimit -v)"
        ) from error
    return np.frombuffer(region, np.uint8).reshape(frame_count, PAGE_BYTES)


class FramePool:
    """Frames 0 … frame_count - 1 over memory that is passed in.

    Free frames are kept as stretches, lowest first; a call costs time proportional to their number.
    """

    #: (frame_count, PAGE_BYTES); a row is its owner's from `allocate` to `free`.
    memory: NDArray[np.uint8]
    #: Frames that are allocated.
    in_use: int
    #: Whose frames these are, in words for errors.
    owner: str
    #: Stretches of free frames, ascending, never touching one another; some may be empty.
    _firsts: Ints
    _counts: Ints

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        assert memory.ndim == MATRIX_DIMENSIONS
        assert memory.shape[1] == PAGE_BYTES
        assert memory.flags.c_contiguous
        self.memory = memory
        self.in_use = 0
        self.owner = "its owner"
        self._firsts = np.array([0], np.int64)
        self._counts = np.array([memory.shape[0]], np.int64)

    @property
    def frame_count(self) -> int:
        """Frames in all."""
        return int(self.memory.shape[0])

    @property
    def flat(self) -> NDArray[np.uint8]:
        """The memory as bytes in a row; frame f begins at f * PAGE_BYTES."""
        return self.memory.reshape(-1)

    def allocate(self, count: int) -> Ints:
        """Take `count` frames and return their numbers, ascending; the contents are undefined.

        The lowest stretch that holds them all is used, else the lowest free frames.

        Raises
        ------
        LimitError
            There are not that many; nothing was taken.
        """
        if count == 0:
            return np.empty(0, np.int64)
        if count > self.frame_count - self.in_use:
            raise LimitError(
                f"the shared memory of a home is full: at {self.owner}, {_mib(self.in_use)} of "
                f"{_mib(self.frame_count)} are in use and {_mib(count)} more are needed; "
                "give it more with --memory"
            )
        self.in_use += count
        first = take_together(self._firsts, self._counts, count)
        if first >= 0:
            # An empty stretch that is left goes with the next frames that are given back.
            return np.arange(first, first + count)
        frames = ranges.expand(self._firsts, np.minimum(self._counts, self._left_before(count)))
        taken = np.diff(np.searchsorted(frames, np.append(self._firsts, self.frame_count)))
        self._firsts += taken
        self._counts -= taken
        kept = self._counts > 0
        self._firsts = self._firsts[kept]
        self._counts = self._counts[kept]
        return frames

    def free(self, frames: Ints) -> None:
        """Give back frames, in any order; each must be allocated."""
        if frames.size == 0:
            return
        returned = np.sort(frames)
        assert 0 <= returned[0]
        assert returned[-1] < self.frame_count
        stretches = self._firsts.size + returned.size
        firsts, counts = np.empty(stretches, np.int64), np.empty(stretches, np.int64)
        count = give_back(self._firsts, self._counts, returned, firsts, counts)
        assert count >= 0, "a frame was freed twice"
        self._firsts, self._counts = firsts[:count], counts[:count]
        self.in_use -= frames.size

    def read(self, frames: Ints) -> NDArray[np.uint8]:
        """Return copies of frames as (n, PAGE_BYTES), zeros for NO_FRAME."""
        contents = np.empty((frames.size, PAGE_BYTES), np.uint8)
        contents[frames == NO_FRAME] = 0
        sources, lengths, targets = (part << PAGE_SHIFT for part in frame_extents(frames))
        byte_copy.copy_runs(self.flat, sources, contents.reshape(-1), targets, lengths)
        return contents

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert np.all(self._counts >= 0)
        ends = self._firsts + self._counts
        assert np.all(ends[:-1] < self._firsts[1:]), "free stretches touch or overlap"
        assert self._firsts.size == 0 or (self._firsts[0] >= 0 and ends[-1] <= self.frame_count)
        assert int(self._counts.sum()) == self.frame_count - self.in_use

    def _left_before(self, count: int) -> Ints:
        """Return how many of `count` are still wanted when each stretch is reached."""
        return np.asarray(np.maximum(count - ranges.firsts_of(self._counts), 0))


def frame_extents(frames: Ints) -> tuple[Ints, Ints, Ints]:
    """Join frames that follow each other, for one transfer each.

    Returns the first frame of each extent, its frame count, and the row of `frames` where it
    begins; the extents' contents lie back to back in the order of rows. NO_FRAME has no extent.
    """
    rows = np.flatnonzero(frames != NO_FRAME)
    if rows.size == 0:
        return rows, rows, rows
    held = frames[rows]
    breaks = (np.diff(held) != 1) | (np.diff(rows) != 1)
    begins = np.flatnonzero(np.concatenate(([True], breaks)))
    return held[begins], np.diff(np.append(begins, rows.size)), rows[begins]


def _mib(frame_count: int) -> str:
    return f"{frame_count * PAGE_BYTES / config.MIB:,.2f} MiB"
