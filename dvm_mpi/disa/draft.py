"""Instructions whose values are not known yet.

`draft_instruction` reads a statement by the table and knows the encoded size at once, since that
depends on modes and types only; `Draft.settle` puts in the values when every label has one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from dvm_mpi.disa.encoding import encoded_size, has_type_field
from dvm_mpi.disa.expression import Bits, Cursor, Node, Scope, Unplaced, Value, unplaced_fault
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.lexer import Token
from dvm_mpi.disa.source import Fault, Span, suggestion
from dvm_mpi.disa.statement import (
    RELATIVE_SUFFIX,
    Statement,
    WrittenOperand,
    parse_operands,
    type_name,
)
from dvm_mpi.disa.table import (
    BY_CONDITION,
    BY_MNEMONIC,
    EXIT_SUFFIXES,
    SWAPPED_CONDITIONS,
    Access,
    ExitMode,
    Form,
    OperandSpec,
    Row,
)
from dvm_mpi.disa.types import BY_NAME, DEFAULT, Kind, Mode, Type
from dvm_mpi.values import dataclass, replace

_ADDRESS_BITS: Final = 64
_DISPLACEMENT_MIN: Final = -(1 << 31)
_DISPLACEMENT_END: Final = 1 << 32
_BYTE_END: Final = 1 << 8
_FLOAT_FORMATS: Final = {8: "<d", 4: "<f"}


@dataclass(frozen=True, slots=True)
class Draft:
    """One instruction with expressions for values; `size_bytes` is final."""

    mnemonic: str
    types: tuple[str, ...] = ()
    operands: tuple[WrittenOperand, ...] = ()
    condition: str | None = None
    target: Node | None = None
    relative: bool = False
    number: Node | None = None
    exit_mode: ExitMode | None = None

    @property
    def size_bytes(self) -> int:
        """The size of the encoding."""
        modes = tuple([operand.mode for operand in self.operands])
        return encoded_size(self.mnemonic, self.types, modes, self.condition)

    def settle(self, address: int, scope: Scope) -> Instruction:
        """Return the instruction at `address`, with the values that the scope gives.

        Raises
        ------
        Fault
            A name without a value, or a value that does not fit.
        """
        frame = Instruction(
            address, self.size_bytes, self.mnemonic, self.types, condition=self.condition
        )
        specs = frame.specs
        operands = tuple(
            _settle_operand(o, specs[i], frame.type_of(i), scope)
            for i, o in enumerate(self.operands)
        )
        target = None if self.target is None else address_of(self.target, scope)
        number = None if self.number is None else _settle_number(self.number, scope)
        return replace(
            frame,
            operands=operands,
            target=target,
            relative=self.relative,
            number=number,
            exit_mode=self.exit_mode,
        )


# --- values -----------------------------------------------------------------------------------
def integer_of(node: Node, scope: Scope, what: str) -> int:
    """Evaluate an expression that must give an integer; `what` names it in the fault."""
    value = node.evaluate(scope)
    if isinstance(value, Unplaced):
        raise unplaced_fault(node.span)
    if not isinstance(value, int):
        raise Fault(node.span, f"{what} must be an integer", "write it without a fraction")
    return value


def address_of(node: Node, scope: Scope) -> int:
    """Evaluate an expression that must give an address."""
    value = integer_of(node, scope, "an address")
    if not 0 <= value < 1 << _ADDRESS_BITS:
        raise Fault(node.span, f"{value:#x} is no address", "addresses have 64 bits, unsigned")
    return value


def constant_bits(value: Value, type_: Type, span: Span) -> int:
    """Return a constant's bits in the width of its type.

    Integer types take what fits their width, read as signed or as unsigned.
    """
    width_bits = 8 * type_.width_bytes
    if isinstance(value, Unplaced):
        raise unplaced_fault(span)
    if isinstance(value, Bits):
        return _raw_bits(value, type_, span)
    if type_.kind is Kind.FLOAT:
        return _float_bits(value, type_, span)
    if isinstance(value, float):
        what = f"a float does not fit the type {type_.name}"
        raise Fault(span, what, "write an integer, or a floating type such as :fd")
    if not -(1 << width_bits - 1) <= value < 1 << width_bits:
        limits = f"{-(1 << width_bits - 1)} to {(1 << width_bits) - 1}"
        raise Fault(span, f"{value} does not fit the type {type_.name}", f"use {limits}")
    return value & (1 << width_bits) - 1


def _raw_bits(value: Bits, type_: Type, span: Span) -> int:
    if type_.kind is not Kind.FLOAT:
        raise Fault(span, f"bits() does not fit the type {type_.name}", "leave out 'bits'")
    if not 0 <= value.value < 1 << 8 * type_.width_bytes:
        what = f"{value.value:#x} has too many bits for {type_.name}"
        raise Fault(span, what, f"use {8 * type_.width_bytes} bits")
    return value.value


def _float_bits(value: float, type_: Type, span: Span) -> int:
    try:
        raw = struct.pack(_FLOAT_FORMATS[type_.width_bytes], float(value))
    except OverflowError:
        remedy = "use a smaller number, or inf"
        raise Fault(span, f"{value} is too large for {type_.name}", remedy) from None
    return int.from_bytes(raw, "little")


def _settle_operand(
    written: WrittenOperand, spec: OperandSpec, type_: Type, scope: Scope
) -> Operand:
    if written.mode is Mode.IMMEDIATE:
        value = written.node.evaluate(scope)
        fixed = DEFAULT if spec.width_bytes is not None else type_
        return Operand(written.mode, constant_bits(value, fixed, written.span))
    displacement = 0
    if written.displacement is not None:
        displacement = _displacement_of(written.displacement, scope)
    return Operand(written.mode, address_of(written.node, scope), displacement)


def _displacement_of(node: Node, scope: Scope) -> int:
    value = integer_of(node, scope, "a displacement")
    if not _DISPLACEMENT_MIN <= value < _DISPLACEMENT_END:
        what = f"the displacement {value:#x} has more than 32 bits"
        raise Fault(node.span, what, "compute the address into a cell first")
    # 0x80000000 to 0xFFFFFFFF are negative numbers in two's complement.
    return value - _DISPLACEMENT_END if value >= -_DISPLACEMENT_MIN else value


def _settle_number(node: Node, scope: Scope) -> int:
    value = integer_of(node, scope, "the number")
    if not 0 <= value < _BYTE_END:
        raise Fault(node.span, f"{value} is not a byte", "use 0 to 255; system calls are 0x80")
    return value


# --- from statements --------------------------------------------------------------------------
def draft_instruction(statement: Statement) -> Draft:
    """Read a statement whose head is a mnemonic.

    Raises
    ------
    Fault
        Suffixes or operands that the instruction does not take.
    """
    row = BY_MNEMONIC[statement.name]
    match row.form:
        case Form.EXIT:
            return _draft_exit(statement)
        case Form.BYTE:
            return _draft_byte(row, statement)
        case Form.BRANCH:
            return _draft_branch(statement)
        case Form.MOV:
            return _draft_mov(row, statement)
    operands = _take_operands(statement, row.mnemonic, row.operands)
    if row.types:
        name = _one_type(row.mnemonic, statement.suffixes, operands, row.types)
        return Draft(row.mnemonic, (name,), operands)
    _refuse_suffixes(row.mnemonic, statement.suffixes)
    _refuse_types(row.mnemonic, operands)
    return Draft(row.mnemonic, (), operands)


def _draft_exit(statement: Statement) -> Draft:
    _take_operands(statement, "exit", ())
    if not statement.suffixes:
        return Draft("exit", exit_mode=ExitMode.COMMIT)
    suffix = statement.suffixes[0]
    mode = EXIT_SUFFIXES.get(suffix.text.lower())
    if mode is None:
        listed = ", ".join(f"exit:{name}" for name in EXIT_SUFFIXES)
        raise Fault(suffix.span, f"'exit:{suffix.text}' is not an instruction", f"use {listed}")
    _refuse_suffixes("exit", statement.suffixes[1:])
    return Draft("exit", exit_mode=mode)


def _draft_byte(row: Row, statement: Statement) -> Draft:
    _refuse_suffixes(row.mnemonic, statement.suffixes)
    cursor = Cursor(statement.tokens)
    cursor.accept("$")
    number = cursor.expression()
    cursor.expect_end()
    return Draft(row.mnemonic, number=number)


def _draft_mov(row: Row, statement: Statement) -> Draft:
    operands = _take_operands(statement, row.mnemonic, row.operands)
    default = DEFAULT.name
    if statement.suffixes:
        default = type_name(statement.suffixes[0], historic=True)
        _refuse_suffixes("mov", statement.suffixes[1:])
    types = tuple(
        default if o.suffix is None else type_name(o.suffix, historic=True) for o in operands
    )
    return Draft(row.mnemonic, types, operands)


def _draft_branch(statement: Statement) -> Draft:
    if not statement.suffixes:
        assert statement.head is not None
        remedy = "write br:j, or a condition such as br:l"
        raise Fault(statement.head.span, "'br' needs a condition", remedy)
    first, *rest = statement.suffixes
    name = first.text.lower()
    swapped = name in SWAPPED_CONDITIONS
    name = SWAPPED_CONDITIONS.get(name, name)
    condition = BY_CONDITION.get(name)
    if condition is None:
        known = [*BY_CONDITION, *SWAPPED_CONDITIONS]
        remedy = suggestion(first.text, known, f"conditions are {', '.join(known)}")
        raise Fault(first.span, f"'{first.text}' is not a branch condition", remedy)
    mnemonic = f"br:{first.text.lower()}"
    operands = _take_operands(statement, mnemonic, condition.operands)
    target, relative = None, False
    if condition.operands[-1].access is Access.TARGET:
        target, relative = _target_of(operands[-1])
        operands = operands[:-1]
    if swapped:
        operands = operands[::-1]
    types: tuple[str, ...] = ()
    if has_type_field("br", name):
        types = (_one_type(mnemonic, tuple(rest), operands, condition.types),)
    else:
        _refuse_suffixes(mnemonic, tuple(rest))
        _refuse_types(mnemonic, operands)
    return Draft("br", types, operands, name, target, relative)


def _target_of(operand: WrittenOperand) -> tuple[Node, bool]:
    if operand.mode not in {Mode.DIRECT, Mode.IMMEDIATE}:
        what = "a branch target is an address, not a cell"
        raise Fault(operand.span, what, "use br:ji to jump to the address in a cell")
    relative = operand.suffix is not None
    if operand.suffix is not None and operand.suffix.text.lower() != RELATIVE_SUFFIX:
        remedy = f"use :{RELATIVE_SUFFIX} or nothing; types go to the mnemonic"
        raise Fault(operand.suffix.span, "a branch target has no type", remedy)
    return operand.node, relative


def _take_operands(
    statement: Statement, mnemonic: str, specs: Sequence[OperandSpec]
) -> tuple[WrittenOperand, ...]:
    """Parse the operands, and compare their number and directions with the table's."""
    operands = parse_operands(Cursor(statement.tokens))
    if len(operands) != len(specs):
        assert statement.head is not None
        names = ", ".join(spec.name for spec in specs)
        wanted = f"{len(specs)} operand{'s' * (len(specs) != 1)}"
        span = Span(statement.head.start, statement.tokens[-1].start)
        if operands:
            span = Span(operands[0].span.start, operands[-1].span.end)
        what = f"{mnemonic} takes {wanted}, not {len(operands)}"
        raise Fault(span, what, f"write {mnemonic} {names}".rstrip())
    for operand, spec in zip(operands, specs, strict=True):
        if spec.access is Access.WRITE and operand.mode is Mode.IMMEDIATE:
            what = "the destination is a constant"
            raise Fault(operand.span, what, "a destination is a cell: leave out '$'")
    return operands


def _one_type(
    mnemonic: str,
    suffixes: tuple[Token, ...],
    operands: tuple[WrittenOperand, ...],
    allowed: frozenset[str],
) -> str:
    """Return the type, written after the mnemonic or (as in the papers) after operands."""
    written = [*suffixes[:1], *(o.suffix for o in operands if o.suffix is not None)]
    _refuse_suffixes(mnemonic, suffixes[1:])
    names = [type_name(token) for token in written]
    name = names[0] if names else DEFAULT.name
    for token, other in zip(written, names, strict=True):
        if other != name:
            what = f"{mnemonic} has one type, but both {name} and {other} are written"
            raise Fault(token.span, what, "convert one operand with mov first")
    if name not in allowed:
        listed = ", ".join(n for n in BY_NAME if n in allowed)
        span = written[0].span if written else operands[0].span
        remedy = f"use {listed}"
        if not written:
            remedy = f"write the type, as in {mnemonic}:{listed.partition(',')[0]}"
        raise Fault(span, f"{mnemonic} does not take the type {name}", remedy)
    return name


def _refuse_suffixes(mnemonic: str, suffixes: tuple[Token, ...]) -> None:
    if suffixes:
        what = f"{mnemonic} does not take ':{suffixes[0].text}'"
        raise Fault(suffixes[0].span, what, "remove it")


def _refuse_types(mnemonic: str, operands: tuple[WrittenOperand, ...]) -> None:
    """Admit only the default type, spelt out, on operands that are always 64-bit integers."""
    for operand in operands:
        token = operand.suffix
        if token is not None and type_name(token) not in {DEFAULT.name, "uq"}:
            what = f"operands of {mnemonic} are 64-bit integers"
            raise Fault(token.span, what, "remove the type")
