"""Case files: programs with what the machine must make of them, one idea each.

A file `NAME.cases` holds cases; each begins with `=== ` and its idea, then `key: value` lines, an
empty line, and the program. The keys say what to expect:

    out: 1 2 3 | 2 1 3      words of the array `out`, zeros behind them; one of several
    console: 'ab\\n'         what is printed, as a Python literal; one of several, if a tuple
    trap: KIND at ADDRESS   how the program ends, at the line with the comment `; traps`; the
                            address is a sum of labels and numbers, and may be left out;
                            one of several, divided by `|`
    watchers: 1             how many are armed at the end (0 where nothing is said)
    undeclared: 2           how many instructions are reported (0 where nothing is said)
    retries: none | some    over all runs of the case
    refused: TEXT           the assembler's message for the line with the comment `; refused`

and how to run it:

    seeds: 8                as many shuffled runs on several workers and homes (1)
    stdin: 'text'           a Python literal
    options: fuel=100 stack=16384 undeclared=allow flat workers=1
    each: NAME = A | B | C  one case for each text that a word of this one may stand for

A case that says nothing about its end must end well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

MASK64 = (1 << 64) - 1

_KEYS = {
    "out", "console", "trap", "watchers", "undeclared", "retries", "refused",
    "seeds", "stdin", "options", "each",
}  # fmt: skip
_OPTIONS = {"fuel", "stack", "undeclared", "flat", "workers"}


@dataclass(frozen=True, slots=True)
class Case:
    """One program with its expectations, as they are written."""

    file: str
    idea: str
    keys: dict[str, str]
    text: str
    variant: str = ""

    @property
    def id(self) -> str:
        """The name of the test."""
        return f"{self.file}: {self.idea}" + (f" [{self.variant}]" if self.variant else "")

    @property
    def options(self) -> dict[str, str]:
        """How to run it."""
        pairs = (word.partition("=") for word in self.keys.get("options", "").split())
        return {name: value for name, _, value in pairs}

    @property
    def stdin(self) -> bytes:
        """Standard input."""
        literal = ast.literal_eval(self.keys.get("stdin", "''"))
        assert isinstance(literal, str)
        return literal.encode("latin-1")

    @property
    def outs(self) -> list[list[int]] | None:
        """What `out` may hold, None if it does not matter."""
        if "out" not in self.keys:
            return None
        alternatives = self.keys["out"].split("|")
        return [[int(word, 0) & MASK64 for word in one.split()] for one in alternatives]

    @property
    def consoles(self) -> tuple[str, ...]:
        """What may be printed: nothing if nothing is said."""
        literal = ast.literal_eval(self.keys.get("console", "''"))
        return literal if isinstance(literal, tuple) else (literal,)

    def line_of(self, mark: str) -> int | None:
        """Return the number of the line with the comment `; MARK`."""
        lines = self.text.splitlines()
        found = [number for number, line in enumerate(lines, 1) if line.endswith(f"; {mark}")]
        assert len(found) <= 1, f"{self.id}: '; {mark}' stands in several lines"
        return found[0] if found else None


def _parse(file: str, chunk: str) -> Case:
    idea, _, rest = chunk.partition("\n")
    head, _, text = rest.partition("\n\n")
    keys = {}
    for line in head.splitlines():
        key, _, value = line.partition(":")
        assert key in _KEYS, f"{file}: '{idea}': '{key}' is no key"
        keys[key] = value.strip()
    case = Case(file, idea.strip(), keys, text)
    assert case.options.keys() <= _OPTIONS, case.id
    assert text.strip(), f"{case.id} has no program"
    return case


def _spread(case: Case) -> Iterator[Case]:
    if "each" not in case.keys:
        yield case
        return
    name, _, values = case.keys["each"].partition("=")
    word = re.compile(rf"\b{name.strip()}\b")
    for value in (value.strip() for value in values.split("|")):
        keys = {key: word.sub(value, said) for key, said in case.keys.items() if key != "each"}
        yield replace(case, keys=keys, text=word.sub(value, case.text), variant=value)


def read_cases(folder: Path) -> list[Case]:
    """Return the cases of all files of a folder."""
    cases = []
    for path in sorted(folder.glob("*.cases")):
        _, *chunks = f"\n{path.read_text(encoding='utf-8')}".split("\n=== ")
        cases += [one for chunk in chunks for one in _spread(_parse(path.stem, chunk))]
    assert len({case.id for case in cases}) == len(cases), "two cases with one name"
    return cases
