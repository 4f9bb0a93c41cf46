"""Run the k-means job on the whole photograph in many orders, and compare every bit.

Each run is a process of its own: `python -m dvm_mpi` with some number of workers and homes and a
seed that shuffles the order of events. All must print the same and write the same arrays, and
these must be equal to numpy's. Used by `make sweep`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from jobs.kmeans import check

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs" / "kmeans" / "kmeans.dasm"


def run_once(given: argparse.Namespace, point_count: int, options: list[str]) -> tuple[str, Path]:
    """Run the job in a process of its own; return what it printed, and its output file."""
    output = ROOT / "build" / "kmeans" / "sweep.h5"
    output.unlink(missing_ok=True)
    defines = {
        "GENERATE": 0,
        "N": point_count,
        "K": given.clusters,
        "PARTS": given.parts,
        "ITERATIONS": given.iterations,
    }
    command = [sys.executable, "-m", "dvm_mpi", str(JOB), "--quiet", *options]
    command += [word for name, value in defines.items() for word in ("-D", f"{name}={value}")]
    command += ["--in", f"points={given.points}:points"]
    for name in ("centroids", "labels"):
        command += ["--out", f"{name}={output}:{name}"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout, output


def arrays_of(output: Path) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return centroids and labels of an output file."""
    with h5py.File(output, "r") as file:
        return file["centroids"][...], file["labels"][...]


def main() -> int:
    """Run the sweep; 0 if every run agrees with numpy to the last bit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=Path, default=ROOT / "build" / "kmeans" / "input.h5")
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 to below this")
    given = parser.parse_args()
    with h5py.File(given.points, "r") as file:
        points = file["points"][...]
    wanted = check.kmeans(points, given.clusters, given.iterations, given.parts)
    console = check.expected_console(wanted)
    orders = [
        ["--workers", str(workers), "--homes", str(1 + seed % 4), "--seed", str(seed)]
        for workers in given.workers
        for seed in range(given.seeds)
    ]
    orders += [["--workers", str(workers)] for workers in given.workers]
    failures = 0
    for options in orders:
        began = time.perf_counter()
        printed, output = run_once(given, len(points), options)
        centroids, labels = arrays_of(output)
        same = (
            printed == console
            and centroids.tobytes() == wanted.centroids.tobytes()
            and np.array_equal(labels, wanted.labels)
        )
        failures += not same
        verdict = "the same bits" if same else "DIFFERENT"
        print(f"{' '.join(options)}: {verdict}, {time.perf_counter() - began:.1f} s", flush=True)
    print(f"sweep: {len(orders) - failures} of {len(orders)} runs agree with numpy to the last bit")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
