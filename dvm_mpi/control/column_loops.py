"""Compiled loops that lay tables out in columns, and back: the form that `columns` describes.

Tables come as (row_count, column_count) int64. What becomes of a column is in a *plan*, rows of
(4, column_count) int64: base, stride, width, and the place of its content.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.kernels import entry_kernel, kernel

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

BASE: Final = 0
STRIDE: Final = 1
WIDTH: Final = 2
#: Where the content of a column begins: counted in elements of its width, from the form's start.
PLACE: Final = 3
PLAN_ROWS: Final = 4
#: Of a column that counts regularly, which has no content.
REGULAR: Final = 0
#: The widths of others, in bytes.
BYTE: Final = 1
HALF: Final = 2
SINGLE: Final = 4
WORD_BYTES: Final = 8
#: Row and column count.
HEADER_WORDS: Final = 2
#: The largest distances that fit into so many bytes.
REACH_OF_BYTE: Final = 0xFF
REACH_OF_HALF: Final = 0xFFFF
REACH_OF_SINGLE: Final = 0xFFFF_FFFF
#: Rows that are gone through column by column while the processor has them at hand.
ROWS_AT_ONCE: Final = 32

#: What `place` says of content that cannot be as it is.
CUT_OFF: Final = -1
UNKNOWN: Final = -2


@kernel
def words_for(byte_count: int) -> int:
    """Return how many words hold so many bytes."""
    return (byte_count + WORD_BYTES - 1) // WORD_BYTES


@kernel
def first_of(column_count: int) -> int:
    """Return the word at which content begins, behind widths, bases and strides."""
    return HEADER_WORDS + words_for(column_count) + 2 * column_count


@kernel
def width_of(reach: int) -> int:
    """Return how many bytes hold distances up to `reach`, which has wrapped where negative."""
    if 0 <= reach <= REACH_OF_BYTE:
        return BYTE
    if 0 <= reach <= REACH_OF_HALF:
        return HALF
    if 0 <= reach <= REACH_OF_SINGLE:
        return SINGLE
    return WORD_BYTES


@kernel
def place(plan: Ints, row_count: int, first: int, end: int) -> int:
    """Say where the content of each column begins, behind word `first`, and where all of it ends.

    In words; CUT_OFF if that is behind `end`, UNKNOWN if a width is none.
    """
    column_count = plan.shape[1]
    placed = 0
    for shift in range(4):
        width = 1 << shift
        element = first * WORD_BYTES >> shift
        for column in range(column_count):
            if plan[WIDTH, column] == width:
                plan[PLACE, column] = element
                element += row_count
                placed += 1
        first = ((element << shift) + WORD_BYTES - 1) // WORD_BYTES
        if first > end:
            return CUT_OFF
    for column in range(column_count):
        placed += plan[WIDTH, column] == REGULAR
    return first if placed == column_count else UNKNOWN


@entry_kernel("int64(int64[:, ::1], int64[:, ::1])")
def lay_out(table: Ints, plan: Ints) -> int:
    """Find base, stride and width of each column of a table of two rows or more, and its place.

    Returns where the content ends, in words, or CUT_OFF if nothing is saved: the form
    is no shorter than the table, or all columns need content and one of them whole words.
    """
    row_count, column_count = table.shape
    bases, strides = plan[BASE], plan[STRIDE]
    # Meanwhile WIDTH collects what differs from the stride, and PLACE the largest value.
    changes, highs = plan[WIDTH], plan[PLACE]
    for column in range(column_count):
        bases[column] = highs[column] = table[0, column]
        strides[column] = table[1, column] - table[0, column]
        changes[column] = 0
    for row in range(1, row_count):
        before, here = table[row - 1], table[row]
        for column in range(column_count):
            changes[column] |= (here[column] - before[column]) ^ strides[column]
            bases[column] = min(bases[column], here[column])
            highs[column] = max(highs[column], here[column])
    irregular = 0
    narrowest = WORD_BYTES + 1
    for column in range(column_count):
        if changes[column] == 0:
            bases[column] = table[0, column]
            plan[WIDTH, column] = REGULAR
        else:
            strides[column] = 0
            plan[WIDTH, column] = width_of(highs[column] - bases[column])
            narrowest = min(narrowest, plan[WIDTH, column])
            irregular += 1
    if irregular == column_count and narrowest == WORD_BYTES:
        return CUT_OFF
    return place(plan, row_count, first_of(column_count), table.size - 1)


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64[::1], uint8[::1])")
def write(table: Ints, plan: Ints, words: Ints, content: Bytes) -> None:
    """Write the form of a table, all zeros before; `words` and `content` are one memory."""
    row_count, column_count = table.shape
    words[0], words[1] = row_count, column_count
    heads = HEADER_WORDS + words_for(column_count)
    for column in range(column_count):
        content[HEADER_WORDS * WORD_BYTES + column] = plan[WIDTH, column]
        words[heads + column] = plan[BASE, column]
        words[heads + column_count + column] = plan[STRIDE, column]
    for begin in range(0, row_count, ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, row_count)
        for column in range(column_count):
            base, at = plan[BASE, column], plan[PLACE, column]
            width = plan[WIDTH, column]
            if width == BYTE:
                for row in range(begin, end):
                    content[at + row] = (table[row, column] - base) & 0xFF
            elif width == HALF:
                for row in range(begin, end):
                    distance = table[row, column] - base
                    content[2 * (at + row)] = distance & 0xFF
                    content[2 * (at + row) + 1] = distance >> 8 & 0xFF
            elif width == SINGLE:
                for row in range(begin, end):
                    distance = table[row, column] - base
                    content[4 * (at + row)] = distance & 0xFF
                    content[4 * (at + row) + 1] = distance >> 8 & 0xFF
                    content[4 * (at + row) + 2] = distance >> 16 & 0xFF
                    content[4 * (at + row) + 3] = distance >> 24 & 0xFF
            elif width == WORD_BYTES:
                for row in range(begin, end):
                    words[at + row] = table[row, column] - base


@kernel
def fill(table: Ints, plan: Ints, words: Ints, content: Bytes) -> None:
    """Fill in all columns of a table whose content is where the plan says."""
    row_count, column_count = table.shape
    for begin in range(0, row_count, ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, row_count)
        for column in range(column_count):
            base, stride = plan[BASE, column], plan[STRIDE, column]
            at = plan[PLACE, column]
            width = plan[WIDTH, column]
            if width == REGULAR:
                for row in range(begin, end):
                    table[row, column] = base + row * stride
            elif width == BYTE:
                for row in range(begin, end):
                    table[row, column] = base + row * stride + np.int64(content[at + row])
            elif width == HALF:
                for row in range(begin, end):
                    element = at + row
                    distance = words[element >> 2] >> 16 * (element & 3) & REACH_OF_HALF
                    table[row, column] = base + row * stride + distance
            elif width == SINGLE:
                for row in range(begin, end):
                    element = at + row
                    distance = words[element >> 1] >> 32 * (element & 1) & REACH_OF_SINGLE
                    table[row, column] = base + row * stride + distance
            else:
                for row in range(begin, end):
                    table[row, column] = base + row * stride + words[at + row]


@entry_kernel("int64(int64[:, ::1], int64[:, ::1], int64[::1], uint8[::1])")
def read(table: Ints, plan: Ints, words: Ints, content: Bytes) -> int:
    """Undo `write`; the plan is filled in, and the table if its form ends with the words.

    Returns where it ends, CUT_OFF or UNKNOWN if it cannot be so.
    """
    row_count, column_count = table.shape
    first = first_of(column_count)
    if first > words.size:
        return CUT_OFF
    heads = first - 2 * column_count
    for column in range(column_count):
        plan[WIDTH, column] = np.int64(content[HEADER_WORDS * WORD_BYTES + column])
        plan[BASE, column] = words[heads + column]
        plan[STRIDE, column] = words[heads + column_count + column]
    behind = place(plan, row_count, first, words.size)
    if behind != words.size:
        return behind
    fill(table, plan, words, content)
    return behind
