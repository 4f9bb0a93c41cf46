"""Rows of the state's lists, for compiled code."""

from __future__ import annotations

from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.state import Field, State, Stop


@compiled
def row_at(state: State, which: int, index: int, row_bytes: int) -> int:
    """Return the host address of a row."""
    return state[Field.LISTS + 3 * which] + index * row_bytes


@compiled
def count_of(state: State, which: int) -> int:
    """Return how many rows a list has."""
    return state[Field.LISTS + 3 * which + 1]


@compiled
def set_count(state: State, which: int, count: int) -> None:
    """Say how many rows a list has."""
    state[Field.LISTS + 3 * which + 1] = count


@compiled
def lacks_room(state: State, which: int, rows: int) -> bool:
    """Return whether `rows` more do not fit; then compiled code must stop for LIST_FULL."""
    field = Field.LISTS + 3 * which
    if state[field + 1] + rows <= state[field + 2]:
        return False
    state[Field.FULL_LIST] = which
    state[Field.FULL_ROWS] = state[field + 1] + rows
    state[Field.STOP] = Stop.LIST_FULL
    return True


@compiled
def room_in(state: State, which: int) -> int:
    """Return how many rows more fit."""
    field = Field.LISTS + 3 * which
    return state[field + 2] - state[field + 1]


@compiled
def append(state: State, which: int, row_bytes: int) -> int:
    """Add a row, which must fit, and return its host address."""
    field = Field.LISTS + 3 * which
    index = state[field + 1]
    state[field + 1] = index + 1
    return state[field] + index * row_bytes
