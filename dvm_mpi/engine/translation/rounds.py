"""Rounds without checks, as LLVM: many turns of a loop around a loop at once (see nests.py).

As a window (windows.py), one level up: everything is checked before the first round, and marked
and counted behind the last. The loop is entered and left where its inner loop begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llvmlite import ir

from dvm_mpi.disa.instruction import Operand
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.translation.abreast import (
    ABREAST,
    RoundAbreast,
    Rows,
    differing_cells,
    rows_of,
)
from dvm_mpi.engine.translation.accesses import Groups
from dvm_mpi.engine.translation.frame import I64, Block, Frame, Value, word
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.iterations import Spent, build_iteration
from dvm_mpi.engine.translation.loops import Condition, Loop
from dvm_mpi.engine.translation.lowering import Lowering
from dvm_mpi.engine.translation.memory import Checked, Memory
from dvm_mpi.engine.translation.nests import Even, Move, Nest, Reset, RoundStream
from dvm_mpi.engine.translation.roaming import Roamers
from dvm_mpi.engine.translation.runtime import Runtime
from dvm_mpi.engine.translation.windows import Ready, Run, Window, WindowLowering
from dvm_mpi.layout import PAGE_SHIFT

#: Rounds below which preparing them takes longer than it saves.
ROUNDS_MIN: Final = 2
#: Rounds, and turns of the inner loop in each: with STEP_MAX, no distance overflows.
_TURNS_MAX: Final = 1 << 20


class _Outside(Lowering):
    """Lowers what is outside of the inner loop, where every access has been checked."""

    @property
    def failed(self) -> Value:
        """There is no way out of a round."""
        raise AssertionError(f"{self._instruction} cannot be left to the interpreter here")

    def address(self, operand: Operand, index: int) -> tuple[Value, Checked | None]:
        """Return an operand's address; what is stored there is marked behind the rounds."""
        group, _ = self._groups[self._executed, index]
        if group is None or group.pointer is None or operand.mode is Mode.DIRECT:
            return word(operand.value), None
        pointer = self.cell_word(self._frame.cells[group.pointer])
        return self._frame.builder.add(pointer, word(operand.displacement)), None


class _Latch(Window):
    """Counts the rounds that a loop takes by the branch at its end."""

    def rounds(self, condition: Condition, failed: Block) -> Value:
        """Return how often the branch is taken from here on."""
        return self._frame.builder.sub(self._trips(condition, failed), word(1))


class Rounds(Window):
    """Builds the rounds of one nest. `groups`: those of each block, by its address."""

    def __init__(
        self,
        frame: Frame,
        memory: Memory,
        runtime: Runtime,
        nest: Nest,
        groups: Mapping[int, Groups],
    ) -> None:
        super().__init__(frame, memory, runtime, nest.inner, groups[nest.inner.body.head.address])
        self._nest = nest
        self._all_groups = groups
        #: Where each round adds to the same row, some rounds at a time.
        self._rows = rows_of(nest, groups, frame.cells)

    def build_rounds(self, again: Block, failed: Block) -> None:
        """Build as many rounds as are possible here, then `again`; `failed` if there are few."""
        frame, nest = self._frame, self._nest
        assert nest.inner.condition is not None
        turns = self._trips(nest.inner.condition, failed)
        # As many turns as there are numbers come out as none.
        behind_first = frame.builder.sub(turns, word(1))
        frame.unless(failed, frame.builder.icmp_unsigned("<", behind_first, word(_TURNS_MAX)))
        latch = Loop(Body((nest.latch,)), {}, (), nest.condition, (), ())
        groups = self._all_groups[nest.latch.address]
        counter = _Latch(frame, self._memory, self._runtime, latch, groups)
        rounds = counter.rounds(nest.condition, failed)
        builder = frame.builder
        inside = builder.mul(turns, word(len(nest.inner.body.instructions)))
        fuel = builder.add(inside, word(len(nest.outside)))
        # Fuel is never negative where it has been counted for the way here.
        left = builder.load(frame.left, typ=I64)
        frame.unless(failed, builder.icmp_signed(">", left, fuel))
        builder = frame.builder
        most = self._smaller(rounds, word(_TURNS_MAX))
        most = self._smaller(most, builder.udiv(left, fuel))
        self._unless_few(most, failed)
        for reset in nest.resets:
            frame.unless(failed, self._is_as_left(reset, turns))
        ready: list[Ready] = []
        lengths: list[Value] = []
        for stream in nest.streams:
            one, most, length = self._open_rounds(stream, most, turns, failed)
            ready.append(one)
            lengths.append(length)
        counter = frame.variable(I64)
        frame.builder.store(word(0), counter)
        done = frame.block("rounds")
        if self._rows:
            abreast = self._abreast(most, self._are_rows_apart(ready, lengths))
            self._build_abreast(turns, abreast, counter, failed)
            body = frame.block("one")
            count = frame.builder.load(counter, typ=I64)
            frame.builder.cbranch(frame.builder.icmp_unsigned("<", count, most), body, done)
            frame.at(body)
        self._build_rounds(turns, most, counter, done, failed)
        builder = frame.builder
        for stream, one in zip(nest.streams, ready, strict=True):
            count = turns if stream.is_inner else most
            if stream.is_inner and stream.move != Move():
                count = frame.builder.mul(turns, most)
            self._mark(one, count)
        builder = frame.builder
        used = builder.mul(most, fuel)
        builder.store(builder.sub(builder.load(frame.left, typ=I64), used), frame.left)
        builder.branch(again)

    def _unless_few(self, rounds: Value, failed: Block) -> None:
        builder = self._frame.builder
        self._frame.unless(failed, builder.icmp_unsigned(">=", rounds, word(ROUNDS_MIN)))

    # --- what is known beforehand -------------------------------------------------------------
    def _value(self, even: Even, turns: Value) -> Value:
        builder = self._frame.builder
        if isinstance(even.base, int):
            base = word(even.base)
        else:
            base = self._plain.cell_word(self._frame.cells[even.base])
        return builder.add(base, self._distance(Move(even.more, even.each), turns))

    def _distance(self, move: Move, turns: Value) -> Value:
        builder = self._frame.builder
        if not move.each:
            return word(move.more)
        return builder.add(builder.mul(turns, word(move.each)), word(move.more))

    def _is_as_left(self, reset: Reset, turns: Value) -> Value:
        """Return whether a cell holds what a round before would have left in it."""
        builder = self._frame.builder
        left = builder.sub(self._value(reset.last, turns), self._distance(reset.move, turns))
        cell = self._frame.cells[reset.place]
        return builder.icmp_unsigned("==", self._plain.cell_word(cell), left)

    def _open_rounds(
        self, one: RoundStream, most: Value, turns: Value, failed: Block
    ) -> tuple[Ready, Value, Value]:
        """Return a stream, and for how many rounds it is permitted, at most `most`.

        And how many bytes lie between the ends of what `most` rounds access.
        """
        frame, group = self._frame, one.stream.group
        builder = frame.builder
        start = builder.add(self._value(one.start, turns), word(group.low))
        # The bytes of one round, and those of all.
        length = word(group.high - group.low)
        if one.is_inner:
            inner = builder.mul(builder.sub(turns, word(1)), word(one.stream.step))
            length = builder.add(inner, length)
        step = self._distance(one.move, turns)
        whole = builder.add(builder.mul(builder.sub(most, word(1)), step), length)
        run = Run(frame)
        look, ready = map(frame.block, ("look", "ready"))
        known = builder.block
        builder.cbranch(run.holds(start, whole), ready, look)
        frame.at(look)
        pages = frame.builder.add(frame.builder.lshr(whole, word(PAGE_SHIFT)), word(2))
        run.take(self._runtime.look(start, group.flags, 1, pages))
        frame.unless(failed, run.holds(start, length))
        builder = frame.builder
        first, size = run.ends()
        beyond = builder.sub(builder.sub(builder.add(first, size), start), length)
        fewer = most
        if one.move != Move():
            # A step of no bytes, by turns, is not possible: there is at least one turn.
            fewer = self._smaller(most, builder.add(builder.udiv(beyond, step), word(1)))
        self._unless_few(fewer, failed)
        partly = frame.builder.block
        frame.builder.branch(ready)
        frame.at(ready)
        builder = frame.builder
        count = builder.phi(I64)
        count.add_incoming(fewer, partly)
        count.add_incoming(most, known)
        return Ready(one.stream, start, run.is_tracked(), None), count, whole

    # --- rounds abreast -----------------------------------------------------------------------
    def _are_rows_apart(self, ready: Sequence[Ready], lengths: Sequence[Value]) -> Value:
        """Return whether no stream accesses a byte of a row, other than that row's own."""
        builder = self._frame.builder
        apart: Value = ir.Constant(ir.IntType(1), 1)
        for row, row_length, stream in zip(ready, lengths, self._nest.streams, strict=True):
            if stream not in self._rows:
                continue
            for other, length in zip(ready, lengths, strict=True):
                if other is not row:
                    below = builder.icmp_unsigned(
                        "<=", builder.add(row.start, row_length), other.start
                    )
                    above = builder.icmp_unsigned("<=", builder.add(other.start, length), row.start)
                    apart = builder.and_(apart, builder.or_(below, above))
        return apart

    def _abreast(self, most: Value, are_apart: Value) -> Value:
        """Return how many of the rounds are done abreast: a multiple of ABREAST."""
        builder = self._frame.builder
        rest = builder.urem(most, word(ABREAST))
        return builder.select(are_apart, builder.sub(most, rest), word(0))

    def _build_abreast(self, turns: Value, limit: Value, counter: Value, failed: Block) -> None:
        """Build `limit` rounds, ABREAST at a time; the counter goes there."""
        frame, inner = self._frame, self._nest.inner
        again, body, turn, behind, done = map(
            frame.block, ("abreast", "some", "turn", "behind_turns", "abreast_done")
        )
        frame.go(again)
        count = frame.builder.load(counter, typ=I64)
        frame.builder.cbranch(frame.builder.icmp_unsigned("<", count, limit), body, done)
        frame.at(body)
        rows = Rows(frame, self._rows)
        differing = differing_cells(self._nest, frame.cells)
        lowerings: list[RoundAbreast] = []
        for _ in range(ABREAST):
            if lowerings:
                lowerings[-1].finish(turns)
                self._build_outside()
            lowerings.append(RoundAbreast(rows, differing, *self._inner_window()))
        index = frame.variable(I64)
        frame.builder.store(word(0), index)
        frame.go(turn)
        now = frame.builder.load(index, typ=I64)
        for lowering in lowerings:
            lowering.index = now
            build_iteration(frame, lowering, inner.body, Spent(frame, inner.body))
        lowerings[0].end_turn()
        builder = frame.builder
        following = builder.add(now, word(1), flags=("nuw", "nsw"))
        builder.store(following, index)
        builder.cbranch(builder.icmp_unsigned("<", following, turns), turn, behind)
        frame.at(behind)
        lowerings[-1].finish(turns)
        self._build_outside()
        builder = frame.builder
        builder.store(builder.add(count, word(ABREAST), flags=("nuw", "nsw")), counter)
        builder.branch(again)
        frame.at(done)

    # --- the rounds ---------------------------------------------------------------------------
    def _build_rounds(
        self, turns: Value, most: Value, counter: Value, done: Block, failed: Block
    ) -> None:
        """Build at least one round, until the counter is at `most`; then it goes on at `done`."""
        frame = self._frame
        body = frame.block("round")
        frame.go(body)
        self._build_inner(turns, failed)
        self._build_outside()
        builder = frame.builder
        count = builder.add(builder.load(counter, typ=I64), word(1), flags=("nuw", "nsw"))
        builder.store(count, counter)
        builder.cbranch(builder.icmp_unsigned("<", count, most), body, done)
        frame.at(done)

    def _build_outside(self) -> None:
        """Build what of a round is outside of the inner loop, but for the branch back."""
        frame, nest = self._frame, self._nest
        outside = _Outside(frame, self._memory)
        blocks = [(nest.latch.address, nest.latch.instructions[:-1])]
        if nest.prefix:
            blocks.append((nest.prefix[0].address, nest.prefix))
        for address, instructions in blocks:
            outside.begin(self._all_groups[address])
            for position, instruction in enumerate(instructions):
                outside.place(position, instruction)
                outside.lower(instruction)

    def _build_inner(self, turns: Value, failed: Block) -> None:
        """Build the inner loop, whose streams begin where their pointers are by now."""
        frame, inner = self._frame, self._nest.inner
        lowering = WindowLowering(*self._inner_window())
        # What a round executes is known, and counted behind all.
        self._loop_body(lowering, turns, turns, Spent(frame, inner.body), failed)
        lowering.finish(turns)

    def _inner_window(self) -> tuple[Any, ...]:
        """Return what the inner loop is lowered with, its pointers where they are by now."""
        frame, inner = self._frame, self._nest.inner
        never = ir.Constant(ir.IntType(1), 0)
        ready = [Ready(stream, self._start(stream), never, None) for stream in inner.streams]
        roamers = Roamers(frame, inner, {})
        return frame, self._memory, inner, self._groups, ready, roamers
