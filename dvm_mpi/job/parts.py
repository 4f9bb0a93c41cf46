"""What every kind of run needs: words to the user, the engine to use, facts about the process."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dvm_mpi import config
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.errors import ExitCode, UsageError
from dvm_mpi.io.specs import ArraySpec
from dvm_mpi.launch import limits
from dvm_mpi.launch.finding import refuse
from dvm_mpi.native import store
from dvm_mpi.options import RunOptions

if TYPE_CHECKING:
    from dvm_mpi.control.diagnosis import Narrator
    from dvm_mpi.control.scheduler import Scheduler
    from dvm_mpi.disa.image import ArrayDeclaration, Image
    from dvm_mpi.engine.native_code import NativeCode
    from dvm_mpi.io.progress import ProgressCounts

#: Of the operating system.
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Interrupted(Exception):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        is_ctrl_c = number == signal.SIGINT
        self.exit_code = ExitCode.INTERRUPTED if is_ctrl_c else ExitCode.TERMINATED


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


def tell_contention(scheduler: Scheduler, narrator: Narrator) -> None:
    """Say where attempts lost, if many did."""
    from dvm_mpi.control.contention import is_worth_telling

    c = scheduler.counters
    if is_worth_telling(c.retries, c.attempts):
        say(
            f"dvm: {c.retries:,} of {c.attempts:,} attempts lost to commits of others:\n"
            f"{textwrap.indent(narrator.contention(scheduler.state.contention.sites()), '  ')}"
        )


def progress_counts(scheduler: Scheduler, runners_expected: int) -> ProgressCounts:
    """Return what is shown of a program that runs."""
    from dvm_mpi.io.progress import ProgressCounts

    c, state = scheduler.counters, scheduler.state
    return ProgressCounts(
        queued=scheduler.queued_count,
        running=state.running_count,
        committed=c.commits,
        aborted=c.aborts,
        retried=c.retries,
        epochs=c.epochs,
        bytes_moved=c.bytes_fetched + c.bytes_committed,
        instructions=c.instructions,
        workers_busy=int((state.running > 0).sum()),
        workers=int(state.ready.sum()),
        runners_expected=runners_expected,
    )


def peak_memory_bytes() -> int:
    """Return the largest resident size of this program so far.

    Not `ru_maxrss`: that one also counts what the process was before it became this program.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * config.KIB


def resident_bytes() -> int:
    """Return the resident size of this process now; some microseconds."""
    number = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(number, 128).split()[1]) * _PAGE_BYTES
    finally:
        os.close(number)


def age_of_process_s() -> float:
    """Return how long ago this process began."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 0.0)


def default_memory_bytes() -> int:
    """Return half of this machine's memory, or of the addresses that this process may have."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(there, limits.measure().address_bytes or there) // 2


def find_native_code(
    options: RunOptions, image: Image, *, ends_slices: bool = False, is_on_first_host: bool = True
) -> NativeCode | None:
    """Return the translated code of a program in this process; None if none is to be used."""
    # A profile counts what the interpreter's loop arrives at.
    if options.engine not in {"auto", "translate"} or options.profile:
        return None
    from dvm_mpi.engine.native_code import NativeCode

    tell = (lambda line: None) if options.quiet else say
    return NativeCode(
        image,
        tell,
        ends_slices=ends_slices and not options.deterministic,
        starts_after_s=0.0 if is_on_first_host else config.UNITS_SENT_S,
        notes_loads=_tracking(options) is not LoadTracking.NONE,
    )


def check_engine(options: RunOptions) -> None:
    """Refuse an engine that finds no room here.

    Raises
    ------
    LimitError
        The address space is limited to less than a view takes.
    """
    if options.engine != "reference":
        refuse([limits.check_address_space(limits.measure())])


def make_engine_factory(
    options: RunOptions, native: NativeCode | None = None
) -> Callable[[], Engine]:
    """Return what builds one engine for a worker; the engine's modules are imported here."""
    settings = EngineSettings(
        stack_bytes=options.stack_bytes,
        fuel_max=options.fuel,
        allow_undeclared=options.allow_undeclared,
        cache_bytes=config.CACHE_BYTES_DEFAULT,
        clock=None if options.deterministic else time.time_ns,
        loads=_tracking(options),
        touched_pages_max=options.touched_pages_max,
        counts_instructions=options.profile,
        spent_ns=time.thread_time_ns,
    )
    if options.engine == "reference":
        from dvm_mpi.engine.reference import ReferenceEngine

        return lambda: ReferenceEngine(settings)
    check_engine(options)
    from dvm_mpi.engine.interp import InterpEngine

    return lambda: InterpEngine(settings, native)


def native_figures(ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the report says of translated code, from the `NativeFigures` of all ranks.

    Ranks of one node load the same units: the most that one has loaded is told, not the sum.
    """
    return {
        "native_instructions": sum(rank["instructions"] for rank in ranks),
        "units": max((rank["units"] for rank in ranks), default=0),
        "units_cached": max((rank["cached_units"] for rank in ranks), default=0),
        "translate_s": max((rank["translate_s"] for rank in ranks), default=0.0),
    }


def with_dumps(
    outputs: list[tuple[ArraySpec, ArrayDeclaration]], folder: Path | None, image: Image
) -> list[tuple[ArraySpec, ArrayDeclaration]]:
    """Return the outputs and, if there is a folder for `--dump`, every array with its file there.

    Raises
    ------
    UsageError
        The program has no arrays, or one would go where an output goes.
    """
    if folder is None:
        return outputs
    if not image.arrays:
        raise UsageError(f"--dump {folder}: the program declares no arrays")
    taken = {spec.target: spec.place for spec, _ in outputs}
    dumps = []
    for name, declaration in image.arrays.items():
        spec = ArraySpec("--dump", name, folder / f"{name}.npy", None)
        if spec.target in taken:
            raise UsageError(f"{spec.place}: this collides with {taken[spec.target]}")
        dumps.append((spec, declaration))
    return outputs + dumps


def _tracking(options: RunOptions) -> LoadTracking:
    if options.is_recorded:
        return LoadTracking.CONTENT
    return LoadTracking.NONE if options.isolation == "snapshot" else LoadTracking.PLACES


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
