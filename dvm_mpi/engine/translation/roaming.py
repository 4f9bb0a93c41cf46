"""Pointers that go anywhere within a window, as LLVM: checked where they are used, and undone.

Nothing in a window may be left to the interpreter. So where such a check fails, the iteration is
undone, and the loop with checks does it again. The invariant to remember: all checks of an
iteration come before its first store to memory; until then it has changed cells only, whose values
were noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llvmlite import ir

from dvm_mpi.engine.translation.accesses import Group
from dvm_mpi.engine.translation.cells import Place
from dvm_mpi.engine.translation.frame import BIT, I8, I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.loops import Loop
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.layout import PAGE_SHIFT, PR_END, PR_START

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
        self._flags, self._misses, self._tries = frame.kept(), frame.kept(), frame.kept()
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
        is_known_tracked = self._ask_tracked(start)
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
            is_tracked.add_incoming(is_known_tracked, within)
            is_tracked.add_incoming(once.is_tracked, behind)
        self._checked = Checked(base, is_tracked)
        return self._checked

    def trust(self, base: Value, low: int, high: int) -> Checked:
        """Take all accesses of the group as permitted, since `enclose` has seen that they are."""
        group = self._group
        is_tracked = None
        # Stores to private memory are never marked.
        if low < PR_START or high + group.high - group.low > PR_END:
            is_tracked = self._ask_tracked(self._frame.builder.add(base, word(group.low)))
        self._checked = Checked(base, is_tracked)
        return self._checked

    def enclose(self, low: int, high: int, failed: Block) -> None:
        """Go on if the group may begin anywhere from `low` to `high`; else to `failed`."""
        frame, group = self._frame, self._group
        look, known = frame.block("look"), frame.block("known")
        frame.builder.cbranch(self._encloses(low, high), known, look)
        frame.at(look)
        builder = frame.builder
        tries = builder.add(builder.load(self._tries, typ=I64), word(1))
        builder.store(tries, self._tries)
        frame.unless(failed, self._is_power_of_two(tries))
        last = high + group.high - group.low - 1
        pages = (last >> PAGE_SHIFT) - (low >> PAGE_SHIFT) + 1
        # The last page first, which is there last where a table is used for the first time.
        wanted = ir.Constant(I8, group.flags)
        builder = frame.builder
        flags = builder.and_(self._memory.flag_of(word(last >> PAGE_SHIFT)), wanted)
        frame.unless(failed, builder.icmp_unsigned("==", flags, wanted))
        self._keep(self._runtime.look(word(low), group.flags, 1, word(pages), is_mixed=True))
        frame.unless(failed, self._encloses(low, high))
        self._settle()
        frame.go(known)

    def _encloses(self, low: int, high: int) -> Value:
        builder = self._frame.builder
        return builder.and_(self._holds(word(low)), self._holds(word(high)))

    def _ask_tracked(self, start: Value) -> Value | None:
        """Return whether stores to the group's pages, which are known, are marked.

        A few pages of a table may still ask for marks that all others no longer ask for.
        """
        frame, memory, group = self._frame, self._memory, self._group
        if not group.stores:
            return None
        before = frame.builder.block
        some, asked = frame.block("some"), frame.block("asked")
        any_of = frame.builder.trunc(frame.builder.load(self._flags, typ=I64), I8)
        frame.builder.cbranch(memory.asks_marks(any_of), some, asked)
        frame.at(some)
        builder = frame.builder
        flags = memory.flag_of(builder.lshr(start, word(PAGE_SHIFT)))
        if group.high - group.low > 1:
            last = builder.add(start, word(group.high - group.low - 1))
            flags = builder.or_(flags, memory.flag_of(builder.lshr(last, word(PAGE_SHIFT))))
        is_marked = memory.asks_marks(flags)
        within = frame.builder.block
        frame.go(asked)
        is_tracked = frame.builder.phi(BIT)
        is_tracked.add_incoming(ir.Constant(BIT, 0), before)
        is_tracked.add_incoming(is_marked, within)
        return is_tracked

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
        self._keep(above, below)
        self._settle()

    def _settle(self) -> None:
        """Ask for no more marks where the group has stored to all bytes of what is now known."""
        if not self._group.stores:
            return
        frame = self._frame
        flags = frame.builder.trunc(frame.builder.load(self._flags, typ=I64), I8)
        with frame.only_if(self._memory.asks_marks(flags), "settling"):
            builder = frame.builder
            first = builder.load(self._first, typ=I64)
            # Of the pages between where the group may begin first and last.
            end = builder.add(first, builder.load(self._count, typ=I64))
            last = builder.lshr(builder.sub(end, word(1)), word(PAGE_SHIFT))
            self._runtime.settle(builder.lshr(first, word(PAGE_SHIFT)), last)

    def _keep(self, above: Value, below: Value | None = None) -> None:
        """Keep what is known from one run of pages on, or from two that meet at an address."""
        builder = self._frame.builder
        runs = [run for run in (below, above) if run is not None]
        first = builder.extract_value(runs[0], 0)
        end = builder.add(builder.extract_value(above, 0), builder.extract_value(above, 1))
        size = builder.sub(end, first)
        span = word(self._group.high - self._group.low)
        fits = builder.icmp_unsigned(">=", size, span)
        count = builder.add(builder.sub(size, span), word(1))
        builder.store(first, self._first)
        builder.store(builder.select(fits, count, word(0)), self._count)
        flags = builder.extract_value(runs[0], 2)
        for run in runs[1:]:
            flags = builder.or_(flags, builder.extract_value(run, 2))
        builder.store(flags, self._flags)

    def mark(self) -> None:
        """Mark what the iteration has stored, if the pages ask for it."""
        assert self._checked is not None, "a group that the iteration uses"
        if self._checked.is_tracked is None:
            return
        frame, memory = self._frame, self._memory
        with frame.only_if(self._checked.is_tracked, "tracked"):
            for offset, width in sorted(set(self._group.stores)):
                memory.mark_always(frame.builder.add(self._checked.base, word(offset)), width)


class Roamers:
    """All such groups of one window, and what cells held when its present iteration began.

    `enclosed`: groups that need no check in an iteration, since they may be used wherever their
    pointers can lead to; by group, from where to where. Others that share `roaming` do not say so.
    """

    def __init__(
        self,
        frame: Frame,
        loop: Loop,
        roaming: Mapping[Group, Roaming],
        enclosed: Mapping[Group, tuple[int, int]] | None = None,
    ) -> None:
        self._frame = frame
        self._uneven = loop.uneven
        self._all = roaming
        self._enclosed = enclosed or {}
        #: Whether iterations may be undone.
        self.is_checked = len(self._all) > len(self._enclosed)
        self._held: dict[Place, Value] = {}
        self._stopped: Block = frame.block("stopped") if self.is_checked else None

    def __contains__(self, group: Group) -> bool:
        return group in self._all

    def enclose(self, failed: Block) -> None:
        """Go on if all that is enclosed is permitted; else to `failed`."""
        for group, (low, high) in self._enclosed.items():
            self._all[group].enclose(low, high, failed)

    def begin(self) -> None:
        """Begin an iteration: note what cells hold."""
        for place in self._uneven if self.is_checked else ():
            variable = self._frame.variables[place]
            self._held[place] = self._frame.builder.load(variable, typ=variable.allocated_type)

    def check(self, group: Group, base: Value) -> Checked:
        """Check all accesses of a group; the iteration is undone if they are not permitted."""
        if group in self._enclosed:
            return self._all[group].trust(base, *self._enclosed[group])
        return self._all[group].check(base, self._stopped)

    def end(self) -> None:
        """End an iteration: mark what was stored."""
        for one in self._all.values():
            one.mark()

    def finish(self, count: Value, checked: Block, done: Block) -> None:
        """Build how an iteration is undone behind `count` others: to `checked` if behind none."""
        if not self.is_checked:
            return
        frame = self._frame
        frame.at(self._stopped)
        for place, value in self._held.items():
            frame.builder.store(value, frame.variables[place])
        none = frame.builder.icmp_unsigned("==", count, word(0))
        frame.builder.cbranch(none, checked, done)
