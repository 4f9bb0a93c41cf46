"""The multiset of pinned epochs beside `collections.Counter`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dvm_mpi.dsm.pins import Pins


def test_agrees_with_a_counter():
    random = np.random.default_rng(5)
    pins, naive = Pins(), Counter()
    for _ in range(400):
        epoch, count = int(random.integers(1, 12)), int(random.integers(0, 4))
        if random.integers(2):
            pins.add(epoch, count)
            naive[epoch] += count
        else:
            count = min(count, naive[epoch])
            pins.remove(epoch, count)
            naive[epoch] -= count
        pins.check_invariants()
        held = sorted(+naive)
        assert pins.epochs.tolist() == held
        assert pins.oldest == (held[0] if held else None)
        assert len(pins) == naive.total()


def test_unpinning_what_is_not_pinned_is_our_fault():
    pins = Pins()
    pins.add(3)
    with pytest.raises(AssertionError, match="epoch 3 unpinned more often"):
        pins.remove(3, 2)
