"""Bodies of loops: blocks from a head to a latch, between which control only goes forward.

Pure. Loops without checks (loops.py) may branch within an iteration, if what a branch may skip is
pure: it computes with promoted cells alone, so that nothing of it needs a check or a mark. LLVM
makes selections of such branches, and vectorises them with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.operations import DIVISIONS, plan
from dvm_mpi.engine.translation.blocks import Block
from dvm_mpi.engine.translation.cells import Cell, Place


@dataclass(frozen=True)
class Body:
    """One iteration of a loop. `blocks`: by their addresses, from the head to the latch.

    The latch ends with the only branch to the head; all others lead forward, to a block of the
    body.
    """

    blocks: tuple[Block, ...]

    @property
    def head(self) -> Block:
        """The block that every iteration begins with."""
        return self.blocks[0]

    @property
    def latch(self) -> Block:
        """The block that every iteration ends with."""
        return self.blocks[-1]

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """All instructions, by their addresses; of a body in full, a position counts these."""
        return tuple(instruction for block in self.blocks for instruction in block.instructions)

    @cached_property
    def always(self) -> tuple[bool, ...]:
        """By block: whether every iteration executes it."""
        found = []
        beyond = 0
        for block in self.blocks:
            found.append(block.address >= beyond)
            if block is not self.latch:
                beyond = max(beyond, *block.successors)
        return tuple(found)

    @cached_property
    def conditional(self) -> frozenset[int]:
        """The positions of instructions that some iterations skip."""
        flags = [
            is_always
            for block, is_always in zip(self.blocks, self.always, strict=True)
            for _ in block.instructions
        ]
        return frozenset(position for position, is_always in enumerate(flags) if not is_always)

    @property
    def least(self) -> int:
        """How many instructions every iteration executes."""
        return len(self.instructions) - len(self.conditional)

    @cached_property
    def most(self) -> int:
        """How many instructions an iteration executes at most."""
        longest: dict[int, int] = {}
        for block in reversed(self.blocks):
            onward = () if block is self.latch else block.successors
            behind = max((longest[address] for address in onward), default=0)
            longest[block.address] = len(block.instructions) + behind
        return longest[self.head.address]


def body_of(blocks: Mapping[int, Block], head: Block) -> Body | None:
    """Return the body of the loop that begins at a block; None if it has no window.

    It has none if in it anything but memory may need a check, or if there are other ways out than
    at its end.
    """
    found: list[Block] = []
    block: Block | None = head
    while block is not None:
        if block.is_left or any(map(may_divide_by_zero, block.instructions)):
            return None
        found.append(block)
        if block.flow is not None:
            last = block.instructions[-1]
            if block.flow.called is not None or block.flow.is_indirect:
                return None
            if head.address in block.flow.targets:
                return _closed(found) if last.condition != "j" else None
        block = blocks.get(block.behind)
    return None


def _closed(blocks: list[Block]) -> Body | None:
    """Return a body if each of its branches but the last leads forward to a block of it."""
    within = {block.address for block in blocks}
    for block in blocks[:-1]:
        if any(a <= block.address or a not in within for a in block.successors):
            return None
    return Body(tuple(blocks))


def may_divide_by_zero(instruction: Instruction) -> bool:
    """Say whether it divides whole numbers by something else than a constant."""
    if plan(instruction).operation not in DIVISIONS:
        return False
    divisor = instruction.operands[1]
    return divisor.mode is not Mode.IMMEDIATE or divisor.value == 0


def is_pure(body: Body, cells: Mapping[Place, Cell]) -> bool:
    """Say whether what iterations may skip computes with promoted cells and constants alone."""
    return all(
        operand.mode is Mode.IMMEDIATE
        or (
            operand.mode is Mode.DIRECT
            and (operand.value, body.instructions[position].width_of(index)) in cells
        )
        for position in body.conditional
        for index, operand in enumerate(body.instructions[position].operands)
    )
