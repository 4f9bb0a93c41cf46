"""Ranks whose steps are timed: rows that add up to what the run did, and times of messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from dvm_mpi.sim.model.effort import STEPS
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Launch

TREESUM = str(ROOT / "jobs/treesum/treesum.dasm")


def measured(ranks: int, folder: Path, *arguments: str) -> float:
    """Run it, and return how many seconds that took."""
    command = (sys.executable, "-m", "dvm_mpi.job.measured", str(folder), *arguments)
    with Launch(ranks, command, folder, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == 0, ended.err
    return ended.seconds


def test_rows_of_a_run_are_what_its_report_counts(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    passed_s = measured(
        2, tmp_path, "steps", TREESUM, "-D", "N=600", "--report", str(report), "--quiet"
    )
    figures = json.loads(report.read_text(encoding="utf-8"))
    files = [np.load(tmp_path / f"rank-{rank}.npz") for rank in range(2)]
    rows = {step: np.concatenate([file[step] for file in files]) for step in STEPS}
    for step, names in STEPS.items():
        assert rows[step].shape[1] == len(names) + 1, step
    instructions = sum(int(file["instructions"].sum()) for file in files)
    # `main` may run while the other rank still prepares, and counts nothing of it.
    assert 0 < instructions <= figures["instructions"]
    decided = rows["decide"].sum(axis=0)
    records = figures["commits"] + figures["aborts"] + figures["retries"]
    assert 0 < decided[STEPS["decide"].index("records")] <= records
    assert len(files[0]["decide"]) > 0 == len(files[1]["decide"])
    # Times are those of a processor, of which no rank had more than there was.
    took_s = sum(table[:, -1].sum() for table in rows.values()) / 1e9
    assert 0 < took_s < 2 * passed_s


def test_a_leader_counts_what_it_takes_and_hands_on(tmp_path: Path) -> None:
    measured(3, tmp_path, "steps", TREESUM, "-D", "N=600", "--leaders", "1", "--quiet")
    first, leader, led = (np.load(tmp_path / f"rank-{rank}.npz") for rank in range(3))
    takes, _, messages = leader["lead"][:, :-1].sum(axis=0)
    assert takes > 0 < messages
    assert len(first["lead"]) == len(led["lead"]) == 0
    names = STEPS["decide"]
    told = {name: first["decide"][:, names.index(name)].sum() for name in names}
    # Batches go to the leader in one message for both; what only one of them gets is relayed.
    assert told["shares"] > 0
    assert told["relayed"] < told["messages"]


def test_turns_are_added_up(tmp_path: Path) -> None:
    measured(2, tmp_path, "turns", TREESUM, "-D", "N=600", "--quiet")
    first, second = (
        json.loads((tmp_path / f"rank-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(2)
    )
    assert 0 < first["busy_ns"] < 60e9
    assert second["busy_ns"] + second["idle_ns"] > 0
    # In all as much as these two had, up to the grain of the kernel's clock.
    own_s = sum(told["busy_ns"] + told["idle_ns"] for told in (first, second)) / 1e9
    assert first["processors_s"] > 0.5 * own_s - 0.1
    assert "processors_s" not in second


def test_two_ranks_time_messages(tmp_path: Path) -> None:
    measured(2, tmp_path)
    told = json.loads((tmp_path / "messages.json").read_text(encoding="utf-8"))
    assert 0 < told["latency_ns"] < 1e9
    assert 0 <= told["byte_ns"] < 1e6
