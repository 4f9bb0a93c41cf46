"""What was measured, in the report's words: names, shares and sums."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.messages import SPAN
from dvm_mpi.control.metering import ACTIVITIES, RankMeters
from dvm_mpi.control.observations import observed
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.layout import PAGE_SHIFT, STATUS_AREAS

PROGRAM = assemble_text(
    """        .array  small, sq, 2
        .array  other, sq, 2
        .array  large, sq, 4096
        .data
first:  .quad   1
second: .quad   2
third:  .quad   3
fourth: .quad   4
        .text
main:   exit:c
part:   exit:c
""",
    "prog.dasm",
    {},
)


def told(ranks: int = 2, spans: dict[int, tuple[int, int]] | None = None, **noted: Any) -> Any:
    """Return what is observed; `spans`: of each rank its end and what it executed, in µs."""
    scheduler = Scheduler(Geometry(ranks), ranks, config.STACK_BYTES_DEFAULT, 1)
    state, meters = scheduler.state, RankMeters(ranks)
    for rank, (end, executing) in (spans or {}).items():
        row = np.zeros(1, SPAN)
        row["end_us"], row["executing"], row["idle"] = end, executing, end - executing
        row["instructions"], row["resident_bytes"] = 10 * executing, 1_000 + rank
        meters.add(rank, f"node{rank}", row)
    for kind, pages in noted.get("pages", {}).items():
        state.hot_pages.note(kind, np.array(pages))
    for page, entry in noted.get("sharers", []):
        state.sharing.note(np.array([page]), np.array([entry]))
    for entry, instructions in noted.get("lengths", []):
        state.runner_lengths.note(np.array([entry]), np.array([instructions]))
    found = observed(state, meters, Narrator(PROGRAM))
    assert json.loads(json.dumps(found)) == found, "JSON knows all of it"
    return found


def test_columns_have_a_row_for_each_rank() -> None:
    found = told(spans={0: (40_000, 10_000), 1: (40_000, 30_000)})
    columns = found["by_rank"]
    assert columns["host"] == ["node0", "node1"]
    assert columns["executing_s"] == [0.01, 0.03]
    assert columns["idle_s"] == [0.03, 0.01]
    assert columns["instructions"] == [100_000, 300_000]
    assert columns["resident_bytes"] == [1_000, 1_001]


def test_shares_are_of_a_bucket() -> None:
    found = told(spans={0: (40_000, 10_000), 1: (20_000, 20_000)})
    over_time = found["utilisation"]
    assert over_time["bucket_s"] == 0.02
    assert over_time["executing"] == [[250, 250], [1000, 0]]
    assert over_time["idle"] == [[750, 750], [0, 0]], "rank 1 has not told of the second bucket"
    assert over_time["instructions"] == [250_000, 50_000]
    assert found["memory_over_time"]["resident_bytes"] == [1_001, 1_000]


def test_of_a_group_that_is_not_full_shares_are_of_the_ranks_it_has() -> None:
    width = config.SPAN_US_MIN
    found = told(ranks=129, spans=dict.fromkeys(range(129), (width, width)))
    over_time = found["utilisation"]
    assert over_time["ranks_per_row"] == 2
    assert over_time["executing"] == [[1000]] * 65


def test_nothing_told_is_nothing_shown() -> None:
    found = told()
    assert found["by_rank"]["executing_s"] == [0.0, 0.0]
    assert all(found["utilisation"][name] == [[], []] for name in ACTIVITIES)
    assert (found["runner_lengths"], found["hot_pages"]) == ([], [])


def test_lengths_are_named_by_entry() -> None:
    part = PROGRAM.symbols["part"]
    (row,) = told(lengths=[(part, 5), (part, 900)])["runner_lengths"]
    assert row == {
        "entry": "part", "attempts": 2, "instructions": 905, "longest": 900,
        "classes": {"3": 1, "10": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (PROGRAM.arrays["small"].address, "small"),
        (PROGRAM.symbols["third"], "first, second, third, and 1 more"),
        (PROGRAM.arrays["large"].address + 4096, "large+0x1000"),
        (STATUS_AREAS[0][0] + 4096, "status pages"),
    ],
)
def test_pages_have_the_names_of_what_lies_there(address: int, name: str) -> None:
    pages = [address >> PAGE_SHIFT] * 2
    (row,) = told(pages={"fetches": pages, "shared": pages[:1]})["hot_pages"]
    assert row == {
        "address": address >> PAGE_SHIFT << PAGE_SHIFT,
        "name": name,
        "fetches": 2,
        "versions": 0,
        "shared": 1,
        "stored_by": [],
    }


def test_who_shares_a_page_is_told_with_source_lines() -> None:
    page, part = PROGRAM.arrays["small"].address >> PAGE_SHIFT, PROGRAM.symbols["part"]
    (row,) = told(pages={"shared": [page]}, sharers=[(page, part), (page, part)])["hot_pages"]
    (who,) = row["stored_by"]
    assert who == f"part ({Narrator(PROGRAM).place(part)})"
    assert ":" in who, "a file and a line"
