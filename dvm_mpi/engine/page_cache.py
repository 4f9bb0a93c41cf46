"""The snapshot pages that an engine keeps in the view between attempts.

A cached page carries two epochs: when its content was committed, and until when it is known
unchanged. The longest held pages go first when the limit is reached, but never those that were
installed for the instruction that waits for pages now: it would miss them for ever.

Pages are noted in the order in which they were installed, many at a time. Each note has a number,
which its pages bear as long as no later one names them: so a note is never searched for a page.
The invariant to remember: the pages that bear the number of their note are exactly those that have
the flag CACHED, or would have it if this engine were in the view.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import CACHED, DIRTY, LISTED, AddressSpace
from dvm_mpi.engine.wide_fetches import WideFetches
from dvm_mpi.layout import (
    PAGE_BYTES,
    PAGE_SHIFT,
    SR_START,
    STACKS_END,
    STACKS_START,
    TEXT_END,
)

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
#: `filling.fill` of a compiled library.
Fill = Callable[[Ints, Ints, Ints, Ints, int, int], int]

#: Pages are cleared one by one up to this number; more are given back to the system.
_CLEARED_PAGES_MAX: Final = 1 << 12
#: Pages in notes beyond twice those that are held, before notes are gone through.
_SPARE_NOTES: Final = 1 << 12


def _rows_of(pages: Ints) -> Ints | slice:
    """Return what takes the rows of `pages` out of a table, if possible without a copy."""
    if pages.size and pages[-1] - pages[0] == pages.size - 1 and (np.diff(pages) == 1).all():
        return slice(int(pages[0]), int(pages[-1]) + 1)
    return pages


class PageCache:
    """Cached pages of one engine; all methods but the constructor need it in the view."""

    def __init__(
        self,
        space: AddressSpace,
        cache_bytes: int,
        fill: Fill,
        spent_ns: Callable[[], int] | None = None,
    ) -> None:
        self._space = space
        self._fill = fill
        self._wide = None if spent_ns is None else WideFetches(space, spent_ns)
        self._pages_max = max(cache_bytes // PAGE_BYTES, 1)
        #: Number of the note, and its pages in the order of installation; the oldest note first.
        self._notes: deque[tuple[int, Ints]] = deque()
        self._last_serial = 0
        #: Pages in all notes, and those that are held.
        self._noted_count = self._held_count = 0
        #: Pages, their epochs, the numbers of their notes, their content.
        self._aside: tuple[Ints, Ints, Ints, Bytes] | None = None

    def missing(
        self, pages: NDArray[np.int64], newest: NDArray[np.int64], snapshot: int
    ) -> NDArray[np.int64]:
        """Return those pages that need a home and are not held as of the snapshot."""
        rows = _rows_of(pages)
        versions, until = self._space.epochs[rows].T
        is_held = (self._space.flags[rows] & CACHED) != 0
        is_held &= (versions <= snapshot) & (until >= np.minimum(newest, snapshot))
        starts = pages << PAGE_SHIFT
        needs_home = (starts >= TEXT_END) & ((starts < STACKS_START) | (starts >= STACKS_END))
        lacking: NDArray[np.int64] = pages[needs_home & ~is_held]
        if self._wide is not None:
            self._wide.expect(lacking)
        return lacking

    def versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the version cached for each page, -1 where there is none."""
        rows = _rows_of(pages)
        is_cached = (self._space.flags[rows] & CACHED) != 0
        return np.where(is_cached, self._space.epochs[rows, 0], -1)

    def renew(self, pages: NDArray[np.int64], until: NDArray[np.int64]) -> None:
        """Note until when cached pages are known unchanged."""
        if pages.size == 0:
            return
        is_cached = (self._space.flags[pages] & CACHED) != 0
        kept = pages[is_cached]
        self._space.epochs[kept, 1] = np.maximum(self._space.epochs[kept, 1], until[is_cached])

    def install(self, pages: Ints, versions: Ints, until: Ints, memory: Bytes, rows: Ints) -> None:
        """Put pages into the view, as `Engine.install`; none of them is dirty, each is named once.

        An attempt that has loaded from one of them has to be checked against the new epochs.
        """
        assert not (self._space.flags[pages] & DIRTY).any(), "stored bytes would be lost"
        assert memory.flags.c_contiguous, "rows of pages lie one behind the other"
        assert rows.size == 0 or int(rows.max()) < len(memory), "a row beyond the content"
        if self._wide is not None:
            self._wide.make_ready(pages, rows)
        self._last_serial += 1
        self._held_count += self._fill(
            np.ascontiguousarray(pages),
            np.ascontiguousarray(rows),
            np.ascontiguousarray(versions),
            np.ascontiguousarray(until),
            memory.ctypes.data,
            self._last_serial,
        )
        self._add_note(pages)

    def note(self, pages: Ints, versions: Ints, until: Ints) -> None:
        """Enter the epochs of pages whose content has been, or will be, put into the view."""
        self._space.epochs[pages, 0] = versions
        self._space.epochs[pages, 1] = until
        self._last_serial += 1
        self._held_count += int((self._space.serials[pages] == 0).sum())
        self._space.serials[pages] = self._last_serial
        self._add_note(pages)

    def _add_note(self, pages: Ints) -> None:
        """Keep pages that bear the last number."""
        # A copy, since they may be part of a larger array.
        self._notes.append((self._last_serial, pages.copy()))
        self._noted_count += pages.size
        if self._noted_count > 2 * self._held_count + _SPARE_NOTES:
            self._forget_old_notes()

    def _held_in(self, note: tuple[int, Ints]) -> Ints:
        """Return those pages of a note that no later one names, in its order."""
        serial, pages = note
        return np.asarray(pages[self._space.serials[pages] == serial])

    def _forget_old_notes(self) -> None:
        """Leave in notes what is held."""
        kept = ((note[0], self._held_in(note)) for note in self._notes)
        self._notes = deque(note for note in kept if note[1].size)
        self._noted_count = self._held_count

    def _held(self) -> Ints:
        """Return all pages that are held, the longest held first."""
        return np.concatenate([np.empty(0, np.int64), *map(self._held_in, self._notes)])

    def evict(self, keep: int) -> None:
        """Drop the longest held pages beyond the limit, but no dirty one nor the `keep` newest."""
        surplus = self._held_count - max(self._pages_max, keep)
        if surplus <= 0:
            return
        victims = np.sort(self._oldest_clean(surplus, self._held_count - keep))
        self._space.serials[victims] = 0
        self._held_count -= victims.size
        self._space.flags[victims] &= LISTED
        self._space.release(victims)

    def _oldest_clean(self, wanted: int, among: int) -> Ints:
        """Take up to `wanted` pages that are not dirty out of the notes, of the `among` oldest.

        Looks at few more than it returns: there are many notes where a cache is full.
        """
        taken, left = [np.empty(0, np.int64)], list[tuple[int, Ints]]()
        while self._notes and wanted > 0 and among > 0:
            serial, noted = note = self._notes.popleft()
            held = self._held_in(note)
            goes = (self._space.flags[held] & DIRTY) == 0
            goes[among:] = False
            goes &= np.cumsum(goes) <= wanted
            among -= held.size
            taken.append(held[goes])
            wanted -= taken[-1].size
            left.append((serial, held[~goes]))
            self._noted_count += left[-1][1].size - noted.size
        self._notes.extendleft(note for note in reversed(left) if note[1].size)
        return np.concatenate(taken)

    def set_aside(self) -> None:
        """Copy the cached pages out of the view, which must hold no attempt, and clear them."""
        assert self._aside is None, "the pages are aside already"
        pages = self._held()
        space = self._space
        self._aside = pages, space.epochs[pages], space.serials[pages], space.pages[pages]
        self._clear()

    def put_back(self) -> None:
        """Undo `set_aside`."""
        if self._aside is not None:
            pages, epochs, serials, content = self._aside
            self._space.epochs[pages] = epochs
            self._space.serials[pages] = serials
            self._space.pages[pages] = content
            self._space.flags[pages] = CACHED
            self._aside = None

    def drop(self) -> None:
        """Clear the cached pages out of the view, which must hold no attempt, for good."""
        self._clear()
        self._notes.clear()
        self._noted_count = self._held_count = 0

    def _clear(self) -> None:
        pages = np.sort(self._held())
        self._space.flags[pages] = 0
        self._space.serials[pages] = 0
        if len(pages) <= _CLEARED_PAGES_MAX:
            self._space.pages[pages] = 0
        else:
            self._space.release(pages)

    def check_invariants(self) -> None:
        """Assert that flags and notes agree."""
        held = self._held()
        is_cached = (self._space.flags[held] & CACHED) != 0
        assert is_cached.all(), "a held page has lost its flag"
        assert (held << PAGE_SHIFT >= SR_START).all(), "a private page is never cached"
        assert held.size == np.unique(held).size == self._held_count, "a page is held twice"
        assert self._noted_count == sum(pages.size for _, pages in self._notes)
