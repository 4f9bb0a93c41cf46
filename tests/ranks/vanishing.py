"""The command line with a rank that vanishes: `python -m tests.ranks.vanishing RANK WHERE …`.

At `start` that rank does not come to the common start of the program, at `end` not to the common
end of the run. Whoever waits for it is less patient than otherwise.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NoReturn

from dvm_mpi import config
from dvm_mpi.cli import main
from dvm_mpi.job.start import Start
from tests.ranks.launch import rank_in

PATIENCE_S = 3.0


def vanish(*_: Any) -> NoReturn:
    """Do nothing any more."""
    while True:
        time.sleep(1000)


def plant(where: str) -> None:
    """Let this process vanish there."""
    if where == "start":
        setattr(Start, "meet", vanish)  # noqa: B010 - a type of its own
    else:
        from dvm_mpi.control.transport import Transport  # noqa: PLC0415 - loads MPI

        setattr(Transport, "drain", vanish)  # noqa: B010 - as above


if __name__ == "__main__":
    for name in ("LOST_AT_START_S", "LOST_AT_END_S"):
        setattr(config, name, PATIENCE_S)
    if rank_in(os.environ) == int(sys.argv[1]):
        plant(sys.argv[2])
    sys.exit(main(sys.argv[3:]))
