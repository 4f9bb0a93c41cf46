"""What arithmetic must give, computed exactly: integers, fractions, and one rounding at the end.

An opinion of its own: nothing here is shared with an engine, and no float of the host takes part in
a result. Values are bits, as memory holds them, low `8 * width_bytes` of an int.

Source: docs/isa.md, "Arithmetic".
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final, NamedTuple

from dvm_mpi.disa.types import BY_NAME, Kind, Type


class Format(NamedTuple):
    """An IEEE binary format: bits of the stored fraction, and the exponent of the lowest bit."""

    fraction_bits: int
    lowest_exponent: int

    @property
    def infinity(self) -> int:
        """The bits of +infinity: the exponent is all ones, the fraction zero."""
        return (2 * (1 - self.lowest_exponent - self.fraction_bits) + 1) << self.fraction_bits

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.infinity.bit_length())

    @property
    def nan(self) -> int:
        """The canonical NaN."""
        return self.infinity | 1 << self.fraction_bits - 1


FORMATS: Final = {"fd": Format(52, -1074), "fs": Format(23, -149)}


@dataclass(frozen=True)
class Real:
    """A float taken apart: NaN, or a sign with a magnitude, of which None is infinity."""

    is_nan: bool
    is_negative: bool
    magnitude: Fraction | None

    @property
    def is_zero(self) -> bool:
        """Whether it is +0 or -0."""
        return not self.is_nan and self.magnitude == 0

    def signed(self) -> Fraction | float:
        """Return a value that compares as the float does; not for NaN."""
        assert not self.is_nan
        magnitude = float("inf") if self.magnitude is None else self.magnitude
        return -magnitude if self.is_negative else magnitude


def taken_apart(name: str, bits: int) -> Real:
    """Return the float that these bits are."""
    form = FORMATS[name]
    magnitude = bits & form.sign - 1
    is_negative = bool(bits & form.sign)
    if magnitude >= form.infinity:
        return Real(magnitude > form.infinity, is_negative, None)
    exponent, fraction = divmod(magnitude, 1 << form.fraction_bits)
    if exponent:
        fraction += 1 << form.fraction_bits
    scale = form.lowest_exponent + max(exponent - 1, 0)
    return Real(False, is_negative, fraction * Fraction(2) ** scale)


def rounded(name: str, exact: Fraction, *, zero_is_negative: bool = False) -> int:
    """Return the float next to a number, the even one of two; `zero_is_negative`: -0 for 0."""
    form = FORMATS[name]
    sign = form.sign if exact < 0 or (exact == 0 and zero_is_negative) else 0
    magnitude = abs(exact)
    if not magnitude:
        return sign
    # The exponent of the lowest bit that the result keeps: at most one too low, never too high.
    length = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    scale = max(length - form.fraction_bits - 1, form.lowest_exponent)
    while magnitude >= Fraction(2) ** (scale + form.fraction_bits + 1):
        scale += 1
    # Python rounds half to even; a carry into the exponent is what the encoding makes of it.
    kept = round(magnitude / Fraction(2) ** scale)
    bits = ((scale - form.lowest_exponent) << form.fraction_bits) + kept
    return sign | min(bits, form.infinity)


def number(kind: Type, bits: int) -> int:
    """Return the integer that these bits are."""
    width = 8 * kind.width_bytes
    return bits - (bits >> width - 1 << width) if kind.kind is Kind.SIGNED else bits


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


INTEGER: Final[dict[str, Callable[[int, int], int]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _truncated,
    "mod": lambda a, b: a - b * _truncated(a, b),
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "min": min,
    "max": max,
    "abs": lambda a, _: abs(a),
    "neg": lambda a, _: -a,
    "not": lambda a, _: -1 - a,
}


def integer(mnemonic: str, name: str, a: int, b: int = 0) -> int | None:
    """Return the result of an integer instruction; None where it traps."""
    kind = BY_NAME[name]
    width = 8 * kind.width_bytes
    x, y = number(kind, a), number(kind, b)
    if mnemonic in {"div", "mod"} and y == 0:
        return None
    if mnemonic in {"shl", "shr"}:
        count = y % width
        result = x << count if mnemonic == "shl" else x >> count
    else:
        result = INTEGER[mnemonic](x, y)
    return result % (1 << width)


def _product(name: str, x: Real, y: Real, *, divides: bool) -> int:
    form = FORMATS[name]
    is_negative = x.is_negative != y.is_negative
    small, large = (y.is_zero, y.magnitude is None)
    if divides:
        small, large = large, small
    # `small` sends any x to 0 and `large` any x to infinity, but for the x that undoes it.
    if (small and x.magnitude is None) or (large and x.is_zero):
        return form.nan
    if x.magnitude is None or large:
        return form.infinity | form.sign * is_negative
    if small or y.magnitude is None or x.is_zero:
        return form.sign * is_negative
    magnitude = x.magnitude / y.magnitude if divides else x.magnitude * y.magnitude
    return rounded(name, magnitude) | form.sign * is_negative


def _sum(name: str, x: Real, y: Real) -> int:
    form = FORMATS[name]
    if x.magnitude is None or y.magnitude is None:
        if x.magnitude is None and y.magnitude is None and x.is_negative != y.is_negative:
            return form.nan
        infinite = x if x.magnitude is None else y
        return form.infinity | form.sign * infinite.is_negative
    exact = (-1) ** x.is_negative * x.magnitude + (-1) ** y.is_negative * y.magnitude
    both_negative = x.is_negative and y.is_negative
    return rounded(name, exact, zero_is_negative=both_negative)


def _root(name: str, x: Real) -> int:
    form = FORMATS[name]
    if x.is_zero:
        return form.sign * x.is_negative
    if x.is_negative:
        return form.nan
    if x.magnitude is None:
        return form.infinity
    # Twice as many bits as are kept, and one below them that says whether anything was cut off.
    shift = 2 * form.fraction_bits + abs(form.lowest_exponent)
    scaled = x.magnitude * Fraction(4) ** shift
    assert scaled.denominator == 1
    root = isqrt(scaled.numerator)
    sticky = int(root * root != scaled)
    return rounded(name, Fraction(2 * root + sticky, 2 ** (shift + 1)))


def floating(mnemonic: str, name: str, a: int, b: int = 0) -> int:
    """Return the result of a float instruction other than `exp` and `log`; one operand: b is 0."""
    form = FORMATS[name]
    x, y = taken_apart(name, a), taken_apart(name, b)
    match mnemonic:
        case "neg":
            result = a ^ form.sign
        case "abs":
            result = a & form.sign - 1
        case _ if x.is_nan or y.is_nan:
            result = form.nan
        case "add" | "sub":
            result = _sum(name, x, Real(False, y.is_negative != (mnemonic == "sub"), y.magnitude))
        case "mul" | "div":
            result = _product(name, x, y, divides=mnemonic == "div")
        case "min" | "max":
            result = {"min": min, "max": max}[mnemonic](a, b, key=lambda bits: _order(name, bits))
        case "sqrt":
            result = _root(name, x)
        case _:
            assert mnemonic == "floor"
            result = a if x.magnitude is None or x.is_zero else rounded(name, Fraction(_floor(x)))
    return result


def _floor(x: Real) -> int:
    assert x.magnitude is not None
    numerator = -x.magnitude.numerator if x.is_negative else x.magnitude.numerator
    return numerator // x.magnitude.denominator


def _order(name: str, bits: int) -> tuple[Fraction | float, bool]:
    """Return a key by which floats are sorted, -0 before +0."""
    real = taken_apart(name, bits)
    return real.signed(), not real.is_negative


def converted(source: str, target: str, bits: int) -> int:
    """Return what `mov` stores."""
    if source == target:
        return bits
    if target in FORMATS:
        if source in FORMATS:
            return _refloated(taken_apart(source, bits), target)
        return rounded(target, Fraction(number(BY_NAME[source], bits)))
    if source in FORMATS:
        return _whole(taken_apart(source, bits), BY_NAME[target])
    return number(BY_NAME[source], bits) % (1 << 8 * BY_NAME[target].width_bytes)


def _refloated(x: Real, target: str) -> int:
    form = FORMATS[target]
    if x.is_nan:
        return form.nan
    magnitude = form.infinity if x.magnitude is None else rounded(target, x.magnitude)
    return magnitude | form.sign * x.is_negative


def _whole(x: Real, target: Type) -> int:
    if x.is_nan:
        return 0
    end = 1 << 8 * target.width_bytes
    low, high = (-end // 2, end // 2 - 1) if target.kind is Kind.SIGNED else (0, end - 1)
    if x.magnitude is None:
        whole = low if x.is_negative else high
    else:
        whole = (-1) ** x.is_negative * (x.magnitude.numerator // x.magnitude.denominator)
    return min(max(whole, low), high) % end


def holds(condition: str, name: str, a: int, b: int = 0) -> bool:
    """Tell whether a branch is taken; `z` and `nz` compare with zero."""
    if name in FORMATS:
        x, y = taken_apart(name, a), taken_apart(name, b)
        if x.is_nan or y.is_nan:
            return condition in {"ne", "nz"}
        left, right = x.signed(), y.signed()
    else:
        left, right = number(BY_NAME[name], a), number(BY_NAME[name], b)
    return {
        "l": left < right, "le": left <= right, "e": left == right, "ne": left != right,
        "z": left == right, "nz": left != right,
    }[condition]  # fmt: skip
