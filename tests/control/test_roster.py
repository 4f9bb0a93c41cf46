"""Attempts at a worker beside a dict; and how much fuel goes to short attempts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import RUNNER_FUEL, SLICE_FUEL
from dvm_mpi.control.roster import Pace, Roster
from dvm_mpi.engine.interface import ATTEMPT


@given(data=st.data(), batches=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_agrees_with_a_dict(data: st.DataObject, batches: list[int]) -> None:
    """Some attempts of a batch end in its time, others when later batches are there."""
    roster, naive = Roster(), dict[int, tuple[int, int]]()
    number = 0
    for count in batches:
        number += data.draw(st.integers(1, 3))
        attempts = np.zeros(count, ATTEMPT)
        attempts["runner"] = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
        attempts["entry"] = 100 + np.arange(count)
        numbers = number + np.arange(count)
        number = int(numbers[-1])
        roster.add(numbers, attempts)
        naive |= {
            int(n): (int(a["runner"]), int(a["entry"]))
            for n, a in zip(numbers, attempts, strict=True)
        }
        ended = data.draw(st.lists(st.sampled_from(sorted(naive)), unique=True)) if naive else []
        runners, entries = roster.end(np.array(ended, np.int64))
        wanted = [naive.pop(n) for n in ended]
        assert list(zip(runners.tolist(), entries.tolist(), strict=True)) == wanted
        assert len(roster) == len(naive)


def test_who_is_not_here_cannot_end() -> None:
    roster = Roster()
    roster.add(np.array([4, 6]), np.zeros(2, ATTEMPT))
    with pytest.raises(AssertionError, match="not here"):
        roster.end(np.array([5]))


def test_numbers_ascend() -> None:
    roster = Roster()
    roster.add(np.array([4]), np.zeros(1, ATTEMPT))
    with pytest.raises(AssertionError, match="upwards"):
        roster.add(np.array([3]), np.zeros(1, ATTEMPT))


def test_a_slice_of_short_attempts_is_as_long_as_another() -> None:
    """Attempts of two instructions: a slice has some hundred, and not some hundred thousand."""
    pace = Pace()
    assert pace.fuel(SLICE_FUEL) == SLICE_FUEL, "nothing is known"
    assert pace.ran(20, 10) == 20 + 10 * RUNNER_FUEL
    fuel = pace.fuel(SLICE_FUEL)
    assert fuel + fuel / 2 * RUNNER_FUEL == pytest.approx(SLICE_FUEL, rel=0.01)
    assert pace.fuel(1) == 1, "something is executed always"


def test_a_long_attempt_behind_short_ones_is_cut_once() -> None:
    pace = Pace()
    pace.ran(20, 10)
    cut = pace.fuel(SLICE_FUEL)
    assert pace.ran(cut, 0) == cut
    assert pace.fuel(SLICE_FUEL) == SLICE_FUEL


@pytest.mark.parametrize("cuts", [[], [5_000], [9_999], [1, 8_000]])
def test_an_attempt_is_as_long_however_it_is_cut(cuts: list[int]) -> None:
    whole, cut = Pace(), Pace()
    whole.ran(10_000, 1)
    for instructions in cuts:
        cut.ran(instructions, 0)
    cut.ran(10_000 - sum(cuts), 1)
    assert cut.fuel(SLICE_FUEL) == whole.fuel(SLICE_FUEL) < SLICE_FUEL
