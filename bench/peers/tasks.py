"""Empty tasks under other systems: `python bench/peers/tasks.py SYSTEM --tasks 20000`.

Two workers, processes of this machine. The clock runs from the first submission until the last
result is there; workers are up, and have had tasks, before it starts. Prints a line of JSON. It
runs in an environment of its own (`make bench-tasks`): `requirements/peers.txt` has the systems.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

WORKERS: Final = 2
WARM_UP_TASKS: Final = 200


def empty(_number: int = 0) -> None:
    """Do what all these systems are to manage."""


def timed(run: Callable[[int], Any], tasks: int) -> None:
    """Print how long `run` takes for so many tasks, after a warm-up."""
    run(WARM_UP_TASKS)
    began = time.perf_counter()
    run(tasks)
    print(json.dumps({"tasks": tasks, "seconds": time.perf_counter() - began}), flush=True)


def futures(tasks: int) -> None:
    """mpi4py.futures, on three ranks by `python -m mpi4py.futures`: rank 0 only hands out."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(max_workers=WORKERS) as pool:
        timed(lambda count: [f.result() for f in [pool.submit(empty) for _ in range(count)]], tasks)


def futures_chunked(tasks: int) -> None:
    """mpi4py.futures once more, with `map` in chunks of 256: a task is no message of its own."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(max_workers=WORKERS) as pool:
        timed(lambda count: list(pool.map(empty, range(count), chunksize=256)), tasks)


def dask(tasks: int) -> None:
    """Dask: a local cluster of processes with one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        timed(lambda n: client.gather(client.map(empty, range(n), pure=False)), tasks)


def ray(tasks: int) -> None:
    """Ray: tasks, not actors."""
    import ray as system

    system.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    remote = system.remote(empty)
    timed(lambda count: system.get([remote.remote() for _ in range(count)]), tasks)
    system.shutdown()


def charm(tasks: int) -> None:
    """charm4py: its pool, one task a message; the main chare's process works, too."""
    from charm4py import charm as system

    def entry(_arguments: Any) -> None:
        timed(lambda count: system.pool.map(empty, range(count)), tasks)
        sys.exit()

    system.start(entry)


SYSTEMS: Final = {
    "futures": futures, "futures-chunked": futures_chunked, "dask": dask, "ray": ray,
    "charm4py": charm,
}  # fmt: skip


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--tasks", type=int, default=20_000)
    options = parser.parse_args()
    SYSTEMS[options.system](options.tasks)


if __name__ == "__main__":
    main()
