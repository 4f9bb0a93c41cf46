"""`--isolation` and `--conflict-unit` as users give them: they reach machine and engines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dvm_mpi.errors import ExitCode
from tests.cli.conftest import Command

#: Each of two runners takes 1 from a cell of its own, if both cells together hold 2.
SKEW = """\
        .array  left, sq, 1
        .array  right, sq, 1
        .private both
        .text
main:   mov     $1, left
        mov     $1, right
        .runner take_left, heap=[($left, $8), ($right, $8)]
        .runner take_right, heap=[($left, $8), ($right, $8)]
        exit:c
take_left:
        add     left, right, both
        br:l    both, $2, refuse
        sub     left, $1, left
        exit:c
take_right:
        add     left, right, both
        br:l    both, $2, refuse
        sub     right, $1, right
        exit:c
refuse: exit:a
"""
#: Two runners that store side by side.
NEIGHBOURS = """\
        .array  cells, sq, 2
        .text
main:   .runner first, heap=[($cells, $8)]
        .runner second, heap=[($cells + 8, $8)]
        exit:c
first:  mov     $1, cells
        exit:c
second: mov     $2, cells + 8
        exit:c
"""


def told(dvm: Command) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((dvm.folder / "run.json").read_text())
    return parsed


@pytest.mark.parametrize(("isolation", "left_over"), [("snapshot", 0), ("serializable", 1)])
def test_write_skew(every_dvm: Command, isolation: str, left_over: int) -> None:
    outputs = ("--out", "left=left.npy", "--out", "right=right.npy")
    ended = every_dvm.run(
        SKEW, "--isolation", isolation, "--workers", "2", "--report", "run.json", *outputs
    )
    assert ended.code == ExitCode.OK, ended.err
    arrays = [np.load(every_dvm.folder / f"{name}.npy") for name in ("left", "right")]
    assert sum(int(array[0]) for array in arrays) == left_over
    assert told(every_dvm)["isolation"] == isolation
    assert told(every_dvm)["retries"] == left_over


@pytest.mark.parametrize(("unit", "retries"), [("byte", 0), ("page", 1)])
def test_neighbours(dvm: Command, unit: str, retries: int) -> None:
    options = ("--conflict-unit", unit, "--workers", "2", "--report", "run.json")
    ended = dvm.run(NEIGHBOURS, *options, "--out", "cells=cells.npy")
    assert ended.code == ExitCode.OK, ended.err
    assert np.load(dvm.folder / "cells.npy").tolist() == [1, 2]
    assert (told(dvm)["conflict_unit"], told(dvm)["retries"]) == (unit, retries)
