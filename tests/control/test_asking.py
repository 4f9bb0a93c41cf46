"""Whoever creates many runners asks for more addresses each time, and says how many it has had."""

from __future__ import annotations

from dvm_mpi.config import LEASE_BLOCKS_MAX, LEASE_GROWTH
from dvm_mpi.control.asking import Asking
from dvm_mpi.control.messages import OF_THE_WORKER, LeaseRequested
from dvm_mpi.engine.interface import Exit, Lease, LeaseKind, Reason
from dvm_mpi.layout import PAGE_BYTES


def stopped(kind: LeaseKind, wanted: int = 0) -> Exit:
    return Exit(Reason.LEASE_NEEDED, 0, 0, lease=kind, lease_bytes=wanted, pc=77)


def ids(count: int) -> Lease:
    return Lease(LeaseKind.ID, PAGE_BYTES, (1 + count) * PAGE_BYTES)


def test_each_kind_grows_by_itself_and_up_to_a_limit() -> None:
    asks = Asking(3)
    blocks = [asks.request(stopped(LeaseKind.ID), 5, is_own=False).blocks for _ in range(9)]
    grown = [min(LEASE_GROWTH**k, LEASE_BLOCKS_MAX) for k in range(9)]
    assert blocks == grown
    assert blocks[-1] == LEASE_BLOCKS_MAX
    assert asks.request(stopped(LeaseKind.STACK), 5, is_own=False).blocks == 1
    for _ in range(3):
        malloc = asks.request(stopped(LeaseKind.MALLOC, 99), 5, is_own=False)
        assert (malloc.blocks, malloc.wanted_bytes) == (1, 99)


def test_ids_are_counted_by_attempt() -> None:
    asks = Asking(3)
    first = asks.request(stopped(LeaseKind.ID), 5, is_own=True)
    assert first == LeaseRequested(3, LeaseKind.ID, 0, 5, 1, 0, 77)
    asks.note(ids(100))
    asks.note(Lease(LeaseKind.STACK, 0, 1 << 20))
    assert asks.request(stopped(LeaseKind.STACK), 5, is_own=True).created == 100
    asks.note(ids(200))
    assert asks.request(stopped(LeaseKind.ID), 5, is_own=True).created == 300
    other = asks.request(stopped(LeaseKind.ID), 6, is_own=False)
    assert (other.created, other.attempt) == (0, OF_THE_WORKER)


def test_who_is_set_aside_goes_on_counting() -> None:
    asks = Asking(3)
    asks.request(stopped(LeaseKind.ID), 5, is_own=True)
    asks.note(ids(100))
    assert asks.leased_ids(5) == 100
    assert asks.leased_ids(6) == 0
    asks.request(stopped(LeaseKind.ID), 6, is_own=True)
    asks.resume(5, 100)
    asks.note(ids(50))
    assert asks.request(stopped(LeaseKind.ID), 5, is_own=True).created == 150
