"""What is translated together, and where control may come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.engine.translation.units import (
    LOOP_INSTRUCTIONS_MAX,
    UNIT_INSTRUCTIONS_MAX,
    components,
)
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import chosen, disagreements
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import VALUES, Scene
from tests.engine.translation.texts import Seen
from tests.properties import tried

NESTED = """
        .private i, j, link
        .entry  main
        .text
main:   mov     $0, i
outer:  mov     $0, j
inner:  bl      $step, link
        add     j, $1, j
        br:l    j, $10, inner
        add     i, $1, i
        br:l    i, $10, outer
        exit:c
step:   add     i, $0, i
        br:ji   link
"""


def test_a_unit_is_the_outermost_loop_with_the_functions_that_it_calls() -> None:
    seen = Seen(NESTED, "inner")
    assert min(seen.unit.addresses) == seen.at("outer")
    assert {seen.at("inner"), seen.at("step")} <= set(seen.unit.addresses)
    assert seen.at("main") not in seen.unit.addresses
    assert all(seen.instruction(a).mnemonic != "exit" for a in seen.unit.addresses)


def test_a_function_without_a_loop_goes_with_the_loop_that_calls_it() -> None:
    assert Seen(NESTED, "step").unit == Seen(NESTED, "outer").unit


def test_control_comes_in_at_loops_calls_and_behind_calls() -> None:
    seen = Seen(NESTED, "inner")
    behind = seen.behind("inner")
    assert {seen.at("outer"), seen.at("inner"), seen.at("step"), behind} <= set(seen.unit.entries)
    assert behind in seen.unit.landings


def test_where_functions_begin_is_where_control_comes_in_but_no_return_leads() -> None:
    seen = Seen(RECURSIVE, "walk")
    assert seen.at("walk") in seen.unit.entries
    assert seen.at("walk") not in seen.unit.landings


RECURSIVE = """
        .private i, return, link
        .entry  main
        .text
main:   bl      $walk, link
        bl      $even, link
        add     i, $1, i
        br:l    i, $10, main
        exit:c
walk:   sub     i, $1, i
again:  bl      $walk, return
        br:nz   i, again
        br:ji   return
even:   bl      $odd, return
        br:ji   return
odd:    bl      $even, return
        br:ji   return
"""


def test_a_function_that_calls_itself_is_a_unit_of_its_own() -> None:
    """Nor do its callers take it in; and a loop in it takes all of it."""
    callers = Seen(RECURSIVE, "main")
    assert not {callers.at("walk"), callers.at("even"), callers.at("odd")} & set(
        callers.unit.addresses
    )
    walk = Seen(RECURSIVE, "walk").unit
    assert Seen(RECURSIVE, "again").unit == walk
    assert set(walk.addresses) == {a for a in callers.code.instructions
                                   if callers.at("walk") <= a < callers.at("even")}  # fmt: skip


def test_functions_that_call_each_other_stay_together() -> None:
    even, odd = Seen(RECURSIVE, "even"), Seen(RECURSIVE, "odd")
    assert even.unit == odd.unit
    assert {even.at("even"), even.at("odd")} <= set(even.unit.addresses)
    assert even.at("main") not in even.unit.addresses


def test_every_instruction_is_in_some_unit() -> None:
    seen = Seen(NESTED)
    covered = {a for unit in seen.chooser.all() for a in unit.addresses}
    assert covered == set(seen.code.instructions)


def test_behind_what_the_interpreter_executes_control_comes_in() -> None:
    seen = Seen("""
        .private i
        .entry  main
        .text
main:   mov     $2, syscall_number
        int     0x80
behind: add     i, $1, i
        br:l    i, $10, main
        exit:c
""")
    assert seen.at("behind") in seen.unit.entries


def test_a_nest_that_is_too_large_is_translated_from_the_inside() -> None:
    filling = "filled: add     i, $1, k\n" + "        add     i, $1, k\n" * 1_200
    seen = Seen(
        f"""
        .private i, j, k
        .entry  main
        .text
main:   mov     $0, j
inner:  add     j, $1, j
        br:l    j, $10, inner
{filling}
        add     i, $1, i
        br:l    i, $10, main
        exit:c
""",
        "inner",
    )
    assert set(seen.unit.addresses) == {
        seen.at("inner"), seen.behind("inner"),
    }  # fmt: skip
    around = seen.chooser.around(seen.at("filled"))
    assert around is not None
    assert len(around.addresses) == UNIT_INSTRUCTIONS_MAX


def looping(count: int, instruction: str = "add     i, $1, k") -> str:
    """Return a program with a loop of so many instructions; `amid` is one of them."""
    filling = f"        {instruction}\n" * (count // 2 - 1)
    return f"""
        .private i, k
        .entry  main
        .text
main:   mov     $0, i
again:  add     i, $1, i
{filling}
amid:   add     i, $1, k
{filling}
below:  br:l    i, $10, again
        exit:c
"""


@tried(200)
@given(
    st.integers(1, 9).flatmap(
        lambda size: st.lists(
            st.sets(st.integers(0, size - 1), max_size=3), min_size=size, max_size=size
        )
    )
)
def test_components_are_those_that_lead_to_each_other(edges: list[set[int]]) -> None:
    reached = [{node} for node in range(len(edges))]
    for _ in edges:
        for within in reached:
            within.update(*(edges[other] for other in tuple(within)))
    expected = {
        frozenset(other for other in within if node in reached[other])
        for node, within in enumerate(reached)
    }
    on_cycles = {one for one in expected if len(one) > 1 or edges[min(one)] & one}
    found = [frozenset(one) for one in components(dict(enumerate(edges)))]
    assert len(found) == len(set(found))
    assert set(found) == on_cycles


def test_pieces_of_a_large_nest_hold_loops_as_a_whole() -> None:
    loops = "".join(
        f"inner{k}: add j, $1, j\n"
        + "        add     i, $1, k\n" * 38
        + f"        br:l    j, $10, inner{k}\n"
        for k in range(60)
    )
    seen = Seen(
        f"""
        .private i, j, k
        .entry  main
        .text
main:   add     i, $1, i
{loops}
        br:l    i, $10, main
        exit:c
""",
        "inner0",
    )
    units = [set(unit.addresses) for unit in seen.chooser.all()]
    for k in range(60):
        inner = seen.chooser.around(seen.at(f"inner{k}"))
        assert inner is not None
        loop = set(inner.addresses)
        assert len(loop) == 40
        assert all(loop <= unit or not loop & unit for unit in units)


def test_a_large_loop_takes_the_functions_along_that_it_calls() -> None:
    text = looping(1_500, "bl      $step, link")
    text = (
        text.replace(".private i, k", ".private i, k, link")
        + "step:   add     k, $1, k\n        br:ji   link\n"
    )
    seen = Seen(text, "amid")
    assert {seen.at("again"), seen.at("step")} <= set(seen.unit.addresses)
    assert seen.chooser.around(seen.at("step")) == seen.unit


def test_a_loop_without_another_in_it_may_be_larger() -> None:
    seen = Seen(looping(1_500), "amid")
    assert len(seen.unit.addresses) == 1_501
    assert min(seen.unit.addresses) == seen.at("again")
    assert seen.chooser.around(seen.at("again")) == seen.unit
    units = seen.chooser.all()
    assert seen.unit in units
    # Not as a part of another one as well, that might be entered in its place.
    assert sum(len(unit.addresses) for unit in units) == len(seen.code.instructions)


@pytest.mark.parametrize(
    "text",
    [
        looping(LOOP_INSTRUCTIONS_MAX),
        looping(1_500, "br:z    k, below"),
    ],
    ids=["instructions", "branches"],
)
def test_a_loop_that_is_larger_than_that_is_translated_in_pieces(text: str) -> None:
    assert len(Seen(text, "amid").unit.addresses) == UNIT_INSTRUCTIONS_MAX


@pytest.mark.parametrize("slice_fuel", [700, 100_000])
def test_a_large_loop_does_what_its_instructions_do(slice_fuel: int) -> None:
    """It stores to two pages, and traps in the midst of a round where these end."""
    pointer, value, mixed = VALUES[:3]
    body = []
    for number in range(400):
        body += [
            op("add", at(value), imm(number), at(value)),
            op("xor", at(value), at(pointer), at(mixed)),
            op("mov", at(mixed), via(pointer)),
        ]
        if number % 100 == 99:
            body.append(op("add", at(pointer), imm(72), at(pointer)))
    end = DATA_START + 4 * PAGE_BYTES
    scene = Scene(
        [
            op("mov", imm(DATA_START), at(pointer)),
            *body,
            op("br:l", at(pointer), imm(end), target=1),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, 2 * PAGE_BYTES, 0),))],
        slice_fuel=slice_fuel,
    )
    found, expected = disagreements(scene, chosen(["reference", "translate", "translate-hard"]))
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    assert ended.row["trap"] == TrapKind.UNDECLARED
