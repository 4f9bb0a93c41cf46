"""A hash table from non-negative int64 to int64 that takes arrays of keys.

Open addressing with linear probing; removal shifts later entries back, so there are no tombstones
and a table that many keys passed through stays as fast as a new one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel, kernel

Ints = NDArray[np.int64]

EMPTY: Final = -1
SLOTS_AT_START: Final = 64
#: Multiplier of Fibonacci hashing: 2**64 divided by the golden ratio, as a signed number.
MIXER: Final = 0x9E37_79B9_7F4A_7C15 - 2**64
#: The table is rebuilt at twice the size when more than this share of it is full.
FULL_NUMERATOR: Final = 5
FULL_DENOMINATOR: Final = 8


@kernel
def home_slot(key: int, mask: int) -> int:
    """Return where the probing for `key` begins; high bits of the product are the mixed ones."""
    return ((key * MIXER) >> 20) & mask


@kernel
def find(keys: Ints, key: int) -> int:
    """Return the slot that holds `key`, or the empty one where it belongs."""
    mask = keys.size - 1
    slot = home_slot(key, mask)
    while keys[slot] not in (key, EMPTY):
        slot = (slot + 1) & mask
    return slot


@kernel
def enter(keys: Ints, values: Ints, key: int, value: int) -> int:
    """Enter a pair, over one that is there; return 1 if the key is new. There must be room."""
    slot = find(keys, key)
    values[slot] = value
    if keys[slot] == key:
        return 0
    keys[slot] = key
    return 1


@entry_kernel("void(int64[::1], int64[::1], int64[::1], int64[::1], int64)")
def get_each(keys: Ints, values: Ints, wanted: Ints, found: Ints, missing: int) -> None:
    """Fill `found` with the values of `wanted`."""
    for row in range(wanted.size):
        slot = find(keys, wanted[row])
        found[row] = values[slot] if keys[slot] != EMPTY else missing


@entry_kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1])")
def put_each(keys: Ints, values: Ints, added: Ints, given: Ints) -> int:
    """Enter pairs, the later over the earlier; return how many keys are new."""
    new = 0
    for row in range(added.size):
        slot = find(keys, added[row])
        if keys[slot] == EMPTY:
            keys[slot] = added[row]
            new += 1
        values[slot] = given[row]
    return new


@entry_kernel("int64(int64[::1], int64[::1], int64[::1])")
def remove_each(keys: Ints, values: Ints, gone: Ints) -> int:
    """Remove keys; return how many there were."""
    mask = keys.size - 1
    removed = 0
    for row in range(gone.size):
        hole = find(keys, gone[row])
        if keys[hole] == EMPTY:
            continue
        removed += 1
        slot = (hole + 1) & mask
        while keys[slot] != EMPTY:
            # An entry may fill the hole unless its probing begins behind the hole.
            if ((slot - home_slot(keys[slot], mask)) & mask) >= ((slot - hole) & mask):
                keys[hole] = keys[slot]
                values[hole] = values[slot]
                hole = slot
            slot = (slot + 1) & mask
        keys[hole] = EMPTY
    return removed


class IntMap:
    """Map from int64 >= 0 to int64; every operation takes arrays."""

    _keys: Ints
    _values: Ints
    _count: int

    def __init__(self) -> None:
        self._keys = np.full(SLOTS_AT_START, EMPTY, np.int64)
        self._values = np.empty(SLOTS_AT_START, np.int64)
        self._count = 0

    def __len__(self) -> int:
        """Return the number of keys."""
        return self._count

    def get(self, keys: Ints, missing: int) -> Ints:
        """Return the value of each key, `missing` where there is none."""
        found = np.empty(keys.size, np.int64)
        get_each(self._keys, self._values, np.ascontiguousarray(keys, np.int64), found, missing)
        return found

    def put(self, keys: Ints, values: Ints) -> None:
        """Enter pairs; a key that is there already gets the new value."""
        assert keys.size == values.size
        assert keys.size == 0 or int(keys.min()) >= 0, "keys are not negative"
        self._reserve(self._count + keys.size)
        added = np.ascontiguousarray(keys, np.int64)
        given = np.ascontiguousarray(values, np.int64)
        self._count += put_each(self._keys, self._values, added, given)

    def remove(self, keys: Ints) -> None:
        """Remove keys; those that are not there are passed over."""
        gone = np.ascontiguousarray(keys, np.int64)
        self._count -= remove_each(self._keys, self._values, gone)

    def tables(self, count: int) -> tuple[Ints, Ints]:
        """Return keys and values as they lie, with room for `count` more, for compiled loops.

        Whoever enters pairs there by `enter` says how many are new: `entered`.
        """
        self._reserve(self._count + count)
        return self._keys, self._values

    def entered(self, count: int) -> None:
        """Note that so many new keys were entered into the tables."""
        self._count += count

    def items(self) -> tuple[Ints, Ints]:
        """Return all keys, ascending, and their values."""
        used = np.flatnonzero(self._keys != EMPTY)
        order = used[np.argsort(self._keys[used])]
        return self._keys[order], self._values[order]

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        keys, values = self.items()
        assert keys.size == self._count
        assert np.all(np.diff(keys) > 0), "a key is there twice"
        assert np.array_equal(self.get(keys, EMPTY), values), "a key cannot be reached"
        assert self._count * FULL_DENOMINATOR <= self._keys.size * FULL_NUMERATOR

    def _reserve(self, count: int) -> None:
        slots = self._keys.size
        while count * FULL_DENOMINATOR > slots * FULL_NUMERATOR:
            slots *= 2
        if slots == self._keys.size:
            return
        keys, values = self.items()
        self._keys = np.full(slots, EMPTY, np.int64)
        self._values = np.empty(slots, np.int64)
        put_each(self._keys, self._values, keys, values)
