"""Costs are found again in times that were made of them, and are never negative."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.sim.model.effort import STEPS
from dvm_mpi.sim.model.fit import fit_costs, non_negative, proportional


def test_costs_are_found_again() -> None:
    chance = np.random.default_rng(1)
    amounts = chance.integers(0, 50, (400, 4)).astype(float)
    costs = np.array([1_000.0, 0.0, 20.0, 0.5])
    took = amounts @ costs + chance.normal(0, 1, 400)
    fitted = non_negative(amounts, took, np.ones(400))
    assert fitted == pytest.approx(costs, abs=0.1)


def test_a_cost_that_would_be_negative_is_zero_and_the_others_are_the_best_without_it() -> None:
    amounts = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    # Falls with the second amount.
    took = np.array([10.0, 8.0, 6.0])
    assert non_negative(amounts, took, np.ones(3)) == pytest.approx([8.0, 0.0])


def test_amounts_of_very_different_sizes_do_not_disturb_each_other() -> None:
    chance = np.random.default_rng(2)
    amounts = np.stack([np.ones(200), chance.integers(0, 1 << 30, 200)], axis=1).astype(float)
    costs = np.array([5_000.0, 0.25])
    assert non_negative(amounts, amounts @ costs, np.ones(200)) == pytest.approx(costs)


def test_short_steps_are_met_beside_long_ones_that_scatter_more() -> None:
    chance = np.random.default_rng(3)
    sizes = np.concatenate([np.ones(500), np.full(500, 10_000.0)])
    amounts = np.stack([np.ones(1_000), sizes], axis=1)
    costs = np.array([20_000.0, 100.0])
    took = amounts @ costs * np.exp(chance.normal(0, 0.3, 1_000))
    fitted = proportional(amounts, took)
    short = amounts[0] @ fitted
    assert short == pytest.approx(took[:500].mean(), rel=0.02)
    # And all of them take in all what they took.
    assert (amounts @ fitted).sum() == pytest.approx(took.sum(), rel=1e-3)


def test_every_step_has_costs_also_those_that_never_happened() -> None:
    rows = np.array([[1.0, 0.0, 1_000.0], [1.0, 0.0, 3_000.0]])
    costs, residuals = fit_costs({"turn": rows})
    assert costs["turn"] == pytest.approx((2_000.0, 0.0))
    assert costs["receive"] == (0.0,) * len(STEPS["receive"])
    assert residuals.keys() == {"turn"}
    # In all, as long as was measured.
    assert residuals["turn"]["predicted_by_measured"] == pytest.approx(1.0)
