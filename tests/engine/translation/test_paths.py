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
