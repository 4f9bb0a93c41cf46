"""How often pages are fetched, stored and shared: counts of the busiest ones, in bounded memory.

Whoever fetches or stores notes whole arrays of pages; they are counted many at a time, and a long
array that comes again, as of a scan that is made over and over, at once. It decides nothing. Of too
many pages those with the least counts are forgotten, so what is told of a page that comes, goes and
comes again may be too little, and never too much.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import HOT_PAGES_KEPT, HOT_PAGES_PENDING, HOT_SCANS_PENDING
from dvm_mpi.dsm.messages import HOT_PAGE

Ints = NDArray[np.int64]
#: What is counted of a page: how often a worker read it from its home; new versions at its home;
#: commits that stored to it beside bytes that others had stored since their snapshot.
Kind = Literal["fetches", "versions", "shared"]
_KINDS: Final[tuple[Kind, ...]] = ("fetches", "versions", "shared")
#: Arrays of so many pages are looked for among those that came before.
_SCAN_PAGES_MIN: Final = 64


class HotPages:
    """Counts by page; `kept` pages at least are remembered apart."""

    def __init__(self, kept: int = HOT_PAGES_KEPT, pending_max: int = HOT_PAGES_PENDING) -> None:
        self._kept = kept
        self._pending_max = pending_max
        #: Ascending by page.
        self._rows: NDArray[Any] = np.zeros(0, HOT_PAGE)
        self._pending: dict[Kind, list[Ints]] = {kind: [] for kind in _KINDS}
        #: How often each long array, as bytes, was noted.
        self._scans: dict[tuple[Kind, bytes], int] = {}
        self._added: list[NDArray[Any]] = []
        #: Mentions and rows that are not in `_rows` yet; and pages of long arrays.
        self._pending_count = self._scanned_count = 0

    def note(self, kind: Kind, pages: Ints) -> None:
        """Count each mention of a page once; the array must not change any more."""
        if pages.size >= _SCAN_PAGES_MIN:
            self._note_scan(kind, pages)
        elif pages.size:
            self._pending[kind].append(pages)
            self._wait(pages.size)

    def _note_scan(self, kind: Kind, pages: Ints) -> None:
        """Count an array that may have come before: joining it takes 50 ns a page, this 1.5."""
        assert pages.dtype == np.int64, "bytes of pages are compared"
        key = kind, pages.tobytes()
        times = self._scans.get(key, 0)
        self._scans[key] = times + 1
        if times == 0:
            self._scanned_count += pages.size
            if self._scanned_count >= HOT_SCANS_PENDING:
                self._fold()

    def add(self, rows: NDArray[Any]) -> None:
        """Add counts that another one has taken (HOT_PAGE)."""
        if rows.size:
            # A copy, since they may be part of a large buffer of messages.
            self._added.append(rows.copy())
            self._wait(rows.size)

    def _wait(self, count: int) -> None:
        """Let what is new wait until there is enough of it."""
        self._pending_count += count
        if self._pending_count >= self._pending_max:
            self._fold()

    def take(self, most: int) -> NDArray[Any]:
        """Return up to `most` rows, the busiest first, and begin anew."""
        rows = self.busiest(most)
        self._rows = np.zeros(0, HOT_PAGE)
        return rows

    def busiest(self, most: int) -> NDArray[Any]:
        """Return up to `most` rows (HOT_PAGE), the busiest first, ties by page."""
        self._fold()
        return self._rows[np.argsort(-_total(self._rows), kind="stable")[:most]]

    def _fold(self) -> None:
        """Join everything that was noted and added into one row for each page."""
        parts = [self._rows, *self._added]
        self._added.clear()
        for kind, arrays in self._pending.items():
            if arrays:
                pages, counts = np.unique(np.concatenate(arrays), return_counts=True)
                parts.append(_counted(kind, pages, counts))
                arrays.clear()
        for (kind, data), times in self._scans.items():
            parts.append(_counted(kind, np.frombuffer(data, np.int64), times))
        self._scans.clear()
        self._pending_count = self._scanned_count = 0
        joined = np.concatenate(parts)
        pages, places = np.unique(joined["page"], return_inverse=True)
        rows = np.zeros(pages.size, HOT_PAGE)
        rows["page"] = pages
        for kind in _KINDS:
            np.add.at(rows[kind], places, joined[kind])
        if rows.size > 2 * self._kept:
            kept = np.argsort(-_total(rows), kind="stable")[: self._kept]
            rows = rows[np.sort(kept)]
        self._rows = rows


def _counted(kind: Kind, pages: Ints, counts: Ints | int) -> NDArray[Any]:
    """Return rows of some pages."""
    rows = np.zeros(pages.size, HOT_PAGE)
    rows["page"], rows[kind] = pages, counts
    return rows


def _total(rows: NDArray[Any]) -> Ints:
    return np.asarray(rows["fetches"] + rows["versions"] + rows["shared"])
