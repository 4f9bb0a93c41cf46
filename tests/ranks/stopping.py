"""The command line with a rank that stops: `python -m tests.ranks.stopping RANK …`.

That rank of a `doctor` does not answer any more once messages are to be exchanged.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NoReturn

from dvm_mpi.cli import main
from dvm_mpi.doctor import exchange
from tests.ranks.launch import rank_in


def stop(*_: Any) -> NoReturn:
    """Do nothing any more."""
    while True:
        time.sleep(1000)


if __name__ == "__main__":
    if rank_in(os.environ) == int(sys.argv[1]):
        setattr(exchange, "measure", stop)  # noqa: B010 - a type of its own
    sys.exit(main(sys.argv[2:]))
