"""Every operation at odd operands, as rows of a grid: what engines must agree on."""

from __future__ import annotations

import random

from dvm_mpi.disa.table import CONDITIONS
from dvm_mpi.disa.types import BY_NAME, Kind
from tests.engine.grid import Row
from tests.engine.hot_draft import ODD_DOUBLES, ODD_SINGLES, bits_of
from tests.engine.hot_parts import COMPUTING, MOV_TYPES, SOURCES

#: Rows of each instruction and type.
ROWS = 6
#: Rows of one program.
PROGRAM_ROWS = 200


def computing() -> list[Row]:
    rng = random.Random(1)
    rows = []
    for mnemonic, types in COMPUTING:
        for name in types:
            is_division = mnemonic in {"div", "mod"} and BY_NAME[name].kind is not Kind.FLOAT
            for _ in range(ROWS):
                values = [bits_of(rng, name) for _ in range(SOURCES[mnemonic])]
                if is_division and values[1] == 0:
                    values[1] = 1
                rows.append(Row(mnemonic, name, tuple(values)))
    return rows


def odd_floats() -> list[Row]:
    """All odd numbers where there is one operand, and beside each other where there are two."""
    rows = []
    for mnemonic, types in COMPUTING:
        for name, odd in (("fd", ODD_DOUBLES), ("fs", ODD_SINGLES)):
            if name in types and SOURCES[mnemonic] == 1:
                rows += [Row(mnemonic, name, (value,)) for value in odd]
            elif name in types:
                rows += [
                    Row(mnemonic, name, pair) for pair in zip(odd, odd[3:] + odd[:3], strict=True)
                ]
    return rows


def at_edges() -> list[Row]:
    """Whole numbers at the ends of their types, beside each other; no divisor is 0."""
    rows = []
    for mnemonic, types in COMPUTING:
        for name in types:
            if BY_NAME[name].kind is not Kind.FLOAT:
                low, high, ones = (
                    1 << _bits(name) - 1,
                    (1 << _bits(name) - 1) - 1,
                    (1 << _bits(name)) - 1,
                )
                pairs = [(low, ones), (low, 1), (high, ones), (ones, low), (high, low), (0, ones)]
                rows += [Row(mnemonic, name, pair[: SOURCES[mnemonic]]) for pair in pairs]
    return rows


def moving() -> list[Row]:
    rng = random.Random(2)
    pairs = [(a, b) for a in MOV_TYPES for b in MOV_TYPES]
    rows = [Row("mov", f"{a} {b}", (bits_of(rng, a),)) for a, b in pairs for _ in range(ROWS)]
    # Rounded once, and not first to binary64, where the last bit is lost that decides.
    halfway = [(1 << top) + (1 << top - 24) + odd for top in (60, 62) for odd in (1, -1)]
    for name in ("sq", "uq"):
        rows += [Row("mov", f"{name} {to}", (value,)) for value in halfway for to in ("fs", "fd")]
    rows += [Row("mov", "sq fs", ((1 << 64) - value,)) for value in halfway]
    rows.append(Row("mov", "uq fs", ((1 << 63) + (1 << 39) + 1,)))
    return rows


def branching() -> list[Row]:
    rng = random.Random(3)
    rows = []
    for condition in CONDITIONS:
        count = {"z": 1, "nz": 1}.get(condition.name, 2)
        if condition.name not in {"j", "ji", "sl"}:
            rows += [
                Row(f"br:{condition.name}", name, tuple(bits_of(rng, name) for _ in range(count)))
                for name in sorted(condition.types)
                for _ in range(ROWS)
            ]
            rows += [
                Row(f"br:{condition.name}", name, pair[:count])
                for name in sorted(condition.types)
                for pair in _compared(name)
            ]
    return rows


def _bits(name: str) -> int:
    return 8 * BY_NAME[name].width_bytes


def _compared(name: str) -> list[tuple[int, int]]:
    """Return pairs of equal values, of both ends of a type, of NaN and of both zeros."""
    if BY_NAME[name].kind is Kind.FLOAT:
        odd = ODD_DOUBLES if _bits(name) == 64 else ODD_SINGLES
        zero, nan = 1 << _bits(name) - 1, odd[0]
        return [(0, zero), (zero, 0), (nan, nan), (nan, 0), (0, nan), (1, 1)]
    low, ones = 1 << _bits(name) - 1, (1 << _bits(name)) - 1
    return [(5, 5), (low, low), (low, low - 1), (low - 1, low), (0, ones), (ones, 0)]


def programs(rows: list[Row]) -> list[list[Row]]:
    return [rows[first : first + PROGRAM_ROWS] for first in range(0, len(rows), PROGRAM_ROWS)]
