"""Which private cells live in registers, and which may hold a NaN that is not canonical."""

from __future__ import annotations

from dvm_mpi.engine.translation.cells import Cell, stretches_of
from tests.engine.translation.texts import Seen


def test_cells_that_are_named_are_promoted_and_numbers_are_floats() -> None:
    seen = Seen("""
        .private i, sum
        .array  a, fd, 100
        .entry  main
        .text
main:   add:fd  sum, (i), sum
        add     i, $8, i
        br:l    i, $a + 800, main
        mov     sum:fd, a:fd
        exit:c
""")
    cells = seen.cells()
    assert cells.keys() == {seen.place("i"), seen.place("sum")}
    assert not cells[seen.place("i")].is_float
    assert cells[seen.place("sum")].is_float
    assert cells[seen.place("sum")].is_lazy


def test_what_overlaps_another_named_cell_stays_in_memory() -> None:
    seen = Seen("""
        .private i
        .entry  main
        .text
main:   add     i, $1, i
        mov     i + 1:ub, i + 1:ub
        br:l    i, $100, main
        exit:c
""")
    assert not seen.cells()


def test_what_a_constant_points_at_stays_in_memory() -> None:
    seen = Seen("""
        .private i, p, x
        .entry  main
        .text
main:   mov     $x, p
        add     (p), $1, (p)
        add     x, $1, i
        br:l    i, $100, main
        exit:c
""")
    assert seen.place("x") not in seen.cells()
    assert seen.place("i") in seen.cells()


POINTERS = """
        .private p, q, x, y
        .entry  main
        .text
main:   mov     $x, p
        add     p, $0, q
        add     {reach}, $1, {reach}
        add     y, $1, y
        br:l    y, $100, main
        exit:c
"""


def test_a_constant_leads_where_pointers_that_took_it_reach() -> None:
    """`y` lies eight bytes behind `x`, to which `p` points, and `q`, which has it from `p`."""
    for reach in ("8(p)", "8(q)"):
        seen = Seen(POINTERS.format(reach=reach))
        assert seen.at("y") == seen.at("x") + 8
        assert seen.place("y") not in seen.cells(), reach


def test_and_not_where_only_other_pointers_reach() -> None:
    seen = Seen(POINTERS.format(reach="8(x)"))
    assert {seen.place("x"), seen.place("y")} <= seen.cells().keys()


MOVED = """
        .private p, x, least
        .array  a, fd, 100
        .entry  main
        .text
main:   mov     (p):fd, least:fd
        add     p, $8, p
        mul:fd  x, x, x
        br:le:fd least, x, main
        mov     x:fd, least:fd
        br:l    p, $a + 800, main
        mov     least:fd, a:fd
        exit:c
"""


def test_a_cell_that_lazy_cells_are_moved_to_is_lazy() -> None:
    seen = Seen(MOVED)
    cells = seen.cells()
    assert cells[seen.place("x")].is_lazy
    assert cells[seen.place("least")].is_lazy


def test_where_nothing_may_be_left_a_cell_that_takes_bits_is_exact() -> None:
    seen = Seen(MOVED)
    cells = seen.cells(windows=(seen.at("main"),))
    assert cells[seen.place("x")].is_lazy
    assert not cells[seen.place("least")].is_lazy


def test_negating_makes_bits_of_its_own() -> None:
    """A canonical NaN that was negated is another NaN."""
    seen = Seen("""
        .private x, y
        .array  a, fd, 100
        .entry  main
        .text
main:   neg:fd  x, y
        add:fd  x, y, x
        br:l:fd x, $100.0, main
        mov     y:fd, a:fd
        exit:c
""")
    cells = seen.cells()
    assert cells[seen.place("x")].is_lazy
    assert not cells[seen.place("y")].is_lazy


def test_stretches_are_few_and_hold_every_cell() -> None:
    cells = [Cell(1000 * n, 8, False, False, False) for n in range(1, 40)]
    cells.append(Cell(1008, 8, False, False, False))
    stretches = stretches_of(cells)
    assert len(stretches) <= 6
    assert all(
        any(a <= c.address and c.address + c.width <= b for a, b in stretches) for c in cells
    )
