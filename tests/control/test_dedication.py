"""When rank 0 only coordinates: what is measured, from when on, and when not."""

from __future__ import annotations

import pytest

from dvm_mpi.config import (
    DEDICATED_OTHERS_MIN,
    DEDICATED_SHARE,
    DEDICATED_US,
    RANKS_WITH_WORKING_COORDINATOR,
    SHARED_SHARE,
)
from dvm_mpi.control.dedication import Choice, Dedication, has_worker

MANY = RANKS_WITH_WORKING_COORDINATOR + 1


@pytest.mark.parametrize(
    ("ranks", "choice", "works"),
    [
        (1, "auto", True), (1, "dedicated", True), (1, "shared", True),
        (2, "auto", True), (2, "dedicated", False), (2, "shared", True),
        (MANY - 1, "auto", True), (MANY, "auto", False), (MANY, "shared", True),
    ],
)  # fmt: skip
def test_rank_0_has_a_worker(ranks: int, choice: Choice, works: bool) -> None:
    assert has_worker(0, ranks, choice) == works


def test_all_other_ranks_have_a_worker() -> None:
    choices: tuple[Choice, ...] = ("auto", "dedicated", "shared")
    assert all(has_worker(rank, MANY, choice) for rank in (1, MANY - 1) for choice in choices)


class Clock:
    """Shares of rank 0's time that go to coordinating, one after the other."""

    def __init__(self) -> None:
        self.dedication = Dedication()
        self.now_us = self.spent_us = 0

    def passes(self, share: float, others: int = DEDICATED_OTHERS_MIN) -> bool:
        self.now_us += DEDICATED_US
        self.spent_us += int(share * DEDICATED_US)
        self.dedication.look(self.now_us, self.spent_us, others)
        return self.dedication.is_dedicated


def test_it_takes_more_to_begin_than_to_go_on() -> None:
    between = (DEDICATED_SHARE + SHARED_SHARE) / 2
    clock = Clock()
    shares = (between, DEDICATED_SHARE, DEDICATED_SHARE + 0.1, between, SHARED_SHARE, between)
    assert [clock.passes(share) for share in shares] == [False, False, True, True, False, False]


def test_few_others_could_not_make_up_for_rank_0() -> None:
    clock = Clock()
    assert not clock.passes(1.0, DEDICATED_OTHERS_MIN - 1)
    assert clock.passes(1.0)
    assert not clock.passes(1.0, DEDICATED_OTHERS_MIN - 1)


def test_nothing_is_decided_by_a_short_look() -> None:
    """A single long decision, as at a program's start, is none of all time."""
    dedication = Dedication()
    assert not dedication.look(DEDICATED_US // 10, DEDICATED_US // 10, 8)
    assert not dedication.look(DEDICATED_US, DEDICATED_US // 10, 8)
    assert not dedication.is_dedicated
    assert dedication.look(2 * DEDICATED_US, DEDICATED_US + DEDICATED_US // 10, 8)
    assert dedication.is_dedicated
