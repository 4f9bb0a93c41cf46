"""A rank of a test: start MPI where memory holds no zeros, which MPICH tells Slurm some of.

Every rank prints how many ranks there are.
"""

from __future__ import annotations

import os

from dvm_mpi.control import transport
from dvm_mpi.launch import environment, slurm_pmi


def run_rank() -> None:
    """Leave holes of every size between bytes of ones, and start."""
    blocks = [b"\xff" * size for _ in range(60) for size in range(600, 4000, 40)]
    kept = blocks[::2]
    del blocks
    launch = environment.detect(os.environ, os.getppid())
    assert launch is not None
    with slurm_pmi.short_values(launch, os.environ):
        started = transport.start()
    assert kept
    print(f"one of {started.size}", flush=True)
    transport.finish()


if __name__ == "__main__":
    run_rank()
