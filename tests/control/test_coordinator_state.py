"""Births of several messages, registered as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.coordinator_state import Births, joined_births
from dvm_mpi.dsm.ranges import firsts_of
from dvm_mpi.engine.interface import CHILD, RUN
from dvm_mpi.layout import RANGE
from tests.properties import tried

COUNT = st.integers(0, 3)
#: Of each child of each part: heap ranges, watched ranges, stores to its stack.
PARTS = st.lists(st.lists(st.tuples(COUNT, COUNT, COUNT), max_size=4), min_size=1, max_size=4)


def births_of(part: int, children: list[Any]) -> Births:
    """Return births in which every range, run and byte says whose it is."""
    rows = np.zeros(len(children), CHILD)
    rows["id"] = 100 * part + np.arange(len(children))
    counts = np.array(children, dtype=np.int64).reshape(-1, 3)
    rows["heap_count"], rows["watched_count"], rows["image_count"] = counts.T
    heap, watched, images = (int(column.sum()) for column in counts.T)
    # One range and one run that belong to nobody lie before all others.
    rows["heap_first"] = 1 + firsts_of(counts[:, 0])
    rows["watched_first"] = 1 + heap + firsts_of(counts[:, 1])
    rows["image_first"] = 1 + firsts_of(counts[:, 2])
    ranges, runs = np.zeros(1 + heap + watched, RANGE), np.zeros(1 + images, RUN)
    ranges["start"] = 1_000 * part + np.arange(len(ranges))
    runs["start"] = 1_000 * part + np.arange(len(runs))
    runs["length"], runs["data_first"] = 2, 2 * np.arange(len(runs))
    data = (50 * part + np.arange(2 * len(runs))).astype(np.uint8)
    wakes = rows["id"] % 2 == 0
    return Births(np.full(len(rows), part), wakes, rows, ranges, runs, data)


def told(births: Births) -> list[Any]:
    """Return what each child is given, in plain values."""
    found = []
    for child, creator, wakes in zip(births.children, births.creators, births.wakes, strict=True):
        runs = births.runs[int(child["image_first"]) :][: int(child["image_count"])]
        spans = [
            births.child_ranges[int(child[f"{name}_first"]) :][: int(child[f"{name}_count"])]
            for name in ("heap", "watched")
        ]
        stored = [
            (int(run["start"]), births.data[int(run["data_first"]) :][:2].tolist()) for run in runs
        ]
        declared = [span.tolist() for span in spans]
        found.append((int(child["id"]), int(creator), bool(wakes), declared, stored))
    return found


@tried(60)
@given(PARTS)
def test_children_of_several_messages_keep_what_is_theirs(parts: list[Any]) -> None:
    births = [births_of(number, children) for number, children in enumerate(parts)]
    expected = [child for one in births for child in told(one)]
    assert told(joined_births(births)) == expected
    assert [child for one in births for child in told(one)] == expected, "parts stay"
