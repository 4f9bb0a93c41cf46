"""Which worker a runner is near to: who last had the memory that it declares, or its home.

A hint about what need not travel, and no more: no worker is left idle for the sake of nearness, but
for the moment of `dealing` in which few runners wait.
Pure bookkeeping, vectors in and out. The invariant to remember: what has been put into `Front` is
dealt before anything behind it in the queue, so nobody is passed by for ever.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import NEARNESS_PLACES
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.ranges import firsts_of
from dvm_mpi.layout import PAGE_SHIFT

Ints = NDArray[np.int64]

#: Of a runner that declares nothing, and of one that is near to nobody in particular.
NOWHERE: Final = -1
ANYONE: Final = -1

#: An odd number near 2^64 / golden ratio: its products spread over the upper bits.
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_SLOT_SHIFT: Final = np.uint64(64 - (NEARNESS_PLACES.bit_length() - 1))
assert NEARNESS_PLACES & (NEARNESS_PLACES - 1) == 0, "a power of two"
#: Of runners that are near to one worker, how many times its fair share may wait for it.
_SHARES_WAITING: Final = 2


def places_of(grants: NDArray[Any], counts: Ints) -> Ints:
    """Return where each runner's memory is, as one page: the middle of its largest range.

    Parameters
    ----------
    grants
        RANGE rows, runner after runner.
    counts
        How many of them each runner has.

    Returns
    -------
    A page for each, NOWHERE for those without a range. Of equal ranges the first counts.
    """
    places = np.full(len(counts), NOWHERE, np.int64)
    has_any = np.flatnonzero(counts)
    if has_any.size == 0:
        return places
    owner = np.repeat(np.arange(len(counts)), counts)
    # Stable, so that the first of the largest comes first.
    order = np.lexsort((-grants["length"], owner))
    largest = grants[order[firsts_of(counts)[has_any]]]
    places[has_any] = largest["start"] + largest["length"] // 2 >> PAGE_SHIFT
    return places


class Nearness:
    """Remembers for places in memory which worker was last sent a runner that is at home there.

    A table of fixed size without lists: places that share a slot push each other out.
    """

    def __init__(self, geometry: Geometry, worker_count: int) -> None:
        self._geometry = geometry
        self._worker_count = worker_count
        self._places: Ints = np.full(NEARNESS_PLACES, NOWHERE, np.int64)
        self._workers: Ints = np.zeros(NEARNESS_PLACES, np.int64)

    def note(self, places: Ints, worker: int) -> None:
        """Remember that a worker has been sent runners with these places."""
        known = places[places != NOWHERE]
        slots = self._slots(known)
        self._places[slots] = known
        self._workers[slots] = worker

    def workers(self, places: Ints, is_woken: NDArray[np.bool_]) -> Ints:
        """Return the worker that each place is near to: who had it last, or else its home's.

        Instances of watchers were woken by stores there, so what others have of it is old: they
        are near to the home. ANYONE for NOWHERE.
        """
        slots = self._slots(places)
        at_home = self._geometry.home_of(places) % self._worker_count
        is_held = (self._places[slots] == places) & ~is_woken
        near = np.where(is_held, self._workers[slots], at_home)
        return np.where(places == NOWHERE, ANYONE, near)

    @staticmethod
    def _slots(places: Ints) -> Ints:
        return (places.astype(np.uint64) * _SPREAD >> _SLOT_SHIFT).astype(np.int64)


class Front:
    """The runners at the head of the queue, by the worker that each of them is near to.

    What is put in is dealt before it is filled again.
    """

    def __init__(self, worker_count: int) -> None:
        self._worker_count = worker_count
        #: Rows by worker, in order; behind them those for anyone. Of each, what is left.
        self._rows: Ints = np.zeros(0, np.int64)
        self._begins: Ints = np.zeros(worker_count + 1, np.int64)
        self._ends: Ints = np.zeros(worker_count + 1, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def near_counts(self) -> Ints:
        """How many are near to each worker: (worker_count,)."""
        return (self._ends - self._begins)[: self._worker_count]

    def fill(self, rows: Ints, near: Ints, ready_count: int) -> None:
        """Take rows in their order, when all that were here have been dealt.

        Parameters
        ----------
        near
            The worker that each is near to, or ANYONE.
        ready_count
            Workers to share them; if very many are near to one of them, the rest is for anyone.
        """
        assert self._count == 0, "some would be passed by"
        group = np.where(near == ANYONE, self._worker_count, near)
        most = _SHARES_WAITING * -(-len(rows) // ready_count)
        order = np.argsort(group, kind="stable")
        rank_in_group = np.arange(len(rows)) - np.searchsorted(group[order], group[order])
        group[order[rank_in_group >= most]] = self._worker_count
        order = np.argsort(group, kind="stable")
        self._rows = rows[order]
        counts = np.bincount(group, minlength=self._worker_count + 1)
        self._begins = firsts_of(counts)
        self._ends = self._begins + counts
        self._count = len(rows)

    def deal(self, workers: Ints, wanted: Ints) -> list[tuple[int, Ints]]:
        """Take so many rows for each of `workers`, fewer if there are no more: `(position, rows)`.

        First what is near to it, when everybody has that, what is for anyone, and then what most
        are left of that are near to another one.
        """
        missing = wanted.copy()
        dealt: list[tuple[int, Ints]] = []
        anyone = self._worker_count
        for sources in (workers, np.full_like(workers, anyone)):
            possible = (missing > 0) & (self._ends[sources] > self._begins[sources])
            for position in np.flatnonzero(possible).tolist():
                rows = self._pop(int(sources[position]), int(missing[position]))
                missing[position] -= len(rows)
                dealt.append((position, rows))
        for position in np.flatnonzero(missing).tolist():
            while missing[position] and self._count:
                fullest = int(np.argmax(self._ends - self._begins))
                rows = self._pop(fullest, int(missing[position]))
                missing[position] -= len(rows)
                dealt.append((position, rows))
        return dealt

    def take(self, count: int) -> Ints:
        """Take `count` rows, or all if there are fewer, whoever they are near to."""
        taken = [np.zeros(0, np.int64)]
        for source in np.flatnonzero(self._ends > self._begins).tolist():
            taken.append(self._pop(source, count))
            count -= len(taken[-1])
        return np.concatenate(taken)

    def _pop(self, source: int, count: int) -> Ints:
        begin = int(self._begins[source])
        end = min(begin + count, int(self._ends[source]))
        self._begins[source] = end
        self._count -= end - begin
        return self._rows[begin:end]

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert (self._begins <= self._ends).all()
        assert self._count == int((self._ends - self._begins).sum())
