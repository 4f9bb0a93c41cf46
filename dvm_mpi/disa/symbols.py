"""Names and their values while a program is assembled.

A name gets its value once. A constant may be written in terms of labels that come later: it is
then kept as an expression and computed when it is asked for. Names that begin with `.` belong to
the last label without one: `.loop` after `worker:` is `worker.loop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from dvm_mpi import layout
from dvm_mpi.disa.expression import FUNCTIONS, Node, Unplaced, Value
from dvm_mpi.disa.source import Consequence, Diagnostics, Fault, SourceLine, Span, suggestion
from dvm_mpi.values import dataclass, field


class SymbolKind(Enum):
    """What a name stands for; the text is how messages call it."""

    LABEL = "a label"
    CONSTANT = "a constant"
    DEFINITION = "a definition of the command line"
    ARRAY = "an array"
    PRIVATE = "a private cell"
    REGISTER = "a register cell"
    #: Cells that the machine gives a meaning; a program may use their names for its own.
    MACHINE = "a cell of the machine"


#: Kinds whose values are addresses, which traps and listings may show by name.
ADDRESSES: Final = frozenset({SymbolKind.LABEL, SymbolKind.ARRAY, SymbolKind.PRIVATE})

#: Register cells, in lower and upper case.
REGISTERS: Final = {
    spelling: layout.CELL_REGISTERS + layout.WORD_BYTES * i
    for i, name in enumerate(layout.REGISTER_NAMES)
    for spelling in (name, name.upper())
}
#: Fixed cells of the private region by name.
MACHINE_CELLS: Final = {
    "stack_base": layout.CELL_STACK_BASE,
    "stack_size": layout.CELL_STACK_SIZE,
    "runner_id": layout.CELL_ID,
    "stdin": layout.CELL_STDIN,
    "console": layout.CELL_CONSOLE,
    "child_stack_base": layout.CELL_CHILD_STACK_BASE,
    "child_stack_size": layout.CELL_CHILD_STACK_SIZE,
    "child_id": layout.CELL_CHILD_ID,
    "syscall_number": layout.CELL_SYSCALL_NUMBER,
    "syscall_args": layout.CELL_SYSCALL_ARGS,
}
NO_SPAN: Final = Span(0, 0)
#: Floats without a decimal spelling.
FLOAT_NAMES: Final = {"inf": float("inf"), "nan": float("nan")}


@dataclass(frozen=True, slots=True)
class Context:
    """Where an expression stands: its line, the label that `.names` belong to, its address."""

    line: SourceLine
    owner: str
    here: Value

    def full_name(self, name: str) -> str:
        """Return the name that `name` stands for here."""
        return self.owner + name if name[0] == "." else name


@dataclass(slots=True)
class Symbol:
    """One name; `value` is None while `node` waits for names that come later."""

    kind: SymbolKind
    value: Value | None
    node: Node | None = None
    context: Context | None = None
    span: Span = NO_SPAN
    busy: bool = False


@dataclass(slots=True)
class SymbolTable:
    """All names of one program.

    `bss_start` is None during the first pass, while labels in `.bss` are `Unplaced`.
    """

    bss_start: int | None = None
    symbols: dict[str, Symbol] = field(default_factory=dict)
    #: Names that some expression asked for.
    used: set[str] = field(default_factory=set)
    #: Names whose definition was wrong. That is told; who asks for them is not to blame.
    broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name, address in REGISTERS.items():
            self.symbols[name] = Symbol(SymbolKind.REGISTER, address)
        for name, value in (MACHINE_CELLS | FLOAT_NAMES).items():
            self.symbols[name] = Symbol(SymbolKind.MACHINE, value)

    def define(
        self,
        name: str,
        kind: SymbolKind,
        value: Value | None,
        context: Context,
        span: Span,
        node: Node | None = None,
    ) -> None:
        """Give a full name its value, or the expression that will give it.

        Raises
        ------
        Fault
            The name has a value already.
        """
        if name in FUNCTIONS:
            raise Fault(span, f"'{name}' is a function of expressions", "choose another name")
        known = self.symbols.get(name)
        if known is not None and known.kind is not SymbolKind.MACHINE:
            raise _defined_twice(name, kind, known, span)
        self.symbols[name] = Symbol(kind, value, node, context, span)

    def lookup(self, name: str, span: Span) -> Value:
        """Return the value of a full name; a Fault if it has none yet."""
        self.used.add(name)
        symbol = self.symbols.get(name)
        if symbol is None:
            raise self._unknown(name, span)
        if symbol.value is None:
            self._compute(name, symbol, span)
        value = symbol.value
        assert value is not None
        if isinstance(value, Unplaced) and self.bss_start is not None:
            return self.bss_start + value.offset
        return value

    def _compute(self, name: str, symbol: Symbol, span: Span) -> None:
        assert symbol.node is not None
        assert symbol.context is not None
        if symbol.busy:
            raise Fault(span, f"'{name}' is defined by itself", "break the circle")
        symbol.busy = True
        try:
            symbol.value = symbol.node.evaluate(TableScope(self, symbol.context))
        except Consequence:
            raise
        except Fault as fault:
            # The expression stands on another line than the name that is asked for.
            what = f"'{name}' has no value: {fault.what}"
            raise Fault(span, what, fault.remedy) from None
        finally:
            symbol.busy = False

    def settle_constants(self, diagnostics: Diagnostics) -> None:
        """Compute what waited for later names; a failure is told once, where it was written."""
        assert self.bss_start is not None
        for symbol in self.symbols.values():
            if symbol.value is not None:
                continue
            assert symbol.node is not None
            assert symbol.context is not None
            symbol.busy = True
            with diagnostics.of(symbol.context.line):
                symbol.value = symbol.node.evaluate(TableScope(self, symbol.context))
            symbol.busy = False
        for symbol in self.symbols.values():
            if symbol.value is None:
                symbol.value = 0

    def _unknown(self, name: str, span: Span) -> Fault:
        if name in self.broken:
            return Consequence(span, f"the definition of '{name}' is wrong", "mend it")
        if self.bss_start is None:
            what = f"'{name}' has no value yet"
            return Fault(span, what, suggestion(name, self.symbols, "define it before this line"))
        remedy = "define it as a label, with .equ, .default, .private or .array, or by -D"
        return Fault(span, f"'{name}' is not defined", suggestion(name, self.symbols, remedy))

    def addresses(self) -> Mapping[str, int]:
        """Return the names of addresses in order of definition; all must be placed."""
        assert self.bss_start is not None
        found = {}
        for name, symbol in self.symbols.items():
            if symbol.kind in ADDRESSES:
                value = self.lookup(name, symbol.span)
                assert isinstance(value, int), name
                found[name] = value
        return found


@dataclass(frozen=True, slots=True)
class TableScope:
    """The values of names as seen from one place."""

    table: SymbolTable
    context: Context

    def value_of(self, name: str, span: Span) -> Value:
        """Return the value of a name as written here."""
        return self.table.lookup(self.context.full_name(name), span)

    def is_defined(self, name: str) -> bool:
        """Return whether the program has defined the name so far."""
        full = self.context.full_name(name)
        self.table.used.add(full)
        return full in self.table.symbols or full in self.table.broken

    def here(self) -> Value:
        """Return the address of the statement."""
        here = self.context.here
        if isinstance(here, Unplaced) and self.table.bss_start is not None:
            return self.table.bss_start + here.offset
        return here


def _defined_twice(name: str, kind: SymbolKind, known: Symbol, span: Span) -> Fault:
    if known.kind is SymbolKind.DEFINITION:
        what = f"'{name}' is defined by -D, and here as {kind.value}"
        return Fault(span, what, f"write .default {name}, VALUE to let -D replace it")
    if known.kind is SymbolKind.REGISTER:
        return Fault(span, f"'{name}' is {known.kind.value}", "choose another name")
    assert known.context is not None
    line = known.context.line
    number, _, _ = line.locate(known.span.start)
    what = f"'{name}' is defined twice; first as {known.kind.value} at {line.file}:{number}"
    remedy = "choose another name"
    if line.via is not None and kind is SymbolKind.LABEL:
        remedy = r"in macros and repetitions, end the name with \@"
    return Fault(span, what, remedy)
