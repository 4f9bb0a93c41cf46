"""What every kind of run needs: words to the user, the engine to use, facts about the process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dvm_mpi import config
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.errors import ExitCode
from dvm_mpi.native import store
from dvm_mpi.options import RunOptions


class Interrupted(Exception):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        is_term = number == signal.SIGTERM
        self.exit_code = ExitCode.TERMINATED if is_term else ExitCode.INTERRUPTED


def say(text: str) -> None:
    """Print a line on standard error; a terminal that went away is no reason to fail."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return


def tell_code_folder() -> None:
    """Say where compiled code is kept, if that is not where it usually is.

    Raises
    ------
    FileError
        There is no place for it.
    """
    notice = store.choose_folder().notice
    if notice:
        say(f"dvm: {notice}")


def peak_memory_bytes() -> int:
    """Return the largest resident size of this program so far.

    Not `ru_maxrss`: that one also counts what the process was before it became this program.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * config.KIB


def age_of_process_s() -> float:
    """Return how long ago this process began."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 0.0)


def default_memory_bytes() -> int:
    """Return half of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def make_engine_factory(options: RunOptions) -> Callable[[], Engine]:
    """Return what builds one engine for a worker; the engine's modules are imported here."""
    settings = EngineSettings(
        stack_bytes=options.stack_bytes,
        fuel_max=options.fuel,
        allow_undeclared=options.allow_undeclared,
        cache_bytes=config.CACHE_BYTES_DEFAULT,
        clock=None if options.deterministic else time.time_ns,
        loads=LoadTracking.NONE if options.isolation == "snapshot" else LoadTracking.PLACES,
    )
    if options.engine == "reference":
        from dvm_mpi.engine.reference import ReferenceEngine

        return lambda: ReferenceEngine(settings)
    from dvm_mpi.engine.interp import InterpEngine

    return lambda: InterpEngine(settings)


def revision() -> str:
    """Return ` (commit)` when the package runs from a checkout, else nothing."""
    git = Path(__file__).resolve().parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if head.startswith("ref: "):
            head = (git / head[5:]).read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f" ({head[:10]})"
