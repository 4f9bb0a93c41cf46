"""Who is asked for want of a sign of life, and how long each owes an answer."""

from __future__ import annotations

from dvm_mpi import config
from dvm_mpi.control.metering import tell_interval_us
from dvm_mpi.control.silence import Silence

S = 1_000_000
QUIET = int(config.STALL_S * S)


def ask(silence: Silence, now_us: int) -> list[int]:
    found = silence.whom_to_ask(now_us)
    for rank in found:
        silence.asked(rank, now_us)
    return found


def test_a_rank_that_has_stopped_to_tell_is_asked_once() -> None:
    silence = Silence(3)
    for rank in range(3):
        silence.told(rank, S)
    silence.told(0, QUIET)
    assert ask(silence, QUIET) == []
    silence.answered(2, QUIET + S)
    assert ask(silence, QUIET + S) == [1]
    assert ask(silence, QUIET + 5 * S) == []
    silence.asked(1, QUIET + 3 * S)
    assert silence.owing(QUIET + 5 * S) == {1: 4 * S}, "to be asked again is no respite"


def test_a_rank_that_never_told_of_its_time_is_not_waited_for() -> None:
    """Before its first turn a rank may be within calls that take long."""
    silence = Silence(2)
    silence.told(0, S)
    silence.answered(1, S)
    assert ask(silence, S + QUIET) == [0]


def test_whatever_a_rank_says_it_owes_nothing_more() -> None:
    silence = Silence(2)
    for rank in range(2):
        silence.told(rank, S)
    assert ask(silence, S + QUIET) == [0, 1]
    silence.told(0, 2 * S + QUIET)
    silence.answered(1, 2 * S + QUIET)
    assert silence.owing(3 * S + QUIET) == {}
    assert ask(silence, S + 2 * QUIET) == []
    assert ask(silence, 3 * S + 2 * QUIET) == [0, 1]


def test_one_who_looks_again_and_again_looks_once_a_second() -> None:
    silence = Silence(1)
    silence.told(0, S)
    assert ask(silence, S + QUIET - S // 2) == []
    assert ask(silence, S + QUIET) == [], "it has just looked"
    assert ask(silence, S + QUIET + S // 2) == [0]


def test_the_time_in_which_rank_0_stood_still_counts_for_nobody() -> None:
    silence = Silence(2)
    silence.told(0, S)
    silence.told(1, S)
    silence.asked(1, 2 * S)
    silence.missed_all(100 * QUIET)
    assert silence.owing(100 * QUIET + S) == {1: S}
    assert ask(silence, 101 * QUIET - S) == []


def test_of_many_ranks_each_may_be_quiet_for_longer() -> None:
    """They tell of themselves less often."""
    ranks = 4_096
    silence = Silence(ranks)
    silence.told(7, S)
    interval = tell_interval_us(ranks)
    assert interval > QUIET
    assert ask(silence, S + 2 * interval) == []
    assert ask(silence, S + 4 * interval) == [7]
