"""What moves between ranks, and how long it takes, by policy: `python -m bench.placement`.

Each job runs with one iteration and with more, under each policy in turn; the difference has no
start-up in it, nor the first look at the data. Results must be the same under all policies. On four
virtual hosts (`tests/cluster/up.sh`) name the launcher with `--starter`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.launch import ROOT, TIMEOUT_S, launcher
from dvm_mpi.control.policies import PLACEMENTS

_SHOWN_PER_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Job:
    """A job, what says how many iterations it has, and the array that it leaves."""

    name: str
    repeats: str
    few: int
    many: int
    #: The array after `few` and after `many` iterations.
    results: tuple[str, str]
    defines: tuple[str, ...] = ()


JOBS: Final = {
    job.name: job
    for job in (
        Job("kmeans", "ITERATIONS", 1, 6, ("centroids", "centroids"),
            ("N=400000", "K=4", "LABELS=0")),
        Job("stencil", "ITERATIONS", 1, 11, ("other", "other")),
        Job("matmul", "ROUNDS", 1, 3, ("c", "c"), ("TILES=8", "TILE=64")),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run moved between ranks, in bytes, how long it worked, and what it left."""

    payload: float
    control: float
    work_s: float
    digest: str


def run(starter: Sequence[str], job: Job, is_long: bool, options: Sequence[str]) -> Moved:
    """Run a job and return what its report says."""
    repeats = job.many if is_long else job.few
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        report, result = Path(folder) / "report.json", Path(folder) / "result.npy"
        defines = [f"-D{define}" for define in (*job.defines, f"{job.repeats}={repeats}")]
        command = [*starter, sys.executable, "-m", "dvm_mpi", f"jobs/{job.name}/{job.name}.dasm"]
        command += [*defines, *options, "--quiet", "--memory", "256M", "--report", str(report)]
        command += ["--out", f"{job.results[is_long]}={result}"]
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"bench: {shlex.join(command)}: {done.returncode}\n{done.stderr}")
        told = json.loads(report.read_text())
        digest = hashlib.sha256(result.read_bytes()).hexdigest()
    between = told["traffic"]["between_ranks"]
    payload = between["payload_fetched"] + between["payload_stored"]
    return Moved(payload, between["control"], told["work_s"], digest)


def measure(
    starter: Sequence[str], job: Job, options: Sequence[str]
) -> tuple[Moved, tuple[str, str]]:
    """Return what the iterations after the first moved, and the results of both runs."""
    few, many = (run(starter, job, is_long, options) for is_long in (False, True))
    moved = Moved(
        many.payload - few.payload,
        many.control - few.control,
        many.work_s - few.work_s,
        many.digest,
    )
    return moved, (few.digest, many.digest)


def line(job: Job, policy: str, samples: Sequence[Moved]) -> str:
    """Return a row of the table: medians, for one iteration."""
    count = job.many - job.few
    payload, control, work_s = (
        statistics.median(getattr(sample, name) for sample in samples) / count
        for name in ("payload", "control", "work_s")
    )
    return (
        f"| {job.name:8} | {policy:11} | {payload / _SHOWN_PER_MB:9.3f} "
        f"| {control / _SHOWN_PER_MB:9.3f} | {work_s:8.3f} |"
    )


def main() -> int:
    """Run as a command; the status tells whether all policies left the same results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--policies", nargs="+", default=["data", "random"], choices=PLACEMENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plane", default="auto", help="of --data-plane")
    parser.add_argument("--starter", help="all words before Python's (default: mpiexec -n RANKS)")
    options = parser.parse_args()
    starter = [launcher(), "-n", str(options.ranks)]
    if options.starter is not None:
        starter = shlex.split(options.starter)
    is_same = True
    print("| job      | policy      | MB, pages | MB, other | seconds  |  of an iteration")
    for name in options.jobs:
        job = JOBS[name]
        samples: dict[str, list[Moved]] = {policy: [] for policy in options.policies}
        results = set()
        for _ in range(options.rounds):
            for policy, found in samples.items():
                words = ["--placement", policy, "--data-plane", options.plane]
                moved, result = measure(starter, job, words)
                found.append(moved)
                results.add(result)
        for policy, found in samples.items():
            print(line(job, policy, found), flush=True)
        is_same = is_same and len(results) == 1
        print(f"| {name}: results {'are the same' if len(results) == 1 else 'DIFFER'}", flush=True)
    return int(not is_same)


if __name__ == "__main__":
    sys.exit(main())
