"""One simulated run from its settings to the verdict: machine, faults, and what is checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.capacity import geometry_of, needed_pages
from dvm_mpi.control.contention import ContendedSite
from dvm_mpi.control.coordinator_state import Counters, Failure
from dvm_mpi.control.driver import MachineSettings, Silent
from dvm_mpi.control.leader import Choice, Tree, choose_leaders
from dvm_mpi.control.policies import Placement
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.dsm.migration import Limits
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.checker.judge import anomalies
from dvm_mpi.sim.faults import GIVING_UP, FaultPlan, draw_plan
from dvm_mpi.sim.history import History, Recorder, held_pages
from dvm_mpi.sim.machine import CoordinatorTraffic, SimulatedMachine, Timing
from dvm_mpi.sim.network import source_of_chance
from dvm_mpi.sim.replay import replay
from dvm_mpi.sim.settled import leftovers
from dvm_mpi.sim.trace import Trace
from dvm_mpi.values import dataclass, field, replace

#: A simulated rank's share of memory, and its slice of each arena: lean, for thousands of ranks.
_HOME_BYTES: Final = 64 * config.MIB
_SLICE_BYTES_MAX: Final = 16 * config.KIB
#: Where runners go, by the seed: under each fourth where their memory is, as on ranks of a job.
#: Those over the same bytes then go to one worker and race less: most others go wherever there is
#: room.
_PLACEMENTS: Final[tuple[Placement, ...]] = (
    *("load", "load", "data", "load"),
    *("load", "random", "data", "round-robin"),
)
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
#: What was loaded into an array before the first runner started: all its bytes, uint8.
Input = tuple[ArrayDeclaration, NDArray[np.uint8]]
#: How a run with tight memory gets more, until it suffices: by this share, so often at most.
_GROWTH: Final = 1.5
_GROWN_MAX: Final = 24
#: Whoever stored most of a block in one epoch draws it, again and again: far more moves than a job
#: ever has.
EAGER: Final = Limits(bytes_min=1, epochs=1, horizon=2**30, share_percent=50, doublings_max=0)

#: What is asserted: nothing, what must hold at the end, or all parts' invariants at every event.
Check = Literal["none", "end", "all"]


def engine_settings(*, deterministic: bool) -> EngineSettings:
    """Return what engines are made with; a deterministic run has no time to give."""
    return replace(ENGINE_SETTINGS, clock=None) if deterministic else ENGINE_SETTINGS


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
    #: By rounds; never with faults of `faults.GIVING_UP`.
    deterministic: bool = False
    check: Check = "end"
    #: Whether slices are cut at drawn places.
    draws_fuel: bool = True
    #: Leaders between rank 0 and the others, each of as many; None: as in a run on hosts of one
    #: rank each.
    leaders: int | None = None
    #: Whether blocks of pages move to other homes whenever they can; None: as the seed says.
    migration: bool | None = None

    @property
    def moves_blocks(self) -> bool:
        """Whether blocks of pages move to other homes."""
        return self.seed % 3 == 1 if self.migration is None else self.migration

    @property
    def worker_ranks(self) -> range:
        """The ranks that execute runners."""
        coordinates_only = self.ranks > config.RANKS_WITH_WORKING_COORDINATOR
        first = 1 if coordinates_only and self.workers < self.ranks else 0
        return range(first, min(first + self.workers, self.ranks) if self.workers else self.ranks)

    @property
    def tree(self) -> Tree:
        """Through whom messages go."""
        choice: Choice = "auto" if self.leaders is None else self.leaders or "none"
        return choose_leaders(range(self.ranks), choice)


@dataclass(slots=True)
class SimulatedRun:
    """What became of a run."""

    simulation: Simulation
    counters: Counters
    #: Where attempts lost, most losses first.
    contention: tuple[ContendedSite, ...]
    failure: Failure | None
    simulated_ns: int
    events: int
    #: Frames of each home.
    frames: int
    #: The scheduler's messages between rank 0 and the others.
    traffic: CoordinatorTraffic
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
    inputs: tuple[Input, ...] = (),
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
    inputs
        What is loaded beside the program.
    trace
        Told of every event.
    records_history
        Whether the history is kept.
    parts
        `make_home`, `make_scheduler`, `make_leader`: builders of faulty parts, for tests.

    Raises
    ------
    AssertionError
        An invariant is broken, or nothing can happen any more (`StalledError`).
    LimitError
        A limit was reached.
    """
    assert not (simulation.deterministic and simulation.faults & GIVING_UP)
    ranks = simulation.worker_ranks
    # The plan has a source of its own, so that the machine draws the same with other faults.
    chance = source_of_chance(simulation.seed ^ 0x5EED)
    plan = draw_plan(simulation.faults, chance, simulation.ranks, ranks)

    def run(home_bytes: int) -> SimulatedRun:
        recorder = Recorder() if records_history else None
        settings = _settings(simulation, plan, home_bytes, is_recorded=records_history)
        machine = SimulatedMachine(
            image,
            settings,
            _timing(simulation),
            plan,
            make_engine,
            observer=recorder or Silent(),
            trace=trace,
            **(parts or {}),
        )
        return _finish(simulation, machine, inputs, recorder)

    if plan.spare_frames is None:
        return run(_HOME_BYTES)
    filled = int(needed_pages(image, geometry_of(image, simulation.ranks)).max())
    frames = filled + plan.spare_frames
    for _ in range(_GROWN_MAX):
        # What suffices is found by trying: less than that ends with an error, in order.
        try:
            return run(frames * PAGE_BYTES)
        except LimitError:
            frames = int(frames * _GROWTH) + 1
    raise LimitError(f"even {frames:,} frames for each home do not suffice")


def _timing(simulation: Simulation) -> Timing:
    return Timing(
        simulation.seed,
        simulation.network,
        simulation.worker_ranks,
        draws_fuel=simulation.draws_fuel,
        tree=simulation.tree,
    )


def _settings(
    simulation: Simulation, plan: FaultPlan, home_bytes: int, *, is_recorded: bool
) -> MachineSettings:
    usual = MachineSettings(
        workers=simulation.ranks,
        homes=simulation.ranks,
        memory_bytes=home_bytes * simulation.ranks,
        arena_slice_bytes=min(arena_slice_bytes(simulation.ranks), _SLICE_BYTES_MAX),
        inline_bytes_max=_SLICE_BYTES_MAX // 2,
        plane="late" if simulation.data_plane == "rma" else "message",
        check=simulation.check == "all",
        tells_staged=is_recorded,
        isolation=simulation.isolation,
        conflict_unit=simulation.conflict_unit,
        deterministic=simulation.deterministic,
        placement=_PLACEMENTS[simulation.seed % len(_PLACEMENTS)],
        placement_seed=simulation.seed,
        # Runners that race are short: under half of the seeds any batch is worth taking back.
        recall_fuel_min=0 if simulation.seed % 2 else config.SLICE_FUEL,
        # Few that wait for each other meet less: what races is to race most of the time.
        share_fuel_min=0 if (simulation.seed + 1) % 8 else config.SHARE_FUEL_MIN,
        migration=EAGER if simulation.moves_blocks else None,
    )
    return replace(
        usual,
        arena_slice_bytes=plan.arena_slice_bytes or usual.arena_slice_bytes,
        inline_bytes_max=plan.inline_bytes_max or usual.inline_bytes_max,
    )


def _finish(
    simulation: Simulation,
    machine: SimulatedMachine,
    inputs: tuple[Input, ...],
    recorder: Recorder | None,
) -> SimulatedRun:
    """Load the inputs, run to the end, and look at what is left; the machine is closed."""
    with closing(machine):
        for declaration, content in inputs:
            _load(machine, declaration, content)
        ending = machine.run()
        simulated_ns = machine.now_ns
        machine.settle()
        found = leftovers(machine) if simulation.check != "none" else []
        state = machine.scheduler.state
        visible = state.log.visible
        pages = dict(item for home in machine.homes for item in held_pages(home, visible).items())
    return SimulatedRun(
        simulation=simulation,
        counters=state.counters,
        contention=state.contention.sites(),
        failure=ending.failure,
        simulated_ns=simulated_ns,
        events=machine.event_count,
        frames=machine.homes[0].pool.frame_count,
        traffic=machine.traffic,
        violations=found,
        history=None if recorder is None else recorder.history(ending.failure, pages),
        pages=pages,
    )


def _load(
    machine: SimulatedMachine, declaration: ArrayDeclaration, content: NDArray[np.uint8]
) -> None:
    def read(start: int, target: NDArray[np.uint8]) -> None:
        target[:] = content[start : start + target.size]

    for _ in machine.loader.load_input(declaration, read):
        pass


def judge(run: SimulatedRun, image: Image, inputs: tuple[Input, ...] = ()) -> list[str]:
    """Return what replay, rules and checker find wrong with a run of which the history was kept.

    Its engines were made with `engine_settings`; `inputs` are those of the run.
    """
    assert run.history is not None, "a run without a history is judged by its truth only"
    isolation, unit = run.simulation.isolation, run.simulation.conflict_unit
    loaded = tuple((declaration.address, data.tobytes()) for declaration, data in inputs)
    found = replay(
        run.history,
        image,
        engine_settings(deterministic=run.simulation.deterministic),
        inputs=loaded,
        isolation=isolation,
        conflict_unit=unit,
        losers=True,
    )
    return found + anomalies(run.history, image, isolation, inputs=loaded)
