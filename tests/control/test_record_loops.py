"""Compiled loops over the records of a message, beside plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control import record_loops
from dvm_mpi.control.lifecycle import RUNNER, State
from dvm_mpi.control.messages import RECORD
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import OUTCOME
from tests.properties import tried

#: Of each record: its row, attempt, and how many runs it has; whether these lie in order.
RECORDS = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3), st.integers(0, 2)), max_size=12)
#: Of each row: state, attempt, losses.
TABLE = st.lists(
    st.tuples(st.sampled_from(State), st.integers(1, 3), st.integers(0, 1)), min_size=8, max_size=8
)


def table_of(drawn: list[Any]) -> Any:
    table = np.zeros(len(drawn), RUNNER)
    for row, (state, attempt, losses) in enumerate(drawn):
        table["state"][row], table["attempt"][row], table["losses"][row] = state, attempt, losses
    table["snapshot"] = 100 + np.arange(len(drawn))
    return table


@tried(60)
@given(TABLE, RECORDS)
def test_only_records_of_present_attempts_pass(drawn: list[Any], records: list[Any]) -> None:
    outcomes, told = np.zeros(len(records), OUTCOME), np.zeros(len(records), RECORD)
    for position, (row, attempt, _) in enumerate(records):
        outcomes["runner"][position], told["attempt"][position] = row, attempt
    current = np.zeros(len(records), np.bool_)
    words = words_of(table_of(drawn)), words_of(outcomes), words_of(told)
    missing = record_loops.fence(*words, current)
    expected = [drawn[row][:2] == (State.RUNNING, attempt) for row, attempt, _ in records]
    assert current.tolist() == expected
    assert missing == expected.count(False)


@tried(60)
@given(TABLE, RECORDS, st.booleans())
def test_columns_are_those_of_the_rows(
    drawn: list[Any], records: list[Any], lies_apart: bool
) -> None:
    outcomes = np.zeros(len(records), OUTCOME)
    offsets = [0]
    for position, (row, _, count) in enumerate(records):
        outcomes["runner"][position], outcomes["run_count"][position] = row, count
        outcomes["run_first"][position] = offsets[-1] + lies_apart
        offsets.append(offsets[-1] + count)
    rows, snapshots = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    found, totals = np.zeros(len(records) + 1, np.int64), np.zeros(2, np.int64)
    words = words_of(table_of(drawn)), words_of(outcomes)
    record_loops.gather(*words, rows, snapshots, found, totals)
    assert rows.tolist() == [row for row, _, _ in records]
    assert snapshots.tolist() == [100 + row for row, _, _ in records]
    assert found.tolist() == offsets
    assert totals[record_loops.LOSERS] == sum(drawn[row][2] for row, _, _ in records)
    with_runs = sum(count > 0 for _, _, count in records)
    assert totals[record_loops.OUT_OF_ORDER] == lies_apart * with_runs
