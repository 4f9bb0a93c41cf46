"""Ragged rows in one growing array: `first, count` name a runner's rows.

Owners give their rows back; when more than half of the array is garbage the live rows are
moved together and the owners' `first` columns are rewritten. Nothing here knows what rows mean.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dvm_mpi.dsm.ranges import expand, firsts_of
from dvm_mpi.dsm.rows import raw

#: Below this many rows gaps are not worth closing.
_ROWS_WORTH_COMPACTING: Final = 4_096


class RowArena:
    """A growable array of rows that owners hold by `first, count`."""

    def __init__(self, dtype: DTypeLike, capacity: int = 1024) -> None:
        #: (capacity,) rows; [0, used) are live or garbage.
        self.rows: NDArray[Any] = np.zeros(capacity, dtype=dtype)
        self.used = 0
        #: Rows in [0, used) that no owner holds.
        self.garbage = 0

    def append(self, rows: NDArray[Any]) -> int:
        """Copy `rows` in; return where the first one lies."""
        first = self.used
        needed = first + len(rows)
        self.reserve(len(rows))
        raw(self.rows[first:needed])[:] = raw(np.ascontiguousarray(rows))
        self.used = needed
        return first

    def reserve(self, count: int) -> None:
        """Have room for `count` more rows, which whoever fills them in counts as `used`."""
        needed = self.used + count
        if needed > len(self.rows):
            grown = np.zeros(max(needed, 2 * len(self.rows)), dtype=self.rows.dtype)
            raw(grown[: self.used])[:] = raw(self.rows[: self.used])
            self.rows = grown

    def gather(
        self, firsts: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return copies of the groups' rows, one group after another, and their new firsts."""
        return self.rows.take(expand(firsts, counts)), firsts_of(counts)

    def release(self, count: int) -> None:
        """Note that owners gave back `count` rows."""
        self.garbage += count
        assert self.garbage <= self.used, "more rows were given back than were taken"

    @property
    def wants_compaction(self) -> bool:
        """Whether garbage outweighs what is live."""
        return self.used > _ROWS_WORTH_COMPACTING and self.garbage * 2 > self.used

    def compact(self, firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keep only the groups given (those of every live owner); return their new firsts."""
        kept, moved = self.gather(firsts, counts)
        self.replace(kept)
        return moved

    def replace(self, kept: NDArray[Any]) -> None:
        """Hold what owners have, and nothing else; they know where it lies now."""
        assert len(kept) == self.used - self.garbage, "an owner's rows were forgotten"
        raw(self.rows[: len(kept)])[:] = raw(kept)
        self.used, self.garbage = len(kept), 0
