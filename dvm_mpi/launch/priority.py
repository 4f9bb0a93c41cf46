"""The priority of a rank on a node that others use too."""

from __future__ import annotations

import os

from dvm_mpi.errors import UsageError


def be_nice(niceness: int) -> None:
    """Give this process a lower priority, and with it all that it starts from now on.

    To be called before MPI starts, whose threads would otherwise keep the old one.

    Raises
    ------
    UsageError
        The process has a lower priority already: nobody's is ever raised.
    """
    present = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness < present:
        raise UsageError(
            f"--nice {niceness}: this process has niceness {present} already, and DVM never raises "
            f"its own priority; leave --nice away, or give {present} or more"
        )
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
