"""Births of several messages: what children are given, beside plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.birth_loops import RANGES_INSERTED_MAX
from dvm_mpi.control.coordinator_state import Births, CoordinatorState
from dvm_mpi.control.leases import LeaseBook
from dvm_mpi.control.lifecycle import Kind
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.ranges import firsts_of
from dvm_mpi.engine.interface import CHILD, RUN
from dvm_mpi.layout import RANGE
from tests.properties import tried

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=4)
#: Of each child: heap, watched, bytes of an explicit stack or -1, stores to its stack.
CHILDREN = st.lists(st.tuples(SPANS, SPANS, st.integers(-1, 4), st.integers(0, 3)), max_size=4)
PARTS = st.lists(CHILDREN, min_size=1, max_size=4)
STACK = 40


def births_of(part: int, children: list[Any]) -> Births:
    """Return births in which every store and byte says whose it is."""
    rows = np.zeros(len(children), CHILD)
    rows["id"], rows["entry"] = 100 * part + np.arange(len(children)), 7
    # One range and one run that belong to nobody lie before all others.
    ranges: list[tuple[int, int]] = [(999, 9)]
    for row, (heap, watched, stack_bytes, _) in zip(rows, children, strict=True):
        for name, spans in (("heap", heap), ("watched", watched)):
            row[f"{name}_first"], row[f"{name}_count"] = len(ranges), len(spans)
            ranges += spans
        row["template"] = len(watched) > 0
        row["stack_automatic"] = stack_bytes < 0
        row["stack_base"], row["stack_bytes"] = STACK, abs(stack_bytes)
    rows["image_count"] = [count for *_, count in children]
    rows["image_first"] = 1 + firsts_of(rows["image_count"])
    runs = np.zeros(1 + int(rows["image_count"].sum()), RUN)
    runs["start"] = 1_000 * part + np.arange(len(runs))
    runs["length"], runs["data_first"] = 2, 2 * np.arange(len(runs))
    data = (50 * part + np.arange(2 * len(runs))).astype(np.uint8)
    wakes = np.zeros(len(rows), bool)
    return Births(np.full(len(rows), part), wakes, rows, np.array(ranges, RANGE), runs, data)


def expected_of(part: int, children: list[Any]) -> list[Any]:
    """Return what each child is given, in plain values."""
    told, run = [], 1
    for number, (heap, watched, stack_bytes, stores) in enumerate(children):
        spans = [*heap, *watched, (STACK, max(stack_bytes, 0))]
        own = sorted({byte for start, length in spans for byte in range(start, start + length)})
        grants: list[list[int]] = []
        for byte in own:
            if grants and sum(grants[-1]) == byte:
                grants[-1][1] += 1
            else:
                grants.append([byte, 1])
        stored = []
        for _ in range(stores):
            stored.append((1_000 * part + run, [50 * part + 2 * run, 50 * part + 2 * run + 1]))
            run += 1
        largest = max((length for _, length in grants), default=0)
        pairs = [(start, length) for start, length in grants]
        told.append((100 * part + number, bool(watched), pairs, watched, largest, stored))
    return told


def told_by(state: CoordinatorState, row: int) -> Any:
    """Return what a row has, in plain values."""
    r = state.table.rows[row]

    def owned(arena: Any, name: str) -> Any:
        return arena.rows[int(r[f"{name}_first"]) :][: int(r[f"{name}_count"])]

    data = owned(state.image_data, "image_data")
    stored = [
        (int(run["start"]), data[int(run["data_first"]) :][: int(run["length"])].tolist())
        for run in owned(state.image_runs, "image")
    ]
    assert (int(r["template"]), int(r["queued_instance"]), int(r["entry"])) == (-1, -1, 7)
    return (
        int(r["id"]),
        r["kind"] == Kind.TEMPLATE,
        owned(state.grants, "grant").tolist(),
        owned(state.watched, "watched").tolist(),
        int(r["largest_range"]),
        stored,
    )


@pytest.mark.parametrize("is_plain", [False, True])
@tried(40)
@given(PARTS)
def test_children_get_what_is_theirs(is_plain: bool, parts: list[Any]) -> None:
    """By compiled loops, and by those for children with very many ranges."""
    state = CoordinatorState(Geometry(2), 1, LeaseBook(4_096), 1)
    if is_plain:
        state._enter = lambda *_: False  # type: ignore[method-assign]
    births = [births_of(number, children) for number, children in enumerate(parts)]
    rows = state.register(births)
    expected = [
        child for part, children in enumerate(parts) for child in expected_of(part, children)
    ]
    assert [told_by(state, row) for row in rows.tolist()] == expected


@pytest.mark.parametrize("count", [RANGES_INSERTED_MAX, RANGES_INSERTED_MAX + 1])
def test_one_child_may_have_very_many_ranges(count: int) -> None:
    children = [([(3, 1)], [], -1, 1), ([(2 * k, 1) for k in range(count)][::-1], [], -1, 0)]
    state = CoordinatorState(Geometry(2), 1, LeaseBook(4_096), 1)
    rows = state.register([births_of(0, children)])
    assert [told_by(state, row) for row in rows.tolist()] == expected_of(0, children)
    assert state.grants.used == count + 1
