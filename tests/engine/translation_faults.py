"""Faults planted in the translator, one rule left out each: random programs must notice them.

Those of rounds are in round_faults.py. Who tries them is fault_trials.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from llvmlite import ir

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine import operations, translate
from dvm_mpi.engine.address_space import LOAD_MASKS, READ, WRITE
from dvm_mpi.engine.records import Operation
from dvm_mpi.engine.translation import (
    arithmetic,
    code,
    loops,
    lowering,
    packing,
    windows,
)
from dvm_mpi.engine.translation import cells as cells_module
from dvm_mpi.engine.translation import paths as paths_module
from dvm_mpi.engine.translation.accesses import Group, _Grouping
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.frame import BIT, I8, I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.iterations import Spent
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.paths import Paths
from dvm_mpi.engine.translation.roaming import Roamers, Roaming
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.engine.translation.windows import Window
from tests.engine.planting import Patch, Plant, noting
from tests.engine.round_faults import ROUND_FAULTS

_O = Operation

FAULTS: Final[dict[str, Plant]] = dict(ROUND_FAULTS)
fault = noting(FAULTS)


def _nothing(*_: Any) -> None:
    """Do nothing, where something should have been built."""


# --- stored bytes -----------------------------------------------------------------------------
@fault("stores are not marked")
def _(patch: Patch) -> None:
    patch.setattr(Memory, "mark", _nothing)


@fault("the last stored byte is not marked")
def _(patch: Patch) -> None:
    marked = Memory.mark_always

    def mark_always(memory: Memory, address: Value, width: int) -> None:
        marked(memory, address, width - 1)

    patch.setattr(Memory, "mark_always", mark_always)


@fault("a window's stores are not marked")
def _(patch: Patch) -> None:
    patch.setattr(Window, "_mark", _nothing)


@fault("a window's last turn is not marked")
def _(patch: Patch) -> None:
    mark = Window._mark

    def fewer(window: Window, one: Any, count: Value) -> None:
        mark(window, one, window._frame.builder.sub(count, word(1)))

    patch.setattr(Window, "_mark", fewer)


@fault("a window that goes down is marked as if it went up")
def _(patch: Patch) -> None:
    mark = Window._mark

    def upwards(window: Window, one: Any, count: Value) -> None:
        stream = replace(one.stream, step=abs(one.stream.step))
        mark(window, replace(one, stream=stream), count)

    patch.setattr(Window, "_mark", upwards)


@fault("the last word of a range is not marked")
def _(patch: Patch) -> None:
    words = Runtime._mark_words

    def fewer(runtime: Runtime, function: Any, first: Value, count: Value) -> None:
        builder = runtime._frame.builder
        is_some = builder.icmp_unsigned(">", count, word(0))
        words(runtime, function, first, builder.sub(count, builder.zext(is_some, I64)))

    patch.setattr(Runtime, "_mark_words", fewer)


@fault("a range that is marked is longer than what was marked")
def _(patch: Patch) -> None:
    patch.setattr(windows.Kept, "holds", _longer(windows.Kept.holds))


def _longer(holds: Callable[..., Value]) -> Callable[..., Value]:
    def longer(kept: Any, start: Value, length: Value) -> Value:
        return holds(kept, start, kept._frame.builder.sub(length, word(1)))

    return longer


# --- notes of loads ---------------------------------------------------------------------------
@fault("loads are not noted")
def _(patch: Patch) -> None:
    patch.setattr(Memory, "note", _nothing)


@fault("the last loaded byte is not noted")
def _(patch: Patch) -> None:
    noted = Memory.note_always

    def note_always(memory: Memory, address: Value, width: int) -> None:
        noted(memory, address, width - 1)

    patch.setattr(Memory, "note_always", note_always)


@fault("loads of what the attempt has stored are noted")
def _(patch: Patch) -> None:
    def note_bits(memory: Memory, address: Value, bits: Value) -> None:
        builder = memory._frame.builder
        pointer = memory.mask_pointer(address, LOAD_MASKS)
        builder.store(builder.or_(builder.load(pointer, typ=I8), bits), pointer)

    patch.setattr(Memory, "note_bits", note_bits)


@fault("loads are noted of pages that are not listed")
def _(patch: Patch) -> None:
    patch.setattr(Memory, "is_listed", lambda *_: ir.Constant(BIT, 1))


@fault("a window's loads are not noted")
def _(patch: Patch) -> None:
    patch.setattr(Window, "_note", _nothing)


@fault("a window's last load is not noted")
def _(patch: Patch) -> None:
    note = Window._note

    def fewer(window: Window, one: Any, count: Value) -> None:
        note(window, one, window._frame.builder.sub(count, word(1)))

    patch.setattr(Window, "_note", fewer)


@fault("a window may load what another of its pointers has stored")
def _(patch: Patch) -> None:
    patch.setattr(Window, "_keep_apart", _nothing)


@fault("a window may load what the same pointer has stored")
def _(patch: Patch) -> None:
    patch.setattr(translate, "is_notable", lambda _: True)


# --- windows ----------------------------------------------------------------------------------
@fault("a window's last turn is not counted")
def _(patch: Patch) -> None:
    body = Window._loop_body

    def uncounted(window: Window, *rest: Any) -> tuple[Value, Value]:
        count, goes_on = body(window, *rest)
        builder, left = window._frame.builder, window._frame.left
        size = word(window._loop.body.least)
        builder.store(builder.add(builder.load(left, typ=I64), size), left)
        return count, goes_on

    patch.setattr(Window, "_loop_body", uncounted)


@fault("what is known of pages outlives the unit")
def _(patch: Patch) -> None:
    def kept(frame: Frame) -> Value:
        name = f"kept_{len(frame.module.globals)}"
        variable = ir.GlobalVariable(frame.module, I64, name)
        variable.initializer, variable.linkage = word(0), "internal"
        return variable

    patch.setattr(Frame, "kept", kept)


@fault("a window has one turn too many")
def _(patch: Patch) -> None:
    trips = Window._trips

    def more(window: Window, *rest: Any) -> Value:
        count = trips(window, *rest)
        return window._frame.builder.add(count, word(1))

    patch.setattr(Window, "_trips", more)


@fault("a loop that is windows alone takes a turn without fuel")
def _(patch: Patch) -> None:
    build = Window.build

    def unasked(window: Window, *rest: Any) -> None:
        window._least -= 1
        build(window, *rest)

    patch.setattr(loops, "LARGE_BODY", 1)
    patch.setattr(Window, "build", unasked)


@fault("a stream is one element longer than its pages")
def _(patch: Patch) -> None:
    opened = Window._open

    def longer(window: Window, *rest: Any) -> tuple[Any, Value]:
        one, count = opened(window, *rest)
        return one, window._frame.builder.add(count, word(1))

    patch.setattr(Window, "_open", longer)


@fault("the pages of a stream are looked at from the first only")
def _(patch: Patch) -> None:
    pages = Runtime._pages

    def all_alike(
        runtime: Runtime, function: Any, page: Value, seen: Value, *rest: Any, is_mixed: bool
    ) -> Value:
        with mock.patch.object(runtime._memory, "flag_of", return_value=seen):
            return pages(runtime, function, page, seen, *rest, is_mixed=is_mixed)

    patch.setattr(Runtime, "_pages", all_alike)


@fault("a stream runs over cells in registers")
def _(patch: Patch) -> None:
    patch.setattr(Runtime, "_without_cells", lambda _, __, low, high, ___: (low, high))


@fault("a counter is not expected to wrap")
def _(patch: Patch) -> None:
    trips = Window._trips

    def unchecked(window: Window, *rest: Any) -> Value:
        with mock.patch.object(window._frame, "unless", _nothing):
            return trips(window, *rest)

    patch.setattr(Window, "_trips", unchecked)


@fault("a pointer's step is not seen by what follows in its turn")
def _(patch: Patch) -> None:
    patch.setattr(loops, "_moved_before", lambda *_: 0)


@fault("a window forgets that cells have moved")
def _(patch: Patch) -> None:
    patch.setattr(windows.WindowLowering, "finish", _nothing)


# --- branches within windows ------------------------------------------------------------------
@fault("what a branch goes around is not counted")
def _(patch: Patch) -> None:
    patch.setattr(Spent, "add", _nothing)


@fault("a window has fuel for the shortest ways through its loop only")
def _(patch: Patch) -> None:
    patch.setattr(Body, "most", Body.least)


@fault("what a branch goes around may touch memory")
def _(patch: Patch) -> None:
    patch.setattr(loops, "is_pure", lambda *_: True)


@fault("a step that is skipped at times is taken for an even one")
def _(patch: Patch) -> None:
    steps = loops._steps

    def always(body: Body, cells: Mapping[Place, Cell]) -> Any:
        straight = Body(body.blocks)
        vars(straight)["conditional"] = frozenset()
        return steps(straight, cells)

    patch.setattr(loops, "_steps", always)


# --- pointers that go anywhere in windows -----------------------------------------------------
@fault("what is stored by a pointer that goes anywhere is not marked")
def _(patch: Patch) -> None:
    patch.setattr(Roaming, "mark", _nothing)


@fault("what is known of where a pointer may go holds for any address")
def _(patch: Patch) -> None:
    patch.setattr(Roaming, "_holds", lambda *_: ir.Constant(BIT, 1))


@fault("an iteration that stops is not undone")
def _(patch: Patch) -> None:
    patch.setattr(Roamers, "begin", _nothing)


@fault("an iteration may stop behind a store")
def _(patch: Patch) -> None:
    patch.setattr(loops, "_can_be_undone", lambda *_: True)


# --- checks of memory -------------------------------------------------------------------------
@fault("any page may be accessed")
def _(patch: Patch) -> None:
    def unasked(
        memory: Memory, group: Group, start: Value, span: int, flags: Value, failed: Block
    ) -> Value:
        return memory.asks_marks(flags)

    patch.setattr(Memory, "_check_flags", unasked)


@fault("a page that may be loaded from may be stored to")
def _(patch: Patch) -> None:
    check = Memory._check_flags

    def weaker(memory: Memory, group: Group, *rest: Any) -> Value:
        with mock.patch.object(group, "flags", group.flags & ~WRITE | READ):
            return check(memory, group, *rest)

    patch.setattr(Memory, "_check_flags", weaker)


@fault("an access may reach over its page's end")
def _(patch: Patch) -> None:
    check = Memory.check

    def shorter(memory: Memory, group: Group, *rest: Any) -> Checked:
        with mock.patch.object(group, "high", group.low + 1):
            return check(memory, group, *rest)

    patch.setattr(Memory, "check", shorter)


@fault("a check outlives its pointer's value")
def _(patch: Patch) -> None:
    patch.setattr(_Grouping, "_change", _nothing)


# --- cells in registers -----------------------------------------------------------------------
@fault("pointers may lead to cells in registers")
def _(patch: Patch) -> None:
    patch.setattr(translate, "stretches_of", lambda *_: [])


@fault("cells that overlap live in registers")
def _(patch: Patch) -> None:
    patch.setattr(cells_module, "_apart", list)


@fault("a cell is not written back")
def _(patch: Patch) -> None:
    promoted = cells_module.promoted_cells

    def unwritten(*arguments: Any) -> dict[Place, Cell]:
        found = promoted(*arguments)
        last = max(found, default=None)
        return {p: replace(c, is_written=c.is_written and p != last) for p, c in found.items()}

    patch.setattr(translate, "promoted_cells", unwritten)


# --- fuel -------------------------------------------------------------------------------------
@fault("fuel for one instruction too few is enough")
def _(patch: Patch) -> None:
    count = Paths._count

    def fewer(paths: Paths) -> None:
        count(paths)
        for node in paths.nodes:
            node.fuel -= 1

    patch.setattr(Paths, "_count", fewer)


@fault("a window leaves no fuel for what follows")
def _(patch: Patch) -> None:
    build = Window.build

    def greedy(window: Window, checked: Block, again: Block, behind: Block, _: int) -> None:
        build(window, checked, again, behind, 0)

    patch.setattr(Window, "build", greedy)


@fault("a jump is not counted")
def _(patch: Patch) -> None:
    leap = translate._Translation._leap

    def less(translation: Any, goal: Block | None, executed: int) -> None:
        leap(translation, goal, executed - 1)

    patch.setattr(translate._Translation, "_leap", less)


@fault("what was executed before a way out is not counted")
def _(patch: Patch) -> None:
    exit_before = Frame.exit_before

    def uncounted(frame: Frame, address: int, _: int) -> Block:
        return exit_before(frame, address, 0)

    patch.setattr(Frame, "exit_before", uncounted)


# --- numbers ----------------------------------------------------------------------------------
@fault("NaN is left as the processor made it")
def _(patch: Patch) -> None:
    patch.setattr(Frame, "canonical", lambda _frame, value, _width: value)


@fault("any NaN may be put where it is canonical later")
def _(patch: Patch) -> None:
    patch.setattr(Frame, "is_tame", lambda *_: ir.Constant(BIT, 1))


@fault("a NaN is left as it is at a way out")
def _(patch: Patch) -> None:
    leaving = Frame._build_leaving

    def raw(frame: Frame) -> None:
        with mock.patch.object(Frame, "canonical", lambda _frame, value, _width: value):
            leaving(frame)

    patch.setattr(Frame, "_build_leaving", raw)


@fault("any NaN may be where a cell is loaded at the way in")
def _(patch: Patch) -> None:
    load_cells = Frame._load_cells

    def unchecked(frame: Frame) -> None:
        with mock.patch.object(Frame, "is_tame", return_value=ir.Constant(BIT, 1)):
            load_cells(frame)

    patch.setattr(Frame, "_load_cells", unchecked)


@fault("the lower of two zeros is the second")
def _(patch: Patch) -> None:
    operations = arithmetic.NUMBER_OPERATIONS
    patch.setitem(operations, _O.FMIN, operations[_O.FMAX])


@fault("whole numbers become binary32 in two steps")
def _(patch: Patch) -> None:
    conversions = arithmetic.TO_NUMBER
    patch.setitem(conversions, _O.S_TO_FS, conversions[_O.S_TO_F])


@fault("numbers become unsigned as if signed")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.TO_WORD, _O.F_TO_U, arithmetic.TO_WORD[_O.F_TO_S])


@fault("numbers do not stop at a narrow type's bounds")
def _(patch: Patch) -> None:
    planned = operations.plan

    def unbounded(instruction: Instruction) -> Any:
        found = planned(instruction)
        narrow = found.operation is _O.F_TO_NARROW
        return replace(found, constants=()) if narrow else found

    patch.setattr(lowering, "plan", unbounded)


@fault("the lowest number is divided by -1 as by any")
def _(patch: Patch) -> None:
    for operation, name in arithmetic.SIGNED_DIVISIONS.items():
        patch.setitem(arithmetic.WORD_OPERATIONS, operation, arithmetic._plain(name))
    patch.setattr(arithmetic, "SIGNED_DIVISIONS", {})


@fault("what is divided by -1 stays as it is")
def _(patch: Patch) -> None:
    patch.setattr(arithmetic, "_of_minus_one", lambda _, x, __: x)


@fault("nobody looks for a divisor that is 0")
def _(patch: Patch) -> None:
    names = arithmetic.SIGNED_DIVISIONS | {_O.UDIV: "udiv", _O.UMOD: "urem"}

    def divided(frame: Frame, operation: Operation, x: Value, y: Value, _: Block) -> Value:
        return arithmetic._plain(names[operation])(frame, x, y)

    patch.setattr(arithmetic, "divided", divided)


@fault("a shift's count is not cut to the width")
def _(patch: Patch) -> None:
    patch.setattr(arithmetic, "SHIFTS", frozenset())


@fault("shifts of unsigned numbers keep the sign")
def _(patch: Patch) -> None:
    operations = arithmetic.WORD_OPERATIONS
    patch.setitem(operations, _O.USHR, operations[_O.SHR])


# --- lanes of vectors -------------------------------------------------------------------------
@fault("two lanes change places")
def _(patch: Patch) -> None:
    finish = packing.Packed.finish

    def crossed(packed: packing.Packed) -> None:
        first, second, *rest = packed._lanes.places
        packed._lanes = replace(packed._lanes, places=(second, first, *rest))
        finish(packed)

    patch.setattr(packing.Packed, "finish", crossed)


# --- control ----------------------------------------------------------------------------------
@fault("equal is not less or equal")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_LE, arithmetic.COMPARISONS[_O.BR_L])


@fault("unsigned numbers are compared as signed")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_UL, arithmetic.COMPARISONS[_O.BR_L])


@fault("NaN is not unequal")
def _(patch: Patch) -> None:
    patch.setitem(arithmetic.COMPARISONS, _O.BR_FNE, ("fcmp_ordered", "!="))


@fault("input and console are cells like others")
def _(patch: Patch) -> None:
    patch.setattr(code, "is_special", lambda _: False)


@fault("a function that changes its link is repeated where it is called")
def _(patch: Patch) -> None:
    patch.setattr(paths_module, "_keeps", lambda *_: True)


@fault("a call leaves the address of the call")
def _(patch: Patch) -> None:
    write_word = lowering.Lowering.write_word

    def linked(self: Any, instruction: Instruction, value: Value, *, is_safe: bool) -> None:
        is_call = instruction.mnemonic == "bl"
        write_word(self, instruction, word(instruction.address) if is_call else value,
                   is_safe=is_safe)  # fmt: skip

    patch.setattr(lowering.Lowering, "write_word", linked)
