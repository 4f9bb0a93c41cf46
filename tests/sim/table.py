"""Print which planted fault is told by whom, and at which seed: `python -m tests.sim.table`.

With `--write`, the table of docs/simulation.md is written anew as well.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from dvm_mpi.sim.loss import Loss
from dvm_mpi.sim.rules import Rules
from tests.sim.bugs import BUGS, Bug
from tests.sim.machine import Run

#: Columns of a line that a judge told.
_TOLD_WIDTH = 90

_DOCUMENT = Path(__file__).parents[2] / "docs" / "simulation.md"

#: The document's table: its head, its rows, its end.
_TABLE = re.compile(r"(<!-- checked: faults -->\n\|.*\n\|.*\n)(?s:.*?)(<!-- end of checked -->)")


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


def row_of(name: str, bug: Bug, caught: Caught) -> str:
    """Return a fault's line in the document."""
    judges = ", ".join(caught.judges)
    return f"| {name} | `{bug.workload}` | {judges} | {caught.seed} of {bug.seeds_max} |\n"


def write(rows: list[str]) -> None:
    """Put `rows` into the document, instead of those that it has."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    table = _TABLE.sub(lambda found: found[1] + "".join(rows) + found[2], text)
    _DOCUMENT.write_text(table, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Print the table; return how many faults were not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.table", description=__doc__)
    parser.add_argument("--seeds", type=int, help="seeds that each fault gets instead of its own")
    parser.add_argument("--write", action="store_true", help="write the document's table")
    options = parser.parse_args(arguments)
    if options.write and options.seeds is not None:
        parser.error("the document's table is of each fault's own seeds: leave out --seeds")
    rows = []
    print(f"{'fault':34} {'workload':17} {'seed':>7}  caught by")
    for name, bug in BUGS.items():
        seeds = bug.seeds_max if options.seeds is None else options.seeds
        caught = first_caught(bug, seeds)
        if caught is None:
            print(f"{name:34} {bug.workload:17} - of {seeds:2}  nobody")
            continue
        rows.append(row_of(name, bug, caught))
        print(
            f"{name:34} {bug.workload:17} {caught.seed} of {seeds:2}  "
            f"{', '.join(caught.judges)}: {caught.told[:_TOLD_WIDTH]}",
            flush=True,
        )
    print(f"{len(rows)} of {len(BUGS)} faults were noticed")
    missed = len(BUGS) - len(rows)
    if options.write and not missed:
        write(rows)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
