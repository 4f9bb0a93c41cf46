"""The snapshots in use: which epochs must stay readable."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray


class Pins:
    """A multiset of epochs; each runner that holds a snapshot counts once."""

    #: How often each epoch is pinned; never zero.
    _counts: dict[int, int]
    #: The same epochs, ascending.
    _sorted: list[int]

    def __init__(self) -> None:
        self._counts = {}
        self._sorted = []

    def add(self, epoch: int, count: int = 1) -> None:
        """Pin `epoch` for `count` more runners."""
        assert count >= 0
        if count == 0:
            return
        if epoch not in self._counts:
            insort(self._sorted, epoch)
        self._counts[epoch] = self._counts.get(epoch, 0) + count

    def remove(self, epoch: int, count: int = 1) -> None:
        """Undo `add` for `count` runners."""
        assert count >= 0
        left = self._counts.get(epoch, 0) - count
        assert left >= 0, f"epoch {epoch} unpinned more often than pinned"
        if count == 0:
            return
        if left:
            self._counts[epoch] = left
        else:
            del self._counts[epoch]
            del self._sorted[bisect_left(self._sorted, epoch)]

    @property
    def epochs(self) -> NDArray[np.int64]:
        """The pinned epochs, ascending, each once; the caller's own copy."""
        return np.array(self._sorted, np.int64)

    @property
    def oldest(self) -> int | None:
        """The oldest pinned epoch, if any."""
        return self._sorted[0] if self._sorted else None

    def __len__(self) -> int:
        """Return how many runners hold a pin."""
        return sum(self._counts.values())

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert self._sorted == sorted(self._counts)
        assert all(count > 0 for count in self._counts.values())
