"""Writes flat images from the byte layouts of the manual, and from nothing else.

Independent of the package's encoder on purpose: modes, types, opcodes and field widths are typed
here once more, as the toolchains that made such images knew them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

START = 0x4_0000_0000
MASK64 = (1 << 64) - 1

# Arithmetic type codes (3 bits) and mov type codes (4 bits).
SQ, FD, FS, SD, UQ, SB, UB, UD = 0, 1, 2, 3, 4, 5, 6, 7
MOV = {"sq": 0, "sd": 1, "sb": 2, "sw": 3, "uq": 4, "ud": 5, "ub": 6, "uw": 7, "fd": 8, "fs": 9}
MOV_BYTES = {"sq": 8, "sd": 4, "sb": 1, "sw": 2, "uq": 8, "ud": 4, "ub": 1, "uw": 2,
             "fd": 8, "fs": 4}  # fmt: skip
TYPE_BYTES = (8, 8, 4, 4, 8, 1, 1, 4)

ADD, SUB, MUL, DIV = 1, 2, 3, 4
J, JI, LE, L, E, NE, Z, NZ, SL = range(9)
COMMIT, ABORT, COMMIT_DELETE, ABORT_DELETE = range(4)


class Operand(NamedTuple):
    """An addressing mode, and a value or the name of a place in the text."""

    mode: int
    value: int | str
    displacement: int = 0


def imm(value: int | str) -> Operand:
    return Operand(0, value)


def at(address: int) -> Operand:
    return Operand(1, address)


def via(cell: int) -> Operand:
    return Operand(2, cell)


def off(displacement: int, cell: int) -> Operand:
    return Operand(3, cell, displacement)


def pack_bits(*fields: tuple[int, int]) -> bytes:
    """Pack `(value, width)` fields, the first one into the most significant bits."""
    number = width = 0
    for value, bits in fields:
        assert 0 <= value < 1 << bits
        number = number << bits | value
        width += bits
    assert width % 8 == 0
    return number.to_bytes(width // 8, "big")


class Flat:
    """A flat image that grows at its end; places may be named before they are known."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._places: dict[str, int] = {}
        #: Eight-byte fields to fill in: offset, name of the place, what to subtract.
        self._open: list[tuple[int, str, int]] = []

    @property
    def here(self) -> int:
        """Address of the next byte."""
        return START + len(self._bytes)

    def mark(self, name: str) -> None:
        """Name the place here."""
        self._places[name] = self.here

    def raw(self, data: bytes) -> None:
        """Append bytes that are no instruction, or one written out by hand."""
        self._bytes += data

    def finish(self) -> bytes:
        """Return the image, all places filled in."""
        for offset, name, origin in self._open:
            target = (self._places[name] - origin) & MASK64
            self._bytes[offset : offset + 8] = target.to_bytes(8, "little")
        return bytes(self._bytes)

    def quad(self, value: int | str, origin: int = 0) -> None:
        """Append eight bytes: a number, or the address of a place."""
        if isinstance(value, str):
            self._open.append((len(self._bytes), value, origin))
            value = origin
        self._bytes += ((value - origin) & MASK64).to_bytes(8, "little")

    def _operands(self, operands: Iterable[tuple[Operand, int]]) -> None:
        for operand, width in operands:
            if operand.mode == 3:
                self._bytes += operand.displacement.to_bytes(4, "little", signed=True)
            if operand.mode or width == 8:
                self.quad(operand.value)
            else:
                assert isinstance(operand.value, int)
                self._bytes += (operand.value & (1 << 8 * width) - 1).to_bytes(width, "little")

    # --- instructions --------------------------------------------------------------------------
    def mov(self, source: Operand, target: Operand, types: str = "sq sq") -> None:
        first, second = types.split()
        self.raw(b"\x0b" + pack_bits((MOV[first], 4), (MOV[second], 4)))
        self.raw(pack_bits((source.mode, 3), (target.mode, 3), (0, 2)))
        self._operands([(source, MOV_BYTES[first]), (target, 8)])

    def arith(self, code: int, a: Operand, b: Operand, d: Operand, kind: int = SQ) -> None:
        self.raw(bytes([code]))
        self.raw(pack_bits((kind, 3), (a.mode, 3), (b.mode, 3), (d.mode, 3), (0, 4)))
        width = TYPE_BYTES[kind]
        self._operands([(a, width), (b, width), (d, 8)])

    def jump(self, target: int | str, *, relative: bool = False) -> None:
        origin = self.here if relative else 0
        self.raw(b"\x07" + pack_bits((J, 4), (relative, 1), (0, 3)))
        self.quad(target, origin)

    def jump_to(self, operand: Operand) -> None:
        self.raw(b"\x07" + pack_bits((JI, 4), (operand.mode, 3), (0, 1)))
        self._operands([(operand, 8)])

    def branch(
        self, condition: int, a: Operand, b: Operand, target: int | str, kind: int = SQ,
        *, relative: bool = False,
    ) -> None:  # fmt: skip
        origin = self.here if relative else 0
        fields = (condition, 4), (kind, 3), (a.mode, 3), (b.mode, 3), (relative, 1), (0, 2)
        self.raw(b"\x07" + pack_bits(*fields))
        self._operands([(a, 8), (b, 8)])
        self.quad(target, origin)

    def branch_zero(self, condition: int, a: Operand, target: int | str, kind: int = SQ) -> None:
        self.raw(b"\x07" + pack_bits((condition, 4), (kind, 3), (a.mode, 3), (0, 1), (0, 5)))
        self._operands([(a, 8)])
        self.quad(target)

    def newr(self, stack: Operand, heap: Operand, watched: Operand, entry: Operand) -> None:
        operands = (stack, heap, watched, entry)
        self.raw(b"\x05" + pack_bits(*((o.mode, 3) for o in operands), (0, 4)))
        self._operands((o, 8) for o in operands)

    def strcmp(self, *operands: Operand) -> None:
        self.raw(b"\x0e" + pack_bits(*((o.mode, 3) for o in operands), (0, 1)))
        self._operands((o, 8) for o in operands)

    def link(self, target: Operand, link: Operand) -> None:
        self.raw(b"\x0d" + pack_bits((target.mode, 3), (link.mode, 3), (0, 2)))
        self._operands([(target, 8), (link, 8)])

    def call(self) -> None:
        self.raw(b"\x0c\x80")

    def exit(self, mode: int = COMMIT) -> None:
        self.raw(b"\x06" + pack_bits((mode, 2), (0, 6)))
