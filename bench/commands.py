"""Whole commands, as users run them: start of an empty program, the k-means job, its peer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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

    def _run(self, *command: str, **environment: str) -> tuple[float, str]:
        """Run Python with a command line; return its seconds and what it printed."""
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr}")
        return seconds, done.stdout

    def start_warm_s(self) -> float:
        """Return the seconds of the whole command on an empty program."""
        return self._run("-m", "dvm_mpi", str(self._empty), "--quiet")[0]

    def start_cold_s(self) -> float:
        """Return the same with no compiled code in the cache."""
        cache = self._folder / "cold"
        shutil.rmtree(cache, ignore_errors=True)
        seconds, _ = self._run(
            "-m", "dvm_mpi", str(self._empty), "--quiet", NUMBA_CACHE_DIR=str(cache)
        )
        return seconds

    def start_python_s(self) -> float:
        """Return the seconds of Python with numpy and numba imported: what no start can beat."""
        return self._run("-c", "import numpy, numba")[0]

    def _make_input(self) -> None:
        if not self._is_input_made:
            self._run("jobs/kmeans/make_input.py", "--output", str(self._points))
            self._is_input_made = True

    def kmeans_work_s(self) -> float:
        """Return `work_s` of the k-means job's report."""
        self._make_input()
        report = self._folder / "report.json"
        sizes = {"N": POINTS, "K": CLUSTERS, "PARTS": PARTS, "ITERATIONS": ITERATIONS}
        defines = [word for name, value in sizes.items() for word in ("-D", f"{name}={value}")]
        self._run(
            "-m", "dvm_mpi", "jobs/kmeans/kmeans.dasm", "--quiet", "-D", "GENERATE=0", *defines,
            "--in", f"points={self._points}:points", "--report", str(report),
        )  # fmt: skip
        return float(json.loads(report.read_text())["work_s"])

    def kmeans_numpy_s(self) -> float:
        """Return the seconds of numpy on the same points, on one thread as the job."""
        self._make_input()
        _, printed = self._run(
            "bench/peers/kmeans_numpy.py", str(self._points), "--clusters", str(CLUSTERS),
            "--iterations", str(ITERATIONS), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
        )  # fmt: skip
        return float(json.loads(printed)["work_s"])
