from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvm_mpi.doctor import local
from dvm_mpi.doctor.table import ORDER
from dvm_mpi.launch import memory, segments
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.finding import Level
from dvm_mpi.launch.segments import Segment

LAUNCH = Launch(Launcher.HYDRA, 0, 2, 0, 2, "job")


def test_one_process_looks_at_its_host() -> None:
    found = {finding.subject: finding for finding in local.findings(None, os.environ)}
    assert found.keys() <= ORDER.keys()
    assert {"address space", "memory", "compiled code", "threads"} <= found.keys()
    assert all(finding.level is not Level.WRONG for finding in found.values())


def test_a_node_that_is_too_small_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    small = memory.NodeMemory(8 << 20, 8 << 20, 1 << 34, is_limited=False)
    monkeypatch.setattr(memory, "measure", lambda: small)
    found = {finding.subject: finding for finding in local.findings(LAUNCH, {})}
    assert found["memory"].level is Level.WRONG
    assert "MPI cannot start here" in found["memory"].what


def test_left_files_are_told_by_one_rank_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [Segment(Path("/dev/shm/mpich_shm_1"), 4096, 0, 60.0)]
    monkeypatch.setattr(segments, "stale", lambda _: left)
    other = Launch(Launcher.HYDRA, 1, 2, 1, 2, "job")
    told = [f for launch in (LAUNCH, other) for f in local.findings(launch, {})]
    (finding,) = [f for f in told if f.subject == "left files"]
    assert finding.level is Level.SLOW
    assert "rm mpich_shm_1" in finding.what


def test_threads_are_counted() -> None:
    assert local.thread_count() >= 1
    assert local.thread_count(Path("nowhere")) == 1
