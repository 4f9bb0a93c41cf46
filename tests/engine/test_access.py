"""Scans are let load ahead of what they touch, where that changes nothing but how soon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvm_mpi.engine.address_space import CACHED, READ, AddressSpace
from dvm_mpi.engine.interface import LoadTracking, Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import Host, Task, at, batch, op, program, settings, unpack

CELL = 0x2_0000_0000
FIRST = DATA_START // PAGE_BYTES
COUNT = 50
#: Known unchanged for too short a time, and committed too late, for a snapshot of epoch 2.
UNCERTAIN, LATE = 6, 7


def scan(*touched: int, granted_bytes: int = COUNT * PAGE_BYTES, **changes: Any) -> list[int]:
    """Load from pages in turn; return which of COUNT may be loaded from without a look, then."""
    loads = [op("mov", at(DATA_START + page * PAGE_BYTES), at(CELL)) for page in touched]
    engine = InterpEngine(settings(**changes))
    engine.load(program(*loads, op("exit:a")), b"")
    versions, until = np.ones(COUNT, np.int64), np.full(COUNT, 9)
    until[UNCERTAIN], versions[LATE] = 1, 3
    pages = FIRST + np.arange(COUNT)
    engine.install(pages, versions, until, np.zeros((COUNT, PAGE_BYTES), np.uint8))
    engine.begin(batch([Task(grants=[(DATA_START, granted_bytes, 2)], snapshot=2)]))
    assert engine.run(len(touched)).reason is Reason.SLICE_ENDED
    flags = AddressSpace.shared().flags
    opened = np.flatnonzero(flags[pages] & READ).tolist()
    host = Host(engine)
    host.run()
    assert (flags[pages] == CACHED).all(), "an attempt that has left leaves no flag"
    engine.close()
    return opened


def test_a_scan_may_load_from_what_its_view_holds() -> None:
    assert scan(10, 11) == list(range(10, 44)), "32 pages behind the second"
    assert scan(10, 11, 20, 43, 44) == list(range(10, COUNT))
    assert scan(2, 3) == [2, 3, 4, 5], "the next is not known to be what the snapshot holds"
    assert scan(7 + 1, 7 + 2, granted_bytes=12 * PAGE_BYTES - 1) == [8, 9, 10]


def test_single_touches_open_nothing_else() -> None:
    assert scan(10, 12, 20) == [10, 12, 20]
    assert scan(11, 10) == [10, 11]


@pytest.mark.parametrize(
    "changes",
    [{"touched_pages_max": 99}, {"allow_undeclared": True}, {"loads": LoadTracking.CONTENT}],
)
def test_where_touches_are_counted_each_page_is_touched(changes: dict[str, Any]) -> None:
    opened = scan(10, 11, **changes)
    assert opened == ([] if "loads" in changes else [10, 11])


def test_a_scan_sees_what_it_would_have_seen_page_by_page() -> None:
    """Pages of a newer epoch come in between: they are asked for again."""
    engine = InterpEngine(settings())
    loads = [op("mov", at(DATA_START + k * PAGE_BYTES), at(DATA_START + 8)) for k in (1, 2, 3)]
    engine.load(program(*loads, op("exit:c")), b"")
    pages, ones = FIRST + np.arange(5), np.ones(5, np.int64)
    engine.install(pages, ones, ones * 9, np.zeros((5, PAGE_BYTES), np.uint8))
    engine.begin(batch([Task(grants=[(DATA_START, 5 * PAGE_BYTES, 2)], snapshot=2)]))
    assert engine.run(2).reason is Reason.SLICE_ENDED
    newer = np.full((1, PAGE_BYTES), 7, np.uint8)
    engine.install(pages[3:4], ones[:1] * 3, ones[:1] * 9, newer)
    host = Host(engine, version=2)
    assert engine.run(9).page == FIRST + 3
    host.install([FIRST + 3], until=9)
    assert engine.run(9).reason is Reason.BATCH_DONE
    (ended,) = unpack(engine.take_outcomes())
    assert ended.stored[DATA_START + 8] == 0
    engine.close()
