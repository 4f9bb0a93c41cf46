"""Loops that run without checks do what they would do with them."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from dvm_mpi.engine.interface import Reason, TrapKind
from dvm_mpi.engine.translation.loops import LARGE_BODY
from dvm_mpi.layout import CELL_ID, DATA_START, PAGE_BYTES, PR_START
from tests.engine.agreement import ALL_ENGINES, chosen, disagreements
from tests.engine.hot_programs import hot_scene
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import VALUES, Scene

ENGINES = chosen(["reference", "translate", "translate-windows"])
COUNTER, VALUE, END, PRODUCT = VALUES[:4]

#: A loop that may run without checks; what follows it is executed without one.
COUNTED = [
    op("mov", imm(0), at(COUNTER)),
    op("add", at(COUNTER), imm(1), at(COUNTER)),
    op("add", at(VALUE), at(COUNTER), at(VALUE)),
    op("br:l", at(COUNTER), imm(20), target=1),
    op("xor", at(VALUE), imm(5), at(VALUE)),
    op("add", at(VALUE), imm(1), at(VALUE)),
    op("add", at(VALUE), imm(2), at(VALUE)),
    op("br:l", at(VALUE), imm(2_000), target=0),
    op("exit:c"),
]  # fmt: skip


@pytest.mark.parametrize("fuel", range(55, 70))
def test_a_loop_without_checks_leaves_fuel_for_what_follows(fuel: int) -> None:
    found, expected = disagreements(Scene(COUNTED, slice_fuel=fuel), ENGINES)
    assert not found, "\n".join(found)
    ended = [stop for stop in expected["exits"] if stop.reason is Reason.SLICE_ENDED]
    assert {stop.instructions for stop in ended} == {fuel}


@pytest.mark.parametrize("fuel_max", range(55, 70))
def test_the_limit_of_an_attempt_is_exact_behind_a_loop(fuel_max: int) -> None:
    found, _ = disagreements(Scene(COUNTED, changes={"fuel_max": fuel_max}), ENGINES)
    assert not found, "\n".join(found)


def sweeping(step: int, width: str, first: int, passes: int, moves: int) -> Scene:
    """Return a program that stores at even distances, some times, each time further on.

    Each pass stores from where the last one began plus `moves`, to 2 KiB further. What it may touch
    are three pages.
    """
    last = DATA_START + first + moves * passes
    return Scene(
        [
            op("mov", imm(DATA_START + first), at(END)),
            op("mov", at(END), at(COUNTER)),
            op("add", at(END), imm(2_048), at(VALUE)),
            op("mov", imm(0x5A), via(COUNTER), types=width),
            op("add", at(COUNTER), imm(step), at(COUNTER)),
            op("br:l", at(COUNTER), at(VALUE), target=3),
            op("add", at(END), imm(moves), at(END)),
            op("br:l", at(END), imm(last), target=1),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, 3 * PAGE_BYTES, 0),))],
        slice_fuel=100_000,
    )


@pytest.mark.parametrize(
    ("step", "width", "first"),
    [(8, "sq", 0), (8, "sq", 3), (1, "ub", 5), (2, "ub", 1), (24, "sd", 0), (4, "sd", 6)],
)
def test_every_pass_of_a_loop_marks_what_it_stores(step: int, width: str, first: int) -> None:
    """Also where passes overlap, and where one goes on where the last one ended."""
    for moves in (8, 1_000, 2_048):
        found, _ = disagreements(sweeping(step, width, first, 4, moves), ENGINES)
        assert not found, "\n".join([f"moves {moves}", *found])


@pytest.mark.parametrize("beyond", [1, 8, 9, 16, 2_048])
def test_a_loop_is_stopped_at_the_first_byte_that_it_may_not_touch(beyond: int) -> None:
    """The last of its passes reaches beyond pages that the others have stored to before."""
    end = DATA_START + 3 * PAGE_BYTES
    scene = Scene(
        [
            op("mov", imm(end), at(END)),
            op("mov", imm(DATA_START), at(COUNTER)),
            op("mov", imm(7), via(COUNTER)),
            op("add", at(COUNTER), imm(8), at(COUNTER)),
            op("br:l", at(COUNTER), at(END), target=2),
            op("add", at(END), imm(beyond), at(END)),
            op("br:le", at(END), imm(end + beyond), target=1),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, 3 * PAGE_BYTES, 0),))],
        slice_fuel=100_000,
    )
    found, expected = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    assert ended.row["trap"] == TrapKind.UNDECLARED
    assert ended.row["trap_address"] == end


@pytest.mark.parametrize("step", [8, -8])
@pytest.mark.parametrize("cell", [0x2_0000_0FD8, 0x2_0000_1000, 0x2_0000_1030, 0x2_0000_1800])
def test_pages_of_cells_are_one_stretch_but_for_the_loops_own(step: int, cell: int) -> None:
    """It stores to private memory across the edge of two such pages, and perhaps to its cell."""
    edge = 0x2_0000_1000
    seen = [cell, edge - 8, edge + 8]
    scene = Scene(
        [
            op("mov", imm(edge - 32 * step), at(COUNTER)),
            op("mov", at(COUNTER), via(COUNTER)),
            op("add", at(cell), imm(1), at(cell)),
            op("add", at(COUNTER), imm(step), at(COUNTER)),
            op("br:ne", at(COUNTER), imm(edge + 32 * step), target=1),
            *(op("mov", at(p), at(DATA_START + 8 * i)) for i, p in enumerate(seen)),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, PAGE_BYTES, 0),))],
        slice_fuel=100_000,
    )
    found, _ = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)


#: Cells of their own, side by side.
SUMS = [PR_START + 0x400 + 8 * lane for lane in range(9)]
#: NaNs with bits of their own, infinities, numbers whose sums depend on their order.
ODD = [0x7FF4_0000_0000_0001, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000,
       0x3FF0_0000_0000_0001, 0x4340_0000_0000_0000, 0xC340_0000_0000_0000]  # fmt: skip


def bits_of(number: float) -> int:
    return int.from_bytes(struct.pack("<d", number), "little")


def columns(count: int, odd_from: int, **changes: Any) -> Scene:
    """Return a program that adds up `count` columns of 60 rows, odd numbers from a row on."""
    rows, lanes = 60, SUMS[:count]
    rng = random.Random(odd_from)
    data = b"".join(
        (rng.choice(ODD) if row >= odd_from else bits_of(rng.uniform(-9, 9))).to_bytes(8, "little")
        for row in range(rows)
        for _ in range(16)
    )
    body = [
        part
        for lane, cell in enumerate(lanes)
        for part in (
            op("mul", at(VALUE), via(COUNTER, 8 * lane), at(PRODUCT), types="fd"),
            op("sub", at(cell), at(PRODUCT), at(cell), types="fd"),
        )
    ]
    end = DATA_START + 128 * rows
    return Scene(
        [
            *(op("mov", imm(ODD[lane % 7]), at(cell), types="fd")
              for lane, cell in enumerate(lanes) if odd_from == lane),
            op("mov", imm(DATA_START), at(COUNTER)),
            op("mov", imm(bits_of(1.1)), at(VALUE), types="fd"),
            *body,
            op("add", at(COUNTER), imm(128), at(COUNTER)),
            op("br:l", at(COUNTER), imm(end), target=2 + (odd_from < count)),
            *(op("mov", at(cell), via(CELL_ID, 1024 + 8 * lane), types="fd")
              for lane, cell in enumerate([*lanes, PRODUCT])),
            op("exit:c"),
        ],
        memory=dict(enumerate(data, DATA_START)),
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 8, 9])
@pytest.mark.parametrize("odd_from", [0, 30, 59, 60])
def test_sums_side_by_side_are_those_that_are_computed_alone(count: int, odd_from: int) -> None:
    for fuel in (100_000, 97, 301):
        found, _ = disagreements(columns(count, odd_from, slice_fuel=fuel), ENGINES)
        assert not found, "\n".join([f"fuel {fuel}", *found])


@pytest.mark.parametrize("engine", ["translate", "translate-hard"])
def test_hot_programs_have_one_meaning(engine: str) -> None:
    engines = {name: ALL_ENGINES[name] for name in ("reference", engine)}
    for seed in range(24):
        found, _ = disagreements(hot_scene(seed), engines)
        assert not found, "\n".join([f"seed {seed}", *found])


def filled_and_changed(parts: list[tuple[int, int]], step: int) -> Scene:
    """Return a program that fills parts of three pages, and then stores bytes all over them.

    `parts`: first byte and the one behind the last, from the beginning of the pages. Two runners
    execute it one after the other.
    """
    instructions = []
    for first, end in parts:
        start, bound = (first, end) if step > 0 else (end - abs(step), first - 1)
        begin, ends = len(instructions), (at(COUNTER), imm(DATA_START + bound))
        instructions += [
            op("mov", imm(DATA_START + start), at(COUNTER)),
            op("mov", imm(0x5A), via(COUNTER)),
            op("add", at(COUNTER), imm(step), at(COUNTER)),
            op("br:l", *ends[:: 1 if step > 0 else -1], target=begin + 1),
        ]  # fmt: skip
    begin = len(instructions)
    instructions += [
        op("mov", imm(DATA_START + 1), at(COUNTER)),
        op("mul", at(COUNTER), imm(3), at(VALUE)),
        op("mov", at(VALUE), via(COUNTER), types="ub"),
        op("add", at(COUNTER), at(END), at(COUNTER)),
        op("add", at(END), imm(7), at(END)),
        op("br:l", at(COUNTER), imm(DATA_START + 3 * PAGE_BYTES), target=begin + 1),
        op("exit:c"),
    ]
    grants = ((DATA_START, 3 * PAGE_BYTES, 0),)
    return Scene(instructions, tasks=[Task(grants=grants)] * 2, slice_fuel=100_000)


@pytest.mark.parametrize("step", [8, -8])
@pytest.mark.parametrize(
    "parts",
    [
        [(0, 3 * PAGE_BYTES)],
        [(0, PAGE_BYTES), (PAGE_BYTES, 3 * PAGE_BYTES)],
        [(8, 3 * PAGE_BYTES)],
        [(0, 3 * PAGE_BYTES - 8)],
        [(0, PAGE_BYTES + 2_048), (PAGE_BYTES + 2_056, 3 * PAGE_BYTES)],
        [(2_048, PAGE_BYTES), (0, 2_040)],
        [(2_048, PAGE_BYTES), (0, 2_048)],
    ],
)
def test_pages_of_which_all_is_stored_need_no_more_marks(
    parts: list[tuple[int, int]], step: int
) -> None:
    """Nor is anything lost where some of a page is missing, or for the next runner."""
    found, _ = disagreements(filled_and_changed(parts, step), ENGINES)
    assert not found, "\n".join(found)


# --- large loops --------------------------------------------------------------------------------
def large(turns: int, start: int, fuel: int) -> Scene:
    """Return a program whose loop has a large body with branches, loads and stores.

    The loop begins at `start` bytes into the first of two pages and takes `turns` turns, twice.
    """
    head = 3
    code = [
        op("mov", imm(2), at(PRODUCT)),
        op("mov", imm(DATA_START + start), at(COUNTER)),
        op("add", at(COUNTER), imm(16 * turns), at(END)),
    ]
    code += [op("add", via(COUNTER), at(VALUE), at(VALUE))]
    for number in range(LARGE_BODY // 3):
        here = len(code)
        code += [
            op("mul", at(VALUE), imm(2 * number + 3), at(VALUE)),
            op("br:l", at(VALUE), imm(number), target=here + 3),
            op("xor", at(VALUE), imm(number), at(VALUE)),
        ]
    code += [
        op("mov", at(VALUE), via(COUNTER, 8)),
        op("add", at(COUNTER), imm(16), at(COUNTER)),
        op("br:l", at(COUNTER), at(END), target=head),
        op("sub", at(PRODUCT), imm(1), at(PRODUCT)),
        op("br:nz", at(PRODUCT), target=1),
        op("exit:c"),
    ]
    assert len(code) - head > LARGE_BODY
    grants = ((DATA_START, 2 * PAGE_BYTES, 0),)
    return Scene(code, tasks=[Task(grants=grants)], slice_fuel=fuel)


@pytest.mark.parametrize("turns", [1, 2, 3, 7, 8, 9, 40])
@pytest.mark.parametrize("start", [0, PAGE_BYTES - 32, PAGE_BYTES - 24])
def test_a_large_loop_is_executed_in_windows_of_any_length(turns: int, start: int) -> None:
    """Also where a turn has one of its accesses on each of two pages, which no window does."""
    engines = chosen(["reference", "translate", "translate-hard"])
    for fuel in (150, 400, 1_000, 100_000):
        found, _ = disagreements(large(turns, start, fuel), engines)
        assert not found, "\n".join([f"fuel {fuel}", *found])


def test_the_end_of_what_a_large_loop_may_touch_is_exact() -> None:
    found, expected = disagreements(large(8, 2 * PAGE_BYTES - 64, 10_000), ENGINES)
    assert not found, "\n".join(found)
    assert expected["ended"][0].row["trap"]
