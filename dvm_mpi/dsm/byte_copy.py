"""Compiled copying of many runs of bytes: the data plane's one inner loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel
from dvm_mpi.dsm.ranges import firsts_of

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@entry_kernel("void(uint8[::1], int64[::1], uint8[::1], int64[::1], int64[::1])")
def copy_runs(
    source: Bytes, source_firsts: Ints, target: Bytes, target_firsts: Ints, lengths: Ints
) -> None:
    """Copy `lengths[i]` bytes from `source_firsts[i]` to `target_firsts[i]`, in order."""
    for run in range(lengths.size):
        # Loops over slices become vector code; numba's slice assignment is six times slower.
        taken = source[source_firsts[run] : source_firsts[run] + lengths[run]]
        place = target[target_firsts[run] : target_firsts[run] + lengths[run]]
        for k in range(place.size):
            place[k] = taken[k]


def gather(runs: NDArray[Any], data: Bytes) -> tuple[NDArray[Any], Bytes]:
    """Return `runs` with their bytes copied out of `data`, back to back in the order of rows."""
    assert runs.size == 0 or int((runs["data_first"] + runs["length"]).max()) <= data.size, (
        "a run beyond its data"
    )
    firsts = firsts_of(runs["length"])
    packed = np.empty(int(runs["length"].sum()), np.uint8)
    copy_runs(
        data,
        np.ascontiguousarray(runs["data_first"]),
        packed,
        firsts,
        np.ascontiguousarray(runs["length"]),
    )
    moved = runs.copy()
    moved["data_first"] = firsts
    return moved, packed
