"""Blocks of pages that move home in simulated time: runs stay right, and less is sent."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from bench.launch import ROOT
from dvm_mpi.config import SLICE_FUEL
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import MachineSettings, Silent
from dvm_mpi.control.messages import Message
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.dsm.handover import Handover
from dvm_mpi.dsm.messages import LookupAnswered, PagesHanded, Staged, StoresPassed
from dvm_mpi.dsm.migration import Limits
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.sim.faults import FaultPlan, parse_faults
from dvm_mpi.sim.machine import SimulatedMachine, Timing
from dvm_mpi.sim.simulation import ENGINE_SETTINGS, Simulation
from tests.sim.test_simulation import run_workload, wrong

RANKS = 4
#: Parts of 32 rows, a page each: two blocks, at two homes.
DEFINES = {"ROWS": "256", "COLS": "512", "PARTS": "8", "ITERATIONS": "20"}


@pytest.mark.parametrize("name", ["long_fork", "invariants", "deleted", "large", "stacks"])
def test_runs_in_which_blocks_move_all_the_time_are_right(name: str) -> None:
    moved = 0
    for seed in (1, 2):
        simulation = Simulation(
            *(5, seed),
            faults=parse_faults("all"),
            data_plane=("rma", "message")[seed % 2],
            check="all",
            leaders=2,
            migration=True,
        )
        run = run_workload(name, simulation)
        assert wrong(name, run) == []
        moved += run.counters.blocks_moved
    assert moved > 0


def test_staged_write_sets_meet_moves_and_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[StoresPassed] = []
    take = Handover.take_stores

    def note_and_take(self: Handover, event: StoresPassed) -> None:
        passed.append(event)
        take(self, event)

    monkeypatch.setattr(Handover, "take_stores", note_and_take)
    for seed in range(6):
        simulation = Simulation(
            *(5, seed), faults=parse_faults("arena"), check="all", migration=True
        )
        assert wrong("large", run_workload("large", simulation)) == []
    assert passed


class Counting(Silent):
    """Counts bytes of pages and stores that go from rank to rank, but for those in records."""

    def __init__(self) -> None:
        self.stored = self.fetched = self.handed = 0

    def delivered(self, target: Part, message: Message) -> None:
        """Count what a message carries."""
        if isinstance(message, Staged) and message.worker != target[1]:
            self.stored += message.data.size
        elif isinstance(message, LookupAnswered) and message.home != target[1]:
            self.fetched += message.content.size
        elif isinstance(message, PagesHanded):
            self.handed += message.content.size


def run_stencil(**settings: Any) -> tuple[Counting, bytes, int]:
    """Run a stencil on four ranks; return what moved, the plate, and how many blocks moved."""
    image = assemble_file(ROOT / "jobs/stencil/stencil.dasm", DEFINES)
    counting = Counting()
    machine = SimulatedMachine(
        image,
        MachineSettings(
            workers=RANKS, homes=RANKS, plane="message", placement="data",
            recall_fuel_min=SLICE_FUEL, **settings,
        ),
        Timing(1, "exponential", range(RANKS), draws_fuel=False),
        FaultPlan((1.0,) * RANKS, (), None, None, None),
        lambda: InterpEngine(ENGINE_SETTINGS),
        observer=counting,
    )  # fmt: skip
    with closing(machine):
        assert machine.run().failure is None
        plate = image.arrays["plate"]
        content = machine.read(plate.address >> PAGE_SHIFT, plate.byte_count >> PAGE_SHIFT)
        return counting, content.tobytes(), machine.scheduler.counters.blocks_moved


def test_a_stencil_whose_parts_lie_at_several_homes_sends_less() -> None:
    still, expected, none = run_stencil()
    moving, found, moved = run_stencil(migration=Limits())
    assert found == expected
    assert none == 0 < moved
    assert moving.stored < still.stored / 2
    total = moving.stored + moving.fetched + moving.handed
    assert total < (still.stored + still.fetched) * 0.6
