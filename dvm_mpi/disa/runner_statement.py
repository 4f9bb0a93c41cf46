"""`.runner`, the statement that creates a runner, and `.arguments`, with which the child begins.

    .runner ENTRY [, args=(A, …)] [, heap=[RANGE, …]] [, watch=[RANGE, …]] [, stack=(BASE, SIZE)]

ENTRY is the function's label, or `(cell)` for a function whose address is in a cell. A RANGE is
`(BASE, SIZE)`, or the name of an array. BASE, SIZE and A are operands in any mode, so they may be
computed; they keep their meaning in loops, since the descriptors are built anew each time, in
private cells of the statement's own. Without `stack` the child gets an automatic one, without
`watch` it starts at once, with it, it is a template that starts whenever those bytes are stored.

Argument number i is stored, after `newr`, into the eight bytes at stack base + 8 × i of the child.
There `.arguments CELL, …` moves them into cells, in the same order; a type after an argument
(`args=(r1, x:fd)`, `.arguments n, x:fd`) makes it travel as that type. Integers travel as 64 bits.
The new runner's id is in `child_id` afterwards. Nothing else is changed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dvm_mpi import layout
from dvm_mpi.disa.assembly import (
    RUNNER_ENTRY,
    RUNNER_HEAP,
    RUNNER_NOTHING,
    RUNNER_STACK,
    RUNNER_WATCHED,
    Assembly,
)
from dvm_mpi.disa.draft import Draft
from dvm_mpi.disa.expression import Binary, Constant, Cursor, Name, Node
from dvm_mpi.disa.lexer import TokenKind
from dvm_mpi.disa.source import Fault, Span, suggestion
from dvm_mpi.disa.statement import (
    Statement,
    WrittenOperand,
    parse_operand,
    parse_operands,
    type_name,
)
from dvm_mpi.disa.types import BY_NAME, DEFAULT, Kind, Mode

_KEYS: Final = ("args", "heap", "watch", "stack")


class _Range(NamedTuple):
    base: WrittenOperand
    size: WrittenOperand


class _Request(NamedTuple):
    """A `.runner` statement, parsed."""

    entry: WrittenOperand
    args: tuple[WrittenOperand, ...]
    heap: tuple[_Range, ...]
    watch: tuple[_Range, ...]
    stack: _Range | None


def runner(assembly: Assembly, statement: Statement) -> None:
    """Expand `.runner` into the descriptors, `newr` and the arguments."""
    request = _parse(Cursor(statement.tokens))
    assembly.heap_pairs_max = max(assembly.heap_pairs_max or 0, len(request.heap))
    assembly.watched_pairs_max = max(assembly.watched_pairs_max, len(request.watch))
    for draft in _expand(request):
        assembly.put_instruction(draft, statement)


def arguments(assembly: Assembly, statement: Statement) -> None:
    """Expand `.arguments` into one `mov` from the runner's stack for each cell."""
    cells = parse_operands(Cursor(statement.tokens))
    if not cells:
        assert statement.head is not None
        raise Fault(statement.head.span, ".arguments lists no cell", "write .arguments r1, r2")
    for i, cell in enumerate(cells):
        if cell.mode is Mode.IMMEDIATE:
            raise Fault(cell.span, "an argument goes into a cell", "leave out '$'")
        name, slot_name = _types_of(cell)
        slot = _stack_slot(layout.CELL_STACK_BASE, i, cell.span)
        assembly.put_instruction(Draft("mov", (slot_name, name), (slot, cell)), statement)


# --- expansion --------------------------------------------------------------------------------
def _expand(request: _Request) -> list[Draft]:
    span = request.entry.span
    drafts = [_mov(request.entry, _cell(RUNNER_ENTRY, 0, span))]
    stack = heap = watched = _address(RUNNER_NOTHING, span)
    if request.stack is not None:
        stack = _address(RUNNER_STACK, span)
        drafts += _store_range(request.stack, RUNNER_STACK, 0)
    if request.heap:
        heap = _address(RUNNER_HEAP, span)
        drafts += _store_ranges(request.heap, RUNNER_HEAP, span)
    if request.watch:
        watched = _address(RUNNER_WATCHED, span)
        drafts += _store_ranges(request.watch, RUNNER_WATCHED, span)
    drafts.append(Draft("newr", (), (stack, heap, watched, _address(RUNNER_ENTRY, span))))
    for i, argument in enumerate(request.args):
        drafts.append(_mov(argument, _stack_slot(layout.CELL_CHILD_STACK_BASE, i, argument.span)))
    return drafts


def _store_ranges(ranges: tuple[_Range, ...], cells: str, span: Span) -> list[Draft]:
    drafts = [_mov(_constant(len(ranges), span), _cell(cells, 0, span))]
    for i, range_ in enumerate(ranges):
        drafts += _store_range(range_, cells, layout.WORD_BYTES * (1 + 2 * i))
    return drafts


def _store_range(range_: _Range, cells: str, offset: int) -> list[Draft]:
    return [
        _mov(range_.base, _cell(cells, offset, range_.base.span)),
        _mov(range_.size, _cell(cells, offset + layout.WORD_BYTES, range_.size.span)),
    ]


def _mov(source: WrittenOperand, destination: WrittenOperand) -> Draft:
    return Draft("mov", _types_of(source), (source, destination))


def _types_of(operand: WrittenOperand) -> tuple[str, str]:
    """Return an operand's type, and the type as which it travels."""
    name = DEFAULT.name if operand.suffix is None else type_name(operand.suffix, historic=True)
    return name, name if BY_NAME[name].kind is Kind.FLOAT else DEFAULT.name


def _constant(value: int, span: Span) -> WrittenOperand:
    return WrittenOperand(Mode.IMMEDIATE, Constant(value, span), None, None, span)


def _address(name: str, span: Span) -> WrittenOperand:
    return WrittenOperand(Mode.IMMEDIATE, Name(name, span), None, None, span)


def _cell(name: str, offset: int, span: Span) -> WrittenOperand:
    node: Node = Binary("+", Name(name, span), Constant(offset, span), span)
    return WrittenOperand(Mode.DIRECT, node, None, None, span)


def _stack_slot(base_cell: int, index: int, span: Span) -> WrittenOperand:
    displacement = Constant(layout.WORD_BYTES * index, span)
    return WrittenOperand(Mode.DISPLACED, Constant(base_cell, span), displacement, None, span)


# --- parser -----------------------------------------------------------------------------------
def _parse(cursor: Cursor) -> _Request:
    request = _Request(_parse_entry(cursor), (), (), (), None)
    seen: set[str] = set()
    while cursor.accept(","):
        key = cursor.expect_name("one of args=, heap=, watch=, stack=")
        name = key.text.lower()
        if name not in _KEYS:
            remedy = suggestion(name, _KEYS, "use args=, heap=, watch= or stack=")
            raise Fault(key.span, f"'{key.text}' is not a part of .runner", remedy)
        if name in seen:
            raise Fault(key.span, f"'{name}=' is written twice", "join the two lists")
        seen.add(name)
        cursor.expect("=", f"after '{key.text}'")
        if name == "args":
            request = request._replace(args=_parse_args(cursor))
        elif name == "heap":
            request = request._replace(heap=_parse_ranges(cursor))
        elif name == "watch":
            request = request._replace(watch=_parse_ranges(cursor))
        else:
            request = request._replace(stack=_parse_stack(cursor))
    cursor.expect_end()
    return request


def _parse_entry(cursor: Cursor) -> WrittenOperand:
    entry = parse_operand(cursor)
    if entry.suffix is not None:
        raise Fault(entry.suffix.span, "a function has no type", "remove it")
    match entry.mode:
        case Mode.DISPLACED:
            what = "the function is neither a label nor '(cell)'"
            raise Fault(entry.span, what, "move its address into a cell first")
        case Mode.INDIRECT:
            return entry._replace(mode=Mode.DIRECT)
        case _:
            return entry._replace(mode=Mode.IMMEDIATE)


def _parse_args(cursor: Cursor) -> tuple[WrittenOperand, ...]:
    closing = _accept_opening(cursor)
    if closing is None:
        return (parse_operand(cursor),)
    operands = []
    while not cursor.accept(closing):
        operands.append(parse_operand(cursor))
        if not cursor.accept(","):
            cursor.expect(closing, "after the arguments")
            break
    return tuple(operands)


def _parse_ranges(cursor: Cursor) -> tuple[_Range, ...]:
    if not cursor.accept("["):
        return (_parse_range(cursor),)
    ranges = []
    while not cursor.accept("]"):
        ranges.append(_parse_range(cursor))
        if not cursor.accept(","):
            cursor.expect("]", "after the ranges")
            break
    return tuple(ranges)


def _parse_range(cursor: Cursor) -> _Range:
    if cursor.accept("("):
        base = parse_operand(cursor)
        cursor.expect(",", "between the base and the size of a range")
        size = parse_operand(cursor)
        cursor.expect(")", "after the size of a range")
        return _Range(base, size)
    if cursor.token.kind is not TokenKind.NAME:
        raise cursor.unexpected("a range is missing", "write (base, size) or an array's name")
    token = cursor.take()
    return _Range(_address(token.text, token.span), _address(f"{token.text}.bytes", token.span))


def _parse_stack(cursor: Cursor) -> _Range | None:
    if cursor.token.text.lower() == "auto":
        cursor.take()
        return None
    return _parse_range(cursor)


def _accept_opening(cursor: Cursor) -> str | None:
    """Pass an opening bracket and return the one that closes it."""
    for opening, closing in (("(", ")"), ("[", "]")):
        if cursor.accept(opening):
            return closing
    return None
