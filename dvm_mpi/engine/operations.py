"""Which of the loop's operations an instruction is, and how its operands are widened and cut.

One mapping from mnemonics to choosers. Narrow types need no operations of their own: sources are
widened, results cut, and most instructions choose between signed, unsigned and binary64 only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import BY_CONDITION, BY_MNEMONIC
from dvm_mpi.disa.types import BY_NAME, Kind, Mode, Type
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.layout import WORD_BYTES
from dvm_mpi.values import dataclass

_O = Operation

_WORDS: Final = {
    "sq": Word.Q, "uq": Word.Q, "sd": Word.SD, "ud": Word.UD, "sw": Word.SW, "uw": Word.UW,
    "sb": Word.SB, "ub": Word.UB, "fd": Word.Q, "fs": Word.FS,
}  # fmt: skip
assert _WORDS.keys() == BY_NAME.keys(), "every type has a word"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop does for an instruction.

    `words` are how its operands lie in memory, in their order. `constants` take the place of a
    second source that it has not: one word, or two for the bounds of a narrow integer.
    `extra` is the record's EXTRA.
    """

    operation: Operation
    words: tuple[Word, ...] = ()
    constants: tuple[int, ...] = ()
    extra: int = 0


def raw_word(kind: Type) -> Word:
    """Return the word that moves a type's bits as they are."""
    return Word.UD if kind.name == "fs" else _WORDS[kind.name]


def _is_unsigned_64(kind: Type) -> bool:
    return kind.kind is Kind.UNSIGNED and kind.width_bytes == WORD_BYTES


def _by_kind(
    signed: Operation, unsigned: Operation, binary64: Operation | None, kind: Type
) -> Operation:
    """Choose: narrow unsigned words are non-negative numbers, for which signed is right."""
    if kind.kind is Kind.FLOAT:
        assert binary64 is not None, "the table gives this row no float type"
        return binary64
    return unsigned if _is_unsigned_64(kind) else signed


def _arithmetic(
    signed: Operation, unsigned: Operation, binary64: Operation | None, instruction: Instruction
) -> Plan:
    kind = instruction.type_of(0)
    words = (_WORDS[kind.name],) * len(instruction.operands)
    return Plan(_by_kind(signed, unsigned, binary64, kind), words)


def _shift(signed: Operation, unsigned: Operation, instruction: Instruction) -> Plan:
    plan = _arithmetic(signed, unsigned, None, instruction)
    return Plan(plan.operation, plan.words, extra=8 * instruction.type_of(0).width_bytes - 1)


def _sign_bit(
    integer: Operation, binary64: Operation, flips: bool, instruction: Instruction
) -> Plan:
    """Plan `neg` or `abs`: of floats they change the sign bit and nothing else."""
    kind = instruction.type_of(0)
    if kind.kind is not Kind.FLOAT:
        return _arithmetic(integer, integer, None, instruction)
    sign = 1 << (8 * kind.width_bytes - 1)
    return Plan(binary64, (raw_word(kind),) * 2, (sign if flips else sign - 1,))


def _mov(instruction: Instruction) -> Plan:
    source, target = instruction.type_of(0), instruction.type_of(1)
    if source is target:
        return Plan(_O.MOV, (raw_word(source),) * 2)
    words = (_WORDS[source.name], _WORDS[target.name])
    from_float, to_float = (kind.kind is Kind.FLOAT for kind in (source, target))
    if from_float == to_float:
        return Plan(_O.MOV, words)
    return _to_float(source, target, words) if to_float else _to_integer(target, words)


def _to_float(source: Type, target: Type, words: tuple[Word, Word]) -> Plan:
    is_double = target.width_bytes == WORD_BYTES
    if _is_unsigned_64(source):
        return Plan(_O.U_TO_F if is_double else _O.U_TO_FS, words)
    return Plan(_O.S_TO_F if is_double else _O.S_TO_FS, words)


def _to_integer(target: Type, words: tuple[Word, Word]) -> Plan:
    is_signed = target.kind is Kind.SIGNED
    if target.width_bytes == WORD_BYTES:
        return Plan(_O.F_TO_S if is_signed else _O.F_TO_U, words)
    bits = 8 * target.width_bytes
    bounds = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return Plan(_O.F_TO_NARROW, words, bounds)


#: Operations of the conditions that compare: signed, unsigned, float.
_COMPARISONS: Final = {
    "le": (_O.BR_LE, _O.BR_ULE, _O.BR_FLE),
    "l": (_O.BR_L, _O.BR_UL, _O.BR_FL),
    "e": (_O.BR_E, _O.BR_E, _O.BR_FE),
    "ne": (_O.BR_NE, _O.BR_NE, _O.BR_FNE),
    "z": (_O.BR_E, _O.BR_E, _O.BR_FE),
    "nz": (_O.BR_NE, _O.BR_NE, _O.BR_FNE),
}
#: The others.
_JUMPS: Final = {"j": _O.BR_J, "ji": _O.BR_JI, "sl": _O.CALL_SL}
assert _COMPARISONS.keys() | _JUMPS.keys() == BY_CONDITION.keys(), "every condition is known"


def _br(instruction: Instruction) -> Plan:
    condition = instruction.condition
    assert condition is not None, instruction
    if condition in _JUMPS:
        return Plan(_JUMPS[condition], (Word.Q,) * len(instruction.operands))
    plan = _arithmetic(*_COMPARISONS[condition], instruction)
    # `z` and `nz` compare with a zero of the type, which is the same word for all.
    return Plan(plan.operation, plan.words, (0,) if condition in {"z", "nz"} else ())


def _bl(instruction: Instruction) -> Plan:
    return Plan(_O.CALL_BL, (Word.Q,) * 2, extra=instruction.address + instruction.size_bytes)


def _exit(instruction: Instruction) -> Plan:
    assert instruction.exit_mode is not None, instruction
    return Plan(_O.EXIT, extra=int(instruction.exit_mode))


def _int(instruction: Instruction) -> Plan:
    assert instruction.number is not None, instruction
    return Plan(_O.CALL_INT, extra=instruction.number)


def _call(operation: Operation, instruction: Instruction) -> Plan:
    return Plan(operation, (Word.Q,) * len(instruction.operands))


_PLANS: Final[dict[str, Callable[[Instruction], Plan]]] = {
    "nop": partial(_call, _O.MOV),
    "add": partial(_arithmetic, _O.ADD, _O.ADD, _O.FADD),
    "sub": partial(_arithmetic, _O.SUB, _O.SUB, _O.FSUB),
    "mul": partial(_arithmetic, _O.MUL, _O.MUL, _O.FMUL),
    "div": partial(_arithmetic, _O.DIV, _O.UDIV, _O.FDIV),
    "mod": partial(_arithmetic, _O.MOD, _O.UMOD, None),
    "and": partial(_arithmetic, _O.AND, _O.AND, None),
    "or": partial(_arithmetic, _O.OR, _O.OR, None),
    "xor": partial(_arithmetic, _O.XOR, _O.XOR, None),
    "shl": partial(_shift, _O.SHL, _O.SHL),
    "shr": partial(_shift, _O.SHR, _O.USHR),
    "min": partial(_arithmetic, _O.MIN, _O.UMIN, _O.FMIN),
    "max": partial(_arithmetic, _O.MAX, _O.UMAX, _O.FMAX),
    "sqrt": partial(_arithmetic, _O.FSQRT, _O.FSQRT, _O.FSQRT),
    "exp": partial(_arithmetic, _O.FEXP, _O.FEXP, _O.FEXP),
    "log": partial(_arithmetic, _O.FLOG, _O.FLOG, _O.FLOG),
    "floor": partial(_arithmetic, _O.FFLOOR, _O.FFLOOR, _O.FFLOOR),
    "not": partial(_arithmetic, _O.NOT, _O.NOT, None),
    "neg": partial(_sign_bit, _O.NEG, _O.XOR, True),
    "abs": partial(_sign_bit, _O.ABS, _O.AND, False),
    "mov": _mov,
    "br": _br,
    "bl": _bl,
    "exit": _exit,
    "int": _int,
    "newr": partial(_call, _O.CALL_NEWR),
    "strcmp": partial(_call, _O.CALL_STRCMP),
}
assert _PLANS.keys() == BY_MNEMONIC.keys(), "every instruction of the table has a plan"

#: Operations whose operands lie in a table beside the record.
CALLS: Final = frozenset({_O.CALL_BL, _O.CALL_SL, _O.CALL_STRCMP, _O.CALL_NEWR, _O.CALL_INT})

#: Operations that trap where the divisor is 0.
DIVISIONS: Final = frozenset({_O.DIV, _O.MOD, _O.UDIV, _O.UMOD})


#: Instructions whose plan tells more of them than their types and how many operands they have.
_SINGLE: Final = frozenset({"bl", "exit", "int"})
_ANYWHERE: Final = Operand(Mode.DIRECT, 0)


def plan(instruction: Instruction) -> Plan:
    """Return what the loop does for an instruction."""
    mnemonic, operands = instruction.mnemonic, instruction.operands
    if mnemonic in _SINGLE:
        return _PLANS[mnemonic](instruction)
    return _plan_of(mnemonic, instruction.condition, instruction.types, len(operands))


@functools.cache
def _plan_of(
    mnemonic: str, condition: str | None, types: tuple[str, ...], operand_count: int
) -> Plan:
    """Return the plan of all instructions that are alike; the translator asks for it many times."""
    operands = (_ANYWHERE,) * operand_count
    return _PLANS[mnemonic](Instruction(0, 0, mnemonic, types, operands, condition))
