"""The peer does the job's work: same centroids but for rounding, same labels but for ties."""

from __future__ import annotations

import numpy as np

from bench.peers.kmeans_numpy import kmeans
from jobs.kmeans import check


def test_agrees_with_the_jobs_check() -> None:
    points = check.generate(9_000, 3, 8)
    centroids, labels = kmeans(points, 8, 6)
    expected = check.kmeans(points, 8, 6, 16)
    assert np.allclose(centroids, expected.centroids, rtol=1e-12)
    assert np.mean(labels == expected.labels) > 0.9999
