"""The workloads of `dvm_mpi/sim` on real ranks: each equals its replay, is isolated, and true.

Ranks race as their processors let them; a seed adds short slices, and pauses between turns. It does
not repeat a run, as in the simulator it does: what is found here is then looked for there.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from dvm_mpi import config
from dvm_mpi.engine.interface import Engine, LoadTracking
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.sim.checker.judge import anomalies
from tests.sim.bugs import BUGS
from tests.sim.cases import CASES, Case
from tests.sim.machine import ENGINE

#: `make histories` runs as many seeds as the simulator's check, 300 in all.
RUNS_ALL_SEEDS = os.environ.get("HISTORIES", "") == "all"
SEEDS = 2
#: Where the order of events is not ours to draw, a fault may need more runs to show itself.
BUG_SEEDS = 200
#: Histories hold the values of all loads and stores.
RECORDED = replace(ENGINE, loads=LoadTracking.CONTENT)
#: What all runs of `make histories` at one number of ranks record at least.
RUNNERS_MIN = 5_000
#: Runners and attempts of all runs so far; on rank 0.
FIGURES = {"runs": 0, "runners": 0, "attempts": 0}


def settings_of(seed: int) -> Any:
    """Return sizes and data plane: all pairs within four seeds."""
    machines = import_module("tests.mpi.machine")
    stages = seed // 2 % 2 == 0
    return machines.RankSettings(
        plane=("rma", "message")[seed % 2],
        memory_bytes=16 * config.MIB,
        # Half of the seeds stage whatever they can, in parts of at most 256 bytes.
        inline_bytes_max=4 if stages else 4096,
        arena_slice_bytes=512 if stages else 16384,
        tells_staged=True,
    )


def engine_of(seed: int) -> Engine:
    """Return an engine: the reference and the compiled one with every pair of settings."""
    return InterpEngine(RECORDED) if seed // 4 % 2 == 0 else ReferenceEngine(RECORDED)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_over_mpi_equals_its_replay(comm: Any, case: Case) -> None:
    machines = import_module("tests.mpi.machine")
    image = case.image
    for seed in range(case.seeds if RUNS_ALL_SEEDS else SEEDS):
        ended = machines.run_on_ranks(
            comm, image, settings_of(seed), engine_of(seed), seed=seed, engine_settings=RECORDED
        )
        if ended.run is not None:
            assert ended.run.differences == [], f"seed {seed}"
            assert anomalies(ended.run.history, image, "snapshot") == [], f"seed {seed}"
            assert case.wrong(ended.run) == [], f"seed {seed}"
            FIGURES["runs"] += 1
            FIGURES["runners"] += ended.run.counters.runners
            FIGURES["attempts"] += len(ended.run.history.ended)


def test_so_much_was_recorded(comm: Any) -> None:
    """The last of the runs above: `make histories` prints what they were."""
    if comm.rank == 0:
        told = ", ".join(f"{count:,} {what}" for what, count in FIGURES.items())
        print(f"recorded and checked on {comm.size} ranks: {told}")
        assert not RUNS_ALL_SEEDS or FIGURES["runners"] >= RUNNERS_MIN


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("name", ["early child", "armed at commit", "no write-write check"])
def test_a_planted_fault_is_noticed(comm: Any, name: str) -> None:
    """So the check above is one that can fail: here, between processes, it does."""
    machines = import_module("tests.mpi.machine")
    bug = BUGS[name]
    image = bug.image
    for seed in range(BUG_SEEDS):
        ended = machines.run_on_ranks(
            comm,
            image,
            settings_of(seed),
            engine_of(seed),
            seed=seed,
            engine_settings=RECORDED,
            parts=bug.parts,
        )
        if comm.bcast(ended.run is not None and ended.run.differences != []):
            if ended.run is not None:
                print(f"{name}: noticed at seed {seed}")
                assert any(bug.told in line for line in ended.run.differences)
            return
    pytest.fail(f"{name} was not noticed within {BUG_SEEDS} seeds")
