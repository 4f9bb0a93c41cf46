"""Whose stores meet on a page without a conflict: false sharing, by the runners' source lines.

`HotPages` counts how often it happens to a page; this remembers which runners it happens to. It
decides nothing. Of too many pages those where it happened least are forgotten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import HOT_PAGES_KEPT, HOT_PAGES_PENDING
from dvm_mpi.dsm.ranges import begins_of

Ints = NDArray[np.int64]


class Sharing:
    """Counts, by page, the commits beside others' new bytes, by where their runners begin."""

    def __init__(self, kept: int = HOT_PAGES_KEPT, pending_max: int = HOT_PAGES_PENDING) -> None:
        self._kept = kept
        self._pending_max = pending_max
        self._counts: dict[int, dict[int, int]] = {}
        #: Pages and entries that are not counted yet, and how many.
        self._pending: list[tuple[Ints, Ints]] = []
        self._pending_count = 0

    def note(self, pages: Ints, entries: Ints) -> None:
        """Count commits; (n,) pages, and where the runners that stored there begin.

        The arrays must not change any more.
        """
        if len(pages) == 0:
            return
        self._pending.append((pages, entries))
        self._pending_count += len(pages)
        if self._pending_count >= self._pending_max:
            self._fold()

    def _fold(self) -> None:
        """Count what waits."""
        if self._pending_count == 0:
            return
        pages, entries = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        self._pending.clear()
        self._pending_count = 0
        order = np.lexsort((entries, pages))
        pages, entries = pages[order], entries[order]
        begins = begins_of((pages[1:] != pages[:-1]) | (entries[1:] != entries[:-1]))
        counts = np.diff(begins, append=len(pages))
        told = zip(pages[begins].tolist(), entries[begins].tolist(), counts.tolist(), strict=True)
        for page, entry, count in told:
            by_entry = self._counts.setdefault(page, {})
            by_entry[entry] = by_entry.get(entry, 0) + count
        if len(self._counts) > 2 * self._kept:
            # The most first; of as many those that were first.
            order_of = sorted(self._counts, key=lambda page: -sum(self._counts[page].values()))
            self._counts = {page: self._counts[page] for page in order_of[: self._kept]}

    def entries(self, page: int, most: int) -> list[int]:
        """Return where runners that share a page begin, those with most commits first."""
        self._fold()
        by_entry = self._counts.get(page, {})
        return sorted(by_entry, key=lambda entry: (-by_entry[entry], entry))[:most]
