"""A program in the making: cells by purpose, labels, operands; what `hot_loops` writes with.

The cells that programs compute in lie side by side, so that a pointer, a narrow or an unaligned
access easily meets one that a loop counts in.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import BY_NAME, NUMBERS, Kind
from dvm_mpi.layout import (
    CELL_CHILD_STACK_BASE,
    CELL_ID,
    PAGE_BYTES,
    PR_END,
    PR_START,
    SR_END,
    TEXT_START,
)
from tests.engine.machine import (
    OWN_ID,
    OWN_STACK,
    STACK_BYTES,
    at,
    code,
    code_number,
    imm,
    op,
    renumbered,
    via,
)
from tests.engine.random_programs import (
    DATA,
    DATA_PAGES,
    POINTERS,
    VALUES,
    interesting_address,
    random_bits,
)

#: The cell that compilers use as the stack's pointer.
STACK_POINTER: Final = 0x2_0000_0008
#: Behind the values: what loops count in.
COUNTERS: Final = tuple(0x2_0000_0040 + 8 * i for i in range(6))
LIMITS: Final = tuple(0x2_0000_0140 + 8 * i for i in range(4))
LINKS: Final = tuple(0x2_0000_0160 + 8 * i for i in range(3))
SCRATCH: Final = tuple(0x2_0000_0180 + 8 * i for i in range(3))
#: One more for values of each type, in programs whose cells hold one type only.
TYPED: Final = {name: 0x2_0000_0200 + 8 * i for i, name in enumerate(sorted(BY_NAME))}
STRICT_SHARE: Final = 0.6
#: Cells that lie on two pages that instructions name, and on one of their own.
ODD_CELLS: Final = (0x2_0000_0FFC, 0x2_0000_1FF9, 0x3_0000_0000)
#: Tables of addresses: private, and shared.
TABLES: Final = (0x2_0000_3000, DATA + 5 * PAGE_BYTES + 1024)
#: Shared cells that hold bounds of loops.
BOUNDS: Final = DATA + 5 * PAGE_BYTES + 512
#: Cells for numbers that are computed side by side, the last for what is in between.
SUMS: Final = tuple(0x2_0000_0280 + 8 * i for i in range(10))
#: What a loop uses whose pointer goes anywhere: counter, in between, pointer, sum.
ROAMING: Final = tuple(0x2_0000_0300 + 8 * i for i in range(4))
#: By type, what a row of numbers is added to by: a factor, and a product.
ROW_CELLS: Final = {
    name: (0x2_0000_0340 + 16 * i, 0x2_0000_0348 + 16 * i)
    for i, name in enumerate(["fd", "fs", "sq", "ub"])
}
#: What differs between the runners of a program: words that the creator left on the stack.
INPUTS: Final = OWN_STACK + 64
#: The cells that they are loaded to: a number of turns, one more, an address, a value.
INPUT_CELLS: Final = tuple(0x2_0000_01A0 + 8 * i for i in range(4))
#: Where a program leaves its cells at its end, on its own status page.
LEFT_AT: Final = 1024
#: Instructions before and after which no label is put.
CODE_LENGTH_MAX: Final = 240

#: How likely a pointer leads to an edge, where most programs end.
EDGE_SHARE: Final = 0.09
STRIDES: Final = (
    8, 8, 8, 8, 8, 4, 4, 4, 2, 1, 1, 1, 0, -8, -8, -4, -1, 3, 16, 24, 12, 7, 4096, 4104, -4096,
)  # fmt: skip
#: NaNs, quiet and signalling, with payloads, of both signs; denormals; both zeros.
ODD_DOUBLES: Final = (
    0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000, 0x7FF8_0000_0000_1234, 0xFFFC_DEAD_BEEF_0001,
    0x7FF0_0000_0000_0001, 0xFFF0_0000_0000_0400, 0x7FF4_0000_2000_0000, 0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000, 0x8000_0000_0000_0000, 0x0000_0000_0000_0001, 0x800F_FFFF_FFFF_FFFF,
    0x3690_0000_0000_0000, 0x47EF_FFFF_F000_0000, 0x43E0_0000_0000_0000, 0xC3E0_0000_0000_0001,
)  # fmt: skip
ODD_SINGLES: Final = (
    0x7FC0_0000, 0xFFC0_0000, 0x7FC0_1234, 0x7F80_0001, 0xFF80_2000, 0x7F80_0000, 0xFF80_0000,
    0x8000_0000, 0x0000_0001, 0x807F_FFFF, 0x4F00_0000, 0xCF00_0001,
)  # fmt: skip


def bits_of(rng: random.Random, type_name: str) -> int:
    """Draw a value of a type: odd ones often, small ones mostly."""
    kind = BY_NAME[type_name]
    if kind.kind is Kind.FLOAT:
        if rng.random() < 0.25:
            return rng.choice(ODD_DOUBLES if kind.width_bytes == 8 else ODD_SINGLES)
        if rng.random() < 0.6:
            value = rng.choice([1.5, -0.25, 3.0, rng.uniform(-100, 100)])
            form = "<d" if kind.width_bytes == 8 else "<f"
            return int.from_bytes(struct.pack(form, value), "little")
    elif rng.random() < 0.5:
        return rng.randrange(-20, 200) & (1 << 8 * kind.width_bytes) - 1
    return random_bits(rng, type_name)


@dataclass
class Loop:
    """A loop that is being written: its pointers, where it is left, where its next turn begins."""

    counter: int
    counter_type: str
    pointers: list[int]
    end: int
    onward: int


@dataclass
class Draft:
    """The instructions so far. Targets and `code` operands are labels until `finished`."""

    rng: random.Random
    listing: list[Instruction] = field(default_factory=list)
    #: Loops around what is written next, the outermost first.
    loops: list[Loop] = field(default_factory=list)
    #: Functions that are called and not written yet: label, whether it calls itself.
    functions: list[tuple[int, bool]] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)
    _pointers: int = 0
    _tables: int = 0

    #: Whether every value cell holds one type only: compilers do so, and such cells live in
    #: registers.
    is_strict: bool = False

    def __post_init__(self) -> None:
        self.is_strict = self.chance(STRICT_SHARE)
        common = ["sq", "sq", "fd", "fd", "fs", self.rng.choice(sorted(NUMBERS))]
        #: What each value cell mostly holds.
        self.types = dict(zip(VALUES, common, strict=True))
        if self.is_strict:
            self.types |= {cell: name for name, cell in TYPED.items()}

    # --- instructions and labels --------------------------------------------------------------
    def put(self, mnemonic: str, *operands: Operand, types: str = "sq", **fields: Any) -> None:
        """Write one instruction; `target` is a label."""
        if mnemonic.startswith("br:") and mnemonic != "br:ji":
            fields["relative"] = self.rng.random() < 0.5
        self.listing.append(op(mnemonic, *operands, types=types, **fields))

    def label(self) -> int:
        """Return a label that has no place yet."""
        self._places.append(-1)
        return len(self._places) - 1

    def place(self, label: int) -> None:
        """Let a label be where the next instruction comes."""
        assert self._places[label] < 0, "a label has one place"
        self._places[label] = len(self.listing)

    def here(self) -> int:
        """Return a label at the next instruction."""
        label = self.label()
        self.place(label)
        return label

    @property
    def is_long(self) -> bool:
        """Whether no more should be added than what must come."""
        return len(self.listing) > CODE_LENGTH_MAX // 2

    def finished(self) -> list[Instruction]:
        """Return the instructions with their targets counted."""
        assert min(self._places, default=0) >= 0, "every label has a place"

        def led(operand: Operand) -> Operand:
            label = code_number(operand)
            return operand if label is None else renumbered(operand, self._places[label])

        return [
            replace(
                i,
                operands=tuple(map(led, i.operands)),
                target=None if i.target is None else self._places[i.target],
            )
            for i in self.listing
        ]

    # --- cells --------------------------------------------------------------------------------
    def chance(self, share: float) -> bool:
        """Draw yes or no."""
        return self.rng.random() < share

    def value(self, type_name: str) -> int:
        """Return a cell for values of a type: mostly one that holds such."""
        fitting = [cell for cell, name in self.types.items() if name == type_name]
        is_kept = self.is_strict or self.chance(0.7)
        return self.rng.choice(fitting if fitting and is_kept else VALUES)

    def next_pointer(self) -> int:
        """Return a pointer cell; all are used in turn."""
        self._pointers += 1
        return POINTERS[self._pointers % len(POINTERS)]

    def next_table(self) -> int:
        """Return room for a table of four addresses."""
        self._tables += 1
        return self.rng.choice(TABLES) + 32 * (self._tables % 8)

    def pointee(self, stride: int, trips: int, edge_share: float = EDGE_SHARE) -> int:
        """Return where a pointer starts that then moves `trips` strides."""
        rng = self.rng
        span = abs(stride) * trips
        if span >= 3 * PAGE_BYTES:
            # Only some of the steps are within: the rest traps, or nothing is left to chance.
            span = 3 * PAGE_BYTES if self.chance(0.3) else 0
        good = [
            DATA + 8 * rng.randrange(16),
            DATA + PAGE_BYTES * rng.randrange(3) + rng.randrange(256),
            DATA + PAGE_BYTES - 8 * rng.randrange(1, 40),
            DATA + PAGE_BYTES - rng.randrange(1, 200),
            OWN_STACK + 128 + 8 * rng.randrange(32),
            PR_START + 5 * PAGE_BYTES + rng.randrange(64),
            0x2_0000_4000 + 8 * rng.randrange(8),
        ]
        if rng.random() >= edge_share:
            return rng.choice(good) + (span if stride < 0 else 0)
        edges = [
            *(rng.choice(cells) + rng.randrange(-8, 9) for cells in self._near()),
            *(DATA + PAGE_BYTES * k - rng.randrange(9) for k in range(1, DATA_PAGES + 1)),
            DATA + (DATA_PAGES + 1) * PAGE_BYTES - rng.randrange(1, 64),
            DATA - rng.randrange(64), OWN_ID + rng.randrange(64),
            OWN_STACK + STACK_BYTES - rng.randrange(64), OWN_STACK + rng.randrange(64),
            PR_END - rng.randrange(1, 200), PR_START + PAGE_BYTES - rng.randrange(64),
            SR_END - rng.randrange(1, 200), TEXT_START + rng.randrange(64),
            (1 << 64) - rng.randrange(1, 100), (1 << 63) - rng.randrange(100),
            PR_START - rng.randrange(1, 64), CELL_ID, interesting_address(rng, 0.5),
        ]  # fmt: skip
        # Often it comes there when the loop is hot.
        turns = rng.randrange(trips + 1) if self.chance(0.75) else 0
        return rng.choice(edges) - stride * turns & (1 << 64) - 1

    def _near(self) -> list[tuple[int, ...]]:
        """Return the cells that pointers should not lead to, twice those of the loop itself."""
        inner = self.loops[-1:]
        own = [(loop.counter, *loop.pointers) for loop in inner]
        return [tuple(VALUES), COUNTERS, tuple(POINTERS), LIMITS, LINKS, *own, *own]

    # --- operands -----------------------------------------------------------------------------
    def access(self, type_name: str) -> Operand:
        """Return an operand through a pointer of a loop around, or through any."""
        rng = self.rng
        pointers = [p for loop in self.loops[-2:] for p in loop.pointers]
        pointer = rng.choice(pointers if pointers and self.chance(0.95) else POINTERS)
        width = BY_NAME[type_name].width_bytes
        if self.chance(0.4):
            return via(pointer)
        return via(pointer, rng.choice([0, width, width, 2 * width, -width, 1, 8, 64, 100]))

    def cell_or_constant(self, type_name: str) -> Operand:
        """Return an operand that no pointer leads to."""
        if self.chance(0.25):
            return imm(bits_of(self.rng, type_name))
        return at(self.value(type_name))

    def source(self, type_name: str) -> Operand:
        """Return an operand to load."""
        odd = 0.1 if self.is_strict else 2
        counter = 4 if type_name in {"sq", "uq"} or not self.is_strict else 0
        kinds = {"access": 40, "value": 35, "constant": 18, "counter": counter, "odd": odd,
                 "direct": 2, "stack": 1, "child": 0.3}  # fmt: skip
        kind = self.rng.choices(list(kinds), weights=list(kinds.values()))[0]
        if kind == "constant":
            return imm(bits_of(self.rng, type_name))
        return self._cell(kind, type_name)

    def target(self, type_name: str) -> Operand:
        """Return an operand to store to."""
        odd = 0.1 if self.is_strict else 3
        kinds = {"access": 38, "value": 56, "odd": odd, "direct": 2, "counter": 0.2 * odd,
                 "stack": 1, "child": 0.3}  # fmt: skip
        kind = self.rng.choices(list(kinds), weights=list(kinds.values()))[0]
        return self._cell(kind, type_name)

    def _cell(self, kind: str, type_name: str) -> Operand:
        rng = self.rng
        if kind == "access":
            return self.access(type_name)
        if kind in {"stack", "child"}:
            child = via(CELL_CHILD_STACK_BASE, rng.choice([0, 8, 100, 4090]))
            own = [via(STACK_POINTER, -32), at(OWN_STACK + 8 * rng.randrange(40))]
            return child if kind == "child" else rng.choice(own)
        if kind == "counter" and self.loops:
            cell = rng.choice([self.loops[-1].counter, *self.loops[-1].pointers])
            return at(cell + (0 if self.is_strict else rng.choice([0, 0, 0, 1, 4])))
        if kind == "odd":
            # Parts of other cells, cells on two pages, cells that overlap.
            beside = rng.choice(VALUES) + rng.choice([1, 2, 4, -1, -4])
            return at(rng.choice([beside, beside, *ODD_CELLS]))
        page = DATA + PAGE_BYTES * rng.randrange(2)
        near_its_start = page - 8 * rng.randrange(3) + rng.randrange(9)
        return at(near_its_start if kind == "direct" else self.value(type_name))

    def held(self, value: int, type_name: str) -> Operand:
        """Return an operand with a value that something before the loop puts there."""
        kind = self.rng.choices(["constant", "cell", "shared", "pointed"], [45, 33, 15, 7])[0]
        constant = imm(value)
        if kind == "constant":
            return constant
        if kind == "cell":
            target = at(self.rng.choice(LIMITS))
        elif kind == "shared":
            target = at(BOUNDS + 8 * self.rng.randrange(4))
        else:
            pointer = self.next_pointer()
            self.put("mov", imm(BOUNDS + 64 + self.rng.randrange(8)), at(pointer))
            target = via(pointer)
        self.put("mov", constant, target, types=type_name)
        return target

    def address(self, label: int, share: float = 0.01) -> Operand:
        """Return the address of a label, rarely one within the instruction there."""
        return code(label, self.rng.choice([1, 2, 5]) if self.chance(share) else 0)
