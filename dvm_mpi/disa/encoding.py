"""Instructions as bytes: `encode`, `decode`, and the sizes that the assembler plans with.

The header of each instruction is described once, by the bit fields in `table.Form` and
`table.Shape`; this module parses those descriptions and packs or unpacks what they say.

What the layouts leave open is not checked: padding bits, and the high bytes of an eight-byte
immediate whose type is narrower, are written as zero and ignored when read. Images from
elsewhere may hold anything there and mean the same. What the layouts do define is checked:
unknown opcodes, conditions, modes and types, types that the row does not take, and constants
as destinations do not decode.

The invariant to remember: `decode(encode(i)) == i` for every instruction of the table.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeAlias

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import (
    BY_CODE,
    BY_CONDITION_CODE,
    CONDITIONS,
    TABLE,
    Access,
    Condition,
    ExitMode,
    Form,
    OperandSpec,
    Row,
    Shape,
)
from dvm_mpi.disa.types import BY_ARITHMETIC_CODE, BY_MOV_CODE, BY_NAME, DEFAULT, Mode, Type
from dvm_mpi.values import dataclass

#: Width of an address, a branch target and a wide immediate.
QUAD_BYTES: Final = 8
DISPLACEMENT_BYTES: Final = 4
MASK64: Final = (1 << 64) - 1

#: Forms whose immediates take eight bytes whatever their type.
WIDE_IMMEDIATE_FORMS: Final = frozenset({Form.NEWR, Form.BRANCH, Form.STRCMP, Form.LINK})

Buffer: TypeAlias = bytes | bytearray | memoryview


class DecodeFault(Enum):
    """Why bytes are no instruction."""

    OPCODE = "opcode"
    CONDITION = "condition"
    MODE = "mode"
    TYPE = "type"
    DESTINATION = "destination"
    TRUNCATED = "truncated"


class DecodeError(ValueError):
    """Bytes that are no instruction; `address` is where the instruction would begin."""

    def __init__(self, address: int, kind: DecodeFault, why: str) -> None:
        super().__init__(f"no instruction at {address:#x}: {why}")
        self.address = address
        self.kind = kind
        self.why = why


@dataclass(frozen=True, slots=True)
class _Layout:
    """The bit fields after the opcode byte, and the operands that follow them.

    `fields` are (name, width) from the most significant bit, `header_bytes` in all; padding is
    named "0".
    """

    fields: tuple[tuple[str, int], ...]
    header_bytes: int
    specs: tuple[OperandSpec, ...]
    has_target: bool
    wide_immediates: bool

    def immediate_bytes(self, spec: OperandSpec, type_: Type) -> int:
        """Return the bytes that a constant takes in the encoding."""
        return QUAD_BYTES if self.wide_immediates else spec.width_bytes or type_.width_bytes


def _fields(text: str) -> tuple[tuple[tuple[str, int], ...], int]:
    """Parse `T:3 m0:3 0000` (bars between bytes are for the eye); return the bytes as well."""
    parsed = []
    for word in text.replace("|", " ").split():
        name, _, width = word.partition(":")
        parsed.append((name, int(width)) if width else ("0", len(word)))
    bits = sum(width for _, width in parsed)
    assert bits % 8 == 0, text
    return tuple(parsed), bits // 8


def _row_layout(row: Row) -> _Layout:
    _, _, header = row.form.value.partition("|")
    specs = tuple(s for s in row.operands if s.access in {Access.READ, Access.WRITE})
    is_wide = row.form in WIDE_IMMEDIATE_FORMS
    return _Layout(*_fields(header), specs, has_target=False, wide_immediates=is_wide)


def _branch_layout(condition: Condition) -> _Layout:
    # The bytes after the last bar of a shape are operands, which `condition.operands` also lists.
    header, _, _ = condition.shape.value.rpartition("|")
    specs = tuple(s for s in condition.operands if s.access is Access.READ)
    has_target = any(s.access is Access.TARGET for s in condition.operands)
    is_wide = Form.BRANCH in WIDE_IMMEDIATE_FORMS
    return _Layout(
        *_fields("cc:4 " + header), specs, has_target=has_target, wide_immediates=is_wide
    )


_ROW_LAYOUTS: Final = {r.mnemonic: _row_layout(r) for r in TABLE if r.form is not Form.BRANCH}
_BRANCH_LAYOUTS: Final = {c.name: _branch_layout(c) for c in CONDITIONS}
assert {c.shape for c in CONDITIONS} == set(Shape), "every shape has a layout"

_MOV_TYPES: Final = ("t0", "t1")


def _layout_of(mnemonic: str, condition: str | None) -> _Layout:
    return _ROW_LAYOUTS[mnemonic] if condition is None else _BRANCH_LAYOUTS[condition]


def _type_at(types: Sequence[str], index: int) -> Type:
    return BY_NAME[types[min(index, len(types) - 1)]] if types else DEFAULT


def operand_bytes(mode: Mode, immediate_bytes: int) -> int:
    """Return the encoded size of an operand whose constant would take `immediate_bytes`."""
    match mode:
        case Mode.IMMEDIATE:
            return immediate_bytes
        case Mode.DISPLACED:
            return DISPLACEMENT_BYTES + QUAD_BYTES
        case _:
            return QUAD_BYTES


@functools.cache
def encoded_size(
    mnemonic: str, types: tuple[str, ...], modes: tuple[Mode, ...], condition: str | None = None
) -> int:
    """Return the size in bytes of an instruction of which only the operands' modes are known."""
    layout = _layout_of(mnemonic, condition)
    size = 1 + layout.header_bytes + QUAD_BYTES * layout.has_target
    for i, (spec, mode) in enumerate(zip(layout.specs, modes, strict=True)):
        size += operand_bytes(mode, layout.immediate_bytes(spec, _type_at(types, i)))
    return size


def has_type_field(mnemonic: str, condition: str | None = None) -> bool:
    """Return whether the encoding carries a type: `br:j` and `br:ji` do not."""
    names = {name for name, _ in _layout_of(mnemonic, condition).fields}
    return bool(names & {"T", *_MOV_TYPES})


# --- to bytes ---------------------------------------------------------------------------------
def encode(instruction: Instruction) -> bytes:
    """Return the bytes of an instruction; `size_bytes` need not be right yet.

    Values must fit their widths: the assembler has checked them, so a misfit is our fault.
    """
    layout = _layout_of(instruction.mnemonic, instruction.condition)
    values = _header_values(instruction)
    header = 0
    for name, width in layout.fields:
        value = values[name]
        assert 0 <= value < 1 << width, f"{instruction.mnemonic}: {name} = {value}"
        header = header << width | value
    parts = [bytes((instruction.row.code,)), header.to_bytes(layout.header_bytes, "big")]
    assert len(instruction.operands) == len(layout.specs), instruction
    for i, (spec, operand) in enumerate(zip(layout.specs, instruction.operands, strict=True)):
        parts.append(_operand_to_bytes(layout, spec, instruction.type_of(i), operand))
    if layout.has_target:
        assert instruction.target is not None, instruction
        base = instruction.address if instruction.relative else 0
        parts.append(((instruction.target - base) & MASK64).to_bytes(QUAD_BYTES, "little"))
    return b"".join(parts)


def _header_values(instruction: Instruction) -> dict[str, int]:
    """Return what the fields of the header hold, by their names in the table."""
    values = {"0": 0, "rel": int(instruction.relative)}
    values |= {f"m{i}": int(operand.mode) for i, operand in enumerate(instruction.operands)}
    types = [BY_NAME[name] for name in instruction.types]
    if types and types[0].arithmetic_code is not None:
        values["T"] = types[0].arithmetic_code
    values |= {name: type_.mov_code for name, type_ in zip(_MOV_TYPES, types, strict=False)}
    if instruction.branch is not None:
        values["cc"] = instruction.branch.code
    if instruction.exit_mode is not None:
        values["mode"] = int(instruction.exit_mode)
    if instruction.number is not None:
        values["n"] = instruction.number
    return values


def _operand_to_bytes(layout: _Layout, spec: OperandSpec, type_: Type, operand: Operand) -> bytes:
    if operand.mode is Mode.IMMEDIATE:
        assert spec.access is Access.READ, "a destination is a cell"
        width = spec.width_bytes or type_.width_bytes
        assert operand.value < 1 << 8 * width, operand
        return operand.value.to_bytes(layout.immediate_bytes(spec, type_), "little")
    cell = operand.value.to_bytes(QUAD_BYTES, "little")
    if operand.mode is Mode.DISPLACED:
        return operand.displacement.to_bytes(DISPLACEMENT_BYTES, "little", signed=True) + cell
    return cell


# --- from bytes -------------------------------------------------------------------------------
class _Reader:
    """Takes bytes of one instruction in order; raises DecodeError where they end too early."""

    __slots__ = ("address", "buffer", "position")

    def __init__(self, buffer: Buffer, offset: int, address: int) -> None:
        self.buffer = buffer
        self.position = offset
        self.address = address

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[self.position : self.position + count])
        if len(taken) < count:
            raise self.error(DecodeFault.TRUNCATED, "the bytes end inside the instruction")
        self.position += count
        return taken

    def quad(self) -> int:
        return int.from_bytes(self.take(QUAD_BYTES), "little")

    def error(self, kind: DecodeFault, why: str) -> DecodeError:
        return DecodeError(self.address, kind, why)


def decode(buffer: Buffer, offset: int, address: int) -> Instruction:
    """Return the instruction that begins at `buffer[offset]`, as it stands at `address`.

    Raises
    ------
    DecodeError
        The bytes are no instruction, or end inside it.
    """
    assert offset >= 0, offset
    # Addresses often come out of arrays, whose integers would overflow in relative targets.
    offset, address = int(offset), int(address)
    reader = _Reader(buffer, offset, address)
    code = reader.take(1)[0]
    row = BY_CODE.get(code)
    if row is None:
        raise reader.error(DecodeFault.OPCODE, f"{code:#04x} is no opcode")
    condition = _peek_condition(reader) if row.form is Form.BRANCH else None
    name = None if condition is None else condition.name
    layout = _layout_of(row.mnemonic, name)
    header = _take_header(reader, layout)
    types = _decode_types(reader, header, row.types if condition is None else condition.types)
    operands = tuple(
        _take_operand(reader, layout, spec, _type_at(types, i), header[f"m{i}"])
        for i, spec in enumerate(layout.specs)
    )
    relative = bool(header.get("rel", 0))
    target = None
    if layout.has_target:
        target = (reader.quad() + (address if relative else 0)) & MASK64
    return Instruction(
        address=address,
        size_bytes=reader.position - offset,
        mnemonic=row.mnemonic,
        types=types,
        operands=operands,
        condition=name,
        target=target,
        relative=relative,
        number=header.get("n"),
        exit_mode=ExitMode(header["mode"]) if "mode" in header else None,
    )


def _peek_condition(reader: _Reader) -> Condition:
    code = reader.take(1)[0] >> 4
    reader.position -= 1
    condition = BY_CONDITION_CODE.get(code)
    if condition is None:
        raise reader.error(DecodeFault.CONDITION, f"{code} is no branch condition")
    return condition


def _take_header(reader: _Reader, layout: _Layout) -> dict[str, int]:
    bits = int.from_bytes(reader.take(layout.header_bytes), "big")
    left = 8 * layout.header_bytes
    header = {}
    for name, width in layout.fields:
        left -= width
        header[name] = bits >> left & (1 << width) - 1
    return header


def _decode_types(
    reader: _Reader, header: dict[str, int], allowed: frozenset[str]
) -> tuple[str, ...]:
    if "T" in header:
        found = [BY_ARITHMETIC_CODE.get(header["T"])]
    else:
        found = [BY_MOV_CODE.get(header[name]) for name in _MOV_TYPES if name in header]
    names = []
    for type_ in found:
        if type_ is None or type_.name not in allowed:
            raise reader.error(DecodeFault.TYPE, "the instruction does not take this type")
        names.append(type_.name)
    return tuple(names)


def _take_operand(
    reader: _Reader, layout: _Layout, spec: OperandSpec, type_: Type, mode_code: int
) -> Operand:
    if mode_code > Mode.DISPLACED:
        raise reader.error(DecodeFault.MODE, f"{mode_code} is no addressing mode")
    mode = Mode(mode_code)
    if mode is Mode.IMMEDIATE:
        if spec.access is Access.WRITE:
            raise reader.error(DecodeFault.DESTINATION, "the destination is a constant")
        raw = int.from_bytes(reader.take(layout.immediate_bytes(spec, type_)), "little")
        width = spec.width_bytes or type_.width_bytes
        return Operand(mode, raw & (1 << 8 * width) - 1)
    displacement = 0
    if mode is Mode.DISPLACED:
        displacement = int.from_bytes(reader.take(DISPLACEMENT_BYTES), "little", signed=True)
    return Operand(mode, reader.quad(), displacement)
