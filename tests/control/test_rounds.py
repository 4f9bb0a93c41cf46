"""Rounds: records come in any order, and are taken in that of the queue."""

from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest

from dvm_mpi.config import STACK_BYTES_MAX
from dvm_mpi.control import rounds
from dvm_mpi.control.coordinator_state import ToWorker
from dvm_mpi.control.leases import LeaseBook, stack_slots
from dvm_mpi.control.messages import AsleepChanged, LeaseGranted, LeaseRequested
from dvm_mpi.control.rounds import apart, place_blocks, round_runners
from dvm_mpi.engine.interface import End, LeaseKind, TrapKind
from dvm_mpi.layout import RANGE, STATUS_AREAS
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
    with_children,
)


def racing(*entries: int, workers: int = 4) -> Coordinator:
    """Return a deterministic machine whose first runner has created runners and ended."""
    return with_children(*map(Child, entries), workers=workers, deterministic=True)


@pytest.mark.parametrize("arrival", list(permutations((A, B, C))))
def test_records_are_ordered_as_the_queue_was(arrival: tuple[int, ...]) -> None:
    c = racing(A, B, C)
    numbers = [c.one(entry).number for entry in (A, B, C)]
    for entry in arrival[:2]:
        c.ends(c.one(entry), stores=[X], console=str(entry).encode())
    c.tick(1_000_000)
    assert c.order[1:] == [], "nothing is ordered before all are there"
    c.ends(c.one(arrival[2]), stores=[X], console=str(arrival[2]).encode())
    assert c.order[1:] == numbers[:1]
    c.apply()
    assert c.printed == [str(A).encode()]


def test_the_next_round_begins_when_all_is_visible_and_losers_come_first() -> None:
    c = racing(A, B, C)
    a, b, other = c.one(A), c.one(B), c.one(C)
    c.ends(a, stores=[X], children=[Child(D)])
    c.ends(b, stores=[X])
    c.ends(other, stores=[Y])
    assert not c.running, "epoch in flight"
    c.apply()
    assert [attempt.entry for attempt in c.running.values()] == [B, D]
    assert {attempt.snapshot for attempt in c.running.values()} == {c.visible}


def test_of_losers_that_meet_one_goes_at_a_time() -> None:
    c = racing(A, B, C, D)
    stores = {A: [X], B: [X], C: [X], D: [Y]}
    for entry in (D, C, B, A):
        c.ends(c.one(entry), stores=stores[entry])
    c.apply()
    assert [attempt.entry for attempt in c.running.values()] == [B]
    c.ends(c.one(B), stores=[X])
    c.apply()
    assert [attempt.entry for attempt in c.running.values()] == [C]
    c.ends(c.one(C), stores=[X])
    c.apply()
    assert c.has_ended
    assert c.scheduler.counters.attempts == 1 + 4 + 2


def test_the_first_trap_in_order_ends_the_program() -> None:
    c = racing(A, B, C)
    runner = c.one(B).id
    c.ends(c.one(C), End.TRAP, trap=TrapKind.UNMAPPED, console=b"c")
    c.ends(c.one(B), End.TRAP, trap=TrapKind.BAD_JUMP, console=b"b")
    assert not c.has_ended
    c.ends(c.one(A), stores=[X], console=b"a")
    c.apply()
    assert c.complete is not None
    assert c.complete.failure is not None
    assert c.complete.failure.runner_id == runner
    assert c.printed == [b"a"]


def test_a_trap_that_conflicts_is_a_loss() -> None:
    c = racing(A, B)
    c.ends(c.one(B), End.TRAP, trap=TrapKind.UNMAPPED, stores=[X])
    c.ends(c.one(A), stores=[X])
    c.apply()
    assert c.complete is None
    assert c.one(B).snapshot == c.visible


def granted(c: Coordinator, event: LeaseRequested) -> list[tuple[int, LeaseGranted]]:
    actions = [action for action in c.handle(event) if isinstance(action, ToWorker)]
    return [(a.worker, a.message) for a in actions if isinstance(a.message, LeaseGranted)]


def test_addresses_are_granted_in_order_when_nobody_runs() -> None:
    """Whoever asks first; an attempt that sleeps is waited for."""
    c = racing(A, B, C)
    a, b, other = c.one(A), c.one(B), c.one(C)
    c.handle(AsleepChanged(a.worker, 1))
    assert granted(c, LeaseRequested(b.worker, LeaseKind.ID, 0, b.number)) == []
    assert granted(c, LeaseRequested(a.worker, LeaseKind.ID, 0, a.number)) == []
    del c.running[other.number]
    told = []
    for action in c.handle(c.record(Ends(other))):
        assert isinstance(action, ToWorker)
        assert isinstance(action.message, LeaseGranted)
        told.append((action.worker, action.message))
    assert [(worker, message.attempt) for worker, message in told] == [
        (a.worker, a.number),
        (b.worker, b.number),
    ]
    assert told[0][1].end == told[1][1].start
    # Alone now, and again: it gets more.
    c.ends(a)
    ((_, more),) = granted(c, LeaseRequested(b.worker, LeaseKind.ID, 0, b.number))
    assert more.end - more.start == 16 * (told[0][1].end - told[0][1].start)


def test_a_round_has_so_many_runners_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_RUNNERS", 3)
    c = racing(*[A] * 7)
    sizes = []
    while not c.has_ended:
        sizes.append(len(c.running))
        for attempt in list(c.running.values()):
            c.ends(attempt)
        c.apply()
    assert sizes == [3, 3, 1]


def test_workers_get_the_rest_of_a_round_as_they_have_room() -> None:
    c = Coordinator(workers=1, deterministic=True, batch=2)
    c.ends(c.one(FIRST), children=[Child(A)] * 9)
    c.apply()
    assert len(c.running) == 4, "two batches"
    snapshot = c.visible
    for _ in range(9):
        c.ends(next(iter(c.running.values())), stores=[X])
        assert all(attempt.snapshot == snapshot for attempt in c.running.values())
    c.apply()
    assert len(c.running) == 1, "losers that meet go one by one"


@pytest.mark.parametrize("seed", range(20))
def test_write_sets_that_go_together_are_apart(seed: int) -> None:
    """Beside a set of bytes: each that meets nobody chosen before is chosen."""
    draw = random.Random(seed)
    sets, expected, taken = [], [], set[int]()
    for _ in range(30):
        spans = [(draw.randrange(200), draw.randrange(1, 4)) for _ in range(draw.randrange(4))]
        own = {start + i for start, length in spans for i in range(length)}
        sets.append(np.array(spans, dtype=RANGE))
        expected.append(not own & taken)
        taken |= own if expected[-1] else set()
    assert apart(sets).tolist() == expected


@pytest.mark.parametrize("stack_bytes", [8 << 10, 1 << 20, STACK_BYTES_MAX])
def test_the_stacks_of_idle_places_leave_most_for_others(stack_bytes: int) -> None:
    held = round_runners(stack_bytes) * place_blocks(stack_bytes).stacks
    assert 0 < held <= stack_slots(stack_bytes) // 4


def test_a_lease_of_many_blocks_is_one_piece_while_there_is_room() -> None:
    book = LeaseBook(8192, place_blocks(8192))
    one, many = book.lease(LeaseKind.ID), book.lease(LeaseKind.ID, blocks=16)
    assert one.start == STATUS_AREAS[0][0]
    assert many.start == one.end
    assert many.end - many.start == 16 * (one.end - one.start)
