"""The peer of the k-means job on ranks does what the one of a single process does."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from bench.peers.kmeans_numpy import kmeans
from jobs.kmeans import check


def test_the_peers_agree(comm: Any) -> None:
    points = check.generate(3_000, 3, 8)
    peer = import_module("bench.peers.kmeans_mpi")
    share = [len(points) * rank // comm.size for rank in (comm.rank, comm.rank + 1)]
    first = points[np.arange(8) * (len(points) // 8)]
    centroids, labels = peer.kmeans(comm, points[slice(*share)], first, 5)
    expected, all_labels = kmeans(points, 8, 5)
    assert np.allclose(centroids, expected, rtol=1e-12)
    assert np.mean(labels == all_labels[slice(*share)]) > 0.999
