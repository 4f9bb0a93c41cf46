"""Fits of times to amounts: weighted least squares with costs that are not negative.

A step that takes ten times as long scatters more: its square counts less, by what it is predicted
to take. So short steps count as well as long ones, and what all steps take in all is met.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.sim.model.effort import STEPS, Amounts

Floats = NDArray[np.float64]
#: Samples of steps: a row each, amounts and then the nanoseconds they took.
Samples = dict[str, Floats]

#: How often weights are taken from the fit before; and the shortest time that a weight stands for.
_ROUNDS: Final = 6
_SHORTEST_NS: Final = 500.0
#: Columns of a fit: every subset of so many is tried.
_COLUMNS_MAX: Final = 8


def fit_costs(samples: Samples) -> tuple[dict[str, Amounts], dict[str, Any]]:
    """Return each step's costs, and how well they meet the samples; steps never seen cost 0.

    Residuals, by step: how many samples, the seconds they took in all, what the fit leaves of
    the squares of their deviations, and the ratio of predicted to measured time in all.
    """
    costs, residuals = {}, {}
    for step, names in STEPS.items():
        rows = samples.get(step, np.empty((0, len(names) + 1)))
        amounts, took = rows[:, :-1], rows[:, -1]
        if len(rows) == 0:
            costs[step] = (0.0,) * len(names)
            continue
        fitted = proportional(amounts, took)
        predicted = amounts @ fitted
        scatter = float(((took - took.mean()) ** 2).sum())
        left = float(((took - predicted) ** 2).sum())
        costs[step] = tuple(fitted.tolist())
        residuals[step] = {
            "samples": len(rows),
            "measured_s": float(took.sum()) / 1e9,
            "predicted_by_measured": float(predicted.sum() / max(took.sum(), 1.0)),
            "left_of_squares": left / scatter if scatter else 0.0,
        }
    return costs, residuals


def proportional(amounts: Floats, took: Floats) -> Floats:
    """Return the costs, none negative, where squares of deviations grow with what is predicted.

    Where the weights agree with the costs, the sum of what is predicted is that of `took`.
    """
    weights = np.ones(len(took))
    for _ in range(_ROUNDS):
        fitted = non_negative(amounts, took, weights)
        weights = 1 / np.maximum(amounts @ fitted, _SHORTEST_NS)
    return non_negative(amounts, took, weights)


def non_negative(amounts: Floats, took: Floats, weights: Floats) -> Floats:
    """Return the costs, none negative, with the least sum of squares of `amounts @ costs - took`.

    Each square counts by its weight. Exact: the best of all choices of columns whose own best costs
    are not negative.
    """
    count = amounts.shape[1]
    assert count <= _COLUMNS_MAX, "too many columns to try every choice"
    scale = np.maximum(np.abs(amounts).max(axis=0), 1e-300)
    scaled = amounts / scale
    # Of the normal equations everything follows, however many samples there are.
    weighted = scaled * weights[:, None]
    gram, product = weighted.T @ scaled, weighted.T @ took
    best, best_gain = np.zeros(count), 0.0
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            columns = np.array(chosen)
            part = gram[np.ix_(columns, columns)]
            tried = np.linalg.lstsq(part, product[columns], rcond=1e-10)[0]
            gain = float(2 * tried @ product[columns] - tried @ part @ tried)
            if (tried >= 0).all() and gain > best_gain:
                best_gain = gain
                best = np.zeros(count)
                best[columns] = tried
    return np.asarray(best / scale)
