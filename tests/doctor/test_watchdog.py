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
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT

LAUNCH = Launch(Launcher.SLURM_PMI2, 4, 8, 0, 4, "test-watchdog")

#: A rank that is told to hang holds Python's lock, as within the start of MPI: no thread runs.
RANK = """
import ctypes, os, sys
from dvm_mpi.doctor.watchdog import Watchdog
from dvm_mpi.launch.environment import Launch, Launcher
local_rank = int(sys.argv[3])
launch = Launch(Launcher.SLURM_PMI2, 4 + local_rank, 8, local_rank, 4, "test-watchdog")
warn = lambda text: print(text, file=sys.stderr, flush=True)
print("ready", flush=True)
sys.stdin.readline()
with Watchdog(launch, {}, float(sys.argv[1]), warn) as watchdog:
    watchdog.begin(sys.argv[4])
    if sys.argv[4] == "start MPI":
        watchdog.mark()
    if sys.argv[2] == "hang":
        ctypes.PyDLL(None).sleep(10_000)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
print("done")
"""


def rank(
    folder: Path, wait_s: float, what: str, local_rank: int = 0, step: str = "start MPI"
) -> subprocess.Popen[str]:
    """Return a rank that has come to the step, and begins it when somebody waits for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", RANK, str(wait_s), what, str(local_rank), step],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def test_a_rank_that_hangs_in_c_is_ended_with_a_word(tmp_path: Path) -> None:
    code, _, told = ended(rank(tmp_path, 0.5, "hang"))
    assert code == -signal.SIGKILL
    assert told.startswith("dvm: error: rank 4 on ")
    assert "did not start MPI within 4 s: of the 4 ranks of" in told
    assert "ranks 1, 2, 3 (counted on this host, from 0) did not come" in told
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_comes_to_its_end_is_left_alone(tmp_path: Path) -> None:
    assert ended(rank(tmp_path, 30, "end")) == (0, "done\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_dies_leaves_no_mark(tmp_path: Path) -> None:
    assert ended(rank(tmp_path, 30, "die"))[0] == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE_S
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_of_a_host_tells_of_a_step_in_which_all_hang(tmp_path: Path) -> None:
    first, second = (rank(tmp_path, 0.5, "hang", number, "end MPI") for number in (0, 1))
    # Together, however long each took to start: the second one waits only a little longer.
    for process in (first, second):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    code, _, told = ended(first)
    # As launchers do when they see that.
    second.kill()
    assert (code, told.count("dvm: error: rank 4 on ")) == (-signal.SIGKILL, 1)
    assert "did not end MPI within 4 s: it waits within a call" in told
    assert ended(second)[2] == ""


def test_another_one_tells_if_the_first_of_its_host_is_well(tmp_path: Path) -> None:
    code, _, told = ended(rank(tmp_path, 0.5, "hang", 1, "end MPI"))
    assert code == -signal.SIGKILL
    assert told.startswith("dvm: error: rank 5 on ")


def test_others_are_looked_for_elsewhere_if_all_of_the_host_are_here() -> None:
    told = describe(LAUNCH, [0, 1, 2, 3], "start MPI", 30, "node2")
    assert "all 4 ranks of node2 are here, and wait for ranks elsewhere" in told
    assert "--wait SECONDS" in told
    later = describe(LAUNCH, [0, 1, 2, 3], "try their windows", 30, "node2")
    assert "did not try their windows within 30 s: it waits within a call" in later
