"""How soon a commit can be read whose home is busy: `make busy-home`.

A writer on rank 0 commits to a page of rank 2, a reader on rank 1 is woken by it; meanwhile rank 2
computes, or loads a file, or waits for a compiler. A sample is the time from the store of a time
stamp until the reader, in its new snapshot, has asked for the time: commit, order, apply at the
busy home, publish, dispatch, snapshot from the busy home.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from bench.busy_rank import CONDITIONS, LOADED_DOUBLES
from bench.launch import run_ranks

OUTPUT: Final = Path("build/bench/busy-home.json")
#: What is promised, in milliseconds.
MEDIAN_MS_MAX: Final = 15.0
WORST_MS_MAX: Final = 50.0
#: Names of the environments in which MPICH uses shared memory, and its network path.
NETWORKS: Final = {"shared memory": {}, "network": {"MPIR_CVAR_NOLOCAL": "1"}}


def measure(
    network: str, plane: str, condition: str, samples: int, folder: Path, cpu_share: float = 1.0
) -> dict[str, Any]:
    """Run one combination, and return its figures in milliseconds."""
    result = folder / "samples.json"
    places = (str(folder / "array.h5"), str(result))
    command = ("-m", "bench.busy_rank", condition, plane, str(samples), *places, str(cpu_share))
    run_ranks(3, *command, **NETWORKS[network])
    delays_ms = np.array(json.loads(result.read_text()))
    return {
        "network": network,
        "plane": plane,
        "condition": condition,
        "median_ms": float(np.median(delays_ms)),
        "p99_ms": float(np.quantile(delays_ms, 0.99)),
        "worst_ms": float(delays_ms.max()),
        "samples_ms": delays_ms.tolist(),
    }


def main() -> int:
    """Run as a command; the status tells whether every combination kept its promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=tuple(NETWORKS))
    parser.add_argument("--planes", nargs="+", default=("rma", "message"))
    parser.add_argument("--samples", type=int, default=200, help="of each combination")
    parser.add_argument("--cpu-share", type=float, default=1.0, help="of every rank (default: 1)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    folder = options.output.parent / "busy-home"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with h5py.File(folder / "array.h5", "w") as file:
        file["array"] = np.arange(LOADED_DOUBLES, dtype=np.float64)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print("| network | plane | the home | median ms | p99 ms | worst ms | |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    # Whatever is not compiled yet is compiled before the first sample.
    measure("shared memory", "message", "idle", 1, folder)
    for chosen in itertools.product(options.networks, options.planes, options.conditions):
        row = measure(*chosen, options.samples, folder, options.cpu_share)
        kept = row["median_ms"] <= MEDIAN_MS_MAX and row["worst_ms"] <= WORST_MS_MAX
        rows.append(row | {"kept": kept})
        figures = " | ".join(f"{row[name]:.1f}" for name in ("median_ms", "p99_ms", "worst_ms"))
        print(f"| {' | '.join(chosen)} | {figures} | {'' if kept else 'over the limit'} |")
    shutil.rmtree(folder)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")
    return int(not all(row["kept"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
