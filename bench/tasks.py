"""Empty runners beside other systems' empty tasks: `make bench-tasks`.

All in turn, round after round, each on two processes of this machine, from the first creation to
the last end. The others have an environment of their own, since each brings much along.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from bench.commands import Commands
from bench.launch import ROOT, TIMEOUT_S, surroundings
from bench.measure import Measure, doubts, table, take_rounds
from bench.run import note, results
from dvm_mpi.io.report import host

BIN: Final = ROOT / "build" / "peers" / "bin"
OUTPUT: Final = ROOT / "build" / "bench"
#: How each system starts a script: its launcher, and what that wants before the script.
STARTERS: Final = {
    "futures": ("mpiexec", "-n", "3", str(BIN / "python"), "-m", "mpi4py.futures"),
    "futures-chunked": ("mpiexec", "-n", "3", str(BIN / "python"), "-m", "mpi4py.futures"),
    "dask": ("python",),
    "ray": ("python",),
    "charm4py": ("python", "-m", "charmrun.start", "+p2"),
}
NAMES: Final = {
    "futures": "mpi4py.futures, submit", "futures-chunked": "mpi4py.futures, map, chunks of 256",
    "dask": "Dask", "ray": "Ray", "charm4py": "charm4py, pool",
}  # fmt: skip


def tasks_per_second(system: str, tasks: int, home: Path) -> float:
    """Return the rate of one run of another system; one that fails ends the benchmark."""
    program, *starter = STARTERS[system]
    command = [str(BIN / program), *starter, "bench/peers/tasks.py", system, "--tasks", str(tasks)]
    # Ray keeps a token at home and would ask for it; nothing is to be left behind there.
    given = surroundings({"RAY_AUTH_MODE": "disabled", "HOME": str(home)})
    given.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=ROOT, env=given, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr}")
    told = json.loads(lines[-1])
    return float(told["tasks"]) / float(told["seconds"])


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="samples of each measure")
    parser.add_argument("--tasks", type=int, default=10_000, help="of the others in a run")
    options = parser.parse_args()
    load = os.getloadavg()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        own = Commands(OUTPUT / "files")
        measures = [
            Measure(
                "DVM, 100,000 empty runners", "tasks/s", partial(own.empty_runners_per_second, 2)
            ),
            *(
                Measure(
                    f"{NAMES[system]}", "tasks/s",
                    partial(tasks_per_second, system, options.tasks, Path(home)),
                )
                for system in STARTERS
            ),
        ]  # fmt: skip
        take_rounds(measures, options.rounds, note)
    remarks = doubts(measures, load[0], int(host()["processors"]))
    (OUTPUT / "tasks.json").write_text(results(measures, load, remarks))
    note("")
    print(table(measures))
    for remark in remarks:
        print(f"doubtful: {remark}")


if __name__ == "__main__":
    main()
