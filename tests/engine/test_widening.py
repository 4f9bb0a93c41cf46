"""A scan of stores gets memory as a whole, and nobody else does; what is not used goes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvm_mpi.engine.address_space import VIEW, WIDE_PAGES, AddressSpace
from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import Ended, Host, Task, at, batch, imm, op, program, settings, via

POINTER = 0x2_0000_0000
#: The first page of a stretch, half a stretch behind the first page that is stored to.
WIDE = -(-(DATA_START // PAGE_BYTES) // WIDE_PAGES) * WIDE_PAGES + WIDE_PAGES
FIRST = WIDE - WIDE_PAGES // 2
#: Pages that are stored to, so that a scan of FIRST and following ends within the stretch.
SCANNED = WIDE_PAGES // 2 + 10


def resident(pages: range) -> int:
    """Return for how many pages of the view the system has given memory."""
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(8 * (VIEW // PAGE_BYTES + pages.start))
        rows = np.frombuffer(file.read(8 * len(pages)), "<u8")
    return int((rows >> 63).sum())


def scan(first: int, count: int, step: int, granted: range) -> tuple[int, int, Ended]:
    """Store to the first word of `count` pages, `step` pages apart.

    Returns how many pages of the stretch at WIDE have memory before the attempt leaves and after
    it, and how it ended.
    """
    engine = InterpEngine(settings())
    end = first + count * step
    engine.load(
        program(
            op("mov", imm(first * PAGE_BYTES), at(POINTER)),
            op("mov", imm(7), via(POINTER)),
            op("add", at(POINTER), imm(step * PAGE_BYTES), at(POINTER)),
            op("br:l", at(POINTER), imm(end * PAGE_BYTES), target=1),
            op("exit:c"),
        ),
        b"",
    )
    stored = first + step * np.arange(count)
    ones = np.ones(count, np.int64)
    engine.install(stored, ones, 9 * ones, np.zeros((count, PAGE_BYTES), np.uint8))
    grants = ((granted.start * PAGE_BYTES, len(granted) * PAGE_BYTES, 1),)
    engine.begin(batch([Task(grants=grants, snapshot=1)]))
    assert engine.run(1 + 3 * count).reason is Reason.SLICE_ENDED
    stretch = range(WIDE, WIDE + WIDE_PAGES)
    before = resident(stretch)
    (ended,) = Host(engine).run()
    after = resident(stretch)
    space = AddressSpace.shared()
    assert not space.pages[WIDE : WIDE + WIDE_PAGES].any(), "left in the view"
    assert not space.masks[WIDE : WIDE + WIDE_PAGES].any()
    engine.close()
    # Looking has given them memory.
    space.release(np.arange(stretch.start, stretch.stop))
    return before, after, ended


def test_a_scan_of_stores_has_memory_for_all_that_follows() -> None:
    before, after, ended = scan(FIRST, SCANNED, 1, range(FIRST, FIRST + 4 * WIDE_PAGES))
    assert before == WIDE_PAGES
    assert after == 10, "the pages that it stored to stay in the view"
    pages = FIRST + np.arange(SCANNED)
    assert sorted(ended.stored) == [
        page * PAGE_BYTES + byte for page in pages.tolist() for byte in range(8)
    ]


def test_sparse_stores_take_a_page_each() -> None:
    granted = range(FIRST, FIRST + 16 * WIDE_PAGES)
    assert scan(WIDE, 8, WIDE_PAGES, granted)[0] == 1
    assert scan(WIDE, 1, 1, granted)[0] == 1
    # All but one page of those that make a scan.
    assert scan(FIRST + 1, SCANNED - 1, 1, granted)[0] == 10


def test_what_may_not_be_stored_to_gets_no_memory() -> None:
    assert scan(FIRST, SCANNED, 1, range(FIRST, WIDE + WIDE_PAGES - 1))[0] == 10
