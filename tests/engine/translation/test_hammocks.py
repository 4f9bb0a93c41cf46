"""What one iteration of a loop consists of, and what of it branches may skip."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.translation.hammocks import Body, body_of, is_pure
from dvm_mpi.engine.translation.loops import loop_of
from tests.engine.translation.texts import Seen

#: Each of these is the middle of a loop over `p` that counts in `n`.
PROGRAM = """
        .private p, n, x, y, link
        .private least:8
        .array  a, fd, 1000
        .entry  main
        .text
main:   mov     (p), x
        {middle}
.latch: add     p, $8, p
        add     n, $1, n
        br:l    n, $100, main
.end:   add     y, $1, y
        br:l    y, $100, main
        exit:c
far:    br:ji   link
"""
SKIP = """
        br:le   y, x, .over
        mov     x, y
        add     x, $1, x
.over:
"""
EITHER = """
        br:z    x, .other
        add     y, $1, y
        br:j    .over
.other: sub     y, $2, y
        xor     y, x, y
        shl     y, $1, y
.over:
"""


def seen(middle: str) -> Seen:
    return Seen(PROGRAM.format(middle=middle))


def body(of: Seen) -> Body | None:
    return body_of(of.blocks, of.block("main"))


def names(found: Body, positions: frozenset[int]) -> list[str]:
    return [found.instructions[position].mnemonic for position in sorted(positions)]


def test_what_a_branch_goes_around_is_conditional() -> None:
    found = body(seen(SKIP))
    assert found is not None
    assert found.always == (True, False, True)
    assert names(found, found.conditional) == ["mov", "add"]
    assert (found.least, found.most) == (5, 7)


def test_of_two_ways_neither_is_always_taken_and_the_longer_one_counts() -> None:
    found = body(seen(EITHER))
    assert found is not None
    assert found.always == (True, False, False, True)
    assert names(found, found.conditional) == ["add", "br", "sub", "xor", "shl"]
    assert (found.least, found.most) == (5, 8)


def test_ways_that_cross_are_conditional_until_all_have_met() -> None:
    found = body(seen("br:z x, .two\nbr:z y, .three\n.two: add y, $1, y\n.three: add x, $1, x"))
    assert found is not None
    assert found.always == (True, False, False, True)
    assert (found.least, found.most) == (6, 8)


def test_the_first_branch_back_ends_a_body() -> None:
    found = body(seen("br:e x, $7, main"))
    assert found is not None
    assert len(found.blocks) == 1


@pytest.mark.parametrize(
    "middle",
    [
        "br:e x, $7, .end",  # another way out
        ".again: sub x, $1, x\nbr:nz x, .again",  # a loop within
        "bl $far, link",
        "br:ji link",
        "br:z x, .latch\ndiv x, n, x",  # it may trap
        "br:z x, .latch\nint 0x80",
    ],
)
def test_a_body_has_one_way_in_and_out_and_nothing_that_may_be_left(middle: str) -> None:
    assert body(seen(middle)) is None


@pytest.mark.parametrize(
    ("conditional", "expected"),
    [
        ("add x, $1, x", True),
        ("mov $5, y", True),
        ("add:fd least, $1, least", True),
        ("div x, $3, x", True),
        ("add x, (p), x", False),
        ("mov x, 8(p)", False),
        ("mov a, x", False),
        ("mov x, a", False),
        ("mov least + 4:sd, x", False),  # a part of a cell, which thereby is in no register
    ],
)
def test_what_may_be_skipped_computes_with_cells_in_registers(
    conditional: str, expected: bool
) -> None:
    middle = f"add:fd least, least, least\nbr:z y, .latch\n{conditional}"
    program = seen(middle)
    found = body(program)
    assert found is not None
    assert is_pure(found, program.cells()) is expected


@pytest.mark.parametrize(
    ("conditional", "has_window"),
    [("add x, $1, x", True), ("mov x, 8(p)", False), ("mov 8(p), x", False)],
)
def test_no_window_where_a_branch_goes_around_an_access(conditional: str, has_window: bool) -> None:
    program = seen(f"br:z y, .latch\n{conditional}")
    found = body(program)
    assert found is not None
    loop = loop_of(found, program.cells(), program.groups_of(found.instructions))
    assert (loop is not None) is has_window


def test_a_pointer_that_moves_at_times_is_checked_each_time() -> None:
    program = seen("br:z y, .latch\nadd p, $8, p")
    found = body(program)
    assert found is not None
    loop = loop_of(found, program.cells(), program.groups_of(found.instructions))
    assert loop is not None
    assert [group.pointer for group in loop.roaming] == [program.place("p")]


def test_what_is_counted_at_times_is_no_even_step() -> None:
    program = seen("br:z y, .latch\nadd n, $1, n")
    found = body(program)
    assert found is not None
    loop = loop_of(found, program.cells(), program.groups_of(found.instructions))
    assert loop is not None
    assert loop.steps == {program.place("p"): 8}
    assert loop.condition is None
