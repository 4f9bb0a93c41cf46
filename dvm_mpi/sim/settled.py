"""What must be left of a run that has ended: its memory, its watchers, and nothing else.

Source: docs/simulation.md, "What is checked".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dvm_mpi.control.coordinator_state import CoordinatorState
from dvm_mpi.control.lifecycle import State
from dvm_mpi.control.worker import Worker
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.sim.machine import SimulatedMachine


def leftovers(machine: SimulatedMachine) -> list[str]:
    """Return what a machine still holds that it should not, one line each.

    It has ended and settled. What a suspected worker owes a record of may be left, and whatever
    was left to a worker that died.
    """
    state = machine.scheduler.state
    if state.failure is not None:
        # A trap ends the run in the midst of everything; what was committed is visible.
        return list(_left_of_epochs(state))
    found = [*_left_of_epochs(state), *_left_of_runners(state)]
    excused = set(state.given_up) | set(machine.silent_workers())
    for worker in machine.workers:
        if worker.number not in excused:
            found += _left_of_worker(worker)
    for home in machine.homes:
        found += _left_of_home(home, state, set(state.given_up))
    return found


def _left_of_epochs(state: CoordinatorState) -> Iterator[str]:
    if state.log.epochs_in_flight or state.log.open_records:
        yield f"epochs after {state.log.visible} are not visible"
    if state.pending:
        yield f"something waits for the epochs {sorted(state.pending)}"


def _left_of_runners(state: CoordinatorState) -> Iterator[str]:
    """Tell of runners, pins and reservations."""
    kinds = np.unique(state.table.rows["state"])
    left = [State(kind).name for kind in kinds.tolist() if kind not in {State.FREE, State.ARMED}]
    if left:
        yield f"runners are left that are {', '.join(left)}"
    owed = [int(epoch) for rows in state.given_up.values() for epoch in rows["snapshot"]]
    if len(state.pins) != len(owed) or set(state.pins.epochs.tolist()) != set(owed):
        yield f"snapshots {state.pins.epochs.tolist()} are pinned, and {sorted(set(owed))} in use"
    if state.reservations.active or state.reservations.is_remembering:
        yield "ranges are reserved for runners that have ended"
    if state.held or state.running_count or state.alone >= 0:
        yield "records are held back, or runners count as running"
    state.leases.check_invariants()


def _left_of_worker(worker: Worker) -> Iterator[str]:
    if not worker.is_settled:
        yield f"worker {worker.number} is not done: {worker.waits_for}"
    if worker.parts_under_way:
        yield f"worker {worker.number} has parts in staging arenas"


def _left_of_home(home: Home, state: CoordinatorState, excused: set[int]) -> Iterator[str]:
    """Tell of staged bytes, and of frames that no snapshot in use shows, nor the end."""
    if home.epochs_waiting:
        yield f"home {home.index} has epochs to apply: {home.waits_for}"
    staged = sorted(home.workers_with_staged_bytes() - excused)
    if staged:
        yield f"home {home.index} keeps staged bytes of workers {staged}"
    home.collect(state.log.visible, state.pins.epochs)
    home.check_invariants()
    live = _live_frames(home, [state.log.visible, *state.pins.epochs.tolist()])
    if home.pool.in_use != live:
        yield f"home {home.index} has {home.pool.in_use} frames in use, and {live} are live"


def _live_frames(home: Home, snapshots: list[int]) -> int:
    """Count the frames that hold some page as of some snapshot: without pins, one for each page."""
    pages = home.directory.pages()
    shown = np.unique([home.directory.lookup(pages, snapshot)[0] for snapshot in snapshots])
    return int((shown != NO_FRAME).sum())
