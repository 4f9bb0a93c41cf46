"""Tries random and damaged programs for some time: `python -m tests.fuzz --seconds 300`.

Random legal programs run on all engines, which must agree on everything; damaged texts, image files
and flat images are refused, or run until they trap, end or reach a limit. The exit code is 1 if
engines differ, if anything is raised that should not be, or if a process crashes or hangs.
`python -m tests.fuzz --case KIND NUMBER` tries one case again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.fuzz.cases import Figures, kinds
from tests.fuzz.children import Child, Files, Task, try_case, try_cases, watch

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
    command = [sys.executable, "-m", "tests.fuzz", CHILD]
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


def main(words: list[str]) -> int:
    """Be the parent, one of its children, or try one case."""
    if words[:1] == [CHILD]:
        first, stride, seconds, folder = words[1:]
        files = Files(Path(folder))
        try_cases(Task(int(first), int(stride), float(seconds)), kinds(files.folder), files)
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="other cases for each")
    parser.add_argument("-c", "--case", nargs=2, metavar=("KIND", "NUMBER"), help="try one again")
    options = parser.parse_args(words)
    if options.case is None:
        return run(options)
    kind, number = options.case
    FOLDER.mkdir(parents=True, exist_ok=True)
    finding = try_case(kinds(FOLDER)[kind], int(number), Figures())
    sys.stdout.write(f"{finding or 'nothing was found'}\n")
    return int(finding is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
