"""Costs are found again in times that were made of them, and are never negative."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.sim.model.effort import STEPS
from dvm_mpi.sim.model.fit import fit_costs, non_negative


def test_costs_are_found_again() -> None:
    chance = np.random.default_rng(1)
    amounts = chance.integers(0, 50, (400, 4)).astype(float)
    costs = np.array([1_000.0, 0.0, 20.0, 0.5])
    fitted = non_negative(amounts, amounts @ costs + chance.normal(0, 1, 400))
    assert fitted == pytest.approx(costs, abs=0.1)


def test_a_cost_that_would_be_negative_is_zero_and_the_others_are_the_best_without_it() -> None:
    amounts = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    # Falls with the second amount.
    took = np.array([10.0, 8.0, 6.0])
    assert non_negative(amounts, took) == pytest.approx([8.0, 0.0])


def test_amounts_of_very_different_sizes_do_not_disturb_each_other() -> None:
    chance = np.random.default_rng(2)
    amounts = np.stack([np.ones(200), chance.integers(0, 1 << 30, 200)], axis=1).astype(float)
    costs = np.array([5_000.0, 0.25])
    assert non_negative(amounts, amounts @ costs) == pytest.approx(costs)


def test_every_step_has_costs_also_those_that_never_happened() -> None:
    rows = np.array([[1.0, 100.0], [1.0, 300.0]])
    costs, residuals = fit_costs({"turn": rows})
    assert costs["turn"] == (200.0,)
    assert costs["receive"] == (0.0,) * len(STEPS["receive"])
    assert residuals.keys() == {"turn"}
    # In all, as long as was measured.
    assert residuals["turn"]["predicted_by_measured"] == pytest.approx(1.0)
