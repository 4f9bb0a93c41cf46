"""How long attempts are, by the place where their runners begin: counts by powers of two.

For the report: which runners are too short to be worth a message, or so long that others wait.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LENGTH_ENTRIES_KEPT
from dvm_mpi.control import record_loops
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]
#: Class c holds attempts of 2**(c-1) to 2**c - 1 instructions; class 0 those of none.
CLASS_COUNT: Final = record_loops.CLASS_COUNT
#: Stands for all entries beyond the limit.
OTHERS: Final = 0


@dataclass(frozen=True, slots=True)
class EntryLengths:
    """Attempts of runners with one entry, those that lost included."""

    entry: int
    attempts: int
    instructions: int
    longest: int
    #: (CLASS_COUNT,)
    classes: Ints


class RunnerLengths:
    """Counts attempts by entry and length."""

    def __init__(self, entries_kept: int = LENGTH_ENTRIES_KEPT) -> None:
        self._entries_kept = entries_kept
        self._classes: dict[int, Ints] = {}
        self._totals: dict[int, tuple[int, int]] = {}

    def note(self, entries: Ints, instructions: Ints) -> None:
        """Count attempts; (n,) where their runners begin, and what they executed."""
        if len(entries) == 0:
            return
        # Nearly always a batch has runners of one sort only.
        if self._add(entries, instructions):
            return
        for entry in distinct(entries).tolist():
            is_one = entries == entry
            self._add(entries[is_one], instructions[is_one])

    def add(self, entry: int, classes: Ints, instructions: int, longest: int) -> None:
        """Add attempts of one entry that were counted elsewhere, by classes (CLASS_COUNT,)."""
        if entry not in self._classes and len(self._classes) >= self._entries_kept:
            entry = OTHERS
        known = self._classes.get(entry)
        self._classes[entry] = classes if known is None else known + classes
        total, most = self._totals.get(entry, (0, 0))
        self._totals[entry] = total + instructions, max(most, longest)

    def _add(self, entries: Ints, instructions: Ints) -> bool:
        """Count attempts if they are of one entry; say whether they are."""
        classes = np.zeros(CLASS_COUNT, np.int64)
        totals = np.zeros(record_loops.MEASURED_COUNT, np.int64)
        lengths = np.ascontiguousarray(instructions)
        if not record_loops.measure(np.ascontiguousarray(entries), lengths, classes, totals):
            return False
        self.add(int(entries[0]), classes, *totals.tolist())
        return True

    def entries(self) -> tuple[EntryLengths, ...]:
        """Return what was counted, the entries with the most instructions first."""
        found = [
            EntryLengths(entry, int(classes.sum()), *self._totals[entry], classes.copy())
            for entry, classes in self._classes.items()
        ]
        return tuple(sorted(found, key=lambda e: (-e.instructions, e.entry)))
