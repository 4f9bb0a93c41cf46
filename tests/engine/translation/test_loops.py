"""What is known of loops that may run many times without a check."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.translation.hammocks import body_of
from dvm_mpi.engine.translation.loops import Condition, Loop, loop_of
from tests.engine.translation.texts import Seen

LOOP = """
        .private p, q, n, x
        .array  a, sq, 1000
        .entry  main
        .text
main:   mov     (p), x
        add     p, $8, p
        mov     x, 16(p)
        sub     q, $4, q
        add     n, $1, n
        {branch}
        exit:c
"""


def loop(branch: str) -> tuple[Seen, Loop | None]:
    seen = Seen(LOOP.format(branch=branch))
    body = body_of(seen.blocks, seen.block("main"))
    assert body is not None
    return seen, loop_of(body, seen.cells(), seen.groups("main"))


def test_streams_move_by_what_is_added_to_their_pointers() -> None:
    seen, found = loop("br:l n, $100, main")
    assert found is not None
    assert found.steps == {seen.place("p"): 8, seen.place("q"): -4, seen.place("n"): 1}
    assert [(s.step, s.offset, s.group.low) for s in found.streams] == [(8, 0, 0), (8, 8, 16)]


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("br:l n, $100, main", ("n", 1, 1, 1, True, False, False)),
        ("br:le:uq n, x, main", None),  # x moves unevenly
        ("br:ge q, $100, main", ("q", -4, -4, 0, True, True, False)),
        ("br:l q, $100, main", None),  # it moves away from its bound
        ("br:ne n, $100, main", ("n", 1, 1, 1, False, False, True)),
        ("br:nz n, main", ("n", 1, 1, 1, False, False, True)),
        ("br:l:uq n, $100, main", ("n", 1, 1, 1, False, False, False)),
        ("br:l p, q, main", None),  # both move
    ],
)
def test_conditions_that_approach_a_bound_evenly_are_counted(
    branch: str, expected: tuple[str, int, int, int, bool, bool, bool] | None
) -> None:
    seen, found = loop(branch)
    assert found is not None
    if expected is None:
        assert found.condition is None
    else:
        name, step, offset, bound, is_signed, equal_goes_on, until_equal = expected
        assert found.condition == Condition(
            seen.place(name), step, offset, bound, is_signed, equal_goes_on, until_equal
        )


def test_a_pointer_that_moves_unevenly_allows_no_window() -> None:
    seen = Seen("""
        .private p, n
        .array  a, sq, 1000
        .entry  main
        .text
main:   mov     (p), p
        add     n, $1, n
        br:l    n, $100, main
        exit:c
""")
    body = body_of(seen.blocks, seen.block("main"))
    assert body is not None
    assert loop_of(body, seen.cells(), seen.groups("main")) is None


def test_a_division_that_may_trap_makes_no_candidate() -> None:
    seen = Seen("""
        .private n, x
        .entry  main
        .text
main:   div     x, n, x
        add     n, $1, n
        br:l    n, $100, main
        exit:c
""")
    assert body_of(seen.blocks, seen.block("main")) is None
