"""What the coordinator does with records, epochs and the queue; no engine and no home runs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.config import EPOCH_US_MAX, EPOCHS_IN_FLIGHT
from dvm_mpi.control import lifecycle, open_epoch
from dvm_mpi.control.dealing import Dealing, Dealt
from dvm_mpi.control.leases import LeaseBook
from dvm_mpi.control.messages import (
    AsleepChanged,
    LeaseGranted,
    LeaseRequested,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.control.scheduler import Scheduler, Ticked, WorkerLost, WorkerWithheld
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import EpochApplied, EpochsApplied, FramesLacking
from dvm_mpi.engine.interface import End, LeaseKind
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from tests.control.coordinator import (
    FIRST,
    LOADED,
    STACK_BYTES,
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
    with_children,
)

# --- dispatch -----------------------------------------------------------------------------------


def test_the_first_runner_starts_on_the_loaded_program() -> None:
    c = Coordinator()
    first = c.one(FIRST)
    assert first.snapshot == LOADED
    assert first.grants == ((X, 64 * PAGE_BYTES),)
    assert first.stack[1] == STACK_BYTES


def test_a_child_starts_when_its_parents_epoch_is_visible_everywhere() -> None:
    """The epoch touches two homes; the child must not start between their acknowledgements."""
    c = Coordinator()
    c.ends(c.one(FIRST), stores=[X, Y], children=[Child(A)])
    epoch = c.orders[0].epoch
    assert [home for home, _ in c.applying] == [0, 1]
    c.apply(1)
    assert c.runs(A) == []
    c.apply(1)
    assert c.one(A).snapshot == epoch == c.visible


def test_nothing_is_decided_while_other_homes_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of homes each acknowledges; a look at thousands of workers each time is slow."""
    c = Coordinator(workers=1, batch=4)
    c.ends(c.one(FIRST), children=[Child(A)] * 12)
    c.ends(c.runs(A)[0], stores=[X, Y])
    c.tick(EPOCH_US_MAX)
    looks: list[int] = []
    deal = Dealing.deal

    def look(self: Dealing, workers: NDArray[np.int64], now_us: int) -> Dealt:
        looks.append(now_us)
        return deal(self, workers, now_us)

    monkeypatch.setattr(Dealing, "deal", look)
    c.apply(1)
    assert len(looks) == 0
    c.apply(1)
    assert len(looks) > 0


def test_a_later_epoch_that_is_applied_first_shows_nothing() -> None:
    c = with_children(Child(A), Child(B))
    c.ends(c.one(A), stores=[X])
    c.ends(c.one(B), stores=[Y], children=[Child(C)], console=b"B")
    (home, early), (other, late) = c.applying
    before = c.visible
    c.handle(EpochApplied(other, late.epoch, 0))
    assert (c.visible, c.runs(C), c.printed) == (before, [], [])
    c.handle(EpochApplied(home, early.epoch, 0))
    assert c.one(C).snapshot == late.epoch
    assert c.printed == [b"B"]


def test_a_worker_gets_whole_batches_and_the_next_when_one_is_done() -> None:
    """Ends that come one by one must not call for runners one by one."""
    c = Coordinator(workers=1, batch=4)
    c.ends(c.one(FIRST), children=[Child(A)] * 12)
    assert c.batches[1:] == [(0, 4), (0, 4)]
    for _ in range(3):
        c.ends(c.runs(A)[0])
    assert len(c.batches) == 3
    c.ends(c.runs(A)[0])
    assert c.batches[3:] == [(0, 4)]


def test_a_child_of_a_parent_without_stores_needs_no_home() -> None:
    c = Coordinator()
    c.ends(c.one(FIRST), children=[Child(A)])
    assert not c.applying
    assert c.one(A).snapshot == c.orders[0].epoch


def test_a_losing_parent_has_no_children() -> None:
    c = with_children(Child(A), Child(B))
    loser = c.one(B)
    c.ends(c.one(A), stores=[X])
    c.ends(loser, stores=[X], children=[Child(C)] * 3, console=b"never")
    c.apply()
    assert c.runs(C) == []
    assert c.one(B).number > loser.number
    c.ends(c.one(B), stores=[X], children=[Child(C)])
    c.apply()
    assert len(c.runs(C)) == 1
    assert c.printed == []


def test_what_a_child_is_given_reaches_its_worker() -> None:
    stack_use = [(16, b"abc"), (24, b"d")]
    c = with_children(
        Child(A, heap=[(X, 8), (X + 8, 8), (Z, 4), (Y, 0)], image=stack_use),
        Child(B, heap=[(Y, 1)], stack=(Z, 64)),
        Child(C, image=[(0, b"xyz")]),
    )
    a, b = c.one(A), c.one(B)
    assert a.grants == ((X, 16), (Z, 4))
    base = a.stack[0]
    assert a.image == {base + 16: 97, base + 17: 98, base + 18: 99, base + 24: 100}
    assert b.grants == ((Y, 1), (Z, 64))
    assert (b.stack, b.image) == ((Z, 64), {})
    base = c.one(C).stack[0]
    assert c.one(C).image == {base: 120, base + 1: 121, base + 2: 122}


def test_a_retry_is_given_the_same_again() -> None:
    c = with_children(Child(A), Child(B, heap=[(X, 8)], image=[(0, b"arg")]))
    first = c.one(B)
    c.ends(c.one(A), stores=[X])
    c.ends(first, stores=[X])
    c.apply()
    again = c.one(B)
    assert (again.id, again.grants, again.image) == (first.id, first.grants, first.image)
    assert again.number != first.number
    assert again.snapshot > first.snapshot


def test_runners_are_shared_out_fairly() -> None:
    c = with_children(*[Child(A)] * 12, workers=3)
    assert sorted(a.worker for a in c.runs(A)) == [0] * 4 + [1] * 4 + [2] * 4


# --- console ------------------------------------------------------------------------------------


def test_output_is_printed_once_in_commit_order_when_it_is_visible() -> None:
    c = with_children(Child(A), Child(B), Child(C))
    a, b, third = c.one(A), c.one(B), c.one(C)
    c.ends(third, stores=[X], console=b"third ")
    c.ends(a, stores=[X], console=b"lost ")
    c.ends(b, stores=[Y], console=b"second ")
    assert c.printed == []
    c.apply()
    assert b"".join(c.printed) == b"third second "
    c.ends(c.one(A), stores=[X], console=b"again")
    c.apply()
    assert b"".join(c.printed) == b"third second again"


def test_output_of_one_epoch_keeps_the_order_of_commits() -> None:
    c, (a, b, third) = busy()
    c.ends(b, console=b"b")
    c.finish(Ends(third, console=b"c"), Ends(a, console=b"a"))
    c.tick(EPOCH_US_MAX)
    assert b"".join(c.printed) == b"bca"


# --- epochs -------------------------------------------------------------------------------------


def busy(records: int = 3) -> tuple[Coordinator, list[Attempt]]:
    """Return one worker that is never idle, so that only age and size close epochs."""
    c = with_children(*[Child(A)] * records, Child(B), workers=1)
    return c, c.runs(A)


def test_an_epoch_stays_open_while_everybody_is_busy() -> None:
    c, (a, b, _) = busy()
    c.ends(a, stores=[X])
    c.ends(b, stores=[Y])
    assert not c.applying
    assert c.scheduler.state.log.open_records == 2


def test_an_epoch_closes_when_it_is_old_enough() -> None:
    c, (a, b, _) = busy()
    c.tick(500)
    c.ends(a, stores=[X])
    assert c.scheduler.due_at_us == 500 + EPOCH_US_MAX
    c.tick(400 + EPOCH_US_MAX)
    c.ends(b, stores=[Y])
    assert not c.applying
    c.tick(500 + EPOCH_US_MAX)
    assert sum(len(request.tokens) for _, request in c.applying) == 2
    assert c.scheduler.due_at_us is None


def test_an_epoch_closes_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_epoch, "EPOCH_RECORDS_MAX", 2)
    c, (a, b, _) = busy()
    c.ends(a, stores=[X])
    assert not c.applying
    c.ends(b, stores=[X + 8])
    assert len(c.applying) == 1


def test_an_epoch_closes_when_nobody_runs() -> None:
    c, runners = busy(2)
    c.finish(*(Ends(a, stores=[X + 8 * n]) for n, a in enumerate(runners)))
    assert not c.applying
    c.ends(c.one(B))
    assert len(c.applying) == 1


def test_an_idle_worker_closes_epochs_but_only_so_many_at_a_time() -> None:
    c = with_children(*[Child(A)] * (EPOCHS_IN_FLIGHT + 2), workers=2)
    runners = c.runs(A)
    c.finish(*(Ends(a) for a in runners if a.worker == 1))
    c = with_children(*[Child(A)] * 12, workers=12)
    for number, attempt in enumerate(c.runs(A)):
        c.ends(attempt, stores=[X + 8 * number])
        if number == 10:
            assert len(c.applying) == EPOCHS_IN_FLIGHT
            assert c.scheduler.state.log.open_records == 11 - EPOCHS_IN_FLIGHT
    assert len(c.applying) == EPOCHS_IN_FLIGHT + 1, "now nobody runs"


def test_a_worker_whose_runners_all_sleep_counts_as_idle() -> None:
    c, (a, _, _) = busy()
    c.ends(a, stores=[X])
    assert not c.applying
    c.handle(AsleepChanged(0, 3))
    assert len(c.applying) == 1


def test_time_never_falls() -> None:
    c = Coordinator()
    c.tick(5)
    with pytest.raises(AssertionError, match="time runs backwards"):
        c.handle(Ticked(4))


# --- end ----------------------------------------------------------------------------------------


def test_the_program_ends_when_its_last_epoch_is_visible() -> None:
    c = Coordinator()
    c.ends(c.one(FIRST), stores=[X], console=b"bye")
    assert not c.has_ended
    c.apply()
    assert c.complete is not None
    assert (c.complete.failure, c.complete.watchers) == (None, ())
    assert c.printed == [b"bye"]
    with pytest.raises(AssertionError, match="has ended"):
        c.handle(Ticked(1))


def test_watchers_that_are_left_are_told_in_the_order_of_their_ids() -> None:
    c = Coordinator()
    c.ends(
        c.one(FIRST),
        children=[Child(B, watched=[(Y, 8), (X, 4)]), Child(A, watched=[]), Child(C)],
    )
    c.ends(c.one(C))
    assert c.complete is not None
    assert [w.entry for w in c.complete.watchers] == [B, A]
    assert [w.watched.tolist() for w in c.complete.watchers] == [[(Y, 8), (X, 4)], []]
    assert c.complete.watchers[0].id < c.complete.watchers[1].id


# --- leases and limits --------------------------------------------------------------------------


def test_leases_are_granted_at_once() -> None:
    c = Coordinator()
    first = c.one(FIRST)
    actions = c.handle(LeaseRequested(3, LeaseKind.ID, 0))
    assert [a.worker for a in actions] == [3]  # type: ignore[union-attr]
    granted = actions[0].message  # type: ignore[union-attr]
    assert isinstance(granted, LeaseGranted)
    assert granted.start > first.id, "the first runner's id is its own"


def test_too_many_runners_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RUNNERS_MAX", 1024)
    c = Coordinator()
    with pytest.raises(LimitError, match=r"limit is 1,024 \(RUNNERS_MAX\)"):
        c.ends(c.one(FIRST), children=[Child(A)] * 1025)


def test_stacks_of_losers_and_of_the_fenced_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a program that loses often runs out of stacks that nobody has."""
    c = with_children(Child(A), Child(B))
    loser = c.one(B)
    ended: list[int] = []
    monkeypatch.setattr(LeaseBook, "end_stacks", lambda _, bases: ended.extend(bases.tolist()))
    c.ends(c.one(A), stores=[X])
    message = c.record(Ends(loser, stores=[X], children=[Child(C), Child(C, stack=(Z, 8))]))
    del c.running[loser.number]
    c.handle(message)
    assert message.children["stack_base"][0] in ended
    assert Z not in ended
    c.handle(message)
    assert ended.count(int(message.children["stack_base"][0])) == 2, "each message once"


def test_many_generations_leave_nothing_behind() -> None:
    """Rows, arenas and rings stay small while runners come and go with all they own.

    An instance that ran all the time, and loses then, still has what its template owns.
    """
    c = Coordinator(workers=1)
    watching = Child(D, watched=[(Z, 8)], heap=[(Y, 8)], image=[(0, b"watching")])
    c.ends(c.one(FIRST), children=[Child(A, heap=[(X, 8)]), Child(B), Child(C), watching])
    c.ends(c.one(B), stores=[Z])
    c.tick(EPOCH_US_MAX)
    c.apply()
    old = c.one(D)
    for generation in range(700):
        child = Child(A, heap=[(X, 8), (Y, generation + 1)], image=[(0, b"argument" * 4)])
        watcher = Child(B, watched=[(X, 8)], image=[(8, b"w" * 40)])
        c.ends(c.one(A), stores=[X], children=[child, watcher])
        for instance in c.runs(B):
            c.ends(instance, End.COMMIT_DELETE)
        c.tick((generation + 2) * EPOCH_US_MAX)
        c.apply()
    state = c.scheduler.state
    assert len(state.table.rows) == 1024
    c.ends(c.one(C), stores=[Y])
    c.ends(old, stores=[Y])
    c.tick(1000 * EPOCH_US_MAX)
    c.apply()
    again = c.one(D)
    assert (again.grants, again.image, again.stack) == (old.grants, old.image, old.stack)
    for arena in (state.grants, state.watched, state.image_runs, state.image_data):
        assert len(arena.rows) <= 16_384
    assert state.pending == {}


def test_a_worker_that_is_ready_before_the_program_is_loaded_ends_nothing() -> None:
    early = Scheduler(Geometry(2), 2, STACK_BYTES, LOADED, workers_ready=False)
    assert early.handle(WorkerReady(1)) == ()


def test_runners_wait_for_workers_that_are_not_ready() -> None:
    c = Coordinator(workers=3, workers_ready=False)
    assert not c.running
    assert c.complete is None
    c.handle(WorkerReady(2))
    first = c.one(FIRST)
    assert first.worker == 2
    c.ends(first, stores=[X], children=[Child(A), Child(B)])
    c.apply()
    assert {attempt.worker for attempt in c.running.values()} == {2}
    c.handle(WorkerReady(0))
    c.ends(c.one(A), stores=[X], children=[Child(C), Child(D)])
    c.apply()
    assert {c.one(C).worker, c.one(D).worker} == {0, 2}


def test_several_are_ready_at_once_but_for_those_that_are_lost() -> None:
    c = Coordinator(workers=3, workers_ready=False)
    c.handle(WorkerLost(1))
    c.handle(WorkersReady(np.array([2, 1])))
    assert c.scheduler.state.ready.tolist() == [False, False, True]
    assert c.one(FIRST).worker == 2


def test_a_worker_that_is_withheld_ends_what_it_has_and_gets_nothing_more() -> None:
    c = with_children(*(Child(A) for _ in range(12)), workers=2, batch=1)
    before = [a for a in c.runs(A) if a.worker == 0]
    assert before
    c.handle(WorkerWithheld(0, True))
    c.finish(*(Ends(a) for a in before))
    assert {a.worker for a in c.runs(A)} == {1}
    c.handle(WorkerWithheld(0, False))
    assert {a.worker for a in c.runs(A)} == {0, 1}


def test_answers_of_several_homes_in_one_message_count_one_by_one() -> None:
    c = Coordinator(homes=3)
    c.ends(c.one(FIRST), stores=[X, Y, Z], children=[Child(A)])
    homes = [home for home, _ in c.applying]
    assert len(homes) == 3
    epochs = np.array([c.applying[0][1].epoch] * 2)
    c.handle(FramesLacking(homes[1], int(epochs[0]), 1))
    c.handle(EpochsApplied(np.array(homes[:2]), epochs))
    assert c.runs(A) == []
    assert c.scheduler.state.lacking == {}
    c.handle(EpochApplied(homes[2], int(epochs[0]), 0))
    assert len(c.runs(A)) == 1
