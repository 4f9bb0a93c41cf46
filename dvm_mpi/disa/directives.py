"""Directives that place things: one function each, and the table of all.

A directive whose operands decide about addresses (`.org`, `.align`, `.space`, `.array`) needs
their values at once: names must be defined above it. All others may use labels that come later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from dvm_mpi import layout
from dvm_mpi.config import ARRAY_RANK_MAX
from dvm_mpi.disa.assembly import Assembly
from dvm_mpi.disa.draft import constant_bits
from dvm_mpi.disa.expression import Cursor, Node
from dvm_mpi.disa.lexer import Token, TokenKind
from dvm_mpi.disa.runner_statement import arguments, runner
from dvm_mpi.disa.sections import Constants, Fill, Literal, SectionKind
from dvm_mpi.disa.source import Fault
from dvm_mpi.disa.statement import Statement, type_name
from dvm_mpi.disa.symbols import SymbolKind
from dvm_mpi.disa.types import BY_NAME, Type
from dvm_mpi.values import dataclass

Handler = Callable[[Assembly, Statement], None]


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: how it is written, what it does, and the function that does it."""

    synopsis: str
    summary: str
    handle: Handler

    @property
    def name(self) -> str:
        """The word it begins with."""
        return self.synopsis.partition(" ")[0]


# --- sections and addresses -------------------------------------------------------------------
def _section(kind: SectionKind) -> Handler:
    def handle(assembly: Assembly, statement: Statement) -> None:
        Cursor(statement.tokens).expect_end()
        assembly.sections.select(kind, statement.line)

    return handle


def _one_integer(assembly: Assembly, statement: Statement, what: str) -> tuple[Node, int]:
    cursor = Cursor(statement.tokens)
    node = cursor.expression()
    cursor.expect_end()
    return node, assembly.integer_now(node, statement.line, what)


def _org(assembly: Assembly, statement: Statement) -> None:
    node, address = _one_integer(assembly, statement, "an address")
    assembly.sections.org(address, statement.line, node.span)


def _align(assembly: Assembly, statement: Statement) -> None:
    node, count = _one_integer(assembly, statement, "an alignment")
    if count < 1 or count & count - 1:
        raise Fault(node.span, f"{count} is not a power of two", "use 1, 2, 4, 8 … bytes")
    assembly.sections.align(assembly.sections.current, count, node.span)


def _space(assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    node = cursor.expression()
    count = assembly.integer_now(node, statement.line, "a size")
    block = assembly.sections.current
    if not cursor.accept(","):
        cursor.expect_end()
        assembly.sections.reserve(block, count, node.span)
        return
    filler = cursor.expression()
    cursor.expect_end()
    value = assembly.integer_now(filler, statement.line, "the byte to fill with")
    byte = constant_bits(value, BY_NAME["ub"], filler.span)
    if byte and block.kind is SectionKind.BSS:
        raise Fault(filler.span, ".bss holds nothing but zeros", "write .data before it")
    assembly.put(block, Fill(count, byte), statement.line, node.span)


# --- contents ---------------------------------------------------------------------------------
def _constants(type_: Type) -> Handler:
    def handle(assembly: Assembly, statement: Statement) -> None:
        cursor = Cursor(statement.tokens)
        nodes = _expressions(cursor)
        _put_here(assembly, statement, Constants(nodes, type_))

    return handle


def _expressions(cursor: Cursor) -> tuple[Node, ...]:
    nodes = [cursor.expression()]
    while cursor.accept(","):
        nodes.append(cursor.expression())
    cursor.expect_end()
    return tuple(nodes)


def _strings(ending: bytes) -> Handler:
    def handle(assembly: Assembly, statement: Statement) -> None:
        cursor = Cursor(statement.tokens)
        data = _string(cursor).data + ending
        while cursor.accept(","):
            data += _string(cursor).data + ending
        cursor.expect_end()
        _put_here(assembly, statement, Literal(data))

    return handle


def _string(cursor: Cursor) -> Token:
    if cursor.token.kind is not TokenKind.STRING:
        raise cursor.unexpected("a string is missing", 'write it in double quotes: "text"')
    return cursor.take()


def _put_here(assembly: Assembly, statement: Statement, content: Constants | Literal) -> None:
    assert statement.head is not None
    assembly.put(assembly.sections.current, content, statement.line, statement.head.span)


# --- names ------------------------------------------------------------------------------------
def _name_and_value(statement: Statement) -> tuple[Token, Node]:
    cursor = Cursor(statement.tokens)
    token = cursor.expect_name("the name to define")
    cursor.expect(",", "between the name and its value")
    node = cursor.expression()
    cursor.expect_end()
    return token, node


def _equ(assembly: Assembly, statement: Statement) -> None:
    token, node = _name_and_value(statement)
    try:
        value = node.evaluate(assembly.scope(statement.line))
    except Fault:
        # Perhaps it names a label that comes later; if not, the second pass reports it.
        assembly.define(token, SymbolKind.CONSTANT, None, statement.line, node)
    else:
        assembly.define(token, SymbolKind.CONSTANT, value, statement.line)


def _default(assembly: Assembly, statement: Statement) -> None:
    token, node = _name_and_value(statement)
    assembly.symbols.used.add(token.text)
    if token.text in assembly.defines:
        return
    value = node.evaluate(assembly.scope(statement.line))
    assembly.define(token, SymbolKind.CONSTANT, value, statement.line)


def _private(assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    while True:
        token = cursor.expect_name("the name of a cell")
        size = layout.WORD_BYTES
        if cursor.accept(":"):
            size = _cell_size(assembly, statement, cursor)
        address = assembly.allocate_private(size, token.span)
        assembly.define(token, SymbolKind.PRIVATE, address, statement.line)
        if not cursor.accept(","):
            break
    cursor.expect_end()


def _cell_size(assembly: Assembly, statement: Statement, cursor: Cursor) -> int:
    if cursor.token.text.lower() in BY_NAME:
        return BY_NAME[type_name(cursor.take())].width_bytes
    return assembly.integer_now(cursor.expression(), statement.line, "a size in bytes")


def _entry(assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    node = cursor.expression()
    cursor.expect_end()
    if assembly.entry is not None:
        first = assembly.entry[1].line
        what = f"the entry is given twice; first at {first.file}:{first.number}"
        raise Fault(node.span, what, "remove one")
    assembly.entry = node, assembly.context(statement.line)


def names_to_define(statement: Statement) -> list[str]:
    """Return the names that a directive is to define, whether or not it is right."""
    if statement.name not in (".array", ".default", ".equ", ".private"):
        return []
    names = [t.text for t in statement.tokens if t.kind is TokenKind.NAME]
    if statement.name == ".private":
        # A type or size after a colon may be among them, which does no harm.
        return names
    if statement.name == ".array":
        return [name + suffix for name in names[:1] for suffix in ("", *_ARRAY_SUFFIXES)]
    return names[:1]


# --- arrays -----------------------------------------------------------------------------------
#: Constants that come with an array: `points.bytes` and `points.count`.
_ARRAY_SUFFIXES: Final = (".bytes", ".count")


def _array(assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    name = cursor.expect_name("the array's name")
    cursor.expect(",", "after the array's name")
    type_ = BY_NAME[type_name(cursor.expect_name("the array's type"))]
    shape = _shape(assembly, statement, cursor)
    values: tuple[Node, ...] = ()
    start = cursor.token
    if cursor.accept("="):
        values = _expressions(cursor)
    cursor.expect_end()
    count = math.prod(shape)
    if values and len(values) != count:
        what = f"the array has {count} elements, but {len(values)} values"
        raise Fault(start.span, what, "list one value for each element, row by row")
    kind = SectionKind.DATA if values else SectionKind.BSS
    block = assembly.sections.block_for(kind, statement.line)
    assembly.sections.align(block, layout.PAGE_BYTES, name.span)
    assembly.define(name, SymbolKind.ARRAY, block.here, statement.line)
    if values:
        assembly.put(block, Constants(values, type_), statement.line, name.span)
    else:
        assembly.sections.reserve(block, count * type_.width_bytes, name.span)
    assembly.add_array(name, type_.name, shape)
    for suffix, value in zip(_ARRAY_SUFFIXES, (count * type_.width_bytes, count), strict=True):
        derived = name._replace(text=name.text + suffix)
        assembly.define(derived, SymbolKind.CONSTANT, value, statement.line)


def _shape(assembly: Assembly, statement: Statement, cursor: Cursor) -> tuple[int, ...]:
    shape: list[int] = []
    while cursor.accept(","):
        node = cursor.expression()
        length = assembly.integer_now(node, statement.line, "a length")
        if length < 1:
            raise Fault(node.span, f"a length of {length} is too small", "use 1 or more")
        if len(shape) == ARRAY_RANK_MAX:
            what = f"an array has at most {ARRAY_RANK_MAX} dimensions (ARRAY_RANK_MAX)"
            raise Fault(node.span, what, "join some of them")
        shape.append(length)
    if not shape:
        what = "the array's shape is missing"
        raise cursor.unexpected(what, "write .array NAME, TYPE, LENGTH")
    return tuple(shape)


# --- checks -----------------------------------------------------------------------------------
def _assert(assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    node = cursor.expression()
    message = "the program's condition does not hold"
    if cursor.accept(","):
        message = _string(cursor).data.decode(errors="replace")
    cursor.expect_end()
    if not assembly.integer_now(node, statement.line, "a condition"):
        raise Fault(node.span, message, "see the values that it names")


def _error(_assembly: Assembly, statement: Statement) -> None:
    cursor = Cursor(statement.tokens)
    token = _string(cursor)
    cursor.expect_end()
    raise Fault(token.span, token.data.decode(errors="replace"), "this is an .error statement")


_RUNNER = "F[, args=(A, …)][, heap=[(BASE, SIZE), …]][, watch=[…]][, stack=(BASE, SIZE)]"
_TEXT, _DATA, _BSS = (_section(kind) for kind in SectionKind)
_BYTE, _WORD, _LONG, _QUAD, _FLOAT, _DOUBLE = (
    _constants(BY_NAME[name]) for name in ("ub", "uw", "ud", "uq", "fs", "fd")
)
_ASCII, _ASCIZ = _strings(b""), _strings(b"\0")

# fmt: off
_LISTED: Final = tuple(Directive(*row) for row in (
    (".text",                           "go on with the instructions",                 _TEXT),
    (".data",                           "go on with the initialised data",             _DATA),
    (".bss",                            "go on with the memory that begins as zero",   _BSS),
    (".org ADDRESS",                    "begin a block at an address",                 _org),
    (".align N",                        "advance to a multiple of N, a power of two",  _align),
    (".space N[, BYTE]",                "put N bytes, zero or BYTE",                   _space),
    (".byte V, …",                      "put integers of 1 byte",                      _BYTE),
    (".word V, …",                      "put integers of 2 bytes",                     _WORD),
    (".long V, …",                      "put integers of 4 bytes",                     _LONG),
    (".quad V, …",                      "put integers or addresses of 8 bytes",        _QUAD),
    (".float V, …",                     "put binary32 numbers",                        _FLOAT),
    (".double V, …",                    "put binary64 numbers",                        _DOUBLE),
    ('.ascii "TEXT", …',                "put strings",                                 _ASCII),
    ('.asciz "TEXT", …',                "put strings, each with a zero byte after it", _ASCIZ),
    (".equ NAME, V",                    "define a constant; also written NAME = V",    _equ),
    (".default NAME, V",                "define a constant unless -D does",            _default),
    (".private NAME[:TYPE|:N], …",      "name fresh private cells of 8, or N, bytes",  _private),
    (".array NAME, TYPE, N, …[= V, …]", "reserve a named array, on a page of its own", _array),
    (".entry LABEL",                    "start here, not at the first instruction",    _entry),
    (f".runner {_RUNNER}",              "create a runner",                             runner),
    (".arguments CELL, …",              "move a runner's arguments into cells",        arguments),
    ('.assert V[, "MESSAGE"]',          "fail unless V is true",                       _assert),
    ('.error "MESSAGE"',                "fail",                                        _error),
))
# fmt: on

DIRECTIVES: Final = {directive.name: directive for directive in _LISTED}
assert len(DIRECTIVES) == len(_LISTED)
