"""Programs that add multiples of the rows of a matrix to one row, as products of matrices do."""

from __future__ import annotations

from typing import Final

from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene

P, Q, R, ROW = POINTERS[:4]
OUTER, INNER, FACTOR = 0x2_0000_0040, 0x2_0000_0048, VALUES[1]
PRODUCT = VALUES[2]
ROW_PAGE = DATA_START + 3 * PAGE_BYTES
#: Where the matrix and the factors begin, as seen from where the row usually does.
MATRIX: Final = -2 * PAGE_BYTES - 200
FACTORS: Final = -3 * PAGE_BYTES


def product(
    rounds: int = 13,
    turns: int = 19,
    start: int = 0,
    types: str = "fd",
    step: int = 8,
    mnemonic: str = "add",
    slice_fuel: int = 100_000,
    is_late: bool = False,
    is_sum: bool = False,
) -> Scene:
    """Return a program that adds multiples of the rows of a matrix to one row.

    The row lies `start` bytes behind the beginning of a page that is its own; `step` bytes lie
    between its elements. With `is_late` a turn adds what the one before it multiplied, with
    `is_sum` the rows as they are: then cells, which have one width, are no part of it. Memory is
    full of numbers and, but for the factors, of NaN with bits of their own.
    """
    odd = [0x7FF4_0000_0000_0001, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_0000]
    memory: dict[int, int] = {}
    for index in range(4 * PAGE_BYTES // 8):
        bits = (
            odd[index % 3]
            if index % 23 == 5 and index > 40
            else 0x3FF0_0000_0000_0000 + (index << 33)
        )
        memory |= enumerate(bits.to_bytes(8, "little"), DATA_START + 8 * index)
    turn = [
        op("mul", at(FACTOR), via(Q), at(PRODUCT), types=types),
        op(mnemonic, via(R), at(PRODUCT), via(R), types=types),
    ]
    factor = op("mov", via(P), at(FACTOR), types=types)
    if is_sum:
        turn = [op(mnemonic, via(R), via(Q), via(R), types=types), op("nop")]
        factor = op("mov", imm(0), at(FACTOR))
    return Scene(
        [
            op("mov", imm(ROW_PAGE + FACTORS), at(P)),
            op("mov", imm(ROW_PAGE + MATRIX), at(Q)),
            op("mov", imm(ROW_PAGE + start), at(ROW)),
            op("mov", imm(0), at(OUTER)),
            factor,
            op("mov", at(ROW), at(R)),
            op("mov", imm(0), at(INNER)),
            *(reversed(turn) if is_late else turn),
            op("add", at(Q), imm(8), at(Q)),
            op("add", at(R), imm(step), at(R)),
            op("add", at(INNER), imm(1), at(INNER)),
            op("br:l", at(INNER), imm(turns), target=7),
            op("add", at(P), imm(8), at(P)),
            op("add", at(OUTER), imm(1), at(OUTER)),
            op("br:l", at(OUTER), imm(rounds), target=4),
            op("mov", at(P), via(ROW, 8_000)),
            op("mov", at(PRODUCT), via(ROW, 8_008)),
            op("mov", at(FACTOR), via(ROW, 8_016)),
            op("add", at(Q), at(R), via(ROW, 8_024)),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, 6 * PAGE_BYTES, 0),))],
        memory=memory,
        slice_fuel=slice_fuel,
    )  # fmt: skip


#: Programs in which the order of the turns matters, or what differs from round to round.
ODD_PRODUCTS: Final = (
    product(),
    product(5),
    product(start=MATRIX + 8 * 19 * 4),
    product(start=FACTORS),
    product(is_late=True),
)
