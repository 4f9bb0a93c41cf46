"""Where runners are sent, by the memory that they declare; X and Z are at home 0, Y at home 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import (
    EPOCH_US_MAX,
    GATHER_US,
    MOVED_BYTES_PER_US,
    MOVED_BYTES_PER_US_ON_HOST,
    NEAR_WAIT_US,
    RUNNER_FUEL,
    SHARE_FUEL_MIN,
)
from dvm_mpi.control import dealing
from dvm_mpi.control.prediction import LengthEstimate
from dvm_mpi.control.short_waits import SHARES_AWAITED_MAX
from dvm_mpi.engine.interface import End
from dvm_mpi.layout import PAGE_BYTES
from tests.control.coordinator import FIRST, A, B, C, Child, Coordinator, X, Y
from tests.control.coordinator import D as W
from tests.properties import tried

#: Of eight pages each, all at home 0: one after the other in the blocks of 16 pages.
PARTS = tuple(X + 32 * PAGE_BYTES * number for number in range(8))

#: How long a runner waits for the worker that has its one page.
WAIT_US = NEAR_WAIT_US + PAGE_BYTES // MOVED_BYTES_PER_US


def wave(c: Coordinator, entry: int, creator: int, order: int = 1) -> dict[int, int]:
    """Let `creator`'s runner start one runner for each part; return who got which part."""
    parts = [Child(entry, heap=[(part, 8 * PAGE_BYTES)]) for part in PARTS[::order]]
    c.ends(c.runs(creator)[0], children=[*parts, Child(C)])
    c.apply()
    return {attempt.grants[0][0]: attempt.worker for attempt in c.runs(entry)}


def test_at_first_runners_go_where_their_memory_is_at_home() -> None:
    c = Coordinator(workers=2, placement="data", near_wait_us=0)
    children = [Child(A, heap=[(Y, PAGE_BYTES)]), Child(B, heap=[(X, PAGE_BYTES)])]
    c.ends(c.one(FIRST), children=children)
    c.apply()
    assert (c.one(A).worker, c.one(B).worker) == (1, 0)


def test_runners_go_to_the_worker_that_had_their_memory_last() -> None:
    """All parts are at one home: others take their shares, and keep them in the next waves."""
    c = Coordinator(workers=4, placement="data", batch=8)
    first = wave(c, A, FIRST)
    assert len(set(first.values())) == 3, "a fair share is three of nine"
    for attempt in c.runs(A)[::-1]:
        c.ends(attempt)
    second = wave(c, B, C, order=-1)
    assert second == first


def woken_while_its_worker_is_busy() -> Coordinator:
    """Return a machine with an instance of W, near to worker 0, which runs A; the others idle."""
    c = Coordinator(workers=4, placement="data")
    watcher = Child(W, watched=[(X, PAGE_BYTES)])
    c.ends(c.one(FIRST), children=[watcher, Child(A, heap=[(X, PAGE_BYTES)]), Child(B), Child(B)])
    c.apply()
    c.ends(c.runs(B)[0], stores=[X])
    c.apply()
    assert c.one(A).worker == 0
    return c


def test_a_watcher_waits_a_little_for_its_worker_and_sees_what_comes_meanwhile() -> None:
    c = woken_while_its_worker_is_busy()
    assert c.runs(W) == []
    c.ends(c.one(B), stores=[X + 8])
    c.apply()
    c.ends(c.one(A))
    instance = c.one(W)
    assert (instance.worker, instance.snapshot) == (0, c.visible)
    assert c.scheduler.counters.watcher_firings == 1


def test_it_does_not_wait_longer() -> None:
    c = woken_while_its_worker_is_busy()
    due = [c.scheduler.due_at_us]
    c.tick(WAIT_US - 1)
    assert c.runs(W) == []
    c.tick(WAIT_US)
    assert c.one(W).worker != 0
    assert [*due, c.scheduler.due_at_us] == [WAIT_US, None]
    c.ends(c.one(W), End.COMMIT_DELETE)
    c.ends(c.one(A))
    c.ends(c.one(B))
    assert c.has_ended


def test_who_runs_alone_goes_before_those_that_wait() -> None:
    """Time must not be due for what cannot be: a simulated clock would stand still."""
    c = woken_while_its_worker_is_busy()
    c.scheduler.state.alone = 0
    assert c.scheduler.due_at_us is None


def test_nobody_waits_for_a_worker_while_all_are_suspected() -> None:
    c = woken_while_its_worker_is_busy()
    c.scheduler.state.ready[:] = False
    assert c.scheduler.due_at_us is None


def test_who_comes_later_is_looked_at_while_others_wait_that_are_near_to_somebody_else() -> None:
    """What others wait for is no reason to leave what is one's own."""
    c = Coordinator(workers=2, placement="data", batch=1)
    at_x, at_y = (Child(A, heap=[(where, PAGE_BYTES)]) for where in (X, Y))
    c.ends(c.one(FIRST), children=[Child(B), *[at_x] * 6])
    c.apply()
    assert c.one(B).worker == 1, "it is near to nobody"
    c.ends(c.one(B), children=[at_y] * 3)
    moved = [attempt for attempt in c.runs(A) if attempt.worker == 1]
    assert {attempt.grants[0][0] for attempt in moved} == {X}, "nobody is idle for nearness"
    c.tick(EPOCH_US_MAX)
    c.apply()
    c.ends(moved[0])
    assert c.runs(A)[-1].worker == 1
    assert c.runs(A)[-1].grants[0][0] == Y


def many_near_to_a_busy_worker(
    batch: int, pages: int, moved_bytes_per_us: int = MOVED_BYTES_PER_US
) -> Coordinator:
    """Return a machine with six runners near to worker 0, which runs A; worker 1 has just ended."""
    c = Coordinator(workers=2, placement="data", batch=batch, moved_bytes_per_us=moved_bytes_per_us)
    parts = [Child(W, heap=[(X, pages * PAGE_BYTES)])] * 6
    # Of many pages half are at home at worker 1, but worker 0 has all that A reads.
    first = Child(A, heap=[(X, pages * PAGE_BYTES)])
    c.ends(c.one(FIRST), children=[first, Child(B), Child(C)])
    c.apply()
    assert c.one(A).worker == 0
    (other,) = c.runs(C)
    c.ends(c.one(B), children=parts)
    c.apply()
    c.ends(other)
    return c


def moved(c: Coordinator) -> int:
    return sum(attempt.worker == 1 for attempt in c.runs(W))


def test_what_costs_more_to_move_than_to_wait_stays() -> None:
    """Of runners of 0.1 ms all are done before the memory of one has moved."""
    assert moved(many_near_to_a_busy_worker(batch=40, pages=4)) == 0
    long = many_near_to_a_busy_worker(batch=1, pages=4)
    assert moved(long) > 0, "who waits for milliseconds moves"
    large = many_near_to_a_busy_worker(batch=1, pages=1 << 12)
    assert moved(large) == 0, "not where much has to move"
    on_host = many_near_to_a_busy_worker(
        batch=1, pages=1 << 12, moved_bytes_per_us=MOVED_BYTES_PER_US_ON_HOST
    )
    assert moved(on_host) > 0, "but where that is fast"


def test_and_nobody_stays_longer_than_a_move_takes() -> None:
    c = many_near_to_a_busy_worker(batch=40, pages=4)
    due_at_us = NEAR_WAIT_US + 4 * PAGE_BYTES // MOVED_BYTES_PER_US
    assert c.scheduler.due_at_us == due_at_us
    c.tick(due_at_us - 1)
    assert moved(c) == 0
    c.tick(due_at_us)
    assert moved(c) > 0
    while c.runs(A) or c.runs(W):
        c.ends((c.runs(W) or c.runs(A))[0])
    assert c.has_ended


# --- a few among many -----------------------------------------------------------------------------


def with_short_ends(workers: int) -> Coordinator:
    """Return a machine that knows A and B to be short, and runs C."""
    c = Coordinator(workers=workers, share_fuel_min=SHARE_FUEL_MIN)
    c.scheduler.state.lengths = LengthEstimate()
    c.ends(c.one(FIRST), children=[Child(A), Child(B), Child(C)])
    c.apply()
    for _ in range(20):
        c.scheduler.state.lengths.observe(np.array([A, B]), np.array([1, 1]))
    return c


def test_a_few_short_runners_go_to_one_worker() -> None:
    c = with_short_ends(workers=4)
    c.ends(c.one(A), children=[Child(A)] * 9)
    c.ends(c.one(B))
    c.ends(c.one(C))
    c.apply()
    assert {attempt.worker for attempt in c.runs(A)} == {0}


def test_many_short_runners_are_divided() -> None:
    c = with_short_ends(workers=4)
    c.ends(c.one(A), children=[Child(A)] * (3 * SHARE_FUEL_MIN // RUNNER_FUEL))
    c.ends(c.one(B))
    c.ends(c.one(C))
    c.apply()
    assert len({attempt.worker for attempt in c.runs(A)}) == 3, "not less than a share is worth"


def test_a_few_of_unknown_length_are_divided() -> None:
    c = with_short_ends(workers=4)
    c.ends(c.one(A), children=[Child(W)] * 4)
    c.ends(c.one(B))
    c.ends(c.one(C))
    c.apply()
    assert {attempt.worker for attempt in c.runs(W)} == {0, 1, 2, 3}


def test_a_few_wait_for_the_few_that_run_and_go_with_what_follows_from_them() -> None:
    c = with_short_ends(workers=4)
    c.ends(c.one(C))
    c.ends(c.one(A), children=[Child(A)] * 2)
    c.apply()
    assert c.runs(A) == []
    c.ends(c.one(B), stores=[X], children=[Child(B)] * 2)
    assert c.runs(A) == [], "what B has created comes in a moment"
    c.apply()
    assert c.batches[-1] == (0, 4)


def test_they_wait_for_a_moment_only_and_for_nobody_twice() -> None:
    c = with_short_ends(workers=4)
    c.ends(c.one(A), children=[Child(A)] * 2)
    c.apply()
    c.tick(0)
    due = [c.scheduler.due_at_us]
    c.tick(GATHER_US - 1)
    assert c.runs(A) == []
    c.tick(GATHER_US)
    assert len(c.runs(A)) == 2
    assert [*due, c.scheduler.due_at_us] == [GATHER_US, None]
    for attempt in c.runs(A):
        c.ends(attempt, children=[Child(A)])
    c.apply()
    assert len(c.runs(A)) == 2, "B and C run long, and it is known"
    c.ends(c.one(B))
    c.ends(c.one(C))
    for attempt in c.runs(A):
        c.ends(attempt)
    c.apply()
    assert c.has_ended


def test_nobody_waits_for_runners_that_are_long() -> None:
    c = with_short_ends(workers=4)
    c.scheduler.state.lengths.observe(
        np.array([C] * 20), np.array([SHARES_AWAITED_MAX * SHARE_FUEL_MIN] * 20)
    )
    c.ends(c.one(A), children=[Child(A)] * 2)
    c.apply()
    assert len(c.runs(A)) == 2


@given(
    workers=st.integers(2, 5),
    homes=st.integers(1, 5),
    waves=st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=6),
        min_size=1,
        max_size=5,
    ),
    ended=st.lists(st.integers(0, 30), max_size=5),
)
@tried(150)
def test_a_few_are_dealt_as_all_others_are(
    workers: int, homes: int, waves: list[list[tuple[int, int]]], ended: list[int]
) -> None:
    """Whether they have idle workers of their own is looked at first, to save time only."""
    dealt = []
    for few in (dealing.FEW, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dealing, "FEW", few)
            c = Coordinator(workers=workers, homes=homes, placement="data", batch=1)
            for number, wave in enumerate(waves):
                children = [
                    Child(A, heap=[(X + place * PAGE_BYTES, pages * PAGE_BYTES)] if pages else [])
                    for place, pages in wave
                ]
                attempts = list(c.running.values())
                c.tick(number * NEAR_WAIT_US)
                c.ends(attempts[ended[number] % len(attempts) if number < len(ended) else 0],
                       children=children)  # fmt: skip
                c.apply()
                dealt.append((few, number, [(a.number, a.worker) for a in c.running.values()],
                              c.scheduler.due_at_us))  # fmt: skip
    middle = len(dealt) // 2
    assert [each[1:] for each in dealt[:middle]] == [each[1:] for each in dealt[middle:]]
