"""The end of a job whose ranks have not started MPI: a rank that just left would be waited for.

Open MPI's launcher ends all ranks when one leaves with a code. MPICH's does not, as long as that
rank has not begun MPI: the others would wait within MPI_Init, and hear no signal. But it takes an
order to end the job on the descriptor over which it talks to each rank.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import termios
import time
from array import array
from collections.abc import Mapping
from typing import Final

from dvm_mpi.config import DRAIN_S
from dvm_mpi.launch.environment import Launch, Launcher

_STDERR: Final = 2
_POLL_S: Final = 0.005
#: Names that this process holds to its end.
_claims: list[socket.socket] = []


def ends_with_one(launch: Launch) -> bool:
    """Return whether all ranks end when one leaves with a code, after `end_job`."""
    return launch.launcher in {Launcher.HYDRA, Launcher.OPEN_MPI}


def is_first_to_tell(launch: Launch) -> bool:
    """Return whether no other rank of this host is telling already why the job cannot start.

    Ranks that know the same may come at any distance from each other, and have no MPI to agree by.
    This process has the word from then on, until it ends; to be asked once.
    """
    # A name of the kernel's, without a file: nothing of it is left, however the process ends.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0dvm-told-{os.getuid()}-{launch.job}")
    except OSError as error:
        claim.close()
        return error.errno != errno.EADDRINUSE
    _claims.append(claim)
    return True


def end_job(launch: Launch, environ: Mapping[str, str], exit_code: int) -> None:
    """Let the launcher end the other ranks, with this exit code; before MPI starts only.

    This rank may be ended as well. Where the launcher cannot be asked, nothing happens.
    """
    if launch.launcher is not Launcher.HYDRA:
        return
    let_output_pass()
    try:
        os.write(int(environ["PMI_FD"]), f"cmd=abort exitcode={exit_code}\n".encode())
    except (KeyError, ValueError, OSError):
        return


def let_output_pass(descriptor: int = _STDERR) -> None:
    """Wait a little until a launcher has taken what was printed: it drops the rest when it aborts.

    Its pipe tells how much is still in it. What else it may be (a file, a terminal) keeps nothing
    back.
    """
    kept = array("i", [0])
    for _ in range(round(DRAIN_S / _POLL_S)):
        try:
            fcntl.ioctl(descriptor, termios.FIONREAD, kept)
        except OSError:
            return
        if kept[0] == 0:
            return
        time.sleep(_POLL_S)
