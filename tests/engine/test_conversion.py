"""`mov` from every type to every type, at the edges of both, beside exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from dvm_mpi.disa.types import BY_NAME, FLOATS
from tests.engine import exact
from tests.engine.exact import FORMATS, rounded
from tests.engine.grid import Row, results
from tests.engine.machine import EngineMaker
from tests.engine.test_operations import assert_same, edges, integers


def around(name: str) -> list[int]:
    """Return floats about the ends of every integer type: below, at and above them, by halves."""
    quarters = (-8, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8)
    ends = [end for w in (8, 16, 32, 64) for end in (-(1 << w - 1), 1 << w - 1, 1 << w)]
    found = [rounded(name, end + Fraction(q, 4)) for end in (0, *ends) for q in quarters]
    return sorted({bits + step for bits in found for step in (-1, 0, 1) if bits + step >= 0})


def ties(width: int) -> list[int]:
    """Return integers about half-way between two floats, of either format."""
    found = []
    for form in FORMATS.values():
        for bit in range(form.fraction_bits + 1, width - 1, 3):
            half = 1 << bit - form.fraction_bits - 1
            for low in (0, 2 * half):
                found += [(1 << bit) + low + half + step for step in (-1, 0, 1)]
    return found + [(1 << width) - value for value in found]


def halfway() -> list[int]:
    """Return binary64 numbers about half-way between two of binary32, denormal ones too."""
    found = []
    for bits in (0, 1, 2, 0x007F_FFFF, 0x0080_0000, 0x3F80_0000, 0x3F80_0001, 0x7F7F_FFFF):
        low = exact.taken_apart("fs", bits).magnitude
        high = exact.taken_apart("fs", bits + 1).magnitude or Fraction(2) ** 128
        assert low is not None
        middle = rounded("fd", (low + high) / 2)
        found += [middle - 1, middle, middle + 1]
    return found + [bits | 1 << 63 for bits in found]


def values(name: str) -> list[int]:
    """Return the operands of a type."""
    if name not in FLOATS:
        width = 8 * BY_NAME[name].width_bytes
        return sorted({*integers(width), *ties(width)})
    return sorted({*edges(name), *around(name), *(halfway() if name == "fd" else [])})


@pytest.mark.parametrize("source", BY_NAME)
def test_conversion_to_every_type(source: str, maker: EngineMaker) -> None:
    """Extension, cutting, rounding to even, saturation, NaN to 0, and bits that are only copied."""
    rows = [
        Row("mov", f"{source} {target}", (v,)) for target, v in product(BY_NAME, values(source))
    ]
    wanted = [exact.converted(source, row.types.split()[1], row.values[0]) for row in rows]
    assert_same(rows, results(maker, rows), wanted)
