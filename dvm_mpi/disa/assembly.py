"""The state of one assembly: blocks, names, errors; and the second pass that makes the image.

The first pass feeds statements in order: each gets its address, since sizes never depend on
values. The second gives every expression its value and every instruction its bytes. Both go on
after an error, so that one run reports them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from dvm_mpi import layout
from dvm_mpi.disa.draft import Draft, address_of, constant_bits, integer_of
from dvm_mpi.disa.encoding import encode
from dvm_mpi.disa.expression import Cursor, Node, Value
from dvm_mpi.disa.image import ArrayDeclaration, Image, LineTable, Section
from dvm_mpi.disa.lexer import Token, tokenize
from dvm_mpi.disa.sections import (
    Block,
    Constants,
    Content,
    Fill,
    Item,
    Literal,
    SectionKind,
    Sections,
)
from dvm_mpi.disa.source import Diagnostics, Fault, SourceLine, Span, suggestion
from dvm_mpi.disa.statement import Statement
from dvm_mpi.disa.symbols import NO_SPAN, Context, SymbolKind, SymbolTable, TableScope
from dvm_mpi.values import dataclass

#: Private cells follow the register cells, on the same page.
PRIVATE_START: Final = layout.CELL_REGISTERS + layout.WORD_BYTES * len(layout.REGISTER_NAMES)
#: File name that errors in `-D NAME=VALUE` are reported under.
COMMAND_LINE: Final = "command line"

#: Cells in which `.runner` builds descriptors. Their names hold a space: no program can mean them.
#: The first is never written: an automatic stack, and no ranges.
RUNNER_NOTHING: Final = "runner nothing"
RUNNER_STACK: Final = "runner stack"
RUNNER_ENTRY: Final = "runner entry"
RUNNER_HEAP: Final = "runner heap"
RUNNER_WATCHED: Final = "runner watched"
_PAIR_BYTES: Final = 2 * layout.WORD_BYTES


@dataclass(frozen=True, slots=True)
class _PendingArray:
    name: str
    type_name: str
    shape: tuple[int, ...]


class Assembly:
    """One program on its way from statements to an image."""

    def __init__(self, name: str, defines: Mapping[str, str]) -> None:
        self.name = name
        self.sections = Sections()
        self.symbols = SymbolTable()
        #: What of the program was not looked at; then it has errors.
        self.unread = ""
        self.diagnostics = Diagnostics()
        self.defines = dict(defines)
        #: Full name of the last label that does not begin with `.`.
        self.owner = ""
        #: The `.entry` expression and where it stands.
        self.entry: tuple[Node, Context] | None = None
        #: Most ranges that any `.runner` lists, None where there is no `.runner`.
        self.heap_pairs_max: int | None = None
        self.watched_pairs_max = 0
        self._arrays: list[_PendingArray] = []
        self._private_end = PRIVATE_START
        for defined, text in self.defines.items():
            self._define_from_command_line(defined, text)

    def _define_from_command_line(self, name: str, text: str) -> None:
        line = SourceLine(COMMAND_LINE, 1, f"-D {name}={text}")
        start = len("-D ")
        # Until it has a value: whoever uses the name is not to blame for what is wrong with it.
        self.symbols.broken.add(name)
        with self.diagnostics.of(line):
            if not name.isascii() or not name.isidentifier():
                span = Span(start, start + len(name))
                raise Fault(span, f"'{name}' is no name", "write -D NAME=VALUE")
            # The value begins after `-D NAME=`; spaces keep its columns.
            offset = start + len(name) + 1
            cursor = Cursor(tokenize(" " * offset + text))
            node = cursor.expression()
            cursor.expect_end()
            context = Context(line, "", 0)
            try:
                value = node.evaluate(TableScope(self.symbols, context))
            except Fault as fault:
                # No line comes before this one, so that no name of the program can be meant.
                remedy = f"write a number: -D {name}=100"
                raise type(fault)(fault.span, fault.what, remedy) from None
            span = Span(start, offset - 1)
            self.symbols.define(name, SymbolKind.DEFINITION, value, context, span)
            self.symbols.broken.remove(name)

    # --- first pass ---------------------------------------------------------------------------
    def context(self, line: SourceLine) -> Context:
        """Return the place of the statement in hand."""
        return Context(line, self.owner, self.sections.current.here)

    def scope(self, line: SourceLine) -> TableScope:
        """Return the values known to the statement in hand."""
        return TableScope(self.symbols, self.context(line))

    def integer_now(self, node: Node, line: SourceLine, what: str) -> int:
        """Evaluate an integer that decides about addresses, so that it must be known already."""
        return integer_of(node, self.scope(line), what)

    def define_label(self, token: Token, line: SourceLine) -> None:
        """Give a label the address of the next byte."""
        context = self.context(line)
        name = context.full_name(token.text)
        if token.text[0] != ".":
            self.owner = token.text
        self.symbols.define(name, SymbolKind.LABEL, context.here, context, token.span)

    def define(
        self,
        token: Token,
        kind: SymbolKind,
        value: Value | None,
        line: SourceLine,
        node: Node | None = None,
    ) -> None:
        """Give the name of a directive its value, or the expression that will give it."""
        context = self.context(line)
        name = context.full_name(token.text)
        self.symbols.define(name, kind, value, context, token.span, node)

    def distrust(self, names: Iterable[str], line: SourceLine) -> None:
        """Note that names will have no value because their definition is wrong."""
        context = self.context(line)
        self.symbols.broken.update(context.full_name(name) for name in names)

    def put(self, block: Block, content: Content, line: SourceLine, span: Span) -> None:
        """Append content to a block."""
        here = block.here
        self.sections.put(block, content, Context(line, self.owner, here), span)

    def put_instruction(self, draft: Draft, statement: Statement) -> None:
        """Append an instruction to the text."""
        assert statement.head is not None
        span = statement.head.span
        block = self.sections.current
        if block.kind is not SectionKind.TEXT:
            what = f"instructions belong into .text, not into {block.kind.value}"
            raise Fault(span, what, "write .text before them")
        self.put(block, draft, statement.line, span)

    def add_array(self, token: Token, type_name: str, shape: tuple[int, ...]) -> None:
        """Note an array for `--in` and `--out`; its symbol holds the address."""
        self._arrays.append(_PendingArray(token.text, type_name, shape))

    def allocate_private(self, size_bytes: int, span: Span) -> int:
        """Return the address of fresh cells in the private region."""
        start = self._private_end
        if size_bytes < 1:
            raise Fault(span, f"a size of {size_bytes} bytes is too small", "use 1 or more")
        if start + size_bytes > layout.PR_END:
            what = f"{size_bytes} bytes do not fit: {layout.PR_END - start} private bytes are left"
            raise Fault(span, what, "use a smaller size, or memory from malloc")
        self._private_end = -(-(start + size_bytes) // layout.WORD_BYTES) * layout.WORD_BYTES
        return start

    # --- second pass --------------------------------------------------------------------------
    def finish(self) -> Image:
        """Place what is left, settle all values and return the image.

        Raises
        ------
        AssemblyErrors
            Anything was wrong, in this pass or before.
        """
        if self.unread:
            # Names that have no value may get one there.
            self.diagnostics.raise_any(self.unread)
        self.sections.place(self.diagnostics)
        self._place_runner_cells()
        self.symbols.bss_start = self.sections.bss.start
        self.symbols.settle_constants(self.diagnostics)
        text = self._bytes_of(self.sections.text)
        filled = [self.sections.data, *self.sections.absolute]
        filled = [b for b in filled if b.kind is SectionKind.DATA and b.size_bytes]
        data = [Section(b.end - b.size_bytes, self._bytes_of(b)) for b in filled]
        for block in (self.sections.bss, *self.sections.absolute):
            if block.kind is SectionKind.BSS:
                self._refuse_content(block)
        entry = self._settle_entry()
        self._refuse_unused_definitions()
        self.diagnostics.raise_any()
        addresses = dict(self.symbols.addresses())
        return Image(
            entry=entry,
            text=text,
            sections=tuple(sorted(data, key=lambda s: s.start)),
            reserved=self.sections.reserved(),
            symbols=addresses,
            arrays={
                a.name: ArrayDeclaration(a.name, addresses[a.name], a.type_name, a.shape)
                for a in self._arrays
            },
            lines=self._line_table(),
            source_name=self.name,
        )

    def _place_runner_cells(self) -> None:
        if self.heap_pairs_max is None:
            return
        sizes = {
            RUNNER_NOTHING: _PAIR_BYTES,
            RUNNER_STACK: _PAIR_BYTES,
            RUNNER_ENTRY: layout.WORD_BYTES,
            RUNNER_HEAP: layout.WORD_BYTES + _PAIR_BYTES * self.heap_pairs_max,
            RUNNER_WATCHED: layout.WORD_BYTES + _PAIR_BYTES * self.watched_pairs_max,
        }
        context = Context(SourceLine(self.name, 1, ""), "", 0)
        for name, size in sizes.items():
            address = self.allocate_private(size, NO_SPAN)
            self.symbols.define(name, SymbolKind.CONSTANT, address, context, NO_SPAN)

    def _bytes_of(self, block: Block) -> bytes:
        data = bytearray(block.size_bytes)
        for item in block.items:
            with self.diagnostics.of(item.context.line):
                settled = self._settle(item, block.end - block.size_bytes + item.offset)
                data[item.offset : item.offset + len(settled)] = settled
        return bytes(data)

    def _settle(self, item: Item, address: int) -> bytes:
        scope = TableScope(self.symbols, item.context)
        match item.content:
            case Draft():
                return encode(item.content.settle(address, scope))
            case Literal(data):
                return data
            case Fill(count, byte):
                return bytes((byte,)) * count
            case Constants(nodes, type_):
                width = type_.width_bytes
                return b"".join(
                    constant_bits(n.evaluate(scope), type_, n.span).to_bytes(width, "little")
                    for n in nodes
                )

    def _refuse_content(self, block: Block) -> None:
        """Admit zeros in bss, which holds nothing else."""
        assert block.start is not None
        for item in block.items:
            with self.diagnostics.of(item.context.line):
                if any(self._settle(item, block.start + item.offset)):
                    start = len(item.context.line.text) - len(item.context.line.text.lstrip())
                    span = Span(start, len(item.context.line.text.rstrip()))
                    raise Fault(span, ".bss holds nothing but zeros", "write .data before it")

    def _settle_entry(self) -> int:
        if self.entry is None:
            # Lines that are wrong may be all that there is; then they are the error.
            if not self.sections.text.size_bytes and not self.diagnostics.found_any:
                line = SourceLine(self.name, 1, "")
                fault = Fault(NO_SPAN, "the program has no instructions", "write some after .text")
                self.diagnostics.add(line, fault)
            return layout.TEXT_START
        node, context = self.entry
        try:
            return address_of(node, TableScope(self.symbols, context))
        except Fault as fault:
            self.diagnostics.add(context.line, fault)
            return layout.TEXT_START

    def _refuse_unused_definitions(self) -> None:
        for name, text in self.defines.items():
            if name in self.symbols.used:
                continue
            known = [n for n, s in self.symbols.symbols.items() if s.kind is SymbolKind.CONSTANT]
            line = SourceLine(COMMAND_LINE, 1, f"-D {name}={text}")
            start = len("-D ")
            fault = Fault(
                Span(start, start + len(name)),
                f"the program does not use '{name}'",
                suggestion(name, known, f"give it a value there with .default {name}, VALUE"),
            )
            self.diagnostics.add(line, fault)

    def _line_table(self) -> LineTable:
        start = layout.TEXT_START
        rows = [
            (start + item.offset, item.context.line.outermost())
            for item in self.sections.text.items
            if isinstance(item.content, Draft)
        ]
        files = {file: i for i, file in enumerate(dict.fromkeys(line.file for _, line in rows))}
        return LineTable(
            files=tuple(files),
            addresses=np.array([address for address, _ in rows], np.int64),
            file_indices=np.array([files[line.file] for _, line in rows], np.int32),
            lines=np.array([line.number for _, line in rows], np.int32),
        )
