"""Decisions of a simulated coordinator that are timed: they are all there, and add up."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from dvm_mpi.job import wide
from dvm_mpi.sim.model.effort import STEPS
from tests.sim.model.sites import ROUND

RANKS = 40


def test_every_decision_of_a_run_is_timed() -> None:
    rows = np.array(wide.time_decisions(ROUND, RANKS, 400_000))
    assert rows.shape[1] == len(STEPS["decide"]) + 1
    assert (rows[:, 0] == 1).all()
    assert (rows[:, -1] > 0).all()
    total = dict(zip(STEPS["decide"], rows.sum(axis=0).tolist(), strict=False))
    # The parent, the first runner, and what it creates; each has one attempt and one record.
    runners = RANKS * wide._RUNNERS_OF_RANK + 2
    assert total["attempts"] == total["records"] == runners
    assert 0 < total["runners"] <= runners
    # There are leaders, and most batches go in messages for several workers.
    assert total["shares"] > RANKS
    assert gc.isenabled()


def test_what_comes_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def timed(_: object, ranks: int, instructions: int) -> list[tuple[float, ...]]:
        asked.append((ranks, instructions))
        return [tuple(float(ranks) for _ in range(len(STEPS["decide"]) + 1))]

    monkeypatch.setattr(wide, "time_decisions", timed)
    rows = wide.wide_decisions(ROUND)
    assert asked == list(wide._CASES)
    assert rows[:, 0].tolist() == [ranks for ranks, _ in wide._CASES[1:]]
