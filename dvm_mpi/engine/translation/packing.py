"""Vectors of a window, as LLVM: cells that are lanes of one vector while the window runs.

LLVM's own search for such lanes (SLP) begins at stores, and finds of eight sums now eight, now one,
four, two and one, by what stands behind the loop. The cells' own variables are written as well in
each iteration; nobody reads them until the vector's lanes are put there, so LLVM leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llvmlite import ir

from dvm_mpi.engine.translation import arithmetic
from dvm_mpi.engine.translation.cells import Place
from dvm_mpi.engine.translation.frame import F64, I32, Frame, Value, word
from dvm_mpi.engine.translation.lanes import Lanes, Number, held_by, is_row, is_same
from dvm_mpi.engine.translation.memory import Memory


class Packed:
    """One vector. `pointer_of`: returns where a number is that an iteration loads."""

    def __init__(
        self, frame: Frame, memory: Memory, lanes: Lanes, pointer_of: Callable[[Number], Value]
    ) -> None:
        self._frame = frame
        self._memory = memory
        self._lanes = lanes
        self._pointer_of = pointer_of
        self._type: Final = ir.VectorType(F64, len(lanes.places))
        self._variable = frame.variable(self._type)
        #: What cells held when the iteration began; vectors that it has made already.
        self._held: dict[Place, Value] = {}
        self._made: dict[tuple[int, ...], Value] = {}

    def begin(self) -> None:
        """Take the cells into the vector, before the window's loop."""
        value = ir.Constant(self._type, ir.Undefined)
        builder = self._frame.builder
        for index, place in enumerate(self._lanes.places):
            one = builder.load(self._frame.variables[place], typ=F64)
            value = builder.insert_element(value, one, ir.Constant(I32, index))
        builder.store(value, self._variable)

    def begin_iteration(self) -> None:
        """Note what cells hold that the iteration may change."""
        for place in held_by(self._lanes):
            variable = self._frame.variables[place]
            self._held[place] = self._frame.builder.load(variable, typ=F64)

    def end_iteration(self) -> None:
        """Do all lanes' operations."""
        value = self._vector(self._lanes.results)
        self._frame.builder.store(value, self._variable)

    def finish(self) -> None:
        """Put the lanes back into the cells, behind the window's loop."""
        builder = self._frame.builder
        value = builder.load(self._variable, typ=self._type)
        for index, place in enumerate(self._lanes.places):
            one = builder.extract_element(value, ir.Constant(I32, index))
            builder.store(one, self._frame.variables[place])

    # --- numbers ------------------------------------------------------------------------------
    def _vector(self, lanes: tuple[Number, ...]) -> Value:
        key = tuple(map(id, lanes))
        if key not in self._made:
            self._made[key] = self._make(lanes)
        return self._made[key]

    def _make(self, lanes: tuple[Number, ...]) -> Value:
        first = lanes[0]
        if is_row(lanes):
            return self._memory.load(self._pointer_of(first), self._type)
        if tuple(lane.place for lane in lanes) == self._lanes.places:
            return self._frame.builder.load(self._variable, typ=self._type)
        if first.operation is not None:
            x, y = (self._vector(part) for part in zip(*(n.parts for n in lanes), strict=True))
            return arithmetic.NUMBER_OPERATIONS[first.operation](self._frame, x, y)
        assert is_same(lanes), first
        return self._repeated(self._alone(first))

    def _alone(self, number: Number) -> Value:
        if number.constant is not None:
            return word(number.constant).bitcast(F64)
        if number.place is not None:
            return self._held[number.place]
        return self._memory.load(self._pointer_of(number), F64)

    def _repeated(self, value: Value) -> Value:
        builder = self._frame.builder
        undefined = ir.Constant(self._type, ir.Undefined)
        one = builder.insert_element(undefined, value, ir.Constant(I32, 0))
        everywhere = ir.Constant(ir.VectorType(I32, self._type.count), [0] * self._type.count)
        return builder.shuffle_vector(one, undefined, everywhere)
