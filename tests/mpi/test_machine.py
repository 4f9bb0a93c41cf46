"""The racing programs of tests/sim on real ranks: each run equals its replay, and is true."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from dvm_mpi import config
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from tests.sim.cases import CASES, Case
from tests.sim.machine import ENGINE, program

#: A part of the seeds, in this file; `make histories` runs them all.
SEEDS = 2


@pytest.mark.parametrize("plane", ["rma", "message"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case.name, *case.defines]))
def test_a_run_over_mpi_equals_its_replay(comm: Any, case: Case, plane: str) -> None:
    machines = import_module("tests.mpi.machine")
    image = program(case.name, **case.defines)
    for seed in range(SEEDS):
        settings = machines.RankSettings(
            plane=plane,
            memory_bytes=16 * config.MIB,
            # Every second seed stages whatever it can, in parts of at most 256 bytes.
            inline_bytes_max=4 if seed % 2 == 0 else 4096,
            arena_slice_bytes=512 if seed % 2 == 0 else 16384,
        )
        engine = InterpEngine(ENGINE) if seed % 2 else ReferenceEngine(ENGINE)
        ended = machines.run_on_ranks(comm, image, settings, engine, seed=seed)
        if ended.run is not None:
            assert ended.run.differences == [], f"seed {seed}"
            case.truth(ended.run)
