"""A worker that does not answer: its runners start elsewhere, and what it says late is dropped."""

from __future__ import annotations

import pytest

from dvm_mpi.config import EPOCH_US_MAX, LOSSES_BEFORE_RESERVING, LOSSES_BEFORE_RUNNING_ALONE
from dvm_mpi.control.lifecycle import State
from dvm_mpi.control.messages import AsleepChanged, LeaseRequested, WorkerReady
from dvm_mpi.control.scheduler import WorkerLost, WorkerSuspected, WorkerTold
from dvm_mpi.dsm.messages import EpochApplied, FramesLacking, PinsMoved, StagingEnded
from dvm_mpi.engine.interface import End, LeaseKind
from dvm_mpi.errors import LimitError
from tests.control.coordinator import (
    FIRST,
    A,
    Attempt,
    B,
    C,
    Child,
    Coordinator,
    D,
    Ends,
    X,
    Y,
    Z,
    lose,
    with_children,
)


def suspect(c: Coordinator, attempt: Attempt) -> Attempt:
    """Suspect the worker of an attempt; return the attempt that its runner makes next."""
    c.handle(WorkerSuspected(attempt.worker))
    (again,) = (a for a in c.runs(attempt.entry) if a.row == attempt.row and a is not attempt)
    return again


def pins(c: Coordinator) -> list[int]:
    found: list[int] = c.scheduler.state.pins.epochs.tolist()
    return found


# --- suspicion ----------------------------------------------------------------------------------


def test_what_a_suspect_runs_starts_elsewhere_and_counts_once() -> None:
    c = with_children(Child(A), Child(B))
    first = c.one(A)
    again = suspect(c, first)
    assert again.worker != first.worker
    assert (again.id, again.row) == (first.id, first.row)
    assert c.given_up == [first.number]
    c.ends(first, stores=[X], console=b"late", children=[Child(C)])
    c.ends(again, stores=[X], console=b"once")
    c.ends(c.one(B))
    c.apply()
    assert c.has_ended
    assert (b"".join(c.printed), c.runs(C)) == (b"once", [])
    assert first.number not in c.order


def test_a_late_record_is_dropped_even_if_another_runner_has_the_row() -> None:
    c = with_children(Child(A), Child(B))
    first = c.one(A)
    c.ends(suspect(c, first), stores=[X])
    c.ends(c.one(B), stores=[Y], children=[Child(C), Child(D)])
    c.apply()
    assert first.row in {c.one(C).row, c.one(D).row}
    c.ends(first, stores=[Z], console=b"late")
    c.ends(c.one(C))
    c.ends(c.one(D))
    c.apply()
    assert c.has_ended
    assert c.printed == []


def test_staged_bytes_of_a_late_record_are_discarded() -> None:
    c = with_children(Child(A), Child(B))
    first = c.one(A)
    c.ends(suspect(c, first), stores=[X])
    c.ends(first, stores=[X], serial=7)
    assert c.discarded == [(0, (first.worker, 7))]


def test_its_snapshot_stays_pinned_until_its_record_comes() -> None:
    """It may still be reading; who runs instead reads a newer snapshot."""
    c = with_children(Child(A), Child(B), Child(D))
    first = c.one(A)
    c.ends(c.one(B), stores=[X])
    c.apply()
    again = suspect(c, first)
    assert again.snapshot > first.snapshot
    c.ends(c.one(D))
    assert pins(c) == [first.snapshot, again.snapshot]
    c.ends(first)
    assert pins(c) == [again.snapshot]


def test_a_suspect_gets_nothing_until_it_answers() -> None:
    c = with_children(Child(A), Child(B), workers=2)
    first = c.one(A)
    other = c.one(B)
    assert first.worker != other.worker
    suspect(c, first)
    c.ends(other, children=[Child(C)] * 4)
    c.tick(EPOCH_US_MAX)
    assert {a.worker for a in c.runs(C)} == {other.worker}
    c.ends(first)
    c.finish(*(Ends(attempt, children=[Child(D)] * 2) for attempt in c.runs(C)))
    assert {a.worker for a in c.runs(D)} == {first.worker, other.worker}


@pytest.mark.parametrize(
    "said", [WorkerReady(0), AsleepChanged(0, 0), LeaseRequested(0, LeaseKind.ID, 0)]
)
def test_whatever_it_says_is_an_answer(said: WorkerTold) -> None:
    c = with_children(Child(A), workers=2)
    c.handle(WorkerSuspected(0))
    assert c.scheduler.state.ready.tolist() == [False, True]
    c.handle(said)
    assert c.scheduler.state.ready.tolist() == [True, True]


def test_with_nobody_else_the_runners_wait_for_the_suspect() -> None:
    c = with_children(Child(A), workers=1)
    first = c.one(A)
    c.handle(WorkerSuspected(0))
    assert c.runs(A) == [first]
    c.handle(AsleepChanged(0, 0))
    (_, again) = c.runs(A)
    c.ends(again)
    assert c.has_ended


def test_suspected_twice_it_owes_both_records() -> None:
    c = with_children(Child(A), workers=1)
    first = c.one(A)
    for _ in range(2):
        c.handle(WorkerSuspected(0))
        c.handle(AsleepChanged(0, 0))
    (_, second, third) = c.runs(A)
    assert c.scheduler.state.pins.epochs.tolist() == [first.snapshot]
    c.finish(Ends(first), Ends(second))
    c.ends(third)
    assert c.has_ended
    assert len(c.scheduler.state.pins) == 0


def test_what_it_has_set_aside_for_sleepers_takes_no_turn() -> None:
    """Its sleepers were given up on: it counts as idle, and its room is not more than all."""
    c = with_children(Child(A), Child(B), workers=2)
    first, other = c.one(A), c.one(B)
    c.handle(AsleepChanged(first.worker, 1))
    suspect(c, first)
    c.handle(AsleepChanged(first.worker, 1))
    c.ends(other, stores=[X])
    assert len(c.applying) == 1, "somebody is idle, so the epoch closes"


# --- reservations, watchers ---------------------------------------------------------------------


def test_a_reservation_ends_with_the_attempt() -> None:
    """Otherwise records would be held back for an attempt whose record never counts."""
    c = with_children(Child(A), Child(B), Child(C))
    holder = lose(c, B, A, LOSSES_BEFORE_RESERVING)
    blocked = c.one(C)
    assert blocked.worker != holder.worker
    c.ends(blocked, stores=[X])
    assert c.scheduler.state.table.count(State.HELD) == 1
    c.handle(WorkerSuspected(holder.worker))
    assert c.scheduler.state.table.count(State.HELD) == 0


def test_who_runs_alone_runs_alone_again() -> None:
    c = with_children(Child(A), Child(B))
    loser = c.one(B)
    c.scheduler.state.table.rows["losses"][loser.row] = LOSSES_BEFORE_RUNNING_ALONE - 1
    c.ends(c.one(A), stores=[X])
    c.ends(loser, stores=[X])
    c.apply()
    alone = c.one(B)
    assert c.scheduler.state.alone == alone.row
    again = suspect(c, alone)
    assert c.scheduler.state.alone == again.row
    assert again.worker != alone.worker
    c.ends(again, stores=[X])
    c.apply()
    assert c.scheduler.state.alone == -1
    assert c.has_ended


def test_an_instance_runs_again_though_its_template_was_deleted() -> None:
    c = with_children(Child(A, watched=[(X, 16)]), Child(B), Child(C), workers=6)
    c.ends(c.one(B), stores=[X])
    c.apply()
    instance = c.one(A)
    c.ends(c.one(C), stores=[X + 8])
    c.apply()
    (_, other) = c.runs(A)
    again = suspect(c, instance)
    c.ends(other, End.COMMIT_DELETE, stores=[Z])
    c.apply()
    c.ends(again, stores=[Y])
    c.apply()
    assert c.has_ended
    assert again.number in c.order
    assert c.scheduler.state.table.live_count == 0


# --- loss ---------------------------------------------------------------------------------------


def test_a_lost_worker_holds_no_snapshot_and_no_staged_bytes() -> None:
    c = with_children(Child(A), Child(B), workers=2)
    gone = c.one(A)
    c.handle(WorkerLost(gone.worker))
    assert c.told == [(home, StagingEnded(gone.worker, 0)) for home in (0, 1)]
    assert len(c.scheduler.state.pins) == len(c.running) - 1


def test_the_last_serial_that_counts_is_told() -> None:
    c = with_children(Child(A), Child(A), Child(A), Child(A), workers=2)
    worker = c.runs(A)[0].worker
    mine = [a for a in c.runs(A) if a.worker == worker]
    c.ends(mine[0], stores=[X], serial=3)
    c.handle(WorkerLost(worker))
    assert c.told[0] == (0, StagingEnded(worker, 3))


def test_a_lost_worker_is_not_heard_any_more() -> None:
    c = with_children(Child(A), Child(B), workers=2)
    gone, other = c.one(A), c.one(B)
    c.handle(WorkerSuspected(gone.worker))
    c.handle(WorkerLost(gone.worker))
    (again,) = (a for a in c.runs(A) if a is not gone)
    assert again.worker == other.worker
    assert c.handle(LeaseRequested(gone.worker, LeaseKind.ID, 0)) == ()
    c.handle(AsleepChanged(gone.worker, 5))
    c.handle(WorkerReady(gone.worker))
    c.ends(gone, stores=[X], console=b"late")
    c.handle(WorkerSuspected(gone.worker))
    c.handle(WorkerLost(gone.worker))
    assert not c.scheduler.state.ready[gone.worker]
    c.ends(again, console=b"once")
    c.ends(other)
    assert c.has_ended
    assert b"".join(c.printed) == b"once"


def test_without_any_worker_the_run_ends() -> None:
    c = with_children(Child(A), workers=2)
    c.handle(WorkerLost(1))
    with pytest.raises(LimitError, match="all 2 workers of this run are lost"):
        c.handle(WorkerLost(0))


# --- homes without frames -----------------------------------------------------------------------


def moved(c: Coordinator) -> list[tuple[int, int, list[int]]]:
    """Return what homes were told of pins since the last call: home, visible, pins."""
    told = [(h, m.visible, m.pins.tolist()) for h, m in c.told if isinstance(m, PinsMoved)]
    c.told.clear()
    return told


def test_a_home_without_frames_is_told_of_pins_until_it_has_applied() -> None:
    c = with_children(Child(A), Child(B), Child(C))
    before = c.visible
    c.ends(c.one(A), stores=[X])
    ((home, request),) = c.applying
    c.handle(FramesLacking(home, request.epoch, 1))
    assert moved(c) == [(home, before, [before])]
    c.ends(c.one(B), stores=[Y])
    assert moved(c) == [], "C has the same snapshot: nothing has changed"
    c.ends(c.one(C))
    assert moved(c) == [(home, before, [])]
    c.handle(EpochApplied(home, request.epoch, 0))
    c.applying.popleft()
    c.apply()
    assert moved(c) == []


def test_after_a_trap_pins_still_move() -> None:
    """The records that come then are not ordered, but a home may wait for their frames."""
    c = with_children(Child(A), Child(B), Child(C))
    c.ends(c.one(A), stores=[X])
    ((home, request),) = c.applying
    c.handle(FramesLacking(home, request.epoch, 1))
    c.ends(c.one(B), End.TRAP, trap=0)
    moved(c)
    c.ends(c.one(C))
    assert moved(c) == [(home, c.visible, [])]
    assert FIRST not in {a.entry for a in c.running.values()}
