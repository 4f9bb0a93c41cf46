"""Whole commands, as users run them, in one process and on ranks; and peers of the k-means job."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from bench.launch import run_ranks

#: The job of `make kmeans`: the photograph of 427 x 640 pixels.
CLUSTERS, ITERATIONS, PARTS, POINTS = 32, 20, 64, 273_280


class Commands:
    """Runs commands; everything that they leave is in one folder, which is made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._points = folder / "points.h5"
        self._empty = folder / "empty.dasm"
        self._empty.write_text("main:   exit:c\n")
        self._is_input_made = False
        #: Of the last run, what has not been asked for.
        self._bandwidths: dict[str, float] = {}

    def start_warm_s(self, rank_count: int = 0) -> float:
        """Return the seconds of the whole command on an empty program; 0: without a launcher."""
        return run_ranks(rank_count, "-m", "dvm_mpi", str(self._empty), "--quiet")[0]

    def start_cold_s(self, rank_count: int = 0) -> float:
        """Return the same with no compiled code in the cache."""
        cache = self._folder / "cold"
        shutil.rmtree(cache, ignore_errors=True)
        command = ("-m", "dvm_mpi", str(self._empty), "--quiet")
        return run_ranks(rank_count, *command, NUMBA_CACHE_DIR=str(cache))[0]

    def start_python_s(self) -> float:
        """Return the seconds of Python with numpy and numba imported: what no start can beat."""
        return run_ranks(0, "-c", "import numpy, numba")[0]

    def _make_input(self) -> None:
        if not self._is_input_made:
            run_ranks(0, "jobs/kmeans/make_input.py", "--output", str(self._points))
            self._is_input_made = True

    def kmeans_work_s(self, rank_count: int = 0) -> float:
        """Return `work_s` of the k-means job's report."""
        self._make_input()
        sizes = {"N": POINTS, "K": CLUSTERS, "PARTS": PARTS, "ITERATIONS": ITERATIONS}
        defines = [word for name, value in sizes.items() for word in ("-D", f"{name}={value}")]
        report = self._report(
            rank_count, "jobs/kmeans/kmeans.dasm", "-D", "GENERATE=0", *defines,
            "--in", f"points={self._points}:points",
        )  # fmt: skip
        return float(report["work_s"])

    def kmeans_peer_s(self, rank_count: int = 0) -> float:
        """Return the seconds of numpy on the same points, each process on one thread."""
        self._make_input()
        name = "kmeans_mpi" if rank_count else "kmeans_numpy"
        _, printed = run_ranks(
            rank_count, "-m", f"bench.peers.{name}", str(self._points),
            "--clusters", str(CLUSTERS), "--iterations", str(ITERATIONS),
            OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
        )  # fmt: skip
        return float(json.loads(printed)["work_s"])

    def empty_runners_per_second(self, rank_count: int) -> float:
        """Return the runners of a run divided by the seconds of its work."""
        report = self._report(rank_count, "bench/programs/empty.dasm")
        return float(report["runners"]) / float(report["work_s"])

    def _report(self, rank_count: int, *arguments: str) -> dict[str, Any]:
        path = self._folder / "report.json"
        run_ranks(rank_count, "-m", "dvm_mpi", *arguments, "--quiet", "--report", str(path))
        report: dict[str, Any] = json.loads(path.read_text())
        return report

    # --- programs whose runners are placed ------------------------------------------------------
    def commit_to_readable_ms(self, samples: int = 100) -> float:
        """Return the median time from a commit until a third rank has read it; nobody computes."""
        result = self._folder / "samples.json"
        whole = "1.0"  # of a processor
        command = ("idle", "rma", str(samples), str(self._folder / "none.h5"), str(result), whole)
        run_ranks(3, "-m", "bench.busy_rank", *command)
        return float(statistics.median(json.loads(result.read_text())["delays_ms"]))

    def bandwidth_gb_per_second(self, what: str) -> float:
        """Return the rate of "commit", "snapshot" or "memcpy"; one run gives all three."""
        if what in self._bandwidths:
            return self._bandwidths.pop(what)
        result = self._folder / "bandwidth.json"
        run_ranks(2, "-m", "bench.bandwidth_rank", "rma", str(result))
        self._bandwidths = json.loads(result.read_text())
        return self._bandwidths.pop(what)
