"""The runner table: transitions, story, growth, limit, and what the invariants notice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control import lifecycle
from dvm_mpi.control.lifecycle import (
    TRANSITIONS,
    Event,
    Kind,
    LifeCycleError,
    RunnerTable,
    State,
)
from dvm_mpi.errors import LimitError

NEXT = {(state, event): after for state, event, after in TRANSITIONS}


def one(table: RunnerTable, state: State) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return a row that was put into `state` by the shortest way through the table."""
    ways: dict[State, list[Event]] = {State.FREE: []}
    while state not in ways:
        for (before, event), after in NEXT.items():
            if before in ways and after not in ways:
                ways[after] = [*ways[before], event]
    rows = table.allocate(1)
    for event in ways[state]:
        table.apply(rows, event)
    return rows


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_pairs_of_the_table_and_no_others(state: State, event: Event) -> None:
    table = RunnerTable(4)
    rows = one(table, state)
    if (state, event) in NEXT:
        table.apply(rows, event)
        assert table.rows["state"][rows[0]] == NEXT[state, event]
    else:
        with pytest.raises(LifeCycleError, match=f"{event.name} does not fit"):
            table.apply(rows, event)
        assert table.rows["state"][rows[0]] == state


def test_every_state_is_reached_and_left() -> None:
    assert {state for state, _, _ in TRANSITIONS} == set(State)
    assert {after for _, _, after in TRANSITIONS} == set(State)


def test_one_wrong_row_stops_the_whole_vector() -> None:
    table = RunnerTable(4)
    rows = table.allocate(3)
    table.apply(rows, Event.CREATED)
    table.apply(rows[1:2], Event.DISPATCHED)
    with pytest.raises(LifeCycleError, match=f"runner row {rows[1]}"):
        table.apply(rows, Event.DISPATCHED)
    assert table.count(State.WAITING) == 2


def test_the_story_is_told_in_order_and_only_of_that_row() -> None:
    table = RunnerTable(4)
    rows = table.allocate(2)
    table.rows["id"][rows] = 0x3D0_0000_1000, 0x3D0_0000_2000
    table.apply(rows, Event.CREATED)
    table.apply(rows[:1], Event.DISPATCHED)
    table.apply(rows[:1], Event.LOST)
    told = table.story(int(rows[0]))
    assert told.endswith("events: CREATED DISPATCHED LOST")
    assert "id 0x3d000001000, WAITING" in told
    assert table.story(int(rows[1])).endswith("events: CREATED")


def test_the_story_forgets_what_is_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By events, and by rows: one event of very many runners must not fill the memory."""
    monkeypatch.setattr(lifecycle, "STORY_EVENTS", 3)
    monkeypatch.setattr(lifecycle, "STORY_ROWS", 8)
    table = RunnerTable(16)
    first = table.allocate(1)
    table.apply(first, Event.CREATED)
    for _ in range(2):
        table.apply(first, Event.DISPATCHED)
        table.apply(first, Event.LOST)
    assert table.story(int(first[0])).endswith("events: LOST DISPATCHED LOST")
    many = table.allocate(10)
    table.apply(many, Event.CREATED)
    assert table.story(int(first[0])).endswith("events: none remembered")
    assert table.story(int(many[-1])).endswith("events: CREATED")
    assert table.story(int(many[0])).endswith("events: none remembered")


def test_rows_are_fresh_and_lowest_first() -> None:
    table = RunnerTable(4)
    rows = table.allocate(3)
    assert rows.tolist() == [0, 1, 2]
    table.apply(rows, Event.CREATED)
    table.rows["losses"][rows] = 7
    table.apply(rows, Event.DISPATCHED)
    table.apply(rows[:2], Event.ENDED)
    again = table.allocate(2)
    assert again.tolist() == [0, 1]
    assert table.rows["losses"][again].tolist() == [0, 0]


def test_growing_keeps_the_rows() -> None:
    table = RunnerTable(2)
    first = table.allocate(2)
    table.rows["id"][first] = 11, 12
    table.apply(first, Event.CREATED)
    more = table.allocate(5)
    table.apply(more, Event.ARMED)
    assert table.rows["id"][first].tolist() == [11, 12]
    assert sorted([*first.tolist(), *more.tolist()]) == list(range(7))
    assert len(table.rows) == 8
    table.check_invariants()


def test_the_limit_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RUNNERS_MAX", 16)
    table = RunnerTable(2)
    table.apply(table.allocate(16), Event.CREATED)
    with pytest.raises(LimitError, match=r"limit is 16 \(RUNNERS_MAX\)"):
        table.allocate(1)


@given(steps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=15, max_size=50))
def test_agrees_with_a_set_of_live_rows(steps: list[tuple[int, int]]) -> None:
    """Rows are given out once, and again only after their end."""
    table, live = RunnerTable(2), list[int]()
    for created, ended in steps:
        rows = table.allocate(created)
        assert not set(rows.tolist()) & set(live)
        table.apply(rows, Event.CREATED)
        table.apply(rows, Event.DISPATCHED)
        live += rows.tolist()
        gone, live = live[:ended], live[ended:]
        table.apply(np.array(gone, dtype=np.int64), Event.ENDED)
        table.check_invariants()
        assert table.live_count == len(live) == table.count(State.RUNNING)


def with_instance() -> tuple[RunnerTable, int, int]:
    table = RunnerTable(4)
    template, instance = table.allocate(2)
    table.rows["kind"][[template, instance]] = Kind.TEMPLATE, Kind.INSTANCE
    table.rows["template"][instance] = template
    table.rows["instances"][template] = 1
    table.apply(np.array([template]), Event.ARMED)
    table.apply(np.array([instance]), Event.CREATED)
    table.check_invariants()
    return table, int(template), int(instance)


def test_invariants_notice_a_lost_row() -> None:
    table, _, instance = with_instance()
    table.rows["state"][instance] = State.FREE
    with pytest.raises(AssertionError, match="FREE but not listed"):
        table.check_invariants()


def test_invariants_notice_a_miscounted_template() -> None:
    table, template, _ = with_instance()
    table.rows["instances"][template] = 2
    with pytest.raises(AssertionError):
        table.check_invariants()


def test_invariants_notice_an_instance_without_a_template() -> None:
    table, template, _ = with_instance()
    table.apply(np.array([template]), Event.DELETED)
    table.check_invariants()
    table.apply(np.array([template]), Event.ENDED)
    with pytest.raises(AssertionError):
        table.check_invariants()
