"""What a trap's message says about operands and declared ranges; shared by all engines.

The engine hands in the instruction and a way to look at memory as the attempt saw it. Looking
changes nothing: it takes no input, fetches no page and reports no access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import BY_NAME, DEFAULT, Kind, Mode, Type
from dvm_mpi.engine.interface import TrapDetail
from dvm_mpi.engine.reference_arithmetic import float_of_bits, signed_of_bits
from dvm_mpi.layout import (
    CELL_STDIN,
    CELL_SYSCALL_ARGS,
    CELL_SYSCALL_NUMBER,
    PAGE_BYTES,
    PR_START,
    SR_END,
    SR_START,
    WORD_BYTES,
)

#: Returns the unsigned value of bytes at an address, None where the attempt cannot see them.
Peek = Callable[[int, int], int | None]

_MASK64 = (1 << 64) - 1


def describe(
    instruction: Instruction | None,
    peek: Peek,
    address: int,
    ranges: Iterable[tuple[int, int]],
    touched_pages_max: int = 0,
) -> TrapDetail:
    """Return the operands of a trapped instruction and the declared range nearest to `address`.

    `instruction` is None where none could be decoded; `address` is -1 where none is at fault;
    `ranges` are the attempt's `(start, length)`, in any order. `touched_pages_max` is the limit
    that the attempt would have passed, 0 if it trapped for another reason.
    """
    texts: tuple[str, ...] = ()
    if instruction is not None:
        texts = tuple(_operand_text(instruction, i, peek) for i in range(len(instruction.operands)))
        texts += _implied_texts(instruction.mnemonic, peek, address)
    if touched_pages_max:
        # Which declared range is nearest says nothing here: the access was admitted.
        return TrapDetail((*texts, _touched_text(touched_pages_max)), None)
    return TrapDetail(texts, nearest_range(address, ranges))


def _implied_texts(mnemonic: str, peek: Peek, address: int) -> tuple[str, ...]:
    """Return what an instruction reads beside its operands: call cells, a descriptor's field."""
    cells: list[tuple[str, int]] = []
    if mnemonic == "int":
        cells = [("number", CELL_SYSCALL_NUMBER), ("argument", CELL_SYSCALL_ARGS)]
    elif mnemonic == "newr" and address >= 0:
        cells = [("descriptor", address), ("then", (address + WORD_BYTES) & _MASK64)]
    return tuple(_cell_text(name, at, BY_NAME["sq"], peek) for name, at in cells)


def _touched_text(pages_max: int) -> str:
    pages = "1 page" if pages_max == 1 else f"{pages_max:,} pages"
    return f"touched before: {pages}, {pages_max * PAGE_BYTES:,} bytes, which is the limit"


def nearest_range(address: int, ranges: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the nonempty range nearest to an SR address; of equals the lowest, shortest."""
    if not SR_START <= address < SR_END:
        return None

    def distance(item: tuple[int, int]) -> tuple[int, int, int]:
        start, length = item
        return max(start - address, address - (start + length - 1), 0), start, length

    return min((r for r in ranges if r[1] > 0), key=distance, default=None)


def _operand_text(instruction: Instruction, index: int, peek: Peek) -> str:
    operand = instruction.operands[index]
    name = instruction.specs[index].name
    is_typed = instruction.specs[index].width_bytes is None
    kind = instruction.type_of(index) if is_typed else DEFAULT
    width = instruction.width_of(index)
    if operand.mode is Mode.IMMEDIATE:
        return f"{name} = ${value_text(operand.value, kind, width)}"
    address = operand.value
    place = f"{address:#x}"
    if operand.mode is not Mode.DIRECT:
        place = f"({address:#x})"
        if operand.displacement:
            place = f"{operand.displacement}{place}"
        pointer = _look(peek, address, WORD_BYTES)
        if pointer is None:
            return f"{name} at {place}: the pointer cell cannot be read"
        address = (pointer + operand.displacement) & _MASK64
        place = f"{place} -> {address:#x}"
    return _cell_text(name, address, kind, peek, place)


def _cell_text(name: str, address: int, kind: Type, peek: Peek, place: str = "") -> str:
    """Return a cell's value as text; `place` says how its address came about."""
    value = _look(peek, address, kind.width_bytes)
    place = place or f"{address:#x}"
    if value is None:
        return f"{name} at {place}: cannot be read"
    return f"{name} at {place} = {value_text(value, kind, kind.width_bytes)}"


def _look(peek: Peek, address: int, width: int) -> int | None:
    # The input cell's value is gone once it is taken; looking must not take another.
    return None if address == CELL_STDIN else peek(address, width)


def value_text(bits: int, kind: Type, width: int) -> str:
    """Return an operand's bits as text: a number, and in hexadecimal what may be an address."""
    if kind.kind is Kind.FLOAT:
        return repr(float_of_bits(bits, width))
    if kind.kind is Kind.SIGNED:
        value = signed_of_bits(bits, width)
        # Large numbers are mostly addresses: show them as such too.
        return f"{value} ({bits:#x})" if abs(value) >= PR_START else str(value)
    return f"{bits} ({bits:#x})" if bits >= PR_START else str(bits)
