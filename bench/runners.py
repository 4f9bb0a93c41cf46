"""How many runners a second ranks create, run and commit: `python -m bench.runners`.

Runs `programs/runners.dasm` with several counts, and the tree sum, in turn, and prints medians.
Time is `work_s` of the report, from the first instruction to the last publish. On a machine that
others use processor time says more: that of all ranks, user and system, less that of a run that
does nothing, for each runner. Memory is the peak of rank 0 above that of the smallest count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.launch import ROOT, run_ranks

PROGRAM: Final = "bench/programs/runners.dasm"
TREE: Final = "jobs/treesum/treesum.dasm"
#: Runners that parents create in a run that does next to nothing.
NEXT_TO_NOTHING: Final = 64


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: what its report says, and the processor time of all its processes, start and all."""

    report: dict[str, Any]
    processor_s: float


def run(rank_count: int, program: str, *defines: str) -> Ran:
    """Run a program on ranks."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        path = Path(folder) / "report.json"
        words = [word for define in defines for word in ("-D", define)]
        before = _children_s()
        run_ranks(rank_count, "-m", "dvm_mpi", program, *words, "--quiet", "--report", str(path))
        return Ran(json.loads(path.read_text()), _children_s() - before)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def line(name: str, samples: Sequence[Ran], nothing: Sequence[Ran]) -> str:
    """Return a row of the table."""
    reports = [sample.report for sample in samples]
    runners = int(reports[0]["runners"])
    work_s = statistics.median(float(report["work_s"]) for report in reports)
    start_s = statistics.median(sample.processor_s for sample in nothing)
    processor_s = statistics.median(sample.processor_s for sample in samples) - start_s
    moved = [report["traffic"]["between_ranks"] for report in reports]
    messages = statistics.median(each["messages"] for each in moved)
    control = statistics.median(each["control"] for each in moved)
    peak = statistics.median(_peak_bytes(report) for report in reports)
    peak_of_nothing = statistics.median(_peak_bytes(sample.report) for sample in nothing)
    return (
        f"| {name:20} | {work_s:7.3f} | {runners / work_s:9,.0f} "
        f"| {processor_s / runners * 1e6:6.2f} | {messages:8,.0f} | {control / runners:8.1f} "
        f"| {reports[0]['epochs']:6,} | {peak / 2**20:7.1f} "
        f"| {(peak - peak_of_nothing) / runners:7.0f} |"
    )


def _peak_bytes(report: dict[str, Any]) -> int:
    return int(report["by_rank"]["resident_bytes"][0])


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_048, 100_032, 1_000_000])
    parser.add_argument("--no-tree", action="store_true", help="leave the tree sum out")
    options = parser.parse_args()
    wanted: dict[str, tuple[str, ...]] = {
        f"{count:,} runners": (PROGRAM, f"COUNT={count}")
        for count in (NEXT_TO_NOTHING, *options.counts)
    }
    if not options.no_tree:
        wanted["tree sum"] = (TREE,)
    samples: dict[str, list[Ran]] = {name: [] for name in wanted}
    load = os.getloadavg()[0]
    for _ in range(options.rounds):
        for name, command in wanted.items():
            samples[name].append(run(options.ranks, *command))
    print(f"load average {load:.1f} on {os.cpu_count()} processors, as it began")
    print("|                      |  work s | runners/s | us/run | messages | B/runner | epochs "
          "| peak MB | B/run'r |")  # fmt: skip
    nothing = next(iter(samples.values()))
    for name, found in samples.items():
        print(line(name, found, nothing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
