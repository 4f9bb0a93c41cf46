"""Ranks on nodes that differ from each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Launch

HELLO = str(ROOT / "jobs/hello/hello.dasm")


@pytest.mark.parametrize("crowded", [0, 1])
def test_a_rank_without_room_for_windows_decides_for_all(tmp_path: Path, crowded: int) -> None:
    """Windows are made together: who made some alone would wait for ever, without a word."""
    command = (sys.executable, "-m", "tests.ranks.crowded", str(crowded), HELLO, "--memory", "128M")
    with Launch(2, command, tmp_path, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == 0, ended.err
    assert "data of all ranks travels in messages" in ended.err or crowded == 0
    assert "2 ranks (message)" in ended.err
