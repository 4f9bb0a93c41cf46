"""Joining declared ranges, and looking for overlaps, beside sets of bytes."""

from __future__ import annotations

from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.control import grants
from dvm_mpi.control.grants import child_grants, normalise_grouped, overlaps
from dvm_mpi.engine.interface import CHILD
from dvm_mpi.layout import RANGE, SR_END, SR_START

Span = tuple[int, int]
T = TypeVar("T")

#: Near both ends of the shared region: groups must not run into each other.
STARTS = st.integers(0, 30).map(lambda n: SR_START + n) | st.integers(0, 30).map(
    lambda n: SR_END - 60 + n
)
SPANS = st.tuples(STARTS, st.integers(0, 20))
GROUPS = 5
ROWS = st.tuples(st.integers(0, GROUPS - 1), SPANS)


def few_or_many(elements: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Return lists of hardly any or of a good many, where ranges nest and chain."""
    return st.lists(elements, max_size=3) | st.lists(elements, min_size=15, max_size=40)


def ranges(spans: list[Span]) -> NDArray[Any]:
    return np.array(spans, dtype=RANGE)


def joined(spans: list[Span]) -> list[Span]:
    """Return the spans as maximal stretches of bytes, the slow way."""
    held = sorted({b for start, length in spans for b in range(start, start + length)})
    stretches = []
    for _, part in groupby(enumerate(held), key=lambda pair: pair[1] - pair[0]):
        stretch = [b for _, b in part]
        stretches.append((stretch[0], len(stretch)))
    return stretches


@pytest.mark.parametrize("groups_per_pass", [1, 2, grants._GROUPS_PER_PASS])
@given(rows=few_or_many(ROWS))
def test_normalise_agrees_with_sets_of_bytes(
    groups_per_pass: int, rows: list[tuple[int, Span]]
) -> None:
    owners = np.array([group for group, _ in rows], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grants, "_GROUPS_PER_PASS", groups_per_pass)
        found, counts = normalise_grouped(owners, ranges([span for _, span in rows]), GROUPS)
    expected = [joined([s for group, s in rows if group == wanted]) for wanted in range(GROUPS)]
    assert counts.tolist() == [len(part) for part in expected]
    assert found.tolist() == [span for part in expected for span in part]


@given(held=st.lists(SPANS, max_size=6), wanted=few_or_many(SPANS))
def test_overlaps_agrees_with_sets_of_bytes(held: list[Span], wanted: list[Span]) -> None:
    held_bytes = {b for start, length in held for b in range(start, start + length)}
    expected = [
        any(b in held_bytes for b in range(start, start + length)) for start, length in wanted
    ]
    assert overlaps(ranges(joined(held)), ranges(wanted)).tolist() == expected


def test_a_childs_grants_are_heap_watched_and_explicit_stack() -> None:
    declared = ranges([(0x1000, 16), (0x1010, 16), (0x5000, 8), (0x9000, 4)])
    declared["start"] += SR_START
    children = np.zeros(3, dtype=CHILD)
    children["heap_first"], children["heap_count"] = [0, 0, 3], [2, 0, 1]
    children["watched_first"], children["watched_count"] = [2, 2, 0], [1, 0, 0]
    children["stack_base"] = SR_START + 0x4FF8
    children["stack_bytes"] = 8
    children["stack_automatic"] = [0, 1, 1]
    found, counts = child_grants(children, declared)
    assert counts.tolist() == [2, 0, 1]
    found["start"] -= SR_START
    assert found.tolist() == [(0x1000, 32), (0x4FF8, 16), (0x9000, 4)]
