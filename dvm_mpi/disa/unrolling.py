"""How many lines repetitions are certain to make, from their text alone.

Ten thousand lines take a second to unroll. A program that is out of proportion is refused at once:
where a repetition begins whose inner ones make too many, and before a long one is unrolled if one
that comes behind it will be refused. The invariant to remember: what is counted is never too much.
So conditions ahead count nothing, nor does a repetition whose number may still be another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from dvm_mpi.disa.expression import Cursor, Value
from dvm_mpi.disa.source import Fault, SourceLine, Span
from dvm_mpi.disa.statement import parse_statement
from dvm_mpi.disa.symbols import SymbolKind, SymbolTable
from dvm_mpi.values import dataclass

#: Openings of blocks whose lines are kept, with their ends.
KEPT: Final = {".macro": ".endm", ".rept": ".endr"}
CONDITIONS: Final = frozenset({".if", ".ifdef", ".ifndef"})
ALTERNATIVES: Final = frozenset({".elseif", ".else", ".endif"})

#: What a line begins with, as far as blocks and conditions need it: labels, then a directive.
_LEADING: Final = re.compile(r"\s*(?:[A-Za-z_.][\w.\\@]*\s*:\s*)*(\.[A-Za-z]+)\b", re.ASCII)


def leading_directive(line: SourceLine) -> str:
    """Return the directive that a line begins with, in lower case; "" if there is none."""
    leading = _LEADING.match(line.text)
    return leading.group(1).lower() if leading else ""


def end_of_block(lines: Sequence[SourceLine], start: int, opening: str) -> int | None:
    """Return where the end of a block is whose lines begin at `start`; None if it has none."""
    closing, depth = KEPT[opening], 1
    for position in range(start, len(lines)):
        word = leading_directive(lines[position])
        depth += (word == opening) - (word == closing)
        if depth == 0:
            return position
    return None


def certain_lines(
    lines: Sequence[SourceLine], position: int, open_conditions: int
) -> Iterator[tuple[SourceLine, Sequence[SourceLine]]]:
    """Yield lines that will be assembled, whatever holds, with the body of those that repeat.

    `open_conditions`: how many `.if` are open at `position`, a branch of each being assembled.
    """
    depth = 0  # of conditions that come, or of which another branch was assembled
    while position < len(lines):
        line, word = lines[position], leading_directive(lines[position])
        position += 1
        if word in CONDITIONS:
            depth += 1
        elif word == ".endif" and depth:
            depth -= 1
        elif word == ".endif":
            open_conditions -= 1
        elif word in ALTERNATIVES:
            if depth == 0:
                open_conditions, depth = open_conditions - 1, 1
        elif word in KEPT and depth == 0:
            end = end_of_block(lines, position, word)
            if end is None:
                return
            yield line, lines[position:end] if word == ".rept" else ()
            position = end + 1
        elif depth == 0:
            yield line, ()
        if open_conditions < 0:
            return


@dataclass(frozen=True, slots=True)
class Settled:
    """The values that names have for good, so that they are the same in any line that comes.

    Not among them: names of the last label, which may be another one by then; the address of the
    statement; whether a name is defined so far; cells of the machine, whose names are free.
    """

    table: SymbolTable

    def value_of(self, name: str, span: Span) -> Value:
        """Return the value of a name; a Fault if it may have another one later."""
        symbol = self.table.symbols.get(name)
        if name[0] == "." or symbol is None or symbol.kind is SymbolKind.MACHINE:
            raise _unsettled(span)
        if symbol.value is None:
            raise _unsettled(span)
        return symbol.value

    def is_defined(self, name: str) -> bool:
        """Raise a Fault."""
        raise _unsettled(Span(0, len(name)))

    def here(self) -> Value:
        """Raise a Fault."""
        raise _unsettled(Span(0, 1))

    def count(self, line: SourceLine) -> int | None:
        """Say how often a line with `.rept` repeats; None where that is not certain."""
        try:
            value = Cursor(parse_statement(line).tokens).expression().evaluate(self)
        except Fault:
            return None
        return value if isinstance(value, int) and value >= 0 else None

    def least_lines(self, lines: Sequence[SourceLine]) -> int:
        """Return how many lines are certain to be made where `lines` are assembled once."""
        least = 0
        for line, body in certain_lines(lines, 0, 0):
            count = self.count(line) if body else None
            least += 1 if count is None else 1 + count * self.least_lines(body)
        return least


def _unsettled(span: Span) -> Fault:
    return Fault(span, "this may have another value later", "")
