"""Faults planted in the translator, one rule left out each: random programs must notice them.

`python -m tests.engine.translation_faults` prints which program noticed which fault, and how; names
after the command choose. Each fault is tried in a process of its own, since it may write where
nothing may be written, or never come to an end: that counts as noticed, too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from unittest import mock

import pytest
from llvmlite import ir

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine import operations, translate
from dvm_mpi.engine.address_space import READ, WRITE
from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.translation import arithmetic, code, loops, lowering, windows
from dvm_mpi.engine.translation import cells as cells_module
from dvm_mpi.engine.translation import paths as paths_module
from dvm_mpi.engine.translation.accesses import Group, _Grouping
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.frame import BIT, Block, Frame, Value, word
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.paths import Paths
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.engine.translation.windows import Window
from tests.engine.agreement import disagreements
from tests.engine.grid import results, taken
from tests.engine.hot_programs import hot_scene
from tests.engine.machine import EngineMaker
from tests.engine.operation_rows import branching, computing, moving, odd_floats, programs
from tests.engine.translated import TranslatedEngine

#: Programs that are tried for one fault, and seconds after which one of them has no end.
SEEDS_MAX: Final = 300
CASE_SECONDS: Final = 120
#: Programs after which single operations are tried, too.
OPERATIONS_AFTER: Final = 20

_O = Operation
Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]

FAULTS: Final[dict[str, Plant]] = {}


def _fault(name: str) -> Callable[[Plant], Plant]:
    def note(plant: Plant) -> Plant:
        FAULTS[name] = plant
        return plant

    return note


def _nothing(*_: Any) -> None:
    """Do nothing, where something should have been built."""


# --- stored bytes -----------------------------------------------------------------------------
@_fault("stores are not marked")
def _(patch: Patch) -> None:
    patch.setattr(Memory, "mark", _nothing)


@_fault("the last stored byte is not marked")
def _(patch: Patch) -> None:
    marked = Memory.mark_always

    def mark_always(memory: Memory, address: Value, width: int) -> None:
        marked(memory, address, width - 1)

    patch.setattr(Memory, "mark_always", mark_always)


@_fault("a window's stores are not marked")
def _(patch: Patch) -> None:
    patch.setattr(Window, "_mark", _nothing)


@_fault("a window's last turn is not marked")
def _(patch: Patch) -> None:
    mark = Window._mark

    def fewer(window: Window, one: Any, count: Value) -> None:
        mark(window, one, window._frame.builder.sub(count, word(1)))

    patch.setattr(Window, "_mark", fewer)


@_fault("a window that goes down is marked as if it went up")
def _(patch: Patch) -> None:
    mark = Window._mark

    def upwards(window: Window, one: Any, count: Value) -> None:
        stream = replace(one.stream, step=abs(one.stream.step))
        mark(window, replace(one, stream=stream), count)

    patch.setattr(Window, "_mark", upwards)


# --- windows ----------------------------------------------------------------------------------
@_fault("a window has one turn too many")
def _(patch: Patch) -> None:
    trips = Window._trips

    def more(window: Window, *rest: Any) -> Value:
        count = trips(window, *rest)
        return window._frame.builder.add(count, word(1))

    patch.setattr(Window, "_trips", more)


@_fault("a stream is one element longer than its pages")
def _(patch: Patch) -> None:
    opened = Window._open

    def longer(window: Window, *rest: Any) -> tuple[Any, Value]:
        one, count = opened(window, *rest)
        return one, window._frame.builder.add(count, word(1))

    patch.setattr(Window, "_open", longer)


@_fault("the pages of a stream are looked at from the first only")
def _(patch: Patch) -> None:
    pages = Runtime._pages

    def all_alike(runtime: Runtime, function: Any, page: Value, seen: Value, flags: int,
                  direction: int, most: Value) -> Value:  # fmt: skip
        with mock.patch.object(runtime._memory, "flag_of", return_value=seen):
            return pages(runtime, function, page, seen, flags, direction, most)

    patch.setattr(Runtime, "_pages", all_alike)


@_fault("a stream runs over cells in registers")
def _(patch: Patch) -> None:
    patch.setattr(Runtime, "_without_cells", lambda _, __, low, high, ___: (low, high))


@_fault("a counter is not expected to wrap")
def _(patch: Patch) -> None:
    trips = Window._trips

    def unchecked(window: Window, *rest: Any) -> Value:
        with mock.patch.object(window._frame, "unless", _nothing):
            return trips(window, *rest)

    patch.setattr(Window, "_trips", unchecked)


@_fault("a pointer's step is not seen by what follows in its turn")
def _(patch: Patch) -> None:
    patch.setattr(loops, "_moved_before", lambda *_: 0)


@_fault("a window forgets that cells have moved")
def _(patch: Patch) -> None:
    patch.setattr(windows._WindowLowering, "finish", _nothing)


# --- checks of memory -------------------------------------------------------------------------
@_fault("any page may be accessed")
def _(patch: Patch) -> None:
    patch.setattr(Memory, "_check_flags", _nothing)


@_fault("a page that may be loaded from may be stored to")
def _(patch: Patch) -> None:
    check = Memory._check_flags

    def weaker(memory: Memory, group: Group, *rest: Any) -> None:
        with mock.patch.object(group, "flags", group.flags & ~WRITE | READ):
            check(memory, group, *rest)

    patch.setattr(Memory, "_check_flags", weaker)


@_fault("an access may reach over its page's end")
def _(patch: Patch) -> None:
    check = Memory.check

    def shorter(memory: Memory, group: Group, *rest: Any) -> Checked:
        with mock.patch.object(group, "high", group.low + 1):
            return check(memory, group, *rest)

    patch.setattr(Memory, "check", shorter)


@_fault("a check outlives its pointer's value")
def _(patch: Patch) -> None:
    patch.setattr(_Grouping, "_change", _nothing)


# --- cells in registers -----------------------------------------------------------------------
@_fault("pointers may lead to cells in registers")
def _(patch: Patch) -> None:
    patch.setattr(translate, "stretches_of", lambda *_: [])


@_fault("cells that overlap live in registers")
def _(patch: Patch) -> None:
    patch.setattr(cells_module, "_apart", list)


@_fault("a cell is not written back")
def _(patch: Patch) -> None:
    promoted = cells_module.promoted_cells

    def unwritten(*arguments: Any) -> dict[Place, Cell]:
        found = promoted(*arguments)
        last = max(found, default=None)
        return {p: replace(c, is_written=c.is_written and p != last) for p, c in found.items()}

    patch.setattr(translate, "promoted_cells", unwritten)


# --- fuel -------------------------------------------------------------------------------------
@_fault("fuel for one instruction too few is enough")
def _(patch: Patch) -> None:
    count = Paths._count

    def fewer(paths: Paths) -> None:
        count(paths)
        for node in paths.nodes:
            node.fuel -= 1

    patch.setattr(Paths, "_count", fewer)


@_fault("a window leaves no fuel for what follows")
def _(patch: Patch) -> None:
    build = Window.build

    def greedy(window: Window, checked: Block, again: Block, behind: Block, _: int) -> None:
        build(window, checked, again, behind, 0)

    patch.setattr(Window, "build", greedy)


@_fault("a jump is not counted")
def _(patch: Patch) -> None:
    leap = translate._Translation._leap

    def less(translation: Any, goal: Block | None, executed: int) -> None:
        leap(translation, goal, executed - 1)

    patch.setattr(translate._Translation, "_leap", less)


@_fault("what was executed before a way out is not counted")
def _(patch: Patch) -> None:
    exit_before = Frame.exit_before

    def uncounted(frame: Frame, address: int, _: int) -> Block:
        return exit_before(frame, address, 0)

    patch.setattr(Frame, "exit_before", uncounted)


# --- numbers ----------------------------------------------------------------------------------
@_fault("NaN is left as the processor made it")
def _(patch: Patch) -> None:
    patch.setattr(Frame, "canonical", lambda _frame, value, _width: value)


@_fault("any NaN may be put where it is canonical later")
def _(patch: Patch) -> None:
    patch.setattr(Frame, "is_tame", lambda *_: ir.Constant(BIT, 1))


@_fault("the lower of two zeros is the second")
def _(patch: Patch) -> None:
    operations = arithmetic.NUMBER_OPERATIONS
    patch.setitem(operations, _O.FMIN, operations[_O.FMAX])


@_fault("whole numbers become binary32 in two steps")
def _(patch: Patch) -> None:
    conversions = arithmetic.TO_NUMBER
    patch.setitem(conversions, _O.S_TO_FS, conversions[_O.S_TO_F])


@_fault("numbers become unsigned as if signed")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.TO_WORD, _O.F_TO_U, arithmetic.TO_WORD[_O.F_TO_S])


@_fault("numbers do not stop at a narrow type's bounds")
def _(patch: Patch) -> None:
    planned = operations.plan

    def unbounded(instruction: Instruction) -> Any:
        found = planned(instruction)
        narrow = found.operation is _O.F_TO_NARROW
        return replace(found, constants=()) if narrow else found

    patch.setattr(lowering, "plan", unbounded)


@_fault("the lowest number is divided by -1 as by any")
def _(patch: Patch) -> None:
    for operation, name in ((_O.DIV, "sdiv"), (_O.MOD, "srem")):
        patch.setitem(arithmetic.WORD_OPERATIONS, operation, arithmetic._plain(name))


@_fault("nobody looks for a divisor that is 0")
def _(patch: Patch) -> None:
    patch.setattr(arithmetic, "DIVISIONS", frozenset())


@_fault("a shift's count is not cut to the width")
def _(patch: Patch) -> None:
    patch.setattr(arithmetic, "SHIFTS", frozenset())


@_fault("shifts of unsigned numbers keep the sign")
def _(patch: Patch) -> None:
    operations = arithmetic.WORD_OPERATIONS
    patch.setitem(operations, _O.USHR, operations[_O.SHR])


# --- control ----------------------------------------------------------------------------------
@_fault("equal is not less or equal")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_LE, arithmetic.COMPARISONS[_O.BR_L])


@_fault("unsigned numbers are compared as signed")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_UL, arithmetic.COMPARISONS[_O.BR_L])


@_fault("NaN is not unequal")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_FNE, ("fcmp_ordered", "!="))


@_fault("input and console are cells like others")
def _(patch: Patch) -> None:
    patch.setattr(code, "is_special", lambda _: False)


@_fault("a function that changes its link is repeated where it is called")
def _(patch: Patch) -> None:
    patch.setattr(paths_module, "_keeps", lambda *_: True)


@_fault("a call leaves the address of the call")
def _(patch: Patch) -> None:
    write_word = lowering.Lowering.write_word

    def linked(self: Any, instruction: Instruction, value: Value, *, is_safe: bool) -> None:
        is_call = instruction.mnemonic == "bl"
        write_word(self, instruction, word(instruction.address) if is_call else value,
                   is_safe=is_safe)  # fmt: skip

    patch.setattr(lowering.Lowering, "write_word", linked)


# --- trying them ------------------------------------------------------------------------------
@contextmanager
def planted(name: str) -> Any:
    """Have a fault in the translator of this process; code from before is forgotten."""
    TranslatedEngine._kept.clear()
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        yield
    TranslatedEngine._kept.clear()


@dataclass(frozen=True, slots=True)
class Noticed:
    """By which program, and how a fault was noticed; by none if `how` is empty."""

    seed: int
    how: str


def _operations_differ(*makers: EngineMaker) -> bool:
    """Say whether engines differ about single operations, which programs rarely meet."""
    signal.alarm(CASE_SECONDS)
    for part in programs([*computing(), *odd_floats(), *moving()]):
        first, second = (results(maker, part) for maker in makers)
        if first != second:
            return True
    for part in programs(branching()):
        first_taken, second_taken = (taken(maker, part) for maker in makers)
        if first_taken != second_taken:
            return True
    return False


def _try(name: str, seeds: Iterable[int], tell: Callable[[str], None]) -> None:
    """Try programs until one notices the fault: the child's side."""
    engines: dict[str, EngineMaker] = {
        "reference": ReferenceEngine,
        "translate": partial(TranslatedEngine, level=0),
    }
    with planted(name):
        for count, seed in enumerate(seeds):
            if count == OPERATIONS_AFTER and _operations_differ(*engines.values()):
                tell("an operation at odd operands")
                return
            signal.alarm(CASE_SECONDS)
            tell(f"program {seed}")
            found, _ = disagreements(hot_scene(seed), engines)
            if found:
                tell(found[0].partition("\n")[0].rstrip(":"))
                return


def noticed(name: str, seeds: Iterable[int]) -> Noticed:
    """Plant a fault in a process of its own, and say which program noticed it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            with os.fdopen(write, "w", buffering=1) as file:
                _try(name, seeds, lambda text: print(text, file=file))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as lines:
        told = lines.read().splitlines()
    _, status = os.waitpid(child, 0)
    programs = [line for line in told if line.startswith("program ")]
    how = told[-1] if told and told[-1] not in programs[-1:] else ""
    if os.WIFSIGNALED(status):
        how = signal.Signals(os.WTERMSIG(status)).name
    elif os.WEXITSTATUS(status):
        how = "an error of the test itself"
    return Noticed(int(programs[-1].split()[1]) if programs else -1, how)


def main(names: list[str]) -> int:
    """Print the table; return how many faults were not noticed."""
    missed = 0
    for name in names or FAULTS:
        found = noticed(name, range(SEEDS_MAX))
        missed += not found.how
        how = f"by program {found.seed}: {found.how}" if found.how else f"not by {SEEDS_MAX}"
        print(f"{name:60} {how}", flush=True)
    count = len(names or FAULTS)
    print(f"{count - missed} of {count} faults were noticed")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
