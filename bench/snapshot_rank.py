"""One of two ranks that take snapshots of many bytes: `python -m bench.snapshot_rank PLANE RESULT`.

Rank 1 writes RESULT, a JSON object: for each kind of snapshot, and for memcpy in the same process
between them, a row for each round: nanoseconds, and nanoseconds of this thread's processor time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.placed import assemble, ends_all, run_placed
from dvm_mpi import config
from dvm_mpi.control import transport
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.messages import Dispatched, Message, WorkerEvent
from dvm_mpi.control.worker import Worker
from dvm_mpi.engine.address_space import AddressSpace

BYTES: Final = 64 * config.MIB
ROUNDS: Final = 12
READING_RANK: Final = 1
PLACES: Final = {"read": READING_RANK, "again": READING_RANK}
MEMORY_BYTES: Final = 512 * config.MIB

Moment = tuple[int, int]


def _now() -> Moment:
    return time.perf_counter_ns(), time.thread_time_ns()


class Watch:
    """The moments of one rank's snapshots: when a runner came, when it began, when it had all."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.copies: list[tuple[Moment, Moment]] = []
        self._source = np.resize(np.arange(251, dtype=np.uint8), BYTES)
        self._target = np.zeros(BYTES, np.uint8)

    def clock(self) -> int:
        """Tell a runner the time, and keep it."""
        self.moments.append(_now())
        return time.time_ns()

    def look_at(self, worker: Worker) -> None:
        """Note when batches come to a worker, and copy BYTES before each."""
        handle = worker.handle

        def watched(event: WorkerEvent) -> tuple[tuple[Part, Message], ...]:
            if isinstance(event, Dispatched):
                began = _now()
                np.copyto(self._target, self._source)
                self.copies.append((began, _now()))
                self.moments.append(_now())
            return handle(event)

        worker.handle = watched  # type: ignore[method-assign]

    def rows(self) -> dict[str, list[Moment]]:
        """Return what each kind of snapshot took, round after round."""
        moments = np.array(self.moments).reshape(-1, 2, 3, 2)
        came, began, had = (moments[:, :, step] for step in range(3))
        copies = np.array(self.copies)
        return {
            "changed": (had - came)[:, 0].tolist(),
            "unchanged, to the first instruction": (began - came)[:, 1].tolist(),
            "unchanged, to the last page": (had - came)[:, 1].tolist(),
            "memcpy": (copies[:, 1] - copies[:, 0]).tolist(),
        }


def run_rank(plane: str, result: Path) -> None:
    """Be one of two ranks."""
    AddressSpace.shared()
    started = transport.start()
    image = assemble("bench/programs/snapshots.dasm", {"BYTES": BYTES, "ROUNDS": ROUNDS})
    watch = Watch()
    if started.rank == READING_RANK:
        run_placed(
            started, image, PLACES, plane=plane, memory_bytes=MEMORY_BYTES,
            clock=watch.clock, look_at=watch.look_at,
        )  # fmt: skip
        result.write_text(json.dumps(watch.rows()))
    else:
        run_placed(started, image, PLACES, plane=plane, memory_bytes=MEMORY_BYTES)
    transport.finish()


if __name__ == "__main__":
    with ends_all():
        run_rank(sys.argv[1], Path(sys.argv[2]))
