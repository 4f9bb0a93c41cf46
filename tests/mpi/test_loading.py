"""An array from a file at the homes of real ranks: each has its own pages, in contiguous frames."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.io.arrays import open_input
from dvm_mpi.io.specs import parse_spec
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, whole_pages

#: 5,003 rows of 9 doubles: 88 pages, the last of which is not full.
ROWS, COLUMNS = 5_003, 9
PROGRAM = f"""
        .data
        .space  5000
        .byte   1
        .array  first, fd, {ROWS}, {COLUMNS}
        .array  second, fd, {ROWS}, {COLUMNS}
        .text
main:   exit:c
"""


@pytest.mark.parametrize("plane", ["rma", "message"])
def test_loaded_arrays_lie_in_contiguous_frames(comm: Any, shared_folder: Path, plane: str) -> None:
    machines = import_module("dvm_mpi.control.rank_machine")
    transport = import_module("dvm_mpi.control.transport").Transport(comm)
    owner = import_module("tests.mpi.machine").Owner() if comm.rank == 0 else None
    image = assemble_text(PROGRAM, "test.dasm", {})
    random = np.random.default_rng(3)
    values = random.normal(size=(2, ROWS, COLUMNS))
    path = shared_folder / f"rank-{comm.rank}.npy"
    settings = machines.RankSettings(plane=plane, memory_bytes=2 * config.MIB)
    machine = machines.RankMachine(transport, image, settings, None, host=owner)
    machine.loader.load_image(image)
    for name, array in zip(("first", "second"), values, strict=True):
        np.save(path, array)
        declaration = image.arrays[name]
        with open_input(parse_spec(f"{name}={path}", "--in"), declaration) as source:
            steps = list(machine.loader.load_input(declaration, source.read_range))
        assert steps or not own_pages(machine, declaration).size
    machine.loader.finish()
    for name, array in zip(("first", "second"), values, strict=True):
        pages = own_pages(machine, image.arrays[name])
        frames, versions = machine.home.directory.newest(pages)
        assert np.all(np.diff(frames) == 1), "one stretch, in the order of pages"
        assert np.all(versions == LOADED_EPOCH)
        whole = np.zeros(whole_pages(array.nbytes), np.uint8)
        whole[: array.nbytes] = array.reshape(-1).view(np.uint8)
        first_page = image.arrays[name].address >> PAGE_SHIFT
        wanted = whole.reshape(-1, PAGE_BYTES)[pages - first_page]
        assert np.array_equal(machine.home.pool.memory[frames], wanted)
    counts = comm.gather(len(machine.home.directory.pages()))
    assert counts is None or sum(counts) == 2 * 88 + 1, "every page at one home"
    transport.drain(lambda: None)
    machine.close()
    transport.close()


def own_pages(machine: Any, declaration: Any) -> Any:
    """Return the pages of an array that this rank's home has."""
    first = declaration.address >> PAGE_SHIFT
    count = whole_pages(declaration.byte_count) >> PAGE_SHIFT
    pages = np.arange(first, first + count)
    return pages[machine.geometry.home_of(pages) == machine.home.index]
