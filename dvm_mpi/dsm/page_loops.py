"""Compiled loops over few pages: what an epoch stores to, new versions, free frames, fetches.

Most epochs store some hundred bytes to a few pages. numpy takes a microsecond for each of a hundred
calls then, and several where the processor has had other things in its caches since.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.hashing import find
from dvm_mpi.dsm.kernels import entry_kernel, kernel
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: Where messages.RUN rows, as words, have their fields.
_START: Final = 0
_LENGTH: Final = 1
_DATA_FIRST: Final = 2


@kernel
def _place_of(ascending: Ints, number: int) -> int:
    """Return how many of some numbers, which ascend, are below another one."""
    low, high = 0, ascending.size
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _enter_page(pages: Ints, count: int, page: int) -> int:
    """Enter a page into ascending ones if it is not there and there is room; return how many."""
    place = count
    while place > 0 and pages[place - 1] > page:
        place -= 1
    if place > 0 and pages[place - 1] == page:
        return count
    if count == pages.size:
        return count + 1
    for row in range(count, place, -1):
        pages[row] = pages[row - 1]
    pages[place] = page
    return count + 1


@entry_kernel("int64(int64[:, ::1], int64[::1])")
def pages_stored(runs: Ints, pages: Ints) -> int:
    """Fill `pages` with those that runs touch, ascending, each once; return how many there are.

    More than `pages` holds: there are more, and nothing is said of them.
    """
    count = 0
    for row in range(runs.shape[0]):
        if runs[row, _LENGTH] <= 0:
            continue
        page = runs[row, _START] >> PAGE_SHIFT
        final = (runs[row, _START] + runs[row, _LENGTH] - 1) >> PAGE_SHIFT
        while page <= final and count <= pages.size:
            count = _enter_page(pages, count, page)
            page += 1
    return count


@kernel
def _is_whole(runs: Ints, page: int) -> bool:
    """Say whether runs together cover all of a page."""
    reached = page << PAGE_SHIFT
    end = reached + PAGE_BYTES
    before = -1
    while reached != before and reached < end:
        before = reached
        for row in range(runs.shape[0]):
            if runs[row, _START] <= reached:
                reached = max(reached, runs[row, _START] + runs[row, _LENGTH])
    return reached >= end


@entry_kernel("int64(int64[:, ::1], int64[::1], int64[::1], int64[::1], uint8[::1])")
def copy_bases(runs: Ints, pages: Ints, frames: Ints, bases: Ints, memory: Bytes) -> int:
    """Give new frames of pages what is in their bases, zeros for NO_FRAME; return how many got it.

    Pages that the runs cover as a whole get nothing.
    """
    copied = 0
    for row in range(pages.size):
        if _is_whole(runs, pages[row]):
            continue
        copied += 1
        place = memory[frames[row] << PAGE_SHIFT : (frames[row] + 1) << PAGE_SHIFT]
        if bases[row] == NO_FRAME:
            for k in range(place.size):
                place[k] = 0
        else:
            base = memory[bases[row] << PAGE_SHIFT : (bases[row] + 1) << PAGE_SHIFT]
            for k in range(place.size):
                place[k] = base[k]
    return copied


@entry_kernel("int64(int64[:, ::1], uint8[::1], int64[::1], int64[::1], uint8[::1])")
def lay_over(runs: Ints, data: Bytes, pages: Ints, frames: Ints, memory: Bytes) -> int:
    """Write runs into the frames of `pages` (ascending), in order; return 0.

    1: a run lies beyond its data, or on no page of these, and nothing more was written.
    """
    for row in range(runs.shape[0]):
        start = runs[row, _START]
        end = start + max(runs[row, _LENGTH], 0)
        taken_at = runs[row, _DATA_FIRST]
        if end > start and (taken_at < 0 or taken_at + end - start > data.size):
            return 1
        place = _place_of(pages, start >> PAGE_SHIFT)
        while start < end:
            page = start >> PAGE_SHIFT
            if place == pages.size or pages[place] != page:
                return 1
            length = min(end, (page + 1) << PAGE_SHIFT) - start
            at = (frames[place] << PAGE_SHIFT) + start - (page << PAGE_SHIFT)
            target = memory[at : at + length]
            taken = data[taken_at : taken_at + length]
            for k in range(length):
                target[k] = taken[k]
            start += length
            taken_at += length
            place += 1
    return 0


# --- versions ------------------------------------------------------------------------------------


@entry_kernel(
    "int64(int64[::1], int64[::1], int64, int64[::1], int64[::1], int64[:, ::1], int64[::1])"
)
def enter_versions(
    keys: Ints,
    values: Ints,
    epoch: int,
    pages: Ints,
    frames: Ints,
    versions: Ints,
    superseded: Ints,
) -> int:
    """Make frames the newest versions of pages, in a directory; return how many pages are new.

    -1: some page has a version that is not older, and the directory is spoilt.

    Parameters
    ----------
    keys, values
        The tables of an IntMap from pages to frames, with room for all.
    versions
        By frame, as `Directory` has them: page, epoch, superseding epoch, older, newer; as rows.
    superseded
        Gets the frames that are superseded: as many as pages are not new.
    """
    new = 0
    for row in range(pages.size):
        frame = frames[row]
        slot = find(keys, pages[row])
        older = NO_FRAME
        if keys[slot] == pages[row]:
            older = values[slot]
            if versions[1, older] >= epoch:
                return -1
            superseded[row - new] = older
            versions[2, older] = epoch
            versions[4, older] = frame
        else:
            keys[slot] = pages[row]
            new += 1
        values[slot] = frame
        versions[0, frame] = pages[row]
        versions[1, frame] = epoch
        versions[2, frame] = 0
        versions[3, frame] = older
        versions[4, frame] = NO_FRAME
    return new


@entry_kernel("int64(int64[::1], int64[::1], int64[:, ::1], int64[::1])")
def sift(frames: Ints, pins: Ints, versions: Ints, kept: Ints) -> int:
    """Leave of superseded frames those within which no pin lies, in order; return their number.

    The others go to `kept`, in order. `versions` as in `enter_versions`.
    """
    count = 0
    for row in range(frames.size):
        frame = frames[row]
        if _place_of(pins, versions[1, frame]) == _place_of(pins, versions[2, frame]):
            frames[count] = frame
            count += 1
        else:
            kept[row - count] = frame
    return count


@entry_kernel("void(int64[::1], int64[:, ::1])")
def unlink(frames: Ints, versions: Ints) -> None:
    """Take superseded versions out of their chains, one after the other."""
    for row in range(frames.size):
        older = versions[3, frames[row]]
        newer = versions[4, frames[row]]
        if newer != NO_FRAME:
            versions[3, newer] = older
        if older != NO_FRAME:
            versions[4, older] = newer


# --- fetches -------------------------------------------------------------------------------------


@entry_kernel("int64(int64[::1])")
def extent_count(frames: Ints) -> int:
    """Return how many stretches frames that follow each other make; NO_FRAME is in none."""
    count = 0
    for row in range(frames.size):
        if frames[row] == NO_FRAME:
            continue
        if row == 0 or frames[row - 1] == NO_FRAME or frames[row - 1] + 1 != frames[row]:
            count += 1
    return count


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64, int64, int64[:, ::1])")
def few_eager_pages(
    starts: Ints, lengths: Ints, newest: Ints, bytes_max: int, pages_max: int, found: Ints
) -> int:
    """Choose pages as `snapshot.eager_pages` does; return how many.

    -1: there are too many for `found`, (5, n), in which pages and their newest epochs are the first
    two rows, and the others are at work.
    """
    extents = 0
    for row in range(starts.size):
        if lengths[row] <= 0 or lengths[row] > bytes_max:
            continue
        first = starts[row] >> PAGE_SHIFT
        count = ((starts[row] + lengths[row] - 1) >> PAGE_SHIFT) + 1 - first
        at = 0
        while at < extents and (found[2, at] != first or found[3, at] != count):
            at += 1
        if at == found.shape[1]:
            return -1
        if at == extents:
            found[2, at] = first
            found[3, at] = count
            found[4, at] = 0
            extents += 1
        found[4, at] = max(found[4, at], newest[row])
    count = 0
    for at in range(extents):
        pages_max -= found[3, at]
        if pages_max < 0:
            break
        for page in range(found[2, at], found[2, at] + found[3, at]):
            place = count
            while place > 0 and found[0, place - 1] > page:
                place -= 1
            if place > 0 and found[0, place - 1] == page:
                found[1, place - 1] = max(found[1, place - 1], found[4, at])
                continue
            if count == found.shape[1]:
                return -1
            for row in range(count, place, -1):
                found[0, row] = found[0, row - 1]
                found[1, row] = found[1, row - 1]
            found[0, place] = page
            found[1, place] = found[4, at]
            count += 1
    return count


# --- free frames ---------------------------------------------------------------------------------


@entry_kernel("int64(int64[::1], int64[::1], int64)")
def take_together(firsts: Ints, counts: Ints, count: int) -> int:
    """Take `count` frames out of the lowest free stretch that has so many; return the first.

    -1: no stretch has. A stretch may be empty after that.
    """
    for row in range(counts.size):
        if counts[row] >= count:
            firsts[row] += count
            counts[row] -= count
            return int(firsts[row] - count)
    return -1


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def give_back(firsts: Ints, counts: Ints, frames: Ints, all_firsts: Ints, all_counts: Ints) -> int:
    """Join frames, ascending, to the free stretches; return how many stretches there are then.

    They are written to `all_firsts` and `all_counts`, which have room for all. Empty stretches
    go. -1: a frame was free.
    """
    made = 0
    row = 0
    place = 0
    while row < counts.size or place < frames.size:
        if place == frames.size or (row < counts.size and firsts[row] <= frames[place]):
            first, count = firsts[row], counts[row]
            row += 1
        else:
            first, count = frames[place], 1
            place += 1
        if count == 0:
            continue
        if made > 0 and all_firsts[made - 1] + all_counts[made - 1] > first:
            return -1
        if made > 0 and all_firsts[made - 1] + all_counts[made - 1] == first:
            all_counts[made - 1] += count
        else:
            all_firsts[made] = first
            all_counts[made] = count
            made += 1
    return made
