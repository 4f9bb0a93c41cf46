"""Compiled loops over sorted ranges in leaves: where one is, to make room, to split and to clear.

The map from bytes to epochs that `last_writers` describes: a sorted list of disjoint ranges, each
with an epoch. The ranges lie in leaves of up to `LEAF_RANGES`; the leaves stand in address order in
a flat index. A lookup is a binary search in the index and one in a leaf; an update moves at most
one leaf, and a split moves the index. At a million ranges that is some 8,000 leaves, so the index
stays in the processor's cache; levels of sorted runs, merged now and then, would search every level
for each query and could not forget what was overwritten until a merge.

The invariant to remember: the leaf at position p holds exactly the ranges within
[key[p], key[p + 1]), none crosses a key, and key[0] is below every address.

- `leaves`: (slot_count, WORDS * LEAF_RANGES) int64; range after range START, END, EPOCH, of which
  `COUNT` ranges count. They lie together: to move some is one move, and who looks at a range has
  all of it.
- `index`: (5, slot_count) int64; by position KEY and SLOT, by slot COUNT and NEWEST (the newest
  epoch of the leaf), and a stack of slots that are FREE.
- `totals`: int64[3]; leaves in use, free slots, ranges.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import kernel

LEAF_RANGES: Final = 192

START: Final = 0
END: Final = 1
EPOCH: Final = 2
WORDS: Final = 3

KEY: Final = 0
SLOT: Final = 1
COUNT: Final = 2
NEWEST: Final = 3
FREE: Final = 4
INDEX_ROWS: Final = 5
#: Rows that go by position: a split moves them.
POSITION_ROWS: Final = 2

LEAF_TOTAL: Final = 0
FREE_TOTAL: Final = 1
RANGE_TOTAL: Final = 2

#: Rows of what `locate` works on: what is looked for, and where it is.
ADDRESS: Final = 0
POSITION: Final = 1
ENTRY: Final = 2
PLACED_SLOT: Final = 3
ENTRY_COUNT: Final = 4
PLACE_ROWS: Final = 5
LOCATED_AT_ONCE: Final = 32
#: Entries of a leaf that are looked at together.
ENTRIES_AT_ONCE: Final = 16

#: The key of the first leaf.
BELOW_ALL: Final = -(2**63)

Ints = NDArray[np.int64]


@kernel
def move(row: Ints, source: int, target: int, count: int) -> None:
    """Move entries within `row`; the two places may overlap."""
    if target < source:
        for k in range(count):
            row[target + k] = row[source + k]
    else:
        for k in range(count - 1, -1, -1):
            row[target + k] = row[source + k]


@kernel
def position_of(index: Ints, leaf_count: int, address: int) -> int:
    """Return the position of the leaf that is responsible for `address`."""
    # The steps are the same for every address, so the processor guesses none of them wrong, and
    # waits for the memory of several searches at a time.
    low = 0
    left = leaf_count
    while left > 1:
        half = left >> 1
        low += half if index[KEY, low + half] <= address else 0
        left -= half
    return low


@kernel
def first_ending_after(leaf: Ints, count: int, address: int) -> int:
    """Return the first entry of a leaf that ends after `address`, or `count`."""
    low = 0
    left = count
    while left > 1:
        half = left >> 1
        low += half if leaf[WORDS * (low + half - 1) + END] <= address else 0
        left -= half
    if left == 1 and leaf[WORDS * low + END] <= address:
        low += 1
    return low


@kernel
def newest_from(
    leaves: Ints, index: Ints, leaf_count: int, position: int, entry: int, end: int
) -> int:
    """Return the newest epoch of the ranges before `end`, from an entry of a leaf on."""
    newest = 0
    while position < leaf_count and index[KEY, position] < end:
        slot = index[SLOT, position]
        leaf = leaves[slot]
        count = index[COUNT, slot]
        while entry < count:
            # Some too many, without a branch for each: their memory comes together.
            behind = min(entry + ENTRIES_AT_ONCE, count)
            for k in range(entry, behind):
                is_before = leaf[WORDS * k + START] < end
                newest = max(newest, leaf[WORDS * k + EPOCH] if is_before else 0)
            entry = behind if leaf[WORDS * (behind - 1) + START] < end else count
        entry = 0
        position += 1
        # Leaves that lie wholly inside the range answer with their newest epoch.
        while position + 1 < leaf_count and index[KEY, position + 1] <= end:
            newest = max(newest, index[NEWEST, index[SLOT, position]])
            position += 1
    return newest


@kernel
def newest_in(leaves: Ints, index: Ints, leaf_count: int, start: int, end: int) -> int:
    """Return the newest epoch of any store into [start, end), 0 if there was none."""
    if start >= end:
        return 0
    position = position_of(index, leaf_count, start)
    slot = index[SLOT, position]
    entry = first_ending_after(leaves[slot], index[COUNT, slot], start)
    return newest_from(leaves, index, leaf_count, position, entry, end)


@kernel
def locate(leaves: Ints, index: Ints, leaf_count: int, places: Ints, count: int) -> None:
    """Fill in position and first entry that ends behind it, for the first `count` ADDRESSes.

    `places`: (PLACE_ROWS, LOCATED_AT_ONCE). All take each step of their searches together, so that
    the processor waits for the memory of all of them at once.
    """
    addresses, positions, entries = places[ADDRESS], places[POSITION], places[ENTRY]
    slots = places[PLACED_SLOT]
    for k in range(count):
        positions[k] = 0
        entries[k] = 0
    left = leaf_count
    while left > 1:
        half = left >> 1
        for k in range(count):
            low = positions[k]
            positions[k] = low + half if index[KEY, low + half] <= addresses[k] else low
        left -= half
    for k in range(count):
        slots[k] = index[SLOT, positions[k]]
        places[ENTRY_COUNT, k] = index[COUNT, slots[k]]
    left = LEAF_RANGES
    while left > 0:
        half = (left + 1) >> 1
        for k in range(count):
            # What lies behind the last entry is nothing, but may be looked at.
            last = entries[k] + half - 1
            near = min(last, LEAF_RANGES - 1)
            ends_before = leaves[slots[k], WORDS * near + END] <= addresses[k]
            is_entry = last < places[ENTRY_COUNT, k]
            entries[k] += half if ends_before and is_entry else 0
        left -= half


@kernel
def split(leaves: Ints, index: Ints, totals: Ints, position: int) -> None:
    """Move the upper half of a leaf into a new one behind it."""
    leaf_count = totals[LEAF_TOTAL]
    assert totals[FREE_TOTAL] > 0, "no slot was reserved"
    totals[FREE_TOTAL] -= 1
    slot = index[FREE, totals[FREE_TOTAL]]
    for row in range(POSITION_ROWS):
        move(index[row], position + 1, position + 2, leaf_count - position - 1)
    split_slot = index[SLOT, position]
    lower = leaves[split_slot]
    upper = leaves[slot]
    count = index[COUNT, split_slot]
    kept = count >> 1
    newest_lower = 0
    newest_upper = 0
    for entry in range(kept):
        newest_lower = max(newest_lower, lower[WORDS * entry + EPOCH])
    for entry in range(kept, count):
        for word in range(WORDS):
            upper[WORDS * (entry - kept) + word] = lower[WORDS * entry + word]
        newest_upper = max(newest_upper, lower[WORDS * entry + EPOCH])
    index[COUNT, split_slot] = kept
    index[NEWEST, split_slot] = newest_lower
    index[KEY, position + 1] = upper[START]
    index[SLOT, position + 1] = slot
    index[COUNT, slot] = count - kept
    index[NEWEST, slot] = newest_upper
    totals[LEAF_TOTAL] = leaf_count + 1


@kernel
def clear_leaves_below(leaves: Ints, index: Ints, totals: Ints, first: int, end: int) -> None:
    """Remove every byte below `end` from the leaves at position `first` and behind it."""
    leaf_count = totals[LEAF_TOTAL]
    position = first
    while position + 1 < leaf_count and index[KEY, position + 1] <= end:
        totals[RANGE_TOTAL] -= index[COUNT, index[SLOT, position]]
        index[FREE, totals[FREE_TOTAL]] = index[SLOT, position]
        totals[FREE_TOTAL] += 1
        position += 1
    slot = index[SLOT, position]
    leaf = leaves[slot]
    count = index[COUNT, slot]
    gone = first_ending_after(leaf, count, end)
    move(leaf, WORDS * gone, 0, WORDS * (count - gone))
    count -= gone
    if count > 0 and leaf[START] < end:
        leaf[START] = end
    newest = 0
    for entry in range(count):
        newest = max(newest, leaf[WORDS * entry + EPOCH])
    index[KEY, position] = end
    index[COUNT, slot] = count
    index[NEWEST, slot] = newest
    totals[RANGE_TOTAL] -= gone
    for row in range(POSITION_ROWS):
        move(index[row], position, first, leaf_count - position)
    totals[LEAF_TOTAL] = leaf_count - (position - first)


@kernel
def fill_in(leaf: Ints, entry: int, start: int, end: int, epoch: int) -> None:
    """Let an entry be this range."""
    leaf[WORDS * entry + START] = start
    leaf[WORDS * entry + END] = end
    leaf[WORDS * entry + EPOCH] = epoch


@kernel
def joins_before(leaf: Ints, entry: int, start: int, epoch: int) -> bool:
    """Tell whether the range before an entry was stored at `epoch` and ends at `start`."""
    if entry == 0:
        return False
    at = WORDS * (entry - 1)
    return bool(leaf[at + END] == start and leaf[at + EPOCH] == epoch)


@kernel
def joins_behind(leaf: Ints, count: int, entry: int, end: int, epoch: int) -> bool:
    """Tell whether an entry, if there is one, was stored at `epoch` and begins at `end`."""
    if entry >= count:
        return False
    at = WORDS * entry
    return bool(leaf[at + START] == end and leaf[at + EPOCH] == epoch)


@kernel
def cut_leaf(leaf: Ints, count: int, address: int) -> int:
    """Cut the range that has `address` inside, if there is one; return the new count."""
    entry = first_ending_after(leaf, count, address)
    at = WORDS * entry
    if entry == count or leaf[at + START] >= address:
        return count
    move(leaf, at, at + WORDS, WORDS * (count - entry))
    leaf[at + END] = address
    leaf[at + WORDS + START] = address
    return count + 1
