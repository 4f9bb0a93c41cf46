"""From instructions to the records that the loop executes.

Operands become host addresses where that is safe for good: constants lie in a pool, and private
pages that instructions name directly become STATIC, always there and never checked. Every other
operand becomes "the address in this cell, plus this offset" and is checked when it is used;
a direct operand in the shared region gets a pooled cell that holds its address.

Instructions of an image with lines are decoded at once; a flat image may begin one at any byte,
so there they are decoded when control first comes to them.
Where code has been translated, the records of its entries lead there (`attach`).
Where a profile is taken, `record_at` leads to an ARRIVAL before every instruction, and each branch
to its target by one of its own.
The invariant to remember: records and constants never move, since records hold host addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.encoding import DecodeError, decode, header_at
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine import records as r
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.engine.patterns import OperandPattern, Pattern, pattern_of
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.engine.reference_arithmetic import CANONICAL_NAN, float_of_bits
from dvm_mpi.engine.tally import Halt, Tally
from dvm_mpi.layout import (
    CELL_CONSOLE,
    CELL_STDIN,
    PAGE_BYTES,
    PAGE_SHIFT,
    PR_END,
    PR_START,
    TEXT_START,
    WORD_BYTES,
)

#: Private pages that instructions may name without a check; the rest are checked.
STATIC_PAGES_MAX: Final = 16
#: The page of the runner's cells is one of them from the start.
CELLS_PAGE: Final = CELL_STDIN >> PAGE_SHIFT
#: Words taken from the system at a time.
_SLAB_WORDS: Final = 1 << 15
#: Instructions decoded ahead in a flat image.
_AHEAD_MAX: Final = 64

_SIGN_EXTENDED: Final = {Word.SD: 4, Word.SW: 2, Word.SB: 1}
#: The words of a record: addresses of cells and numbers in EXTRA may have all 64 bits.
_RECORD: Final = Struct("=qqQQQqqqqqqqqqQq")
assert _RECORD.size == r.RECORD_BYTES
_RECORD_WORDS: Final = r.RECORD_BYTES // WORD_BYTES
_OPERATION: Final = r.OPERATION // WORD_BYTES
_SHAPE: Final = r.SHAPE // WORD_BYTES
_A: Final = r.A // WORD_BYTES
_B: Final = r.B // WORD_BYTES
_D: Final = r.D // WORD_BYTES
_NEXT: Final = r.NEXT // WORD_BYTES
_TARGET: Final = r.TARGET // WORD_BYTES
_PC: Final = r.PC // WORD_BYTES
_EXTRA: Final = r.EXTRA // WORD_BYTES
# Looked up once: an enumeration's member takes longer to find than a word to store.
_LINK: Final = Operation.CALL_BL
_STRCMP: Final = Operation.CALL_STRCMP
_Q: Final = Word.Q
_IMMEDIATE, _DIRECT, _DISPLACED = Mode.IMMEDIATE, Mode.DIRECT, Mode.DISPLACED


class Words:
    """Words at host addresses that never change: records, constants, operand tables."""

    def __init__(self) -> None:
        #: Each with its host address, which numpy takes a microsecond to tell; the newest is last.
        #: Through a memoryview a word takes a third of the time that it takes through an array.
        self._slabs: list[tuple[int, memoryview]] = []
        #: The slab that was last used: a record is written word after word.
        self._last: tuple[int, memoryview] = 0, memoryview(b"")
        self._base = 0
        self._used = _SLAB_WORDS
        self._constants: dict[tuple[int, ...], int] = {}

    def allocate(self, count: int) -> int:
        """Return the host address of `count` zero words."""
        if self._used + count > _SLAB_WORDS:
            slab = np.zeros(_SLAB_WORDS, dtype=np.int64)
            self._base = slab.ctypes.data
            self._slabs.append((self._base, memoryview(slab.data)))
            self._used = 0
        address = self._base + self._used * WORD_BYTES
        self._used += count
        return address

    def store(self, address: int, value: int) -> None:
        """Set the word at a host address in the slab that it was allocated from."""
        slab, index = self._find(address)
        slab[index] = _signed(value)

    def store_record(self, address: int, words: list[int]) -> None:
        """Set all words of the record at a host address."""
        slab, index = self._find(address)
        _RECORD.pack_into(slab, index * WORD_BYTES, *words)

    def load(self, address: int) -> int:
        """Return the word at a host address."""
        slab, index = self._find(address)
        return int(slab[index])

    def _find(self, address: int) -> tuple[memoryview, int]:
        base, slab = self._last
        index = (address - base) // WORD_BYTES
        if 0 <= index < len(slab):
            return slab, index
        for base, slab in reversed(self._slabs):
            index = (address - base) // WORD_BYTES
            if 0 <= index < _SLAB_WORDS:
                self._last = base, slab
                return slab, index
        raise AssertionError(f"{address:#x} was not allocated here")

    def constant(self, *values: int) -> int:
        """Return the host address of words with these values, one for all who ask."""
        found = self._constants.get(values)
        if found is None:
            found = self._constants[values] = self.allocate(len(values))
            for index, value in enumerate(values):
                self.store(found + index * WORD_BYTES, value)
        return found


def _signed(value: int) -> int:
    """Return the int64 with the same 64 bits."""
    return value if value < 1 << 63 else value - (1 << 64)


def widened_constant(word: Word, bits: int) -> int:
    """Return a constant of any type as the loop would load it from memory."""
    if word is Word.FS:
        value = float_of_bits(bits, 4)
        if value != value:  # noqa: PLR0124 (true of NaN alone)
            return CANONICAL_NAN[WORD_BYTES]
        return int(np.float64(value).view(np.int64))
    width = _SIGN_EXTENDED.get(word)
    if width is not None and bits >> (8 * width - 1):
        return bits - (1 << 8 * width)
    return bits


class Program:
    """The records of one image; with a tally, such that it counts."""

    def __init__(self, image: Image, tally: Tally | None = None) -> None:
        self._text = image.text
        self._tally = tally
        self._is_flat = image.is_flat
        self._words = Words()
        self._sink = self._words.allocate(1)
        self._nothing = self._words.constant(0)
        #: (len(text),) record to go to for the instruction at each byte: 0 not known yet, -1 none.
        self.record_at = np.full(len(image.text) + 1, 0 if image.is_flat else -1, dtype=np.int64)
        #: The same, for Python: an element takes a third of the time.
        self._record_at = memoryview(self.record_at.data)
        #: Private pages that records point into.
        self.static_pages = [CELLS_PAGE]
        self._bad_records: dict[int, int] = {}
        #: Patterns of decoded instructions by address; None where these bytes are none.
        self._patterns: dict[int, Pattern | None] = {}
        if image.lines is not None:
            self._decode_all(image.lines.addresses.tolist())

    def instruction_at(self, pc: int) -> Instruction | None:
        """Return the instruction at `pc` for a message, None if there is none."""
        if pc not in self._patterns and not (self._is_flat and self._is_text(pc)):
            return None
        try:
            return decode(self._text, pc - TEXT_START, pc)
        except DecodeError:
            return None

    def decoded(self) -> dict[int, Instruction | None]:
        """Return what was decoded, by address; None where these bytes are no instruction."""
        return {pc: self.instruction_at(pc) for pc in self._patterns}

    # --- decoding -----------------------------------------------------------------------------
    def _decode_all(self, addresses: list[int]) -> None:
        for pc in addresses:
            self._claim_record(pc)
        for pc in addresses:
            self._fill(pc)

    def decode_from(self, pc: int) -> None:
        """Decode the text of a flat image from `pc` on, until control surely goes elsewhere."""
        assert self._is_flat, "other images are decoded as a whole"
        for _ in range(_AHEAD_MAX):
            if pc in self._patterns or not self._is_text(pc):
                break
            self._claim_record(pc)
            self._fill(pc)
            pattern = self._patterns[pc]
            if pattern is None:
                break
            pc += pattern.header.values.size

    def _is_text(self, pc: int) -> bool:
        return TEXT_START <= pc < TEXT_START + len(self._text)

    def _claim_record(self, pc: int) -> int:
        """Return the record of `pc`, which is in the text; a new one is UNDECODED."""
        goal = self._record_at[pc - TEXT_START]
        if goal > 0:
            return goal if self._tally is None else self._words.load(goal + r.NEXT)
        record = self._new_record(Operation.UNDECODED, pc)
        counters = None if self._tally is None else self._tally.arrivals
        self._record_at[pc - TEXT_START] = self._by_way_of(counters, pc, record)
        return record

    def _by_way_of(self, counters: NDArray[np.int64] | None, pc: int, record: int) -> int:
        """Return a record that counts in the counter of `pc` and goes on; or `record` itself."""
        if counters is None:
            return record
        arrival = self._new_record(Operation.ARRIVAL, self._words.load(record + r.PC))
        self._words.store(arrival + r.A, counters.ctypes.data + (pc - TEXT_START) * WORD_BYTES)
        self._words.store(arrival + r.NEXT, record)
        return arrival

    def pc_at(self, record: int) -> int:
        """Return the address of the instruction of a record."""
        return self._words.load(record + r.PC)

    def halt_at(self, record: int) -> Halt | None:
        """Return where an attempt at this record has stopped; None if nothing of it is counted."""
        assert self._tally is not None, "nothing is counted"
        if self._words.load(record + r.OPERATION) != Operation.ARRIVAL:
            return self._words.load(record + r.PC), False
        counters = self._tally.taken
        index = (self._words.load(record + r.A) - counters.ctypes.data) // WORD_BYTES
        return (TEXT_START + index, True) if 0 <= index < len(counters) else None

    def _new_record(self, operation: Operation, pc: int) -> int:
        record = self._words.allocate(_RECORD_WORDS)
        self._words.store_record(record, self._blank(operation, pc))
        return record

    def _blank(self, operation: Operation, pc: int) -> list[int]:
        """Return the words of a record without operands."""
        words = [0] * _RECORD_WORDS
        words[_OPERATION], words[_PC] = operation, pc
        words[_A] = words[_B] = self._nothing
        words[_D] = self._sink
        return words

    def _record_behind(self, pc: int) -> int:
        """Return the record to go on with at `pc`: one that traps if nothing may begin there."""
        if self._is_text(pc) and (self._is_flat or self._record_at[pc - TEXT_START] > 0):
            return self._claim_record(pc)
        record = self._bad_records.get(pc)
        if record is None:
            record = self._bad_records[pc] = self._new_record(Operation.BAD, pc)
            self._words.store(record + r.EXTRA, TrapKind.BAD_JUMP)
        return record

    def _record_of_target(self, pc: int) -> int:
        """Return the record of a branch's target, -1 if it is bad."""
        if not self._is_text(pc):
            return -1
        is_known = self._is_flat or self._record_at[pc - TEXT_START] > 0
        return self._claim_record(pc) if is_known else -1

    def _fill(self, pc: int) -> None:
        record = self._claim_record(pc)
        offset = pc - TEXT_START
        try:
            header = header_at(self._text, offset, pc)
        except DecodeError:
            self._patterns[pc] = None
            words = self._blank(Operation.BAD, pc)
            words[_EXTRA] = TrapKind.BAD_OPCODE
            self._words.store_record(record, words)
            return
        self._patterns[pc] = pattern = pattern_of(header.head)
        values = header.values.unpack_from(self._text, offset)
        behind = pc + header.values.size
        words = self._blank(pattern.operation, pc)
        words[_NEXT] = self._record_behind(behind)
        words[_EXTRA] = behind if pattern.operation is _LINK else pattern.extra
        taken = None if self._tally is None else self._tally.taken
        address = header.target(values, pc)
        if address is not None:
            target = self._record_of_target(address)
            words[_TARGET] = self._by_way_of(taken, pc, target) if target > 0 else target
            words[_EXTRA] = address
        elif pattern.operation is _STRCMP:
            # It takes several steps, and comes back to itself after each.
            words[_TARGET] = self._by_way_of(taken, pc, record)
        if pattern.is_call:
            words[_B] = self._operand_table(pattern, values)
        else:
            self._put_operands(words, pattern, values)
        self._words.store_record(record, words)

    # --- translated code ----------------------------------------------------------------------
    def attach(
        self, entries: Mapping[int, int], function: int, static_pages: Iterable[int]
    ) -> None:
        """Enter translated code at these instructions from now on.

        Parameters
        ----------
        entries
            The number of each entry, by the address of its instruction, which is decoded.
        function
            Host address of the code; must stay loaded as long as the program.
        static_pages
            Private pages that the code names without a check.

        Notes
        -----
        Attempts that were set aside hold addresses of records, so the record itself becomes the
        entry, and the instruction moves to a copy. The copy also takes over whether an undeclared
        access was reported, since nobody executes the original any more.
        """
        assert self._tally is None, "translated code counts no arrivals"
        assert set(static_pages) <= set(self.static_pages), "a page that records do not name"
        for pc, number in entries.items():
            assert self._patterns.get(pc) is not None, f"{pc:#x} is no decoded instruction"
            record = int(self.record_at[pc - TEXT_START])
            if self._words.load(record + r.OPERATION) != Operation.NATIVE:
                self._move_to_copy(record)
            self._words.store(record + r.TARGET, function)
            self._words.store(record + r.EXTRA, number)

    def expect(self, addresses: Iterable[int]) -> None:
        """Decode what stands at addresses of the text to which translated code may return."""
        for pc in addresses:
            if self._is_flat and pc not in self._patterns and self._is_text(pc):
                self._claim_record(pc)
                self._fill(pc)

    def knows(self, entries: Iterable[int]) -> bool:
        """Say whether all these are instructions that have been decoded."""
        return all(self._patterns.get(pc) is not None for pc in entries)

    def _move_to_copy(self, record: int) -> None:
        """Make a record an entry that has no function yet, and its NEXT a copy of what it was."""
        plain = self._words.allocate(_RECORD_WORDS)
        for at in range(0, r.RECORD_BYTES, WORD_BYTES):
            self._words.store(plain + at, self._words.load(record + at))
        self._words.store(record + r.SHAPE, 0)
        for place in (r.A, r.B):
            self._words.store(record + place, self._nothing)
        self._words.store(record + r.NEXT, plain)
        self._words.store(record + r.OPERATION, Operation.NATIVE)

    # --- operands -----------------------------------------------------------------------------
    def _put_operands(self, words: list[int], pattern: Pattern, values: tuple[int, ...]) -> None:
        """Put the operands into the words of a plain record, which has none yet."""
        shape = 0
        for operand in pattern.operands:
            cell, offset, bits = self._place(operand, values)
            words[operand.cell] = cell
            words[operand.offset] = offset
            words[operand.word_at] = operand.width_word
            shape |= bits << operand.shift
        if pattern.constants:
            words[_B] = self._words.constant(*pattern.constants)
        words[_SHAPE] = shape

    def _operand_table(self, pattern: Pattern, values: tuple[int, ...]) -> int:
        """Return the host address of the rows through which a call gets at its operands."""
        row_words = r.OPERAND_ROW_BYTES // WORD_BYTES
        table = self._words.allocate(max(len(pattern.operands), 1) * row_words)
        for index, operand in enumerate(pattern.operands):
            cell, offset, bits = self._place(operand, values)
            row = table + index * r.OPERAND_ROW_BYTES
            self._words.store(row + r.ROW_CELL, cell)
            self._words.store(row + r.ROW_OFFSET, offset)
            self._words.store(row + r.ROW_SHAPE, bits)
        return table

    def _place(self, operand: OperandPattern, values: tuple[int, ...]) -> tuple[int, int, int]:
        """Return an operand's cell, its offset, and its shape in the bits of operand A."""
        mode, value = operand.mode, values[operand.at]
        if mode is _IMMEDIATE:
            bits = value & operand.mask
            return self._words.constant(widened_constant(operand.word, bits)), 0, 0
        narrow = 0 if operand.word is _Q else r.A_NARROW
        if mode is _DIRECT:
            special = CELL_STDIN if operand.is_source else CELL_CONSOLE
            if value != special and self._is_static(value, operand.width):
                return VIEW + value, 0, narrow
            return self._words.constant(value), 0, narrow | r.A_CHECKED
        shape = narrow | r.A_CHECKED
        displacement = values[operand.at - 1] if mode is _DISPLACED else 0
        if value != CELL_STDIN and self._is_static(value, WORD_BYTES):
            return VIEW + value, displacement, shape
        return value, displacement, shape | r.A_FAR

    def _is_static(self, address: int, width: int) -> bool:
        """Say whether a private cell needs no check, making its pages static if there is room."""
        if not PR_START <= address <= PR_END - width:
            return False
        page, end_page = address >> PAGE_SHIFT, address + width - 1 >> PAGE_SHIFT
        if page == end_page and page in self.static_pages:
            return True
        new_pages = sorted({page, end_page} - set(self.static_pages))
        if len(self.static_pages) + len(new_pages) > STATIC_PAGES_MAX:
            return False
        self.static_pages += new_pages
        return True


assert CELLS_PAGE * PAGE_BYTES == PR_START
