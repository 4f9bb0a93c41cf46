"""Which data plane a machine takes if the choice is its own, and what the choice costs."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from dvm_mpi import config
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm import window
from tests.mpi.test_window import memory_is_shared

PROGRAM = "        .text\nmain:   exit:c\n"
MEMORY_BYTES = 8 * config.MIB
#: Of the windows that are only tried.
TRIAL_BYTES_MAX = 64 * config.KIB


def machine_on(comm: Any) -> tuple[Any, Any]:
    """Return a machine that chose its plane, and its transport; to be closed."""
    machines = import_module("dvm_mpi.control.rank_machine")
    transport = import_module("dvm_mpi.control.transport").Transport(comm)
    owner = import_module("tests.mpi.machine").Owner() if comm.rank == 0 else None
    image = assemble_text(PROGRAM, "test.dasm", {})
    settings = machines.RankSettings(plane=machines.AUTO, memory_bytes=MEMORY_BYTES)
    return machines.RankMachine(transport, image, settings, write_nothing, host=owner), transport


def write_nothing(visible: int, places: str) -> Generator[bool, None, str]:
    del visible, places
    yield True
    return "{}"


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("answers", [True, False])
def test_memory_is_taken_only_for_windows_that_are_used(
    comm: Any, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Open MPI fills windows over several hosts when it makes them: all of a node's memory."""
    sizes: list[int] = []
    allocate = window._allocate

    def noted(comm: Any, byte_count: int, what: str) -> Any:
        sizes.append(byte_count)
        if answers:
            return allocate(comm, byte_count, what)
        # Memory that MPI did not allocate is served by its rank, also on one node.
        return MPI.Win.Create(np.zeros(byte_count, np.uint8), 1, comm=comm)

    monkeypatch.setattr(window, "_allocate", noted)
    machine, transport = machine_on(comm)
    if machine.plane == "rma":
        assert MEMORY_BYTES in sizes
        assert machine.windows is not None
        assert machine.remark == ""
    else:
        assert max(sizes) <= TRIAL_BYTES_MAX
        assert machine.windows is None
        assert machine.remark.endswith("data travels in messages")
    if memory_is_shared(comm):
        assert machine.plane == ("rma" if answers else "message")
    transport.drain(lambda: None)
    machine.close()
    transport.close()
