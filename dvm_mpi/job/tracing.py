"""The trace of one run (`--trace`): takes the rows of all ranks and writes them as they come.

On the side that owns the files. Memory is bounded: rows wait in a queue, a few are written in each
turn, and what finds no room is counted. A file that takes no more ends the trace, not the run.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from numpy.typing import NDArray

from dvm_mpi import __version__, config
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.disa.image import Image
from dvm_mpi.errors import FileError
from dvm_mpi.io.report import counted
from dvm_mpi.io.trace_file import TraceFile
from dvm_mpi.job.parts import say
from dvm_mpi.job.trace_events import TraceEvents, end_of
from dvm_mpi.options import RunOptions


class Trace:
    """The file of `--trace`, and what waits to be written.

    Parameters
    ----------
    options, image
        Of the run.
    names
        Of the processes, by rank.
    begins_ns
        Time 0 of the trace, in rank 0's clock.

    Raises
    ------
    FileError
        The file cannot be written.
    """

    def __init__(self, options: RunOptions, image: Image, names: list[str], begins_ns: int) -> None:
        assert options.trace is not None
        self._path = options.trace
        self._file: TraceFile | None = TraceFile(self._path, f"--trace {self._path}")
        self._events = TraceEvents(Narrator(image), names, begins_ns)
        self._queue: deque[tuple[int, NDArray[Any]]] = deque()
        self._queued_rows = 0
        #: Rows that had no room in a rank's journal or in the queue, by rank; and when.
        self._dropped: dict[int, int] = {}
        self._dropped_here: dict[int, int] = {}
        self._latest_ns = begins_ns
        self._flush_at_s = 0.0
        self._event_count = 0
        self._write(
            self._events.facts(
                {
                    "program": str(options.program),
                    "command": " ".join(options.command),
                    "version": __version__,
                }
            )
        )

    def take(self, rank: int, dropped: int, rows: NDArray[Any]) -> None:
        """Take what a rank has noted; `dropped` rows of it ever had no room."""
        if self._file is None:
            return
        self._dropped[rank] = dropped
        self._latest_ns = max(self._latest_ns, end_of(rows))
        if self._queued_rows + len(rows) > config.TRACE_QUEUE_ROWS_MAX:
            self._dropped_here[rank] = self._dropped_here.get(rank, 0) + len(rows)
        elif len(rows):
            self._queue.append((rank, rows))
            self._queued_rows += len(rows)

    def each_turn(self, now_s: float) -> None:
        """Write a few rows; let them reach the file from time to time."""
        if self._queue:
            self._write_some()
        if now_s >= self._flush_at_s and self._file is not None:
            self._flush_at_s = now_s + config.TRACE_FLUSH_S
            try:
                self._file.flush()
            except FileError as error:
                self._give_up(error)

    def _write_some(self) -> None:
        rank, rows = self._queue.popleft()
        now, later = rows[: config.TRACE_ROWS_AT_ONCE], rows[config.TRACE_ROWS_AT_ONCE :]
        if len(later):
            self._queue.appendleft((rank, later))
        self._queued_rows -= len(now)
        self._write(self._events.take(rank, now))

    def close(self) -> None:
        """Write all that is left, and the end; idempotent."""
        if self._file is None:
            return
        while self._queue:
            self._write_some()
        self._write(self._events.rest())
        for rank, count in sorted(self.dropped.items()):
            self._write(self._events.dropped(rank, count, self._latest_ns))
        # Each write may have been the last.
        if self._file is not None:
            self._event_count = self._file.event_count
            try:
                self._file.close()
            except FileError as error:
                self._give_up(error)
            self._file = None

    @property
    def dropped(self) -> dict[int, int]:
        """Rows that are missing, by rank; only of ranks of which some are."""
        ranks = self._dropped.keys() | self._dropped_here.keys()
        missing = {
            rank: self._dropped.get(rank, 0) + self._dropped_here.get(rank, 0) for rank in ranks
        }
        return {rank: count for rank, count in missing.items() if count}

    def summary(self) -> str:
        """Tell what was written; empty if it was told that nothing more could be."""
        if not self._event_count:
            return ""
        text = f"dvm: trace: {self._event_count:,} events in {self._path}; see ui.perfetto.dev"
        if self._events.clock_error_ns:
            text += f"; clocks agree within {self._events.clock_error_ns / 1e6:.1f} ms"
        missing = self.dropped
        if missing:
            text += (
                f"\n  {sum(missing.values()):,} rows of {counted(len(missing), 'rank')} had no "
                "room and are missing; --trace-sample N leaves out more single runners"
            )
        return text

    def _write(self, events: list[str]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(events)
        except FileError as error:
            self._give_up(error)

    def _give_up(self, error: FileError) -> None:
        """End the trace; the run goes on."""
        self._file = None
        self._queue.clear()
        say(f"{error.message}\n  the trace ends here; the run goes on")
