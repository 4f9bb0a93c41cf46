"""The multiset of pinned epochs beside `collections.Counter`."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dvm_mpi.dsm.pins import Pins
from tests.properties import tried

EPOCHS = st.integers(1, 12)
COUNTS = st.integers(0, 3)


class PinsBesideCounter(RuleBasedStateMachine):
    """Runners take and give back snapshots, several of one epoch at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pins, self.naive = Pins(), Counter[int]()

    @rule(epoch=EPOCHS, count=COUNTS)
    def add(self, epoch: int, count: int) -> None:
        self.pins.add(epoch, count)
        self.naive[epoch] += count

    @rule(epoch=EPOCHS, count=COUNTS)
    def remove(self, epoch: int, count: int) -> None:
        count = min(count, self.naive[epoch])
        self.pins.remove(epoch, count)
        self.naive[epoch] -= count

    @invariant()
    def agree(self) -> None:
        self.pins.check_invariants()
        held = sorted(+self.naive)
        assert self.pins.epochs.tolist() == held
        assert self.pins.oldest == (held[0] if held else None)
        assert len(self.pins) == self.naive.total()


TestPinsBesideCounter = PinsBesideCounter.TestCase
TestPinsBesideCounter.settings = tried(30, steps=30)


def test_unpinning_what_is_not_pinned_is_our_fault():
    pins = Pins()
    pins.add(3)
    with pytest.raises(AssertionError, match="epoch 3 unpinned more often"):
        pins.remove(3, 2)
