"""Whether a node can hold its ranks, found out before MPI starts.

A full /dev/shm is a bus error, in MPI's start-up or at the first touch of a page, without a word
from anyone; and memory beyond a container's limit is a kill. So the sizes are added up first.
Every rank computes the same for its node; the one that speaks for the node tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.errors import LimitError
from dvm_mpi.launch import limits
from dvm_mpi.launch.environment import PMIX_LAUNCHERS, Launch
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, replace

SHM: Final = Path("/dev/shm")
#: Limits from here on are the kernel's way to say that there is none.
_NO_LIMIT_BYTES: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """What one node has; bytes."""

    #: /dev/shm; both 0 where there is none.
    shared_total: int
    shared_free: int
    #: What the processes may use: the machine's memory, or the least limit of their control group.
    total: int
    is_limited: bool
    #: Addresses that one process may have: it maps the frames of all ranks of its node.
    addresses: int = _NO_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How much a rank of this node gets, and where its frames are."""

    #: The rank's part of the shared region, whole pages.
    memory_bytes: int
    #: The data plane that this allows: what was asked for, but "message" where "auto" was asked
    #: for and windows have no room.
    plane: str
    #: Why the plane is not what "auto" would have tried, for a line on the terminal; or empty.
    remark: str


def measure(
    shm: Path = SHM, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
) -> NodeMemory:
    """Return what this node has; the folders are those of the kernel, but in tests."""
    try:
        space = os.statvfs(shm)
        shared = (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)
    except OSError:
        shared = (0, 0)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    least = min(group_limits(proc / "self" / "cgroup", groups), default=machine)
    addresses = limits.measure(proc).address_bytes or _NO_LIMIT_BYTES
    return NodeMemory(*shared, min(machine, least), least < machine, addresses)


def group_limits(membership: Path, groups: Path) -> Iterator[int]:
    """Yield the memory limits of the control groups that hold this process, both versions.

    A container sees its own group as the root of the tree, whatever its membership says: so all
    folders on the way up count, and those that are not there do not matter.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        here = top / path.strip("/")
        for folder in (here, *here.parents):
            if not folder.is_relative_to(top):
                break
            try:
                text = (folder / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
                yield int(text)


def has_shared_windows(launch: Launch, environ: Mapping[str, str]) -> bool:
    """Whether windows lie in /dev/shm: not alone on a node, nor where MPICH is told to use nets."""
    return launch.local_size > 1 and not _is_nolocal(launch, environ)


def mpi_shared_bytes(launch: Launch, environ: Mapping[str, str]) -> int:
    """Return what MPI itself needs of this node's /dev/shm, without windows."""
    if launch.launcher in PMIX_LAUNCHERS:
        if launch.local_size == 1:
            return 0
        # Segments are sparse, but the last one must still find room for all of itself.
        before = (launch.local_size - 1) * config.OPEN_MPI_SHARED_BYTES
        return before + config.OPEN_MPI_SEGMENT_BYTES
    if _is_nolocal(launch, environ):
        return launch.local_size * config.MPICH_NOLOCAL_SHARED_BYTES
    return launch.local_size * config.MPICH_SHARED_BYTES


def _is_nolocal(launch: Launch, environ: Mapping[str, str]) -> bool:
    value = environ.get("MPIR_CVAR_NOLOCAL", "").lower()
    return launch.launcher not in PMIX_LAUNCHERS and value in {"1", "true", "yes", "on"}


def plan(
    launch: Launch,
    node: NodeMemory,
    environ: Mapping[str, str],
    *,
    memory_bytes: int | None,
    arena_bytes: int,
    plane: str,
) -> MemoryPlan:
    """Return how much memory a rank gets: what was asked for, or as much as is reasonable.

    Parameters
    ----------
    memory_bytes
        `--memory`; None for half of the node's memory, or what /dev/shm allows.
    arena_bytes
        The staging arena of one rank, which windows need beside the frames.
    plane
        `--data-plane`: "auto", "rma" or "message".

    Raises
    ------
    LimitError
        MPI cannot start on this node, or the ranks do not fit; the text has all sizes.
    """
    if memory_bytes is not None and memory_bytes < PAGE_BYTES:
        raise LimitError(
            f"--memory {in_units(memory_bytes)} is too small: a rank needs at least one page of "
            f"{in_units(PAGE_BYTES)}, and more for a program of any size"
        )
    own = mpi_shared_bytes(launch, environ)
    ledger = _Ledger(launch, node, own, 0 if plane == "message" else arena_bytes, memory_bytes)
    if own > node.shared_free:
        raise LimitError(ledger.refusal("MPI cannot start here: /dev/shm is too small", "mpi"))
    if plane == "message" or not has_shared_windows(launch, environ):
        return MemoryPlan(ledger.of_node(), plane, "")
    room = (node.shared_free - own) // launch.local_size - arena_bytes
    if room >= ledger.least:
        return MemoryPlan(min(ledger.of_node(), _pages(room)), plane, "")
    if plane == "rma":
        raise LimitError(ledger.refusal("the ranks of this node do not fit into /dev/shm", "shm"))
    remark = (
        f"/dev/shm has {in_units(node.shared_free)} free, too little for windows of "
        f"{launch.local_size} ranks: data travels in messages, which is slower"
    )
    return MemoryPlan(replace(ledger, arena_bytes=0).of_node(), "message", remark)


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The sums of one node, and the text that shows them; bytes."""

    launch: Launch
    node: NodeMemory
    #: What MPI itself needs of /dev/shm.
    own: int
    #: Of one rank; 0 where nothing is staged in arenas.
    arena_bytes: int
    #: Of one rank; None if it was left to us.
    memory_bytes: int | None

    @property
    def least(self) -> int:
        """Return the memory of a rank below which there is no use in starting."""
        return config.MEMORY_BYTES_MIN if self.memory_bytes is None else self.memory_bytes

    @property
    def together(self) -> int:
        """Return what the ranks of the node need at least."""
        return self.launch.local_size * (self.least + self.arena_bytes) + self.own

    def of_node(self) -> int:
        """Return the memory of a rank as far as the node's allows, wherever it lies."""
        there = min(self.node.total, self.node.addresses)
        half = there // 2 // self.launch.local_size - self.arena_bytes
        wanted = half if self.memory_bytes is None else self.memory_bytes
        if wanted < self.least or self.together > self.node.total:
            what = "the ranks of this node do not fit into its memory"
            raise LimitError(self.refusal(what, "node"))
        return _pages(wanted)

    def refusal(self, what: str, lacking: str) -> str:
        """Return a message with every size that counts, and what can be done about it.

        `lacking` is "mpi" (what MPI itself needs), "shm" or "node".
        """
        n, node = self.launch.local_size, self.node
        limit = ", the limit of its control group" if node.is_limited else ""
        free, total = in_units(node.shared_free), in_units(node.shared_total)
        lines = [
            what,
            f"  ranks on this node   {n}",
            f"  /dev/shm             {free} free of {total}",
            f"  memory of the node   {in_units(node.total)}{limit}",
            f"  MPI itself needs     {in_units(self.own)} of /dev/shm",
        ]
        if lacking != "mpi":
            why = "the least that makes sense" if self.memory_bytes is None else "--memory"
            arena = f" and {in_units(self.arena_bytes)} (arena)" if self.arena_bytes else ""
            lines += [
                f"  each rank needs      {in_units(self.least)} ({why}){arena}",
                f"  together             {in_units(self.together)}",
            ]
        return "\n".join((*lines, "  what helps:", *(f"    {x}" for x in self._remedies(lacking))))

    def _remedies(self, lacking: str) -> Iterator[str]:
        n, node = self.launch.local_size, self.node
        if n > 1:
            yield "fewer ranks on each node"
        if lacking != "mpi" and self.memory_bytes is not None:
            free = min(node.total, node.shared_free) if lacking == "shm" else node.total
            fits = (free - self.own) // n - self.arena_bytes
            if fits >= config.MIB:
                yield f"at most --memory {fits // config.MIB}M"
        if lacking == "node":
            return
        if lacking == "shm":
            yield "--data-plane message, which keeps the pages out of /dev/shm"
        yield "a larger /dev/shm: docker run --shm-size 2g, or mount -o remount,size=2g /dev/shm"
        if self.launch.launcher not in PMIX_LAUNCHERS:
            yield "MPIR_CVAR_NOLOCAL=1, with which MPICH uses the network inside a node"


def _pages(size: int) -> int:
    return size // PAGE_BYTES * PAGE_BYTES


def in_units(size: int) -> str:
    """Return bytes as `--memory` counts them: `64.0 MiB`, `5.2 GiB`."""
    for unit, scale in (("GiB", config.GIB), ("MiB", config.MIB), ("KiB", config.KIB)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size:,} bytes"
