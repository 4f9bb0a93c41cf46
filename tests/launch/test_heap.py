"""Memory that a process gives back is there for its next array: no new pages are taken."""

from __future__ import annotations

import subprocess
import sys

from tests.ranks.launch import ROOT

#: Makes eight arrays of 1 MiB, 256 pages each, twenty times; prints how many pages were taken.
FAULTS = """
import resource, sys
import numpy as np
from dvm_mpi.launch.heap import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(2):
    arrays = [np.ones(1 << 17) for _ in range(8)]
    del arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    arrays = [np.ones(1 << 17) for _ in range(8)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_arrays_reuse_memory() -> None:
    assert pages_taken("leave") > 10_000
    assert pages_taken("keep") < 1_000
