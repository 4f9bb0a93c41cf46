"""The translator: from a unit of a program to native code.

Runs in a process of its own, where llvmlite is loaded; ranks only load what comes out. See
docs/design/0022-translator.md. The code does what the interpreter does, instruction by
instruction, or leaves to it; whatever is rare is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.records import Word
from dvm_mpi.engine.translation.accesses import groups_of
from dvm_mpi.engine.translation.blocks import Block, blocks_of, fuel_needed
from dvm_mpi.engine.translation.cells import promoted_cells, stretches_of
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.emission import object_of
from dvm_mpi.engine.translation.frame import I64, Frame, word
from dvm_mpi.engine.translation.frame import Block as Native
from dvm_mpi.engine.translation.loops import is_candidate, loop_of
from dvm_mpi.engine.translation.lowering import Lowering
from dvm_mpi.engine.translation.memory import Memory
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.engine.translation.units import Unit, instructions_of
from dvm_mpi.engine.translation.windows import Window


def translate(code: Code, unit: Unit, level: int = 3) -> bytes:
    """Return a unit as an object file (ELF) with the one function `dvm_unit`.

    `level`: how hard LLVM tries, 0 to 3.
    """
    return object_of(_Translation(code, unit).module(), level)


def intermediate(code: Code, unit: Unit) -> str:
    """Return a unit as LLVM's intermediate representation, before anything is optimised."""
    return _Translation(code, unit).module()


class _Translation:
    """One unit on its way through."""

    def __init__(self, code: Code, unit: Unit) -> None:
        self._code = code
        self._unit = unit
        self._blocks = blocks_of(code, unit)
        candidates = [block for block in self._blocks.values() if is_candidate(block)]
        within = {i.address for block in candidates for i in block.instructions}
        self._cells = promoted_cells(code, instructions_of(code, unit), within)
        self._frame = Frame(self._cells)
        stretches = stretches_of(self._cells.values())
        self._memory = Memory(self._frame, stretches)
        self._runtime = Runtime(self._frame, self._memory, stretches)
        self._lowering = Lowering(self._frame, self._memory)
        self._needed = fuel_needed(self._blocks, unit.entries)
        #: Native blocks: where fuel is checked, and the instructions behind.
        self._heads: dict[int, Native] = {}
        self._bodies = {a: self._frame.block(f"at_{a:x}") for a in self._blocks}
        for address in unit.entries:
            self._heads[address] = self._frame.block(f"head_{address:x}")

    def module(self) -> str:
        """Build everything; return it as text."""
        for address in self._unit.entries:
            self._build_head(address)
        for block in self._blocks.values():
            self._build(block)
        self._frame.finish({a: self._heads[a] for a in self._unit.entries})
        return str(self._frame.module)

    def _build_head(self, address: int) -> None:
        frame = self._frame
        frame.at(self._heads[address])
        self._build_window(self._blocks[address])
        left = frame.builder.load(frame.left, typ=I64)
        enough = frame.builder.icmp_signed(">=", left, word(self._needed[address]))
        frame.unless(frame.exit_before(address, 0), enough)
        frame.builder.branch(self._bodies[address])

    def _build_window(self, block: Block) -> None:
        """Build the loop without checks, if it may be one; go on here where it is not possible."""
        if not is_candidate(block):
            return
        groups = groups_of(self._code, self._cells, block.instructions)
        loop = loop_of(block, self._cells, groups)
        if loop is None:
            return
        frame = self._frame
        checked = frame.block("checked")
        behind = self._target(block.behind, 0) or checked
        if behind is checked:
            return
        window = Window(frame, self._memory, self._runtime, loop, groups)
        window.build(checked, self._heads[block.address], behind)
        frame.at(checked)

    def _build(self, block: Block) -> None:
        frame, lowering = self._frame, self._lowering
        frame.at(self._bodies[block.address])
        lowering.begin(groups_of(self._code, self._cells, block.instructions))
        count = len(block.instructions)
        straight = block.instructions if block.flow is None else block.instructions[:-1]
        for position, instruction in enumerate(straight):
            lowering.place(position, instruction)
            lowering.lower(instruction)
        if block.flow is None:
            if block.is_left:
                frame.builder.branch(frame.exit_before(block.behind, count))
            else:
                self._count(count)
                self._go(block.behind, 0)
        else:
            lowering.place(count - 1, block.instructions[-1])
            self._build_jump(block, block.instructions[-1], count)

    def _count(self, executed: int) -> None:
        frame = self._frame
        left = frame.builder.load(frame.left, typ=I64)
        frame.builder.store(frame.builder.sub(left, word(executed)), frame.left)

    def _go(self, address: int, executed: int) -> None:
        self._frame.builder.branch(self._goal(address, executed))

    def _goal(self, address: int, executed: int) -> Native:
        """Return the native block of an address; one that leaves if it is not in the unit."""
        if address in self._blocks:
            return self._heads.get(address, self._bodies[address])
        return self._frame.exit_before(address, executed)

    def _build_jump(self, block: Block, last: Instruction, count: int) -> None:
        frame, flow = self._frame, block.flow
        assert flow is not None
        if flow.called is not None:
            if self._code.at(flow.called) is None:
                frame.builder.branch(self._lowering.failed)
                return
            self._lowering.write_word(last, word(block.behind), is_safe=True)
            self._count(count)
            self._go(flow.called, 0)
        elif flow.is_indirect:
            self._build_switch(last, count)
        elif last.target is not None and last.condition != "j":
            taken = self._lowering.compare(last)
            goals = self._target(last.target, count), self._target(block.behind, count)
            behind = [frame.block("way"), frame.block("way")]
            frame.builder.cbranch(taken, *behind)
            for way, goal in zip(behind, goals, strict=True):
                frame.at(way)
                if goal is None:
                    frame.builder.branch(self._lowering.failed)
                else:
                    self._count(count)
                    frame.builder.branch(goal)
        else:
            goal = self._target(flow.targets[0], count)
            if goal is None:
                frame.builder.branch(self._lowering.failed)
            else:
                self._count(count)
                frame.builder.branch(goal)

    def _target(self, address: int, count: int) -> Native | None:
        """Return where a jump leads once it is counted; None if that is for the interpreter."""
        if self._code.at(address) is None:
            return None
        return self._goal(address, 0)

    def _build_switch(self, last: Instruction, count: int) -> None:
        frame = self._frame
        value = self._lowering.read_word(last, 0, Word.Q)
        landings: Mapping[int, Native] = {a: self._heads[a] for a in self._unit.landings}
        switch = frame.builder.switch(value, self._lowering.failed)
        for address, head in landings.items():
            way = frame.block("landing")
            switch.add_case(word(address), way)
            frame.at(way)
            self._count(count)
            frame.builder.branch(head)
