"""Whole machines on the ranks of a test: run a program, record it, gather what it left."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dvm_mpi.control.coordinator_state import Complete
from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.control.messages import RankFailed
from dvm_mpi.control.rank_machine import RankMachine, RankSettings
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.transport import Transport
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import Engine, EngineSettings
from dvm_mpi.sim.history import History, Recorder, held_pages
from dvm_mpi.sim.replay import replay
from tests.sim.machine import ENGINE, Run

#: Part of the turns before which a rank pauses, if it does, and the longest pause.
PAUSES = 0.2
PAUSE_S_MAX = 2e-3
#: In one of so many seeds runners that are few and short stay together, as they do in runs.
RUNNERS_TOGETHER = 8


class Owner(Recorder):
    """Owner of a run on rank 0: keeps what happens, writes no files."""

    def __init__(self) -> None:
        super().__init__()
        self.ending: Complete | None = None
        self.failure: RankFailed | None = None
        self.told: list[str] = []

    def tell(self, text: str) -> None:
        self.told.append(text)

    def make_outputs(self, ending: Complete) -> Generator[bool, None, tuple[str, int]]:
        self.ending = ending
        yield True
        return "", 0

    def settle_outputs(self) -> Generator[bool, None, None]:
        yield True

    def failed(self, failure: RankFailed) -> None:
        self.failure = failure


@dataclass
class Ended:
    """What is known on one rank of a run that is over; `run` and `owner` on rank 0 only."""

    exit_code: int
    visible: int
    owner: Owner | None = None
    run: Run | None = None
    figures: dict[str, int] = field(default_factory=dict)


def run_on_ranks(
    comm: Any,
    image: Image,
    settings: RankSettings,
    engine: Engine,
    *,
    seed: int | None = None,
    slice_fuel_max: int = 60,
    is_replayed: bool = True,
    engine_settings: EngineSettings = ENGINE,
    parts: Mapping[str, Any] | None = None,
) -> Ended:
    """Run a program on all ranks of `comm`; with a seed, slices and pauses are drawn from it.

    `parts` are what a RankMachine is made of; `engine_settings` are those of the engines.
    """
    transport = Transport(comm)
    owner = Owner() if transport.rank == 0 else None
    seen = [LOADED_EPOCH]

    def write_outputs(visible: int, places: str) -> Generator[bool, None, str]:
        del places
        seen[0] = visible
        yield True
        return "{}"

    given = dict(parts or {})
    drawn = None if seed is None else random.Random(1_000 * seed + transport.rank)
    if drawn is not None:
        given["slice_fuel"] = lambda: int(slice_fuel_max ** drawn.random()) + 1
    if seed is not None and seed % RUNNERS_TOGETHER:
        # Runners that race are few and short.
        make = given.get("make_scheduler", Scheduler)
        given["make_scheduler"] = partial(make, share_fuel_min=0)

    def each_turn() -> None:
        if drawn is not None and drawn.random() < PAUSES:
            time.sleep(PAUSE_S_MAX * drawn.random() ** 4)

    machine = RankMachine(transport, image, settings, write_outputs, host=owner, **given)
    machine.loader.load_image(image)
    machine.loader.finish()
    machine.rank.loaded(machine.loader.loaded_bytes)
    if machine.has_worker:
        engine.load(image, b"")
        machine.start_worker(engine)
    exit_code = machine.rank.run(each_turn)
    pages = held_pages(machine.home, seen[0])
    machine.home.check_invariants()
    transport.drain(lambda: None)
    machine.close()
    transport.close()
    gathered = comm.gather(pages)
    ended = Ended(exit_code, seen[0], owner)
    if owner is not None and is_replayed:
        assert owner.ending is not None, owner.failure
        together = {page: content for each in gathered for page, content in each.items()}
        history: History = owner.history(owner.ending.failure, together)
        assert machine.rank.coordinator is not None
        counters = machine.rank.coordinator.scheduler.counters
        differences = replay(
            history,
            image,
            engine_settings,
            isolation=settings.isolation,
            conflict_unit=settings.conflict_unit,
        )
        ended.run = Run(image, history, differences, counters)
    return ended
