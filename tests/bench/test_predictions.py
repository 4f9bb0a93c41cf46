"""All that the scaling model is asked for, in small: which predictions and conclusions."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.predictions import CONCLUSIONS, Task, perform, studies
from dvm_mpi.sim.model.costs import NETWORKS
from tests.sim.model.sites import ROUND


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    path = tmp_path / "costs.json"
    path.write_text(ROUND.to_json(), encoding="utf-8")
    return path


def test_every_study_has_predictions_and_conclusions() -> None:
    tasks = studies(list(CONCLUSIONS), 4_096, 4_000_000)
    assert {task.study for task in tasks} == set(CONCLUSIONS)
    wide = [task for task in tasks if task.ranks == 4_096]
    assert {task.kind for task in wide} == {"tree", "flat", "naive"}
    assert {task.ranks for task in studies(["kmeans"], 64, 1)} == {10, 20, 40, 80, 160}


def test_a_dedicated_rank_0_is_held_beside_one_that_executes(costs: Path, tmp_path: Path) -> None:
    network = sorted(NETWORKS)[0]
    given = {"INSTRUCTIONS": 500_000, "RUNNERS": 30, "PARENTS": 1}
    tasks = [
        Task("coordinator", "empty", 3, given, coordinator=choice)
        for choice in ("shared", "dedicated", "auto")
    ]
    found = [perform(task, costs, network) for task in tasks]
    _, row = CONCLUSIONS["coordinator"](tmp_path, found)
    ranks, length, decides, ratio, auto = row.split()
    assert (ranks, length) == ("3", "500,000")
    assert 0 < float(decides) < 1
    # Two of three execute.
    assert 1.2 < float(ratio) < 1.8
    assert float(auto) == pytest.approx(1.0, abs=0.05)
