"""How long a job takes on ranks that have a core each: `python -m bench.virtual_ranks PROGRAM`.

All ranks are in this process, and take turns. A turn lasts as long as it takes this thread's
processor, times `--speed`; a message arrives `--latency-us` after it was sent; a rank with nothing
to do naps. So the figure hardly depends on who else uses the machine, though caches that are shared
make turns longer: compare runs that were made in turn. Loading is left out, as in `work_s`.

What is not there: MPI's own time, but for a few microseconds for each buffer; windows, in whose
stead pages are read from the homes directly; memory that is touched by two cores.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import os
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import coordinator_state as actions
from dvm_mpi.control import rank as rank_module
from dvm_mpi.control.coordinator import Coordinator, Task
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.loader import LOADED_EPOCH, Loader
from dvm_mpi.control.messages import Message, RankFailed, RankLoaded
from dvm_mpi.control.rank import Rank, WritingTask
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.transport import pack, unpack
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.local_plane import LocalDataPlane
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_BYTES

Bytes = NDArray[np.uint8]

#: What MPI takes to look for messages, and to send or take a buffer; a byte's way; microseconds.
_LOOK_US: Final = 8.0
_BUFFER_US: Final = 6.0
_BYTE_US: Final = 1 / 5_000
#: How much longer than asked for a nap is.
_NAP_US: Final = 50.0
#: Clocks begin here: zero stands for never.
_BEGIN_US: Final = 1_000_000.0
_HOME_BYTES: Final = 256 * config.MIB


@dataclass(slots=True)
class Clocks:
    """Every rank's time, in microseconds; that of the rank whose turn it is goes on."""

    speed: float
    of_ranks: list[float]
    rank: int = 0
    #: This thread's processor time when the turn began, or since when it counts.
    _since_ns: int = 0

    def begin(self, rank: int) -> None:
        """Begin a turn."""
        self.rank = rank
        self._since_ns = time.thread_time_ns()

    def now(self) -> float:
        """Return the time of the rank whose turn it is."""
        own_ns = time.thread_time_ns() - self._since_ns
        self._since_ns += own_ns
        self.pass_time(own_ns / 1_000 * self.speed)
        return self.of_ranks[self.rank]

    def now_us(self) -> int:
        """Return the time as ranks count it."""
        return int(self.now())

    def pass_time(self, duration_us: float) -> None:
        """Let time pass that nobody computes in."""
        self.of_ranks[self.rank] += duration_us

    def forget(self, began_ns: int) -> None:
        """Do not count what has been done since."""
        self._since_ns += time.thread_time_ns() - began_ns


class Network:
    """Buffers under way, by receiver and in the order of their arrival; and how many there were."""

    def __init__(self, clocks: Clocks, rank_count: int, latency_us: float) -> None:
        self.clocks = clocks
        self.latency_us = latency_us
        self.arriving: list[list[tuple[float, int, int, Bytes]]] = [[] for _ in range(rank_count)]
        self.serials = count()
        self.message_count = self.buffer_count = 0


class VirtualTransport:
    """What `control.transport.Transport` is to its rank."""

    sends_pending = 0

    def __init__(self, network: Network, rank: int) -> None:
        self.rank, self.size = rank, len(network.arriving)
        self._network = network
        self._outbox: dict[int, list[Message]] = {}
        self._to_self: list[Message] = []

    def send(self, rank: int, message: Message) -> None:
        """Queue a message."""
        if rank == self.rank:
            self._to_self.append(message)
        else:
            self._outbox.setdefault(rank, []).append(message)

    def flush(self) -> None:
        """Send what has been queued."""
        network = self._network
        for rank, messages in self._outbox.items():
            buffer = pack(messages)
            network.clocks.pass_time(_BUFFER_US)
            network.message_count += len(messages)
            network.buffer_count += 1
            at_us = network.clocks.now() + network.latency_us + buffer.size * _BYTE_US
            sent = (at_us, next(network.serials), self.rank, buffer)
            heapq.heappush(network.arriving[rank], sent)
        self._outbox.clear()

    def take_own(self) -> list[tuple[int, Message]]:
        """Take what this rank has sent to itself."""
        own = [(self.rank, message) for message in self._to_self]
        self._to_self.clear()
        return own

    def receive(self) -> list[tuple[int, Message]]:
        """Take what has arrived."""
        clocks, arriving = self._network.clocks, self._network.arriving[self.rank]
        clocks.pass_time(_LOOK_US)
        arrived = self.take_own()
        while arriving and arriving[0][0] <= clocks.now():
            _, _, source, buffer = heapq.heappop(arriving)
            clocks.pass_time(_BUFFER_US)
            arrived += [(source, message) for message in unpack(buffer)]
        return arrived


class SharingEngine(InterpEngine):
    """An engine that shares the view with those of other ranks: to change places takes no time."""

    clocks: Clocks

    def _claim(self) -> bool:
        began_ns = time.thread_time_ns()
        has_changed = super()._claim()
        if has_changed:
            self.clocks.forget(began_ns)
        return has_changed


class Silent:
    """The owner of the run: it only sees the end."""

    def __init__(self) -> None:
        self.has_ended = False

    def printed(self, data: Bytes) -> None:
        """Drop it."""

    def ordered(self, order: actions.RecordOrder) -> None:
        """Look away."""

    def claimed(self, claim: actions.Claim) -> None:
        """Look away."""

    def delivered(self, target: Part, message: Message) -> None:
        """Look away."""

    def tell(self, text: str) -> None:
        """Drop it."""

    def make_outputs(self, ending: actions.Complete) -> Generator[bool, None, tuple[str, int]]:
        """Note the end."""
        assert ending.failure is None, "the program trapped"
        self.has_ended = True
        yield True
        return "", 0

    def settle_outputs(self) -> Task:
        """There are none."""
        yield True

    def failed(self, failure: RankFailed) -> None:
        """End the benchmark."""
        sys.exit(f"bench: {failure.text}")


@dataclass(slots=True)
class Ran:
    """One run."""

    work_s: float
    epoch_count: int
    runner_count: int
    message_count: int
    buffer_count: int
    #: Time in which each rank had something to do.
    busy_s: list[float] = field(default_factory=list)


def _no_outputs(visible: int, places: str) -> WritingTask:
    del visible, places
    yield True
    return "{}"


class VirtualJob:
    """The ranks of one job, from the loaded program to its end."""

    def __init__(self, image: Image, rank_count: int, speed: float, latency_us: float) -> None:
        self._clocks = Clocks(speed, [_BEGIN_US] * rank_count)
        self._network = Network(self._clocks, rank_count, latency_us)
        self._host = Silent()
        self._engines: list[SharingEngine] = []
        geometry = Geometry(rank_count, config.HOME_BLOCK_PAGES)
        arena = (rank_count, config.ARENA_SLICE_BYTES)
        homes = [
            Home(
                number,
                geometry,
                FramePool(reserve_frames(_HOME_BYTES // PAGE_BYTES)),
                np.zeros(arena, np.uint8),
            )
            for number in range(rank_count)
        ]
        loader = Loader(geometry, dict(enumerate(homes)))
        loader.load_image(image)
        loader.finish()
        transports: list[Any] = [VirtualTransport(self._network, n) for n in range(rank_count)]
        self.ranks = [
            Rank(transport, home, _no_outputs)
            for transport, home in zip(transports, homes, strict=True)
        ]
        self._scheduler = Scheduler(
            geometry, rank_count, config.STACK_BYTES_DEFAULT, LOADED_EPOCH, placement="data"
        )
        self.ranks[0].coordinator = Coordinator(
            self._scheduler, image, rank_count, transports[0].send, self._host, int(_BEGIN_US)
        )
        for number, rank in enumerate(self.ranks):
            plane = LocalDataPlane(homes, number)
            engine = self._engine(image)
            rank.worker = Worker(number, engine, geometry, plane, config.ARENA_SLICE_BYTES)
            transports[0].send(0, RankLoaded(number, 0))

    def _engine(self, image: Image) -> SharingEngine:
        settings = EngineSettings(
            config.STACK_BYTES_DEFAULT, 0, False, config.CACHE_BYTES_DEFAULT, time.time_ns
        )
        engine = SharingEngine(settings)
        engine.clocks = self._clocks
        engine.load(image, b"")
        self._engines.append(engine)
        return engine

    def run(self) -> Ran:
        """Take turns until the program has ended, always of the rank that is behind the others."""
        clocks, rank_count = self._clocks, len(self.ranks)
        busy_us = [0.0] * rank_count
        naps_us = [config.NAP_S_MIN * 1e6] * rank_count
        while not self._host.has_ended:
            number = min(range(rank_count), key=clocks.of_ranks.__getitem__)
            began_us = clocks.of_ranks[number]
            clocks.begin(number)
            did = self.ranks[number].turn()
            ended_us = clocks.now()
            if did:
                busy_us[number] += ended_us - began_us
                naps_us[number] = config.NAP_S_MIN * 1e6
            else:
                clocks.pass_time(naps_us[number] + _NAP_US)
                naps_us[number] = min(2 * naps_us[number], config.NAP_S_MAX * 1e6)
        counters, network = self._scheduler.counters, self._network
        return Ran(
            (clocks.of_ranks[0] - _BEGIN_US) / 1e6,
            counters.epochs,
            counters.runners,
            network.message_count,
            network.buffer_count,
            [us / 1e6 for us in busy_us],
        )

    def close(self) -> None:
        """Give the engines' memory back."""
        for engine in self._engines:
            engine.close()


def run(image: Image, rank_count: int, speed: float, latency_us: float) -> Ran:
    """Run a program on so many ranks."""
    job = VirtualJob(image, rank_count, speed, latency_us)
    gc.collect()
    gc.freeze()
    with closing(job), patch.object(rank_module, "now_us", job._clocks.now_us):
        return job.run()


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speed", type=float, default=1.0, help="0.5: turns take half as long")
    parser.add_argument("--latency-us", type=float, default=30.0)
    options = parser.parse_args()
    image = assemble_file(options.program, dict(each.split("=", 1) for each in options.defines))
    found: dict[int, list[Ran]] = {rank_count: [] for rank_count in options.ranks}
    load = os.getloadavg()[0]
    # Compiled code is loaded by then.
    run(image, options.ranks[0], options.speed, options.latency_us)
    for _ in range(options.rounds):
        for rank_count, samples in found.items():
            samples.append(run(image, rank_count, options.speed, options.latency_us))
    print(f"load average {load:.1f} on {os.cpu_count()} processors, as it began")
    print(
        "| ranks | work s | best | epochs | runners | messages | buffers | rank 0 busy s | rank 1 |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rank_count, samples in found.items():
        print(_row(rank_count, samples))
    return 0


def _row(rank_count: int, samples: list[Ran]) -> str:
    def median(values: list[Any]) -> float:
        return float(statistics.median(values))

    busy = [median([sample.busy_s[n] for sample in samples]) for n in range(min(rank_count, 2))]
    times_s = [sample.work_s for sample in samples]
    counts = (
        [sample.epoch_count for sample in samples],
        [sample.runner_count for sample in samples],
        [sample.message_count for sample in samples],
        [sample.buffer_count for sample in samples],
    )
    shown = " | ".join(f"{median(values):,.0f}" for values in counts)
    return (
        f"| {rank_count} | {median(times_s):.3f} | {min(times_s):.3f} | {shown} | "
        f"{' | '.join(f'{each:.3f}' for each in busy)} |"
    )


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
