"""Loops without checks whose pointers come from memory: what they lead to is checked each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.layout import DATA_START, PAGE_BYTES, TEXT_START
from tests.engine.agreement import chosen, disagreements
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene

ENGINES = chosen(["reference", "translate", "translate-hard", "translate-windows"])
BEFORE, SUM, COUNT = VALUES[:3]
TABLE, LED = POINTERS[:2]
PAGES = 4
ENTRIES = 60
TARGETS = DATA_START + PAGE_BYTES
END = DATA_START + PAGES * PAGE_BYTES


def scene(
    addresses: Sequence[int],
    before: Sequence[Instruction] = (),
    cut: Sequence[Instruction] = (),
    behind: Sequence[Instruction] = (),
    **more: Any,
) -> Scene:
    """Return a loop that adds to the two numbers at each of some addresses, in their order.

    Other instructions may come before it and behind it, and may cut each address.
    """
    end = DATA_START + 8 * len(addresses)
    table = b"".join((a & (1 << 64) - 1).to_bytes(8, "little") for a in addresses)
    given: dict[str, Any] = {
        "tasks": [Task(grants=((DATA_START, PAGES * PAGE_BYTES, 0),))],
        "memory": dict(enumerate(table, DATA_START)),
        "slice_fuel": 100_000,
    }
    return Scene(
        [
            *before,
            op("mov", imm(DATA_START), at(TABLE)),
            op("mov", at(LED), at(BEFORE)),
            op("mov", via(TABLE), at(LED)),
            *cut,
            op("add", at(SUM), at(BEFORE), at(SUM)),
            op("add", via(LED), imm(1), via(LED)),
            op("add", via(LED, 8), at(SUM), via(LED, 8)),
            op("add", at(TABLE), imm(8), at(TABLE)),
            op("add", at(COUNT), imm(1), at(COUNT)),
            op("br:l", at(TABLE), imm(end), target=len(before) + 1),
            op("mov", at(SUM), at(TARGETS)),
            *behind,
            op("exit:c"),
        ],
        **(given | more),
    )


def filled(start: int, end: int, first: int) -> list[Instruction]:
    """Return a loop that stores to all words from `start` to below `end`; it is at `first`."""
    return [
        op("mov", imm(start), at(LED)),
        op("mov", imm(0x5A5A), via(LED)),
        op("add", at(LED), imm(8), at(LED)),
        op("br:l", at(LED), imm(end), target=first + 1),
    ]


def near(seed: int) -> list[int]:
    """Return addresses that may all be used, some of them on two pages."""
    rng = random.Random(seed)
    return [rng.randrange(TARGETS, END - 16) for _ in range(ENTRIES)]


def test_stores_are_marked_and_added_up_wherever_they_go() -> None:
    for seed in range(4):
        found, _ = disagreements(scene(near(seed)), ENGINES)
        assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "parts",
    [
        [(0, PAGE_BYTES)],
        [(PAGE_BYTES, 2 * PAGE_BYTES)],
        [(PAGE_BYTES, 3 * PAGE_BYTES)],
        [(0, PAGE_BYTES), (2 * PAGE_BYTES, 3 * PAGE_BYTES)],
        [(8, PAGE_BYTES), (PAGE_BYTES, 3 * PAGE_BYTES - 8)],
    ],
)
def test_pages_of_which_all_was_stored_lie_among_others(parts: list[tuple[int, int]]) -> None:
    """No more marks are asked for on those, and all the same on the others."""
    before = []
    for start, end in parts:
        before += filled(TARGETS + start, TARGETS + end, len(before))
    addresses = near(len(parts))
    # Over the edges of the second page, further each time.
    for index in range(15):
        addresses[4 * index] = TARGETS + PAGE_BYTES - 15 + index
        addresses[4 * index + 2] = TARGETS + 2 * PAGE_BYTES - 1 - index
    found, _ = disagreements(scene(addresses, before), ENGINES)
    assert not found, "\n".join(found)


def cut_to(mask: int, base: int) -> list[Instruction]:
    """Return what makes of any address one that is `base` and at most `mask` more."""
    return [op("and", at(LED), imm(mask), at(LED)), op("add", at(LED), imm(base), at(LED))]


@pytest.mark.parametrize("fuel", [100_000, *range(60, 70), 7])
@pytest.mark.parametrize("parts", [[], [(0, PAGE_BYTES)], [(0, 3 * PAGE_BYTES)]])
def test_where_all_is_permitted_no_address_is_checked(
    parts: list[tuple[int, int]], fuel: int
) -> None:
    before = []
    for start, end in parts:
        before += filled(TARGETS + start, TARGETS + end, len(before))
    for mask, base in ((2 * PAGE_BYTES - 1, TARGETS), (PAGE_BYTES - 1, TARGETS + PAGE_BYTES - 9)):
        program = scene(near(fuel), before, cut_to(mask, base), slice_fuel=fuel)
        found, _ = disagreements(program, ENGINES)
        assert not found, "\n".join([f"{mask:#x} {base:#x}", *found])


@pytest.mark.parametrize(
    ("mask", "base"),
    [
        (4 * PAGE_BYTES - 1, TARGETS),
        (PAGE_BYTES - 1, END - PAGE_BYTES - 15 + 1),
        (4 * PAGE_BYTES - 1, TARGETS - PAGE_BYTES),
        (0xFFF, SUM & -PAGE_BYTES),
        (0xFF, LED - 0x80),
        (0xFFF, 0),
        (0xFFF, TEXT_START),
    ],
)
def test_where_not_all_is_permitted_each_address_is(mask: int, base: int) -> None:
    for seed in range(2):
        rng = random.Random(seed)
        addresses = [rng.randrange(1 << 62) for _ in range(ENTRIES)]
        changes = {"fuel_max": 5_000}
        program = scene(addresses, (), cut_to(mask, base), changes=changes)
        found, _ = disagreements(program, ENGINES)
        assert not found, "\n".join(found)


SHARED, EDGE = TARGETS + 24, TARGETS + PAGE_BYTES - 8
BESIDE_CELLS, PRIVATE = POINTERS[-1] + 8, 0x3_0000_0FF0
STATIC_EDGE = LED // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES - 8
BEHIND_EDGE = STATIC_EDGE + 48  # a cell on the page behind that of all others


def selected(places: Sequence[int], first: int) -> list[Instruction]:
    """Return what takes one of some places instead, by branches; it begins at `first`."""
    chosen_by = BEHIND_EDGE
    found = [op("mov", at(LED), at(chosen_by)), op("mov", imm(places[0]), at(LED))]
    for index, place in enumerate(places[1:], 1):
        bound = TARGETS + index * PAGE_BYTES
        skip = op("br:l", at(chosen_by), imm(bound), target=first + len(found) + 2)
        found += [skip, op("mov", imm(place), at(LED))]
    return found


@pytest.mark.parametrize("fuel", [100_000, 73])
@pytest.mark.parametrize(
    "places",
    [
        [SHARED, SHARED + 16, SHARED + 8],
        [SHARED, EDGE, TARGETS + 2 * PAGE_BYTES],
        [BESIDE_CELLS, BESIDE_CELLS + 400, BESIDE_CELLS + 16],
        [BESIDE_CELLS, STATIC_EDGE, STATIC_EDGE + 16],
        [BEHIND_EDGE, STATIC_EDGE, BESIDE_CELLS],
        [STATIC_EDGE, STATIC_EDGE + 8, BEHIND_EDGE + 8],
        [PRIVATE, PRIVATE + 16, PRIVATE + 16],
        [PRIVATE, PRIVATE + 8, PRIVATE + 3 * PAGE_BYTES],
        [SHARED, PRIVATE, SHARED + 8],
        [END - 8, SHARED, SHARED + 8],  # an access that is not permitted
        [SHARED, TARGETS - 8, END - 8],
        [LED, BESIDE_CELLS, BESIDE_CELLS + 16],  # one of the loop's own cells
        [BESIDE_CELLS, BESIDE_CELLS + 16, LED],
    ],
)
def test_branches_select_among_places(places: list[int], fuel: int) -> None:
    stored = [place + offset for place in places for offset in (0, 8) if LED not in places]
    stored.append(BEHIND_EDGE)
    behind = [op("mov", at(p), at(TARGETS + 64 + 8 * i)) for i, p in enumerate(stored)]
    before = filled(TARGETS, TARGETS + PAGE_BYTES, 0)
    for first in ([], before):
        cut = selected(places, len(first) + 3)
        changes = {"fuel_max": 5_000}
        given = scene(near(fuel), first, cut, behind, slice_fuel=fuel, changes=changes)
        found, _ = disagreements(given, ENGINES)
        assert not found, "\n".join(found)


@pytest.mark.parametrize("fuel", [*range(60, 75), 7])
def test_slices_end_where_the_interpreter_would_end_them(fuel: int) -> None:
    found, _ = disagreements(scene(near(9), slice_fuel=fuel), ENGINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("odd", "trap"),
    [
        (END, TrapKind.UNDECLARED),
        (END - 8, TrapKind.UNDECLARED),
        (0, TrapKind.UNMAPPED),
        (-8, TrapKind.UNMAPPED),
        (TEXT_START, TrapKind.TEXT_STORE),
    ],
)
@pytest.mark.parametrize("position", [0, 30, ENTRIES - 1])
def test_it_traps_at_the_first_address_that_it_may_not_use(
    odd: int, trap: TrapKind, position: int
) -> None:
    addresses = near(position)
    addresses[position] = odd
    found, expected = disagreements(scene(addresses), ENGINES)
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    assert ended.row["trap"] == trap


@pytest.mark.parametrize("cell", [SUM, COUNT, BEFORE, TABLE, LED, LED - 8])
@pytest.mark.parametrize("positions", [(0,), (30,), (20, 21, 40)])
def test_a_pointer_may_lead_to_the_loops_own_cells(cell: int, positions: tuple[int, ...]) -> None:
    addresses = near(cell)
    for position in positions:
        addresses[position] = cell - 8 if cell == TABLE else cell
    # A pointer that the loop walks by may lead anywhere then, also to nothing that ends.
    found, _ = disagreements(scene(addresses, changes={"fuel_max": 5_000}), ENGINES)
    assert not found, "\n".join(found)
