"""Who ends a rank that hangs within a call that never returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dvm_mpi.doctor.watchdog import describe
from dvm_mpi.launch.environment import Launch, Launcher
from tests.ranks.launch import ROOT

LAUNCH = Launch(Launcher.SLURM_PMI2, 4, 8, 0, 4, "test-watchdog")

#: A rank that is told to hang holds Python's lock: nothing of Python runs meanwhile.
RANK = """
import ctypes, os, sys
from dvm_mpi.doctor.watchdog import Watchdog
from dvm_mpi.launch.environment import Launch, Launcher
launch = Launch(Launcher.SLURM_PMI2, 4, 8, 0, 4, "test-watchdog")
warn = lambda text: print(text, file=sys.stderr, flush=True)
with Watchdog(launch, {}, float(sys.argv[1]), warn) as watchdog:
    watchdog.mark()
    watchdog.begin("start MPI")
    if sys.argv[2] == "hang":
        ctypes.PyDLL(None).sleep(60)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
print("done")
"""


def rank(folder: Path, wait_s: float, what: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", RANK, str(wait_s), what],
        env=environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_rank_that_hangs_in_c_is_ended_with_a_word(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = rank(tmp_path, 0.5, "hang")
    assert time.monotonic() - began < 30
    assert ended.returncode == -signal.SIGKILL
    assert ended.stderr.startswith("dvm: error: rank 4 on ")
    assert "did not start MPI within 4 s: of the 4 ranks of" in ended.stderr
    assert "ranks 1, 2, 3 (counted on this host, from 0) did not come" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_comes_to_its_end_is_left_alone(tmp_path: Path) -> None:
    ended = rank(tmp_path, 30, "end")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_dies_leaves_no_mark(tmp_path: Path) -> None:
    ended = rank(tmp_path, 30, "die")
    assert ended.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_others_are_looked_for_elsewhere_if_all_of_the_host_are_here() -> None:
    told = describe(LAUNCH, [0, 1, 2, 3], "start MPI", 30, "node2")
    assert "all 4 ranks of node2 are here, and wait for ranks elsewhere" in told
    assert "--wait SECONDS" in told
    later = describe(LAUNCH, [0, 1, 2, 3], "try their windows", 30, "node2")
    assert "did not try their windows within 30 s: it waits within a call" in later
