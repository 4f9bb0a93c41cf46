"""What records hold, the naive way: one instruction at a time, from what `decode` says of it.

Beside `engine.predecode`, which puts values into patterns. Host addresses are told as what they
mean: a constant by its words, a record by the address of its instruction.
"""

from __future__ import annotations

import ctypes
from typing import Any

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.table import Access
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine import records as r
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.operations import CALLS, plan
from dvm_mpi.engine.predecode import CELLS_PAGE, STATIC_PAGES_MAX, widened_constant
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN, PAGE_SHIFT, PR_END, PR_START, WORD_BYTES

_PLACES = (
    (r.A, r.A_OFFSET, r.A_WORD, 0),
    (r.B, r.B_OFFSET, r.B_WORD, 1),
    (r.D, r.D_OFFSET, r.D_WORD, 2),
)


def word(address: int) -> int:
    """Return the word at a host address."""
    return ctypes.c_int64.from_address(address).value


def signed(value: int) -> int:
    """Return the signed word with the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


class NaiveRecords:
    """The expected words of records, in the order in which instructions are decoded."""

    def __init__(self) -> None:
        self.static_pages = [CELLS_PAGE]

    def mismatches(self, record: int, instruction: Instruction) -> list[tuple[int, Any, Any]]:
        """Return offset, expected and found of each word that is another one."""
        return [
            (offset, expected, found)
            for offset, (expected, found) in self._pairs(record, instruction).items()
            if expected != found
        ]

    def _pairs(self, record: int, instruction: Instruction) -> dict[int, tuple[Any, Any]]:
        planned = plan(instruction)
        behind = instruction.address + instruction.size_bytes
        extra, pairs = planned.extra, dict[int, tuple[Any, Any]]()
        if instruction.target is not None:
            extra = signed(instruction.target)
            if (target := word(record + r.TARGET)) != -1:
                pairs[r.TARGET] = extra, word(target + r.PC)
        elif planned.operation is Operation.CALL_STRCMP:
            pairs[r.TARGET] = record, word(record + r.TARGET)
        pairs |= {
            r.OPERATION: (planned.operation, word(record + r.OPERATION)),
            r.PC: (instruction.address, word(record + r.PC)),
            r.NEXT: (behind, word(word(record + r.NEXT) + r.PC)),
            r.EXTRA: (extra, word(record + r.EXTRA)),
            r.REPORTED: (0, word(record + r.REPORTED)),
        }
        if planned.operation in CALLS:
            return pairs | self._table(word(record + r.B), instruction)
        shape = sources = 0
        for index, operand_word in enumerate(planned.words):
            is_source = instruction.specs[index].access is Access.READ
            at_cell, at_offset, at_word, shift = _PLACES[sources if is_source else 2]
            sources += is_source
            width = instruction.width_of(index)
            cell = word(record + at_cell)
            expected, offset, bits = self._place(instruction, index, operand_word, width)
            pairs[at_cell] = expected, self._meaning(cell, expected)
            pairs[at_offset] = offset, word(record + at_offset)
            pairs[at_word] = operand_word + width * r.WIDTH_UNIT, word(record + at_word)
            shape |= bits << shift
        if planned.constants:
            found = word(record + r.B)
            given = tuple(word(found + i * WORD_BYTES) for i in range(len(planned.constants)))
            pairs[r.B] = tuple(map(signed, planned.constants)), given
        pairs[r.SHAPE] = shape, word(record + r.SHAPE)
        return pairs

    def _table(self, table: int, instruction: Instruction) -> dict[int, tuple[Any, Any]]:
        pairs = {}
        for index in range(len(instruction.operands)):
            row = table + index * r.OPERAND_ROW_BYTES
            expected, offset, bits = self._place(instruction, index, Word.Q, WORD_BYTES)
            found = self._meaning(word(row), expected), word(row + r.ROW_OFFSET)
            pairs[-1 - index] = (expected, offset, bits), (*found, word(row + r.ROW_SHAPE))
        return pairs

    @staticmethod
    def _meaning(cell: int, expected: tuple[str, int]) -> tuple[str, int]:
        kind, _ = expected
        return kind, word(cell) if kind == "constant" else cell

    def _place(
        self, instruction: Instruction, index: int, operand_word: Word, width: int
    ) -> tuple[tuple[str, int], int, int]:
        """Return what an operand's cell means, its offset, and its shape in the bits of A."""
        operand = instruction.operands[index]
        is_source = instruction.specs[index].access is Access.READ
        value, narrow = operand.value, 0 if operand_word is Word.Q else r.A_NARROW
        if operand.mode is Mode.IMMEDIATE:
            return ("constant", signed(widened_constant(operand_word, value))), 0, 0
        if operand.mode is Mode.DIRECT:
            if value != (CELL_STDIN if is_source else CELL_CONSOLE) and self._is_static(
                value, width
            ):
                return ("host", VIEW + value), 0, narrow
            return ("constant", signed(value)), 0, narrow | r.A_CHECKED
        shape = narrow | r.A_CHECKED
        if value != CELL_STDIN and self._is_static(value, WORD_BYTES):
            return ("host", VIEW + value), operand.displacement, shape
        return ("cell", signed(value)), operand.displacement, shape | r.A_FAR

    def _is_static(self, address: int, width: int) -> bool:
        if not PR_START <= address <= PR_END - width:
            return False
        pages = {address >> PAGE_SHIFT, (address + width - 1) >> PAGE_SHIFT}
        new_pages = sorted(pages - set(self.static_pages))
        if len(self.static_pages) + len(new_pages) > STATIC_PAGES_MAX:
            return False
        self.static_pages += new_pages
        return True
