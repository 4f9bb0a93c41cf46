"""Which accesses of a block one check serves."""

from __future__ import annotations

from dvm_mpi.engine.address_space import READ, WRITE
from dvm_mpi.engine.translation.accesses import SPAN_MAX, in_order
from tests.engine.translation.texts import Seen


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
