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
import struct
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

#: Headers that are kept. A program has some hundreds; what is not kept is read again.
_HEADERS_KEPT_MAX: Final = 1 << 12
#: How `struct` calls unsigned numbers, by their bytes.
_UNSIGNED: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
#: Looked up once: enumerations' members take longer to find than most of decoding.
_DISPLACED: Final = Mode.DISPLACED

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

#: Bytes of the opcode and the bit fields after it: by opcode, and of branches by condition. Of what
#: is no instruction, as many as tell that.
_HEAD_BYTES: Final = [1] * 256
for _row in TABLE:
    _is_branch = _row.form is Form.BRANCH
    _HEAD_BYTES[_row.code] = 2 if _is_branch else 1 + _ROW_LAYOUTS[_row.mnemonic].header_bytes
_BRANCH_HEAD_BYTES: Final = [2] * 16
for _condition in CONDITIONS:
    _BRANCH_HEAD_BYTES[_condition.code] = 1 + _BRANCH_LAYOUTS[_condition.name].header_bytes
_BRANCH_CODE: Final = next(row.code for row in TABLE if row.form is Form.BRANCH)
_HEAD_BYTES_MAX: Final = max(_HEAD_BYTES + _BRANCH_HEAD_BYTES)


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
@dataclass(frozen=True, slots=True)
class ValueLayout:
    """Where one operand's value lies among those of its instruction.

    `at` counts what `Header.values` unpacks; a displacement stands before its value. Of a constant
    the bits in `mask` count.
    """

    mode: Mode
    at: int
    mask: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an instruction say: everything but the values that follow them.

    `values` unpacks these from where the instruction begins: those of the operands as `operands`
    lays them out, and then the target, if there is one. Its size is that of the instruction.
    """

    head: bytes
    mnemonic: str
    condition: str | None
    types: tuple[str, ...]
    operands: tuple[ValueLayout, ...]
    has_target: bool
    relative: bool
    number: int | None
    exit_mode: ExitMode | None
    values: struct.Struct

    def target(self, values: tuple[int, ...], address: int) -> int | None:
        """Return where a branch at `address` leads, which has these values."""
        if not self.has_target:
            return None
        return (values[-1] + address) & MASK64 if self.relative else values[-1]


def header_at(buffer: Buffer, offset: int, address: int) -> Header:
    """Return what the first bytes of the instruction at `buffer[offset]` say.

    Most programs have few different ones: what is found is kept. `address` is for the message.

    Raises
    ------
    DecodeError
        The bytes are no instruction, or end inside it.
    """
    head = bytes(buffer[offset : offset + _HEAD_BYTES_MAX])
    length = _HEAD_BYTES[head[0]] if head else 1
    if len(head) > 1 and head[0] == _BRANCH_CODE:
        length = _BRANCH_HEAD_BYTES[head[1] >> 4]
    if len(head) >= length:
        try:
            header = read_header(head[:length])
        except _RefusedError as refused:
            raise DecodeError(address, refused.kind, refused.why) from None
        if offset + header.values.size <= len(buffer):
            return header
    why = "the bytes end inside the instruction"
    raise DecodeError(address, DecodeFault.TRUNCATED, why)


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
    header = header_at(buffer, offset, address)
    values = header.values.unpack_from(buffer, offset)
    operands = tuple(
        Operand(o.mode, values[o.at] & o.mask, values[o.at - 1] if o.mode is _DISPLACED else 0)
        for o in header.operands
    )
    return Instruction(
        address=address,
        size_bytes=header.values.size,
        mnemonic=header.mnemonic,
        types=header.types,
        operands=operands,
        condition=header.condition,
        target=header.target(values, address),
        relative=header.relative,
        number=header.number,
        exit_mode=header.exit_mode,
    )


class _RefusedError(ValueError):
    """A header of no instruction."""

    def __init__(self, kind: DecodeFault, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


@functools.lru_cache(_HEADERS_KEPT_MAX)
def read_header(head: bytes) -> Header:
    """Return what the header of an instruction says, of which these are all bytes."""
    row = BY_CODE.get(head[0])
    if row is None:
        raise _RefusedError(DecodeFault.OPCODE, f"{head[0]:#04x} is no opcode")
    condition = _condition_of(head[1] >> 4) if row.form is Form.BRANCH else None
    name = None if condition is None else condition.name
    layout = _layout_of(row.mnemonic, name)
    fields = _take_fields(head[1:], layout)
    types = _decode_types(fields, row.types if condition is None else condition.types)
    operands, code = _value_layouts(layout, fields, types)
    return Header(
        head=head,
        mnemonic=row.mnemonic,
        condition=name,
        types=types,
        operands=operands,
        has_target=layout.has_target,
        relative=bool(fields.get("rel", 0)),
        number=fields.get("n"),
        exit_mode=ExitMode(fields["mode"]) if "mode" in fields else None,
        values=struct.Struct(f"<{len(head)}x{code}{'Q' * layout.has_target}"),
    )


def _condition_of(code: int) -> Condition:
    condition = BY_CONDITION_CODE.get(code)
    if condition is None:
        raise _RefusedError(DecodeFault.CONDITION, f"{code} is no branch condition")
    return condition


def _take_fields(header: bytes, layout: _Layout) -> dict[str, int]:
    assert len(header) == layout.header_bytes, header
    bits = int.from_bytes(header, "big")
    left = 8 * layout.header_bytes
    fields = {}
    for name, width in layout.fields:
        left -= width
        fields[name] = bits >> left & (1 << width) - 1
    return fields


def _decode_types(fields: dict[str, int], allowed: frozenset[str]) -> tuple[str, ...]:
    if "T" in fields:
        found = [BY_ARITHMETIC_CODE.get(fields["T"])]
    else:
        found = [BY_MOV_CODE.get(fields[name]) for name in _MOV_TYPES if name in fields]
    names = []
    for type_ in found:
        if type_ is None or type_.name not in allowed:
            raise _RefusedError(DecodeFault.TYPE, "the instruction does not take this type")
        names.append(type_.name)
    return tuple(names)


def _value_layouts(
    layout: _Layout, fields: dict[str, int], types: tuple[str, ...]
) -> tuple[tuple[ValueLayout, ...], str]:
    """Return where the operands' values are, and how `struct` unpacks them."""
    operands, codes = [], ""
    for i, spec in enumerate(layout.specs):
        code = fields[f"m{i}"]
        if code > Mode.DISPLACED:
            raise _RefusedError(DecodeFault.MODE, f"{code} is no addressing mode")
        mode, mask = Mode(code), MASK64
        if mode is Mode.IMMEDIATE:
            if spec.access is Access.WRITE:
                raise _RefusedError(DecodeFault.DESTINATION, "the destination is a constant")
            type_ = _type_at(types, i)
            mask = (1 << 8 * (spec.width_bytes or type_.width_bytes)) - 1
            codes += _UNSIGNED[layout.immediate_bytes(spec, type_)]
        else:
            codes += "iQ" if mode is Mode.DISPLACED else "Q"
        operands.append(ValueLayout(mode, len(codes) - 1, mask))
    return tuple(operands), codes
