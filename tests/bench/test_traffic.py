"""What an iteration of k-means must move, counted by hand."""

from __future__ import annotations

import numpy as np

from bench.traffic import JOB, Needed, needed
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.layout import PAGE_BYTES
from tests.ranks.launch import ROOT

#: 128 KiB of sums, of which every rank has 32 KiB in its share; two blocks for each of two homes.
IMAGE = assemble_file(ROOT / JOB, {"N": "64", "K": "8", "DIMS": "1", "PARTS": "1024"})


def test_one_rank_needs_nothing() -> None:
    assert needed(IMAGE, 1) == Needed(0, 0)


def test_two_ranks() -> None:
    """`combine` touches all of one home's pages that the other rank has not."""
    sums, done, centroids = (IMAGE.arrays[name] for name in ("sums", "done", "centroids"))
    assert (sums.byte_count, done.byte_count) == (128 * 1024, 8 * 1024)

    def homes(address: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.arange(address, address + length) // (16 * PAGE_BYTES) % 2

    half = sums.byte_count // 2
    stored = 0
    for rank in (0, 1):
        stored += (homes(sums.address + rank * half, half) != rank).sum()
        stored += (homes(done.address + rank * 4096, 4096) != rank).sum()
    combiner = int(homes(sums.address, sums.byte_count).mean() > 0.5)
    stored += (homes(centroids.address, centroids.byte_count) != combiner).sum()
    pages = 0
    for rank in (0, 1):
        all_of = rank == combiner
        for array in (sums, done):
            length = array.byte_count if all_of else array.byte_count // 2
            start = array.address if all_of else array.address + rank * length
            pages += (homes(start, length)[::PAGE_BYTES] != rank).sum()
        pages += homes(centroids.address, 1)[0] != rank
    assert needed(IMAGE, 2) == Needed(int(pages), int(stored))
