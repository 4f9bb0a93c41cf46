"""What shows how far a run is: a line that is drawn anew on a terminal, or plain lines in a log.

Bars, rates and estimates are tqdm's. Only its functions that format are used, and nothing of it is
imported before a bar is drawn: its objects would bring a lock between processes and a thread that
looks after them, and would read the clock by themselves. Drawing is two escape sequences.

The rule to remember: the line is only on the screen while the cursor may stand there. Who prints
calls `clear` before, and says afterwards whether a line was left open; the console does both.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, Final, Literal, TextIO

from dvm_mpi.config import (
    PROGRESS_FIRST_S,
    PROGRESS_INTERVAL_S,
    PROGRESS_LINE_FIRST_S,
    PROGRESS_LINE_INTERVAL_S,
)
from dvm_mpi.io.report import counted, scaled
from dvm_mpi.values import dataclass

#: Back to the first column, and erase the line.
_ERASE: Final = "\r\x1b[2K"
_COLUMNS_DEFAULT: Final = 80
#: Rates are those of the last seconds, or since the last line.
_RATE_WINDOW_S: Final = 2.0
_S_PER_MIN: Final = 60
_S_PER_H: Final = 3_600
#: A duration is told in a larger unit from this many of it on.
_UNITS_MIN: Final = 2

Mode = Literal["auto", "live", "lines", "none"]


@dataclass(frozen=True, slots=True)
class ProgressCounts:
    """What is shown of a program that runs; `bytes_moved` is fetched plus committed."""

    queued: int
    running: int
    committed: int
    aborted: int
    retried: int
    epochs: int
    bytes_moved: int
    #: Of attempts that have ended.
    instructions: int
    #: Workers that have runners, of those that are there.
    workers_busy: int
    workers: int
    #: Runners that the user expects in all, 0 if nobody knows.
    runners_expected: int = 0

    @property
    def ended(self) -> int:
        """Runners that have ended for good."""
        return self.committed + self.aborted


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that go into memory or out of it: what is being done, of what, and what else is due."""

    doing: str
    done_bytes: int
    total_bytes: int
    remark: str = ""


#: A text stands for whatever cannot be measured.
Sample = ProgressCounts | Transfer | str


class Rate:
    """How fast a count grows; it is told the time."""

    def __init__(self, began_at: float) -> None:
        self._seen = deque([(began_at, 0)])

    def note(self, now: float, count: int) -> float:
        """Take the count as of now; return how much it has grown in a second."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _RATE_WINDOW_S:  # noqa: PLR2004
            self._seen.popleft()
        then, before = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0


# --- texts --------------------------------------------------------------------------------------
def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: `47 s`, `12 min`, `3.4 h`."""
    if seconds < _UNITS_MIN * _S_PER_MIN:
        return f"{seconds:.0f} s"
    if seconds < _UNITS_MIN * _S_PER_H:
        return f"{seconds / _S_PER_MIN:.0f} min"
    return f"{seconds / _S_PER_H:.1f} h"


def left_s(done: int, total: int, elapsed_s: float) -> float | None:
    """Return how long the rest takes if it goes on like this; None where that is not known."""
    if not 0 < done < total:
        return None
    return elapsed_s * (total - done) / done


def _left(done: int, total: int, elapsed_s: float) -> str:
    left = left_s(done, total, elapsed_s)
    return "" if left is None else f", about {duration(left)} left"


def counts_text(counts: ProgressCounts, rate: float) -> str:
    """Return what is told of a program, the most telling first: a narrow terminal cuts it."""
    c = counts
    parts = [
        f"{counted(c.ended, 'runner')} done, {c.running:,} running, {c.queued:,} queued, "
        f"{c.retried:,} retried",
        f"{c.workers_busy:,} of {counted(c.workers, 'worker')} busy",
    ]
    # A long runner counts at its end: until then 0 would be no news, and wrong.
    if rate:
        parts.append(f"{scaled(rate)} instructions/s")
    parts += [f"epoch {c.epochs:,}", f"{scaled(c.bytes_moved, 'B')} moved"]
    return "; ".join(parts)


def line(sample: Sample, elapsed_s: float, stage_s: float, rate: float) -> str:
    """Return a line for a log; the time moves even if one long runner keeps all counts.

    `elapsed_s` since the run began, `stage_s` since it began to do this.
    """
    when = f"{int(elapsed_s):,} s: "
    if isinstance(sample, str):
        return when + sample
    if isinstance(sample, Transfer):
        done, total = sample.done_bytes, sample.total_bytes
        remark = f"; {sample.remark}" if sample.remark else ""
        return (
            f"{when}{sample.doing}: {scaled(done, 'B')} of {scaled(total, 'B')}"
            f"{_left(done, total, stage_s)}{remark}"
        )
    share = ""
    if sample.runners_expected:
        done, total = sample.ended, sample.runners_expected
        share = f"; {done / total:.0%} of {total:,} runners{_left(done, total, stage_s)}"
    return when + counts_text(sample, rate) + share


def bar(
    sample: Sample, elapsed_s: float, stage_s: float, rate: float, columns: int, *, ascii_only: bool
) -> str:
    """Return what a terminal shows, in so many columns at most."""
    if isinstance(sample, str):
        return f"{int(elapsed_s):,} s: {sample}"[:columns]
    if isinstance(sample, Transfer):
        if not sample.total_bytes:
            return f"{int(elapsed_s):,} s: {sample.doing}; {sample.remark}"[:columns].rstrip("; ")
        words: dict[str, Any] = {"prefix": sample.doing, "postfix": sample.remark, "unit": "B"}
        n, total = sample.done_bytes, sample.total_bytes
    elif sample.runners_expected:
        words = {
            "prefix": counts_text(sample, rate),
            "bar_format": "{percentage:3.0f}%|{bar:10}| {elapsed}<{remaining}; {desc}",
        }
        n, total = sample.ended, sample.runners_expected
    else:
        return f"{int(elapsed_s):,} s: {counts_text(sample, rate)}"[:columns]
    from tqdm.std import tqdm  # noqa: PLC0415 - a tenth of a second; most runs draw no bar

    drawn: str = tqdm.format_meter(
        min(n, total), total, stage_s, ncols=columns, ascii=ascii_only, unit_scale=True, **words
    )
    return drawn


# --- where it is shown --------------------------------------------------------------------------
class Progress:
    """Progress on one stream, or nothing at all; a context manager.

    Parameters
    ----------
    stream
        Standard error; None if there is none.
    mode
        "auto": live on a terminal that can be drawn on, else lines.
    quiet
        As mode "none".
    """

    def __init__(
        self,
        stream: TextIO | None,
        *,
        mode: Mode = "auto",
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        is_terminal = stream is not None and stream.isatty() and environment.get("TERM") != "dumb"
        self._is_live = mode == "live" or (mode == "auto" and is_terminal)
        #: Whether it is drawn where no terminal is seen: there may be one behind a launcher.
        self._is_forced = self._is_live and not is_terminal
        self._stream = None if quiet or mode == "none" else stream
        self._clock = clock
        #: Whether the line is on the screen now.
        self._is_drawn = False
        #: Whether the cursor stands behind text of the program: drawing would destroy it.
        self._is_line_open = False
        self._began_at = clock()
        self._due_at = self._began_at + (
            PROGRESS_FIRST_S if self._is_live else PROGRESS_LINE_FIRST_S
        )
        self._interval_s = PROGRESS_INTERVAL_S if self._is_live else PROGRESS_LINE_INTERVAL_S
        #: What is being done, and since when; how fast instructions are executed.
        self._stage = ""
        self._stage_at = self._began_at
        self._rate = Rate(self._began_at)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter_stage(self, name: str) -> None:
        """Note that something else is done from now on: estimates begin anew. Cheap to call."""
        if name != self._stage:
            self._stage, self._stage_at = name, self._clock()

    def update(self, sample: Callable[[], Sample]) -> None:
        """Show how far it is, if it is time; `sample` is called only then. Cheap to call often."""
        if self._stream is None or self._is_line_open:
            return
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + self._interval_s
        taken = sample()
        counts = taken.instructions if isinstance(taken, ProgressCounts) else 0
        rate = self._rate.note(now, counts)
        elapsed_s, stage_s = now - self._began_at, now - self._stage_at
        if not self._is_live:
            self._put(f"dvm: {line(taken, elapsed_s, stage_s, rate)}\n")
            return
        # One column less than there are: a full line makes some terminals scroll.
        encoding = (self._stream.encoding or "").lower()
        drawn = bar(
            taken,
            elapsed_s,
            stage_s,
            rate,
            self._columns() - 1,
            ascii_only=not encoding.startswith("utf"),
        )
        self._is_drawn = True
        self._put(_ERASE + drawn)

    def clear(self) -> None:
        """Take the line off the screen; the next `update` that is due brings it back."""
        if self._is_drawn:
            self._put(_ERASE)
            self._is_drawn = False

    def is_beside(self, output: IO[Any]) -> bool:
        """Return whether the program's output appears at the same place."""
        if self._stream is None:
            return False
        if self._is_live:
            return self._is_forced or output.isatty()
        with suppress(OSError, ValueError):
            return os.path.sameopenfile(output.fileno(), self._stream.fileno())
        return False

    def note_output(self, *, is_line_open: bool) -> None:
        """Learn that the program printed beside this, and whether its line is unfinished."""
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
        except (OSError, ValueError):
            self._stream = None
            self._is_drawn = False
