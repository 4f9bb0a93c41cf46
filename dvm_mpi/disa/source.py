"""Lines of source, places in them, and the errors that point there.

A line that a macro or a repetition produced remembers how it came about, so that an error names
both the line that is wrong and the line that asked for it. The parsers raise a `Fault` about
columns of the line in hand; whoever knows the line turns it into a `Diagnostic` and goes on with
the next one, so that all errors of a program are reported together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from dvm_mpi.config import ERRORS_SHOWN_MAX
from dvm_mpi.errors import SourceError
from dvm_mpi.values import dataclass, field


class Span(NamedTuple):
    """Half-open range of columns of a line's text, from 0."""

    start: int
    end: int


class Cause(Enum):
    """Why a line is assembled that nobody wrote where it stands."""

    INCLUDE = "included"
    MACRO = "in macro"
    REPETITION = "in repetition"


@dataclass(frozen=True, slots=True)
class Via:
    """One step of a line's story: `name` of the macro or number of the repetition."""

    cause: Cause
    name: str
    line: SourceLine

    def __str__(self) -> str:
        place = f"{self.line.file}:{self.line.number}"
        match self.cause:
            case Cause.INCLUDE:
                return f"included from {place}"
            case Cause.MACRO:
                return f"in macro '{self.name}', called at {place}"
            case Cause.REPETITION:
                return f"in repetition {self.name} of {place}"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One logical line; `number` counts from 1.

    `joints` are the offsets in `text` at which a continued line goes on in the next physical one.
    """

    file: str
    number: int
    text: str
    via: Via | None = None
    joints: tuple[int, ...] = ()

    def locate(self, column: int) -> tuple[int, int, str]:
        """Return the physical line's number, the column in it, and its text."""
        starts = (0, *self.joints)
        piece = max(i for i, start in enumerate(starts) if start <= column)
        end = starts[piece + 1] if piece + 1 < len(starts) else len(self.text)
        return self.number + piece, column - starts[piece], self.text[starts[piece] : end]

    def outermost(self) -> SourceLine:
        """Return the line of this file that a reader would look for: the outermost macro call."""
        found = line = self
        while line.via is not None and line.via.cause is not Cause.INCLUDE:
            if line.via.cause is Cause.MACRO:
                found = line.via.line
            line = line.via.line
        return found


class Fault(Exception):
    """What is wrong with some columns of the line in hand, and what to do about it."""

    def __init__(self, span: Span, what: str, remedy: str) -> None:
        super().__init__(what)
        self.span = span
        self.what = what
        self.remedy = remedy


class Consequence(Fault):
    """A fault that only follows from another one, which is told: `Diagnostics` leaves it out."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error at one place."""

    line: SourceLine
    span: Span
    what: str
    remedy: str

    @property
    def place(self) -> str:
        """`file:line:column`, both counted from 1."""
        number, column, _ = self.line.locate(self.span.start)
        return f"{self.line.file}:{number}:{column + 1}"

    def __str__(self) -> str:
        number, column, text = self.line.locate(self.span.start)
        # Tabs stay tabs, so that the caret stands below its column in any terminal.
        lead = "".join("\t" if c == "\t" else " " for c in text[:column])
        width = max(1, min(self.span.end - self.span.start, len(text) - column))
        rows = [
            f"{self.line.file}:{number}:{column + 1}: error: {self.what}; {self.remedy}",
            "    " + text.rstrip(),
            "    " + lead + "^" + "~" * (width - 1),
        ]
        via = self.line.via
        while via is not None:
            rows.append(f"    {via}")
            via = via.line.via
        return "\n".join(rows)


class AssemblyErrors(SourceError):
    """All errors of one program, in the order of its lines; `unread`: what was not looked at."""

    def __init__(self, diagnostics: Sequence[Diagnostic], unread: str = "") -> None:
        assert diagnostics
        self.diagnostics = tuple(diagnostics)
        rows = [str(d) for d in self.diagnostics[:ERRORS_SHOWN_MAX]]
        left = len(self.diagnostics) - len(rows)
        if left:
            rows.append(f"... and {left} more errors")
        if unread:
            rows.append(f"... {unread}")
        super().__init__("\n".join(rows))


@dataclass(slots=True)
class Diagnostics:
    """Collects errors; a line of a macro's body reports the same error once."""

    _found: dict[tuple[str, int, Span, str], Diagnostic] = field(default_factory=dict)

    def add(self, line: SourceLine, fault: Fault) -> None:
        """Note a fault of `line`, unless it only follows from another."""
        if isinstance(fault, Consequence):
            return
        key = (line.file, line.number, fault.span, fault.what)
        self._found.setdefault(key, Diagnostic(line, fault.span, fault.what, fault.remedy))

    @property
    def found_any(self) -> bool:
        """Whether there were errors so far."""
        return bool(self._found)

    @contextmanager
    def of(self, line: SourceLine) -> Iterator[None]:
        """Turn a fault in the block into a diagnostic of `line`, and go on after the block."""
        try:
            yield
        except Fault as fault:
            self.add(line, fault)

    def raise_any(self, unread: str = "") -> None:
        """Raise `AssemblyErrors` if there were errors; `unread`: what was not looked at."""
        if not self._found:
            return
        files = list(dict.fromkeys(key[0] for key in self._found))
        ordered = sorted(
            self._found.values(), key=lambda d: (files.index(d.line.file), d.line.number, d.span)
        )
        raise AssemblyErrors(ordered, unread)


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return `did you mean 'x'?` if a known word is like `word`, else `otherwise`."""
    close = difflib.get_close_matches(word.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.7)
    if not close:
        return otherwise
    exact = next(k for k in known if k.lower() == close[0])
    return f"did you mean '{exact}'?"
