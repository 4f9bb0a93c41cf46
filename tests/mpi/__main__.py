"""Runs the tests of this folder on several ranks: `python -m tests.mpi 1 2 4`.

Rank 0 reports on the terminal. What the others print is kept in one file for each rank, and shown
when a run fails. With `--hosts` ranks are on four virtual hosts (`tests/cluster/`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from tests.cluster.cluster import Cluster, Mpi
from tests.ranks.launch import ROOT, Launch

TAIL_LINES = 60
#: Ranks whose output is shown beside rank 0's.
SHOWN_MAX = 2
TROUBLE = re.compile(r"^(E  |FAILED|ERROR|Traceback|\+* Timeout|rank \d+, )", re.MULTILINE)


def run(
    rank_count: int,
    logs: Path,
    timeout_s: float,
    arguments: list[str],
    where: tuple[Cluster, Mpi] | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run the tests on that many ranks, on the nodes of a cluster if one is given.

    Returns the exit code; rank 0 has reported then.
    """
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    python = sys.executable if where is None else where[1].python
    pytest = (python, "-m", "pytest", "--with-mpi", "-o", f"cache_dir={logs / 'cache'}")
    plugins = ("-p", "no:xdist", "-p", "tests.mpi.rank_logs", "--rank-logs", str(logs))
    # Open MPI makes every rank believe that it writes to a terminal.
    colour = f"--color={'yes' if sys.stdout.isatty() else 'no'}"
    command = (*pytest, *plugins, colour, *arguments)
    try:
        if where is not None:
            cluster, mpi = where
            line = cluster.hosts_command(mpi, rank_count, cluster.nodes, command)
            ended = cluster.run(*line, environment=environment, timeout_s=timeout_s)
            # An Open MPI launcher that has lost a host leaves with 0.
            code = ended.code or int(" passed" not in ended.out)
            sys.stdout.write(ended.out + (ended.err if code else ""))
        else:
            with Launch(rank_count, command, ROOT, is_quiet=False) as launch:
                code = launch.wait(timeout_s).code
    except TimeoutError as overdue:
        sys.stdout.write(f"{overdue}\n")
        code = 1
    if code:
        show(logs)
    return code


def show(logs: Path) -> None:
    """Print the ends of some files that tell of something wrong: most tell the same."""
    texts = {path.stem: path.read_text(errors="replace") for path in logs.glob("rank-*.log")}
    troubled = sorted(name for name, text in texts.items() if TROUBLE.search(text))
    for name in troubled[:SHOWN_MAX]:
        tail = "\n".join(texts[name].splitlines()[-TAIL_LINES:])
        sys.stdout.write(f"\n--- {name}\n{tail}\n")
    if hidden := troubled[SHOWN_MAX:]:
        sys.stdout.write(f"\nlikewise: {', '.join(hidden)}\n")
    sys.stdout.write(f"\nall output: {logs}\n")


def main() -> int:
    """Run at each size, and return the number of sizes at which it failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mpi", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of ranks")
    parser.add_argument("--name", default="ranks", help="of the folder for logs, in build/mpi/")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one size")
    parser.add_argument("--tries", type=int, default=1, help="how often a size may be run")
    parser.add_argument("--hosts", action="store_true", help="on four virtual hosts; wants root")
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="what pytest gets")
    options = parser.parse_args()
    failed = []
    with Cluster() if options.hosts else nullcontext() as cluster:
        where = None if cluster is None else (cluster, Mpi(Path(sys.prefix).name))
        for size in options.sizes:
            for number in range(1, options.tries + 1):
                again = f", try {number} of {options.tries}" if number > 1 else ""
                sys.stdout.write(f"=== {options.name}: {size} ranks{again}\n")
                sys.stdout.flush()
                logs = ROOT / "build" / "mpi" / options.name / str(size) / str(number)
                if not run(size, logs, options.timeout, options.pytest or ["tests/mpi"], where):
                    break
            else:
                failed.append(size)
    if failed:
        sys.stdout.write(f"failed at {', '.join(map(str, failed))} ranks\n")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
