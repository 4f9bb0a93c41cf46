"""Compiled loops over rows of the runner table: events that move them, and what they give back.

`table` is `lifecycle.RunnerTable.words`: (capacity, fields) int64, of which these columns are known
here; `lifecycle` asserts that they are where it has them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel

Ints = NDArray[np.int64]

STATE: Final = 0
KIND: Final = 1
STACK_BASE: Final = 5
STACK_AUTOMATIC: Final = 7
GRANT_COUNT: Final = 9
WATCHED_COUNT: Final = 11
IMAGE_COUNT: Final = 13
IMAGE_DATA_COUNT: Final = 15
ATTEMPT: Final = 19
SNAPSHOT: Final = 20
WORKER: Final = 21
LOSSES: Final = 23
#: The same, for whoever has to check them.
COLUMNS: Final = {
    "state": STATE,
    "kind": KIND,
    "stack_base": STACK_BASE,
    "stack_automatic": STACK_AUTOMATIC,
    "grant_count": GRANT_COUNT,
    "watched_count": WATCHED_COUNT,
    "image_count": IMAGE_COUNT,
    "image_data_count": IMAGE_DATA_COUNT,
    "attempt": ATTEMPT,
    "snapshot": SNAPSHOT,
    "worker": WORKER,
    "losses": LOSSES,
}
#: `lifecycle.State.FREE`, `lifecycle.State.RUNNING` and `lifecycle.Kind.INSTANCE`.
FREE: Final = 0
RUNNING: Final = 2
INSTANCE: Final = 2

#: What `owned` counts.
GRANTS: Final = 0
WATCHED: Final = 1
IMAGES: Final = 2
IMAGE_DATA: Final = 3
STACKS: Final = 4
LOSERS: Final = 5
INSTANCES: Final = 6
OWNED_COUNT: Final = 7


@entry_kernel("int64(int64[:, ::1], int64[::1], int64[::1], int64[::1], int64)")
def move(table: Ints, rows: Ints, following: Ints, free: Ints, free_count: int) -> int:
    """Move rows by an event: `following` has the next state for each state, -1 where there is none.

    Rows that become FREE go on the stack `free`, the last of them first. Returns how many are on it
    then; or -1 - p for the first position p whose row has no such event, and nothing has changed.
    """
    for position in range(rows.size):
        if following[table[rows[position], STATE]] < 0:
            return -1 - position
    for position in range(rows.size - 1, -1, -1):
        row = rows[position]
        state = following[table[row, STATE]]
        table[row, STATE] = state
        if state == FREE:
            free[free_count] = row
            free_count += 1
    return free_count


@entry_kernel("void(int64[:, ::1], int64[::1], int64[::1], int64[::1])")
def owned(table: Ints, rows: Ints, stacks: Ints, totals: Ints) -> None:
    """Sum what rows own that are no instances, and count losers and instances among all of them.

    `stacks`: room for one of each row; the first `totals[STACKS]` are automatic stacks' bases.
    """
    for position in range(rows.size):
        row = rows[position]
        if table[row, LOSSES] > 0:
            totals[LOSERS] += 1
        if table[row, KIND] == INSTANCE:
            totals[INSTANCES] += 1
            continue
        totals[GRANTS] += table[row, GRANT_COUNT]
        totals[WATCHED] += table[row, WATCHED_COUNT]
        totals[IMAGES] += table[row, IMAGE_COUNT]
        totals[IMAGE_DATA] += table[row, IMAGE_DATA_COUNT]
        if table[row, STACK_AUTOMATIC] == 1:
            stacks[totals[STACKS]] = table[row, STACK_BASE]
            totals[STACKS] += 1
