"""Which accesses of a block are checked together.

Pure. Accesses by one pointer whose value does not change between them lie at known distances, so
one check serves all: that every byte from the lowest to the highest is on one page with the flags
that they need. Where the check fails the interpreter goes on, from the first of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import Access
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.address_space import READ, WRITE
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.layout import PAGE_SHIFT, WORD_BYTES

#: Bytes between the ends of what is checked together: what spans more straddles pages too often.
SPAN_MAX: Final = 1_024


@dataclass(eq=False, slots=True)
class Group:
    """Accesses that are checked together.

    `pointer`: the cell that holds the address, None if it is a constant (and offsets are
    addresses). `low`, `high`: offsets of the first byte and of the one after the last. `flags`:
    what the page must have. `loads` and `stores`: offsets and widths of what is loaded and stored.
    `is_reread`: some byte is loaded after the same iteration has stored it.
    """

    pointer: Place | None
    low: int
    high: int
    flags: int
    loads: list[tuple[int, int]] = field(default_factory=list)
    stores: list[tuple[int, int]] = field(default_factory=list)
    is_reread: bool = False


#: By the place of an instruction in its block, and of an operand in it: the groups of the access to
#: the operand and, where that is checked as well, of that to the cell that points to it.
Groups = Mapping[tuple[int, int], tuple[Group | None, Group | None]]


class _Grouping:
    def __init__(self, code: Code, cells: Mapping[Place, Cell]) -> None:
        self._code = code
        self._cells = cells
        self._open: dict[object, Group] = {}
        self.found: dict[tuple[int, int], tuple[Group | None, Group | None]] = {}

    def take(self, position: int, instruction: Instruction) -> None:
        specs = instruction.specs
        for index, operand in enumerate(instruction.operands):
            is_store = specs[index].access is Access.WRITE
            width = instruction.width_of(index)
            self.found[position, index] = self._place(operand, width, is_store)
        for index, operand in enumerate(instruction.operands):
            if specs[index].access is Access.WRITE:
                self._change(operand, instruction.width_of(index))

    def _place(
        self, operand: Operand, width: int, is_store: bool
    ) -> tuple[Group | None, Group | None]:
        if operand.mode is Mode.IMMEDIATE:
            return None, None
        if operand.mode is Mode.DIRECT:
            if self._code.is_static(operand.value, width):
                return None, None
            return self._fixed(operand.value, width, is_store), None
        pointer = operand.value, WORD_BYTES
        if self._code.is_static(*pointer):
            if pointer in self._cells:
                return self._join(pointer, pointer, operand.displacement, width, is_store), None
            return self._join(object(), pointer, operand.displacement, width, is_store), None
        far = self._fixed(operand.value, WORD_BYTES, is_store=False)
        return self._join(object(), pointer, operand.displacement, width, is_store), far

    def _fixed(self, address: int, width: int, is_store: bool) -> Group:
        return self._join(("page", address >> PAGE_SHIFT), None, address, width, is_store)

    def _join(
        self, key: object, pointer: Place | None, offset: int, width: int, is_store: bool
    ) -> Group:
        group = self._open.get(key)
        if group is not None:
            low, high = min(group.low, offset), max(group.high, offset + width)
            if high - low <= SPAN_MAX:
                group.low, group.high = low, high
            else:
                group = None
        if group is None:
            group = self._open[key] = Group(pointer, offset, offset + width, 0)
        group.flags |= WRITE if is_store else READ
        if is_store:
            group.stores.append((offset, width))
        else:
            group.loads.append((offset, width))
            group.is_reread |= any(o < offset + width and offset < o + w for o, w in group.stores)
        return group

    def _change(self, operand: Operand, width: int) -> None:
        """Forget the group of a pointer whose cell gets another value."""
        if operand.mode is Mode.DIRECT:
            # Promoted cells overlap no others.
            self._open.pop((operand.value, width), None)


def groups_of(
    code: Code, cells: Mapping[Place, Cell], instructions: Sequence[Instruction]
) -> Groups:
    """Return the groups of a block's accesses; the last instruction may be a branch."""
    grouping = _Grouping(code, cells)
    for position, instruction in enumerate(instructions):
        grouping.take(position, instruction)
    return grouping.found


def in_order(groups: Groups) -> Collection[Group]:
    """Return every group once, in the order in which they are first needed."""
    found: dict[Group, None] = {}
    for place in sorted(groups):
        for group in reversed(groups[place]):
            if group is not None:
                found[group] = None
    return found
