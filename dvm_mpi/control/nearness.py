"""The head of the queue, sorted by the worker that each runner is near to (see `policies`).

A hint about what need not travel, and no more: no worker is left idle for the sake of nearness, but
for the moment of `dealing` in which few runners wait.
Pure bookkeeping, vectors in and out. The invariant to remember: after `Front` was filled, at most
FRONT_RUNNERS more are put in before it is empty, so nobody is passed by for ever.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_RUNNERS_MAX, FRONT_RUNNERS
from dvm_mpi.control import row_loops
from dvm_mpi.dsm.holders import ANYONE
from dvm_mpi.dsm.ranges import expand, firsts_of

Ints = NDArray[np.int64]

#: Of runners that are near to one worker, how many times its fair share may wait for it.
_SHARES_WAITING: Final = 2
#: Up to so many are sorted anew when some are added: it takes about as long as sending a batch.
_SORTED_ANEW_MAX: Final = 16 * BATCH_RUNNERS_MAX


class Front:
    """The runners at the head of the queue, by the worker that each of them is near to.

    Those of one group are dealt in the order in which they came.
    """

    def __init__(self, worker_count: int) -> None:
        self._worker_count = worker_count
        #: Rows by worker, in order; behind them those for anyone. Of each, what is left.
        self._rows: Ints = np.zeros(0, np.int64)
        self._begins: Ints = np.zeros(worker_count + 1, np.int64)
        self._ends: Ints = np.zeros(worker_count + 1, np.int64)
        self._count = 0
        #: Of those, how many are for anyone.
        self._for_anyone = 0
        #: How many have been added since it was empty.
        self._added = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_for_anyone(self) -> bool:
        """Whether nobody in here is near to any worker."""
        return self._for_anyone == self._count

    @property
    def rows(self) -> Ints:
        """All of them, group after group."""
        return self._rows[expand(self._begins, self._ends - self._begins)]

    @property
    def near_counts(self) -> Ints:
        """How many are near to each worker: (worker_count,)."""
        return (self._ends - self._begins)[: self._worker_count]

    def fill(self, rows: Ints, near: Ints | None, ready_count: int) -> None:
        """Take rows in their order, when all that were here have been dealt.

        Parameters
        ----------
        near
            The worker that each is near to, or ANYONE; None if that holds for all.
        ready_count
            Workers to share them; if very many are near to one of them, the rest is for anyone.
        """
        assert self._count == 0, "some would be passed by"
        self._added = 0
        if near is None:
            self._count = len(rows)
            self._rows, self._for_anyone = rows, len(rows)
            self._begins[:] = self._ends[:] = 0
            self._ends[-1] = len(rows)
            return
        self._sort(rows, np.where(near == ANYONE, self._worker_count, near), ready_count)

    @property
    def room(self) -> int:
        """How many rows may be added.

        None as long as all are for anyone: they go in their order.
        """
        if self._for_anyone == self._count:
            return 0
        return max(min(_SORTED_ANEW_MAX - self._count, FRONT_RUNNERS - self._added), 0)

    def add(self, rows: Ints, near: Ints | None, ready_count: int) -> None:
        """Take more rows, behind those that are here; parameters as of `fill`."""
        sources = np.flatnonzero(self._ends > self._begins)
        counts = (self._ends - self._begins)[sources]
        here = self._rows[expand(self._begins[sources], counts)]
        groups = np.full(len(rows), self._worker_count)
        if near is not None:
            groups = np.where(near == ANYONE, self._worker_count, near)
        self._added += len(rows)
        groups = np.concatenate([np.repeat(sources, counts), groups])
        self._sort(np.concatenate([here, rows]), groups, ready_count)

    def _sort(self, rows: Ints, group: Ints, ready_count: int) -> None:
        """Hold rows by group; if very many are near to one worker, the rest is for anyone."""
        most = _SHARES_WAITING * -(-len(rows) // ready_count)
        order = np.argsort(group, kind="stable")
        rank_in_group = np.arange(len(rows)) - np.searchsorted(group[order], group[order])
        group[order[rank_in_group >= most]] = self._worker_count
        order = np.argsort(group, kind="stable")
        self._rows, self._count = rows[order], len(rows)
        counts = np.bincount(group, minlength=self._worker_count + 1)
        self._begins = firsts_of(counts)
        self._ends = self._begins + counts
        self._for_anyone = int(counts[-1])

    def deal(self, workers: Ints, wanted: Ints) -> tuple[Ints, Ints]:
        """Take so many rows for each of `workers`, fewer if there are no more.

        First what is near to it, when everybody has that, what is for anyone, and then what most
        are left of that are near to another one. Returns positions in `workers`, ascending, and the
        row for each.
        """
        if self._for_anyone == self._count:
            return self._deal_to_anyone(wanted)
        left = (self._ends - self._begins)[workers]
        own = np.minimum(wanted, left)
        parts = [(np.repeat(np.arange(len(workers)), own), expand(self._begins[workers], own))]
        self._begins[workers] += own
        missing = wanted - own
        if missing.any():
            positions, places = (np.empty(int(missing.sum()), np.int64) for _ in range(2))
            anyone = self._places_for_anyone(missing)
            parts.append((np.repeat(np.arange(len(workers)), anyone[0]), anyone[1]))
            missing = missing - anyone[0]
            count = row_loops.deal_fullest(self._begins, self._ends, missing, positions, places)
            parts.append((positions[:count], places[:count]))
        positions, places = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(positions, kind="stable")
        self._note_taken(len(places))
        return positions[order], self._rows[places[order]]

    def _deal_to_anyone(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Deal rows in their order, where nobody is near to any worker."""
        given, places = self._places_for_anyone(wanted)
        self._note_taken(len(places))
        return np.repeat(np.arange(len(wanted)), given), self._rows[places]

    def _places_for_anyone(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Return how many each gets of those for anyone, and where these lie; they are taken."""
        begin, end = int(self._begins[-1]), int(self._ends[-1])
        given = np.minimum(np.maximum(end - begin - firsts_of(wanted), 0), wanted)
        self._begins[-1] += int(given.sum())
        return given, np.arange(begin, int(self._begins[-1]))

    def take(self, count: int) -> Ints:
        """Take `count` rows, or all if there are fewer, whoever they are near to."""
        rows = self.peek(count)
        left = self._ends - self._begins
        self._begins += np.minimum(np.maximum(count - firsts_of(left), 0), left)
        self._note_taken(len(rows))
        return rows

    def peek(self, count: int) -> Ints:
        """Return the `count` rows that `take` would take."""
        left = self._ends - self._begins
        taken = np.minimum(np.maximum(count - firsts_of(left), 0), left)
        return self._rows[expand(self._begins, taken)]

    def _note_taken(self, count: int) -> None:
        self._count -= count
        self._for_anyone = int(self._ends[-1] - self._begins[-1])

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert (self._begins <= self._ends).all()
        assert self._count == int((self._ends - self._begins).sum())
        assert self._for_anyone == int(self._ends[-1] - self._begins[-1])
