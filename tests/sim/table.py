"""Print which planted fault is told by whom, and at which seed: `python -m tests.sim.table`.

Numbers after the command are how many seeds each gets instead of its own: `… table 40`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from dvm_mpi.sim.loss import Loss
from dvm_mpi.sim.rules import Rules
from tests.sim.bugs import BUGS, Bug
from tests.sim.machine import Run

#: Columns of a line that a judge told.
_TOLD_WIDTH = 90


@dataclass(frozen=True, slots=True)
class Caught:
    """The first run that was judged wrong, and who said so."""

    seed: int
    judges: tuple[str, ...]
    told: str


def judges_of(bug: Bug, run: Run) -> tuple[str, ...]:
    """Return who finds something wrong with a run; the checker knows values only."""
    broken = Rules(run.history, Loss()).check()
    replayed = run.differences[len(broken) :]
    anomaly = bug.verdict(run).anomaly
    found = {"rules": broken, "replay": replayed, "checker": anomaly, "truth": bug.wrong(run)}
    return tuple(judge for judge, lines in found.items() if lines)


def first_caught(bug: Bug, seeds: int) -> Caught | None:
    """Run seed after seed until replay or rules say something."""
    for seed in range(seeds):
        run = bug.run(seed)
        if run.differences:
            told = next((d for d in run.differences if bug.told in d), run.differences[0])
            return Caught(seed, judges_of(bug, run), told)
    return None


def main(arguments: list[str]) -> int:
    """Print the table; return how many faults were not noticed."""
    missed = 0
    print(f"{'fault':34} {'workload':17} {'seed':>7}  caught by")
    for name, bug in BUGS.items():
        seeds = int(arguments[0]) if arguments else bug.seeds_max
        caught = first_caught(bug, seeds)
        if caught is None:
            missed += 1
            print(f"{name:34} {bug.workload:17} - of {seeds:2}  nobody")
            continue
        print(
            f"{name:34} {bug.workload:17} {caught.seed} of {seeds:2}  "
            f"{', '.join(caught.judges)}: {caught.told[:_TOLD_WIDTH]}",
            flush=True,
        )
    print(f"{len(BUGS) - missed} of {len(BUGS)} faults were noticed")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
