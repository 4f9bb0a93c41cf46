"""Compiled loops over a map from every byte to the epoch of its last store.

The map is a sorted list of disjoint ranges, each with an epoch; a byte in no range was never
stored. The ranges lie in leaves of up to `LEAF_RANGES`; the leaves stand in address order in a
flat index. A lookup is a binary search in the index and one in a leaf; an update moves at most one
leaf, and a split moves the index. At a million ranges that is some 8,000 leaves, so the index stays
in the processor's cache; levels of sorted runs, merged now and then, would search every level for
each query and could not forget what was overwritten until a merge. Here a range that is stored
again replaces its older entries at once, so rewriting the same bytes never grows the map.

The invariant to remember: the leaf at position p holds exactly the ranges within
[key[p], key[p + 1]), none crosses a key, and key[0] is below every address.

These are free functions on the arrays of `conflict.ConflictSet`, which owns them:

- `leaves`: (slot_count, 3, LEAF_RANGES) int64; rows START, END, EPOCH, of which `COUNT` entries
  count.
- `index`: (5, slot_count) int64; by position KEY, SLOT, COUNT, NEWEST (the newest epoch of the
  leaf), and a stack of slots that are FREE.
- `totals`: int64[3]; leaves in use, free slots, ranges.

Beside the map of bytes stands one of pages, a hash table (`hashing`): the epoch of the last store
into each page, of stores that touch two of them at most. Where longer ones may lie, `reach` says:
there the map of bytes is asked. Most questions are about the pages of a few bytes, and a page with
many ranges takes long to go through.

- `pages` and `epochs`: keys and values of the table.
- `reach`: int64[3]; new keys of a call, and the bytes from the first to behind the last that longer
  stores touched.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.hashing import enter, find
from dvm_mpi.dsm.kernels import entry_kernel, kernel
from dvm_mpi.layout import PAGE_SHIFT

LEAF_RANGES: Final = 192

START: Final = 0
END: Final = 1
EPOCH: Final = 2

KEY: Final = 0
SLOT: Final = 1
COUNT: Final = 2
NEWEST: Final = 3
FREE: Final = 4

LEAF_TOTAL: Final = 0
FREE_TOTAL: Final = 1
RANGE_TOTAL: Final = 2

#: Of `reach`.
NEW_PAGES: Final = 0
LONG_START: Final = 1
LONG_END: Final = 2
#: Stores into more pages than this are not entered page by page.
PAGES_ENTERED_MAX: Final = 2

#: Rows of what `locate` works on: what is looked for, and where it is.
ADDRESS: Final = 0
POSITION: Final = 1
ENTRY: Final = 2
PLACED_SLOT: Final = 3
ENTRY_COUNT: Final = 4
TOUCHED: Final = 5
PLACE_ROWS: Final = 6
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
        low += half if leaf[END, low + half - 1] <= address else 0
        left -= half
    if left == 1 and leaf[END, low] <= address:
        low += 1
    return low


@kernel
def newest_from(
    leaves: Ints, index: Ints, leaf_count: int, position: int, entry: int, end: int
) -> int:
    """Return the newest epoch of the ranges before `end`, from an entry of a leaf on."""
    newest = 0
    while position < leaf_count and index[KEY, position] < end:
        leaf = leaves[index[SLOT, position]]
        count = index[COUNT, position]
        while entry < count:
            # Some too many, without a branch for each: their memory comes together.
            behind = min(entry + ENTRIES_AT_ONCE, count)
            for k in range(entry, behind):
                newest = max(newest, leaf[EPOCH, k] if leaf[START, k] < end else 0)
            entry = behind if leaf[START, behind - 1] < end else count
        entry = 0
        position += 1
        # Leaves that lie wholly inside the range answer with their newest epoch.
        while position + 1 < leaf_count and index[KEY, position + 1] <= end:
            newest = max(newest, index[NEWEST, position])
            position += 1
    return newest


@kernel
def newest_in(leaves: Ints, index: Ints, leaf_count: int, start: int, end: int) -> int:
    """Return the newest epoch of any store into [start, end), 0 if there was none."""
    if start >= end:
        return 0
    position = position_of(index, leaf_count, start)
    entry = first_ending_after(leaves[index[SLOT, position]], index[COUNT, position], start)
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
        places[ENTRY_COUNT, k] = index[COUNT, positions[k]]
    left = LEAF_RANGES
    while left > 0:
        half = (left + 1) >> 1
        for k in range(count):
            # What lies behind the last entry is nothing, but may be looked at.
            last = entries[k] + half - 1
            ends_before = leaves[slots[k], END, min(last, LEAF_RANGES - 1)] <= addresses[k]
            is_entry = last < places[ENTRY_COUNT, k]
            entries[k] += half if ends_before and is_entry else 0
        left -= half
    for k in range(count):
        # Nobody wants to know this, but what is asked for next has come then.
        near = min(entries[k], LEAF_RANGES - 1)
        places[TOUCHED, k] = leaves[slots[k], START, near] ^ leaves[slots[k], EPOCH, near]


@kernel
def split(leaves: Ints, index: Ints, totals: Ints, position: int) -> None:
    """Move the upper half of a leaf into a new one behind it."""
    leaf_count = totals[LEAF_TOTAL]
    assert totals[FREE_TOTAL] > 0, "no slot was reserved"
    totals[FREE_TOTAL] -= 1
    slot = index[FREE, totals[FREE_TOTAL]]
    for row in range(FREE):
        move(index[row], position + 1, position + 2, leaf_count - position - 1)
    lower = leaves[index[SLOT, position]]
    upper = leaves[slot]
    count = index[COUNT, position]
    kept = count >> 1
    newest_lower = 0
    newest_upper = 0
    for entry in range(kept):
        newest_lower = max(newest_lower, lower[EPOCH, entry])
    for entry in range(kept, count):
        for row in range(3):
            upper[row, entry - kept] = lower[row, entry]
        newest_upper = max(newest_upper, lower[EPOCH, entry])
    index[COUNT, position] = kept
    index[NEWEST, position] = newest_lower
    index[KEY, position + 1] = upper[START, 0]
    index[SLOT, position + 1] = slot
    index[COUNT, position + 1] = count - kept
    index[NEWEST, position + 1] = newest_upper
    totals[LEAF_TOTAL] = leaf_count + 1


@kernel
def clear_leaves_below(leaves: Ints, index: Ints, totals: Ints, first: int, end: int) -> None:
    """Remove every byte below `end` from the leaves at position `first` and behind it."""
    leaf_count = totals[LEAF_TOTAL]
    position = first
    while position + 1 < leaf_count and index[KEY, position + 1] <= end:
        totals[RANGE_TOTAL] -= index[COUNT, position]
        index[FREE, totals[FREE_TOTAL]] = index[SLOT, position]
        totals[FREE_TOTAL] += 1
        position += 1
    leaf = leaves[index[SLOT, position]]
    count = index[COUNT, position]
    gone = first_ending_after(leaf, count, end)
    for row in range(3):
        move(leaf[row], gone, 0, count - gone)
    count -= gone
    if count > 0 and leaf[START, 0] < end:
        leaf[START, 0] = end
    newest = 0
    for entry in range(count):
        newest = max(newest, leaf[EPOCH, entry])
    index[KEY, position] = end
    index[COUNT, position] = count
    index[NEWEST, position] = newest
    totals[RANGE_TOTAL] -= gone
    for row in range(FREE):
        move(index[row], position, first, leaf_count - position)
    totals[LEAF_TOTAL] = leaf_count - (position - first)


@kernel
def cut_leaf(leaf: Ints, count: int, address: int) -> int:
    """Cut the range that has `address` inside, if there is one; return the new count."""
    entry = first_ending_after(leaf, count, address)
    if entry == count or leaf[START, entry] >= address:
        return count
    for row in range(3):
        move(leaf[row], entry, entry + 1, count - entry)
    leaf[END, entry] = address
    leaf[START, entry + 1] = address
    return count + 1


@kernel
def store(leaves: Ints, index: Ints, totals: Ints, start: int, end: int, epoch: int) -> None:
    """Note that [start, end) was stored at `epoch`, which no entry is newer than.

    One slot must be free: the leaf may have to be split.
    """
    position = position_of(index, totals[LEAF_TOTAL], start)
    if index[COUNT, position] > LEAF_RANGES - 2:
        split(leaves, index, totals, position)
        position = position_of(index, totals[LEAF_TOTAL], start)
    if position + 1 < totals[LEAF_TOTAL] and index[KEY, position + 1] < end:
        clear_leaves_below(leaves, index, totals, position + 1, end)
    leaf = leaves[index[SLOT, position]]
    count = cut_leaf(leaf, index[COUNT, position], start)
    count = cut_leaf(leaf, count, end)
    first = first_ending_after(leaf, count, start)
    behind = first
    while behind < count and leaf[START, behind] < end:
        behind += 1
    # Stores of one epoch that touch become one range.
    if first > 0 and leaf[END, first - 1] == start and leaf[EPOCH, first - 1] == epoch:
        first -= 1
        start = leaf[START, first]
    if behind < count and leaf[START, behind] == end and leaf[EPOCH, behind] == epoch:
        end = leaf[END, behind]
        behind += 1
    growth = 1 - (behind - first)
    if growth != 0:
        for row in range(3):
            move(leaf[row], behind, first + 1, count - behind)
    leaf[START, first] = start
    leaf[END, first] = end
    leaf[EPOCH, first] = epoch
    totals[RANGE_TOTAL] += count + growth - index[COUNT, position]
    index[COUNT, position] = count + growth
    index[NEWEST, position] = epoch


@kernel
def find_each(
    leaves: Ints,
    index: Ints,
    leaf_count: int,
    offsets: Ints,
    starts: Ints,
    first: int,
    end: int,
    places: Ints,
) -> None:
    """Locate the first run of each of the records [first, end); 0 for those without one.

    Nothing changes meanwhile, so that searches do not wait for each other.
    """
    for record in range(first, end):
        has_runs = offsets[record + 1] > offsets[record]
        places[ADDRESS, record - first] = starts[offsets[record]] if has_runs else 0
    locate(leaves, index, leaf_count, places, end - first)


@kernel
def renew(
    leaves: Ints,
    index: Ints,
    leaf_count: int,
    position: int,
    entry: int,
    start: int,
    end: int,
    epoch: int,
    since: int,
) -> int:
    """Let a range that is stored again, from byte to byte the same one, be of `epoch`.

    `position` and `entry` say where it was some stores ago, if it was there. Returns -1 if it is
    not there, or if a neighbour of this epoch touches it; then nothing has changed. Otherwise 0, or
    the epoch of its last store where that is after `since`: it stays so then.
    """
    if position >= leaf_count:
        return -1
    leaf = leaves[index[SLOT, position]]
    count = index[COUNT, position]
    if entry >= count or leaf[START, entry] != start or leaf[END, entry] != end:
        return -1
    if leaf[EPOCH, entry] > since:
        return int(leaf[EPOCH, entry])
    if entry > 0 and leaf[END, entry - 1] == start and leaf[EPOCH, entry - 1] == epoch:
        return -1
    behind = entry + 1
    if behind < count and leaf[START, behind] == end and leaf[EPOCH, behind] == epoch:
        return -1
    leaf[EPOCH, entry] = epoch
    index[NEWEST, position] = epoch
    return 0


@kernel
def enter_pages(pages: Ints, epochs: Ints, reach: Ints, start: int, end: int, epoch: int) -> None:
    """Note the store of [start, end) at `epoch`, which is not empty, in the map of pages."""
    first, behind = start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1
    if behind - first > PAGES_ENTERED_MAX:
        reach[LONG_START] = min(reach[LONG_START], start)
        reach[LONG_END] = max(reach[LONG_END], end)
        return
    for page in range(first, behind):
        reach[NEW_PAGES] += enter(pages, epochs, page, epoch)


@kernel
def newest_of_pages(
    leaves: Ints,
    index: Ints,
    totals: Ints,
    pages: Ints,
    epochs: Ints,
    reach: Ints,
    first: int,
    behind: int,
) -> int:
    """Return the newest epoch of any store into the pages [first, behind), 0 if there was none."""
    start, end = first << PAGE_SHIFT, behind << PAGE_SHIFT
    is_long = start < reach[LONG_END] and reach[LONG_START] < end
    if is_long or behind - first > PAGES_ENTERED_MAX:
        return newest_in(leaves, index, totals[LEAF_TOTAL], start, end)
    newest = 0
    for page in range(first, behind):
        slot = find(pages, page)
        newest = max(newest, epochs[slot] if pages[slot] == page else 0)
    return newest


@entry_kernel(
    "int64(int64[:, :, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64, int64[:, ::1])"
)
def shared_pages(
    leaves: Ints,
    index: Ints,
    totals: Ints,
    pages: Ints,
    epochs: Ints,
    reach: Ints,
    snapshots: Ints,
    offsets: Ints,
    starts: Ints,
    lengths: Ints,
    runs_max: int,
    found: Ints,
) -> int:
    """Find pages at the ends of runs that were stored to after the snapshot.

    Of the first `runs_max` runs. Fills the rows of `found` (room for two of each run) with pages'
    numbers and positions of records, the same page of a record once if its runs are in order, and
    returns how many there are.
    """
    count = 0
    run = 0
    for record in range(snapshots.size):
        if run == runs_max:
            break
        latest = -1
        while run < min(offsets[record + 1], runs_max):
            first = starts[run] >> PAGE_SHIFT
            last = (starts[run] + lengths[run] - 1) >> PAGE_SHIFT
            for side in range(2):
                page = first if side == 0 else last
                if page == latest or page < first:
                    continue
                latest = page
                newest = newest_of_pages(
                    leaves, index, totals, pages, epochs, reach, page, page + 1
                )
                if newest > snapshots[record]:
                    found[0, count] = page
                    found[1, count] = record
                    count += 1
            run += 1
    return count


@entry_kernel("void(int64[:, :, ::1], int64[:, ::1], int64[::1], int64[:, ::1], int64[::1])")
def newest_each(leaves: Ints, index: Ints, totals: Ints, ranges: Any, newest: Ints) -> None:
    """Fill `newest` with the newest epoch of each of `ranges` (rows: start, length)."""
    for row in range(ranges.shape[0]):
        start = ranges[row, 0]
        newest[row] = newest_in(leaves, index, totals[LEAF_TOTAL], start, start + ranges[row, 1])


@entry_kernel(
    "void(int64[:, :, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[:, ::1], int64[::1])"
)
def newest_each_of_pages(
    leaves: Ints,
    index: Ints,
    totals: Ints,
    pages: Ints,
    epochs: Ints,
    reach: Ints,
    ranges: Any,
    newest: Ints,
) -> None:
    """Fill `newest` with the newest epoch of the pages of each of `ranges` (start, length)."""
    for row in range(ranges.shape[0]):
        start, length = ranges[row, 0], ranges[row, 1]
        first, behind = start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1
        newest[row] = 0
        if length > 0:
            newest[row] = newest_of_pages(
                leaves, index, totals, pages, epochs, reach, first, behind
            )


@kernel
def newest_of(
    leaves: Ints, index: Ints, leaf_count: int, starts: Ints, lengths: Ints, first: int, end: int
) -> int:
    """Return the newest epoch of any store into the rows [first, end), 0 if there was none."""
    newest = 0
    for row in range(first, end):
        behind = starts[row] + lengths[row]
        newest = max(newest, newest_in(leaves, index, leaf_count, starts[row], behind))
    return newest


@entry_kernel(
    "void(int64[:, :, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "boolean[::1], int64, int64[:, ::1], int64[::1])"
)
def resolve(
    leaves: Ints,
    index: Ints,
    totals: Ints,
    pages: Ints,
    epochs: Ints,
    reach: Ints,
    snapshots: Ints,
    offsets: Ints,
    starts: Ints,
    lengths: Ints,
    load_offsets: Ints,
    load_starts: Ints,
    load_lengths: Ints,
    enter: NDArray[np.bool_],
    epoch: int,
    places: Ints,
    conflicts: Ints,
) -> None:
    """Decide records in commit order; see `ConflictSet.resolve`. Slots must be reserved.

    `places`: room for `locate`.
    """
    for record in range(snapshots.size):
        leaf_count = totals[LEAF_TOTAL]
        k = record % LOCATED_AT_ONCE
        if k == 0:
            located_end = min(record + LOCATED_AT_ONCE, snapshots.size)
            find_each(leaves, index, leaf_count, offsets, starts, record, located_end, places)
        first, end = offsets[record], offsets[record + 1]
        if enter[record] and end == first + 1 and load_offsets[record] == load_offsets[record + 1]:
            # Most records store one run, and most of those one that was stored before.
            behind = starts[first] + lengths[first]
            since = snapshots[record]
            position, entry = places[POSITION, k], places[ENTRY, k]
            known = renew(
                leaves, index, leaf_count, position, entry, starts[first], behind, epoch, since
            )
            if known >= 0:
                conflicts[record] = known
                if known == 0:
                    enter_pages(pages, epochs, reach, starts[first], behind, epoch)
                continue
        newest = newest_of(leaves, index, leaf_count, starts, lengths, first, end)
        first, end = load_offsets[record], load_offsets[record + 1]
        loaded = newest_of(leaves, index, leaf_count, load_starts, load_lengths, first, end)
        newest = max(newest, loaded)
        if newest > snapshots[record]:
            conflicts[record] = newest
            continue
        conflicts[record] = 0
        if enter[record]:
            for run in range(offsets[record], offsets[record + 1]):
                if lengths[run] > 0:
                    behind = starts[run] + lengths[run]
                    store(leaves, index, totals, starts[run], behind, epoch)
                    enter_pages(pages, epochs, reach, starts[run], behind, epoch)
