"""`--deterministic` as users start it: one result of a racing program on any number of ranks.

`DETERMINISTIC=all` (`make deterministic`) runs 20 times on 1, 2, 4 and 8 ranks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.ranks.launch import Ended, run_ranks
from tests.sim.machine import PROGRAMS

RUNS_ALL = os.environ.get("DETERMINISTIC", "") == "all"
SIZES = (1, 2, 4, 8) if RUNS_ALL else (1, 3)
REPETITIONS = 20 if RUNS_ALL else 1
#: 0 starts no launcher.
ALONE = 0
ARRAYS = ("cells", "notes")
COMMON = ("--quiet", "--memory", "64M")

Run = Callable[..., Ended]


def left_by(dvm: Run, folder: Path, rank_count: int, *options: str) -> tuple[str, str]:
    """Return a digest of the arrays that a run wrote, addresses among them, and its console."""
    outputs = [word for name in ARRAYS for word in ("--out", f"{name}={name}.npy")]
    ended = dvm(rank_count, str(PROGRAMS / "order.dasm"), *COMMON, *outputs, *options)
    assert ended.code == 0, ended.err
    digest = hashlib.sha256()
    for name in ARRAYS:
        digest.update(np.load(folder / f"{name}.npy").tobytes())
    return digest.hexdigest(), ended.out


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return what a run without a launcher leaves."""
    folder = tmp_path_factory.mktemp("alone")
    return left_by(partial(run_ranks, folder=folder), folder, ALONE, "--deterministic")


@pytest.mark.parametrize("rank_count", SIZES)
def test_any_number_of_ranks_leaves_the_same(
    dvm: Run, tmp_path: Path, expected: tuple[str, str], rank_count: int
) -> None:
    for repetition in range(REPETITIONS):
        left = left_by(dvm, tmp_path, rank_count, "--deterministic")
        assert left == expected, f"repetition {repetition}"


def test_without_the_option_results_differ(dvm: Run, tmp_path: Path) -> None:
    """So the test above is one that can fail: two workers lease other addresses than one.

    Unless one of them is so slow that the other one executes all.
    """
    alone = left_by(dvm, tmp_path, ALONE)
    assert any(left_by(dvm, tmp_path, 2) != alone for _ in range(10))
