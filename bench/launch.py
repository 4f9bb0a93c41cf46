"""Starts Python on the ranks of an MPI job, with the launcher of this environment's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TIMEOUT_S: Final = 300

#: What the caller's surroundings may hold and no measured command gets. Python keeps what it has
#: compiled, as it does for users: a warm start is one. The others would have numpy compute as on
#: another processor, and be slower than it is.
_LEFT_OUT: Final = frozenset(
    ("PYTHONDONTWRITEBYTECODE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES")
)


def surroundings(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command that is measured: ours as users have it, and `more`."""
    own = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return own | dict(more)


def launcher() -> str:
    """Return the mpiexec beside this interpreter, else the one on the PATH."""
    own = Path(sys.executable).with_name("mpiexec")
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        sys.exit("bench: no mpiexec; make the environment with `make venv`")
    return found


def run_ranks(rank_count: int, *command: str, **more: str) -> tuple[float, str]:
    """Run Python with a command line on that many ranks; return its seconds and what it printed.

    Without a launcher if `rank_count` is 0. A command that fails ends the benchmark.
    """
    starter = [launcher(), "-n", str(rank_count)] if rank_count else []
    began = time.perf_counter()
    done = subprocess.run(
        [*starter, sys.executable, *command], cwd=ROOT, env=surroundings(more),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return seconds, done.stdout
