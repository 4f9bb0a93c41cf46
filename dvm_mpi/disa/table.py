"""The instruction table: the one place where the instruction set is written down.

Opcodes, encoder, decoder, assembler, disassembler, verifier, the engines' dispatch, docs/isa.md
and the tests' parameters are derived from these rows and never retyped.
A new instruction is a new row; every engine then fails at import until it has learnt it.

Source: docs/isa.md is generated from here; section numbers are those of the DISA manual.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

from dvm_mpi.disa.types import (
    BY_NAME,
    FLOATS,
    INTS,
    MOVABLE,
    NO_TYPES,
    NUMBERS,
    QUAD,
    SIGNED_INTS,
)
from dvm_mpi.values import dataclass


class Access(Enum):
    """What an instruction does with an operand."""

    READ = "read"
    WRITE = "write"
    #: A branch target: eight bytes without mode bits, absolute or relative to the branch.
    TARGET = "target"
    #: A one-byte constant in the encoding, without mode bits.
    BYTE = "byte"


class Form(Enum):
    """Families of encodings: header bits after the opcode byte, most significant first."""

    BARE = "op"
    TYPED3 = "op | T:3 m0:3 m1:3 m2:3 0000"
    TYPED2 = "op | T:3 m0:3 m1:3 0000000"
    MOV = "op | t0:4 t1:4 | m0:3 m1:3 00"
    BRANCH = "op | cc:4, then by condition"
    NEWR = "op | m0:3 m1:3 m2:3 m3:3 0000"
    EXIT = "op | mode:2 000000"
    BYTE = "op | n:8"
    STRCMP = "op | m0:3 m1:3 m2:3 m3:3 m4:3 0"
    LINK = "op | m0:3 m1:3 00"


class Flag(Enum):
    """Properties of a row beyond what its operands say."""

    #: May trap for a reason of its own, beside memory access.
    TRAPS = "traps"
    #: Control may go elsewhere than to the next instruction.
    JUMPS = "jumps"
    #: The attempt ends here.
    ENDS = "ends"
    #: Leaves the loop for the runtime: runners, system calls.
    CALLS_OUT = "calls out"


@dataclass(frozen=True, slots=True)
class OperandSpec:
    """One operand of a row; `width_bytes` None: as wide as the instruction's type."""

    name: str
    access: Access
    width_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction: everything that is derived elsewhere comes from these fields."""

    mnemonic: str
    code: int
    form: Form
    operands: tuple[OperandSpec, ...]
    types: frozenset[str]
    flags: frozenset[Flag]
    summary: str
    source: str

    def __post_init__(self) -> None:
        assert 0 <= self.code <= 0xFF, self.mnemonic
        assert self.types <= BY_NAME.keys(), self.mnemonic
        writes = [i for i, o in enumerate(self.operands) if o.access is Access.WRITE]
        assert writes in ([], [len(self.operands) - 1]), f"{self.mnemonic}: the destination is last"
        typed = self.form in {Form.TYPED2, Form.TYPED3, Form.MOV, Form.BRANCH}
        assert bool(self.types) == typed, f"{self.mnemonic}: types and form disagree"
        counts = {Form.BARE: 0, Form.TYPED3: 3, Form.TYPED2: 2, Form.MOV: 2, Form.NEWR: 4,
                  Form.EXIT: 0, Form.BYTE: 1, Form.STRCMP: 5, Form.LINK: 2}  # fmt: skip
        if self.form in counts:
            assert len(self.operands) == counts[self.form], self.mnemonic


class Shape(Enum):
    """What a branch condition takes, and how it is encoded after `07 | cc:4`."""

    TO = "rel:1 000 | imm64"
    INDIRECT = "m0:3 0 | o0"
    COMPARE = "T:3 m0:3 m1:3 rel:1 00 | o0 o1 target64"
    TEST = "T:3 m0:3 rel:1 00000 | o0 target64"


@dataclass(frozen=True, slots=True)
class Condition:
    """One branch condition (`br:NAME`)."""

    name: str
    code: int
    shape: Shape
    operands: tuple[OperandSpec, ...]
    types: frozenset[str]
    summary: str


class ExitMode(IntEnum):
    """How an attempt ends; the code is the encoding's `mode`."""

    COMMIT = 0
    ABORT = 1
    COMMIT_DELETE = 2
    ABORT_DELETE = 3


class _Read:
    a = OperandSpec("a", Access.READ)
    b = OperandSpec("b", Access.READ)
    address = OperandSpec("address", Access.READ, 8)
    left = OperandSpec("left", Access.READ, 8)
    left_bytes = OperandSpec("left_bytes", Access.READ, 8)
    right = OperandSpec("right", Access.READ, 8)
    right_bytes = OperandSpec("right_bytes", Access.READ, 8)
    stack = OperandSpec("stack", Access.READ, 8)
    heap = OperandSpec("heap", Access.READ, 8)
    watched = OperandSpec("watched", Access.READ, 8)
    entry = OperandSpec("entry", Access.READ, 8)
    target = OperandSpec("target", Access.READ, 8)


class _Write:
    dst = OperandSpec("dst", Access.WRITE)
    order = OperandSpec("order", Access.WRITE, 8)
    link = OperandSpec("link", Access.WRITE, 8)


rd, wr = _Read, _Write
target = OperandSpec("target", Access.TARGET, 8)
number = OperandSpec("number", Access.BYTE, 1)
TRAPS, JUMPS, ENDS, CALLS_OUT = Flag.TRAPS, Flag.JUMPS, Flag.ENDS, Flag.CALLS_OUT
BARE, TYPED3, TYPED2, MOV, BRANCH, NEWR, EXIT, BYTE, STRCMP, LINK = Form


def _op(
    mnemonic: str,
    code: int,
    form: Form,
    operands: tuple[OperandSpec, ...],
    types: frozenset[str],
    flags: tuple[Flag, ...],
    summary: str,
    source: str,
) -> Row:
    return Row(mnemonic, code, form, operands, types, frozenset(flags), summary, source)


# fmt: off
# mnemonic  code  form    operands                          types        flags                summary                                              source
TABLE: Final = (
    _op("nop",    0x00, BARE,   (),                               NO_TYPES,    (),                  "do nothing",                                            "§3"),
    _op("add",    0x01, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (),                  "dst := a + b; integers wrap",                           "§4"),
    _op("sub",    0x02, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (),                  "dst := a - b; integers wrap",                           "§4"),
    _op("mul",    0x03, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (),                  "dst := a * b; integers wrap",                           "§4"),
    _op("div",    0x04, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (TRAPS,),            "dst := a / b; integers truncate, trap on 0",            "§4"),
    _op("newr",   0x05, NEWR,   (rd.stack, rd.heap, rd.watched, rd.entry), NO_TYPES, (TRAPS, CALLS_OUT), "create a runner from four descriptors",           "§5"),
    _op("exit",   0x06, EXIT,   (),                               NO_TYPES,    (TRAPS, ENDS),       "end the attempt: commit or abort",                      "§5"),
    _op("br",     0x07, BRANCH, (),                               NUMBERS,     (TRAPS, JUMPS),      "branch, by condition",                                  "§3"),
    _op("and",    0x08, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (),                  "dst := a and b, bit by bit",                            "§3"),
    _op("or",     0x09, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (),                  "dst := a or b, bit by bit",                             "§3"),
    _op("xor",    0x0A, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (),                  "dst := a xor b, bit by bit",                            "§3"),
    _op("mov",    0x0B, MOV,    (rd.a, wr.dst),                   MOVABLE,     (),                  "dst := a, converted",                                   "§4"),
    _op("int",    0x0C, BYTE,   (number,),                        NO_TYPES,    (TRAPS, CALLS_OUT),  "system call",                                           "§7"),
    _op("bl",     0x0D, LINK,   (rd.target, wr.link),             NO_TYPES,    (TRAPS, JUMPS),      "link := next instruction's address; jump to target",    "§3"),
    _op("strcmp", 0x0E, STRCMP, (rd.left, rd.left_bytes, rd.right, rd.right_bytes, wr.order), NO_TYPES, (), "order := -1, 0, 1: compare byte strings",  "§3"),
    _op("mod",    0x10, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (TRAPS,),            "dst := remainder of a / b, sign of a; trap on 0",       "§4"),
    _op("shl",    0x11, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (),                  "dst := a shifted left by b modulo the width",           "§3"),
    _op("shr",    0x12, TYPED3, (rd.a, rd.b, wr.dst),             INTS,        (),                  "dst := a shifted right; arithmetic for signed types",   "§3"),
    _op("sqrt",   0x13, TYPED2, (rd.a, wr.dst),                   FLOATS,      (),                  "dst := square root of a, correctly rounded",            "§4"),
    _op("exp",    0x14, TYPED2, (rd.a, wr.dst),                   FLOATS,      (),                  "dst := e to the power a",                               "§4"),
    _op("log",    0x15, TYPED2, (rd.a, wr.dst),                   FLOATS,      (),                  "dst := natural logarithm of a",                         "§4"),
    _op("floor",  0x16, TYPED2, (rd.a, wr.dst),                   FLOATS,      (),                  "dst := largest whole number <= a",                      "§4"),
    _op("abs",    0x17, TYPED2, (rd.a, wr.dst),                   SIGNED_INTS | FLOATS, (),         "dst := magnitude of a; integers wrap",                  "§4"),
    _op("neg",    0x18, TYPED2, (rd.a, wr.dst),                   NUMBERS,     (),                  "dst := -a; integers wrap, floats flip the sign bit",    "§4"),
    _op("not",    0x19, TYPED2, (rd.a, wr.dst),                   INTS,        (),                  "dst := a with every bit flipped",                       "§3"),
    _op("min",    0x1A, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (),                  "dst := the smaller; NaN if either is, -0 < +0",         "§4"),
    _op("max",    0x1B, TYPED3, (rd.a, rd.b, wr.dst),             NUMBERS,     (),                  "dst := the larger; NaN if either is, -0 < +0",          "§4"),
)

#    name  code  shape           operands                 types     summary
CONDITIONS: Final = (
    Condition("j",  0, Shape.TO,       (target,),             QUAD,    "always"),
    Condition("ji", 1, Shape.INDIRECT, (rd.address,),         QUAD,    "always, to the operand's value"),
    Condition("le", 2, Shape.COMPARE,  (rd.a, rd.b, target),  NUMBERS, "a <= b"),
    Condition("l",  3, Shape.COMPARE,  (rd.a, rd.b, target),  NUMBERS, "a < b"),
    Condition("e",  4, Shape.COMPARE,  (rd.a, rd.b, target),  NUMBERS, "a = b"),
    Condition("ne", 5, Shape.COMPARE,  (rd.a, rd.b, target),  NUMBERS, "a /= b; true on NaN"),
    Condition("z",  6, Shape.TEST,     (rd.a, target),        NUMBERS, "a = 0"),
    Condition("nz", 7, Shape.TEST,     (rd.a, target),        NUMBERS, "a /= 0; true on NaN"),
    Condition("sl", 8, Shape.COMPARE,  (rd.left, rd.right, target), NUMBERS, "the 8 bytes at address [left] sort before those at [right]; the type does not matter"),
)

#: Pseudo-conditions of the text: the same branch with its operands swapped.
SWAPPED_CONDITIONS: Final = {"g": "l", "ge": "le"}

EXIT_SUFFIXES: Final = {
    "c":  ExitMode.COMMIT,
    "a":  ExitMode.ABORT,
    "cd": ExitMode.COMMIT_DELETE,
    "ad": ExitMode.ABORT_DELETE,
}
# fmt: on

BY_MNEMONIC: Final = {row.mnemonic: row for row in TABLE}
BY_CODE: Final = {row.code: row for row in TABLE}
BY_CONDITION: Final = {c.name: c for c in CONDITIONS}
BY_CONDITION_CODE: Final = {c.code: c for c in CONDITIONS}
assert len(BY_MNEMONIC) == len(TABLE), "mnemonics are unique"
assert len(BY_CODE) == len(TABLE), "opcodes are unique"
assert len(BY_CONDITION) == len(BY_CONDITION_CODE) == len(CONDITIONS)
assert not SWAPPED_CONDITIONS.keys() & BY_CONDITION.keys()
