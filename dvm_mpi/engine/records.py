"""Decoded instructions as records of eight-byte words, and the operations that they ask for.

A record is what the loop reads for one instruction: an operation on two 64-bit sources, how to
get at them, where the result goes and which record comes next. Types narrower than 64 bits and
binary32 are widened when loaded and cut when stored, so one operation serves several types.
Offsets are bytes from the record's host address; addresses in records are host addresses.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any, Final

from dvm_mpi.layout import WORD_BYTES

# --- what every instruction reads -------------------------------------------------------------
OPERATION: Final = 0 * WORD_BYTES
#: Bits below; 0: plain words at A and B, a plain word to D.
SHAPE: Final = 1 * WORD_BYTES
#: Host addresses of the operands, or of the cells that point to them.
A: Final = 2 * WORD_BYTES
B: Final = 3 * WORD_BYTES
D: Final = 4 * WORD_BYTES
#: Record of the next instruction, and of a branch's target (-1: the target is bad).
NEXT: Final = 5 * WORD_BYTES
TARGET: Final = 6 * WORD_BYTES
PC: Final = 7 * WORD_BYTES
# --- what only some read ----------------------------------------------------------------------
#: Displacements of operands that cells point to.
A_OFFSET: Final = 8 * WORD_BYTES
B_OFFSET: Final = 9 * WORD_BYTES
D_OFFSET: Final = 10 * WORD_BYTES
#: `Word` of each operand, and its width in bytes times WIDTH_UNIT.
A_WORD: Final = 11 * WORD_BYTES
B_WORD: Final = 12 * WORD_BYTES
D_WORD: Final = 13 * WORD_BYTES
#: Mask of a shift's count; how an attempt ends; DISA address of a bad target, a link, a number;
#: the number of an entry of translated code.
EXTRA: Final = 14 * WORD_BYTES
#: 1 once an undeclared access of this instruction was reported.
REPORTED: Final = 15 * WORD_BYTES
RECORD_BYTES: Final = 16 * WORD_BYTES

# Bits of SHAPE, for each of the three operands.
#: The operand's address is [cell] + offset, and is checked.
A_CHECKED: Final = 1
B_CHECKED: Final = 2
D_CHECKED: Final = 4
#: The pointer cell is a DISA address that must be checked as well.
A_FAR: Final = 8
B_FAR: Final = 16
D_FAR: Final = 32
#: It is not a plain 64-bit word.
A_NARROW: Final = 64
B_NARROW: Final = 128
D_NARROW: Final = 256
#: Any of A's and B's; any of D's.
SOURCES: Final = A_CHECKED | B_CHECKED | A_FAR | B_FAR | A_NARROW | B_NARROW
DESTINATION: Final = D_CHECKED | D_FAR | D_NARROW
NARROW_SHIFT: Final = 8
WIDTH_UNIT: Final = 1 << NARROW_SHIFT
WORD_MASK: Final = WIDTH_UNIT - 1


class _Counted(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> int:
        return count


class Word(_Counted):
    """How an operand lies in memory."""

    Q = auto()
    SD = auto()
    UD = auto()
    SW = auto()
    UW = auto()
    SB = auto()
    UB = auto()
    FS = auto()


class Operation(_Counted):
    """What the loop does with two 64-bit sources; S signed, U unsigned, F binary64."""

    MOV = auto()
    ADD = auto()
    SUB = auto()
    BR_L = auto()
    BR_LE = auto()
    BR_E = auto()
    BR_NE = auto()
    BR_J = auto()
    MUL = auto()
    DIV = auto()
    MOD = auto()
    FADD = auto()
    FSUB = auto()
    FMUL = auto()
    FDIV = auto()
    BR_FL = auto()
    BR_FLE = auto()
    BR_FE = auto()
    BR_FNE = auto()
    AND = auto()
    OR = auto()
    XOR = auto()
    SHL = auto()
    SHR = auto()
    USHR = auto()
    UDIV = auto()
    UMOD = auto()
    BR_UL = auto()
    BR_ULE = auto()
    MIN = auto()
    MAX = auto()
    UMIN = auto()
    UMAX = auto()
    NOT = auto()
    NEG = auto()
    ABS = auto()
    FMIN = auto()
    FMAX = auto()
    FSQRT = auto()
    FFLOOR = auto()
    FEXP = auto()
    FLOG = auto()
    #: Conversions: from sq, uq to binary64, to binary32; from binary64 to sq, uq, narrower.
    S_TO_F = auto()
    U_TO_F = auto()
    S_TO_FS = auto()
    U_TO_FS = auto()
    F_TO_S = auto()
    F_TO_U = auto()
    F_TO_NARROW = auto()
    BR_JI = auto()
    EXIT = auto()
    #: Left to functions of their own (calls.py); B is the host address of an operand table.
    CALL_BL = auto()
    CALL_SL = auto()
    CALL_STRCMP = auto()
    CALL_NEWR = auto()
    CALL_INT = auto()
    #: Text that has not been decoded yet; text that cannot be, with the trap's kind in EXTRA.
    UNDECODED = auto()
    BAD = auto()
    #: No instruction: counts in the word at A, for a profile, and goes on to the record at NEXT.
    #: Only the loop of counting_loop.py has it.
    ARRIVAL = auto()
    #: An entry of translated code: its function at TARGET, the entry's number in EXTRA, and at NEXT
    #: the record of the instruction as it was, for when translated code leaves it to the loop.
    NATIVE = auto()


# --- operand tables of the calls: rows of four words ------------------------------------------
#: As in a record: host address, offset, shape (bits of operand A), DISA address of a far cell.
ROW_CELL: Final = 0
ROW_OFFSET: Final = WORD_BYTES
ROW_SHAPE: Final = 2 * WORD_BYTES
OPERAND_ROW_BYTES: Final = 4 * WORD_BYTES
