from __future__ import annotations

from dvm_mpi.engine.interface import Lease, LeaseKind
from dvm_mpi.engine.lease_blocks import LeaseBlocks, automatic_stack_bytes
from tests.engine.machine import settings

MALLOC = LeaseKind.MALLOC


def test_a_block_is_used_upwards_and_then_the_next() -> None:
    blocks = LeaseBlocks()
    blocks.add(Lease(MALLOC, 100, 300))
    blocks.add(Lease(MALLOC, 500, 700))
    assert [blocks.take(MALLOC, 100) for _ in range(5)] == [100, 200, 500, 600, None]


def test_what_does_not_fit_leaves_the_rest_for_later() -> None:
    blocks = LeaseBlocks()
    blocks.add(Lease(MALLOC, 100, 200))
    blocks.add(Lease(MALLOC, 500, 900))
    assert blocks.take(MALLOC, 300) == 500
    assert blocks.take(MALLOC, 100) == 800
    assert blocks.take(MALLOC, 100) == 100


def test_kinds_are_apart_and_empty_blocks_add_nothing() -> None:
    blocks = LeaseBlocks()
    blocks.add(Lease(LeaseKind.ID, 1, 2))
    blocks.add(Lease(MALLOC, 7, 7))
    assert blocks.take(MALLOC, 1) is None
    assert blocks.front(MALLOC) == (0, 0)
    assert blocks.front(LeaseKind.ID) == (1, 2)


def test_automatic_stacks_are_whole_pages() -> None:
    assert automatic_stack_bytes(settings(stack_bytes=1)) == 4096
    assert automatic_stack_bytes(settings(stack_bytes=8192)) == 8192
    assert automatic_stack_bytes(settings(stack_bytes=8193)) == 12288
