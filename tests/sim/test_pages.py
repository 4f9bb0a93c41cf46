"""Versioned pages beside one dictionary of bytes per epoch."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.layout import DATA_START, PAGE_BYTES
from dvm_mpi.sim.pages import VersionedPages

PAGE = DATA_START // PAGE_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_a_dictionary_of_every_epoch(seed: int) -> None:
    random = np.random.default_rng(seed)
    pages, states, stored_at = VersionedPages(), [dict[int, int]()], dict[int, int]()
    for epoch in range(1, 12):
        states.append(dict(states[-1]))
        for _ in range(int(random.integers(0, 4))):
            start = DATA_START + int(random.integers(0, 2 * PAGE_BYTES))
            data = random.integers(0, 256, int(random.choice([0, 1, 8, 5000])), dtype=np.uint8)
            pages.store(epoch, start, data.tobytes())
            states[-1].update(enumerate(data.tolist(), start))
            stored_at.update(dict.fromkeys(range(start, start + len(data)), epoch))
    for epoch, state in enumerate(states):
        for page in range(PAGE, PAGE + 4):
            first = page * PAGE_BYTES
            expected = bytes(state.get(first + i, 0) for i in range(PAGE_BYTES))
            assert pages.read(page, epoch) == expected
    for _ in range(200):
        start = DATA_START + int(random.integers(0, 3 * PAGE_BYTES))
        length = int(random.choice([0, 1, 8, 6000]))
        newest = max((stored_at.get(b, 0) for b in range(start, start + length)), default=0)
        assert pages.last_store(start, length) == newest
    assert pages.pages() == sorted({address // PAGE_BYTES for address in stored_at})


def test_stores_come_in_commit_order() -> None:
    pages = VersionedPages()
    pages.store(3, DATA_START, b"a")
    with pytest.raises(AssertionError, match="commit order"):
        pages.store(2, DATA_START, b"b")
