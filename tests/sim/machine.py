"""A machine of four homes and twelve workers, recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.control.delivery import Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.sim.history import History, Recorder, held_pages
from dvm_mpi.sim.replay import replay
from dvm_mpi.sim.simulation import Simulation
from dvm_mpi.sim.simulation import simulate as simulation_of
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd

PROGRAMS = Path(__file__).parent / "programs"
WORKERS = 12
HOMES = 4
#: Slices are this long at most, so that attempts are cut in the middle.
SLICE_FUEL = 60
ENGINE = EngineSettings(
    stack_bytes=config.STACK_BYTES_DEFAULT,
    fuel_max=0,
    allow_undeclared=False,
    cache_bytes=config.CACHE_BYTES_DEFAULT,
    clock=lambda: 0,
)
#: The same, with what attempts loaded: for histories that are judged by values.
OBSERVING = replace(ENGINE, loads=LoadTracking.CONTENT)


def program(name: str, **defines: int) -> Image:
    """Return the assembled program of a workload, or one that only tests have."""
    if name in WORKLOADS:
        return WORKLOADS[name].image(defines)
    given = {key: str(value) for key, value in defines.items()}
    return assemble_file(PROGRAMS / f"{name}.dasm", given)


@dataclass(frozen=True, slots=True)
class Run:
    """One run that ended, and what the replay says of it."""

    image: Image
    history: History
    differences: list[str]
    counters: Counters

    @property
    def retries(self) -> int:
        """Attempts that lost and were run again."""
        return self.counters.retries

    def end(self, defines: Mapping[str, int] | None = None) -> RunEnd:
        """Return what a workload's truth looks at; `defines` are all its parameters."""
        history = self.history
        return RunEnd(
            self.image,
            dict(defines or {}),
            history.pages,
            bytes(history.console),
            history.failure,
            self.counters,
        )

    def word(self, label: str, index: int = 0) -> int:
        """Return eight bytes at a label, as of the end."""
        return self.end().word(label, index)

    def words(self, label: str, count: int) -> list[int]:
        """Return consecutive words."""
        return self.end().words(label, count)


def simulate(
    image: Image,
    seed: int,
    *,
    settings: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    tracking: LoadTracking = LoadTracking.NONE,
    make_engine: Callable[[], Engine] | None = None,
) -> Run:
    """Run a program in an order drawn from `seed`, and replay it.

    `settings` are of MachineSettings, `parts` what a LocalMachine is made of. The engines, which
    are references unless `make_engine` is given, note of loads what `tracking` says.
    """
    recorder = Recorder()
    sizes = {"workers": WORKERS, "homes": HOMES, "memory_bytes": 16 * config.MIB}
    sizes |= {"arena_slice_bytes": 16 * config.KIB}
    engine_settings = replace(ENGINE, loads=tracking)
    machine = LocalMachine(
        image,
        MachineSettings(**(sizes | dict(settings or {}))),
        make_engine or (lambda: ReferenceEngine(engine_settings)),
        delivery=Shuffled(seed, SLICE_FUEL),
        observer=recorder,
        **(parts or {}),
    )
    with closing(machine):
        ending = machine.run()
        visible = machine.scheduler.state.log.visible
        pages = [page for home in machine.homes for page in held_pages(home, visible).items()]
        history = recorder.history(ending.failure, dict(pages))
        counters = machine.scheduler.counters
    differences = replay(
        history,
        image,
        engine_settings,
        isolation=machine.settings.isolation,
        conflict_unit=machine.settings.conflict_unit,
    )
    return Run(image, history, differences, counters)


def simulate_in_time(
    image: Image,
    seed: int,
    faults: frozenset[str],
    parts: Mapping[str, Any] | None = None,
    leaders: int = 0,
) -> Run:
    """Run a program on eight ranks in simulated time, where things go wrong, and replay it."""
    simulation = Simulation(ranks=8, seed=seed, faults=faults, leaders=leaders)
    run = simulation_of(
        simulation, image, lambda: ReferenceEngine(OBSERVING), parts=dict(parts or {})
    )
    assert run.history is not None
    return Run(image, run.history, replay(run.history, image, OBSERVING), run.counters)
