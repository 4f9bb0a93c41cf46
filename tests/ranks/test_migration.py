"""Pages that move home while a job runs: what it leaves is the same, on every way of bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ranks.launch import ROOT, run_ranks

STENCIL = str(ROOT / "jobs/stencil/stencil.dasm")
#: Parts of 64 rows, a page each: four blocks, which lie at all homes.
SIZES = ("-D", "ROWS=256", "-D", "COLS=512", "-D", "PARTS=4", "-D", "ITERATIONS=30")


def run(folder: Path, migration: str, *options: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Run the stencil on three ranks; return the report, and the plate after the last step."""
    report, result = folder / f"{migration}.json", folder / f"{migration}.npy"
    given = ("--migration", migration, "--report", str(report), "--out", f"plate={result}")
    ended = run_ranks(3, STENCIL, *SIZES, *options, *given, folder=folder)
    assert ended.code == 0, ended.err
    return json.loads(report.read_text()), np.load(result)


@pytest.mark.parametrize(
    "options",
    [("--data-plane", "rma"), ("--data-plane", "message", "--leaders", "1")],
    ids=["windows", "messages, and a leader"],
)
def test_blocks_move_to_who_stores_them_and_results_stay(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    still, expected = run(tmp_path, "off", *options)
    moving, found = run(tmp_path, "on", *options)
    assert np.array_equal(found, expected)
    assert still["blocks_moved"] == 0
    # Each of the four parts lies at three homes, in two plates.
    assert moving["blocks_moved"] >= 4
