"""The progress line on a terminal: one line, drawn at most ten times a second, gone at the end.

Drawn by hand: the two escape sequences that every terminal knows are less than what tqdm needs to
be told not to do (a thread, a semaphore between processes, a bar of unknown length). Nothing is
drawn where standard error is no terminal, or one that calls itself dumb.

The rule to remember: the line is only on the screen while the cursor may stand there. Who prints
calls `clear` before, and says afterwards whether a line was left open; the console does both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TextIO

from dvm_mpi.config import PROGRESS_INTERVAL_S
from dvm_mpi.io.report import scaled

#: Back to the first column, and erase the line.
_ERASE: Final = "\r\x1b[2K"
_COLUMNS_DEFAULT: Final = 80


@dataclass(frozen=True, slots=True)
class ProgressCounts:
    """What the line shows; `bytes_moved` is fetched plus committed."""

    queued: int
    running: int
    committed: int
    retried: int
    epochs: int
    bytes_moved: int


def line(counts: ProgressCounts, elapsed_s: float) -> str:
    """Return the text of the line, the most telling figures first: a narrow terminal cuts it.

    The time moves even if one long runner keeps all counts as they are.
    """
    return (
        f"{int(elapsed_s):,} s; runners: {counts.queued:,} queued, {counts.running:,} running, "
        f"{counts.committed:,} committed, {counts.retried:,} retried; "
        f"epoch {counts.epochs:,}; {scaled(counts.bytes_moved, 'B')} moved"
    )


class Progress:
    """A progress line, or nothing at all; a context manager."""

    def __init__(
        self,
        stream: TextIO | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Prepare a line on `stream` (standard error), unless it is no terminal or `quiet`."""
        is_capable = stream is not None and stream.isatty() and environment.get("TERM") != "dumb"
        self._stream = stream if is_capable and not quiet else None
        self._clock = clock
        #: Whether the line is on the screen now.
        self._is_drawn = False
        #: Whether the cursor stands behind text of the program: drawing would destroy it.
        self._is_line_open = False
        self._began_at = clock()
        self._due_at = self._began_at

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, sample: Callable[[], ProgressCounts]) -> None:
        """Draw the line if it is time; `sample` is called only then. Cheap to call often."""
        if self._stream is None or self._is_line_open:
            return
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + PROGRESS_INTERVAL_S
        # One column less than there are: a full line makes some terminals scroll.
        self._is_drawn = True
        self._put(_ERASE + line(sample(), now - self._began_at)[: self._columns() - 1])

    def clear(self) -> None:
        """Take the line off the screen; the next `update` that is due brings it back."""
        if self._is_drawn:
            self._put(_ERASE)
            self._is_drawn = False

    def note_output(self, *, is_line_open: bool) -> None:
        """Learn that something was printed on the terminal, and whether its line is unfinished."""
        self._is_line_open = is_line_open

    def close(self) -> None:
        """Take the line off the screen for good; idempotent."""
        self.clear()
        self._stream = None

    def _columns(self) -> int:
        assert self._stream is not None
        with suppress(OSError):
            # A terminal without a size (a pseudo-terminal of a script) says 0.
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS_DEFAULT
        return _COLUMNS_DEFAULT

    def _put(self, text: str) -> None:
        """Write at once; a terminal that went away ends the line, never the run."""
        assert self._stream is not None
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._stream = None
            self._is_drawn = False
