"""What is translated together, and where control may come in."""

from __future__ import annotations

from tests.engine.translation.texts import Seen

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


def test_a_loop_that_is_too_large_is_translated_from_the_inside() -> None:
    filling = "        add     i, $1, k\n" * 1_200
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
