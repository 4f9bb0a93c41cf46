from __future__ import annotations

import pytest

from dvm_mpi.config import SLICE_FUEL, SLICE_FUEL_MAX, SLICE_US
from dvm_mpi.control.slices import USUAL_PER_US, SliceLength, effort_of


def settle(slices: SliceLength, per_us: float, count: int = 20) -> list[int]:
    """Let whole slices be executed at a pace; return how long each of them took."""
    took = []
    for _ in range(count):
        fuel = slices.fuel
        took.append(int(fuel / per_us))
        slices.took(fuel, fuel, took[-1])
    return took


@pytest.mark.parametrize("times", [1, 3, 10, 40])
def test_slices_last_a_millisecond_at_any_pace(times: int) -> None:
    slices = SliceLength()
    took = settle(slices, times * USUAL_PER_US)
    assert took[-1] == pytest.approx(SLICE_US, rel=0.01)
    # They come there step by step, and none takes longer on the way.
    assert max(took) <= SLICE_US + 1
    assert slices.per_us == pytest.approx(times * USUAL_PER_US, rel=0.05)


def test_slices_are_no_longer_and_no_shorter_than_the_limits() -> None:
    slices = SliceLength()
    settle(slices, 1_000_000.0)
    assert slices.fuel == SLICE_FUEL_MAX
    settle(slices, USUAL_PER_US / 10)
    assert slices.fuel == SLICE_FUEL


def test_a_slice_that_takes_too_long_is_the_only_one() -> None:
    """What is executed after translated code is interpreted."""
    slices = SliceLength()
    settle(slices, 10 * USUAL_PER_US)
    took = settle(slices, USUAL_PER_US, 2)
    assert took[0] > 5 * SLICE_US
    assert took[1] <= SLICE_US


def test_a_slice_that_ends_early_lengthens_none() -> None:
    slices = SliceLength()
    for _ in range(20):
        slices.took(slices.fuel, 1_000, 2)
    assert slices.fuel == SLICE_FUEL
    assert slices.per_us == 0


def test_effort_is_time_at_the_usual_pace() -> None:
    assert effort_of(1_000_000, 0.0) == 1_000_000
    assert effort_of(1_000_000, USUAL_PER_US / 2) == 1_000_000
    assert effort_of(1_000_000, 10 * USUAL_PER_US) == 100_000
