"""`exp` and `log` for compiled code: the operations that reference_elementary.py lists.

Only additions, multiplications, divisions and bit moves of binary64, in one fixed order, so the
bits depend on neither the mathematics library nor the processor. No operation may be fused or
reassociated; numba does neither unless asked to.
"""

from __future__ import annotations

import math
from typing import Final

from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.machine_words import bits_of, float_of

#: ln 2 in two pieces: the first has 21 trailing zero bits, so that k * _LN2_HIGH is exact.
_LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
_EXP_MAX: Final = float.fromhex("0x1.62e42fefa39efp+9")
_EXP_MIN: Final = float.fromhex("-0x1.74910d52d3052p+9")
_SQRT2: Final = float.fromhex("0x1.6a09e667f3bcdp+0")
_TWO_54: Final = float(1 << 54)
#: 1/14!, 1/13!, ... 1/2! and 2/23, 2/21, ... 2/3: highest power first, as Horner takes them.
_EXP_TERMS: Final = tuple(1.0 / math.factorial(n) for n in range(14, 1, -1))
_LOG_TERMS: Final = tuple(2.0 / n for n in range(23, 2, -2))

_EXPONENT_BIAS: Final = 1023
_FRACTION_BITS: Final = 52
_FRACTION_MASK: Final = (1 << _FRACTION_BITS) - 1


@compiled
def power_of_two(exponent: int) -> float:
    """Return 2.0 ** exponent for a normal result."""
    return float_of((exponent + _EXPONENT_BIAS) << _FRACTION_BITS)


@compiled
def exp(x: float) -> float:
    """Return e to the power x; NaN for NaN, not made canonical."""
    if not x <= _EXP_MAX:
        return x + math.inf
    if x < _EXP_MIN:
        return 0.0
    k = math.floor(x * _LOG2_E + 0.5)
    multiple = float(k)
    high = x - multiple * _LN2_HIGH
    low = multiple * _LN2_LOW
    r = high - low
    e = (high - r) - low
    series = 0.0
    for term in _EXP_TERMS:
        series = term + r * series
    tail = e + r * r * series
    head = 1.0 + r
    y = head + ((r - (head - 1.0)) + tail)
    half = k >> 1
    return y * power_of_two(half) * power_of_two(k - half)


@compiled
def log(x: float) -> float:
    """Return the natural logarithm of x; some NaN for NaN and negative numbers."""
    if not x > 0.0:
        return -math.inf if x == 0.0 else math.nan
    if x == math.inf:
        return x
    k = 0
    if bits_of(x) <= _FRACTION_MASK:
        x = x * _TWO_54
        k = -54
    bits = bits_of(x)
    k += (bits >> _FRACTION_BITS) - _EXPONENT_BIAS
    m = float_of((bits & _FRACTION_MASK) | (_EXPONENT_BIAS << _FRACTION_BITS))
    if m > _SQRT2:
        m = 0.5 * m
        k += 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    series = 0.0
    for term in _LOG_TERMS:
        series = term + z * series
    r = z * series
    half_square = 0.5 * f * f
    multiple = float(k)
    return multiple * _LN2_HIGH - (
        (half_square - (s * (half_square + r) + multiple * _LN2_LOW)) - f
    )
