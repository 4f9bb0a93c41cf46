"""What tests of several ranks share; `python -m tests.mpi` starts them.

Without --with-mpi nothing here is collected, and nothing imports mpi4py, which would start MPI.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mpi.waiting import wait

HERE = Path(__file__).parent
#: What pytest-mpi understands; it ignores everything else without a word.
MPI_KEYWORDS = {"min_size"}
PATH_BYTES = 4096


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--with-mpi"):
        config.pluginmanager.register(import_module("tests.mpi.verdict").Verdict(), "verdict")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getoption("--with-mpi") else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("mpi") is None:
            item.add_marker(pytest.mark.mpi)
        for mark in item.iter_markers("mpi"):
            if mark.args or mark.kwargs.keys() - MPI_KEYWORDS:
                given = [*map(repr, mark.args), *mark.kwargs]
                raise pytest.UsageError(
                    f"{item.nodeid}: the mark mpi takes {', '.join(MPI_KEYWORDS)} only, "
                    f"not {', '.join(given)}"
                )


@pytest.fixture
def comm() -> Iterator[Any]:
    """Return a communicator of all ranks that no other test has used: `mpi4py.MPI.Intracomm`."""
    own, request = import_module("mpi4py.MPI").COMM_WORLD.Idup()
    wait(request)
    yield own
    own.Free()


@pytest.fixture
def shared_folder(comm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one new folder for all ranks."""
    name = np.zeros(PATH_BYTES, np.uint8)
    if comm.rank == 0:
        path = bytes(tmp_path_factory.mktemp("ranks"))
        name[: len(path)] = np.frombuffer(path, np.uint8)
    wait(comm.Ibcast(name))
    return Path(name.tobytes().rstrip(b"\0").decode())
