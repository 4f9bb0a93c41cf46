"""How many instructions a slice has, so that it lasts about a millisecond whatever executes it.

Pure: told how long slices took. Translated code executes ten to forty instructions in the time in
which the interpreter executes one, and a turn around a slice takes as long as the slice then would.
"""

from __future__ import annotations

from dvm_mpi.config import SLICE_FUEL, SLICE_FUEL_MAX, SLICE_US

#: Of the time that a slice is meant to take, the interpreter's pace.
USUAL_PER_US = SLICE_FUEL / SLICE_US
#: A slice of fewer instructions says little of how long they take.
_TELLING = SLICE_FUEL // 8
#: Weight of the newest slice in the pace.
_SMOOTHING = 0.3


class SliceLength:
    """The fuel of the next slice, and the pace of the last ones."""

    def __init__(self) -> None:
        self.fuel = SLICE_FUEL
        #: Instructions in a microsecond; 0: not known yet.
        self.per_us = 0.0

    def took(self, fuel: int, instructions: int, duration_us: int) -> None:
        """Take what a slice of some fuel executed, and how long it took.

        Slices that take too long are shortened at once, others are lengthened by twice at a time:
        what is translated for one runner need not be for the next.
        """
        duration_us = max(duration_us, 1)
        fitting = fuel * SLICE_US // duration_us
        if duration_us > SLICE_US:
            self.fuel = max(min(self.fuel, fitting), SLICE_FUEL)
        elif 2 * instructions >= fuel:
            self.fuel = min(max(self.fuel, min(2 * fuel, fitting)), SLICE_FUEL_MAX)
        if instructions >= _TELLING:
            pace = instructions / duration_us
            self.per_us += (_SMOOTHING if self.per_us else 1.0) * (pace - self.per_us)


def effort_of(instructions: int, per_us: float) -> int:
    """Return how many instructions are executed at the usual pace in the time that these took.

    Never more than these: where they are slower, that is for reasons of their own.
    """
    return instructions if per_us <= USUAL_PER_US else int(instructions * USUAL_PER_US / per_us)
