"""Addresses that are handed out once: runner ids, automatic stacks and malloc blocks.

The coordinator leases blocks to ranks, which hand addresses out without asking. Ids and malloc
blocks are never leased twice in a run. A block of stack slots is leased again when every slot
of it was given to a runner that has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    ID_LEASE_COUNT,
    MALLOC_LEASE_BYTES,
    STACK_LEASE_COUNT,
    STACK_LEASES_MIN,
)
from dvm_mpi.control import row_loops
from dvm_mpi.engine.interface import Lease, LeaseKind
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import (
    GUARD_BYTES,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    STACKS_END,
    STACKS_START,
    STATUS_AREAS,
    stack_slot_bytes,
    whole_pages,
)
from dvm_mpi.values import dataclass

#: Stretches of stacks of one block that are counted apart; more are sorted.
_STRETCHES_MAX: Final = 64


def stack_slots(stack_bytes: int) -> int:
    """Return how many automatic stacks there is room for."""
    return (STACKS_END - STACKS_START) // stack_slot_bytes(stack_bytes)


def stack_lease_count(stack_bytes: int) -> int:
    """Return how many automatic stacks are leased at a time: few of large ones, to suffice."""
    return min(STACK_LEASE_COUNT, max(stack_slots(stack_bytes) // STACK_LEASES_MIN, 1))


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """What one block has of each kind: ids, automatic stacks, bytes for `malloc` at least."""

    ids: int
    stacks: int
    malloc_bytes: int


def worker_blocks(stack_bytes: int) -> BlockSizes:
    """Return the sizes of blocks that workers lease."""
    return BlockSizes(ID_LEASE_COUNT, stack_lease_count(stack_bytes), MALLOC_LEASE_BYTES)


class LeaseBook:
    """What has been leased of each kind. Rank 0 only."""

    def __init__(self, stack_bytes: int, sizes: BlockSizes | None = None) -> None:
        self._slot_bytes = stack_slot_bytes(stack_bytes)
        self._sizes = sizes or worker_blocks(stack_bytes)
        self._block_slots = self._sizes.stacks
        self._next_id = STATUS_AREAS[0][0]
        self._next_stack = STACKS_START
        self._next_malloc = MALLOC_START
        #: Slots of each stack block, by block number, whose runner has ended.
        self._ended_slots: dict[int, int] = {}
        self._free_blocks: deque[int] = deque()

    @property
    def _block_bytes(self) -> int:
        return self._slot_bytes * self._block_slots

    def lease(self, kind: LeaseKind, wanted_bytes: int = 0, blocks: int = 1) -> Lease:
        """Return a block; an empty one for MALLOC if the area cannot hold `wanted_bytes`.

        As long as there is room, a lease of several blocks has them one behind the other; of
        stacks no more than leave others some.

        Raises
        ------
        LimitError
            The address space has no ids or no automatic stacks left.
        """
        if kind is LeaseKind.ID:
            return self._lease_ids(blocks)
        if kind is LeaseKind.STACK:
            return self._lease_stacks(blocks)
        return self._lease_malloc(wanted_bytes, blocks)

    def _lease_ids(self, blocks: int) -> Lease:
        if self._next_id == STATUS_AREAS[0][1]:
            self._next_id = STATUS_AREAS[1][0]
        area_end = next(end for start, end in STATUS_AREAS if self._next_id <= end)
        start = self._next_id
        end = min(start + blocks * self._sizes.ids * PAGE_BYTES, area_end)
        if start == end:
            total = sum((end - start) // PAGE_BYTES for start, end in STATUS_AREAS)
            raise LimitError(
                f"no runner id is left: all {total} status pages of the address space are used. "
                "Ids are never given out twice in a run; create fewer, longer runners."
            )
        self._next_id = end
        return Lease(LeaseKind.ID, start, end)

    def _lease_stacks(self, blocks: int) -> Lease:
        fresh_blocks = (STACKS_END - self._next_stack) // self._block_bytes
        length = self._block_bytes
        if fresh_blocks > 0:
            start = self._next_stack
            slots_max = stack_slots(self._slot_bytes - GUARD_BYTES) // STACK_LEASES_MIN
            length *= min(blocks, fresh_blocks, max(slots_max // self._block_slots, 1))
            self._next_stack += length
        elif self._free_blocks:
            start = STACKS_START + self._free_blocks.popleft() * self._block_bytes
        else:
            slots = (STACKS_END - STACKS_START) // self._slot_bytes
            raise LimitError(
                f"no automatic stack is left: there is room for {slots}, and each of the leases of "
                f"{self._block_slots} still holds one for a runner that is alive or to come. "
                "Use a smaller --stack, or explicit stacks."
            )
        return Lease(LeaseKind.STACK, start, start + length)

    def _lease_malloc(self, wanted_bytes: int, blocks: int) -> Lease:
        rounded = whole_pages(wanted_bytes)
        start = self._next_malloc
        end = start + max(rounded, blocks * self._sizes.malloc_bytes)
        if end > MALLOC_END:
            end = start + rounded if start + rounded <= MALLOC_END else start
        self._next_malloc = end
        return Lease(LeaseKind.MALLOC, start, end)

    def _blocks_of(self, stack_bases: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
        """Return the blocks of stacks, ascending, with how many there are; some more than once."""
        # Most often they were handed out one behind the other.
        bases = np.ascontiguousarray(stack_bases, np.int64)
        found = np.empty((2, _STRETCHES_MAX), np.int64)
        stretches = row_loops.stretches(bases, STACKS_START, self._block_bytes, found)
        if stretches > _STRETCHES_MAX:
            found = np.stack(
                np.unique((bases - STACKS_START) // self._block_bytes, return_counts=True)
            )
            stretches = found.shape[1]
        blocks, counts = found[:, :stretches].tolist()
        return sorted(zip(blocks, counts, strict=True))

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        leased = (self._next_stack - STACKS_START) // self._block_bytes
        assert all(0 < ended < self._block_slots for ended in self._ended_slots.values())
        assert len(set(self._free_blocks)) == len(self._free_blocks), "a block is free twice"
        assert not self._ended_slots.keys() & set(self._free_blocks)
        assert all(0 <= block < leased for block in [*self._ended_slots, *self._free_blocks])

    def end_stacks(self, stack_bases: NDArray[np.int64]) -> None:
        """Note that the runners with these automatic stacks ended or were never born."""
        if len(stack_bases) == 0:
            return
        for block, count in self._blocks_of(stack_bases):
            ended = self._ended_slots.get(block, 0) + count
            assert ended <= self._block_slots, "an automatic stack ended twice"
            if ended == self._block_slots:
                self._ended_slots.pop(block, None)
                self._free_blocks.append(block)
            else:
                self._ended_slots[block] = ended
