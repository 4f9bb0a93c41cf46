"""The translator: from a unit of a program to native code.

Runs in a process of its own, where llvmlite is loaded; ranks only load what comes out. See
docs/design/0022-translator.md. The code does what the interpreter does, instruction by
instruction, or leaves to it; whatever is rare is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.records import Word
from dvm_mpi.engine.translation.accesses import Groups, groups_of
from dvm_mpi.engine.translation.blocks import Block, blocks_of
from dvm_mpi.engine.translation.cells import Cell, Place, promoted_cells, stretches_of
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.emission import object_of
from dvm_mpi.engine.translation.frame import I64, Frame, word
from dvm_mpi.engine.translation.frame import Block as Native
from dvm_mpi.engine.translation.hammocks import body_of
from dvm_mpi.engine.translation.loops import Loop, is_large, is_notable, loop_of, with_loops
from dvm_mpi.engine.translation.lowering import Lowering
from dvm_mpi.engine.translation.memory import Memory
from dvm_mpi.engine.translation.nests import around, nest_of
from dvm_mpi.engine.translation.paths import Node, Paths
from dvm_mpi.engine.translation.rounds import Rounds
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.engine.translation.units import Unit, instructions_of
from dvm_mpi.engine.translation.windows import Window


def translate(code: Code, unit: Unit, level: int = 3, *, notes_loads: bool = False) -> bytes:
    """Return a unit as an object file (ELF) with the one function `dvm_unit`.

    `level`: how hard LLVM tries, 0 to 3. `notes_loads`: for engines that track loads; either code
    is right for either engine, but leaves what it does not know to the interpreter.
    """
    translation = _Translation(code, unit, notes_loads=notes_loads)
    return object_of(translation.module(), level, is_large=translation.has_large_loops)


def intermediate(code: Code, unit: Unit, *, notes_loads: bool = False) -> str:
    """Return a unit as LLVM's intermediate representation, before anything is optimised."""
    return _Translation(code, unit, notes_loads=notes_loads).module()


def loops_of(
    code: Code, blocks: Mapping[int, Block], cells: Mapping[Place, Cell]
) -> dict[int, tuple[Loop, Groups]]:
    """Return a unit's loops that have windows, and the groups of each, by their heads."""
    found = {}
    heads = {
        target
        for block in blocks.values()
        if block.flow is not None
        for target in block.flow.targets
        if target <= block.address and target in blocks
    }
    for address in sorted(heads):
        body = body_of(blocks, blocks[address])
        if body is not None:
            groups = groups_of(code, cells, body.instructions)
            loop = loop_of(body, cells, groups)
            if loop is not None:
                found[address] = loop, groups
    return found


class _Translation:
    """One unit on its way through."""

    def __init__(self, code: Code, unit: Unit, *, notes_loads: bool) -> None:
        self._code = code
        self._unit = unit
        blocks = blocks_of(code, unit)
        loops = loops_of(code, blocks, promoted_cells(code, instructions_of(code, unit), ()))
        within = {i.address for loop, _ in loops.values() for i in loop.body.instructions}
        for loop, _ in loops.values():
            # What is around it may run without checks as well.
            for other in around(blocks, loop.body) or ():
                within.update(i.address for i in (other.instructions if other else ()))
        cells = promoted_cells(code, instructions_of(code, unit), within)
        self._blocks = blocks
        self._loops = loops_of(code, blocks, cells)
        alone = [
            loop.body
            for loop, _ in self._loops.values()
            if is_large(loop)
            and (is_notable(loop) or not notes_loads)
            and code.at(loop.body.latch.behind) is not None
        ]
        joined = with_loops(blocks, unit.entries, alone)
        self._paths = Paths(joined, unit, cells)
        self._frame = Frame(cells)
        stretches = stretches_of(cells.values())
        self._memory = Memory(self._frame, stretches, notes_loads=notes_loads)
        self._runtime = Runtime(self._frame, self._memory, stretches)
        self._lowering = Lowering(self._frame, self._memory)
        self._groups = {a: groups_of(code, cells, b.instructions) for a, b in joined.items()}
        #: Where calls come back to, and the operand that holds that address.
        self._links = {
            i.address + i.size_bytes: i.operands[1]
            for i in instructions_of(code, unit)
            if i.mnemonic == "bl"
        }
        #: Native blocks of nodes: the instructions, and where fuel is checked before them.
        self._bodies: dict[Node, Native] = {}
        self._heads: dict[Node, Native] = {}
        entered = {self._paths.by_address[address] for address in unit.entries}
        for node in self._paths.nodes:
            name = f"{node.block.address:x}"
            if not node.block.is_loop:
                self._bodies[node] = self._frame.block(f"at_{name}")
            if node.is_cut or node in entered:
                self._heads[node] = self._frame.block(f"head_{name}")

    @property
    def has_large_loops(self) -> bool:
        """Whether there are loops that are windows alone."""
        return any(node.block.is_loop for node in self._paths.nodes)

    def module(self) -> str:
        """Build everything; return it as text."""
        for node in self._heads:
            self._build_head(node)
        for node in self._paths.nodes:
            if not node.block.is_loop:
                self._build(node)
        nodes = self._paths.by_address
        self._frame.finish({a: self._heads[nodes[a]] for a in self._unit.entries})
        return str(self._frame.module)

    # --- ways in ------------------------------------------------------------------------------
    def _build_head(self, node: Node) -> None:
        frame = self._frame
        frame.at(self._heads[node])
        self._build_window(node)
        if node.block.is_loop:
            return
        left = frame.builder.load(frame.left, typ=I64)
        enough = frame.builder.icmp_signed(">=", left, word(node.fuel))
        frame.unless(frame.exit_before(node.block.address, 0), enough)
        frame.builder.branch(self._bodies[node])

    def _build_window(self, node: Node) -> None:
        """Build the loop without checks, if it may be one; go on here where it is not possible."""
        if node.block.address not in self._loops:
            return
        loop, groups = self._loops[node.block.address]
        is_alone = node.block.is_loop
        latch = node if is_alone else node.way_to(loop.body.latch.address)
        behind = self._target(latch, latch.block.behind)
        if behind is None:
            return
        if self._memory.notes_loads and not is_notable(loop):
            return
        frame = self._frame
        all_groups = {**self._groups, loop.body.head.address: groups}
        nest = nest_of(self._blocks, loop, all_groups, frame.cells)
        if nest is not None and not self._memory.notes_loads:
            few = frame.block("few")
            rounds = Rounds(frame, self._memory, self._runtime, nest, all_groups)
            rounds.build_rounds(self._heads[node], few)
            frame.at(few)
        entrance = node.block.address
        checked = frame.exit_before(entrance, 0) if is_alone else frame.block("checked")
        window = Window(frame, self._memory, self._runtime, loop, groups, is_alone=is_alone)
        fuel_behind = latch.fuel - len(latch.block.instructions)
        window.build(checked, self._heads[node], behind, fuel_behind)
        if not is_alone:
            frame.at(checked)

    # --- instructions -------------------------------------------------------------------------
    def _build(self, node: Node) -> None:
        frame, lowering, block = self._frame, self._lowering, node.block
        frame.at(self._bodies[node])
        lowering.begin(self._groups[block.address])
        count = len(block.instructions)
        straight = block.instructions if block.flow is None else block.instructions[:-1]
        for position, instruction in enumerate(straight):
            lowering.place(position, instruction)
            lowering.lower(instruction)
        if block.flow is not None:
            lowering.place(count - 1, block.instructions[-1])
            self._build_jump(node, block.instructions[-1], count)
        elif block.is_left:
            frame.builder.branch(frame.exit_before(block.behind, count))
        else:
            self._leap(self._target(node, block.behind), count)

    def _build_jump(self, node: Node, last: Instruction, count: int) -> None:
        frame, flow = self._frame, node.block.flow
        assert flow is not None
        if flow.called is not None:
            goal = self._target(node, flow.called)
            if goal is not None:
                self._lowering.write_word(last, word(node.block.behind), is_safe=True)
            self._leap(goal, count)
        elif flow.is_indirect:
            if node.behind is not None:
                self._leap(self._way_to(node.behind), count)
            else:
                self._build_switch(last, count)
        elif last.target is not None and last.condition != "j":
            taken = self._lowering.compare(last)
            ways = [frame.block("way"), frame.block("way")]
            frame.builder.cbranch(taken, *ways)
            for way, address in zip(ways, (last.target, node.block.behind), strict=True):
                frame.at(way)
                self._leap(self._target(node, address), count)
        else:
            self._leap(self._target(node, flow.targets[0]), count)

    def _build_switch(self, last: Instruction, count: int) -> None:
        frame = self._frame
        value = self._lowering.read_word(last, 0, Word.Q)
        switch = frame.builder.switch(value, self._lowering.failed)
        link = last.operands[0]
        for address in self._unit.landings:
            # An address that another cell got is unlikely here: the interpreter can look it up.
            if self._links.get(address, link) != link:
                continue
            way = frame.block("landing")
            switch.add_case(word(address), way)
            frame.at(way)
            self._leap(self._heads[self._paths.by_address[address]], count)

    # --- ways on ------------------------------------------------------------------------------
    def _leap(self, goal: Native | None, executed: int) -> None:
        """Count the block and go on; without a goal the last instruction is the interpreter's."""
        frame = self._frame
        if goal is None:
            frame.builder.branch(self._lowering.failed)
            return
        left = frame.builder.load(frame.left, typ=I64)
        frame.builder.store(frame.builder.sub(left, word(executed)), frame.left)
        frame.builder.branch(goal)

    def _target(self, node: Node, address: int) -> Native | None:
        """Return where control goes on at an address that is known, once the block is counted.

        None if no instruction stands there. What is not in the unit, the interpreter executes.
        """
        if self._code.at(address) is None:
            return None
        for successor in node.successors:
            if successor.block.address == address:
                return self._way_to(successor)
        return self._frame.exit_before(address, 0)

    def _way_to(self, node: Node) -> Native:
        return self._heads[node] if node.is_cut else self._bodies[node]
