"""From a random program on which engines differ to the smallest one on which they still do.

Whatever can be left out is left out, and what stays is made simpler, as long as the difference
stays. Every step that is kept makes the scene smaller by a fixed order, so this comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import Access
from dvm_mpi.disa.types import Mode
from tests.engine.machine import Task, code_number, renumbered
from tests.engine.random_programs import VALUES, Scene

T = TypeVar("T")

#: Runs of a comparison after which the smallest scene so far is good enough.
TRIALS_MAX: Final = 1_500
#: Targets from here on are addresses, below they count instructions.
ADDRESSES: Final = 1 << 20
#: The simplest operands first; only a source may be a constant.
CONSTANTS: Final = (Operand(Mode.IMMEDIATE, 0), Operand(Mode.IMMEDIATE, 1))
CELLS: Final = tuple(Operand(Mode.DIRECT, cell) for cell in VALUES[:2])
#: How far a constant is shifted to make it smaller.
SHIFTS: Final = (32, 16, 8, 1)


class _Spent(Exception):
    """No trials are left."""


class _Search:
    """The smallest scene so far, and how it gets smaller."""

    def __init__(self, scene: Scene, differs: Callable[[Scene], bool]) -> None:
        self.best = scene
        self._differs = differs
        self._trials = TRIALS_MAX

    def keeps(self, candidate: Scene) -> bool:
        """Take a simpler scene if the difference is still there, and say so."""
        if self._trials == 0:
            raise _Spent
        self._trials -= 1
        if not self._differs(candidate):
            return False
        self.best = candidate
        return True

    def drop_instructions(self) -> None:
        """Leave out stretches, long ones first."""
        size = len(self.best.listing)
        while size:
            start = 0
            while start < len(self.best.listing):
                if not self.keeps(_without(self.best, start, size)):
                    start += size
            size //= 2

    def drop_memory(self) -> None:
        """Leave out stretches of the snapshot's bytes."""
        size = len(self.best.memory)
        while size:
            start = 0
            while start < len(self.best.memory):
                items = list(self.best.memory.items())
                fewer = dict(_cut(items, start, size))
                if not self.keeps(replace(self.best, memory=fewer)):
                    start += size
            size //= 2

    def simplify_surroundings(self) -> None:
        """Have one task, the usual one, and no settings but fuel, if that is enough."""
        for count in range(len(self.best.again)):
            if self.keeps(replace(self.best, again=self.best.again[:count])):
                break
        for part in self.best.again:
            tasks, slice_fuel = list(part.tasks), part.slice_fuels[0]
            if self.keeps(replace(self.best, tasks=tasks, slice_fuel=slice_fuel, again=())):
                break
        for task in self.best.tasks if len(self.best.tasks) > 1 else ():
            if self.keeps(replace(self.best, tasks=[task])):
                break
        # Without the limit on fuel a loop would not end.
        limits = {k: v for k, v in self.best.changes.items() if k == "fuel_max"}
        usual = Scene([], changes=limits)
        for name in ("tasks", "stdin", "changes", "slice_fuel", "is_flat", "tail"):
            if getattr(self.best, name) != getattr(usual, name):
                self.keeps(replace(self.best, **{name: getattr(usual, name)}))
        for name in ("grants", "stack", "image"):
            plain = [replace(task, **{name: getattr(Task(), name)}) for task in self.best.tasks]
            if plain != self.best.tasks:
                self.keeps(replace(self.best, tasks=plain))

    def simplify_operands(self) -> None:
        """Have small constants and plain cells where they will do."""
        for at in range(len(self.best.listing)):
            for position in range(len(self.best.listing[at].operands)):
                while self._simplify_operand(at, position):
                    pass

    def _simplify_operand(self, at: int, position: int) -> bool:
        instruction = self.best.listing[at]
        for simpler in _simpler(instruction, position):
            operands = list(instruction.operands)
            operands[position] = simpler
            listing = list(self.best.listing)
            listing[at] = replace(instruction, operands=tuple(operands))
            if self.keeps(replace(self.best, listing=listing)):
                return True
        return False


def shrunk(scene: Scene, differs: Callable[[Scene], bool]) -> Scene:
    """Return the smallest scene found that `differs` still holds for, as it does for `scene`."""
    search = _Search(scene, differs)
    try:
        before = None
        while before is not search.best:
            before = search.best
            search.simplify_surroundings()
            search.drop_instructions()
            search.drop_memory()
            search.simplify_operands()
    except _Spent:
        pass
    return search.best


def _cut(items: Sequence[T], start: int, count: int) -> list[T]:
    return [*items[:start], *items[start + count :]]


def _without(scene: Scene, start: int, count: int) -> Scene:
    """Leave out instructions; branches to them, and their addresses, lead to what follows."""

    def moved(instruction: Instruction) -> Instruction:
        target = instruction.target
        if target is not None and target < ADDRESSES:
            target = place(target)
        operands = tuple(map(led, instruction.operands))
        return replace(instruction, target=target, operands=operands)

    def led(operand: Operand) -> Operand:
        number = code_number(operand)
        return operand if number is None else renumbered(operand, place(number))

    def place(number: int) -> int:
        return number if number <= start else max(number - count, start)

    return replace(scene, listing=[moved(i) for i in _cut(scene.listing, start, count)])


def _simpler(instruction: Instruction, position: int) -> Iterator[Operand]:
    """Yield operands that are simpler than the one in place, the simplest first."""
    operand = instruction.operands[position]
    is_source = instruction.specs[position].access is Access.READ
    listed = [*(CONSTANTS if is_source else ()), *CELLS]
    yield from listed[: listed.index(operand)] if operand in listed else listed
    if operand.mode is Mode.IMMEDIATE and operand not in listed:
        yield from (replace(operand, value=operand.value >> shift) for shift in SHIFTS)
    if operand.mode is Mode.DISPLACED:
        yield Operand(Mode.INDIRECT, operand.value)
