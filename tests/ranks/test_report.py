"""Reports of real runs: on ranks and without a launcher, of runs that end well, badly, or not."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvm_mpi.errors import ExitCode
from dvm_mpi.io.report import UNFINISHED
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Ended, Launch

ACTIVITIES = ("executing", "serving", "coordinating", "loading", "waiting", "idle")
PRIMES = str(ROOT / "jobs" / "primes" / "primes.dasm")
RANKS = 4
#: A chain of commits that never ends, and runners beside it.
ENDLESS = """\
        .array  cells, sq, 64
        .text
main:   .runner step, heap=[($cells, $512)]
        .runner other, heap=[($cells, $512)]
        exit:c
step:   add     cells, $1, cells
        .runner step, heap=[($cells, $512)]
        exit:c
other:  mov     $1, cells + 8
        exit:c
"""
TRAPS = """\
        .array  cells, sq, 64
        .private i
        .text
main:   .runner good, heap=[($cells, $8)]
        .runner bad
        exit:c
good:   mov     $1, cells
        exit:c
bad:    add     i, $1, i
        br:l    i, $200000, bad
        div     $1, $0, i
        exit:c
"""


def columns_of(told: dict[str, Any]) -> list[list[float]]:
    return [told["by_rank"][f"{name}_s"] for name in ACTIVITIES]


def check(told: dict[str, Any], ranks: int) -> None:
    """Check what holds of every report, whatever its run did."""
    columns = told["by_rank"]
    assert len(columns["host"]) == ranks
    assert all(len(column) == ranks for column in columns.values())
    lengths = told["runner_lengths"]
    assert sum(row["instructions"] for row in lengths) == told["instructions"]
    assert all(sum(row["classes"].values()) == row["attempts"] for row in lengths)
    over_time = told["utilisation"]
    for rank in range(ranks):
        for bucket in range(len(over_time["executing"][rank])):
            # Each of six is rounded.
            assert sum(over_time[name][rank][bucket] for name in ACTIVITIES) <= 1_003


def test_the_time_of_every_rank_adds_up(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    ended = dvm(RANKS, PRIMES, "-D", "LIMIT=200000", "--report", "run.json")
    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    check(told, RANKS)
    assert told["report_version"] == 3
    assert told["fault"] == ""
    assert sum(told["by_rank"]["instructions"]) == told["instructions"]
    assert sum(row["attempts"] for row in told["runner_lengths"]) == (
        told["commits"] + told["aborts"] + told["retries"]
    )
    walls = [sum(times) for times in zip(*columns_of(told), strict=True)]
    # All ranks begin before the program, and end after it.
    assert min(walls) >= told["work_s"] - 0.05
    assert all(seconds > 0 for seconds in told["by_rank"]["executing_s"])
    assert told["by_rank"]["coordinating_s"][0] > 0
    assert told["by_rank"]["coordinating_s"][1:] == [0.0] * (RANKS - 1)
    assert all(size > 10_000_000 for size in told["by_rank"]["resident_bytes"])
    pages = {row["name"].partition(",")[0]: row for row in told["hot_pages"]}
    assert pages["counts"]["versions"] >= 1


def test_without_a_launcher_it_is_one_rank(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    ended = dvm(0, PRIMES, "-D", "LIMIT=100000", "--report", "run.html")
    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    check(told, 1)
    (wall,) = (sum(times) for times in zip(*columns_of(told), strict=True))
    assert told["work_s"] <= wall <= ended.seconds, "nothing is counted twice"
    assert "primes.dasm" in (tmp_path / "run.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("ranks", [0, RANKS])
def test_a_trap_is_told_with_what_led_to_it(
    dvm: Callable[..., Ended], tmp_path: Path, ranks: int
) -> None:
    (tmp_path / "p.dasm").write_text(TRAPS)
    ended = dvm(ranks, "p.dasm", "--report", "run.html")
    assert ended.code == ExitCode.TRAP, ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    check(told, max(ranks, 1))
    assert told["exit_code"] == ExitCode.TRAP
    assert told["fault"].startswith("p.dasm:11: trap: division by zero")
    assert {"main", "bad"} <= {row["entry"] for row in told["runner_lengths"]}
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert page.index("remedy: test the divisor") < page.index("What to look at first")


def endless(folder: Path, ranks: int) -> Launch:
    (folder / "p.dasm").write_text(ENDLESS)
    command = (sys.executable, "-m", "dvm_mpi", "p.dasm", "--report", "run.json", "--quiet")
    return Launch(ranks, command, folder, {"PYTHONPATH": str(ROOT)})


def wait_for(
    path: Path, is_enough: Callable[[Any], bool] = lambda told: True, timeout_s: float = PATIENCE_S
) -> None:
    """Wait until a run has written figures that are enough."""
    deadline = time.monotonic() + timeout_s
    while not (path.exists() and is_enough(json.loads(path.read_text()))):
        assert time.monotonic() < deadline, f"{path.name} is not there after {timeout_s} s"
        time.sleep(0.05)


def knows_of_work(told: dict[str, Any]) -> bool:
    """Tell whether figures of a run under way are of all kinds: each comes when it is told."""
    by_rank = told["by_rank"]
    return bool(
        told["commits"] > 10
        and sum(by_rank["instructions"]) > 0
        and sum(by_rank["executing_s"]) > 0
    )


@pytest.mark.parametrize("ranks", [0, RANKS])
def test_a_run_that_is_ended_by_a_signal_has_its_report(tmp_path: Path, ranks: int) -> None:
    with endless(tmp_path, ranks) as launch:
        wait_for(tmp_path / "run.json")
        rank = launch.ranks()[0] if ranks else launch.process.pid
        os.kill(rank, signal.SIGTERM)
        launch.wait(PATIENCE_S)
    told = json.loads((tmp_path / "run.json").read_text())
    check(told, max(ranks, 1))
    assert told["exit_code"] == ExitCode.TERMINATED
    assert told["fault"].startswith("dvm: ended by SIGTERM")
    walls = [sum(times) for times in zip(*columns_of(told), strict=True)]
    # What the ranks did up to the end is there, not up to what they told last.
    assert min(walls) >= told["work_s"] - 0.05


def test_a_run_that_is_killed_leaves_what_was_known(
    dvm: Callable[..., Ended], tmp_path: Path
) -> None:
    with endless(tmp_path, RANKS) as launch:
        wait_for(tmp_path / "run.json", knows_of_work)
        os.kill(launch.ranks()[1], signal.SIGKILL)
        launch.wait(PATIENCE_S)
    told = json.loads((tmp_path / "run.json").read_text())
    check(told, RANKS)
    assert (told["exit_code"], told["exit_meaning"]) == (None, UNFINISHED)
    assert knows_of_work(told)
    for path in tmp_path.glob("dvm-postmortem-*"):
        path.unlink()
    ended = dvm(0, "report", "run.json")
    assert (ended.code, ended.out) == (0, "run.html\n"), ended.err
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "it was ended from outside" in page
