"""What `--trace` costs: the k-means job with and without, in turn; `make trace-overhead`.

A pair of runs is one sample: both happen within seconds, so that a busy moment of the machine falls
on both, and the order changes from pair to pair. Told are medians of the ratios: of the time of the
work, and of the processor time of whole commands, which depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
from pathlib import Path
from typing import Any, Final

from bench.launch import run_ranks

OUTPUT: Final = Path("build/bench/trace-overhead.json")
PROGRAM: Final = "jobs/kmeans/kmeans.dasm"
#: About a second of work on a quiet machine, in some 750 runners.
SIZES: Final = {"N": 60_000, "K": 16, "PARTS": 64, "ITERATIONS": 10}


def run(rank_count: int, folder: Path, *options: str) -> tuple[float, float]:
    """Return `work_s` of the job's report, and the processor seconds of the whole command."""
    report = folder / "report.json"
    defines = [word for name, value in SIZES.items() for word in ("-D", f"{name}={value}")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_ranks(
        rank_count, "-m", "dvm_mpi", PROGRAM, *defines, "--quiet", "--report", str(report), *options
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures: dict[str, Any] = json.loads(report.read_text())
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(figures["work_s"]), used


def pair(rank_count: int, folder: Path, number: int) -> tuple[tuple[float, float], ...]:
    """Return the figures without and with a trace, in an order that depends on the number."""
    traced = ("--trace", str(folder / "trace.json.gz"))
    if number % 2:
        told = run(rank_count, folder, *traced)
        return run(rank_count, folder), told
    plain = run(rank_count, folder)
    return plain, run(rank_count, folder, *traced)


def quartiles(ratios: list[float]) -> str:
    """Return the median of ratios, and between which half of them lies."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} – {high:.3f})"


def main() -> int:
    """Run as a command; prints a table, and keeps every sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", nargs="+", type=int, default=(0, 1, 2), help="0: no launcher")
    parser.add_argument("--pairs", type=int, default=9, help="of each number of ranks")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    folder = options.output.parent / "trace-overhead"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print(
        "| ranks | work, s | work with / without | processor, s | with / without | trace, bytes |"
    )
    print("|---|---|---|---|---|---|")
    rows = []
    for rank_count in options.ranks:
        # Whatever is not compiled yet is compiled before the first sample.
        run(rank_count, folder)
        pairs = [pair(rank_count, folder, number) for number in range(options.pairs)]
        size = (folder / "trace.json.gz").stat().st_size
        told = [
            f"{statistics.median(plain[which] for plain, _ in pairs):.2f} | "
            f"{quartiles([traced[which] / plain[which] for plain, traced in pairs])}"
            for which in (0, 1)
        ]
        print(f"| {rank_count or 'no launcher'} | {' | '.join(told)} | {size:,} |", flush=True)
        rows.append({"ranks": rank_count, "pairs": pairs, "trace_bytes": size})
    shutil.rmtree(folder)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
