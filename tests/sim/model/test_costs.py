"""Costs as a file: read as written, and refused if they are others."""

from __future__ import annotations

import json

import pytest

from dvm_mpi.errors import FileError
from dvm_mpi.model_options import JOB_NETWORKS
from dvm_mpi.sim.model.costs import NETWORKS, costs_from_json
from tests.sim.model.sites import ROUND


def test_costs_are_read_as_they_were_written() -> None:
    assert costs_from_json(ROUND.to_json(), "costs.json") == ROUND


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps({"costs_version": 99}), ROUND.to_json().replace('"pages"', '"x"')],
)
def test_what_is_no_file_of_costs_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(FileError, match=r"costs\.json.*dvm_mpi calibrate"):
        costs_from_json(text, "costs.json")


def test_a_step_costs_the_sum_of_its_amounts() -> None:
    assert ROUND.price("apply", (1, 20, 3)) == 10_000 + 20 * 100 + 3 * 100


def test_published_networks_have_a_source_and_a_name_on_the_command_line() -> None:
    assert {*NETWORKS, "measured"} == set(JOB_NETWORKS)
    assert all(len(network.source) > 30 for network in NETWORKS.values())
