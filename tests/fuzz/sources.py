"""Damaged source texts: the assembler answers each with errors that have a place, or an image.

Texts are the jobs, the programs of the documents and those of the case files, damaged by bytes,
by words and by lines; words and lines also come from other programs.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Final

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.source import AssemblyErrors
from tests.engine.case_files import read_cases
from tests.fuzz.generators import JOBS

ROOT: Final = JOBS.parent
FENCE: Final = re.compile(r"^```dasm[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORD: Final = re.compile(r"\w+|\s+|[^\w\s]")
#: Words that are at the edge of something, wherever they come to stand.
EDGES: Final = (
    "0", "-1", "$", "(", ")", '"', "'", "\\", ":", ",", "/", "%", "<<", ".", "\0", "\t", "é",
    "\u2028", "0x8000000000000000", "99999999999999999999", "1e999", "$-1", "1<<200", "0x",
    ".rept 3", ".endr", ".macro m a", ".endm", ".if 0", ".else", ".endif", ".org 0x300", ".text",
    ".space 1<<40", ".align 0", '.include "x"', ".data", ".bss", "\\@", "\\()", "x: y: ",
    ".equ x, x", "((((((((",
)  # fmt: skip
#: `file:line:column: error: what; remedy` heads each error of the text.
HEAD: Final = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+): error: .+; .+", re.DOTALL)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Return the programs to damage, with the names that their inclusions start from."""
    found = [(str(path), path.read_text()) for path in sorted(JOBS.glob("*/*.dasm"))]
    beside = str(JOBS / "hello" / "fuzz.dasm")
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found += [(beside, body) for path in documents for body in FENCE.findall(path.read_text())]
    found += [(beside, "\n".join(case.parts["program"])) for case in read_cases()]
    return tuple(found)


def damaged_text(seed: int) -> tuple[str, str]:
    """Return a name and a text with one to four faults."""
    rng = random.Random(seed)
    name, text = rng.choice(texts())
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = rng.choice((_by_bytes, _by_words, _by_words, _by_lines))(rng, text)
    return name, text


def _by_bytes(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    length = rng.choice([0, 1, 1, 3, 20])
    put = "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)])) for _ in range(2))
    return text[:at] + put[: rng.randrange(3)] + text[at + length :]


def _by_words(rng: random.Random, text: str) -> str:
    words = WORD.findall(text) or [""]
    at, other = rng.randrange(len(words)), rng.randrange(len(words))
    foreign = WORD.findall(rng.choice(texts())[1])
    changes = (
        [rng.choice(EDGES)],
        [words[at], rng.choice(EDGES)],
        [rng.choice(foreign)],
        [words[other]],
        [words[at], words[at]],
        [],
    )
    words[at : at + 1] = rng.choice(changes)
    return "".join(words)


def _by_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    foreign = rng.choice(texts())[1].split("\n")
    first = rng.randrange(len(foreign))
    changes = (
        [],
        [lines[other]],
        [lines[at], lines[at]],
        [rng.choice(EDGES), lines[at]],
        foreign[first : first + rng.randrange(1, 8)],
    )
    lines[at : at + 1] = rng.choice(changes)
    return "\n".join(lines)


def assembled(name: str, text: str) -> Image | None:
    """Assemble a text; None if it was refused, in the form that all errors have.

    Raises
    ------
    AssertionError
        An error has no place in the text.
    """
    try:
        return assemble_text(text, name, {})
    except AssemblyErrors as errors:
        for diagnostic in errors.diagnostics:
            head = HEAD.fullmatch(str(diagnostic).partition("\n")[0])
            assert head is not None, f"an error without its place: {diagnostic}"
            of_this = head["file"] == name
            source = text if of_this else Path(head["file"]).read_text()
            count = len(source.splitlines()) + 1
            assert 1 <= int(head["line"]) <= count, f"no such line: {diagnostic}"
            assert int(head["column"]) >= 1
        return None
