"""Tries random and damaged programs for some time: `python -m tests.fuzz --seconds 300`.

Random legal programs run on all engines, which must agree on everything; damaged texts, image files
and flat images are refused, or run until they trap, end or reach a limit. The exit code is 1 if
engines differ, if anything is raised that should not be, or if a process crashes or hangs.
`python -m tests.fuzz --case KIND NUMBER` tries one case again, `--statistics N` says what happens
in N programs of loops.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tests.engine.agreement import ALL_ENGINES, ENGINES
from tests.engine.hot_programs import hot_scene
from tests.fuzz.cases import KINDS, Figures, kinds
from tests.fuzz.children import Child, Files, Task, try_case, try_cases, watch
from tests.fuzz.occurrences import counted

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "build" / "fuzz"
#: The argument before a task's words: this process is a child.
CHILD: Final = "--child"
#: Numbers of one seed's cases: seeds do not meet.
SEED_CASES: Final = 10**9


def shown(figures: Counter[str]) -> str:
    """Return the figures as a table."""
    return "\n".join(f"{count:>12,}  {name}" for name, count in sorted(figures.items()))


def run(options: argparse.Namespace) -> int:
    """Run the children, print what they found, and return the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    jobs = options.jobs
    chosen = [",".join(options.engines), ",".join(options.kinds), str(int(options.in_turn))]
    command = [sys.executable, "-m", "tests.fuzz", CHILD, *chosen]
    children = [
        Child(
            command,
            Files(FOLDER / str(job)),
            Task(options.seed * SEED_CASES + job, jobs, options.seconds),
        )
        for job in range(jobs)
    ]
    watch(children)
    findings = [c.files.findings.read_text() for c in children if c.files.findings.exists()]
    crashes = [crash for child in children for crash in child.crashes]
    figures = Figures()
    for child in children:
        figures += child.figures
    sys.stdout.write("\n".join([*findings, *crashes, shown(figures), ""]))
    count = sum(text.count("\n--- ") + 1 for text in findings)
    sys.stdout.write(f"{count} findings, {len(crashes)} crashes or hangs\n")
    if not figures["programs"]:
        sys.stdout.write("no program was tried: give more --seconds\n")
        return 1
    return int(bool(findings or crashes))


def _one_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads names that commas separate."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return read


def main(words: list[str]) -> int:
    """Be the parent, one of its children, or try one case."""
    if words[:1] == [CHILD]:
        engines, names, in_turn, first, stride, seconds, folder = words[1:]
        files = Files(Path(folder))
        tried = kinds(
            files.folder, engines.split(","), names.split(","), in_turn=bool(int(in_turn))
        )
        try_cases(Task(int(first), int(stride), float(seconds)), tried, files)
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="other cases for each")
    parser.add_argument("-c", "--case", nargs=2, metavar=("KIND", "NUMBER"), help="try one again")
    parser.add_argument(
        "--engines", type=_one_of(ALL_ENGINES), default=tuple(ENGINES), metavar="NAME,NAME",
        help="which to compare, the one that is right first",
    )  # fmt: skip
    parser.add_argument(
        "--kinds", type=_one_of(KINDS), default=KINDS, metavar="NAME,NAME", help="of cases"
    )
    parser.add_argument(
        "--in-turn", action="store_true", help="compare the first engine with one other each time"
    )
    parser.add_argument(
        "--statistics", type=int, metavar="N", help="what happens in N hot programs"
    )
    options = parser.parse_args(words)
    if options.statistics is not None:
        first = options.seed * SEED_CASES
        seen = counted(map(hot_scene, range(first, first + options.statistics)))
        sys.stdout.write(f"{shown(seen)}\n")
        return 0
    if options.case is None:
        return run(options)
    kind, number = options.case
    FOLDER.mkdir(parents=True, exist_ok=True)
    finding = try_case(kinds(FOLDER, options.engines)[kind], int(number), Figures())
    sys.stdout.write(f"{finding or 'nothing was found'}\n")
    return int(finding is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
