"""One of the ranks of `bench.busy_home`: runs the program, keeps rank 2 busy."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

import numpy as np

from bench.placed import assemble, ends_all, run_placed
from dvm_mpi import config
from dvm_mpi.control import transport
from dvm_mpi.control.loader import Loader
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.engine.address_space import AddressSpace
from dvm_mpi.engine.entries import LIBRARY
from dvm_mpi.io import arrays, specs
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.native.compilation import Compilation, Target

BUSY_RANK: Final = 2
PLACES: Final = {"write": 0, "read": 1, "compute": BUSY_RANK}
#: The ranks at which the stamp, and the count with all samples, are at home.
STAMP_HOME, COUNT_HOME = BUSY_RANK, 0
#: From here on they are looked for.
DATA_AT: Final = 0x500000000
#: Doubles in the file that is loaded: 96 MiB, a third of it by the busy rank, over and over.
LOADED_DOUBLES: Final = 12 << 20
LOADED_AT: Final = 0x600000000

#: What rank 2 does beside being a home.
IDLE, COMPUTING, LOADING, COMPILING = "idle", "computing", "loading", "compiling"
CONDITIONS: Final = (IDLE, COMPUTING, LOADING, COMPILING)

Task = Generator[bool, None, None]


def _loading(file: Path, rank_count: int) -> Task:
    """Load this rank's part of a file, over and over, as the loader of a run does."""
    declaration = ArrayDeclaration("array", LOADED_AT, "fd", (LOADED_DOUBLES,))
    spec = specs.parse_spec(f"array={file}:array", "--in")
    geometry = Geometry(rank_count)
    while True:
        # A home of its own: the run's has been loaded.
        pool = FramePool(reserve_frames(declaration.byte_count // PAGE_BYTES))
        home = Home(BUSY_RANK, geometry, pool, np.zeros((rank_count, 0), np.uint8))
        loader = Loader(geometry, {BUSY_RANK: home})
        with arrays.open_input(spec, declaration) as source:
            for _ in loader.load_input(declaration, source.read_range):
                yield True
        loader.finish()
        yield True


def _compiling() -> Task:
    """Have the interpreter compiled by a process of its own, over and over."""
    while True:
        with tempfile.TemporaryDirectory() as folder:
            target = LIBRARY.target
            fresh = Target(target.name, target.module, Path(folder) / target.stem.name)
            compilation = Compilation([fresh])
            try:
                while not compilation.is_done:
                    compilation.step()
                    yield False
            finally:
                compilation.close()


def address_at(geometry: Geometry, home: int) -> int:
    """Return where a page is at that home."""
    first = DATA_AT >> PAGE_SHIFT
    pages = np.arange(first, first + geometry.home_count * geometry.block_pages)
    return int(pages[geometry.home_of(pages) == home][0]) << PAGE_SHIFT


def run_rank(
    condition: str, plane: str, samples: int, file: Path, result: Path, cpu_share: float
) -> None:
    """Be one of three ranks or more; rank 0 writes the data plane and the samples, in ms."""
    AddressSpace.shared()
    started = transport.start()
    task: Task | None = None
    if started.rank == BUSY_RANK and condition == LOADING:
        task = _loading(file, started.size)
    elif started.rank == BUSY_RANK and condition == COMPILING:
        task = _compiling()
    geometry = Geometry(started.size, config.HOME_BLOCK_PAGES)
    count_at = address_at(geometry, COUNT_HOME)
    defines = {
        "STAMP": address_at(geometry, STAMP_HOME),
        "COUNT": count_at,
        "SAMPLES": samples,
        "COMPUTES": int(condition == COMPUTING),
    }
    image = assemble("bench/programs/busy_home.dasm", defines)
    ran = run_placed(started, image, PLACES, plane=plane, task=task, cpu_share=cpu_share)
    if started.rank == 0:
        delays_ns = ran.home_words(count_at + 8, samples)
        told = {"plane": ran.plane, "delays_ms": (delays_ns / 1e6).tolist()}
        result.write_text(json.dumps(told))
    transport.finish()


if __name__ == "__main__":
    with ends_all():
        condition, plane, samples, file, result, share = sys.argv[1:]
        run_rank(condition, plane, int(samples), Path(file), Path(result), float(share))
