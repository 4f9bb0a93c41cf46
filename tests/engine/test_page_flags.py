"""Marks of stored bytes are asked for until all of a page is marked, and a scan has gone on."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.engine.address_space import TRACK, AddressSpace
from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import Host, Task, at, batch, imm, op, program, settings, via
from tests.engine.translated import TranslatedEngine

POINTER, COUNT = 0x2_0000_0000, 0x2_0000_0010
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


@pytest.mark.parametrize(("mask", "place"), [("and", "y"), ("mod", "y"), ("and", "anywhere")])
def test_translated_code_looks_whether_stores_anywhere_have_filled_a_page(
    mask: str, place: str
) -> None:
    """Where it is entered anew, and whether the pointer's bounds are known or not."""
    engine = TranslatedEngine(settings())
    bounds = [op(mask, at(POINTER), imm(0xFF8 + 8 * (mask == "mod")), at(POINTER), types="uq")]
    if place == "anywhere":
        # Nobody follows what is taken away more often than it was added.
        bounds += [op("sub", at(POINTER), imm(1 << 50), at(POINTER))]
        bounds += [op("add", at(POINTER), imm(1 << 50), at(POINTER))]
    engine.load(
        program(
            op("mov", imm(0), at(COUNT)),
            op("mul", at(COUNT), imm(8 * 5), at(POINTER)),
            *bounds,
            op("add", at(POINTER), imm(DATA_START), at(POINTER)),
            op("mov", at(COUNT), via(POINTER)),
            op("add", at(COUNT), imm(1), at(COUNT)),
            op("br:l", at(COUNT), imm(4_000), target=1),
            op("exit:c"),
        ),
        b"",
    )
    pages, ones = np.array([FIRST]), np.ones(1, np.int64)
    engine.install(pages, ones, 9 * ones, np.zeros((1, PAGE_BYTES), np.uint8))
    engine.begin(batch([Task(grants=((DATA_START, PAGE_BYTES, 1),), snapshot=1)]))
    flags = AddressSpace.shared().flags
    words = PAGE_BYTES // 8
    tracked = []
    for _ in range(4):
        engine.run((6 + len(bounds) - 1) * (words // 2 + 10))
        tracked.append(bool(flags[FIRST] & TRACK))
    assert tracked == [True, True, False, False]
    (ended,) = Host(engine).run()
    assert len(ended.stored) == PAGE_BYTES
    engine.close()
