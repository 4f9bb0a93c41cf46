"""The hash table beside a dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm import hashing
from dvm_mpi.dsm.hashing import IntMap


@pytest.mark.parametrize("spread", [1, 1 << 20, 1 << 45])
def test_agrees_with_a_dictionary(spread):
    """Keys in stretches, in strides and far apart; batches hold a key twice now and then."""
    random = np.random.default_rng(spread % 97)
    real, naive = IntMap(), {}
    for step in range(300):
        keys = random.integers(0, 500, int(random.integers(0, 30))) * spread
        if random.integers(3):
            values = random.integers(-9, 1 << 40, keys.size)
            real.put(keys, values)
            naive.update(zip(keys.tolist(), values.tolist(), strict=True))
        else:
            real.remove(keys)
            for key in keys.tolist():
                naive.pop(key, None)
        asked = np.arange(0, 520) * spread
        assert real.get(asked, -7).tolist() == [naive.get(key, -7) for key in asked.tolist()]
        assert len(real) == len(naive)
        if step % 20 == 0:
            real.check_invariants()
    keys, values = real.items()
    assert dict(zip(keys.tolist(), values.tolist(), strict=True)) == naive
    assert keys.tolist() == sorted(naive)


def test_removal_closes_the_gap_across_the_end_of_the_table():
    """Keys that collide at the highest slot wrap round; each must be found after any removal."""
    mask = hashing.SLOTS_AT_START - 1
    colliding = [k for k in range(20_000) if hashing.home_slot(k, mask) in (mask - 1, mask)][:12]
    for gone in colliding:
        table = IntMap()
        table.put(np.array(colliding), np.arange(12))
        table.remove(np.array([gone]))
        table.check_invariants()
        assert table.get(np.array([gone]), -1)[0] == -1
        assert len(table) == 11


def test_does_not_grow_by_what_passed_through():
    table = IntMap()
    for first in range(0, 100_000, 20):
        table.put(np.arange(first, first + 20), np.arange(20))
        table.remove(np.arange(first, first + 20))
    assert table._keys.size == hashing.SLOTS_AT_START
    assert (table._keys == hashing.EMPTY).all()
