"""Rows that are noted for a trace, attempts that are chosen, and clocks that differ."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.journal import (
    ROW,
    ClockOffset,
    Journal,
    RowKind,
    Sampler,
    Work,
    traced,
)
from tests.properties import tried

SECOND = 1_000_000_000


def test_rows_are_taken_in_order_and_once() -> None:
    journal = Journal(lambda: 7, 8)
    journal.add(RowKind.WORKED, 1, 2, 3)
    journal.add(RowKind.FETCHED, 4, 5, 1, 2, 3, 4, 5)
    rows = journal.take()
    assert rows.dtype == ROW
    assert rows.tolist() == [
        (RowKind.WORKED, 1, 2, 3, 0, 0, 0, 0, 0, 0),
        (RowKind.FETCHED, 4, 5, 1, 2, 3, 4, 5, 0, 0),
    ]
    assert len(journal.take()) == 0
    journal.add(RowKind.CLOCK, 9, 9, 1)
    assert rows["begin"].tolist() == [1, 4], "what was taken does not change"


def test_what_finds_no_room_is_counted() -> None:
    journal = Journal(lambda: 0, 4)
    for number in range(7):
        journal.add(RowKind.WORKED, number, number)
    assert journal.dropped == 3
    assert journal.take()["begin"].tolist() == [0, 1, 2, 3]
    journal.add(RowKind.WORKED, 9, 9)
    assert (len(journal.take()), journal.dropped) == (1, 3), "there is room again"


def test_details_leave_room_for_what_matters() -> None:
    journal = Journal(lambda: 0, 8)
    for number in range(8):
        journal.add(RowKind.ARRIVED, number, number)
    journal.add(RowKind.RAN, 8, 8)
    columns = {"a": np.arange(5), "b": 2}
    journal.add_many(RowKind.RUNNER, np.arange(5), np.arange(5), **columns)
    rows = journal.take()
    assert rows["kind"].tolist() == [RowKind.ARRIVED] * 6 + [RowKind.RAN]
    assert journal.dropped == 2 + 5
    journal.add_many(RowKind.RUNNER, np.arange(9), np.arange(9) + 1, a=np.arange(9), c=3)
    rows = journal.take()
    assert rows["a"].tolist() == list(range(6))
    assert set(rows["c"].tolist()) == {3}
    assert set(rows["b"].tolist()) == {0}, "nothing is left of earlier rows"


def test_every_n_th_attempt_is_chosen() -> None:
    sampler = Sampler(per_s=1, stride=3)
    numbers = np.arange(1, 20)
    assert numbers[sampler.choose(numbers, 0)].tolist() == [3, 6, 9, 12, 15, 18]
    assert numbers[sampler.choose(numbers, 1)].tolist() == [3, 6, 9, 12, 15, 18]


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(1, 20))
@tried(100)
def test_no_more_are_chosen_in_a_second_than_asked_for(counts: list[int], per_s: int) -> None:
    sampler, first, chosen = Sampler(per_s), 1, 0
    for count in counts:
        numbers = np.arange(first, first + count)
        chosen += len(sampler.choose(numbers, 0))
        first += count
    # What was chosen before the stride grew counts only as far as it would be chosen now.
    assert chosen <= per_s * (2 + math.log2(max(sum(counts) / per_s, 1)))
    assert sampler.stride & (sampler.stride - 1) == 0, "so that two choose the same ones"
    if sum(counts) <= per_s:
        assert chosen == sum(counts)


def test_a_calm_second_after_a_busy_one_is_told_in_full_again() -> None:
    sampler = Sampler(per_s=10)
    sampler.choose(np.arange(1, 1_001), 0)
    assert sampler.stride > 10
    sampler.choose(np.arange(1, 4), SECOND)
    sampler.choose(np.arange(1, 4), 2 * SECOND)
    assert len(sampler.choose(np.arange(1, 4), 2 * SECOND)) == 3


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=20),
)
@tried(200)
def test_an_offset_is_no_worse_than_is_said(offset: int, ways: list[tuple[int, int]]) -> None:
    """Ways there and back take what they take, and may differ."""
    clock, now = ClockOffset(), 10**12
    assert clock.best(now) == (0, -1)
    for there, back in ways:
        clock.hear(now, now + there + offset, now + there + back)
        now += there + back
        found, error = clock.best(now)
        assert abs(found - offset) <= error + 1
        now += SECOND
    assert clock.heard_count == len(ways)


def test_an_offset_within_its_error_is_none() -> None:
    clock = ClockOffset()
    clock.hear(1_000, 1_900, 2_000)
    assert clock.best(2_000) == (0, 900)
    clock.hear(3_000, 9_050, 3_100)
    assert clock.best(3_100) == (6_000, 50)


def test_an_old_exchange_is_worth_less() -> None:
    clock = ClockOffset()
    clock.hear(0, 10**9, 100)
    clock.hear(60 * SECOND, 60 * SECOND + 2 * 10**9, 60 * SECOND + 10_000)
    offset, error = clock.best(60 * SECOND + 10_000)
    assert (offset, error) == (2 * 10**9 - 5_000, 5_000)


def test_work_is_noted_where_somebody_listens() -> None:
    class Notes:
        def __init__(self) -> None:
            self.time, self.noted = 0, []

        def now(self) -> int:
            self.time += 5
            return self.time

        def work(self, work: Work, began: int) -> None:
            self.noted.append((work, began))

    notes = Notes()
    with traced(notes, Work.LOADING), traced(None, Work.WRITING):
        pass
    assert notes.noted == [(Work.LOADING, 5)]
