"""Starts Python on the ranks of an MPI job, with the launcher of this environment's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TIMEOUT_S: Final = 300


def launcher() -> str:
    """Return the mpiexec beside this interpreter, else the one on the PATH."""
    own = Path(sys.executable).with_name("mpiexec")
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        sys.exit("bench: no mpiexec; make the environment with `make venv`")
    return found


def run_ranks(rank_count: int, *command: str, **environment: str) -> tuple[float, str]:
    """Run Python with a command line on that many ranks; return its seconds and what it printed.

    Without a launcher if `rank_count` is 0. A command that fails ends the benchmark.
    """
    # Python keeps what it has compiled, as it does for users: a warm start is one.
    own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    starter = [launcher(), "-n", str(rank_count)] if rank_count else []
    began = time.perf_counter()
    done = subprocess.run(
        [*starter, sys.executable, *command], cwd=ROOT, env=own | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return seconds, done.stdout
