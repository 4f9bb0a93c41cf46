"""From instructions and images to text that assembles to the same bytes.

Of an image with a line table the instructions are known, and what lies between them is data. A
flat image is swept from its first byte; what does not decode, or would be encoded in another way
(padding bits that are not zero), becomes `.byte`. Either way the text gives the same bytes back.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from dvm_mpi import layout
from dvm_mpi.disa.encoding import DecodeError, decode, encode
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.statement import RELATIVE_SUFFIX
from dvm_mpi.disa.symbols import MACHINE_CELLS, REGISTERS
from dvm_mpi.disa.table import BY_MNEMONIC, EXIT_SUFFIXES, Flag, Form
from dvm_mpi.disa.types import BY_NAME, DEFAULT, Kind, Mode, Type
from dvm_mpi.values import dataclass, field

_EXIT_NAMES: Final = {mode: suffix for suffix, mode in EXIT_SUFFIXES.items()}
_FLOAT_FORMATS: Final = {8: "<d", 4: "<f"}
_BYTES_PER_LINE: Final = 12
#: Runs of zeros that are written as `.space`.
_ZEROS: Final = re.compile(rb"\0{32,}")
#: Integers up to this size are written in decimal.
_DECIMAL_END: Final = 1 << 20
_VALUES_PER_LINE: Final = 8


@dataclass(slots=True)
class Names:
    """Names to show for addresses; cells and code are looked up apart."""

    cells: dict[int, str] = field(default_factory=dict)
    code: dict[int, str] = field(default_factory=dict)

    def cell(self, address: int) -> str:
        """Return what to write for a cell."""
        return self.cells.get(address, f"{address:#x}")

    def place(self, address: int) -> str:
        """Return what to write for a place in the text."""
        return self.code.get(address, f"{address:#x}")


#: Names that every program knows: the register cells.
REGISTER_NAMES: Final = Names({a: n for n, a in REGISTERS.items() if n in layout.REGISTER_NAMES})


# --- one instruction --------------------------------------------------------------------------
def format_instruction(instruction: Instruction, names: Names = REGISTER_NAMES) -> str:
    """Return one instruction as a line of text, without label and indentation."""
    parts = [
        _operand_text(instruction, index, operand, names)
        for index, operand in enumerate(instruction.operands)
    ]
    if instruction.target is not None:
        suffix = f":{RELATIVE_SUFFIX}" if instruction.relative else ""
        parts.append(names.place(instruction.target) + suffix)
    if instruction.number is not None:
        parts.append(f"{instruction.number:#x}")
    head = instruction.mnemonic
    if instruction.condition is not None:
        head += f":{instruction.condition}"
    if instruction.exit_mode is not None:
        head += f":{_EXIT_NAMES[instruction.exit_mode]}"
    is_mov = instruction.row.form is Form.MOV
    if instruction.types and not is_mov and instruction.types[0] != DEFAULT.name:
        head += f":{instruction.types[0]}"
    return f"{head} {', '.join(parts)}".rstrip()


def _operand_text(instruction: Instruction, index: int, operand: Operand, names: Names) -> str:
    type_ = instruction.type_of(index)
    cell = names.cell(operand.value)
    match operand.mode:
        case Mode.IMMEDIATE:
            text = _immediate_text(instruction, index, operand, names)
        case Mode.DIRECT:
            text = cell
        case Mode.INDIRECT:
            text = f"({cell})"
        case Mode.DISPLACED:
            text = f"{operand.displacement}({cell})"
    if instruction.row.form is Form.MOV and type_ is not DEFAULT:
        text += f":{type_.name}"
    return text


def _immediate_text(instruction: Instruction, index: int, operand: Operand, names: Names) -> str:
    jumps = Flag.JUMPS in instruction.row.flags and instruction.target is None
    if jumps and operand.value in names.code:
        return f"${names.code[operand.value]}"
    fixed = instruction.specs[index].width_bytes is not None
    return f"${constant_text(operand.value, DEFAULT if fixed else instruction.type_of(index))}"


def constant_text(bits: int, type_: Type) -> str:
    """Return a constant as text that has the same bits in this type."""
    if type_.kind is Kind.FLOAT:
        return _float_text(bits, type_)
    width_bits = 8 * type_.width_bytes
    value = bits
    if type_.kind is Kind.SIGNED and bits >> width_bits - 1:
        value -= 1 << width_bits
    return str(value) if abs(value) < _DECIMAL_END else f"{bits:#x}"


def _float_text(bits: int, type_: Type) -> str:
    raw = bits.to_bytes(type_.width_bytes, "little")
    (value,) = struct.unpack(_FLOAT_FORMATS[type_.width_bytes], raw)
    if math.isfinite(value):
        return repr(value)
    return f"bits({bits:#x})"


# --- bytes ------------------------------------------------------------------------------------
def _byte_lines(data: bytes) -> Iterator[str]:
    """Yield directives for bytes; long runs of zeros are short."""
    position = 0
    for zeros in _ZEROS.finditer(data):
        yield from _short_lines(data[position : zeros.start()])
        yield f"    .space {zeros.end() - zeros.start()}"
        position = zeros.end()
    yield from _short_lines(data[position:])


def _short_lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _BYTES_PER_LINE):
        piece = data[start : start + _BYTES_PER_LINE]
        yield "    .byte " + ", ".join(f"{byte:#04x}" for byte in piece)


# --- the text ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Element:
    """An instruction, or bytes that are written as bytes."""

    start: int
    end: int
    instruction: Instruction | None


def _elements(image: Image) -> list[_Element]:
    """Take the text apart without a gap."""
    end = layout.TEXT_START + len(image.text)
    if image.lines is None:
        return list(_swept(image.text))
    found: list[_Element] = []
    position = layout.TEXT_START
    starts = image.lines.addresses.tolist()
    for start, limit in pairwise([*starts, end]):
        instruction = _exact(image.text, start, limit)
        if instruction is None:
            continue
        if position < start:
            found.append(_Element(position, start, None))
        position = start + instruction.size_bytes
        found.append(_Element(start, position, instruction))
    if position < end:
        found.append(_Element(position, end, None))
    return found


def _swept(text: bytes) -> Iterator[_Element]:
    """Decode a flat image from its first byte; long runs of zeros are data, not `nop`."""
    end = layout.TEXT_START + len(text)
    zeros = {layout.TEXT_START + m.start(): m.end() - m.start() for m in _ZEROS.finditer(text)}
    position = layout.TEXT_START
    raw_from: int | None = None
    while position < end:
        instruction = None if position in zeros else _exact(text, position, end)
        if instruction is None:
            raw_from = position if raw_from is None else raw_from
            position += zeros.get(position, 1)
            continue
        if raw_from is not None:
            yield _Element(raw_from, position, None)
            raw_from = None
        yield _Element(position, position + instruction.size_bytes, instruction)
        position += instruction.size_bytes
    if raw_from is not None:
        yield _Element(raw_from, end, None)


def _exact(text: bytes, address: int, limit: int) -> Instruction | None:
    """Return the instruction at an address if its text would give these very bytes."""
    offset = address - layout.TEXT_START
    try:
        instruction = decode(text, offset, address)
    except DecodeError:
        return None
    size = instruction.size_bytes
    if address + size > limit or encode(instruction) != text[offset : offset + size]:
        return None
    return instruction


# --- images -----------------------------------------------------------------------------------
def disassemble(image: Image) -> str:
    """Return a program's text; assembled, it has the same bytes, ranges, arrays and entry."""
    return "\n".join(_Listing(image).lines()) + "\n"


@dataclass(frozen=True, slots=True)
class _Block:
    """Memory outside the text, from one section or, without data, from the bss."""

    start: int
    end: int
    data: bytes | None


class _Listing:
    """One image and the names that its text shows."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._text_end = layout.TEXT_START + len(image.text)
        self._elements = _elements(image)
        self._blocks = list(_blocks(image))
        self._arrays = {array.address: array for array in image.arrays.values()}
        #: Labels by address, in order of definition; each is written once.
        self._labels: dict[int, list[str]] = {}
        #: Names of addresses outside text and blocks, and of such that cannot be labels.
        self._equates: dict[str, int] = {}
        self._place_symbols()
        self._names = Names(dict(REGISTER_NAMES.cells), {})
        self._add_names()

    def _place_symbols(self) -> None:
        inside = {e.start for e in self._elements if e.instruction is not None}
        raw = [e for e in self._elements if e.instruction is None]
        ends = {self._text_end, *(b.end for b in self._blocks)}
        for name, address in self._image.symbols.items():
            if name in self._image.arrays or name[0] == ".":
                continue
            held = (
                address in inside
                or address in ends
                or any(e.start <= address < e.end for e in raw)
                or any(b.start <= address < b.end for b in self._blocks)
            )
            if held and name.lower() not in BY_MNEMONIC:
                self._labels.setdefault(address, []).append(name)
            else:
                self._equates[name] = address
        for element in self._elements:
            target = _jump_target(element.instruction)
            if target in inside and target not in self._labels:
                name = f"L_{target:x}"
                if name not in self._image.symbols:
                    self._labels[target] = [name]

    def _add_names(self) -> None:
        for name, address in self._equates.items():
            self._names.cells.setdefault(address, name)
        for address, array in self._arrays.items():
            self._names.cells.setdefault(address, array.name)
        for address, labels in self._labels.items():
            in_text = layout.TEXT_START <= address < layout.TEXT_END
            (self._names.code if in_text else self._names.cells).setdefault(address, labels[0])
        for name, address in MACHINE_CELLS.items():
            if name not in self._image.symbols:
                self._names.cells.setdefault(address, name)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        yield f"; {self._image.source_name}".rstrip().replace("\n", " ")
        for name, address in self._equates.items():
            yield f".equ {name}, {address:#x}"
        if self._image.entry != layout.TEXT_START:
            yield f".entry {self._names.place(self._image.entry)}"
        yield from ("", ".text")
        for element in self._elements:
            if element.instruction is None:
                offset = element.start - layout.TEXT_START
                raw = self._image.text[offset : offset + element.end - element.start]
                yield from self._raw_lines(element.start, raw)
            else:
                yield from self._label_lines(element.start)
                yield "    " + format_instruction(element.instruction, self._names)
        yield from self._label_lines(self._text_end)
        for block in self._blocks:
            yield from ("", ".bss" if block.data is None else ".data", f".org {block.start:#x}")
            yield from self._block_lines(block)

    def _label_lines(self, address: int) -> Iterator[str]:
        for name in self._labels.pop(address, ()):
            yield f"{name}:"

    def _raw_lines(self, start: int, data: bytes) -> Iterator[str]:
        """Yield bytes, with the labels that stand among them."""
        end = start + len(data)
        cuts = sorted({start, end, *(a for a in self._labels if start <= a < end)})
        for cut, following in pairwise(cuts):
            yield from self._label_lines(cut)
            yield from _byte_lines(data[cut - start : following - start])

    def _block_lines(self, block: _Block) -> Iterator[str]:
        position = block.start
        inside = [a for a in self._arrays.values() if block.start <= a.address < block.end]
        for array in sorted(inside, key=lambda a: a.address):
            yield from self._gap_lines(block, position, array.address)
            yield from self._label_lines(array.address)
            position = array.address + _array_bytes(array)
            yield from _array_lines(array, block)
        yield from self._gap_lines(block, position, block.end)
        yield from self._label_lines(block.end)

    def _gap_lines(self, block: _Block, start: int, end: int) -> Iterator[str]:
        if block.data is not None:
            yield from self._raw_lines(start, block.data[start - block.start : end - block.start])
            return
        cuts = sorted({start, end, *(a for a in self._labels if start <= a < end)})
        for cut, following in pairwise(cuts):
            yield from self._label_lines(cut)
            yield f"    .space {following - cut}"


def _blocks(image: Image) -> Iterator[_Block]:
    """Yield the sections, and what the program reserved besides, by address."""
    sections = list(image.sections)
    for row in image.reserved:
        position, end = int(row["start"]), int(row["start"]) + int(row["length"])
        while position < end:
            if sections and sections[0].start == position:
                section = sections.pop(0)
                yield _Block(position, position + len(section.data), section.data)
                position += len(section.data)
                continue
            stop = sections[0].start if sections and sections[0].start < end else end
            yield _Block(position, stop, None)
            position = stop


def _array_bytes(array: ArrayDeclaration) -> int:
    return math.prod(array.shape) * BY_NAME[array.type_name].width_bytes


def _array_lines(array: ArrayDeclaration, block: _Block) -> Iterator[str]:
    line = f".array {array.name}, {array.type_name}, {', '.join(map(str, array.shape))}"
    if block.data is None:
        yield line
        return
    type_ = BY_NAME[array.type_name]
    width = type_.width_bytes
    offset = array.address - block.start
    raw = block.data[offset : offset + _array_bytes(array)]
    values = [
        constant_text(int.from_bytes(raw[i : i + width], "little"), type_)
        for i in range(0, len(raw), width)
    ]
    rows = [
        ", ".join(values[i : i + _VALUES_PER_LINE]) for i in range(0, len(values), _VALUES_PER_LINE)
    ]
    # A backslash at its end joins a line with the next.
    yield f"{line} = \\\n        " + ", \\\n        ".join(rows)


def _jump_target(instruction: Instruction | None) -> int | None:
    """Return where an instruction may jump to, as far as it says so itself."""
    if instruction is None or Flag.JUMPS not in instruction.row.flags:
        return None
    if instruction.target is not None:
        return instruction.target
    first = instruction.operands[0]
    return first.value if first.mode is Mode.IMMEDIATE else None
