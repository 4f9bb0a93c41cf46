"""Checks that only a diagnosis makes: from measured facts to findings.

What a run checks as well lives where the run finds it (`launch/`, `native/`, `dsm/`,
`job/greeting.py`), and its words are those of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dvm_mpi import config
from dvm_mpi.errors import ExitCode
from dvm_mpi.launch.finding import Finding, Level, good

#: Variables that tell libraries how many threads to make.
_THREAD_SETTINGS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
#: File systems that all ranks of several hosts load from at the same time.
_NETWORK_FILES: Final = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "panfs", "fuse.")


def thread_settings(environ: Mapping[str, str]) -> str:
    """Return the variables about threads that are set, as text."""
    told = [f"{name}={environ[name]}" for name in _THREAD_SETTINGS if name in environ]
    return ", ".join(told) or "OMP_NUM_THREADS and the like are not set"


def file_system_of(folder: str, mounts: str) -> str:
    """Return the kind of file system that a path lies on, by the lines of /proc/self/mounts."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:  # noqa: PLR2004 - device, place, kind
            continue
        place = fields[1].encode().decode("unicode_escape")
        is_above = folder == place or folder.startswith(place.rstrip("/") + "/")
        # Of two mounts on one place the later one is seen.
        if is_above and len(place) >= best:
            best, kind = len(place), fields[2]
    return kind


def check_code_folder(folder: str, notice: str, kind: str) -> Finding:
    """Whether compiled code is kept where it should be.

    Parameters
    ----------
    notice
        What a run says of the folder at its start; empty if it is the usual one.
    kind
        Of the file system.
    """
    if notice:
        helps = "NUMBA_CACHE_DIR with a folder that can be written on every host"
        return Finding(Level.SLOW, "compiled code", notice, helps)
    if kind.startswith(_NETWORK_FILES):
        return Finding(
            Level.SLOW,
            "compiled code",
            f"{folder} lies on a network ({kind}): all ranks load from there when they start",
            "NUMBA_CACHE_DIR=/tmp/… or another disk of the host; it is compiled once on each",
        )
    return good("compiled code", f"{folder} can be written ({kind or 'unknown file system'})")


def check_allocation(environ: Mapping[str, str], size: int, hosts: Sequence[str]) -> list[Finding]:
    """Compare the ranks with the Slurm allocation around them; nothing outside of one."""
    if "SLURM_JOB_ID" not in environ:
        return []
    tasks, nodes = (environ.get(name, "") for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES"))
    told = f"job {environ['SLURM_JOB_ID']}: {tasks or '?'} tasks on {nodes or '?'} nodes"
    host_count = len(set(hosts))
    if tasks.isdigit() and int(tasks) != size:
        what = f"{told}, but {size} ranks run"
    elif nodes.isdigit() and int(nodes) != host_count:
        what = f"{told}, but ranks run on {host_count}"
    else:
        return [good("Slurm", told)]
    helps = "srun without -n and -N starts all tasks; or ask for what you need with sbatch -n, -N"
    return [Finding(Level.SLOW, "Slurm", what, helps)]


def check_clocks(times_s: Sequence[float], hosts: Sequence[str]) -> Finding:
    """Compare clocks that were read at about the same moment, one for each rank."""
    first, last = min(times_s), max(times_s)
    apart = last - first
    # A host has one clock: its ranks have only read it at other moments.
    if len(set(hosts)) == 1:
        return good("clocks", "one host")
    if apart > config.CLOCKS_S_MAX:
        late, early = hosts[times_s.index(first)], hosts[times_s.index(last)]
        return Finding(
            Level.SLOW,
            "clocks",
            f"the clock of {early} is {apart:,.1f} s ahead of that of {late}: times of files and "
            "reports do not compare",
            "NTP or chrony on every host",
        )
    return good("clocks", f"equal within {apart * 1000:,.0f} ms")


def missing(who: str, wait_s: float) -> Finding:
    """Return the finding that something did not come in time.

    `who` says who did not do what: "ranks 2, 3 to start".
    """
    return Finding(
        Level.WRONG,
        "world",
        f"waited {wait_s:.0f} s for {who}, in vain",
        "look at the hosts of these ranks (is the process there? can it reach the others?); "
        "--wait SECONDS for a large job that starts slowly",
        ExitCode.LAUNCH,
    )
