"""What a profile costs: `python -m bench.profiling`.

Programs run in this process in turn, without a profile and with one; the ratio is that of the
medians. Processor time inside the engine only, since what is around it is the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Final

from bench.machine import Program

PROGRAMS: Final = {
    "primes": ("jobs/primes/primes.dasm", {"LIMIT": 400_000}),
    "k-means": ("jobs/kmeans/kmeans.dasm", {"N": 20_000}),
    "tree sum": ("jobs/treesum/treesum.dasm", {"N": 2_000}),
}


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print("| program | ns for an instruction | with --profile | ratio |")
    print("|---|---|---|---|")
    for name, (path, defines) in PROGRAMS.items():
        program = Program(path, defines)
        samples: dict[bool, list[float]] = {False: [], True: []}
        for round_number in range(options.rounds + 1):
            for counts, taken in samples.items():
                figure = program.nanoseconds_per_instruction(counts_instructions=counts)
                # The first round compiles, and warms the caches.
                if round_number:
                    taken.append(figure)
        plain, counted = (statistics.median(taken) for taken in samples.values())
        print(f"| {name} | {plain:.2f} | {counted:.2f} | {counted / plain:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
