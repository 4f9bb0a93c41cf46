"""Hand-made histories: each anomaly is found and told, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dvm_mpi.sim.checker.check import check
from dvm_mpi.sim.checker.observation import Level, Observations
from tests.sim.checker.histories import history, is_possible, name_of

SNAPSHOT, SERIALIZABLE = Level.SNAPSHOT, Level.SERIALIZABLE


@dataclass(frozen=True, slots=True)
class Bad:
    """A history that must be refused, with what is said of it."""

    name: str
    run: Observations
    told: tuple[str, ...]
    level: Level = SNAPSHOT
    order: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Good:
    """A history that must pass."""

    name: str
    run: Observations
    level: Level = SNAPSHOT
    order: tuple[int, ...] | None = None


# fmt: off
BAD = (
    Bad("write cycle", history("1: x0 -> x1 y1", "2: y0 -> y2 x2"),
        ("write cycle (G0)", "attempt 2 stored 2 at x after attempt 1 stored 1 there: that one "
         "built on the initial value", "attempt 1 stored 1 at y after attempt 2 stored 2 there")),
    Bad("write cycle that was seen",
        history("1: x0 y2 -> x1 y1", "2: x1 y0 -> x2 y2"),
        ("write cycle (G0)", "attempt 2 stored 2 at x after attempt 1 stored 1 there",
         "attempt 1 stored 1 at y after attempt 2 stored 2 there")),
    Bad("aborted read", history("1!: -> x1", "2: x1 -> y1"),
        ("aborted read (G1a)", "attempt 2 saw 1 at x", "attempt 1 stored, and did not commit")),
    Bad("intermediate read", history("1: -> x1* x2", "2: x1"),
        ("intermediate read (G1b)", "attempt 2 saw 1 at x", "attempt 1 later stored over")),
    Bad("circular information flow", history("1: y2 -> x1", "2: x1 -> y2"),
        ("circular information flow (G1c)", "attempt 2 loaded 1 at x, which attempt 1 stored")),
    Bad("garbage", history("1: -> x1", "2: x7"), ("garbage read", "saw 7 at x", "nobody stored")),
    Bad("own store seen before it was made", history("1: x3 -> x3"),
        ("garbage read", "attempt 1 saw 3 at x", "only it stored itself")),
    Bad("torn word",
        history(f"1: -> x{0x1111_2222}", f"2: -> x{0x3333_4444}", f"3: x{0x1111_4444}"),
        ("torn read", "first bytes as attempt 2 stored it, the others as attempt 1 stored it")),
    Bad("lost update", history("1: x0 -> x1", "2: x0 -> x2"),
        ("lost update", "attempts 1 and 2 both loaded 0 at x", "both stored to x")),
    Bad("stored over what was there in the end",
        history("1: x0 -> x1", "2: -> x2", "3: x1", "4: x2 -> x4", final="x1"),
        ("write cycle (G0)", "in the end")),
    Bad("fractured read", history("1: -> x1 y1", "2: x1 y0"),
        ("fractured read", "attempt 2 loaded 1 at x, which attempt 1 stored",
         "attempt 2 loaded 0 at y, older than the 1 that attempt 1 stored")),
    Bad("read skew", history("1: -> x1", "2: x1 -> y2", "3: x0 y2"),
        ("read skew (G-single)", "attempt 3 loaded 0 at x")),
    Bad("long fork", history("1: -> x1", "2: -> y2", "3: x1 y0", "4: x0 y2"),
        ("long fork", "attempt 3 loaded 0 at y", "attempt 4 loaded 0 at x")),
    Bad("long fork seen by attempts that did not commit",
        history("1: -> x1", "2: -> y2", "3!: x1 y0", "4!: x0 y2"), ("long fork",)),
    Bad("write skew", history("1: x0 y0 -> x1", "2: x0 y0 -> y2"),
        ("write skew (G2-item)", "attempt 1 loaded 0 at y", "attempt 2 loaded 0 at x"),
        SERIALIZABLE),
    Bad("read-only anomaly", history("1: y0 -> y1", "2: x0 y0 -> x2", "3: x0 y1"),
        ("write skew (G2-item)", "attempt 3"), SERIALIZABLE),
    Bad("child does not see its parent",
        history("1: -> x1", "2: x0", sessions="1>2 child after parent"),
        ("session violation", "attempt 2 must see attempt 1: child after parent")),
    Bad("instance does not see what woke it",
        history("1: -> x1 y1", "2: y0", sessions="1>2 instance after what woke it"),
        ("session violation", "instance after what woke it")),
    Bad("retry does not see what it lost to",
        history("1: x0 -> x1", "2!: x0 -> x2", "3: x0", sessions="1>3 retry after what it lost to"),
        ("session violation", "retry after what it lost to")),
    Bad("child sees less than its parent saw",
        history("1: -> x1", "2: x1 -> y2", "3: x0", sessions="2>3 child after parent"),
        ("stale read", "attempt 3 loaded 0 at x", "child after parent")),
    Bad("parent sees its child's store",
        history("1: x2", "2: -> x2", sessions="1>2 child after parent"),
        ("session violation: seen before it was made",)),
    Bad("list loses an element",
        history("1: a0 -> a1", "2: a1 -> a2", "3: a2 -> a3", "4: a1 -> a4"),
        ("lost update", "attempts 2 and 4 both loaded 1 at a")),
    Bad("stores vanish", history("1: x0 -> x1", final="x0"),
        ("lost stores", "attempt 1 stored 1 at x")),
    Bad("garbage in the end", history("1: x0 -> x1", final="x9"),
        ("garbage", "x held 9 in the end")),
    Bad("no order of two blind stores",
        history("1: -> x1 y1", "2: -> x2 y2", "3: x1 y2", final="x2"),
        ("fractured read",)),
    Bad("no order of two blind stores, whichever way",
        history("1: -> x1 y1", "2: -> x2 y2", "3: x1 y2"),
        ("in any order", "if 1 came before 2", "if 2 came before 1")),
    Bad("claimed order is not what loads saw", history("1: -> x1", "2: x1 -> x2"),
        ("future of the claimed order", "attempt 2 loaded 1 at x"), SNAPSHOT, (2, 1)),
    Bad("claimed order is not what blind stores left",
        history("1: -> x1", "2: -> x2", final="x1"),
        ("lost stores", "attempt 2 stored 2 at x"), SNAPSHOT, (1, 2)),
    Bad("no snapshot, though no value is unique",
        history("1: -> x1", "2: -> x0", "3: -> y1", "4: -> x1", "5: -> y2", "6: x0 y2"),
        ("no snapshot in the claimed order", "it loaded 0 at x", "it loaded 2 at y"),
        SNAPSHOT, (1, 2, 3, 4, 5, 6)),
    Bad("stored over what it cannot have seen, though no value is unique",
        history("1: -> x1", "2: -> y2", "3: -> x2", "4: -> x1", "5: -> z5", "6: x1 y0 -> z6"),
        ("no snapshot in the claimed order", "it is number 6", "it loaded 0 at y"),
        SNAPSHOT, (1, 2, 3, 4, 5, 6)),
)

GOOD = (
    Good("nothing at all", history()),
    Good("one attempt", history("1: x0 -> x1", final="x1"), SERIALIZABLE),
    Good("write skew is allowed to snapshots", history("1: x0 y0 -> x1", "2: x0 y0 -> y2")),
    Good("read-only anomaly is allowed to snapshots",
         history("1: y0 -> y1", "2: x0 y0 -> x2", "3: x0 y1")),
    Good("updates one after the other",
         history("1: x0 -> x1", "2: x1 -> x2", "3: x2 -> x3", final="x3"), SERIALIZABLE),
    Good("numbers are not the order of commits",
         history("3: x0 -> x3", "2: x3 -> x2", "1: x2 -> x1", final="x1"), SERIALIZABLE),
    Good("an old snapshot is no fault",
         history("1: x0 -> x1", "2: x1 -> x2", "3: x0 y0 -> y3"), SERIALIZABLE),
    Good("neighbours", history("1: a0 -> a1", "2: b0 -> b2", "3: c0 -> c3", "4: a1 b2 c3"),
         SERIALIZABLE),
    Good("a snapshot between two commits",
         history("1: -> x1 y1", "2: -> x2 y2", "3: x1 y1", final="x2 y2"), SERIALIZABLE),
    Good("stores of a loser that nobody sees", history("1!: x0 -> x1", "2: x0 -> x2", final="x2"),
         SERIALIZABLE),
    Good("a loser saw an old snapshot",
         history("1: x0 y0 -> x1 y1", "2!: x0 y0 -> x2", "3: x1 y1 -> x3",
                 sessions="1>3 retry after what it lost to")),
    Good("blind stores that nobody sees", history("1: -> x1", "2: -> x2", "3: -> x3"),
         SERIALIZABLE),
    Good("blind stores in the only order that fits",
         history("1: -> x1 y1", "2: -> x2 y2", "3: x1 y1 -> z3", "4: z3 x2 y2")),
    Good("the same value twice", history("1: x0 -> x1", "2: x1 -> x0", "3: x0", "4: x1")),
    Good("a value that others stored too, in a claimed order",
         history("1: -> x1", "2: -> x0", "3: -> x1", "4: x0 -> y4"), SNAPSHOT, (1, 2, 3, 4)),
    Good("a store of the same value", history("1: x0 -> x0", "2: x0", final="x0"), SERIALIZABLE,
         (1, 2)),
    Good("child after parent",
         history("1: -> x1", "2: x1 -> x2", sessions="1>2 child after parent"),
         SERIALIZABLE),
    Good("siblings see neither each other nor all of it",
         history("1: -> x1", "2: x1 y0 -> y2", "3: x1 y0 -> z3", "4: x1 y0 z0",
                 sessions="1>2 child; 1>3 child; 1>4 child")),
    Good("an instance sees more than what woke it",
         history("1: -> x1", "2: x1 -> x2", "3: x2", sessions="1>3 instance after what woke it")),
    Good("the program is there before all", history("1: x7 -> x8", "2: x8", initial="x7"),
         SERIALIZABLE),
    Good("a value that nobody wrote down", history("1: -> x?", "2: x5", "3: x5"), SERIALIZABLE),
    Good("a claimed order that is true",
         history("1: x0 -> x1", "2: y0 -> y2", "3: x1 y0 -> z9", final="x1 y2"), SERIALIZABLE,
         (1, 3, 2)),
)
# fmt: on


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_bad_history_is_found(case: Bad) -> None:
    verdict = check(case.run, case.level, order=case.order, name=name_of)
    assert verdict.anomaly is not None
    for text in case.told:
        assert text in str(verdict)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good_history_passes(case: Good) -> None:
    verdict = check(case.run, case.level, order=case.order, name=name_of)
    assert verdict.anomaly is None, str(verdict)


def test_the_tables_say_the_truth() -> None:
    """Brute force agrees, where a history has nothing that it cannot see."""
    for bad in BAD:
        if bad.order is None and "G1b" not in bad.told[0]:
            assert not is_possible(bad.run, bad.level), bad.name
    for good in GOOD:
        if "wrote down" not in good.name:
            assert is_possible(good.run, good.level), good.name
