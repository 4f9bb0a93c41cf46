"""How long the next attempts will be, from those that ended: what sizes batches.

Runners that begin at the same place do about the same. For each entry there is a running mean, and
beside it a first-order autoregression of how the batches that ended deviate from the mean: where
runners get longer and shorter by and by, as they do along the parts of an uneven problem, the next
ones are rather as the last ones were than as all were.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_FUEL, BATCH_RUNNERS_MAX, LENGTH_ENTRIES_KEPT, RUNNER_FUEL
from dvm_mpi.control import row_loops
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]

#: Weight of the newest measurement in the running mean of runner lengths, and in the running
#: moments of the deviations of batches.
_SMOOTHING: Final = 0.2
#: Weight of the very first ones, and how many these are: a guess is worth less than what was seen,
#: and where runners are short the first batches, of single ones, cost a message each.
_FIRST_SMOOTHING: Final = 0.5
_FIRST_ONES: Final = 8
_MOMENT_SMOOTHING: Final = 0.1
#: How much of its last deviation an entry keeps at most; more would hardly come back to its mean.
_KEPT_MAX: Final = 0.9


@dataclass(slots=True)
class RunningMean:
    """Of the instructions of attempts.

    `guesses`: how many of those to come weigh more, since until then it is a guess.
    """

    mean: float
    guesses: int = 0

    def observe(self, batch_mean: float, count: int) -> None:
        """Take a batch as its mean, observed once for each of its attempts."""
        first = min(count, self.guesses)
        self.guesses -= first
        kept = (1.0 - _FIRST_SMOOTHING) ** first * (1.0 - _SMOOTHING) ** (count - first)
        self.mean += (1.0 - kept) * (batch_mean - self.mean)


class Autoregression:
    """Predicts the next value of a series: d' = k d, where d is the deviation from the mean.

    k is the covariance of successive deviations over their variance, both running means.
    """

    def __init__(self, first: float) -> None:
        self._mean = RunningMean(first)
        self._deviation = self._variance = self._covariance = 0.0

    @property
    def kept(self) -> float:
        """The share of a deviation that the next batch is expected to have, k."""
        if self._variance == 0.0:
            return 0.0
        return min(max(self._covariance / self._variance, -_KEPT_MAX), _KEPT_MAX)

    @property
    def next(self) -> float:
        """The value that is expected next; at least 1."""
        return max(self._mean.mean + self.kept * self._deviation, 1.0)

    def observe(self, batch_mean: float, count: int) -> None:
        """Take a batch of `count` values."""
        deviation = batch_mean - self._mean.mean
        self._covariance += _MOMENT_SMOOTHING * (deviation * self._deviation - self._covariance)
        self._variance += _MOMENT_SMOOTHING * (deviation * deviation - self._variance)
        self._mean.observe(batch_mean, count)
        self._deviation = batch_mean - self._mean.mean


@dataclass(frozen=True, slots=True)
class Batches:
    """Runners in batches, in order: of which portion each batch is, its runners, and its fuel.

    Three times (n,) int64; the fuel is what its runners are expected to take together.
    """

    portions: Ints
    counts: Ints
    fuel: Ints


class LengthEstimate:
    """Instructions that attempts will execute, of all and by entry; sizes the batches.

    A runner that is empty costs time, too: RUNNER_FUEL is added to each.
    """

    def __init__(self, entries_kept: int = LENGTH_ENTRIES_KEPT) -> None:
        #: Of all attempts; starts high, so that the first batches are single runners.
        self.all = RunningMean(float(BATCH_FUEL), _FIRST_ONES)
        self._entries_kept = entries_kept
        self._by_entry: dict[int, Autoregression] = {}

    def observe(self, entries: Ints, instructions: Ints) -> None:
        """Take the lengths of attempts that ended, and where they began."""
        if len(entries) == 0:
            return
        # Nearly always a batch has runners of one sort only.
        if bool((entries == entries[0]).all()):
            self.observe_one(int(entries[0]), float(instructions.mean()), len(instructions))
            return
        self.all.observe(float(instructions.mean()), len(instructions))
        for entry in distinct(entries).tolist():
            own = instructions[entries == entry]
            self._observe(entry, float(own.mean()), len(own))

    def observe_one(self, entry: int, mean: float, count: int) -> None:
        """Take the mean length of `count` attempts that all began at one place."""
        self.all.observe(mean, count)
        self._observe(entry, mean, count)

    def _observe(self, entry: int, mean: float, count: int) -> None:
        if entry in self._by_entry:
            self._by_entry[entry].observe(mean, count)
        elif len(self._by_entry) < self._entries_kept:
            self._by_entry[entry] = Autoregression(mean)

    def predicted(self, entry: int) -> float:
        """Return the instructions of the next attempt there; as of all, if nobody ended there."""
        known = self._by_entry.get(entry)
        return self.all.mean if known is None else known.next

    @property
    def batch_runners(self) -> int:
        """Runners that have about BATCH_FUEL instructions together, whoever they are."""
        return self.fitting(BATCH_FUEL, self.all.mean + RUNNER_FUEL)

    def fitting(self, fuel: int, runner_fuel: float) -> int:
        """Return how many runners a batch of so many instructions has, each of so many."""
        return int(min(max(fuel / runner_fuel, 1.0), BATCH_RUNNERS_MAX))

    def likely_fuel(self, entries: Ints) -> float:
        """Return what a runner that begins at one of these is likely to take, on average.

        One whose like has never ended is taken for as long as a batch.
        """
        each, counts = np.unique(entries, return_counts=True)
        known = [self._by_entry.get(entry) for entry in each.tolist()]
        lengths = [float(BATCH_FUEL) if one is None else one.next for one in known]
        return float(np.dot(counts, lengths)) / len(entries) + RUNNER_FUEL

    def fuel_of(self, entries: Ints) -> float:
        """Return what runners that begin there are expected to take together."""
        if bool((entries == entries[0]).all()):
            return len(entries) * (self.predicted(int(entries[0])) + RUNNER_FUEL)
        each, counts = np.unique(entries, return_counts=True)
        lengths = [self.predicted(entry) + RUNNER_FUEL for entry in each.tolist()]
        return float(np.dot(counts, lengths))

    def known_fuel(self, entries: Ints) -> float:
        """Return what `fuel_of` does; infinite if nobody has ended at one of these entries."""
        if not all(entry in self._by_entry for entry in set(entries.tolist())):
            return math.inf
        return self.fuel_of(entries)

    def cut(self, entries: Ints, counts: Ints, fuel: int, most: int) -> Batches:
        """Cut portions of runners into batches, in order, each about `fuel` instructions long.

        Portion p has the next `counts[p]` of the runners that begin at `entries`. A batch has one
        runner at least, and no more than `most`: workers have room for batches of that size, and
        few ends are no reason yet to put all that is there into one.
        """
        needed = self._needed(entries)
        portions, sizes, fuels = (np.empty(len(entries), np.int64) for _ in range(3))
        count = row_loops.cut(needed, counts, fuel, most, portions, sizes, fuels)
        return Batches(portions[:count], sizes[:count], fuels[:count])

    def _needed(self, entries: Ints) -> Ints:
        """Return the instructions that each runner is expected to take, and RUNNER_FUEL."""
        if len(entries) == 0:
            return np.empty(0, np.int64)
        if bool((entries == entries[0]).all()):
            length = int(self.predicted(int(entries[0])) + RUNNER_FUEL)
            return np.full(len(entries), length, np.int64)
        each, which = np.unique(entries, return_inverse=True)
        lengths = np.array([self.predicted(entry) for entry in each.tolist()])
        return (lengths + RUNNER_FUEL).astype(np.int64)[which]
