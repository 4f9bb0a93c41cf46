"""The command line with a rank that is amiss: `python -m tests.ranks.faulty RANK CALLS WHAT …`.

That rank's home does it after so many messages: it raises KeyError, as if its code were wrong, or
sends its own process a signal, whose name is given.
"""

from __future__ import annotations

import os
import signal
import sys

from dvm_mpi.cli import main
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import HomeEvent
from tests.ranks.launch import rank_in


def plant(calls: int, what: str) -> None:
    """Let what is amiss happen to every home of this process at that many messages."""
    handle = Home.handle
    count = 0

    def handle_or_fail(self: Home, event: HomeEvent) -> tuple[Addressed, ...]:
        nonlocal count
        count += 1
        if count > calls and what == KeyError.__name__:
            raise KeyError("planted")
        if count == calls and what != KeyError.__name__:
            os.kill(os.getpid(), signal.Signals[what])
        return handle(self, event)

    Home.handle = handle_or_fail  # type: ignore[method-assign]


if __name__ == "__main__":
    if rank_in(os.environ) == int(sys.argv[1]):
        plant(int(sys.argv[2]), sys.argv[3])
    sys.exit(main(sys.argv[4:]))
