"""Bounds of pointers that are computed anew each time."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.translation.bounds import bounds_of
from dvm_mpi.engine.translation.hammocks import body_of
from dvm_mpi.engine.translation.loops import loop_of
from dvm_mpi.layout import SR_END
from tests.engine.translation.texts import Seen

LOOP = """
        .private p, x, y, n
        .array  a, sq, 1000
        .entry  main
        .text
main:   mov     (n), x
        {computed}
        add     (p), $1, 16(p)
        add     n, $8, n
        br:l    n, $a + 8000, main
        exit:c
"""


def bounds(computed: str) -> tuple[int, int] | None:
    """Return the bounds of `p` less `a`, of what is computed from an `x` that is not known."""
    seen = Seen(LOOP.format(computed=computed.replace(";", "\n")))
    body = body_of(seen.blocks, seen.block("main"))
    assert body is not None
    groups = seen.groups_of(body.instructions)
    loop = loop_of(body, seen.cells(), groups)
    assert loop is not None
    (group,) = [one for one in loop.roaming if one.pointer == seen.place("p")]
    assert (group.low, group.high) == (0, 24)
    found = bounds_of(loop, groups, seen.cells()).get(group)
    return None if found is None else (found[0] - seen.at("a"), found[1] - seen.at("a"))


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        ("shr:uq x, $54, y; shl y, $3, y; add y, $a, p", (0, 8 * 1023)),
        ("shr:uq x, $64 + 54, y; shl y, $3, y; add y, $a, p", (0, 8 * 1023)),
        ("and x, $0xFF8, y; add $a, y, p", (0, 0xFF8)),
        ("and $-8, x, y; and y, $0xFFF, y; add y, $a, p", (0, 0xFFF)),
        ("mod:uq x, $1000, y; mul y, $8, y; add y, $a, p", (0, 7992)),
        ("and x, $255, y; mod y, $100, y; add y, $a, p", (0, 99)),
        ("and x, $255, y; or y, $256, y; add y, $a, p", (0, 511)),
        ("and x, $255, y; xor y, $7, y; add y, $a, p", (0, 255)),
        ("and x, $255, y; shr y, $4, y; add y, $a, p", (0, 15)),
        ("and x, $255, y; add y, $a + 99, y; sub y, $99, p", (0, 255)),
        ("mov (n):ub, y; add y, $a, p", (0, 255)),
        ("mov (n):uw, y; mul y, $4, y; add y, $a, p", (0, 4 * 65535)),
        ("and x, $255, y; shl y, $56, y; shr:uq y, $56, y; add y, $a, p", (0, 255)),
    ],
)
def test_what_is_cut_to_a_size_has_bounds(computed: str, expected: tuple[int, int]) -> None:
    assert bounds(computed) == expected


@pytest.mark.parametrize(
    "computed",
    [
        "add x, $a, p",
        "and x, $-8, y; add y, $a, p",
        "mod x, $1000, y; add y, $a, p",  # of a negative number it is negative
        "shr x, $54, y; add y, $a, p",  # likewise
        "shr:uq x, y, y; add y, $a, p",
        "and x, $255, y; sub y, $1, y; add y, $a, p",  # may wrap
        "and x, $255, y; add y, $-1, y; add y, $a, p",
        "and x, $255, y; shl y, $56, y; shr:uq y, $34, y; add y, $a, p",  # further than is looked
        "mov (n):sb, y; add y, $a, p",
        "mov (n):ud, y; add y, $a, p",  # further than is looked
        "and x, $255, y; mov (y), y; add y, $a, p",
        f"and x, $255, y; add y, ${SR_END - 255}, p",
        "shr:uq x, $0, y; add y, $a, p",
    ],
)
def test_nothing_else_has(computed: str) -> None:
    assert bounds(computed) is None


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        ("mov $a + 80, p; br:l x, y, .b; mov $a, p; .b:", (0, 80)),
        ("mov $a + 80, p; br:l x, y, .b; mov $a, p; .b: add p, $8, p", (8, 88)),
        (
            "mov $a, p; br:l x, y, .b; mov $a + 8, p; .b: br:l x, $5, .c; mov $a + 40, p; .c:",
            (0, 40),
        ),
        ("br:l x, y, .b; mov $a + 8, p; br:j .c; .b: mov $a + 16, p; .c:", (8, 16)),
        ("and x, $8, y; br:l x, $5, .b; and x, $63, y; .b: add y, $a, p", (0, 63)),
        ("mov $a, p; mov x, y; br:l x, $5, .b; mov $5, y; .b: and y, $7, y; add y, $a, p", (0, 7)),
        ("br:l x, y, .b; mov x, p; br:l x, $5, .b; .b: mov $a + 24, p", (24, 24)),
    ],
)
def test_branches_select_among_what_has_bounds(computed: str, expected: tuple[int, int]) -> None:
    assert bounds(computed) == expected


@pytest.mark.parametrize(
    "computed",
    [
        "br:l x, y, .b; mov $a, p; .b:",  # one way is that of the iteration before
        "mov $a, p; br:l x, y, .b; add x, $a, p; .b:",
        "mov x, p; br:l x, y, .b; mov $a, p; .b:",
        "mov $a, p; br:l x, $5, .b; mov x, p; br:l x, y, .b; mov $a, p; .b:",
        f"mov $a, p; br:l x, y, .b; mov ${SR_END - 23}, p; .b:",
        "mov $a, p; br:l x, y, .b; mov $0x100000000, p; .b:",  # further than is looked
        "br:l x, y, .b; mov x, p; br:j .c; .b: mov $a + 16, p; .c:",
    ],
)
def test_one_way_without_bounds_leaves_it_without(computed: str) -> None:
    assert bounds(computed) is None
