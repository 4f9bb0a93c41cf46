"""Which cells of a loop are computed side by side, as lanes of one vector."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.lanes import Lanes, lanes_of
from tests.engine.translation.texts import Seen

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
