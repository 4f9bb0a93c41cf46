from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from dvm_mpi.config import PROGRESS_FIRST_S, PROGRESS_LINE_FIRST_S, PROGRESS_LINE_INTERVAL_S
from dvm_mpi.io.console import Console
from dvm_mpi.io.progress import (
    Progress,
    ProgressCounts,
    Rate,
    Transfer,
    bar,
    duration,
    left_s,
    line,
)
from tests.patience import PATIENCE_S

COUNTS = ProgressCounts(
    queued=1200,
    running=3,
    committed=4,
    aborted=1,
    retried=5,
    epochs=6,
    bytes_moved=7_000_000,
    instructions=40,
    workers_busy=2,
    workers=3,
)
TEXT = (
    "5 runners done, 3 running, 1,200 queued, 5 retried; 2 of 3 workers busy; "
    "350 M instructions/s; epoch 6; 7.00 MB moved"
)
HALF = Transfer("loading", 2_000_000_000, 4_000_000_000, "3 ranks still to come")
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


def open_progress(
    stream: TextIO | None, clock: Clock, term: str = "xterm", **words: Any
) -> Progress:
    """Return progress that is due at once if it is live."""
    progress = Progress(stream, clock=clock, environment={"TERM": term}, **words)
    clock.now += PROGRESS_FIRST_S
    return progress


def shown(sample: ProgressCounts | Transfer | str, columns: int = 79, stage_s: float = 20) -> str:
    return bar(sample, 60, stage_s, 350e6, columns, ascii_only=True)


# --- texts ---------------------------------------------------------------------------------------
def test_a_line_tells_the_figures() -> None:
    assert line(COUNTS, 1234.9, 1000, 350e6) == f"1,234 s: {TEXT}"
    slow = TEXT.replace("350 M instructions/s; ", "")
    assert line(COUNTS, 9, 9, 0) == f"9 s: {slow}", "a long runner has not ended yet"


def test_a_line_tells_what_cannot_be_measured() -> None:
    assert line("1 runner running", 71, 1, 0) == "71 s: 1 runner running"


@pytest.mark.parametrize(
    ("expected", "share"),
    [
        (0, ""),
        (20, "; 25% of 20 runners, about 60 s left"),
        (5, "; 100% of 5 runners"),
        # More came than was said: no estimate is better than a wrong one.
        (4, "; 125% of 4 runners"),
    ],
)
def test_what_is_left_of_expected_runners(expected: int, share: str) -> None:
    counts = replace(COUNTS, runners_expected=expected)
    assert line(counts, 30, 20, 350e6) == f"30 s: {TEXT}{share}"


def test_a_line_tells_bytes_and_what_is_left() -> None:
    told = "loading: 2.00 GB of 4.00 GB"
    rest = "; 3 ranks still to come"
    assert line(HALF, 30, 20, 0) == f"30 s: {told}, about 20 s left{rest}"
    assert line(replace(HALF, remark=""), 30, 20, 0) == f"30 s: {told}, about 20 s left"
    assert line(replace(HALF, done_bytes=0), 30, 20, 0) == f"30 s: loading: 0 B of 4.00 GB{rest}"


def test_nobody_knows_what_is_left_before_the_beginning_and_after_the_end() -> None:
    assert [left_s(done, 4, 30) for done in (0, 1, 3, 4, 5)] == [None, 90, 10, None, None]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (9_000, "2.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(100.0)
    assert rate.note(100.0, 5) == 0
    assert rate.note(101.0, 1_000) == 1_000
    told = [rate.note(104.0 + tenth / 10, 1_000) for tenth in range(30)]
    assert told[-1] == 0, "nothing has been added for more than two seconds"
    assert rate.note(166.9, 61_000) == pytest.approx(1_000, rel=0.1), "since the line before"


# --- bars ----------------------------------------------------------------------------------------
def test_a_bar_has_bytes_rate_and_estimate() -> None:
    assert shown(replace(HALF, remark="")).startswith("loading:  50%|####")
    assert "2.00G/4.00G [00:20<00:20, 100MB/s]" in shown(replace(HALF, remark=""))
    assert "3 ranks still to come" in shown(HALF, 120)


def test_a_bar_for_runners_only_if_their_number_is_known() -> None:
    assert shown(COUNTS, 200) == f"60 s: {TEXT}"
    told = shown(replace(COUNTS, runners_expected=20), 200)
    assert told.startswith(f" 25%|##5       | 00:20<01:00; {TEXT}")


@pytest.mark.parametrize(
    "sample",
    [COUNTS, replace(COUNTS, runners_expected=20), HALF, "waiting for the interpreter library"],
)
@pytest.mark.parametrize("columns", [1, 10, 19, 40, 79, 300])
def test_nothing_is_wider_than_the_terminal(
    sample: ProgressCounts | Transfer | str, columns: int
) -> None:
    assert len(shown(sample, columns)) <= columns


def test_bytes_that_are_not_known_beforehand_have_no_bar() -> None:
    assert shown(Transfer("writing", 5, 0, "2 ranks")) == "60 s: writing; 2 ranks"
    assert shown(Transfer("writing", 0, 0)) == "60 s: writing"


def test_more_than_everything_is_everything() -> None:
    assert "100%" in shown(replace(COUNTS, runners_expected=2))
    assert "100%" in shown(replace(HALF, done_bytes=5_000_000_000))


# --- live ----------------------------------------------------------------------------------------
def test_short_runs_show_nothing(clock: Clock) -> None:
    screen = Terminal()
    progress = Progress(screen, clock=clock, environment={})
    progress.update(lambda: pytest.fail("asked for figures"))
    clock.now += PROGRESS_FIRST_S - 0.01
    progress.update(lambda: pytest.fail("asked for figures"))
    progress.close()
    assert not screen.getvalue()


def test_the_line_is_drawn_and_leaves_nothing(clock: Clock) -> None:
    screen = Terminal()
    with open_progress(screen, clock) as progress:
        clock.now += 61
        progress.update(lambda: COUNTS)
        assert screen.getvalue() == f"{ERASE}61 s: {TEXT}"[: len(ERASE) + 79]
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


def test_estimates_begin_anew_with_each_stage(clock: Clock) -> None:
    screen = Terminal()
    progress = open_progress(screen, clock)
    clock.now += 1_000
    progress.enter_stage("loading")
    clock.now += 7
    progress.enter_stage("loading")
    progress.update(lambda: replace(HALF, remark=""))
    assert "[00:07<00:07, 286MB/s]" in screen.getvalue()


@pytest.mark.parametrize(
    ("terminal", "term", "words"),
    [(True, "xterm", {"quiet": True}), (True, "xterm", {"mode": "none"}), (None, "xterm", {})],
)
def test_nothing_is_shown_where_nobody_wants_it(
    clock: Clock, terminal: bool | None, term: str, words: dict[str, Any]
) -> None:
    stream = Terminal() if terminal else None
    progress = open_progress(stream, clock, term, **words)
    clock.now += 1_000
    progress.update(lambda: pytest.fail("asked for figures"))
    progress.close()
    assert stream is None or not stream.getvalue()


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


@pytest.mark.parametrize("sample", [COUNTS, HALF])
def test_a_narrow_terminal_gets_a_short_line(
    terminal: tuple[int, TextIO], clock: Clock, sample: ProgressCounts | Transfer
) -> None:
    shows, stream = terminal
    fcntl.ioctl(shows, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    with open_progress(stream, clock) as progress:
        progress.update(lambda: sample)
        drawn = os.read(shows, 1000).decode()
    assert drawn.startswith(ERASE)
    assert 10 < len(drawn.removeprefix(ERASE)) <= 19


def test_a_terminal_without_a_size_counts_as_wide(
    terminal: tuple[int, TextIO], clock: Clock
) -> None:
    shows, stream = terminal
    with open_progress(stream, clock) as progress:
        progress.update(lambda: COUNTS)
        assert len(os.read(shows, 1000).decode().removeprefix(ERASE)) == 79


def test_a_bar_needs_no_thread_and_no_lock() -> None:
    """What tqdm would start for its own bars is not there; and who draws none does not load it."""
    program = """
import sys, threading
from dvm_mpi.io.progress import Transfer, bar
print("tqdm" in sys.modules)
bar(Transfer("loading", 1, 2), 1, 1, 0, 80, ascii_only=True)
print("tqdm" in sys.modules, threading.active_count(), "multiprocessing" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.stdout.split() == ["False", "True", "1", "False"]


# --- lines ---------------------------------------------------------------------------------------
def test_a_log_gets_lines_the_first_soon(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress(log, clock=clock, environment={})
    began = clock.now
    for _ in range(2000):
        clock.now += 0.1
        progress.update(lambda: COUNTS)
    progress.close()
    times = [
        int(text.removeprefix("dvm: ").split(" s:")[0]) for text in log.getvalue().splitlines()
    ]
    wanted = [PROGRESS_LINE_FIRST_S + n * PROGRESS_LINE_INTERVAL_S for n in range(4)]
    assert times == pytest.approx(wanted, abs=1)
    assert clock.now - began < wanted[-1] + PROGRESS_LINE_INTERVAL_S
    assert "\x1b" not in log.getvalue()
    assert log.getvalue().endswith("moved\n")


@pytest.mark.parametrize("mode", ["lines", "auto"])
def test_a_dumb_terminal_is_a_log(clock: Clock, mode: Any) -> None:
    screen = Terminal()
    progress = Progress(screen, mode=mode, clock=clock, environment={"TERM": "dumb"})
    clock.now += PROGRESS_LINE_FIRST_S
    progress.update(lambda: "all is well")
    progress.close()
    assert screen.getvalue() == f"dvm: {int(PROGRESS_LINE_FIRST_S)} s: all is well\n"


def test_behind_a_launcher_a_live_line_can_be_asked_for(clock: Clock) -> None:
    """No terminal is seen there; the program's output may be on the one that there is."""
    pipe, output = io.StringIO(), io.BytesIO()
    progress = open_progress(pipe, clock, mode="live")
    console = Console(output, progress)
    progress.update(lambda: "all is well")
    console.write(b"text\n")
    assert pipe.getvalue() == f"{ERASE}0 s: all is well{ERASE}"


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_line_never_breaks_one_of_the_program(
    tmp_path: Path, clock: Clock, is_shared: bool
) -> None:
    """Both streams in one log, as in a batch job: progress waits for the end of a line."""
    log = tmp_path / "log"
    other = log if is_shared else tmp_path / "other"
    with log.open("ab") as output, other.open("a") as errors:
        progress = Progress(errors, clock=clock, environment={})
        console = Console(output, progress)
        console.write(b"half ")
        clock.now += 1_000
        progress.update(lambda: "all is well")
        console.write(b"a line\n")
        progress.update(lambda: "all is well")
    told = b"dvm: 1,000 s: all is well\n"
    assert log.read_bytes() == b"half a line\n" + (told if is_shared else b"")
    assert is_shared or other.read_bytes() == told
