"""Waits of all ranks together: told from time to time, and ended when nobody comes any more."""

from __future__ import annotations

import pytest

from dvm_mpi import config
from dvm_mpi.errors import ExitCode, RankLostError
from dvm_mpi.job.long_wait import LongWait

STEP_S = 0.25
PATIENCE_S = 100.0
HOSTS = ("a", "b", "c")


class Clock:
    """Rank 0, which looks again and again, as in a run."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.wait = LongWait()
        self.told: list[str] = []

    def pass_by(self, span_s: float, waits_for: str, missing: tuple[int, ...] = ()) -> None:
        end_s = self.now_s + span_s
        while self.now_s < end_s:
            self.now_s += STEP_S
            told = self.wait.look(self.now_s, waits_for, missing, PATIENCE_S, HOSTS)
            self.told += [told] if told else []


def test_it_is_told_more_and_more_rarely() -> None:
    clock = Clock()
    clock.pass_by(PATIENCE_S - 2, "ranks 1, 2 to start", (1, 2))
    assert clock.told == [
        f"dvm: waiting for ranks 1, 2 to start, since {config.STALL_S * factor:.0f} s"
        for factor in (1, 2, 4, 8)
    ]
    clock.pass_by(1, "")
    clock.pass_by(config.STALL_S + 1, "rank 1 to start", (1,))
    assert clock.told[4:] == [f"dvm: waiting for rank 1 to start, since {config.STALL_S:.0f} s"]


def test_a_rank_that_does_not_come_is_lost() -> None:
    clock = Clock()
    clock.pass_by(PATIENCE_S - 1, "rank 2 to start", (2,))
    with pytest.raises(RankLostError, match="rank 2 on c: no answer for 100 s") as caught:
        clock.pass_by(3, "rank 2 to start", (2,))
    assert caught.value.exit_code == ExitCode.LOST


def test_a_wait_of_which_nobody_knows_for_whom_ends_too() -> None:
    clock = Clock()
    with pytest.raises(RankLostError, match="waited for all ranks to add up, for 100 s"):
        clock.pass_by(PATIENCE_S + 2, "all ranks to add up")


def test_whoever_comes_gives_the_others_time() -> None:
    clock = Clock()
    clock.pass_by(PATIENCE_S - 1, "ranks 1, 2 to start", (1, 2))
    clock.pass_by(PATIENCE_S - 1, "rank 2 to start", (2,))
    with pytest.raises(RankLostError, match="rank 2 on c"):
        clock.pass_by(3, "rank 2 to start", (2,))


def test_another_wait_has_a_time_of_its_own() -> None:
    clock = Clock()
    for _ in range(3):
        clock.pass_by(PATIENCE_S - 1, "rank 2 to start", (2,))
        clock.pass_by(STEP_S, "")


def test_a_rank_0_that_stood_still_looks_again_before_it_judges() -> None:
    clock = Clock()
    clock.pass_by(1, "rank 2 to start", (2,))
    clock.now_s += 10 * PATIENCE_S
    clock.pass_by(PATIENCE_S - 1, "rank 2 to start", (2,))
    with pytest.raises(RankLostError):
        clock.pass_by(3, "rank 2 to start", (2,))
