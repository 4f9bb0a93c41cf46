"""Ranges that are kept for runners that have lost too often.

After some losses the bytes through which a runner may lose are reserved while it runs: what it
stored last time and, under `serializable`, what it loaded. Records of others that store there are
held back, unordered, until the holder's own record has been ordered. A holder is never held, so
nothing waits in a circle. Two overlapping reservations are never given.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.grants import overlaps
from dvm_mpi.layout import RANGE

_NOTHING: Final = np.zeros(0, dtype=RANGE)


class Reservations:
    """Active reservations by runner row; few, since most runners never lose."""

    def __init__(self) -> None:
        #: What was at stake in each loser's last attempt; sorted, disjoint RANGE.
        self._wanted: dict[int, NDArray[Any]] = {}
        self._active: dict[int, NDArray[Any]] = {}

    @property
    def active(self) -> bool:
        """Whether any range is reserved now."""
        return bool(self._active)

    @property
    def is_remembering(self) -> bool:
        """Whether the ranges of any runner are kept for its next attempt."""
        return bool(self._wanted)

    def remember(self, row: int, ranges: NDArray[Any]) -> None:
        """Note what a loser wants to find unchanged, for its next attempts."""
        self._wanted[row] = ranges

    def wanted(self, row: int) -> NDArray[Any]:
        """Return what a loser stored in its last attempt; nothing if that is not known."""
        return self._wanted.get(row, _NOTHING)

    def forget(self, row: int) -> None:
        """Drop everything about a runner that ended."""
        self._wanted.pop(row, None)
        self._active.pop(row, None)

    def activate(self, row: int) -> bool:
        """Reserve a dispatched runner's ranges, unless others hold some of them."""
        wanted = self._wanted.get(row)
        if wanted is None or any(overlaps(held, wanted).any() for held in self._active.values()):
            return False
        self._active[row] = wanted
        return True

    def deactivate(self, row: int) -> bool:
        """End a reservation when its holder's attempt ends; say whether there was one."""
        return self._active.pop(row, None) is not None

    def blocks(
        self, rows: NDArray[np.int64], offsets: NDArray[np.int64], runs: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Say which records touch a range that is reserved for another runner.

        `runs[offsets[i] : offsets[i + 1]]` are the bytes of the record of runner `rows[i]`.
        """
        blocked = np.zeros(len(rows), dtype=bool)
        holders = np.array(list(self._active), dtype=np.int64)
        wanted = np.zeros(len(runs), dtype=RANGE)
        wanted["start"], wanted["length"] = runs["start"], runs["length"]
        record = np.repeat(np.arange(len(rows)), np.diff(offsets))
        for ranges in self._active.values():
            blocked[record[overlaps(ranges, wanted)]] = True
        return blocked & ~np.isin(rows, holders)
