"""The end of a job whose ranks have not started MPI: a rank that just left would be waited for.

Open MPI's launcher ends all ranks when one leaves with a code. MPICH's does not, as long as that
rank has not begun MPI: the others would wait within MPI_Init, and hear no signal. But it takes an
order to end the job on the descriptor over which it talks to each rank.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from dvm_mpi.launch.environment import Launch, Launcher


def ends_with_one(launch: Launch) -> bool:
    """Return whether all ranks end when one leaves with a code, after `end_job`."""
    return launch.launcher in {Launcher.HYDRA, Launcher.OPEN_MPI}


def end_job(launch: Launch, environ: Mapping[str, str], exit_code: int) -> None:
    """Let the launcher end the other ranks, with this exit code; before MPI starts only.

    What this rank prints must have been printed: it may be ended as well. Where the launcher
    cannot be asked, nothing happens.
    """
    if launch.launcher is not Launcher.HYDRA:
        return
    try:
        os.write(int(environ["PMI_FD"]), f"cmd=abort exitcode={exit_code}\n".encode())
    except (KeyError, ValueError, OSError):
        return
