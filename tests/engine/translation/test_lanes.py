"""Which cells of a loop are computed side by side, as lanes of one vector, and what comes out."""

from __future__ import annotations

import struct

import pytest

from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.lanes import Lanes, lanes_of
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import chosen, disagreements
from tests.engine.hot_draft import SUMS
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene
from tests.engine.translation.texts import Seen

ENGINES = chosen(["reference", "translate"])

LOOP = """
        .private p, q, n, value, product, other, s:64
        .array  a, fd, 1000
        .entry  main
        .text
main:   mov     (p):fd, value:fd
{body}
        add     p, $8, p
        add     q, $64, q
        add     n, $1, n
        br:l    n, $100, main
        exit:c
"""


def column(lane: int, cell: int | None = None, step: str = "mul:fd value") -> str:
    """Return what sums up one column: cell number `cell` by the number at place `lane`."""
    cell = lane if cell is None else cell
    place = f"s + {8 * cell}"
    return f"{step}, {8 * lane}(q), product\nadd:fd {place}, product, {place}"


def lanes(*body: str) -> tuple[Seen, list[Lanes]]:
    seen = Seen(LOOP.format(body="\n".join(body)))
    found = lanes_of(Body((seen.block("main"),)), seen.cells(), seen.groups("main"))
    return seen, found


def cells_of(seen: Seen, found: Lanes) -> list[int]:
    """Return which of the sums are lanes, in order."""
    return [(address - seen.at("s")) // 8 for address, _ in found.places]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, [2]), (3, [2]), (4, [4]), (7, [4, 2]), (8, [8])],
)
def test_sums_of_numbers_side_by_side_are_lanes(count: int, expected: list[int]) -> None:
    seen, found = lanes(*map(column, range(count)))
    assert [len(one.places) for one in found] == expected
    covered = [cell for one in found for cell in cells_of(seen, one)]
    assert covered == list(range(sum(expected)))


def test_lanes_are_in_the_order_of_memory_whatever_is_done_first() -> None:
    seen, found = lanes(*(column(lane, 3 - lane) for lane in (2, 0, 3, 1)))
    (one,) = found
    assert cells_of(seen, one) == [3, 2, 1, 0]


@pytest.mark.parametrize(
    "odd",
    [
        "mul:fd value, 8(q), product\nsub:fd s + 8, product, s + 8",  # another operation
        "mul:fd 8(q), value, product\nadd:fd s + 8, product, s + 8",  # another order
        "mul:fd value, 16(q), product\nadd:fd s + 8, product, s + 8",  # not the next number
        "mul:fd value, 8(p), product\nadd:fd s + 8, product, s + 8",  # elsewhere
        "mul:fd other, 8(q), product\nadd:fd s + 8, product, s + 8",  # by another factor
        "mul:fd value, 8(q), product\nadd:fd s, product, s + 8",  # of another sum
        "mul:fd value, 8(q), product\nadd:fd product, product, s + 8",  # of none
        "mov 8(q):fs, product:fd\nadd:fd s + 8, product, s + 8",  # of another width
    ],
)
def test_what_is_done_otherwise_is_no_lane(odd: str) -> None:
    _, found = lanes(column(0), odd)
    assert found == []


def test_a_sum_that_something_else_looks_at_stays_alone() -> None:
    _, found = lanes(column(0), column(1), "mul:fd s, s, other")
    assert found == []


def test_a_factor_that_is_computed_is_the_same_for_all_lanes() -> None:
    seen, found = lanes("mul:fd value, $0.5:fd, value", *map(column, range(4)))
    assert [cells_of(seen, one) for one in found] == [[0, 1, 2, 3]]


def test_a_loop_that_stores_has_no_lanes() -> None:
    _, found = lanes(*map(column, range(4)), "mov n, 64(p)")
    assert found == []


# --- what comes out ---------------------------------------------------------------------------
P, Q = POINTERS[:2]
COUNTER, FACTOR, PRODUCT = 0x2_0000_0040, VALUES[1], VALUES[2]
ROWS = 50


def columns(order: list[int], odd_at: int, fuel: int) -> Scene:
    """Return a program that sums up multiples of columns, in some order, and stores the sums.

    All numbers differ but for the one at `odd_at`, a NaN with bits of its own.
    """
    memory: dict[int, int] = {}
    for index in range(PAGE_BYTES // 8):
        bits = 0x3FF0_0000_0000_0000 + (index << 33) + index
        bits = 0x7FF4_0000_0000_0001 if index == odd_at else bits
        memory |= enumerate(struct.pack("<Q", bits), DATA_START + 8 * index)
    steps = [
        (
            op("mul", at(FACTOR), via(Q, 8 * column), at(PRODUCT), types="fd"),
            op("add", at(SUMS[column]), at(PRODUCT), at(SUMS[column]), types="fd"),
        )
        for column in order
    ]
    return Scene(
        [
            op("mov", imm(DATA_START), at(Q)),
            op("mov", imm(DATA_START), at(P)),
            op("mov", via(P), at(FACTOR), types="fd"),
            *(one for pair in steps for one in pair),
            op("add", at(P), imm(8), at(P)),
            op("add", at(Q), imm(64), at(Q)),
            op("add", at(COUNTER), imm(1), at(COUNTER)),
            op("br:l", at(COUNTER), imm(ROWS), target=2),
            *(op("mov", at(SUMS[c]), via(P, 3000 + 8 * c), types="fd") for c in sorted(order)),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, PAGE_BYTES, 0),))],
        memory=memory,
        slice_fuel=fuel,
    )


@pytest.mark.parametrize("order", [[0, 1], [3, 1, 0, 2], [0, 1, 2, 3, 4, 5, 6], [*range(8)]])
@pytest.mark.parametrize("odd_at", [-1, 3, 203, 8 * ROWS - 1])
def test_each_sum_is_that_of_its_column(order: list[int], odd_at: int) -> None:
    for fuel in (100_000, 301):
        found, _ = disagreements(columns(order, odd_at, fuel), ENGINES)
        assert not found, "\n".join([f"fuel {fuel}", *found])
