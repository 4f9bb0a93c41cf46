"""Who has pages as they are now: the table behind "runners go where their pages are".

For pages in use it is remembered which workers were last sent a runner that declares them, and as
of which epoch. As long as nobody has stored to the pages since, those workers have them; after that
only the home has, whoever stored: a worker reads anew what has changed since it last looked.

A hint of fixed size, and no more: pages that share a slot push each other out. Of a long stretch
only every 2nd, 4th, 8th ... page is looked at, on multiples of that distance, so that stretches of
about the same length that overlap are looked at in the same places. Which home such a page has is
asked of one of those that it stands for, drawn by its number.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import HOLDERS_KEPT, HOLDERS_SLOTS, HOLDERS_SPOTS_MAX, NEAR_BYTES_MIN
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.hashing import home_slot
from dvm_mpi.dsm.kernels import entry_kernel, kernel
from dvm_mpi.dsm.moves import NEWEST, home_at
from dvm_mpi.layout import PAGE_SHIFT

Ints = NDArray[np.int64]

#: Of a runner that is near to nobody in particular.
ANYONE: Final = -1
#: No page has this number.
_NO_PAGE: Final = -1
#: Columns of the table: page, epoch, and from HOLDERS on the workers, NOBODY where there are fewer.
PAGE: Final = 0
EPOCH: Final = 1
HOLDERS: Final = 2
NOBODY: Final = -1
#: What has been stored to since somebody had it will most likely be stored to again: elsewhere it
#: travels there and back.
BOTH_WAYS: Final = 2
#: Columns of what is told of one runner beside whom it is near to, in bytes, those that count twice
#: counted so: of all that it declares; what the nearest has of that; and whoever comes after it.
ASKED: Final = 0
BEST: Final = 1
SECOND: Final = 2
_TOLD: Final = 3

assert HOLDERS_SLOTS & (HOLDERS_SLOTS - 1) == 0, "a power of two"


@kernel
def distance_of(first: int, end: int) -> int:
    """Return how far apart the pages are that stand for the pages [first, end): a power of two."""
    distance = 1
    while end - first > distance * HOLDERS_SPOTS_MAX:
        distance *= 2
    return distance


@kernel
def stand_in(page: int, distance: int, end: int) -> int:
    """Return the page by whose home those from `page` on are taken that it stands for.

    They may be of many blocks, which go round the homes: if each first one stood for the others,
    all of them would seem to be at one home.
    """
    return min(page + home_slot(page, distance - 1), end - 1)


@kernel
def add_score(scores: Ints, touched: Ints, count: int, worker: int, weight: int) -> int:
    """Add to a worker's score; return how many have one, which `touched` lists."""
    if scores[worker] == 0:
        touched[count] = worker
        count += 1
    scores[worker] += weight
    return count


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64, int64, int64[:, ::1], "
    "int64, int64[::1], int64[::1], int64[::1], int64[:, ::1])"
)
def nearest_each(
    table: Ints,
    ranges: Ints,
    newest: Ints,
    counts: Ints,
    block_pages: int,
    home_count: int,
    moved: Ints,
    worker_count: int,
    scores: Ints,
    touched: Ints,
    near: Ints,
    had: Ints,
) -> None:
    """Fill `near` and `had`; see `Holders.nearest`.

    `scores` is zero, and left so; it and `touched`: (worker_count,).
    """
    row = 0
    mask = table.shape[0] - 1
    for runner in range(counts.size):
        count = asked = 0
        for _ in range(counts[runner]):
            start, length = ranges[row, 0], ranges[row, 1]
            changed = newest[row]
            row += 1
            if length < NEAR_BYTES_MIN:
                continue
            first, end = start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1
            distance = distance_of(first, end)
            # A page stands for its part of the range, short ones for all of it.
            weight = max(length * distance // (end - first), 1)
            page = (first + distance - 1) // distance * distance
            while page < end:
                slot = home_slot(page, mask)
                lies = stand_in(page, distance, end)
                home = home_at(moved, lies // block_pages, NEWEST, home_count) % worker_count
                asked += weight
                if table[slot, PAGE] != page:
                    count = add_score(scores, touched, count, home, weight)
                elif changed > table[slot, EPOCH]:
                    asked += weight * (BOTH_WAYS - 1)
                    count = add_score(scores, touched, count, home, BOTH_WAYS * weight)
                else:
                    # Who had them last comes first: where all are as good, work stays where it is.
                    for place in range(HOLDERS_KEPT):
                        holder = table[slot, HOLDERS + place]
                        if holder not in (NOBODY, home):
                            count = add_score(scores, touched, count, holder, weight)
                    count = add_score(scores, touched, count, home, weight)
                page += distance
        best = second = 0
        near[runner] = ANYONE
        for position in range(count):
            worker = touched[position]
            if scores[worker] > best:
                second, best = best, scores[worker]
                near[runner] = worker
            elif scores[worker] > second:
                second = scores[worker]
            scores[worker] = 0
        had[runner, ASKED], had[runner, BEST], had[runner, SECOND] = asked, best, second


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64)")
def note_each(table: Ints, ranges: Ints, newest: Ints, workers: Ints, epoch: int) -> None:
    """Enter workers, one for each range, as those that have it; see `Holders.note`."""
    mask = table.shape[0] - 1
    for row in range(newest.size):
        start, length = ranges[row, 0], ranges[row, 1]
        if length < NEAR_BYTES_MIN:
            continue
        first, end = start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1
        distance = distance_of(first, end)
        page = (first + distance - 1) // distance * distance
        while page < end:
            slot = home_slot(page, mask)
            if table[slot, PAGE] != page or newest[row] > table[slot, EPOCH]:
                table[slot, PAGE] = page
                for place in range(HOLDERS_KEPT):
                    table[slot, HOLDERS + place] = NOBODY
            table[slot, EPOCH] = epoch
            # The newest first; it may be there already, and the oldest falls out.
            moved = worker = workers[row]
            for place in range(HOLDERS_KEPT):
                held = table[slot, HOLDERS + place]
                table[slot, HOLDERS + place] = moved
                if held in (worker, NOBODY):
                    break
                moved = held
            page += distance


class Holders:
    """Remembers who was sent which pages when, and tells who has most of what is asked for.

    Parameters
    ----------
    geometry
        Where pages live; worker w is beside home w.
    worker_count
        Workers are numbered from 0.
    """

    def __init__(self, geometry: Geometry, worker_count: int) -> None:
        self._geometry = geometry
        self._worker_count = worker_count
        self._table: Ints = np.full((HOLDERS_SLOTS, HOLDERS + HOLDERS_KEPT), _NO_PAGE, np.int64)
        self._scores: Ints = np.zeros(worker_count, np.int64)
        self._touched: Ints = np.zeros(worker_count, np.int64)

    def nearest(self, ranges: NDArray[Any], counts: Ints, newest: Ints) -> tuple[Ints, Ints]:
        """Return the worker that has most bytes of what each runner declares.

        A home has its pages, and so has who was sent them since they last changed. What has
        changed since counts twice at its home: stores go there too.

        Parameters
        ----------
        ranges
            RANGE rows, runner after runner; those below NEAR_BYTES_MIN count for nothing.
        counts
            (n,) how many of them each runner has.
        newest
            The newest epoch of any store into the pages of each range.

        Returns
        -------
        (n,) workers; of several that have as much, who had the first of it last. ANYONE where
        nothing counts. And (n, 3), with columns ASKED, BEST and SECOND: how much that is.
        """
        near, had = np.empty(counts.size, np.int64), np.empty((counts.size, _TOLD), np.int64)
        nearest_each(
            self._table,
            _pairs(ranges),
            newest,
            np.ascontiguousarray(counts, np.int64),
            self._geometry.block_pages,
            self._geometry.home_count,
            self._geometry.moves.table,
            self._worker_count,
            self._scores,
            self._touched,
            near,
            had,
        )
        return near, had

    def note(self, ranges: NDArray[Any], newest: Ints, workers: Ints, epoch: int) -> None:
        """Remember that workers are sent runners that declare `ranges`, on the snapshot `epoch`.

        `workers` says whose each range is.
        """
        note_each(self._table, _pairs(ranges), newest, workers, epoch)


def _pairs(ranges: NDArray[Any]) -> Ints:
    """Return RANGE rows as (n, 2) integers, without a copy where they are contiguous."""
    return np.ascontiguousarray(ranges).view(np.int64).reshape(-1, 2)
