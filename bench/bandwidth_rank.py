"""One of two ranks that move many bytes: `python -m bench.bandwidth_rank PLANE RESULT`.

Rank 0 writes RESULT, a JSON object: bytes per nanosecond of commits, of snapshots, and of memcpy.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.placed import assemble, ends_all, run_placed
from dvm_mpi import config
from dvm_mpi.control import transport
from dvm_mpi.engine.address_space import AddressSpace

BYTES: Final = 64 * config.MIB
ROUNDS: Final = 4
PLACES: Final = {"write": 0, "read": 1}
#: Where the program counts rounds, and keeps two times of each.
COUNT_AT: Final = 0x500000000


def copy_ns() -> float:
    """Return the median time of one plain copy of BYTES into memory in use."""
    source = np.resize(np.arange(251, dtype=np.uint8), BYTES)
    target = np.zeros(BYTES, np.uint8)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        np.copyto(target, source)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times)


def run_rank(plane: str, result: Path) -> None:
    """Be one of two ranks."""
    AddressSpace.shared()
    started = transport.start()
    defines = {"BYTES": BYTES, "ROUNDS": ROUNDS, "COUNT": COUNT_AT}
    image = assemble("bench/programs/bandwidth.dasm", defines)
    ran = run_placed(started, image, PLACES, plane=plane, memory_bytes=256 * config.MIB)
    if started.rank == 0:
        times_ns = ran.home_words(COUNT_AT + 8, 2 * ROUNDS).reshape(ROUNDS, 2)
        # The first round touches fresh memory, which is the system's time and not ours.
        commit_ns, snapshot_ns = np.median(times_ns[1:], axis=0).tolist()
        rates = {"commit": commit_ns, "snapshot": snapshot_ns, "memcpy": copy_ns()}
        result.write_text(json.dumps({name: BYTES / ns for name, ns in rates.items()}))
    transport.finish()


if __name__ == "__main__":
    with ends_all():
        run_rank(sys.argv[1], Path(sys.argv[2]))
