"""A first-in first-out queue of row numbers that is filled and emptied by vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RowQueue:
    """A ring of int64 that doubles when it is full."""

    def __init__(self, capacity: int = 1024) -> None:
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
            grown[: self._count] = self.peek(self._count)
            self._ring, self._head = grown, 0
        places = (self._head + self._count + np.arange(len(rows))) % len(self._ring)
        self._ring[places] = rows
        self._count = needed

    def peek(self, count: int) -> NDArray[np.int64]:
        """Return a copy of the first `count` rows, or of all if there are fewer."""
        count = min(count, self._count)
        return self._ring[(self._head + np.arange(count)) % len(self._ring)]

    def pop(self, count: int) -> NDArray[np.int64]:
        """Remove and return the first `count` rows, or all if there are fewer."""
        rows = self.peek(count)
        self._head = (self._head + len(rows)) % len(self._ring)
        self._count -= len(rows)
        return rows
