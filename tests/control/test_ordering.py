"""Records come in: who wins, who loses, who waits for whom, and what ends the program."""

from __future__ import annotations

from dataclasses import replace

from dvm_mpi.config import EPOCH_US_MAX
from dvm_mpi.control.coordinator_state import RecordLoss
from dvm_mpi.control.messages import LeaseRequested
from dvm_mpi.engine.interface import End, LeaseKind, TrapKind
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from tests.control.coordinator import (
    FIRST,
    A,
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

# --- conflicts ----------------------------------------------------------------------------------


def test_a_loser_waits_for_what_it_lost_to() -> None:
    c = with_children(Child(A), Child(B))
    loser = c.one(B)
    c.ends(c.one(A), stores=[X])
    lost_to = c.orders[-1].epoch
    c.ends(loser, stores=[X])
    c.tick(10 * EPOCH_US_MAX)
    assert c.runs(B) == []
    assert c.scheduler.counters.retries == 1
    c.apply()
    assert c.one(B).snapshot >= lost_to


def test_it_is_told_which_epoch_a_loser_lost_to() -> None:
    c = with_children(Child(A), Child(B))
    loser = c.one(B)
    c.ends(c.one(A), stores=[X])
    c.ends(loser, stores=[X])
    (claim,) = c.claims
    assert isinstance(claim, RecordLoss)
    assert claim.numbers.tolist() == [loser.number]
    assert claim.epochs.tolist() == [c.orders[-1].epoch]


def test_neighbouring_bytes_and_the_same_snapshot_do_not_conflict() -> None:
    c = with_children(Child(A), Child(B), Child(C))
    c.ends(c.one(A), stores=[(X, b"a")])
    c.ends(c.one(B), stores=[(X + 1, b"b")])
    c.apply()
    assert c.scheduler.counters.retries == 0
    c.ends(c.one(C), stores=[(X + 1, b"c")])
    assert c.scheduler.counters.retries == 1


def test_the_first_of_one_message_wins() -> None:
    c = with_children(Child(A), Child(B), workers=1)
    a, b = c.one(A), c.one(B)
    c.finish(Ends(b, stores=[X]), Ends(a, stores=[X]))
    assert c.order[-1] == b.number
    c.apply()
    assert c.one(A).number > a.number


def test_a_fenced_record_leaves_no_trace() -> None:
    """A worker that was given up on reports late; its runner's row has long been another's."""
    c = with_children(Child(A), Child(B))
    late = c.record(Ends(c.one(A), stores=[X, Y], children=[Child(C)], console=b"late", serial=7))
    c.ends(c.one(A))
    c.ends(c.one(B), children=[Child(B)])
    commits, epoch = c.scheduler.counters.commits, c.scheduler.state.log.open_epoch
    c.handle(late)
    assert c.scheduler.counters.commits == commits
    assert c.scheduler.state.log.open_epoch == epoch
    assert c.scheduler.state.log.open_records == 0
    assert sorted(c.discarded) == [(0, (late.worker, 7)), (1, (late.worker, 7))]
    c.apply()
    assert (c.runs(C), c.printed) == ([], [])


def test_a_fenced_record_does_not_take_the_others_of_its_message_along() -> None:
    c = with_children(Child(A), Child(B), Child(C), workers=1)
    a, b, third = c.one(A), c.one(B), c.one(C)
    stale = replace(a, number=a.number + 1000)
    ends = [
        Ends(b, stores=[X], children=[Child(B, image=[(0, b"B")])], console=b"b"),
        Ends(stale, stores=[X, Y], children=[Child(A, image=[(0, b"A")])] * 2, console=b"a"),
        Ends(
            third, stores=[Y], children=[Child(C, heap=[(Z, 8)], image=[(0, b"C")])], console=b"c"
        ),
    ]
    message = c.record(*ends)
    del c.running[b.number], c.running[third.number]
    c.handle(message)
    assert c.order[-2:] == [b.number, third.number]
    c.ends(a)
    c.apply()
    assert b"".join(c.printed) == b"bc"
    assert c.one(B).image == {c.one(B).stack[0]: ord("B")}
    assert c.one(C).image == {c.one(C).stack[0]: ord("C")}
    assert c.one(C).grants == ((Z, 8),)
    assert c.runs(A) == []


def test_staged_bytes_of_a_loser_are_dropped_and_of_a_winner_applied() -> None:
    c = with_children(Child(A), Child(B))
    winner, loser = c.one(A), c.one(B)
    c.ends(winner, stores=[(X, b"1" * PAGE_BYTES), (Y, b"2")], serial=3)
    c.ends(loser, stores=[X], serial=9)
    assert c.discarded == [(0, (loser.worker, 9))]
    tokens = [(home, *r.tokens[["worker", "serial", "staged"]].tolist()) for home, r in c.applying]
    # They are where their pages were as of the attempt's snapshot.
    key = (winner.worker, 3, winner.snapshot)
    assert tokens == [(0, key), (1, key)]
    assert all(len(request.data) == 0 for _, request in c.applying)


def test_a_snapshot_is_pinned_until_its_record_is_ordered() -> None:
    c = with_children(Child(A), Child(B))
    held = c.one(A).snapshot
    c.ends(c.one(B), stores=[X], children=[Child(B)])
    assert c.applying[-1][1].pins.tolist() == [held]
    c.apply()
    c.ends(c.one(A))
    c.ends(c.one(B), stores=[X])
    assert held not in c.applying[-1][1].pins.tolist()


# --- aborts -------------------------------------------------------------------------------------


def test_an_abort_publishes_nothing() -> None:
    c = Coordinator()
    c.ends(c.one(FIRST), End.ABORT)
    assert c.complete is not None
    assert (c.applying, c.printed) == (type(c.applying)(), [])
    assert c.scheduler.counters.aborts == 1
    assert c.scheduler.counters.commits == 0


def test_an_aborts_status_page_is_ordered_and_validated() -> None:
    c = with_children(Child(A), Child(B))
    status = c.one(B).id
    b = c.one(B)
    c.ends(c.one(A), stores=[status])
    c.ends(b, End.ABORT, stores=[status])
    assert c.scheduler.counters.retries == 1
    c.apply()
    c.ends(c.one(B), End.ABORT, stores=[status])
    assert c.scheduler.counters.aborts == 1
    assert len(c.applying) == 1


# --- traps --------------------------------------------------------------------------------------


def test_a_trap_without_a_conflict_ends_the_program() -> None:
    """What was ordered before it is still published and printed; nobody starts any more."""
    c = with_children(Child(A), Child(B), Child(C), workers=1)
    a, b, third = c.one(A), c.one(B), c.one(C)
    trap = TrapKind.DIVISION_BY_ZERO
    c.finish(
        Ends(a, stores=[X], children=[Child(A)], console=b"before"),
        Ends(b, End.TRAP, stores=[Y], trap=trap, console=b"trapped"),
        Ends(third, stores=[Z], console=b"behind"),
    )
    assert not c.has_ended
    c.apply()
    assert c.complete is not None
    assert c.complete.failure is not None
    assert c.complete.failure.runner_id == b.id
    assert c.complete.failure.trap == trap
    assert c.order[-1] == a.number
    assert (c.printed, c.runs(A)) == ([b"before"], [])


def test_a_trap_with_a_conflict_is_a_loss() -> None:
    """It saw what it would not have seen behind the winner."""
    c = with_children(Child(A), Child(B))
    b = c.one(B)
    c.ends(c.one(A), stores=[X])
    c.ends(b, End.TRAP, stores=[X], trap=TrapKind.UNDECLARED)
    assert c.scheduler.counters.retries == 1
    c.apply()
    assert not c.has_ended
    c.ends(c.one(B), stores=[X])
    c.apply()
    assert c.complete is not None
    assert c.complete.failure is None


def test_a_traps_stores_are_only_checked() -> None:
    c = with_children(Child(A), Child(B))
    b = c.one(B)
    c.ends(c.one(A), End.TRAP, stores=[X], trap=TrapKind.UNDECLARED)
    assert c.complete is not None
    assert c.complete.failure is not None
    assert not c.applying
    assert b.number not in c.order


# --- losing often -------------------------------------------------------------------------------


def test_after_three_losses_others_wait_for_the_loser() -> None:
    c = with_children(Child(A), Child(B), Child(C), workers=8)
    loser = lose(c, A, B, times=3)
    rival, neighbour = c.one(B), c.one(C)
    c.ends(rival, stores=[X + 4], console=b"rival", children=[Child(B)])
    assert rival.number not in c.order, "held back"
    c.ends(neighbour, stores=[X + 8])
    assert c.order[-1] == neighbour.number, "others go on"
    c.ends(loser, stores=[X])
    assert c.order[-1] == loser.number
    c.apply()
    assert c.scheduler.counters.retries == 4, "the rival has lost to the loser"
    c.ends(c.one(B), stores=[X + 4], console=b"rival")
    c.apply()
    assert c.printed == [b"rival"]


def test_a_held_record_wins_if_the_holder_stored_elsewhere() -> None:
    c = with_children(Child(A), Child(B), workers=8)
    loser = lose(c, A, B, times=3)
    rival = c.one(B)
    c.ends(rival, stores=[X])
    c.ends(loser, stores=[Y])
    assert c.order[-2:] == [loser.number, rival.number]


def test_the_end_of_one_reservation_frees_its_own_rivals() -> None:
    """Another reservation, of other bytes, goes on; it must not hold what it does not own."""
    c = with_children(Child(A), Child(B), Child(C), Child(D), workers=8)
    first = lose(c, A, B, times=3, place=X)
    second = lose(c, C, D, times=3, place=Y)
    rival, other = c.one(B), c.one(D)
    c.ends(rival, stores=[X])
    c.ends(other, stores=[Y])
    c.ends(first, stores=[Z])
    assert c.order[-2:] == [first.number, rival.number]
    c.ends(second, stores=[Z + 8])
    assert c.order[-2:] == [second.number, other.number]


def test_two_losses_reserve_nothing() -> None:
    c = with_children(Child(A), Child(B), workers=8)
    lose(c, A, B, times=2)
    rival = c.one(B)
    c.ends(rival, stores=[X])
    assert c.order[-1] == rival.number


def test_a_held_snapshot_stays_pinned() -> None:
    c = with_children(Child(A), Child(B), Child(C), workers=8)
    lose(c, A, B, times=3)
    rival = c.one(B)
    c.ends(rival, stores=[X])
    c.ends(c.one(C), stores=[Y])
    assert rival.snapshot in c.applying[-1][1].pins.tolist()


def lose_against_reservations(c: Coordinator, times: int) -> None:
    """Let A lose although it has reserved what it stored: it stores elsewhere each time."""
    for place in range(times):
        attempt = c.one(A)
        c.ends(c.one(B), stores=[Z + 8 * place], children=[Child(B)])
        c.ends(attempt, stores=[Z + 8 * place])
        c.apply()


def test_after_six_losses_a_runner_runs_alone() -> None:
    c = with_children(Child(A), Child(B), Child(C), workers=8)
    lose_against_reservations(c, times=6)
    assert c.scheduler.counters.retries == 6
    assert [r.entry for r in c.running.values()] == [C], "others run, but nobody starts any more"
    c.ends(c.one(C), children=[Child(C)])
    alone = c.one(A)
    assert list(c.running.values()) == [alone]
    c.handle(LeaseRequested(alone.worker, LeaseKind.ID, 0))
    assert list(c.running.values()) == [alone]
    c.ends(alone, stores=[Z])
    c.apply()
    assert sorted(r.entry for r in c.running.values()) == [B, C]


def test_those_that_run_alone_take_turns() -> None:
    c = with_children(Child(A), Child(B), Child(C), workers=8)
    a, b = c.one(A), c.one(B)
    c.scheduler.state.table.rows["losses"][[a.row, b.row]] = 5
    c.ends(c.one(C), stores=[X], children=[Child(C)])
    c.ends(a, stores=[X])
    c.ends(b, stores=[X])
    c.apply()
    turns = []
    while c.running:
        (runner,) = c.running.values()
        turns.append(runner.entry)
        c.ends(runner, stores=[X] if runner.entry != C else [])
        assert not c.running or c.one(C), "B would lose to what A has just committed"
        c.apply()
    assert turns == [A, B, C]
    assert c.scheduler.counters.retries == 2


def test_losses_are_forgotten_with_the_runner() -> None:
    """Its row will be another's, which has not lost."""
    c = with_children(Child(A), Child(B), workers=8)
    loser = lose(c, A, B, times=3)
    assert c.scheduler.state.reservations.active
    c.ends(loser, stores=[X])
    c.apply()
    assert not c.scheduler.state.reservations.activate(loser.row)


# --- pages that runners share -------------------------------------------------------------------


def shared_pages(c: Coordinator) -> dict[int, int]:
    rows = c.scheduler.state.hot_pages.busiest(100)
    return {int(row["page"]): int(row["shared"]) for row in rows}


def test_other_bytes_of_a_page_that_was_stored_meanwhile_are_counted_as_shared() -> None:
    c = with_children(Child(A), Child(B), Child(C))
    a, b, third = c.one(A), c.one(B), c.one(C)
    c.ends(a, stores=[X])
    c.apply()
    assert shared_pages(c) == {}
    c.ends(b, stores=[X + 8, X + 16])
    c.ends(third, stores=[Y])
    assert c.scheduler.counters.retries == 0
    assert shared_pages(c) == {X >> PAGE_SHIFT: 1}


def test_who_loses_or_comes_later_shares_nothing() -> None:
    c = with_children(Child(A), Child(B))
    a, b = c.one(A), c.one(B)
    c.ends(a, stores=[X], children=[Child(C)])
    c.ends(b, stores=[X, X + 8])
    assert c.scheduler.counters.retries == 1
    c.apply()
    c.ends(c.one(C), stores=[X + 8])
    assert shared_pages(c) == {}
