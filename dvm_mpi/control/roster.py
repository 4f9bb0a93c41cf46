"""Which attempts a worker has, and how much of its time each takes. No object for an attempt."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import RUNNER_FUEL

Ints = NDArray[np.int64]

#: An attempt: its number, the scheduler's number of its runner, and where it began.
_ATTEMPT: Final = np.dtype([("number", "<i8"), ("runner", "<i8"), ("entry", "<i8")])


class Roster:
    """The attempts that were dispatched to one worker and have not ended.

    A runner may be here twice, if an attempt was given up on and sleeps here still. Invariant:
    numbers ascend, since the coordinator counts them upwards and messages keep their order.
    """

    def __init__(self) -> None:
        #: Attempts, ended ones too until others come.
        self._rows: NDArray[Any] = np.zeros(0, _ATTEMPT)
        self._ended: NDArray[np.bool_] = np.zeros(0, bool)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, numbers: Ints, attempts: NDArray[Any]) -> None:
        """Take a batch: the numbers of its attempts, and the attempts (ATTEMPT)."""
        rows = np.empty(len(numbers), _ATTEMPT)
        rows["number"] = numbers
        rows["runner"], rows["entry"] = attempts["runner"], attempts["entry"]
        # Those that are set aside: as a rule there is none.
        kept = self._rows[~self._ended] if self._count else self._rows[:0]
        self._rows = np.concatenate([kept, rows]) if kept.size else rows
        in_order = self._rows["number"]
        assert (in_order[1:] > in_order[:-1]).all(), "attempts are numbered upwards"
        self._ended = np.zeros(len(self._rows), bool)
        self._count = len(self._rows)

    def end(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Forget attempts that ended; return their runners and entries, in the order asked."""
        at = np.searchsorted(self._rows["number"], numbers)
        rows = self._rows[at]
        assert (rows["number"] == numbers).all(), "an attempt ended that is not here"
        self._ended[at] = True
        self._count -= len(numbers)
        return rows["runner"], rows["entry"]


class Pace:
    """How many instructions short attempts have each: beginning and ending them takes time as well.

    A slice of so much fuel would hold hundreds of thousands of attempts of two instructions, and a
    worker that executes it would not look at its messages for a second.
    """

    def __init__(self) -> None:
        #: Instructions of an attempt, as of the last slice; long at first.
        self._length = float("inf")
        #: Instructions that were executed since one ended.
        self._since_end = 0

    def fuel(self, fuel: int) -> int:
        """Return the part of a slice's fuel that is for instructions; the rest is for attempts."""
        if self._length == float("inf"):
            return fuel
        return max(int(fuel * self._length / (self._length + RUNNER_FUEL)), 1)

    def ran(self, instructions: int, attempts: int) -> int:
        """Take what a slice executed, and how many attempts ended in it; return its weight."""
        # One that has not ended is as long as this at least: a long one is cut once only. How long
        # it was when it ends does not depend on how it was cut.
        self._since_end += instructions
        self._length = float("inf")
        if attempts:
            self._length = max(self._since_end, 1) / attempts
            self._since_end = 0
        return instructions + RUNNER_FUEL * attempts
