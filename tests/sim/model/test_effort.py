"""What steps are counted by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.dsm.messages import RUN
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.model.effort import pages_of

RUNS = st.lists(
    st.tuples(st.integers(0, 9 * PAGE_BYTES), st.integers(1, 3 * PAGE_BYTES)), max_size=6
)


@given(RUNS)
def test_pages_of_runs_count_once_each(given_runs: list[tuple[int, int]]) -> None:
    """Long runs have many, neighbours share some, and runs of several write sets cross."""
    runs = np.zeros(len(given_runs), RUN)
    touched: set[int] = set()
    for row, (start, length) in zip(runs, given_runs, strict=True):
        row["start"], row["length"] = start, length
        touched.update(range(start // PAGE_BYTES, (start + length - 1) // PAGE_BYTES + 1))
    assert pages_of(runs) == len(touched)
