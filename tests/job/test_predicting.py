"""`simulate --job`: the table, the files, and what is refused."""

from __future__ import annotations

import csv
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from dvm_mpi.errors import FileError, UsageError
from dvm_mpi.job.predicting import run_predictions
from dvm_mpi.model_options import PredictOptions
from dvm_mpi.options import simulate_options, subcommand_parser
from tests.sim.model.sites import ROUND


def options(words: str) -> PredictOptions:
    given = simulate_options(subcommand_parser("simulate").parse_args(shlex.split(words)))
    assert isinstance(given, PredictOptions)
    return given


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    path = tmp_path / "costs.json"
    path.write_text(ROUND.to_json(), encoding="utf-8")
    return path


def test_a_table_a_csv_and_a_plot(costs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows, plot = tmp_path / "rows.csv", tmp_path / "curve.svg"
    text = run_predictions(
        options(
            f"--job empty -D RUNNERS=40 -D INSTRUCTIONS=4000000 -D PARENTS=1 --ranks 1,2 "
            f"--network ib-fdr --costs {costs} --csv {rows} --plot {plot} --quiet"
        )
    )
    assert text.startswith("empty on ib-fdr, 1 ranks on 1 cores of a host")
    with rows.open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["ranks"], second["ranks"]) == ("1", "2")
    assert float(first["speed_up"]) == 1
    assert 1.5 < float(second["speed_up"]) <= 2
    assert plot.read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("held_out", "told"),
    [
        ([], "no claim: these costs were not compared"),
        ([{"error": 0.1}, {"error": -0.12}], "predicted within 12%"),
        ([{"error": 0.1}, {"error": -0.4}], "no claim: runs .* within 40% .* than 15%"),
    ],
)
def test_what_the_costs_are_worth_is_said(
    costs: Path, held_out: list[dict[str, float]], told: str
) -> None:
    costs.write_text(replace(ROUND, residuals={"held_out": held_out}).to_json(), encoding="utf-8")
    text = run_predictions(
        options(f"--job treesum -D N=8 --ranks 2 --network ib-fdr --costs {costs} --quiet")
    )
    assert re.search(told, text.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--job kmeans --workload bank --network ib-fdr", "one of them"),
        ("--job kmeans", "--job wants a --network"),
        ("--workload bank --network ib-fdr", "is for --job"),
        ("--workload bank --ranks 1,2", "several numbers is for --job"),
    ],
)
def test_words_that_do_not_go_together(words: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        simulate_options(subcommand_parser("simulate").parse_args(shlex.split(words)))


def test_costs_that_are_not_there_are_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="dvm_mpi calibrate -o"):
        run_predictions(
            options(f"--job treesum --network ib-fdr --costs {tmp_path / 'none.json'} --quiet")
        )


def test_a_network_that_was_not_measured(costs: Path) -> None:
    with pytest.raises(UsageError, match="calibrate --between"):
        run_predictions(options(f"--job treesum --network measured --costs {costs} --quiet"))
