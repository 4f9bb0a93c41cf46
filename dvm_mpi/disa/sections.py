"""Where statements put their bytes: blocks of text, data and bss.

`.text`, `.data` and `.bss` each grow one ordinary block. Text begins at TEXT_START, data at
DATA_START, and bss on the first page after the data, whose size is only known at the end. `.org`
begins a block of its own at a given address, which lasts until the next section directive; in
`.text` it moves forward within the text instead.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import layout
from dvm_mpi.config import IMAGE_BYTES_MAX
from dvm_mpi.disa.draft import Draft
from dvm_mpi.disa.expression import Node, Unplaced, Value
from dvm_mpi.disa.source import Diagnostics, Fault, SourceLine, Span
from dvm_mpi.disa.symbols import Context
from dvm_mpi.disa.types import Type
from dvm_mpi.values import dataclass, field


class SectionKind(Enum):
    """Sections by their directive."""

    TEXT = ".text"
    DATA = ".data"
    BSS = ".bss"


#: Where the ordinary data and bss may lie.
ORDINARY_AREA: Final = layout.PROGRAM_AREAS[0]
assert ORDINARY_AREA[0] == layout.DATA_START


@dataclass(frozen=True, slots=True)
class Constants:
    """Numbers of one type, one after the other."""

    nodes: tuple[Node, ...]
    type: Type

    @property
    def size_bytes(self) -> int:
        """All bytes of the numbers."""
        return len(self.nodes) * self.type.width_bytes


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes as they are."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """The bytes' number."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Fill:
    """The same byte again and again; made only when its block is."""

    size_bytes: int
    byte: int


Content: TypeAlias = Draft | Constants | Literal | Fill


@dataclass(frozen=True, slots=True)
class Item:
    """Something at an offset of a block; its context knows the line to blame."""

    offset: int
    content: Content
    context: Context


@dataclass(slots=True, eq=False)
class Block:
    """Bytes in a row, of one section.

    `start` is None for the ordinary bss until `Sections.place`. `end_max` is the address that the
    block must not pass. `line` is where it was begun, for messages about overlaps.
    """

    kind: SectionKind
    start: int | None
    end_max: int
    line: SourceLine | None = None
    size_bytes: int = 0
    align_bytes: int = layout.PAGE_BYTES
    items: list[Item] = field(default_factory=list)

    @property
    def here(self) -> Value:
        """The address of the next byte."""
        if self.start is None:
            return Unplaced(self.size_bytes)
        return self.start + self.size_bytes

    @property
    def end(self) -> int:
        """The address after the last byte."""
        assert self.start is not None
        return self.start + self.size_bytes

    @property
    def room_bytes(self) -> int:
        """How many bytes more the block can take."""
        start = ORDINARY_AREA[0] if self.start is None else self.start
        return self.end_max - start - self.size_bytes


class Sections:
    """All blocks of one program, and the one that is being filled."""

    def __init__(self) -> None:
        end = ORDINARY_AREA[1]
        self.text = Block(SectionKind.TEXT, layout.TEXT_START, layout.TEXT_END)
        self.data = Block(SectionKind.DATA, layout.DATA_START, end)
        self.bss = Block(SectionKind.BSS, None, end)
        self.absolute: list[Block] = []
        self.current = self.text
        self._initialised_bytes = 0

    def ordinary(self, kind: SectionKind) -> Block:
        """Return the block that a section directive selects."""
        return {b.kind: b for b in (self.text, self.data, self.bss)}[kind]

    def select(self, kind: SectionKind, line: SourceLine) -> None:
        """Go on with the ordinary block of a section."""
        self.current = self.ordinary(kind)
        if self.current.line is None:
            self.current.line = line

    def block_for(self, kind: SectionKind, line: SourceLine) -> Block:
        """Return the current block if it is an `.org` block of this kind, else the ordinary one."""
        if self.current in self.absolute and self.current.kind is kind:
            return self.current
        block = self.ordinary(kind)
        if block.line is None:
            block.line = line
        return block

    def org(self, address: int, line: SourceLine, span: Span) -> None:
        """Begin a block at an address; in `.text`, move forward to it.

        Raises
        ------
        Fault
            The address lies in an area that the machine keeps for itself, or behind.
        """
        kind = self.current.kind
        if kind is SectionKind.TEXT:
            gap = address - self.text.end
            if gap < 0 or address > layout.TEXT_END:
                what = f".org {address:#x} leaves the text, which goes on at {self.text.end:#x}"
                remedy = f"use .data or .bss first, or an address below {layout.TEXT_END:#x}"
                raise Fault(span, what, remedy)
            self.reserve(self.text, gap, span)
            return
        for start, end in layout.PROGRAM_AREAS:
            if start <= address < end:
                self.current = Block(kind, address, end, line)
                self.absolute.append(self.current)
                return
        areas = " or ".join(f"{start:#x} to below {end:#x}" for start, end in layout.PROGRAM_AREAS)
        raise Fault(span, f"{address:#x} is not a program's to place", f"use {areas}")

    def put(self, block: Block, content: Content, context: Context, span: Span) -> None:
        """Append an item to a block."""
        item = Item(block.size_bytes, content, context)
        self.reserve(block, content.size_bytes, span)
        block.items.append(item)

    def reserve(self, block: Block, count: int, span: Span) -> None:
        """Append bytes that are zero.

        Raises
        ------
        Fault
            The block is full, or the image would be larger than an image file may be.
        """
        if count < 0:
            raise Fault(span, f"a size of {count} is negative", "use 0 or more")
        if count > block.room_bytes:
            what = f"{count} bytes do not fit: {block.room_bytes} are left in this area"
            raise Fault(span, what, "make it smaller, or place it with .org")
        if block.kind is not SectionKind.BSS:
            if self._initialised_bytes + count > IMAGE_BYTES_MAX:
                what = f"text and data exceed IMAGE_BYTES_MAX = {IMAGE_BYTES_MAX} bytes"
                raise Fault(span, what, "reserve large blocks in .bss, which takes no room")
            self._initialised_bytes += count
        block.size_bytes += count

    def align(self, block: Block, align_bytes: int, span: Span) -> None:
        """Advance to a multiple of a power of two."""
        base = 0 if block.start is None else block.start
        self.reserve(block, -(base + block.size_bytes) % align_bytes, span)
        block.align_bytes = max(block.align_bytes, align_bytes)

    def place(self, diagnostics: Diagnostics) -> None:
        """Give the ordinary bss its address, and refuse blocks that overlap."""
        bss = self.bss
        align = bss.align_bytes
        bss.start = -(-self.data.end // align) * align
        if bss.end > bss.end_max:
            assert bss.line is not None
            what = f"data and bss together end at {bss.end:#x}, after {bss.end_max:#x}"
            diagnostics.add(bss.line, Fault(Span(0, 0), what, "make an array smaller"))
        self._refuse_overlaps(diagnostics)

    def _refuse_overlaps(self, diagnostics: Diagnostics) -> None:
        ordinary = [self.data, self.bss]
        # Written order decides who is blamed: ordinary blocks were there first.
        order = {id(block): i for i, block in enumerate([*ordinary, *self.absolute])}
        filled = [b for b in (*ordinary, *self.absolute) if b.size_bytes]
        filled.sort(key=lambda b: (b.end - b.size_bytes, b.end))
        widest: Block | None = None
        for block in filled:
            if widest is not None and block.end - block.size_bytes < widest.end:
                other, blamed = sorted((widest, block), key=lambda b: order[id(b)])
                _report_overlap(diagnostics, blamed, other)
            if widest is None or block.end > widest.end:
                widest = block

    def reserved(self) -> NDArray[np.void]:
        """Return all that the first runner may touch: (n,) RANGE, sorted, disjoint, joined."""
        blocks = [b for b in (self.data, self.bss, *self.absolute) if b.size_bytes]
        spans = sorted((b.end - b.size_bytes, b.end) for b in blocks)
        if self.data.size_bytes and self.bss.size_bytes:
            # The gap before the page of the bss is nobody's, so it goes with the two.
            spans = sorted([*spans, (self.data.end, self.bss.end)])
        joined: list[list[int]] = []
        for start, end in spans:
            if joined and start <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], end)
            else:
                joined.append([start, end])
        return np.array([(start, end - start) for start, end in joined], dtype=layout.RANGE)


def _report_overlap(diagnostics: Diagnostics, blamed: Block, other: Block) -> None:
    assert blamed.line is not None, "only .org can make blocks overlap"
    assert blamed.start is not None
    assert other.start is not None
    where = "" if other.line is None else f", begun at {other.line.file}:{other.line.number}"
    what = (
        f"the {blamed.kind.value} block from {blamed.start:#x} to below {blamed.end:#x} overlaps "
        f"the {other.kind.value} block from {other.start:#x} to below {other.end:#x}{where}"
    )
    fault = Fault(Span(0, len(blamed.line.text)), what, "move one of them with .org")
    diagnostics.add(blamed.line, fault)
