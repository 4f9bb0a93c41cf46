"""Compiled loops over the records of a message, beside plain ones."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control import record_loops
from dvm_mpi.control.lifecycle import RUNNER, Kind, State
from dvm_mpi.control.messages import RECORD
from dvm_mpi.dsm.messages import TOKEN
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import OUTCOME, RUN, End
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
    told["serial"] = [count * row for row, _, count in records]
    current, serials = np.zeros(len(records), np.bool_), np.zeros(1, np.int64)
    words = words_of(table_of(drawn)), words_of(outcomes), words_of(told)
    missing = record_loops.fence(*words, current, serials)
    assert int(serials[0]) == max(told["serial"].tolist(), default=0)
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
    outcomes["end"] = [(End.COMMIT, End.TRAP)[row % 2] for row, _, _ in records]
    table = table_of(drawn)
    table["snapshot"], table["worker"] = 100 + np.arange(len(drawn)) // 2, np.arange(len(drawn))
    rows, snapshots, workers = np.zeros((3, len(records)), np.int64)
    found = np.zeros(len(records) + 1, np.int64)
    totals = np.zeros(record_loops.GATHERED_COUNT, np.int64)
    words = words_of(table), words_of(outcomes)
    record_loops.gather(*words, rows, snapshots, workers, found, totals)
    expected = [100 + row // 2 for row, _, _ in records]
    assert rows.tolist() == workers.tolist() == [row for row, _, _ in records]
    assert snapshots.tolist() == expected
    assert found.tolist() == offsets
    assert totals[record_loops.LOSERS] == sum(drawn[row][2] for row, _, _ in records)
    assert totals[record_loops.TRAPS] == sum(row % 2 for row, _, _ in records)
    assert totals[record_loops.STRETCHES] == len(list(groupby(expected)))
    with_runs = sum(count > 0 for _, _, count in records)
    assert totals[record_loops.OUT_OF_ORDER] == lies_apart * with_runs


@tried(60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 2)), min_size=1))
def test_records_that_arrive_are_counted_by_length(drawn: list[tuple[int, int, int]]) -> None:
    """As long as all begin at one place; whoever they are, their workers run so many less."""
    outcomes, table = np.zeros(len(drawn), OUTCOME), np.zeros(len(drawn), RUNNER)
    for row, (entry, bits, worker) in enumerate(drawn):
        outcomes["runner"][row], outcomes["instructions"][row] = row, 2**bits - 1
        table["entry"][row], table["worker"][row] = 0x100 + entry, worker
    running = np.full(3, len(drawn))
    classes = np.zeros(record_loops.CLASS_COUNT, np.int64)
    totals = np.zeros(record_loops.MEASURED_COUNT, np.int64)
    words = words_of(table), words_of(outcomes[:3]) if len(drawn) > 3 else words_of(outcomes)
    drawn = drawn[: len(words[1])]
    is_one = record_loops.arrive(*words, running, classes, totals)
    workers = np.bincount([worker for _, _, worker in drawn], minlength=3)
    assert running.tolist() == (len(outcomes) - workers).tolist()
    assert is_one == (len({entry for entry, _, _ in drawn}) == 1)
    if is_one:
        lengths = [bits for _, bits, _ in drawn]
        assert classes.tolist() == np.bincount(lengths, minlength=64).tolist()
        assert totals.tolist() == [sum(2**n - 1 for n in lengths), max(2**n - 1 for n in lengths)]


#: Of each record: its end, whether its runner is an instance, and its runs, children and console.
ENDED = st.lists(
    st.tuples(
        st.sampled_from(End), st.booleans(), st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)
    )
)


@tried(60)
@given(ENDED, st.booleans())
def test_what_winners_do_is_what_a_loop_counts(drawn: list[Any], lies_apart: bool) -> None:
    outcomes, table = np.zeros(len(drawn), OUTCOME), np.zeros(len(drawn), RUNNER)
    run_count = child_count = 0
    for row, (end, is_instance, runs, children, console) in enumerate(drawn):
        outcomes[row]["runner"], outcomes[row]["end"] = row, end
        outcomes[row]["run_first"], outcomes[row]["run_count"] = run_count, runs
        outcomes[row]["child_first"] = child_count + lies_apart
        outcomes[row]["child_count"], outcomes[row]["console_count"] = children, console
        table[row]["kind"] = Kind.INSTANCE if is_instance else Kind.ORDINARY
        run_count, child_count = run_count + runs, child_count + children
    stored = np.zeros(run_count, RUN)
    stored["length"] = 1 + np.arange(run_count)
    sums = np.zeros(record_loops.SUMMED_COUNT, np.int64)
    record_loops.sum_up(words_of(table), words_of(outcomes), words_of(stored), sums)
    deleting = [
        end in {End.COMMIT_DELETE, End.ABORT_DELETE} and is_instance
        for end, is_instance, *_ in drawn
    ]
    expected = {
        record_loops.ABORTS: sum(end in {End.ABORT, End.ABORT_DELETE} for end, *_ in drawn),
        record_loops.DELETING: sum(deleting),
        record_loops.IDLE: sum(
            not (deletes or any(does))
            for deletes, (_, _, *does) in zip(deleting, drawn, strict=True)
        ),
        record_loops.BYTES: int(stored["length"].sum()),
        record_loops.CHILDREN: child_count,
        record_loops.CHILDREN_OUT_OF_ORDER: (
            sum(children > 0 for *_, children, _ in drawn) if lies_apart else 0
        ),
    }
    assert sums.tolist() == [expected[which] for which in range(record_loops.SUMMED_COUNT)]


def test_tokens_name_the_write_sets_of_records() -> None:
    outcomes, records = np.zeros(3, OUTCOME), np.zeros(3, RECORD)
    outcomes["run_first"], outcomes["run_count"] = [0, 2, 5], [2, 3, 1]
    records["serial"] = [0, 7, 9]
    tokens = np.empty(2, TOKEN)
    words = words_of(outcomes), words_of(records)
    workers, snapshots = np.array([4, 1]), np.array([8, 7])
    record_loops.write_tokens(*words, np.array([2, 0]), workers, snapshots, words_of(tokens))
    assert tokens.tolist() == [(4, 9, 8, 5, 1), (1, 0, 0, 0, 2)]
