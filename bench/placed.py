"""Programs on the ranks of an MPI job, each runner on the rank that the benchmark wants it on.

Only dispatch differs from the product: the machine of each rank is its own, with all its loops.
"""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import transport as mpi
from dvm_mpi.control.coordinator_state import Action, Complete, Counters
from dvm_mpi.control.dealing import Dealt
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import Silent
from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.control.messages import Message, RankFailed
from dvm_mpi.control.rank_machine import RankMachine, RankSettings
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.transport import Transport
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

ROOT = Path(__file__).resolve().parents[1]


class PlacedScheduler(Scheduler):
    """Sends every runner to the worker that its function is for, whatever that has to do.

    Parameters
    ----------
    places
        Worker by entry; what is not named goes to worker 0.
    arguments, options
        Of `Scheduler`.
    """

    def __init__(self, places: Mapping[int, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places = places

    def _dispatch(self) -> list[Action]:
        state = self.state
        if not state.ready.all() or state.alone >= 0 or len(state.solo):
            return super()._dispatch()
        self._publishing.unblock(state.log.visible)
        rows = self._dealing.take(state.startable_count)
        entries = state.table.rows["entry"][rows].tolist()
        workers = np.array([self._places.get(entry, 0) for entry in entries], dtype=np.int64)
        if len(rows) == 0:
            return []
        size = self._dealing.size(len(state.running), len(rows))
        order = np.argsort(workers, kind="stable")
        given, counts = np.unique(workers, return_counts=True)
        return self._sending.send(Dealt(given, counts, rows[order], size))


class _Owner(Silent):
    """Owner of a run on rank 0: writes no files, tells failures on standard error."""

    def __init__(self) -> None:
        self.ending: Complete | None = None

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Pass the program's output on."""
        sys.stdout.buffer.write(data.tobytes())

    def delivered(self, target: Part, message: Message) -> None:
        """Do not look."""

    def tell(self, text: str) -> None:
        """Show a line."""
        sys.stderr.write(f"{text}\n")

    def make_outputs(self, ending: Complete) -> Generator[bool, None, tuple[str, int]]:
        """Keep how the program ended."""
        self.ending = ending
        yield True
        return "", 0

    def settle_outputs(self) -> Generator[bool, None, None]:
        """Do nothing: there are no files."""
        yield True

    def failed(self, failure: RankFailed) -> None:
        """Show why the run ends."""
        self.tell(failure.text)


@dataclass(frozen=True, slots=True)
class Ran:
    """What one rank knows of a run: its machine's home as of the end; the counters on rank 0."""

    #: The data plane that was used.
    plane: str
    home_words: Callable[[int, int], NDArray[np.int64]]
    counters: Counters | None
    seconds: float


@contextmanager
def ends_all() -> Iterator[None]:
    """End every rank when this one fails: the others would wait for ever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        mpi.abort(1)
        raise


def assemble(path: str, defines: Mapping[str, int]) -> Image:
    """Assemble a program of this tree."""
    return assemble_file(ROOT / path, {name: str(value) for name, value in defines.items()})


def run_placed(
    transport: Transport,
    image: Image,
    places: Mapping[str, int],
    *,
    plane: str,
    memory_bytes: int = config.GIB,
    task: Generator[bool, None, None] | None = None,
    cpu_share: float = 1.0,
    clock: Callable[[], int] = time.time_ns,
    look_at: Callable[[Worker], None] = lambda worker: None,
) -> Ran:
    """Run a program to its end on all ranks of `transport`, which then part; *collective*.

    Parameters
    ----------
    transport, image, plane, memory_bytes, cpu_share
        As of `RankMachine`.
    places
        Rank by function.
    task
        Long work of this rank; it is dropped when the run is over.
    clock
        What runners here are told when they ask for the time.
    look_at
        Called with the worker of this rank before it gets its first batch.
    """
    entries = {image.symbols[name]: rank for name, rank in places.items()}
    owner = _Owner() if transport.rank == 0 else None
    hosts = transport.comm.allgather(platform.node())
    transport.hang_bells(transport.comm.bcast(f"bench-{time.time_ns()}"), _numbers_of(hosts))
    machine = RankMachine(
        transport,
        image,
        RankSettings(plane=plane, memory_bytes=memory_bytes, cpu_share=cpu_share),
        _write_nothing,
        host=owner,
        make_scheduler=partial(PlacedScheduler, entries),
    )
    machine.loader.load_image(image)
    machine.loader.finish()
    machine.rank.loaded(0)
    engine = InterpEngine(
        EngineSettings(
            stack_bytes=config.STACK_BYTES_DEFAULT,
            fuel_max=0,
            allow_undeclared=False,
            cache_bytes=config.CACHE_BYTES_DEFAULT,
            clock=clock,
        )
    )
    engine.load(image, b"")
    machine.start_worker(engine)
    assert machine.rank.worker is not None, "every rank of a benchmark executes runners"
    look_at(machine.rank.worker)
    if task is not None:
        machine.rank.tasks.append(task)
    began = time.perf_counter()
    exit_code = machine.rank.run(lambda: None)
    seconds = time.perf_counter() - began
    if exit_code or (owner is not None and (owner.ending is None or owner.ending.failure)):
        sys.exit(f"bench: rank {transport.rank}: the program failed: {owner and owner.ending}")
    content = machine.home.directory.pages()
    kept = dict(zip(content.tolist(), machine.home.read(content, machine.home.known), strict=True))
    transport.drain(lambda: None)
    coordinator = machine.rank.coordinator
    machine.close()
    counters = None if coordinator is None else coordinator.scheduler.counters
    return Ran(machine.plane, partial(_words, kept), counters, seconds)


def _numbers_of(hosts: list[str]) -> list[int]:
    """Return for each rank which host it is on, by number."""
    return [hosts.index(host) for host in hosts]


def _words(pages: Mapping[int, NDArray[np.uint8]], address: int, count: int) -> NDArray[np.int64]:
    """Return consecutive words of one page."""
    offset = address % PAGE_BYTES
    assert offset + 8 * count <= PAGE_BYTES, "words of one page only"
    return pages[address >> PAGE_SHIFT][offset : offset + 8 * count].view(np.int64).copy()


def _write_nothing(visible: int, places: str) -> Generator[bool, None, str]:
    """Write no outputs."""
    assert visible >= LOADED_EPOCH
    assert not places
    yield True
    return "{}"
