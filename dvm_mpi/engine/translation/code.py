"""The instructions of a program as a graph, for whoever chooses what to translate.

Pure: takes an image, knows no LLVM. Where control goes by an address in a cell, the graph has no
edge: translated code looks the address up when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from dvm_mpi.disa.encoding import DecodeError, decode
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import Access, Flag
from dvm_mpi.disa.types import Mode
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN, PAGE_SHIFT, PR_END, PR_START, TEXT_START


@dataclass(frozen=True, slots=True)
class Flow:
    """Where control may go from an instruction.

    `targets` are known addresses, the next instruction's among them if control may fall through.
    `called` is where a call goes, which comes back to the next instruction. `calls_out`: the
    interpreter executes it, whatever comes next.
    """

    targets: tuple[int, ...] = ()
    called: int | None = None
    is_indirect: bool = False
    calls_out: bool = False


def reads(instruction: Instruction) -> list[tuple[int, Operand]]:
    """Return the source operands with their positions."""
    return _operands(instruction, Access.READ)


def writes(instruction: Instruction) -> list[tuple[int, Operand]]:
    """Return the destination, if there is one, with its position."""
    return _operands(instruction, Access.WRITE)


def _operands(instruction: Instruction, access: Access) -> list[tuple[int, Operand]]:
    specs = instruction.specs
    return [
        (index, operand)
        for index, operand in enumerate(instruction.operands)
        if specs[index].access is access
    ]


def is_special(instruction: Instruction) -> bool:
    """Say whether an operand takes from standard input or goes to the console."""
    sources = any(operand.value == CELL_STDIN and operand.mode is not Mode.IMMEDIATE
                  for _, operand in reads(instruction))  # fmt: skip
    # The pointer of an indirect destination is loaded as well.
    pointers = any(operand.value == CELL_STDIN and operand.mode is not Mode.DIRECT
                   for _, operand in writes(instruction))  # fmt: skip
    console = any(operand.value == CELL_CONSOLE and operand.mode is Mode.DIRECT
                  for _, operand in writes(instruction))  # fmt: skip
    return sources or pointers or console


class Code:
    """The instructions of an image, by address.

    Parameters
    ----------
    image
        The program. In a flat image an instruction may begin at any byte.
    static_pages
        Private pages that are always there, as the interpreter has chosen them.
    """

    def __init__(self, image: Image, static_pages: Iterable[int]) -> None:
        self.text = image.text
        self.static_pages = frozenset(static_pages)
        self.is_flat = image.lines is None
        self.entry = image.entry
        self._instructions: dict[int, Instruction | None] = {}
        self._flows: dict[int, Flow] = {}
        self._begins = None if image.lines is None else set(image.lines.addresses.tolist())

    def at(self, address: int) -> Instruction | None:
        """Return the instruction at an address, None if none may be executed there."""
        if address not in self._instructions:
            self._instructions[address] = self._decode(address)
        return self._instructions[address]

    def _decode(self, address: int) -> Instruction | None:
        offset = address - TEXT_START
        if not 0 <= offset < len(self.text):
            return None
        if self._begins is not None and address not in self._begins:
            return None
        try:
            return decode(self.text, offset, address)
        except DecodeError:
            return None

    @cached_property
    def instructions(self) -> dict[int, Instruction]:
        """All instructions that are known: of a flat image those that control may reach."""
        if self._begins is not None:
            found = ((address, self.at(address)) for address in sorted(self._begins))
            return {address: i for address, i in found if i is not None}
        return self.reachable([self.entry])

    def reachable(self, roots: Iterable[int], most: int = 1 << 20) -> dict[int, Instruction]:
        """Return what control may reach from some addresses, calls included, `most` at most."""
        found: dict[int, Instruction] = {}
        waiting = list(roots)
        while waiting and len(found) < most:
            address = waiting.pop()
            instruction = None if address in found else self.at(address)
            if instruction is not None:
                found[address] = instruction
                flow = self.flow(instruction)
                waiting += flow.targets
                if flow.called is not None:
                    waiting.append(flow.called)
        return dict(sorted(found.items()))

    def flow(self, instruction: Instruction) -> Flow:
        """Return where control may go from an instruction of the program."""
        found = self._flows.get(instruction.address)
        if found is None:
            found = self._flows[instruction.address] = self._flow_of(instruction)
        return found

    def _flow_of(self, instruction: Instruction) -> Flow:
        flow = _flow(instruction)
        behind = instruction.address + instruction.size_bytes
        if behind in flow.targets and self.at(behind) is None:
            # Control would run out of the text: the interpreter knows what that leads to.
            return Flow(calls_out=True)
        return flow

    def is_static(self, address: int, width: int) -> bool:
        """Say whether a private cell may be accessed without a check."""
        if not PR_START <= address <= PR_END - width:
            return False
        pages = {address >> PAGE_SHIFT, (address + width - 1) >> PAGE_SHIFT}
        return pages <= self.static_pages


def _flow(instruction: Instruction) -> Flow:
    behind = instruction.address + instruction.size_bytes
    flags = instruction.row.flags
    condition = instruction.condition
    if Flag.ENDS in flags:
        return Flow(calls_out=True)
    if condition == "ji":
        return _jump(instruction)
    if instruction.mnemonic == "bl":
        known = instruction.operands[0]
        if known.mode is not Mode.IMMEDIATE or is_special(instruction):
            return Flow((behind,), calls_out=True)
        return Flow((behind,), called=known.value)
    if condition == "j":
        assert instruction.target is not None, instruction
        return Flow((instruction.target,))
    targets = {behind} if instruction.target is None else {behind, instruction.target}
    leaves = condition == "sl" or instruction.mnemonic == "strcmp" or Flag.CALLS_OUT in flags
    return Flow(tuple(sorted(targets)), calls_out=leaves or is_special(instruction))


def _jump(instruction: Instruction) -> Flow:
    operand = instruction.operands[0]
    if operand.mode is Mode.IMMEDIATE:
        return Flow((operand.value,))
    return Flow(is_indirect=True, calls_out=is_special(instruction))
