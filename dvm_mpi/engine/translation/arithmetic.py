"""The loop's operations as LLVM: one function for each, on 64-bit words or on binary64 numbers.

The same decisions as loop.py and conversion.py take. No operation may be fused or reassociated:
nothing here carries a fast-math flag.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from llvmlite import ir

from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.translation import elementary
from dvm_mpi.engine.translation.frame import (
    F32,
    F64,
    I64,
    Block,
    Frame,
    Value,
    canonical_bits,
    word,
)

_O = Operation
#: Bits of a binary64 number without its sign, and of infinity.
_MAGNITUDE: Final = (1 << 63) - 1
_INFINITY: Final = 0x7FF << 52
#: Divisions of signed words, as LLVM calls them.
SIGNED_DIVISIONS: Final = {_O.DIV: "sdiv", _O.MOD: "srem"}
Emit = Callable[[Frame, Value, Value], Value]


def _plain(name: str) -> Emit:
    def emit(frame: Frame, x: Value, y: Value) -> Value:
        return getattr(frame.builder, name)(x, y)

    return emit


def intrinsic(frame: Frame, name: str, *arguments: Value) -> Value:
    """Call one of LLVM's own functions on numbers."""
    function = frame.module.globals.get(name)
    if function is None:
        result = I64 if name.startswith("llvm.fpto") else arguments[0].type
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = ir.Function(frame.module, signature, name)
    return frame.builder.call(function, arguments)


def _unary(name: str) -> Emit:
    return lambda frame, x, _: intrinsic(frame, name, x)


def _chosen(compare: str, *, signed: bool) -> Emit:
    def emit(frame: Frame, x: Value, y: Value) -> Value:
        builder = frame.builder
        ask = builder.icmp_signed if signed else builder.icmp_unsigned
        return builder.select(ask(compare, x, y), x, y)

    return emit


def _float_chosen(frame: Frame, x: Value, y: Value, *, compare: str, join: str) -> Value:
    """Return the smaller or larger; canonical NaN if either is NaN, -0 < +0."""
    builder = frame.builder
    bits = (builder.bitcast(value, I64) for value in (x, y))
    # Equal with different bits: zeros, whose sign bits decide.
    joined = builder.bitcast(getattr(builder, join)(*bits), F64)
    nan = word(canonical_bits(8)).bitcast(F64)
    equal = builder.select(builder.fcmp_ordered("==", x, y), joined, nan)
    second = builder.select(builder.fcmp_ordered(compare, y, x), y, equal)
    return builder.select(builder.fcmp_ordered(compare, x, y), x, second)


def _signed_quotient(frame: Frame, x: Value, y: Value, *, name: str) -> Value:
    """Divide by a constant that is not 0; MIN by -1 is MIN, and leaves nothing."""
    assert isinstance(y, ir.Constant), "else it may be 0"
    return _of_minus_one(frame, x, name) if y.constant == -1 else getattr(frame.builder, name)(x, y)


def _of_minus_one(frame: Frame, x: Value, name: str) -> Value:
    return frame.builder.neg(x) if name == "sdiv" else word(0)


def divided(frame: Frame, operation: Operation, x: Value, y: Value, failed: Block) -> Value:
    """Divide by what is known only later, or is 0; to `failed` if it is 0.

    The processor traps at 0 and, if MIN is divided, at -1. One test says that the divisor is
    neither. With a test for each, and a choice of the result, primes took 80 ms in place of 58
    (bench/kernels).
    """
    name = SIGNED_DIVISIONS.get(operation)
    if name is None or isinstance(y, ir.Constant):
        frame.unless(failed, frame.builder.icmp_signed("!=", y, word(0)))
        return WORD_OPERATIONS[operation](frame, x, y)
    odd, behind = frame.block("odd"), frame.block("divided")
    above = frame.builder.add(y, word(1))
    frame.unless(odd, frame.builder.icmp_unsigned(">", above, word(1)))
    results = [(getattr(frame.builder, name)(x, y), frame.builder.block)]
    frame.builder.branch(behind)
    frame.at(odd)
    frame.unless(failed, frame.builder.icmp_signed("!=", y, word(0)))
    results.append((_of_minus_one(frame, x, name), frame.builder.block))
    frame.go(behind)
    result = frame.builder.phi(I64)
    for value, block in results:
        result.add_incoming(value, block)
    return result


def _square_root(frame: Frame, x: Value, _: Value) -> Value:
    """Return a square root, canonical if it is NaN whatever becomes of it.

    To LLVM one NaN is as good as another: it takes the root of a negative number for the NaN that
    is chosen in its place. So this is decided on bits, of which it thinks nothing.
    """
    builder = frame.builder
    bits = builder.bitcast(intrinsic(frame, "llvm.sqrt.f64", x), I64)
    magnitude = builder.and_(bits, word(_MAGNITUDE))
    is_nan = builder.icmp_unsigned(">", magnitude, word(_INFINITY))
    return builder.bitcast(builder.select(is_nan, word(canonical_bits(8)), bits), F64)


def _float_of(frame: Frame, x: Value, _: Value, *, name: str, single: bool) -> Value:
    converted = getattr(frame.builder, name)(x, F32 if single else F64)
    return frame.builder.fpext(converted, F64) if single else converted


def _absolute(frame: Frame, x: Value, _: Value) -> Value:
    builder = frame.builder
    return builder.select(builder.icmp_signed("<", x, word(0)), builder.neg(x), x)


#: Operations that take and return words; `y` of shifts is the count, cut to the width already.
WORD_OPERATIONS: Final[dict[Operation, Emit]] = {
    _O.MOV: lambda _, x, __: x,
    _O.ADD: _plain("add"),
    _O.SUB: _plain("sub"),
    _O.MUL: _plain("mul"),
    _O.AND: _plain("and_"),
    _O.OR: _plain("or_"),
    _O.XOR: _plain("xor"),
    _O.SHL: _plain("shl"),
    _O.SHR: _plain("ashr"),
    _O.USHR: _plain("lshr"),
    _O.DIV: partial(_signed_quotient, name=SIGNED_DIVISIONS[_O.DIV]),
    _O.MOD: partial(_signed_quotient, name=SIGNED_DIVISIONS[_O.MOD]),
    _O.UDIV: _plain("udiv"),
    _O.UMOD: _plain("urem"),
    _O.MIN: _chosen("<", signed=True),
    _O.MAX: _chosen(">", signed=True),
    _O.UMIN: _chosen("<", signed=False),
    _O.UMAX: _chosen(">", signed=False),
    _O.NOT: lambda frame, x, _: frame.builder.not_(x),
    _O.NEG: lambda frame, x, _: frame.builder.neg(x),
    _O.ABS: _absolute,
}  # fmt: skip

#: Operations that take and return numbers.
NUMBER_OPERATIONS: Final[dict[Operation, Emit]] = {
    _O.FADD: _plain("fadd"),
    _O.FSUB: _plain("fsub"),
    _O.FMUL: _plain("fmul"),
    _O.FDIV: _plain("fdiv"),
    _O.FMIN: partial(_float_chosen, compare="<", join="or_"),
    _O.FMAX: partial(_float_chosen, compare=">", join="and_"),
    _O.FSQRT: _square_root,
    _O.FFLOOR: _unary("llvm.floor.f64"),
    _O.FEXP: elementary.exp,
    _O.FLOG: elementary.log,
}

#: Operations from words to numbers, and from numbers to words.
TO_NUMBER: Final[dict[Operation, Emit]] = {
    _O.S_TO_F: partial(_float_of, name="sitofp", single=False),
    _O.U_TO_F: partial(_float_of, name="uitofp", single=False),
    _O.S_TO_FS: partial(_float_of, name="sitofp", single=True),
    _O.U_TO_FS: partial(_float_of, name="uitofp", single=True),
}
TO_WORD: Final[dict[Operation, Emit]] = {
    _O.F_TO_S: _unary("llvm.fptosi.sat.i64.f64"),
    _O.F_TO_U: _unary("llvm.fptoui.sat.i64.f64"),
    _O.F_TO_NARROW: _unary("llvm.fptosi.sat.i64.f64"),
}

#: Comparisons of words: the sign, and how.
COMPARISONS: Final[dict[Operation, tuple[str, str]]] = {
    _O.BR_L: ("icmp_signed", "<"),
    _O.BR_LE: ("icmp_signed", "<="),
    _O.BR_E: ("icmp_signed", "=="),
    _O.BR_NE: ("icmp_signed", "!="),
    _O.BR_UL: ("icmp_unsigned", "<"),
    _O.BR_ULE: ("icmp_unsigned", "<="),
    _O.BR_FL: ("fcmp_ordered", "<"),
    _O.BR_FLE: ("fcmp_ordered", "<="),
    _O.BR_FE: ("fcmp_ordered", "=="),
    _O.BR_FNE: ("fcmp_unordered", "!="),
}
SHIFTS: Final = frozenset({_O.SHL, _O.SHR, _O.USHR})
