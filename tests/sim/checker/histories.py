"""Small histories, written as text, and what brute force says of them.

`history("1: x0 y0 -> x1", "2!: x1 -> y2")` is two attempts. Attempt 1 loaded 0 at x and at y, and
stored 1 at x. The second did not commit. `x1*` is stored, and stored over in the same attempt;
`x?` is stored, and nobody wrote down what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from dvm_mpi.sim.checker.observation import (
    Cell,
    Level,
    Observations,
    ObservedAttempt,
    Session,
)

_FIRST_CELL = 0x4_4000_0000
_NAMES = "abcdefghijklmnopqrstuvwxyz"


def cell_of(name: str) -> Cell:
    return _FIRST_CELL + 8 * _NAMES.index(name), 8


def name_of(address: int) -> str:
    return _NAMES[(address - _FIRST_CELL) // 8]


def value_of(number: int) -> bytes:
    return number.to_bytes(8, "little")


def history(*attempts: str, sessions: str = "", final: str = "", initial: str = "") -> Observations:
    """Read attempts; `sessions` is like "1>2 child after parent; 2>3 retry"."""
    promises = []
    for text in filter(None, sessions.split("; ")):
        numbers, _, why = text.partition(" ")
        before, after = map(int, numbers.split(">"))
        promises.append(Session(before, after, why))
    return Observations(
        tuple(_attempt(text) for text in attempts),
        tuple(promises),
        _cells(initial),
        _cells(final),
    )


def _attempt(text: str) -> ObservedAttempt:
    number, _, rest = text.partition(":")
    loads, _, stores = rest.partition("->")
    words = stores.split()
    replaced = {
        cell_of(word[0]): (value_of(int(word[1:-1])),) for word in words if word.endswith("*")
    }
    stored: dict[Cell, bytes | None] = {
        cell_of(word[0]): None if word[1:] == "?" else value_of(int(word[1:]))
        for word in words
        if not word.endswith("*")
    }
    is_committed = not number.endswith("!")
    return ObservedAttempt(int(number.rstrip("!")), _cells(loads), stored, is_committed, replaced)


def _cells(text: str) -> dict[Cell, bytes]:
    return {cell_of(word[0]): value_of(int(word[1:])) for word in text.split()}


# --- brute force --------------------------------------------------------------------------------
def is_possible(observations: Observations, level: Level) -> bool:
    """Say whether any order of commits, with any snapshots, gives a history of a few attempts."""
    committed = [attempt for attempt in observations.attempts if attempt.is_committed]
    return any(explains(order, observations, level) for order in permutations(committed))


def explains(order: Sequence[ObservedAttempt], observations: Observations, level: Level) -> bool:
    """Say whether attempts in this order of commits can have seen what they did."""
    place = {attempt.number: at for at, attempt in enumerate(order)}
    states = list(_states(order, observations))
    if any(states[-1].get(cell) != value for cell, value in observations.final.items()):
        return False
    for attempt in observations.attempts:
        own = place.get(attempt.number, len(order))
        if own == len(order) and level is Level.SERIALIZABLE:
            continue
        first = max(
            (place[s.before] + 1 for s in observations.sessions
             if s.after == attempt.number and s.before in place),
            default=0,
        )  # fmt: skip
        if level is Level.SERIALIZABLE:
            places = [own] if first <= own else []
        else:
            places = [
                at for at in range(first, own + 1)
                if own == len(order)
                or not any(attempt.stores.keys() & order[i].stores.keys() for i in range(at, own))
            ]  # fmt: skip
        if not any(_fits(attempt, states[at]) for at in places):
            return False
    return True


def _states(
    order: Sequence[ObservedAttempt], observations: Observations
) -> Iterator[dict[Cell, bytes | None]]:
    """Yield the memory before each commit, and after the last."""
    memory: dict[Cell, bytes | None] = {
        cell: observations.initial_value(cell)
        for attempt in observations.attempts
        for cell in (*attempt.loads, *attempt.stores)
    }
    memory.update({cell: observations.initial_value(cell) for cell in observations.final})
    yield dict(memory)
    for attempt in order:
        memory.update(attempt.stores)
        yield dict(memory)


def _fits(attempt: ObservedAttempt, memory: dict[Cell, bytes | None]) -> bool:
    return all(memory[cell] == value for cell, value in attempt.loads.items())
