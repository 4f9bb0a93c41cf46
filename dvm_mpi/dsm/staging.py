"""A worker's slices of the homes' staging arenas: who may write where, and when to wait.

Each home keeps one slice of its arena for each worker. The worker lays the parts of a large write
set there, back to back, and the home gives the space back part by part. This module only does the
accounting; the data plane moves the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import Staged
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, replace

Ints = NDArray[np.int64]

#: The home beside the coordinator.
COORDINATOR_HOME: Final = 0


@dataclass(slots=True)
class _Block:
    """Space of one part, in a slice."""

    offset: int
    length: int
    serial: int
    part: int
    is_released: bool = False


class StagingArena:
    """One worker's slices, one for each home; each is a ring of the parts under way."""

    #: By home, where there are any: blocks in the order in which they were placed; the first is
    #: still occupied.
    _blocks: dict[int, deque[_Block]]

    def __init__(self, slice_bytes: int) -> None:
        assert slice_bytes > 1
        self.slice_bytes = slice_bytes
        self._blocks = {}

    @property
    def part_bytes_max(self) -> int:
        """The size to cut parts to: two fit, so one is written while the other is taken."""
        return self.slice_bytes // 2

    def place(self, home: int, part: Staged) -> Staged | None:
        """Find room for a part in the slice at a home.

        `data_first` of the part's runs may be anything. Returns the message to send once the
        bytes are in the arena: its runs lie back to back in the order of rows, from `data_first`
        of the first on. None if there is no room before the home releases some.
        """
        length = ranges.total_bytes(part.runs)
        assert 0 < length <= self.slice_bytes, "a part has bytes, and fits into a slice"
        blocks = self._blocks.setdefault(home, deque())
        offset = self._find_room(blocks, length)
        if offset is None:
            return None
        blocks.append(_Block(offset, length, part.serial, part.part))
        runs = part.runs.copy()
        runs["data_first"] = offset + ranges.firsts_of(runs["length"])
        return replace(part, runs=runs)

    def release(self, home: int, serial: int, part: int) -> None:
        """Take back the space of a part that the home no longer needs."""
        blocks = self._blocks.get(home, deque())
        held = [b for b in blocks if (b.serial, b.part) == (serial, part) and not b.is_released]
        assert len(held) == 1, f"home {home} released part {part} of {serial} unasked or twice"
        held[0].is_released = True
        while blocks and blocks[0].is_released:
            blocks.popleft()
        if not blocks:
            del self._blocks[home]

    def parts_under_way(self, home: int) -> int:
        """Return how many parts the home has not released yet."""
        return sum(not block.is_released for block in self._blocks.get(home, ()))

    @property
    def is_in_use(self) -> bool:
        """Whether any home has parts that it has not released."""
        return bool(self._blocks)

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        for blocks in self._blocks.values():
            assert not blocks[0].is_released
            ordered = sorted((block.offset, block.offset + block.length) for block in blocks)
            assert all(left[1] <= right[0] for left, right in pairwise(ordered)), "overlap"
            assert all(0 <= start < end <= self.slice_bytes for start, end in ordered)

    def _find_room(self, blocks: deque[_Block], length: int) -> int | None:
        """Return where `length` bytes fit behind the newest block, or at the start again."""
        if not blocks:
            return 0
        tail, head = blocks[0].offset, blocks[-1].offset + blocks[-1].length
        if blocks[-1].offset < tail:
            return head if head + length <= tail else None
        if head + length <= self.slice_bytes:
            return head
        return 0 if length <= tail else None


class Division:
    """Says which write sets of one worker are staged, and what goes to which home.

    Large ones are: they would hold up the coordinator. So are those that would travel much less:
    within the record they go to the coordinator and from there to their homes, staged straight to
    the homes, and one of these is beside the worker.

    Parameters
    ----------
    worker
        The worker, whose home has the same number.
    geometry
        Where pages live.
    inline_bytes_max
        Larger write sets are always staged.
    part_bytes_max
        The size to cut parts to.
    """

    def __init__(
        self, worker: int, geometry: Geometry, inline_bytes_max: int, part_bytes_max: int
    ) -> None:
        self._geometry = geometry
        self._inline_bytes_max, self._part_bytes_max = inline_bytes_max, part_bytes_max
        homes = np.arange(geometry.home_count)
        beside_coordinator = homes == COORDINATOR_HOME
        by_record = (worker != COORDINATOR_HOME) + (~beside_coordinator).astype(np.int64)
        #: How many times less a byte travels between ranks if it is staged, by home.
        self._saved = by_record - (homes != worker)
        #: What is smaller is not worth a look.
        self._bytes_min = inline_bytes_max
        if self._saved.any():
            least = config.DETOUR_BYTES_MIN // int(self._saved.max())
            self._bytes_min = min(inline_bytes_max, least - 1)

    def may_stage(self, most_bytes: int) -> bool:
        """Say whether write sets have to be looked at of which none has more bytes than that."""
        return most_bytes > self._bytes_min

    def staged(
        self, runs: NDArray[Any], counts: Ints, snapshot: int
    ) -> Iterator[tuple[int, int, list[NDArray[Any]]]]:
        """Yield `(write set, home, parts)` of those that are staged, ascending.

        `runs`: messages.RUN rows, write set after write set, `counts` of each: (n,), all stored on
        one snapshot: they go to the homes as of that. The parts are cut from these rows, and are
        not empty.
        """
        pieces, cut_from, homes = self._geometry.cut(runs, snapshot)
        owners = np.arange(counts.size).repeat(counts)[cut_from]
        lengths = pieces["length"]
        sizes, saved = (
            np.bincount(owners, weights=each, minlength=counts.size)
            for each in (lengths, lengths * self._saved[homes])
        )
        is_staged = (sizes > self._inline_bytes_max) | (saved >= config.DETOUR_BYTES_MIN)
        kept = np.flatnonzero(is_staged[owners])
        kept = kept[np.lexsort((homes[kept], owners[kept]))]
        pieces, owners, homes = pieces[kept], owners[kept], homes[kept]
        is_new = (owners[1:] != owners[:-1]) | (homes[1:] != homes[:-1])
        begins = np.flatnonzero(np.concatenate(([True], is_new)))[: kept.size]
        for begin, own in zip(begins.tolist(), np.split(pieces, begins[1:]), strict=False):
            parts = cut_parts(own, self._part_bytes_max)
            yield int(owners[begin]), int(homes[begin]), parts


def arena_slice_bytes(worker_count: int) -> int:
    """Return the size of each worker's slice of an arena: whole pages, smaller where many share."""
    share = config.ARENA_BYTES_MAX // worker_count // PAGE_BYTES * PAGE_BYTES
    return max(min(config.ARENA_SLICE_BYTES, share), PAGE_BYTES)


def cut_parts(runs: NDArray[Any], part_bytes_max: int) -> list[NDArray[Any]]:
    """Divide messages.RUN rows into parts of at most `part_bytes_max` bytes, order kept.

    All parts but the last are full; runs are cut where a part ends. Empty runs are dropped.
    """
    runs = runs[runs["length"] > 0]
    if ranges.total_bytes(runs) <= part_bytes_max:
        return [runs] if runs.size else []
    # Cut in the space of bytes counted from the first: part k is [k * max, (k + 1) * max).
    counted = runs.copy()
    counted["start"] = ranges.firsts_of(runs["length"])
    pieces, rows = ranges.cut_at(counted, part_bytes_max)
    parts = pieces["start"] // part_bytes_max
    moved = pieces.copy()
    moved["start"] += runs["start"][rows] - counted["start"][rows]
    begins = np.flatnonzero(np.concatenate(([False], parts[1:] != parts[:-1])))
    return np.split(moved, begins) if moved.size else []
