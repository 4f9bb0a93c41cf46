"""Which accesses of a block one check serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import TYPES
from dvm_mpi.engine.address_space import READ, WRITE
from dvm_mpi.engine.interface import LoadTracking, TrapKind
from dvm_mpi.engine.translation.accesses import SPAN_MAX, in_order
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT
from tests.engine.agreement import chosen, disagreements
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene
from tests.engine.translation.texts import Seen

VALUE, STEP = VALUES[:2]
POINTER = POINTERS[0]
#: Between two pages; before them is one for what was loaded.
EDGE = DATA_START + 2 * PAGE_BYTES
TURNS = 40
#: By width, a type that has it.
TYPE_OF = {kind.width_bytes: kind.name for kind in reversed(TYPES)}
ENGINES = chosen(["reference", "translate", "translate-hard"])


def test_accesses_by_one_pointer_are_checked_together() -> None:
    seen = Seen("""
        .private p, x
        .array  a, sq, 100
        .entry  main
        .text
main:   mov     8(p), x
        mov     x, -16(p)
        mov     24(p):ub, x
        br:l    x, $100, main
        exit:c
""")
    (group,) = in_order(seen.groups("main"))
    assert (group.low, group.high, group.flags) == (-16, 25, READ | WRITE)
    assert group.stores == [(-16, 8)]


def test_a_pointer_that_changes_is_checked_anew() -> None:
    seen = Seen("""
        .private p, x
        .array  a, sq, 100
        .entry  main
        .text
main:   mov     (p), x
        add     p, $8, p
        mov     (p), x
        br:l    x, $100, main
        exit:c
""")
    assert len(in_order(seen.groups("main"))) == 2


def test_what_lies_far_apart_is_checked_apart() -> None:
    seen = Seen(f"""
        .private p, x
        .array  a, sq, 100
        .entry  main
        .text
main:   mov     (p), x
        mov     {SPAN_MAX}(p), x
        br:l    x, $100, main
        exit:c
""")
    assert len(in_order(seen.groups("main"))) == 2


def test_a_pointer_in_shared_memory_is_checked_before_what_it_points_to() -> None:
    seen = Seen("""
        .private x
        .array  a, sq, 100
        .entry  main
        .text
main:   mov     (a), x
        br:l    x, $100, main
        exit:c
""")
    far, group = in_order(seen.groups("main"))
    assert far.pointer is None
    assert far.low == seen.image.arrays["a"].address
    assert group.pointer == (seen.image.arrays["a"].address, 8)


# --- at the end of a page -----------------------------------------------------------------------
def creeping(
    access: Instruction,
    last: int,
    before: Sequence[Instruction] = (),
    granted_pages: int = 3,
    loads: LoadTracking = LoadTracking.NONE,
) -> Scene:
    """Return a program that does `access` by a pointer whose steps grow, up to `last`.

    So it is checked in each turn anew. Of three pages none is there before it is touched.
    """
    return Scene(
        [
            *before,
            op("mov", imm(0), at(STEP)),
            op("mov", imm(last - TURNS * (TURNS + 1) // 2), at(POINTER)),
            access,
            op("add", at(STEP), imm(1), at(STEP)),
            op("add", at(POINTER), at(STEP), at(POINTER)),
            op("br:le", at(POINTER), imm(last), target=len(before) + 2),
            op("mov", at(VALUE), at(DATA_START)),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, granted_pages * PAGE_BYTES, 0),))],
        memory={DATA_START + n: n % 251 + 1 for n in range(3 * PAGE_BYTES)},
        changes={"loads": loads},
        slice_fuel=100_000,
    )


def filled(first: int) -> list[Instruction]:
    """Return a loop that stores to all of a page, so that no more is marked there."""
    return [
        op("mov", imm(first), at(POINTER)),
        op("mov", imm(0x5A), via(POINTER)),
        op("add", at(POINTER), imm(8), at(POINTER)),
        op("br:l", at(POINTER), imm(first + PAGE_BYTES), target=1),
    ]


def agreed(scene: Scene) -> dict[str, Any]:
    """Return what all engines were seen to do."""
    found, seen = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)
    return seen


@pytest.mark.parametrize("width", TYPE_OF)
@pytest.mark.parametrize("loads", LoadTracking, ids=lambda loads: loads.name)
def test_a_load_over_a_pages_end_wants_the_next_page(loads: LoadTracking, width: int) -> None:
    load = op("mov", via(POINTER), at(VALUE), types=TYPE_OF[width])
    for over in range(width):
        seen = agreed(creeping(load, EDGE - width + over, loads=loads))
        assert (EDGE >> PAGE_SHIFT in seen["misses"]) == (over > 0)


@pytest.mark.parametrize("width", TYPE_OF)
@pytest.mark.parametrize(
    "operands",
    [(via(POINTER), at(VALUE)), (at(VALUE), via(POINTER))],
    ids=["load", "store"],
)
def test_an_access_over_the_end_of_what_is_declared_traps(
    operands: tuple[Operand, Operand], width: int
) -> None:
    access = op("mov", *operands, types=TYPE_OF[width])
    for over in range(width):
        (ended,) = agreed(creeping(access, EDGE - width + over, granted_pages=2))["ended"]
        assert (ended.row["trap"] == TrapKind.UNDECLARED) == (over > 0)


@pytest.mark.parametrize("width", TYPE_OF)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param([op("mov", at(EDGE), at(VALUE))], id="only loaded from"),
        pytest.param(
            [*filled(EDGE - PAGE_BYTES), op("mov", imm(7), at(EDGE + 8))], id="alone asks for marks"
        ),
    ],
)
def test_a_store_over_a_pages_end_is_one_to_the_next(
    before: Sequence[Instruction], width: int
) -> None:
    """Whose flags are others: it may not be stored to yet, or stores there are still marked."""
    store = op("mov", imm(-1), via(POINTER), types=TYPE_OF[width])
    for over in range(width):
        (ended,) = agreed(creeping(store, EDGE - width + over, before))["ended"]
        assert ended.stored[EDGE + over - 1] == 0xFF
