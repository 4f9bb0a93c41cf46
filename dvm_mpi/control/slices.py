"""How many instructions a slice has, so that it lasts about as long whatever executes it.

Pure: told how long slices took. Translated code executes ten to forty instructions in the time in
which the interpreter executes one, and a turn around a slice takes as long as the slice then would.
"""

from __future__ import annotations

from dvm_mpi.config import SLICE_FUEL, SLICE_FUEL_MAX, SLICE_US

#: Of the time that a slice is meant to take, the interpreter's pace.
USUAL_PER_US = SLICE_FUEL / SLICE_US
#: What translated code is taken to execute in a microsecond where nothing may be measured.
TRANSLATED_PER_US = 8 * USUAL_PER_US
#: A slice of fewer instructions says little of how long they take.
_TELLING = SLICE_FUEL // 8
#: Weight of the newest slice in the pace.
_SMOOTHING = 0.3


class SliceLength:
    """The fuel of the next slice, and the pace of the last ones.

    Slices are meant to last `slice_us`, and have `least` instructions and `most` ones at most.
    """

    def __init__(
        self, slice_us: int = SLICE_US, least: int = SLICE_FUEL, most: int = SLICE_FUEL_MAX
    ) -> None:
        self._slice_us, self._least, self._most = slice_us, least, most
        self.fuel = least
        #: Instructions in a microsecond; 0: not known yet.
        self.per_us = 0.0

    def took(self, fuel: int, instructions: int, duration_us: int) -> None:
        """Take what a slice of some fuel executed, and how long it took.

        Slices that take too long are shortened at once, others are lengthened by twice at a time:
        what is translated for one runner need not be for the next.
        """
        duration_us = max(duration_us, 1)
        fitting = fuel * self._slice_us // duration_us
        if duration_us > self._slice_us:
            self.fuel = max(min(self.fuel, fitting), self._least)
        elif 2 * instructions >= fuel:
            self.fuel = min(max(self.fuel, min(2 * fuel, fitting)), self._most)
        if instructions >= _TELLING:
            pace = instructions / duration_us
            self.per_us += (_SMOOTHING if self.per_us else 1.0) * (pace - self.per_us)


def effort_of(instructions: int, per_us: float) -> int:
    """Return how many instructions are executed at the usual pace in the time that these took.

    Never more than these: where they are slower, that is for reasons of their own.
    """
    return instructions if per_us <= USUAL_PER_US else int(instructions * USUAL_PER_US / per_us)
