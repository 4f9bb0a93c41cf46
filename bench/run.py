"""`make bench`: the figures of bench/README.md, as a table and as build/bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from bench.commands import Commands
from bench.machine import Program
from bench.measure import Measure, doubts, table, take_rounds
from bench.memory import Applying, Conflicts
from bench.simulating import records_per_cpu_second
from dvm_mpi.io.report import host, versions
from dvm_mpi.job.parts import revision

OUTPUT = Path("build/bench")


def all_measures(folder: Path) -> list[Measure]:
    """Return every measure, those that are compared with each other side by side."""
    commands = Commands(folder / "files")
    primes = Program("jobs/primes/primes.dasm", {"LIMIT": 1_000_000})
    kmeans = Program("jobs/kmeans/kmeans.dasm", {"N": 200_000, "K": 16, "ITERATIONS": 5})
    empty = Program("bench/programs/empty.dasm", {"PARENTS": 16, "CHILDREN": 6_250})
    tree = Program("jobs/treesum/treesum.dasm", {})
    few, many = Conflicts(1_000), Conflicts(1_000_000)
    applying = Applying()
    starts = [
        Measure(f"start on {ranks} ranks, warm", "s", partial(commands.start_warm_s, ranks), aim)
        for ranks, aim in ((1, ""), (4, ""), (16, "<= 4 on 2 processors"))
    ] + [
        Measure(
            f"start on {ranks} ranks, cold", "s", partial(commands.start_cold_s, ranks),
            rounds_max=1,
        )
        for ranks in (1, 4, 16)
    ]  # fmt: skip
    bandwidths = [
        Measure(f"64 MiB, 2 ranks: {what}", "GB/s", partial(commands.bandwidth_gb_per_second, what))
        for what in ("commit", "snapshot", "memcpy")
    ]
    return [
        Measure("interpreter: primes", "ns/instruction", primes.nanoseconds_per_instruction, "< 3"),
        Measure(
            "interpreter: k-means", "ns/instruction", kmeans.nanoseconds_per_instruction, "< 3"
        ),
        Measure("around the runners of k-means", "us/runner", kmeans.microseconds_around_a_runner),
        Measure("empty runners, 100,000", "runners/s", empty.runners_per_second),
        Measure(
            "empty runners, 100,000, 2 ranks",
            "runners/s",
            partial(commands.empty_runners_per_second, 2),
        ),
        Measure("tree sum, 20,480 integers", "runners/s", tree.runners_per_second),
        Measure("k-means job on the photograph", "s", commands.kmeans_work_s),
        Measure("k-means, numpy, one thread", "s", commands.kmeans_peer_s),
        Measure("k-means job, 2 ranks", "s", partial(commands.kmeans_work_s, 2)),
        Measure("k-means, mpi4py + numpy, 2 ranks", "s", partial(commands.kmeans_peer_s, 2)),
        Measure("start of an empty program, warm", "s", commands.start_warm_s),
        Measure("start of an empty program, cold", "s", commands.start_cold_s, rounds_max=1),
        *starts,
        Measure("start of Python, numpy, numba", "s", commands.start_python_s),
        Measure("commit to readable, 3 ranks", "ms", commands.commit_to_readable_ms),
        *bandwidths,
        Measure("conflicts, 1,000 ranges", "records/s", few.records_per_second),
        Measure("conflicts, 1,000,000 ranges", "records/s", many.records_per_second),
        Measure("home: whole pages applied", "GB/s", applying.whole_pages_gb_per_second),
        Measure("home: memcpy of the same", "GB/s", applying.memcpy_gb_per_second),
        Measure("home: stores of 8 bytes applied", "stores/s", applying.small_stores_per_second),
        Measure(
            "simulation of 1,000 ranks", "records/s", records_per_cpu_second, ">= 30,000",
            rounds_max=1,
        ),
    ]  # fmt: skip


def results(measures: Sequence[Measure], load: Sequence[float], remarks: list[str]) -> str:
    """Return everything that a later reader must know, as JSON."""
    content = {
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "revision": revision().strip(" ()"),
        "host": host(),
        "versions": versions(),
        "load_averages": list(load),
        "doubts": remarks,
        "measures": [
            {
                "name": m.name, "unit": m.unit, "aim": m.aim,
                "median": m.median, "best": m.best, "spread": m.spread, "samples": m.samples,
            }
            for m in measures
        ],
    }  # fmt: skip
    return json.dumps(content, indent=2) + "\n"


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="samples of each measure")
    parser.add_argument("--only", default="", metavar="TEXT", help="measures with this in the name")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER")
    options = parser.parse_args()
    load = os.getloadavg()
    chosen = [m for m in all_measures(options.output) if options.only in m.name]
    if not chosen:
        sys.exit(f"bench: no measure has '{options.only}' in its name")
    for measure in chosen:
        # Compiles, fills caches, makes inputs: what the first run of anything pays.
        if measure.rounds_max > 1:
            note(f"warming up: {measure.name}")
            measure.sample()
    take_rounds(chosen, options.rounds, note)
    processors = int(host()["processors"])
    remarks = doubts(chosen, load[0], processors)
    (options.output / "results.json").write_text(results(chosen, load, remarks))
    note("")
    print(table(chosen))
    for remark in remarks:
        print(f"doubtful: {remark}")
    print(f"all samples: {options.output / 'results.json'}")


def note(text: str) -> None:
    """Show on a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
