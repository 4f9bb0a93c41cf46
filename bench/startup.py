"""What a run takes that has nothing to do, from the command to its end; `make startup`.

Whole commands on an empty program, without a launcher and on ranks, are measured in turn with what
no start can do without: Python, numpy, what a rank imports, and MPI started and ended. Told are
medians and quartiles of the time on the clock and of processor time, which others on the machine
disturb less; and what the report says of memory and of its stages.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.launch import surroundings
from dvm_mpi.io.report import host, versions
from dvm_mpi.job.parts import revision

ROOT: Final = Path(__file__).resolve().parents[1]
OUTPUT: Final = Path("build/bench/startup.json")
PROGRAM: Final = ROOT / "bench/programs/nothing.dasm"
#: What a rank imports, whatever its program is.
IMPORTS: Final = "import dvm_mpi.cli, dvm_mpi.job.ranks, dvm_mpi.engine.interp"
MPI_ALONE: Final = "from mpi4py import MPI"
#: As the Makefile sets them: more ranks than processors.
OPEN_MPI: Final = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_osc": "^ucx",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_TIMEOUT_S: Final = 600
#: What the report says of a run, in seconds but for the memory.
_TOLD: Final = ("startup_s", "compile_s", "load_s", "work_s", "output_s", "peak_memory_bytes")


@dataclass(slots=True)
class Timed:
    """One command: its samples, in seconds, and what its reports told."""

    name: str
    command: list[str]
    report: Path | None = None
    #: Called before each sample: removes what a cold start must not find.
    prepare: Callable[[], None] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    told: list[dict[str, float]] = field(default_factory=list)

    def sample(self) -> None:
        """Run the command once; one that fails ends the benchmark."""
        self.prepare()
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            self.command, cwd=ROOT, env=surroundings(self.environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
        )  # fmt: skip
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            sys.exit(f"bench: {' '.join(self.command)}: status {done.returncode}\n{done.stderr}")
        self.wall_s.append(wall_s)
        self.cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if self.report is not None:
            figures: dict[str, Any] = json.loads(self.report.read_text())
            self.told.append({name: float(figures[name]) for name in _TOLD})

    def row(self) -> str:
        """Return a line of the table."""
        stages = "| | "
        if self.told:
            of = {name: statistics.median(told[name] for told in self.told) for name in _TOLD}
            seconds = " + ".join(f"{of[name]:.2f}" for name in _TOLD[:-1])
            stages = f"| {seconds} | {of[_TOLD[-1]] / 1e6:.0f} "
        return f"| {self.name} | {spread(self.wall_s)} | {spread(self.cpu_s)} {stages}|"


def spread(samples: Sequence[float]) -> str:
    """Return the median, the quartiles and the least of samples."""
    if len(samples) == 1:
        return f"{samples[0]:.2f} (once)"
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} – {high:.2f}; {min(samples):.2f})"


def launcher(python: Path, rank_count: int) -> list[str]:
    """Return what starts ranks of an environment; nothing for a process of its own (0)."""
    return [str(python.with_name("mpiexec")), "-n", str(rank_count)] if rank_count else []


def commands(options: argparse.Namespace, folder: Path) -> list[Timed]:
    """Return everything that is timed, what belongs together side by side."""
    found = []
    for python in options.pythons:
        mpi = "" if python.parts[-3] == ".venv" else f", {python.parts[-3].removeprefix('.venv-')}"
        parts = {"Python": "pass", "numpy": "import numpy", "imports of a rank": IMPORTS}
        if not mpi and options.parts:
            found += [Timed(name, [str(python), "-c", code]) for name, code in parts.items()]
        for ranks in options.ranks:
            starter = launcher(python, ranks)
            where = f"{ranks} rank{'s'[: ranks > 1]}{mpi}" if ranks else "no launcher"
            if mpi and not ranks:
                continue
            if ranks and options.parts:
                found.append(Timed(f"MPI alone, {where}", [*starter, str(python), "-c", MPI_ALONE]))
            for engine in options.engines:
                name = f"{where}, {engine}"
                report = folder / f"{len(found)}.json"
                command = [
                    *starter, str(python), "-m", "dvm_mpi", str(options.program), "--quiet",
                    "--engine", engine, "--report", str(report),
                ]  # fmt: skip
                if not options.cold:
                    found.append(Timed(name, command, report))
                    continue
                cache = folder / "cold"
                remove = partial(shutil.rmtree, cache, ignore_errors=True)
                own = {"NUMBA_CACHE_DIR": str(cache)}
                found.append(Timed(f"{name}, cold", command, report, remove, own))
    for timed in found:
        timed.environment |= OPEN_MPI | {"PYTHONPATH": str(ROOT)}
    return found


def measure(options: argparse.Namespace) -> int:
    """Take all samples, in turn, and tell of them."""
    folder = options.output.parent / "startup"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    timed = commands(options, folder)
    if not options.cold:
        for each in timed:
            # Whatever is not compiled yet is compiled before the first sample.
            Timed(each.name, each.command, environment=each.environment).sample()
    load_before = os.getloadavg()
    for _ in range(options.rounds):
        for each in timed:
            each.sample()
    load_after = os.getloadavg()
    print(
        f"load average {load_before[0]:.1f} before, {load_after[0]:.1f} after, on "
        f"{os.cpu_count()} processors; medians of {options.rounds} (quartiles; least), in seconds"
    )
    print("| | command | processor | start + compile + load + work + output | MB in a rank |")
    print("|---|---|---|---|---|")
    for each in timed:
        print(each.row())
    content = {
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "revision": revision().strip(" ()"),
        "host": host(),
        "versions": versions(),
        "load_averages": {"before": load_before, "after": load_after},
        "commands": [
            {k: v for k, v in asdict(each).items() if k not in ("prepare", "report")}
            for each in timed
        ],
    }
    options.output.write_text(json.dumps(content, indent=2) + "\n")
    shutil.rmtree(folder)
    return 0


def main() -> int:
    """Run as a command; prints a table, and keeps every sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="samples of each command")
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=(0, 1, 2, 4, 16), help="0: no launcher"
    )
    parser.add_argument("--engines", nargs="+", default=("interp",), help="as --engine names them")
    parser.add_argument(
        "--pythons", nargs="+", type=Path, default=(Path(sys.executable),), metavar="FILE",
        help="interpreters of environments, each with its MPI",
    )  # fmt: skip
    parser.add_argument("--program", type=Path, default=PROGRAM)
    parser.add_argument("--cold", action="store_true", help="nothing is compiled before a sample")
    parser.add_argument(
        "--no-parts", dest="parts", action="store_false", help="time whole commands only"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.pythons = [python.absolute() for python in options.pythons]
    return measure(options)


if __name__ == "__main__":
    raise SystemExit(main())
