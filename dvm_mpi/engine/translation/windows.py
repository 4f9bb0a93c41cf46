"""Loops without checks, as LLVM: so many iterations at once as need none (see loops.py).

Before a window everything is checked that the loop's checks would have asked; behind it what they
would have done is done for all iterations: fuel, masks of stored bytes, cells that moved evenly.
In between there is the plain loop, which LLVM can unroll and vectorise.
The invariant to remember: nothing in a window can leave to the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.engine.address_space import TRACK
from dvm_mpi.engine.operations import plan
from dvm_mpi.engine.records import Word
from dvm_mpi.engine.translation.accesses import Group, Groups
from dvm_mpi.engine.translation.bounds import bounds_of
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.translation.frame import I8, I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.iterations import Spent, build_iteration
from dvm_mpi.engine.translation.lanes import Number, lanes_of
from dvm_mpi.engine.translation.loops import Condition, Loop, Stream, has_large_body, step_of
from dvm_mpi.engine.translation.lowering import Lowering
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.packing import Packed
from dvm_mpi.engine.translation.roaming import Roamers, Roaming
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.layout import PAGE_SHIFT, WORD_BYTES

#: Iterations below which preparing a window takes longer than it saves.
ITERATIONS_MIN: Final = 4
#: Iterations of one window: with STEP_MAX, no distance overflows.
_ITERATIONS_MAX: Final = 1 << 32
#: Pages that are looked at for a loop whose end is not known.
_PAGES_UNCOUNTED: Final = 16
_S_MAX: Final = (1 << 63) - 1
_U_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Ready:
    """A stream at the beginning of a window: its first byte, if stores are marked, loads noted."""

    stream: Stream
    start: Value
    is_tracked: Value
    is_noted: Value | None


class Kept:
    """A stretch of bytes of which something is known until the unit is left; empty at first."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._first, self._size = frame.kept(), frame.kept()

    def ends(self) -> tuple[Value, Value]:
        """Return its first byte, and how many there are."""
        load = self._frame.builder.load
        return load(self._first, typ=I64), load(self._size, typ=I64)

    def keep(self, first: Value, size: Value) -> None:
        """Take another stretch in its place."""
        self._frame.builder.store(first, self._first)
        self._frame.builder.store(size, self._size)

    def holds(self, start: Value, length: Value) -> Value:
        """Return whether `length` bytes from `start` on are within."""
        builder = self._frame.builder
        first, size = self.ends()
        offset = builder.sub(start, first)
        begins = builder.icmp_unsigned("<", offset, size)
        return builder.and_(begins, builder.icmp_unsigned("<=", length, builder.sub(size, offset)))


class Run(Kept):
    """A run of pages with the same flags, as `Runtime.look` has found it."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self._flags = frame.kept()

    def take(self, found: Value) -> None:
        """Take another run in its place."""
        builder = self._frame.builder
        self.keep(*(builder.extract_value(found, index) for index in range(2)))
        builder.store(builder.extract_value(found, 2), self._flags)

    def flags(self) -> Value:
        """Return its flags, as a word."""
        return self._frame.builder.load(self._flags, typ=I64)

    def is_tracked(self) -> Value:
        """Return whether stores to it are marked."""
        builder = self._frame.builder
        tracked = builder.and_(self.flags(), word(TRACK))
        return builder.icmp_unsigned("!=", tracked, word(0))


class WindowLowering(Lowering):
    """Lowers the loop's instructions where `index` counts the iterations of a window."""

    def __init__(
        self,
        frame: Frame,
        memory: Memory,
        loop: Loop,
        groups: Groups,
        ready: Sequence[Ready],
        roamers: Roamers,
    ) -> None:
        super().__init__(frame, memory)
        self.roamers = roamers
        self.begin(groups)
        self._groups_here = groups
        self._loop = loop
        self._ready = {r.stream.group: r for r in ready}
        self._origins: dict[Place, Value] = {}
        self._pointers = {r.stream.group: self._origin(r) for r in ready}
        self._first: dict[Place, Value] = {}
        for place in loop.steps:
            self._first[place] = super().cell_word(frame.cells[place])
        self._moved = dict.fromkeys(loop.steps, 0)
        self.index: Value = None

    def _origin(self, one: Ready) -> Value:
        """Return where a stream begins: within one object for all streams of a pointer."""
        group = one.stream.group
        if group.pointer is None:
            return self._memory.pointer_to(one.start)
        if group.pointer not in self._origins:
            value = super().cell_word(self._frame.cells[group.pointer])
            self._origins[group.pointer] = self._memory.origin_at(value)
        offset = word(one.stream.offset + group.low)
        return self._frame.builder.gep(self._origins[group.pointer], [offset], source_etype=I8)

    @property
    def failed(self) -> Value:
        """There is no way out of a window."""
        raise AssertionError(f"{self._instruction} cannot be left to the interpreter here")

    def lower(self, instruction: Instruction) -> None:
        """Lower an instruction; what only moves a cell evenly is noted."""
        moved = step_of(instruction, self._frame.cells)
        if moved is not None and moved[0] in self._loop.steps:
            self._moved[moved[0]] += moved[1]
        else:
            super().lower(instruction)

    def cell_word(self, cell: Cell) -> Value:
        """Return what a cell holds: computed from the count where it moves evenly."""
        place = cell.address, cell.width
        if place not in self._first:
            return super().cell_word(cell)
        builder = self._frame.builder
        moved = builder.mul(self.index, word(self._loop.steps[place]))
        value = builder.add(self._first[place], moved)
        return builder.add(value, word(self._moved[place])) if self._moved[place] else value

    def pointer(self, operand: Operand, index: int, width: int) -> Value:
        """Return where an operand is: an even distance from where its stream began.

        What is loaded in a window is noted behind it.
        """
        group, _ = self._groups_here[self._executed, index]
        if group is None or group in self.roamers:
            return super().pointer(operand, index, width)
        builder = self._frame.builder
        stream = self._ready[group].stream
        offset = operand.value if group.pointer is None else operand.displacement
        pointer = self._pointers[group]
        if stream.step:
            distance = builder.mul(self.index, word(stream.step), flags=("nsw",))
            pointer = builder.gep(pointer, [distance], inbounds=True, source_etype=I8)
        if offset == group.low:
            return pointer
        place = word(offset - group.low)
        return builder.gep(pointer, [place], inbounds=True, source_etype=I8)

    def pointer_of(self, number: Number) -> Value:
        """Return where a number lies that the iteration loads."""
        position, index = number.at
        instruction = self._loop.body.instructions[position]
        self.place(position, instruction)
        return self.pointer(instruction.operands[index], index, WORD_BYTES)

    def marked_pointer(self, operand: Operand, index: int, width: int) -> Value:
        """Return where an operand is; what is stored in a window is marked behind it."""
        return self.pointer(operand, index, width)

    def check(self, group: Group, base: Value) -> Checked:
        """Check all accesses of a group whose pointer goes anywhere."""
        return self.roamers.check(group, base)

    def finish(self, count: Value) -> None:
        """Give the cells that moved evenly their values after `count` iterations."""
        builder = self._frame.builder
        for place, step in self._loop.steps.items():
            moved = builder.mul(count, word(step))
            builder.store(builder.add(self._first[place], moved), self._frame.variables[place])


@dataclass(frozen=True, slots=True)
class _Ways:
    """Where to go if no window is possible, if the loop goes on behind it, and if it has ended."""

    checked: Block
    again: Block
    behind: Block


class Window:
    """Builds the windows of one loop. `is_alone`: there is no loop with checks beside them."""

    def __init__(
        self,
        frame: Frame,
        memory: Memory,
        runtime: Runtime,
        loop: Loop,
        groups: Groups,
        *,
        is_alone: bool = False,
    ) -> None:
        self._frame = frame
        self._memory = memory
        self._runtime = runtime
        self._loop = loop
        self._groups = groups
        self._is_alone = is_alone
        self._least = 1 if is_alone else ITERATIONS_MIN
        #: Reads cells as they are before the window.
        self._plain = Lowering(frame, memory)
        self._plain.begin(groups)

    def build(self, checked: Block, again: Block, behind: Block, fuel_behind: int) -> None:
        """Build a window here.

        Parameters
        ----------
        checked
            Where to go if no window is possible: the loop with its checks.
        again
            Where to go after a window if the loop goes on.
        behind
            Where to go when the loop has ended, counted.
        fuel_behind
            What is executed there at most until fuel is checked again.
        """
        frame, loop = self._frame, self._loop
        size = loop.body.most
        left = frame.builder.load(frame.left, typ=I64)
        if fuel_behind:
            # A window may be the loop's last one, and nobody checks between it and what follows.
            left = frame.builder.sub(left, word(fuel_behind))
        most = self._smaller(frame.builder.udiv(left, word(size)), word(_ITERATIONS_MAX))
        ready_fuel = frame.builder.icmp_signed(">=", left, word(size * self._least))
        frame.unless(checked, ready_fuel)
        trips = None
        if loop.condition is not None:
            trips = self._trips(loop.condition, checked)
            builder = frame.builder
            enough = builder.icmp_unsigned(">=", trips, word(self._least))
            frame.unless(checked, enough)
            most = self._smaller(most, trips)
        ready = []
        for stream in loop.streams:
            one, most = self._open(stream, most, checked)
            ready.append(one)
        self._keep_apart(ready, most, checked)
        ways = _Ways(checked, again, behind)
        memory, runtime = self._memory, self._runtime
        roaming = {group: Roaming(frame, memory, runtime, group) for group in loop.roaming}
        bounds = bounds_of(loop, self._groups, frame.cells)
        roamers = Roamers(frame, loop, roaming, bounds)
        if bounds and (len(bounds) < len(roaming) or not has_large_body(loop)):
            # Twice the code: without a check in each iteration, and with it. Of a large body that
            # is too much where no other pointer wants the second.
            anywhere = frame.block("anywhere")
            roamers.enclose(anywhere)
            self._repeat(roamers, ready, most, trips, ways)
            frame.at(anywhere)
            roamers = Roamers(frame, loop, roaming)
        roamers.enclose(checked)
        self._repeat(roamers, ready, most, trips, ways)

    def _repeat(
        self,
        roamers: Roamers,
        ready: Sequence[Ready],
        most: Value,
        trips: Value | None,
        ways: _Ways,
    ) -> None:
        """Build at most `most` iterations, and all that follows from them."""
        frame, loop = self._frame, self._loop
        lowering = WindowLowering(frame, self._memory, loop, self._groups, ready, roamers)
        # Places that are stored to in any order are nothing that LLVM vectorises.
        is_chain = not roamers.is_checked and any(group.stores for group in loop.roaming)
        spent = Spent(frame, loop.body, is_chain=is_chain)
        count, goes_on = self._loop_body(lowering, most, trips, spent, ways.checked)
        spent.finish(count)
        lowering.finish(count)
        # Loads first: what the window itself has stored is none of what it has loaded.
        for one in ready:
            self._note(one, count)
        for one in ready:
            self._mark(one, count)
        frame.builder.cbranch(goes_on, ways.again, ways.behind)

    def _smaller(self, x: Value, y: Value) -> Value:
        builder = self._frame.builder
        return builder.select(builder.icmp_unsigned("<", x, y), x, y)

    # --- the loop -----------------------------------------------------------------------------
    def _loop_body(
        self,
        lowering: WindowLowering,
        most: Value,
        trips: Value | None,
        spent: Spent,
        checked: Block,
    ) -> tuple[Value, Value]:
        """Build the loop of at most `most` iterations; return how many were, and if it goes on.

        To `checked` if there was none.
        """
        frame, loop = self._frame, self._loop
        counter = frame.variable(I64)
        frame.builder.store(word(0), counter)
        body, done = frame.block("window"), frame.block("done")
        # A pointer that goes anywhere is read once, where it is used.
        found = [] if loop.roaming else lanes_of(loop.body, frame.cells, self._groups)
        packed = [Packed(frame, self._memory, lanes, lowering.pointer_of) for lanes in found]
        for one in packed:
            one.begin()
        frame.go(body)
        index = frame.builder.load(counter, typ=I64)
        lowering.index = index
        for one in packed:
            one.begin_iteration()
        lowering.roamers.begin()
        last = build_iteration(frame, lowering, loop.body, spent)
        for one in packed:
            one.end_iteration()
        # Whether the loop itself would go on; where it is counted, that is known beforehand.
        lowering.place(len(loop.body.instructions) - 1, last)
        goes_on = None if trips is not None else lowering.compare(last)
        lowering.roamers.end()
        builder = frame.builder
        count = builder.add(index, word(1), flags=("nuw", "nsw"))
        builder.store(count, counter)
        more = builder.icmp_unsigned("<", count, most)
        if goes_on is not None:
            more = builder.and_(more, goes_on)
        back = builder.cbranch(more, body, done)
        if self._is_alone:
            # A large body has enough operations side by side; it need not be there four times.
            back.set_metadata("llvm.loop", frame.loop_hints(("llvm.loop.interleave.count", 1)))
        lowering.roamers.finish(index, checked, done)
        frame.at(done)
        count = frame.builder.load(counter, typ=I64)
        for one in packed:
            one.finish()
        if goes_on is None:
            assert trips is not None
            goes_on = frame.builder.icmp_unsigned("<", count, trips)
        return count, goes_on

    # --- how long it can be -------------------------------------------------------------------
    def _trips(self, condition: Condition, failed: Block) -> Value:
        """Return how many iterations the loop takes from here on; to `failed` if it may wrap."""
        frame, builder = self._frame, self._frame.builder
        instructions = self._loop.body.instructions
        last = instructions[-1]
        self._plain.place(len(instructions) - 1, last)
        cell = frame.cells[condition.moving]
        moving = builder.add(self._plain.cell_word(cell), word(condition.offset))
        if condition.bound < len(last.operands):
            bound = self._plain.read_word(last, condition.bound, Word.Q)
        else:
            bound = word(plan(last).constants[0])
        step = abs(condition.step)
        low, high = (moving, bound) if condition.step > 0 else (bound, moving)
        distance = builder.sub(high, low)
        if condition.until_equal:
            rest = builder.urem(distance, word(step))
            frame.unless(failed, builder.icmp_unsigned("==", rest, word(0)))
            return frame.builder.add(frame.builder.udiv(distance, word(step)), word(1))
        compare = builder.icmp_signed if condition.is_signed else builder.icmp_unsigned
        # Behind the last comparison that holds, the cell may move past the bound, but not wrap.
        if condition.step > 0:
            edge = (_S_MAX if condition.is_signed else _U_MAX) - step
            frame.unless(failed, compare("<=", bound, word(edge)))
        else:
            edge = (-_S_MAX - 1 if condition.is_signed else 0) + step
            frame.unless(failed, compare(">=", bound, word(edge)))
        builder = frame.builder
        compare = builder.icmp_signed if condition.is_signed else builder.icmp_unsigned
        if condition.equal_goes_on:
            holds = compare("<=", low, high)
            more = builder.add(builder.udiv(distance, word(step)), word(2))
        else:
            holds = compare("<", low, high)
            whole = builder.udiv(builder.sub(distance, word(1)), word(step))
            more = builder.add(whole, word(2))
        return builder.select(holds, more, word(1))

    def _start(self, stream: Stream) -> Value:
        """Return a stream's first byte."""
        frame, group = self._frame, stream.group
        if group.pointer is None:
            return word(group.low)
        pointer = self._plain.cell_word(frame.cells[group.pointer])
        return frame.builder.add(pointer, word(stream.offset + group.low))

    def _open(self, stream: Stream, most: Value, failed: Block) -> tuple[Ready, Value]:
        """Return a stream, and for how many iterations it is permitted, at most `most`.

        To `failed` if for none. What pages it may use was perhaps found out for an earlier window;
        nothing changes that before the unit is left.
        """
        frame, group, step = self._frame, stream.group, stream.step
        start = self._start(stream)
        span = word(group.high - group.low)
        builder = frame.builder
        run = Run(frame)
        # The first and last of all the bytes that `most` iterations reach.
        reach = builder.mul(builder.sub(most, word(1)), word(abs(step)))
        low = builder.sub(start, reach) if step < 0 else start
        length = builder.add(reach, span)
        known, look, some, ready = map(frame.block, ("known", "look", "some", "ready"))
        builder.cbranch(run.holds(low, length), known, look)
        frame.at(look)
        run.take(self._look(stream, start, length))
        frame.builder.cbranch(run.holds(low, length), known, some)
        frame.at(some)
        frame.unless(failed, run.holds(start, span))
        builder = frame.builder
        first, size = run.ends()
        if step < 0:
            beyond = builder.sub(start, first)
        else:
            beyond = builder.sub(builder.sub(builder.add(first, size), start), span)
        fewer = most if step == 0 else builder.udiv(beyond, word(abs(step)))
        fewer = fewer if step == 0 else builder.add(fewer, word(1))
        partly = builder.block
        builder.branch(ready)
        frame.at(known)
        frame.builder.branch(ready)
        frame.at(ready)
        builder = frame.builder
        count = builder.phi(I64)
        count.add_incoming(fewer, partly)
        count.add_incoming(most, known)
        is_noted = None
        if self._memory.notes_loads and group.loads:
            is_noted = self._memory.asks_notes(builder.trunc(run.flags(), I8), group.flags)
        return Ready(stream, start, run.is_tracked(), is_noted), count

    def _look(self, stream: Stream, start: Value, length: Value) -> Value:
        """Look for the run of pages that a stream may use from `start` on."""
        builder = self._frame.builder
        span = stream.group.high - stream.group.low
        direction = -1 if stream.step < 0 else 1
        first = builder.add(start, word(span - 1)) if direction < 0 else start
        pages = builder.add(builder.lshr(length, word(PAGE_SHIFT)), word(2))
        if self._loop.condition is None:
            # Nobody knows how soon it ends.
            pages = self._smaller(pages, word(_PAGES_UNCOUNTED))
        return self._runtime.look(first, stream.group.flags, direction, pages)

    # --- what was loaded and stored -----------------------------------------------------------
    def _keep_apart(self, ready: Sequence[Ready], most: Value, failed: Block) -> None:
        """To `failed` if one stream stores what another loads, and loads are noted.

        What an iteration has stored, later ones load without a note; all that is known behind a
        window is whether something was stored before it.
        """
        frame = self._frame
        for one in ready:
            for other in ready:
                if one is other or one.is_noted is None or not other.stream.group.stores:
                    continue
                apart = self._apart(one, other, most)
                builder = frame.builder
                matters = builder.and_(one.is_noted, other.is_tracked)
                frame.unless(failed, builder.or_(apart, builder.not_(matters)))

    def _apart(self, one: Ready, other: Ready, most: Value) -> Value:
        """Return whether two streams have no byte in common in `most` iterations."""
        builder = self._frame.builder
        ends = []
        for ready in (one, other):
            step, group = ready.stream.step, ready.stream.group
            reach = builder.mul(builder.sub(most, word(1)), word(abs(step)))
            low = builder.sub(ready.start, reach) if step < 0 else ready.start
            ends.append((low, builder.add(low, builder.add(reach, word(group.high - group.low)))))
        (low, high), (other_low, other_high) = ends
        below = builder.icmp_unsigned("<=", high, other_low)
        return builder.or_(below, builder.icmp_unsigned("<=", other_high, low))

    def _note(self, one: Ready, count: Value) -> None:
        """Note what a stream has loaded in `count` iterations."""
        if one.is_noted is not None:
            how = self._runtime.note_range, self._runtime.note_each
            self._tell(one, count, one.is_noted, one.stream.group.loads, *how)

    def _mark(self, one: Ready, count: Value) -> None:
        """Mark what a stream has stored in `count` iterations."""
        how = self._runtime.mark_range, self._runtime.mark_each
        self._tell(one, count, one.is_tracked, one.stream.group.stores, *how)

    def _tell(
        self,
        one: Ready,
        count: Value,
        matters: Value,
        accesses: Sequence[tuple[int, int]],
        tell_range: Callable[[Value, Value], None],
        tell_each: Callable[[Value, Value, Value, int], None],
    ) -> None:
        """Mark or note what a stream's accesses reached, by offset and width, if it `matters`."""
        if not accesses:
            return
        stream = one.stream
        group = stream.group
        places = sorted(set(accesses))
        step = abs(stream.step)
        low = places[0][0]
        with self._frame.only_if(matters, "telling"):
            builder = self._frame.builder
            if step and _is_gapless(places) and max(o + w for o, w in places) - low == step:
                length = builder.mul(count, word(step))
                start = builder.add(one.start, word(low - group.low))
                if stream.step < 0:
                    start = builder.add(builder.sub(start, length), word(step))
                self._tell_new(start, length, tell_range)
            else:
                for offset, width in places:
                    start = builder.add(one.start, word(offset - group.low))
                    times = count if step else word(1)
                    tell_each(start, word(stream.step), times, width)

    def _tell_new(self, start: Value, length: Value, tell: Callable[[Value, Value], None]) -> None:
        """Mark or note a range, unless the last one that this stream has told holds it.

        Nothing takes marks and notes away before the unit is left; and a loop that adds up the rows
        of a matrix stores to one row as often as there are rows.
        """
        frame = self._frame
        last = Kept(frame)
        with frame.only_if(frame.builder.not_(last.holds(start, length)), "new"):
            tell(start, length)
            last.keep(start, length)


def _is_gapless(stores: Sequence[tuple[int, int]]) -> bool:
    end = stores[0][0]
    for offset, width in stores:
        if offset > end:
            return False
        end = max(end, offset + width)
    return True
