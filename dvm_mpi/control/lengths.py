"""How long attempts are, by the place where their runners begin: counts by powers of two.

For the report: which runners are too short to be worth a message, or so long that others wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LENGTH_ENTRIES_KEPT

Ints = NDArray[np.int64]
#: Class c holds attempts of 2**(c-1) to 2**c - 1 instructions; class 0 those of none.
CLASS_COUNT: Final = 64
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
        if bool((entries == entries[0]).all()):
            self._add(int(entries[0]), instructions)
            return
        for entry in np.unique(entries).tolist():
            self._add(entry, instructions[entries == entry])

    def _add(self, entry: int, instructions: Ints) -> None:
        if entry not in self._classes and len(self._classes) >= self._entries_kept:
            entry = OTHERS
        _, classes = np.frexp(instructions.astype(np.float64))
        counts = np.bincount(classes, minlength=CLASS_COUNT)
        known = self._classes.get(entry)
        self._classes[entry] = counts if known is None else known + counts
        total, longest = self._totals.get(entry, (0, 0))
        longest = max(longest, int(instructions.max()))
        self._totals[entry] = total + int(instructions.sum()), longest

    def entries(self) -> tuple[EntryLengths, ...]:
        """Return what was counted, the entries with the most instructions first."""
        found = [
            EntryLengths(entry, int(classes.sum()), *self._totals[entry], classes)
            for entry, classes in self._classes.items()
        ]
        return tuple(sorted(found, key=lambda e: (-e.instructions, e.entry)))
