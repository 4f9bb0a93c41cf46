"""Compiled loops over the records of one message, beside the rows of their runners.

`table` is as in `row_loops`; `outcomes` and `records` are the message's own, as words, in which
these columns are known here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel, kernel
from dvm_mpi.control.messages import RECORD
from dvm_mpi.control.row_loops import (
    ATTEMPT,
    ENTRY,
    INSTANCE,
    KIND,
    LOSSES,
    RUNNING,
    SNAPSHOT,
    STATE,
    WORKER,
)
from dvm_mpi.dsm.messages import TOKEN
from dvm_mpi.engine.interface import OUTCOME, RUN, End

Ints = NDArray[np.int64]


def _column(names: tuple[str, ...] | None, name: str) -> int:
    assert names is not None
    return names.index(name)


OUTCOME_RUNNER: Final = _column(OUTCOME.names, "runner")
OUTCOME_RUN_FIRST: Final = _column(OUTCOME.names, "run_first")
OUTCOME_RUN_COUNT: Final = _column(OUTCOME.names, "run_count")
OUTCOME_END: Final = _column(OUTCOME.names, "end")
OUTCOME_INSTRUCTIONS: Final = _column(OUTCOME.names, "instructions")
OUTCOME_CHILD_FIRST: Final = _column(OUTCOME.names, "child_first")
OUTCOME_CHILD_COUNT: Final = _column(OUTCOME.names, "child_count")
OUTCOME_CONSOLE_COUNT: Final = _column(OUTCOME.names, "console_count")
RECORD_ATTEMPT: Final = _column(RECORD.names, "attempt")
RECORD_SERIAL: Final = _column(RECORD.names, "serial")
RUN_LENGTH: Final = _column(RUN.names, "length")
TOKEN_WORKER: Final = _column(TOKEN.names, "worker")
TOKEN_SERIAL: Final = _column(TOKEN.names, "serial")
TOKEN_STAGED: Final = _column(TOKEN.names, "staged")
TOKEN_RUN_FIRST: Final = _column(TOKEN.names, "run_first")
TOKEN_RUN_COUNT: Final = _column(TOKEN.names, "run_count")
#: `interface.End`, as compiled code knows it.
ABORT: Final = int(End.ABORT)
COMMIT_DELETE: Final = int(End.COMMIT_DELETE)
ABORT_DELETE: Final = int(End.ABORT_DELETE)
TRAP: Final = int(End.TRAP)

#: What `gather` tells of all records together.
LOSERS: Final = 0
OUT_OF_ORDER: Final = 1
TRAPS: Final = 2
STRETCHES: Final = 3
GATHERED_COUNT: Final = 4

#: What `sum_up` tells of all records together.
ABORTS: Final = 0
DELETING: Final = 1
IDLE: Final = 2
BYTES: Final = 3
CHILDREN: Final = 4
CHILDREN_OUT_OF_ORDER: Final = 5
SUMMED_COUNT: Final = 6

#: What `arrive` and `measure` tell.
INSTRUCTIONS: Final = 0
LONGEST: Final = 1
MEASURED_COUNT: Final = 2
CLASS_COUNT: Final = 64


@entry_kernel("int64(int64[:, ::1], int64[:, ::1], int64[:, ::1], boolean[::1], int64[::1])")
def fence(
    table: Ints, outcomes: Ints, records: Ints, current: NDArray[np.bool_], serials: Ints
) -> int:
    """Mark the records that are of their runners' present attempts; return how many are not.

    `serials`: (1,), raised to the last serial of a staged write set that any of them names.
    """
    missing = 0
    for position in range(outcomes.shape[0]):
        serials[0] = max(serials[0], records[position, RECORD_SERIAL])
        row = outcomes[position, OUTCOME_RUNNER]
        runs = table[row, STATE] == RUNNING
        is_present = table[row, ATTEMPT] == records[position, RECORD_ATTEMPT]
        current[position] = runs and is_present
        if not (runs and is_present):
            missing += 1
    return missing


@kernel
def note_length(instructions: int, classes: Ints, totals: Ints) -> None:
    """Count an attempt by the length of its instruction count, in bits, and in the totals."""
    totals[INSTRUCTIONS] += instructions
    totals[LONGEST] = max(totals[LONGEST], instructions)
    bits = 0
    while instructions > 0:
        instructions >>= 1
        bits += 1
    classes[bits] += 1


@entry_kernel("int64(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1])")
def arrive(table: Ints, outcomes: Ints, running: Ints, classes: Ints, totals: Ints) -> int:
    """Take records off what their workers run, and count them by length, as `measure` does.

    Returns 0, and the counts are of the first ones only, if entries differ.
    """
    is_one = 1
    entry = table[outcomes[0, OUTCOME_RUNNER], ENTRY]
    for position in range(outcomes.shape[0]):
        row = outcomes[position, OUTCOME_RUNNER]
        running[table[row, WORKER]] -= 1
        if table[row, ENTRY] != entry:
            is_one = 0
        if is_one == 1:
            note_length(outcomes[position, OUTCOME_INSTRUCTIONS], classes, totals)
    return is_one


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"
)
def gather(
    table: Ints,
    outcomes: Ints,
    rows: Ints,
    snapshots: Ints,
    workers: Ints,
    offsets: Ints,
    totals: Ints,
) -> None:
    """Fill in what ordering wants to know of each record, column by column.

    `offsets`: (n + 1,), where the runs of each record begin if they lie back to back. They do in
    the message itself unless `totals[OUT_OF_ORDER]` counts any that do not. `totals[LOSERS]`
    counts records of runners that have lost before, `totals[TRAPS]` those that trapped, and
    `totals[STRETCHES]` the stretches of records with equal snapshots.
    """
    offsets[0] = 0
    for position in range(outcomes.shape[0]):
        row = outcomes[position, OUTCOME_RUNNER]
        rows[position] = row
        workers[position] = table[row, WORKER]
        snapshots[position] = table[row, SNAPSHOT]
        if position == 0 or snapshots[position] != snapshots[position - 1]:
            totals[STRETCHES] += 1
        count = outcomes[position, OUTCOME_RUN_COUNT]
        if count > 0 and outcomes[position, OUTCOME_RUN_FIRST] != offsets[position]:
            totals[OUT_OF_ORDER] += 1
        offsets[position + 1] = offsets[position] + count
        if table[row, LOSSES] > 0:
            totals[LOSERS] += 1
        if outcomes[position, OUTCOME_END] == TRAP:
            totals[TRAPS] += 1


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1])")
def sum_up(table: Ints, outcomes: Ints, runs: Ints, totals: Ints) -> None:
    """Count what winners do: ABORTS, DELETING templates, IDLE ones that publish nothing, and so on.

    CHILDREN_OUT_OF_ORDER counts records whose children do not lie behind those of the records
    before; BYTES are what is stored.
    """
    for position in range(outcomes.shape[0]):
        end = outcomes[position, OUTCOME_END]
        if end in (ABORT, ABORT_DELETE):
            totals[ABORTS] += 1
        asks = end in (COMMIT_DELETE, ABORT_DELETE)
        deletes = asks and table[outcomes[position, OUTCOME_RUNNER], KIND] == INSTANCE
        if deletes:
            totals[DELETING] += 1
        run_count = outcomes[position, OUTCOME_RUN_COUNT]
        first = outcomes[position, OUTCOME_RUN_FIRST]
        for run in range(first, first + run_count):
            totals[BYTES] += runs[run, RUN_LENGTH]
        children = outcomes[position, OUTCOME_CHILD_COUNT]
        if children > 0 and outcomes[position, OUTCOME_CHILD_FIRST] != totals[CHILDREN]:
            totals[CHILDREN_OUT_OF_ORDER] += 1
        totals[CHILDREN] += children
        says = outcomes[position, OUTCOME_CONSOLE_COUNT] > 0
        if not (run_count > 0 or children > 0 or says or deletes):
            totals[IDLE] += 1


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[:, ::1])"
)
def write_tokens(
    outcomes: Ints, records: Ints, positions: Ints, workers: Ints, snapshots: Ints, tokens: Ints
) -> None:
    """Describe the write sets of records at `positions` as tokens.

    `workers` executed them, on `snapshots`; both: one for each position.
    """
    for place in range(positions.size):
        position = positions[place]
        serial = records[position, RECORD_SERIAL]
        tokens[place, TOKEN_WORKER] = workers[place]
        tokens[place, TOKEN_SERIAL] = serial
        tokens[place, TOKEN_STAGED] = snapshots[place] if serial > 0 else 0
        tokens[place, TOKEN_RUN_FIRST] = outcomes[position, OUTCOME_RUN_FIRST]
        tokens[place, TOKEN_RUN_COUNT] = outcomes[position, OUTCOME_RUN_COUNT]


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1])")
def measure(entries: Ints, instructions: Ints, classes: Ints, totals: Ints) -> int:
    """Count attempts by the length of their instruction count, in bits; all of one entry.

    `totals`: the sum, and the longest. Returns 0, with nothing counted, if entries differ.
    """
    for position in range(1, entries.size):
        if entries[position] != entries[0]:
            return 0
    for position in range(instructions.size):
        note_length(instructions[position], classes, totals)
    return 1
