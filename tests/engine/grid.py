"""Many operands for few instructions, run in one program: what each row of them gave.

Rows of one instruction and type follow each other in shared memory, and a loop goes through them.
What lies behind a narrow value there is poison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import BY_NAME
from dvm_mpi.layout import DATA_START
from tests.engine.machine import EngineMaker, Task, at, imm, op, program, run_tasks, via

#: Bytes of a row: two operands and a destination.
ROW_BYTES: Final = 32
DESTINATION: Final = 16
POISON: Final = b"\xa5" * 8
#: The cell that holds the address of the row in hand.
HERE: Final = 0x2_0000_0000


class Row(NamedTuple):
    """One instruction: `types` as in the text, one name or two for mov; values are bits."""

    mnemonic: str
    types: str
    values: tuple[int, ...]

    def __str__(self) -> str:
        values = ", ".join(f"{value:#x}" for value in self.values)
        return f"{self.mnemonic}:{self.types.replace(' ', ' to ')} {values}"


def memory_of(rows: Sequence[Row]) -> dict[int, int]:
    """Return the snapshot that holds the operands."""
    memory: dict[int, int] = {}
    for number, row in enumerate(rows):
        width = BY_NAME[row.types.split()[0]].width_bytes
        for k, value in enumerate(row.values):
            cell = (value.to_bytes(width, "little") + POISON)[:8]
            memory |= enumerate(cell, DATA_START + ROW_BYTES * number + 8 * k)
    return memory


def results(maker: EngineMaker, rows: Sequence[Row]) -> list[int]:
    """Return what each row stored, as bits; nothing else may have been stored."""

    def body(row: Row, sources: list[Operand], _: int) -> list[Instruction]:
        return [op(row.mnemonic, *sources, via(HERE, DESTINATION), types=row.types)]

    stored = _run(maker, rows, body)
    found = []
    for number, row in enumerate(rows):
        start = DATA_START + ROW_BYTES * number + DESTINATION
        width = BY_NAME[row.types.split()[-1]].width_bytes
        data = bytes(stored.pop(address) for address in range(start, start + width))
        found.append(int.from_bytes(data, "little"))
    assert not stored, f"stored elsewhere: {sorted(stored)[:8]}"
    return found


def taken(maker: EngineMaker, rows: Sequence[Row]) -> list[bool]:
    """Return which branches are taken; `mnemonic` is `br:CONDITION`."""

    def body(row: Row, sources: list[Operand], here: int) -> list[Instruction]:
        branch = op(row.mnemonic, *sources, types=row.types, target=here + 2)
        return [branch, op("mov", imm(1), via(HERE, DESTINATION), types="sb")]

    passed = _run(maker, rows, body)
    return [DATA_START + ROW_BYTES * n + DESTINATION not in passed for n in range(len(rows))]


def _run(
    maker: EngineMaker,
    rows: Sequence[Row],
    body: Callable[[Row, list[Operand], int], list[Instruction]],
) -> dict[int, int]:
    """Return the bytes stored; `body` makes the instructions of a row for their place."""
    listing = [op("mov", imm(DATA_START), at(HERE))]
    for row, end in _groups(rows):
        begin = len(listing)
        sources = [via(HERE, 8 * k) for k in range(len(row.values))]
        listing += body(row, sources, begin)
        listing.append(op("add", at(HERE), imm(ROW_BYTES), at(HERE)))
        listing.append(op("br:l", at(HERE), imm(end), target=begin))
    task = Task(grants=((DATA_START, ROW_BYTES * len(rows), 0),))
    image = program(*listing, op("exit:c"))
    (ended,), _ = run_tasks(maker, image, [task], memory=memory_of(rows))
    assert ended.trap is None
    return ended.stored


def _groups(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """Yield the first row of each instruction and type, and the address behind its last."""
    end = DATA_START
    for _, group in groupby(rows, key=lambda row: row[:2]):
        first, *others = group
        end += ROW_BYTES * (1 + len(others))
        yield first, end
