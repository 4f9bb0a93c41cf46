"""How soon a commit is readable whose home is busy: `make busy-home`, over hosts with `--hosts`.

A writer on rank 0 commits to a page of rank 2, a reader on rank 1 is woken by it; meanwhile rank 2
computes, or loads a file, or waits for a compiler. A sample is the time from the store of a time
stamp until the reader, in its new snapshot, has asked for the time: commit, order, apply at the
busy home, publish, dispatch, snapshot from the busy home.

With `--hosts` four ranks are on four virtual hosts (`tests/cluster/`), with both MPI libraries, and
the data plane is what the probe chooses there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from bench.busy_rank import CONDITIONS, LOADED_DOUBLES
from bench.launch import ROOT, TIMEOUT_S, run_ranks
from tests.cluster.cluster import Cluster, Mpi, missing

OUTPUT: Final = Path("build/bench/busy-home.json")
#: Runs Python with a command line on all ranks, to its end.
Start = Callable[[Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the ranks are: ways to start them by name, and what is promised there."""

    starts: Mapping[str, Start]
    planes: tuple[str, ...]
    median_ms_max: float
    worst_ms_max: float


def _on_this_host(environment: Mapping[str, str], command: Sequence[str]) -> None:
    run_ranks(3, *command, **environment)


def _on_hosts(cluster: Cluster, mpi: Mpi, command: Sequence[str]) -> None:
    line = cluster.hosts_command(mpi, len(cluster.nodes), cluster.nodes, [mpi.python, *command])
    ended = cluster.run(*line, timeout_s=TIMEOUT_S)
    if ended.code != 0:
        sys.exit(f"bench: {' '.join(command)}: status {ended.code}\n{ended.err}")


@contextmanager
def _ground(is_on_hosts: bool) -> Iterator[Ground]:
    if not is_on_hosts:
        networks: dict[str, dict[str, str]] = {
            "shared memory": {},
            # MPICH's network path.
            "network": {"MPIR_CVAR_NOLOCAL": "1"},
        }
        starts = {name: partial(_on_this_host, way) for name, way in networks.items()}
        yield Ground(starts, ("rma", "message"), 15.0, 50.0)
        return
    reason = missing()
    if reason is not None:
        sys.exit(f"bench: {reason}")
    with Cluster() as cluster:
        names = {"4 hosts, MPICH": Mpi.MPICH, "4 hosts, Open MPI": Mpi.OPEN_MPI}
        there = {name: mpi for name, mpi in names.items() if Path(mpi.python).exists()}
        yield Ground(
            {name: partial(_on_hosts, cluster, mpi) for name, mpi in there.items()},
            ("auto",),
            25.0,
            100.0,
        )


def measure(
    start: Start, plane: str, condition: str, samples: int, folder: Path, cpu_share: float = 1.0
) -> dict[str, Any]:
    """Run one combination, and return its figures in milliseconds."""
    result = folder / "samples.json"
    places = (str(folder / "array.h5"), str(result))
    start(("-m", "bench.busy_rank", condition, plane, str(samples), *places, str(cpu_share)))
    told = json.loads(result.read_text())
    delays_ms = np.array(told["delays_ms"])
    return {
        "plane": told["plane"],
        "condition": condition,
        "median_ms": float(np.median(delays_ms)),
        "p99_ms": float(np.quantile(delays_ms, 0.99)),
        "worst_ms": float(delays_ms.max()),
        "load": os.getloadavg()[0],
        "samples_ms": delays_ms.tolist(),
    }


def main() -> int:
    """Run as a command; the status tells whether every combination kept its promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--networks", nargs="+", help="some of the ways to start ranks")
    parser.add_argument("--planes", nargs="+", help="data planes: rma, message, auto")
    parser.add_argument("--hosts", action="store_true", help="four virtual hosts; wants root")
    parser.add_argument("--samples", type=int, default=200, help="of each combination")
    parser.add_argument("--cpu-share", type=float, default=1.0, help="of every rank (default: 1)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    folder = (ROOT / options.output).parent / "busy-home"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with h5py.File(folder / "array.h5", "w") as file:
        file["array"] = np.arange(LOADED_DOUBLES, dtype=np.float64)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print("| network | plane | the home | median ms | p99 ms | worst ms | load | |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    with _ground(options.hosts) as ground:
        # Whatever is not compiled yet is compiled before the first sample.
        measure(next(iter(ground.starts.values())), "message", "idle", 1, folder)
        networks = options.networks or list(ground.starts)
        planes = options.planes or ground.planes
        for network, plane, condition in itertools.product(networks, planes, options.conditions):
            row = measure(
                ground.starts[network],
                plane,
                condition,
                options.samples,
                folder,
                options.cpu_share,
            )
            kept = (
                row["median_ms"] <= ground.median_ms_max and row["worst_ms"] <= ground.worst_ms_max
            )
            rows.append(row | {"network": network, "kept": kept})
            names = ("median_ms", "p99_ms", "worst_ms", "load")
            cells = [network, row["plane"], condition, *(f"{row[name]:.1f}" for name in names)]
            print(f"| {' | '.join(cells)} | {'' if kept else 'over the limit'} |", flush=True)
    shutil.rmtree(folder)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")
    return int(not all(row["kept"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
