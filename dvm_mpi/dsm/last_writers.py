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

- `leaves`: (slot_count, WORDS * LEAF_RANGES) int64; range after range START, END, EPOCH, of which
  `COUNT` ranges count. They lie together: to move some is one move, and who looks at a range has
  all of it.
- `index`: (5, slot_count) int64; by position KEY and SLOT, by slot COUNT and NEWEST (the newest
  epoch of the leaf), and a stack of slots that are FREE.
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
PLACE_ROWS: Final = 5
LOCATED_AT_ONCE: Final = 32
#: Entries of a leaf that are looked at together.
ENTRIES_AT_ONCE: Final = 16

#: The key of the first leaf.
BELOW_ALL: Final = -(2**63)
#: Of stored bytes that meet others than themselves: it takes more than a look at one place.
UNDECIDED: Final = -1

#: Columns of ranges and runs, as words.
RUN_START: Final = 0
RUN_LENGTH: Final = 1

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


@kernel
def store(leaves: Ints, index: Ints, totals: Ints, start: int, end: int, epoch: int) -> None:
    """Note that [start, end) was stored at `epoch`, which no entry is newer than.

    One slot must be free: the leaf may have to be split.
    """
    position = position_of(index, totals[LEAF_TOTAL], start)
    if index[COUNT, index[SLOT, position]] > LEAF_RANGES - 2:
        split(leaves, index, totals, position)
        position = position_of(index, totals[LEAF_TOTAL], start)
    if position + 1 < totals[LEAF_TOTAL] and index[KEY, position + 1] < end:
        clear_leaves_below(leaves, index, totals, position + 1, end)
    slot = index[SLOT, position]
    leaf = leaves[slot]
    count = cut_leaf(leaf, index[COUNT, slot], start)
    count = cut_leaf(leaf, count, end)
    first = first_ending_after(leaf, count, start)
    behind = first
    while behind < count and leaf[WORDS * behind + START] < end:
        behind += 1
    # Stores of one epoch that touch become one range.
    if joins_before(leaf, first, start, epoch):
        first -= 1
        start = leaf[WORDS * first + START]
    if joins_behind(leaf, count, behind, end, epoch):
        end = leaf[WORDS * behind + END]
        behind += 1
    growth = 1 - (behind - first)
    if growth != 0:
        move(leaf, WORDS * behind, WORDS * (first + 1), WORDS * (count - behind))
    fill_in(leaf, first, start, end, epoch)
    totals[RANGE_TOTAL] += count + growth - index[COUNT, slot]
    index[COUNT, slot] = count + growth
    index[NEWEST, slot] = epoch


@kernel
def find_each(
    leaves: Ints,
    index: Ints,
    leaf_count: int,
    offsets: Ints,
    runs: Ints,
    first: int,
    end: int,
    places: Ints,
) -> None:
    """Locate the first run of each of the records [first, end); 0 for those without one.

    Nothing changes meanwhile, so that searches do not wait for each other.
    """
    for record in range(first, end):
        has_runs = offsets[record + 1] > offsets[record]
        places[ADDRESS, record - first] = runs[offsets[record], RUN_START] if has_runs else 0
    locate(leaves, index, leaf_count, places, end - first)


@kernel
def is_placed(
    leaves: Ints, index: Ints, leaf_count: int, position: int, entry: int, start: int
) -> bool:
    """Tell whether an entry, found some stores ago, is the first that ends after `start`."""
    if position >= leaf_count or index[KEY, position] > start:
        return False
    if position + 1 < leaf_count and index[KEY, position + 1] <= start:
        return False
    slot = index[SLOT, position]
    leaf = leaves[slot]
    count = index[COUNT, slot]
    if entry > count or (entry > 0 and leaf[WORDS * (entry - 1) + END] > start):
        return False
    return bool(entry == count or leaf[WORDS * entry + END] > start)


@kernel
def enter_alone(
    leaves: Ints,
    index: Ints,
    totals: Ints,
    position: int,
    entry: int,
    start: int,
    end: int,
    epoch: int,
    since: int,
) -> int:
    """Enter a range, not empty, that was never stored, or was as it is from byte to byte.

    `entry` is the first that ends after `start`, in the leaf at `position`. Returns 0, or the epoch
    of its last store where that is after `since`; or UNDECIDED if some of its bytes only
    were stored, if a neighbour of this epoch touches it, or if there is no room. But for 0 nothing
    has changed then.
    """
    slot = index[SLOT, position]
    leaf = leaves[slot]
    count = index[COUNT, slot]
    at = WORDS * entry
    growth = 1
    if entry < count and leaf[at + START] < end:
        if leaf[at + START] != start or leaf[at + END] != end:
            return UNDECIDED
        if leaf[at + EPOCH] > since:
            return int(leaf[at + EPOCH])
        growth = 0
    else:
        is_last = position + 1 == totals[LEAF_TOTAL]
        if count > LEAF_RANGES - 2 or (not is_last and index[KEY, position + 1] < end):
            return UNDECIDED
    if joins_before(leaf, entry, start, epoch):
        return UNDECIDED
    if joins_behind(leaf, count, entry + 1 - growth, end, epoch):
        return UNDECIDED
    if growth == 1:
        move(leaf, at, at + WORDS, WORDS * (count - entry))
        totals[RANGE_TOTAL] += 1
        index[COUNT, slot] = count + 1
    fill_in(leaf, entry, start, end, epoch)
    index[NEWEST, slot] = epoch
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
    "int64(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[:, ::1], int64, int64[:, ::1])"
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
    runs: Ints,
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
            start = runs[run, RUN_START]
            first = start >> PAGE_SHIFT
            last = (start + runs[run, RUN_LENGTH] - 1) >> PAGE_SHIFT
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


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64[::1], int64[:, ::1], int64[::1])")
def newest_each(leaves: Ints, index: Ints, totals: Ints, ranges: Any, newest: Ints) -> None:
    """Fill `newest` with the newest epoch of each of `ranges` (rows: start, length)."""
    for row in range(ranges.shape[0]):
        start = ranges[row, 0]
        newest[row] = newest_in(leaves, index, totals[LEAF_TOTAL], start, start + ranges[row, 1])


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
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
def newest_of(leaves: Ints, index: Ints, leaf_count: int, runs: Ints, first: int, end: int) -> int:
    """Return the newest epoch of any store into the rows [first, end), 0 if there was none."""
    newest = 0
    for row in range(first, end):
        start = runs[row, RUN_START]
        behind = start + runs[row, RUN_LENGTH]
        newest = max(newest, newest_in(leaves, index, leaf_count, start, behind))
    return newest


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[:, ::1], int64[::1], int64[:, ::1], boolean[::1], int64, "
    "int64[:, ::1], int64[::1])"
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
    runs: Ints,
    load_offsets: Ints,
    loads: Ints,
    enter: NDArray[np.bool_],
    epoch: int,
    places: Ints,
    conflicts: Ints,
) -> None:
    """Decide records in commit order; see `ConflictSet.resolve`. Slots must be reserved.

    `runs` and `loads`: words of rows that begin with start and length. `places`: room for `locate`.
    """
    for record in range(snapshots.size):
        leaf_count = totals[LEAF_TOTAL]
        k = record % LOCATED_AT_ONCE
        if k == 0:
            located_end = min(record + LOCATED_AT_ONCE, snapshots.size)
            find_each(leaves, index, leaf_count, offsets, runs, record, located_end, places)
        first, end = offsets[record], offsets[record + 1]
        if enter[record] and end == first + 1 and load_offsets[record] == load_offsets[record + 1]:
            # Most records store one run, to bytes that nobody has stored, or just these together.
            start, length = runs[first, RUN_START], runs[first, RUN_LENGTH]
            position, entry = places[POSITION, k], places[ENTRY, k]
            if not is_placed(leaves, index, leaf_count, position, entry, start):
                position = position_of(index, leaf_count, start)
                slot = index[SLOT, position]
                entry = first_ending_after(leaves[slot], index[COUNT, slot], start)
            behind = start + length
            known = UNDECIDED
            if length > 0:
                since = snapshots[record]
                known = enter_alone(
                    leaves, index, totals, position, entry, start, behind, epoch, since
                )
            if known != UNDECIDED:
                conflicts[record] = known
                if known == 0:
                    enter_pages(pages, epochs, reach, start, behind, epoch)
                continue
        newest = newest_of(leaves, index, leaf_count, runs, first, end)
        first, end = load_offsets[record], load_offsets[record + 1]
        loaded = newest_of(leaves, index, leaf_count, loads, first, end)
        newest = max(newest, loaded)
        if newest > snapshots[record]:
            conflicts[record] = newest
            continue
        conflicts[record] = 0
        if enter[record]:
            for run in range(offsets[record], offsets[record + 1]):
                start, length = runs[run, RUN_START], runs[run, RUN_LENGTH]
                if length > 0:
                    store(leaves, index, totals, start, start + length, epoch)
                    enter_pages(pages, epochs, reach, start, start + length, epoch)
