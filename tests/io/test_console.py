from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from dvm_mpi.errors import FileError, LimitError, ReaderGoneError
from dvm_mpi.io.console import Console, read_input, standard_output
from dvm_mpi.io.progress import Progress, ProgressCounts
from tests.patience import PATIENCE_S

COUNTS = ProgressCounts(
    queued=1,
    running=1,
    committed=1,
    aborted=0,
    retried=0,
    epochs=1,
    bytes_moved=0,
    instructions=0,
    workers_busy=1,
    workers=1,
)


class Screen(io.BytesIO):
    """One terminal for both streams: what it shows is in the order of writing."""

    def isatty(self) -> bool:
        return True


class Errors(io.TextIOWrapper):
    """Standard error on the same screen."""

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_bytes_go_out_unchanged_and_at_once() -> None:
    stream = io.BytesIO()
    console = Console(stream)
    every_byte = bytes(range(256))
    console.write(every_byte)
    console.write(b"")
    console.write(b"\r\n")
    assert stream.getvalue() == every_byte + b"\r\n"
    assert console.byte_count == 258


def test_output_and_progress_share_a_terminal() -> None:
    """The line goes before text is printed, and stays away while a line of text is unfinished."""
    screen = Screen()
    errors = Errors(screen, write_through=True)
    ticks = iter(range(100))
    progress = Progress(errors, clock=lambda: next(ticks), environment={})
    console = Console(screen, progress)
    progress.update(lambda: COUNTS)
    console.write(b"half ")
    progress.update(lambda: COUNTS)
    console.write(b"a line\n")
    progress.update(lambda: COUNTS)
    progress.close()
    shown = screen.getvalue()
    assert b"\r\x1b[2Khalf a line\n\r\x1b[2K2 s: 1 runner done" in shown
    assert shown.endswith(b"\r\x1b[2K")


def test_output_into_a_file_leaves_the_line_alone() -> None:
    screen = Screen()
    ticks = iter(range(100))
    progress = Progress(
        Errors(screen, write_through=True), clock=lambda: next(ticks), environment={}
    )
    console = Console(io.BytesIO(), progress)
    progress.update(lambda: COUNTS)
    console.write(b"no end of line")
    progress.update(lambda: COUNTS)
    assert screen.getvalue().count(b"runner done") == 2


def test_a_closed_standard_output_is_told_when_it_is_needed() -> None:
    console = Console(None)
    console.write(b"")
    with pytest.raises(FileError, match="standard output is closed; redirect it"):
        console.write(b"text")


WRITES = """
import sys
from dvm_mpi.errors import DvmError
from dvm_mpi.io.console import Console, standard_output
try:
    while True:
        Console(standard_output()).write(b"line\\n" * 1000)
except DvmError as error:
    print(error, end="", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_a_reader_that_goes_away_ends_the_run_quietly() -> None:
    """As in `dvm ... | head -1`: the code of a lost pipe, and no complaint of Python's own."""
    command = [sys.executable, "-c", WRITES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"the reader of standard output went away"
        assert process.wait(timeout=PATIENCE_S) == ReaderGoneError.exit_code


def test_a_full_disk_is_told_once() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-c", WRITES],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
    assert ended.returncode == FileError.exit_code
    assert ended.stderr == (
        "cannot write standard output: No space left on device; redirect it to another place"
    )


def test_after_a_fault_the_stream_can_be_closed() -> None:
    """What is still buffered must not raise once more, when nobody handles it."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as lost, pytest.raises(ReaderGoneError):
        Console(lost).write(b"text")
    with Path("/dev/full").open("wb") as full, pytest.raises(FileError):
        Console(full).write(b"text")


def test_standard_output_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert standard_output() is None


# --- input -----------------------------------------------------------------------------------


def no_words(text: str) -> None:
    pytest.fail(text)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input is a pipe; its writing end."""
    reads, writes = os.pipe()
    with os.fdopen(reads) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield writes


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"a\r\n\0\xff")
    assert read_input(tmp_path / "in", no_words) == b"a\r\n\0\xff"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"--stdin .*/in: cannot read it: No such file"):
        read_input(tmp_path / "in", no_words)
    with pytest.raises(FileError, match="cannot read it: Is a directory"):
        read_input(tmp_path, no_words)


@pytest.mark.parametrize("path", [None, Path("-")])
def test_a_pipe_is_read_to_its_end(stdin: int, path: Path | None) -> None:
    os.write(stdin, b"a\r\n\xff")
    os.close(stdin)
    assert read_input(path, no_words) == b"a\r\n\xff"


def test_a_silent_pipe_is_explained(stdin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.io.console.SILENT_WAIT_S", 0.01)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.close(stdin)

    assert read_input(None, say) == b""
    assert said == ["waiting for the end of standard input; use --stdin /dev/null if there is none"]


def test_a_terminal_is_read_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shows, reads = os.openpty()
    with os.fdopen(reads) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert read_input(None, no_words) == b""
        os.write(shows, b"typed\n\x04")
        assert read_input(Path("-"), no_words) == b"typed\n"
        os.close(shows)


def test_a_pipe_with_a_terminal_behind_it_is_read_only_when_asked_for(stdin: int) -> None:
    os.write(stdin, b"typed")
    assert read_input(None, no_words, is_terminal=True) == b""
    os.close(stdin)
    assert read_input(Path("-"), no_words, is_terminal=True) == b"typed"


def test_turns_are_taken_while_input_is_waited_for(stdin: int) -> None:
    """A pipe that gives a part and then nothing must not make a rank deaf."""
    os.write(stdin, b"a")
    turns = count()

    def turn() -> None:
        if next(turns) == 3:
            os.write(stdin, b"b")
            os.close(stdin)

    assert read_input(None, no_words, turn=turn) == b"ab"


def test_a_process_without_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert read_input(None, no_words) == b""


def test_too_much_input_reaches_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.io.console.STDIN_BYTES_MAX", 4)
    (tmp_path / "in").write_bytes(b"12345")
    with pytest.raises(LimitError, match="STDIN_BYTES_MAX"):
        read_input(tmp_path / "in", no_words)
    (tmp_path / "in").write_bytes(b"1234")
    assert read_input(tmp_path / "in", no_words) == b"1234"
