"""Small functions are repeated where they are called; cycles are where fuel is checked."""

from __future__ import annotations

from dvm_mpi.engine.translation.paths import Node, Paths
from tests.engine.translation.texts import Seen

CALLS = """
        .private i, x, link, kept
        .entry  main
        .text
main:   bl      $twice, link
        bl      $twice, link
        add     i, $1, i
        br:l    i, $10, main
        exit:c
twice:  add     x, x, x
        {more}
        br:ji   link
"""

RECURSIVE = """
        .private i, x, link
        .entry  main
        .text
main:   bl      $walk, link
        add     i, $1, i
        br:l    i, $10, main
        exit:c
walk:   {first}
        br:l    x, $2, out
deeper: sub     sp, $8, sp
        mov     link, (sp)
        sub     x, $1, x
        bl      $walk, link
back:   mov     (sp), link
        add     sp, $8, sp
out:    br:ji   link
"""


def paths(seen: Seen) -> Paths:
    return Paths(seen.blocks, seen.unit, seen.cells())


def nodes_at(found: Paths, address: int) -> list[Node]:
    return [node for node in found.nodes if node.block.address == address]


def test_a_small_function_is_there_once_for_each_call_and_once_for_others() -> None:
    seen = Seen(CALLS.format(more=""))
    found = paths(seen)
    repeated = [n for n in nodes_at(found, seen.at("twice")) if n.behind is not None]
    assert len(repeated) == 2
    assert len(nodes_at(found, seen.at("twice"))) == 3
    assert {n.successors[0] for n in repeated} == {n.behind for n in repeated}


def test_a_function_that_changes_its_link_is_not_repeated() -> None:
    seen = Seen(CALLS.format(more="mov kept, link"))
    assert len(nodes_at(paths(seen), seen.at("twice"))) == 1


def test_ways_out_of_a_recursion_are_repeated_where_it_calls_itself() -> None:
    seen = Seen(RECURSIVE.format(first="nop"), "walk")
    found = paths(seen)
    # What goes on to a call, and comes back by any link, is there once.
    (deeper,) = nodes_at(found, seen.at("deeper"))
    (back,) = nodes_at(found, seen.at("back"))
    assert deeper.behind is None
    (first,) = deeper.successors
    assert first.behind is back
    assert deeper in first.successors
    (out,) = (node for node in first.successors if node is not deeper)
    assert out.successors == [back]
    (own,) = (n for n in nodes_at(found, seen.at("out")) if n.behind is None)
    assert not own.successors


def test_no_loop_is_repeated_before_a_call() -> None:
    seen = Seen(RECURSIVE.format(first="add i, $1, i\n br:l i, $5, walk"), "walk")
    assert len(nodes_at(paths(seen), seen.at("walk"))) == 1


def test_fuel_is_checked_on_every_cycle_and_is_enough_for_the_way_to_the_next_check() -> None:
    seen = Seen(CALLS.format(more=""))
    found = paths(seen)
    for node in found.nodes:
        behind = [s.fuel for s in node.successors if not s.is_cut]
        assert node.fuel == len(node.block.instructions) + max(behind, default=0)
    (start,) = nodes_at(found, seen.at("main"))
    assert start.is_cut
    # Both calls with the function, the addition and the branch.
    assert start.fuel == 2 * 3 + 2
