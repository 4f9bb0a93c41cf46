"""A maker that knows one loop: what the translator's process imports in tests.

The loop is `add counter, 1`, `add sum, counter`, `br:l counter, limit`, as `LOOP` lays it out.
Where the program's text has the word that `GRIEF` names, translating it goes wrong.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.unit_file import SYMBOL
from dvm_mpi.layout import CELL_REGISTERS, PAGE_SHIFT
from tests.engine import units
from tests.engine.machine import at, imm, op, program

COUNTER, SUM = CELL_REGISTERS + 16, CELL_REGISTERS + 24
#: Numbers that programs of tests move into a cell: what the maker does about such a program.
FAILS, DIES = 0x11BAD, 0x11DEAD


@dataclass(frozen=True)
class Loop:
    entries: tuple[int, ...]
    addresses: tuple[int, ...]
    static_pages: tuple[int, ...]


def looping(limit: int, *before) -> Image:
    """Return a program that has the loop, and tells the sum."""
    return program(
        *before,
        op("add", at(COUNTER), imm(1), at(COUNTER)),
        op("add", at(SUM), at(COUNTER), at(SUM)),
        op("br:l", at(COUNTER), imm(limit), target=len(before)),
        op("mov", at(SUM), at(0x4_4000_0000)),
        op("exit:c"),
    )


class LoopMaker:
    def __init__(self, image: Image, static_pages: Iterable[int], notes_loads: bool) -> None:
        assert image.lines is not None
        assert COUNTER >> PAGE_SHIFT in set(static_pages)
        self._image = image
        self._pcs: list[int] = image.lines.addresses.tolist()[-5:-1]

    def around(self, pc: int) -> Loop | None:
        return self._loop if pc in self._pcs[:3] else None

    def all(self) -> Sequence[Loop]:
        return [self._loop]

    @property
    def _loop(self) -> Loop:
        pcs = self._pcs
        return Loop((pcs[0], pcs[2]), tuple(pcs[:3]), (COUNTER >> PAGE_SHIFT,))

    def ways_out(self, unit: Loop) -> Sequence[int]:
        return self._pcs

    def make(self, unit: Loop) -> bytes:
        text = self._image.text
        if FAILS.to_bytes(8, "little") in text:
            raise ValueError("this one cannot be translated")
        if DIES.to_bytes(8, "little") in text:
            os.kill(os.getpid(), signal.SIGKILL)
        at_branch = text[: unit.addresses[2] - self._image.entry]
        limit = _limit(self._image, len(at_branch))
        return units.object_of(units.loop_assembly(SYMBOL, COUNTER, SUM, limit, self._pcs))


def _limit(image: Image, offset: int) -> int:
    from dvm_mpi.disa.encoding import decode  # noqa: PLC0415

    return decode(image.text, offset, image.entry + offset).operands[1].value


maker = LoopMaker
