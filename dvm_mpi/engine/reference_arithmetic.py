"""The reference's arithmetic: functions from operand bits to result bits, type by type.

Values travel as unsigned Python ints of the type's width. Integers are computed on unbounded
ints and cut; floats on numpy scalars of their own width, so every operation rounds once.

Decisions (docs/isa.md, "Arithmetic"):

- Every NaN that arithmetic or a conversion between fd and fs yields is the canonical one,
  0x7FF8000000000000 or 0x7FC00000, whatever the operands' payloads were.
- `neg` and `abs` of floats change the sign bit and nothing else; `mov` between equal types
  copies the bits: these three keep payloads.
- `min` and `max` yield the canonical NaN if either operand is NaN; -0 is smaller than +0.
- Float to integer truncates, saturates at the destination's range, and gives 0 for NaN.
- Integer to float rounds once, to nearest even, also from `uq` and into fs.
- Shifts take their count, read as the operand's bits, modulo the width.
- `exp` and `log` of fs are computed in binary64 and rounded once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from dvm_mpi.disa.types import Kind, Type
from dvm_mpi.engine import reference_elementary

#: Takes the operands' type and bits, returns the result's bits.
Arithmetic = Callable[..., int]

_FLOAT_FORMATS: Final = {8: "<d", 4: "<f"}
_FLOAT_CLASSES: Final[dict[int, Any]] = {8: np.float64, 4: np.float32}
CANONICAL_NAN: Final = {8: 0x7FF8_0000_0000_0000, 4: 0x7FC0_0000}


class DivisionByZeroError(ArithmeticError):
    """An integer was divided by zero."""


# --- bits and values --------------------------------------------------------------------------
def _mask(width: int) -> int:
    return (1 << 8 * width) - 1


def signed_of_bits(bits: int, width: int) -> int:
    """Return the two's complement value of `width` bytes of bits."""
    return bits - (1 << 8 * width) if bits >> (8 * width - 1) else bits


def float_of_bits(bits: int, width: int) -> float:
    """Return the value of 4 or 8 bytes of IEEE bits."""
    value: float = struct.unpack(_FLOAT_FORMATS[width], bits.to_bytes(width, "little"))[0]
    return value


def _number(kind: Type, bits: int) -> Any:
    """Return the bits' value: a Python int, or a numpy float of the type's width."""
    match kind.kind:
        case Kind.SIGNED:
            return signed_of_bits(bits, kind.width_bytes)
        case Kind.UNSIGNED:
            return bits
        case Kind.FLOAT:
            return _FLOAT_CLASSES[kind.width_bytes](float_of_bits(bits, kind.width_bytes))


def _bits(kind: Type, value: Any) -> int:
    """Return the bits of a computed value: cut, or canonical if it is NaN."""
    width = kind.width_bytes
    if kind.kind is not Kind.FLOAT:
        return int(value) & _mask(width)
    rounded = _FLOAT_CLASSES[width](value)
    if np.isnan(rounded):
        return CANONICAL_NAN[width]
    return int.from_bytes(rounded.tobytes(), "little")


# --- two operands -----------------------------------------------------------------------------
def _add(kind: Type, a: int, b: int) -> int:
    return _bits(kind, _number(kind, a) + _number(kind, b))


def _sub(kind: Type, a: int, b: int) -> int:
    return _bits(kind, _number(kind, a) - _number(kind, b))


def _mul(kind: Type, a: int, b: int) -> int:
    return _bits(kind, _number(kind, a) * _number(kind, b))


def _truncated_quotient(dividend: int, divisor: int) -> int:
    if divisor == 0:
        raise DivisionByZeroError
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _div(kind: Type, a: int, b: int) -> int:
    x, y = _number(kind, a), _number(kind, b)
    if kind.kind is Kind.FLOAT:
        return _bits(kind, x / y)
    return _bits(kind, _truncated_quotient(x, y))


def _mod(kind: Type, a: int, b: int) -> int:
    x, y = _number(kind, a), _number(kind, b)
    return _bits(kind, x - y * _truncated_quotient(x, y))


def _and(kind: Type, a: int, b: int) -> int:
    return a & b


def _or(kind: Type, a: int, b: int) -> int:
    return a | b


def _xor(kind: Type, a: int, b: int) -> int:
    return a ^ b


def _shl(kind: Type, a: int, b: int) -> int:
    return (a << b % (8 * kind.width_bytes)) & _mask(kind.width_bytes)


def _shr(kind: Type, a: int, b: int) -> int:
    return _bits(kind, _number(kind, a) >> b % (8 * kind.width_bytes))


def _smaller_first(kind: Type, a: int, b: int) -> tuple[int, int] | None:
    """Return the operands in ascending order, None if one is NaN."""
    x, y = _number(kind, a), _number(kind, b)
    if x != x or y != y:  # noqa: PLR0124 (true of NaN alone)
        return None
    if x == y:
        # Equal numbers with different bits are zeros; the one with the sign bit is smaller.
        return (max(a, b), min(a, b)) if kind.kind is Kind.FLOAT else (a, b)
    return (a, b) if x < y else (b, a)


def _min(kind: Type, a: int, b: int) -> int:
    ordered = _smaller_first(kind, a, b)
    return CANONICAL_NAN[kind.width_bytes] if ordered is None else ordered[0]


def _max(kind: Type, a: int, b: int) -> int:
    ordered = _smaller_first(kind, a, b)
    return CANONICAL_NAN[kind.width_bytes] if ordered is None else ordered[1]


# --- one operand ------------------------------------------------------------------------------
def _sqrt(kind: Type, a: int) -> int:
    return _bits(kind, np.sqrt(_number(kind, a)))


def _exp(kind: Type, a: int) -> int:
    return _bits(kind, reference_elementary.exp(float(_number(kind, a))))


def _log(kind: Type, a: int) -> int:
    return _bits(kind, reference_elementary.log(float(_number(kind, a))))


def _floor(kind: Type, a: int) -> int:
    return _bits(kind, np.floor(_number(kind, a)))


def _abs(kind: Type, a: int) -> int:
    if kind.kind is Kind.FLOAT:
        return a & _mask(kind.width_bytes) >> 1
    return _bits(kind, abs(_number(kind, a)))


def _neg(kind: Type, a: int) -> int:
    if kind.kind is Kind.FLOAT:
        return a ^ 1 << (8 * kind.width_bytes - 1)
    return _bits(kind, -_number(kind, a))


def _not(kind: Type, a: int) -> int:
    return a ^ _mask(kind.width_bytes)


#: One function for each arithmetic row of the table.
ARITHMETIC: Final[dict[str, Arithmetic]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "mod": _mod,
    "and": _and, "or": _or, "xor": _xor, "shl": _shl, "shr": _shr, "min": _min, "max": _max,
    "sqrt": _sqrt, "exp": _exp, "log": _log, "floor": _floor,
    "abs": _abs, "neg": _neg, "not": _not,
}  # fmt: skip


# --- comparison -------------------------------------------------------------------------------
def compare(condition: str, kind: Type, a: int, b: int) -> bool:
    """Decide a branch condition of two operands, or of one and zero."""
    x, y = _number(kind, a), _number(kind, b)
    match condition:
        case "le":
            return bool(x <= y)
        case "l":
            return bool(x < y)
        case "e" | "z":
            return bool(x == y)
        case "ne" | "nz":
            return bool(x != y)
    raise AssertionError(f"{condition} compares nothing")


# --- conversion -------------------------------------------------------------------------------
def convert(source: Type, target: Type, bits: int) -> int:
    """Return what `mov` stores: bits of `source` as bits of `target`."""
    if source is target:
        return bits
    if target.kind is Kind.FLOAT:
        if source.kind is Kind.FLOAT:
            return _bits(target, _number(source, bits))
        return _rounded_to_float(target, _number(source, bits))
    if source.kind is not Kind.FLOAT:
        return _bits(target, _number(source, bits))
    return _saturated(target, float_of_bits(bits, source.width_bytes))


def _saturated(target: Type, value: float) -> int:
    bits = 8 * target.width_bytes
    signed = target.kind is Kind.SIGNED
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if math.isnan(value):
        return 0
    if math.isinf(value):
        return _bits(target, low if value < 0 else high)
    return _bits(target, min(max(math.trunc(value), low), high))


def _rounded_to_float(target: Type, value: int) -> int:
    """Round an int once to binary32 or binary64."""
    magnitude = abs(value)
    excess = max(magnitude.bit_length() - 40, 0)
    if target.width_bytes == 4 and excess:  # noqa: PLR2004
        # Keep 40 bits and whether anything was cut: binary64 holds that, and rounding it to 24
        # bits goes the same way as rounding the whole would.
        cut = magnitude & (1 << excess) - 1
        magnitude = (magnitude >> excess | (cut != 0)) << excess
    # Python rounds an int to binary64 once, to nearest even.
    return _bits(target, float(-magnitude if value < 0 else magnitude))
