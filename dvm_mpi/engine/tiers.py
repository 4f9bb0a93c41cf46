"""What is hot: samples of where runners are, and the places whose code should be translated.

Pure: no clock, no file; instructions of the interpreter are the time. A sample is taken after so
many of them, however these fall into batches and slices; what runs translated is not interrupted. A
*place* is a stretch of text, of one of several lengths. A loop may lie in many short ones, and is
translated when the first of them is hot, or when a longer one is that holds more of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dvm_mpi.config import HOT_SAMPLES, PLACE_BYTES, SAMPLE_FUEL, SAMPLE_FUEL_MAX

#: By lengths of places, as powers of two: how many times PLACE_BYTES a place is long, and how many
#: times HOT_SAMPLES make it hot. What is around a sample of a longer one is less surely hot.
_LENGTHS: Final = ((0, 0), (3, 1), (6, 2))


class Tiers:
    """The samples of one engine."""

    def __init__(self) -> None:
        #: Instructions until the next sample is due.
        self.left = SAMPLE_FUEL
        self._interval = SAMPLE_FUEL
        #: Samples by length and place; hardly more places than the text has short ones.
        self._samples: dict[tuple[int, int], int] = {}
        #: Addresses of instructions that are translated.
        self._translated: set[int] = set()

    @property
    def is_due(self) -> bool:
        """Whether a sample should be taken."""
        return self.left <= 0

    def ran(self, instructions: int) -> None:
        """Note how many instructions were interpreted."""
        self.left -= instructions

    def cover(self, addresses: Iterable[int]) -> None:
        """Note that instructions are translated from now on."""
        self._translated.update(addresses)

    def sample(self, pc: int) -> bool:
        """Take a sample; say whether what is around `pc` should be translated.

        Where instructions are interpreted that translated code leaves, samples come less and less
        often: they find nothing.
        """
        is_translated = pc in self._translated
        self._interval = min(2 * self._interval, SAMPLE_FUEL_MAX) if is_translated else SAMPLE_FUEL
        self.left = self._interval
        if is_translated:
            return False
        is_hot = False
        for longer, hotter in _LENGTHS:
            place = longer, pc // (PLACE_BYTES << longer)
            count = self._samples[place] = self._samples.get(place, 0) + 1
            times, rest = divmod(count, HOT_SAMPLES << hotter)
            # A place may hold several loops, of which each is asked for when a sample finds it.
            is_hot |= rest == 0 and times & (times - 1) == 0
        return is_hot
