"""Ranks execute translated code, which one process on their host has made for all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvm_mpi.disa.image_file import open_program
from dvm_mpi.engine.unit_folder import UnitFolder
from tests.ranks.launch import Ended

Dvm = Callable[..., Ended]
PRIMES = Path(__file__).parents[2] / "jobs/primes/primes.dasm"
#: Below a limit that no other test has, so that nobody else translates the program.
LIMIT, COUNT = 30_011, "3245"


@pytest.fixture
def folder() -> Iterator[UnitFolder]:
    """Return the folder of the program's units, which is not there; it is removed afterwards."""
    found = UnitFolder.of(open_program(PRIMES, {"LIMIT": str(LIMIT)}))
    shutil.rmtree(found.path, ignore_errors=True)
    yield found
    shutil.rmtree(found.path, ignore_errors=True)


def report_of(dvm: Dvm, tmp_path: Path, *options: str) -> dict[str, Any]:
    report = tmp_path / "run.json"
    ended = dvm(2, str(PRIMES), "-D", f"LIMIT={LIMIT}", "--report", str(report), *options)
    assert ended.out.strip() == COUNT
    figures: dict[str, Any] = json.loads(report.read_text())
    report.unlink()
    return figures


def test_ranks_share_what_was_translated(dvm: Dvm, tmp_path: Path, folder: UnitFolder) -> None:
    cold = report_of(dvm, tmp_path, "--engine", "translate")
    assert cold["units"] > 0
    assert cold["units_cached"] == 0
    assert folder.all_units() is not None
    for options in ([], ["--deterministic"], ["--data-plane", "message"]):
        warm = report_of(dvm, tmp_path, "--engine", "auto", *options)
        assert warm["units_cached"] == warm["units"] == cold["units"]
        assert warm["native_instructions"] > 0.9 * warm["instructions"]
        assert warm["translate_s"] == 0


def test_a_damaged_unit_ends_no_rank(dvm: Dvm, tmp_path: Path, folder: UnitFolder) -> None:
    units = report_of(dvm, tmp_path, "--engine", "translate")["units"]
    for name in folder.all_units() or ():
        content = folder.read(name)
        assert content is not None
        folder.write(name, content[: len(content) // 2])
    assert report_of(dvm, tmp_path, "--engine", "translate")["units"] == units
