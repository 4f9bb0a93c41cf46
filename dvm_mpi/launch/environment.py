"""Who started this process, and as which rank of how many: read off the environment alone.

Nothing here asks MPI: with the wrong launcher its start-up would fail without telling why, or
leave each rank alone in a world of its own. The order in which `detect` looks is from the inside
out: a launcher that runs inside another one's shell inherits the outer one's variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

from dvm_mpi.values import dataclass


class Launcher(Enum):
    """Who started the ranks; the value is how messages name it."""

    HYDRA = "the mpiexec of MPICH"
    OPEN_MPI = "the mpiexec of Open MPI"
    SLURM_PMI2 = "srun --mpi=pmi2"
    SLURM_PMIX = "srun --mpi=pmix"
    #: Tasks that know nothing of each other.
    SLURM_PLAIN = "srun without --mpi"


#: Launchers that speak PMIx, which is what Open MPI needs; the others speak PMI-1 and PMI-2.
PMIX_LAUNCHERS: Final = frozenset({Launcher.OPEN_MPI, Launcher.SLURM_PMIX})

#: One of these beside `PMI_RANK` means hydra (MPICH's, Intel's), not Slurm's own PMI-2.
_HYDRA_MARKS: Final = ("HYDI_CONTROL_FD", "MPI_LOCALNRANKS")
#: Names that any process manager other than a plain srun leaves behind.
_MANAGER_MARKS: Final = ("PMI_", "PMI2_", "PMIX_", "PALS_")


@dataclass(frozen=True, slots=True)
class Launch:
    """How this process was started, as its environment tells.

    `job` is part of file names: the same on all ranks of a node, and different for runs at the
    same time on one node. Under hydra it differs from node to node, so rank 0's is the one to use.
    """

    launcher: Launcher
    rank: int
    size: int
    local_rank: int
    local_size: int
    job: str

    def __post_init__(self) -> None:
        """Hold what every launcher guarantees."""
        assert 0 <= self.rank < self.size, self
        assert 0 <= self.local_rank < self.local_size, self
        assert self.local_size <= self.size, self

    @property
    def speaks_for_all(self) -> bool:
        """Whether this rank tells what is equally wrong on all; the others leave in silence."""
        return self.rank == 0

    @property
    def speaks_for_node(self) -> bool:
        """Whether this rank tells what is wrong with its node."""
        return self.local_rank == 0


#: Slurm numbers batch scripts, interactive shells and the like as steps from here on.
_SPECIAL_STEPS: Final = 0xFFFF_FFF0


def detect(environ: Mapping[str, str], parent: int) -> Launch | None:
    """Return how a launcher started this process; None if no launcher did.

    A shell inside an allocation, a batch script and an `srun` of one task are no launchers: what
    runs there is one process, and needs no MPI.

    Parameters
    ----------
    environ
        The environment; values that are no numbers count as missing.
    parent
        The parent's process id. It tells runs of hydra apart, whose environment has no name.
    """
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return _open_mpi(environ)
    if "PMI_RANK" in environ and any(mark in environ for mark in _HYDRA_MARKS):
        return _hydra(environ, parent)
    if "SLURM_STEP_NUM_TASKS" in environ:
        return _slurm(environ)
    if "PMI_RANK" in environ:
        return _hydra(environ, parent)
    return None


def _open_mpi(environ: Mapping[str, str]) -> Launch | None:
    return _launch(
        Launcher.OPEN_MPI,
        environ.get("PMIX_NAMESPACE", ""),
        _number(environ, "OMPI_COMM_WORLD_RANK"),
        _number(environ, "OMPI_COMM_WORLD_SIZE"),
        _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK"),
        _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE"),
    )


def _hydra(environ: Mapping[str, str], parent: int) -> Launch | None:
    return _launch(
        Launcher.HYDRA,
        f"{environ.get('PMI_HOSTNAME', 'hydra')}-{parent}",
        _number(environ, "PMI_RANK"),
        _number(environ, "PMI_SIZE"),
        _number(environ, "MPI_LOCALRANKID"),
        _number(environ, "MPI_LOCALNRANKS"),
    )


def _slurm(environ: Mapping[str, str]) -> Launch | None:
    size = _number(environ, "SLURM_STEP_NUM_TASKS")
    step = _number(environ, "SLURM_STEP_ID") or 0
    if size == 1 or step >= _SPECIAL_STEPS:
        return None
    if "PMIX_RANK" in environ:
        launcher = Launcher.SLURM_PMIX
    elif any(name.startswith(_MANAGER_MARKS) for name in environ):
        launcher = Launcher.SLURM_PMI2
    else:
        launcher = Launcher.SLURM_PLAIN
    counts = tasks_per_node(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = _number(environ, "SLURM_NODEID")
    has_count = node is not None and node < len(counts)
    return _launch(
        launcher,
        f"slurm-{environ.get('SLURM_JOB_ID', '0')}.{environ.get('SLURM_STEP_ID', '0')}",
        _number(environ, "SLURM_PROCID"),
        size,
        _number(environ, "SLURM_LOCALID"),
        counts[node] if has_count and node is not None else None,
    )


def _launch(
    launcher: Launcher,
    job: str,
    rank: int | None,
    size: int | None,
    local_rank: int | None,
    local_size: int | None,
) -> Launch | None:
    """Return the launch; where a launcher does not say who is on the node, all are."""
    if rank is None or size is None or not rank < size:
        return None
    if local_rank is None or local_size is None or not local_rank < local_size <= size:
        local_rank, local_size = rank, size
    name = re.sub(r"[^\w.-]+", "-", job).strip("-.") or "run"
    return Launch(launcher, rank, size, local_rank, local_size, name)


def tasks_per_node(text: str) -> list[int]:
    """Return the tasks of each node from Slurm's short form: `4(x2),3` means 4, 4 and 3."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            return []
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
