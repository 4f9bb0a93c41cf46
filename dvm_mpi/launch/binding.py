"""Which cores ranks may use: whether some share a core while others are idle.

The kernel's lists ("0-3,8") are what ranks tell each other. Nothing here binds: launchers do.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.finding import Finding, Level, good
from dvm_mpi.values import dataclass

SUBJECT: Final = "cores"
#: Room for a list of cores in a row that ranks exchange; a longer one counts as all cores.
LIST_BYTES: Final = 96


@dataclass(frozen=True, slots=True)
class Cores:
    """What one rank may use."""

    rank: int
    host: str
    #: The kernel's list of the cores that it may use; empty if that is not known.
    allowed: str
    #: Cores and NUMA nodes of the host.
    cpu_count: int
    numa_count: int = 1


def own_list() -> str:
    """Return the cores that this process may use, as a list in the kernel's form."""
    try:
        return listed(sorted(os.sched_getaffinity(0)))
    except OSError:
        return ""


def host_shape(sysfs: Path = Path("/sys/devices/system")) -> tuple[int, int]:
    """Return how many cores and NUMA nodes this host has."""
    numa = sum(1 for _ in (sysfs / "node").glob("node[0-9]*"))
    return os.cpu_count() or 1, max(numa, 1)


def listed(cpus: Sequence[int]) -> str:
    """Return sorted numbers as the kernel lists them: `0-3,8`."""
    spans: list[list[int]] = []
    for cpu in cpus:
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


def cpus_of(text: str) -> frozenset[int]:
    """Return the cores of a list; empty for a text that is none."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return frozenset()
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def check_cores(ranks: Iterable[Cores], launch: Launch | None) -> list[Finding]:
    """Return what is to be said of the cores of all ranks, worst things first.

    Ranks that share cores are told as crowded if some of the host's cores are nobody's, else the
    host has fewer cores than ranks.
    """
    found = [_of_host(host, group, launch) for host, group in _by_host(ranks).items()]
    order = [Level.WRONG, Level.SLOW, Level.GOOD]
    return sorted(found, key=lambda finding: order.index(finding.level))


def misbound(ranks: Iterable[Cores], launch: Launch | None) -> str:
    """Return what a run says at its start: only of ranks that share a core beside an idle one.

    More ranks than cores are for tests, and whoever starts them knows. Empty if all is well; mostly
    all hosts are alike, and one stands for them.
    """
    all_hosts = (_misbound(host, group, launch) for host, group in _by_host(ranks).items())
    found = [finding for finding in all_hosts if finding is not None]
    if not found:
        return ""
    others = len(found) - 1
    hosts = f"\n  and so on {others:,} more host{'s' if others > 1 else ''}" if others else ""
    return found[0].text + hosts


def _by_host(ranks: Iterable[Cores]) -> dict[str, list[Cores]]:
    by_host: dict[str, list[Cores]] = {}
    for rank in ranks:
        by_host.setdefault(rank.host, []).append(rank)
    return by_host


def _masks(group: list[Cores]) -> dict[int, frozenset[int]]:
    everything = frozenset(range(group[0].cpu_count))
    return {rank.rank: cpus_of(rank.allowed) or everything for rank in group}


def _misbound(host: str, group: list[Cores], launch: Launch | None) -> Finding | None:
    """Return what is said if ranks are bound to fewer cores than they are, beside others."""
    crowd = _crowded(_masks(group))
    if crowd is None or len(crowd[0]) >= group[0].cpu_count:
        return None
    cpus, ranks = crowd
    cores = f"core {next(iter(cpus))}" if len(cpus) == 1 else f"{len(cpus)} cores"
    return Finding(
        Level.SLOW,
        SUBJECT,
        f"ranks {listed(ranks)} on {host} are bound to {cores}, of {group[0].cpu_count} that the "
        "host has: each waits while another computes",
        _binding_remedy(launch),
    )


def _of_host(host: str, group: list[Cores], launch: Launch | None) -> Finding:
    misbound = _misbound(host, group, launch)
    if misbound is not None:
        return misbound
    cpu_count, masks = group[0].cpu_count, _masks(group)
    usable = frozenset[int]().union(*masks.values())
    if len(group) > len(usable):
        return Finding(
            Level.SLOW,
            SUBJECT,
            f"{len(group)} ranks on {host} share {len(usable)} cores: each waits while another "
            "computes",
            f"at most {len(usable)} ranks on a host like {host}",
        )
    plural = "" if len(group) == 1 else "s"
    told = f"{len(group)} rank{plural} on {host}, {cpu_count} cores"
    if all(cpus >= usable for cpus in masks.values()) and len(usable) > 1:
        if group[0].numa_count > 1:
            return Finding(
                Level.SLOW,
                SUBJECT,
                f"{told}, {group[0].numa_count} NUMA nodes; ranks are not bound to cores, and lose "
                "their caches and near memory when the kernel moves them",
                _binding_remedy(launch),
            )
        return good(SUBJECT, f"{told}; not bound to single ones")
    return good(SUBJECT, f"{told}; each rank has cores of its own")


def _crowded(masks: dict[int, frozenset[int]]) -> tuple[frozenset[int], list[int]] | None:
    """Return a set of cores to which more ranks are bound than it has, and these ranks."""
    counts = Counter(masks.values())
    for cpus in sorted(counts, key=lambda cpus: (len(cpus), sorted(cpus))):
        inside = [rank for rank, mask in masks.items() if mask <= cpus]
        if len(inside) > len(cpus):
            return cpus, inside
    return None


def _binding_remedy(launch: Launch | None) -> str:
    own = {
        Launcher.HYDRA: "mpiexec -bind-to core …",
        Launcher.OPEN_MPI: "mpiexec --map-by core --bind-to core …",
    }
    if launch is None:
        return "start without taskset"
    binding = own.get(launch.launcher, "srun --cpu-bind=cores …")
    return f"{binding}, and neither taskset nor a job with fewer cores than ranks around it"
