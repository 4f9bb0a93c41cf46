"""What the scaling model says of larger machines, all of it: figures, tables and plots in a folder.

`make scaling-model` runs it with costs of this machine. Predictions are made beside each other on
all processors; they do not depend on how busy these are.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

from dvm_mpi import config
from dvm_mpi.io.plots import draw_scaling
from dvm_mpi.job.held_out import worth
from dvm_mpi.job.predicting import instruction_ns_of, job_of, read_costs
from dvm_mpi.sim.model.costs import NETWORKS, Costs
from dvm_mpi.sim.model.predict import Prediction, predict
from dvm_mpi.sim.model.priced import Site
from dvm_mpi.sim.model.shapes import make_shape

#: How ranks talk to rank 0: through leaders, themselves, and without batches or anything joined.
Kind = Literal["tree", "flat", "naive"]
KINDS: Final[tuple[Kind, ...]] = ("tree", "flat", "naive")
#: Runners of this many instructions are short; of this many nanoseconds, long.
SHORT_INSTRUCTIONS: Final = 40_000
LONG_NS: Final = 10_000_000
#: k-means as in the papers: their speed-up from 10 to 160 nodes, and ours to be.
PAPERS_GAIN, AIM_GAIN = 12.99, 15.0
#: More ranks than these are predicted one after the other.
MANY_RANKS: Final = 256
AIM_PRIMES, AIM_WIDE = 0.95, 0.85


@dataclass(frozen=True, slots=True)
class Task:
    """One prediction that is to be made."""

    study: str
    job: str
    ranks: int
    defines: dict[str, int] = field(default_factory=dict)
    kind: Kind = "tree"
    coordinator: Literal["auto", "dedicated", "shared"] = "auto"
    leaders: int | None = None


def studies(names: list[str], wide: int, long_instructions: int) -> list[Task]:
    """Return all predictions, those that take longest first."""
    long = {"INSTRUCTIONS": long_instructions}
    tasks = [Task("kmeans", "kmeans", ranks) for ranks in (10, 20, 40, 80, 160)]
    # As many for each rank; every rank gets ten.
    for ranks in sorted({wide // 64, wide // 16, wide // 4, wide}):
        given = {**long, "RUNNERS": 10 * ranks}
        tasks += [Task("wide", "empty", ranks, given, kind) for kind in KINDS]
    tasks += [Task("primes", "primes", ranks) for ranks in (256, 64, 16, 4, 1)]
    # Leaders: ranks of each, and from how many ranks on; messages at the rate at which rank 0 can
    # just take them.
    for ranks in (16, 32, 64, 256):
        given = {**long, "RUNNERS": 20 * ranks}
        for of_leader in (0, 8, 16, 32):
            if of_leader < ranks:
                count = -(-ranks // of_leader) if of_leader else 0
                tasks.append(Task("leaders", "empty", ranks, given, leaders=count))
    # Whether rank 0 should execute: runners of several lengths, so that it decides more or less.
    for ranks in (3, 4, 6, 8, 12, 16):
        for length in (SHORT_INSTRUCTIONS, 10 * SHORT_INSTRUCTIONS, long_instructions):
            given = {"INSTRUCTIONS": length, "RUNNERS": 1_500, "PARENTS": 1}
            tasks += [
                Task("coordinator", "empty", ranks, given, coordinator=choice)
                for choice in ("shared", "dedicated", "auto")
            ]
    return [task for task in tasks if task.study in names]


def perform(task: Task, path: Path, network: str) -> tuple[Task, Prediction, float]:
    """Make one prediction; return it with the processor seconds that it took."""
    began_s = time.process_time()
    costs = read_costs(path)
    site = Site(costs, NETWORKS[network], instruction_ns=instruction_ns_of(task.job, costs))
    job = job_of(task.job, make_shape(task.job, task.defines))
    leaders = task.leaders
    found = predict(
        job,
        task.ranks,
        site,
        leaders="none" if task.kind == "flat" or leaders == 0 else leaders or "auto",
        coordinator=task.coordinator,
        is_naive=task.kind == "naive",
    )
    return task, found, time.process_time() - began_s


def long_instructions_of(costs: Costs) -> int:
    """Return how many instructions of an empty runner take `LONG_NS`."""
    return int(LONG_NS / instruction_ns_of("empty", costs))


Found = list[tuple[Task, Prediction, float]]


def _write(folder: Path, study: str, found: Found) -> None:
    rows = [
        {
            "kind": task.kind,
            "coordinator": task.coordinator,
            "length": task.defines.get("INSTRUCTIONS", 0),
            **asdict(p),
            "predicting_s": took_s,
        }
        for task, p, took_s in found
    ]
    with (folder / f"{study}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _table(found: Found) -> list[str]:
    lines = [
        "   ranks kind       leaders      time  executing  rank 0 busy  deciding"
        "  visible after (worst)        moved"
    ]
    lines += [
        f"{p.ranks:>8,} {task.kind + ' ' + task.coordinator[:3]:<10} {p.leaders:>7,} "
        f"{p.work_s:>8.3f}s {p.executing_share:>10.3f} {p.rank0_busy:>12.2f} "
        f"{p.rank0_deciding:>9.2f} {p.lag_median_ms:>10.2f} ({p.lag_worst_ms:>8,.1f}) ms "
        f"{p.moved_bytes / 1e6:>9,.1f} MB"
        for task, p, _ in found
    ]
    return lines


def _curve(path: Path, found: Found) -> list[float]:
    """Draw one job over its numbers of ranks; return how much faster each is than the first."""
    first = found[0][1]
    gains = [first.work_s / p.work_s for _, p, _ in found]
    draw_scaling(
        path,
        [p.ranks for _, p, _ in found],
        {"speed-up": gains, "ideal": [p.ranks / first.ranks for _, p, _ in found]},
        {
            "executing": [p.executing_share for _, p, _ in found],
            "rank 0 busy": [p.rank0_busy for _, p, _ in found],
        },
    )
    return gains


def _kmeans(folder: Path, found: Found) -> list[str]:
    gain = _curve(folder / "kmeans.svg", found)[-1]
    return [
        f"{found[0][1].ranks} to {found[-1][1].ranks} ranks: {gain:.2f} times as fast "
        f"(aim: {AIM_GAIN:g}; papers: {PAPERS_GAIN:g})"
    ]


def _primes(folder: Path, found: Found) -> list[str]:
    gain = _curve(folder / "primes.svg", found)[-1]
    share = gain * found[0][1].ranks / found[-1][1].ranks
    return [f"efficiency on {found[-1][1].ranks} ranks: {share:.3f} (aim: {AIM_PRIMES:g})"]


def _wide(folder: Path, found: Found) -> list[str]:
    by_kind = {kind: [p for task, p, _ in found if task.kind == kind] for kind in KINDS}
    ranks = [p.ranks for p in by_kind["tree"]]
    last = {kind: of_kind[-1] for kind, of_kind in by_kind.items()}
    draw_scaling(
        folder / "wide.svg",
        ranks,
        {
            kind: [naive.work_s / p.work_s for naive, p in zip(by_kind["naive"], rows, strict=True)]
            for kind, rows in by_kind.items()
        },
        {kind: [p.executing_share for p in rows] for kind, rows in by_kind.items()},
    )
    shares = ", ".join(f"{kind} {p.executing_share:.3f}" for kind, p in last.items())
    return [f"share that executes on {ranks[-1]:,} ranks: {shares} (aim: {AIM_WIDE:g})"]


def _leaders(folder: Path, found: Found) -> list[str]:
    del folder
    lines = []
    for ranks in sorted({p.ranks for _, p, _ in found}):
        rows = [p for _, p, _ in found if p.ranks == ranks]
        told = ", ".join(f"{p.leaders} leaders {p.work_s:.3f} s" for p in rows)
        lines.append(f"{ranks} ranks: {told}")
    return [*lines, f"chosen: none up to {config.RANKS_WITHOUT_LEADERS} ranks, then one for "
            f"{config.LEADER_RANKS}"]  # fmt: skip


def _coordinator(folder: Path, found: Found) -> list[str]:
    del folder
    rows: dict[tuple[int, int], dict[str, Prediction]] = {}
    for task, p, _ in found:
        rows.setdefault((p.ranks, task.defines["INSTRUCTIONS"]), {})[task.coordinator] = p
    lines = ["   ranks instructions   decides, shared   dedicated / shared   auto / better"]
    for (ranks, length), of_case in sorted(rows.items()):
        shared, dedicated, auto = (of_case[c] for c in ("shared", "dedicated", "auto"))
        better_s = min(shared.work_s, dedicated.work_s)
        lines.append(
            f"{ranks:>8} {length:>12,} {shared.rank0_deciding:>17.2f} "
            f"{dedicated.work_s / shared.work_s:>20.2f} {auto.work_s / better_s:>15.2f}"
        )
    return lines


CONCLUSIONS: Final = {
    "kmeans": _kmeans,
    "primes": _primes,
    "wide": _wide,
    "leaders": _leaders,
    "coordinator": _coordinator,
}


def main() -> int:
    """Predict all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.predictions", description=__doc__)
    parser.add_argument("--costs", type=Path, required=True, help="what calibrate has written")
    parser.add_argument("--folder", type=Path, required=True, help="for tables and plots")
    parser.add_argument("--network", default="ib-fdr", choices=sorted(NETWORKS))
    parser.add_argument("--wide", type=int, default=4_096, help="most ranks of long runners")
    parser.add_argument("--studies", nargs="+", default=list(CONCLUSIONS), choices=CONCLUSIONS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    costs = read_costs(given.costs)
    tasks = studies(given.studies, given.wide, long_instructions_of(costs))
    found: dict[str, Found] = {}
    number = 0
    # Thousands of simulated ranks take gigabytes, which only the end of a process gives back.
    many = [task for task in tasks if task.ranks > MANY_RANKS]
    few = [task for task in tasks if task.ranks <= MANY_RANKS]
    for part, processes in ((few, len(os.sched_getaffinity(0))), (many, 1)):
        pool = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), max_tasks_per_child=1
        )
        with pool:
            results = pool.map(partial(perform, path=given.costs, network=given.network), part)
            for task, prediction, took_s in results:
                number += 1
                found.setdefault(task.study, []).append((task, prediction, took_s))
                print(
                    f"{number}/{len(tasks)} {task.study} {task.ranks:,} ranks {task.kind}: "
                    f"{took_s:.0f} s",
                    file=sys.stderr,
                )
    lines = [f"network {given.network}; costs: {given.costs}"]
    for study, rows in found.items():
        rows.sort(key=lambda row: row[1].ranks)
        _write(given.folder, study, rows)
        took_s = sum(row[2] for row in rows)
        lines += ["", f"{study} (predicted in {took_s:.0f} s of processor time)"]
        lines += _table(rows) if study in {"kmeans", "primes", "wide"} else []
        lines += CONCLUSIONS[study](given.folder, rows)
    lines += ["", worth(costs.residuals.get("held_out", []))]
    text = "\n".join(lines)
    (given.folder / "predictions.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
