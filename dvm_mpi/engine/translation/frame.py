"""The native function of one unit: its cells, its counter, its entries and its ways out.

`dvm_unit(state, entry, fuel)` returns the address at which the interpreter goes on. Promoted cells
are local variables, which LLVM keeps in registers: they are loaded where control comes in and
stored where it leaves. The invariant to remember: at every way out the cells are in memory, and
`fuel` less what is left is what was executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import ir

from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.reference_arithmetic import CANONICAL_NAN
from dvm_mpi.engine.state import Field
from dvm_mpi.engine.translation.cells import Cell, Place
from dvm_mpi.engine.unit_file import SYMBOL
from dvm_mpi.layout import WORD_BYTES

BIT, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER: Final = ir.PointerType()
INTEGERS: Final = {1: I8, 2: I16, 4: I32, 8: I64}
FLOATS: Final = {4: F32, 8: F64}
#: How often a check holds for each time that it does not.
_LIKELY: Final = (1 << 20, 1)

#: LLVM values and blocks, whose types the library does not tell.
Value = Any
Block = Any


def word(value: int) -> Value:
    """Return a constant of 64 bits, its value taken as signed."""
    return ir.Constant(I64, (value + (1 << 63)) % (1 << 64) - (1 << 63))


def canonical_bits(width: int) -> int:
    """Return the one NaN that computations leave in memory."""
    return CANONICAL_NAN[width]


class Frame:
    """Builds the function; whoever lowers instructions goes through its `builder`."""

    def __init__(self, cells: Mapping[Place, Cell]) -> None:
        self.module = ir.Module("unit")
        signature = ir.FunctionType(I64, [I64, I64, I64])
        self.function = ir.Function(self.module, signature, SYMBOL)
        self._state, self._entry, self._fuel = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("enter"))
        self._allocating = ir.IRBuilder(self.builder.block)
        self.cells = cells
        #: Instructions that may still be executed; where control goes on outside.
        self.left = self.variable(I64)
        self._leave_at = self.variable(I64)
        self.variables = {
            place: self.variable((FLOATS if cell.is_float else INTEGERS)[cell.width])
            for place, cell in cells.items()
        }
        self._leaving = self.function.append_basic_block("leave")
        self._unchanged = self.function.append_basic_block("unchanged")
        self._kept: list[Value] = []
        self._exits: dict[tuple[int, int], Block] = {}

    # --- blocks and variables -----------------------------------------------------------------
    def variable(self, element: Value) -> Value:
        """Return a new local variable."""
        return self._allocating.alloca(element)

    def kept(self) -> Value:
        """Return a new local variable that is zero when the unit is entered."""
        variable = self.variable(I64)
        self._kept.append(variable)
        return variable

    @contextmanager
    def in_place(self, variables: dict[Place, Value]) -> Iterator[None]:
        """Let what is built within take other variables for the cells."""
        usual, self.variables = self.variables, variables
        yield
        self.variables = usual

    def block(self, name: str) -> Block:
        """Return a new block."""
        return self.function.append_basic_block(name)

    def go(self, block: Block) -> None:
        """Go to a block; what is built next stands there."""
        self.builder.branch(block)
        self.builder.position_at_end(block)

    def at(self, block: Block) -> None:
        """Build at the end of a block from now on."""
        self.builder.position_at_end(block)

    def unless(self, failed: Block, holds: Value) -> None:
        """Go on if a condition holds, as it mostly does; else go to `failed`."""
        behind = self.block("ok")
        self.builder.cbranch(holds, behind, failed).set_weights(_LIKELY)
        self.builder.position_at_end(behind)

    def loop_hints(self, *hints: tuple[str, int]) -> Value:
        """Return the metadata of one loop, for the branch back to its head: names and numbers."""
        nodes = [[name, ir.Constant(I32, number)] for name, number in hints]
        loop = self.module.add_metadata(nodes)
        # That its first operand is the node itself keeps it apart from those of other loops.
        loop.operands = (loop, *loop.operands)
        return loop

    @contextmanager
    def only_if(self, condition: Value, name: str) -> Iterator[None]:
        """Let what is built within happen only if a condition holds; `name` is its block's."""
        within, behind = self.block(name), self.block(f"behind_{name}")
        self.builder.cbranch(condition, within, behind)
        self.at(within)
        yield
        self.go(behind)

    def pointer(self, address: int) -> Value:
        """Return a host address as a pointer."""
        return word(address).inttoptr(POINTER)

    # --- in and out ---------------------------------------------------------------------------
    def exit_before(self, address: int, executed: int) -> Block:
        """Return a block that leaves at an instruction, `executed` after the last count."""
        key = address, executed
        if key not in self._exits:
            self._exits[key] = self.block(f"exit_{address:x}")
            builder = ir.IRBuilder(self._exits[key])
            if executed:
                left = builder.load(self.left, typ=I64)
                builder.store(builder.sub(left, word(executed)), self.left)
            builder.store(word(address), self._leave_at)
            builder.branch(self._leaving)
        return self._exits[key]

    def finish(self, entries: Mapping[int, Block]) -> None:
        """Build the way in, to blocks by entries' addresses, in order; and the way out."""
        self._build_leaving()
        builder = self._allocating
        builder.store(self._fuel, self.left)
        for variable in (self._leave_at, *self._kept):
            builder.store(word(0), variable)
        addresses = ir.ArrayType(I64, len(entries))(list(map(word, entries)))
        table = ir.GlobalVariable(self.module, addresses.type, "entries")
        table.initializer, table.global_constant, table.linkage = addresses, True, "internal"
        self.builder = builder
        self._load_cells()
        switch = self.builder.switch(self._entry, self._unchanged)
        for number, block in enumerate(entries.values()):
            switch.add_case(word(number), block)
        # Nothing was executed and nothing changed: the interpreter takes this instruction.
        self.at(self._unchanged)
        place = self.builder.gep(table, [word(0), self._entry], source_etype=addresses.type)
        self.builder.ret(self.builder.load(place, typ=I64))

    def _load_cells(self) -> None:
        for place, cell in self.cells.items():
            variable = self.variables[place]
            element = (FLOATS if cell.is_float else INTEGERS)[cell.width]
            value = self.builder.load(self.pointer(VIEW + cell.address), align=1, typ=element)
            if cell.is_lazy:
                self.unless(self._unchanged, self.is_tame(value, cell.width))
            self.builder.store(value, variable)

    def _build_leaving(self) -> None:
        self.at(self._leaving)
        for place, cell in self.cells.items():
            if cell.is_written:
                element = (FLOATS if cell.is_float else INTEGERS)[cell.width]
                value = self.builder.load(self.variables[place], typ=element)
                if cell.is_lazy:
                    value = self.canonical(value, cell.width)
                self.builder.store(value, self.pointer(VIEW + cell.address), align=1)
        counter = self.builder.add(self._state, word(Field.INSTRUCTIONS * WORD_BYTES))
        pointer = self.builder.inttoptr(counter, POINTER)
        left = self.builder.load(self.left, typ=I64)
        executed = self.builder.sub(self._fuel, left)
        before = self.builder.load(pointer, typ=I64)
        self.builder.store(self.builder.add(before, executed), pointer)
        self.builder.ret(self.builder.load(self._leave_at, typ=I64))

    # --- NaN ----------------------------------------------------------------------------------
    def canonical(self, value: Value, width: int) -> Value:
        """Return a computed number with the one NaN that memory may show."""
        is_nan = self.builder.fcmp_unordered("uno", value, value)
        bits = ir.Constant(INTEGERS[width], canonical_bits(width))
        return self.builder.select(is_nan, bits.bitcast(FLOATS[width]), value)

    def is_tame(self, value: Value, width: int) -> Value:
        """Return whether a number is no other NaN than the canonical one."""
        bits = self.builder.bitcast(value, INTEGERS[width])
        canonical = ir.Constant(INTEGERS[width], canonical_bits(width))
        is_number = self.builder.fcmp_ordered("ord", value, value)
        return self.builder.or_(is_number, self.builder.icmp_signed("==", bits, canonical))
