"""What a rank of a traced run does for the trace: note, and send rows in rank 0's time.

Times leave a rank in rank 0's clock. Nothing of this runs unless a trace is asked for.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.control.journal import Gauge, RowKind, Work
from dvm_mpi.control.messages import TraceRows
from dvm_mpi.control.rank_clock import RankClock
from dvm_mpi.control.tracer import flush_interval_s, parts_tracer
from dvm_mpi.control.transport import Transport
from dvm_mpi.dsm.home import Home
from dvm_mpi.layout import PAGE_BYTES

_NS_PER_S: Final = 1_000_000_000


class RankTracer:
    """The tracer of one rank.

    Parameters
    ----------
    transport
        To all ranks of the run.
    clock
        This rank's; from now on it is watched.
    sample
        Every so many-th runner is told of alone; 0: as many as there is room for.
    """

    def __init__(self, transport: Transport, clock: RankClock, sample: int) -> None:
        self.sample = sample
        self.parts = parts_tracer(clock.now, transport.rank, transport.size, sample)
        self._transport = transport
        self._clock = clock
        clock.is_watched = True
        self._told_offset = (0, -1)
        self._flush_ns = int(flush_interval_s(transport.size) * _NS_PER_S)
        self._flush_at = clock.now() + self._flush_ns

    def now(self) -> int:
        """Return this rank's time in ns."""
        return self.parts.journal.now()

    def work(self, work: Work, began: int) -> None:
        """Note long work that ends now."""
        self.parts.journal.add(RowKind.WORKED, began, self.now(), work)

    # --- turns ----------------------------------------------------------------------------------
    def each_turn(self, home: Home) -> None:
        """Look at what changes with time, and send rows, when it is time."""
        transport, gauges = self._transport, self.parts.gauges
        if gauges.is_due():
            gauges.look(
                {
                    Gauge.RESIDENT_BYTES: home.pool.in_use * PAGE_BYTES,
                    Gauge.SENDS_PENDING: transport.sends_pending,
                },
                {
                    Gauge.SENT_BYTES_PER_S: transport.traffic.sent_bytes(transport.rank),
                    Gauge.RECEIVED_BYTES_PER_S: transport.received_bytes,
                },
            )
        now = self.now()
        if now >= self._flush_at:
            self._flush_at = now + self._flush_ns
            self.flush()

    def flush(self) -> None:
        """Send all rows to rank 0; they leave with the transport's next flush."""
        now, journal = self.now(), self.parts.journal
        offset, error = self._clock.offset()
        if self._transport.rank and (offset, error) != self._told_offset:
            self._told_offset = (offset, error)
            journal.add(RowKind.CLOCK, now, now, offset, error)
        rows = self.parts.take()
        for name in ("begin", "end"):
            rows[name] += offset
        is_epoch = rows["kind"] == RowKind.EPOCH
        rows["b"][is_epoch] += offset
        self._transport.send(0, TraceRows(self._transport.rank, journal.dropped, rows))
