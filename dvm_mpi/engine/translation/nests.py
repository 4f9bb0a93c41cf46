"""Loops whose inner loop is one block that needs no checks: what is known of many of its turns.

Pure. A *round* is the inner loop, the block behind it, which ends with the branch back, and the
block that the branch leads to, if that is not the inner loop itself. It begins where the inner loop
does. Rounds are known beforehand where the inner loop takes as many turns in each, and every
pointer moves evenly from round to round: by a constant, and by another for each turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.translation.accesses import Group, Groups, in_order
from dvm_mpi.engine.translation.blocks import Block
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import writes
from dvm_mpi.engine.translation.hammocks import Body, may_divide_by_zero
from dvm_mpi.engine.translation.loops import (
    STEP_MAX,
    Condition,
    Loop,
    Stream,
    condition_of,
    step_of,
)
from dvm_mpi.layout import WORD_BYTES


@dataclass(frozen=True, slots=True)
class Even:
    """What a cell holds at some place of a round.

    What `base` held when the round began, or the number `base`, plus `more`, plus `each` for every
    turn of the inner loop.
    """

    base: Place | int
    more: int = 0
    each: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """How far something moves in a round: by `more`, and by `each` for every turn."""

    more: int = 0
    each: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """A cell that each round leaves at `last`, whose base moves by `move` in a round.

    So rounds are even if it holds what a round before would have left.
    """

    place: Place
    last: Even
    move: Move


@dataclass(frozen=True, slots=True)
class RoundStream:
    """A group's addresses: they begin at `start`, and move by `move` a round.

    `stream.step` bytes a turn, in the inner loop; outside of it `stream` says how it moves in a
    round, as far as that is constant.
    """

    stream: Stream
    start: Even
    move: Move
    is_inner: bool


@dataclass(frozen=True, slots=True)
class Nest:
    """A loop in which rounds are possible. `condition`: of the branch that ends `latch`."""

    inner: Loop
    latch: Block
    prefix: tuple[Instruction, ...]
    streams: tuple[RoundStream, ...]
    resets: tuple[Reset, ...]
    condition: Condition

    @property
    def outside(self) -> tuple[Instruction, ...]:
        """The instructions of a round that are not the inner loop's."""
        return (*self.latch.instructions, *self.prefix)


def around(blocks: Mapping[int, Block], body: Body) -> tuple[Block, Block | None] | None:
    """Return the block behind an inner loop, and that before it, None if there is none.

    None if the inner loop is more than one block, if there is no such loop around it, or one in
    which not only memory needs a check.
    """
    inner = body.head
    latch = blocks.get(inner.behind) if body.latch is inner else None
    if latch is None or latch.flow is None or latch.is_left or latch is inner:
        return None
    last = latch.instructions[-1]
    if last.target is None or last.condition in {"j", "ji", None}:
        return None
    prefix = None
    if last.target != inner.address:
        prefix = blocks.get(last.target)
        if prefix is None or prefix.flow is not None or prefix.is_left:
            return None
        if prefix.behind != inner.address:
            return None
    straight = (*latch.instructions[:-1], *(prefix.instructions if prefix is not None else ()))
    if any(may_divide_by_zero(i) for i in straight):
        return None
    return latch, prefix


def nest_of(
    blocks: Mapping[int, Block],
    inner: Loop,
    groups: Mapping[int, Groups],
    cells: Mapping[Place, Cell],
) -> Nest | None:
    """Return what is known of the loop around an inner one; None if no rounds are possible.

    `groups`: those of each block.
    """
    found = around(blocks, inner.body)
    if found is None or inner.condition is None or inner.roaming:
        return None
    latch, prefix = found
    reader = _Reader(cells, inner)
    streams = [reader.inner_stream(stream) for stream in inner.streams]
    for block in (latch,) if prefix is None else (latch, prefix):
        streams += reader.pass_through(block, groups[block.address])
    moves = reader.moves()
    condition = condition_of(latch.instructions, reader.steps(), cells)
    if condition is None or not _is_kept(inner, moves):
        return None
    complete = []
    used: set[Place] = {inner.condition.moving}
    for one in streams:
        finished = None if one is None else _with_move(one, moves)
        if finished is None:
            return None
        complete.append(finished)
        if isinstance(finished.start.base, tuple):
            used.add(finished.start.base)
    resets = [reader.reset(place, moves) for place in sorted(used)]
    return Nest(
        inner,
        latch,
        () if prefix is None else prefix.instructions,
        tuple(complete),
        tuple(reset for reset in resets if reset is not None),
        condition,
    )


class _Reader:
    """Follows cells through a round."""

    def __init__(self, cells: Mapping[Place, Cell], inner: Loop) -> None:
        self._cells = cells
        #: What the cells that have been written hold; None: something uneven.
        self._held: dict[Place, Even | None] = {}
        for instruction in inner.body.instructions:
            for place in self._written(instruction):
                step = inner.steps.get(place)
                self._held[place] = None if step is None else Even(place, 0, step)

    def _written(self, instruction: Instruction) -> Iterator[Place]:
        for index, operand in writes(instruction):
            place = operand.value, instruction.width_of(index)
            if operand.mode is Mode.DIRECT and place in self._cells:
                yield place

    def _value(self, place: Place) -> Even | None:
        return self._held.get(place, Even(place))

    def inner_stream(self, stream: Stream) -> RoundStream | None:
        """Return a stream of the inner loop, whose moves from round to round are yet to come."""
        group = stream.group
        if stream.step < 0:
            return None
        start = Even(0) if group.pointer is None else Even(group.pointer, stream.offset)
        return RoundStream(stream, start, Move(), is_inner=True)

    def pass_through(self, block: Block, groups: Groups) -> list[RoundStream | None]:
        """Go through a block outside of the inner loop; return its streams."""
        firsts: dict[int, list[Group]] = {}
        for group in in_order(groups):
            first = min(position for (position, _), pair in groups.items() if group in pair)
            firsts.setdefault(first, []).append(group)
        streams: list[RoundStream | None] = []
        for position, instruction in enumerate(block.instructions):
            streams += (self._stream(group) for group in firsts.get(position, ()))
            for place in self._written(instruction):
                self._held[place] = self._result(instruction, place)
        return streams

    def _stream(self, group: Group) -> RoundStream | None:
        start: Even | None = Even(0)
        if group.pointer is not None:
            start = self._value(group.pointer) if group.pointer in self._cells else None
        if start is None:
            return None
        return RoundStream(Stream(group, 0, 0), start, Move(), is_inner=False)

    def _result(self, instruction: Instruction, place: Place) -> Even | None:
        step = step_of(instruction, self._cells)
        before = self._value(place)
        if step is not None:
            return None if before is None else Even(before.base, before.more + step[1], before.each)
        if instruction.mnemonic != "mov" or not set(instruction.types) <= {"sq", "uq"}:
            return None
        source = instruction.operands[0]
        if source.mode is Mode.IMMEDIATE:
            return Even(source.value)
        cell = self._cells.get((source.value, WORD_BYTES))
        if source.mode is not Mode.DIRECT or cell is None or cell.is_float:
            return None
        return self._value((source.value, WORD_BYTES))

    # --- behind a round -----------------------------------------------------------------------
    def moves(self) -> dict[Place, Move | None]:
        """Return how the cells that are written move in a round; None if unevenly."""
        return {place: self._move(place) for place in self._held}

    def _move(self, place: Place) -> Move | None:
        last = self._held[place]
        if last is None:
            return None
        if last.base == place:
            return Move(last.more, last.each)
        if isinstance(last.base, int):
            return Move()
        base = self._value(last.base)
        # What is taken from a cell that is taken from another may need some rounds to be even.
        return Move(base.more, base.each) if base is not None and base.base == last.base else None

    def steps(self) -> dict[Place, int | None]:
        """Return the constants that are added to cells in a round, None where more is done."""
        return {
            place: last.more if last is not None and (last.base, last.each) == (place, 0) else None
            for place, last in self._held.items()
        }

    def reset(self, place: Place, moves: Mapping[Place, Move | None]) -> Reset | None:
        """Return what must hold of a cell that is not only moved; None if it is."""
        last, move = self._value(place), moves.get(place, Move())
        if last is None or move is None or last.base == place:
            return None
        return Reset(place, last, move)


def _is_kept(inner: Loop, moves: Mapping[Place, Move | None]) -> bool:
    """Say whether the inner loop takes as many turns in each round."""
    condition = inner.condition
    assert condition is not None
    if moves[condition.moving] != Move():
        return False
    operands = inner.body.instructions[-1].operands
    if condition.bound >= len(operands):
        return True
    bound = operands[condition.bound]
    return bound.mode is Mode.IMMEDIATE or (bound.value, WORD_BYTES) not in moves


def _with_move(one: RoundStream, moves: Mapping[Place, Move | None]) -> RoundStream | None:
    """Return a stream with how it moves in a round; None if that is not even, or downwards."""
    base, group = one.start.base, one.stream.group
    move = Move() if isinstance(base, int) else moves.get(base, Move())
    if move is None or not 0 <= move.more <= STEP_MAX or not 0 <= move.each <= STEP_MAX:
        return None
    stream = one.stream if one.is_inner else Stream(group, move.more, 0)
    if group.stores:
        # What is marked behind all rounds is one range, or as much in each.
        goes_on = one.is_inner and move == Move(0, stream.step)
        if (move.each and not goes_on) or (one.is_inner and move.more):
            return None
    return RoundStream(stream, one.start, move, one.is_inner)
