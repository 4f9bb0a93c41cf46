"""The inner loop of k-means in numpy, as one who knows numpy would write it.

It is free in the order of its sums, so it may use what makes numpy fast: distances by one matrix
product (|x|^2 is the same for all centroids and left out), in blocks that stay in the cache, and
sums by bincount. All peers that compute with numpy share it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Points whose distances to all centroids are held at a time: 1 MiB at 32 centroids.
BLOCK_POINTS = 4096


def nearest(points: Floats, centroids: Floats) -> NDArray[np.int64]:
    """Return the index of the nearest centroid of each point."""
    labels = np.empty(len(points), np.int64)
    twice = np.ascontiguousarray(-2.0 * centroids.T)
    squares = np.einsum("ij,ij->i", centroids, centroids)
    for first in range(0, len(points), BLOCK_POINTS):
        distances = points[first : first + BLOCK_POINTS] @ twice
        distances += squares
        distances.argmin(axis=1, out=labels[first : first + BLOCK_POINTS])
    return labels


def added_up(points: Floats, axes: Floats, centroids: Floats) -> Floats:
    """Return the sums of the coordinates of each centroid's points, and their number.

    `axes` is `points` transposed, in C order. The result is (dimensions + 1, clusters).
    """
    clusters, dimensions = centroids.shape
    labels = nearest(points, centroids)
    sums = np.empty((dimensions + 1, clusters))
    for axis, coordinates in enumerate(axes):
        sums[axis] = np.bincount(labels, weights=coordinates, minlength=clusters)
    sums[dimensions] = np.bincount(labels, minlength=clusters)
    return sums


def moved(centroids: Floats, sums: Floats) -> Floats:
    """Return the centroids as means of their points; one without points stays where it is."""
    dimensions = centroids.shape[1]
    occupied = sums[dimensions] > 0
    means = centroids.copy()
    means[occupied] = (sums[:dimensions, occupied] / sums[dimensions, occupied]).T
    return means
