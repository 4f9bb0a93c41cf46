"""Compiled loops that give children their rows: what they are, may touch and watch.

`children` and `child_ranges` are words of `interface.CHILD` and `layout.RANGE`; the arenas hold
words of RANGE as well.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel, kernel
from dvm_mpi.control.row_loops import (
    ENTRY,
    GRANT_COUNT,
    GRANT_FIRST,
    ID,
    KIND,
    LARGEST_RANGE,
    NEWR_PC,
    QUEUED_INSTANCE,
    STACK_AUTOMATIC,
    STACK_BASE,
    STACK_BYTES,
    TEMPLATE,
    WATCHED_COUNT,
    WATCHED_FIRST,
)
from dvm_mpi.engine.interface import CHILD

Ints = NDArray[np.int64]


def _column(names: tuple[str, ...] | None, name: str) -> int:
    assert names is not None
    return names.index(name)


CHILD_ID: Final = _column(CHILD.names, "id")
CHILD_ENTRY: Final = _column(CHILD.names, "entry")
CHILD_STACK_BASE: Final = _column(CHILD.names, "stack_base")
CHILD_STACK_BYTES: Final = _column(CHILD.names, "stack_bytes")
CHILD_STACK_AUTOMATIC: Final = _column(CHILD.names, "stack_automatic")
CHILD_HEAP_FIRST: Final = _column(CHILD.names, "heap_first")
CHILD_HEAP_COUNT: Final = _column(CHILD.names, "heap_count")
CHILD_WATCHED_FIRST: Final = _column(CHILD.names, "watched_first")
CHILD_WATCHED_COUNT: Final = _column(CHILD.names, "watched_count")
CHILD_TEMPLATE: Final = _column(CHILD.names, "template")
CHILD_IMAGE_COUNT: Final = _column(CHILD.names, "image_count")
CHILD_NEWR_PC: Final = _column(CHILD.names, "newr_pc")
#: Of RANGE.
START: Final = 0
LENGTH: Final = 1
#: `lifecycle.Kind.TEMPLATE`.
IS_TEMPLATE: Final = 1

#: More ranges of one child are sorted elsewhere: here each is put in its place one by one.
RANGES_INSERTED_MAX: Final = 64


#: What `count` tells of all children together.
HEAP_RANGES: Final = 0
WATCHED_RANGES: Final = 1
TEMPLATES: Final = 2
IMAGES: Final = 3
COUNTED: Final = 4


@entry_kernel("void(int64[:, ::1], int64[::1])")
def count(children: Ints, totals: Ints) -> None:
    """Count what children declare and watch, templates, and runs of images; (COUNTED,), zeros."""
    for child in range(children.shape[0]):
        totals[HEAP_RANGES] += children[child, CHILD_HEAP_COUNT]
        totals[WATCHED_RANGES] += children[child, CHILD_WATCHED_COUNT]
        totals[TEMPLATES] += 1 if children[child, CHILD_TEMPLATE] == 1 else 0
        totals[IMAGES] += children[child, CHILD_IMAGE_COUNT]


@kernel
def insert(ranges: Ints, first: int, end: int, start: int, length: int) -> int:
    """Put a range among those of [first, end) that are sorted by start; return the new end."""
    if length <= 0:
        return end
    place = end
    while place > first and ranges[place - 1, START] > start:
        ranges[place, START] = ranges[place - 1, START]
        ranges[place, LENGTH] = ranges[place - 1, LENGTH]
        place -= 1
    ranges[place, START] = start
    ranges[place, LENGTH] = length
    return end + 1


@kernel
def join(ranges: Ints, first: int, end: int) -> int:
    """Join the sorted ranges of [first, end) that touch or overlap; return the new end."""
    if first == end:
        return end
    kept = first
    for place in range(first + 1, end):
        reach = ranges[kept, START] + ranges[kept, LENGTH]
        start = ranges[place, START]
        if start <= reach:
            behind = max(reach, start + ranges[place, LENGTH])
            ranges[kept, LENGTH] = behind - ranges[kept, START]
        else:
            kept += 1
            ranges[kept, START] = start
            ranges[kept, LENGTH] = ranges[place, LENGTH]
    return kept + 1


@entry_kernel(
    "int64(int64[:, ::1], int64[:, ::1], int64[::1], int64[:, ::1], int64[:, ::1], "
    "int64[:, ::1], int64[::1])"
)
def enter(
    children: Ints,
    child_ranges: Ints,
    rows: Ints,
    table: Ints,
    grants: Ints,
    watched: Ints,
    ends: Ints,
) -> int:
    """Fill in the rows of children, zeroed before, and append what they own to two arenas.

    `ends`: where the arenas' used rows end, `grants` and `watched`; moves on. There is room.
    Returns 0 if a child has more than RANGES_INSERTED_MAX ranges: then nothing counts.
    """
    grant_end, watched_end = ends[0], ends[1]
    for child in range(rows.size):
        heap_count = children[child, CHILD_HEAP_COUNT]
        watched_count = children[child, CHILD_WATCHED_COUNT]
        if heap_count + watched_count > RANGES_INSERTED_MAX:
            return 0
        row = rows[child]
        table[row, ID] = children[child, CHILD_ID]
        table[row, KIND] = IS_TEMPLATE if children[child, CHILD_TEMPLATE] == 1 else 0
        table[row, ENTRY] = children[child, CHILD_ENTRY]
        table[row, NEWR_PC] = children[child, CHILD_NEWR_PC]
        table[row, STACK_BASE] = children[child, CHILD_STACK_BASE]
        table[row, STACK_BYTES] = children[child, CHILD_STACK_BYTES]
        table[row, STACK_AUTOMATIC] = children[child, CHILD_STACK_AUTOMATIC]
        table[row, TEMPLATE] = -1
        table[row, QUEUED_INSTANCE] = -1
        first = grant_end
        heap_first = children[child, CHILD_HEAP_FIRST]
        for k in range(heap_first, heap_first + heap_count):
            start, length = child_ranges[k, START], child_ranges[k, LENGTH]
            grant_end = insert(grants, first, grant_end, start, length)
        table[row, WATCHED_FIRST] = watched_end
        table[row, WATCHED_COUNT] = watched_count
        watched_first = children[child, CHILD_WATCHED_FIRST]
        for k in range(watched_first, watched_first + watched_count):
            start, length = child_ranges[k, START], child_ranges[k, LENGTH]
            watched[watched_end, START] = start
            watched[watched_end, LENGTH] = length
            watched_end += 1
            grant_end = insert(grants, first, grant_end, start, length)
        if table[row, STACK_AUTOMATIC] == 0:
            start, length = table[row, STACK_BASE], table[row, STACK_BYTES]
            grant_end = insert(grants, first, grant_end, start, length)
        grant_end = join(grants, first, grant_end)
        table[row, GRANT_FIRST] = first
        table[row, GRANT_COUNT] = grant_end - first
        largest = 0
        for k in range(first, grant_end):
            largest = max(largest, grants[k, LENGTH])
        table[row, LARGEST_RANGE] = largest
    ends[0], ends[1] = grant_end, watched_end
    return 1
