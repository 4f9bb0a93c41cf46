"""Whose stores meet on a page without a conflict: false sharing, by the runners' source lines.

`HotPages` counts how often it happens to a page; this remembers which runners it happens to. It
decides nothing. Of too many pages those where it happened least are forgotten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import HOT_PAGES_KEPT

Ints = NDArray[np.int64]


class Sharing:
    """Counts, by page, the commits beside others' new bytes, by where their runners begin."""

    def __init__(self, kept: int = HOT_PAGES_KEPT) -> None:
        self._kept = kept
        self._counts: dict[int, dict[int, int]] = {}

    def note(self, pages: Ints, entries: Ints) -> None:
        """Count commits; (n,) pages, and where the runners that stored there begin."""
        if len(pages) == 0:
            return
        pairs, counts = np.unique(np.stack([pages, entries]), axis=1, return_counts=True)
        for (page, entry), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            by_entry = self._counts.setdefault(page, {})
            by_entry[entry] = by_entry.get(entry, 0) + count
        if len(self._counts) > 2 * self._kept:
            # The most first; of as many those that were first.
            order = sorted(self._counts, key=lambda page: -sum(self._counts[page].values()))
            self._counts = {page: self._counts[page] for page in order[: self._kept]}

    def entries(self, page: int, most: int) -> list[int]:
        """Return where runners that share a page begin, those with most commits first."""
        by_entry = self._counts.get(page, {})
        return sorted(by_entry, key=lambda entry: (-by_entry[entry], entry))[:most]
