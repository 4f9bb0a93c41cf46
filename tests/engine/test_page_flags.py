"""Marks of stored bytes are asked for until all of a page is marked, and a scan has gone on."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.engine.address_space import TRACK, AddressSpace
from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import Host, Task, at, batch, imm, op, program, settings, via

POINTER = 0x2_0000_0000
FIRST = DATA_START // PAGE_BYTES
PAGES = 5


def marked_after(first: int, end: int, step: int, width: str = "sq") -> list[int]:
    """Store from `first` up or down to before `end`, offsets in bytes; then stop.

    Returns the pages on which marks are still asked for. What was stored is committed.
    """
    engine = InterpEngine(settings())
    condition = [at(POINTER), imm(DATA_START + end)]
    if step < 0:
        condition.reverse()
    engine.load(
        program(
            op("mov", imm(DATA_START + first), at(POINTER)),
            op("mov", imm(7), via(POINTER), types=width),
            op("add", at(POINTER), imm(step), at(POINTER)),
            op("br:l", *condition, target=1),
            op("exit:c"),
        ),
        b"",
    )
    pages, ones = FIRST + np.arange(PAGES), np.ones(PAGES, np.int64)
    engine.install(pages, ones, 9 * ones, np.zeros((PAGES, PAGE_BYTES), np.uint8))
    engine.begin(batch([Task(grants=((DATA_START, PAGES * PAGE_BYTES, 1),), snapshot=1)]))
    count = -((first - end) // step)
    assert engine.run(1 + 3 * count).reason is Reason.SLICE_ENDED
    flags = AddressSpace.shared().flags[pages]
    (ended,) = Host(engine).run()
    bytes_each = {"sq": 8, "ub": 1}[width]
    offsets = range(first, end, step)
    assert sorted(ended.stored) == sorted(
        DATA_START + offset + byte for offset in offsets for byte in range(bytes_each)
    )
    engine.close()
    return np.flatnonzero(flags & TRACK).tolist()


@pytest.mark.parametrize(("step", "width"), [(8, "sq"), (1, "ub")])
def test_behind_a_scan_no_more_marks_are_asked_for(step: int, width: str) -> None:
    assert marked_after(0, 3 * PAGE_BYTES + 64, step, width) == [3]
    last = 4 * PAGE_BYTES - step
    assert marked_after(last, PAGE_BYTES - 64, -step, width) == [0]


def test_a_page_of_which_a_byte_was_left_out_asks_for_marks() -> None:
    assert marked_after(1, 2 * PAGE_BYTES + 8, 1, "ub") == [0, 2]
    assert marked_after(0, 2 * PAGE_BYTES, 16) == [0, 1]
    assert marked_after(3 * PAGE_BYTES - 16, PAGE_BYTES - 16, -8) == [0, 2]
