"""Predictions beside measured runs: which runs count, what is told, and what that is worth."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dvm_mpi import config
from dvm_mpi.job.held_out import compared_runs, comparison_lines, least_disturbed, worth
from dvm_mpi.job.measuring import TurnsRun
from dvm_mpi.job.predicting import job_of
from dvm_mpi.sim.model.predict import predict
from dvm_mpi.sim.model.priced import Site
from dvm_mpi.sim.model.shapes import make_shape
from tests.sim.model.sites import BETWEEN, ROUND

FOUND = predict(job_of("treesum", make_shape("treesum", {"N": 20})), 2, Site(ROUND, BETWEEN))
RUN = TurnsRun(
    work_s=2 * FOUND.work_s,
    processor_s=FOUND.processor_s,
    rank0_s=FOUND.work_s,
    buffers=FOUND.buffers,
    messages=FOUND.messages,
    moved_bytes=FOUND.moved_bytes,
    others_share=0.5,
)


def test_the_runs_that_others_disturbed_least_count() -> None:
    runs = [replace(RUN, others_share=share) for share in (0.3, 0.0, 0.6, 0.1)]
    assert [run.others_share for run in least_disturbed(runs, 2)] == [0.0, 0.1]


def test_figures_are_medians_and_errors_shares_of_what_was_measured() -> None:
    runs = [replace(RUN, work_s=RUN.work_s * factor) for factor in (1.0, 0.5, 4.0)]
    compared = compared_runs("treesum N=20", 2, runs, FOUND)
    assert compared.time_s.error == pytest.approx(-0.5)
    assert compared.processor_s.error == pytest.approx(0.0)
    assert compared.rank0_busy.measured == pytest.approx(0.5)
    told = compared.told()
    assert (told["error"], told["others_share"]) == (pytest.approx(-0.5), 0.5)
    head, columns, name, figures, verdict = comparison_lines([compared])
    assert head.startswith("runs that were left out")
    assert "rank 0 busy" in columns
    assert name == "  treesum N=20, 2 ranks, median of 3"
    assert "-50%" in figures
    assert verdict.startswith("no claim: ")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no claim: these costs were not compared"),
        ([{"error": 0.1}, {"error": -config.MODEL_ERROR_MAX}], "were predicted within 15%"),
        ([{"error": 0.1}, {"error": -0.16}], "no claim: .* within 16%"),
        ([{"error": 0.0, "others_share": 0.4}], "no claim: .*others had 40% of .* within 0%"),
    ],
)
def test_what_that_is_worth(rows: list[dict[str, float]], told: str) -> None:
    assert re.search(told, worth(rows))
