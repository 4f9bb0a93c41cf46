"""Loops around a loop, many rounds of which may be done without a check."""

from __future__ import annotations

from typing import Any

import pytest

from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.loops import loop_of
from dvm_mpi.engine.translation.nests import Even, Move, Nest, nest_of
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import chosen, disagreements
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene
from tests.engine.translation.texts import Seen

ENGINES = chosen(["reference", "translate"])

NEST = """
        .private p, q, r, row, n, k, value, end
        .array  a, fd, 1000
        .entry  main
        .text
main:   mov     (p):fd, value:fd
        {before}
inner:  mul:fd  value, (q), (r)
        {within}
        br:l    n, $20, inner
latch:  add     p, $8, p
        {behind}
        {branch}
        exit:c
"""
USUAL = {
    "before": "mov row, r\nmov $0, n",
    "within": "add q, $8, q\nadd r, $8, r\nadd n, $1, n",
    "behind": "add k, $1, k",
    "branch": "br:l k, $10, main",
}


def nest(**parts: str) -> tuple[Seen, Nest | None]:
    seen = Seen(NEST.format(**(USUAL | parts)))
    cells = seen.cells()
    inner = loop_of(Body((seen.block("inner"),)), cells, seen.groups("inner"))
    assert inner is not None
    groups = {seen.at(label): seen.groups(label) for label in ("main", "inner", "latch")}
    return seen, nest_of(seen.blocks, inner, groups, cells)


def test_pointers_of_a_nest_go_on_begin_anew_or_move_with_the_outer_loop() -> None:
    seen, found = nest()
    assert found is not None
    moves = {s.stream.group.pointer: (s.start, s.move, s.is_inner) for s in found.streams}
    p, q, r, n = map(seen.place, "pqrn")
    assert moves == {
        q: (Even(q), Move(0, 8), True),
        r: (Even(r), Move(0, 0), True),
        # It is loaded in the next round, behind its step.
        p: (Even(p, 8), Move(8, 0), False),
    }
    resets = {reset.place: (reset.last, reset.move) for reset in found.resets}
    assert resets == {r: (Even(seen.place("row")), Move()), n: (Even(0), Move())}
    assert found.condition.moving == seen.place("k")


def test_a_pointer_may_begin_beside_where_it_began_before() -> None:
    seen, found = nest(behind="add k, $1, k\nadd row, $64, row", within=USUAL["within"])
    assert found is None, "what is stored beside is no range"
    within = "add q, $8, q\nadd n, $1, n"
    seen, found = nest(behind="add k, $1, k\nadd row, $64, row", within=within,
                       before="mov row, q\nmov $0, n")  # fmt: skip
    assert found is not None
    q = seen.place("q")
    (stream,) = (s for s in found.streams if s.stream.group.pointer == q)
    assert stream.move == Move(64)
    (reset,) = (r for r in found.resets if r.place == q)
    # The cell that it was taken from has moved by then, but not when the round began.
    assert (reset.last, reset.move) == (Even(seen.place("row"), 64), Move(64))


@pytest.mark.parametrize(
    "parts",
    [
        {"before": "mov row, r"},  # the inner loop's turns are counted on
        {"before": "mov row, r", "behind": "add k, $1, k\nsub n, $20, n"},
        {"branch": "br:l k, n, main"},  # by what moves
        {"branch": "br:l k, (p), main"},
        {"behind": "add k, $1, k\nmul q, $3, q"},
        {"behind": "add k, $1, k\nsub q, $800, q"},  # downwards
        {"behind": "add k, $1, k\nmod k, k, k"},  # a divisor that may be 0
        {"behind": "mov row, k"},  # nothing counts
        {"before": "mov row, r\nmov r, p\nmov $0, n", "behind": "add k, $1, k\nmov p, row"},
    ],
)
def test_a_nest_that_is_not_even_has_no_rounds(parts: dict[str, str]) -> None:
    _, found = nest(**parts)
    assert found is None


# --- what they do -----------------------------------------------------------------------------
A, B, C, ROW = POINTERS[:4]
OUTER, INNER, FACTOR = 0x2_0000_0040, 0x2_0000_0048, VALUES[1]
PRODUCT = VALUES[2]
ROWS, COLUMNS = 9, 40


def rows(
    step: int = 0, start: int = 0, pages: int = 4, columns: int = COLUMNS, **changes: Any
) -> Scene:
    """Return a program that adds multiples of the rows of a matrix to one row, as i-k-j does.

    The row lies `start` bytes behind the factors' beginning, and moves by `step` in each round.
    """
    matrix, factors = DATA_START + PAGE_BYTES - 200, DATA_START
    odd = [0x7FF4_0000_0000_0001, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_0000]
    memory: dict[int, int] = {}
    for index in range(4 * PAGE_BYTES // 8):
        bits = odd[index % 3] if index % 97 == 5 else 0x3FF0_0000_0000_0000 + (index << 33)
        memory |= enumerate(bits.to_bytes(8, "little"), DATA_START + 8 * index)
    return Scene(
        [
            op("mov", imm(factors), at(A)),
            op("mov", imm(matrix), at(B)),
            op("mov", imm(DATA_START + 3 * PAGE_BYTES + start), at(ROW)),
            op("mov", imm(0), at(OUTER)),
            op("mov", via(A), at(FACTOR), types="fd"),
            op("mov", at(ROW), at(C)),
            op("mov", imm(0), at(INNER)),
            op("mul", at(FACTOR), via(B), at(PRODUCT), types="fd"),
            op("add", via(C), at(PRODUCT), via(C), types="fd"),
            op("add", at(B), imm(8), at(B)),
            op("add", at(C), imm(8), at(C)),
            op("add", at(INNER), imm(1), at(INNER)),
            op("br:l", at(INNER), imm(columns), target=7),
            op("mov", at(OUTER), via(A, 2_000)),
            op("add", at(A), imm(8), at(A)),
            op("add", at(ROW), imm(step), at(ROW)),
            op("add", at(OUTER), imm(1), at(OUTER)),
            op("br:l", at(OUTER), imm(ROWS), target=4),
            op("mov", at(A), via(ROW)),
            op("add", at(B), at(C), via(ROW, 8)),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, pages * PAGE_BYTES, 0),))],
        memory=memory,
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize("start", [0, 8, 1_000, -3 * PAGE_BYTES, -2 * PAGE_BYTES - 64, 3])
def test_rounds_do_what_their_loops_do(start: int) -> None:
    """Also where the row lies among the factors, or in the matrix, or not at a multiple of 8."""
    for columns in (1, 2, 40):
        found, _ = disagreements(rows(start=start, columns=columns, slice_fuel=100_000), ENGINES)
        assert not found, "\n".join([f"columns {columns}", *found])


@pytest.mark.parametrize("fuel", [1, 7, 97, 245, 250, 255, 498, 501, 1_003, 1_500])
def test_slices_end_within_rounds(fuel: int) -> None:
    found, expected = disagreements(rows(slice_fuel=fuel), ENGINES)
    assert not found, "\n".join(found)
    ended = [stop for stop in expected["exits"] if stop.reason is Reason.SLICE_ENDED]
    assert ended


@pytest.mark.parametrize("fuel_max", range(490, 510))
def test_the_limit_of_an_attempt_is_exact_within_rounds(fuel_max: int) -> None:
    found, _ = disagreements(rows(changes={"fuel_max": fuel_max}, slice_fuel=9_999), ENGINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("pages", "start"), [(1, -2_400), (2, -PAGE_BYTES - 320), (3, -320)])
def test_rounds_stop_before_what_may_not_be_touched(pages: int, start: int) -> None:
    """The rows of the matrix, or the row that is added to, reach beyond what is declared."""
    scene = rows(pages=pages, start=start, slice_fuel=100_000)
    found, _ = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("start", "step", "columns"),
    [
        (-PAGE_BYTES - 1_280, 320, 40),  # the row moves out, after as many rounds as fit
        (-PAGE_BYTES - 1_200, 320, 40),  # the last row that fits does so in part
        (-PAGE_BYTES - 2_000, 0, 120),  # the matrix has more rows than are declared
    ],
)
def test_rounds_end_where_pages_do(start: int, step: int, columns: int) -> None:
    scene = rows(pages=2, start=start, step=step, columns=columns, slice_fuel=100_000)
    found, expected = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    assert ended.row["trap_address"] == DATA_START + 2 * PAGE_BYTES


@pytest.mark.parametrize("step", [8, 64, 320])
def test_a_row_that_moves_between_rounds_is_marked_throughout(step: int) -> None:
    found, _ = disagreements(rows(step=step, slice_fuel=100_000), ENGINES)
    assert not found, "\n".join(found)
