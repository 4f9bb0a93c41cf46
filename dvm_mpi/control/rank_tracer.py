"""What a rank of a traced run does for the trace: note, ask rank 0 for its time, send rows.

Times leave a rank in rank 0's clock. Nothing of this runs unless a trace is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dvm_mpi import config
from dvm_mpi.control.journal import ClockOffset, Gauge, RowKind, Work
from dvm_mpi.control.messages import ClockAnswered, ClockAsked, TraceRows
from dvm_mpi.control.tracer import flush_interval_s, parts_tracer
from dvm_mpi.control.transport import Transport
from dvm_mpi.dsm.home import Home
from dvm_mpi.layout import PAGE_BYTES

_NS_PER_S: Final = 1_000_000_000
_CLOCK_NS: Final = int(config.TRACE_CLOCK_S * _NS_PER_S)


class RankTracer:
    """The tracer of one rank.

    Parameters
    ----------
    transport
        To all ranks of the run.
    clock
        This rank's, in ns.
    sample
        Every so many-th runner is told of alone; 0: as many as there is room for.
    """

    def __init__(self, transport: Transport, clock: Callable[[], int], sample: int) -> None:
        self.sample = sample
        self.parts = parts_tracer(clock, transport.rank, transport.size, sample)
        self._transport = transport
        self._offset = ClockOffset()
        #: Whether an answer of rank 0 is awaited, and when to ask next.
        self._is_asking = False
        self._ask_at = 0
        self._told_offset = (0, -1)
        self._flush_ns = int(flush_interval_s(transport.size) * _NS_PER_S)
        self._flush_at = clock() + self._flush_ns

    def now(self) -> int:
        """Return this rank's time in ns."""
        return self.parts.journal.now()

    def work(self, work: Work, began: int) -> None:
        """Note long work that ends now."""
        self.parts.journal.add(RowKind.WORKED, began, self.now(), work)

    # --- rank 0's clock -------------------------------------------------------------------------
    def answer(self, asked: ClockAsked) -> None:
        """Tell a rank the time; on rank 0."""
        self._transport.send(asked.rank, ClockAnswered(asked.asked_ns, self.now()))
        # What lies between question and answer is how wrong the other one may be.
        self._transport.flush()

    def hear(self, answered: ClockAnswered) -> None:
        """Take rank 0's time."""
        now = self.now()
        self._offset.hear(answered.asked_ns, answered.answered_ns, now)
        self._is_asking = False
        is_settled = self._offset.heard_count >= config.TRACE_CLOCK_EXCHANGES
        self._ask_at = now + (_CLOCK_NS if is_settled else 0)

    def _ask(self, now: int) -> None:
        self._is_asking = True
        self._transport.send(0, ClockAsked(self._transport.rank, now))
        self._transport.flush()

    # --- turns ----------------------------------------------------------------------------------
    def each_turn(self, home: Home) -> None:
        """Look at what changes with time, at rank 0's clock, and send rows, when it is time."""
        transport, gauges = self._transport, self.parts.gauges
        if gauges.is_due():
            gauges.look(
                {
                    Gauge.RESIDENT_BYTES: home.pool.in_use * PAGE_BYTES,
                    Gauge.SENDS_PENDING: transport.sends_pending,
                },
                {
                    Gauge.SENT_BYTES_PER_S: transport.sent_bytes,
                    Gauge.RECEIVED_BYTES_PER_S: transport.received_bytes,
                },
            )
        now = self.now()
        if transport.rank and not self._is_asking and now >= self._ask_at:
            self._ask(now)
        if now >= self._flush_at:
            self._flush_at = now + self._flush_ns
            self.flush()

    def flush(self) -> None:
        """Send all rows to rank 0; they leave with the transport's next flush."""
        now, journal = self.now(), self.parts.journal
        offset, error = self._offset.best(now) if self._transport.rank else (0, 0)
        if self._transport.rank and (offset, error) != self._told_offset:
            self._told_offset = (offset, error)
            journal.add(RowKind.CLOCK, now, now, offset, error)
        rows = self.parts.take()
        for name in ("begin", "end"):
            rows[name] += offset
        is_epoch = rows["kind"] == RowKind.EPOCH
        rows["b"][is_epoch] += offset
        self._transport.send(0, TraceRows(self._transport.rank, journal.dropped, rows))
