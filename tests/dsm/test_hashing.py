"""The hash table beside a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dvm_mpi.dsm import hashing
from dvm_mpi.dsm.hashing import IntMap
from tests.properties import tried

#: Few numbers, so that keys come again; stretches of them, so that the table grows.
NUMBERS = st.lists(st.integers(0, 60), max_size=12) | st.builds(
    lambda first, count: list(range(first, first + count)), st.integers(0, 300), st.integers(0, 90)
)


class MapBesideDictionary(RuleBasedStateMachine):
    """Keys in stretches, in strides and far apart; batches hold a key twice now and then."""

    @initialize(spread=st.sampled_from([1, 1 << 20, (1 << 45) + 1]))
    def make(self, spread: int) -> None:
        self.real, self.naive = IntMap(), dict[int, int]()
        self.spread, self.value = spread, -9

    def keys(self, numbers: list[int]) -> list[int]:
        return [number * self.spread for number in numbers]

    @rule(numbers=NUMBERS)
    def put(self, numbers: list[int]) -> None:
        keys = self.keys(numbers)
        values = range(self.value, self.value + len(keys))
        self.value += len(keys)
        self.real.put(np.array(keys, np.int64), np.array(values, np.int64))
        self.naive |= dict(zip(keys, values, strict=True))

    @rule(numbers=NUMBERS)
    def remove(self, numbers: list[int]) -> None:
        self.real.remove(np.array(self.keys(numbers), np.int64))
        for key in self.keys(numbers):
            self.naive.pop(key, None)

    @invariant()
    def agree(self) -> None:
        self.real.check_invariants()
        assert len(self.real) == len(self.naive)
        keys, values = self.real.items()
        assert list(zip(keys.tolist(), values.tolist(), strict=True)) == sorted(self.naive.items())
        asked = self.keys(list(range(70)))
        expected = [self.naive.get(key, -77) for key in asked]
        assert self.real.get(np.array(asked), -77).tolist() == expected


TestMapBesideDictionary = MapBesideDictionary.TestCase
TestMapBesideDictionary.settings = tried(30, steps=25)


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
