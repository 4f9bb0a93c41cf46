"""The end of a job whose ranks have not started MPI: a rank that just left would be waited for.

Open MPI's launcher ends all ranks when one leaves with a code. MPICH's does not, as long as that
rank has not begun MPI: the others would wait within MPI_Init, and hear no signal. But it takes an
order to end the job on the descriptor over which it talks to each rank.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import time
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dvm_mpi.config import DRAIN_S
from dvm_mpi.launch.environment import Launch, Launcher

if TYPE_CHECKING:
    import socket

_STDERR: Final = 2
_POLL_S: Final = 0.005
#: Between two looks whether another rank tells.
_LOOK_S: Final = 0.05
#: Names that this process holds to its end.
_claims: list[socket.socket] = []


def ends_with_one(launch: Launch) -> bool:
    """Return whether all ranks end when one leaves with a code, after `end_job`."""
    return launch.launcher in {Launcher.HYDRA, Launcher.OPEN_MPI}


def is_to_tell(launch: Launch, wait_s: float) -> bool:
    """Return whether this rank tells why the job cannot start, and no other rank of its host.

    Ranks that know the same may come at any distance from each other, and have no MPI to agree by:
    who finds nobody telling within `wait_s` has the word, until its process ends. To be asked once.
    """
    # A name of the kernel's, without a file: nothing of it is left, however the process ends.
    name = f"\0dvm-told-{os.getuid()}-{launch.job}"
    deadline = time.monotonic() + wait_s
    while not _is_taken(name):
        if time.monotonic() >= deadline:
            return _take(name)
        time.sleep(_LOOK_S)
    return False


def _is_taken(name: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(name)
        except OSError:
            return False
    return True


def _take(name: str) -> bool:
    import socket

    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(name)
    except OSError as error:
        claim.close()
        return error.errno != errno.EADDRINUSE
    _claims.append(claim)
    return True


def leave_after_telling(launch: Launch, environ: Mapping[str, str], exit_code: int) -> None:
    """Let all ranks end, now that this one has told why; before MPI starts only.

    Whoever waits for its turn to tell is to see first that it has been told.
    """
    end_job(launch, environ, exit_code)
    if ends_with_one(launch):
        time.sleep(DRAIN_S)


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
