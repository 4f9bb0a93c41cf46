"""One instruction after another as LLVM: operands, operation, destination.

Everything about where a value lies is here: constant, promoted cell, static private memory, or
memory behind a pointer, which is checked with its group (accesses.py). The invariant to remember:
whatever makes an instruction leave to the interpreter comes before its first effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llvmlite import ir

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.operations import DIVISIONS, Plan, plan
from dvm_mpi.engine.predecode import widened_constant
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.engine.translation import arithmetic
from dvm_mpi.engine.translation.accesses import Group, Groups
from dvm_mpi.engine.translation.cells import (
    FLOAT_SOURCES,
    Cell,
    computes_nan,
    converts_floats,
    is_tame,
)
from dvm_mpi.engine.translation.code import reads, writes
from dvm_mpi.engine.translation.frame import F32, F64, FLOATS, I64, INTEGERS, Frame, Value, word
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.layout import WORD_BYTES

_SIGNED_WORDS: Final = frozenset({Word.Q, Word.SD, Word.SW, Word.SB})


@dataclass(frozen=True, slots=True)
class Number:
    """A number in binary64. `is_computed`: if NaN, it stands for the canonical one."""

    value: Value
    is_computed: bool


class Lowering:
    """Lowers the instructions of one block at a time.

    `begin` starts a block. `executed` instructions of it were executed before the present one.
    """

    def __init__(self, frame: Frame, memory: Memory) -> None:
        self._frame = frame
        self._memory = memory
        self._groups: Groups = {}
        self._checked: dict[Group, Checked] = {}
        self._executed = 0
        self._instruction: Instruction | None = None

    def begin(self, groups: Groups) -> None:
        """Start a block whose accesses have these groups."""
        self._groups = groups
        self._checked = {}

    @property
    def failed(self) -> Value:
        """The block that leaves the present instruction to the interpreter."""
        assert self._instruction is not None
        return self._frame.exit_before(self._instruction.address, self._executed)

    def place(self, position: int, instruction: Instruction) -> None:
        """Make an instruction of the block the present one."""
        self._executed, self._instruction = position, instruction

    # --- whole instructions -------------------------------------------------------------------
    def lower(self, instruction: Instruction) -> None:
        """Lower an instruction after which control falls through."""
        if instruction.mnemonic == "nop":
            return
        if self._moves_number(instruction):
            self._move_number(instruction)
            return
        planned = plan(instruction)
        if planned.operation in arithmetic.NUMBER_OPERATIONS or converts_floats(instruction):
            self.write_number(instruction, self._number_result(instruction, planned))
        elif planned.operation in arithmetic.TO_NUMBER:
            emit = arithmetic.TO_NUMBER[planned.operation]
            x, _ = self._words(instruction, planned)
            self.write_number(instruction, Number(emit(self._frame, x, x), is_computed=False))
        else:
            if planned.operation in arithmetic.TO_WORD:
                result = self._word_of_number(instruction, planned)
            else:
                result = self._word_result(instruction, planned)
            self.write_word(instruction, result, is_safe=is_tame(planned, instruction))

    def _number_result(self, instruction: Instruction, planned: Plan) -> Number:
        x, y = self._numbers(instruction)
        if planned.operation is Operation.MOV:
            return Number(x, is_computed=True)
        value = arithmetic.NUMBER_OPERATIONS[planned.operation](self._frame, x, y)
        return Number(value, is_computed=computes_nan(planned, instruction))

    def _word_of_number(self, instruction: Instruction, planned: Plan) -> Value:
        x, _ = self._numbers(instruction)
        builder = self._frame.builder
        value = arithmetic.TO_WORD[planned.operation](self._frame, x, x)
        if planned.constants:
            low, high = map(word, planned.constants)
            value = builder.select(builder.icmp_signed("<", value, low), low, value)
            value = builder.select(builder.icmp_signed(">", value, high), high, value)
        return value

    def _word_result(self, instruction: Instruction, planned: Plan) -> Value:
        x, y = self._words(instruction, planned)
        builder = self._frame.builder
        if planned.operation in arithmetic.SHIFTS:
            y = builder.and_(y, word(planned.extra))
        is_safe = isinstance(y, ir.Constant) and y.constant != 0
        if planned.operation in DIVISIONS and not is_safe:
            return arithmetic.divided(self._frame, planned.operation, x, y, self.failed)
        return arithmetic.WORD_OPERATIONS[planned.operation](self._frame, x, y)

    def _moves_number(self, instruction: Instruction) -> bool:
        """Say whether it copies the bits of a cell that holds a number."""
        if instruction.mnemonic != "mov" or instruction.type_of(0) is not instruction.type_of(1):
            return False
        cell = self._cell(instruction.operands[0], instruction.width_of(0))
        return cell is not None and cell.is_float

    def _move_number(self, instruction: Instruction) -> None:
        width = instruction.width_of(0)
        source = self._cell(instruction.operands[0], width)
        assert source is not None, instruction
        frame = self._frame
        value = frame.builder.load(frame.variables[source.address, width], typ=FLOATS[width])
        target = self._cell(instruction.operands[1], width)
        is_raw = target is not None and target.is_lazy
        if source.is_lazy and not is_raw:
            value = frame.canonical(value, width)
        elif is_raw and not source.is_lazy:
            frame.unless(self.failed, frame.is_tame(value, width))
        self._put_number(instruction, value)

    def compare(self, instruction: Instruction) -> Value:
        """Return whether a conditional branch is taken."""
        planned = plan(instruction)
        name, how = arithmetic.COMPARISONS[planned.operation]
        if planned.operation in FLOAT_SOURCES:
            x, y = self._numbers(instruction)
        else:
            x, y = self._words(instruction, planned)
        return getattr(self._frame.builder, name)(how, x, y)

    # --- sources ------------------------------------------------------------------------------
    def _words(self, instruction: Instruction, planned: Plan) -> tuple[Value, Value]:
        sources = [
            self.read_word(instruction, index, planned.words[index])
            for index, _ in reads(instruction)
        ]
        sources += map(word, planned.constants[:1])
        return sources[0], sources[-1]

    def _numbers(self, instruction: Instruction) -> tuple[Value, Value]:
        planned = plan(instruction)
        sources = [
            self.read_number(instruction, index, planned.words[index])
            for index, _ in reads(instruction)
        ]
        if len(sources) == 1 and planned.operation in arithmetic.COMPARISONS:
            sources.append(word(planned.constants[0]).bitcast(F64))
        return sources[0], sources[-1]

    def read_word(self, instruction: Instruction, index: int, kind: Word) -> Value:
        """Return a source operand as a word, widened by its type."""
        operand = instruction.operands[index]
        if operand.mode is Mode.IMMEDIATE:
            return word(widened_constant(kind, operand.value))
        width = instruction.width_of(index)
        cell = self._cell(operand, width)
        builder = self._frame.builder
        if cell is None:
            value = self.load(operand, index, width, INTEGERS[width])
        elif cell.is_float:
            value = builder.bitcast(self._exact(cell), INTEGERS[width])
        else:
            value = self.cell_word(cell)
        builder = self._frame.builder
        if width == WORD_BYTES:
            return value
        return (builder.sext if kind in _SIGNED_WORDS else builder.zext)(value, I64)

    def cell_word(self, cell: Cell) -> Value:
        """Return what a promoted integer cell holds."""
        variable = self._frame.variables[cell.address, cell.width]
        return self._frame.builder.load(variable, typ=INTEGERS[cell.width])

    def read_number(self, instruction: Instruction, index: int, kind: Word) -> Value:
        """Return a source operand as a number in binary64."""
        operand = instruction.operands[index]
        if operand.mode is Mode.IMMEDIATE:
            return word(widened_constant(kind, operand.value)).bitcast(F64)
        width = instruction.width_of(index)
        cell = self._cell(operand, width)
        if cell is None:
            value = self.load(operand, index, width, FLOATS[width])
        elif cell.is_float:
            variable = self._frame.variables[cell.address, width]
            value = self._frame.builder.load(variable, typ=FLOATS[width])
        else:
            value = self._frame.builder.bitcast(self.cell_word(cell), FLOATS[width])
        return self._frame.builder.fpext(value, F64) if width != WORD_BYTES else value

    def _exact(self, cell: Cell) -> Value:
        variable = self._frame.variables[cell.address, cell.width]
        value = self._frame.builder.load(variable, typ=FLOATS[cell.width])
        return self._frame.canonical(value, cell.width) if cell.is_lazy else value

    def _cell(self, operand: Operand, width: int) -> Cell | None:
        if operand.mode is not Mode.DIRECT:
            return None
        return self._frame.cells.get((operand.value, width))

    # --- memory -------------------------------------------------------------------------------
    def load(self, operand: Operand, index: int, width: int, element: Value) -> Value:
        """Load an operand from memory, as an `element` of its width."""
        return self._memory.load(self.pointer(operand, index, width), element)

    def store(self, operand: Operand, index: int, width: int, value: Value) -> None:
        """Store an operand to memory."""
        self._memory.store(value, self.marked_pointer(operand, index, width))

    def pointer(self, operand: Operand, index: int, width: int) -> Value:
        """Return where an operand is, checked for a load and noted as loaded."""
        address, checked = self.address(operand, index)
        if checked is not None:
            self._memory.note(checked, address, width)
        return self._memory.pointer_to(address)

    def address(self, operand: Operand, index: int) -> tuple[Value, Checked | None]:
        """Return an operand's address, and how it was checked: None if it is static."""
        group, far = self._groups[self._executed, index]
        if group is None:
            return word(operand.value), None
        checked = self._checked.get(group)
        if checked is None:
            base = word(0) if group.pointer is None else self._base(operand, far)
            checked = self._checked[group] = self.check(group, base)
        offset = operand.value if operand.mode is Mode.DIRECT else operand.displacement
        if isinstance(checked.base, ir.Constant):
            return word(checked.base.constant + offset), checked
        if offset == 0:
            return checked.base, checked
        return self._frame.builder.add(checked.base, word(offset)), checked

    def check(self, group: Group, base: Value) -> Checked:
        """Check all accesses of a group at once, where the first of them is."""
        return self._memory.check(group, base, self.failed)

    def _base(self, operand: Operand, far: Group | None) -> Value:
        """Return the value of a pointer."""
        cell = self._frame.cells.get((operand.value, WORD_BYTES))
        if cell is not None:
            return self.cell_word(cell)
        if far is None:
            return self._memory.load(self._frame.pointer(VIEW + operand.value), I64)
        if far not in self._checked:
            self._checked[far] = self._memory.check(far, word(0), self.failed)
        self._memory.note(self._checked[far], word(operand.value), WORD_BYTES)
        return self._memory.load(self._frame.pointer(VIEW + operand.value), I64)

    # --- destinations -------------------------------------------------------------------------
    def write_word(self, instruction: Instruction, value: Value, *, is_safe: bool) -> None:
        """Store a word, cut to its width. `is_safe`: it is no NaN of its own making."""
        ((index, operand),) = writes(instruction)
        width = instruction.width_of(index)
        builder = self._frame.builder
        cut = value if width == WORD_BYTES else builder.trunc(value, INTEGERS[width])
        cell = self._cell(operand, width)
        if cell is None:
            self.store(operand, index, width, cut)
        elif cell.is_float:
            number = builder.bitcast(cut, FLOATS[width])
            if cell.is_lazy and not is_safe:
                self._frame.unless(self.failed, self._frame.is_tame(number, width))
            self._frame.builder.store(number, self._frame.variables[cell.address, width])
        else:
            builder.store(cut, self._frame.variables[cell.address, width])

    def write_number(self, instruction: Instruction, number: Number) -> None:
        """Store a number, rounded to its width."""
        ((index, operand),) = writes(instruction)
        width = instruction.width_of(index)
        frame = self._frame
        value = number.value
        is_single = width != WORD_BYTES
        if is_single:
            value = frame.builder.fptrunc(value, F32)
        cell = self._cell(operand, width)
        is_raw = cell is not None and cell.is_lazy
        if not is_raw and (number.is_computed or is_single):
            value = frame.canonical(value, width)
        self._put_number(instruction, value)

    def _put_number(self, instruction: Instruction, value: Value) -> None:
        """Store a number as it is, in the destination's width."""
        ((index, operand),) = writes(instruction)
        width = instruction.width_of(index)
        cell = self._cell(operand, width)
        frame = self._frame
        if cell is None:
            self.store(operand, index, width, value)
        elif cell.is_float:
            frame.builder.store(value, frame.variables[cell.address, width])
        else:
            bits = frame.builder.bitcast(value, INTEGERS[width])
            frame.builder.store(bits, frame.variables[cell.address, width])

    def marked_pointer(self, operand: Operand, index: int, width: int) -> Value:
        """Return where an operand is, checked for a store and marked as stored."""
        address, checked = self.address(operand, index)
        if checked is not None:
            self._memory.mark(checked, address, width)
        return self._memory.pointer_to(address)
