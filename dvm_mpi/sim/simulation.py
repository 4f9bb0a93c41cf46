"""One simulated run from its settings to the verdict: machine, faults, and what is checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from dvm_mpi import config
from dvm_mpi.control.capacity import needed_pages
from dvm_mpi.control.coordinator_state import Counters, Failure
from dvm_mpi.control.driver import MachineSettings, Observer, Silent
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.checker.judge import anomalies
from dvm_mpi.sim.faults import FaultPlan, draw_plan
from dvm_mpi.sim.history import History, Recorder, held_pages
from dvm_mpi.sim.machine import SimulatedMachine, Timing
from dvm_mpi.sim.network import source_of_chance
from dvm_mpi.sim.replay import replay
from dvm_mpi.sim.settled import leftovers
from dvm_mpi.sim.trace import Trace

#: A simulated rank's share of memory, and its slice of each arena: lean, for thousands of ranks.
_HOME_BYTES: Final = 64 * config.MIB
_SLICE_BYTES_MAX: Final = 16 * config.KIB
#: Engines that runners are simulated with: time stands still, so that runs can be replayed, and
#: loads are noted, so that they can be judged by values.
ENGINE_SETTINGS: Final = EngineSettings(
    stack_bytes=config.STACK_BYTES_DEFAULT,
    fuel_max=0,
    allow_undeclared=False,
    cache_bytes=config.CACHE_BYTES_DEFAULT,
    clock=lambda: 0,
    loads=LoadTracking.CONTENT,
)
#: How a run with tight memory gets more, until it suffices: by this share, so often at most.
_GROWTH: Final = 1.5
_GROWN_MAX: Final = 24

#: What is asserted: nothing, what must hold at the end, or all parts' invariants at every event.
Check = Literal["none", "end", "all"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is simulated; equal ones have equal runs.

    `workers` of 0 means as many ranks as execute runners in the real program.
    """

    ranks: int
    seed: int
    workers: int = 0
    network: str = "exponential"
    faults: frozenset[str] = frozenset()
    data_plane: str = "rma"
    isolation: Isolation = "snapshot"
    conflict_unit: ConflictUnit = "byte"
    check: Check = "end"
    #: Whether slices are cut at drawn places.
    draws_fuel: bool = True

    @property
    def worker_ranks(self) -> range:
        """The ranks that execute runners."""
        coordinates_only = self.ranks > config.RANKS_WITH_WORKING_COORDINATOR
        first = 1 if coordinates_only and self.workers < self.ranks else 0
        return range(first, min(first + self.workers, self.ranks) if self.workers else self.ranks)


@dataclass(slots=True)
class SimulatedRun:
    """What became of a run."""

    simulation: Simulation
    counters: Counters
    failure: Failure | None
    simulated_ns: int
    events: int
    #: Frames of each home.
    frames: int
    #: What is wrong, one line each; empty if nothing is.
    violations: list[str]
    #: What happened, if it was asked for.
    history: History | None
    pages: dict[int, bytes] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Attempts whose end was told: those that committed, aborted, lost or came too late."""
        c = self.counters
        return c.commits + c.aborts + c.retries + c.fenced


def simulate(
    simulation: Simulation,
    image: Image,
    make_engine: Callable[[], Engine],
    *,
    trace: Trace | None = None,
    records_history: bool = True,
    parts: dict[str, Any] | None = None,
) -> SimulatedRun:
    """Run a program in simulated time; nothing depends on anything but the arguments.

    Parameters
    ----------
    simulation
        What is simulated.
    image
        The program.
    make_engine
        Called once for each rank.
    trace
        Told of every event.
    records_history
        Whether the history is kept.
    parts
        `make_home`, `make_scheduler`: builders of faulty parts, for tests.

    Raises
    ------
    AssertionError
        An invariant is broken, or nothing can happen any more (`StalledError`).
    LimitError
        A limit was reached.
    """
    ranks = simulation.worker_ranks
    # The plan has a source of its own, so that the machine draws the same with other faults.
    chance = source_of_chance(simulation.seed ^ 0x5EED)
    plan = draw_plan(simulation.faults, chance, simulation.ranks, ranks)
    recorder = Recorder() if records_history else None
    if plan.spare_frames is None:
        return _run(simulation, plan, image, make_engine, _HOME_BYTES, trace, recorder, parts)
    filled = int(needed_pages(image, Geometry(simulation.ranks)).max())
    frames = filled + plan.spare_frames
    for _ in range(_GROWN_MAX):
        # What suffices is found by trying: less than that ends with an error, in order.
        recorder = Recorder() if records_history else None
        try:
            return _run(
                simulation, plan, image, make_engine, frames * PAGE_BYTES, trace, recorder, parts
            )
        except LimitError:
            frames = int(frames * _GROWTH) + 1
    raise LimitError(f"even {frames:,} frames for each home do not suffice")


def _run(
    simulation: Simulation,
    plan: FaultPlan,
    image: Image,
    make_engine: Callable[[], Engine],
    home_bytes: int,
    trace: Trace | None,
    recorder: Recorder | None,
    parts: dict[str, Any] | None,
) -> SimulatedRun:
    usual = MachineSettings(
        workers=simulation.ranks,
        homes=simulation.ranks,
        memory_bytes=home_bytes * simulation.ranks,
        arena_slice_bytes=min(arena_slice_bytes(simulation.ranks), _SLICE_BYTES_MAX),
        inline_bytes_max=_SLICE_BYTES_MAX // 2,
        plane="late" if simulation.data_plane == "rma" else "message",
        check=simulation.check == "all",
        tells_staged=recorder is not None,
        isolation=simulation.isolation,
        conflict_unit=simulation.conflict_unit,
    )
    settings = replace(
        usual,
        arena_slice_bytes=plan.arena_slice_bytes or usual.arena_slice_bytes,
        inline_bytes_max=plan.inline_bytes_max or usual.inline_bytes_max,
    )
    timing = Timing(
        simulation.seed,
        simulation.network,
        simulation.worker_ranks,
        draws_fuel=simulation.draws_fuel,
    )
    observer: Observer = recorder or Silent()
    machine = SimulatedMachine(
        image,
        settings,
        timing,
        plan,
        make_engine,
        observer=observer,
        trace=trace,
        **(parts or {}),
    )
    with closing(machine):
        ending = machine.run()
        simulated_ns = machine.now_ns
        machine.settle()
        found = leftovers(machine) if simulation.check != "none" else []
        visible = machine.scheduler.state.log.visible
        pages = dict(item for home in machine.homes for item in held_pages(home, visible).items())
    return SimulatedRun(
        simulation=simulation,
        counters=machine.scheduler.counters,
        failure=ending.failure,
        simulated_ns=simulated_ns,
        events=machine.event_count,
        frames=home_bytes // PAGE_BYTES,
        violations=found,
        history=None if recorder is None else recorder.history(ending.failure, pages),
        pages=pages,
    )


def judge(run: SimulatedRun, image: Image) -> list[str]:
    """Return what replay, rules and checker find wrong with a run of which the history was kept.

    Its engines were made with ENGINE_SETTINGS.
    """
    assert run.history is not None, "a run without a history is judged by its truth only"
    isolation, unit = run.simulation.isolation, run.simulation.conflict_unit
    found = replay(
        run.history, image, ENGINE_SETTINGS, isolation=isolation, conflict_unit=unit, losers=True
    )
    return found + anomalies(run.history, image, isolation)
