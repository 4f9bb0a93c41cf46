"""The reference's `exp` and `log`: the algorithm of docs/isa.md, on Python floats.

Both functions are defined by the operations below, in this order, each rounded to binary64, so
every engine and machine gives the same bits. Errors stay below one unit in the last place.

`exp(x)`: k is the whole number nearest to x / ln 2, r + e = x - k * ln 2 the remainder in two
pieces; the Taylor sum to r**14 is added to 1 + r with the rounding error of that sum carried
along; the result is scaled by 2**k in two steps, of which only the last can round.

`log(x)`: x = 2**k * m with m in [sqrt(1/2), sqrt(2)); s = f / (2 + f) for f = m - 1 gives
log m = 2 * atanh(s) = f - f*f/2 + s * (f*f/2 + R), R the series 2/3 s**2 + 2/5 s**4 + ...
"""

from __future__ import annotations

import math
from typing import Final

#: ln 2 in two pieces: the first has 21 trailing zero bits, so that k * LN2_HIGH is exact.
LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
#: Above, exp is infinite; below, zero.
EXP_MAX: Final = float.fromhex("0x1.62e42fefa39efp+9")
EXP_MIN: Final = float.fromhex("-0x1.74910d52d3052p+9")
SQRT2: Final = float.fromhex("0x1.6a09e667f3bcdp+0")

#: 1/2!, 1/3!, ... 1/14!
EXP_TERMS: Final = tuple(1.0 / math.factorial(n) for n in range(2, 15))
#: 2/3, 2/5, ... 2/23
LOG_TERMS: Final = tuple(2.0 / (2 * n + 1) for n in range(1, 12))


def _horner(terms: tuple[float, ...], x: float) -> float:
    total = terms[-1]
    for term in reversed(terms[:-1]):
        total = term + x * total
    return total


def exp(x: float) -> float:
    """Return e to the power x."""
    if math.isnan(x):
        return math.nan
    if x > EXP_MAX:
        return math.inf
    if x < EXP_MIN:
        return 0.0
    k = float(math.floor(x * LOG2_E + 0.5))
    high = x - k * LN2_HIGH
    low = k * LN2_LOW
    r = high - low
    e = (high - r) - low
    tail = e + r * r * _horner(EXP_TERMS, r)
    head = 1.0 + r
    y = head + ((r - (head - 1.0)) + tail)
    half = int(k) // 2
    return y * math.ldexp(1.0, half) * math.ldexp(1.0, int(k) - half)


def log(x: float) -> float:
    """Return the natural logarithm of x."""
    if math.isnan(x) or x < 0.0:
        return math.nan
    if x == 0.0:
        return -math.inf
    if math.isinf(x):
        return math.inf
    m, k = math.frexp(x)
    m, k = 2.0 * m, k - 1
    if m > SQRT2:
        m, k = 0.5 * m, k + 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = z * _horner(LOG_TERMS, z)
    half_square = 0.5 * f * f
    small = s * (half_square + r) + k * LN2_LOW
    return k * LN2_HIGH - ((half_square - small) - f)
