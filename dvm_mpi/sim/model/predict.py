"""One predicted run: a job on a number of ranks of a site, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final

from dvm_mpi import config
from dvm_mpi.control import dedication
from dvm_mpi.control.driver import MachineSettings
from dvm_mpi.control.leader import Choice, choose_leaders
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.engine.interface import Engine
from dvm_mpi.errors import LimitError
from dvm_mpi.sim.model.priced import PricedMachine, Site, lag_ms
from dvm_mpi.values import dataclass

_NS_PER_S: Final = 1e9
#: Address space for frames that a rank gets at least, and beyond what the job loads; what is not
#: written takes no memory.
_HOME_BYTES: Final = 64 * config.MIB
#: All simulated arenas together, and at least so much of each for each rank: with hundreds of
#: ranks, what is staged goes in smaller parts than it would.
_ARENAS_BYTES: Final = config.GIB
_SLICE_BYTES_MIN: Final = 64 * config.KIB
#: Runners of one batch where the coordinator is naive.
_NAIVE_RUNNERS: Final = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What runs: a program, its engine, and what is loaded before.

    `load` puts inputs into the homes of a machine; `loaded_bytes` says how much.
    """

    name: str
    image: Image
    make_engine: Callable[[], Engine]
    load: Callable[[PricedMachine], None] = lambda machine: None
    loaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What came of one predicted run; times in seconds, lags in milliseconds, shares up to 1."""

    job: str
    ranks: int
    work_s: float
    #: Processor time of all ranks, without naps and looks of the idle.
    processor_s: float
    #: Of that, instructions; and its share of the time of all ranks.
    executing_s: float
    executing_share: float
    #: Of rank 0: how busy it was, and how much of its time it decided and executed; and buffers
    #: that it got.
    rank0_busy: float
    rank0_deciding: float
    rank0_executing: float
    rank0_buffers: int
    leaders: int
    lag_median_ms: float
    lag_worst_ms: float
    moved_bytes: int
    buffers: int
    messages: int
    runners: int
    commits: int
    aborts: int
    retries: int
    epochs: int
    bytes_fetched: int
    instructions: int
    is_naive: bool = False


def slice_bytes_of(ranks: int) -> int:
    """Return what of each home's arena belongs to each rank, as in a real run of so many ranks.

    In larger runs less than there, or all arenas would take more than this machine has.
    """
    return min(arena_slice_bytes(ranks), max(_ARENAS_BYTES // ranks**2, _SLICE_BYTES_MIN))


def _settings(job: Job, ranks: int, plane: str) -> MachineSettings:
    home_bytes = _HOME_BYTES + job.loaded_bytes // ranks * 2
    slice_bytes = slice_bytes_of(ranks)
    return MachineSettings(
        workers=ranks,
        homes=ranks,
        memory_bytes=home_bytes * ranks,
        arena_slice_bytes=slice_bytes,
        inline_bytes_max=min(config.INLINE_BYTES_MAX, slice_bytes // 2),
        plane="late" if plane == "rma" else "message",
        placement="data",
    )


def predict(
    job: Job,
    ranks: int,
    site: Site,
    *,
    plane: str = "rma",
    leaders: Choice = "auto",
    coordinator: dedication.Choice = "auto",
    is_naive: bool = False,
    watch: Callable[[PricedMachine], object] = lambda machine: None,
) -> Prediction:
    """Simulate a job on a site, and return what it did and how long it took.

    Parameters
    ----------
    plane
        `rma`: pages are read beside the messages; `message`: within them.
    leaders
        As of `control.leader.choose_leaders`.
    coordinator
        Whether rank 0 executes runners, as of `control.dedication`.
    is_naive
        Whether there are no leaders, and the coordinator sends every runner by itself, and hears of
        each end by itself.
    watch
        Gets the machine before it runs.
    """
    hosts = [site.host_of(rank) for rank in range(ranks)]
    tree = choose_leaders(hosts, "none" if is_naive else leaders)
    first = 0 if dedication.has_worker(0, ranks, coordinator) else 1
    may_dedicate = coordinator == "auto" and first == 0
    machine = PricedMachine(
        job.image,
        _settings(job, ranks, plane),
        range(first, ranks),
        site,
        job.make_engine,
        tree=tree,
        may_dedicate=may_dedicate,
    )
    with closing(machine):
        if is_naive:
            machine.make_naive(_NAIVE_RUNNERS)
        job.load(machine)
        watch(machine)
        ending = machine.run()
        if ending.failure is not None:
            raise LimitError(f"{job.name} ended with a trap on {ranks} simulated ranks")
        times, counters = machine.times, machine.scheduler.counters
    span_ns = max(times.ended - times.began, 1)
    executing_s = float(times.executing.sum()) / _NS_PER_S
    return Prediction(
        job=job.name,
        ranks=ranks,
        work_s=span_ns / _NS_PER_S,
        processor_s=float(times.busy.sum()) / _NS_PER_S,
        executing_s=executing_s,
        executing_share=executing_s * _NS_PER_S / (span_ns * ranks),
        rank0_busy=min(float(times.busy[0]) / span_ns, 1.0),
        rank0_deciding=min(times.coordinating / span_ns, 1.0),
        rank0_executing=min(float(times.executing[0]) / span_ns, 1.0),
        rank0_buffers=times.taken,
        leaders=len(tree.leaders),
        lag_median_ms=lag_ms(times, 0.5),
        lag_worst_ms=lag_ms(times, 1.0),
        moved_bytes=times.moved,
        buffers=times.buffers,
        messages=times.messages,
        runners=counters.runners,
        commits=counters.commits,
        aborts=counters.aborts,
        retries=counters.retries,
        epochs=counters.epochs,
        bytes_fetched=counters.bytes_fetched,
        instructions=counters.instructions,
        is_naive=is_naive,
    )
