"""What only a process of its own can show: signals, pipes, terminals, how Python was started.

Few, because each start of Python takes a second.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dvm_mpi.errors import EXIT_CODE_MEANINGS, ExitCode
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
DVM = (sys.executable, "-m", "dvm_mpi")

#: Prints a line from one runner, then lets two others run for ever.
ENDLESS = """\
        .array  points, fd, 4
main:   mov     $'h', console
        mov     $'\\n', console
        .runner spin
        .runner spin
        exit:c
spin:   br:j    spin
"""
#: Sleeps for an hour.
ASLEEP = """\
main:   mov     $'h', console
        mov     $'\\n', console
        .runner sleep
        exit:c
sleep:  mov     $2, syscall_number
        mov     $3600000000, syscall_args
        int     $0x80
        exit:c
"""
#: Prints many lines, one runner after the other.
LINES = """\
        .private left
main:   mov     $200, left
        bl      $print, r1
        exit:c
child:  .arguments left
        bl      $print, r1
        exit:c
print:  mov     $'x', console
        mov     $'\\n', console
        sub     left, $1, left
        br:z    left, done
        .runner child, args=(left)
done:   br:ji   r1
"""


@contextmanager
def started(
    folder: Path, text: str, *options: str, **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a folder; it is over when the block is left, whatever happens."""
    (folder / "p.dasm").write_text(text)
    command = [*DVM, "p.dasm", "--engine", "reference", *options]
    settings: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
    }
    process = subprocess.Popen(command, **(settings | streams))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def shell(folder: Path, text: str, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `dvm` is the program's command; its status is the pipe's."""
    (folder / "p.dasm").write_text(text)
    command = f"{' '.join(DVM)} p.dasm --engine reference --stdin /dev/null"
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + line.replace("dvm", command)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


# --- signals -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "number", "code"),
    [
        (ENDLESS, signal.SIGINT, ExitCode.INTERRUPTED),
        (ENDLESS, signal.SIGTERM, ExitCode.TERMINATED),
        (ENDLESS, signal.SIGUSR1, ExitCode.TERMINATED),
        (ASLEEP, signal.SIGINT, ExitCode.INTERRUPTED),
    ],
    ids=["interrupt", "terminate", "time is up", "interrupt asleep"],
)
def test_signal_ends_the_run_with_the_summary(
    tmp_path: Path, text: str, number: int, code: ExitCode
) -> None:
    """What was committed has been printed, the report is written, no output is."""
    options = ["--report", "run.json"] + (["--out", "points=out.h5:p"] if ".array" in text else [])
    with started(tmp_path, text, *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"h\n"
        time.sleep(0.2)
        process.send_signal(number)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert f"dvm: ended by {name}; what had been committed was printed" in told.decode()
    assert EXIT_CODE_MEANINGS[code] in told.decode()
    assert b"1 committed" in told
    assert b"Traceback" not in told
    assert json.loads((tmp_path / "run.json").read_text())["exit_code"] == code
    assert {path.name for path in tmp_path.iterdir()} == {"p.dasm", "run.json"}


# --- pipes -------------------------------------------------------------------------------------
def test_reader_that_leaves(tmp_path: Path) -> None:
    """`| head -n 3`: quiet but for the summary, and the status that shells give to SIGPIPE."""
    ended = shell(tmp_path, LINES, "dvm --quiet | head -n 3")
    assert ended.returncode == ExitCode.READER_GONE
    assert (ended.stdout, ended.stderr) == ("x\nx\nx\n", "")


def test_closed_standard_output(tmp_path: Path) -> None:
    ended = shell(tmp_path, LINES, "dvm --quiet >&-")
    assert ended.returncode == ExitCode.FILE
    assert ended.stderr == (
        "dvm: error: standard output is closed; redirect it, to /dev/null if need be\n"
    )


def test_full_disk(tmp_path: Path) -> None:
    ended = shell(tmp_path, LINES, "dvm --quiet > /dev/full")
    assert ended.returncode == ExitCode.FILE
    assert "cannot write standard output: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_into_a_closed_pipe(tmp_path: Path) -> None:
    ended = shell(tmp_path, LINES, "dvm --help | head -n 1")
    assert ended.stdout.startswith("usage: ")
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr


def test_standard_input_through_a_pipe(tmp_path: Path) -> None:
    echo = "n: mov stdin, r1\n br:l r1, $0, d\n mov r1, console\n br:j n\nd: exit:c\n"
    (tmp_path / "p.dasm").write_text(echo)
    ended = subprocess.run(
        [*DVM, "p.dasm", "--engine", "reference", "--quiet"],
        input=b"through\x00the pipe\n", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, b"through\x00the pipe\n")


# --- terminals ---------------------------------------------------------------------------------
def read_terminal(descriptor: int, until: Sequence[bytes]) -> bytes:
    """Read what a program shows on its terminal, until all of the words have come."""
    shown = b""
    ends = time.monotonic() + PATIENCE_S
    while not all(word in shown for word in until):
        ready, _, _ = select.select([descriptor], [], [], ends - time.monotonic())
        assert ready, shown
        shown += os.read(descriptor, 4096)
    return shown


def test_progress_line_on_a_terminal(tmp_path: Path) -> None:
    """It is redrawn in place, and gone before anything else is written."""
    terminal, inside = pty.openpty()
    try:
        with started(tmp_path, ENDLESS, stderr=inside) as process:
            first = read_terminal(terminal, [b"2 running", b"1 runner done"])
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            rest = read_terminal(terminal, [b"resident"])
    finally:
        os.close(terminal)
        os.close(inside)
    drawn = rb"\r\x1b\[2K\d+ s: 1 runner done, 2 running, 0 queued, 0 retried"
    assert re.search(drawn, first + rest)
    before, _, _ = (first + rest).partition(b"dvm: ended by SIGINT")
    assert before.endswith(b"\r\x1b[2K")


def test_no_progress_line_in_a_file(tmp_path: Path) -> None:
    with started(tmp_path, ENDLESS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert b"\x1b" not in told


def test_progress_behind_a_pipe_can_be_asked_for(tmp_path: Path) -> None:
    """As behind a launcher, whose ranks see no terminal."""
    with started(tmp_path, ENDLESS, "--progress", "live") as process:
        assert process.stderr is not None
        told = read_terminal(process.stderr.fileno(), [b"\r\x1b[2K", b"2 running"])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert b" s: 1 runner done, 2 running" in told


# --- Python ------------------------------------------------------------------------------------
def test_checks_may_not_be_switched_off(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-O", "-m", "dvm_mpi", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.USAGE
    assert "python -O switches DVM's checks off" in ended.stderr


# --- memory ------------------------------------------------------------------------------------
MEMORY_BYTES_MAX = 250_000_000


def test_scattered_words_take_little_memory(tmp_path: Path) -> None:
    """1,000 words over 35 TB, up to the last one of the program's areas, cost a page each.

    The first run fills the cache of compiled code: the compiler itself needs memory. This process
    is larger than the limit; what it is must not be counted.
    """
    program = Path(__file__).parent / "programs" / "scattered.dasm"
    command = [*DVM, str(program), "--quiet", "--report", "run.json"]
    ballast = b"x" * MEMORY_BYTES_MAX
    for _ in range(2):
        ended = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1000\n", "")
    told = json.loads((tmp_path / "run.json").read_text())
    assert len(ballast) == MEMORY_BYTES_MAX
    assert told["peak_memory_bytes"] < MEMORY_BYTES_MAX
    assert told["bytes_committed"] >= 8 * 1_000
