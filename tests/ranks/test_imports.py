"""What a rank imports: the least that it can run with, sixteen times on one computer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Launch

RANKS = 2
PROGRAM = str(ROOT / "bench" / "programs" / "nothing.dasm")
#: Of other people's packages; the first two are what Python itself loads of an environment.
PACKAGES = {"_distutils_hack", "distutils-precedence", "numpy", "mpi4py"}
#: Of Python's own library, what takes milliseconds and is for other commands, or for errors.
HEAVY = {
    "asyncio",
    "dataclasses",
    "difflib",
    "email",
    "importlib.metadata",
    "lzma",
    "multiprocessing",
    "numpy.ma",
    "random",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "traceback",
    "unittest",
}
#: Of this package, what only rank 0 needs.
OF_RANK_0 = {
    "dvm_mpi.control.coordinator",
    "dvm_mpi.control.diagnosis",
    "dvm_mpi.control.ordering",
    "dvm_mpi.control.scheduler",
    "dvm_mpi.disa.assembler",
    "dvm_mpi.disa.verifier",
    "dvm_mpi.io.console",
    "dvm_mpi.io.outputs",
    "dvm_mpi.io.progress",
    "dvm_mpi.job.owner",
}
#: What no rank needs unless it is asked for.
OF_OTHER_RUNS = {
    "dvm_mpi.doctor",
    "dvm_mpi.io.page",
    "dvm_mpi.io.plots",
    "dvm_mpi.job.local",
    "dvm_mpi.job.recording",
    "dvm_mpi.sim",
    "dvm_mpi.native.compiler",
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Return the modules of each rank, with their files."""
    folder = tmp_path_factory.mktemp("imports")
    command = [sys.executable, "-m", "tests.ranks.importing", str(folder), PROGRAM, "--quiet"]
    with Launch(RANKS, command, folder, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == 0, ended.err
    found: list[Any] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]
    return found


def packages_of(modules: dict[str, str]) -> set[str]:
    """Return the packages among modules that come from the environment's folder."""
    return {
        name.partition(".")[0]
        for name, file in modules.items()
        if "site-packages" in Path(file).parts
    }


@pytest.mark.parametrize("rank", range(RANKS))
def test_of_other_peoples_packages_two_are_imported(imported, rank: int) -> None:
    """No compiler, no HDF5, nothing that draws: numba alone takes as long as a whole start."""
    assert packages_of(imported[rank]) <= PACKAGES
    assert {"numpy", "mpi4py"} <= packages_of(imported[rank])


def test_a_rank_imports_nothing_heavy(imported) -> None:
    assert not HEAVY & imported[1].keys()


def test_what_is_for_rank_0_is_imported_there(imported) -> None:
    assert imported[0].keys() >= OF_RANK_0 - {"dvm_mpi.io.console"}
    assert not OF_RANK_0 & imported[1].keys()


@pytest.mark.parametrize("rank", range(RANKS))
def test_what_is_for_other_runs_is_not_imported(imported, rank: int) -> None:
    assert not {
        name
        for name in imported[rank]
        for other in OF_OTHER_RUNS
        if name == other or name.startswith(f"{other}.")
    }
