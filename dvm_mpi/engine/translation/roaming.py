"""Pointers that go anywhere within a window, as LLVM: checked where they are used, and undone.

Nothing in a window may be left to the interpreter. So where such a check fails, the iteration is
undone, and the loop with checks does it again. The invariant to remember: all checks of an
iteration come before its first store to memory; until then it has changed cells only, whose values
were noted.
"""

from __future__ import annotations

from typing import Final

from llvmlite import ir

from dvm_mpi.engine.translation.accesses import Group
from dvm_mpi.engine.translation.cells import Place
from dvm_mpi.engine.translation.frame import BIT, I8, I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.loops import Loop
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.layout import PAGE_SHIFT

#: Pages that are looked at, upwards and downwards, when a pointer has first left what is known; and
#: so many times as many when it has for the 2nd, 4th, 8th time and so on. In between pages are
#: checked one by one, as where no window is: some pointers never come back.
_PAGES: Final = 512

#: LLVM keeps in registers what the way needs that it takes for the usual one.
_MOSTLY: Final = (64, 1)
_SELDOM: Final = (1, 64)


class Roaming:
    """One group of accesses by such a pointer, and the stretch that it may use as far as is known.

    Nothing takes a page's flags away before the unit is left.
    """

    def __init__(self, frame: Frame, memory: Memory, runtime: Runtime, group: Group) -> None:
        self._frame = frame
        self._memory = memory
        self._runtime = runtime
        self._group = group
        #: Where the group's first byte may lie: from the first address on, at so many.
        self._first, self._count = frame.kept(), frame.kept()
        self._flags, self._misses = frame.kept(), frame.kept()
        self._checked: Checked | None = None

    def check(self, base: Value, failed: Block) -> Checked:
        """Check all accesses of the group at once; to `failed` if they are not permitted."""
        frame, group = self._frame, self._group
        names = ("missed", "look", "alone", "known", "checked")
        missed, look, alone, known, checked = map(frame.block, names)
        builder = frame.builder
        start = builder.add(base, word(group.low))
        builder.cbranch(self._holds(start), known, missed).set_weights(_MOSTLY)
        frame.at(missed)
        builder = frame.builder
        misses = builder.add(builder.load(self._misses, typ=I64), word(1))
        builder.store(misses, self._misses)
        builder.cbranch(self._is_power_of_two(misses), look, alone).set_weights(_SELDOM)
        frame.at(look)
        self._look(start, builder.mul(misses, word(_PAGES)))
        frame.unless(failed, self._holds(start))
        frame.builder.branch(known)
        frame.at(known)
        tracked = [self._ask_tracked(start, checked)] if group.stores else []
        within = frame.builder.block
        frame.builder.branch(checked)
        frame.at(alone)
        once = self._memory.check(group, base, failed)
        behind = frame.builder.block
        frame.builder.branch(checked)
        frame.at(checked)
        is_tracked = None
        if once.is_tracked is not None:
            is_tracked = frame.builder.phi(BIT)
            is_tracked.add_incoming(ir.Constant(BIT, 0), known)
            is_tracked.add_incoming(*tracked, within)
            is_tracked.add_incoming(once.is_tracked, behind)
        self._checked = Checked(base, is_tracked)
        return self._checked

    def _ask_tracked(self, start: Value, checked: Block) -> Value:
        """Return whether stores to the group's pages are marked; to `checked` if to none known.

        A few pages of a table may still ask for marks that all others no longer ask for.
        """
        frame, memory, group = self._frame, self._memory, self._group
        some = frame.block("some")
        any_of = frame.builder.trunc(frame.builder.load(self._flags, typ=I64), I8)
        frame.builder.cbranch(memory.asks_marks(any_of), some, checked)
        frame.at(some)
        builder = frame.builder
        flags = memory.flag_of(builder.lshr(start, word(PAGE_SHIFT)))
        if group.high - group.low > 1:
            last = builder.add(start, word(group.high - group.low - 1))
            flags = builder.or_(flags, memory.flag_of(builder.lshr(last, word(PAGE_SHIFT))))
        return memory.asks_marks(flags)

    def _holds(self, start: Value) -> Value:
        """Return whether the group may begin at an address, as far as is known."""
        builder = self._frame.builder
        distance = builder.sub(start, builder.load(self._first, typ=I64))
        return builder.icmp_unsigned("<", distance, builder.load(self._count, typ=I64))

    def _is_power_of_two(self, value: Value) -> Value:
        builder = self._frame.builder
        rest = builder.and_(value, builder.sub(value, word(1)))
        return builder.icmp_unsigned("==", rest, word(0))

    def _look(self, start: Value, pages: Value) -> None:
        """Look how far pages like the one at an address reach, both ways."""
        look, flags = self._runtime.look, self._group.flags
        above = look(start, flags, 1, pages, is_mixed=True)
        below = look(start, flags, -1, pages, is_mixed=True)
        builder = self._frame.builder
        first = builder.extract_value(below, 0)
        end = builder.add(builder.extract_value(above, 0), builder.extract_value(above, 1))
        size = builder.sub(end, first)
        span = word(self._group.high - self._group.low)
        fits = builder.icmp_unsigned(">=", size, span)
        count = builder.add(builder.sub(size, span), word(1))
        builder.store(first, self._first)
        builder.store(builder.select(fits, count, word(0)), self._count)
        any_of = (builder.extract_value(run, 2) for run in (above, below))
        builder.store(builder.or_(*any_of), self._flags)

    def mark(self) -> None:
        """Mark what the iteration has stored, if the pages ask for it."""
        if not self._group.stores:
            return
        assert self._checked is not None, "a group that the iteration uses"
        frame, memory = self._frame, self._memory
        with frame.only_if(self._checked.is_tracked, "tracked"):
            for offset, width in sorted(set(self._group.stores)):
                memory.mark_always(frame.builder.add(self._checked.base, word(offset)), width)


class Roamers:
    """All such groups of one window, and what cells held when its present iteration began."""

    def __init__(self, frame: Frame, memory: Memory, runtime: Runtime, loop: Loop) -> None:
        self._frame = frame
        self._uneven = loop.uneven
        self._all = {group: Roaming(frame, memory, runtime, group) for group in loop.roaming}
        self._held: dict[Place, Value] = {}
        self._stopped: Block = frame.block("stopped") if loop.roaming else None

    def __contains__(self, group: Group) -> bool:
        return group in self._all

    def begin(self) -> None:
        """Begin an iteration: note what cells hold."""
        for place in self._uneven if self._all else ():
            variable = self._frame.variables[place]
            self._held[place] = self._frame.builder.load(variable, typ=variable.allocated_type)

    def check(self, group: Group, base: Value) -> Checked:
        """Check all accesses of a group; the iteration is undone if they are not permitted."""
        return self._all[group].check(base, self._stopped)

    def end(self) -> None:
        """End an iteration: mark what was stored."""
        for one in self._all.values():
            one.mark()

    def finish(self, count: Value, checked: Block, done: Block) -> None:
        """Build how an iteration is undone behind `count` others: to `checked` if behind none."""
        if not self._all:
            return
        frame = self._frame
        frame.at(self._stopped)
        for place, value in self._held.items():
            frame.builder.store(value, frame.variables[place])
        none = frame.builder.icmp_unsigned("==", count, word(0))
        frame.builder.cbranch(none, checked, done)
