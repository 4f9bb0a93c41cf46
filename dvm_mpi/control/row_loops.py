"""Compiled loops over rows of the runner table: events that move them, and what they give back.

`table` is `lifecycle.RunnerTable.words`: (capacity, fields) int64, of which these columns are known
here; `lifecycle` asserts that they are where it has them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel
from dvm_mpi.engine.interface import ATTEMPT as ATTEMPT_ROW

Ints = NDArray[np.int64]

STATE: Final = 0
KIND: Final = 1
ID: Final = 2
ENTRY: Final = 3
NEWR_PC: Final = 4
STACK_BASE: Final = 5
STACK_BYTES: Final = 6
STACK_AUTOMATIC: Final = 7
GRANT_FIRST: Final = 8
GRANT_COUNT: Final = 9
WATCHED_FIRST: Final = 10
WATCHED_COUNT: Final = 11
IMAGE_FIRST: Final = 12
IMAGE_COUNT: Final = 13
IMAGE_DATA_FIRST: Final = 14
IMAGE_DATA_COUNT: Final = 15
TEMPLATE: Final = 16
QUEUED_INSTANCE: Final = 17
ATTEMPT: Final = 19
SNAPSHOT: Final = 20
WORKER: Final = 21
LARGEST_RANGE: Final = 22
LOSSES: Final = 23
#: The same, for whoever has to check them.
COLUMNS: Final = {
    "state": STATE,
    "kind": KIND,
    "id": ID,
    "entry": ENTRY,
    "newr_pc": NEWR_PC,
    "stack_base": STACK_BASE,
    "stack_bytes": STACK_BYTES,
    "stack_automatic": STACK_AUTOMATIC,
    "grant_first": GRANT_FIRST,
    "grant_count": GRANT_COUNT,
    "watched_first": WATCHED_FIRST,
    "watched_count": WATCHED_COUNT,
    "image_first": IMAGE_FIRST,
    "image_count": IMAGE_COUNT,
    "image_data_first": IMAGE_DATA_FIRST,
    "image_data_count": IMAGE_DATA_COUNT,
    "template": TEMPLATE,
    "queued_instance": QUEUED_INSTANCE,
    "attempt": ATTEMPT,
    "snapshot": SNAPSHOT,
    "worker": WORKER,
    "largest_range": LARGEST_RANGE,
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

#: What `send` counts.
SENT_GRANTS: Final = 0
SENT_IMAGES: Final = 1
SENT_LOSERS: Final = 2
SENT_INSTANCES: Final = 3
SENT_COUNT: Final = 4


def _column(names: tuple[str, ...] | None, name: str) -> int:
    assert names is not None
    return names.index(name)


ATTEMPT_RUNNER: Final = _column(ATTEMPT_ROW.names, "runner")
ATTEMPT_ID: Final = _column(ATTEMPT_ROW.names, "id")
ATTEMPT_ENTRY: Final = _column(ATTEMPT_ROW.names, "entry")
ATTEMPT_SNAPSHOT: Final = _column(ATTEMPT_ROW.names, "snapshot")
ATTEMPT_STACK_BASE: Final = _column(ATTEMPT_ROW.names, "stack_base")
ATTEMPT_STACK_BYTES: Final = _column(ATTEMPT_ROW.names, "stack_bytes")
ATTEMPT_STACK_AUTOMATIC: Final = _column(ATTEMPT_ROW.names, "stack_automatic")
ATTEMPT_GRANT_FIRST: Final = _column(ATTEMPT_ROW.names, "grant_first")
ATTEMPT_GRANT_COUNT: Final = _column(ATTEMPT_ROW.names, "grant_count")
ATTEMPT_IMAGE_FIRST: Final = _column(ATTEMPT_ROW.names, "image_first")
ATTEMPT_IMAGE_COUNT: Final = _column(ATTEMPT_ROW.names, "image_count")


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


@entry_kernel(
    "void(int64[:, ::1], int64[::1], int64[::1], int64[::1], int64, int64, int64[:, ::1], "
    "int64[:, ::1])"
)
def send(
    table: Ints,
    rows: Ints,
    workers: Ints,
    counts: Ints,
    number: int,
    snapshot: int,
    attempts: Ints,
    totals: Ints,
) -> None:
    """Let rows run as the attempts from `number` on, batch after batch, and describe these.

    Batch b has the next `counts[b]` rows and goes to `workers[b]`; `totals[b]` takes its counts.
    `attempts`: words of `interface.ATTEMPT`, whose images are none yet, and whose grants are
    counted within their batch.
    """
    position = 0
    for batch in range(counts.size):
        for _ in range(counts[batch]):
            row = rows[position]
            table[row, ATTEMPT] = number + position
            table[row, SNAPSHOT] = snapshot
            table[row, WORKER] = workers[batch]
            attempts[position, ATTEMPT_RUNNER] = row
            attempts[position, ATTEMPT_ID] = table[row, ID]
            attempts[position, ATTEMPT_ENTRY] = table[row, ENTRY]
            attempts[position, ATTEMPT_SNAPSHOT] = snapshot
            attempts[position, ATTEMPT_STACK_BASE] = table[row, STACK_BASE]
            attempts[position, ATTEMPT_STACK_BYTES] = table[row, STACK_BYTES]
            attempts[position, ATTEMPT_STACK_AUTOMATIC] = table[row, STACK_AUTOMATIC]
            attempts[position, ATTEMPT_GRANT_FIRST] = totals[batch, SENT_GRANTS]
            attempts[position, ATTEMPT_GRANT_COUNT] = table[row, GRANT_COUNT]
            attempts[position, ATTEMPT_IMAGE_FIRST] = 0
            attempts[position, ATTEMPT_IMAGE_COUNT] = 0
            totals[batch, SENT_GRANTS] += table[row, GRANT_COUNT]
            totals[batch, SENT_IMAGES] += table[row, IMAGE_COUNT]
            if table[row, LOSSES] > 0:
                totals[batch, SENT_LOSERS] += 1
            if table[row, KIND] == INSTANCE:
                totals[batch, SENT_INSTANCES] += 1
            position += 1


@entry_kernel("int64(int64[::1], int64[::1], int64, int64, int64[::1], int64[::1], int64[::1])")
def cut(
    needed: Ints,
    counts: Ints,
    fuel: int,
    most: int,
    portions: Ints,
    sizes: Ints,
    fuels: Ints,
) -> int:
    """Cut portions of rows into batches, in order, and return how many these are.

    Portion p has the next `counts[p]` rows; `needed` says what each row takes. A batch is of one
    portion, of `most` rows at most, and takes `fuel` at most or is a single row. Of each is told
    its portion, how many rows it has and what they take; there is room for as many as rows.
    """
    batch = -1
    row = 0
    for portion in range(counts.size):
        has_room = False
        for _ in range(counts[portion]):
            if has_room:
                has_room = sizes[batch] < most and fuels[batch] + needed[row] <= fuel
            if not has_room:
                batch += 1
                portions[batch] = portion
                sizes[batch] = 0
                fuels[batch] = 0
                has_room = True
            sizes[batch] += 1
            fuels[batch] += needed[row]
            row += 1
    return batch + 1


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def deal_fullest(begins: Ints, ends: Ints, missing: Ints, positions: Ints, places: Ints) -> int:
    """Give who misses some, in turn, of the group that most are left of; return how many in all.

    Group g lies at the places [`begins[g]`, `ends[g]`); `begins` moves on. Of each that is given it
    is told whose it is, as a position in `missing`, and its place; there is room for all.
    """
    given = 0
    for position in range(missing.size):
        wanted = missing[position]
        while wanted > 0:
            fullest = 0
            most = 0
            for group in range(begins.size):
                if ends[group] - begins[group] > most:
                    fullest = group
                    most = ends[group] - begins[group]
            if most == 0:
                return given
            for _ in range(min(most, wanted)):
                positions[given] = position
                places[given] = begins[fullest]
                begins[fullest] += 1
                given += 1
                wanted -= 1
    return given


@entry_kernel("void(int64[:, ::1], int64[::1], int64[:, ::1], int64[:, ::1])")
def copy_grants(table: Ints, rows: Ints, arena: Ints, grants: Ints) -> None:
    """Copy start and length of what rows declare from the arena, one behind the other."""
    place = 0
    for position in range(rows.size):
        first = table[rows[position], GRANT_FIRST]
        for grant in range(first, first + table[rows[position], GRANT_COUNT]):
            grants[place, 0] = arena[grant, 0]
            grants[place, 1] = arena[grant, 1]
            place += 1


@entry_kernel("int64(int64[::1], int64, int64, int64[:, ::1])")
def stretches(values: Ints, first: int, size: int, found: Ints) -> int:
    """Find stretches of values that lie in the same block of `size`, counted from `first` on.

    Fills the rows of `found` with the numbers of blocks and how many values there are of each, as
    far as there is room, and returns how many stretches there are.
    """
    count = 0
    number = 0
    for position in range(values.size):
        block = (values[position] - first) // size
        if position == 0 or block != number:
            number = block
            if count < found.shape[1]:
                found[0, count] = block
                found[1, count] = 0
            count += 1
        if count <= found.shape[1]:
            found[1, count - 1] += 1
    return count


@entry_kernel("void(int64[:, ::1], int64, int64, int64[:, ::1], int64[:, ::1])")
def compact(table: Ints, first_column: int, count_column: int, arena: Ints, kept: Ints) -> None:
    """Copy the arena's rows that rows of the table own, in their order, back to back into `kept`.

    Instances borrow those of their templates. `kept` has room for exactly what is owned.
    """
    end = 0
    for row in range(table.shape[0]):
        if table[row, STATE] == FREE or table[row, KIND] == INSTANCE:
            continue
        first = table[row, first_column]
        table[row, first_column] = end
        for place in range(first, first + table[row, count_column]):
            for word in range(arena.shape[1]):
                kept[end, word] = arena[place, word]
            end += 1
    for row in range(table.shape[0]):
        if table[row, STATE] != FREE and table[row, KIND] == INSTANCE:
            table[row, first_column] = table[table[row, TEMPLATE], first_column]
