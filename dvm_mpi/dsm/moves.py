"""Which blocks of pages have moved home, since which epoch, and where they were before.

A hash table of rows, so that compiled loops ask it as well. While it is empty asking costs one
comparison. A block that moves again overwrites its row: whoever moves it makes sure that nobody
asks for an epoch before its last move any more.

Source: docs/design/0021-migration.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.hashing import FULL_DENOMINATOR, FULL_NUMERATOR, home_slot
from dvm_mpi.dsm.kernels import entry_kernel, kernel

Ints = NDArray[np.int64]

#: Columns: the block, the epoch from which it has its home, that home, the one before, and how
#: often it has moved.
BLOCK: Final = 0
SINCE: Final = 1
HOME: Final = 2
BEFORE: Final = 3
TIMES: Final = 4
COLUMNS: Final = 5
#: No block has this number.
NO_BLOCK: Final = -1
#: Later than every epoch: as things are from now on.
NEWEST: Final = 2**62
_SLOTS_AT_START: Final = 64


@kernel
def slot_of(table: Ints, block: int) -> int:
    """Return the row of a block, or the empty one where it belongs. The table is not empty."""
    mask = table.shape[0] - 1
    slot = home_slot(block, mask)
    while table[slot, BLOCK] not in (block, NO_BLOCK):
        slot = (slot + 1) & mask
    return slot


@kernel
def home_at(table: Ints, block: int, epoch: int, home_count: int) -> int:
    """Return the home of a block as of an epoch: blocks go round the homes unless they moved."""
    if table.shape[0] > 0:
        slot = slot_of(table, block)
        if table[slot, BLOCK] == block:
            home: int = table[slot, HOME if epoch >= table[slot, SINCE] else BEFORE]
            return home
    return block % home_count


@entry_kernel("void(int64[:, ::1], int64[::1], int64[::1], int64, int64[::1])")
def home_each(table: Ints, blocks: Ints, epochs: Ints, home_count: int, homes: Ints) -> None:
    """Fill `homes` with those of `blocks`, each as of its epoch; one epoch stands for all."""
    step = 1 if epochs.size == blocks.size else 0
    for row in range(blocks.size):
        homes[row] = home_at(table, blocks[row], epochs[row * step], home_count)


@entry_kernel("void(int64[:, ::1], int64[::1], int64, int64[::1])")
def end_each(table: Ints, blocks: Ints, home: int, ends: Ints) -> None:
    """Fill `ends` with the last epoch in which a home has each block; NEWEST if it has it now."""
    for row in range(blocks.size):
        slot = slot_of(table, blocks[row])
        is_gone = table[slot, BLOCK] == blocks[row] and table[slot, HOME] != home
        ends[row] = table[slot, SINCE] - 1 if is_gone else NEWEST


@entry_kernel("void(int64[:, ::1], int64[::1], int64[:, ::1])")
def rows_each(table: Ints, blocks: Ints, rows: Ints) -> None:
    """Copy the rows of those `blocks` that have one."""
    for row in range(blocks.size):
        slot = slot_of(table, blocks[row])
        if table[slot, BLOCK] == blocks[row]:
            for column in range(COLUMNS):
                rows[row, column] = table[slot, column]


@entry_kernel("int64(int64[:, ::1], int64, int64[::1], int64[::1], int64)")
def move_each(table: Ints, epoch: int, blocks: Ints, homes: Ints, home_count: int) -> int:
    """Note moves; return how many blocks are new in the table. What it holds already stays."""
    new = 0
    for row in range(blocks.size):
        slot = slot_of(table, blocks[row])
        if table[slot, BLOCK] == NO_BLOCK:
            new += 1
            table[slot, BLOCK] = blocks[row]
            table[slot, HOME] = blocks[row] % home_count
            table[slot, TIMES] = 0
        elif table[slot, SINCE] >= epoch:
            continue
        table[slot, BEFORE] = table[slot, HOME]
        table[slot, HOME] = homes[row]
        table[slot, SINCE] = epoch
        table[slot, TIMES] += 1
    return new


@entry_kernel("void(int64[:, ::1], int64[:, ::1])")
def enter_each(table: Ints, rows: Ints) -> None:
    """Enter rows of another table."""
    for row in range(rows.shape[0]):
        slot = slot_of(table, rows[row, BLOCK])
        for column in range(COLUMNS):
            table[slot, column] = rows[row, column]


class Moves:
    """The blocks that have moved."""

    #: (slots, COLUMNS), for compiled loops, which only read it; no rows while nothing has moved.
    table: Ints

    def __init__(self) -> None:
        self.table = np.empty((0, COLUMNS), np.int64)
        #: The epoch of the last moves, 0 if there were none.
        self.newest = 0
        self._count = 0

    def __len__(self) -> int:
        """Return how many blocks have moved, those that are back where they were among them."""
        return self._count

    def note(self, epoch: int, blocks: Ints, homes: Ints, home_count: int) -> None:
        """Note that blocks (each once) have these homes from `epoch` on; to be told twice is fine.

        Nobody may ask for an epoch before the last move of any of them.
        """
        if blocks.size == 0:
            return
        self._reserve(self._count + blocks.size)
        blocks, homes = (np.ascontiguousarray(part, np.int64) for part in (blocks, homes))
        self._count += move_each(self.table, epoch, blocks, homes, home_count)
        self.newest = max(self.newest, epoch)

    def rows(self) -> Ints:
        """Return a copy of all rows, by block: (n, COLUMNS)."""
        rows = self.table[self.table[:, BLOCK] != NO_BLOCK]
        return np.asarray(rows[np.argsort(rows[:, BLOCK])])

    def of(self, blocks: Ints) -> Ints:
        """Return the rows of blocks; zeros for those that never moved: (n, COLUMNS)."""
        found = np.zeros((blocks.size, COLUMNS), np.int64)
        if self._count:
            rows_each(self.table, np.ascontiguousarray(blocks, np.int64), found)
        return found

    def ends(self, blocks: Ints, home: int) -> Ints:
        """Return the last epoch in which a home has each block, NEWEST if it has it now."""
        ends = np.full(blocks.size, NEWEST)
        if self._count:
            end_each(self.table, np.ascontiguousarray(blocks, np.int64), home, ends)
        return ends

    def _reserve(self, count: int) -> None:
        slots = max(len(self.table), _SLOTS_AT_START)
        while count * FULL_DENOMINATOR > slots * FULL_NUMERATOR:
            slots *= 2
        if slots == len(self.table):
            return
        rows = self.rows()
        self.table = np.full((slots, COLUMNS), NO_BLOCK, np.int64)
        enter_each(self.table, np.ascontiguousarray(rows))
