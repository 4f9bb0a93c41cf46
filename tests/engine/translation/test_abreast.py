"""Rounds of a loop around a loop that are done some at a time."""

from __future__ import annotations

from typing import Any

import pytest

from dvm_mpi.engine.translation.abreast import ABREAST, differing_cells, rows_of
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.loops import loop_of
from dvm_mpi.engine.translation.nests import nest_of
from dvm_mpi.engine.translation.rounds import Rounds
from tests.engine.agreement import chosen, disagreements
from tests.engine.random_programs import Scene
from tests.engine.row_products import FACTORS, MATRIX, product
from tests.engine.translation.texts import Seen

ENGINES = chosen(["reference", "translate-hard"])

NEST = """
        .private p, q, r, row, n, k, value, product, sum, far
        .array  a, fd, 1000
        .entry  main
        .text
main:   mov     (p):fd, value:fd
        mov     row, r
        mov     $0, n
        {before}
inner:  {turn}
        add     q, $8, q
        add     r, $8, r
        add     n, $1, n
        br:l    n, $20, inner
latch:  add     p, $8, p
        {behind}
        add     k, $1, k
        br:l    k, $10, main
        exit:c
"""
USUAL = {
    "before": "",
    "turn": "mul:fd value, (q), product\nadd:fd (r), product, (r)",
    "behind": "",
}


def rows(**parts: str) -> tuple[Seen, list[Any], list[Any]]:
    """Return the pointers of the rows of a nest, and the cells that differ between rounds."""
    seen = Seen(NEST.format(**(USUAL | parts)))
    cells = seen.cells()
    inner = loop_of(Body((seen.block("inner"),)), cells, seen.groups("inner"))
    assert inner is not None
    groups = {seen.at(label): seen.groups(label) for label in ("main", "inner", "latch")}
    nest = nest_of(seen.blocks, inner, groups, cells)
    assert nest is not None
    found = [one.stream.group.pointer for one in rows_of(nest, groups, cells)]
    return seen, found, list(differing_cells(nest, cells))


def test_rounds_that_add_to_one_row_may_be_abreast() -> None:
    seen, found, differing = rows()
    assert found == [seen.place("r")]
    assert differing == [seen.place("value")]


@pytest.mark.parametrize(
    "turn",
    [
        "add:fd (r), (q), (r)\nmul:fd (r), value, (r)",
        "mov (r):fd, product:fd\nmul:fd product, value, product\nmov product:fd, (r):fd",
        "add (r), n, (r)",
        "add:fs (r), $1.5, (r)",
    ],
)
def test_also_where_a_turn_does_more_to_its_element(turn: str) -> None:
    seen, found, _ = rows(turn=turn)
    assert found == [seen.place("r")]


@pytest.mark.parametrize(
    "parts",
    [
        {"turn": "mul:fd value, (q), product\nadd:fd (r), product, 8(r)"},  # two places
        {"turn": "add:fd (r), 8(r), (r)"},  # the next turn stores what this one loads
        {"turn": "add:fd (q), value, (q)"},  # another row in each round
        {"turn": "mul:fd value, (q), (r)"},  # nothing is loaded: nothing is saved
        {"turn": "add:fd (r), (q), (r)\nadd:fd sum, (r), sum"},  # in the order of the sum
        {"turn": "add:fd (r), product, (r)\nmul:fd value, (q), product"},  # of the turn before
        {"behind": "mov product:fd, sum:fd"},  # what the last turn left
        {"behind": "mov value:fd, 80(p):fd"},  # stores between
        {"turn": "add:fd (r), a, (r)", "behind": "mov $1.0:fd, a:fd"},
        {"turn": "\n".join(["add:fd (r), value, (r)"] * 14)},  # too long for copies
        {"turn": ""},
    ],
)  # fmt: skip
def test_rounds_with_an_order_are_not(parts: dict[str, str]) -> None:
    _, found, _ = rows(**parts)
    assert not found


# --- what they do -----------------------------------------------------------------------------
def agree(scene: Scene) -> None:
    found, _ = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rounds", [*range(1, 2 * ABREAST + 2), 5 * ABREAST - 1])
def test_any_number_of_rounds(rounds: int) -> None:
    agree(product(rounds))


def test_a_turn_that_uses_what_the_one_before_computed() -> None:
    agree(product(is_late=True))


@pytest.mark.parametrize("types", ["fd", "fs", "sq", "ud", "sb"])
def test_elements_of_any_type(types: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Rounds] = []
    build = Rounds._build_abreast

    def noted(given: Rounds, *rest: Any) -> None:
        built.append(given)
        build(given, *rest)

    monkeypatch.setattr(Rounds, "_build_abreast", noted)
    for mnemonic in ("add", "mul", "max"):
        agree(product(types=types, mnemonic=mnemonic, turns=40))
        built.clear()
        agree(product(types=types, mnemonic=mnemonic, is_sum=True))
        assert built, "the rows themselves may be added abreast, whatever they are made of"


@pytest.mark.parametrize("turns", [1, 2, 9, 64])
def test_any_number_of_turns(turns: int) -> None:
    agree(product(turns=turns, start=3))


@pytest.mark.parametrize(
    "start",
    [
        FACTORS, FACTORS + 8, FACTORS - 8 + 8 * ABREAST, FACTORS + 40,  # among the factors
        FACTORS + 72, FACTORS + 8 * 9 - 1,  # at their end
        MATRIX, MATRIX + 8, MATRIX - 8 * 18, MATRIX - 8 * 19,  # in the first row, or before it
        *(MATRIX + 8 * 19 * later for later in range(2, 10)),  # in one that is multiplied later
        MATRIX + 8 * 19 * 9 - 8, MATRIX + 8 * 19 * 9 - 3,
    ],
)  # fmt: skip
def test_a_row_that_others_meet(start: int) -> None:
    agree(product(start=start))


@pytest.mark.parametrize("step", [1, 4, 7, 8, 16, 0])
def test_elements_that_lie_apart_or_meet(step: int) -> None:
    agree(product(step=step, turns=30))


@pytest.mark.parametrize("fuel", [61, 230, 505, 506, 700, 1_001])
def test_slices_end_among_rounds_abreast(fuel: int) -> None:
    agree(product(5 * ABREAST, slice_fuel=fuel))
