"""The command line on unlike nodes: `python -m tests.ranks.crowded RANK …`.

That rank finds `/dev/shm` nearly full, as on a node where dead runs have left files.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from dvm_mpi import config
from dvm_mpi.cli import main
from dvm_mpi.launch import memory
from tests.ranks.launch import rank_in

if __name__ == "__main__":
    if rank_in(os.environ) == int(sys.argv[1]):
        # Enough for MPI itself, not for windows.
        crowded = replace(memory.measure(), shared_free=100 * config.MIB)
        memory.measure = lambda *_: crowded
    sys.exit(main(sys.argv[2:]))
