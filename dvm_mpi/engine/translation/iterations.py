"""One iteration of a loop without checks, as LLVM: its blocks, and what they count.

How many instructions an iteration executes depends on its branches. The invariant to remember: an
iteration has a count of its own, from which it adds once to the sum of all. LLVM vectorises a sum;
it would not find one in a chain of additions that branches go around. What it cannot vectorise
anyway adds to the sum in such a chain.
"""

from __future__ import annotations

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.translation.frame import I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.lowering import Lowering


class Spent:
    """Counts what a window executes.

    `is_chain`: all iterations count as one, none of which is undone. Of a count that begins with
    nothing LLVM makes a number from the first condition, which is so much in its way that it jumps
    where it would select a number in binary64.
    """

    def __init__(self, frame: Frame, body: Body, *, is_chain: bool = False) -> None:
        self._frame = frame
        self._body = body
        self._has_own = bool(body.conditional) and not is_chain
        #: What iterations could have skipped and did not: in all, and in the present one.
        self._sum: Value = None
        self._now: Value = None
        if body.conditional:
            self._sum = self._now = frame.variable(I64)
            frame.builder.store(word(0), self._sum)
        if self._has_own:
            self._now = frame.variable(I64)

    def begin(self) -> None:
        """Begin an iteration."""
        if self._has_own:
            self._frame.builder.store(word(0), self._now)

    def add(self, count: int) -> None:
        """Count instructions that are executed here, and may be skipped."""
        self._add(self._now, word(count))

    def end(self) -> None:
        """End an iteration."""
        if self._has_own:
            self._add(self._sum, self._frame.builder.load(self._now, typ=I64))

    def finish(self, count: Value) -> None:
        """Take from the fuel what `count` iterations have executed."""
        builder = self._frame.builder
        used = builder.mul(count, word(self._body.least))
        if self._body.conditional:
            used = builder.add(used, builder.load(self._sum, typ=I64))
        builder.store(builder.sub(builder.load(self._frame.left, typ=I64), used), self._frame.left)

    def _add(self, variable: Value, amount: Value) -> None:
        builder = self._frame.builder
        builder.store(builder.add(builder.load(variable, typ=I64), amount), variable)


def build_iteration(frame: Frame, lowering: Lowering, body: Body, spent: Spent) -> Instruction:
    """Build one iteration here; return its last instruction, which is placed and yet to be lowered.

    Nothing in it may be left to the interpreter.
    """
    spent.begin()
    native: dict[int, Block] = {
        block.address: frame.block(f"window_{block.address:x}") for block in body.blocks[1:]
    }
    position = 0
    for block, is_always in zip(body.blocks, body.always, strict=True):
        if block is not body.head:
            frame.at(native[block.address])
        if not is_always:
            spent.add(len(block.instructions))
        straight = block.instructions if block.flow is None else block.instructions[:-1]
        for instruction in straight:
            lowering.place(position, instruction)
            lowering.lower(instruction)
            position += 1
        if block.flow is not None:
            lowering.place(position, block.instructions[-1])
            position += 1
        if block is not body.latch:
            _go_on(frame, lowering, block, native)
    spent.end()
    return body.instructions[-1]


def _go_on(frame: Frame, lowering: Lowering, block: Block, native: dict[int, Block]) -> None:
    """Build the way from a block to the next ones."""
    last = block.instructions[-1]
    if len(block.successors) == 1:
        frame.builder.branch(native[block.successors[0]])
    else:
        assert last.target is not None, last
        taken = lowering.compare(last)
        frame.builder.cbranch(taken, native[last.target], native[block.behind])
