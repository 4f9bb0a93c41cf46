from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from dvm_mpi.io.progress import Progress, ProgressCounts, line

COUNTS = ProgressCounts(
    queued=1200, running=3, committed=4, retried=5, epochs=6, bytes_moved=7_000_000
)
ERASE = "\r\x1b[2K"


class Terminal(io.StringIO):
    """Says that it is a terminal; has no descriptor and so no width."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_progress(stream: TextIO | None, clock: Clock, term: str = "xterm") -> Progress:
    return Progress(stream, clock=clock, environment={"TERM": term})


def test_the_line_tells_the_figures() -> None:
    assert line(COUNTS, 1234.9) == (
        "1,234 s; runners: 1,200 queued, 3 running, 4 committed, 5 retried; epoch 6; 7.00 MB moved"
    )


def test_the_time_is_that_since_the_beginning(clock: Clock) -> None:
    screen = Terminal()
    progress = open_progress(screen, clock)
    clock.now += 61.5
    progress.update(lambda: COUNTS)
    assert screen.getvalue().startswith(ERASE + "61 s; runners: 1,200 queued")


def test_the_line_is_drawn_and_leaves_nothing(clock: Clock) -> None:
    screen = Terminal()
    with open_progress(screen, clock) as progress:
        progress.update(lambda: COUNTS)
        assert screen.getvalue() == ERASE + line(COUNTS, 0)[:79]
    assert screen.getvalue().endswith(ERASE)
    progress.close()
    progress.update(lambda: COUNTS)
    assert screen.getvalue().count(ERASE) == 2


def test_figures_are_asked_for_ten_times_a_second(clock: Clock) -> None:
    asked = 0

    def sample() -> ProgressCounts:
        nonlocal asked
        asked += 1
        return COUNTS

    progress = open_progress(Terminal(), clock)
    for _ in range(1000):
        progress.update(sample)
        clock.now += 0.001
    assert asked == pytest.approx(10, abs=1)


def test_nothing_is_drawn_where_nobody_watches(clock: Clock) -> None:
    for stream, quiet, term in (
        (io.StringIO(), False, "xterm"),
        (Terminal(), True, "xterm"),
        (Terminal(), False, "dumb"),
    ):
        progress = Progress(stream, quiet=quiet, clock=clock, environment={"TERM": term})
        progress.update(lambda: pytest.fail("asked for figures"))
        progress.close()
        assert not stream.getvalue()
    open_progress(None, clock).update(lambda: pytest.fail("asked for figures"))


def test_the_line_waits_until_the_program_has_ended_its_own(clock: Clock) -> None:
    screen = Terminal()
    progress = open_progress(screen, clock)
    progress.note_output(is_line_open=True)
    progress.update(lambda: COUNTS)
    assert not screen.getvalue()
    progress.note_output(is_line_open=False)
    progress.update(lambda: COUNTS)
    assert screen.getvalue()


def test_clearing_what_is_not_drawn_writes_nothing(clock: Clock) -> None:
    screen = Terminal()
    progress = open_progress(screen, clock)
    progress.clear()
    progress.update(lambda: COUNTS)
    progress.clear()
    progress.clear()
    assert screen.getvalue().count(ERASE) == 2


def test_a_terminal_that_goes_away_does_not_end_the_run(clock: Clock) -> None:
    class Lost(Terminal):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    progress = open_progress(Lost(), clock)
    progress.update(lambda: COUNTS)
    progress.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """A real pseudo-terminal: the end that shows, and the end that programs write to."""
    shows, writes = pty.openpty()
    with os.fdopen(writes, "w") as stream:
        yield shows, stream
    with suppress(OSError):
        os.close(shows)


def test_a_narrow_terminal_gets_a_short_line(terminal: tuple[int, TextIO], clock: Clock) -> None:
    shows, stream = terminal
    fcntl.ioctl(shows, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    with open_progress(stream, clock) as progress:
        progress.update(lambda: COUNTS)
        assert os.read(shows, 1000).decode() == ERASE + line(COUNTS, 0)[:19]


def test_a_terminal_without_a_size_counts_as_wide(
    terminal: tuple[int, TextIO], clock: Clock
) -> None:
    shows, stream = terminal
    with open_progress(stream, clock) as progress:
        progress.update(lambda: COUNTS)
        assert os.read(shows, 1000).decode() == ERASE + line(COUNTS, 0)[:79]
