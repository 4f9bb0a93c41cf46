"""How much of its core a rank gets: what it is told, and what comes of it over many periods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.cpu_share import CpuShare
from tests.properties import tried

PERIOD_US = 100_000
TURN_US = 1_000
NAP_US = 1_000


class Core:
    """A rank on a core, in times of its own: it works or naps, as the share says."""

    def __init__(self, share: float) -> None:
        self.share = CpuShare(share, PERIOD_US, debt_periods_max=10)
        # As they are found: neither clock begins at 0.
        self.now_us, self.used_us = 7_000_000, 350_000
        self.began_us, self.used_before_us = self.now_us, self.used_us

    @property
    def used_share(self) -> float:
        return (self.used_us - self.used_before_us) / (self.now_us - self.began_us)

    def pass_time(self, wall_us: int, cpu_us: int = 0) -> None:
        self.now_us += wall_us
        self.used_us += cpu_us

    def rests(self) -> bool:
        return self.share.rests_us(self.now_us, self.used_us) > 0

    def turn(self, slowness: int = 1, nap_cpu_us: int = 10) -> bool:
        """Work for a millisecond of processor time if that is permitted, else nap."""
        if self.rests():
            self.pass_time(NAP_US, nap_cpu_us)
            return False
        self.pass_time(TURN_US * slowness, TURN_US)
        self.share.worked()
        return True

    def run(self, seconds: float, slowness: int = 1) -> None:
        ends_us = self.now_us + int(seconds * 1e6)
        while self.now_us < ends_us:
            self.turn(slowness)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_a_busy_rank_gets_its_share(share: float) -> None:
    core = Core(share)
    core.run(10)
    assert core.used_share == pytest.approx(share, rel=0.02)


def test_the_whole_core_is_never_held_back() -> None:
    core = Core(1)
    core.run(3)
    assert core.used_share == 1


def test_who_was_kept_from_its_core_makes_it_up_but_only_for_one_period() -> None:
    """A competitor takes two thirds of the core for a second, then leaves."""
    core = Core(0.5)
    core.run(1, slowness=3)
    assert core.used_share == pytest.approx(1 / 3, abs=0.01)
    before_us = core.used_us
    core.run(1)
    used_us = core.used_us - before_us
    assert used_us == pytest.approx(1e6 * 0.5 + PERIOD_US * 0.5, abs=3 * TURN_US)


def test_an_idle_rank_saves_nothing() -> None:
    core = Core(0.5)
    core.rests()
    core.pass_time(60_000_000)
    before_us = core.used_us
    core.run(1)
    used_us = core.used_us - before_us
    assert used_us == pytest.approx(1e6 * 0.5 + PERIOD_US * 0.5, abs=3 * TURN_US)


def test_long_work_is_paid_for_with_rest() -> None:
    """A step of a task took three periods' allowances; the average holds all the same."""
    core = Core(0.5)
    core.rests()
    core.pass_time(150_000, 150_000)
    core.share.worked()
    core.run(1.85)
    assert core.used_share == pytest.approx(0.5, rel=0.02)


def test_a_rank_that_serves_more_than_its_share_still_gets_on() -> None:
    """Serving is never held back; in every period there is room for one slice of a runner."""
    core = Core(0.2)
    worked = 0
    for _ in range(100):
        core.pass_time(PERIOD_US - TURN_US, PERIOD_US - TURN_US)
        worked += core.turn()
    assert worked >= 99


def test_the_permission_of_a_period_waits_until_it_is_used() -> None:
    """The worker may have nothing to do when the period begins, and much of it later."""
    core = Core(0.1)
    core.rests()
    core.pass_time(500_000, 500_000)
    for _ in range(20):
        assert not core.rests(), "no work was done in this period"
        core.pass_time(NAP_US)
    core.share.worked()
    assert core.rests()


def test_debts_have_an_end() -> None:
    core = Core(0.5)
    core.rests()
    core.pass_time(60_000_000, 60_000_000)
    core.share.worked()
    core.run(1)
    assert core.used_us - core.used_before_us < 60_100_000, "ten periods are owed"
    core.now_us += PERIOD_US
    before_us, began_us = core.used_us, core.now_us
    core.run(10)
    assert (core.used_us - before_us) / (core.now_us - began_us) == pytest.approx(0.5, rel=0.03)


@tried(60)
@given(
    st.floats(0.05, 1),
    st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 5_000)), min_size=50, max_size=200),
)
def test_no_stretch_of_time_sees_more_than_the_share(
    share: float, turns: list[tuple[int, int]]
) -> None:
    """Whatever is found to do: the share, what was saved, and what one turn is too long."""
    core = Core(share)
    longest_us = max(cpu for _, cpu in turns)
    for wall_us, cpu_us in turns:
        if core.rests():
            core.pass_time(NAP_US)
        else:
            core.pass_time(max(wall_us, cpu_us), cpu_us)
            core.share.worked()
    passed_us = core.now_us - core.began_us
    saved_us = 2 * share * PERIOD_US
    periods = passed_us // PERIOD_US + 1
    # A turn may be longer than a small slice: then it is owed, and the next period still begins
    # with one.
    excess_us = max(longest_us - share * PERIOD_US, 0) * periods
    assert (
        core.used_us - core.used_before_us <= share * passed_us + saved_us + longest_us + excess_us
    )
