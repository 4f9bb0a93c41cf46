"""Check the k-means job against numpy, to the last bit.

The same arithmetic in the same order as `kmeans.dasm`; its header states the order:

- part p of P holds the points from p*N//P to below (p+1)*N//P;
- a squared distance is ((x0-c0)^2 + (x1-c1)^2) + ..., a later centroid wins only if it is nearer;
- a part adds its points in order, starting from 0.0; the parts are added in order, from 0.0;
- a centroid becomes sum / count; a centroid without points stays where it is.

What numpy vectorises here changes none of these orders: distances are independent of each other,
and `np.bincount` walks over the points from the first to the last, with one running sum a bin.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.lib.checking import read_array

Floats = NDArray[np.float64]

#: Keys of the hash that do not collide with each other: points, then blobs.
NOISE_KEYS = 1 << 40
BLOB_KEYS = 1 << 50


@dataclass(frozen=True, slots=True)
class Clustering:
    """What the job leaves: (K, DIMS) centroids, (N,) labels, (K,) counts, iterations done."""

    centroids: Floats
    labels: NDArray[np.int32]
    counts: NDArray[np.int64]
    iterations: int


def _hash(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    factor = np.uint64(0xD6E8FEB86659FD93)
    mixed = keys * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(2):
        mixed = (mixed ^ (mixed >> np.uint64(32))) * factor
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(32))
    return result


def _uniform(keys: NDArray[np.uint64]) -> Floats:
    unit: Floats = (_hash(keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def generate(point_count: int, dims: int, blob_count: int) -> Floats:
    """Return the synthetic points of `-D GENERATE=1`, (point_count, dims), within [0, 256)."""
    index = np.arange(point_count, dtype=np.uint64)[:, None]
    axis = np.arange(dims, dtype=np.uint64)[None, :]
    width = np.uint64(dims)
    blob = _hash(index + np.uint64(1)) % np.uint64(blob_count)
    centre = _uniform(blob * width + axis + np.uint64(BLOB_KEYS)) * 204.8
    return centre + _uniform(index * width + axis + np.uint64(NOISE_KEYS)) * 51.2


def nearest(points: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Return the index of the nearest centroid of each point; the first one of equals."""
    labels = np.zeros(len(points), np.int32)
    least = np.full(len(points), np.inf)
    for label, centroid in enumerate(centroids):
        distance = np.zeros(len(points))
        for axis, coordinate in enumerate(centroid):
            offset = points[:, axis] - coordinate
            distance = offset * offset if axis == 0 else distance + offset * offset
        nearer = distance < least
        least[nearer] = distance[nearer]
        labels[nearer] = label
    return labels


def sums_by_part(
    points: Floats, labels: NDArray[np.int32], cluster_count: int, part_count: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Add the points of each cluster part by part, in order; return (K, DIMS) sums, (K,) counts."""
    bounds = np.arange(part_count + 1) * len(points) // part_count
    parts = np.repeat(np.arange(part_count), np.diff(bounds))
    bins = parts * cluster_count + labels
    size = part_count * cluster_count
    total = np.zeros((cluster_count, points.shape[1]))
    for axis in range(points.shape[1]):
        partial = np.bincount(bins, weights=points[:, axis], minlength=size)
        for row in partial.reshape(part_count, cluster_count):
            total[:, axis] += row
    counts = np.bincount(labels, minlength=cluster_count).astype(np.int64)
    return total, counts


def kmeans(
    points: Floats, clusters: int, iterations: int, parts: int, stride: int | None = None
) -> Clustering:
    """Cluster as the job does.

    `iterations` 0 means until the centroids do not change; `stride` is the distance between the
    points that are the first centroids, N // K unless given.
    """
    step = len(points) // clusters if stride is None else stride
    centroids = points[np.arange(clusters) * step].copy()
    done = 0
    while True:
        sums, counts = sums_by_part(points, nearest(points, centroids), clusters, parts)
        done += 1
        previous = centroids.copy()
        occupied = counts > 0
        centroids[occupied] = sums[occupied] / counts[occupied, None]
        if done == iterations or np.array_equal(centroids, previous):
            break
    labels = nearest(points, centroids)
    counts = np.bincount(labels, minlength=clusters).astype(np.int64)
    return Clustering(centroids, labels, counts, done)


def expected_console(result: Clustering) -> str:
    """Return what the job prints with `LABELS`: colour or coordinates, and count, a line each."""
    lines = []
    for centroid, count in zip(result.centroids, result.counts, strict=True):
        if len(centroid) == 3:
            text = "#" + "".join(f"{min(int(x + 0.5), 255):02x}" for x in centroid)
        else:
            text = " ".join(f"{int(x * 1000 + 0.5) / 1000:.3f}" for x in centroid)
        lines.append(f"{text} {count}\n")
    return "".join(lines) + f"{result.iterations} iterations\n"


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", metavar="FILE:DATASET", help="default: the synthetic points")
    parser.add_argument("--centroids", metavar="FILE:DATASET", required=True)
    parser.add_argument("--labels", metavar="FILE:DATASET", required=True)
    parser.add_argument("--clusters", type=int, default=16, help="-D K")
    parser.add_argument("--iterations", type=int, default=20, help="-D ITERATIONS")
    parser.add_argument("--parts", type=int, default=64, help="-D PARTS")
    parser.add_argument("--stride", type=int, help="-D STRIDE")
    parser.add_argument("--size", type=int, default=20_000, help="-D N, synthetic points only")
    parser.add_argument("--dims", type=int, default=3, help="-D DIMS, synthetic points only")
    options = parser.parse_args()

    if options.points:
        points = read_array(options.points).astype(np.float64)
    else:
        points = generate(options.size, options.dims, options.clusters)
    expected = kmeans(points, options.clusters, options.iterations, options.parts, options.stride)
    centroids = read_array(options.centroids)
    labels = read_array(options.labels)
    if centroids.tobytes() != expected.centroids.tobytes():
        sys.exit(f"check: the centroids differ from numpy's\n{centroids}\n{expected.centroids}")
    if not np.array_equal(labels, expected.labels):
        wrong = np.flatnonzero(labels != expected.labels)
        sys.exit(f"check: {len(wrong)} labels differ from numpy's, the first at point {wrong[0]}")
    print(
        f"check: {len(points)} labels and {options.clusters} centroids agree with numpy "
        f"to the last bit after {expected.iterations} iterations"
    )


if __name__ == "__main__":
    main()
