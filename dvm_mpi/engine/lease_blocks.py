"""The addresses that an engine may hand out: leased blocks, taken from in the order of granting.

Both engines follow the same rule, so that they give out the same addresses: the front block
serves until a request does not fit; then the first block that fits comes to the front. An attempt
that brings its own addresses has one block of each kind, and a grant takes its place.
"""

from __future__ import annotations

from typing import Any

from dvm_mpi.engine.interface import LEASES, EngineSettings, Lease, LeaseKind
from dvm_mpi.layout import whole_pages


def automatic_stack_bytes(settings: EngineSettings) -> int:
    """Return the length of automatic stacks: as set, in whole pages."""
    return whole_pages(settings.stack_bytes)


class LeaseBlocks:
    """Blocks of addresses by kind, the one in use first."""

    def __init__(self) -> None:
        #: `[start, end)` of what is left of each block; `start` moves up as addresses are taken.
        self._blocks: dict[LeaseKind, list[list[int]]] = {kind: [] for kind in LeaseKind}

    def add(self, lease: Lease) -> None:
        """Take over a block; an empty one adds nothing."""
        if lease.start < lease.end:
            self._blocks[lease.kind].append([lease.start, lease.end])

    def bring_forward(self, kind: LeaseKind, length: int) -> bool:
        """Make the front block one that holds `length` bytes; say whether there is one."""
        blocks = self._blocks[kind]
        for index, (start, end) in enumerate(blocks):
            if end - start >= length:
                blocks.insert(0, blocks.pop(index))
                return True
        return False

    def front(self, kind: LeaseKind) -> tuple[int, int]:
        """Return what is left of the block in use, `(0, 0)` if there is none."""
        blocks = self._blocks[kind]
        return (blocks[0][0], blocks[0][1]) if blocks else (0, 0)

    def use_up_to(self, kind: LeaseKind, start: int) -> None:
        """Note that the front block is used up to `start`; drop it when nothing is left."""
        blocks = self._blocks[kind]
        if blocks:
            assert blocks[0][0] <= start <= blocks[0][1], "a lease is used upwards, to its end"
            blocks[0][0] = start
            if start == blocks[0][1]:
                blocks.pop(0)

    def take(self, kind: LeaseKind, length: int) -> int | None:
        """Hand out `length` bytes; None if no block holds them."""
        if not self.bring_forward(kind, length):
            return None
        start, _ = self.front(kind)
        self.use_up_to(kind, start + length)
        return start


class AttemptLeases:
    """The addresses of one attempt, for the reference: a block of each kind."""

    def __init__(self, row: Any) -> None:
        #: `[next, end)` by kind; `row` is one of LEASES.
        self._blocks = {
            kind: [int(row[f"{kind.name.lower()}_{part}"]) for part in ("next", "end")]
            for kind in LeaseKind
        }

    @property
    def row(self) -> tuple[int, ...]:
        """What is left, in the order of LEASES."""
        return tuple(word for kind in LeaseKind for word in self._blocks[kind])

    def add(self, lease: Lease) -> None:
        """Take a block in place of what is left of its kind; an empty one changes nothing."""
        if lease.start < lease.end:
            self._blocks[lease.kind] = [lease.start, lease.end]

    def bring_forward(self, kind: LeaseKind, length: int) -> bool:
        """Say whether the block holds `length` bytes."""
        start, end = self._blocks[kind]
        return end - start >= length

    def take(self, kind: LeaseKind, length: int) -> int | None:
        """Hand out `length` bytes; None if the block does not hold them."""
        if not self.bring_forward(kind, length):
            return None
        start = self._blocks[kind][0]
        self._blocks[kind][0] += length
        return start


assert LEASES.names == tuple(
    f"{kind.name.lower()}_{part}" for kind in LeaseKind for part in ("next", "end")
)
