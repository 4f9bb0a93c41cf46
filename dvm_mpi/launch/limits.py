"""What the system lets one process have: addresses, open files, processes."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.errors import ExitCode
from dvm_mpi.launch.finding import Finding, Level, good
from dvm_mpi.values import dataclass

#: Addresses that a rank reserves, as `engine.address_space` lays them out: 64 TiB of DISA's memory,
#: and marks for its bytes and pages.
ADDRESS_SPACE_BYTES: Final = 81 * config.GIB * 1024
#: `vm.overcommit_memory`: every reservation counts as memory.
_OVERCOMMIT_NEVER: Final = 2
#: Files that a rank opens beside its connections to others.
_OWN_FILES: Final = 64


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """The limits of one process; None where there is none."""

    address_bytes: int | None
    open_files: int | None
    processes: int | None
    #: `vm.overcommit_memory`: 0, 1 or 2; -1 if it cannot be read.
    overcommit: int


def measure(proc: Path = Path("/proc")) -> ProcessLimits:
    """Return the limits of this process."""
    try:
        overcommit = int((proc / "sys/vm/overcommit_memory").read_text(encoding="ascii"))
    except (OSError, ValueError):
        overcommit = -1
    # The superuser may start processes without end, whatever the limit says.
    processes = None if os.getuid() == 0 else _soft(resource.RLIMIT_NPROC)
    address, files = _soft(resource.RLIMIT_AS), _soft(resource.RLIMIT_NOFILE)
    return ProcessLimits(address, files, processes, overcommit)


def _soft(which: int) -> int | None:
    value = resource.getrlimit(which)[0]
    return None if value == resource.RLIM_INFINITY else value


def check_address_space(limits: ProcessLimits) -> Finding:
    """Whether a rank may reserve the addresses that it needs."""
    needs = f"DVM reserves {ADDRESS_SPACE_BYTES >> 40} TiB of addresses, which take no memory"
    if limits.address_bytes is not None and limits.address_bytes < ADDRESS_SPACE_BYTES:
        return Finding(
            Level.WRONG,
            "address space",
            f"a process may have {limits.address_bytes >> 20:,} MiB of address space "
            f"(ulimit -v), but {needs}",
            "ulimit -v unlimited, before the launcher is started; under Slurm also "
            "--propagate=NONE, or VSizeFactor=0 in slurm.conf; memory is limited by --memory",
            ExitCode.LIMIT,
        )
    if limits.overcommit == _OVERCOMMIT_NEVER:
        return Finding(
            Level.WRONG,
            "address space",
            f"the kernel counts addresses as memory (vm.overcommit_memory is 2), but {needs}",
            "ask the administrator for vm.overcommit_memory=0 on the compute nodes",
            ExitCode.LIMIT,
        )
    return good("address space", f"{ADDRESS_SPACE_BYTES >> 40} TiB can be reserved")


def engine_within(engine: str, limits: ProcessLimits) -> tuple[str, str]:
    """Return with what a process can execute runners, and a line about it if that is slow.

    The one engine that needs no reservation is the reference. It takes the place of the fast ones
    only where none was asked for by name (`auto`): who asked is told what is in the way, and can
    mend it. Every engine gives the same bits, so ranks may differ.
    """
    found = check_address_space(limits)
    if engine != "auto" or found.level is Level.GOOD:
        return engine, ""
    return "reference", (
        f"dvm: {found.what}: runners are executed by the reference engine, some hundred times "
        f"slower; what helps: {found.remedy}"
    )


def check_open_files(limits: ProcessLimits, size: int) -> Finding:
    """Whether a rank may have a connection to each of `size` ranks."""
    if limits.open_files is None:
        return good("open files", "no limit")
    needed = size + _OWN_FILES
    if limits.open_files < needed:
        return Finding(
            Level.SLOW,
            "open files",
            f"a process may open {limits.open_files:,} files (ulimit -n); a rank that talks to all "
            f"of {size:,} needs up to {needed:,}, and MPI fails when there are no more",
            f"ulimit -n {max(needed, 4096)}",
        )
    return good("open files", f"{limits.open_files:,} for each process")


def check_processes(limits: ProcessLimits, local_size: int, thread_count: int) -> Finding:
    """Whether the ranks of a node may have their threads, and one compiler."""
    if limits.processes is None:
        return good("processes", "no limit")
    needed = (local_size + 1) * thread_count
    if limits.processes < needed:
        return Finding(
            Level.SLOW,
            "processes",
            f"a user may have {limits.processes:,} processes and threads (ulimit -u); "
            f"{local_size:,} ranks of {thread_count} threads and a compiler need {needed:,}",
            "ulimit -u with a higher limit, or OPENBLAS_NUM_THREADS=1",
        )
    return good("processes", f"{limits.processes:,} for each user")


def check_threads(thread_count: int, local_size: int, cpu_count: int, settings: str) -> Finding:
    """Whether libraries have made more threads than the node has use for.

    Parameters
    ----------
    thread_count
        Of one rank, before MPI starts. DVM itself uses one; numpy makes others for its algebra.
    settings
        The variables that say how many, for the text.
    """
    told = f"{thread_count} in each rank ({settings})"
    if thread_count * local_size > config.THREADS_PER_CPU_MAX * max(cpu_count, local_size):
        return Finding(
            Level.SLOW,
            "threads",
            f"{told}, {thread_count * local_size:,} on a node of {cpu_count:,} cores; DVM uses one "
            "of each rank, the others take start-up time and memory",
            "export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1",
        )
    return good("threads", told)
