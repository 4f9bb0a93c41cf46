"""Numbers that a loop computes side by side, in the same way: lanes of one vector.

Pure. A loop that sums up eight columns at once has eight cells, each with its own chain of
operations from its value before the iteration, over numbers that lie next to each other in memory.
The order of operations within a chain stays; the chains have nothing to do with each other. So the
cells can be one vector, and each step of all chains one operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Kind, Mode
from dvm_mpi.engine.operations import plan
from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.translation.accesses import Group, Groups
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import reads, writes
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.layout import WORD_BYTES

_O = Operation
#: Lanes of one vector: as many as possible.
WIDTHS: Final = (16, 8, 4, 2)
#: Operations that do in each lane what they do alone, and whose NaN is anyone's.
_STEPS: Final = frozenset({_O.FADD, _O.FSUB, _O.FMUL, _O.FDIV})


@dataclass(eq=False, frozen=True, slots=True)
class Number:
    """A number in binary64 that an iteration computes or finds.

    `shape` is the same for numbers that come about in the same way. One of: a `constant`, its bits;
    what the cell `place` holds when the iteration begins; what is loaded by an operand, `loaded`,
    at `offset` of its `group`; the result of an `operation` on `x` and `y`; something else. `at`
    is the position of the instruction, and of its operand, if it is loaded.
    """

    shape: int
    at: tuple[int, int]
    constant: int | None = None
    place: Place | None = None
    group: Group | None = None
    offset: int = 0
    operation: Operation | None = None
    x: Number | None = None
    y: Number | None = None

    @property
    def parts(self) -> tuple[Number, ...]:
        """The numbers that it is computed of."""
        return tuple(part for part in (self.x, self.y) if part is not None)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Cells that are a vector, in order, and what an iteration makes of them."""

    places: tuple[Place, ...]
    results: tuple[Number, ...]


def lanes_of(body: Body, cells: Mapping[Place, Cell], groups: Groups) -> list[Lanes]:
    """Return the vectors of a loop, none of which have a cell in common.

    None if it stores anything in memory: what is loaded could be loaded again then. None if it
    branches: not all lanes would do the same.
    """
    if body.conditional:
        return []
    instructions = body.instructions
    targets = [(o, i.width_of(index)) for i in instructions for index, o in writes(i)]
    if any(o.mode is not Mode.DIRECT or (o.value, width) not in cells for o, width in targets):
        return []
    reader = _Reader(cells, groups)
    for position, instruction in enumerate(instructions):
        reader.take(position, instruction)
    alike: dict[int, list[tuple[Place, Number]]] = {}
    for place, number in reader.numbers.items():
        if number.operation is not None and cells[place].is_lazy:
            alike.setdefault(number.shape, []).append((place, number))
    found: list[Lanes] = []
    for pairs in alike.values():
        pairs.sort(key=lambda pair: _first_offset(pair[1]))
        found += (lanes for lanes in _cut(pairs) if _stand_alone(lanes, instructions))
    return found


class _Reader:
    """Follows numbers through a block, instruction by instruction."""

    def __init__(self, cells: Mapping[Place, Cell], groups: Groups) -> None:
        self._cells = cells
        self._groups = groups
        self._shapes: dict[tuple[object, ...], int] = {}
        #: What the cells that have been written hold.
        self.numbers: dict[Place, Number] = {}

    def _shape(self, *how: object) -> int:
        return self._shapes.setdefault(how, len(self._shapes))

    def take(self, position: int, instruction: Instruction) -> None:
        """Note what an instruction does."""
        result = self._result(position, instruction)
        for index, operand in writes(instruction):
            place = operand.value, instruction.width_of(index)
            self.numbers[place] = result

    def _result(self, position: int, instruction: Instruction) -> Number:
        unknown = Number(self._shape(object()), (position, 0))
        operands = [*reads(instruction), *writes(instruction)]
        if not operands or not all(_is_double(instruction, index) for index, _ in operands):
            return unknown
        sources = [self._source((position, i), operand) for i, operand in reads(instruction)]
        if instruction.mnemonic == "mov":
            return sources[0]
        operation = plan(instruction).operation
        if operation not in _STEPS:
            return unknown
        x, y = sources
        shape = self._shape(operation, x.shape, y.shape)
        return Number(shape, (position, 0), operation=operation, x=x, y=y)

    def _source(self, at: tuple[int, int], operand: Operand) -> Number:
        if operand.mode is Mode.IMMEDIATE:
            return Number(self._shape("constant"), at, constant=operand.value)
        place = operand.value, WORD_BYTES
        if operand.mode is not Mode.DIRECT:
            group, _ = self._groups[at]
            if group is None:
                return Number(self._shape(object()), at)
            shape = self._shape("loaded", group)
            return Number(shape, at, group=group, offset=operand.displacement)
        if place in self.numbers:
            return self.numbers[place]
        if place in self._cells and self._cells[place].is_float:
            return Number(self._shape("held"), at, place=place)
        return Number(self._shape(object()), at)


def _is_double(instruction: Instruction, index: int) -> bool:
    kind = instruction.type_of(index)
    return kind.kind is Kind.FLOAT and instruction.width_of(index) == WORD_BYTES


def _within(number: Number) -> Iterator[Number]:
    """Yield a number, and all that it is computed of, each once."""
    seen: set[int] = set()
    waiting = [number]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += reversed(one.parts)


def _first_offset(number: Number) -> tuple[int, ...]:
    return tuple(one.offset for one in _within(number) if one.group is not None)


def _cut(pairs: Sequence[tuple[Place, Number]]) -> Iterator[Lanes]:
    """Cut cells whose numbers have one shape into vectors, the widest first."""
    start = 0
    while start < len(pairs):
        for width in WIDTHS:
            places, numbers = zip(*pairs[start : start + width], strict=True)
            if len(places) == width and _are_lanes(places, numbers):
                yield Lanes(places, numbers)
                start += width
                break
        else:
            start += 1


def _are_lanes(places: Sequence[Place], numbers: Sequence[Number]) -> bool:
    """Say whether numbers of one shape are lanes of a vector that the cells hold."""
    seen: set[tuple[int, ...]] = set()
    waiting = [tuple(numbers)]
    has_row = has_held = False
    while waiting:
        lanes = waiting.pop()
        first = lanes[0]
        if tuple(map(id, lanes)) in seen:
            continue
        seen.add(tuple(map(id, lanes)))
        if is_row(lanes):
            has_row = True
        elif [lane.place for lane in lanes] == list(places):
            has_held = True
        elif first.operation is not None:
            waiting += zip(*(lane.parts for lane in lanes), strict=True)
        elif not is_same(lanes) or first.place in places:
            return False
    return has_row and has_held


def is_row(lanes: Sequence[Number]) -> bool:
    """Say whether these lie side by side in memory."""
    first = lanes[0]
    offsets = [lane.offset - WORD_BYTES * index for index, lane in enumerate(lanes)]
    alike = all(lane.group is first.group for lane in lanes)
    return first.group is not None and alike and set(offsets) == {first.offset}


def is_same(lanes: Sequence[Number]) -> bool:
    """Say whether all are one number that can be had anew: loaded, held, or a constant."""
    described = {(n.constant, n.place, id(n.group), n.offset) for n in lanes}
    first = lanes[0]
    known = (first.constant, first.place, first.group) != (None, None, None)
    return known and len(described) == 1


def held_by(lanes: Lanes) -> set[Place]:
    """Return the cells besides the vector's that are read as they are when an iteration begins."""
    numbers = {one.place for result in lanes.results for one in _within(result)}
    return {place for place in numbers if place is not None} - set(lanes.places)


def _stand_alone(lanes: Lanes, instructions: Sequence[Instruction]) -> bool:
    """Say whether nobody else reads the cells in an iteration: else they would be kept twice."""
    own = {one.at[0] for result in lanes.results for one in _within(result)}
    others = [i for position, i in enumerate(instructions) if position not in own]
    return not any(
        operand.mode is not Mode.IMMEDIATE and operand.value in {a for a, _ in lanes.places}
        for instruction in others
        for _, operand in reads(instruction)
    )
