"""Which of the runners that may start go to which worker, as far as workers have room.

A runner had best go where its pages are (`nearness`), as long as no worker is idle for that. Where
few runners are left and their worker is busy, they wait for it a little: most often it is done in
a moment, and an instance of a watcher sees the commits that come meanwhile, too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import FRONT_RUNNERS
from dvm_mpi.control.coordinator_state import CoordinatorState
from dvm_mpi.control.lifecycle import Kind, State
from dvm_mpi.control.placement import share_out

Ints = NDArray[np.int64]

#: Rows at the head of the queue that are looked at together for cancelled instances.
_CANCELLED_AT_ONCE: Final = 64
_NOBODY: Final = np.zeros(0, np.int64)


class Dealing:
    """Takes runners off the queue; it decides, and the scheduler sends them."""

    #: Until when runners wait for the workers that they are near to; None if none does.
    waits_until_us: int | None

    def __init__(self, state: CoordinatorState, near_wait_us: int | None) -> None:
        self._state = state
        self._near_wait_us = near_wait_us
        self.waits_until_us = None

    def deal(self, workers: Ints, now_us: int) -> list[tuple[int, Ints]]:
        """Take what may start and finds a worker now: `(worker, rows)`.

        `workers`: those that are ready, ascending.
        """
        state = self._state
        if self._near_wait_us is None:
            self._drop_cancelled()
            share = self.share(workers, state.startable_count) if state.startable_count else _NOBODY
            given = np.flatnonzero(share)
            pairs = zip(workers[given].tolist(), share[given].tolist(), strict=True)
            return [(worker, self.take(count)) for worker, count in pairs]
        if not self._fill_front(workers):
            self.waits_until_us = None
            return []
        share = self._share_near(workers, now_us, self._near_wait_us)
        workers, missing = workers[share > 0], share[share > 0]
        portions: list[list[Ints]] = [[] for _ in workers]
        while missing.any() and self._fill_front(workers):
            for position, rows in state.front.deal(workers, missing):
                portions[position].append(self._live(rows))
                missing[position] -= len(portions[position][-1])
        return [
            (worker, np.concatenate(portion))
            for worker, portion in zip(workers.tolist(), portions, strict=True)
            if portion
        ]

    def take(self, count: int) -> Ints:
        """Take `count` rows that may start; cancelled ones are freed and not returned."""
        rows = self._state.front.take(count)
        return self._live(np.concatenate([rows, self._state.queue.pop(count - len(rows))]))

    def share(
        self,
        workers: Ints,
        ready: int,
        near: Ints | None = None,
        *,
        is_patient: bool = False,
    ) -> Ints:
        """Return how many of `ready` runners each of `workers` gets now; see `share_out`."""
        state = self._state
        # Some of those that sleep may have been given up on.
        awake = np.maximum(state.running - state.asleep - state.gathered, 0)[workers]
        newest = state.newest_batch[workers]
        batch_runners = state.lengths.batch_runners
        return share_out(ready, awake, newest, batch_runners, near, is_patient=is_patient)

    def _share_near(self, workers: Ints, now_us: int, wait_us: int) -> Ints:
        """Return how many of all each of `workers` gets, and note whether others wait."""
        state = self._state
        near, ready = state.front.near_counts[workers], state.startable_count
        until_us = self.waits_until_us
        is_patient = now_us < (now_us + wait_us if until_us is None else until_us)
        share = self.share(workers, ready, near, is_patient=is_patient)
        is_idle = (state.running <= state.asleep)[workers] & (share == 0)
        if not is_idle.any() or int(share.sum()) == ready:
            self.waits_until_us = None
        elif self.waits_until_us is None:
            self.waits_until_us = now_us + wait_us
        return share

    def _fill_front(self, workers: Ints) -> bool:
        """Sort the head of the queue by who is near to it, if need be; say whether any waits."""
        state = self._state
        if len(state.front) == 0:
            self._drop_cancelled()
            rows = self._live(state.queue.pop(FRONT_RUNNERS))
            table = state.table.rows
            is_woken = table["kind"][rows] == Kind.INSTANCE
            near = state.nearness.workers(table["place"][rows], is_woken)
            state.front.fill(rows, near, len(workers))
        return len(state.front) > 0

    def _drop_cancelled(self) -> None:
        """Free the cancelled instances at the head of the queue."""
        state = self._state
        while len(state.queue):
            head = state.queue.peek(_CANCELLED_AT_ONCE)
            cancelled = state.table.rows["state"][head] == State.CANCELLED
            count = len(head) if cancelled.all() else int(np.argmin(cancelled))
            state.end(state.queue.pop(count))
            if count < len(head):
                return

    def _live(self, rows: Ints) -> Ints:
        """Return the rows that are still to run; cancelled ones are freed."""
        cancelled = self._state.table.rows["state"][rows] == State.CANCELLED
        self._state.end(rows[cancelled])
        live: Ints = rows[~cancelled]
        return live
