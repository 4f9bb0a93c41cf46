"""The table of checks: what `doctor` looks at, in which order, and what makes it slow or wrong."""

from __future__ import annotations

from typing import Final

from dvm_mpi import config
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table; docs/operations.md is generated from it."""

    subject: str
    group: str
    #: What is looked at.
    about: str
    #: What makes it slow, and what wrong; empty if nothing does.
    slow: str
    wrong: str
    remedy: str


# fmt: off
CHECKS: Final = (
    Check("environment",   "start",    "MPI libraries in the Python environment", "", "two of them: each has overwritten files of the other", "a new environment with one of them"),
    Check("launcher",      "start",    "whether the MPI library can be loaded, and understands the launcher", "", "it does not: MPI would abort, or each rank be alone", "the launcher that the message names"),
    Check("world",         "start",    "whether all ranks come to MPI, as one world", "", "N worlds of one rank, or ranks that do not come in time", "the library's own launcher; look at the hosts of the missing ranks"),
    Check("versions",      "start",    "DVM with all its files, Python, packages and MPI on every rank", "", "ranks differ", "one environment for all ranks"),
    Check("Slurm",         "start",    "ranks and hosts beside what the allocation has", "tasks or hosts are left over", "", "srun with all tasks"),
    Check("clocks",        "start",    "clocks of the hosts", "they differ by more than a second", "", "NTP or chrony on every host"),
    Check("address space", "limits",   "ulimit -v, overcommitment, and the reservation itself", "", "81 TiB of addresses cannot be reserved", "ulimit -v unlimited; vm.overcommit_memory 0"),
    Check("memory",        "limits",   "memory of the node, limits of its control group, /dev/shm", "windows do not fit, data travels in messages", "MPI or the ranks do not fit", "a larger /dev/shm, fewer ranks on a node"),
    Check("left files",    "limits",   "shared memory that dead runs have left", "there is some", "", "the command that the message has"),
    Check("open files",    "limits",   "ulimit -n beside the number of ranks", "fewer than a rank may need", "", "ulimit -n"),
    Check("processes",     "limits",   "ulimit -u beside ranks and their threads", "fewer than they need", "", "ulimit -u"),
    Check("cores",         "cores",    "cores that each rank may use", "ranks share cores; ranks are not bound on a host of several NUMA nodes", "", "binding options of the launcher, fewer ranks on a host"),
    Check("threads",       "cores",    "threads that libraries have made, OMP_NUM_THREADS and the like", "many more than cores", "", "OPENBLAS_NUM_THREADS=1"),
    Check("compiled code", "files",    "the folder of compiled code (NUMBA_CACHE_DIR)", "it is not the one that was asked for, or lies on a network", "none can be written", "NUMBA_CACHE_DIR on a disk of the host"),
    Check("writing",       "files",    "--folder: each rank writes a part of one file, and reads that of another", "fewer than 50 MB in a second", "the folder is not shared, or not writable", "a folder on the parallel file system"),
    Check("progress",      "messages", "whether a rank that computes lets others read its memory", "it does not: data travels in messages", "", "a network library with progress of its own; or nothing, messages work"),
    Check("within hosts",  "messages", "time and rate of messages between two ranks of a host", "more than 50 µs, less than 500 MB in a second, or one pair far worse than others", "", "shared memory of MPI (MPIR_CVAR_NOLOCAL unset)"),
    Check("between hosts", "messages", "the same between ranks of two hosts", "more than 100 µs, less than 200 MB in a second, or one pair far worse than others", "", "the fast network: FI_PROVIDER, UCX_TLS"),
)
# fmt: on

ORDER: Final = {check.subject: row for row, check in enumerate(CHECKS)}
GROUPS: Final = {check.subject: check.group for check in CHECKS}
#: The figures in the table are those of the limits.
for _subject, _latency, _rate in (
    ("within hosts", config.LATENCY_US_WITHIN_MAX, config.RATE_MB_S_WITHIN_MIN),
    ("between hosts", config.LATENCY_US_BETWEEN_MAX, config.RATE_MB_S_BETWEEN_MIN),
):
    assert f"{_latency} µs, less than {_rate} MB " in CHECKS[ORDER[_subject]].slow
assert f"than {config.RATE_MB_S_WRITING_MIN} MB " in CHECKS[ORDER["writing"]].slow
