"""Isolation and unit of conflicts on real ranks: what serializable forbids does not happen."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from dvm_mpi import config
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from tests.sim.machine import ENGINE, Run, program

SEEDS = range(6)
#: Where ranks race, what may happen need not happen within a few runs.
SEEDS_UNTIL_SEEN = range(100)


def run(
    comm: Any, name: str, seed: int, isolation: Isolation, unit: ConflictUnit = "byte"
) -> Run | None:
    """Run a program on all ranks and compare it with its replay; return what rank 0 knows."""
    machines = import_module("tests.mpi.machine")
    tracking = LoadTracking.NONE if isolation == "snapshot" else LoadTracking.CONTENT
    engine_settings = replace(ENGINE, loads=tracking)
    settings = machines.RankSettings(
        plane=("rma", "message")[seed % 2],
        memory_bytes=16 * config.MIB,
        isolation=isolation,
        conflict_unit=unit,
    )
    make_engine = InterpEngine if seed % 4 < 2 else ReferenceEngine
    ended = machines.run_on_ranks(
        comm,
        program(name),
        settings,
        make_engine(engine_settings),
        seed=seed,
        engine_settings=engine_settings,
    )
    found: Run | None = ended.run
    if found is not None:
        assert found.differences == [], f"seed {seed}"
    return found


def test_write_skew_is_found_under_snapshot_and_absent_under_serializable(comm: Any) -> None:
    def is_skewed(seed: int, isolation: Isolation) -> bool:
        """Tell all ranks whether both runners took something, though one alone might have."""
        ended = run(comm, "isolation/skew", seed, isolation)
        sum_left = None if ended is None else ended.word("left") + ended.word("right")
        assert sum_left in {None, 0, 1}
        return bool(comm.bcast(sum_left == 0))

    assert any(is_skewed(seed, "snapshot") for seed in SEEDS_UNTIL_SEEN)
    assert not any(is_skewed(seed, "serializable") for seed in SEEDS)


@pytest.mark.parametrize("name", ["isolation/reader", "counters", "watchers", "chains"])
def test_runs_under_serializable_equal_their_replays(comm: Any, name: str) -> None:
    for seed in (0, 3):
        ended = run(comm, name, seed, "serializable")
        if ended is not None and name == "isolation/reader":
            anomaly = ([0, 20], -11)
            assert (ended.words("seen", 2), ended.word("first")) != anomaly


def test_runs_with_conflicts_on_pages_equal_their_replays(comm: Any) -> None:
    ended = run(comm, "neighbours", 0, "serializable", "page")
    if ended is not None:
        assert ended.words("quads", 24) == [0x0101010101010101 * (i + 1) for i in range(24)]
