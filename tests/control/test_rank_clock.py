"""Rank 0's clock as another rank knows it: asked a few times, or over and over."""

from __future__ import annotations

from dvm_mpi import config
from dvm_mpi.control.messages import ClockAnswered, ClockAsked
from dvm_mpi.control.rank_clock import RankClock
from tests.control.network import Network

#: How far rank 0's clock is ahead, and how long a message is under way; ns.
AHEAD = 5 * 10**12
WAY = 1_000
AGAIN = int(config.TRACE_CLOCK_S * 10**9)


class Clocks:
    """Rank 0 and rank 1, which do nothing but tell each other the time."""

    def __init__(self) -> None:
        self.now = 10**9
        self.network = Network(2)
        transports = self.network.transports
        self.first = RankClock(transports[0], lambda: self.now + AHEAD)  # type: ignore[arg-type]
        self.other = RankClock(transports[1], lambda: self.now)  # type: ignore[arg-type]
        self.questions = 0

    def turn(self) -> None:
        """Let both take a turn, and messages arrive."""
        self.other.each_turn()
        self.first.each_turn()
        for rank, clock in ((0, self.first), (1, self.other)):
            self.now += WAY
            for _, message in self.network.transports[rank].receive():
                assert isinstance(message, ClockAsked | ClockAnswered)
                self.questions += isinstance(message, ClockAsked)
                clock.take(message)


def test_rank_0_knows_the_time() -> None:
    clocks = Clocks()
    assert clocks.first.is_known
    assert clocks.first.offset() == (0, 0)


def test_the_time_is_asked_for_a_few_times() -> None:
    clocks = Clocks()
    assert (clocks.other.is_known, clocks.other.offset()) == (False, (0, -1))
    for _ in range(50):
        clocks.turn()
    assert clocks.other.is_known
    assert clocks.questions == config.CLOCK_EXCHANGES
    clocks.now += 100 * AGAIN
    clocks.turn()
    assert clocks.questions == config.CLOCK_EXCHANGES
    offset, error = clocks.other.offset()
    assert abs(offset - AHEAD) <= error


def test_a_clock_that_is_watched_is_asked_again() -> None:
    clocks = Clocks()
    clocks.other.is_watched = True
    for _ in range(50):
        clocks.turn()
    assert clocks.questions == config.TRACE_CLOCK_EXCHANGES
    for number in range(1, 4):
        clocks.now += AGAIN
        clocks.turn()
        assert clocks.questions == config.TRACE_CLOCK_EXCHANGES + number


def test_one_question_is_under_way_at_a_time() -> None:
    clocks = Clocks()
    for _ in range(5):
        clocks.other.each_turn()
    assert len(clocks.network.queues[1, 0]) == 1
