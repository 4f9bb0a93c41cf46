"""Compiled loops over the records of one message, beside the rows of their runners.

`table` is as in `row_loops`; `outcomes` and `records` are the message's own, as words, in which
these columns are known here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel
from dvm_mpi.control.messages import RECORD
from dvm_mpi.control.row_loops import ATTEMPT, LOSSES, RUNNING, SNAPSHOT, STATE
from dvm_mpi.engine.interface import OUTCOME

Ints = NDArray[np.int64]


def _column(names: tuple[str, ...] | None, name: str) -> int:
    assert names is not None
    return names.index(name)


OUTCOME_RUNNER: Final = _column(OUTCOME.names, "runner")
OUTCOME_RUN_FIRST: Final = _column(OUTCOME.names, "run_first")
OUTCOME_RUN_COUNT: Final = _column(OUTCOME.names, "run_count")
RECORD_ATTEMPT: Final = _column(RECORD.names, "attempt")

#: What `gather` tells of all records together.
LOSERS: Final = 0
OUT_OF_ORDER: Final = 1
GATHERED_COUNT: Final = 2


@entry_kernel("int64(int64[:, ::1], int64[:, ::1], int64[:, ::1], boolean[::1])")
def fence(table: Ints, outcomes: Ints, records: Ints, current: NDArray[np.bool_]) -> int:
    """Mark the records that are of their runners' present attempts; return how many are not."""
    missing = 0
    for position in range(outcomes.shape[0]):
        row = outcomes[position, OUTCOME_RUNNER]
        runs = table[row, STATE] == RUNNING
        is_present = table[row, ATTEMPT] == records[position, RECORD_ATTEMPT]
        current[position] = runs and is_present
        if not (runs and is_present):
            missing += 1
    return missing


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def gather(
    table: Ints, outcomes: Ints, rows: Ints, snapshots: Ints, offsets: Ints, totals: Ints
) -> None:
    """Fill in what ordering wants to know of each record, column by column.

    `offsets`: (n + 1,), where the runs of each record begin if they lie back to back. They do in
    the message itself unless `totals[OUT_OF_ORDER]` counts any that do not. `totals[LOSERS]`
    counts records of runners that have lost before.
    """
    offsets[0] = 0
    for position in range(outcomes.shape[0]):
        row = outcomes[position, OUTCOME_RUNNER]
        rows[position] = row
        snapshots[position] = table[row, SNAPSHOT]
        count = outcomes[position, OUTCOME_RUN_COUNT]
        if count > 0 and outcomes[position, OUTCOME_RUN_FIRST] != offsets[position]:
            totals[OUT_OF_ORDER] += 1
        offsets[position + 1] = offsets[position] + count
        if table[row, LOSSES] > 0:
            totals[LOSERS] += 1


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1])")
def measure(entries: Ints, instructions: Ints, classes: Ints, totals: Ints) -> int:
    """Count attempts by the length of their instruction count, in bits; all of one entry.

    `totals`: the sum, and the longest. Returns 0, with nothing counted, if entries differ.
    """
    for position in range(1, entries.size):
        if entries[position] != entries[0]:
            return 0
    for position in range(instructions.size):
        count = instructions[position]
        totals[0] += count
        totals[1] = max(totals[1], count)
        bits = 0
        while count > 0:
            count >>= 1
            bits += 1
        classes[bits] += 1
    return 1
