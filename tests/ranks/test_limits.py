"""Limits that the owner of a machine sets: of one runner, and of a whole rank."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi.errors import ExitCode
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Ended, Launch

#: A runner for each of eight rows of 32 pages, each of which touches one page after the other.
SCANS = """\
        .array  values, sq, 8, 16384
        .private start, at
        .text
main:   mov     $values, start
more:   .runner scan, args=(start), heap=[(start, $131072)]
        add     start, $131072, start
        br:l    start, $values + 1048576, more
        exit:c
scan:   .arguments start
        mov     start, at
        add     start, $131072, start
next:   mov     $1, (at)
        add     at, $4096, at
        br:l    at, start, next
        exit:c
"""
PAGES = 8 * 32

Run = Callable[..., Ended]


def told(dvm: Run, folder: Path, rank_count: int, size: str) -> tuple[int, list[str]]:
    """Return the exit code and the message of the trap, without what depends on who ran when."""
    (folder / "scans.dasm").write_text(SCANS)
    words = ("scans.dasm", "--runner-memory", size, "--memory", "64M", "--deterministic")
    ended = dvm(rank_count, *words)
    lines = ended.err.splitlines()
    first = next((i for i, line in enumerate(lines) if ": trap: " in line), len(lines))
    end = next((i for i, line in enumerate(lines) if "remedy: " in line), len(lines))
    return ended.code, lines[first : end + 1]


def test_a_runner_reaches_its_memory_s_end_alike_everywhere(dvm: Run, tmp_path: Path) -> None:
    """The last page of 32 is one too many; which pages a rank held already makes no difference."""
    code, alone = told(dvm, tmp_path, 0, "124K")
    assert code == ExitCode.TRAP
    assert alone[0].startswith("scans.dasm:12: trap: the runner touches more shared memory")
    assert "touched before: 31 pages, 126,976 bytes, which is the limit" in "\n".join(alone)
    assert told(dvm, tmp_path, 3, "124K") == (code, alone)


@pytest.mark.parametrize("rank_count", [0, 2])
def test_a_share_of_a_core_and_a_lower_priority_change_no_result(
    dvm: Run, tmp_path: Path, rank_count: int
) -> None:
    """What the ranks use is measured by `make cpu-share`; here they come to the right end."""
    (tmp_path / "scans.dasm").write_text(SCANS)
    words = ("scans.dasm", "--memory", "64M", "--cpu-share", "0.3", "--nice", "19")
    ended = dvm(rank_count, *words, "--out", "values=values.npy")
    assert ended.code == ExitCode.OK, ended.err
    assert np.load(tmp_path / "values.npy").sum() == PAGES


#: Ten million steps: many times what a share of 0.05 allows in a period.
COUNTS = """\
        .private left
main:   mov     $10000000, left
next:   sub     left, $1, left
        br:l    $0, left, next
        exit:c
"""


@pytest.mark.parametrize("rank_count", [0, 2])
def test_a_rank_that_rests_for_its_share_does_not_seem_to_execute(
    dvm: Run, tmp_path: Path, rank_count: int
) -> None:
    (tmp_path / "counts.dasm").write_text(COUNTS)
    words = (
        *("counts.dasm", "--engine", "interp", "--memory", "64M", "--cpu-share", "0.05"),
        *("--report", "report.json"),
    )
    ended = dvm(rank_count, *words)
    assert ended.code == ExitCode.OK, ended.err
    by_rank = json.loads((tmp_path / "report.json").read_text())["by_rank"]
    assert all(seconds > 0 for seconds in by_rank["idle_s"])


@pytest.mark.parametrize("rank_count", [0, 2])
def test_a_priority_is_never_raised(tmp_path: Path, rank_count: int) -> None:
    (tmp_path / "scans.dasm").write_text(SCANS)
    dvm = (sys.executable, "-m", "dvm_mpi", "scans.dasm", "--nice", "10")
    with Launch(
        rank_count, ("nice", "-n", "11", *dvm), tmp_path, {"PYTHONPATH": str(ROOT)}
    ) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == ExitCode.USAGE, ended.err
    told = re.findall(r"--nice 10: this process has niceness 1\d already", ended.err)
    assert len(told) == 1, ended.err


@pytest.mark.parametrize("rank_count", [0, 3])
def test_a_runner_within_its_memory_ends_well(dvm: Run, tmp_path: Path, rank_count: int) -> None:
    assert told(dvm, tmp_path, rank_count, "128K") == (ExitCode.OK, [])


#: Each creates two more; one creates others without end. Both create at their second line.
ENDLESS = {
    "doubling": "main:\n        .runner main\n        .runner main\n        exit:c\n",
    "one": "main:\n        .runner child\n        br:j    main\nchild:  exit:c\n",
}


@pytest.mark.parametrize("rank_count", [0, 2])
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("doubling", r"alive at once; the limit is 30,000 \(RUNNERS_MAX\)"),
        ("one", r"has created more than [\d,]+ others .* the limit is 20,000 \(CHILDREN_MAX\)"),
    ],
)
def test_runners_without_end_come_to_a_clear_end(
    tmp_path: Path, name: str, limit: str, rank_count: int
) -> None:
    (tmp_path / "endless.dasm").write_text(ENDLESS[name])
    small = (sys.executable, "-m", "tests.ranks.small", "30000", "20000", "endless.dasm")
    with Launch(rank_count, small, tmp_path, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == ExitCode.LIMIT, ended.err
    assert len(re.findall(limit, ended.err)) == 1, ended.err
    assert re.search(r"the last ones were created at endless\.dasm:[23]\.", ended.err), ended.err
