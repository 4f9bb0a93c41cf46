"""The k-means job's work with mpi4py and numpy: each rank has its share of the points.

As `kmeans_numpy`, which does one rank's work here; sums and counts of all ranks are added once an
iteration. Rank 0 prints the seconds of the slowest rank; imports and loading do not count.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from bench.peers.nearest import Floats, added_up, moved, nearest


def kmeans(
    comm: MPI.Intracomm, points: Floats, first: Floats, iterations: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Return centroids after `iterations` from `first`, and the labels of this rank's points."""
    centroids = first
    axes = np.ascontiguousarray(points.T)
    for _ in range(iterations):
        sums = added_up(points, axes, centroids)
        comm.Allreduce(MPI.IN_PLACE, sums)
        centroids = moved(centroids, sums)
    return centroids, nearest(points, centroids)


def main() -> None:
    """Run as a command on any number of ranks; rank 0 prints one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("points", type=Path, help="HDF5 file with the dataset `points`")
    parser.add_argument("--clusters", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    with h5py.File(options.points) as file:
        points = file["points"]
        count = len(points)
        first = points[:][np.arange(options.clusters) * (count // options.clusters)]
        own = points[count * comm.rank // comm.size : count * (comm.rank + 1) // comm.size]
    comm.Barrier()
    began = time.perf_counter()
    centroids, labels = kmeans(comm, own, first, options.iterations)
    comm.Barrier()
    work_s = comm.reduce(time.perf_counter() - began, MPI.MAX)
    spread = comm.reduce(float(((own - centroids[labels]) ** 2).sum()))
    if comm.rank == 0:
        print(json.dumps({"work_s": work_s, "sum_of_squares": spread}))


if __name__ == "__main__":
    main()
