"""What really happens in random programs once they are hot: `python -m tests.fuzz --statistics N`.

The reference tells each of its steps; what they do is given names, and a name is counted once for
each program in which it was seen in a loop that had turned often enough to be translated.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import BY_NAME, Kind, Mode
from dvm_mpi.engine.interface import EngineSettings, LoadTracking, Reason, TrapKind
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.reference_state import Attempt
from dvm_mpi.engine.reference_steps import Stepper, Surroundings
from dvm_mpi.engine.reference_trace import Access, Step, TracingStepper
from dvm_mpi.layout import (
    CELL_CONSOLE,
    CELL_STDIN,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    PR_END,
    PR_START,
    STACKS_END,
    STACKS_START,
    STATUS_AREAS,
    TEXT_END,
    TEXT_START,
)
from tests.engine.agreement import observed
from tests.engine.machine import OWN_STACK, STACK_BYTES
from tests.engine.random_programs import Scene

#: How often an instruction has been executed when it counts as hot, and one that is rare in a loop.
HOT: Final = 100
SELDOM: Final = 3
#: Strides that have a name of their own.
_STRIDES: Final = (0, 1, 2, 4, 8, -1, -4, -8)
_POINTED: Final = (Mode.INDIRECT, Mode.DISPLACED)
_CALLS: Final = ("newr", "int", "strcmp")
_DEEP: Final = 8


@dataclass
class Watcher:
    """Looks on at one attempt, and names what happens."""

    #: Cells that the program names, where each begins.
    cells: frozenset[int]
    #: Cells whose content is an address.
    pointers: frozenset[int]
    #: Addresses of the program's own instructions.
    starts: frozenset[int]
    seen: set[str]
    arrivals: Counter[int] = field(default_factory=Counter)
    hottest: int = 0
    _back: dict[int, int] = field(default_factory=dict)
    _addresses: dict[tuple[int, int], int] = field(default_factory=dict)
    _goals: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _depth: int = 0

    def tell(self, step: Step) -> None:
        """Take one step."""
        self.arrivals[step.pc] += 1
        count = self.arrivals[step.pc]
        self.hottest = max(self.hottest, count)
        if count > HOT or (self.hottest > HOT and count >= SELDOM):
            self.seen.update(self._names(step))
        for access in [*step.reads, *([step.write] if step.write else [])]:
            self._addresses[step.pc, access.index] = access.address
        self._note_jump(step)

    def _note_jump(self, step: Step) -> None:
        instruction = step.instruction
        if instruction is None or step.trap is not None:
            return
        if instruction.mnemonic == "bl":
            self._depth += 1
        elif instruction.condition == "ji":
            self._goals[step.pc].add(step.next_pc)
            self._depth = max(self._depth - 1, 0)
        if instruction.target is not None and step.next_pc <= step.pc:
            self._back[step.pc] = step.next_pc

    def _names(self, step: Step) -> Iterator[str]:
        instruction = step.instruction
        if step.trap is not None:
            yield f"trap: {step.trap.name}"
        if step.pc not in self.starts:
            yield "control: within the bytes of an instruction"
        if instruction is None:
            return
        if instruction.mnemonic in _CALLS:
            yield f"call: {instruction.mnemonic}"
        if step.call is not None and step.trap is None:
            yield f"call: int, number {step.call[0]}"
        yield from self._control(step, instruction)
        for access in step.reads:
            yield from self._access(step, instruction, access, "load")
            yield from _value(instruction, access)
        if step.write is not None:
            yield from self._access(step, instruction, step.write, "store")
        yield from _arithmetic(instruction, step)

    def _control(self, step: Step, instruction: Instruction) -> Iterator[str]:
        is_taken = step.next_pc != step.pc + instruction.size_bytes
        if instruction.condition is not None:
            types = instruction.types[0] if instruction.types else ""
            yield f"branch: {instruction.condition} {types if is_taken else 'not taken'}".strip()
            inside = [at for at in self._back if step.next_pc < at < step.pc]
            if is_taken and step.next_pc <= step.pc and inside:
                yield "control: loop around loops"
        if instruction.mnemonic == "bl" and step.trap is None:
            way = "a constant" if instruction.operands[0].mode is Mode.IMMEDIATE else "a cell"
            yield f"control: bl to {way}"
            if self._depth > _DEEP:
                yield "control: calls deep within calls"
        if instruction.condition == "ji" and len(self._goals[step.pc]) > 1:
            yield "control: ji to several places"

    def _access(
        self, step: Step, instruction: Instruction, access: Access, what: str
    ) -> Iterator[str]:
        address, width = access.address, instruction.width_of(access.index)
        if address < 0:
            return
        if address == CELL_STDIN and what == "load":
            yield "input: a byte"
        if address == CELL_CONSOLE and what == "store":
            yield "console"
        is_pointed = instruction.operands[access.index].mode in _POINTED
        if address % PAGE_BYTES + width > PAGE_BYTES:
            yield f"{what}: on two pages"
        if not is_pointed:
            return
        yield f"{what}: {_place(address)}"
        if instruction.operands[access.index].value not in range(PR_START, PR_END):
            yield f"{what}: by a shared pointer"
        before = self._addresses.get((step.pc, access.index))
        if before is not None:
            yield f"stride: {_stride(address - before)}"
        if PR_START <= address < PR_END:
            yield from self._meeting(address, width, what)

    def _meeting(self, address: int, width: int, what: str) -> Iterator[str]:
        """Say which cells a pointer has met."""
        if address in self.cells:
            yield f"{what}: a cell that is named"
        near = [c for c in range(address - 7, address + width) if c in self.cells and c != address]
        if near:
            yield f"{what}: a part of a cell that is named"
        if any(cell in self.pointers for cell in (*near, address)):
            yield f"{what}: a cell that points"


def _stride(delta: int) -> str:
    if delta in _STRIDES:
        return str(delta)
    if abs(delta) >= PAGE_BYTES:
        return "a page or more"
    return "odd" if delta % 2 else "even"


def _place(address: int) -> str:
    areas = {
        "private": (PR_START, PR_END),
        "text": (TEXT_START, TEXT_END),
        "own stack": (OWN_STACK, OWN_STACK + STACK_BYTES),
        "other stacks": (STACKS_START, STACKS_END),
        "status pages": STATUS_AREAS[0],
        "malloc": (MALLOC_START, MALLOC_END),
    }
    return next((n for n, (start, end) in areas.items() if start <= address < end), "data")


def _value(instruction: Instruction, access: Access) -> Iterator[str]:
    """Name a source of a float type."""
    kind = instruction.type_of(access.index)
    if kind.kind is not Kind.FLOAT:
        return
    fraction_bits = 52 if kind.width_bytes == 8 else 23
    sign = access.bits >> 8 * kind.width_bytes - 1
    exponent = access.bits >> fraction_bits & (0x7FF if kind.width_bytes == 8 else 0xFF)
    fraction = access.bits & (1 << fraction_bits) - 1
    is_moved = instruction.mnemonic == "mov" and len(set(instruction.types)) == 1
    use = "moved" if is_moved else "branch" if instruction.mnemonic == "br" else "computed"
    if exponent == (0x7FF if kind.width_bytes == 8 else 0xFF):
        quiet = "quiet" if fraction >> fraction_bits - 1 else "signalling"
        what = f"{quiet} NaN {'-' if sign else '+'}" if fraction else "infinity"
        yield f"value: {kind.name} {what}, {use}"
    elif exponent == 0 and (fraction or sign):
        yield f"value: {kind.name} {'denormal' if fraction else '-0'}, {use}"


def _arithmetic(instruction: Instruction, step: Step) -> Iterator[str]:
    """Name operands of integers that have a rule of their own."""
    kind = instruction.type_of(0)
    if kind.kind is Kind.FLOAT or len(step.reads) < 2:
        return
    bits = 8 * kind.width_bytes
    a, b = (read.bits & (1 << bits) - 1 for read in step.reads[:2])
    if instruction.mnemonic in {"div", "mod"} and kind.kind is Kind.SIGNED and b == (1 << bits) - 1:
        yield "integers: divided by -1"
        if a == 1 << bits - 1:
            yield "integers: the lowest divided by -1"
    if instruction.mnemonic in {"shl", "shr"} and b >= bits:
        yield "integers: shifted by the width or more"


def _cells(scene: Scene) -> tuple[frozenset[int], frozenset[int]]:
    """Return the private cells that a program names, and those of them that point."""
    named, pointing = set(), set()
    for instruction in scene.listing:
        for operand in instruction.operands:
            if operand.mode is not Mode.IMMEDIATE and PR_START <= operand.value < PR_END:
                named.add(operand.value)
                if operand.mode in _POINTED:
                    pointing.add(operand.value)
    return frozenset(named), frozenset(pointing)


def occurrences(scene: Scene) -> set[str]:
    """Run a scene on the reference, and return the names of what happened."""
    image = scene.image
    seen: set[str] = set()
    watchers: dict[int, Watcher] = {}
    named, pointing = _cells(scene)
    starts = frozenset[int]()
    if image.lines is not None:
        starts = frozenset(image.lines.addresses.tolist())
    else:
        lined = type(scene)(scene.listing).image.lines
        assert lined is not None
        starts = frozenset(lined.addresses.tolist())

    def make_stepper(around: Surroundings, attempt: Attempt) -> Stepper:
        watcher = watchers.get(attempt.runner)
        if watcher is None:
            watcher = watchers[attempt.runner] = Watcher(named, pointing, starts, seen)
        return TracingStepper(around, attempt, watcher.tell)

    def make(settings: EngineSettings) -> ReferenceEngine:
        return ReferenceEngine(settings, make_stepper)

    result = observed(make, scene)
    if any(watcher.hottest > HOT for watcher in watchers.values()):
        seen.add("loops that turned more than 100 times")
        seen.update(_surroundings(scene, result))
    return seen


def _surroundings(scene: Scene, result: dict[str, Any]) -> Iterator[str]:
    changes = scene.changes
    if changes.get("loads", LoadTracking.NONE) is not LoadTracking.NONE:
        yield f"setting: loads {changes['loads'].name}"
    if changes.get("allow_undeclared"):
        yield "setting: undeclared accesses admitted"
    if result["undeclared"]:
        yield "undeclared accesses reported"
    if changes.get("touched_pages_max"):
        yield "setting: few pages"
    for part in scene.rounds:
        yield f"slices of {min(part.slice_fuels)} and more"
        if part.parking_seed:
            yield "attempts set aside"
        if len(part.tasks) > 1:
            yield "several attempts in a batch"
    if any(ended.row["trap"] == TrapKind.FUEL_EXHAUSTED for ended in result["ended"]):
        yield "trap: FUEL_EXHAUSTED"
    executed = 0
    for stop in result["exits"]:
        executed += stop.instructions
        if stop.reason is Reason.PAGE_MISSED and executed > 3 * HOT:
            yield "a page missed late"
    for ended in result["ended"]:
        if ended.children and any(child.image for child in ended.children):
            yield "a child with bytes on its stack"


def counted(scenes: Iterator[Scene]) -> Counter[str]:
    """Return in how many scenes each name was seen, and how many there were."""
    names: Counter[str] = Counter()
    for scene in scenes:
        names.update(["programs", *occurrences(scene)])
    return names


assert set(BY_NAME) >= {"fd", "fs"}
