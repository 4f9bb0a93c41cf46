"""Workers that no longer answer: what they have is given up on, and runs elsewhere.

A suspicion may be wrong. So nothing is taken for granted about an attempt that was given up on: it
may go on, read its snapshot and send its record. The record is dropped, for its number is not the
runner's present one; until it comes, or the worker is lost for good, the snapshot stays pinned. A
suspected worker is asked to say something, and gets nothing new until it does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.coordinator_state import (
    GIVEN_UP,
    Action,
    CoordinatorState,
    RecordGivenUp,
    ToHome,
    ToWorker,
)
from dvm_mpi.control.lifecycle import Event, State
from dvm_mpi.control.messages import AnswerRequested
from dvm_mpi.dsm.messages import StagingEnded
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.errors import LimitError


def suspect(
    state: CoordinatorState,
    worker: int,
    release: Callable[[NDArray[np.int64]], list[Action]],
) -> list[Action]:
    """Give up on all that a worker runs, and keep it out until it answers.

    `release` ends what rows reserve, and orders what that had held back.
    """
    if state.lost[worker]:
        return []
    asks = [ToWorker(worker, AnswerRequested())] if state.ready[worker] else []
    state.suspected[worker], state.ready[worker] = True, False
    table = state.table.rows
    rows = np.flatnonzero((table["state"] == State.RUNNING) & (table["worker"] == worker))
    # In the order of dispatch, so that they start again in that order.
    rows = rows[np.argsort(table["attempt"][rows])]
    if len(rows) == 0:
        return list(asks)
    given_up = np.zeros(len(rows), dtype=GIVEN_UP)
    given_up["attempt"], given_up["snapshot"] = table["attempt"][rows], table["snapshot"][rows]
    before = state.given_up.get(worker, given_up[:0])
    state.given_up[worker] = np.concatenate([before, given_up])
    state.running[worker] -= len(rows)
    state.counters.given_up += len(rows)
    state.table.apply(rows, Event.GIVEN_UP)
    actions = release(rows)
    state.requeue(rows)
    return [RecordGivenUp(given_up["attempt"].copy()), *asks, *actions]


def lose(
    state: CoordinatorState,
    worker: int,
    release: Callable[[NDArray[np.int64]], list[Action]],
) -> list[Action]:
    """Do without a worker from now on; whatever it still says is dropped.

    Raises
    ------
    LimitError
        It was the last one.
    """
    if state.lost[worker]:
        return []
    actions = suspect(state, worker, release)
    state.lost[worker], state.suspected[worker] = True, False
    state.asleep[worker] = 0
    unpin(state, state.given_up.pop(worker, np.zeros(0, dtype=GIVEN_UP))["snapshot"])
    if state.lost.all():
        raise LimitError(
            f"all {len(state.lost)} workers of this run are lost: nobody is left to run the program"
        )
    ended = StagingEnded(worker, int(state.last_serials[worker]))
    return actions + [ToHome(home, ended) for home in range(state.home_count)]


def hear(state: CoordinatorState, workers: int | NDArray[np.int64]) -> None:
    """Note that workers say something: they may be sent runners again if they were suspected."""
    state.ready[workers] |= state.suspected[workers]
    state.suspected[workers] = False


def settle(state: CoordinatorState, workers: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
    """Note that records of attempts that were given up on have come: they read nothing more.

    `workers` says who had executed each of the `numbers`.
    """
    for worker in distinct(workers).tolist():
        if worker in state.given_up:
            _settle(state, worker, numbers[workers == worker])


def _settle(state: CoordinatorState, worker: int, numbers: NDArray[np.int64]) -> None:
    waiting = state.given_up[worker]
    has_come = np.isin(waiting["attempt"], numbers)
    unpin(state, waiting["snapshot"][has_come])
    if has_come.all():
        del state.given_up[worker]
    else:
        state.given_up[worker] = waiting[~has_come]


def unpin(state: CoordinatorState, snapshots: NDArray[np.int64]) -> None:
    """Let go of snapshots, one pin each."""
    epochs, counts = np.unique(snapshots, return_counts=True)
    for epoch, count in zip(epochs.tolist(), counts.tolist(), strict=True):
        state.pins.remove(epoch, count)


def snapshots_of(
    state: CoordinatorState, workers: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the snapshots of attempts that were given up on and may still be heard of: (n,).

    `workers` executed them. Of a lost worker's nothing is known, and nothing that it staged is
    kept: the newest snapshot stands for theirs.
    """
    snapshots = np.full(len(numbers), state.log.visible)
    for worker in distinct(workers).tolist():
        waiting = state.given_up.get(worker)
        if waiting is None:
            continue
        order = np.argsort(waiting["attempt"])
        known = waiting[order]
        own = np.flatnonzero((workers == worker) & np.isin(numbers, known["attempt"]))
        at = np.searchsorted(known["attempt"], numbers[own])
        snapshots[own] = known["snapshot"][at]
    return snapshots
