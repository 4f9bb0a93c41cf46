"""How long a home takes for a small epoch and for a look-up: `python -m bench.handlers`.

Medians, in one process: message after message, and with 8 MiB walked through before each, as
runners do, so that code and tables have left the second-level cache.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.messages import RUN, TOKEN, ApplyRequested, HomeEvent, LookupRequested
from dvm_mpi.dsm.snapshot import eager_pages
from dvm_mpi.engine.interface import GRANT
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT

_ROUNDS: Final = 500
_FRAMES: Final = 4_096
_LOADED_PAGES: Final = 2_000
#: Where an epoch stores: 400 bytes on one page, 8 on another.
_PAGES: Final = np.array([7, 9])
_NONE: Final = np.zeros(0, np.int64)


def _epoch(number: int) -> ApplyRequested:
    runs = np.zeros(2, RUN)
    runs["start"] = DATA_START + _PAGES * PAGE_BYTES
    runs["length"], runs["data_first"] = [400, 8], [0, 400]
    tokens = np.zeros(1, TOKEN)
    tokens["run_count"] = 2
    pins = np.array([number - 1])
    return ApplyRequested(number, number - 1, pins, tokens, runs, np.ones(408, np.uint8))


def _timed_us(walked: NDArray[np.float64], home: Home, event: HomeEvent) -> float:
    walked.sum()
    begin = time.perf_counter()
    home.handle(event)
    return (time.perf_counter() - begin) * 1e6


def main() -> int:
    """Run as a command."""
    home = Home(0, Geometry(1), FramePool(reserve_frames(_FRAMES)), np.zeros((1, 0), np.uint8))
    home.load(1, DATA_START >> PAGE_SHIFT, np.zeros(_LOADED_PAGES * PAGE_BYTES, np.uint8))
    grants = np.zeros(3, GRANT)
    grants["start"], grants["length"] = DATA_START + PAGE_BYTES * np.arange(3), 400
    print("| us | in a row | caches cold |")
    print("|---|---|---|")
    taken: dict[str, list[float]] = {}
    number = 1
    for walked in (np.zeros(1), np.zeros(1 << 20)):
        samples: dict[str, list[float]] = {"epoch of 408 bytes": [], "look-up of 2 pages": []}
        choices = samples["choice of the pages of 3 ranges"] = []
        for _ in range(_ROUNDS):
            number += 1
            samples["epoch of 408 bytes"].append(_timed_us(walked, home, _epoch(number)))
            wanted = LookupRequested(0, number, number, _PAGES + (DATA_START >> PAGE_SHIFT), _NONE)
            samples["look-up of 2 pages"].append(_timed_us(walked, home, wanted))
            walked.sum()
            begin = time.perf_counter()
            eager_pages(grants)
            choices.append((time.perf_counter() - begin) * 1e6)
        for name, times in samples.items():
            taken.setdefault(name, []).append(statistics.median(times))
    for name, medians in taken.items():
        print(f"| {name} | {' | '.join(f'{median:.0f}' for median in medians)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
