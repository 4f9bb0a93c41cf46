"""A file that all ranks write together, each its part, as they write outputs; and read again.

Rank 0 makes the file and removes it. What fails is a finding of the rank where it fails.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.errors import ExitCode
from dvm_mpi.io.report import counted
from dvm_mpi.launch.finding import Finding, Level, good

SUBJECT: Final = "writing"
_SHARED: Final = "a folder that all hosts share (a parallel file system, NFS); not /tmp"


def part_bytes(size: int) -> int:
    """Return how much each of `size` ranks writes."""
    return min(config.TRIAL_FILE_BYTES // size, config.TRIAL_PART_BYTES_MAX) // 8 * 8


def content(rank: int, size: int) -> NDArray[np.int64]:
    """Return what a rank of `size` writes: (part_bytes / 8,)."""
    count = part_bytes(size) // 8
    return np.arange(count, dtype=np.int64) + rank * count


def make(path: Path) -> Finding | None:
    """Make the file, anew; on rank 0."""
    try:
        path.touch(exist_ok=False)
    except OSError as error:
        return _wrong(f"cannot write in {path.parent}: {error.strerror}", "another --folder")
    return None


def write(path: Path, rank: int, size: int) -> tuple[float, Finding | None]:
    """Write one rank's part; return the seconds that it took, and what went wrong."""
    data, began = content(rank, size), time.perf_counter()
    try:
        # Not made here: where the folder is not shared, the file is not there.
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data.tobytes(), rank * data.nbytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return 0.0, _wrong(
            f"{path.parent} is not shared: the file that rank 0 made there is not here", _SHARED
        )
    except OSError as error:
        return 0.0, _wrong(f"cannot write in {path.parent}: {error.strerror}", "another --folder")
    return time.perf_counter() - began, None


def read(path: Path, writer: int, size: int) -> Finding | None:
    """Read what another rank has written; return what is wrong with it."""
    expected = content(writer, size)
    try:
        with path.open("rb") as file:
            file.seek(writer * expected.nbytes)
            found = np.frombuffer(file.read(expected.nbytes), np.int64)
    except OSError as error:
        return _wrong(f"cannot read in {path.parent}: {error.strerror}", "another --folder")
    if not np.array_equal(found, expected):
        return _wrong(
            f"{path.parent}: what another rank has written and synced is not what is read", _SHARED
        )
    return None


def remove(path: Path) -> None:
    """Remove the file, if it is there; on rank 0."""
    path.unlink(missing_ok=True)


def partner(rank: int, size: int) -> int:
    """Return whose part a rank reads: one that is likely to be on another host."""
    return (rank + max(size // 2, 1)) % size


def judge(folder: Path, seconds: list[float]) -> Finding:
    """Return the finding about the rate, if all has gone well: the seconds of each rank."""
    size = len(seconds)
    total = part_bytes(size) * size
    rate = total / max(*seconds, 1e-6) / 1e6
    wrote = f"{counted(size, 'rank')} wrote {total / 1e6:,.0f} MB into one file in {folder}"
    told = f"{wrote}: {rate:,.0f} MB/s"
    if rate < config.RATE_MB_S_WRITING_MIN:
        helps = "a folder on the parallel file system; on Lustre, stripes over several servers"
        return Finding(Level.SLOW, SUBJECT, told, helps)
    return good(SUBJECT, told)


def _wrong(what: str, remedy: str) -> Finding:
    return Finding(Level.WRONG, SUBJECT, what, remedy, ExitCode.FILE)
