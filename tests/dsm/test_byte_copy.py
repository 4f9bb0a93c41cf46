"""Copying runs of bytes beside slices."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.byte_copy import copy_runs, gather
from dvm_mpi.dsm.messages import RUN


def test_copies_in_order():
    """Later runs win where targets overlap, as later commits do."""
    source = np.arange(50, dtype=np.uint8)
    target = np.zeros(20, np.uint8)
    copy_runs(source, np.array([10, 30, 0]), target, np.array([2, 4, 9]), np.array([6, 3, 0]))
    assert target.tolist() == [0, 0, 10, 11, 30, 31, 32, 15] + [0] * 12


def test_gather_packs_back_to_back():
    data = np.arange(100, dtype=np.uint8)
    runs = np.array([(1_000, 3, 50), (2_000, 0, 9), (500, 2, 7)], RUN)
    moved, packed = gather(runs, data)
    assert packed.tolist() == [50, 51, 52, 7, 8]
    assert moved.tolist() == [(1_000, 3, 0), (2_000, 0, 3), (500, 2, 3)]
    assert runs["data_first"].tolist() == [50, 9, 7]


def test_a_run_beyond_its_data_is_refused():
    with pytest.raises(AssertionError, match="beyond its data"):
        gather(np.array([(0, 4, 8)], RUN), np.zeros(10, np.uint8))
