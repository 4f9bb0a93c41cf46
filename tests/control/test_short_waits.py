"""Short runners that are under way are awaited: by the epoch here, by dispatch in test_dealing."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.config import EPOCH_US_MAX, GATHER_US, RUNNER_FUEL, SHARE_FUEL_MIN
from dvm_mpi.control.messages import AsleepChanged
from dvm_mpi.control.prediction import LengthEstimate
from dvm_mpi.control.short_waits import SHARES_AWAITED_MAX
from dvm_mpi.layout import PAGE_BYTES
from tests.control.coordinator import FIRST, A, B, C, Child, Coordinator, X


def at(number: int) -> int:
    """Return a place of its own."""
    return X + 8 * number


def three_short_ones(length: int = 1, share_fuel_min: int = SHARE_FUEL_MIN) -> Coordinator:
    """Return a machine of three workers that runs A, B and C, which are known to be short."""
    c = Coordinator(workers=3, share_fuel_min=share_fuel_min)
    c.scheduler.state.lengths = LengthEstimate()
    c.ends(c.one(FIRST), children=[Child(A), Child(B), Child(C)])
    c.apply()
    assert {c.one(A).worker, c.one(B).worker, c.one(C).worker} == {0, 1, 2}
    for _ in range(20):
        c.scheduler.state.lengths.observe(np.array([A, B, C]), np.array([length] * 3))
    c.tick(0)
    return c


def test_an_epoch_takes_what_ends_in_a_moment() -> None:
    c = three_short_ones()
    for number, entry in enumerate((A, B)):
        c.ends(c.one(entry), stores=[at(number)])
        assert not c.applying, "the others are as good as done"
    c.ends(c.one(C), stores=[at(2)])
    ((_, request),) = c.applying
    assert len(request.tokens) == 3


def test_without_shares_it_does_not_wait() -> None:
    c = three_short_ones(share_fuel_min=0)
    c.ends(c.one(A), stores=[at(0)])
    assert len(c.applying) == 1


def test_it_waits_as_long_as_others_end() -> None:
    c = three_short_ones()
    c.ends(c.one(A), stores=[at(0)])
    c.tick(EPOCH_US_MAX)
    assert not c.applying
    assert c.scheduler.due_at_us == EPOCH_US_MAX + GATHER_US
    c.tick(EPOCH_US_MAX + GATHER_US - 1)
    c.ends(c.one(B), stores=[at(1)])
    c.tick(EPOCH_US_MAX + GATHER_US)
    due_at_us = EPOCH_US_MAX + 2 * GATHER_US
    assert c.scheduler.due_at_us == due_at_us
    c.tick(due_at_us - 1)
    assert not c.applying
    c.tick(due_at_us)
    ((_, request),) = c.applying
    assert len(request.tokens) == 2, "nobody has ended for too long"


def test_after_a_vain_wait_nobody_waits_before_all_have_ended() -> None:
    c = three_short_ones()
    c.ends(c.one(A), stores=[at(0)], children=[Child(A)])
    c.tick(0)
    c.tick(GATHER_US)
    assert len(c.applying) == 1
    c.apply()
    c.ends(c.one(A), stores=[at(3)])
    assert len(c.applying) == 1, "B and C run long, and it is known"
    c.apply()
    c.ends(c.one(B), stores=[at(1)])
    c.ends(c.one(C), stores=[at(2)], children=[Child(A)] * 3)
    c.apply()
    c.scheduler.state.lengths.observe(np.array([A] * 20), np.array([1] * 20))
    first, *others = c.runs(A)
    c.ends(first, stores=[at(5)])
    assert not c.applying, "these are others"
    for number, attempt in enumerate(others):
        c.ends(attempt, stores=[at(6 + number)])
    c.apply()
    assert c.has_ended


def test_nobody_waits_for_long_ones() -> None:
    c = three_short_ones(length=SHARES_AWAITED_MAX * SHARE_FUEL_MIN)
    c.ends(c.one(A), stores=[at(0)])
    assert len(c.applying) == 1


@pytest.mark.parametrize("asleep", [1, 2])
def test_nobody_waits_for_those_that_sleep(asleep: int) -> None:
    c = three_short_ones()
    for entry in (B, C)[:asleep]:
        c.handle(AsleepChanged(c.one(entry).worker, 1))
    c.ends(c.one(A), stores=[at(0)])
    assert len(c.applying) == asleep - 1


def test_nobody_waits_with_many_that_will_be_born() -> None:
    c = three_short_ones()
    enough = SHARES_AWAITED_MAX * SHARE_FUEL_MIN // RUNNER_FUEL + 1
    c.ends(c.one(A), children=[Child(A)] * (enough - 1))
    assert not c.runs(A)
    c.ends(c.one(B), children=[Child(A)])
    assert c.runs(A)


def test_a_trap_is_not_held_back() -> None:
    """What was ordered before it is published, and the program ends, whoever runs."""
    c = three_short_ones()
    c.ends(c.one(A), stores=[(X + PAGE_BYTES, b"\1")])
    c.scheduler.state.failure = object()  # type: ignore[assignment]
    c.tick(EPOCH_US_MAX)
    assert len(c.applying) == 1
