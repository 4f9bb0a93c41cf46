"""The k-means job beside the same in other systems: `make bench-jobs`.

One file of points, two ranks or workers each, ten iterations from the first ten points; timed from
the first iteration until the centroids are visible. Systems are started in turn, some times each.
The centroids must be the same but for rounding, and to the last bit where the order of sums is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.kernels.run import OPTIMISATIONS, run
from bench.launch import ROOT, launcher
from bench.run import OUTPUT, note
from bench.tasks import BIN
from bench.timings import (
    Timings,
    conclude,
    fastest,
    markdown,
    ratio,
    seconds_text,
    warnings,
)

PEERS: Final = ROOT / "bench" / "peers"
RANKS: Final = 2
DIMS: Final = 4
CLUSTERS: Final = 10
ITERATIONS: Final = 10
#: How far centroids may be from those of C, relatively, where sums are added in another order.
RELATIVE_MAX: Final = 1e-9
_US_PER_S: Final = 1_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """One run: seconds of the work, and of the same again in the same processes, if that is done.

    `centroids` is (CLUSTERS, DIMS). `whole_s`: with what comes before the first iteration, and
    behind the last one, if that is known as well.
    """

    work_s: float
    again_s: float | None
    centroids: Floats
    whole_s: float | None = None


@dataclass(slots=True)
class System:
    """One system: how it is run, and what it took.

    `exact`: it adds in the same order as C, so that its centroids have the same bits.
    """

    name: str
    sample: Callable[[], Told]
    exact: bool
    timings: Timings
    again: Timings = field(default_factory=lambda: Timings("again"))
    whole: Timings = field(default_factory=lambda: Timings("whole"))

    def take(self, expected: Floats | None) -> Floats:
        """Run it once and keep the times; return its centroids.

        Centroids that are not those expected end the benchmark.
        """
        told = self.sample()
        if expected is not None:
            check(self.name, told.centroids, expected, exact=self.exact)
        self.timings.add([told.work_s])
        if told.again_s is not None:
            self.again.add([told.again_s])
        if told.whole_s is not None:
            self.whole.add([told.whole_s])
        return told.centroids

    def as_json(self) -> dict[str, Any]:
        """Return everything about this system."""
        again, whole = (t.as_json() if t.samples else None for t in (self.again, self.whole))
        return {"name": self.name, **self.timings.as_json(), "again": again, "whole": whole}


def check(name: str, centroids: Floats, expected: Floats, *, exact: bool) -> None:
    """End the benchmark if centroids are not those expected."""
    if centroids.shape != expected.shape:
        sys.exit(f"bench: {name}: centroids of shape {centroids.shape}, not {expected.shape}")
    if exact and not np.array_equal(centroids.view(np.uint64), expected.view(np.uint64)):
        sys.exit(f"bench: {name}: centroids with other bits than C's, though sums have one order")
    if not np.allclose(centroids, expected, rtol=RELATIVE_MAX, atol=0):
        worst = float(np.max(np.abs(centroids / expected - 1)))
        sys.exit(f"bench: {name}: centroids are {worst:.1e} off those of C, relatively")


def parse(printed: str, command: str) -> Told:
    """Return what a peer has printed: its only line of JSON. Without one the benchmark ends."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if len(lines) != 1:
        sys.exit(f"bench: {command}: {len(lines)} lines of JSON, not one:\n{printed}")
    told = json.loads(lines[0])
    again = told.get("again_s")
    return Told(
        float(told["work_s"]), None if again is None else float(again),
        np.array(told["centroids"], np.float64),
    )  # fmt: skip


class Work:
    """The points, and commands on them; everything that is made lies in one folder."""

    def __init__(self, folder: Path, points: int, parts: int) -> None:
        self._folder = folder
        self._points = folder / "points.npy"
        self._count = points
        self._parts = parts
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        #: Uniform: no cluster settles within the iterations, so that all of them are done.
        rng = np.random.default_rng(1)
        np.save(self._points, rng.random((points, DIMS)))

    def dvm(self, engine: str) -> Told:
        """Run the job, which tells how long its iterations took if it has a part for each rank.

        `work_s` of its report is from the first dispatch to the last publish: that holds the
        choice of the first centroids and the last console lines as well.
        """
        report, result = self._folder / "report.json", self._folder / "centroids.npy"
        sizes = {
            "N": self._count, "DIMS": DIMS, "K": CLUSTERS, "ITERATIONS": ITERATIONS, "STRIDE": 1,
            "PARTS": self._parts, "GENERATE": 0, "LABELS": 0, "TIME": int(self._parts == RANKS),
        }  # fmt: skip
        printed = run([
            launcher(), "-n", str(RANKS), sys.executable, "-m", "dvm_mpi",
            "jobs/kmeans/kmeans.dasm", *(f"-D{name}={value}" for name, value in sizes.items()),
            "--in", f"points={self._points}", "--out", f"centroids={result}",
            "--report", str(report), "--engine", engine, "--quiet",
        ])  # fmt: skip
        ended = re.search(rf"\n{ITERATIONS} iterations\n(?:(\d+) us\n)?", printed)
        if ended is None:
            sys.exit(f"bench: the job has not done {ITERATIONS} iterations:\n{printed}")
        whole_s = json.loads(report.read_text())["work_s"]
        work_s = int(ended[1]) / _US_PER_S if ended[1] else whole_s
        return Told(work_s, None, np.load(result), whole_s)

    def c(self, flags: Sequence[str]) -> Told:
        """Run the C program of two ranks, compiled by the compiler wrapper of this library.

        `-DBLOCKED` among the flags has it take points in blocks, as the job does.
        """
        target = self._folder / "-".join(["kmeans", *(flag.strip("-") for flag in flags)])
        if not target.exists():
            run([
                str(wrapper()), "-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off",
                *flags, f"-DDIMS={DIMS}", f"-DK={CLUSTERS}", str(PEERS / "kmeans_mpi.c"),
                "-o", str(target),
            ])  # fmt: skip
        return self._told([
            launcher(), "-n", str(RANKS), str(target), str(self._points), str(ITERATIONS)
        ])  # fmt: skip

    def numpy(self) -> Told:
        """Run mpi4py and numpy on two ranks, one thread each."""
        command = [launcher(), "-n", str(RANKS), sys.executable]
        return self._python(command, "mpi")

    def other(self, system: str) -> Told:
        """Run Dask or Ray, from the environment of other systems."""
        return self._python([str(BIN / "python")], system)

    def _python(self, starter: Sequence[str], system: str) -> Told:
        words = ["-m", "bench.peers.kmeans", system, str(self._points)]
        sizes = ["--clusters", str(CLUSTERS), "--iterations", str(ITERATIONS)]
        return self._told([*starter, *words, *sizes], self._environment())

    def spark(self) -> Told:
        """Run Spark with two threads in one process, compiled before."""
        jars = next(BIN.parent.glob("lib/python*/site-packages/pyspark/jars"), None)
        if jars is None:
            sys.exit("bench: Spark is missing: `make build/peers/.complete` installs it")
        jar = self._folder / "kmeans.jar"
        if not jar.exists():
            classes = self._folder / "classes"
            source = str(PEERS / "KmeansSpark.java")
            run([java("javac"), "-d", str(classes), "-cp", f"{jars}/*", source])
            run([java("jar"), "cf", str(jar), "-C", str(classes), "."])
        sizes = [str(number) for number in (CLUSTERS, DIMS, ITERATIONS)]
        return self._told(
            [
                str(BIN / "spark-submit"), "--master", f"local[{RANKS}]", "--driver-memory", "2g",
                "--class", "KmeansSpark", str(jar), str(self._points), *sizes,
            ],
            self._environment(),
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            # Ray keeps a token at home and would ask for it; nothing is to be left behind there.
            "RAY_AUTH_MODE": "disabled", "HOME": str(self._folder),
            "PATH": f"{BIN}:{os.environ['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1",
        }  # fmt: skip

    def _told(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Told:
        return parse(run(command, environment or {}), " ".join(command))


def wrapper() -> Path:
    """Return the mpicc that came with this environment's library, or the one on the PATH."""
    own = Path(sys.executable).with_name("mpicc")
    found = own if own.exists() else shutil.which("mpicc")
    if found is None:
        sys.exit("bench: no mpicc: the wheel of MPICH brings one (`make venv`); else install it")
    return Path(found)


def java(tool: str) -> str:
    """Return a tool of the Java development kit; without it the benchmark ends."""
    found = shutil.which(tool)
    if found is None:
        sys.exit(
            f"bench: no {tool}: install Java (Debian: apt-get install openjdk-17-jdk-headless)"
        )
    return found


def all_systems(work: Work, engines: Sequence[str], *, parts: int) -> list[System]:
    """Return every system, C's first."""
    found: list[tuple[str, Callable[[], Told], bool]] = [
        (f"C + MPI {' '.join(flags)}{also}", partial(work.c, (*flags, *more)), True)
        for also, more in (("", ()), (" in blocks", ("-DBLOCKED",)))
        for flags in OPTIMISATIONS
    ]
    found += [(f"DVM {engine}", partial(work.dvm, engine), parts == RANKS) for engine in engines]
    found += [
        ("mpi4py + numpy", work.numpy, False),
        ("Dask", partial(work.other, "dask"), False),
        ("Ray", partial(work.other, "ray"), False),
        ("Spark", work.spark, False),
    ]
    return [System(name, sample, exact, Timings(name)) for name, sample, exact in found]


def _told_median(timings: Timings) -> str:
    return seconds_text(timings.median) if timings.samples else "-"


def table(systems: Sequence[System]) -> str:
    """Return the results as a Markdown table; ratios are to the best C."""
    best = fastest(s.timings for s in systems if s.name.startswith("C "))
    rows = [("system", "time", "x C + MPI", "quickest", "spread", "once more", "whole run")]
    rows += [
        (s.name, seconds_text(s.timings.median), f"{ratio(s.timings, best)[0]:.2f}",
         seconds_text(s.timings.best), f"{s.timings.apart:.0%}",
         _told_median(s.again), _told_median(s.whole))
        for s in systems
    ]  # fmt: skip
    return markdown(rows)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", nargs="+", default=["translate"], metavar="ENGINE")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each system")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=RANKS, help="runners in an iteration of ours")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the others, C apart")
    parser.add_argument("--output", type=Path, default=OUTPUT / "jobs.json", metavar="FILE")
    options = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = Work(Path(folder) / "jobs", options.points, options.parts)
        systems = [
            system
            for system in all_systems(work, options.engines, parts=options.parts)
            if system.name.startswith("C ") or options.only in system.name
        ]
        for system in systems:
            # Compiles, and fills the caches of compiled code and of files.
            note(f"warming up: {system.name}")
            system.sample()
        expected: Floats | None = None
        for number in range(options.rounds):
            for system in systems:
                note(f"round {number + 1} of {options.rounds}: {system.name}")
                centroids = system.take(expected)
                expected = centroids if expected is None else expected
    remarks = warnings([("k-means", [system.timings for system in systems])], load[0], RANKS)
    sizes = {
        "points": options.points, "dimensions": DIMS, "clusters": CLUSTERS,
        "iterations": ITERATIONS, "ranks": RANKS, "parts": options.parts,
    }  # fmt: skip
    results = {"warnings": remarks, "sizes": sizes, "systems": [s.as_json() for s in systems]}
    conclude(options.output, load, results, table(systems))


if __name__ == "__main__":
    main()
