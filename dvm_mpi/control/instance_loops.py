"""Compiled loops over the instances of watchers: which are queued, are made, and have ended.

`table` is as in `row_loops`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel
from dvm_mpi.control.row_loops import (
    ATTEMPT,
    FREE,
    INSTANCE,
    KIND,
    QUEUED_INSTANCE,
    STATE,
    TEMPLATE,
)

Ints = NDArray[np.int64]

#: The column `instances`.
INSTANCE_COUNT: Final = 18
#: `lifecycle.State.DELETED`.
DELETED: Final = 6
#: Of a template: no instance of it is queued, or one is about to be.
NO_INSTANCE: Final = -1
CHOSEN: Final = -2


@entry_kernel("int64(int64[:, ::1], int64[::1], int64[::1])")
def choose(table: Ints, templates: Ints, chosen: Ints) -> int:
    """Find the templates that have no instance queued, each once, in order of first mention.

    `chosen` has room for all of them. Returns how many there are.
    """
    count = 0
    for position in range(templates.size):
        template = templates[position]
        if table[template, QUEUED_INSTANCE] == NO_INSTANCE:
            table[template, QUEUED_INSTANCE] = CHOSEN
            chosen[count] = template
            count += 1
    for position in range(count):
        table[chosen[position], QUEUED_INSTANCE] = NO_INSTANCE
    return count


@entry_kernel("void(int64[:, ::1], int64[::1], int64[::1])")
def make(table: Ints, templates: Ints, rows: Ints) -> None:
    """Let each row, FREE still, be an instance of a template, which has it queued."""
    for position in range(rows.size):
        row, template = rows[position], templates[position]
        for column in range(table.shape[1]):
            table[row, column] = table[template, column]
        table[row, STATE] = FREE
        table[row, KIND] = INSTANCE
        table[row, TEMPLATE] = template
        table[row, QUEUED_INSTANCE] = NO_INSTANCE
        table[row, INSTANCE_COUNT] = 0
        table[row, ATTEMPT] = 0
        table[template, QUEUED_INSTANCE] = row
        table[template, INSTANCE_COUNT] += 1


@entry_kernel("int64(int64[:, ::1], int64[::1], int64[::1])")
def end(table: Ints, rows: Ints, last: Ints) -> int:
    """Count the instances among rows that have ended, which are FREE now, off their templates.

    Fills `last`, which has room for all, with deleted templates that have none left, and returns
    how many these are.
    """
    count = 0
    for position in range(rows.size):
        row = rows[position]
        if table[row, KIND] != INSTANCE:
            continue
        template = table[row, TEMPLATE]
        table[template, INSTANCE_COUNT] -= 1
        if table[template, INSTANCE_COUNT] == 0 and table[template, STATE] == DELETED:
            last[count] = template
            count += 1
    return count
