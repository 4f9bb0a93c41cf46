"""k-means on one file with other systems, two processes each: mpi4py with numpy, Dask, Ray.

The points lie in the workers' memory before the work begins, and the centroids in this process when
it ends. What a worker does with its half is the same numpy for all of them. It prints one line of
JSON: the seconds of the work, of the same once more, and the centroids.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from bench.peers.nearest import Floats, added_up, moved

WORKERS: Final = 2
Work = Callable[[Floats, int], Floats]


class Share:
    """The points of one of `count` workers, read from the file."""

    def __init__(self, path: str, number: int, count: int) -> None:
        points = np.load(path, mmap_mode="r")
        rows = slice(len(points) * number // count, len(points) * (number + 1) // count)
        self._points = np.array(points[rows])
        self._axes = np.ascontiguousarray(self._points.T)

    def added_up(self, centroids: Floats) -> Floats:
        """Return sums and numbers of the points nearest to each centroid."""
        return added_up(self._points, self._axes, centroids)

    def ready(self) -> bool:
        """Say that the points are there."""
        return True


def timed(work: Work, first: Floats, iterations: int) -> dict[str, Any]:
    """Return what is printed, after two runs of the work."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        centroids = work(first, iterations)
        seconds.append(time.perf_counter() - began)
    return {"work_s": seconds[0], "again_s": seconds[1], "centroids": centroids.tolist()}


def mpi(path: str, first: Floats, iterations: int) -> dict[str, Any]:
    """On the ranks of an MPI job; the time is that of the slowest rank."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    share = Share(path, comm.rank, comm.size)

    def work(centroids: Floats, iterations: int) -> Floats:
        comm.Barrier()
        for _ in range(iterations):
            sums = share.added_up(centroids)
            comm.Allreduce(MPI.IN_PLACE, sums)
            centroids = moved(centroids, sums)
        comm.Barrier()
        return centroids

    comm.Barrier()
    told = timed(work, first, iterations)
    for name in ("work_s", "again_s"):
        told[name] = comm.allreduce(told[name], MPI.MAX)
    return told if comm.rank == 0 else {}


def dask(path: str, first: Floats, iterations: int) -> dict[str, Any]:
    """Dask distributed: a local cluster of processes with one thread each, an actor on each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        workers = sorted(client.scheduler_info()["workers"])
        shares = [
            client.submit(Share, path, number, WORKERS, workers=worker, pure=False)
            for number, worker in enumerate(workers)
        ]
        client.gather([client.submit(Share.ready, share) for share in shares])

        def work(centroids: Floats, iterations: int) -> Floats:
            for _ in range(iterations):
                parts = [
                    client.submit(Share.added_up, share, centroids, pure=False) for share in shares
                ]
                centroids = moved(centroids, reduce(np.add, client.gather(parts)))
            return centroids

        return timed(work, first, iterations)


def ray(path: str, first: Floats, iterations: int) -> dict[str, Any]:
    """Ray: an actor with its share on each of two processors."""
    import ray as system

    system.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    actor = system.remote(Share)
    shares = [actor.remote(path, number, WORKERS) for number in range(WORKERS)]
    system.get([share.ready.remote() for share in shares])

    def work(centroids: Floats, iterations: int) -> Floats:
        for _ in range(iterations):
            sent = system.put(centroids)
            parts = system.get([share.added_up.remote(sent) for share in shares])
            centroids = moved(centroids, reduce(np.add, parts))
        return centroids

    told = timed(work, first, iterations)
    system.shutdown()
    return told


SYSTEMS: Final = {"mpi": mpi, "dask": dask, "ray": ray}


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("points", help="a .npy file of (N, DIMS) doubles")
    parser.add_argument("--clusters", type=int, required=True, help="the first so many points")
    parser.add_argument("--iterations", type=int, required=True)
    options = parser.parse_args()
    first = np.array(np.load(options.points, mmap_mode="r")[: options.clusters])
    told = SYSTEMS[options.system](options.points, first, options.iterations)
    if told:
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
