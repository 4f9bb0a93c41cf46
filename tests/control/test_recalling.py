"""Batches that a worker has not begun go to those that have nothing to do."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from dvm_mpi.config import BATCH_FUEL, EPOCH_US_MAX
from dvm_mpi.control.coordinator_state import Action, RecordRecalled, ToWorker
from dvm_mpi.control.messages import BatchRecalled, BatchReturned, Dispatched
from dvm_mpi.control.returning import give_back
from dvm_mpi.control.scheduler import WorkerLost, WorkerSuspected, WorkerWithheld
from dvm_mpi.engine.interface import ATTEMPT, GRANT, RUN, End
from tests.control.coordinator import FIRST, A, Attempt, B, C, Child, Coordinator, Ends, X
from tests.control.coordinator import D as W


def recalls(actions: tuple[Action, ...]) -> list[int]:
    """Return the workers that are asked for a batch."""
    return [
        action.worker
        for action in actions
        if isinstance(action, ToWorker) and isinstance(action.message, BatchRecalled)
    ]


class Uneven:
    """Of two workers of long runners 0 runs one and holds another, and 1 has become idle."""

    def __init__(self, workers: int = 2, runners: int = 4) -> None:
        self.c = Coordinator(workers=workers, batch=1)
        self.c.ends(self.c.one(FIRST), children=[Child(A)] * runners)
        self.c.apply()
        self.asked: list[int] = []
        for attempt in self.at(1):
            del self.c.running[attempt.number]
            self.asked += recalls(self.c.handle(self.c.record(Ends(attempt))))

    def at(self, worker: int) -> list[Attempt]:
        return [attempt for attempt in self.c.runs(A) if attempt.worker == worker]

    def give_back(self, *attempts: Attempt, worker: int = 0) -> tuple[Action, ...]:
        """Let a worker answer; these attempts do not run there any more."""
        for attempt in attempts:
            self.c.running.pop(attempt.number, None)
        numbers = np.array([attempt.number for attempt in attempts], np.int64)
        rows = np.array([attempt.row for attempt in attempts], np.int64)
        return self.c.handle(BatchReturned(worker, numbers, rows))


def test_an_idle_worker_gets_what_another_has_not_begun() -> None:
    uneven = Uneven()
    assert uneven.asked == [0]
    first, second = uneven.at(0)
    uneven.give_back(second)
    (moved,) = uneven.at(1)
    assert moved.row == second.row
    assert moved.number > second.number
    assert uneven.at(0) == [first]
    assert uneven.c.scheduler.counters.recalled == 1
    (claim,) = (c for c in uneven.c.claims if isinstance(c, RecordRecalled))
    assert claim.numbers.tolist() == [second.number]
    uneven.c.ends(moved)
    uneven.c.ends(first)
    assert uneven.c.has_ended


def test_who_has_begun_everything_is_asked_once() -> None:
    uneven = Uneven()
    assert recalls(uneven.give_back()) == []
    assert len(uneven.at(0)) == 2
    for attempt in uneven.at(0):
        uneven.c.ends(attempt)
    assert uneven.c.has_ended


def test_one_is_asked_for_each_that_is_idle_and_those_with_most_first() -> None:
    uneven = Uneven(workers=4, runners=8)
    assert uneven.asked == [0]
    for attempt in uneven.at(2):
        del uneven.c.running[attempt.number]
        uneven.asked += recalls(uneven.c.handle(uneven.c.record(Ends(attempt))))
    assert uneven.asked == [0, 3]


def test_nobody_is_asked_while_runners_wait() -> None:
    """They are for the idle one; only what nobody else has is taken back."""
    assert Uneven(runners=6).asked == []


def test_short_batches_are_left_where_they_are() -> None:
    c = Coordinator(workers=2, batch=256)
    c.scheduler.state.lengths.all.mean = 1.0
    c.ends(c.one(FIRST), children=[Child(A)] * 4)
    c.apply()
    assert recalls(c.handle(c.record(*[Ends(a) for a in c.runs(A) if a.worker == 1]))) == []


def test_what_was_given_up_on_meanwhile_runs_once() -> None:
    """The worker was suspected before its answer came: both runners have gone to the other one."""
    uneven = Uneven()
    first, second = uneven.at(0)
    uneven.c.handle(WorkerSuspected(0))
    again = uneven.at(1)
    assert {attempt.row for attempt in again} == {first.row, second.row}
    assert len(uneven.c.scheduler.state.given_up[0]) == 2
    uneven.give_back(second)
    assert uneven.c.scheduler.state.given_up[0]["attempt"].tolist() == [first.number]
    assert uneven.at(1) == again
    assert uneven.c.scheduler.counters.recalled == 0
    # Nor does a history hear that they have never been sent: they are retries where they run now.
    assert not any(c.numbers.size for c in uneven.c.claims if isinstance(c, RecordRecalled))


def test_the_answer_of_a_lost_worker_is_dropped() -> None:
    uneven = Uneven()
    _, second = uneven.at(0)
    uneven.c.handle(WorkerLost(0))
    again = uneven.at(1)
    uneven.give_back(second)
    assert uneven.at(1) == again


def test_a_worker_that_was_lost_before_it_answered_is_not_waited_for() -> None:
    """What it had has gone to the idle one; when that has done it, another one is asked."""
    uneven = Uneven(workers=3, runners=6)
    assert uneven.asked == [0]
    uneven.c.handle(WorkerLost(0))
    asked: list[int] = []
    while uneven.at(1):
        attempt = uneven.at(1)[0]
        del uneven.c.running[attempt.number]
        asked += recalls(uneven.c.handle(uneven.c.record(Ends(attempt))))
    assert len(uneven.at(2)) == 2
    assert asked == [2]


# --- instances of watchers ----------------------------------------------------------------------
#: Some have nothing to do.
WORKERS = 6


def watched() -> tuple[Coordinator, Attempt]:
    """Return a machine with an instance of W that has not begun, and B and C that run."""
    c = Coordinator(workers=WORKERS, batch=1)
    watcher = Child(W, watched=[(X, 8)])
    c.ends(c.one(FIRST), children=[watcher, Child(A), Child(B), Child(C)])
    c.apply()
    c.ends(c.one(A), stores=[(X, b"!")])
    c.apply()
    return c, c.one(W)


def take_back(c: Coordinator, attempt: Attempt) -> None:
    del c.running[attempt.number]
    numbers, rows = np.array([attempt.number]), np.array([attempt.row])
    c.handle(BatchReturned(attempt.worker, numbers, rows))


def withhold(c: Coordinator, is_withheld: bool) -> None:
    """Let all wait that may start, or no longer."""
    for worker in range(WORKERS):
        c.handle(WorkerWithheld(worker, is_withheld))


def test_an_instance_that_comes_back_is_queued_again() -> None:
    """Until it is sent again it is for later commits as well."""
    c, first = watched()
    withhold(c, True)
    take_back(c, first)
    c.ends(c.one(B), stores=[(X + 1, b"!")])
    epoch = c.orders[-1].epoch
    c.tick(EPOCH_US_MAX)
    c.apply()
    withhold(c, False)
    again = c.one(W)
    assert (again.row, again.snapshot >= epoch) == (first.row, True)
    assert c.scheduler.counters.watcher_firings == 1


@pytest.mark.parametrize("is_queued", [False, True])
def test_one_of_two_that_would_see_the_same_is_enough(is_queued: bool) -> None:
    """Both would find that all is done, and do what is to be done then."""
    c, first = watched()
    withhold(c, is_queued)
    c.ends(c.one(B), stores=[(X + 1, b"!")])
    c.tick(EPOCH_US_MAX)
    c.apply()
    assert len(c.runs(W)) == 1 + (not is_queued)
    take_back(c, first)
    withhold(c, False)
    last = c.one(W)
    assert last.row != first.row
    counters = c.scheduler.counters
    assert (counters.watcher_firings, counters.runners) == (1, 1 + 3 + 1)
    c.ends(last)
    c.ends(c.one(C))
    assert c.has_ended


def test_none_is_needed_when_the_watcher_was_deleted() -> None:
    c, first = watched()
    c.ends(c.one(B), stores=[(X + 1, b"!")])
    c.apply()
    (last,) = (attempt for attempt in c.runs(W) if attempt is not first)
    c.ends(last, end=End.COMMIT_DELETE, console=b"done")
    c.apply()
    take_back(c, first)
    assert c.runs(W) == []
    c.ends(c.one(C))
    assert c.has_ended


def test_an_instance_that_was_sent_anew_is_for_what_nobody_else_sees() -> None:
    """Its first attempt was given up on, so what took it off the queue is not what comes back."""
    c, first = watched()
    c.handle(WorkerSuspected(first.worker))
    again = next(attempt for attempt in c.runs(W) if attempt.number != first.number)
    take_back(c, again)
    assert [a.row for a in c.runs(W) if a.number > again.number] == [first.row]


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_worker_gives_back_its_last_batch_whole(batches: int) -> None:
    waiting: deque[Dispatched] = deque()
    for number in range(batches):
        attempts = np.zeros(3, ATTEMPT)
        attempts["runner"] = [10 * number + n for n in range(3)]
        numbers = 100 * number + np.arange(3)
        none = np.zeros(0, GRANT), np.zeros(0, RUN), np.zeros(0, np.uint8)
        waiting.append(Dispatched(1, numbers, attempts, *none))
    returned = give_back(7, waiting)
    assert returned.worker == 7
    assert len(waiting) == max(batches - 1, 0)
    last = batches - 1
    expected = [100 * last + n for n in range(3)] if batches else []
    assert returned.numbers.tolist() == expected
    assert returned.runners.tolist() == [number // 10 + number % 10 for number in expected]


def test_a_long_batch_is_longer_than_what_is_left_where_it_is() -> None:
    """As the other tests take it for granted."""
    assert Coordinator(batch=1).scheduler.state.lengths.fuel_of(np.array([A])) >= BATCH_FUEL
