"""The error tree and the exit codes.

A `DvmError` is the user's to mend: its text names the place and the remedy, and the command line
prints it without a traceback. A program's fault is data (an outcome), never an exception; our own
faults are assertions.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What `python -m dvm_mpi` returns to its caller (table: docs/operations.md)."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SOURCE = 3
    FILE = 4
    TRAP = 5
    LIMIT = 6
    WATCHERS_LEFT = 7
    LAUNCH = 8
    UNSOUND = 9
    LOST = 10
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


#: One line for each code; docs/operations.md is generated from it.
EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "the program ended; its outputs are written",
    ExitCode.INTERNAL: "a defect of DVM itself; please report it with the traceback",
    ExitCode.USAGE: "an option or argument was wrong; nothing was run",
    ExitCode.SOURCE: "the program could not be assembled, decoded or verified; nothing was run",
    ExitCode.FILE: "an input or output file is missing, damaged or of the wrong shape or type",
    ExitCode.TRAP: "a runner trapped; nothing of it was committed",
    ExitCode.LIMIT: "a limit was reached: memory, runner ids, stacks or another named in the text",
    ExitCode.WATCHERS_LEFT: "the program ended with armed watchers, under --strict-watchers",
    ExitCode.LAUNCH: "the ranks were started in a way that cannot work; nothing was run",
    ExitCode.UNSOUND: "a record is not what its program and the rules of memory allow (`replay`)",
    ExitCode.LOST: "a rank, its host, the network or the launcher is gone, or stuck",
    ExitCode.INTERRUPTED: "ended by Ctrl-C (SIGINT), with the summary of what was done",
    ExitCode.READER_GONE: "the reader of standard output went away (`| head`); ended quietly",
    ExitCode.TERMINATED: "ended on request (SIGTERM, SIGUSR1), with the summary of what was done",
}
assert EXIT_CODE_MEANINGS.keys() == set(ExitCode)


class DvmError(Exception):
    """A fault that the user can mend; the text says what is wrong, where, and what to do."""

    exit_code: ExitCode = ExitCode.USAGE

    @property
    def message(self) -> str:
        """What the command line prints."""
        return f"dvm: error: {self}"


class UsageError(DvmError):
    """A wrong option, argument or combination of them."""

    exit_code = ExitCode.USAGE


class SourceError(DvmError):
    """A program that cannot be assembled, decoded or verified."""

    exit_code = ExitCode.SOURCE

    @property
    def message(self) -> str:
        """The text alone: it begins with the place, where editors look for one to jump to."""
        return str(self)


class FileError(DvmError):
    """An input or output file that cannot be used."""

    exit_code = ExitCode.FILE


class ReaderGoneError(DvmError):
    """The reader of standard output went away: no fault to report, but no reason to go on."""

    exit_code = ExitCode.READER_GONE


class LimitError(DvmError):
    """A named limit was reached; the text gives the limit, its value and how to raise it."""

    exit_code = ExitCode.LIMIT


class WindowError(LimitError):
    """MPI has no room for a window on this rank; others may be waiting for this one."""


class LaunchError(DvmError):
    """Ranks that cannot form one machine: another MPI's launcher, two MPI libraries, two programs.

    The text names the launcher that would work.
    """

    exit_code = ExitCode.LAUNCH


class RankLostError(DvmError):
    """A rank does not answer any more; the run cannot end in order, since that is done together."""

    exit_code = ExitCode.LOST


class WorldError(LaunchError):
    """MPI has made another world than the launcher; each rank finds that by itself."""


class CompileError(DvmError):
    """Code could not be compiled; the text ends with what the compiler said."""

    exit_code = ExitCode.INTERNAL
