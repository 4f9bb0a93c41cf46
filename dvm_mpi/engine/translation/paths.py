"""A unit's blocks as the native code will have them: small functions once for each call.

Pure. Fuel is checked where a node is entered that cuts a cycle, or from outside: there must be
enough for the longest way to the next such place, so between them it is only counted.

A function that is called leaves by an address in a cell, which native code would have to look
up, and LLVM would know nothing of the caller's cells behind it. So a small function is repeated for
each place that calls it; there its return leads to the place behind the call. Of a function that
calls others, itself perhaps, its ways to a return before it does are repeated: where a recursion
ends, it mostly ends by them.
The invariant to remember: a return is replaced only where nothing in the function can have changed
the cell that holds the address; control never comes back into what is repeated from elsewhere.
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

    def _spread(
        self,
        start: int,
        place: dict[int, Node],
        behind: Node | None,
        within: Collection[int] | None = None,
    ) -> Node:
        """Make the nodes that control reaches from a block; of a repetition those `within` it."""
        allowed = self._blocks if within is None else within
        made: list[Node] = []
        waiting = [start]
        while waiting:
            address = waiting.pop()
            if address in place:
                continue
            node = place[address] = Node(self._blocks[address], behind=behind)
            made.append(node)
            waiting += [a for a in node.block.successors if a in allowed]
            if node.block.flow is not None and node.block.flow.called is not None:
                waiting += [node.block.behind] if node.block.behind in self._blocks else []
        self.nodes += made
        for node in made:
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
        known = [a for a in block.successors if a in self._blocks]
        node.successors = [place[a] if a in place else self._outer(a) for a in known]

    def _repetition(self, node: Node, place: Mapping[int, Node]) -> Node | None:
        """Return the first node of a called function's repetition; None if it is not repeated."""
        block = node.block
        assert block.flow is not None
        called = block.flow.called
        behind = place.get(block.behind)
        if called is None or called not in self._blocks or behind is None:
            return None
        link = block.instructions[-1].operands[1]
        if link.mode is not Mode.DIRECT or (link.value, WORD_BYTES) not in self._cells:
            return None
        region = self._repeatable(called, link.value)
        size = sum(len(self._blocks[a].instructions) for a in region)
        if called not in region or size > FUNCTION_MAX or self._repeated + size > REPEATED_MAX:
            return None
        self._repeated += size
        return self._spread(called, {}, behind, region)

    def _repeatable(self, root: int, link: int) -> Collection[int]:
        """Return the blocks of a function that may be repeated where a call leaves this link."""
        whole = self._reached(root, self._blocks)
        kept = {address for address in whole if _keeps(self._blocks[address], link)}
        if len(kept) == len(whole):
            return whole
        # A loop's last block may change the link, or be left to another node: no loops.
        straight = {a for a in kept if a not in self._reached_behind(a, whole)}
        return {
            address
            for address in self._reached(root, straight)
            if any(map(self._returns, self._reached(address, straight)))
        }

    def _returns(self, address: int) -> bool:
        flow = self._blocks[address].flow
        return flow is not None and flow.is_indirect

    def _reached(self, start: int, within: Collection[int]) -> set[int]:
        """Return the blocks that control reaches from a block, itself included, in one function."""
        return self._reached_behind(start, within) | ({start} & set(within))

    def _reached_behind(self, start: int, within: Collection[int]) -> set[int]:
        found: set[int] = set()
        waiting = [start] if start in within else []
        while waiting:
            new = [a for a in _onward(self._blocks[waiting.pop()]) if a in within]
            waiting += [a for a in new if a not in found]
            found.update(new)
        return found

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


def _onward(block: Block) -> tuple[int, ...]:
    """Return where control may go from a block within its function."""
    is_call = block.flow is not None and block.flow.called is not None
    return (block.behind,) if is_call else block.successors


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
