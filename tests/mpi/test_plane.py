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
from dvm_mpi.dsm import probe, window
from tests.mpi.test_window import memory_is_shared

PROGRAM = "        .text\nmain:   exit:c\n"
MEMORY_BYTES = 8 * config.MIB
#: Of the windows that are only tried.
TRIAL_BYTES_MAX = 64 * config.KIB


def machine_on(comm: Any, *, is_one_host: bool = False, **parts: Any) -> tuple[Any, Any]:
    """Return a machine that chose its plane, and its transport; to be closed."""
    machines = import_module("dvm_mpi.control.rank_machine")
    transport = import_module("dvm_mpi.control.transport").Transport(comm)
    owner = import_module("tests.mpi.machine").Owner() if comm.rank == 0 else None
    image = assemble_text(PROGRAM, "test.dasm", {})
    settings = machines.RankSettings(
        plane=machines.AUTO, memory_bytes=MEMORY_BYTES, is_one_host=is_one_host
    )
    machine = machines.RankMachine(transport, image, settings, write_nothing, host=owner, **parts)
    return machine, transport


def write_nothing(visible: int, places: str) -> Generator[bool, None, str]:
    del visible, places
    yield True
    return "{}"


def ended(waiting: Generator[None, None, bool]) -> bool:
    """Return what a wait comes to."""
    while True:
        try:
            next(waiting)
        except StopIteration as stopped:
            return bool(stopped.value)


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


@pytest.mark.mpi(min_size=2)
def test_ranks_that_load_each_others_memory_try_no_windows(
    comm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them or none: the rest of the start is collective."""
    tried: list[int] = []
    probed = probe.probe

    def noted(windows: Any, node: str) -> Any:
        tried.append(windows.rank)
        return probed(windows, node)

    monkeypatch.setattr(probe, "probe", noted)
    machine, transport = machine_on(comm, is_one_host=True)
    if memory_is_shared(comm):
        assert tried == []
        assert machine.plane == "rma"
        assert machine.windows.memory_of((comm.rank + 1) % comm.size) is not None
    else:
        assert tried == [comm.rank]
    transport.drain(lambda: None)
    machine.close()
    transport.close()


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize(
    ("is_one_host", "expected"),
    [(True, config.MOVED_BYTES_PER_US_ON_HOST), (False, config.MOVED_BYTES_PER_US)],
)
def test_runners_are_dealt_by_how_fast_memory_moves(
    comm: Any, is_one_host: bool, expected: int
) -> None:
    told: list[int] = []

    def noted(*words: Any, **settings: Any) -> Any:
        told.append(settings["moved_bytes_per_us"])
        return import_module("dvm_mpi.control.scheduler").Scheduler(*words, **settings)

    machine, transport = machine_on(comm, is_one_host=is_one_host, make_scheduler=noted)
    assert told == ([expected] if comm.rank == 0 else [])
    transport.drain(lambda: None)
    machine.close()
    transport.close()


@pytest.mark.mpi(min_size=2)
def test_one_rank_that_cannot_load_decides_for_all(
    comm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = window.Windows(comm, 1, 1, 4096)
    if comm.rank == 1:
        monkeypatch.setattr(window.Windows, "memory_of", lambda self, rank: None)
    assert ended(probe.can_load(windows)) is False
    windows.close()
