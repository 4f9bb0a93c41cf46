"""A unit's instructions as blocks.

Pure. A block is entered at its first instruction only. An instruction that the interpreter executes
ends the block before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.table import Flag
from dvm_mpi.engine.translation.code import Code, Flow
from dvm_mpi.engine.translation.units import Unit, instructions_of


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that are executed one after the other.

    `flow`: where the last one leads, None if control falls through to `behind`. `is_left`: the
    interpreter goes on at `behind`, since it executes what stands there. `is_loop`: it stands for
    a whole loop, which is left to `behind` only (loops.py).
    """

    address: int
    instructions: tuple[Instruction, ...]
    flow: Flow | None
    behind: int
    is_left: bool = False
    is_loop: bool = False

    @property
    def successors(self) -> tuple[int, ...]:
        """Where control may go by known addresses."""
        if self.is_left:
            return ()
        if self.flow is None:
            return (self.behind,)
        return self.flow.targets if self.flow.called is None else (self.flow.called,)


def _jumps(instruction: Instruction) -> bool:
    return Flag.JUMPS in instruction.row.flags


def blocks_of(code: Code, unit: Unit) -> dict[int, Block]:
    """Return a unit's blocks by their first addresses, in order."""
    instructions = {i.address: i for i in instructions_of(code, unit)}
    leaders = set(unit.entries)
    for instruction in instructions.values():
        flow = code.flow(instruction)
        if flow.called is not None:
            leaders.add(flow.called)
        behind = instruction.address + instruction.size_bytes
        if _jumps(instruction) or code.flow(instruction).calls_out:
            leaders.update((*flow.targets, behind))
    found = {}
    for leader in sorted(leaders & instructions.keys()):
        found[leader] = _block_at(code, leader, instructions, leaders)
    return found


def _block_at(
    code: Code, leader: int, instructions: Mapping[int, Instruction], leaders: Collection[int]
) -> Block:
    taken: list[Instruction] = []
    address = leader
    while True:
        instruction = instructions[address]
        if code.flow(instruction).calls_out:
            return Block(leader, tuple(taken), None, address, is_left=True)
        taken.append(instruction)
        behind = address + instruction.size_bytes
        if _jumps(instruction):
            return Block(leader, tuple(taken), code.flow(instruction), behind)
        address = behind
        if address in leaders or address not in instructions:
            return Block(leader, tuple(taken), None, address)
