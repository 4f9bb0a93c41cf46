"""A queue of row numbers that is filled and emptied by vectors: first in, first out.

Of a queue that is allowed to, the last ones come first while it is long: they are the children of
those that came before them, and leave fewer waiting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RowQueue:
    """A ring of int64 that doubles when it is full.

    Parameters
    ----------
    capacity
        Rows that it has room for at first.
    in_order_max
        Of more rows than this the last ones come first; None: never.
    """

    def __init__(self, capacity: int = 1024, in_order_max: int | None = None) -> None:
        self._in_order_max = in_order_max
        self._ring = np.zeros(capacity, dtype=np.int64)
        self._head = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, rows: NDArray[np.int64]) -> None:
        """Append `rows` in their order."""
        needed = self._count + len(rows)
        if needed > len(self._ring):
            grown = np.zeros(max(needed, 2 * len(self._ring)), dtype=np.int64)
            grown[: self._count] = self._ring[self._places(np.arange(self._count))]
            self._ring, self._head = grown, 0
        self._ring[self._places(self._count + np.arange(len(rows)))] = rows
        self._count = needed

    def peek(self, count: int) -> NDArray[np.int64]:
        """Return a copy of the next `count` rows, or of all if there are fewer."""
        behind_first = np.arange(min(count, self._count))
        if self._is_long:
            return self._ring[self._places(self._count - 1 - behind_first)]
        return self._ring[self._places(behind_first)]

    @property
    def _is_long(self) -> bool:
        return self._in_order_max is not None and self._count > self._in_order_max

    def _places(self, behind_first: NDArray[np.int64]) -> NDArray[np.int64]:
        return (self._head + behind_first) % len(self._ring)

    def pop(self, count: int) -> NDArray[np.int64]:
        """Remove and return the next `count` rows, or all if there are fewer."""
        rows = self.peek(count)
        if not self._is_long:
            self._head = (self._head + len(rows)) % len(self._ring)
        self._count -= len(rows)
        return rows
