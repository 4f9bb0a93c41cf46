from __future__ import annotations

import pytest

from jobs.treesum.check import expected_sum
from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job

ARMED, ANEW = 1, 2
STYLES = [pytest.param(ARMED, id="armed"), pytest.param(ANEW, id="anew")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 10, 64, 101])
def test_adds_any_number_of_integers(engine: str, style: int, count: int) -> None:
    result = run_job("treesum", {"N": count, "STYLE": style}, engine=engine)
    assert result.console == f"{expected_sum(count)}\n"
    assert result.watchers_left == 0


@pytest.mark.parametrize("style", STYLES)
def test_prints_one_sum_whatever_the_order_of_commits(style: int) -> None:
    """A watcher that begins anew races with its old template; no order may print or miss twice."""
    for seed in range(30):
        result = run_job("treesum", {"N": 23, "STYLE": style}, workers=8, homes=3, seed=seed)
        assert result.console == f"{expected_sum(23)}\n", seed
        assert result.watchers_left == 0, seed


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_adds_the_integers_of_the_papers(style: int) -> None:
    assert run_job("treesum", {"STYLE": style}).console == "209704960\n"
