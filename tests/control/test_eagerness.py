"""For which entry points pages are fetched before attempts start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.eagerness import Eagerness
from dvm_mpi.engine.interface import ATTEMPT, GRANT

LOOKS, WORKS = 0x400, 0x500


def fetched(eagerness: Eagerness, *entries: int) -> list[int]:
    """Return whose ranges are fetched early, of attempts with one each: their positions."""
    attempts = np.zeros(len(entries), ATTEMPT)
    attempts["entry"] = entries
    attempts["grant_first"], attempts["grant_count"] = np.arange(len(entries)), 1
    grants = np.zeros(len(entries), GRANT)
    grants["start"] = np.arange(len(entries))
    found: list[int] = eagerness.grants(attempts, grants)["start"].tolist()
    return found


def ends(eagerness: Eagerness, entry: int, aborted: list[bool]) -> None:
    marks: NDArray[np.bool_] = np.array(aborted)
    eagerness.observe(np.full(len(aborted), entry), marks)


def test_where_most_abort_nothing_is_fetched_early() -> None:
    eagerness = Eagerness()
    assert fetched(eagerness, LOOKS, WORKS) == [0, 1]
    for _ in range(3):
        ends(eagerness, LOOKS, [True])
        ends(eagerness, WORKS, [False] * 5)
    assert fetched(eagerness, LOOKS, WORKS, LOOKS) == [1]


def test_it_is_learnt_anew_when_they_do_not_abort_any_more() -> None:
    eagerness = Eagerness()
    ends(eagerness, LOOKS, [True] * 20)
    assert fetched(eagerness, LOOKS) == []
    ends(eagerness, LOOKS, [False] * 3)
    assert fetched(eagerness, LOOKS) == [0]


def test_a_single_abort_says_nothing() -> None:
    eagerness = Eagerness()
    ends(eagerness, LOOKS, [True])
    assert fetched(eagerness, LOOKS) == [0]
