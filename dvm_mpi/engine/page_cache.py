"""The snapshot pages that an engine keeps in the view between attempts.

A cached page carries two epochs: when its content was committed, and until when it is known
unchanged. The longest held pages go first when the limit is reached, but never those that were
installed for the instruction that waits for pages now: it would miss them for ever.
The invariant to remember: `_held` names exactly the pages that have the flag CACHED, or would
have it if this engine were in the view.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import CACHED, DIRTY, LISTED, NOTED, READ, AddressSpace
from dvm_mpi.layout import (
    PAGE_BYTES,
    PAGE_SHIFT,
    SR_START,
    STACKS_END,
    STACKS_START,
    TEXT_END,
)

#: Pages are cleared one by one up to this number; more are given back to the system.
_CLEARED_PAGES_MAX: Final = 1 << 12


class PageCache:
    """Cached pages of one engine; all methods but the constructor need it in the view."""

    def __init__(self, space: AddressSpace, cache_bytes: int) -> None:
        self._space = space
        self._pages_max = max(cache_bytes // PAGE_BYTES, 1)
        #: Cached pages, the longest held first.
        self._held: dict[int, None] = {}
        self._aside: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]] | None = None

    def missing(
        self, pages: NDArray[np.int64], newest: NDArray[np.int64], snapshot: int
    ) -> NDArray[np.int64]:
        """Return those pages that need a home and are not held as of the snapshot."""
        versions, until = self._space.epochs[pages].T
        is_held = (self._space.flags[pages] & CACHED) != 0
        is_held &= (versions <= snapshot) & (until >= np.minimum(newest, snapshot))
        starts = pages << PAGE_SHIFT
        needs_home = (starts >= TEXT_END) & ((starts < STACKS_START) | (starts >= STACKS_END))
        lacking: NDArray[np.int64] = pages[needs_home & ~is_held]
        return lacking

    def versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the version cached for each page, -1 where there is none."""
        is_cached = (self._space.flags[pages] & CACHED) != 0
        return np.where(is_cached, self._space.epochs[pages, 0], -1)

    def renew(self, pages: NDArray[np.int64], until: NDArray[np.int64]) -> None:
        """Note until when cached pages are known unchanged."""
        is_cached = (self._space.flags[pages] & CACHED) != 0
        kept = pages[is_cached]
        self._space.epochs[kept, 1] = np.maximum(self._space.epochs[kept, 1], until[is_cached])

    def install(
        self,
        pages: NDArray[np.int64],
        versions: NDArray[np.int64],
        until: NDArray[np.int64],
        data: NDArray[np.uint8],
    ) -> None:
        """Put pages into the view; none of them is dirty.

        An attempt that has loaded from one of them has to be checked against the new epochs.
        """
        flags = self._space.flags[pages]
        assert not (flags & DIRTY).any(), "stored bytes would be lost"
        # A page of zeros takes no memory as long as nobody has written to it.
        is_written = data.any(axis=1) | ((flags & CACHED) != 0)
        self._space.pages[pages[is_written]] = data[is_written]
        self.note(pages, versions, until)
        self._space.flags[pages] = (flags & ~np.uint8(READ | NOTED)) | CACHED

    def note(
        self, pages: NDArray[np.int64], versions: NDArray[np.int64], until: NDArray[np.int64]
    ) -> None:
        """Enter the epochs of pages whose content has been, or will be, put into the view."""
        self._space.epochs[pages, 0] = versions
        self._space.epochs[pages, 1] = until
        numbers = pages.tolist()
        for page in numbers:
            self._held.pop(page, None)
        self._held.update(dict.fromkeys(numbers))

    def evict(self, keep: int) -> None:
        """Drop the longest held pages beyond the limit, but no dirty one nor the `keep` newest."""
        surplus = len(self._held) - max(self._pages_max, keep)
        if surplus <= 0:
            return
        victims = self._oldest_clean(surplus, len(self._held) - keep)
        for page in victims.tolist():
            del self._held[page]
        victims.sort()
        self._space.flags[victims] &= LISTED
        self._space.release(victims)

    def _oldest_clean(self, wanted: int, among: int) -> NDArray[np.int64]:
        """Return up to `wanted` pages that are not dirty, of the `among` longest held ones.

        Looks at few more than it returns: the list of a full cache is long.
        """
        looked_at = wanted
        while True:
            looked_at = min(2 * looked_at, among)
            oldest = np.fromiter(islice(self._held, looked_at), np.int64, count=looked_at)
            clean: NDArray[np.int64] = oldest[(self._space.flags[oldest] & DIRTY) == 0]
            if len(clean) >= wanted or looked_at == among:
                return clean[:wanted]

    def set_aside(self) -> None:
        """Copy the cached pages out of the view, which must hold no attempt, and clear them."""
        assert self._aside is None, "the pages are aside already"
        pages = np.fromiter(self._held, dtype=np.int64, count=len(self._held))
        self._aside = pages, self._space.epochs[pages], self._space.pages[pages]
        self._clear()

    def put_back(self) -> None:
        """Undo `set_aside`."""
        if self._aside is not None:
            pages, epochs, content = self._aside
            self._space.epochs[pages] = epochs
            self._space.pages[pages] = content
            self._space.flags[pages] = CACHED
            self._aside = None

    def drop(self) -> None:
        """Clear the cached pages out of the view, which must hold no attempt, for good."""
        self._clear()
        self._held.clear()

    def _clear(self) -> None:
        pages = np.sort(np.fromiter(self._held, dtype=np.int64, count=len(self._held)))
        self._space.flags[pages] = 0
        if len(pages) <= _CLEARED_PAGES_MAX:
            self._space.pages[pages] = 0
        else:
            self._space.release(pages)

    def check_invariants(self) -> None:
        """Assert that flags and list agree."""
        held = np.fromiter(self._held, dtype=np.int64, count=len(self._held))
        is_cached = (self._space.flags[held] & CACHED) != 0
        assert is_cached.all(), "a held page has lost its flag"
        assert (held << PAGE_SHIFT >= SR_START).all(), "a private page is never cached"
