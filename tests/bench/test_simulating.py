"""The benchmark of the simulator ends, and its figure is of a run that is right."""

from __future__ import annotations

from bench.simulating import records_per_cpu_second


def test_a_small_run_has_a_figure() -> None:
    assert records_per_cpu_second(ranks=20, leaves_per_rank=10) > 0
