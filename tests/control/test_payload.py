"""What of a message is content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dvm_mpi.control.messages import RECORD, Finished, PagesHeld, StatusRequested
from dvm_mpi.control.payload import payload_of
from dvm_mpi.dsm.messages import RUN, TOKEN, ApplyRequested, LookupAnswered, Staged
from dvm_mpi.engine.interface import CHILD, OUTCOME
from dvm_mpi.layout import RANGE

INTS = np.zeros(2, np.int64)
NO_BYTES = np.zeros(0, np.uint8)
FINISHED = Finished(
    worker=1,
    records=np.zeros(1, RECORD),
    outcomes=np.zeros(1, OUTCOME),
    runs=np.zeros(0, RUN),
    data=NO_BYTES,
    children=np.zeros(0, CHILD),
    child_ranges=np.zeros(0, RANGE),
    mallocs=np.zeros(0, RANGE),
    console=np.zeros(40, np.uint8),
    dropped_stacks=INTS,
    traps="",
    fetched_bytes=4096,
    effort=0,
)


def test_pages_are_content_and_the_lookup_is_not() -> None:
    bare = LookupAnswered(0, 1, INTS, INTS, INTS, INTS, NO_BYTES)
    page = replace(bare, content=np.zeros(4096, np.uint8))
    assert payload_of([bare, page, StatusRequested(3)]) == (4096, 0)


def test_stored_bytes_are_content_on_each_of_their_ways() -> None:
    data = np.zeros(100, np.uint8)
    staged = Staged(0, 1, 0, True, np.zeros(1, RUN), data)
    apply = ApplyRequested(2, 1, INTS, np.zeros(1, TOKEN), np.zeros(1, RUN), data[:10])
    assert payload_of([staged, apply, replace(FINISHED, data=data[:1])]) == (0, 111)


def test_private_memory_of_children_is_not_shared_content() -> None:
    """A record holds its own stores first, and the images of its children behind them."""
    runs = np.array([(0x4000, 30, 0), (0x100, 5, 30), (0x108, 7, 35)], RUN)
    children = np.zeros(2, CHILD)
    children["image_first"], children["image_count"] = [1, 2], 1
    finished = replace(FINISHED, runs=runs, data=np.zeros(42, np.uint8), children=children)
    assert payload_of([finished]) == (0, 30)


def test_what_only_a_record_of_the_run_wants_is_control() -> None:
    assert payload_of([PagesHeld(0, 0, INTS, np.zeros(8192, np.uint8))]) == (0, 0)


def test_staged_bytes_count_once_though_a_record_of_the_run_wants_them_again() -> None:
    records, outcomes = np.zeros(2, RECORD), np.zeros(2, OUTCOME)
    records["serial"] = [0, 7]
    outcomes["run_first"], outcomes["run_count"] = [0, 1], 1
    told = np.array([(0x4000, 30, 0), (0x8000, 70, 30)], RUN)
    untold = np.array([(0x4000, 30, 0), (0x8000, 70, -1)], RUN)
    for runs, size in ((told, 100), (untold, 30)):
        finished = replace(
            FINISHED, records=records, outcomes=outcomes, runs=runs, data=np.zeros(size, np.uint8)
        )
        assert payload_of([finished]) == (0, 30)
