"""Rank 0's clock, as a rank knows it: what it measures of its time is told in rank 0's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dvm_mpi import config
from dvm_mpi.control.journal import ClockOffset
from dvm_mpi.control.messages import ClockAnswered, ClockAsked
from dvm_mpi.control.transport import Transport

_AGAIN_NS: Final = int(config.TRACE_CLOCK_S * 1_000_000_000)


class RankClock:
    """The clock of one rank, and how far it is from rank 0's.

    Parameters
    ----------
    transport
        To all ranks of the run.
    now
        This rank's clock, in ns.
    """

    def __init__(self, transport: Transport, now: Callable[[], int]) -> None:
        self.now = now
        #: Whether rank 0 is asked for its time over and over, since clocks drift; else it is asked
        #: at the start only, which is exact enough for what has seconds to a plot.
        self.is_watched = False
        self._transport = transport
        self._offset = ClockOffset()
        #: Whether an answer is awaited, and when to ask next.
        self._is_asking = False
        self._ask_at = 0

    @property
    def is_known(self) -> bool:
        """Whether rank 0 has told its time."""
        return not self._transport.rank or self._offset.heard_count > 0

    def offset(self) -> tuple[int, int]:
        """Return what to add for rank 0's time, and how wrong that may be, -1: not known; ns."""
        return self._offset.best(self.now()) if self._transport.rank else (0, 0)

    def each_turn(self) -> None:
        """Ask if it is time; cheap to call often."""
        if not self._transport.rank or self._is_asking:
            return
        exchanges = config.TRACE_CLOCK_EXCHANGES if self.is_watched else config.CLOCK_EXCHANGES
        is_settled = self._offset.heard_count >= exchanges
        if is_settled and not self.is_watched:
            return
        now = self.now()
        if not is_settled or now >= self._ask_at:
            self._is_asking = True
            self._ask_at = now + _AGAIN_NS
            self._transport.send(0, ClockAsked(self._transport.rank, now))
            self._transport.flush()

    def take(self, message: ClockAsked | ClockAnswered) -> None:
        """Tell a rank the time, on rank 0; or take what rank 0 has told."""
        if isinstance(message, ClockAsked):
            self._transport.send(message.rank, ClockAnswered(message.asked_ns, self.now()))
            # What lies between question and answer is how wrong the other one may be.
            self._transport.flush()
        else:
            self._offset.hear(message.asked_ns, message.answered_ns, self.now())
            self._is_asking = False
