"""Ends a rank that hangs within MPI, and says who is missing: a process beside the rank.

A call into MPI that waits for a rank which never comes does not return. Python runs signal handlers
in the thread that is within it, so none runs; and mpi4py keeps Python's lock while MPI starts and
ends, though not within other calls, so that no thread would run then either. So a child of each
rank reads, from a pipe, what the rank is about to do; if the next word does not come in time, it
tells, and ends the rank. Before MPI starts
ranks of a host know of each other by marks in a folder for temporary files.

Light to import, and forked before anything else is: only the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from dvm_mpi import config
from dvm_mpi.errors import ExitCode
from dvm_mpi.launch import abort
from dvm_mpi.launch.environment import Launch

#: The step in which only marks tell who is missing.
START: Final = "start MPI"


class Watchdog:
    """Watches this process while it is entered.

    Parameters
    ----------
    launch
        None for a process without others; nothing is watched then.
    wait_s
        Seconds that a step may take. Python's own waits end a little before, with better words.
    tell
        Prints a message, in the child.
    """

    def __init__(
        self,
        launch: Launch | None,
        environ: Mapping[str, str],
        wait_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._launch = launch
        self._tell = tell
        self._environ = environ
        self._wait_s = wait_s + config.SPEAKER_S
        self._pipe = -1
        self._child = 0
        self._marks: Path | None = None

    def __enter__(self) -> Watchdog:
        if self._launch is None:
            return self
        name = f"dvm-doctor-{os.getuid()}-{os.uname().nodename}-{self._launch.job}"
        self._marks = Path(tempfile.gettempdir()) / name
        out, self._pipe = os.pipe()
        rank = os.getpid()
        self._child = os.fork()
        if not self._child:
            os.close(self._pipe)
            try:
                step = _watch(out, self._wait_s)
                if step:
                    self._end(rank, step)
                # Whoever has ended by force has left its mark.
                self.unmark()
                os._exit(0)
            finally:
                os._exit(1)
        os.close(out)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            os.close(self._pipe)
            os.waitpid(self._child, 0)
            self._child = 0
        self.unmark()

    def begin(self, step: str) -> None:
        """Begin to wait for the end of a step: "start MPI". The one before has ended."""
        if self._child:
            with suppress(OSError):
                os.write(self._pipe, f"{step}\n".encode())

    def mark(self) -> None:
        """Let the others of this host know that this rank has come to the start of MPI."""
        if self._marks is not None and self._launch is not None:
            with suppress(OSError):
                self._marks.mkdir(mode=0o700, exist_ok=True)
                (self._marks / str(self._launch.local_rank)).touch()

    def unmark(self) -> None:
        """Remove the mark: this rank has come through the start of MPI, or to its end."""
        if self._marks is not None and self._launch is not None:
            _remove_marks(self._marks, [self._launch.local_rank])

    def _end(self, rank: int, step: str) -> NoReturn:
        """End the rank, whose child this is, with a word; in the child."""
        launch, marks = self._launch, self._marks
        assert launch is not None
        assert marks is not None
        present = sorted(int(mark.name) for mark in marks.glob("[0-9]*"))
        # One of a host tells: of those at the start of MPI, or later of all.
        is_speaker = launch.local_rank == (present or [0])[0]
        if not is_speaker:
            time.sleep(config.SPEAKER_S)
        # If that ended nobody, each ends its own rank; with a word where the first may be well.
        if is_speaker or (not present and os.getppid() == rank):
            text = describe(launch, present, step, self._wait_s, os.uname().nodename)
            self._tell(f"dvm: error: {text}")
            _remove_marks(marks, range(launch.local_size))
            abort.end_job(launch, self._environ, int(ExitCode.LAUNCH))
        # Not somebody else who got its number, if it has ended meanwhile.
        if os.getppid() == rank:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)
        os._exit(int(ExitCode.LAUNCH))


def _watch(pipe: int, wait_s: float) -> str:
    """Return the step that does not end; empty if the rank has ended."""
    # Ctrl-C is for the rank, whose end this process notices.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step = "begin"
    while True:
        readable, _, _ = select.select([pipe], [], [], wait_s)
        if not readable:
            return step
        told = os.read(pipe, 4096).decode(errors="replace")
        if not told:
            return ""
        step = told.splitlines()[-1]


def describe(launch: Launch, present: list[int], step: str, wait_s: float, host: str) -> str:
    """Return what is told of a step that does not end.

    Parameters
    ----------
    present
        The ranks of this host that have come to the start of MPI, counted on the host from 0.
    """
    absent = [rank for rank in range(launch.local_size) if rank not in present]
    if step != START:
        who = "it waits within a call that does not return"
    elif absent and present:
        who = (
            f"of the {launch.local_size} ranks of {host}, {_numbers(absent)} (counted on this "
            "host, from 0) did not come to the start of MPI"
        )
    else:
        who = f"all {launch.local_size} ranks of {host} are here, and wait for ranks elsewhere"
    return (
        f"rank {launch.rank} on {host} did not {step} within {wait_s:.0f} s: {who}\n"
        "  what helps: look at the hosts of the missing ranks (is the process there? can it reach "
        "the others?); --wait SECONDS for a large job that starts slowly"
    )


def _numbers(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[: config.RANKS_SHOWN_MAX]))
    hidden = len(ranks) - config.RANKS_SHOWN_MAX
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}" + (f" and {hidden:,} more" * (hidden > 0))


def _remove_marks(marks: Path, ranks: range | list[int]) -> None:
    with suppress(OSError):
        for rank in ranks:
            (marks / str(rank)).unlink(missing_ok=True)
        marks.rmdir()
