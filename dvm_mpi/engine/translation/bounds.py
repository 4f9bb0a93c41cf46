"""Where a pointer that is computed anew in each iteration can lead to, from constants alone.

Pure. A place in a table is mostly cut to the table's size, by a shift, by `and` or by `mod`,
whatever it was computed from; or branches select it among constants. The invariant to remember:
bounds hold for every value of what is not known, and on every way through the body.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.operations import plan
from dvm_mpi.engine.predecode import widened_constant
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.engine.translation.accesses import Group, Groups
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import reads, writes
from dvm_mpi.engine.translation.loops import Loop, first_use
from dvm_mpi.layout import PAGE_SHIFT, SR_END, WORD_BYTES

#: The least and the largest value; None: nothing is known. Words are taken as unsigned, and results
#: are below END, so that nothing wraps.
Bounds: TypeAlias = tuple[int, int] | None

_END: Final = 1 << 63
_WORDS: Final = 1 << 64
_SHIFT_MASK: Final = 63
#: Pages between bounds: beyond that it takes too long to look whether all of them are permitted.
_PAGES_MAX: Final = 1 << 16
#: Largest values of what is loaded from fewer than eight bytes, without a sign.
_NARROW: Final = {Word.UB: (1 << 8) - 1, Word.UW: (1 << 16) - 1, Word.UD: (1 << 32) - 1}


def bounds_of(
    loop: Loop, groups: Groups, cells: Mapping[Place, Cell]
) -> dict[Group, tuple[int, int]]:
    """Return the least and largest address of the first byte of groups that have bounds.

    Of `loop.roaming`, those whose pointers are bounded where they are used.
    """
    found: dict[Group, tuple[int, int]] = {}
    used_at = {group: first_use(group, groups) for group in loop.roaming}
    positions = itertools.count()
    #: By block: what is known on each way that leads there.
    arriving: dict[int, list[Mapping[Place, Bounds]]] = {}
    for block in loop.body.blocks:
        known = _joined(arriving.get(block.address, []))
        for instruction, position in zip(block.instructions, positions, strict=False):
            for group in [group for group in loop.roaming if used_at[group] == position]:
                assert group.pointer is not None, "it goes anywhere"
                bounds = known.get(group.pointer)
                if bounds is not None and _are_near(bounds, group):
                    found[group] = bounds[0] + group.low, bounds[1] + group.low
            _take(instruction, known, cells)
        for address in block.successors:
            arriving.setdefault(address, []).append(known)
    return found


def _are_near(bounds: tuple[int, int], group: Group) -> bool:
    """Say whether all between the bounds of a group is looked at."""
    low, high = bounds[0] + group.low, bounds[1] + group.low
    return 0 <= low and high < SR_END and high - low >> PAGE_SHIFT <= _PAGES_MAX


def _take(
    instruction: Instruction, known: dict[Place, Bounds], cells: Mapping[Place, Cell]
) -> None:
    """Take in what is known of a cell that an instruction writes."""
    for index, operand in writes(instruction):
        place = operand.value, instruction.width_of(index)
        if operand.mode is Mode.DIRECT and place in cells:
            known[place] = _result(instruction, known) if place[1] == WORD_BYTES else None


def _joined(ways: Sequence[Mapping[Place, Bounds]]) -> dict[Place, Bounds]:
    """Return what is known where some ways meet: of a cell, the bounds of all of them together."""
    if not ways:
        return {}
    joined: dict[Place, Bounds] = {}
    for place in ways[0]:
        bounds = [pair for way in ways if (pair := way.get(place)) is not None]
        if len(bounds) == len(ways):
            joined[place] = min(low for low, _ in bounds), max(high for _, high in bounds)
    return joined


def _exact(bounds: Bounds) -> int | None:
    return bounds[0] if bounds is not None and bounds[0] == bounds[1] else None


def _and(x: Bounds, y: Bounds) -> Bounds:
    highs = [bounds[1] for bounds in (x, y) if bounds is not None]
    return (0, min(highs)) if highs else None


def _or(x: Bounds, y: Bounds) -> Bounds:
    if x is None or y is None:
        return None
    return 0, (1 << max(x[1], y[1]).bit_length()) - 1


def _add(x: Bounds, y: Bounds) -> Bounds:
    return None if x is None or y is None else (x[0] + y[0], x[1] + y[1])


def _subtract(x: Bounds, y: Bounds) -> Bounds:
    return None if x is None or y is None else (x[0] - y[1], x[1] - y[0])


def _multiply(x: Bounds, y: Bounds) -> Bounds:
    return None if x is None or y is None else (x[0] * y[0], x[1] * y[1])


def _shift_left(x: Bounds, y: Bounds) -> Bounds:
    count = _exact(y)
    if x is None or count is None:
        return None
    count &= _SHIFT_MASK
    return x[0] << count, x[1] << count


def _shift_right(x: Bounds, y: Bounds) -> Bounds:
    count = _exact(y)
    if count is None:
        return None
    low, high = x or (0, _WORDS - 1)
    count &= _SHIFT_MASK
    return low >> count, high >> count


def _shift_right_signed(x: Bounds, y: Bounds) -> Bounds:
    return _shift_right(x, y) if x is not None and x[1] < _END else None


def _remainder(_: Bounds, y: Bounds) -> Bounds:
    divisor = _exact(y)
    return (0, divisor - 1) if divisor else None


def _remainder_signed(x: Bounds, y: Bounds) -> Bounds:
    divisor = _exact(y)
    is_positive = x is not None and x[1] < _END and divisor is not None and divisor < _END
    return _remainder(x, y) if is_positive else None


_RULES: Final[Mapping[Operation, Callable[[Bounds, Bounds], Bounds]]] = {
    Operation.MOV: lambda x, _: x,
    Operation.ADD: _add,
    Operation.SUB: _subtract,
    Operation.MUL: _multiply,
    Operation.AND: _and,
    Operation.OR: _or,
    Operation.XOR: _or,
    Operation.SHL: _shift_left,
    Operation.USHR: _shift_right,
    Operation.SHR: _shift_right_signed,
    Operation.UMOD: _remainder,
    Operation.MOD: _remainder_signed,
}


def _result(instruction: Instruction, known: Mapping[Place, Bounds]) -> Bounds:
    planned = plan(instruction)
    sources = [
        _source(instruction, index, planned.words[index], known) for index, _ in reads(instruction)
    ]
    if planned.operation not in _RULES:
        return None
    bounds = _RULES[planned.operation](sources[0], sources[-1])
    return bounds if bounds is not None and 0 <= bounds[0] and bounds[1] < _END else None


def _source(
    instruction: Instruction, index: int, kind: Word, known: Mapping[Place, Bounds]
) -> Bounds:
    operand = instruction.operands[index]
    if operand.mode is Mode.IMMEDIATE:
        value = widened_constant(kind, operand.value) % _WORDS
        return value, value
    if kind in _NARROW:
        return 0, _NARROW[kind]
    if operand.mode is Mode.DIRECT and kind is Word.Q:
        return known.get((operand.value, WORD_BYTES))
    return None
