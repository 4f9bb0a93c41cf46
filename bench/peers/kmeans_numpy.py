"""The k-means job's work in numpy, as one who knows numpy would write it: the peer in `make bench`.

The same points, first centroids, number of iterations and final labels as the job. It is free in
the order of its sums, so it may use what makes numpy fast: distances by one matrix product
(|x|^2 is the same for all centroids and left out), in blocks that stay in the cache, and sums by
bincount. It prints the seconds of its work; imports and loading do not count, as in the job's
report. Threads are the caller's choice (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from bench.peers.nearest import Floats, nearest


def kmeans(points: Floats, clusters: int, iterations: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return centroids after `iterations`, and the labels of all points."""
    centroids = points[np.arange(clusters) * (len(points) // clusters)].copy()
    axes = np.ascontiguousarray(points.T)
    for _ in range(iterations):
        labels = nearest(points, centroids)
        counts = np.bincount(labels, minlength=clusters)
        occupied = counts > 0
        for axis, coordinates in enumerate(axes):
            sums = np.bincount(labels, weights=coordinates, minlength=clusters)
            centroids[occupied, axis] = sums[occupied] / counts[occupied]
    return centroids, nearest(points, centroids)


def main() -> None:
    """Run as a command; prints one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("points", type=Path, help="HDF5 file with the dataset `points`")
    parser.add_argument("--clusters", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    options = parser.parse_args()
    with h5py.File(options.points) as file:
        points = file["points"][...]
    began = time.perf_counter()
    centroids, labels = kmeans(points, options.clusters, options.iterations)
    work_s = time.perf_counter() - began
    spread = float(((points - centroids[labels]) ** 2).sum())
    print(json.dumps({"work_s": work_s, "sum_of_squares": spread}))


if __name__ == "__main__":
    main()
