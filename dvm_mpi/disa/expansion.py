r"""What happens to lines before they are statements: conditions, macros, repetitions, inclusion.

    .if V … .elseif V … .else … .endif      also .ifdef NAME and .ifndef NAME
    .macro NAME [P[=DEFAULT], …] … .endm    the last parameter may be P... and takes the rest
    .rept N[, I] … .endr
    .include "FILE"                         beside the including file; a file is included once

In the body of a macro `\P` is the text of the argument, `\@` a number of this call's own (for
labels), and `\()` nothing at all (between a parameter and what must not belong to its name). In a
repetition `\I` counts from 0. Nothing is replaced inside quotes.

Lines are expanded one at a time, just before they are assembled, so conditions may use any name
that has a value by then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from dvm_mpi.config import (
    EXPANDED_LINES_MAX,
    INCLUDE_DEPTH_MAX,
    MACRO_DEPTH_MAX,
    SOURCE_BYTES_MAX,
    UNROLLED_AFTER_ERROR_MAX,
    UNROLLED_LINES_MAX,
)
from dvm_mpi.disa.assembly import Assembly
from dvm_mpi.disa.directives import DIRECTIVES, names_to_define
from dvm_mpi.disa.draft import draft_instruction
from dvm_mpi.disa.expression import Cursor
from dvm_mpi.disa.lexer import TokenKind
from dvm_mpi.disa.source import Cause, Fault, SourceLine, Span, Via, suggestion
from dvm_mpi.disa.statement import Statement, parse_statement
from dvm_mpi.disa.table import BY_MNEMONIC
from dvm_mpi.disa.unrolling import (
    ALTERNATIVES,
    CONDITIONS,
    KEPT,
    Settled,
    certain_lines,
    end_of_block,
    leading_directive,
)
from dvm_mpi.values import dataclass, field

_PIECES: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)\'|[^"\']+|.', re.DOTALL)
_PARAMETER: Final = re.compile(r"\\(@|\(\)|[A-Za-z_]\w*)", re.ASCII)
_KEYWORD: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)\s*", re.ASCII)

#: Synopsis and summary of each, for the manual.
EXPANSIONS: Final = (
    (".if V … .elseif V … .else … .endif", "assemble what follows the first condition that holds"),
    (".ifdef NAME / .ifndef NAME", "as .if, asking whether a name has been defined so far"),
    (".macro NAME [P[=DEFAULT], …] … .endm", "define a macro"),
    (".rept N[, I] … .endr", "assemble a block N times"),
    ('.include "FILE"', "assemble a file, unless it was included before"),
)
#: What a program unrolls to at most, and what to do about it.
_UNROLLED: Final = f"UNROLLED_LINES_MAX = {UNROLLED_LINES_MAX:,} lines"
_LESS: Final = "repeat less, or loop when the program runs"


class _Stopped(Exception):
    """Expansion cannot go on: a limit was reached, and is reported."""


@dataclass(slots=True)
class _Condition:
    """One open `.if`: whether its lines count now, and whether a branch of it has counted."""

    line: SourceLine
    active: bool
    taken: bool
    in_else: bool = False


@dataclass(slots=True)
class _Frame:
    """Lines being read: of a file, of a macro's body, of one repetition."""

    lines: list[SourceLine]
    is_file: bool
    position: int = 0
    conditions: list[_Condition] = field(default_factory=list)

    @property
    def skipping(self) -> bool:
        return bool(self.conditions) and not self.conditions[-1].active


class _Parameter(NamedTuple):
    name: str
    default: str | None
    takes_rest: bool


@dataclass(frozen=True, slots=True)
class _Macro:
    name: str
    parameters: tuple[_Parameter, ...]
    body: tuple[SourceLine, ...]
    line: SourceLine


class Expander:
    """Feeds an assembly with the statements of a program."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._frames: list[_Frame] = []
        self._macros: dict[str, _Macro] = {}
        self._included: set[Path] = set()
        self._calls = 0
        self._settled = Settled(assembly.symbols)
        self._line_count = 0
        #: Of those, lines that repetitions and macros have made; and after the first error.
        self._unrolled_count = self._after_error_count = 0
        self._handlers: dict[str, Callable[[_Frame, Statement], None]] = {
            ".macro": self._define_macro,
            ".rept": self._repeat,
            ".include": self._include,
        }

    def run(self, text: str, name: str) -> None:
        """Assemble all lines of a text; errors go to the assembly's diagnostics."""
        self._included.add(Path(name).resolve())
        self._frames.append(_Frame(split_lines(text, name, None), is_file=True))
        try:
            while self._frames:
                self._step(self._frames[-1])
        except _Stopped:
            self._frames.clear()
            if not self._assembly.unread:
                self._assembly.unread = "what follows there is not looked at"

    def _step(self, frame: _Frame) -> None:
        if frame.position == len(frame.lines):
            self._frames.pop()
            for condition in frame.conditions:
                fault = Fault(_code_span(condition.line), ".if without .endif", "add .endif")
                self._assembly.diagnostics.add(condition.line, fault)
            return
        line = frame.lines[frame.position]
        frame.position += 1
        word = leading_directive(line)
        with self._assembly.diagnostics.of(line):
            if word in CONDITIONS:
                self._open_condition(frame, line, word)
            elif word in ALTERNATIVES:
                self._alternate(frame, line, word)
            elif not frame.skipping:
                self._count_line(frame, line)
                self._assemble(frame, line)

    def _count_line(self, frame: _Frame, line: SourceLine) -> None:
        self._line_count += 1
        if not frame.is_file:
            self._count_unrolled(line)
        if self._line_count > EXPANDED_LINES_MAX:
            what = f"the program has more than EXPANDED_LINES_MAX = {EXPANDED_LINES_MAX} lines"
            self._stop(line, Fault(_code_span(line), what, _LESS))

    def _count_unrolled(self, line: SourceLine) -> None:
        self._unrolled_count += 1
        if self._assembly.diagnostics.found_any:
            self._after_error_count += 1
            self._look_no_further(0)
        if self._unrolled_count > UNROLLED_LINES_MAX:
            what = f"repetitions and macros make more than {_UNROLLED}"
            self._stop(line, Fault(_code_span(line), what, _LESS))

    def _look_no_further(self, further: int) -> None:
        """Stop where so many further lines are too many for a program that has errors.

        It is no use any more to unroll it, which may take minutes, before these are told.
        """
        assert self._assembly.diagnostics.found_any
        if self._after_error_count + further > UNROLLED_AFTER_ERROR_MAX:
            most = f"{UNROLLED_AFTER_ERROR_MAX:,} lines of repetitions and macros"
            self._assembly.unread = f"what follows {most} behind the first error is not looked at"
            raise _Stopped

    def _stop(self, line: SourceLine, fault: Fault) -> NoReturn:
        self._assembly.diagnostics.add(line, fault)
        raise _Stopped

    def _assemble(self, frame: _Frame, line: SourceLine) -> None:
        statement = parse_statement(line)
        for label in statement.labels:
            self._assembly.define_label(label, line)
        head, name = statement.head, statement.name
        if head is None:
            return
        if name in BY_MNEMONIC:
            self._assembly.put_instruction(draft_instruction(statement), statement)
            return
        macro = self._macros.get(head.text)
        handler = self._handlers.get(name)
        if macro is not None:
            self._call(macro, statement)
        elif handler is not None:
            _refuse_suffixes(statement)
            handler(frame, statement)
        elif name in DIRECTIVES:
            _refuse_suffixes(statement)
            try:
                DIRECTIVES[name].handle(self._assembly, statement)
            except Fault:
                self._assembly.distrust(names_to_define(statement), line)
                raise
        else:
            raise self._unknown(statement)

    def _unknown(self, statement: Statement) -> Fault:
        head = statement.head
        assert head is not None
        if statement.name in KEPT.values():
            opening = next(o for o, closing in KEPT.items() if closing == statement.name)
            return Fault(head.span, f"{statement.name} without {opening}", "remove it")
        if head.text[0] == ".":
            known = [*DIRECTIVES, *self._handlers, *CONDITIONS, *ALTERNATIVES, *KEPT.values()]
            remedy = suggestion(head.text, known, "the manual lists the directives")
            return Fault(head.span, f"'{head.text}' is not a directive", remedy)
        known = [*BY_MNEMONIC, *self._macros]
        if statement.tokens[0].kind is TokenKind.END and not statement.suffixes:
            remedy = suggestion(head.text, known, "write a label with ':' after it")
        else:
            remedy = suggestion(head.text, known, "the manual lists the instructions")
        return Fault(head.span, f"'{head.text}' is not an instruction", remedy)

    # --- conditions ---------------------------------------------------------------------------
    def _open_condition(self, frame: _Frame, line: SourceLine, word: str) -> None:
        condition = _Condition(line, active=False, taken=True)
        outer_skips = frame.skipping
        frame.conditions.append(condition)
        if outer_skips:
            return
        # Until the condition is known to be false, an error in it hides what follows.
        holds = self._holds(line, word)
        condition.active = condition.taken = holds

    def _holds(self, line: SourceLine, word: str) -> bool:
        statement = parse_statement(line)
        for label in statement.labels:
            self._assembly.define_label(label, line)
        cursor = Cursor(statement.tokens)
        scope = self._assembly.scope(line)
        if word in {".if", ".elseif"}:
            node = cursor.expression()
            cursor.expect_end()
            return bool(self._assembly.integer_now(node, line, "a condition"))
        name = cursor.expect_name("a name to ask for")
        cursor.expect_end()
        return scope.is_defined(name.text) == (word == ".ifdef")

    def _alternate(self, frame: _Frame, line: SourceLine, word: str) -> None:
        if not frame.conditions:
            raise Fault(_code_span(line), f"{word} without .if", "remove it")
        condition = frame.conditions[-1]
        if word == ".endif":
            frame.conditions.pop()
            return
        if condition.in_else:
            what = f"{word} after .else"
            raise Fault(_code_span(line), what, "close the .if with .endif first")
        condition.in_else = word == ".else"
        condition.active = False
        outer_skips = any(not c.active for c in frame.conditions[:-1])
        if condition.taken or outer_skips:
            return
        condition.taken = True
        condition.active = word == ".else" or self._holds(line, word)
        condition.taken = condition.active

    # --- blocks -------------------------------------------------------------------------------
    def _keep_block(self, frame: _Frame, statement: Statement) -> list[SourceLine]:
        """Return the lines up to the matching end, and pass them."""
        opening, start = statement.name, frame.position
        end = end_of_block(frame.lines, start, opening)
        if end is None:
            frame.position = len(frame.lines)
            assert statement.head is not None
            closing = KEPT[opening]
            raise Fault(statement.head.span, f"{opening} without {closing}", f"add {closing}")
        frame.position = end + 1
        return frame.lines[start:end]

    def _push(self, lines: list[SourceLine], line: SourceLine, *, is_file: bool = False) -> None:
        if len(self._frames) > MACRO_DEPTH_MAX:
            what = f"macros and repetitions are nested deeper than {MACRO_DEPTH_MAX}"
            remedy = "end the recursion with .if"
            self._stop(line, Fault(_code_span(line), f"{what} (MACRO_DEPTH_MAX)", remedy))
        self._frames.append(_Frame(lines, is_file))

    def _repeat(self, frame: _Frame, statement: Statement) -> None:
        body = self._keep_block(frame, statement)
        cursor = Cursor(statement.tokens)
        node = cursor.expression()
        counter = cursor.expect_name("the counter's name").text if cursor.accept(",") else None
        cursor.expect_end()
        count = self._assembly.integer_now(node, statement.line, "a number of repetitions")
        if count < 0:
            raise Fault(node.span, f"a number of {count} is negative", "use 0 or more")
        least = self._settled.least_lines(body)
        further = count * max(1, len(body), least)
        if self._assembly.diagnostics.found_any:
            self._look_no_further(further)
        if further > UNROLLED_LINES_MAX:
            raise Fault(node.span, f"{count} repetitions make more than {_UNROLLED}", _LESS)
        if further > UNROLLED_AFTER_ERROR_MAX:
            self._look_ahead(statement.line, count * least)
        lines: list[SourceLine] = []
        for i in range(count):
            self._calls += 1
            values = {"@": str(self._calls), "()": ""}
            if counter is not None:
                values[counter] = str(i)
            via = Via(Cause.REPETITION, str(i), statement.line)
            lines += [_substituted(line, values, via) for line in body]
        self._push(lines, statement.line)

    def _look_ahead(self, line: SourceLine, further: int) -> None:
        """Stop before a long repetition if the program is certain to reach the limit behind it.

        `further`: the lines that it will make, at least.
        """
        made = self._unrolled_count + further
        for frame in reversed(self._frames):
            conditions = len(frame.conditions)
            for later, body in certain_lines(frame.lines, frame.position, conditions):
                count = self._settled.count(later) if body else None
                if count is None:
                    continue
                least = self._settled.least_lines(body)
                made += count * least
                alone = count * max(len(body), least)
                if max(made, alone) > UNROLLED_LINES_MAX:
                    is_one = alone > UNROLLED_LINES_MAX
                    which = f"{count} repetitions" if is_one else "repetitions up to here"
                    span = Cursor(parse_statement(later).tokens).expression().span
                    place = f"{line.file}:{line.number}"
                    self._assembly.unread = f"what follows {place} is not looked at"
                    self._stop(later, Fault(span, f"{which} make more than {_UNROLLED}", _LESS))

    # --- macros -------------------------------------------------------------------------------
    def _define_macro(self, frame: _Frame, statement: Statement) -> None:
        body = self._keep_block(frame, statement)
        cursor = Cursor(statement.tokens)
        name = cursor.expect_name("the macro's name")
        if name.text.lower() in BY_MNEMONIC or name.text[0] == ".":
            kind = "a directive" if name.text[0] == "." else "an instruction"
            raise Fault(name.span, f"'{name.text}' has the name of {kind}", "choose another name")
        if name.text in self._macros:
            first = self._macros[name.text].line
            what = f"macro '{name.text}' is defined twice; first at {first.file}:{first.number}"
            raise Fault(name.span, what, "choose another name")
        parameters = _parse_parameters(statement.line, name.end, statement.tokens[-1].start)
        self._macros[name.text] = _Macro(name.text, parameters, tuple(body), statement.line)

    def _call(self, macro: _Macro, statement: Statement) -> None:
        _refuse_suffixes(statement)
        values = _bind(macro, statement)
        self._calls += 1
        values |= {"@": str(self._calls), "()": ""}
        via = Via(Cause.MACRO, macro.name, statement.line)
        lines = [_substituted(line, values, via) for line in macro.body]
        self._push(lines, statement.line)

    # --- files --------------------------------------------------------------------------------
    def _include(self, _frame: _Frame, statement: Statement) -> None:
        cursor = Cursor(statement.tokens)
        token = cursor.token
        if token.kind is not TokenKind.STRING:
            raise cursor.unexpected("a file's name is missing", 'write .include "file.dasm"')
        cursor.take()
        cursor.expect_end()
        written = Path(token.data.decode())
        path = Path(statement.line.file).parent / written
        if path.resolve() in self._included:
            return
        if sum(frame.is_file for frame in self._frames) >= INCLUDE_DEPTH_MAX:
            what = f"files include one another deeper than INCLUDE_DEPTH_MAX = {INCLUDE_DEPTH_MAX}"
            raise Fault(token.span, what, "include from fewer levels")
        try:
            text = read_source(path)
        except (OSError, ValueError) as error:
            what = f"'{path}' cannot be read: {describe(error)}"
            remedy = "names are looked up beside the including file"
            raise Fault(token.span, what, remedy) from None
        self._included.add(path.resolve())
        via = Via(Cause.INCLUDE, str(written), statement.line)
        self._push(split_lines(text, str(path), via), statement.line, is_file=True)


# --- lines ------------------------------------------------------------------------------------
def read_source(path: Path) -> str:
    """Return the text of a source file; OSError or ValueError if it has none."""
    with path.open("rb") as file:
        data = file.read(SOURCE_BYTES_MAX + 1)
    if len(data) > SOURCE_BYTES_MAX:
        raise ValueError(f"it is larger than SOURCE_BYTES_MAX = {SOURCE_BYTES_MAX} bytes")
    return data.decode("utf-8")


def describe(error: OSError | ValueError) -> str:
    """Say in a few words why a file has no text."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start})"
    return str(getattr(error, "strerror", None) or error)


def split_lines(text: str, file: str, via: Via | None) -> list[SourceLine]:
    """Split a text; a line that ends in a backslash goes on in the next."""
    lines: list[SourceLine] = []
    parts: list[str] = []
    first = 1
    for number, part in enumerate(text.split("\n"), 1):
        if not parts:
            first = number
        if part.endswith(("\\", "\\\r")):
            parts.append(part.rstrip("\r")[:-1])
            continue
        parts.append(part.rstrip("\r"))
        joints, offset = [], 0
        for piece in parts[:-1]:
            offset += len(piece)
            joints.append(offset)
        lines.append(SourceLine(file, first, "".join(parts), via, tuple(joints)))
        parts = []
    if parts:
        lines.append(SourceLine(file, first, "".join(parts), via))
    return lines


def _substituted(line: SourceLine, values: dict[str, str], via: Via) -> SourceLine:
    """Return a body's line with its parameters replaced, as it is read in a call."""
    text = line.text
    if "\\" in text:
        text = "".join(
            piece if piece[0] in "\"'" else _PARAMETER.sub(
                lambda match: values.get(match.group(1), match.group()), piece
            )
            for piece in _PIECES.findall(text)
        )  # fmt: skip
    joints = line.joints if text == line.text else ()
    return SourceLine(line.file, line.number, text, via, joints)


def _code_span(line: SourceLine) -> Span:
    text = line.text
    return Span(len(text) - len(text.lstrip()), len(text.rstrip()))


def _refuse_suffixes(statement: Statement) -> None:
    if statement.suffixes:
        assert statement.head is not None
        suffix = statement.suffixes[0]
        what = f"'{statement.head.text}' does not take ':{suffix.text}'"
        raise Fault(suffix.span, what, "remove it")


# --- parameters -------------------------------------------------------------------------------
def _split_arguments(line: SourceLine, start: int, end: int) -> list[tuple[str, Span]]:
    """Split at commas that stand in no quotes and no brackets."""
    parts: list[tuple[str, Span]] = []
    depth, begin, position = 0, start, start
    for piece in _PIECES.findall(line.text[start:end]):
        for i, sign in enumerate(piece if piece[0] not in "\"'" else ""):
            depth += (sign in "([") - (sign in ")]")
            if sign == "," and depth <= 0:
                parts.append(_part(line, begin, position + i))
                begin = position + i + 1
        position += len(piece)
    if parts or line.text[begin:end].strip():
        parts.append(_part(line, begin, end))
    return parts


def _part(line: SourceLine, start: int, end: int) -> tuple[str, Span]:
    text = line.text[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return text, Span(start, max(start + len(text), start + 1))


def _parse_parameters(line: SourceLine, start: int, end: int) -> tuple[_Parameter, ...]:
    # `.macro name, a, b` is read as `.macro name a, b`.
    text = line.text[start:end]
    if text.lstrip().startswith(","):
        start += text.index(",") + 1
    parameters: list[_Parameter] = []
    for part, span in _split_arguments(line, start, end):
        name, equals, default = (word.strip() for word in part.partition("="))
        takes_rest = name.endswith("...")
        name = name.removesuffix("...").rstrip()
        if not name.isidentifier() or not name.isascii():
            raise Fault(span, f"'{part}' is no parameter", "write NAME, NAME=DEFAULT or NAME...")
        if any(name == known.name for known in parameters):
            raise Fault(span, f"parameter '{name}' is listed twice", "choose another name")
        if parameters and parameters[-1].takes_rest:
            what = f"'{parameters[-1].name}...' is not the last parameter"
            raise Fault(span, what, "move it to the end")
        parameters.append(_Parameter(name, default if equals else None, takes_rest))
    return tuple(parameters)


def _bind(macro: _Macro, statement: Statement) -> dict[str, str]:
    """Return the text of each parameter in a call."""
    line, end = statement.line, statement.tokens[-1].start
    parts = _split_arguments(line, statement.arguments_start(), end)
    names = [p.name for p in macro.parameters]
    rest = (
        macro.parameters[-1].name if macro.parameters and macro.parameters[-1].takes_rest else None
    )
    values: dict[str, str] = {}
    position = 0
    for text, span in parts:
        keyword = _KEYWORD.match(text)
        if keyword and keyword.group(1) in names:
            name, text = keyword.group(1), text[keyword.end() :]  # noqa: PLW2901 - split
        elif position < len(names):
            name = names[position]
            if name == rest:
                values[name] = line.text[span.start : end].strip()
                break
            position += 1
        else:
            what = f"macro '{macro.name}' takes {len(names)} arguments, not {len(parts)}"
            raise Fault(span, what, _signature(macro))
        if name in values:
            raise Fault(span, f"argument '{name}' is given twice", "remove one")
        values[name] = text
    for parameter in macro.parameters:
        if parameter.name in values:
            continue
        default = "" if parameter.takes_rest else parameter.default
        if default is None:
            assert statement.head is not None
            what = f"macro '{macro.name}' lacks its argument '{parameter.name}'"
            raise Fault(statement.head.span, what, _signature(macro))
        values[parameter.name] = default
    return values


def _signature(macro: _Macro) -> str:
    listed = ", ".join(p.name + "..." * p.takes_rest for p in macro.parameters)
    return f"write {macro.name} {listed}".rstrip()
