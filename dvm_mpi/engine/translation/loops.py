"""Loops that may run many times without a check: what is known of them.

Pure. A *window* of such a loop is so many iterations that fuel lasts, that its pointers stay on
pages with the flags that they need, and that its condition holds, if that can be counted. It needs
every pointer to move by the same distance in each iteration, or not at all, and no instruction that
may have to be left to the interpreter for another reason. What branches of the body may skip must
be pure (hammocks.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.operations import plan
from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.translation.accesses import Group, Groups, in_order
from dvm_mpi.engine.translation.blocks import Block
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.code import reads, writes
from dvm_mpi.engine.translation.hammocks import Body, is_pure
from dvm_mpi.layout import WORD_BYTES

_O = Operation
#: Bytes that a pointer may move in an iteration.
STEP_MAX: Final = 1 << 20
#: Instructions of a body that is large: all that LLVM does with it takes long, and an iteration
#: takes longer than what is done before a window.
LARGE_BODY: Final = 100
#: Streams of a loop whose loads are noted behind a window: whether each meets each of the others is
#: asked, and LLVM took 42 s over what was asked of 30, and takes 1.4 s over 16.
NOTED_STREAMS_MAX: Final = 16
#: Conditions that can be counted: whether signed, whether equal values go on; None: until equal.
COUNTABLE: Final = {
    _O.BR_L: (True, False),
    _O.BR_LE: (True, True),
    _O.BR_UL: (False, False),
    _O.BR_ULE: (False, True),
    _O.BR_NE: None,
}


@dataclass(frozen=True, slots=True)
class Stream:
    """How a group's addresses move.

    By `step` bytes an iteration, from where the pointer is when it begins, plus `offset`.
    """

    group: Group
    step: int
    offset: int


@dataclass(frozen=True, slots=True)
class Condition:
    """A loop's condition as a count: `moving` is compared with an invariant operand.

    `step` an iteration; `offset` from the iteration's beginning to the comparison. It goes on
    while the moving value is on its side of the bound, which it approaches.
    """

    moving: Place
    step: int
    offset: int
    bound: int
    is_signed: bool
    equal_goes_on: bool
    until_equal: bool


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that windows are possible of. `steps`: of cells that move evenly, in an iteration.

    `uneven`: the other cells that it writes. `roaming`: groups whose pointers are such cells; they
    are checked in each iteration, which is undone if that fails. `condition` is None where it must
    be evaluated in each iteration.
    """

    body: Body
    steps: Mapping[Place, int]
    streams: tuple[Stream, ...]
    condition: Condition | None
    roaming: tuple[Group, ...] = ()
    uneven: tuple[Place, ...] = ()


def step_of(instruction: Instruction, cells: Mapping[Place, Cell]) -> tuple[Place, int] | None:
    """Return the promoted cell to which an instruction adds a constant, and the constant."""
    if instruction.mnemonic not in {"add", "sub"} or instruction.types[0] not in {"sq", "uq"}:
        return None
    a, b, target = instruction.operands
    place = target.value, WORD_BYTES
    cell = cells.get(place)
    if target.mode is not Mode.DIRECT or cell is None or cell.is_float:
        return None
    if instruction.mnemonic == "add" and a.mode is Mode.IMMEDIATE:
        a, b = b, a
    if a.mode is not Mode.DIRECT or a.value != target.value or b.mode is not Mode.IMMEDIATE:
        return None
    amount = (b.value + (1 << 63)) % (1 << 64) - (1 << 63)
    return place, amount if instruction.mnemonic == "add" else -amount


def loop_of(body: Body, cells: Mapping[Place, Cell], groups: Groups) -> Loop | None:
    """Return what is known of a loop; None if no window of it is possible.

    `groups`: of the body's accesses, by positions in all of it.
    """
    if not is_pure(body, cells):
        return None
    steps = _steps(body, cells)
    streams, roaming = [], []
    for group in in_order(groups):
        stream = _stream(body.instructions, group, groups, steps, cells)
        if stream is not None:
            streams.append(stream)
        elif group.pointer in cells:
            roaming.append(group)
        else:
            return None
    condition = condition_of(body.instructions, steps, cells)
    if roaming and (condition is None or not _can_be_undone(body, cells, groups, roaming)):
        # Without a count few iterations may be all, which are not worth the preparations.
        return None
    even = {place: step for place, step in steps.items() if step is not None}
    uneven = tuple(sorted(place for place, step in steps.items() if step is None))
    return Loop(body, even, tuple(streams), condition, tuple(roaming), uneven)


def is_large(loop: Loop) -> bool:
    """Say whether a loop should exist once, as windows, however few iterations these have.

    What no window can do, a loop with checks would leave to the interpreter as well; but iterations
    that were undone are executed there.
    """
    return has_large_body(loop) and not loop.roaming


def has_large_body(loop: Loop) -> bool:
    """Say whether all that LLVM does with a loop's body takes long."""
    return len(loop.body.instructions) >= LARGE_BODY


def with_loops(
    blocks: Mapping[int, Block], entries: Collection[int], bodies: Sequence[Body]
) -> dict[int, Block]:
    """Return a unit's blocks, and one for each of some loops that are entered at their heads only.

    `entries`: where it enters the unit.
    """
    found = dict(blocks)
    for body in bodies:
        within = {block.address for block in body.blocks}
        inner = within - {body.head.address}
        around = [block for address, block in blocks.items() if address not in within]
        reached = {address for block in around for address in (*block.successors, block.behind)}
        if inner & (reached | set(entries)):
            continue
        for address in inner:
            del found[address]
        whole = Block(body.head.address, body.instructions, None, body.latch.behind, is_loop=True)
        found[body.head.address] = whole
    return found


def is_notable(loop: Loop) -> bool:
    """Say whether loads that a window notes behind it are those that would be noted one by one.

    What is stored is not noted when it is loaded later. So of one stream no byte may be loaded
    behind a store to it, in the same iteration or in another one. What pointers that go anywhere
    have loaded is not known behind a window. Nor are there too many streams.
    """
    if loop.roaming or len(loop.streams) > NOTED_STREAMS_MAX:
        return False
    return not any(_may_reread(stream) for stream in loop.streams)


def _may_reread(stream: Stream) -> bool:
    group = stream.group
    if not group.stores or not group.loads:
        return False
    return group.is_reread or 0 < abs(stream.step) < group.high - group.low


def _steps(body: Body, cells: Mapping[Place, Cell]) -> dict[Place, int | None]:
    """Return the steps of the cells that are written, None for those that move unevenly."""
    steps: dict[Place, int | None] = {}
    for position, instruction in enumerate(body.instructions):
        for index, operand in writes(instruction):
            if operand.mode is not Mode.DIRECT:
                continue
            place = operand.value, instruction.width_of(index)
            if place not in cells:
                continue
            found = None if position in body.conditional else step_of(instruction, cells)
            before = steps.get(place, 0)
            steps[place] = None if found is None or before is None else before + found[1]
    return steps


def first_use(group: Group, groups: Groups) -> int:
    """Return the position of the first instruction that uses a group."""
    return min(position for (position, _), pair in groups.items() if group in pair)


def _can_be_undone(
    body: Body, cells: Mapping[Place, Cell], groups: Groups, roaming: Sequence[Group]
) -> bool:
    """Say whether groups are all checked before an iteration's first store to memory."""
    checked = max(first_use(group, groups) for group in roaming)
    return not any(
        operand.mode is not Mode.DIRECT or (operand.value, instruction.width_of(index)) not in cells
        for instruction in body.instructions[:checked]
        for index, operand in writes(instruction)
    )


def _moved_before(
    instructions: Sequence[Instruction], position: int, place: Place, cells: Mapping[Place, Cell]
) -> int:
    """Return how far a cell has moved when the instruction at `position` begins."""
    found = (step_of(i, cells) for i in instructions[:position])
    return sum(step[1] for step in found if step is not None and step[0] == place)


def _stream(
    instructions: Sequence[Instruction],
    group: Group,
    groups: Groups,
    steps: Mapping[Place, int | None],
    cells: Mapping[Place, Cell],
) -> Stream | None:
    if group.pointer is None:
        return Stream(group, 0, 0)
    if group.pointer not in cells:
        return None
    step = steps.get(group.pointer, 0)
    if step is None or abs(step) > STEP_MAX:
        return None
    first = first_use(group, groups)
    return Stream(group, step, _moved_before(instructions, first, group.pointer, cells))


def condition_of(
    instructions: Sequence[Instruction],
    steps: Mapping[Place, int | None],
    cells: Mapping[Place, Cell],
) -> Condition | None:
    """Return the last branch of some as a count; None if it cannot be counted.

    `steps`: of all cells that change from one time to the next, None for those that move unevenly.
    """
    last = instructions[-1]
    planned = plan(last)
    if planned.operation not in COUNTABLE:
        return None
    if any(last.width_of(index) != WORD_BYTES for index, _ in reads(last)):
        return None
    operands = [operand for _, operand in reads(last)]
    if len(operands) == 1:
        # Compared with a constant of the instruction's own: zero.
        sides: list[Place | int | None] = [_side(operands[0], steps, cells), None]
    else:
        sides = [_side(operand, steps, cells) for operand in operands]
    moving = [i for i, side in enumerate(sides) if isinstance(side, tuple)]
    if len(moving) != 1 or -1 in sides:
        return None
    place = sides[moving[0]]
    assert isinstance(place, tuple)
    step = steps[place]
    assert step is not None, "an even cell"
    kind = COUNTABLE[planned.operation]
    # Of `a < b`, a must rise or b must fall; else it runs until it wraps.
    approaches = kind is None or (step > 0) == (moving[0] == 0)
    if step == 0 or not approaches:
        return None
    offset = _moved_before(instructions, len(instructions) - 1, place, cells)
    signed, equal = kind if kind is not None else (False, False)
    return Condition(place, step, offset, 1 - moving[0], signed, equal, kind is None)


def _side(
    operand: Operand, steps: Mapping[Place, int | None], cells: Mapping[Place, Cell]
) -> Place | int:
    """Return a cell that moves, 0 for what stays the same, -1 for anything else."""
    if operand.mode is Mode.IMMEDIATE:
        return 0
    place = operand.value, WORD_BYTES
    cell = cells.get(place)
    if operand.mode is not Mode.DIRECT or cell is None or cell.is_float:
        return -1
    if place not in steps:
        return 0
    return -1 if steps[place] is None else place
