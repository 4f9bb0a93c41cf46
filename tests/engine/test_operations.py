"""Every arithmetic instruction and branch at the edges of every type, beside exact arithmetic.

What is expected is computed by `tests.engine.exact`, which shares nothing with an engine. A few
hundred rows that are worth reading are in test_reference_arithmetic.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import pytest

from dvm_mpi.disa.table import BY_CONDITION, BY_MNEMONIC, TABLE, Form
from dvm_mpi.disa.types import BY_NAME, FLOATS, INTS, NUMBERS
from dvm_mpi.engine.interface import TrapKind
from tests.engine import exact
from tests.engine.grid import Row, results, taken
from tests.engine.machine import EngineMaker, Task, at, imm, op, program, run_tasks


# fmt: off
#: Small numbers, and what is near the ends of the signed and of the unsigned range.
def integers(width: int) -> list[int]:
    top, end = 1 << width - 1, 1 << width
    return [0, 1, 2, 7, width - 1, width, width + 1, end // 3, top - 1, top, top + 1, end - 7,
            end - 2, end - 1]

REALS = {
    #  +0, -0, 1, -1, 1/10, 1 1/2, -2 1/2, 3, smallest and largest denormal,
    #  smallest normal, largest, what loses its last bit when 1 is added, infinities,
    #  canonical NaN, a signalling one, a negative one with a payload
    "fd": [0, 1 << 63, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x3FB9_9999_9999_999A,
           0x3FF8_0000_0000_0000, 0xC004_0000_0000_0000, 0x4008_0000_0000_0000,
           1, 0x800F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0xFFEF_FFFF_FFFF_FFFF,
           0x7FEF_FFFF_FFFF_FFFF, 0x4340_0000_0000_0001, 0x7FF0_0000_0000_0000,
           0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001,
           0xFFF8_0000_0000_1234],
    "fs": [0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x3DCC_CCCD,
           0x3FC0_0000, 0xC020_0000, 0x4040_0000,
           1, 0x807F_FFFF, 0x0080_0000, 0xFF7F_FFFF,
           0x7F7F_FFFF, 0x4B80_0001, 0x7F80_0000,
           0xFF80_0000, 0x7FC0_0000, 0x7F80_0001,
           0xFFC0_1234],
}
# fmt: on

#: Computed by approximation, and compared bit by bit in test_elementary.py.
ELEMENTARY = {"exp", "log"}
DIVIDING = {"div", "mod"}


def edges(name: str) -> list[int]:
    return REALS[name] if name in FLOATS else integers(8 * BY_NAME[name].width_bytes)


@cache
def table(names: frozenset[str]) -> list[tuple[Row, int]]:
    """Return all instructions of these types with all edges, and what they give."""
    rows = []
    for row in TABLE:
        if row.form not in {Form.TYPED2, Form.TYPED3} or row.mnemonic in ELEMENTARY:
            continue
        for name in sorted(row.types & names):
            repeat = 2 if row.form is Form.TYPED3 else 1
            for values in product(edges(name), repeat=repeat):
                meaning = exact.floating if name in FLOATS else exact.integer
                wanted = meaning(row.mnemonic, name, *values)
                if wanted is not None:
                    rows.append((Row(row.mnemonic, name, values), wanted))
    return rows


def assert_same(rows: Sequence[Row], found: Sequence[object], wanted: Sequence[object]) -> None:
    wrong = [
        f"{row}: {got}, not {right}"
        for row, got, right in zip(rows, found, wanted, strict=True)
        if got != right
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(rows)}", *wrong[:20]])


@pytest.mark.parametrize("names", [INTS, FLOATS], ids=["integers", "floats"])
def test_arithmetic_at_the_edges(names: frozenset[str], maker: EngineMaker) -> None:
    rows, wanted = zip(*table(names), strict=True)
    assert len(rows) > 2_000
    assert_same(rows, results(maker, rows), wanted)


def test_branches_at_the_edges(maker: EngineMaker) -> None:
    """NaN on either side or on both, -0 beside +0, and signed beside unsigned order."""
    rows = [
        Row(f"br:{name}", type_name, values)
        for name, condition in BY_CONDITION.items()
        if name not in {"j", "ji", "sl"}
        for type_name in sorted(NUMBERS)
        for values in product(edges(type_name), repeat=len(condition.operands) - 1)
    ]
    wanted = [exact.holds(row.mnemonic.partition(":")[2], row.types, *row.values) for row in rows]
    assert len(rows) > 5_000
    assert_same(rows, taken(maker, rows), wanted)


@pytest.mark.parametrize("mnemonic", sorted(DIVIDING))
def test_division_by_zero_traps_for_every_integer_type(mnemonic: str, maker: EngineMaker) -> None:
    for name in sorted(BY_MNEMONIC[mnemonic].types & INTS):
        for value in integers(8 * BY_NAME[name].width_bytes):
            image = program(op(mnemonic, imm(value), imm(0), at(0x2_0000_0000), types=name))
            (ended,), _ = run_tasks(maker, image, [Task()])
            assert ended.row["trap"] == TrapKind.DIVISION_BY_ZERO, (name, value)
