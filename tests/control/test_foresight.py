"""What follows from an epoch is decided while homes apply it, and leaves when it is visible."""

from __future__ import annotations

import pytest

from dvm_mpi.control.coordinator_state import RecordGivenUp, RecordWaking, ToWorker
from dvm_mpi.control.messages import Dispatched, WorkerReady
from dvm_mpi.control.scheduler import WorkerLost, WorkerSuspected, WorkerWithheld
from dvm_mpi.dsm.messages import EpochApplied
from dvm_mpi.engine.interface import End
from tests.control.coordinator import FIRST, A, B, Child, Coordinator, X, Y


def closed(children: int = 2, **options: object) -> Coordinator:
    """Return a machine of which all that is left to come is that an epoch becomes visible."""
    c = Coordinator(workers=2, **options)  # type: ignore[arg-type]
    first = c.one(FIRST)
    c.ends(first, stores=[X], children=[Child(A)] * children, console=b"hello")
    return c


def foresee(c: Coordinator) -> None:
    c.scheduler.foresee()
    c.scheduler.check_invariants()


def test_what_was_foreseen_leaves_when_the_epoch_is_visible() -> None:
    c = closed()
    epoch = c.applying[0][1].epoch
    foresee(c)
    assert c.scheduler.state.running_count == 2, "though nobody has heard of them"
    c.tick(1)
    assert not c.running
    assert not c.printed
    c.apply()
    assert [attempt.snapshot for attempt in c.runs(A)] == [epoch, epoch]
    assert c.printed == [b"hello"]
    for attempt in c.runs(A):
        c.ends(attempt)
    c.apply()
    assert c.has_ended


def test_it_is_the_same_as_without() -> None:
    plain, ahead = closed(children=5), closed(children=5)
    foresee(ahead)
    for c in (plain, ahead):
        c.apply()
    assert ahead.running == plain.running
    assert ahead.batches == plain.batches


def test_all_homes_are_awaited() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), stores=[X, Y], children=[Child(A)])
    assert len(c.applying) == 2
    foresee(c)
    c.apply(1)
    assert not c.running
    foresee(c)
    c.apply(1)
    assert len(c.runs(A)) == 1


def test_watchers_wake_in_time() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B, watched=[(X, 8)], heap=[(X, 8)])])
    c.apply()
    c.ends(c.one(A), stores=[X])
    foresee(c)
    assert not c.runs(B)
    assert not any(isinstance(claim, RecordWaking) for claim in c.claims)
    c.apply()
    assert c.one(B).snapshot == c.visible
    assert sum(isinstance(claim, RecordWaking) for claim in c.claims) == 1


def test_losers_go_again_on_what_they_lost_to() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    c.apply()
    c.ends(c.one(A), stores=[X])
    c.ends(c.one(B), stores=[X])
    foresee(c)
    c.apply()
    assert c.one(B).snapshot == c.visible


def test_the_end_of_the_program_is_not_foreseen() -> None:
    c = Coordinator()
    c.ends(c.one(FIRST), stores=[X], console=b"bye")
    foresee(c)
    assert not c.printed
    c.apply()
    assert c.has_ended
    assert c.printed == [b"bye"]


def test_nothing_is_foreseen_while_somebody_runs() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    c.apply()
    c.ends(c.one(A), stores=[X], children=[Child(A)])
    assert c.applying
    foresee(c)
    assert c.scheduler.state.foreseen == 0


def test_nor_beside_runners_that_may_start() -> None:
    c = Coordinator(workers=1, batch=1)
    c.ends(c.one(FIRST), children=[Child(A)] * 9)
    c.apply()
    assert c.scheduler.queued_count
    foresee(c)
    assert c.scheduler.state.foreseen == 0


def test_nor_the_first_of_several_epochs() -> None:
    """The homes are slow: what follows from the first is no longer all that is to come."""
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    c.apply()
    c.ends(c.one(A), stores=[X], children=[Child(A)])
    c.ends(c.one(B), stores=[Y], children=[Child(B)])
    assert c.scheduler.state.log.epochs_in_flight == 2
    assert c.scheduler.state.running_count == 0
    foresee(c)
    assert c.scheduler.state.foreseen == 0
    c.apply(1)
    assert [attempt.entry for attempt in c.running.values()] == [A]
    assert c.one(A).snapshot == c.visible
    c.apply()
    assert c.one(B).snapshot == c.visible


def test_nor_in_a_run_by_rounds() -> None:
    c = closed(deterministic=True)
    foresee(c)
    assert c.scheduler.state.foreseen == 0


def test_nor_while_an_attempt_that_was_given_up_on_holds_a_snapshot() -> None:
    """Its home may wait for the frames of that, which it keeps until its worker is lost."""
    c = Coordinator(workers=3)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    c.apply()
    c.handle(WorkerSuspected(c.one(B).worker))
    c.ends(c.one(A), stores=[X])
    again = next(a for a in reversed(c.runs(B)))
    c.ends(again)
    foresee(c)
    assert c.scheduler.state.foreseen == 0


def test_a_worker_that_is_lost_meanwhile_is_lost_afterwards() -> None:
    c = closed(children=1)
    foresee(c)
    worker = int(c.scheduler.state.running.argmax())
    assert c.handle(WorkerLost(worker)) == ()
    home, request = c.applying.popleft()
    actions = c.handle(_applied(home, request.epoch))
    sent = [a.worker for a in actions if isinstance(a, ToWorker) and _is_batch(a)]
    assert sent == [worker, 1 - worker], "first what was foreseen, then what follows from the loss"
    (given_up,) = (a for a in actions if isinstance(a, RecordGivenUp))
    assert given_up.numbers.tolist() == [c.runs(A)[0].number]


def test_a_worker_that_is_withheld_meanwhile_is_so_afterwards() -> None:
    c = closed(children=1)
    foresee(c)
    worker = int(c.scheduler.state.running.argmax())
    assert c.handle(WorkerWithheld(worker, is_withheld=True)) == ()
    assert not c.running
    c.apply()
    assert c.scheduler.state.withheld.nonzero()[0].tolist() == [worker]
    assert c.one(A).worker == worker, "what it has it executes"


def test_a_worker_that_comes_meanwhile_begins_afterwards() -> None:
    c = Coordinator(workers=2, workers_ready=False, batch=1)
    c.handle(WorkerReady(0))
    c.ends(c.one(FIRST), stores=[X], children=[Child(A)] * 9)
    foresee(c)
    assert c.scheduler.queued_count
    c.handle(WorkerReady(1))
    assert not c.running
    c.apply()
    assert {attempt.worker for attempt in c.runs(A)} == {0, 1}


@pytest.mark.parametrize("end", [End.COMMIT, End.COMMIT_DELETE])
def test_an_instance_that_is_foreseen_ends_as_any(end: End) -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B, watched=[(X, 8)], heap=[(X, 8)])])
    c.apply()
    c.ends(c.one(A), stores=[X])
    foresee(c)
    c.apply()
    c.ends(c.one(B), end)
    foresee(c)
    c.apply()
    assert c.has_ended


def _is_batch(action: ToWorker) -> bool:
    return isinstance(action.message, Dispatched)


def _applied(home: int, epoch: int) -> EpochApplied:
    return EpochApplied(home, epoch, 0)
