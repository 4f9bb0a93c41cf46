"""What is known of loops that may run many times without a check."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.translation import loops
from dvm_mpi.engine.translation.hammocks import body_of
from dvm_mpi.engine.translation.loops import Condition, Loop, is_large, loop_of, with_loops
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


#: A loop whose second pointer comes from memory.
ROAMING = """
        .private p, q, n, x
        .array  a, sq, 1000
        .entry  main
        .text
main:   {first}
        mov     (p), q
        add     (q), x, (q)
        mov     n, 8(q)
        add     p, $8, p
        add     n, $1, n
        {branch}
        exit:c
"""


def roaming(first: str = "nop", branch: str = "br:l n, $100, main") -> Loop | None:
    seen = Seen(ROAMING.format(first=first, branch=branch))
    body = body_of(seen.blocks, seen.block("main"))
    assert body is not None
    found = loop_of(body, seen.cells(), seen.groups("main"))
    if found is not None:
        assert [group.pointer for group in found.roaming] == [seen.place("q")]
        assert found.uneven == (seen.place("q"),)
    return found


def test_what_a_pointer_that_moves_unevenly_leads_to_is_checked_each_time() -> None:
    found = roaming()
    assert found is not None
    (group,) = found.roaming
    assert (group.low, group.high, sorted(set(group.stores))) == (0, 16, [(0, 8), (8, 8)])


@pytest.mark.parametrize("store", ["mov n, 800(p)", "mov n, a", "add a, n, a"])
def test_no_window_where_such_a_check_comes_behind_a_store(store: str) -> None:
    """The iteration could not be undone."""
    assert roaming(first=store) is None


def test_no_window_with_such_checks_where_nobody_knows_how_long_it_is() -> None:
    assert roaming(branch="br:l x, $100, main") is None


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


# --- large loops --------------------------------------------------------------------------------
BRANCHING = """
        .private n, x, y
        .entry  main
        .text
main:   {before}
again:  add     x, n, y
        br:l    y, $7, over
        add     y, $1, x
over:   add     n, $1, n
        br:l    n, $100, again
behind: {after}
        exit:c
"""


def joined(before: str = "mov $0, n", after: str = "mov n, x") -> tuple[Seen, list[str]]:
    """Return a program, and the labels of the blocks that are left when its loop is one of them."""
    seen = Seen(BRANCHING.format(before=before, after=after), "again")
    body = body_of(seen.blocks, seen.block("again"))
    assert body is not None
    found = with_loops(seen.blocks, seen.unit.entries, [body])
    names = {address: name for name, address in seen.image.symbols.items()}
    return seen, [names.get(address, "") for address in found]


def test_a_loop_that_is_one_block_leads_behind_itself_only() -> None:
    seen, names = joined()
    assert names == ["again"]
    body = body_of(seen.blocks, seen.block("again"))
    assert body is not None
    block = with_loops(seen.blocks, seen.unit.entries, [body])[seen.at("again")]
    assert block.is_loop
    assert block.instructions == body.instructions
    assert block.successors == (seen.at("behind"),)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mov $over, y", "mov n, x"),  # who knows who jumps there
        ("mov $0, n", "br:l x, $900, over"),
    ],
)
def test_a_loop_that_is_entered_in_its_midst_stays_as_it_is(before: str, after: str) -> None:
    _, names = joined(before, after)
    assert "over" in names


def test_a_loop_is_large_by_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = loop("br:l n, $100, main")
    assert found is not None
    monkeypatch.setattr(loops, "LARGE_BODY", len(found.body.instructions))
    assert is_large(found)
    monkeypatch.setattr(loops, "LARGE_BODY", len(found.body.instructions) + 1)
    assert not is_large(found)
