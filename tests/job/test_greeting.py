"""What ranks tell each other before a run, and what rank 0 makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import MIB
from dvm_mpi.job.greeting import ROW, Welcome, common_plan
from dvm_mpi.launch.memory import MemoryPlan


def rows_of(*plans: tuple[str, int]) -> NDArray[Any]:
    rows = np.zeros(len(plans), ROW)
    rows["plane"] = [plane.encode() for plane, _ in plans]
    rows["memory_bytes"] = [memory_bytes for _, memory_bytes in plans]
    rows["host"] = [f"node{rank // 2}".encode() for rank in range(len(plans))]
    return rows


def test_ranks_that_agree_do_what_all_planned() -> None:
    rows = rows_of(("auto", 64 * MIB), ("auto", 64 * MIB))
    assert common_plan(rows) == MemoryPlan(64 * MIB, "auto", "")


def test_one_rank_without_room_for_windows_decides_for_all() -> None:
    """Windows are made by all ranks together: the others would wait for this one for ever."""
    rows = rows_of(*[("auto", 64 * MIB)] * 3, ("message", 64 * MIB))
    common = common_plan(rows)
    assert common.plane == "message"
    assert "too little room for windows at rank 3 on node1" in common.remark


def test_the_program_must_fit_into_the_smallest_rank() -> None:
    assert common_plan(rows_of(("rma", 64 * MIB), ("rma", 16 * MIB))).memory_bytes == 16 * MIB


def test_a_welcome_arrives_as_it_was_sent() -> None:
    welcome = Welcome("job", b"image\n\0", b"\ninput", 0, "auto")
    assert Welcome.decode(welcome.encode()) == welcome
