from __future__ import annotations

from typing import Any

import pytest

from dvm_mpi import config
from dvm_mpi.config import SLICE_FUEL, SLICE_FUEL_MAX, SLICE_US
from dvm_mpi.control.messages import LeaseGranted, Message
from dvm_mpi.control.slices import USUAL_PER_US, SliceLength, effort_of
from dvm_mpi.dsm.messages import LookupAnswered
from tests.control.rank_bed import Computing, Ranks, Resting, lookup


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


def test_slices_may_be_longer_ones() -> None:
    slices = SliceLength(20 * SLICE_US, 100 * SLICE_FUEL, 1_000 * SLICE_FUEL)
    assert slices.fuel == 100 * SLICE_FUEL
    assert settle(slices, 10 * USUAL_PER_US)[-1] == pytest.approx(20 * SLICE_US, rel=0.01)
    settle(slices, 1_000_000.0)
    assert slices.fuel == 1_000 * SLICE_FUEL
    settle(slices, USUAL_PER_US)
    assert slices.fuel == 100 * SLICE_FUEL


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


# --- slices of one turn ---------------------------------------------------------------------------
class Heard(Computing):
    """While it executes its second slice, somebody says something."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks: Ranks | None = None

    def run_slice(self, fuel: int, now_us: int) -> tuple[tuple[Any, ...], int]:
        if len(self.slices) == 1 and self.ranks is not None:
            self.ranks.say(2, lookup(2))
        return super().run_slice(fuel, now_us)


def test_slice_follows_slice_as_long_as_nobody_says_anything() -> None:
    ranks = Ranks(Computing(), slice_fuel=None)
    ranks.turn()
    assert ranks.worker is not None
    # `WorkerReady` left in this turn, before the first slice.
    assert len(ranks.worker.slices) == config.SLICES_PER_TURN
    ranks.turn()
    assert len(ranks.worker.slices) == 2 * config.SLICES_PER_TURN


def test_who_says_something_is_heard_a_slice_later() -> None:
    worker = Heard()
    ranks = Ranks(worker, slice_fuel=None)
    worker.ranks = ranks
    ranks.turn()
    assert len(worker.slices) == 2
    assert ranks.heard(2) == []
    ranks.turn()
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]


class Pressed(Computing):
    """While it takes a batch, another rank asks its home for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks: Ranks | None = None

    def handle(self, event: Message) -> tuple[Any, ...]:
        assert self.ranks is not None
        self.batch = event
        self.ranks.say(2, lookup(2))
        return ()


def test_who_asks_while_a_batch_begins_is_answered_before_it() -> None:
    worker = Pressed()
    ranks = Ranks(worker, slice_fuel=None)
    worker.ranks = ranks
    ranks.say(0, LeaseGranted(1, 2, 3))
    assert ranks.turn()
    assert (worker.slices, ranks.heard(2)) == ([], [])
    ranks.turn()
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]
    assert len(worker.slices) == config.SLICES_PER_TURN
    # Once for each batch, or a flood of messages would keep the worker from executing.
    ranks.say(2, lookup(2))
    ranks.turn()
    assert len(worker.slices) == 2 * config.SLICES_PER_TURN


def test_a_share_of_a_core_is_looked_at_after_each_slice() -> None:
    share = Resting()
    share.rest_us = 0
    ranks = Ranks(Computing(), slice_fuel=None, cpu_share=share)
    ranks.turn()
    assert ranks.worker is not None
    assert len(ranks.worker.slices) == 1
