"""Rounds abreast: a few rounds of a nest (nests.py) at once, one turn of each after the other.

Where each round adds to the same row, as in the product of two matrices, the row is loaded and
stored once for all of them, and a NaN is looked for once. What a turn stores is seen by the same
turn of later rounds alone, so each may come before the next turn of the rounds before it. The
invariant to remember: nothing else of the rounds loads or stores a byte of such a row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.translation.accesses import Group, Groups
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import writes
from dvm_mpi.engine.translation.frame import F32, FLOATS, INTEGERS, Frame, Value
from dvm_mpi.engine.translation.lowering import Number
from dvm_mpi.engine.translation.nests import Move, Nest, RoundStream
from dvm_mpi.engine.translation.windows import WindowLowering
from dvm_mpi.layout import WORD_BYTES

#: Rounds that are abreast: as many streams are loaded from at once.
ABREAST: Final = 4
#: Instructions of an inner loop of which so many copies are made.
_INSTRUCTIONS_MAX: Final = 16


# --- which nests --------------------------------------------------------------------------------
def rows_of(
    nest: Nest, groups: Mapping[int, Groups], cells: Mapping[Place, Cell]
) -> tuple[RoundStream, ...]:
    """Return the streams to which each round adds; none if rounds may not be abreast.

    `groups`: those of each block. That no other stream of the rounds meets them is yet to be asked.
    """
    inner = nest.inner
    if len(inner.body.instructions) > _INSTRUCTIONS_MAX:
        return ()
    rows = tuple(stream for stream in nest.streams if stream.stream.group.stores)
    if not rows or not all(map(_is_row, rows)):
        return ()
    blocks = [(inner.body.instructions, groups[inner.body.head.address])]
    blocks.append((nest.latch.instructions, groups[nest.latch.address]))
    if nest.prefix:
        blocks.append((nest.prefix, groups[nest.prefix[0].address]))
    if not all(_is_told(instructions, some, cells) for instructions, some in blocks):
        return ()
    return () if _is_carried(nest, cells) else rows


def _is_carried(nest: Nest, cells: Mapping[Place, Cell]) -> bool:
    """Say whether a turn leaves something to the next one, or to what follows, in a cell."""
    within = _places_read(nest.inner.body.instructions, cells, first=True)
    outside = _places_read(nest.outside, cells, first=False)
    return not (within | outside).isdisjoint(nest.inner.uneven)


def _is_row(one: RoundStream) -> bool:
    """Say whether the same places are loaded and stored in each round, one in each turn."""
    group = one.stream.group
    places = {*group.loads, *group.stores}
    if not one.is_inner or one.move != Move() or not group.loads or len(places) != 1:
        return False
    return one.stream.step >= group.high - group.low


def _is_told(
    instructions: Sequence[Instruction], groups: Groups, cells: Mapping[Place, Cell]
) -> bool:
    """Say whether streams tell of all memory that is accessed: all but promoted cells."""
    for position, instruction in enumerate(instructions):
        for index, operand in enumerate(instruction.operands):
            is_direct = operand.mode is Mode.DIRECT
            if _place(instruction, index) in cells or operand.mode is Mode.IMMEDIATE:
                continue
            if not is_direct or groups[position, index][0] is None:
                return False
    return True


def _place(instruction: Instruction, index: int) -> Place:
    """Return the place of the cell that an operand names: itself, or its pointer."""
    operand = instruction.operands[index]
    is_direct = operand.mode is Mode.DIRECT
    return operand.value, instruction.width_of(index) if is_direct else WORD_BYTES


def _places_read(
    instructions: Sequence[Instruction], cells: Mapping[Place, Cell], *, first: bool
) -> set[Place]:
    """Return the cells that are read; if `first`, those that are before they are written."""
    found: set[Place] = set()
    written: set[Place] = set()
    for instruction in instructions:
        targets = [index for index, _ in writes(instruction)]
        for index, operand in enumerate(instruction.operands):
            # The pointer to what is written is read.
            is_read = operand.mode is not Mode.DIRECT or index not in targets
            if operand.mode is not Mode.IMMEDIATE and is_read:
                found |= {_place(instruction, index)} - written
        if first:
            written |= _places_written([instruction], cells)
    return found & cells.keys()


def _places_written(instructions: Sequence[Instruction], cells: Mapping[Place, Cell]) -> set[Place]:
    """Return the cells that are written."""
    return cells.keys() & {
        _place(instruction, index)
        for instruction in instructions
        for index, operand in writes(instruction)
        if operand.mode is Mode.DIRECT
    }


def differing_cells(nest: Nest, cells: Mapping[Place, Cell]) -> Collection[Place]:
    """Return the cells that the inner loop only reads, and that differ from round to round."""
    inner = nest.inner.body.instructions
    read = _places_read(inner, cells, first=False) - _places_written(inner, cells)
    return sorted(read & _places_written(nest.outside, cells))


# --- what their turns do ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Held:
    """What this turn has stored to a row last, as its element; `instruction` at `position` did.

    `is_computed`: a NaN stands for the canonical one.
    """

    value: Value
    is_computed: bool
    instruction: Instruction
    position: int


class Rows:
    """The rows to which rounds abreast add: what one turn holds of them, by their groups."""

    def __init__(self, frame: Frame, rows: Collection[RoundStream]) -> None:
        module = frame.module
        domain = module.add_metadata(["rounds abreast"])
        scope = module.add_metadata([f"row {len(module.metadata)}", domain])
        self._scopes = module.add_metadata([scope])
        self.groups = frozenset(row.stream.group for row in rows)
        self.held: dict[Group, _Held] = {}

    def tell(self, access: Value, *, is_row: bool) -> None:
        """Tell LLVM whether a load or store is one of a row; no others meet those."""
        access.set_metadata("alias.scope" if is_row else "noalias", self._scopes)


class RoundAbreast(WindowLowering):
    """Lowers the turns of one of the rounds abreast: it is made where that round begins.

    `differing`: cells of which each round has its own. `window`: as of any other window.
    """

    def __init__(self, rows: Rows, differing: Collection[Place], *window: Any) -> None:
        super().__init__(*window)
        self._rows = rows
        frame = self._frame
        self._variables = dict(frame.variables)
        for place in differing:
            cell = frame.cells[place]
            element = (FLOATS if cell.is_float else INTEGERS)[cell.width]
            own = self._variables[place] = frame.variable(element)
            frame.builder.store(frame.builder.load(frame.variables[place], typ=element), own)

    def lower(self, instruction: Instruction) -> None:
        """Lower an instruction with the cells of this round."""
        with self._frame.in_place(self._variables):
            super().lower(instruction)

    def load(self, operand: Operand, index: int, width: int, element: Value) -> Value:
        """Load an operand from memory, or take what a round before has stored in this turn."""
        group = self._group(index)
        held = None if group is None else self._rows.held.get(group)
        if held is None:
            loaded = super().load(operand, index, width, element)
            self._rows.tell(loaded, is_row=group in self._rows.groups)
            return loaded
        if held.value.type == element:
            # Whoever takes it as a number takes any NaN for the canonical one.
            return held.value
        return self._frame.builder.bitcast(self._exactly(held), element)

    def write_number(self, instruction: Instruction, number: Number) -> None:
        """Store a number, rounded to its width; to a row when the turn ends."""
        ((index, _),) = writes(instruction)
        if self._group(index) not in self._rows.groups:
            super().write_number(instruction, number)
            return
        value, is_single = number.value, instruction.width_of(index) != WORD_BYTES
        if is_single:
            value = self._frame.builder.fptrunc(value, F32)
        self._hold(index, value, is_computed=number.is_computed or is_single)

    def store(self, operand: Operand, index: int, width: int, value: Value) -> None:
        """Store an operand to memory when the turn ends: nothing but rows is stored to."""
        assert self._group(index) in self._rows.groups, self._instruction
        self._hold(index, value, is_computed=False)

    def end_turn(self) -> None:
        """Store what the turn of all rounds holds of the rows; this is the first round."""
        for held in self._rows.held.values():
            self.place(held.position, held.instruction)
            ((index, operand),) = writes(held.instruction)
            pointer = self.pointer(operand, index, held.instruction.width_of(index))
            self._rows.tell(self._memory.store(self._exactly(held), pointer), is_row=True)
        self._rows.held.clear()

    def _group(self, index: int) -> Group | None:
        return self._groups_here[self._executed, index][0]

    def _hold(self, index: int, value: Value, *, is_computed: bool) -> None:
        group = self._group(index)
        assert group is not None, index
        assert self._instruction is not None, index
        held = _Held(value, is_computed, self._instruction, self._executed)
        self._rows.held[group] = held

    def _exactly(self, held: _Held) -> Value:
        ((index, _),) = writes(held.instruction)
        if not held.is_computed:
            return held.value
        return self._frame.canonical(held.value, held.instruction.width_of(index))
