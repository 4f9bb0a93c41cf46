from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.lengths import OTHERS, RunnerLengths
from tests.properties import tried

BATCHES = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2**40)), max_size=20), max_size=10
)


@tried(100)
@given(BATCHES)
def test_counts_against_a_naive_model(batches: list[Any]) -> None:
    lengths = RunnerLengths()
    model: dict[int, Counter[int]] = {}
    for batch in batches:
        lengths.note(np.array([e for e, _ in batch]), np.array([n for _, n in batch]))
        for entry, instructions in batch:
            model.setdefault(entry, Counter())[instructions] += 1
    told = {row.entry: row for row in lengths.entries()}
    assert told.keys() == model.keys()
    for entry, seen in model.items():
        row = told[entry]
        assert (row.attempts, row.longest) == (seen.total(), max(seen))
        assert row.instructions == sum(value * count for value, count in seen.items())
        classes: Counter[int] = Counter()
        for value, count in seen.items():
            classes[value.bit_length()] += count
        assert {c: int(row.classes[c]) for c in np.flatnonzero(row.classes)} == dict(classes)


def test_entries_come_with_the_most_instructions_first() -> None:
    lengths = RunnerLengths()
    lengths.note(np.array([5, 6, 7]), np.array([1, 100, 10]))
    assert [row.entry for row in lengths.entries()] == [6, 7, 5]


def test_of_too_many_entries_the_rest_is_counted_together() -> None:
    lengths = RunnerLengths(entries_kept=2)
    for entry in range(1, 6):
        lengths.note(np.array([entry]), np.array([10 * entry]))
    assert {(r.entry, r.attempts, r.instructions) for r in lengths.entries()} == {
        (1, 1, 10), (2, 1, 20), (OTHERS, 3, 120),
    }  # fmt: skip
