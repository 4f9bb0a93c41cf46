"""Widening, cutting, rounding and saturating, for compiled code: one 64-bit word on each side.

Integers narrower than 64 bits travel sign- or zero-extended, binary32 as binary64. Sums, products,
quotients and square roots of binary32 values that are computed in binary64 and then rounded are
those of binary32 arithmetic, since 53 bits are more than twice 24 and two.
The decisions on NaN, saturation and rounding are those of reference_arithmetic.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.machine_words import (
    bits_of,
    float_of,
    load_f32,
    load_i8,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_f32,
    store_i8,
    store_i16,
    store_i32,
    store_i64,
)
from dvm_mpi.engine.records import WIDTH_UNIT, WORD_MASK, Word

CANONICAL_NAN: Final = 0x7FF8_0000_0000_0000
_CANONICAL_NAN_FS: Final = 0x7FC0_0000
_TWO_63: Final = float(1 << 63)
_TWO_64: Final = float(1 << 64)
_S_MAX: Final = (1 << 63) - 1
_S_MIN: Final = -(1 << 63)


@compiled
def word_of(value: float) -> int:
    """Return the bits of a computed binary64 value, canonical if it is NaN."""
    if value != value:  # noqa: PLR0124 (true of NaN alone)
        return CANONICAL_NAN
    return bits_of(value)


@compiled
def load_word(pointer: int, word: int) -> int:
    """Load an operand of any kind as a 64-bit word."""
    kind = word & WORD_MASK
    if kind == Word.Q:
        value = load_i64(pointer)
    elif kind == Word.SD:
        value = load_i32(pointer)
    elif kind == Word.UD:
        value = load_u32(pointer)
    elif kind == Word.SW:
        value = load_i16(pointer)
    elif kind == Word.UW:
        value = load_u16(pointer)
    elif kind == Word.SB:
        value = load_i8(pointer)
    elif kind == Word.UB:
        value = load_u8(pointer)
    else:
        value = word_of(load_f32(pointer))
    return value


@compiled
def store_word(pointer: int, word: int, value: int) -> None:
    """Store a 64-bit word as an operand of any kind."""
    width = word // WIDTH_UNIT
    if word & WORD_MASK == Word.FS:
        number = float_of(value)
        if number != number:  # noqa: PLR0124 (true of NaN alone)
            store_i32(pointer, _CANONICAL_NAN_FS)
        else:
            store_f32(pointer, number)
    elif width == 8:  # noqa: PLR2004
        store_i64(pointer, value)
    elif width == 4:  # noqa: PLR2004
        store_i32(pointer, value)
    elif width == 2:  # noqa: PLR2004
        store_i16(pointer, value)
    else:
        store_i8(pointer, value)


@compiled
def signed_of_float(value: float) -> int:
    """Truncate to a signed 64-bit integer; saturate; 0 for NaN."""
    if value != value:  # noqa: PLR0124 (true of NaN alone)
        return 0
    if value >= _TWO_63:
        return _S_MAX
    if value < -_TWO_63:
        return _S_MIN
    return int(value)


@compiled
def unsigned_of_float(value: float) -> int:
    """Truncate to an unsigned 64-bit integer, returned as the same bits; saturate; 0 for NaN."""
    if not value >= 1.0:
        return 0
    if value >= _TWO_64:
        return -1
    if value >= _TWO_63:
        return int(value - _TWO_63) ^ _S_MIN
    return int(value)


@compiled
def narrow_of_float(value: float, low: int, high: int) -> int:
    """Truncate to an integer of `[low, high]`, bounds of at most 32 bits; saturate."""
    return min(max(signed_of_float(value), low), high)


@compiled
def float_of_unsigned(bits: int) -> float:
    """Round an unsigned 64-bit integer to binary64."""
    return np.float64(np.uint64(bits))


@compiled
def binary32_of_signed(value: int) -> float:
    """Round a signed 64-bit integer once to binary32; the result is exact in binary64."""
    return np.float64(np.float32(np.int64(value)))


@compiled
def binary32_of_unsigned(bits: int) -> float:
    """Round an unsigned 64-bit integer once to binary32; the result is exact in binary64."""
    return np.float64(np.float32(np.uint64(bits)))


@compiled
def float_smaller(x: int, y: int) -> int:
    """Return the smaller of two binary64 words; canonical NaN if either is NaN, -0 < +0."""
    a = float_of(x)
    b = float_of(y)
    if a < b:
        chosen = x
    elif b < a:
        chosen = y
    elif a == b:
        # Equal with different bits: zeros, and either sign bit wins.
        chosen = x | y
    else:
        chosen = CANONICAL_NAN
    return chosen


@compiled
def float_larger(x: int, y: int) -> int:
    """Return the larger of two binary64 words; canonical NaN if either is NaN, -0 < +0."""
    a = float_of(x)
    b = float_of(y)
    if a > b:
        chosen = x
    elif b > a:
        chosen = y
    elif a == b:
        chosen = x & y
    else:
        chosen = CANONICAL_NAN
    return chosen
