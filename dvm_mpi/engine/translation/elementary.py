"""`exp` and `log` as LLVM: the operations of engine/elementary.py in the same order.

The same bits on every processor, since nothing is fused or reassociated. All ways are computed and
one is chosen, so that loops with these functions can be vectorised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir

from dvm_mpi.engine.reference_elementary import (
    EXP_MAX,
    EXP_MIN,
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    SQRT2,
)
from dvm_mpi.engine.translation.frame import F64, I64, Frame, Value, word

_FRACTION_BITS: Final = 52
_FRACTION_MASK: Final = (1 << _FRACTION_BITS) - 1
_EXPONENT_BIAS: Final = 1023
_TWO_54: Final = float(1 << 54)


def _number(value: float) -> Value:
    return ir.Constant(F64, value)


def _series(builder: Any, x: Value, terms: Sequence[float]) -> Value:
    value = _number(0.0)
    for term in reversed(terms):
        value = builder.fadd(_number(term), builder.fmul(x, value))
    return value


def _power_of_two(builder: Any, exponent: Value) -> Value:
    bits = builder.shl(builder.add(exponent, word(_EXPONENT_BIAS)), word(_FRACTION_BITS))
    return builder.bitcast(bits, F64)


def _function(frame: Frame, name: str, build: Callable[[Any, Value], Value]) -> Any:
    found = frame.module.globals.get(name)
    if found is None:
        found = ir.Function(frame.module, ir.FunctionType(F64, [F64]), name)
        found.linkage = "internal"
        builder = ir.IRBuilder(found.append_basic_block())
        builder.ret(build(builder, found.args[0]))
    return found


def _floor(frame: Frame) -> Any:
    name = "llvm.floor.f64"
    found = frame.module.globals.get(name)
    return found or ir.Function(frame.module, ir.FunctionType(F64, [F64]), name)


def exp(frame: Frame, x: Value, _: Value) -> Value:
    """Return e to the power x; some NaN for NaN."""
    floor = _floor(frame)

    def build(builder: Any, x: Value) -> Value:
        scaled = builder.fadd(builder.fmul(x, _number(LOG2_E)), _number(0.5))
        multiple = builder.call(floor, [scaled])
        # Beyond the range any number will do: what is computed then is not chosen.
        in_range = builder.and_(
            builder.fcmp_ordered("<=", x, _number(EXP_MAX)),
            builder.fcmp_ordered(">=", x, _number(EXP_MIN)),
        )
        multiple = builder.select(in_range, multiple, _number(0.0))
        k = builder.fptosi(multiple, I64)
        high = builder.fsub(x, builder.fmul(multiple, _number(LN2_HIGH)))
        low = builder.fmul(multiple, _number(LN2_LOW))
        r = builder.fsub(high, low)
        e = builder.fsub(builder.fsub(high, r), low)
        square = builder.fmul(r, r)
        tail = builder.fadd(e, builder.fmul(square, _series(builder, r, EXP_TERMS)))
        head = builder.fadd(_number(1.0), r)
        rest = builder.fsub(r, builder.fsub(head, _number(1.0)))
        y = builder.fadd(head, builder.fadd(rest, tail))
        half = builder.ashr(k, word(1))
        y = builder.fmul(y, _power_of_two(builder, half))
        y = builder.fmul(y, _power_of_two(builder, builder.sub(k, half)))
        small = builder.fcmp_ordered("<", x, _number(EXP_MIN))
        y = builder.select(small, _number(0.0), y)
        fits = builder.fcmp_ordered("<=", x, _number(EXP_MAX))
        return builder.select(fits, y, builder.fadd(x, _number(math.inf)))

    return frame.builder.call(_function(frame, "exp_of", build), [x])


def log(frame: Frame, x: Value, _: Value) -> Value:
    """Return the natural logarithm of x; some NaN for NaN and negative numbers."""

    def build(builder: Any, x: Value) -> Value:
        bits = builder.bitcast(x, I64)
        is_denormal = builder.icmp_signed("<=", bits, word(_FRACTION_MASK))
        scaled = builder.select(is_denormal, builder.fmul(x, _number(_TWO_54)), x)
        k = builder.select(is_denormal, word(-54), word(0))
        bits = builder.bitcast(scaled, I64)
        exponent = builder.sub(builder.ashr(bits, word(_FRACTION_BITS)), word(_EXPONENT_BIAS))
        k = builder.add(k, exponent)
        one = _EXPONENT_BIAS << _FRACTION_BITS
        m = builder.bitcast(builder.or_(builder.and_(bits, word(_FRACTION_MASK)), word(one)), F64)
        is_large = builder.fcmp_ordered(">", m, _number(SQRT2))
        m = builder.select(is_large, builder.fmul(_number(0.5), m), m)
        k = builder.select(is_large, builder.add(k, word(1)), k)
        f = builder.fsub(m, _number(1.0))
        s = builder.fdiv(f, builder.fadd(_number(2.0), f))
        z = builder.fmul(s, s)
        r = builder.fmul(z, _series(builder, z, LOG_TERMS))
        half_square = builder.fmul(builder.fmul(_number(0.5), f), f)
        multiple = builder.sitofp(k, F64)
        inner = builder.fmul(s, builder.fadd(half_square, r))
        inner = builder.fadd(inner, builder.fmul(multiple, _number(LN2_LOW)))
        inner = builder.fsub(builder.fsub(half_square, inner), f)
        y = builder.fsub(builder.fmul(multiple, _number(LN2_HIGH)), inner)
        infinite = builder.fcmp_ordered("==", x, _number(math.inf))
        y = builder.select(infinite, x, y)
        is_zero = builder.fcmp_ordered("==", x, _number(0.0))
        other = builder.select(is_zero, _number(-math.inf), _number(math.nan))
        return builder.select(builder.fcmp_ordered(">", x, _number(0.0)), y, other)

    return frame.builder.call(_function(frame, "log_of", build), [x])
