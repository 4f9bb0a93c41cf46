"""Leases of addresses: every one once, stacks again when all of a block have ended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dvm_mpi.config import (
    ID_LEASE_COUNT,
    LEASE_BLOCKS_MAX,
    MALLOC_LEASE_BYTES,
    MIB,
    STACK_BYTES_MAX,
    STACK_LEASE_COUNT,
    STACK_LEASES_MIN,
)
from dvm_mpi.control import leases
from dvm_mpi.control.leases import LeaseBook, stack_lease_count
from dvm_mpi.engine.interface import LeaseKind
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
)
from tests.properties import tried

#: With leases of full length, three blocks of these fill the area of automatic stacks.
LARGE_STACK = 256 * MIB


@pytest.fixture
def full_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STACK_LEASES_MIN", 1)


def bases(start: int, stack_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the stacks of all slots of a block that begins at `start`."""
    return start + GUARD_BYTES + np.arange(STACK_LEASE_COUNT) * stack_slot_bytes(stack_bytes)


def test_a_slot_is_a_guard_page_and_whole_pages() -> None:
    assert stack_slot_bytes(8192) == GUARD_BYTES + 8192
    assert stack_slot_bytes(8193) == GUARD_BYTES + 8192 + PAGE_BYTES


def test_ids_are_status_pages_in_order() -> None:
    book = LeaseBook(8192)
    first, second = book.lease(LeaseKind.ID), book.lease(LeaseKind.ID)
    assert first.start == STATUS_AREAS[0][0]
    assert first.end - first.start == ID_LEASE_COUNT * PAGE_BYTES
    assert second.start == first.end


def test_ids_go_on_in_the_second_area_and_then_run_out() -> None:
    """Both areas are used to their last page; areas are shortened to make that quick."""
    book = LeaseBook(8192)
    book._next_id = STATUS_AREAS[0][1] - PAGE_BYTES
    last = book.lease(LeaseKind.ID)
    assert (last.start, last.end) == (STATUS_AREAS[0][1] - PAGE_BYTES, STATUS_AREAS[0][1])
    assert book.lease(LeaseKind.ID).start == STATUS_AREAS[1][0]
    book._next_id = STATUS_AREAS[1][1] - PAGE_BYTES
    assert book.lease(LeaseKind.ID).end == STATUS_AREAS[1][1]
    for _ in range(2):
        with pytest.raises(LimitError, match="no runner id is left"):
            book.lease(LeaseKind.ID)


@pytest.mark.usefixtures("full_leases")
def test_stacks_run_out_and_come_back_block_by_block() -> None:
    book = LeaseBook(LARGE_STACK)
    blocks = [book.lease(LeaseKind.STACK) for _ in range(3)]
    assert blocks[0].start == STACKS_START
    assert [b.start for b in blocks[1:]] == [b.end for b in blocks[:-1]]
    assert blocks[-1].end <= STACKS_END
    with pytest.raises(LimitError, match=r"no automatic stack is left.*Use a smaller --stack"):
        book.lease(LeaseKind.STACK)
    ended = bases(blocks[1].start, LARGE_STACK)
    book.end_stacks(ended[:-1])
    with pytest.raises(LimitError):
        book.lease(LeaseKind.STACK)
    book.end_stacks(ended[-1:])
    assert book.lease(LeaseKind.STACK) == blocks[1]
    with pytest.raises(LimitError):
        book.lease(LeaseKind.STACK)


@pytest.mark.usefixtures("full_leases")
def test_slots_of_several_blocks_end_in_one_call() -> None:
    book = LeaseBook(LARGE_STACK)
    blocks = [book.lease(LeaseKind.STACK) for _ in range(3)]
    mixed = np.stack([bases(b.start, LARGE_STACK) for b in blocks]).T.reshape(-1)
    for part in np.array_split(mixed, 7):
        book.end_stacks(part)
    again = {book.lease(LeaseKind.STACK).start for _ in range(3)}
    assert again == {b.start for b in blocks}


@pytest.mark.usefixtures("full_leases")
def test_a_whole_block_ends_in_one_call() -> None:
    """A parent of thousands: its children end together, in one epoch."""
    book = LeaseBook(LARGE_STACK)
    blocks = [book.lease(LeaseKind.STACK) for _ in range(3)]
    book.end_stacks(bases(blocks[0].start, LARGE_STACK))
    assert book.lease(LeaseKind.STACK) == blocks[0]


@pytest.mark.parametrize("stack_bytes", [8192, MIB, LARGE_STACK, STACK_BYTES_MAX])
def test_a_lease_of_many_blocks_leaves_others_some(stack_bytes: int) -> None:
    book = LeaseBook(stack_bytes)
    taken = [book.lease(LeaseKind.STACK, blocks=LEASE_BLOCKS_MAX) for _ in range(STACK_LEASES_MIN)]
    assert taken[-1].end <= STACKS_END
    assert [lease.start for lease in taken[1:]] == [lease.end for lease in taken[:-1]]


def test_slots_of_one_large_lease_end_in_any_order() -> None:
    """They come back block by block, whoever was given them."""
    book = LeaseBook(8192)
    lease = book.lease(LeaseKind.STACK, blocks=4)
    slots = np.arange(lease.start, lease.end, stack_slot_bytes(8192)) + GUARD_BYTES
    assert len(slots) == 4 * STACK_LEASE_COUNT
    random = np.random.default_rng(2)
    random.shuffle(slots)
    for part in np.array_split(slots, 11):
        book.end_stacks(part)
        book.check_invariants()
    assert sorted(book._free_blocks) == [0, 1, 2, 3]
    assert not book._ended_slots


@pytest.mark.parametrize("stack_bytes", [PAGE_BYTES, 8192, MIB, LARGE_STACK, STACK_BYTES_MAX])
def test_stacks_of_any_size_suffice_for_many_leases(stack_bytes: int) -> None:
    """Each worker has one, and some are lost to runners that live long."""
    book = LeaseBook(stack_bytes)
    taken = [book.lease(LeaseKind.STACK) for _ in range(STACK_LEASES_MIN)]
    assert taken[-1].end <= STACKS_END
    size = stack_lease_count(stack_bytes) * stack_slot_bytes(stack_bytes)
    assert {lease.end - lease.start for lease in taken} == {size}


def test_a_stack_that_ends_twice_is_our_fault() -> None:
    book = LeaseBook(8192)
    block = bases(book.lease(LeaseKind.STACK).start, 8192)
    book.end_stacks(block[:-1])
    with pytest.raises(AssertionError, match="ended twice"):
        book.end_stacks(block[:2])


def test_malloc_blocks_hold_what_is_wanted() -> None:
    book = LeaseBook(8192)
    usual = book.lease(LeaseKind.MALLOC, 10)
    assert (usual.start, usual.end) == (MALLOC_START, MALLOC_START + MALLOC_LEASE_BYTES)
    large = book.lease(LeaseKind.MALLOC, MALLOC_LEASE_BYTES + 1)
    assert large.start == usual.end
    assert large.end - large.start == MALLOC_LEASE_BYTES + PAGE_BYTES


def test_too_large_a_malloc_gets_an_empty_block_and_costs_nothing() -> None:
    book = LeaseBook(8192)
    refused = book.lease(LeaseKind.MALLOC, MALLOC_END - MALLOC_START + 1)
    assert refused.start == refused.end
    everything = book.lease(LeaseKind.MALLOC, MALLOC_END - MALLOC_START)
    assert (everything.start, everything.end) == (MALLOC_START, MALLOC_END)
    for wanted in (1, PAGE_BYTES):
        refused = book.lease(LeaseKind.MALLOC, wanted)
        assert refused.start == refused.end


def test_the_last_bytes_go_to_a_malloc_that_fits() -> None:
    """Less than a usual block is left: who needs no more than that still gets it."""
    book = LeaseBook(8192)
    book.lease(LeaseKind.MALLOC, MALLOC_END - MALLOC_START - 3 * PAGE_BYTES)
    refused = book.lease(LeaseKind.MALLOC, 3 * PAGE_BYTES + 1)
    assert refused.start == refused.end
    fits = book.lease(LeaseKind.MALLOC, 2 * PAGE_BYTES + 1)
    assert (fits.start, fits.end) == (MALLOC_END - 3 * PAGE_BYTES, MALLOC_END)


@pytest.mark.usefixtures("full_leases")
def test_blocks_that_end_together_are_used_again_in_order() -> None:
    """In whatever order their stacks end: so it does not tell who ended first."""
    book = LeaseBook(LARGE_STACK)
    blocks = [book.lease(LeaseKind.STACK) for _ in range(3)]
    ended = np.concatenate([bases(block.start, LARGE_STACK) for block in reversed(blocks)])
    book.end_stacks(ended)
    assert [book.lease(LeaseKind.STACK) for _ in range(3)] == blocks


class BookBesideSets(RuleBasedStateMachine):
    """Blocks of all kinds are handed out; stacks end in any order and come back as whole blocks.

    Large stacks and little of the other areas: everything runs out within an example.
    """

    @initialize(ids_left=st.integers(1, 3), malloc_pages_left=st.integers(1, 900))
    def make(self, ids_left: int, malloc_pages_left: int) -> None:
        self.book = LeaseBook(STACK_BYTES_MAX)
        self.block_slots = stack_lease_count(STACK_BYTES_MAX)
        self.slot_bytes = stack_slot_bytes(STACK_BYTES_MAX)
        self.block_bytes = self.block_slots * self.slot_bytes
        self.book._next_id = (
            STATUS_AREAS[1][1] - ids_left * PAGE_BYTES * ID_LEASE_COUNT - PAGE_BYTES
        )
        self.book._next_malloc = MALLOC_END - malloc_pages_left * PAGE_BYTES
        block_count = (STACKS_END - STACKS_START) // self.block_bytes
        self.first_stack = STACKS_START + (block_count - 3) * self.block_bytes
        self.book._next_stack = self.first_stack
        self.ids_end = self.book._next_id
        self.malloc_end = self.book._next_malloc
        #: Slots that have not ended, by the start of their block; blocks to be used again.
        self.alive: dict[int, set[int]] = {}
        self.ended: list[int] = []

    @rule()
    def lease_ids(self) -> None:
        if self.ids_end == STATUS_AREAS[1][1]:
            with pytest.raises(LimitError):
                self.book.lease(LeaseKind.ID)
            return
        lease = self.book.lease(LeaseKind.ID)
        assert (lease.kind, lease.start) == (LeaseKind.ID, self.ids_end)
        assert lease.start < lease.end <= STATUS_AREAS[1][1]
        self.ids_end = lease.end

    @rule(wanted=st.integers(1, 2_000 * PAGE_BYTES))
    def lease_malloc(self, wanted: int) -> None:
        lease = self.book.lease(LeaseKind.MALLOC, wanted)
        assert lease.start == self.malloc_end
        if self.malloc_end + wanted > MALLOC_END:
            assert lease.end == lease.start
        else:
            assert wanted <= lease.end - lease.start
            assert lease.end <= MALLOC_END
            assert lease.end % PAGE_BYTES == 0
        self.malloc_end = lease.end

    @rule()
    def lease_stacks(self) -> None:
        fresh = self.first_stack + self.block_bytes * (len(self.alive) + len(self.ended))
        if fresh + self.block_bytes > STACKS_END and not self.ended:
            with pytest.raises(LimitError):
                self.book.lease(LeaseKind.STACK)
            return
        if fresh + self.block_bytes > STACKS_END:
            fresh = self.ended.pop(0)
        lease = self.book.lease(LeaseKind.STACK)
        assert (lease.start, lease.end) == (fresh, fresh + self.block_bytes)
        slots = range(lease.start, lease.end, self.slot_bytes)
        self.alive[lease.start] = {slot + GUARD_BYTES for slot in slots}

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end_stacks(self, data: st.DataObject) -> None:
        every = sorted(base for bases in self.alive.values() for base in bases)
        gone = data.draw(st.lists(st.sampled_from(every), unique=True) | st.just(every))
        self.book.end_stacks(np.array(gone, dtype=np.int64))
        for start in sorted(self.alive):
            self.alive[start] -= set(gone)
            if not self.alive[start]:
                del self.alive[start]
                self.ended.append(start)

    @invariant()
    def nothing_is_out_twice(self) -> None:
        assert not self.alive.keys() & set(self.ended)


TestBookBesideSets = BookBesideSets.TestCase
TestBookBesideSets.settings = tried(40, steps=30)
