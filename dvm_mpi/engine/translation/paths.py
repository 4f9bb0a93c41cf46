"""A unit's blocks as the native code will have them: small functions once for each call.

Pure. Fuel is checked where a node is entered that cuts a cycle, or from outside: there must be
enough for the longest way to the next such place, so between them it is only counted.

A function that is called leaves by an address in a cell, which native code would have to look
up, and LLVM would know nothing of the caller's cells behind it. So a small function is repeated for
each place that calls it; there its return leads to the place behind the call.
The invariant to remember: a return is replaced only where nothing in the function can have changed
the cell that holds the address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.translation.blocks import Block
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import writes
from dvm_mpi.engine.translation.units import Unit, returning
from dvm_mpi.layout import WORD_BYTES

#: Instructions of a function that is repeated, and of all repetitions of a unit.
FUNCTION_MAX: Final = 48
REPEATED_MAX: Final = 600


@dataclass(eq=False, slots=True)
class Node:
    """One block in one place.

    `successors`: by known addresses. `behind`: where a return of this repetition leads. `is_cut`:
    fuel is checked whenever control comes here. `fuel`: the most instructions from here until it
    is checked again.
    """

    block: Block
    successors: list[Node] = field(default_factory=list)
    behind: Node | None = None
    is_cut: bool = False
    fuel: int = 0

    def way_to(self, address: int) -> Node:
        """Return the nearest node of a block's address to which control leads from here."""
        waiting = [self]
        for node in waiting:
            if node.block.address == address:
                return node
            waiting += [successor for successor in node.successors if successor not in waiting]
        raise AssertionError(f"{address:#x} is not reached from {self.block.address:#x}")


class Paths:
    """The nodes of a unit. `nodes`: all; `by_address`: those that entries and jumps lead to."""

    def __init__(
        self, blocks: Mapping[int, Block], unit: Unit, cells: Mapping[Place, Cell]
    ) -> None:
        self._blocks = blocks
        self._cells = cells
        self._repeated = 0
        self.nodes: list[Node] = []
        self.by_address: dict[int, Node] = {}
        for address in unit.entries:
            self._outer(address)
        self._cut()
        self._count()

    # --- nodes --------------------------------------------------------------------------------
    def _outer(self, address: int) -> Node:
        """Return the node of a block outside of all repetitions."""
        found = self.by_address.get(address)
        if found is None:
            self._spread(address, self.by_address, None)
            found = self.by_address[address]
        return found

    def _spread(self, start: int, place: dict[int, Node], behind: Node | None) -> Node:
        """Make the nodes that control reaches from a block, within one repetition."""
        waiting = [start]
        while waiting:
            address = waiting.pop()
            if address in place:
                continue
            node = place[address] = Node(self._blocks[address], behind=behind)
            self.nodes.append(node)
            waiting += [a for a in node.block.successors if a in self._blocks]
            if node.block.flow is not None and node.block.flow.called is not None:
                waiting += [node.block.behind] if node.block.behind in self._blocks else []
        for node in list(place.values()):
            if not node.successors:
                self._connect(node, place)
        return place[start]

    def _connect(self, node: Node, place: Mapping[int, Node]) -> None:
        block = node.block
        if block.flow is not None and block.flow.called is not None:
            repeated = self._repetition(node, place)
            if repeated is not None:
                node.successors = [repeated]
                return
        if block.flow is not None and block.flow.is_indirect and node.behind is not None:
            node.successors = [node.behind]
            return
        node.successors = [place[a] for a in block.successors if a in place]

    def _repetition(self, node: Node, place: Mapping[int, Node]) -> Node | None:
        """Return the first node of a called function's repetition; None if it is not repeated."""
        block = node.block
        assert block.flow is not None
        called = block.flow.called
        behind = place.get(block.behind)
        if called is None or called not in self._blocks or behind is None:
            return None
        region = self._region(called)
        size = sum(len(b.instructions) for b in region)
        if size > FUNCTION_MAX or self._repeated + size > REPEATED_MAX:
            return None
        link = block.instructions[-1].operands[1]
        if link.mode is not Mode.DIRECT or (link.value, WORD_BYTES) not in self._cells:
            return None
        if not all(_keeps(b, link.value) for b in region):
            return None
        self._repeated += size
        return self._spread(called, {}, behind)

    def _region(self, root: int) -> list[Block]:
        found: dict[int, Block] = {}
        waiting = [root]
        while waiting:
            address = waiting.pop()
            if address not in found and address in self._blocks:
                block = found[address] = self._blocks[address]
                waiting += block.successors
        return list(found.values())

    # --- fuel ---------------------------------------------------------------------------------
    def _cut(self) -> None:
        number = {id(node): index for index, node in enumerate(self.nodes)}
        graph = {
            index: [number[id(s)] for s in node.successors] for index, node in enumerate(self.nodes)
        }
        roots = [number[id(node)] for node in self.by_address.values()]
        for index in returning(graph, roots):
            self.nodes[index].is_cut = True
        for node in self.nodes:
            # A loop without checks sees to its fuel itself.
            node.is_cut |= node.block.is_loop

    def _count(self) -> None:
        done: set[int] = set()
        for root in self.nodes:
            waiting = [root]
            while waiting:
                node = waiting[-1]
                behind = [s for s in node.successors if not s.is_cut]
                lacking = [s for s in behind if id(s) not in done]
                if id(node) in done:
                    waiting.pop()
                elif lacking:
                    waiting += lacking
                else:
                    most = max((s.fuel for s in behind), default=0)
                    node.fuel = len(node.block.instructions) + most
                    done.add(id(node))


def _keeps(block: Block, link: int) -> bool:
    """Say whether a block neither calls nor changes a link, and returns by it if it returns."""
    if block.flow is not None:
        if block.flow.called is not None:
            return False
        if block.flow.is_indirect:
            operand = block.instructions[-1].operands[0]
            if operand.mode is not Mode.DIRECT or operand.value != link:
                return False
    written: Collection[tuple[int, int]] = [
        (operand.value, instruction.width_of(index))
        for instruction in block.instructions
        for index, operand in writes(instruction)
        if operand.mode is Mode.DIRECT
    ]
    return (link, WORD_BYTES) not in written
