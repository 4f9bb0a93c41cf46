"""Random histories of a few attempts, judged by the checker and by brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dvm_mpi.sim.checker.check import check
from dvm_mpi.sim.checker.observation import (
    Cell,
    Level,
    Observations,
    ObservedAttempt,
    Session,
)
from tests.sim.checker.histories import cell_of, explains, is_possible, name_of, value_of

CELLS = tuple(cell_of(name) for name in "xyz")
ATTEMPTS_MAX = 5
LEVELS = tuple(Level)
Draw = Callable[[st.SearchStrategy], object]


def agree(run: Observations, level: Level) -> None:
    """The checker finds exactly what brute force finds."""
    verdict = check(run, level, name=name_of)
    assert verdict.is_complete, "few attempts are judged to the end"
    possible = is_possible(run, level)
    event(f"{level.value}: {'possible' if possible else str(verdict.anomaly).split(':')[0]}")
    assert (verdict.anomaly is None) is possible, str(verdict)


def some_cells(draw) -> list[Cell]:
    chosen = draw(st.integers(0, 2 ** len(CELLS) - 1))
    return [cell for at, cell in enumerate(CELLS) if chosen >> at & 1]


def final_memory(draw, order: list[ObservedAttempt]) -> dict[Cell, bytes]:
    """Return what some cells hold after these commits."""
    memory = {cell: value_of(0) for cell in CELLS}
    for attempt in order:
        memory.update({cell: value for cell, value in attempt.stores.items() if value is not None})
    return {cell: memory[cell] for cell in some_cells(draw)}


@st.composite
def machine_runs(draw, *, is_serial: bool = False, is_skewed: bool = False, values: int = 0):
    """Runs of a naive machine that has snapshots, with their order of commits.

    Stored values are unique, unless they are to be drawn from a few. In a skewed run every attempt
    loads everything and stores to one cell.
    """
    order: list[ObservedAttempt] = []
    attempts: list[ObservedAttempt] = []
    sessions: list[Session] = []
    memories = [{cell: value_of(0) for cell in CELLS}]
    numbers = draw(st.permutations(range(1, draw(st.integers(1, ATTEMPTS_MAX)) + 1)))
    for number in numbers:
        now = len(order)
        snapshot = now if is_serial else draw(st.integers(0, now))
        loads = {cell: memories[snapshot][cell] for cell in CELLS if is_skewed} or {
            cell: memories[snapshot][cell] for cell in some_cells(draw)
        }
        stores = {
            cell: value_of(draw(st.integers(0, values)) if values else 10 * number + at)
            for at, cell in enumerate(
                [draw(st.sampled_from(CELLS))] if is_skewed else some_cells(draw)
            )
        }
        loses = any(stores.keys() & earlier.stores.keys() for earlier in order[snapshot:])
        attempt = ObservedAttempt(number, loads, stores, not loses)
        attempts.append(attempt)
        seen = [earlier.number for earlier in order[:snapshot]]
        if seen and draw(st.booleans()):
            sessions.append(Session(draw(st.sampled_from(seen)), number, "a promise"))
        if not loses:
            order.append(attempt)
            memories.append(memories[-1] | stores)
    attempts.sort(key=lambda attempt: attempt.number)
    final = final_memory(draw, order)
    return Observations(attempts, sessions, {}, final), order


@st.composite
def any_runs(draw):
    """Runs in which every attempt loads any version of a cell that anybody stores."""
    count = draw(st.integers(2, ATTEMPTS_MAX))
    stores = {
        number: {cell: value_of(10 * number + at) for at, cell in enumerate(some_cells(draw))}
        for number in range(1, count + 1)
    }
    attempts = []
    for number, stored in stores.items():
        loads = {
            cell: draw(st.sampled_from([value_of(0), *versions]))
            for cell in some_cells(draw)
            if (versions := [s[cell] for n, s in stores.items() if cell in s and n != number])
        }
        is_committed = draw(st.integers(0, 9)) > 0
        attempts.append(ObservedAttempt(number, loads, stored, is_committed))
    numbers = st.integers(1, count)
    pairs = [(draw(numbers), draw(numbers)) for _ in range(draw(st.integers(0, 2)))]
    sessions = [Session(before, after, "a promise") for before, after in pairs if before != after]
    last = draw(st.permutations(attempts))
    return Observations(attempts, sessions, {}, final_memory(draw, list(last)))


@given(machine_runs(is_serial=True))
def test_serial_runs_are_clean(made) -> None:
    run, order = made
    for level in LEVELS:
        assert check(run, level).anomaly is None
        assert check(run, level, order=[a.number for a in order]).anomaly is None


@given(machine_runs(is_skewed=True))
def test_snapshots_are_clean_and_skew_is_found(made) -> None:
    run, order = made
    assert check(run, Level.SNAPSHOT).anomaly is None
    assert check(run, Level.SNAPSHOT, order=[a.number for a in order]).anomaly is None
    agree(run, Level.SERIALIZABLE)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=200)
@given(run=any_runs())
def test_agrees_with_brute_force(level: Level, run: Observations) -> None:
    agree(run, level)


@settings(max_examples=200)
@given(machine_runs(), st.data())
def test_one_wrong_load_is_found_if_brute_force_finds_it(made, data) -> None:
    run, _ = made
    places = [(at, cell) for at, a in enumerate(run.attempts) for cell in a.loads]
    if not places:
        return
    at, cell = data.draw(st.sampled_from(places))
    attempts = list(run.attempts)
    old = attempts[at]
    versions = [a.stores[cell] for a in attempts if cell in a.stores and a is not old]
    value = data.draw(st.sampled_from([value_of(0), *filter(None, versions)]))
    attempts[at] = ObservedAttempt(
        old.number, {**old.loads, cell: value}, old.stores, old.is_committed
    )
    wrong = Observations(attempts, run.sessions, {}, run.final)
    for level in LEVELS:
        agree(wrong, level)


@settings(max_examples=200)
@given(machine_runs(values=2), st.data())
def test_equal_values_are_judged_by_a_claimed_order(made, data) -> None:
    """Without an order nothing wrong is said; with one, exactly what that order explains passes."""
    run, order = made
    claimed = data.draw(st.permutations(order))
    for level in LEVELS:
        if check(run, level).anomaly is not None:
            assert not is_possible(run, level)
    verdict = check(run, Level.SNAPSHOT, order=[a.number for a in claimed])
    assert (verdict.anomaly is None) is explains(claimed, run, Level.SNAPSHOT), str(verdict)
