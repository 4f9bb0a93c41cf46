"""The command line with less room for runners: `python -m tests.ranks.small ALIVE CHILDREN …`.

So many may be alive, and so many may one attempt create.
"""

from __future__ import annotations

import sys

from dvm_mpi.cli import main
from dvm_mpi.control import lifecycle, scheduler


def shrink(alive: int, children: int) -> None:
    """Set the limits of this process."""
    vars(lifecycle).update(RUNNERS_MAX=alive, CHILDREN_MAX=children)
    vars(scheduler).update(CHILDREN_MAX=children)


if __name__ == "__main__":
    shrink(int(sys.argv[1]), int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
