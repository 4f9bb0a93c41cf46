"""How soon a runner has its snapshot of 64 MiB, and at what rate: `python -m bench.snapshots`.

A row for each data plane and kind of snapshot: of a range that nobody has changed since the rank
last saw it, and of one that 64 runners of another rank of the node have just committed; beside a
plain copy of as much, in the same process between the snapshots. The first round touches fresh
memory, and is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.launch import ROOT, run_ranks
from bench.snapshot_rank import BYTES

OUTPUT: Final = Path("build/bench/snapshots.json")


def _row(name: str, samples: Sequence[Sequence[int]], copies: Sequence[Sequence[int]]) -> str:
    """Return a line: median ms, ms of processor time, GB/s, and both rates as parts of memcpy's."""
    cells = []
    for clock in range(2):
        took = statistics.median(sample[clock] for sample in samples)
        copied = statistics.median(sample[clock] for sample in copies)
        cells += [
            f"{took / 1e6:.2f}",
            f"{BYTES / max(took, 1):.2f}",
            f"{copied / max(took, 1):.0%}",
        ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--planes", nargs="+", default=["rma", "message"])
    parser.add_argument("--runs", type=int, default=3, help="processes of each plane, in turn")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    output = ROOT / options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, list[list[int]]]]] = {plane: [] for plane in options.planes}
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    for _ in range(options.runs):
        for plane in options.planes:
            run_ranks(2, "-m", "bench.snapshot_rank", plane, str(output))
            found[plane].append(json.loads(output.read_text()))
    print("| 64 MiB, 2 ranks | ms | GB/s | of memcpy | processor ms | GB/s | of memcpy |")
    print("|---|---|---|---|---|---|---|")
    for plane, runs in found.items():
        copies = [copy for run in runs for copy in run["memcpy"]]
        for kind in runs[0]:
            # In the first round nothing is there yet.
            first = 0 if kind == "memcpy" else 1
            samples = [sample for run in runs for sample in run[kind][first:]]
            print(_row(f"{plane}: {kind}", samples, copies))
        fresh = [run["changed"][0] for run in runs]
        print(_row(f"{plane}: changed, into fresh memory", fresh, copies))
    output.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
