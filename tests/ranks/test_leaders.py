"""Leaders and a rank 0 that only coordinates, as users choose them: the same result with all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.treesum.check import expected_sum
from tests.jobs.machine import source_of
from tests.ranks.launch import Ended

Run = Callable[..., Ended]
COMMON = (str(source_of("treesum")), "-D", "N=600", "--quiet", "--memory", "32M")


@pytest.mark.parametrize(
    ("rank_count", "leaders"), [(2, "1"), (3, "node"), (4, "2"), (4, "9"), (16, "3")]
)
def test_through_leaders(dvm: Run, rank_count: int, leaders: str) -> None:
    ended = dvm(rank_count, *COMMON, "--leaders", leaders)
    assert (ended.code, ended.out) == (0, f"{expected_sum(600)}\n"), ended.err


@pytest.mark.parametrize("plane", ["rma", "message"])
def test_through_leaders_with_every_data_plane(dvm: Run, plane: str) -> None:
    ended = dvm(4, *COMMON, "--leaders", "1", "--data-plane", plane, "--deterministic")
    assert (ended.code, ended.out) == (0, f"{expected_sum(600)}\n"), ended.err


@pytest.mark.parametrize(
    ("rank_count", "choice", "workers"),
    [
        (1, "dedicated", 1),
        (2, "dedicated", 1),
        (3, "dedicated", 2),
        (4, "auto", 4),
        (4, "shared", 4),
        (16, "auto", 15),
        (16, "shared", 16),
    ],
)
def test_rank_0_executes_runners_or_only_coordinates(
    dvm: Run, tmp_path: Path, rank_count: int, choice: str, workers: int
) -> None:
    report = tmp_path / "run.json"
    ended = dvm(rank_count, *COMMON, "--coordinator", choice, "--report", str(report))
    assert (ended.code, ended.out) == (0, f"{expected_sum(600)}\n"), ended.err
    assert json.loads(report.read_text())["workers"] <= workers
    if choice == "dedicated" and rank_count > 1:
        assert json.loads(report.read_text())["workers"] < rank_count


def test_a_trap_behind_a_leader_ends_all(dvm: Run, tmp_path: Path) -> None:
    program = tmp_path / "trap.dasm"
    program.write_text(
        "        .array  cells, sq, 8\n"
        "        .text\n"
        "main:   .runner first, heap=cells\n"
        "        .runner first, heap=cells\n"
        "        .runner first, heap=cells\n"
        "        exit:c\n"
        "first:  div     $1, $0, cells\n"
        "        exit:c\n"
    )
    ended = dvm(4, str(program), "--memory", "32M", "--leaders", "1", "--quiet")
    assert ended.code == 5, ended.err
    assert "first" in ended.err
