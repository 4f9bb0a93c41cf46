"""Private cells that live in registers while a unit runs, and what is known of their values.

Pure. A cell is promoted if instructions of the unit name it directly, always with one width, and
no other named cell overlaps it. A pointer may still lead to it: every access through a pointer is
checked not to meet a promoted cell, and is left to the interpreter if it does. So cells whose
address is taken are better not promoted.

NaN: a computed NaN has one bit pattern in memory, whichever the processor made. Making it so after
every operation takes longer than the operation. A *lazy* cell may hold any NaN where the canonical
one is meant; it is made canonical where its bits are seen. Whatever else is put into a lazy cell
must therefore not be another NaN: that is checked, and left to the interpreter if it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Kind, Mode
from dvm_mpi.engine.operations import Plan, plan
from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.translation.code import Code, reads, writes
from dvm_mpi.layout import PR_END, PR_START, WORD_BYTES

#: Cells that live in registers, or on the native stack, at most.
PROMOTED_MAX: Final = 256
#: Stretches of promoted cells that pointers are checked against; nearer ones are joined.
STRETCHES_MAX: Final = 6

_O = Operation
#: Operations whose operands are numbers in binary64.
FLOAT_SOURCES: Final = frozenset({
    _O.FADD, _O.FSUB, _O.FMUL, _O.FDIV, _O.FMIN, _O.FMAX, _O.FSQRT, _O.FFLOOR, _O.FEXP, _O.FLOG,
    _O.BR_FL, _O.BR_FLE, _O.BR_FE, _O.BR_FNE, _O.F_TO_S, _O.F_TO_U, _O.F_TO_NARROW,
})  # fmt: skip
#: Operations whose result may be a NaN that is not canonical yet.
COMPUTES_NAN: Final = frozenset({
    _O.FADD, _O.FSUB, _O.FMUL, _O.FDIV, _O.FSQRT, _O.FFLOOR, _O.FEXP, _O.FLOG,
})  # fmt: skip
#: Other operations with a result in binary64: canonical if it is NaN.
FLOAT_RESULTS: Final = COMPUTES_NAN | {
    _O.FMIN, _O.FMAX, _O.S_TO_F, _O.U_TO_F, _O.S_TO_FS, _O.U_TO_FS,
}  # fmt: skip

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """A promoted cell. `is_float`: it holds a number in binary64, or binary32 by its width."""

    address: int
    width: int
    is_float: bool
    is_lazy: bool
    is_written: bool


@dataclass(frozen=True, slots=True)
class _Use:
    """One direct use of a cell. `role`: how its bits are read: "float", "integer", or "bits"."""

    place: Place
    role: str
    is_write: bool
    plan: Plan
    instruction: Instruction


def converts_floats(instruction: Instruction) -> bool:
    """Say whether it moves between binary32 and binary64, which makes NaN canonical."""
    if instruction.mnemonic != "mov":
        return False
    source, target = instruction.type_of(0), instruction.type_of(1)
    return source is not target and source.kind is target.kind is Kind.FLOAT


def _role(instruction: Instruction, planned: Plan, operand: Operand, index: int) -> str:
    if operand.mode is not Mode.DIRECT:
        return "integer"
    kind = instruction.type_of(index)
    if instruction.mnemonic == "mov" and instruction.type_of(0) is instruction.type_of(1):
        return "bits"
    if kind.kind is Kind.FLOAT and instruction.mnemonic in {"neg", "abs"}:
        return "bits"
    is_number = planned.operation in FLOAT_SOURCES | FLOAT_RESULTS or converts_floats(instruction)
    return "float" if is_number and kind.kind is Kind.FLOAT else "integer"


def _uses(code: Code, instruction: Instruction) -> Iterator[_Use]:
    if code.flow(instruction).calls_out:
        return
    planned = plan(instruction)
    for operands, is_write in ((reads(instruction), False), (writes(instruction), True)):
        for index, operand in operands:
            if operand.mode is Mode.IMMEDIATE:
                continue
            is_direct = operand.mode is Mode.DIRECT
            width = instruction.width_of(index) if is_direct else WORD_BYTES
            if code.is_static(operand.value, width):
                role = _role(instruction, planned, operand, index)
                place = operand.value, width
                yield _Use(place, role, is_write and is_direct, planned, instruction)


def promoted_cells(
    code: Code, instructions: Sequence[Instruction], windows: Collection[int]
) -> dict[Place, Cell]:
    """Return the cells to promote, by address and width.

    `windows`: addresses of instructions in loops that may run without any check; there nothing
    may be left to the interpreter.
    """
    uses = [use for instruction in instructions for use in _uses(code, instruction)]
    pointed = _pointed_at(code, instructions)
    counts = Counter(use.place for use in uses)
    kept = [
        place for place in _apart(sorted(counts)) if not _is_met(place, pointed)
    ]  # fmt: skip
    kept = sorted(kept, key=lambda place: -counts[place])[:PROMOTED_MAX]
    places = set(kept)
    roles: dict[Place, set[str]] = {}
    for use in uses:
        roles.setdefault(use.place, set()).add(use.role)
    floats = {p for p in places if roles[p] == {"float"} or roles[p] == {"float", "bits"}}
    written = {use.place for use in uses if use.is_write}
    lazy = _lazy(uses, floats, windows)
    return {p: Cell(*p, p in floats, p in lazy, p in written) for p in sorted(places)}


def _apart(places: Sequence[Place]) -> list[Place]:
    """Return those of the sorted places that no other overlaps."""
    kept = []
    for index, (address, width) in enumerate(places):
        before = places[max(index - 8, 0) : index]
        after = places[index + 1 : index + 9]
        overlaps = any(a + w > address for a, w in before)
        if not overlaps and all(a >= address + width for a, _ in after):
            kept.append((address, width))
    return kept


def _pointed_at(code: Code, instructions: Sequence[Instruction]) -> list[tuple[int, int]]:
    """Return stretches of private memory to which pointers of the unit seem to lead.

    A guess, by the constants that are put into cells, from which others may take them.
    """
    offsets: dict[int, set[tuple[int, int]]] = {}
    starts: dict[int, set[int]] = {}
    moves: set[tuple[int, int]] = set()
    for instruction in instructions:
        if code.flow(instruction).calls_out:
            continue
        for index, operand in enumerate(instruction.operands):
            if operand.mode in {Mode.INDIRECT, Mode.DISPLACED}:
                reach = operand.displacement, instruction.width_of(index)
                offsets.setdefault(operand.value, set()).add(reach)
        for _, target in writes(instruction):
            for _, source in reads(instruction):
                if source.mode is Mode.DIRECT and target.mode is Mode.DIRECT:
                    moves.add((source.value, target.value))
                if source.mode is Mode.IMMEDIATE and PR_START <= source.value < PR_END:
                    starts.setdefault(target.value, set()).add(source.value)
    size = -1
    while (found := sum(map(len, starts.values()))) != size:
        size = found
        for source_cell, target_cell in moves:
            starts.setdefault(target_cell, set()).update(starts.get(source_cell, ()))
    return sorted({
        (start + offset, start + offset + width)
        for pointer, reaches in offsets.items()
        for start in starts.get(pointer, ())
        for offset, width in reaches
    })  # fmt: skip


def _is_met(place: Place, stretches: Iterable[tuple[int, int]]) -> bool:
    address, width = place
    return any(start < address + width and address < end for start, end in stretches)


def _lazy(uses: Sequence[_Use], floats: set[Place], windows: Collection[int]) -> set[Place]:
    """Return the float cells that may hold any NaN for the canonical one."""
    stores = [use for use in uses if use.is_write and use.place in floats]
    moves = [(source, use) for use in stores if (source := _source_of_move(use)) is not None]
    excluded: set[Place] = set()
    while True:
        lazy = {use.place for use in stores if computes_nan(use.plan, use.instruction)} - excluded
        size = -1
        while len(lazy) > size:
            size = len(lazy)
            lazy |= {use.place for source, use in moves if source in lazy} - excluded
        barred = {
            use.place
            for use in stores
            if use.place in lazy
            and use.instruction.address in windows
            and not is_tame(use.plan, use.instruction)
            and _source_of_move(use) not in lazy
        }
        if not barred:
            return lazy
        excluded |= barred


def computes_nan(planned: Plan, instruction: Instruction) -> bool:
    """Say whether the result may be a NaN that is yet to be made canonical."""
    return planned.operation in COMPUTES_NAN or converts_floats(instruction)


def is_tame(planned: Plan, instruction: Instruction) -> bool:
    """Say whether the result, if it is a NaN, is the canonical one or stands for it."""
    if computes_nan(planned, instruction) or planned.operation in FLOAT_RESULTS:
        return True
    operand = instruction.operands[0]
    if planned.operation is not _O.MOV or operand.mode is not Mode.IMMEDIATE:
        return False
    exponent = 0x7FF << 52 if instruction.width_of(1) == WORD_BYTES else 0xFF << 23
    return operand.value & exponent != exponent


def _source_of_move(use: _Use) -> Place | None:
    """Return what place a `mov` of bits copies directly; None if it is no such."""
    if use.instruction.mnemonic != "mov" or use.role != "bits":
        return None
    operand = use.instruction.operands[0]
    return (operand.value, use.place[1]) if operand.mode is Mode.DIRECT else None


def stretches_of(cells: Iterable[Cell]) -> list[tuple[int, int]]:
    """Return few half-open stretches of addresses that hold all the cells."""
    stretches: list[tuple[int, int]] = []
    for cell in sorted(cells, key=lambda cell: cell.address):
        if stretches and cell.address <= stretches[-1][1]:
            stretches[-1] = stretches[-1][0], cell.address + cell.width
        else:
            stretches.append((cell.address, cell.address + cell.width))
    while len(stretches) > STRETCHES_MAX:
        gaps = [b[0] - a[1] for a, b in pairwise(stretches)]
        at = gaps.index(min(gaps))
        stretches[at : at + 2] = [(stretches[at][0], stretches[at + 1][1])]
    return stretches
