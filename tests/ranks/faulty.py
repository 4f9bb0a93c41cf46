"""The command line with a defect on one rank: `python -m tests.ranks.faulty RANK CALLS …`.

That rank's home raises after so many messages, as if its code were wrong.
"""

from __future__ import annotations

import os
import sys

from dvm_mpi.cli import main
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import HomeEvent
from tests.ranks.launch import rank_in


def plant(calls: int) -> None:
    """Let every home of this process raise at that many messages."""
    handle = Home.handle
    count = 0

    def handle_or_raise(self: Home, event: HomeEvent) -> tuple[Addressed, ...]:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyError("planted")
        return handle(self, event)

    Home.handle = handle_or_raise  # type: ignore[method-assign]


if __name__ == "__main__":
    if rank_in(os.environ) == int(sys.argv[1]):
        plant(int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
