"""Compiled loops over a map from every byte to the epoch of its last store.

The map is a sorted list of disjoint ranges, each with an epoch; a byte in no range was never
stored. How the ranges lie (`leaves`, `index`, `totals`), `range_leaves` says. A range that is
stored again replaces its older entries at once, so rewriting the same bytes never grows the map.
These are free functions on the arrays of `conflict.ConflictSet`, which owns them.

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
from dvm_mpi.dsm.range_leaves import (
    ADDRESS,
    COUNT,
    END,
    ENTRY,
    EPOCH,
    KEY,
    LEAF_RANGES,
    LEAF_TOTAL,
    LOCATED_AT_ONCE,
    NEWEST,
    POSITION,
    RANGE_TOTAL,
    SLOT,
    START,
    WORDS,
    clear_leaves_below,
    cut_leaf,
    fill_in,
    first_ending_after,
    joins_before,
    joins_behind,
    locate,
    move,
    newest_in,
    position_of,
    split,
)
from dvm_mpi.layout import PAGE_SHIFT

#: Of `reach`.
NEW_PAGES: Final = 0
LONG_START: Final = 1
LONG_END: Final = 2
#: Stores into more pages than this are not entered page by page.
PAGES_ENTERED_MAX: Final = 2
#: Of stored bytes that meet others than themselves: it takes more than a look at one place.
UNDECIDED: Final = -1

#: Columns of ranges and runs, as words.
RUN_START: Final = 0
RUN_LENGTH: Final = 1

Ints = NDArray[np.int64]


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
def count_below(values: Ints, bound: int) -> int:
    """Return how many values are below a bound."""
    count = 0
    for k in range(values.size):
        count += 1 if values[k] < bound else 0
    return count


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
    "int64(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[:, ::1], int64[::1], int64[:, ::1], boolean[::1], int64, "
    "int64, int64[:, ::1], int64[::1])"
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
    horizon: int,
    places: Ints,
    conflicts: Ints,
) -> int:
    """Decide records in commit order; see `ConflictSet.resolve`. Slots must be reserved.

    `runs` and `loads`: words of rows that begin with start and length. `places`: room for `locate`.
    Returns how many snapshots are older than the horizon; if any is, nothing is done.
    """
    beyond = count_below(snapshots, horizon)
    if beyond > 0:
        return beyond
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
    return 0
