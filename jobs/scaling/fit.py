"""What a series says of the part that does not scale: Amdahl's and Gustafson's laws, fitted.

Strong: T(p) = T1 * (serial + (1 - serial) / p + overhead * log2 p), with the last term only where
it is justified: from five sizes on, and if it takes away most of what is left unexplained. Weak:
the scaled speed-up is p - serial * (p - 1). Work is counted in instructions there, so a problem
that did not grow by exactly the factor of its ranks is no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.scaling.plan import Mode
from jobs.scaling.rows import Point

Floats = NDArray[np.float64]

#: Sizes from which on the overhead may have a term of its own: one more than there would be terms,
#: and one to spare.
_SIZES_FOR_OVERHEAD: Final = 5
#: What part of the squared error may be left with the overhead's term, or it is left out.
_LEFT_MAX: Final = 0.25


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted law; fractions of the time of one rank."""

    mode: Mode
    serial: float
    #: For each doubling of the ranks; 0 if there is no such term.
    overhead: float = 0.0
    #: How much faster one rank is by the fit than it was measured.
    first: float = 1.0

    def speed_up(self, ranks: Floats) -> Floats:
        """Return the speed-up by the law; scaled if the mode is weak."""
        if self.mode == "weak":
            return ranks - self.serial * (ranks - 1)
        times: Floats = self.serial + (1 - self.serial) / ranks + self.overhead * np.log2(ranks)
        return self.first / times

    def __str__(self) -> str:
        told = f"serial {self.serial:.1%}"
        return told + (f", overhead {self.overhead:.1%} a doubling" if self.overhead else "")


def speed_ups(mode: Mode, points: Sequence[Point]) -> Floats:
    """Return the measured speed-up of each point against one rank, which must come first.

    Strong: how much less time the problem takes. Weak: how much more work is done in a time.
    """
    assert points[0].ranks == 1, "a series begins with one rank"
    seconds = np.array([p.seconds for p in points])
    work = np.ones(len(points)) if mode == "strong" else np.array([p.work for p in points])
    rates = work / seconds
    return np.asarray(rates / rates[0])


def fit(mode: Mode, points: Sequence[Point]) -> Fit:
    """Fit the law of the mode to a series of two sizes at least, the first of one rank."""
    assert len(points) > 1, "a single size says nothing"
    ranks = np.array([float(p.ranks) for p in points])
    measured = speed_ups(mode, points)
    if mode == "weak":
        # Each size counts alike: errors are parts of the ideal speed-up.
        left, right = (ranks - 1) / ranks, (ranks - measured) / ranks
        return Fit("weak", float(np.clip((left @ right) / (left @ left), 0, 1)))
    terms = np.stack([np.ones_like(ranks), 1 / ranks, np.log2(ranks)])
    # Times count by their ratio, so that the short ones of many ranks have a say.
    plain, plain_error = _least_squares(terms[:2] * measured)
    weights = plain
    if len(points) >= _SIZES_FOR_OVERHEAD:
        full, full_error = _least_squares(terms * measured)
        if full_error < _LEFT_MAX * plain_error:
            weights = full
    whole = weights[0] + weights[1]
    overhead = weights[2] / whole if len(weights) > 2 else 0.0
    return Fit("strong", float(weights[0] / whole), float(overhead), float(1 / whole))


def _least_squares(terms: Floats) -> tuple[Floats, float]:
    """Return the weights, none negative, with which the terms add up to ones; and the error."""
    count = len(terms)
    best, best_error = np.zeros(count), np.inf
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            columns = terms[list(chosen)].T
            found, *_ = np.linalg.lstsq(columns, np.ones(len(columns)), rcond=None)
            error = float(np.sum((columns @ found - 1) ** 2))
            if (found >= 0).all() and error < best_error - 1e-15:
                best = np.zeros(count)
                best[list(chosen)], best_error = found, error
    return best, best_error
